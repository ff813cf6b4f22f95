//! How the stored plan of an executor that stopped is brought to its end.

use contract::decision::{Decision, Intent, IntentState, Outcome};
use contract::limits::{LATE_TICKS, PENDING_S_MAX};
use contract::plan::Plan;
use contract::pool::PoolConfig;

use super::Scene;
use crate::check::check;
use crate::earlier;
use crate::health::health;
use crate::money;
use crate::plan::Inventory;
use crate::reason::{Reason, Refused};

/// How a stored plan is brought to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Resume {
    /// It was carried out, or must not be any more: settle with this outcome.
    Settle(Outcome),
    /// Carry out what is left of it: its client token, or its exact ids, make that safe.
    Again(Plan),
}

/// What the first attempt of an interrupted stop has done, as EC2 and the records show it; nothing, for a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Machines that are terminated, and whose records may not say so yet.
    pub gone: Vec<String>,
    /// Machines that were told to drain.
    draining: Vec<String>,
    /// When those go at the latest, milliseconds since the epoch.
    until_ms: Option<u64>,
}

impl Before {
    pub(super) fn of(plan: &Plan, scene: &Scene<'_>) -> Self {
        let Plan::Terminate { instance_ids, drain_until_ms, .. } = plan else { return Self::default() };
        let is_gone = |id: &&String| scene.terminated.contains(id);
        let drains =
            |id: &&String| drain_until_ms.is_some() && !is_gone(id) && is_alive(id, scene) && is_draining(id, scene);
        Self {
            gone: instance_ids.iter().filter(is_gone).cloned().collect(),
            draining: instance_ids.iter().filter(drains).cloned().collect(),
            until_ms: *drain_until_ms,
        }
    }

    /// The outcome of the whole stop, if its second attempt came to this.
    pub fn with(&self, second: Outcome) -> Outcome {
        let (of_second, until_ms) = match &second {
            Outcome::Terminated { instance_ids } => (instance_ids.as_slice(), None),
            Outcome::Draining { instance_ids, until_ms } => (instance_ids.as_slice(), Some(*until_ms)),
            _ => (&[][..], None),
        };
        let instance_ids = [&self.gone, &self.draining, of_second].concat();
        match until_ms.or(self.until_ms.filter(|_| !self.draining.is_empty())) {
            _ if instance_ids.is_empty() => second,
            Some(until_ms) => Outcome::Draining { instance_ids, until_ms },
            None => Outcome::Terminated { instance_ids },
        }
    }
}

/// Whether an executor claimed a decision so long ago that it must have stopped.
pub(super) fn is_interrupted(intent: &Intent, now_ms: u64) -> bool {
    intent.state == IntentState::Pending && now_ms >= intent.claimed_ms + PENDING_S_MAX * 1000
}

/// Machines that interrupted stops were to end: EC2 is to be asked what has become of them, for one that is terminated and
/// one that lost its tags look the same in a describe by tags.
pub fn to_look_up(decisions: &[Decision], now_ms: u64) -> Vec<String> {
    let intents = decisions.iter().filter_map(|d| d.intent.as_ref()).filter(|i| is_interrupted(i, now_ms));
    intents.flat_map(stops).cloned().collect()
}

/// Whether a claim that is not settled yet stops a machine. Whoever settles it closes the machine's record.
pub(super) fn is_being_ended(instance_id: &str, scene: &Scene<'_>) -> bool {
    let intents = scene.decisions.iter().filter_map(|d| d.intent.as_ref());
    let mut pending = intents.filter(|i| i.state == IntentState::Pending);
    pending.any(|i| stops(i).iter().any(|id| id == instance_id))
}

fn stops(intent: &Intent) -> &[String] {
    match &intent.plan {
        Some(Plan::Terminate { instance_ids, .. }) => instance_ids,
        _ => &[],
    }
}

/// What becomes of a stored plan whose executor stopped: what EC2 shows as done is done; the rest is carried out only if
/// it is not too late, the pool may act, and the plan still passes the check.
pub fn resume(decision: &Decision, plan: &Plan, scene: &Scene<'_>) -> Resume {
    let before = Before::of(plan, scene);
    if let Some(outcome) = already_done(decision, plan, &before, scene) {
        return Resume::Settle(outcome);
    }
    let generation = decision.intent.as_ref().map_or(0, |intent| intent.generation);
    let earlier = earlier::before(scene.decisions, generation);
    let Scene { stack, now_ms, .. } = *scene;
    // what is known to be gone must not make up for others that a stop would take
    let (mut records, mut cloud) = (scene.records.to_vec(), scene.cloud.to_vec());
    records.retain(|r| !before.gone.contains(&r.instance_id));
    cloud.retain(|m| !before.gone.contains(&m.instance_id));
    let (records, cloud) = (records.as_slice(), cloud.as_slice());
    let inventory = Inventory { stack, now_ms, records, cloud, tasks: &[], earlier: &earlier, no_capacity: None };
    let left = left_to_do(plan, &before, scene);
    let mut notes = check(&left, scene.config, &inventory);
    notes.extend(money::check(&left, scene.config, &inventory, scene.ended));
    let health = health(scene.config, &inventory);
    let failed = |error: String| Resume::Settle(before.with(Outcome::Failed { error }));
    if is_late(decision, scene.config, now_ms) {
        failed("interrupted, and too late to be carried out now".into())
    } else if !may_still_drain(plan, scene) {
        failed("interrupted, and its time to drain is over: what runs would be lost".into())
    } else if !may(plan, scene) {
        failed("interrupted, and the pool may not act so now".into())
    } else if health.must_hold() {
        failed(format!("interrupted, and {}: {health}", Refused::Unhealthy.word()))
    } else if let Some(note) = notes.first() {
        failed(format!("interrupted, and the plan does not pass the check any more: {note}"))
    } else {
        Resume::Again(left)
    }
}

/// Whether what a decision saw is no longer so.
pub(super) fn is_late(decision: &Decision, config: &PoolConfig, now_ms: u64) -> bool {
    now_ms > (decision.tick + LATE_TICKS * config.tick_s) * 1000
}

/// Whether machines that are told to drain only now have a tick to do so, if the plan gives them time at all.
fn may_still_drain(plan: &Plan, scene: &Scene<'_>) -> bool {
    let Plan::Terminate { drain_until_ms: Some(until_ms), .. } = plan else { return true };
    scene.now_ms + scene.config.tick_s * 1000 <= *until_ms
}

/// The part of a plan that EC2 and the records do not show as done.
fn left_to_do(plan: &Plan, before: &Before, scene: &Scene<'_>) -> Plan {
    match plan {
        Plan::Launch(_) => plan.clone(),
        Plan::Terminate { instance_ids, size, drain_until_ms } => {
            let is_left =
                |id: &&String| is_alive(id, scene) && !before.gone.contains(id) && !before.draining.contains(id);
            let left = instance_ids.iter().filter(is_left).cloned().collect();
            Plan::Terminate { instance_ids: left, size: *size, drain_until_ms: *drain_until_ms }
        }
    }
}

fn is_alive(id: &str, scene: &Scene<'_>) -> bool {
    scene.cloud.iter().any(|m| m.alive && m.instance_id == id)
}

fn is_draining(id: &str, scene: &Scene<'_>) -> bool {
    scene.records.iter().any(|r| r.instance_id == id && r.drain.is_some())
}

fn may(plan: &Plan, scene: &Scene<'_>) -> bool {
    match plan {
        Plan::Launch(_) => scene.may_launch,
        Plan::Terminate { .. } => scene.may_stop,
    }
}

fn already_done(decision: &Decision, plan: &Plan, before: &Before, scene: &Scene<'_>) -> Option<Outcome> {
    match left_to_do(plan, before, scene) {
        Plan::Launch(_) => {
            let ours = scene.cloud.iter().filter(|m| m.decision == Some(decision.tick));
            let instance_ids: Vec<String> = ours.map(|m| m.instance_id.clone()).collect();
            (!instance_ids.is_empty()).then_some(Outcome::Launched { instance_ids })
        }
        Plan::Terminate { instance_ids, .. } if instance_ids.is_empty() => {
            let error = "interrupted, and none of its machines is there with our tags or known to be terminated";
            Some(before.with(Outcome::Failed { error: error.into() }))
        }
        Plan::Terminate { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CloudInstance;
    use crate::reconcile::{Step, reconcile};
    use crate::samples::{claimed, config, machine, record, scene, seen_before};
    use contract::Action;
    use contract::pool::PoolConfig;
    use contract::record::{Drain, DrainReason, InstanceRecord};

    const NOW: u64 = 10_000_000;
    /// A tick is left.
    const UNTIL: u64 = NOW + 60_000;

    fn ids<const N: usize>(of: [&str; N]) -> Vec<String> {
        of.map(str::to_owned).to_vec()
    }

    fn terminated<const N: usize>(of: [&str; N]) -> Outcome {
        Outcome::Terminated { instance_ids: ids(of) }
    }

    fn draining<const N: usize>(of: [&str; N]) -> Outcome {
        Outcome::Draining { instance_ids: ids(of), until_ms: UNTIL }
    }

    /// What becomes of an interrupted stop of `i-1`, `i-2` and `i-3` of four machines, of which some were told to drain, some
    /// are terminated, and all but those and the ones in `away` are there.
    struct Stop<'a> {
        drain_until_ms: Option<u64>,
        told: &'a [&'a str],
        gone: &'a [&'a str],
        away: &'a [&'a str],
        /// Those of the terminated ones that describe still shows as alive.
        shown: &'a [&'a str],
        may_stop: bool,
        age_s: u64,
    }

    const STOP: Stop<'static> =
        Stop { drain_until_ms: None, told: &[], gone: &[], away: &[], shown: &[], may_stop: true, age_s: 200 };
    const DRAIN: Stop<'static> = Stop { drain_until_ms: Some(UNTIL), ..STOP };

    fn resumed(stop: &Stop<'_>) -> Vec<Step> {
        let config = PoolConfig { machines_per_action_max: 4, ..config() };
        let drain = |id: &str| Drain { until_ms: UNTIL, why: DrainReason::Stop, since_ms: Some(id.len() as u64) };
        let records = ["i-1", "i-2", "i-3", "i-4"]
            .map(|id| InstanceRecord { drain: stop.told.contains(&id).then(|| drain(id)), ..record(id, 0, 1) });
        let there = |r: &&InstanceRecord| {
            let id = r.instance_id.as_str();
            stop.shown.contains(&id) || (!stop.gone.contains(&id) && !stop.away.contains(&id))
        };
        let cloud: Vec<CloudInstance> = records.iter().filter(there).map(machine).collect();
        let mut decision = claimed(NOW / 1000 - stop.age_s, Action::Stop(0, 4), 1);
        let (instance_ids, drain_until_ms) = (ids(["i-1", "i-2", "i-3"]), stop.drain_until_ms);
        decision.intent.as_mut().unwrap().plan = Some(Plan::Terminate { instance_ids, size: 0, drain_until_ms });
        let decisions = [decision];
        let asked = to_look_up(&decisions, NOW);
        let terminated: Vec<String> = asked.into_iter().filter(|id| stop.gone.contains(&id.as_str())).collect();
        reconcile(&Scene {
            may_stop: stop.may_stop,
            terminated: &terminated,
            decisions: &decisions,
            suspects: &seen_before(&records, &cloud, NOW),
            ..scene(&config, &records, &cloud, NOW)
        })
    }

    /// The machines of the second attempt, and the outcome if it came to `second`.
    fn again(stop: &Stop<'_>, second: Outcome) -> (Vec<String>, Outcome) {
        match resumed(stop).as_slice() {
            [Step::Resume(_, Resume::Again(Plan::Terminate { instance_ids, .. }), before)] => {
                (instance_ids.clone(), before.with(second))
            }
            other => panic!("one step, to carry the rest out: {other:?}"),
        }
    }

    /// The outcome with which it is settled, without a second attempt.
    fn settled(stop: &Stop<'_>) -> Outcome {
        match resumed(stop).as_slice() {
            [Step::Resume(_, Resume::Settle(outcome), _)] => outcome.clone(),
            other => panic!("one step, to settle: {other:?}"),
        }
    }

    #[test]
    fn the_outcome_names_what_both_attempts_have_ended() {
        let some = Stop { gone: &["i-2"], ..STOP };
        let (left, outcome) = again(&some, terminated(["i-1", "i-3"]));
        assert_eq!((left, outcome), (ids(["i-1", "i-3"]), terminated(["i-2", "i-1", "i-3"])));
        let failed = Outcome::Failed { error: "protected".into() };
        assert_eq!(again(&some, failed.clone()).1, terminated(["i-2"]));
        assert_eq!(again(&STOP, failed.clone()), (ids(["i-1", "i-2", "i-3"]), failed));
        assert_eq!(settled(&Stop { gone: &["i-1", "i-2", "i-3"], ..STOP }), terminated(["i-1", "i-2", "i-3"]));
    }

    #[test]
    fn what_has_ended_is_named_although_the_rest_may_not_be_ended_any_more() {
        let some = Stop { gone: &["i-2"], ..STOP };
        assert_eq!(settled(&Stop { may_stop: false, ..some }), terminated(["i-2"]));
        assert_eq!(settled(&Stop { age_s: 3600, gone: &["i-2"], ..STOP }), terminated(["i-2"]));
        let told = Stop { may_stop: false, told: &["i-1"], gone: &["i-3"], ..DRAIN };
        assert_eq!(settled(&told), draining(["i-3", "i-1"]));
    }

    #[test]
    fn a_machine_of_which_nobody_knows_where_it_is_is_neither_named_nor_stopped() {
        let (left, outcome) = again(&Stop { away: &["i-1"], ..STOP }, terminated(["i-2", "i-3"]));
        assert_eq!((left, outcome), (ids(["i-2", "i-3"]), terminated(["i-2", "i-3"])));
        let away = Stop { away: &["i-1", "i-2"], gone: &["i-3"], ..STOP };
        assert_eq!(settled(&away), terminated(["i-3"]));
    }

    #[test]
    fn a_machine_that_is_gone_and_still_shown_does_not_make_up_for_another() {
        // one of the four has to stay, and the fourth is not there
        let shown = Stop { gone: &["i-1"], shown: &["i-1"], away: &["i-4"], ..STOP };
        let steps = resumed(&shown);
        let [Step::Resume(_, resume, _), Step::MarkLost(_)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(*resume, Resume::Settle(terminated(["i-1"])));
        assert_eq!(again(&Stop { away: &[], ..shown }, terminated(["i-2", "i-3"])).0, ids(["i-2", "i-3"]));
    }

    #[test]
    fn nobody_is_told_to_drain_without_the_time_to() {
        assert_eq!(again(&DRAIN, draining(["i-1", "i-2", "i-3"])).0, ids(["i-1", "i-2", "i-3"]));
        let late = Stop { drain_until_ms: Some(UNTIL - 1), ..DRAIN };
        assert!(matches!(settled(&late), Outcome::Failed { error } if error.contains("time to drain is over")));
        assert_eq!(settled(&Stop { gone: &["i-2"], ..late }), terminated(["i-2"]));
    }

    #[test]
    fn what_was_told_to_drain_is_not_told_again() {
        let some = Stop { told: &["i-1"], gone: &["i-2"], ..DRAIN };
        assert_eq!(again(&some, draining(["i-3"])), (ids(["i-3"]), draining(["i-2", "i-1", "i-3"])));
        assert_eq!(settled(&Stop { told: &["i-1", "i-3"], gone: &["i-2"], ..DRAIN }), draining(["i-2", "i-1", "i-3"]));
    }

    #[test]
    fn what_a_pending_claim_stops_is_not_taken_for_lost() {
        let young = Stop { age_s: PENDING_S_MAX - 1, gone: &["i-1"], ..STOP };
        assert_eq!(resumed(&young), []);
        let other = Stop { away: &["i-4"], ..young };
        assert!(matches!(resumed(&other).as_slice(), [Step::MarkLost(r)] if r.instance_id == "i-4"));
    }
}
