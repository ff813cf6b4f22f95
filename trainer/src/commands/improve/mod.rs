//! `twinscaler improve`: the batch job. History → twins → training → comparison → promotion, or why not.
//!
//! A run has a name that its pool, windows, seed and settings give it. Its state and its candidates are kept under that
//! name, so that a run that was killed goes on where it was, and one that is done says again what it said.

mod args;
mod candidate;
mod judging;
mod lease;
mod windows;

use std::path::PathBuf;

use backtest::gate::{Gate, GateConfig, Judgement};
use backtest::play::PlayError;
use burn::tensor::Device;
use calibration::fit::Fit;
use calibration::{TwinError, Window};
use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::Pointer;
use contract::schema::sha256_hex;
use controller::ports::{Control, Decisions, Instances, Leases, PolicyPublisher, Port, PortError, Runs, Tasks};
use serde::Serialize;

use crate::commands::train::Watched;
use crate::commands::window::Ports;
use crate::ppo::config::PpoConfig;
use crate::ppo::weights::Weights;
use crate::promote::promote;
use crate::{parity, ppo};

pub use args::ImproveArgs;
pub use windows::Windows;

/// The file of a run that says what came of it.
const RESULT: &str = "result.json";
/// Larger results are not ours.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// Why the job ended without a judgement.
#[derive(Debug, thiserror::Error)]
pub enum ImproveError {
    /// A table or the store failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The window holds too little.
    #[error("learn from the window: {0}; wait for more tasks or widen the window")]
    TooLittle(String),
    /// Somebody else works on the pool.
    #[error("improve the pool: {owner} does so until {until}; one job at a time. If that one is dead, wait until then")]
    Held {
        /// Who.
        owner: String,
        /// The end of the lease, RFC 3339.
        until: String,
    },
    /// The lease was lost in mid-work.
    #[error("improve the pool: the lease was lost, and what was done since counts for nothing; start it again")]
    LeaseLost,
    /// It was asked to stop.
    #[error("improve the pool: stopped before the comparison; the same command goes on where it was")]
    Stopped,
    /// The window does not make a valid twin.
    #[error(transparent)]
    Twin(#[from] twin::ScenarioError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] ppo::TrainError),
    /// The log of training failed.
    #[error("write the training log")]
    Log(#[from] std::io::Error),
    /// The policy file does not do what the weights do.
    #[error(transparent)]
    Parity(#[from] parity::ParityError),
    /// The comparison.
    #[error(transparent)]
    Play(#[from] PlayError),
}

impl From<Watched> for ImproveError {
    fn from(error: Watched) -> Self {
        match error {
            Watched::Train(error) => Self::Train(error),
            Watched::Log(error) => Self::Log(error),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Request {
    /// The pool.
    pub pool: String,
    /// The last window.
    pub window: Window,
    /// Windows before it that are learned from as well, so that what they taught is not forgotten.
    pub older: u32,
    /// Settings of learning; candidate k has the k-th, round and round.
    pub settings: Vec<PpoConfig>,
    /// Candidate k has this seed plus k.
    pub seed: u64,
    /// Number of candidates.
    pub population: u32,
    /// How they are judged.
    pub gate: Gate,
    /// How sure the gate has to be.
    pub gate_config: GateConfig,
    /// Where candidates' curves are written, each in a directory of its number; nowhere if not given.
    pub logs: Option<PathBuf>,
}

impl Request {
    /// The run's name: the same request has the same.
    pub fn run(&self) -> String {
        let Window { from_ms, until_ms } = self.window;
        let settings = serde_json::to_string(&self.settings).expect("settings are plain data");
        let text = format!("{from_ms} {until_ms} {} {} {} {settings}", self.older, self.seed, self.population);
        format!("{}-{until_ms}-{}", self.pool, &sha256_hex(text.as_bytes())[..12])
    }

    fn settings_of(&self, index: u32) -> (&PpoConfig, u64) {
        (&self.settings[index as usize % self.settings.len()], self.seed.wrapping_add(u64::from(index)))
    }
}

/// What the job says, also as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Improved {
    /// The pool.
    pub pool: String,
    /// The run.
    pub run: String,
    /// The candidate's hash.
    pub candidate: String,
    /// The hash of the policy that was in charge.
    pub incumbent: Option<String>,
    /// Tasks in the last window.
    pub tasks: usize,
    /// Windows that were learned from, and one that was not, which only the comparison saw.
    pub windows: usize,
    /// The twin against reality.
    pub twin: TwinError,
    /// What the records say of boots, run times, failures and metrics.
    pub calibration: Fit,
    /// The comparison's judgement.
    pub judgement: Judgement,
}

/// The policy in charge, as training and promotion need it.
pub(crate) struct Incumbent {
    pub pointer: (Pointer, String),
    /// None if this version cannot read its checkpoint: then training begins anew, and the rule is the opponent.
    pub weights: Option<Weights>,
}

async fn incumbent<P: PolicyPublisher>(store: &P, pool: &str) -> Port<Option<Incumbent>> {
    let Some(pointer) = store.pointer(pool).await? else { return Ok(None) };
    let bytes = store.file(&pointer.0.sha256, "checkpoint", POLICY_BYTES_MAX).await?;
    let weights = Weights::from_checkpoint(&bytes)
        .inspect_err(|error| tracing::warn!(%error, "the policy in charge cannot be trained further"))
        .ok();
    Ok(Some(Incumbent { pointer, weights }))
}

/// Trains candidate `index` alone and keeps it in the run, for [`run`] to find: one index of an array job. It takes no
/// lease, for it changes nothing that others see.
///
/// # Errors
/// If it cannot be trained.
pub async fn train_one<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    index: u32,
    device: &Device,
) -> Result<(), ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher + Runs,
{
    let windows = windows::read(ports, request).await?;
    let incumbent = incumbent(&ports.policies, &request.pool).await?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    candidate::trained(&ports.policies, request, index, &windows, incumbent.as_ref(), device, &stop).await?;
    Ok(())
}

/// The whole job for one pool: trains the candidates that the run does not have yet, compares, promotes or says why not.
///
/// # Errors
/// If it cannot come to a judgement. A judgement against the candidate is no error.
pub async fn run<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    owner: &str,
    device: &Device,
) -> Result<serde_json::Value, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control + Leases + Clone + 'static,
    P: PolicyPublisher + Runs,
{
    if let Some(said) = ports.policies.run_file(&request.run(), RESULT, RESULT_BYTES_MAX).await? {
        tracing::info!(run = request.run(), "this run is done; this is what it said");
        return serde_json::from_slice(&said).map_err(|e| PortError::invalid(RESULT, e.to_string()).into());
    }
    let lease = lease::Held::take(ports.control.clone(), &request.pool, owner).await?;
    let improved = with_lease(ports, request, device, &lease).await;
    lease.give_back().await?;
    improved
}

async fn with_lease<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    device: &Device,
    lease: &lease::Held<C>,
) -> Result<serde_json::Value, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control + Leases + Clone + 'static,
    P: PolicyPublisher + Runs,
{
    let windows = windows::read(ports, request).await?;
    let incumbent = incumbent(&ports.policies, &request.pool).await?;
    let mut candidates = Vec::new();
    for index in 0..request.population {
        let stop = lease.lost();
        let weights =
            candidate::trained(&ports.policies, request, index, &windows, incumbent.as_ref(), device, stop).await?;
        candidates.push(weights);
    }
    let judged = tokio::task::block_in_place(|| judging::judged(request, &candidates, &windows, incumbent.as_ref()))?;
    lease.check().await?;
    if judged.judgement.promoted {
        promote(&ports.policies, &request.pool, &judged.bundle, incumbent.as_ref().map(|i| &i.pointer)).await?;
    }
    let improved = Improved {
        pool: request.pool.clone(),
        run: request.run(),
        candidate: judged.bundle.manifest.sha256,
        incumbent: incumbent.map(|i| i.pointer.0.sha256),
        tasks: windows.last.recorded.tasks.len(),
        windows: windows.older.len() + 1,
        twin: windows.last.error,
        calibration: windows.last.fit.clone(),
        judgement: judged.judgement,
    };
    let said = serde_json::to_value(&improved).expect("plain data");
    ports.policies.put_run_file(&request.run(), RESULT, said.to_string().into_bytes()).await?;
    Ok(said)
}
