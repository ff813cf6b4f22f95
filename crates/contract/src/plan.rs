//! Plans: immutable, complete orders that leave the executor no choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Tag that marks every machine of ours, with value [`TAG_MANAGED_VALUE`].
pub const TAG_MANAGED: &str = "twinscaler:managed";
/// The value of [`TAG_MANAGED`].
pub const TAG_MANAGED_VALUE: &str = "true";
/// Tag with the name of the stack whose machine it is: two stacks may have a pool of the same name.
pub const TAG_STACK: &str = "twinscaler:stack";
/// Tag with the pool's name.
pub const TAG_POOL: &str = "twinscaler:pool";
/// Tag with the tick of the decision that launched the machine.
pub const TAG_DECISION: &str = "twinscaler:decision";
/// Tag with the index of the machine's size in the pool's list.
pub const TAG_SIZE: &str = "twinscaler:size";

/// What one claimed decision does to EC2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Plan {
    /// Launch machines.
    Launch(LaunchPlan),
    /// Terminate exactly these machines.
    Terminate {
        /// EC2's ids.
        instance_ids: Vec<String>,
        /// Index of their size.
        size: usize,
        /// Until when they may work off their tasks, milliseconds since the epoch; none interrupts the tasks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain_until_ms: Option<u64>,
    },
}

/// A launch with nothing left to choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Index of the size in the pool's list.
    pub size: usize,
    /// The launch template's name.
    pub launch_template: String,
    /// The instance type, if it is not the launch template's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// The subnet, if the pool names any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// How many machines.
    pub count: u32,
    /// Ownership tags, set at creation.
    pub tags: BTreeMap<String, String>,
    /// Hash of the stack's name and the decision's id, so that EC2 never launches twice for one decision.
    pub client_token: String,
}
