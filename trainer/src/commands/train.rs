//! `twinscaler train`: a policy from nothing, on the published load, into a directory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use twin::{BootModel, EnvSpec, Environment};

use crate::commands::{bar, show};
use crate::compare::{best_teacher, environments, policy_usd, rule_outcomes, tuned_rule};
use crate::load::PERTURBATION;
use crate::ppo::cloning::clone_teacher;
use crate::ppo::config::{CloningConfig, PpoConfig};
use crate::ppo::train::{Job, Trained, train};
use crate::ppo::weights::Weights;
use crate::promote::Bundle;
use crate::taught::TaughtEnv;
use crate::{parity, report};

/// Seeds of the final evaluation; apart from those of training and of its own evaluations.
pub const HELD_OUT_SEEDS: std::ops::Range<u64> = 9_000_000..9_000_032;

/// Why training gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrainCommandError {
    /// Training failed.
    #[error(transparent)]
    Train(#[from] crate::ppo::TrainError),
    /// The policy file does not do what the weights do.
    #[error(transparent)]
    Parity(#[from] parity::ParityError),
    /// The result could not be written.
    #[error("write the policy to {dir}")]
    Write {
        /// Where.
        dir: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The published load with boots drawn from 45 to 97 s, both orders of batches, tasks a little longer or shorter.
pub fn published_twin() -> Arc<EnvSpec> {
    let boot = BootModel::Uniform { low_s: 45.0, high_s: 97.0, seed: 0 };
    let spec = EnvSpec::published().configured(|config| config.boot = boot).expect("a valid boot time");
    Arc::new(spec.perturbed(PERTURBATION))
}

/// Trains on the published load and writes the policy with its report.
///
/// # Errors
/// If training fails, or nothing can be written.
pub fn run(config: &PpoConfig, seed: u64, device: &Device, out: &Path) -> Result<(), TrainCommandError> {
    let spec = published_twin();
    let start = cloned_start(&spec, config, seed, device)?;
    let trained = with_bar(&spec, Some(start), config, seed, device)?;
    let (bundle, page) = packaged(&trained, &spec, config, seed)?;
    let bundle = Bundle { report: page.into_bytes(), ..bundle };
    bundle.write(out).map_err(|source| TrainCommandError::Write { dir: out.display().to_string(), source })?;
    println!("policy {} written to {}", bundle.manifest.sha256, out.display());
    Ok(())
}

/// Weights that do about what the best tuned rule does: PPO from nothing tends to settle on always launching.
fn cloned_start(
    spec: &Arc<EnvSpec>,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<Weights, crate::ppo::TrainError> {
    let teacher = best_teacher(spec, &[1, 2, 3, 4]);
    tracing::info!(rule = %teacher.rule, usd = teacher.usd, "the teacher");
    let envs = (0..config.n_envs).map(|_| Box::new(TaughtEnv::new(spec.clone(), teacher.rule)) as Box<dyn Environment>);
    let (weights, _) = clone_teacher(envs.collect(), None, &CloningConfig::default(), config, seed, device)?;
    Ok(weights)
}

/// Trains with a progress bar.
///
/// # Errors
/// As for training.
pub fn with_bar(
    spec: &Arc<EnvSpec>,
    start: Option<Weights>,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<Trained, crate::ppo::TrainError> {
    let job = Job {
        envs: environments(spec, config.n_envs),
        evaluation: environments(spec, rayon::current_num_threads()),
        start,
        device: device.clone(),
    };
    let bar = bar(config.steps);
    let trained = train(job, config, seed, &mut |progress| {
        show(&bar, progress);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    trained
}

/// The training settings as the manifest keeps them.
pub fn settings(config: &PpoConfig, seed: u64, workload: &str) -> BTreeMap<String, String> {
    let json = serde_json::to_value(config).expect("settings are plain data");
    let flat = json.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string()));
    flat.chain([("seed".into(), seed.to_string()), ("workload".into(), workload.to_owned())]).collect()
}

fn packaged(
    trained: &Trained,
    spec: &Arc<EnvSpec>,
    config: &PpoConfig,
    seed: u64,
) -> Result<(Bundle, String), TrainCommandError> {
    let seeds: Vec<u64> = HELD_OUT_SEEDS.collect();
    let setting = tuned_rule(spec, &[1, 2, 3, 4]);
    let policy = mean(&policy_usd(&trained.best, spec, &seeds));
    let outcomes = rule_outcomes(setting, spec, &seeds);
    let rule = mean(&outcomes.iter().map(|o| o.total_usd).collect::<Vec<_>>());
    let waits: Vec<f64> = outcomes.iter().map(|o| o.wait_s_p95).collect();
    println!("policy ${policy:.3}, tuned rule ({setting} tasks per core) ${rule:.3} an episode, {} seeds", seeds.len());
    let evaluation = BTreeMap::from([
        ("policy_usd".to_owned(), policy),
        ("rule_usd".to_owned(), rule),
        ("rule_tasks_per_core".to_owned(), setting),
        ("rule_wait_s_p95".to_owned(), mean(&waits)),
    ]);
    let (onnx, manifest) = parity::package(&trained.best, settings(config, seed, "paper"), evaluation, None)?;
    let rows = [
        vec!["policy".into(), format!("{policy:.3}")],
        vec![format!("tuned rule, {setting} tasks per core"), format!("{rule:.3}")],
    ];
    let body = format!(
        "<p>Trained on the published load, {} steps, seed {seed}. Mean cost of an episode over {} held-out seeds:</p>{}",
        config.steps,
        seeds.len(),
        report::table(&["who", "dollars"], &rows)
    );
    let page = report::page("twinscaler: a trained policy", &body);
    Ok((Bundle { onnx, manifest, checkpoint: trained.best.to_checkpoint(), report: Vec::new() }, page))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
