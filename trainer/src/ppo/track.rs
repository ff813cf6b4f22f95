//! What one environment did in one rollout, step by step, cut into sequences to learn from.

use contract::{ACTION_COUNT, Features, Mask};

use super::TrainError;
use super::gae;
use super::model::REFUSED;

/// The steps of one environment, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    /// Steps of one sequence.
    pub sequence_steps: usize,
    /// Inputs, `[steps, FEATURES]`.
    pub x: Vec<f32>,
    /// 0 where an episode starts with the step, or the network has no memory, else 1.
    pub keep: Vec<f32>,
    /// Which actions were allowed.
    pub masks: Vec<Mask>,
    /// The action to learn about: the one taken, or the teacher's.
    pub actions: Vec<usize>,
    /// Logarithm of its probability.
    pub log_probs: Vec<f32>,
    /// What a teacher would have done, where there is one.
    pub advice: Vec<Option<usize>>,
    /// Value predicted before each step, and one more for the state after the last one.
    pub values: Vec<f32>,
    /// Reward of each step as it is learned from, dollars.
    pub rewards: Vec<f64>,
    /// What the state after each step counts: its discount, or 0 if the episode ended with the step.
    pub discounts: Vec<f64>,
    /// State before each sequence, `[sequences, layers · cells]`, h and c.
    pub first: [Vec<f32>; 2],
    /// Advantage of each step, in the scale of learning.
    pub advantages: Vec<f32>,
    /// Discounted rewards to come, in the scale of learning.
    pub returns: Vec<f32>,
}

impl Track {
    /// An empty one.
    pub fn new(sequence_steps: usize) -> Self {
        Self { sequence_steps, ..Self::default() }
    }

    /// Forgets the steps and keeps the memory.
    pub fn clear(&mut self) {
        self.x.clear();
        self.keep.clear();
        self.masks.clear();
        self.actions.clear();
        self.advice.clear();
        self.log_probs.clear();
        self.values.clear();
        self.rewards.clear();
        self.discounts.clear();
        self.first.iter_mut().for_each(Vec::clear);
    }

    /// Adds what was seen and chosen in one step.
    pub fn push(&mut self, x: &Features, starts: bool, mask: Mask, action: usize, log_prob: f32) {
        self.x.extend_from_slice(x);
        self.keep.push(if starts { 0.0 } else { 1.0 });
        self.masks.push(mask);
        self.actions.push(action);
        self.log_probs.push(log_prob);
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.actions.len()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.steps() / self.sequence_steps
    }

    /// The penalty on each action's logit in one step.
    pub fn penalty(&self, step: usize) -> [f32; ACTION_COUNT] {
        self.masks[step].map(|allowed| if allowed { 0.0 } else { -REFUSED })
    }

    /// Whether everything is a number.
    ///
    /// # Errors
    /// Says what is not.
    pub fn check(&self) -> Result<(), TrainError> {
        let not_finite = |what| Err(TrainError::NotFinite { what, update: 0 });
        if !self.rewards.iter().all(|x| x.is_finite()) {
            return not_finite("a reward");
        }
        if !self.values.iter().chain(&self.log_probs).all(|x| x.is_finite()) {
            return not_finite("an output of the network");
        }
        Ok(())
    }

    /// Sets advantages and returns; rewards are multiplied by `scale`.
    pub fn estimate(&mut self, scale: f32, lambda: f64) {
        let rewards: Vec<f64> = self.rewards.iter().map(|r| r * f64::from(scale)).collect();
        let values: Vec<f64> = self.values.iter().map(|&v| f64::from(v)).collect();
        let advantages = gae::advantages(&rewards, &values, &self.discounts, lambda);
        self.returns.clear();
        self.returns.extend(advantages.iter().zip(&values).map(|(a, v)| (a + v) as f32));
        self.advantages.clear();
        self.advantages.extend(advantages.into_iter().map(|a| a as f32));
    }

    /// Discounted rewards to come of each step, dollars, as if nothing came after the last.
    pub fn rewards_to_come(&self) -> Vec<f64> {
        gae::advantages(&self.rewards, &vec![0.0; self.steps() + 1], &self.discounts, 1.0)
    }
}
