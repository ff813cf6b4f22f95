//! What the claims before this one may have done that neither the records nor EC2 show yet.
//!
//! EC2's describe and the index of machines alive are eventually consistent, and an executor can stop between its launch
//! and the record of it. The decision log is read consistently, and claims have an order: whoever claims later counts
//! what the earlier ones may still do as done. So two claims never use the same room below a maximum, above a minimum or
//! in a budget.

use std::collections::BTreeSet;

use contract::action::Action;
use contract::decision::{Decision, Intent, IntentState, Outcome};
use contract::limits::LATE_TICKS;
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::plan::Inventory;

/// Seconds that a new machine may be missing from describe, and a dead one may still be shown as alive: EC2 is
/// eventually consistent.
pub const UNSEEN_S_MAX: u64 = 180;

/// Seconds of the log that a plan looks back on: the hour of a budget.
pub const BUDGET_S: u64 = 3600;

/// Seconds of the log to read for [`before`]: a claim of the last hour is of a decision that was not late by then, and a
/// machine that drains goes later than its claim.
pub fn look_back_s(config: &PoolConfig) -> u64 {
    BUDGET_S + LATE_TICKS * config.tick_s + config.drain_s.unwrap_or_default()
}

/// Of these decisions, those that were claimed before `generation`.
pub fn before(decisions: &[Decision], generation: u64) -> Vec<&Decision> {
    let earlier = |i: &Intent| i.generation > 0 && i.generation < generation;
    decisions.iter().filter(|d| d.intent.as_ref().is_some_and(earlier)).collect()
}

/// Whether what a decision of `tick` did may not show yet at `now_ms`. It was done, at the latest, when it became late.
pub fn may_be_unseen(tick: u64, config: &PoolConfig, now_ms: u64) -> bool {
    now_ms < (tick + LATE_TICKS * config.tick_s + UNSEEN_S_MAX) * 1000
}

/// Whether a claim may have acted, or may still do so: it has not ended, or not with a word that says that nothing was
/// done.
fn may_have_acted(intent: &Intent) -> bool {
    match (&intent.state, &intent.outcome) {
        (IntentState::Pending, _) => true,
        (_, Some(Outcome::Launched { .. } | Outcome::Terminated { .. } | Outcome::Draining { .. })) => true,
        // The call failed, or nobody knows; without a plan there was no call.
        (_, Some(Outcome::Failed { .. })) => intent.plan.is_some(),
        _ => false,
    }
}

/// Machines of a size that earlier claims may have launched, or still launch, and that nothing shows.
pub fn unseen_launches(size: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let unseen =
        inventory.earlier.iter().filter(|d| matches!(d.action, Action::Launch(of, _) if usize::from(of) == size));
    unseen.map(|d| unseen_machines(d, config, inventory)).sum()
}

fn unseen_machines(decision: &Decision, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let Some(intent) = decision.intent.as_ref().filter(|intent| may_have_acted(intent)) else { return 0 };
    let pending = intent.state == IntentState::Pending;
    if !pending && !may_be_unseen(decision.tick, config, inventory.now_ms) {
        return 0;
    }
    // an answer may have named fewer machines than there are, where it is what describe showed after a crash
    let named = match &intent.outcome {
        Some(Outcome::Launched { instance_ids }) => instance_ids.as_slice(),
        _ => &[],
    };
    let gone = stopped(config, inventory);
    let known = named.iter().map(String::as_str).filter(|id| gone.contains(id) || shows(id, inventory));
    let accounted = known.chain(shown_of_launch(decision.tick, inventory)).collect::<BTreeSet<_>>().len() as u32;
    decision.action.machines().saturating_sub(accounted)
}

fn shows(id: &str, inventory: &Inventory<'_>) -> bool {
    inventory.cloud.iter().any(|m| m.instance_id == id) || inventory.records.iter().any(|r| r.instance_id == id)
}

/// Machines of the launch of a tick that EC2 or the records show.
fn shown_of_launch<'a>(tick: u64, inventory: &Inventory<'a>) -> impl Iterator<Item = &'a str> {
    let cloud = inventory.cloud.iter().filter(move |m| m.decision == Some(tick)).map(|m| m.instance_id.as_str());
    let records = inventory.records.iter().filter(move |r| r.decision == Some(tick)).map(|r| r.instance_id.as_str());
    cloud.chain(records)
}

/// Machines that earlier claims stop or have stopped, whatever describe still says of them. One whose stop failed
/// belongs to them for a while, for it may have worked, and so that the next stop takes another one. So does one that an
/// outcome leaves out: it was protected, or the stop was interrupted. One that was to drain, and that nobody might end when
/// its time was over, works again.
pub fn stopped<'a>(config: &PoolConfig, inventory: &Inventory<'a>) -> BTreeSet<&'a str> {
    let acted = inventory.earlier.iter().filter_map(|d| Some((d.tick, d.intent.as_ref()?)));
    let ids = acted.filter_map(|(tick, intent)| {
        let is_young = may_be_unseen(tick, config, inventory.now_ms);
        let ids = match (&intent.plan, &intent.outcome) {
            (_, Some(Outcome::Terminated { instance_ids })) if !is_young => instance_ids,
            (_, Some(Outcome::Failed { .. })) if !is_young => return None,
            (Some(Plan::Terminate { instance_ids, .. }), _) if may_have_acted(intent) => instance_ids,
            _ => return None,
        };
        Some(ids.iter().map(String::as_str).filter(|id| !works_again(id, intent, inventory)))
    });
    ids.flatten().collect()
}

/// Whether the claim told a machine to drain, and its record says that it does so no more, some time after it should have
/// gone.
fn works_again(id: &str, claim: &Intent, inventory: &Inventory<'_>) -> bool {
    let Some(Outcome::Draining { until_ms, .. }) = claim.outcome else { return false };
    let is_over = until_ms.saturating_add(UNSEEN_S_MAX * 1000) <= inventory.now_ms;
    let works = |r: &InstanceRecord| r.instance_id == id && r.terminated_ms.is_none() && r.drain.is_none();
    is_over && inventory.records.iter().any(works)
}

/// Earlier claims that will stop a machine of a size and have not said which.
pub fn stops_without_plan(size: usize, inventory: &Inventory<'_>) -> u32 {
    let open = |i: &Intent| i.state == IntentState::Pending && i.plan.is_none();
    let of_size =
        inventory.earlier.iter().filter(|d| matches!(d.action, Action::Stop(of, _) if usize::from(of) == size));
    of_size.filter(|d| d.intent.as_ref().is_some_and(open)).map(|d| d.action.machines()).sum()
}

/// Machines that earlier claims of the last hour launched or may have launched.
pub fn launches_of_last_hour(earlier: &[&Decision], now_ms: u64) -> u32 {
    of_last_hour(earlier, now_ms, |action| matches!(action, Action::Launch(..)))
}

/// Machines that earlier claims of the last hour stopped or may have stopped.
pub fn stops_of_last_hour(earlier: &[&Decision], now_ms: u64) -> u32 {
    of_last_hour(earlier, now_ms, |action| matches!(action, Action::Stop(..)))
}

fn of_last_hour(earlier: &[&Decision], now_ms: u64, counts: impl Fn(Action) -> bool) -> u32 {
    let young = |i: &Intent| i.claimed_ms + BUDGET_S * 1000 > now_ms;
    let acted = |d: &Decision| d.intent.as_ref().is_some_and(|i| young(i) && may_have_acted(i));
    // not the machines that the outcome names: after a crash they are what EC2 still showed, and one may have been lost by
    // then
    earlier.iter().filter(|d| counts(d.action) && acted(d)).map(|d| d.action.machines()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CloudInstance;
    use crate::samples::{config, decided, machine, record};
    use contract::record::{Drain, DrainReason};

    /// The tick of the earlier claim.
    const TICK: u64 = 6000;
    /// When what it did must have become visible: late after five ticks of 60 s, and unseen for three minutes.
    const SHOWN_MS: u64 = (TICK + 300 + 180) * 1000;

    fn intent(state: IntentState, generation: u64, plan: Option<Plan>, outcome: Option<Outcome>) -> Intent {
        Intent { state, generation, claimed_ms: TICK * 1000, plan, outcome }
    }

    fn settled(plan: Option<Plan>, outcome: Outcome) -> Intent {
        intent(IntentState::Settled, 1, plan, Some(outcome))
    }

    fn pending(plan: Option<Plan>) -> Intent {
        intent(IntentState::Pending, 1, plan, None)
    }

    fn claimed(action: Action, intent: Intent) -> Decision {
        Decision { action, intent: Some(intent), ..decided(TICK) }
    }

    fn a_launch() -> Option<Plan> {
        let none =
            Inventory { stack: "s", now_ms: 0, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
        crate::plan::plan(Action::Launch(0, 1), TICK, &config(), &none).ok()
    }

    fn a_stop() -> Option<Plan> {
        Some(Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: None })
    }

    fn failed() -> Outcome {
        Outcome::Failed { error: "e".into() }
    }

    fn launched() -> Outcome {
        Outcome::Launched { instance_ids: vec!["i-1".into()] }
    }

    fn terminated() -> Outcome {
        Outcome::Terminated { instance_ids: vec!["i-1".into()] }
    }

    /// Outcomes that say that nothing was done.
    fn nothing_done() -> [Outcome; 3] {
        [
            Outcome::NoCapacity { code: "c".into() },
            Outcome::Refused { because: "b".into() },
            Outcome::Nothing { because: "b".into() },
        ]
    }

    fn with<R>(
        now_ms: u64,
        records: &[InstanceRecord],
        cloud: &[CloudInstance],
        earlier: &[Decision],
        look: impl FnOnce(&Inventory<'_>) -> R,
    ) -> R {
        let earlier: Vec<&Decision> = earlier.iter().collect();
        look(&Inventory { stack: "s", now_ms, records, cloud, tasks: &[], earlier: &earlier, no_capacity: None })
    }

    #[test]
    fn only_claims_of_a_lower_generation_are_earlier() {
        let of = |generation| claimed(Action::Stop(0, 1), Intent { generation, ..pending(None) });
        let refused = Decision { tick: 1, ..of(0) };
        let all = [refused, decided(2), Decision { tick: 3, ..of(4) }, of(5), of(6)];
        assert_eq!(before(&all, 5).iter().map(|d| d.tick).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn what_was_done_shows_some_time_after_it_could_be_done_last() {
        assert_eq!(look_back_s(&config()), 3600 + 300);
        assert_eq!(look_back_s(&PoolConfig { drain_s: Some(600), ..config() }), 3600 + 300 + 600);
        assert!(may_be_unseen(TICK, &config(), SHOWN_MS - 1));
        assert!(!may_be_unseen(TICK, &config(), SHOWN_MS));
    }

    fn unseen(intent: Intent, now_ms: u64, records: &[InstanceRecord], cloud: &[CloudInstance]) -> u32 {
        let launch = [claimed(Action::Launch(0, 1), intent)];
        with(now_ms, records, cloud, &launch, |inventory| unseen_launches(0, &config(), inventory))
    }

    #[test]
    fn a_launch_counts_while_it_may_exist_and_nothing_shows_it() {
        let may_exist = [settled(a_launch(), launched()), settled(a_launch(), failed())];
        for intent in may_exist.clone() {
            assert_eq!(unseen(intent.clone(), SHOWN_MS - 1, &[], &[]), 1, "{intent:?}");
            assert_eq!(unseen(intent, SHOWN_MS, &[], &[]), 0, "by then it would show");
        }
        for intent in [pending(None), pending(a_launch())] {
            assert_eq!(unseen(intent, SHOWN_MS, &[], &[]), 1, "pending for however long");
        }
        for outcome in nothing_done() {
            assert_eq!(unseen(settled(a_launch(), outcome), TICK * 1000, &[], &[]), 0);
        }
        assert_eq!(unseen(settled(None, failed()), TICK * 1000, &[], &[]), 0, "without a plan there was no call");
    }

    #[test]
    fn a_launch_that_shows_does_not_count_twice() {
        let shown = InstanceRecord { decision: Some(TICK), ..record("i-1", 0, TICK * 1000) };
        let other = InstanceRecord { decision: Some(TICK - 60), ..record("i-2", 0, 1) };
        for intent in [pending(a_launch()), settled(a_launch(), launched()), settled(a_launch(), failed())] {
            assert_eq!(unseen(intent.clone(), TICK * 1000, std::slice::from_ref(&shown), &[]), 0, "{intent:?}");
            assert_eq!(unseen(intent.clone(), TICK * 1000, &[], &[machine(&shown)]), 0, "{intent:?}");
            assert_eq!(unseen(intent, TICK * 1000, std::slice::from_ref(&other), &[machine(&other)]), 1);
        }
    }

    #[test]
    fn a_machine_that_its_launchs_answer_named_shows_without_the_tag_of_its_decision() {
        let untagged = record("i-1", 0, TICK * 1000);
        let named = settled(a_launch(), launched());
        assert_eq!(unseen(named.clone(), TICK * 1000, std::slice::from_ref(&untagged), &[]), 0);
        assert_eq!(unseen(named, TICK * 1000, &[], &[machine(&untagged)]), 0);
        assert_eq!(unseen(pending(a_launch()), TICK * 1000, &[untagged], &[]), 1, "it may be any machine");
    }

    #[test]
    fn of_a_launch_of_several_those_count_that_nothing_shows() {
        let of_tick = |id: &str| InstanceRecord { decision: Some(TICK), ..record(id, 0, TICK * 1000) };
        let (one, two) = (of_tick("i-1"), of_tick("i-2"));
        let unseen = |intent: Intent, records: &[InstanceRecord], cloud: &[CloudInstance]| {
            let launch = [claimed(Action::Launch(0, 4), intent)];
            with(TICK * 1000, records, cloud, &launch, |inventory| unseen_launches(0, &config(), inventory))
        };
        assert_eq!(unseen(pending(None), &[], &[]), 4);
        assert_eq!(unseen(pending(a_launch()), std::slice::from_ref(&one), &[machine(&two)]), 2);
        assert_eq!(unseen(pending(a_launch()), std::slice::from_ref(&one), &[machine(&one)]), 3, "one machine");
        // EC2 answered with one of them: the others may yet show
        assert_eq!(unseen(settled(a_launch(), launched()), &[], &[]), 4);
        assert_eq!(unseen(settled(a_launch(), launched()), &[one], &[machine(&two)]), 2);
    }

    #[test]
    fn claims_of_several_machines_count_each() {
        let none = |earlier: &[Decision], look: fn(&Inventory<'_>) -> u32| with(TICK * 1000, &[], &[], earlier, look);
        let launches = [claimed(Action::Launch(0, 4), pending(None)), claimed(Action::Launch(1, 2), pending(None))];
        let of_hour: fn(&Inventory<'_>) -> u32 = |inventory| launches_of_last_hour(inventory.earlier, inventory.now_ms);
        assert_eq!(none(&launches, of_hour), 6);
        let some = [claimed(Action::Launch(0, 4), settled(a_launch(), launched()))];
        let at = |now_ms| with(now_ms, &[], &[], &some, of_hour);
        assert_eq!((at(SHOWN_MS - 1), at(SHOWN_MS)), (4, 4), "the others may have been lost before they were seen");
        let stops = [claimed(Action::Stop(0, 2), pending(None)), claimed(Action::Stop(0, 1), pending(None))];
        assert_eq!(none(&stops, |inventory| stops_without_plan(0, inventory)), 3);
    }

    #[test]
    fn a_launch_of_another_size_or_one_that_was_stopped_since_does_not_count() {
        let launch = claimed(Action::Launch(0, 1), settled(a_launch(), launched()));
        let stop = claimed(Action::Stop(0, 1), settled(a_stop(), terminated()));
        let count = |size: usize, earlier: &[Decision]| {
            with(TICK * 1000, &[], &[], earlier, |inventory| unseen_launches(size, &config(), inventory))
        };
        assert_eq!(count(0, std::slice::from_ref(&launch)), 1);
        assert_eq!(count(1, std::slice::from_ref(&launch)), 0);
        assert_eq!(count(0, &[launch, stop]), 0);
    }

    fn stopped_by(intent: Intent, now_ms: u64) -> bool {
        let stop = [claimed(Action::Stop(0, 1), intent)];
        with(now_ms, &[], &[], &stop, |inventory| stopped(&config(), inventory).contains("i-1"))
    }

    #[test]
    fn a_machine_belongs_to_the_claim_that_stops_it() {
        assert!(stopped_by(pending(a_stop()), SHOWN_MS));
        assert!(stopped_by(settled(a_stop(), terminated()), SHOWN_MS));
        let others = Outcome::Terminated { instance_ids: vec!["i-2".into()] };
        assert!(stopped_by(settled(a_stop(), others.clone()), SHOWN_MS - 1), "it was protected, or has ended unseen");
        assert!(!stopped_by(settled(a_stop(), others), SHOWN_MS), "it runs");
        let draining = Outcome::Draining { instance_ids: vec!["i-1".into()], until_ms: SHOWN_MS };
        assert!(stopped_by(settled(a_stop(), draining), SHOWN_MS));
        assert!(stopped_by(settled(a_stop(), failed()), SHOWN_MS - 1));
        assert!(!stopped_by(settled(a_stop(), failed()), SHOWN_MS), "then the next stop may try it again");
        assert!(!stopped_by(pending(None), TICK * 1000));
        for outcome in nothing_done() {
            assert!(!stopped_by(settled(a_stop(), outcome), TICK * 1000));
        }
    }

    #[test]
    fn a_machine_that_nobody_might_end_when_it_had_drained_is_no_longer_stopped() {
        let until_ms = SHOWN_MS;
        let draining = Outcome::Draining { instance_ids: vec!["i-1".into()], until_ms };
        let stop = [claimed(Action::Stop(0, 1), settled(a_stop(), draining))];
        let is_stopped = |record: InstanceRecord, now_ms: u64| {
            with(now_ms, &[record], &[], &stop, |inventory| stopped(&config(), inventory).contains("i-1"))
        };
        let over_ms = until_ms + UNSEEN_S_MAX * 1000;
        let works = record("i-1", 0, 1);
        assert!(is_stopped(works.clone(), over_ms - 1), "the mark may not be seen yet");
        assert!(!is_stopped(works.clone(), over_ms));
        let drain = Some(Drain { until_ms, why: DrainReason::Stop, since_ms: None });
        assert!(is_stopped(InstanceRecord { drain, ..works.clone() }, over_ms), "it goes a little later");
        assert!(is_stopped(InstanceRecord { terminated_ms: Some(until_ms), ..works }, over_ms));
        assert!(is_stopped(record("i-2", 0, 1), over_ms), "nothing says that it works");
    }

    #[test]
    fn a_stop_that_has_no_plan_yet_takes_one_of_its_size() {
        let count = |size: usize, stop: Decision| {
            with(TICK * 1000, &[], &[], &[stop], |inventory| stops_without_plan(size, inventory))
        };
        assert_eq!(count(0, claimed(Action::Stop(0, 1), pending(None))), 1);
        assert_eq!(count(1, claimed(Action::Stop(0, 1), pending(None))), 0);
        assert_eq!(count(0, claimed(Action::Launch(0, 1), pending(None))), 0);
        assert_eq!(count(0, claimed(Action::Stop(0, 1), pending(a_stop()))), 0);
        assert_eq!(count(0, claimed(Action::Stop(0, 1), settled(None, failed()))), 0);
    }

    #[test]
    fn launches_and_stops_of_the_last_hour_are_counted_by_their_claims() {
        let end_ms = (TICK + 3600) * 1000;
        let count = |action: Action, intent: Intent, now_ms: u64| {
            let claim = claimed(action, intent);
            (launches_of_last_hour(&[&claim], now_ms), stops_of_last_hour(&[&claim], now_ms))
        };
        for intent in [pending(None), settled(a_launch(), launched()), settled(a_launch(), failed())] {
            assert_eq!(count(Action::Launch(2, 2), intent.clone(), end_ms - 1), (2, 0));
            assert_eq!(count(Action::Launch(2, 2), intent, end_ms), (0, 0));
        }
        let draining = Outcome::Draining { instance_ids: vec!["i-1".into()], until_ms: end_ms };
        for intent in [pending(None), settled(a_stop(), terminated()), settled(a_stop(), draining)] {
            assert_eq!(count(Action::Stop(0, 2), intent.clone(), end_ms - 1), (0, 2), "one of them was protected");
            assert_eq!(count(Action::Stop(0, 2), intent, end_ms), (0, 0));
        }
        for (action, plan) in [(Action::Launch(2, 1), a_launch()), (Action::Stop(2, 1), a_stop())] {
            for outcome in nothing_done() {
                assert_eq!(count(action, settled(plan.clone(), outcome), TICK * 1000), (0, 0));
            }
        }
    }
}
