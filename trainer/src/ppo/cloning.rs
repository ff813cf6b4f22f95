//! Behaviour cloning: a policy that starts by doing what a rule would do.

use burn::tensor::Device;
use twin::env::Environment;

use super::TrainError;
use super::config::{CloningConfig, PpoConfig};
use super::loss::Coefficients;
use super::lost::unless_lost;
use super::rollout::{Actor, Collector};
use super::state::State;
use super::train::{Scaling, estimate, generator, set_reward_scale};
use super::update::{Learner, Losses, Objective, Schedule};
use super::weights::Weights;

/// Teaches fresh weights what the environments' teacher does ([`Environment::advice`]), and what its states are worth. The
/// teacher acts at first, the policy more and more (DAgger, Ross et al. 2011), so that it also learns the way back from its
/// own errors. Returns the weights and the losses of each round.
///
/// # Errors
/// As for training.
pub fn clone_teacher(
    envs: Vec<Box<dyn Environment>>,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<(Weights, Vec<Losses>), TrainError> {
    config.check()?;
    unless_lost(device, || imitate(envs, config, seed, device))
}

fn imitate(
    envs: Vec<Box<dyn Environment>>,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<(Weights, Vec<Losses>), TrainError> {
    let cloning = &config.cloning;
    if envs.is_empty() {
        return Err(TrainError::NoEnvironment);
    }
    let start = Weights::fresh(config, seed);
    let per_rollout = (envs.len() * config.rollout_steps) as u64;
    let rounds = cloning.steps.div_ceil(per_rollout);
    // refused actions stay masked: the teacher never takes one
    let mut collector = Collector::new(envs, config, &start, true, seed, device);
    let mut learner = Learner::new(State::of(start), generator(seed, 2), device);
    let mut losses = Vec::new();
    for round in 0..rounds {
        let done = round as f64 / rounds as f64;
        collector.collect(&learner.weights, Actor::Teacher(cloning.student_share * done))?;
        let mut tracks = collector.tracks();
        let scaling = if round == 0 { Scaling::IfMissing } else { Scaling::Kept };
        set_reward_scale(&mut learner.weights, &mut tracks, config, scaling);
        estimate(&mut tracks, &learner.weights, 1.0);
        losses.push(learner.learn(&tracks, &schedule(cloning, config, done))?);
    }
    Ok((learner.weights, losses))
}

fn schedule(cloning: &CloningConfig, config: &PpoConfig, done: f64) -> Schedule {
    Schedule {
        objective: Objective::Cloning,
        by: Coefficients { clip: config.clip, value: cloning.value_coefficient, entropy: 0.0, advice: 0.0 },
        epochs: cloning.epochs,
        minibatch_sequences: cloning.minibatch_sequences,
        learning_rate: cloning.learning_rate * (1.0 - 0.9 * done),
        grad_norm_max: config.grad_norm_max,
    }
}
