//! The whole way from courses to a policy: clone the best rules, learn on, keep the best by evaluation.

use burn::tensor::Device;

use crate::course::{Course, Teachers, to_evaluate, to_learn};
use crate::ppo::cloning::clone_teacher;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::{Job, Start, Trained, Watcher, train};
use crate::ppo::{TrainError, Weights};

/// Trains on courses from `start`; fresh weights are first taught what the best rules do, for PPO from nothing tends to
/// settle on always launching.
///
/// # Errors
/// As for training.
pub fn learn(
    courses: &[Course],
    start: Start,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
    watch: &mut Watcher,
) -> Result<Trained, TrainError> {
    // every course is learned, and evaluated as often as the others
    let config = &PpoConfig {
        n_envs: config.n_envs.next_multiple_of(courses.len()),
        evaluate_episodes: config.evaluate_episodes.next_multiple_of(courses.len() as u64),
        ..config.clone()
    };
    let is_paired = is_paired(&start, config);
    let start = match start {
        Start::Fresh => Start::Weights(first_weights(courses, config, seed, device)?),
        start => start,
    };
    let advise = config.advice_coefficient > 0.0;
    let teachers = Teachers { advise, compete: is_paired, discount: config.gamma };
    let job = Job {
        envs: to_learn(courses, config.n_envs, teachers),
        evaluation: to_evaluate(courses, rayon::current_num_threads()),
        start,
        device: device.clone(),
    };
    train(job, config, seed, watch)
}

/// What training from nothing begins with: a clone of the best rules, unless the settings want fresh weights.
fn first_weights(courses: &[Course], config: &PpoConfig, seed: u64, device: &Device) -> Result<Weights, TrainError> {
    let mut weights = Weights::fresh(config, seed);
    if config.cloning.steps > 0 {
        let envs = to_learn(courses, config.n_envs, Teachers { advise: true, ..Teachers::default() });
        weights = clone_teacher(envs, config, seed, device)?.0;
    }
    if config.paired_rewards {
        weights.foresee_gains();
    }
    Ok(weights)
}

/// Whether what is learned are gains over a teacher: who goes on from weights goes on with what their value foresees.
pub fn is_paired(start: &Start, config: &PpoConfig) -> bool {
    match start {
        Start::Fresh => config.paired_rewards,
        Start::Weights(weights) => weights.paired,
        Start::Resume(state) => state.last.paired,
    }
}
