//! A pool's own records, turned into jobs to replay, the fleet to start with, and boot times.

use contract::SIZE_COUNT;
use contract::record::{InstanceRecord, TaskRecord, TaskState};

use crate::job::Job;

/// What the records of one window say. Times begin at the window's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Tasks that waited at the window's start or were submitted in it.
    pub jobs: Vec<Job>,
    /// Machines by size that were in service at the window's start.
    pub initial: [u32; SIZE_COUNT],
    /// Observed boot times of all instances given, seconds; more than six hours are not believed.
    pub boots_s: Vec<f64>,
    /// Tasks left out because nothing is known about how long they run.
    pub unknown_runtimes: usize,
}

impl History {
    /// Reads the window `from_ms..until_ms`, milliseconds since the epoch. `until_ms` is also the time at which the
    /// records were read: a task that still runs then is taken to run as long as the median one, or as long as it has
    /// already. Runs of more than a month are not believed: such a task is taken to run as long as the median one, too. Tasks
    /// before the window that were running at its start are left out.
    pub fn from_records(tasks: &[TaskRecord], instances: &[InstanceRecord], from_ms: u64, until_ms: u64) -> Self {
        assert!(from_ms <= until_ms, "a window ends after its start");
        let median_ms = median(tasks.iter().filter_map(finished_run_ms).collect());
        let mut chosen: Vec<&TaskRecord> = tasks.iter().filter(|t| is_in_window(t, from_ms, until_ms)).collect();
        chosen.sort_by(|a, b| (a.submitted_ms, &a.task_id).cmp(&(b.submitted_ms, &b.task_id)));
        let mut history = Self { initial: initial(instances, from_ms), boots_s: boots_s(instances), ..Self::default() };
        for task in chosen {
            let Some(runtime_ms) = run_ms(task, median_ms, until_ms) else {
                history.unknown_runtimes += 1;
                continue;
            };
            history.jobs.push(Job {
                id: history.jobs.len() as i64,
                submit_ms: task.submitted_ms.saturating_sub(from_ms),
                runtime_ms: runtime_ms.max(1),
                cores: task.cores.max(1),
                memory_mb: task.memory_mb,
            });
        }
        history
    }
}

fn is_in_window(task: &TaskRecord, from_ms: u64, until_ms: u64) -> bool {
    let waited_at_start = task.submitted_ms < from_ms && task.started_ms.is_none_or(|at_ms| at_ms >= from_ms);
    waited_at_start || (from_ms..until_ms).contains(&task.submitted_ms)
}

/// Longer runs are not believed: a worker that writes microseconds would have an episode last for millennia.
const RUN_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// The same of boots, of which a worker writes the end.
const BOOT_MS_MAX: u64 = 6 * 3_600_000;

fn believable(run_ms: u64) -> Option<u64> {
    (run_ms <= RUN_MS_MAX).then_some(run_ms)
}

fn finished_run_ms(task: &TaskRecord) -> Option<u64> {
    task.finished_ms?.checked_sub(task.started_ms?).and_then(believable)
}

fn run_ms(task: &TaskRecord, median_ms: Option<u64>, until_ms: u64) -> Option<u64> {
    match task.state() {
        TaskState::Finished => finished_run_ms(task).or(median_ms),
        TaskState::Waiting => median_ms,
        TaskState::Running => {
            let so_far_ms = believable(until_ms.saturating_sub(task.started_ms?));
            so_far_ms.max(median_ms)
        }
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Machines that took tasks at `at_ms`.
fn initial(instances: &[InstanceRecord], at_ms: u64) -> [u32; SIZE_COUNT] {
    let mut counts = [0; SIZE_COUNT];
    for instance in instances {
        let is_ready = instance.ready_ms.is_some_and(|ready_ms| ready_ms <= at_ms);
        let is_gone = instance.terminated_ms.is_some_and(|end_ms| end_ms <= at_ms);
        if let Some(count) = counts.get_mut(instance.size)
            && is_ready
            && !is_gone
        {
            *count += 1;
        }
    }
    counts
}

fn boots_s(instances: &[InstanceRecord]) -> Vec<f64> {
    let boots = instances.iter().filter_map(|i| i.ready_ms?.checked_sub(i.launched_ms));
    boots.filter(|ms| *ms <= BOOT_MS_MAX).map(crate::units::s_from_ms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, submitted_ms: u64, started_ms: Option<u64>, finished_ms: Option<u64>) -> TaskRecord {
        TaskRecord {
            pool: "p".into(),
            task_id: id.into(),
            submitted_ms,
            started_ms,
            finished_ms,
            cores: 1,
            memory_mb: 7,
            instance_id: None,
            attempts: 1,
        }
    }

    fn instance(size: usize, launched_ms: u64, ready_ms: Option<u64>, terminated_ms: Option<u64>) -> InstanceRecord {
        InstanceRecord {
            pool: "p".into(),
            instance_id: format!("i-{launched_ms}"),
            size,
            usd_per_hour: 0.1,
            launched_ms,
            ready_ms,
            terminated_ms,
            ended: None,
            decision: None,
            drain: None,
        }
    }

    #[test]
    fn runs_of_millennia_are_not_believed() {
        let tasks = [
            task("a", 0, Some(1_000), Some(61_000)),
            // microseconds in the place of milliseconds, and a start before there were machines
            task("b", 1_700_000_000_000, Some(1_700_000_000_000), Some(1_700_000_060_000_000)),
            task("c", 1_700_000_000_000, Some(0), None),
        ];
        let history = History::from_records(&tasks, &[], 0, 1_700_000_060_000);
        assert_eq!(history.jobs.iter().map(|job| job.runtime_ms).collect::<Vec<_>>(), [60_000; 3]);
        let machines = [instance(0, 0, Some(71_000), None), instance(0, 0, Some(71_000_000_000), None)];
        assert_eq!(History::from_records(&[], &machines, 0, 1).boots_s, [71.0]);
    }

    #[test]
    fn a_window_by_hand() {
        let tasks = [
            task("done-before", 100, Some(110), Some(900)),
            task("ran-at-start", 100, Some(900), Some(1500)),
            task("waited-at-start", 100, Some(1200), Some(1260)),
            task("b", 1500, Some(1500), Some(1550)),
            task("a", 1500, Some(1500), Some(1590)),
            task("running", 1600, Some(1700), None),
            task("waiting", 1900, None, None),
            task("later", 2000, None, None),
        ];
        let instances = [
            instance(0, 0, Some(71), None),
            instance(1, 0, Some(50), Some(1000)),
            instance(2, 960, Some(1040), None),
            instance(2, 970, None, None),
        ];
        let h = History::from_records(&tasks, &instances, 1000, 2000);
        let seen: Vec<(u64, u64)> = h.jobs.iter().map(|j| (j.submit_ms, j.runtime_ms)).collect();
        // finished runs are 50, 60, 90, 600 and 790 ms long: the median is 90
        assert_eq!(seen, [(0, 60), (500, 90), (500, 50), (600, 300), (900, 90)]);
        assert_eq!(h.initial, [1, 0, 0]);
        assert_eq!(h.boots_s, [0.071, 0.05, 0.08]);
        assert_eq!(h.jobs[0].memory_mb, 7);
        assert_eq!(h.unknown_runtimes, 0);
    }

    #[test]
    fn without_any_finished_run_waiting_tasks_are_left_out_and_counted() {
        let tasks = [task("w", 5, None, None), task("r", 5, Some(20), None)];
        let h = History::from_records(&tasks, &[], 0, 100);
        assert_eq!(h.jobs.len(), 1);
        assert_eq!(h.jobs[0].runtime_ms, 80);
        assert_eq!(h.unknown_runtimes, 1);
    }
}
