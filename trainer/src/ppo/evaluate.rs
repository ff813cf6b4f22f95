//! Plays whole episodes with a policy, without learning from them; always on the CPU, where single steps are quickest.

use burn::tensor::Device;
use contract::{ACTION_COUNT, Action, Features, Mask};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use twin::env::Environment;

use super::rollout::{EpisodeOutcome, draw, probabilities};
use super::runner::Runner;
use super::weights::Weights;

/// How an action is chosen from the probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The most probable one, as in production; of equal ones the lowest number.
    Argmax,
    /// Drawn by probability, from the episode's seed.
    Sample,
}

fn choose(logits: &[f32], mask: &Mask, choice: Choice, rng: &mut ChaCha8Rng) -> usize {
    let probabilities = probabilities(logits, mask);
    match choice {
        Choice::Sample => draw(&probabilities, rng),
        Choice::Argmax => (1..ACTION_COUNT)
            .filter(|&i| mask[i])
            .fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best }),
    }
}

/// A policy in use: the network with the state of its episode.
pub struct Playing {
    runner: Runner,
    /// What the state before each step counts.
    keep: f32,
}

impl Playing {
    /// At the start of an episode.
    pub fn new(weights: &Weights) -> Self {
        Self { runner: Runner::new(weights, 1, &Device::flex()), keep: f32::from(weights.memory) }
    }

    /// The action for what is seen now.
    pub fn act(&mut self, features: &Features, mask: &Mask, choice: Choice, rng: &mut ChaCha8Rng) -> Action {
        let action = choose(&self.runner.look(features, &[self.keep])[..ACTION_COUNT], mask, choice, rng);
        self.runner.advance();
        Action::at(action)
    }
}

/// One episode of environment number `index`.
fn episode(weights: &Weights, index: usize, env: &mut dyn Environment, seed: u64, choice: Choice) -> EpisodeOutcome {
    let (mut policy, mut rng) = (Playing::new(weights), ChaCha8Rng::seed_from_u64(seed));
    let mut outcome = EpisodeOutcome { env: index, seed, reward: 0.0, steps: 0 };
    let mut seen = env.reset(seed);
    loop {
        let step = env.step(policy.act(&seen.features, &seen.mask, choice, &mut rng));
        outcome.reward += step.reward;
        outcome.steps += 1;
        if step.done {
            return outcome;
        }
        seen = step.seen;
    }
}

/// Plays an episode of every seed; the outcomes are in the order of the seeds. The environments must be alike: they take
/// turns, so that each can have a thread. Depends on the weights, the environments and the seeds alone.
pub fn evaluate(
    weights: &Weights,
    envs: &mut [Box<dyn Environment>],
    seeds: &[u64],
    choice: Choice,
) -> Vec<EpisodeOutcome> {
    let n = envs.len();
    let of_env = |(i, env): (usize, &mut Box<dyn Environment>)| -> Vec<EpisodeOutcome> {
        let seeds = seeds.iter().skip(i).step_by(n);
        seeds.map(|&seed| episode(weights, i, env.as_mut(), seed, choice)).collect()
    };
    let by_env: Vec<_> = envs.par_iter_mut().enumerate().map(of_env).collect();
    (0..seeds.len()).map(|i| by_env[i % n][i / n]).collect()
}

/// Mean total reward of episodes, dollars.
pub fn mean_reward(outcomes: &[EpisodeOutcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.reward).sum::<f64>() / outcomes.len().max(1) as f64
}

/// Mean length of episodes, steps.
pub fn mean_steps(outcomes: &[EpisodeOutcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.steps as f64).sum::<f64>() / outcomes.len().max(1) as f64
}
