//! The whole way from courses to a policy: clone the best rules, learn on, keep the best by evaluation.

use burn::tensor::Device;

use crate::course::{Course, to_evaluate, to_learn};
use crate::ppo::TrainError;
use crate::ppo::cloning::clone_teacher;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::{Job, Start, Trained, Watcher, train};

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
    let start = match start {
        Start::Fresh if config.cloning.steps > 0 => {
            let envs = to_learn(courses, config.n_envs, true);
            Start::Weights(clone_teacher(envs, config, seed, device)?.0)
        }
        start => start,
    };
    let job = Job {
        envs: to_learn(courses, config.n_envs, config.advice_coefficient > 0.0),
        evaluation: to_evaluate(courses, rayon::current_num_threads()),
        start,
        device: device.clone(),
    };
    train(job, config, seed, watch)
}
