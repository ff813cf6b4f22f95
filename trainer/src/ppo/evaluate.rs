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
    let mut outcome = EpisodeOutcome::begun(index, seed);
    let mut seen = env.reset(seed);
    loop {
        let step = env.step(policy.act(&seen.features, &seen.mask, choice, &mut rng));
        outcome.reward += step.reward;
        outcome.steps += 1;
        if step.done {
            outcome.is_cut_off = env.is_cut_off();
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

/// What weights are chosen by: first how many episodes were not cut off, for the dollars of one that was leave out what was
/// left undone, then the mean reward.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Worth {
    /// Episodes that came to their end.
    pub finished: usize,
    /// Mean total reward, dollars.
    pub reward: f64,
}

impl Worth {
    /// Of these episodes.
    pub fn of(outcomes: &[EpisodeOutcome]) -> Self {
        let finished = outcomes.iter().filter(|outcome| !outcome.is_cut_off).count();
        Self { finished, reward: mean_reward(outcomes) }
    }
}

/// Mean total reward of episodes, dollars.
pub fn mean_reward(outcomes: &[EpisodeOutcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.reward).sum::<f64>() / outcomes.len().max(1) as f64
}

/// Mean length of episodes, steps.
pub fn mean_steps(outcomes: &[EpisodeOutcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.steps as f64).sum::<f64>() / outcomes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::{to_evaluate, where_idling_is_cheapest};

    #[test]
    fn who_leaves_work_undone_is_worth_less_whatever_it_saves() {
        let course = where_idling_is_cheapest(1, &["rule:queue=0.5,5".parse().unwrap()]);
        let worth = |bias: f32| {
            let mut weights = Weights::new(1, 0);
            weights.values.fill(0.0);
            // the bias of launching a small machine; of equal actions the first is taken, nothing
            let head_b = weights.values.len() - (ACTION_COUNT + 1);
            weights.values[head_b + 1] = bias;
            let mut envs = to_evaluate(std::slice::from_ref(&course), 1);
            Worth::of(&evaluate(&weights, &mut envs, &[1, 2], Choice::Argmax))
        };
        let (idle, at_work) = (worth(0.0), worth(1.0));
        assert_eq!((idle.finished, at_work.finished), (0, 2));
        assert!(idle.reward > at_work.reward && idle < at_work, "{idle:?} {at_work:?}");
    }
}
