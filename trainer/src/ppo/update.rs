//! One update: minibatches of whole sequences, the gradient, its clipping, Adam.

use burn::tensor::Device;
use contract::ACTION_COUNT;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::TrainError;
use super::loss::{self, Coefficients, Loss, Targets};
use super::model::{Cells, Model, rows, to_vec};
use super::rollout::Batch;
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

    /// For this many weights.
    pub fn new(weights: usize) -> Self {
        Self { mean: vec![0.0; weights], square: vec![0.0; weights], updates: 0 }
    }

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

/// Some whole sequences of a batch, with what they are to learn. Time-major like the batch.
pub struct Minibatch {
    /// Inputs of each step.
    pub x: Vec<Vec<f32>>,
    /// For each step 0 where an episode starts.
    pub keep: Vec<Vec<f32>>,
    /// State before the first step, h and c.
    pub first: [Vec<f32>; 2],
    /// One at the action, `[n, ACTIONS]`.
    pub action: Vec<f32>,
    /// Penalty on the logits, `[n, ACTIONS]`.
    pub penalty: Vec<f32>,
    /// Logarithm of the action's probability when it was taken.
    pub old_log_prob: Vec<f32>,
    /// Advantages.
    pub advantage: Vec<f32>,
    /// Discounted rewards to come.
    pub value: Vec<f32>,
}

impl Minibatch {
    /// These sequences of a batch.
    pub fn pick(batch: &Batch, advantages: &[f32], returns: &[f32], sequences: &[usize]) -> Self {
        // where step t of a sequence lies in the batch: its step, its environment
        let at = |t: usize, sequence: &usize| (sequence / batch.envs * batch.sequence_steps + t, sequence % batch.envs);
        let steps = 0..batch.sequence_steps;
        let places: Vec<_> = steps.clone().map(|t| sequences.iter().map(|s| at(t, s)).collect::<Vec<_>>()).collect();
        let entries: Vec<usize> = places.iter().flatten().map(|(t, env)| t * batch.envs + env).collect();
        let of = |list: &[f32]| entries.iter().map(|&i| list[i]).collect::<Vec<f32>>();
        let one_hot = |i: &usize| std::array::from_fn::<f32, ACTION_COUNT, _>(|a| f32::from(a == batch.actions[*i]));
        let row = |list: &[Vec<f32>], t: usize, env: usize| row_of(&list[t], env, batch.envs).to_vec();
        let gather = |list: &[Vec<f32>]| -> Vec<Vec<f32>> {
            places.iter().map(|at| at.iter().flat_map(|&(t, env)| row(list, t, env)).collect()).collect()
        };
        let state = |list: &[f32]| -> Vec<f32> {
            sequences.iter().flat_map(|&s| row_of(list, s, batch.sequences())).copied().collect()
        };
        Self {
            x: gather(&batch.x),
            keep: gather(&batch.keep),
            first: [state(&batch.first[0]), state(&batch.first[1])],
            action: entries.iter().flat_map(one_hot).collect(),
            penalty: entries.iter().flat_map(|&i| batch.penalty(i)).collect(),
            old_log_prob: of(&batch.log_probs),
            advantage: of(advantages),
            value: of(returns),
        }
    }

    fn targets(&self, device: &Device) -> Targets {
        Targets {
            action: rows(self.action.clone(), ACTION_COUNT, device),
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

/// The loss of a minibatch and its gradient with respect to all weights.
pub fn loss_and_gradient(
    weights: &Weights,
    minibatch: &Minibatch,
    objective: Objective,
    by: Coefficients,
    device: &Device,
) -> (Losses, Vec<f32>) {
    let model = Model::learning(weights, device);
    let [h, c] = minibatch.first.clone().map(|state| rows(state, weights.cells, device));
    let hidden = model.unroll(&minibatch.x, &minibatch.keep, Cells { h, c }, device);
    let (logits, value) = model.head(hidden);
    let targets = minibatch.targets(device);
    let loss = match objective {
        Objective::Ppo => loss::ppo(logits, value, &targets, by),
        Objective::Cloning => loss::cloning(logits, value, &targets, by),
    };
    let gradients = loss.total.backward();
    (numbers(loss), model.gradient(&gradients))
}

fn numbers(loss: Loss) -> Losses {
    let number = |tensor| to_vec::<1>(tensor)[0];
    Losses {
        total: number(loss.total),
        policy: number(loss.policy),
        value: number(loss.value),
        entropy: number(loss.entropy),
        kl: number(loss.kl),
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
}

impl Learner {
    /// Starts from these weights; the order of the minibatches comes from `rng`.
    pub fn new(weights: Weights, rng: ChaCha8Rng, device: &Device) -> Self {
        Self { adam: Adam::new(weights.values.len()), weights, updates: 0, rng, device: device.clone() }
    }

    /// Learns from one rollout; returns the mean losses of the last epoch.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the weights are then those before that update.
    pub fn learn(
        &mut self,
        batch: &Batch,
        advantages: &[f32],
        returns: &[f32],
        how: &Schedule,
    ) -> Result<Losses, TrainError> {
        let mut order: Vec<usize> = (0..batch.sequences()).collect();
        let mut last = Vec::new();
        for _ in 0..how.epochs {
            order.shuffle(&mut self.rng);
            last.clear();
            for sequences in order.chunks(how.minibatch_sequences) {
                let minibatch = Minibatch::pick(batch, advantages, returns, sequences);
                last.push(self.update(&minibatch, how)?);
            }
        }
        Ok(mean(&last))
    }

    fn update(&mut self, minibatch: &Minibatch, how: &Schedule) -> Result<Losses, TrainError> {
        let (mut losses, mut gradient) =
            loss_and_gradient(&self.weights, minibatch, how.objective, how.by, &self.device);
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
}

fn mean(losses: &[Losses]) -> Losses {
    let mean = |of: fn(&Losses) -> f32| losses.iter().map(of).sum::<f32>() / losses.len().max(1) as f32;
    Losses {
        total: mean(|l| l.total),
        policy: mean(|l| l.policy),
        value: mean(|l| l.value),
        entropy: mean(|l| l.entropy),
        kl: mean(|l| l.kl),
        grad_norm: mean(|l| l.grad_norm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_of_adam_has_the_size_of_the_learning_rate() {
        let mut weights = [1.0, 1.0];
        Adam::new(2).step(&mut weights, &[0.5, -20.0], 0.1);
        assert!((weights[0] - 0.9).abs() < 1e-4 && (weights[1] - 1.1).abs() < 1e-4, "{weights:?}");
    }

    #[test]
    fn the_second_step_of_adam_by_hand() {
        // g = 1 then 0, rate 0.1: m = 0.09, v = 0.000999; m̂ = 0.09/0.19, v̂ = 0.000999/0.001999
        let (mut weights, mut adam) = ([0.0], Adam::new(1));
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
}
