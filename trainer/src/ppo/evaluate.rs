//! Plays whole episodes with a policy, without learning from them.

use burn::tensor::Device;
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, Mask};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twin::env::{Environment, Seen};

use super::model::{Cells, Model, rows, to_vec};
use super::rollout::{EpisodeOutcome, draw, probabilities};
use super::weights::{HEAD_OUTPUTS, Weights};

/// How an action is chosen from the probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The most probable one, as in production; of equal ones the lowest number.
    Argmax,
    /// Drawn by probability, from the episode's seed.
    Sample,
}

/// One environment and the episodes it still has to play.
struct Player<'a> {
    env: &'a mut Box<dyn Environment>,
    seeds: std::slice::Iter<'a, u64>,
    running: Option<(EpisodeOutcome, Seen, ChaCha8Rng)>,
    starts: bool,
}

impl Player<'_> {
    fn start(&mut self, index: usize) {
        self.starts = true;
        self.running = self.seeds.next().map(|&seed| {
            let outcome = EpisodeOutcome { env: index, seed, reward: 0.0, steps: 0 };
            (outcome, self.env.reset(seed), ChaCha8Rng::seed_from_u64(seed))
        });
    }

    fn features(&self) -> [f32; FEATURE_COUNT] {
        self.running.as_ref().map_or([0.0; FEATURE_COUNT], |(_, seen, _)| seen.features)
    }

    /// One step; the outcome if it was the episode's last.
    fn step(&mut self, logits: &[f32], choice: Choice) -> Option<EpisodeOutcome> {
        let (outcome, seen, rng) = self.running.as_mut()?;
        let action = choose(logits, &seen.mask, choice, rng);
        let step = self.env.step(Action::from(action as u16));
        outcome.reward += step.reward;
        outcome.steps += 1;
        *seen = step.seen;
        self.starts = false;
        step.done.then_some(*outcome)
    }
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

/// Plays every seed in every environment; the outcomes are in the order of the environments, then of the seeds. The
/// environments are stepped together. Depends on the weights, the environments and the seeds alone.
pub fn evaluate(
    weights: &Weights,
    envs: &mut [Box<dyn Environment>],
    seeds: &[u64],
    choice: Choice,
    device: &Device,
) -> Vec<EpisodeOutcome> {
    let model = Model::inference(weights, device);
    let mut state = Cells::zero(envs.len(), weights.cells, device);
    let mut players: Vec<_> =
        envs.iter_mut().map(|env| Player { env, seeds: seeds.iter(), running: None, starts: true }).collect();
    players.iter_mut().enumerate().for_each(|(i, player)| player.start(i));
    let mut outcomes = Vec::with_capacity(players.len() * seeds.len());
    while players.iter().any(|player| player.running.is_some()) {
        let keep: Vec<f32> = players.iter().map(|player| f32::from(!player.starts)).collect();
        let x = players.iter().flat_map(Player::features).collect();
        state = model.step(rows(x, FEATURE_COUNT, device), state.keep(&keep, device));
        let head = to_vec(model.head_raw(state.h.clone()));
        for (i, player) in players.iter_mut().enumerate() {
            if let Some(outcome) = player.step(&head[i * HEAD_OUTPUTS..][..ACTION_COUNT], choice) {
                outcomes.push(outcome);
                player.start(i);
            }
        }
    }
    // within one environment the seeds are already in order
    outcomes.sort_by_key(|outcome| outcome.env);
    outcomes
}

/// Mean total reward of episodes, dollars.
pub fn mean_reward(outcomes: &[EpisodeOutcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.reward).sum::<f64>() / outcomes.len().max(1) as f64
}
