//! The action table: nothing, and launch or stop one, two or four machines of each size.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Machine sizes the action table knows: small, medium, large.
pub const SIZE_COUNT: usize = 3;
/// How many machines one action may launch or stop. A pool says up to which of them it goes.
pub const STEPS: [u16; 3] = [1, 2, 4];
/// Nothing, and a launch and a stop for each size and step.
pub const ACTION_COUNT: usize = 1 + 2 * SIZE_COUNT * STEPS.len();

/// Which actions are allowed now, in the order of [`ACTIONS`]. Action 0 is always allowed.
pub type Mask = [bool; ACTION_COUNT];

/// One decision about the fleet: the index of a size, and how many machines of it.
///
/// Its number in records and scenarios: 0 nothing, `1+2i` launch one of size `i`, `2+2i` stop one of size `i`, and 1000
/// more for each further machine. The simulator uses the same numbers for any count of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u16", from = "u16")]
pub enum Action {
    /// Leave the fleet as it is.
    #[default]
    Nothing,
    /// Launch so many machines of the size with this index.
    Launch(u16, u16),
    /// Stop so many machines of the size with this index.
    Stop(u16, u16),
}

/// The policy's actions with the names that people read, in the order of the network's outputs.
pub const ACTIONS: [(Action, &str); ACTION_COUNT] = [
    (Action::Nothing, "nothing"),
    (Action::Launch(0, 1), "launch S"),
    (Action::Stop(0, 1), "stop S"),
    (Action::Launch(1, 1), "launch M"),
    (Action::Stop(1, 1), "stop M"),
    (Action::Launch(2, 1), "launch L"),
    (Action::Stop(2, 1), "stop L"),
    (Action::Launch(0, 2), "launch 2 S"),
    (Action::Stop(0, 2), "stop 2 S"),
    (Action::Launch(1, 2), "launch 2 M"),
    (Action::Stop(1, 2), "stop 2 M"),
    (Action::Launch(2, 2), "launch 2 L"),
    (Action::Stop(2, 2), "stop 2 L"),
    (Action::Launch(0, 4), "launch 4 S"),
    (Action::Stop(0, 4), "stop 4 S"),
    (Action::Launch(1, 4), "launch 4 M"),
    (Action::Stop(1, 4), "stop 4 M"),
    (Action::Launch(2, 4), "launch 4 L"),
    (Action::Stop(2, 4), "stop 4 L"),
];

/// What one further machine adds to an action's number.
const FURTHER: u16 = 1000;

impl Action {
    /// The index of the network's output, if the action is in the table.
    pub fn index(self) -> Option<usize> {
        ACTIONS.iter().position(|(action, _)| *action == self)
    }

    /// The action of one output of the network.
    ///
    /// # Panics
    /// If there is no such output: a bug of the caller.
    pub fn at(index: usize) -> Self {
        ACTIONS[index].0
    }

    /// Whether the mask allows it; an action outside the table is not allowed.
    pub fn is_allowed(self, mask: &Mask) -> bool {
        self.index().is_some_and(|i| mask[i])
    }

    /// The index of the size that the action launches or stops.
    pub fn size(self) -> Option<usize> {
        match self {
            Action::Nothing => None,
            Action::Launch(i, _) | Action::Stop(i, _) => Some(usize::from(i)),
        }
    }

    /// How many machines it launches or stops.
    pub fn machines(self) -> u32 {
        match self {
            Action::Nothing => 0,
            Action::Launch(_, n) | Action::Stop(_, n) => u32::from(n),
        }
    }
}

/// The actions that move at most so many machines: a front part of the table.
pub fn actions_up_to(machines: u16) -> &'static [(Action, &'static str)] {
    let steps = STEPS.iter().filter(|step| **step <= machines).count();
    &ACTIONS[..1 + 2 * SIZE_COUNT * steps]
}

impl From<u16> for Action {
    fn from(number: u16) -> Self {
        let machines = number / FURTHER + 1;
        match number % FURTHER {
            0 => Action::Nothing,
            n if n % 2 == 1 => Action::Launch(n / 2, machines),
            n => Action::Stop(n / 2 - 1, machines),
        }
    }
}

impl From<Action> for u16 {
    fn from(action: Action) -> Self {
        let number = |first: u16, size: u16, n: u16| first + 2 * size + FURTHER * n.saturating_sub(1);
        match action {
            Action::Nothing => 0,
            Action::Launch(i, n) => number(1, i, n),
            Action::Stop(i, n) => number(2, i, n),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some(i) => f.write_str(ACTIONS[i].1),
            None => write!(f, "action {}", u16::from(*self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_holds_every_size_and_step_once_smaller_steps_first() {
        let mut expected = vec![Action::Nothing];
        for step in STEPS {
            for size in 0..SIZE_COUNT as u16 {
                expected.extend([Action::Launch(size, step), Action::Stop(size, step)]);
            }
        }
        assert_eq!(ACTIONS.map(|(action, _)| action).to_vec(), expected);
        for (i, (action, name)) in ACTIONS.iter().enumerate() {
            assert_eq!((action.index(), Action::at(i), action.to_string().as_str()), (Some(i), *action, *name));
        }
    }

    #[test]
    fn an_action_is_a_number_in_json() {
        assert_eq!(serde_json::to_string(&Action::Stop(2, 1)).unwrap(), "6");
        assert_eq!(serde_json::from_str::<Action>("5").unwrap(), Action::Launch(2, 1));
        assert_eq!(serde_json::to_string(&Action::Launch(1, 4)).unwrap(), "3003");
        assert_eq!(serde_json::from_str::<Action>("1006").unwrap(), Action::Stop(2, 2));
    }

    #[test]
    fn the_front_of_the_table_has_the_steps_that_a_pool_goes_up_to() {
        let largest = |n| actions_up_to(n).iter().map(|(a, _)| a.machines()).max();
        assert_eq!([0, 1, 2, 3, 4, 9].map(largest), [0, 1, 2, 2, 4, 4].map(Some));
        assert_eq!(actions_up_to(1).len(), 7, "the published system's");
    }

    #[test]
    fn an_action_outside_the_table_is_never_allowed() {
        assert!(!Action::Launch(0, 3).is_allowed(&[true; ACTION_COUNT]));
        assert!(!Action::Stop(3, 1).is_allowed(&[true; ACTION_COUNT]));
        let only_nothing = std::array::from_fn(|i| i == 0);
        assert!(Action::Nothing.is_allowed(&only_nothing) && !Action::Launch(0, 1).is_allowed(&only_nothing));
    }

    proptest! {
        #[test]
        fn the_number_says_it_all(size in 0u16..499, machines in 1u16..64) {
            for action in [Action::Launch(size, machines), Action::Stop(size, machines)] {
                prop_assert_eq!(Action::from(u16::from(action)), action);
            }
        }
    }
}
