//! One update: minibatches of whole sequences, the gradient, its clipping, Adam.

use burn::tensor::{Device, Tensor};
use contract::ACTION_COUNT;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::TrainError;
use super::loss::{self, Coefficients, Loss, Targets};
use super::lstm::Tape;
#[cfg(feature = "gpu")]
use super::lstm_gpu::{self, Unrolled};
use super::model::{Head, Model, rows, to_vec};
use super::runner::is_cpu;
use super::state::State;
use super::track::Track;
use super::weights::Weights;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// PPO's clipped surrogate.
    Ppo,
    /// The cross entropy to a teacher's actions.
    Cloning,
}

/// The parts of the loss, as numbers, means over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// What is minimised.
    pub total: f32,
    /// The policy's part.
    pub policy: f32,
    /// Half the squared error of the value.
    pub value: f32,
    /// Entropy, nats.
    pub entropy: f32,
    /// How far the policy has moved from the one that acted.
    pub kl: f32,
    /// Share of the steps whose probability ratio is beyond the clip range.
    pub clipped: f32,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
}

/// Adam (Kingma and Ba 2014, algorithm 1) over the row of weights.
pub struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    updates: i32,
}

impl Adam {
    const BETA_1: f32 = 0.9;
    const BETA_2: f32 = 0.999;
    const EPSILON: f32 = 1e-5;

    /// Moves the weights against the gradient.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f64) {
        self.updates += 1;
        let correct = |beta: f32| 1.0 - f64::from(beta).powi(self.updates);
        let rate = (learning_rate * correct(Self::BETA_2).sqrt() / correct(Self::BETA_1)) as f32;
        let epsilon = Self::EPSILON * correct(Self::BETA_2).sqrt() as f32;
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            *m = Self::BETA_1 * *m + (1.0 - Self::BETA_1) * g;
            *v = Self::BETA_2 * *v + (1.0 - Self::BETA_2) * g * g;
            *w -= rate * *m / (v.sqrt() + epsilon);
        }
    }
}

/// Scales the gradient down to a norm of at most `largest`; returns the norm that it had.
pub fn clip_norm(gradient: &mut [f32], largest: f32) -> f32 {
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt() as f32;
    if norm > largest {
        let factor = largest / norm;
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
    norm
}

/// Steps that a thread gathers at least: several threads are worth it for the larger minibatches that a GPU wants.
const GATHERED_MIN: usize = 2048;

/// Some whole sequences, with what they are to learn. Time-major: row `t · sequences + k` is step t of the k-th.
#[derive(Clone, Debug, Default)]
pub struct Minibatch {
    /// Inputs, `[n, FEATURES]`.
    pub x: Vec<f32>,
    /// 0 where an episode starts, `[n]`.
    pub keep: Vec<f32>,
    /// State before the first step, `[sequences, layers · cells]`, h and c.
    pub first: [Vec<f32>; 2],
    /// One at the action, `[n, ACTIONS]`.
    pub action: Vec<f32>,
    /// One at the teacher's action, `[n, ACTIONS]`.
    pub advice: Vec<f32>,
    /// Penalty on the logits, `[n, ACTIONS]`.
    pub penalty: Vec<f32>,
    /// Logarithm of the action's probability when it was taken.
    pub old_log_prob: Vec<f32>,
    /// Advantages.
    pub advantage: Vec<f32>,
    /// Discounted rewards to come.
    pub value: Vec<f32>,
}

/// A sequence: its track, and which of the track's sequences it is.
pub type Sequence = (usize, usize);

impl Minibatch {
    /// These sequences of a rollout.
    pub fn pick(tracks: &[&mut Track], sequences: &[Sequence]) -> Self {
        let steps = tracks.first().map_or(0, |track| track.sequence_steps);
        let at_once = GATHERED_MIN.div_ceil(sequences.len().max(1)).min(steps.max(1));
        let of_steps = |part: usize| {
            let mut picked = Self::default();
            for t in part * at_once..steps.min((part + 1) * at_once) {
                sequences.iter().for_each(|&(track, k)| picked.push(tracks[track], k * steps + t));
            }
            picked
        };
        let parts: Vec<Self> = (0..steps.div_ceil(at_once)).into_par_iter().map(of_steps).collect();
        let mut picked = parts.into_iter().reduce(Self::followed_by).unwrap_or_default();
        for &(track, k) in sequences {
            for (to, from) in picked.first.iter_mut().zip(&tracks[track].first) {
                to.extend_from_slice(row_of(from, k, tracks[track].sequences()));
            }
        }
        picked
    }

    fn followed_by(mut self, next: Self) -> Self {
        self.x.extend(next.x);
        self.keep.extend(next.keep);
        self.action.extend(next.action);
        self.advice.extend(next.advice);
        self.penalty.extend(next.penalty);
        self.old_log_prob.extend(next.old_log_prob);
        self.advantage.extend(next.advantage);
        self.value.extend(next.value);
        self
    }

    fn push(&mut self, track: &Track, step: usize) {
        self.x.extend_from_slice(row_of(&track.x, step, track.steps()));
        self.keep.push(track.keep[step]);
        self.action.extend((0..ACTION_COUNT).map(|a| f32::from(a == track.actions[step])));
        self.advice.extend((0..ACTION_COUNT).map(|a| f32::from(Some(a) == track.advice[step])));
        self.penalty.extend(track.penalty(step));
        self.old_log_prob.push(track.log_probs[step]);
        self.advantage.push(track.advantages[step]);
        self.value.push(track.returns[step]);
    }

    /// Number of sequences, given the numbers of one's state.
    pub fn sequences(&self, state_width: usize) -> usize {
        self.first[0].len() / state_width
    }

    fn targets(&self, device: &Device) -> Targets {
        Targets {
            action: rows(self.action.clone(), ACTION_COUNT, device),
            advice: rows(self.advice.clone(), ACTION_COUNT, device),
            penalty: rows(self.penalty.clone(), ACTION_COUNT, device),
            old_log_prob: rows(self.old_log_prob.clone(), 1, device),
            advantage: rows(self.advantage.clone(), 1, device),
            value: rows(self.value.clone(), 1, device),
        }
    }
}

/// One row of a matrix with this many rows.
fn row_of(list: &[f32], row: usize, rows: usize) -> &[f32] {
    let width = list.len() / rows;
    &list[row * width..(row + 1) * width]
}

/// The loss of a minibatch and its gradient with respect to all weights. The LSTM is our own operation, and burn takes over at
/// the hidden states; for several LSTMs on top of each other, or what the kernels of a GPU cannot run, burn does all.
pub fn loss_and_gradient(
    weights: &Weights,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
    tape: &mut Tape,
) -> (Losses, Vec<f32>) {
    #[cfg(feature = "gpu")]
    if !is_cpu(device) && lstm_gpu::fits(weights, minibatch, device) {
        return on_gpu(weights, minibatch, objective, by, device);
    }
    if weights.layers > 1 || !is_cpu(device) {
        return composed(weights, minibatch, objective, by, device);
    }
    let hidden = tape.forward(weights, &minibatch.x, &minibatch.keep, &minibatch.first);
    let hidden = rows(hidden.to_vec(), weights.cells, device);
    let above = above(weights, hidden, minibatch, objective, by, device);
    let mut gradient = above.gradient;
    tape.backward(weights, &minibatch.x, &minibatch.keep, &to_vec(above.of_hidden), &mut gradient);
    (above.losses, gradient)
}

#[cfg(feature = "gpu")]
fn on_gpu(
    weights: &Weights,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
) -> (Losses, Vec<f32>) {
    let unrolled = Unrolled::forward(weights, minibatch, device);
    let mut above = above(weights, unrolled.hidden(), minibatch, objective, by, device);
    let of_lstm = unrolled.backward(&above.of_hidden);
    above.gradient[..of_lstm.len()].copy_from_slice(&of_lstm);
    (above.losses, above.gradient)
}

/// What comes above the LSTM: the losses, and their gradient with respect to the hidden states and to the head's weights (zeros
/// for the LSTM's).
struct Above {
    losses: Losses,
    of_hidden: Tensor<2>,
    gradient: Vec<f32>,
}

fn above(
    weights: &Weights,
    hidden: Tensor<2>,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
) -> Above {
    let head = Head::inference(weights, device).learning();
    let hidden = hidden.autodiff().require_grad();
    let loss = loss_of(&head, hidden.clone(), minibatch, objective, by, device);
    let gradients = loss.total.backward();
    let of_hidden = hidden.grad(&gradients).expect("the loss depends on the hidden states");
    let of_head = head.gradient(&gradients);
    let mut gradient = vec![0.0; weights.values.len() - of_head.len()];
    gradient.extend(of_head);
    Above { losses: numbers(loss), of_hidden, gradient }
}

/// The same from burn's operations alone: for stacked LSTMs and for what the kernels of a GPU cannot run; our own operation is tested
/// against it.
pub fn composed(
    weights: &Weights,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
) -> (Losses, Vec<f32>) {
    let model = Model::learning(weights, device);
    let loss = loss_of(model.head(), model.unroll(minibatch, device), minibatch, objective, by, device);
    let gradients = loss.total.backward();
    (numbers(loss), model.gradient(&gradients))
}

fn loss_of(
    head: &Head,
    hidden: Tensor<2>,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
) -> Loss {
    let (logits, value) = head.outputs(hidden);
    let targets = minibatch.targets(device);
    match objective {
        Objective::Ppo => loss::ppo(logits, value, &targets, by),
        Objective::Cloning => loss::cloning(logits, value, &targets, by),
    }
}

fn numbers(loss: Loss) -> Losses {
    let number = |tensor| to_vec::<1>(tensor)[0];
    Losses {
        total: number(loss.total),
        policy: number(loss.policy),
        value: number(loss.value),
        entropy: number(loss.entropy),
        kl: number(loss.kl),
        clipped: number(loss.clipped),
        grad_norm: 0.0,
    }
}

/// How a rollout is learned from.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// What is minimised.
    pub objective: Objective,
    /// Weights of the loss's terms.
    pub by: Coefficients,
    /// Passes over the data.
    pub epochs: usize,
    /// Sequences in one minibatch.
    pub minibatch_sequences: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Largest norm of the gradient.
    pub grad_norm_max: f32,
}

/// The weights with what the optimiser remembers of them.
pub struct Learner {
    /// The weights.
    pub weights: Weights,
    adam: Adam,
    updates: u64,
    rng: ChaCha8Rng,
    device: Device,
    tapes: [Tape; SHARDS],
}

/// Parts of a minibatch that are computed side by side on the CPU. A fixed number, so that no result depends on the number
/// of threads.
const SHARDS: usize = 2;

impl Learner {
    /// Starts from this state; the order of the minibatches comes from `rng`.
    pub fn new(state: State, rng: ChaCha8Rng, device: &Device) -> Self {
        let adam = Adam { mean: state.mean, square: state.square, updates: state.updates };
        Self { adam, weights: state.last, updates: 0, rng, device: device.clone(), tapes: Default::default() }
    }

    /// What the optimiser remembers: means of the gradient and of its square, and the number of updates.
    pub fn memory(&self) -> (&[f32], &[f32], i32) {
        (&self.adam.mean, &self.adam.square, self.adam.updates)
    }

    /// Learns from one rollout; returns the mean losses of the last epoch.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the weights are then those before that update.
    pub fn learn(&mut self, tracks: &[&mut Track], how: &Schedule) -> Result<Losses, TrainError> {
        let of_track = |(i, track): (usize, &&mut Track)| (0..track.sequences()).map(move |k| (i, k));
        let mut order: Vec<Sequence> = tracks.iter().enumerate().flat_map(of_track).collect();
        let mut last = Vec::new();
        for _ in 0..how.epochs {
            order.shuffle(&mut self.rng);
            last.clear();
            for sequences in order.chunks(how.minibatch_sequences) {
                last.push(self.update(tracks, sequences, how)?);
            }
        }
        Ok(mean(&last))
    }

    fn update(&mut self, tracks: &[&mut Track], of: &[Sequence], how: &Schedule) -> Result<Losses, TrainError> {
        let (mut losses, mut gradient) = self.sharded(tracks, of, how);
        losses.grad_norm = clip_norm(&mut gradient, how.grad_norm_max);
        self.updates += 1;
        for (what, number) in [("the loss", losses.total), ("the gradient", losses.grad_norm)] {
            if !number.is_finite() {
                return Err(TrainError::NotFinite { what, update: self.updates });
            }
        }
        self.adam.step(&mut self.weights.values, &gradient, how.learning_rate);
        Ok(losses)
    }

    /// The loss and the gradient of some sequences, computed in parts: both are means over the steps, so those of the whole
    /// are the weighted means of the parts'.
    fn sharded(&mut self, tracks: &[&mut Track], of: &[Sequence], how: &Schedule) -> (Losses, Vec<f32>) {
        let shards = if is_cpu(&self.device) { SHARDS.min(of.len()) } else { 1 };
        let (weights, device) = (&self.weights, &self.device);
        let parts = of.chunks(of.len().div_ceil(shards)).zip(&mut self.tapes).collect::<Vec<_>>();
        let part = |(sequences, tape): (&[Sequence], &mut Tape)| {
            let minibatch = Minibatch::pick(tracks, sequences);
            let share = sequences.len() as f32 / of.len() as f32;
            (share, loss_and_gradient(weights, &minibatch, how.objective, how.by, device, tape))
        };
        let parts: Vec<_> = parts.into_par_iter().map(part).collect();
        let mut gradient = vec![0.0; weights.values.len()];
        for (share, (_, of_part)) in &parts {
            gradient.iter_mut().zip(of_part).for_each(|(sum, g)| *sum += share * g);
        }
        (weighted(parts.iter().map(|(share, (losses, _))| (*share, losses))), gradient)
    }
}

fn weighted<'a>(parts: impl Iterator<Item = (f32, &'a Losses)>) -> Losses {
    parts.fold(Losses::default(), |sum, (share, part)| Losses {
        total: sum.total + share * part.total,
        policy: sum.policy + share * part.policy,
        value: sum.value + share * part.value,
        entropy: sum.entropy + share * part.entropy,
        kl: sum.kl + share * part.kl,
        clipped: sum.clipped + share * part.clipped,
        grad_norm: sum.grad_norm + share * part.grad_norm,
    })
}

fn mean(losses: &[Losses]) -> Losses {
    let mean = |of: fn(&Losses) -> f32| losses.iter().map(of).sum::<f32>() / losses.len().max(1) as f32;
    Losses {
        total: mean(|l| l.total),
        policy: mean(|l| l.policy),
        value: mean(|l| l.value),
        entropy: mean(|l| l.entropy),
        kl: mean(|l| l.kl),
        clipped: mean(|l| l.clipped),
        grad_norm: mean(|l| l.grad_norm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(n: usize) -> Adam {
        Adam { mean: vec![0.0; n], square: vec![0.0; n], updates: 0 }
    }

    #[test]
    fn the_first_step_of_adam_has_the_size_of_the_learning_rate() {
        let mut weights = [1.0, 1.0];
        fresh(2).step(&mut weights, &[0.5, -20.0], 0.1);
        assert!((weights[0] - 0.9).abs() < 1e-4 && (weights[1] - 1.1).abs() < 1e-4, "{weights:?}");
    }

    #[test]
    fn the_second_step_of_adam_by_hand() {
        // g = 1 then 0, rate 0.1: m = 0.09, v = 0.000999; m̂ = 0.09/0.19, v̂ = 0.000999/0.001999
        let (mut weights, mut adam) = ([0.0], fresh(1));
        adam.step(&mut weights, &[1.0], 0.1);
        adam.step(&mut weights, &[0.0], 0.1);
        let second = 0.1 * (0.09 / 0.19) / (0.000_999f32 / 0.001_999).sqrt();
        assert!((weights[0] + 0.1 + second).abs() < 1e-4, "{weights:?}");
    }

    #[test]
    fn a_long_gradient_is_shortened_and_a_short_one_left() {
        let mut long = [3.0, 4.0];
        assert_eq!(clip_norm(&mut long, 1.0), 5.0);
        assert!((long[0] - 0.6).abs() < 1e-6 && (long[1] - 0.8).abs() < 1e-6);
        let mut short = [0.3, 0.4];
        clip_norm(&mut short, 1.0);
        assert_eq!(short, [0.3, 0.4]);
    }

    #[test]
    fn a_minibatch_that_several_threads_gather_is_in_order_of_time() {
        const STEPS: usize = 600;
        let track = |number: usize| {
            let mut track = Track::new(STEPS);
            for step in 0..2 * STEPS {
                track.push(&[number as f32; contract::FEATURE_COUNT], step == 0, [true; ACTION_COUNT], 0, step as f32);
            }
            let n = track.steps();
            Track {
                advice: vec![None; n],
                advantages: vec![0.0; n],
                returns: vec![0.0; n],
                first: [vec![0.0; 6], vec![1.0; 6]],
                ..track
            }
        };
        let mut tracks = [0, 1, 2, 3].map(track);
        // the second sequence of each; several times as many steps as one thread gathers
        let sequences = [(0, 1), (3, 1), (1, 1), (2, 1), (0, 1), (2, 1)];
        assert!(STEPS * sequences.len() > GATHERED_MIN);
        let picked = Minibatch::pick(&tracks.each_mut(), &sequences);
        let times: Vec<f32> = (STEPS..2 * STEPS).flat_map(|step| [step as f32; 6]).collect();
        assert_eq!(picked.old_log_prob, times);
        let owners: Vec<f32> = picked.x.chunks_exact(contract::FEATURE_COUNT).map(|x| x[0]).collect();
        assert!(owners.chunks_exact(6).all(|row| row == [0.0, 3.0, 1.0, 2.0, 0.0, 2.0]));
        assert_eq!(picked.first.map(|state| state.len()), [18, 18]);
        assert_eq!(picked.action.len(), ACTION_COUNT * times.len());
    }
}
