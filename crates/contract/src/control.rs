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

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Mode::Off, Mode::Observe, Mode::Active, Mode::Drain];

    /// Whether the executor may carry an action out in this mode.
    pub fn carries_out(self, action: Action) -> bool {
        match self {
            Mode::Active => true,
            Mode::Drain => !matches!(action, Action::Launch(..)),
            Mode::Off | Mode::Observe => false,
        }
    }

    /// Its name, as a configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Observe => "observe",
            Mode::Active => "active",
            Mode::Drain => "drain",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_carries_out_what_it_says() {
        let of = |mode: Mode| [Action::Launch(0, 1), Action::Stop(0, 1)].map(|action| mode.carries_out(action));
        assert_eq!([Mode::Off, Mode::Observe].map(of), [[false; 2]; 2]);
        assert_eq!((of(Mode::Drain), of(Mode::Active)), ([false, true], [true, true]));
    }

    #[test]
    fn a_mode_is_called_as_it_is_written() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
    }
}
