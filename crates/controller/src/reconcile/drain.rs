//! When a machine that drains is ended, and when it works on.

use contract::record::{Drain, DrainReason, InstanceRecord, TaskRecord, TaskState};

use super::{Scene, Step};
use crate::earlier::UNSEEN_S_MAX;

/// What becomes of a machine that drains, if anything does now.
pub(super) fn drained(record: &InstanceRecord, may_stop: bool, scene: &Scene<'_>) -> Option<Step> {
    let drain = record.drain?;
    let machine = scene.cloud.iter().find(|m| m.alive && m.instance_id == record.instance_id)?;
    let over = |since_s: u64| drain.until_ms.saturating_add(since_s * 1000) <= scene.now_ms;
    match drain.why {
        // by then it would be gone for certain
        DrainReason::Interruption => over(UNSEEN_S_MAX).then(|| Step::Undrain(record.clone())),
        // A machine whose size tag was changed by somebody is left alone, as in a plan. One that nobody may end is paid for,
        // so that it may as well work.
        DrainReason::Stop if may_stop && machine.size == Some(record.size) => {
            (over(0) || is_idle(record, drain, scene)).then(|| Step::EndDrain(record.clone()))
        }
        DrainReason::Stop => over(0).then(|| Step::Undrain(record.clone())),
    }
}

/// Whether no task runs on a machine, as far as is known. Its worker may have looked at its record just before the mark, and
/// taken a task whose start the index of running tasks does not show yet: so nothing is concluded in the first tick.
fn is_idle(record: &InstanceRecord, drain: Drain, scene: &Scene<'_>) -> bool {
    let told = drain.since_ms.is_none_or(|since| since + scene.config.tick_s * 1000 <= scene.now_ms);
    let works = |t: &TaskRecord| is_running_on(t, &record.instance_id);
    told && scene.tasks.is_some_and(|tasks| !tasks.iter().any(works))
}

/// Whether a task runs on a machine.
pub(super) fn is_running_on(task: &TaskRecord, instance_id: &str) -> bool {
    task.state() == TaskState::Running && task.instance_id.as_deref() == Some(instance_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CloudInstance;
    use crate::reconcile::reconcile;
    use crate::samples::{config, machine, record, scene, seen_before};

    const NOW: u64 = 10_000_000;

    /// The machine `i-1` as EC2 shows it.
    fn there() -> CloudInstance {
        machine(&record("i-1", 0, 1))
    }

    /// The step for the machine `i-1` that drains, with these tasks, while `cloud` is what EC2 shows.
    fn drained_step(
        drain: Drain,
        may_stop: bool,
        tasks: Option<&[TaskRecord]>,
        cloud: &[CloudInstance],
    ) -> Option<Step> {
        let records = [InstanceRecord { drain: Some(drain), ..record("i-1", 0, 1) }];
        let mut steps = all_steps(&records, may_stop, tasks, cloud);
        assert!(steps.len() <= 1, "{steps:?}");
        steps.pop()
    }

    fn all_steps(
        records: &[InstanceRecord],
        may_stop: bool,
        tasks: Option<&[TaskRecord]>,
        cloud: &[CloudInstance],
    ) -> Vec<Step> {
        let config = config();
        reconcile(&Scene {
            may_stop,
            tasks,
            suspects: &seen_before(records, cloud, NOW),
            ..scene(&config, records, cloud, NOW)
        })
    }

    /// A stop's drain that ends so many milliseconds after [`NOW`].
    fn until(after_ms: u64) -> Drain {
        Drain { until_ms: NOW + after_ms, why: DrainReason::Stop, since_ms: None }
    }

    #[test]
    fn a_machine_has_its_time_unless_it_is_known_to_be_idle() {
        let busy = [crate::samples::running("t", "i-1", 1), crate::samples::running("u", "i-2", 1)];
        let ends = |after_ms: u64, tasks: Option<&[TaskRecord]>| {
            matches!(drained_step(until(after_ms), true, tasks, &[there()]), Some(Step::EndDrain(_)))
        };
        assert!(ends(0, None) && !ends(1, None), "nobody knows what runs on it");
        assert!(ends(1, Some(&[])) && ends(1, Some(&busy[1..])));
        assert!(ends(0, Some(&busy)) && !ends(1, Some(&busy)));
        assert!(matches!(drained_step(until(0), true, None, &[]), Some(Step::MarkLost(_))));
    }

    #[test]
    fn another_machine_that_is_there_is_not_taken_for_it() {
        let records = [InstanceRecord { drain: Some(until(0)), ..record("i-1", 0, 1) }, record("i-9", 0, 1)];
        let steps = all_steps(&records, true, Some(&[]), &[machine(&records[1])]);
        assert!(matches!(steps.as_slice(), [Step::MarkLost(r)] if r.instance_id == "i-1"), "{steps:?}");
    }

    #[test]
    fn nobody_takes_a_machine_for_idle_in_the_tick_in_which_it_was_told_to_drain() {
        let told = |ago_ms: u64| Drain { since_ms: Some(NOW - ago_ms), ..until(1) };
        let ends = |drain: Drain| matches!(drained_step(drain, true, Some(&[]), &[there()]), Some(Step::EndDrain(_)));
        assert!(ends(told(60_000)) && !ends(told(59_999)));
        assert!(ends(Drain { since_ms: Some(NOW), ..until(0) }), "it has had its time");
    }

    #[test]
    fn a_machine_that_nobody_may_end_works_on_once_its_time_is_over() {
        let forbidden = |after_ms: u64| drained_step(until(after_ms), false, Some(&[]), &[there()]);
        assert!(matches!(forbidden(0), Some(Step::Undrain(_))));
        assert_eq!(forbidden(1), None, "it may be allowed again before its time is over");
        let tagged_m = [CloudInstance { size: Some(1), ..there() }];
        let of_other_size = |after_ms: u64| drained_step(until(after_ms), true, Some(&[]), &tagged_m);
        assert!(matches!(of_other_size(0), Some(Step::Undrain(_))));
        assert_eq!(of_other_size(1), None);
        let gone = drained_step(until(0), false, None, &[]);
        assert!(matches!(gone, Some(Step::MarkLost(_))), "what is gone does not work on");
    }

    #[test]
    fn a_machine_that_ec2_announced_to_take_back_works_on_when_it_would_be_gone_for_certain() {
        let ago = |s: u64| Drain { until_ms: NOW - s * 1000, why: DrainReason::Interruption, since_ms: None };
        assert_eq!(drained_step(ago(UNSEEN_S_MAX - 1), true, Some(&[]), &[there()]), None);
        assert!(matches!(drained_step(ago(UNSEEN_S_MAX), true, None, &[there()]), Some(Step::Undrain(_))));
        assert!(matches!(drained_step(ago(UNSEEN_S_MAX), true, None, &[]), Some(Step::MarkLost(_))));
    }
}
