//! The reward, once for twin, trainer and the explanation of decisions.

/// The reward of one step: minus the dollars that machines and waiting cost in it (twin rule C3).
pub fn reward(vm_usd: f64, queue_usd: f64) -> f64 {
    -(vm_usd + queue_usd)
}

/// The canonical text of the reward, part of the schema hash.
pub const REWARD: &str = "reward = -(vm_usd + queue_usd) of the step";
