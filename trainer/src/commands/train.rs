//! `twinscaler train`: a policy from nothing, on the published load, into a directory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use twin::EnvSpec;

use crate::commands::{bar, show};
use crate::compare::{policy_usd, rule_outcomes, tuned_rule};
use crate::load::PERTURBATION;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::Trained;
use crate::ppo::weights::Weights;
use crate::promote::Bundle;
use crate::study::{learn, published_twin};
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

/// Trains on the published load and writes the policy with its report.
///
/// # Errors
/// If training fails, or nothing can be written.
pub fn run(config: &PpoConfig, seed: u64, device: &Device, out: &Path) -> Result<(), TrainCommandError> {
    let spec = Arc::new(published_twin().perturbed(PERTURBATION));
    let trained = with_bar(&spec, None, config, seed, device)?;
    let (bundle, page) = packaged(&trained, &spec, config, seed)?;
    let bundle = Bundle { report: page.into_bytes(), ..bundle };
    bundle.write(out).map_err(|source| TrainCommandError::Write { dir: out.display().to_string(), source })?;
    println!("policy {} written to {}", bundle.manifest.sha256, out.display());
    Ok(())
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
    let bar = bar(config.steps);
    let trained = learn(spec, start, config, seed, device, &mut |progress| {
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
