//! `twinscaler improve`: the batch job. History → twin → training → comparison → promotion, or why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use calibration::{TwinError, Window, twin_error};
use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::{Manifest, Pointer};
use controller::ports::{Control, Decisions, Instances, PolicyPublisher, Port, PortError, Tasks};
use policy::Policy;
use serde::Serialize;
use twin::{EnvSpec, Perturbation};

use crate::commands::train::{settings, with_bar};
use crate::commands::window::{Ports, read};
use crate::compare::{policy_trace, policy_usd, rule_usd, tuned_rule};
use crate::gate::{Comparison, GateConfig, Judgement, judge};
use crate::ppo::config::PpoConfig;
use crate::ppo::weights::Weights;
use crate::promote::{Bundle, promote};
use crate::report;
use crate::{parity, ppo};

/// Tasks below which a window says too little to train on.
const TASKS_MIN: usize = 20;
/// Seeds of the comparison; training draws its seeds from all 64-bit numbers and all but never meets them.
const COMPARE_SEEDS: std::ops::Range<u64> = 7_000_000..7_000_024;
/// Seeds that the rule is tuned on.
const TUNE_SEEDS: [u64; 4] = [1, 2, 3, 4];
/// How far training and comparison depart from what the window shows.
const PERTURBATION: Perturbation =
    Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 60.0, ..Perturbation::NONE };

/// Why the job ended without a judgement.
#[derive(Debug, thiserror::Error)]
pub enum ImproveError {
    /// A table or the bucket failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The window holds too little.
    #[error("learn from the window: {0}; wait for more tasks or widen the window")]
    TooLittle(String),
    /// The window does not make a valid twin.
    #[error(transparent)]
    Twin(#[from] twin::ScenarioError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] ppo::TrainError),
    /// The policy file does not do what the weights do.
    #[error(transparent)]
    Parity(#[from] parity::ParityError),
}

/// What the job says, also as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Improved {
    /// The pool.
    pub pool: String,
    /// The candidate's hash.
    pub candidate: String,
    /// The hash of the policy that was in charge.
    pub incumbent: Option<String>,
    /// Tasks in the window.
    pub tasks: usize,
    /// The twin against reality.
    pub twin: TwinError,
    /// The comparison's judgement.
    pub judgement: Judgement,
}

/// Training keeps the weights that it began with if it finds nothing better; the judgement says so.
fn unless_the_same(judgement: Judgement, bundle: &Bundle, incumbent: Option<&Incumbent>) -> Judgement {
    match incumbent {
        Some(i) if i.pointer.0.sha256 == bundle.manifest.sha256 => Judgement {
            promoted: false,
            because: "training found nothing better than the policy in charge".into(),
            ..judgement
        },
        _ => judgement,
    }
}

/// The policy in charge, as training and promotion need it.
struct Incumbent {
    pointer: (Pointer, String),
    /// None if this version cannot read its checkpoint: then training begins anew, and the rule is the opponent.
    weights: Option<Weights>,
}

/// Runs the job for one pool on the window that ends at `window.until_ms`.
///
/// # Errors
/// If it cannot come to a judgement. A judgement against the candidate is no error.
pub async fn run<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    pool: &str,
    window: Window,
    settings: (&PpoConfig, &GateConfig, u64),
    device: &Device,
) -> Result<Improved, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher,
{
    let (ppo, gate, seed) = settings;
    let recorded = read(ports, pool, window).await?;
    let submitted = recorded.tasks.iter().filter(|t| t.submitted_ms >= window.from_ms).count();
    if submitted < TASKS_MIN {
        return Err(ImproveError::TooLittle(format!("{submitted} tasks, at least {TASKS_MIN} are needed")));
    }
    let incumbent = incumbent(&ports.policies, pool).await?;
    let recorded = recorded.begun_with_the_fleet();
    let (base, too_large) = recorded.twin()?;
    if too_large > 0 {
        tracing::warn!(tasks = too_large, "tasks that fit on no machine of the pool are left out");
    }
    let spec = Arc::new(EnvSpec::clone(&base).perturbed(PERTURBATION));
    let twin = twin_error(&base, &recorded);
    let start = incumbent.as_ref().and_then(|i| i.weights.clone());
    let trained = with_bar(&spec, start, ppo, seed, device)?;
    let judgement = compare(&trained.best, incumbent.as_ref(), &spec, twin, gate);
    let bundle = bundle(&trained.best, incumbent.as_ref(), &spec, (ppo, seed), &judgement)?;
    let judgement = unless_the_same(judgement, &bundle, incumbent.as_ref());
    if judgement.promoted {
        promote(&ports.policies, pool, &bundle, incumbent.as_ref().map(|i| &i.pointer)).await?;
    }
    Ok(Improved {
        pool: pool.to_owned(),
        candidate: bundle.manifest.sha256,
        incumbent: incumbent.map(|i| i.pointer.0.sha256),
        tasks: recorded.tasks.len(),
        twin,
        judgement,
    })
}

async fn incumbent<P: PolicyPublisher>(store: &P, pool: &str) -> Port<Option<Incumbent>> {
    let Some(pointer) = store.pointer(pool).await? else { return Ok(None) };
    let bytes = store.file(&pointer.0.sha256, "checkpoint", POLICY_BYTES_MAX).await?;
    let weights = Weights::from_checkpoint(&bytes)
        .inspect_err(|error| tracing::warn!(%error, "the policy in charge cannot be trained further"))
        .ok();
    Ok(Some(Incumbent { pointer, weights }))
}

fn compare(
    candidate: &Weights,
    incumbent: Option<&Incumbent>,
    spec: &Arc<EnvSpec>,
    twin: TwinError,
    gate: &GateConfig,
) -> Judgement {
    let seeds: Vec<u64> = COMPARE_SEEDS.collect();
    let setting = tuned_rule(spec, &TUNE_SEEDS);
    let comparison = Comparison {
        candidate_usd: policy_usd(candidate, spec, &seeds),
        incumbent_usd: incumbent.and_then(|i| i.weights.as_ref()).map(|weights| policy_usd(weights, spec, &seeds)),
        rule_usd: rule_usd(setting, spec, &seeds),
    };
    judge(&comparison, twin.relative(), gate)
}

fn bundle(
    weights: &Weights,
    incumbent: Option<&Incumbent>,
    spec: &Arc<EnvSpec>,
    (ppo, seed): (&PpoConfig, u64),
    judgement: &Judgement,
) -> Result<Bundle, ImproveError> {
    let mut evaluation = BTreeMap::from([("candidate_usd".to_owned(), judgement.candidate_usd)]);
    for duel in &judgement.duels {
        let name = duel.opponent.replace(' ', "_");
        evaluation.insert(format!("{name}_usd"), duel.opponent_usd);
        evaluation.insert(format!("saving_usd_over_{name}"), duel.saving_usd);
    }
    let parent = incumbent.map(|i| i.pointer.0.sha256.clone());
    let settings = settings(ppo, seed, "the pool's own history");
    let (onnx, manifest) = parity::package(weights, settings, evaluation, parent)?;
    let policy = Policy::load(&onnx, &manifest).map_err(parity::ParityError::from)?;
    let (_, trace) = policy_trace(&policy, spec, COMPARE_SEEDS.start).map_err(parity::ParityError::from)?;
    let chart = report::fleet_chart(&trace, spec.cores(), &[]);
    let report = page(&manifest, &chart, judgement).into_bytes();
    Ok(Bundle { onnx, manifest, checkpoint: weights.to_checkpoint(), report })
}

/// The report: the judgement, and what the candidate does with the window.
fn page(manifest: &Manifest, chart: &str, judgement: &Judgement) -> String {
    let mut rows = vec![vec!["the candidate".to_owned(), format!("{:.3}", judgement.candidate_usd), String::new()]];
    for d in &judgement.duels {
        let saving = format!("{:.3} (at least {:.3})", d.saving_usd, d.saving_usd_low);
        rows.push(vec![d.opponent.clone(), format!("{:.3}", d.opponent_usd), saving]);
    }
    let table = report::table(&["who", "dollars an episode", "saved by the candidate"], &rows);
    let verdict = if judgement.promoted { "Promoted" } else { "Not promoted" };
    let body = format!(
        "<p><b>{verdict}</b>: {}.</p>{table}<h2>The candidate in the twin of the last window</h2>{chart}",
        report::escape(&judgement.because)
    );
    report::page(&format!("twinscaler: policy {}", &manifest.sha256[..12]), &body)
}
