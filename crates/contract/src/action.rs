//! The action table: nothing, and launch or stop one machine of each size.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Machine sizes the action table knows: small, medium, large.
pub const SIZE_COUNT: usize = 3;
/// Nothing, and a launch and a stop for each size.
pub const ACTION_COUNT: usize = 1 + 2 * SIZE_COUNT;

/// Which actions are allowed now, by action number. Action 0 is always allowed.
pub type Mask = [bool; ACTION_COUNT];

/// One decision about the fleet, numbered as in the network's output: 0 nothing, `1+2i` launch one of size `i`,
/// `2+2i` stop one of size `i`. The simulator uses the same numbers for any count of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u16", from = "u16")]
pub enum Action {
    /// Leave the fleet as it is.
    #[default]
    Nothing,
    /// Launch one machine of the size with this index.
    Launch(u16),
    /// Stop one machine of the size with this index.
    Stop(u16),
}

/// The policy's actions with the names that people read, in the order of the network's outputs.
pub const ACTIONS: [(Action, &str); ACTION_COUNT] = [
    (Action::Nothing, "nothing"),
    (Action::Launch(0), "launch S"),
    (Action::Stop(0), "stop S"),
    (Action::Launch(1), "launch M"),
    (Action::Stop(1), "stop M"),
    (Action::Launch(2), "launch L"),
    (Action::Stop(2), "stop L"),
];

impl Action {
    /// The action's number: the index of the network's output.
    pub fn index(self) -> usize {
        match self {
            Action::Nothing => 0,
            Action::Launch(i) => 1 + 2 * usize::from(i),
            Action::Stop(i) => 2 + 2 * usize::from(i),
        }
    }

    /// The index of the size that the action launches or stops.
    pub fn size(self) -> Option<usize> {
        match self {
            Action::Nothing => None,
            Action::Launch(i) | Action::Stop(i) => Some(usize::from(i)),
        }
    }
}

impl From<u16> for Action {
    fn from(number: u16) -> Self {
        match number {
            0 => Action::Nothing,
            n if n % 2 == 1 => Action::Launch(n / 2),
            n => Action::Stop(n / 2 - 1),
        }
    }
}

impl From<Action> for u16 {
    fn from(action: Action) -> Self {
        match action {
            Action::Nothing => 0,
            Action::Launch(i) => 1 + 2 * i,
            Action::Stop(i) => 2 + 2 * i,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ACTIONS.get(self.index()) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "action {}", self.index()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (i, (action, _)) in ACTIONS.iter().enumerate() {
            assert_eq!(action.index(), i);
            assert_eq!(Action::from(i as u16), *action);
            assert_eq!(u16::from(*action) as usize, i);
        }
    }

    #[test]
    fn an_action_is_a_number_in_json() {
        assert_eq!(serde_json::to_string(&Action::Stop(2)).unwrap(), "6");
        assert_eq!(serde_json::from_str::<Action>("5").unwrap(), Action::Launch(2));
    }
}
