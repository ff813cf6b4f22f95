//! The whole way from a load to a policy: tune the rules, clone the best, learn on, keep the best by evaluation.

use std::ops::ControlFlow;
use std::sync::Arc;

use backtest::rules::Rule;
use burn::tensor::Device;
use twin::{BootModel, EnvSpec, Environment};

use crate::compare::{best_teacher, environments};
use crate::ppo::cloning::clone_teacher;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::{Job, Progress, Trained, train};
use crate::ppo::weights::Weights;
use crate::ppo::{Losses, TrainError};
use crate::taught::TaughtEnv;

/// Seeds that rules are tuned on.
pub const TUNE_SEEDS: [u64; 4] = [1, 2, 3, 4];

/// The published load with boots drawn from 45 to 97 s, both orders of batches.
pub fn published_twin() -> EnvSpec {
    let boot = BootModel::Uniform { low_s: 45.0, high_s: 97.0, seed: 0 };
    EnvSpec::published().configured(|config| config.boot = boot).expect("a valid boot time")
}

/// Weights that do about what the best tuned rule does (PPO from nothing tends to settle on always launching), or none if
/// the settings ask for none.
///
/// # Errors
/// As for training.
pub fn cloned(
    spec: &Arc<EnvSpec>,
    teacher: Rule,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<Option<(Weights, Vec<Losses>)>, TrainError> {
    if config.cloning.steps == 0 {
        return Ok(None);
    }
    let taught = |_| Box::new(TaughtEnv::new(spec.clone(), teacher)) as Box<dyn Environment>;
    let envs = (0..config.n_envs).map(taught).collect();
    clone_teacher(envs, None, config, seed, device).map(Some)
}

/// Trains on a load: from `start`, or from a clone of the best rule.
///
/// # Errors
/// As for training.
pub fn learn(
    spec: &Arc<EnvSpec>,
    start: Option<Weights>,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let start = match start {
        Some(weights) => Some(weights),
        None => {
            let teacher = best_teacher(spec, &TUNE_SEEDS);
            tracing::info!(rule = %teacher.rule, usd = teacher.usd, "the teacher");
            cloned(spec, teacher.rule, config, seed, device)?.map(|(weights, _)| weights)
        }
    };
    let job = Job {
        envs: environments(spec, config.n_envs),
        evaluation: environments(spec, rayon::current_num_threads()),
        start,
        device: device.clone(),
    };
    train(job, config, seed, progress)
}
