//! The records of tasks and machines: what the bill, the queue and the calibration are computed from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{NO_CAPACITY_BACKOFF_S, NO_CAPACITY_BACKOFF_S_MAX};

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
    /// Why it is gone; none while it is alive, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The tick whose decision launched it; none for machines of the pool's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<u64>,
    /// If it is there, the worker takes no more tasks and works off those it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// Why a machine is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// A decision stopped it.
    Stopped,
    /// EC2 did not report it any more.
    Lost,
    /// It never took tasks, and was ended so that another one can take its place.
    Stuck,
}

impl Ended {
    /// Its name, as a record has it.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Stopped => "stopped",
            Ended::Lost => "lost",
            Ended::Stuck => "stuck",
        }
    }
}

/// What a reconciliation has seen of a pool's machines and does not act on at first sight, in the pool's control item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspects {
    /// Grows by one with every write, so that of two reconciliations at once only one acts on what both have seen.
    pub version: u64,
    /// By EC2's id.
    #[serde(default)]
    pub machines: BTreeMap<String, Suspect>,
}

/// A machine with which something seems to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// What.
    pub why: Suspicion,
    /// When it was seen first, milliseconds since the epoch, by the clock of the tick.
    pub since_ms: u64,
    /// When it was ended for that, likewise; then it is remembered for as long as EC2 may still show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
}

/// What seems to be wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suspicion {
    /// It is recorded as alive, and EC2 does not report it.
    Lost,
    /// It should have taken tasks long ago, and has not.
    Stuck,
    /// It carries our tags, no record is its own, and no decision is known to have launched it.
    Orphan,
}

/// The last time of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When it goes at the latest, milliseconds since the epoch.
    pub until_ms: u64,
    /// Why it goes.
    pub why: DrainReason,
    /// When it was told, milliseconds since the epoch, by the clock of the tick (of a spot notice, by EventBridge's); none in
    /// records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// Why a machine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainReason {
    /// A decision stops it: the executor terminates it a tick later when it has no tasks, or at the latest time.
    Stop,
    /// EC2 takes a spot machine back: it is gone at that time without anybody's help.
    Interruption,
}

/// How long something is left alone after launches without capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// Not tried again before this time, milliseconds since the epoch; 0 if it may be tried.
    pub until_ms: u64,
    /// The last back-off, seconds; 0 after a launch that worked.
    pub backoff_s: u64,
}

impl BackOff {
    /// The back-off after one more failure: it doubles up to a maximum.
    pub fn failed(self, now_ms: u64) -> Self {
        let backoff_s = self.backoff_s.saturating_mul(2).clamp(NO_CAPACITY_BACKOFF_S, NO_CAPACITY_BACKOFF_S_MAX);
        Self { until_ms: now_ms + backoff_s * 1000, backoff_s }
    }
}

/// The offerings of machines that had no capacity, in the pool's control item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCapacity {
    /// By size, type and subnet, as `controller::offering` names them.
    #[serde(default)]
    pub offerings: BTreeMap<String, BackOff>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_a_maximum() {
        let mut back_off = BackOff::default();
        let mut seen = Vec::new();
        for _ in 0..6 {
            back_off = back_off.failed(1_000_000);
            seen.push(back_off.backoff_s);
        }
        assert_eq!(seen, [180, 360, 720, 1440, 1800, 1800]);
        assert_eq!(back_off.until_ms, 1_000_000 + 1_800_000);
        let damaged = BackOff { until_ms: 0, backoff_s: u64::MAX };
        assert_eq!(damaged.failed(1_000_000).backoff_s, 1800);
    }

    #[test]
    fn a_drain_of_an_earlier_version_can_be_read() {
        let old: Drain = serde_json::from_str(r#"{"until_ms": 5, "why": "stop"}"#).unwrap();
        assert_eq!(old, Drain { until_ms: 5, why: DrainReason::Stop, since_ms: None });
        assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"until_ms":5,"why":"stop"}"#);
        let new = Drain { since_ms: Some(3), ..old };
        assert_eq!(serde_json::from_str::<Drain>(&serde_json::to_string(&new).unwrap()).unwrap(), new);
    }

    #[test]
    fn why_a_machine_is_gone_is_called_as_it_is_written() {
        for ended in [Ended::Stopped, Ended::Lost, Ended::Stuck] {
            assert_eq!(serde_json::to_value(ended).unwrap(), ended.name());
        }
    }

    #[test]
    fn a_memory_of_the_first_version_is_forgotten() {
        let old = r#"{"until_ms": [0, 5, 0], "backoff_s": [0, 180, 0]}"#;
        assert_eq!(serde_json::from_str::<NoCapacity>(old).unwrap(), NoCapacity::default());
    }
}
