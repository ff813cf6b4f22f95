//! The tasks that wait, in the order (submit, id), and the time they have waited.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::job::{Ranks, Workload};
use crate::units::Integral;

/// Waiting tasks. Without interruptions they are one range of ranks; interrupted ones come back as ranges of their own,
/// always before the tasks that never started, for these start in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// Ranks below have been submitted.
    submitted: u32,
    /// Ranks from here to `submitted` never started.
    fresh: u32,
    interrupted: BinaryHeap<Reverse<Ranks>>,
    waiting: Integral,
}

impl Queue {
    pub fn reset(&mut self) {
        self.submitted = 0;
        self.fresh = 0;
        self.interrupted.clear();
        self.waiting = Integral::default();
    }

    /// All ranks below `end` have been submitted by now.
    pub fn submit(&mut self, end: u32, now_ms: u64) {
        debug_assert!(end >= self.submitted);
        self.waiting.enter(u64::from(end - self.submitted), now_ms);
        self.submitted = end;
    }

    /// The task that is served next, with those that follow it and need the same.
    pub fn head(&self, workload: &Workload) -> Option<Ranks> {
        if let Some(Reverse(ranks)) = self.interrupted.peek() {
            return Some(*ranks);
        }
        let first = self.fresh;
        (first < self.submitted).then(|| Ranks { first, end: workload.alike_until(first).min(self.submitted) })
    }

    /// Takes the first `n` tasks of [`Queue::head`] out.
    pub fn take(&mut self, n: u32, now_ms: u64) -> Ranks {
        debug_assert!(n > 0);
        self.waiting.leave(u64::from(n), now_ms);
        let Some(Reverse(ranks)) = self.interrupted.pop() else {
            let first = self.fresh;
            self.fresh += n;
            debug_assert!(self.fresh <= self.submitted);
            return Ranks { first, end: self.fresh };
        };
        debug_assert!(n <= ranks.len());
        let taken = Ranks { end: ranks.first + n, ..ranks };
        if taken.end < ranks.end {
            self.interrupted.push(Reverse(Ranks { first: taken.end, ..ranks }));
        }
        taken
    }

    /// Interrupted tasks wait again (V3).
    pub fn put_back(&mut self, ranks: Ranks, now_ms: u64) {
        debug_assert!(ranks.end <= self.fresh);
        self.waiting.enter(u64::from(ranks.len()), now_ms);
        self.interrupted.push(Reverse(ranks));
    }

    /// Counts time as waiting that was spent on a run that is lost.
    pub fn charge(&mut self, task_ms: u64) {
        self.waiting.add(task_ms);
    }

    pub fn submitted(&self) -> u32 {
        self.submitted
    }

    pub fn depth(&self) -> u32 {
        self.waiting.count() as u32
    }

    /// The first waiting task's rank: the one submitted first.
    pub fn oldest(&self) -> Option<u32> {
        match self.interrupted.peek() {
            Some(Reverse(ranks)) => Some(ranks.first),
            None => (self.fresh < self.submitted).then_some(self.fresh),
        }
    }

    /// Of the tasks submitted, the share among those of rank `from` and later that waits; 0 if there are none.
    pub fn waiting_share(&self, from: u32) -> f64 {
        let tasks = self.submitted - from;
        if tasks == 0 {
            return 0.0;
        }
        let fresh = self.submitted - self.fresh.max(from);
        let again: u32 = self.interrupted.iter().map(|Reverse(r)| r.end.max(from) - r.first.max(from)).sum();
        f64::from(fresh + again) / f64::from(tasks)
    }

    /// Waiting so far, task-milliseconds.
    pub fn waited_ms(&self, now_ms: u64) -> u64 {
        self.waiting.value(now_ms)
    }
}
