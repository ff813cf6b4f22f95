//! `twinscaler improve`: the batch job. History → twins → training → comparison → promotion, or why not.
//!
//! A run has a name that its pool, windows, seed, settings and number of candidates give it. Its state and its candidates are kept under that
//! name, so that a run that was killed goes on where it was, and one that is done says again what it said.

mod args;
mod candidate;
mod judging;
mod lease;
mod page;
mod processes;
mod windows;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use backtest::gate::{Gate, GateConfig, Judgement};
use backtest::play::PlayError;
use burn::tensor::Device;
use calibration::fit::Fit;
use calibration::{TwinError, Window};
use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::{Pointer, run_key};
use contract::schema::sha256_hex;
use controller::ports::{Control, Decisions, Instances, Kind, Leases, PolicyPublisher, PortError, Runs, Tasks};
use serde::Serialize;
use serde_json::Value;
use signing::{PublicKeys, SigningKey};

use crate::commands::train::Watched;
use crate::commands::window::Ports;
use crate::contender::PolicyFile;
use crate::device::described;
use crate::ppo::config::PpoConfig;
use crate::ppo::weights::Weights;
use crate::promote::{keep, put_in_charge, signed_by};
use crate::store::runnable;
use crate::{parity, ppo};

pub use args::ImproveArgs;
pub use windows::Windows;

/// The file of a run with its report, whatever the verdict.
const REPORT: &str = "report.html";
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
    #[error("improve the pool: stopped before anything was promoted; with --until {0} it goes on where it was")]
    Stopped(jiff::Timestamp),
    /// The window does not make a valid twin.
    #[error(transparent)]
    Twin(#[from] twin::ScenarioError),
    /// Nothing can be learned from the window.
    #[error(transparent)]
    Course(#[from] crate::course::CourseError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] ppo::TrainError),
    /// The curves or the state of training could not be written.
    #[error("keep what training leaves")]
    Log(#[from] std::io::Error),
    /// A candidate's own process.
    #[error("train a candidate in a process of its own")]
    Process(#[source] std::io::Error),
    /// The weights that lie beside the policy in charge are not the policy's.
    #[error(
        "trust the checkpoint of policy {sha256}, which is in charge: its file computes something else; somebody has \
         changed one of them: roll back, or promote a policy from its directory"
    )]
    Checkpoint {
        /// The policy.
        sha256: String,
        /// Where they differ.
        source: parity::ParityError,
    },
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
    /// Windows before the one that it ends in, of which every other one is learned from as well, so that what they taught is
    /// not forgotten.
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
    /// What a promoted policy is signed with; candidates never are.
    pub signing: Option<SigningKey>,
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

    /// The end of the last window.
    pub fn until(&self) -> jiff::Timestamp {
        let ms = i64::try_from(self.window.until_ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The file of the run that says what this gate said.
    fn result(&self) -> String {
        let gate = serde_json::to_string(&(self.gate, &self.gate_config)).expect("settings are plain data");
        format!("result-{}.json", &sha256_hex(gate.as_bytes())[..12])
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
    /// The store's key of the report.
    pub report: String,
    /// What this job trained on; candidates that it found were trained elsewhere.
    pub device: String,
    /// The candidate's hash.
    pub candidate: String,
    /// The hash of the policy that was in charge.
    pub incumbent: Option<String>,
    /// Tasks in the last window.
    pub tasks: usize,
    /// Windows that were learned from.
    pub windows_learned: usize,
    /// Windows that the comparison took place on.
    pub windows_judged: usize,
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
    /// What candidates are compared with. None if the evaluator would refuse it as well: then the rule is the opponent.
    pub policy: Option<PolicyFile>,
    /// What is trained further. None if this version cannot read its checkpoint: then training begins anew.
    pub weights: Option<Weights>,
}

async fn incumbent<P: PolicyPublisher>(store: &P, pool: &str) -> Result<Option<Incumbent>, ImproveError> {
    let Some(pointer) = store.pointer(pool).await? else { return Ok(None) };
    let sha256 = &pointer.0.sha256;
    let policy = match runnable(store, sha256).await? {
        Ok(policy) => PolicyFile { name: "the policy in charge".to_owned(), policy },
        Err(error) => {
            tracing::warn!(%error, "the policy in charge cannot run: the tuned rule alone is the opponent");
            return Ok(Some(Incumbent { pointer, policy: None, weights: None }));
        }
    };
    let weights = weights(store, sha256).await?;
    if let Some(weights) = &weights {
        let differs = |source| ImproveError::Checkpoint { sha256: sha256.clone(), source };
        parity::check(weights, &policy.policy).map_err(differs)?;
    }
    Ok(Some(Incumbent { pointer, policy: Some(policy), weights }))
}

/// The weights of a policy; none if they cannot be read, now or later.
async fn weights<P: PolicyPublisher>(store: &P, sha256: &str) -> Result<Option<Weights>, ImproveError> {
    let cannot = |error: &dyn Display| tracing::warn!(%error, "the policy in charge cannot be trained further");
    match store.file(sha256, "checkpoint", POLICY_BYTES_MAX).await {
        Ok(bytes) => Ok(Weights::from_checkpoint(&bytes).inspect_err(|error| cannot(error)).ok()),
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::Invalid) => {
            cannot(&error);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
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
    stop: &AtomicBool,
) -> Result<(), ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher + Runs,
{
    tokio::select! {
        trained = trained_alone(ports, request, index, device, stop) => trained,
        // while it waits for the outside world; training itself looks for it after every update
        () = asked_for(stop) => Err(ImproveError::Stopped(request.until())),
    }
}

async fn asked_for(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(processes::LOOK_EVERY).await;
    }
}

async fn trained_alone<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    index: u32,
    device: &Device,
    stop: &AtomicBool,
) -> Result<(), ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher + Runs,
{
    if candidate::kept(&ports.policies, &request.run(), index).await?.is_some() {
        return Ok(());
    }
    let windows = windows::read(ports, request, stop).await?;
    let incumbent = incumbent(&ports.policies, &request.pool).await?;
    let stopped = || stop.load(Ordering::Relaxed);
    match candidate::trained(&ports.policies, request, index, &windows, incumbent.as_ref(), device, &stopped).await {
        Err(error) if is_left_out(&error) && request.population > 1 => {
            tracing::warn!(index, %error, "a candidate is left out");
            Ok(())
        }
        trained => trained.map(|_| ()),
    }
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
    stop: &AtomicBool,
) -> Result<Value, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control + Leases + Clone + 'static,
    P: PolicyPublisher + Runs,
{
    let lease = lease::Held::take(ports.control.clone(), &request.pool, owner).await?;
    let improved = with_lease(ports, request, device, &lease, stop).await;
    lease.give_back().await;
    improved
}

/// What the run said, if it is done. It says so before it moves the pointer: one that died between the two moves it now.
///
/// Whoever trains may write a run's files, so that what one says is no reason to sign: with a key, a verdict to promote a
/// policy that this key has not signed counts for nothing, and the candidates are judged again.
async fn said_before<P: PolicyPublisher + Runs>(
    store: &P,
    request: &Request,
    stop: &AtomicBool,
) -> Result<Option<Value>, ImproveError> {
    let Some(said) = store.run_file(&request.run(), &request.result(), RESULT_BYTES_MAX).await? else {
        return Ok(None);
    };
    let said: Value =
        serde_json::from_slice(&said).map_err(|e| PortError::invalid("read the result", e.to_string()))?;
    let is_promoted = said["judgement"]["promoted"] == true;
    tracing::info!(run = request.run(), "this run is done; this is what it said");
    let stands = store.pointer(&request.pool).await?;
    let in_charge = stands.as_ref().map(|(pointer, _)| pointer.sha256.as_str());
    let candidate = said["candidate"].as_str().unwrap_or_default();
    let mut is_in_charge = in_charge == Some(candidate);
    // somebody who has rolled it back since does not want it again
    let is_rolled_back = stands.as_ref().is_some_and(|(pointer, _)| pointer.previous.as_deref() == Some(candidate));
    if is_promoted && !is_in_charge && !is_rolled_back && in_charge == said["incumbent"].as_str() {
        if !is_trusted(store, candidate, request).await? {
            tracing::warn!(candidate, "the run's verdict is there, and our signature is not: it is judged again");
            return Ok(None);
        }
        unless_stopped(stop, request)?;
        put_in_charge(store, &request.pool, candidate, stands.as_ref()).await?;
        is_in_charge = true;
    }
    Ok(Some(told(said, is_in_charge)))
}

/// What the run said, and whether its candidate is in charge now: between the verdict and the pointer somebody else may have moved
/// that one, and later anybody may.
fn told(mut said: Value, is_in_charge: bool) -> Value {
    said["in_charge"] = is_in_charge.into();
    said
}

async fn is_trusted<P: PolicyPublisher>(store: &P, candidate: &str, request: &Request) -> Result<bool, ImproveError> {
    let Some(key) = &request.signing else { return Ok(true) };
    let keys = PublicKeys::parse(&key.public().to_string()).expect("a key's own text");
    Ok(signed_by(store, candidate, &keys).await?.is_some())
}

/// Nothing is judged or put in charge once the job was asked to stop.
fn unless_stopped(stop: &AtomicBool, request: &Request) -> Result<(), ImproveError> {
    if stop.load(Ordering::Relaxed) { Err(ImproveError::Stopped(request.until())) } else { Ok(()) }
}

/// Whether the others of a population are judged all the same: training that went astray does so each time.
fn is_left_out(error: &ImproveError) -> bool {
    matches!(error, ImproveError::Train(ppo::TrainError::NotFinite { .. }))
}

async fn with_lease<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    device: &Device,
    lease: &lease::Held<C>,
    stop: &AtomicBool,
) -> Result<Value, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control + Leases + Clone + 'static,
    P: PolicyPublisher + Runs,
{
    if let Some(said) = said_before(&ports.policies, request, stop).await? {
        return Ok(said);
    }
    let windows = windows::read(ports, request, stop).await?;
    let incumbent = incumbent(&ports.policies, &request.pool).await?;
    let mut candidates = Vec::new();
    for index in 0..request.population {
        let stopped = || lease.is_lost() || stop.load(Ordering::Relaxed);
        let candidate =
            candidate::trained(&ports.policies, request, index, &windows, incumbent.as_ref(), device, &stopped).await;
        match candidate {
            _ if lease.is_lost() => return Err(ImproveError::LeaseLost),
            Ok(candidate) => candidates.push(candidate),
            Err(error) if is_left_out(&error) && (index + 1 < request.population || !candidates.is_empty()) => {
                tracing::warn!(index, %error, "a candidate is left out");
            }
            Err(error) => return Err(error),
        }
    }
    unless_stopped(stop, request)?;
    let judged = tokio::task::block_in_place(|| judging::judged(request, &candidates, &windows, incumbent.as_ref()))?;
    unless_stopped(stop, request)?;
    lease.check().await?;
    if judged.judgement.promoted {
        keep(&ports.policies, &judged.bundle.package(), request.signing.as_ref()).await?;
    }
    let improved = Improved {
        pool: request.pool.clone(),
        run: request.run(),
        report: run_key(&request.run(), REPORT),
        device: described(device),
        candidate: judged.bundle.manifest.sha256.clone(),
        incumbent: incumbent.as_ref().map(|i| i.pointer.0.sha256.clone()),
        tasks: windows.last.tasks,
        windows_learned: windows.learned().len(),
        windows_judged: windows.judged(request.gate_config.twin_error_max).len(),
        twin: windows.last.error,
        calibration: windows.last.fit.clone(),
        judgement: judged.judgement,
    };
    let said = serde_json::to_value(&improved).expect("plain data");
    // the report first: whoever finds the result finds it too
    ports.policies.put_run_file(&request.run(), REPORT, judged.bundle.report).await?;
    ports.policies.put_run_file(&request.run(), &request.result(), said.to_string().into_bytes()).await?;
    if improved.judgement.promoted {
        let pointer = incumbent.as_ref().map(|i| &i.pointer);
        put_in_charge(&ports.policies, &request.pool, &improved.candidate, pointer).await?;
    }
    let is_in_charge = improved.judgement.promoted || improved.incumbent.as_ref() == Some(&improved.candidate);
    Ok(told(said, is_in_charge))
}
