//! Rollouts: many environments stepped together, so that one matrix product serves them all.

use burn::tensor::Device;
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, Mask};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use twin::env::{Environment, Seen};

use super::TrainError;
use super::config::PpoConfig;
use super::runner::{Runner, is_cpu};
use super::track::Track;
use super::weights::{HEAD_OUTPUTS, Weights};

/// Environments that one thread of the CPU steps together. A fixed number, so that no result depends on the number of
/// threads.
const GROUP: usize = 8;

/// Who acts during a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Actor {
    /// The policy, by drawing from its probabilities.
    Policy,
    /// The environment's teacher, and the policy in this share of the steps; the teacher's action is recorded either way,
    /// so that the policy also learns what to do where it alone would have come.
    Teacher(f64),
}

/// One finished episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpisodeOutcome {
    /// Index of its environment.
    pub env: usize,
    /// Seed it was reset with.
    pub seed: u64,
    /// Sum of its rewards, dollars.
    pub reward: f64,
    /// Its length.
    pub steps: u64,
    /// Whether it was cut off with work left undone.
    pub is_cut_off: bool,
}

impl EpisodeOutcome {
    /// Of an episode that begins.
    pub fn begun(env: usize, seed: u64) -> Self {
        Self { env, seed, reward: 0.0, steps: 0, is_cut_off: false }
    }
}

/// An environment with all that belongs to its running episode. Each has its own source of random numbers, so that
/// nothing depends on which thread steps it or when.
struct Slot {
    env: Box<dyn Environment>,
    rng: ChaCha8Rng,
    seen: Seen,
    starts: bool,
    running: EpisodeOutcome,
    /// What the episode's work so far is worth.
    work_usd: f64,
    track: Track,
    finished: Vec<EpisodeOutcome>,
}

impl Slot {
    fn new(index: usize, mut env: Box<dyn Environment>, seed: u64, sequence_steps: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        let seed = rng.next_u64();
        let seen = env.reset(seed);
        let running = EpisodeOutcome::begun(index, seed);
        Self {
            env,
            rng,
            seen,
            starts: true,
            running,
            work_usd: 0.0,
            track: Track::new(sequence_steps),
            finished: Vec::new(),
        }
    }

    /// One step, recorded. `head` is what the network gives for what the slot sees.
    fn step(&mut self, head: &[f32], actor: Actor, how: How) {
        let mask = if how.masked { self.seen.mask } else { [true; ACTION_COUNT] };
        let probabilities = probabilities(&head[..ACTION_COUNT], &mask);
        let drawn = draw(&probabilities, &mut self.rng);
        let advice = self.env.advice().map(|action| self.allowed(action));
        let (action, taken) = match actor {
            Actor::Policy => (drawn, drawn),
            Actor::Teacher(student_share) => {
                let label = advice.unwrap_or(0);
                (label, if self.rng.random_bool(student_share) { drawn } else { label })
            }
        };
        self.track.advice.push(advice);
        let log_prob = probabilities[action].max(f32::MIN_POSITIVE).ln();
        self.track.push(&self.seen.features, self.forgets(how), mask, action, log_prob);
        self.track.values.push(head[ACTION_COUNT]);
        let step = self.env.step(Action::at(taken));
        let worked_usd = self.worked(how.waste_only);
        self.track.rewards.push(step.reward + worked_usd);
        self.track.discounts.push(if step.done { 0.0 } else { how.gamma.max(self.env.discount()) });
        self.running.reward += step.reward;
        self.running.steps += 1;
        self.seen = step.seen;
        self.starts = step.done;
        if step.done {
            self.running.is_cut_off = self.env.is_cut_off();
            self.finished.push(self.running);
            self.restart();
        }
    }

    /// Whether nothing of before counts in the next step.
    fn forgets(&self, how: How) -> bool {
        self.starts || !how.memory
    }

    /// What the work of the last step is worth, if it is not to count as a cost.
    fn worked(&mut self, waste_only: bool) -> f64 {
        if !waste_only {
            return 0.0;
        }
        let before = std::mem::replace(&mut self.work_usd, self.env.work_usd());
        self.work_usd - before
    }

    /// An action, or nothing if that is refused.
    fn allowed(&self, action: Action) -> usize {
        action.index().filter(|action| self.seen.mask[*action]).unwrap_or(0)
    }

    fn restart(&mut self) {
        let seed = self.rng.next_u64();
        self.seen = self.env.reset(seed);
        self.work_usd = 0.0;
        self.running = EpisodeOutcome::begun(self.running.env, seed);
    }
}

/// Softmax over the allowed actions; a refused one has probability 0.
pub fn probabilities(logits: &[f32], mask: &Mask) -> [f32; ACTION_COUNT] {
    let allowed = (0..ACTION_COUNT).filter(|&i| mask[i]);
    let largest = allowed.map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
    let powers: [f32; ACTION_COUNT] = std::array::from_fn(|i| if mask[i] { (logits[i] - largest).exp() } else { 0.0 });
    let sum: f32 = powers.iter().sum();
    powers.map(|x| x / sum)
}

/// Draws an action by its probability. The last possible one takes what rounding leaves.
pub fn draw(probabilities: &[f32; ACTION_COUNT], rng: &mut impl Rng) -> usize {
    let mut left = rng.random::<f32>();
    let mut last = 0;
    for (i, &p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = i;
        left -= p;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Environments that share one step of the network.
struct Group {
    slots: Vec<Slot>,
    runner: Runner,
    x: Vec<f32>,
    keep: Vec<f32>,
}

impl Group {
    fn new(slots: Vec<Slot>, weights: &Weights, device: &Device) -> Self {
        Self { runner: Runner::new(weights, slots.len(), device), slots, x: Vec::new(), keep: Vec::new() }
    }

    fn collect(&mut self, weights: &Weights, actor: Actor, how: How) {
        self.runner.load(weights);
        self.slots.iter_mut().for_each(|slot| slot.track.clear());
        for t in 0..how.steps {
            if t % how.sequence_steps == 0 {
                self.remember_states();
            }
            self.see(how);
            let head = self.runner.look(&self.x, &self.keep);
            let step = |(slot, head): (&mut Slot, &[f32])| slot.step(head, actor, how);
            if self.slots.len() > GROUP {
                self.slots.par_iter_mut().zip(head.par_chunks_exact(HEAD_OUTPUTS)).with_min_len(GROUP).for_each(step);
            } else {
                self.slots.iter_mut().zip(head.chunks_exact(HEAD_OUTPUTS)).for_each(step);
            }
            self.runner.advance();
        }
        // what the last state is worth; the step itself belongs to the next rollout
        self.see(how);
        let head = self.runner.look(&self.x, &self.keep);
        for (slot, head) in self.slots.iter_mut().zip(head.chunks_exact(HEAD_OUTPUTS)) {
            slot.track.values.push(head[ACTION_COUNT]);
        }
    }

    fn see(&mut self, how: How) {
        self.x.clear();
        self.keep.clear();
        for slot in &self.slots {
            self.x.extend_from_slice(&slot.seen.features);
            self.keep.push(if slot.forgets(how) { 0.0 } else { 1.0 });
        }
        debug_assert_eq!(self.x.len(), self.slots.len() * FEATURE_COUNT);
    }

    fn remember_states(&mut self) {
        let [h, c] = self.runner.state();
        let width = h.len() / self.slots.len();
        let states = h.chunks_exact(width).zip(c.chunks_exact(width));
        for (slot, (h, c)) in self.slots.iter_mut().zip(states) {
            slot.track.first[0].extend_from_slice(h);
            slot.track.first[1].extend_from_slice(c);
        }
    }
}

/// How every rollout is made.
#[derive(Clone, Copy)]
struct How {
    steps: usize,
    sequence_steps: usize,
    masked: bool,
    waste_only: bool,
    memory: bool,
    gamma: f64,
}

/// Steps the environments and remembers where their episodes are between rollouts.
pub struct Collector {
    groups: Vec<Group>,
    how: How,
}

impl Collector {
    /// Resets all environments; their episodes' seeds and the policy's draws come from `seed`.
    pub fn new(
        envs: Vec<Box<dyn Environment>>,
        config: &PpoConfig,
        weights: &Weights,
        masked: bool,
        seed: u64,
        device: &Device,
    ) -> Self {
        // a GPU is best asked for all at once
        let size = if is_cpu(device) { GROUP } else { envs.len() };
        let slot = |(i, env)| Slot::new(i, env, seed, config.sequence_steps);
        let mut slots: Vec<_> = envs.into_iter().enumerate().map(slot).collect();
        let mut groups = Vec::new();
        while !slots.is_empty() {
            let rest = slots.split_off(size.min(slots.len()));
            groups.push(Group::new(slots, weights, device));
            slots = rest;
        }
        let PpoConfig { rollout_steps: steps, sequence_steps, waste_only, gamma, .. } = *config;
        Self { groups, how: How { steps, sequence_steps, masked, waste_only, memory: weights.memory, gamma } }
    }

    /// Lets every environment do a rollout's steps with these weights; [`Collector::tracks`] has them then.
    ///
    /// # Errors
    /// If a reward or an output of the network is not finite.
    pub fn collect(&mut self, weights: &Weights, actor: Actor) -> Result<(), TrainError> {
        let how = self.how;
        self.groups.par_iter_mut().for_each(|group| group.collect(weights, actor, how));
        self.tracks().iter().try_for_each(|track| track.check())
    }

    /// What each environment did in the last rollout.
    pub fn tracks(&mut self) -> Vec<&mut Track> {
        self.groups.iter_mut().flat_map(|group| &mut group.slots).map(|slot| &mut slot.track).collect()
    }

    /// The episodes that ended since the last call.
    pub fn take_finished(&mut self) -> Vec<EpisodeOutcome> {
        self.groups.iter_mut().flat_map(|g| &mut g.slots).flat_map(|slot| slot.finished.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_action_has_probability_zero_and_is_never_drawn() {
        let mask = std::array::from_fn(|i| i == 0 || i == 2);
        let logits: [f32; ACTION_COUNT] = std::array::from_fn(|i| if i == 1 { 50.0 } else { 0.0 });
        let p = probabilities(&logits, &mask);
        assert_eq!(p, std::array::from_fn(|i| if mask[i] { 0.5 } else { 0.0 }));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<_> = (0..1000).map(|_| draw(&p, &mut rng)).collect();
        let twos = drawn.iter().filter(|&&a| a == 2).count();
        assert!((400..600).contains(&twos) && drawn.iter().all(|&a| a == 0 || a == 2), "{twos}");
    }
}
