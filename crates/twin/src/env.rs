//! The environment that a policy learns in: reset, step, and what a step returns.

use contract::{Action, Features, Mask};

/// What the agent sees after a reset or a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The network's input, from `contract::observation::encode`.
    pub features: Features,
    /// The actions that the guard allows now.
    pub mask: Mask,
}

/// What one step gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the agent sees next; after `done`, the last state of the episode.
    pub seen: Seen,
    /// Minus the dollars of this step.
    pub reward: f64,
    /// Whether the episode is over.
    pub done: bool,
}

/// An episodic environment with the contract's observation and actions. Deterministic: the same seed and the same
/// actions give the same episode.
pub trait Environment: Send {
    /// Starts an episode whose random draws (boots, order of batches, perturbations) come from `seed`.
    fn reset(&mut self, seed: u64) -> Seen;
    /// Carries `action` out (a refused one does nothing) and lets one tick pass.
    fn step(&mut self, action: Action) -> Step;
}
