//! What Ctrl-C does to a run: while it learns, it ends with what it has. Before that nothing is written, and after it the state
//! is, so that the program may end at once, but not between the files of a policy.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Reads, tunes rules, clones; nothing is written yet.
    Preparing,
    /// Learns, and keeps its state.
    Learning,
    /// Compares what was learned; the state is kept.
    Comparing,
    /// Writes the policy, file by file: a moment that is not to be cut short.
    Writing,
}

/// Where a run is, and whether somebody asked it to stop.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicBool,
    phase: AtomicU8,
}

/// What becomes of a run that is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ends by itself soon.
    Soon(&'static str),
    /// The program may end now.
    Now(&'static str),
}

impl Stop {
    /// Nobody has asked.
    pub fn new(phase: Phase) -> Self {
        Self { asked: AtomicBool::new(false), phase: AtomicU8::new(phase as u8) }
    }

    /// From now on the run does this.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Asks the run to stop; the answer says why that is right.
    pub fn ask(&self) -> Answer {
        let again = self.asked.swap(true, Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            p if p == Phase::Preparing as u8 => Answer::Now("stopped before anything was learned; nothing was written"),
            p if p == Phase::Comparing as u8 => {
                Answer::Now("stopped before the policy was written; --resume goes on from what was learned")
            }
            p if p == Phase::Writing as u8 => Answer::Soon("writing the policy"),
            _ if again => Answer::Now("given up"),
            _ => Answer::Soon("ending with what there is; once more to give up"),
        }
    }

    /// Set once the run was asked to stop.
    pub fn asked(&self) -> &AtomicBool {
        &self.asked
    }

    /// Whether it was.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_learns_ends_by_itself_and_any_other_at_once() {
        let stop = Stop::new(Phase::Preparing);
        assert!(matches!(stop.ask(), Answer::Now(words) if words.contains("nothing was written")));
        let stop = Stop::new(Phase::Preparing);
        stop.enter(Phase::Learning);
        assert!(matches!(stop.ask(), Answer::Soon(_)) && stop.is_asked());
        assert_eq!(stop.ask(), Answer::Now("given up"));
        stop.enter(Phase::Comparing);
        assert!(matches!(stop.ask(), Answer::Now(words) if words.contains("--resume")));
        stop.enter(Phase::Writing);
        assert_eq!(stop.ask(), Answer::Soon("writing the policy"), "however often it is asked");
    }
}
