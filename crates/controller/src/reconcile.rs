//! Compares what EC2 reports with what the records say, and names the steps that bring them together.
//!
//! Pure: the executor carries the steps out. An orphan is never terminated on first sight.

use contract::decision::{Decision, IntentState, Outcome};
use contract::limits::PENDING_S_MAX;
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::ports::CloudInstance;

/// Seconds that a new machine may be missing from describe (EC2 is eventually consistent) before it counts as lost.
pub const UNSEEN_S_MAX: u64 = 180;

/// One step towards agreement.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A machine of ours without a record: write the record, from its tags.
    Adopt(InstanceRecord),
    /// A machine of ours whose size is not in its tags, or not one of the pool's: report it.
    Orphan(String),
    /// A record whose machine is gone: mark it.
    MarkLost(InstanceRecord),
    /// A claim that was never settled: carry its stored plan out again (its token makes that safe), then settle.
    Finish(Box<Decision>),
    /// A claim without a plan, too old: settle it as failed; nothing was done.
    Release(Box<Decision>, Outcome),
}

/// The steps for one pool at `now_ms`.
///
/// `decisions` are the recent ones; those claimed less than [`PENDING_S_MAX`] ago are left to their executor.
pub fn reconcile(
    config: &PoolConfig,
    records: &[InstanceRecord],
    cloud: &[CloudInstance],
    decisions: &[Decision],
    now_ms: u64,
) -> Vec<Step> {
    let mut steps: Vec<Step> = decisions.iter().filter_map(|d| unsettled(d, now_ms)).collect();
    steps.extend(cloud.iter().filter(|m| m.alive).filter_map(|m| unrecorded(m, config, records)));
    steps.extend(records.iter().filter_map(|r| lost(r, cloud, now_ms)));
    steps
}

fn unsettled(decision: &Decision, now_ms: u64) -> Option<Step> {
    let intent = decision.intent.as_ref().filter(|i| i.state == IntentState::Pending)?;
    if now_ms < intent.claimed_ms + PENDING_S_MAX * 1000 {
        return None;
    }
    let decision = Box::new(decision.clone());
    match intent.plan {
        Some(Plan::Launch(_) | Plan::Terminate { .. }) => Some(Step::Finish(decision)),
        None => {
            let error = "the executor stopped after its claim and before its plan; nothing was done".to_owned();
            Some(Step::Release(decision, Outcome::Failed { error }))
        }
    }
}

fn unrecorded(machine: &CloudInstance, config: &PoolConfig, records: &[InstanceRecord]) -> Option<Step> {
    if records.iter().any(|r| r.instance_id == machine.instance_id) {
        return None;
    }
    let Some((size, of)) = machine.size.and_then(|s| config.sizes.get(s).map(|of| (s, of))) else {
        return Some(Step::Orphan(machine.instance_id.clone()));
    };
    Some(Step::Adopt(InstanceRecord {
        pool: config.pool.clone(),
        instance_id: machine.instance_id.clone(),
        size,
        usd_per_hour: of.usd_per_hour,
        // The tick is the control loop's own time; EC2's clock only stands in for it.
        launched_ms: machine.decision.map_or(machine.launched_ms, |tick| tick * 1000),
        ready_ms: None,
        terminated_ms: None,
        decision: machine.decision,
    }))
}

fn lost(record: &InstanceRecord, cloud: &[CloudInstance], now_ms: u64) -> Option<Step> {
    let in_cloud = cloud.iter().any(|m| m.alive && m.instance_id == record.instance_id);
    let too_new = now_ms < record.launched_ms + UNSEEN_S_MAX * 1000;
    (!in_cloud && !too_new).then(|| Step::MarkLost(record.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{config, machine, record};

    const NOW: u64 = 10_000_000;

    #[test]
    fn agreement_needs_no_step() {
        let records = [record("i-1", 0, 1)];
        assert_eq!(reconcile(&config(), &records, &[machine(&records[0])], &[], NOW), []);
    }

    #[test]
    fn a_machine_without_a_record_is_adopted_with_the_time_of_its_decision() {
        let stray = CloudInstance { decision: Some(600), ..machine(&record("i-1", 1, 5)) };
        let steps = reconcile(&config(), &[], std::slice::from_ref(&stray), &[], NOW);
        let [Step::Adopt(adopted)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((adopted.size, adopted.launched_ms, adopted.decision), (1, 600_000, Some(600)));
        assert_eq!(adopted.usd_per_hour, config().sizes[1].usd_per_hour);
        let nameless = CloudInstance { size: None, ..stray };
        assert_eq!(reconcile(&config(), &[], &[nameless], &[], NOW), [Step::Orphan("i-1".into())]);
    }

    #[test]
    fn a_machine_that_is_gone_is_marked_but_not_while_ec2_may_not_show_it_yet() {
        let old = record("i-1", 0, 1);
        assert_eq!(reconcile(&config(), std::slice::from_ref(&old), &[], &[], NOW), [Step::MarkLost(old)]);
        let new = record("i-2", 0, NOW - UNSEEN_S_MAX * 1000 + 1);
        assert_eq!(reconcile(&config(), &[new], &[], &[], NOW), []);
    }
}
