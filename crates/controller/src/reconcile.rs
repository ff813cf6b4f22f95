//! Compares what EC2 reports with what the records say, and names the steps that bring them together.
//!
//! Pure: the executor carries the steps out. Nothing is ended or taken for lost at first sight ([`suspects_after`]). A
//! machine that a decision in the log launched is adopted at once: EC2 shows no machine that never was, and while it has no
//! record nobody counts it, pays attention to it or gives it back.

mod drain;
mod resume;
mod suspects;

use std::collections::BTreeSet;

use contract::decision::{Decision, Intent, IntentState, Outcome, Verdict};
use contract::limits::LATE_TICKS;
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, Suspects, Suspicion, TaskRecord};

use crate::earlier::{UNSEEN_S_MAX, may_be_unseen};
use crate::health::{Health, health};
use crate::plan::Inventory;
use crate::ports::CloudInstance;
use crate::reason::{Reason, Refused};
use drain::drained;
pub use resume::{Before, Resume, resume, to_look_up};
use resume::{is_interrupted, is_late};
use suspects::{ends, is_explained, is_lost, is_seen_again, may_be_ended, was_ended};
pub use suspects::{needs_tasks, suspects_after};

/// One step towards agreement.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A machine of ours without a record: write the record, from its tags.
    Adopt(InstanceRecord),
    /// A machine of ours whose size is not in its tags, or not one of the pool's, or that is to be ended as no decision
    /// explains it: report it.
    Orphan(String),
    /// Such a machine whose time is over: terminate it.
    EndOrphan(String),
    /// A record whose machine is gone: mark it.
    MarkLost(InstanceRecord),
    /// A machine that never took tasks: terminate it, so that another one takes its place.
    EndStuck(InstanceRecord),
    /// A machine that drains has no task any more, or its time is over: terminate it.
    EndDrain(InstanceRecord),
    /// A machine that EC2 has announced to take back and has not, or that a decision stops and that may not be ended now
    /// that its time is over: it works on.
    Undrain(InstanceRecord),
    /// A claim that was never settled, with its stored plan: what [`resume`] says, and what the first attempt has done.
    Resume(Box<Decision>, Resume, Before),
    /// A decision that nobody claimed in time, or a claim without a plan: nothing was done, settle it so.
    Release(Box<Decision>, Outcome),
}

impl Step {
    /// The machine that the step ends without a decision, if it ends one.
    pub fn ends(&self) -> Option<&String> {
        match self {
            Step::EndStuck(record) => Some(&record.instance_id),
            Step::EndOrphan(id) => Some(id),
            _ => None,
        }
    }
}

/// What the reconciler looks at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The name of the stack, whose machines these are.
    pub stack: &'a str,
    /// The pool's configuration.
    pub config: &'a PoolConfig,
    /// Whether the pool may launch now: its mode and the kill switch.
    pub may_launch: bool,
    /// Whether the pool may stop machines now: its mode and the kill switch.
    pub may_stop: bool,
    /// Records of machines that were not terminated.
    pub records: &'a [InstanceRecord],
    /// Machines with our tags, from a fresh and complete describe.
    pub cloud: &'a [CloudInstance],
    /// Tasks that wait or run now, if they could be read; read only where [`needs_tasks`] says so.
    pub tasks: Option<&'a [TaskRecord]>,
    /// Of the machines that [`to_look_up`] names, those that EC2 shows as terminated.
    pub terminated: &'a [String],
    /// Records of machines that ended or were launched in the time that money caps count; none if they cannot be read.
    pub ended: Option<&'a [InstanceRecord]>,
    /// The unsettled decisions, and the recent ones: those of [`look_back_s`].
    pub decisions: &'a [Decision],
    /// Ticks of decisions that another version wrote and this one cannot read.
    pub unreadable: &'a BTreeSet<u64>,
    /// What earlier reconciliations have seen.
    pub suspects: &'a Suspects,
    /// Now, milliseconds since the epoch.
    pub now_ms: u64,
}

/// Seconds of the log that [`reconcile`] looks at besides the unsettled decisions.
///
/// What it needs settled ones for is to know a machine that was stopped and that describe still shows: the stop is
/// carried out when its decision is late at the latest, the machine then has its time to drain, and is shown for as long
/// as [`may_be_unseen`] says. An unsettled decision that its index does not show yet is younger than that.
pub fn look_back_s(config: &PoolConfig) -> u64 {
    2 * LATE_TICKS * config.tick_s + config.drain_s.unwrap_or_default() + UNSEEN_S_MAX
}

/// Whether any of these decisions may be carried out after all, so that [`resume`] checks its plan against all that was
/// claimed before it: those of [`crate::earlier::look_back_s`].
pub fn may_resume(decisions: &[Decision], config: &PoolConfig, now_ms: u64) -> bool {
    let interrupted = |i: &Intent| i.state == IntentState::Pending && i.plan.is_some();
    let open = |d: &&Decision| d.intent.as_ref().is_some_and(interrupted);
    decisions.iter().filter(open).any(|d| !is_late(d, config, now_ms))
}

/// Ticks of decisions that are not among these, and whose launches made machines without a record: the plan says of which
/// type such a machine is, and so what it costs; without one, nobody knows why it is there.
pub fn unread_launches(records: &[InstanceRecord], cloud: &[CloudInstance], decisions: &[Decision]) -> BTreeSet<u64> {
    let recorded = |m: &CloudInstance| records.iter().any(|r| r.instance_id == m.instance_id);
    let launches = cloud.iter().filter(|m| m.alive && !recorded(m)).filter_map(|m| m.decision);
    launches.filter(|tick| !decisions.iter().any(|d| d.tick == *tick)).collect()
}

/// The steps for one pool.
///
/// Decisions claimed less than [`contract::limits::PENDING_S_MAX`] ago are left to their executor.
pub fn reconcile(scene: &Scene<'_>) -> Vec<Step> {
    // Records first: a decision that is settled as launched has its record by then, and all that follows counts them.
    let mut steps = of_strays(scene);
    let records = with_adopted(&steps, scene.records);
    let scene = &Scene { records: &records, ..*scene };
    steps.extend(scene.decisions.iter().filter_map(|d| unsettled(d, scene)));
    let lost =
        scene.records.iter().filter(|r| is_lost(r, scene) && is_seen_again(&r.instance_id, Suspicion::Lost, scene));
    steps.extend(lost.cloned().map(Step::MarkLost));
    let may_stop = scene.may_stop && !health_by_records(scene).must_hold();
    steps.extend(scene.records.iter().filter_map(|r| drained(r, may_stop, scene)));
    if may_stop {
        steps.extend(ends(scene));
    }
    steps
}

/// The steps for machines of ours without a record.
fn of_strays(scene: &Scene<'_>) -> Vec<Step> {
    let alive = scene.cloud.iter().filter(|m| m.alive);
    alive.filter_map(|m| unrecorded(m, scene)).collect()
}

/// The records as they are once these steps are taken.
fn with_adopted(steps: &[Step], records: &[InstanceRecord]) -> Vec<InstanceRecord> {
    let adopted = steps.iter().filter_map(|step| match step {
        Step::Adopt(record) => Some(record),
        _ => None,
    });
    records.iter().chain(adopted).cloned().collect()
}

fn unsettled(decision: &Decision, scene: &Scene<'_>) -> Option<Step> {
    let Some(intent) = &decision.intent else { return unclaimed(decision, scene) };
    if !is_interrupted(intent, scene.now_ms) {
        return None;
    }
    let boxed = Box::new(decision.clone());
    match &intent.plan {
        Some(plan) => Some(Step::Resume(boxed, resume(decision, plan, scene), Before::of(plan, scene))),
        None => {
            let error = "the executor stopped after its claim and before its plan; nothing was done".to_owned();
            Some(Step::Release(boxed, Outcome::Failed { error }))
        }
    }
}

/// The stream gives a record up after a while; then its decision is too late anyway.
fn unclaimed(decision: &Decision, scene: &Scene<'_>) -> Option<Step> {
    let late = is_late(decision, scene.config, scene.now_ms);
    let because = format!("{}: no executor claimed it in time", Refused::Late.word());
    (late && decision.verdict == Verdict::Act)
        .then(|| Step::Release(Box::new(decision.clone()), Outcome::Refused { because }))
}

/// Whether a machine has no live record, and is none that was ended a moment ago.
fn is_unrecorded(machine: &CloudInstance, scene: &Scene<'_>) -> bool {
    let id = machine.instance_id.as_str();
    !scene.records.iter().any(|r| r.instance_id == id) && !is_being_stopped(machine, scene) && !was_ended(id, scene)
}

fn unrecorded(machine: &CloudInstance, scene: &Scene<'_>) -> Option<Step> {
    let known = is_unrecorded(machine, scene).then(|| is_seen_again(&machine.instance_id, Suspicion::Orphan, scene))?;
    match adopted(machine, scene).filter(|_| !may_be_ended(machine, scene)) {
        Some(record) if known || is_explained(machine, scene) => Some(Step::Adopt(record)),
        None if known => Some(Step::Orphan(machine.instance_id.clone())),
        _ => None,
    }
}

/// The record of a machine that has none, from its tags; none if they name no size of the pool.
fn adopted(machine: &CloudInstance, scene: &Scene<'_>) -> Option<InstanceRecord> {
    let size = machine.size?;
    let of = scene.config.sizes.get(size)?;
    Some(InstanceRecord {
        pool: scene.config.pool.clone(),
        instance_id: machine.instance_id.clone(),
        size,
        usd_per_hour: of.price_of(planned_type(machine, scene)),
        // The tick is the control loop's own time; EC2's clock only stands in for it.
        launched_ms: machine.decision.map_or(machine.launched_ms, |tick| tick * 1000),
        ready_ms: None,
        terminated_ms: None,
        ended: None,
        decision: machine.decision,
        drain: None,
    })
}

/// The instance type that the launch of a machine asked for, if it was not the launch template's own.
fn planned_type<'a>(machine: &CloudInstance, scene: &Scene<'a>) -> Option<&'a str> {
    let decision = scene.decisions.iter().find(|d| Some(d.tick) == machine.decision)?;
    match decision.intent.as_ref()?.plan.as_ref()? {
        Plan::Launch(launch) => launch.instance_type.as_deref(),
        Plan::Terminate { .. } => None,
    }
}

/// Whether a decision has stopped the machine so short a while ago that describe may still show it.
fn is_being_stopped(machine: &CloudInstance, scene: &Scene<'_>) -> bool {
    let stops = |(d, intent): (&Decision, &Intent)| match &intent.plan {
        Some(Plan::Terminate { instance_ids, drain_until_ms, .. }) => {
            // a machine that drains goes later, but not where the stop failed or none had to
            let drains = matches!(intent.outcome, None | Some(Outcome::Draining { .. }));
            let drained_s = drain_until_ms.filter(|_| drains).unwrap_or_default() / 1000;
            let last_s = d.tick.max(drained_s);
            may_be_unseen(last_s, scene.config, scene.now_ms) && instance_ids.contains(&machine.instance_id)
        }
        _ => false,
    };
    scene.decisions.iter().filter_map(|d| Some((d, d.intent.as_ref()?))).any(stops)
}

/// The health of the pool's machines, those that this reconciliation adopts included, before any other step is taken.
pub fn health_of(scene: &Scene<'_>) -> Health {
    health_by_records(&Scene { records: &with_adopted(&of_strays(scene), scene.records), ..*scene })
}

fn health_by_records(scene: &Scene<'_>) -> Health {
    let earlier: Vec<&Decision> = scene.decisions.iter().collect();
    let Scene { stack, now_ms, records, cloud, .. } = *scene;
    health(scene.config, &Inventory { stack, now_ms, records, cloud, tasks: &[], earlier: &earlier, no_capacity: None })
}

#[cfg(test)]
mod tests;
