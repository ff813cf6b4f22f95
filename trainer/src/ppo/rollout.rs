//! Rollouts: many environments stepped together, so that one matrix product serves them all.

use burn::tensor::{Device, Tensor};
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, Mask};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use twin::env::{Environment, Seen};

use super::TrainError;
use super::config::PpoConfig;
use super::model::{Cells, Model, REFUSED, rows, to_vec};
use super::weights::HEAD_OUTPUTS;

/// Says what a teacher would do: the environment's index, and what the agent sees there.
pub type Teacher<'a> = dyn Fn(usize, &Seen) -> Action + 'a;

/// Who acts during a rollout.
pub enum Actor<'a> {
    /// The policy, by drawing from its probabilities.
    Policy,
    /// A teacher, and the policy in this share of the steps; the teacher's action is recorded either way, so that the
    /// policy also learns what to do where it alone would have come.
    Teacher(&'a Teacher<'a>, f64),
}

/// The steps of one rollout, time-major: entry `t · envs + e` is step t of environment e. They are learned from in
/// sequences: sequence `k · envs + e` is the k-th stretch of environment e.
pub struct Batch {
    /// Steps of each environment; a multiple of `sequence_steps`.
    pub steps: usize,
    /// Steps of one sequence.
    pub sequence_steps: usize,
    /// Environments.
    pub envs: usize,
    /// Inputs of each step, `[envs, FEATURES]`.
    pub x: Vec<Vec<f32>>,
    /// For each step 0 where an episode starts with it, else 1.
    pub keep: Vec<Vec<f32>>,
    /// Which actions were allowed.
    pub masks: Vec<Mask>,
    /// The action to learn about: the one taken, or the teacher's.
    pub actions: Vec<usize>,
    /// Logarithm of its probability.
    pub log_probs: Vec<f32>,
    /// Value predicted before each step, and one more row for the state after the last one.
    pub values: Vec<f32>,
    /// Reward of each step, dollars.
    pub rewards: Vec<f64>,
    /// Whether the episode ended with the step.
    pub done: Vec<bool>,
    /// State before each sequence, `[sequences, cells]`, h and c.
    pub first: [Vec<f32>; 2],
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
}

/// An environment with all that belongs to its running episode. Each has its own source of random numbers, so that
/// nothing depends on which thread steps it or when.
struct Slot {
    env: Box<dyn Environment>,
    rng: ChaCha8Rng,
    seen: Seen,
    starts: bool,
    running: EpisodeOutcome,
}

/// What one slot did in one step.
struct Moment {
    mask: Mask,
    action: usize,
    log_prob: f32,
    reward: f64,
    finished: Option<EpisodeOutcome>,
}

impl Slot {
    fn new(index: usize, mut env: Box<dyn Environment>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        let seed = rng.next_u64();
        let seen = env.reset(seed);
        let running = EpisodeOutcome { env: index, seed, reward: 0.0, steps: 0 };
        Self { env, rng, seen, starts: true, running }
    }

    fn step(&mut self, head: &[f32], label: Option<usize>, student_share: f64, masked: bool) -> Moment {
        let mask = if masked { self.seen.mask } else { [true; ACTION_COUNT] };
        let probabilities = probabilities(&head[..ACTION_COUNT], &mask);
        let drawn = draw(&probabilities, &mut self.rng);
        let taken = match label {
            Some(label) if !self.rng.random_bool(student_share) => label,
            _ => drawn,
        };
        let step = self.env.step(Action::from(taken as u16));
        self.running.reward += step.reward;
        self.running.steps += 1;
        let action = label.unwrap_or(taken);
        let log_prob = probabilities[action].max(f32::MIN_POSITIVE).ln();
        let finished = step.done.then_some(self.running);
        self.seen = step.seen;
        self.starts = step.done;
        if step.done {
            self.restart();
        }
        Moment { mask, action, log_prob, reward: step.reward, finished }
    }

    fn restart(&mut self) {
        let seed = self.rng.next_u64();
        self.seen = self.env.reset(seed);
        self.running = EpisodeOutcome { seed, reward: 0.0, steps: 0, ..self.running };
    }
}

/// Softmax over the allowed actions; a refused one has probability 0.
pub fn probabilities(logits: &[f32], mask: &Mask) -> [f32; ACTION_COUNT] {
    let allowed = |i: usize| if mask[i] { logits[i] } else { f32::NEG_INFINITY };
    let largest = (0..ACTION_COUNT).map(allowed).fold(f32::NEG_INFINITY, f32::max);
    let powers: [f32; ACTION_COUNT] = std::array::from_fn(|i| (allowed(i) - largest).exp());
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

/// Steps the environments and remembers where their episodes are between rollouts.
pub struct Collector {
    slots: Vec<Slot>,
    state: Cells,
    batch: Batch,
    masked: bool,
    device: Device,
    finished: Vec<EpisodeOutcome>,
}

impl Collector {
    /// Resets all environments; their episodes' seeds and the policy's draws come from `seed`.
    pub fn new(
        envs: Vec<Box<dyn Environment>>,
        config: &PpoConfig,
        cells: usize,
        masked: bool,
        seed: u64,
        device: &Device,
    ) -> Self {
        let slots: Vec<_> = envs.into_iter().enumerate().map(|(i, env)| Slot::new(i, env, seed)).collect();
        let n = slots.len();
        Self {
            state: Cells::zero(n, cells, device),
            batch: Batch::new(config.rollout_steps, config.sequence_steps, n),
            slots,
            masked,
            device: device.clone(),
            finished: Vec::new(),
        }
    }

    /// Lets every environment do the batch's steps with this model, and returns them.
    ///
    /// # Errors
    /// If a reward or an output of the network is not finite.
    pub fn collect(&mut self, model: &Model, actor: &Actor) -> Result<&Batch, TrainError> {
        self.batch.clear();
        for t in 0..self.batch.steps {
            if t % self.batch.sequence_steps == 0 {
                self.batch.first[0].extend(to_vec(self.state.h.clone()));
                self.batch.first[1].extend(to_vec(self.state.c.clone()));
            }
            let (head, next) = self.look(model);
            self.state = next;
            self.act(&head, actor)?;
        }
        // what the last state is worth; the step itself belongs to the next rollout
        let (head, _) = self.look(model);
        self.batch.push_values(&head)?;
        Ok(&self.batch)
    }

    /// The episodes that ended since the last call.
    pub fn take_finished(&mut self) -> Vec<EpisodeOutcome> {
        std::mem::take(&mut self.finished)
    }

    /// One step of the network for all environments: the head's outputs, and the next state.
    fn look(&self, model: &Model) -> (Vec<f32>, Cells) {
        let keep = self.keep();
        let state = if keep.contains(&0.0) { self.state.clone().keep(&keep, &self.device) } else { self.state.clone() };
        let x: Tensor<2> = rows(self.features(), FEATURE_COUNT, &self.device);
        let next = model.step(x, state);
        (to_vec(model.head_raw(next.h.clone())), next)
    }

    fn act(&mut self, head: &[f32], actor: &Actor) -> Result<(), TrainError> {
        let (x, keep) = (self.features(), self.keep());
        self.batch.x.push(x);
        self.batch.keep.push(keep);
        self.batch.push_values(head)?;
        let (labels, share) = self.labels(actor);
        let masked = self.masked;
        let moments: Vec<Moment> = self
            .slots
            .par_iter_mut()
            .with_min_len(8)
            .enumerate()
            .map(|(i, slot)| slot.step(&head[i * HEAD_OUTPUTS..][..HEAD_OUTPUTS], labels[i], share, masked))
            .collect();
        for moment in moments {
            self.finished.extend(moment.finished);
            self.batch.push(moment)?;
        }
        Ok(())
    }

    /// What the teacher would do in each environment, and how often it is the policy that acts.
    fn labels(&self, actor: &Actor) -> (Vec<Option<usize>>, f64) {
        let Actor::Teacher(teacher, share) = actor else { return (vec![None; self.slots.len()], 0.0) };
        let label = |(i, slot): (usize, &Slot)| {
            let action = teacher(i, &slot.seen).index();
            Some(if slot.seen.mask[action] { action } else { 0 })
        };
        (self.slots.iter().enumerate().map(label).collect(), *share)
    }

    fn features(&self) -> Vec<f32> {
        self.slots.iter().flat_map(|slot| slot.seen.features).collect()
    }

    fn keep(&self) -> Vec<f32> {
        self.slots.iter().map(|slot| if slot.starts { 0.0 } else { 1.0 }).collect()
    }
}

impl Batch {
    fn new(steps: usize, sequence_steps: usize, envs: usize) -> Self {
        let n = steps * envs;
        Self {
            steps,
            sequence_steps,
            envs,
            x: Vec::with_capacity(steps),
            keep: Vec::with_capacity(steps),
            masks: Vec::with_capacity(n),
            actions: Vec::with_capacity(n),
            log_probs: Vec::with_capacity(n),
            values: Vec::with_capacity(n + envs),
            rewards: Vec::with_capacity(n),
            done: Vec::with_capacity(n),
            first: [Vec::new(), Vec::new()],
        }
    }

    fn clear(&mut self) {
        self.x.clear();
        self.keep.clear();
        self.masks.clear();
        self.actions.clear();
        self.log_probs.clear();
        self.values.clear();
        self.rewards.clear();
        self.done.clear();
        self.first.iter_mut().for_each(Vec::clear);
    }

    fn push(&mut self, moment: Moment) -> Result<(), TrainError> {
        if !moment.reward.is_finite() {
            return Err(TrainError::NotFinite { what: "a reward", update: 0 });
        }
        self.masks.push(moment.mask);
        self.actions.push(moment.action);
        self.log_probs.push(moment.log_prob);
        self.rewards.push(moment.reward);
        self.done.push(moment.finished.is_some());
        Ok(())
    }

    fn push_values(&mut self, head: &[f32]) -> Result<(), TrainError> {
        if !head.iter().all(|x| x.is_finite()) {
            return Err(TrainError::NotFinite { what: "an output of the network", update: 0 });
        }
        self.values.extend(head.chunks_exact(HEAD_OUTPUTS).map(|row| row[ACTION_COUNT]));
        Ok(())
    }

    /// Sequences in the batch.
    pub fn sequences(&self) -> usize {
        self.steps / self.sequence_steps * self.envs
    }

    /// One environment's column of a time-major list.
    pub fn column<T: Copy>(&self, list: &[T], env: usize) -> Vec<T> {
        list.iter().skip(env).step_by(self.envs).copied().collect()
    }

    /// The penalty on each action's logit at entry `i`.
    pub fn penalty(&self, i: usize) -> [f32; ACTION_COUNT] {
        self.masks[i].map(|allowed| if allowed { 0.0 } else { -REFUSED })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_action_has_probability_zero_and_is_never_drawn() {
        let mask = [true, false, true, false, false, false, false];
        let p = probabilities(&[0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0], &mask);
        assert_eq!(p, [0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<_> = (0..1000).map(|_| draw(&p, &mut rng)).collect();
        let twos = drawn.iter().filter(|&&a| a == 2).count();
        assert!((400..600).contains(&twos) && drawn.iter().all(|&a| a == 0 || a == 2), "{twos}");
    }
}
