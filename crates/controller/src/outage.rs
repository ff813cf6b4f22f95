//! What an outage looks like: load that falls to zero everywhere at once. Then nothing is stopped for a while.
//!
//! Load ends bit by bit: tasks end one after another. If many tasks wait or run at one tick and none at the next, and
//! nothing arrives either, it is more likely that the tasks cannot be seen, or that those who submit them are cut off, than
//! that all ended in the same minute. If it was an outage, the machines are wanted again in a moment; if it was not, they
//! stand idle for a while.

use std::fmt;

use contract::Observation;
use contract::limits::{LSTM_GAP_TICKS_MAX, OUTAGE_HOLD_S, OUTAGE_TASKS_MIN, WARM_UP_TICKS};

/// What was seen at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The tick, seconds.
    pub tick: u64,
    /// What was seen.
    pub observation: &'a Observation,
}

/// A load that was gone at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// Tasks that were there at the last tick with any.
    pub tasks: u32,
    /// Seconds since the first tick without any.
    pub ago_s: u64,
}

impl fmt::Display for Vanished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, ago_s } = self;
        write!(f, "{tasks} tasks were gone at once {ago_s} s ago; nothing is stopped for {OUTAGE_HOLD_S} s")
    }
}

/// How many of the last decisions are to be read for [`vanished`]. With ticks of a few seconds it is so many that a tick
/// stays cheap, and the hold is shorter.
pub fn looks_back(tick_s: u64) -> usize {
    let ticks = OUTAGE_HOLD_S / tick_s.max(1) + 1 + LSTM_GAP_TICKS_MAX;
    WARM_UP_TICKS.min(ticks as usize)
}

/// Whether the load was gone at once a short while ago, and is still gone. `past` is newest first.
///
/// A tick at which the load was not known says nothing. Two ticks further apart than [`LSTM_GAP_TICKS_MAX`] ticks are not
/// "at once".
pub fn vanished<'a>(now: Look<'_>, past: impl IntoIterator<Item = Look<'a>>, tick_s: u64) -> Option<Vanished> {
    if load(now.observation) != Some(0) {
        return None;
    }
    let mut first_without = now.tick;
    for look in past {
        match load(look.observation) {
            None => {}
            Some(0) => first_without = look.tick,
            Some(tasks) => {
                let at_once = first_without.saturating_sub(look.tick) <= LSTM_GAP_TICKS_MAX * tick_s;
                let ago_s = now.tick.saturating_sub(first_without);
                let found = at_once && tasks >= OUTAGE_TASKS_MIN && ago_s < OUTAGE_HOLD_S;
                return found.then_some(Vanished { tasks, ago_s });
            }
        }
    }
    None
}

/// Tasks that wait, run or have just come. None if that is not known.
fn load(o: &Observation) -> Option<u32> {
    let there = o.queue_depth?.saturating_add(o.running?);
    Some(there.max(o.arrivals?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK_S: u64 = 60;

    /// A look at `tasks` tasks, a third of which wait; none for a tick at which the tasks could not be read.
    fn seen(tasks: impl Into<Option<u32>>) -> Observation {
        let tasks = tasks.into();
        Observation {
            queue_depth: tasks.map(|n| n / 3),
            running: tasks.map(|n| n - n / 3),
            arrivals: tasks.map(|_| 0),
            ..Observation::empty([2, 4, 8])
        }
    }

    /// The verdict after these observations, one a minute, oldest first.
    fn after(observations: &[Observation]) -> Option<Vanished> {
        let looks =
            observations.iter().enumerate().map(|(i, observation)| Look { tick: i as u64 * TICK_S, observation });
        let mut looks: Vec<Look<'_>> = looks.collect();
        looks.reverse();
        vanished(looks[0], looks[1..].iter().copied(), TICK_S)
    }

    fn after_counts(tasks: &[u32]) -> Option<Vanished> {
        after(&tasks.iter().map(|n| seen(*n)).collect::<Vec<_>>())
    }

    #[test]
    fn many_tasks_that_are_gone_at_the_next_tick_look_like_an_outage() {
        assert_eq!(after_counts(&[30, 24, 0]), Some(Vanished { tasks: 24, ago_s: 0 }));
        assert_eq!(after_counts(&[30, 24, 0, 0, 0]), Some(Vanished { tasks: 24, ago_s: 120 }));
        assert_eq!(after_counts(&[OUTAGE_TASKS_MIN, 0]), Some(Vanished { tasks: OUTAGE_TASKS_MIN, ago_s: 0 }));
    }

    #[test]
    fn a_load_that_ends_bit_by_bit_does_not() {
        assert_eq!(after_counts(&[30, 24, 12, 5, 1, 0]), None);
        assert_eq!(after_counts(&[30, OUTAGE_TASKS_MIN - 1, 0]), None);
        assert_eq!(after_counts(&[0, 0, 0]), None);
        assert_eq!(after_counts(&[0]), None);
    }

    #[test]
    fn it_is_over_when_load_is_back_or_after_a_while() {
        assert_eq!(after_counts(&[24, 0, 1]), None);
        assert_eq!(after_counts(&[24, 0, 3, 0]), None, "three tasks may end by themselves");
        let mut tasks = vec![24];
        tasks.resize(1 + 10, 0);
        assert_eq!(after_counts(&tasks), Some(Vanished { tasks: 24, ago_s: 540 }));
        tasks.push(0);
        assert_eq!(after_counts(&tasks), None, "600 s after the first tick without load");
    }

    #[test]
    fn what_is_not_known_is_neither_load_nor_none() {
        let dark = || seen(None);
        assert_eq!(after(&[seen(24), dark(), seen(0)]), Some(Vanished { tasks: 24, ago_s: 0 }));
        assert_eq!(after(&[seen(24), dark()]), None, "then nothing is stopped because the data are doubtful");
        assert_eq!(after(&[seen(24), dark(), dark(), dark(), seen(0)]), None, "they had four minutes to end in");
        let coming = Observation { arrivals: Some(2), ..seen(0) };
        assert_eq!(after(&[seen(24), coming]), None, "somebody still submits tasks");
    }

    #[test]
    fn enough_decisions_are_read_for_the_whole_while() {
        assert_eq!(looks_back(60), 14);
        assert_eq!(looks_back(3600), 4);
        assert_eq!(looks_back(1), WARM_UP_TICKS);
        assert_eq!(looks_back(0), WARM_UP_TICKS);
        let mut tasks = vec![24];
        tasks.resize(looks_back(TICK_S) - LSTM_GAP_TICKS_MAX as usize, 0);
        assert!(after_counts(&tasks).is_some(), "the last tick of the hold still sees the first");
    }

    proptest! {
        #[test]
        fn there_is_never_a_hold_while_there_is_load(tasks in prop::collection::vec(0u32..50, 1..20)) {
            let found = after_counts(&tasks);
            if *tasks.last().unwrap() > 0 {
                prop_assert_eq!(found, None);
            }
            if let Some(found) = found {
                prop_assert!(found.ago_s < OUTAGE_HOLD_S && found.tasks >= OUTAGE_TASKS_MIN);
                prop_assert!(tasks.contains(&found.tasks));
            }
        }
    }
}
