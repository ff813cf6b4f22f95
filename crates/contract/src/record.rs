//! The records of tasks and machines: what the bill, the queue and the calibration are computed from.

use serde::{Deserialize, Serialize};

use crate::action::SIZE_COUNT;

/// One task, from its submission to its end. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The pool whose machines run it.
    pub pool: String,
    /// Unique within the pool.
    pub task_id: String,
    /// When it was submitted.
    pub submitted_ms: u64,
    /// When its current or last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Cores it occupies.
    pub cores: u32,
    /// Memory it occupies.
    #[serde(default)]
    pub memory_mb: u64,
    /// The machine it runs or ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Runs begun, interrupted ones included.
    #[serde(default)]
    pub attempts: u32,
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Submitted, not running, not finished.
    Waiting,
    /// On a machine.
    Running,
    /// Done.
    Finished,
}

impl TaskRecord {
    /// Where the task is in its life.
    pub fn state(&self) -> TaskState {
        match (self.finished_ms, self.started_ms) {
            (Some(_), _) => TaskState::Finished,
            (None, Some(_)) => TaskState::Running,
            (None, None) => TaskState::Waiting,
        }
    }
}

/// One machine, from its launch to its end. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The pool it belongs to.
    pub pool: String,
    /// EC2's id.
    pub instance_id: String,
    /// Index of its size in the pool's list.
    pub size: usize,
    /// Its price at launch.
    pub usd_per_hour: f64,
    /// When its launch was asked for.
    pub launched_ms: u64,
    /// When its worker began to take tasks; written by the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// When it was stopped or found to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated_ms: Option<u64>,
    /// The tick whose decision launched it; none for machines of the pool's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<u64>,
    /// If it is there, the worker takes no more tasks and works off those it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// The last time of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When it goes at the latest, milliseconds since the epoch.
    pub until_ms: u64,
    /// Why it goes.
    pub why: DrainReason,
}

/// Why a machine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainReason {
    /// A decision stops it: the executor terminates it when it has no tasks, or at the latest time.
    Stop,
    /// EC2 takes a spot machine back: it is gone at that time without anybody's help.
    Interruption,
}

/// Sizes of machines whose launches failed for lack of capacity, in the pool's control item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCapacity {
    /// Per size: not tried again before this time, milliseconds since the epoch; 0 if it may be tried.
    pub until_ms: [u64; SIZE_COUNT],
    /// Per size: the last back-off, seconds; 0 after a launch that worked.
    pub backoff_s: [u64; SIZE_COUNT],
}

impl NoCapacity {
    /// Which sizes are not tried at `now_ms`.
    pub fn flags(&self, now_ms: u64) -> [bool; SIZE_COUNT] {
        self.until_ms.map(|until| until > now_ms)
    }

    /// The memory after a launch of `size` that failed for lack of capacity: the back-off doubles up to a maximum.
    pub fn failed(mut self, size: usize, now_ms: u64) -> Self {
        use crate::limits::{NO_CAPACITY_BACKOFF_S, NO_CAPACITY_BACKOFF_S_MAX};
        let next = (self.backoff_s[size] * 2).clamp(NO_CAPACITY_BACKOFF_S, NO_CAPACITY_BACKOFF_S_MAX);
        self.backoff_s[size] = next;
        self.until_ms[size] = now_ms + next * 1000;
        self
    }

    /// The memory after a launch of `size` that worked.
    pub fn worked(mut self, size: usize) -> Self {
        self.backoff_s[size] = 0;
        self.until_ms[size] = 0;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_a_maximum_and_ends_with_a_launch_that_worked() {
        let mut memory = NoCapacity::default();
        let mut seen = Vec::new();
        for _ in 0..6 {
            memory = memory.failed(1, 1_000_000);
            seen.push(memory.backoff_s[1]);
        }
        assert_eq!(seen, [180, 360, 720, 1440, 1800, 1800]);
        assert_eq!(memory.flags(1_000_000), [false, true, false]);
        assert_eq!(memory.flags(1_000_000 + 1_800_000), [false; 3]);
        assert_eq!(memory.worked(1), NoCapacity::default());
    }
}
