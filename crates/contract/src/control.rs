//! The fleet's head: generation and cooldown, the kill switch, and the modes of a pool.

use serde::{Deserialize, Serialize};

use crate::action::Action;

/// What a pool's control loop may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No decisions at all.
    Off,
    /// Decide and record, never act.
    Observe,
    /// Decide and act.
    #[default]
    Active,
    /// Act, but only to stop machines.
    Drain,
}

/// The head of a pool: what one claim moves on, in one transaction. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Grows by one with every claim, and never shrinks.
    pub generation: u64,
    /// No claim before this time: the cooldown record.
    pub next_allowed_ms: u64,
    /// The action of the last claim.
    pub last_action: Action,
    /// When the last claim was made, by its tick.
    pub last_action_ms: u64,
}

/// The kill switch of the whole stack: one item that no pool owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// True: no new claim, anywhere.
    pub engaged: bool,
}

/// The lease of a pool's improvement job: whoever holds it works alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub owner: String,
    /// Until when, milliseconds since the epoch; a holder that died gives it back by letting it run out.
    pub until_ms: u64,
}
