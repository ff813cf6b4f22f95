//! Steps of one pool, by hand: what is adopted, marked, resumed, released and let alone.

use super::*;
use crate::earlier::UNSEEN_S_MAX;
use crate::samples::{config, decided, machine, record, scene, seen_before};
use contract::Action;
use contract::decision::IntentState;
use contract::limits::{LATE_TICKS, PENDING_S_MAX};
use contract::plan::LaunchPlan;
use contract::pool::Alternate;
use contract::record::{Drain, DrainReason};

const NOW: u64 = 10_000_000;

fn steps(records: &[InstanceRecord], cloud: &[CloudInstance]) -> Vec<Step> {
    let config = config();
    reconcile(&Scene { suspects: &seen_before(records, cloud, NOW), ..scene(&config, records, cloud, NOW) })
}

#[test]
fn agreement_needs_no_step() {
    let records = [record("i-1", 0, 1)];
    assert_eq!(steps(&records, &[machine(&records[0])]), []);
}

#[test]
fn a_machine_without_a_record_is_adopted_with_the_time_of_its_decision() {
    let stray = CloudInstance { decision: Some(600), ..machine(&record("i-1", 1, 5)) };
    let found = steps(&[], std::slice::from_ref(&stray));
    let [Step::Adopt(adopted)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((adopted.size, adopted.launched_ms, adopted.decision), (1, 600_000, Some(600)));
    assert_eq!(adopted.usd_per_hour, config().sizes[1].usd_per_hour);
    let nameless = CloudInstance { size: None, ..stray };
    assert_eq!(steps(&[], &[nameless]), [Step::Orphan("i-1".into())]);
}

#[test]
fn a_machine_is_adopted_at_the_price_of_the_type_that_its_own_launch_asked_for() {
    let mut config = config();
    let alternate = |name: &str, usd_per_hour| Alternate { instance_type: name.into(), usd_per_hour };
    config.sizes[0].alternates = vec![alternate("a", 0.3), alternate("b", 0.7)];
    let none =
        Inventory { stack: "s", now_ms: NOW, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
    let launch_of = |(tick, instance_type): (u64, Option<&str>)| {
        let plan = crate::plan::plan(Action::Launch(0, 1), tick, &config, &none).unwrap();
        let Plan::Launch(launch) = plan else { panic!("a launch") };
        let plan = Plan::Launch(LaunchPlan { instance_type: instance_type.map(str::to_owned), ..launch });
        claimed_ago(NOW / 1000 - tick, Action::Launch(0, 1), Some(plan))
    };
    let decisions = [(9000, Some("a")), (9060, Some("b")), (9120, None)].map(launch_of);
    let scene = Scene { decisions: &decisions, ..scene(&config, &[], &[], NOW) };
    let usd_per_hour = |tick| {
        let stray = CloudInstance { decision: Some(tick), ..machine(&record("i-1", 0, 1)) };
        adopted(&stray, &scene).unwrap().usd_per_hour
    };
    assert_eq!([9000, 9060, 9120, 9180].map(usd_per_hour), [0.3, 0.7, 0.2, 0.2]);
}

#[test]
fn a_machine_that_is_gone_is_marked_but_not_while_ec2_may_not_show_it_yet() {
    let old = record("i-1", 0, 1);
    assert_eq!(steps(std::slice::from_ref(&old), &[]), [Step::MarkLost(old.clone())]);
    let dead = CloudInstance { alive: false, ..machine(&old) };
    assert_eq!(steps(std::slice::from_ref(&old), &[dead]), [Step::MarkLost(old.clone())]);
    let other = record("i-9", 0, 1);
    assert_eq!(steps(&[old.clone(), other.clone()], &[machine(&other)]), [Step::MarkLost(old)]);
    let new = record("i-2", 0, NOW - UNSEEN_S_MAX * 1000 + 1);
    assert_eq!(steps(&[new], &[]), []);
}

/// What becomes of an interrupted stop of `i-1` while `cloud` is what EC2 shows; if `is_gone`, it shows it as terminated.
fn resumed(tick: u64, may_stop: bool, records: &[InstanceRecord], cloud: &[CloudInstance], is_gone: bool) -> Resume {
    let (config, i_1) = (config(), ["i-1".to_owned()]);
    let scene = Scene {
        may_stop,
        terminated: &i_1[..usize::from(is_gone)],
        suspects: &seen_before(records, cloud, NOW),
        ..scene(&config, records, cloud, NOW)
    };
    let plan = Plan::Terminate { instance_ids: i_1.to_vec(), size: 0, drain_until_ms: None };
    resume(&decided(tick), &plan, &scene)
}

#[test]
fn an_interrupted_stop_is_carried_out_only_while_it_is_still_right() {
    let tick = NOW / 1000 - 200;
    let two = [record("i-1", 0, 1), record("i-2", 0, 2)];
    let cloud: Vec<_> = two.iter().map(machine).collect();
    assert!(matches!(resumed(tick, true, &two, &cloud, false), Resume::Again(_)));
    let failed = |r: Resume, word: &str| matches!(r, Resume::Settle(Outcome::Failed { error }) if error.contains(word));
    assert!(failed(resumed(tick, false, &two, &cloud, false), "may not act"));
    assert!(failed(resumed(tick - 3600, true, &two, &cloud, false), "too late"));
    assert!(failed(resumed(tick, true, &two[..1], &cloud[..1], false), "minimum"));
    let gone = Resume::Settle(Outcome::Terminated { instance_ids: vec!["i-1".into()] });
    for cloud in [&cloud[1..], &cloud] {
        assert_eq!(resumed(tick - 3600, false, &two[1..], cloud, true), gone);
    }
    // its tags are gone, or a person stopped it, or EC2 has forgotten it
    assert!(failed(resumed(tick, true, &two[1..], &cloud[1..], false), "none of its machines is there"));
}

#[test]
fn an_interrupted_launch_is_carried_out_only_while_there_is_money_for_it() {
    let resumed = |usd_per_hour_max: f64, ended: Option<&[InstanceRecord]>| {
        let (usd_per_hour_max, usd_per_day_max) = (Some(usd_per_hour_max), Some(1000.0));
        let config = PoolConfig { usd_per_hour_max, usd_per_day_max, ..config() };
        let none = Inventory {
            stack: "s",
            now_ms: NOW,
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            no_capacity: None,
        };
        let decision = Decision { action: Action::Launch(0, 1), ..decided(NOW / 1000 - 200) };
        let plan = crate::plan::plan(decision.action, decision.tick, &config, &none).unwrap();
        let scene = Scene { ended, suspects: &seen_before(&[], &[], NOW), ..scene(&config, &[], &[], NOW) };
        match resume(&decision, &plan, &scene) {
            Resume::Settle(Outcome::Failed { error }) => error,
            other => format!("{other:?}").chars().take(5).collect(),
        }
    };
    assert_eq!(resumed(0.2, Some(&[])), "Again");
    assert!(resumed(0.19, Some(&[])).contains("money cap of the hour"), "{}", resumed(0.19, Some(&[])));
    assert!(resumed(0.2, None).contains("spending that cannot be read"));
}

#[test]
fn a_machine_that_is_adopted_counts_for_the_health_of_what_follows() {
    let booting = |id: &str| InstanceRecord { ready_ms: None, ..record(id, 0, 1) };
    let whole = |r: &InstanceRecord| CloudInstance { decision: Some(600), ..machine(r) };
    let records = [record("i-1", 0, 1), booting("i-stuck"), record("i-gone", 0, 2)];
    let cloud = [whole(&records[0]), whole(&records[1]), whole(&booting("i-stray"))];
    let config = config();
    let ended = |cloud: &[CloudInstance]| {
        let suspects = seen_before(&records, cloud, NOW);
        let scene = Scene { tasks: Some(&[]), suspects: &suspects, ..scene(&config, &records, cloud, NOW) };
        let steps = reconcile(&scene);
        (steps.iter().filter_map(Step::ends).count(), health_of(&scene).unhealthy())
    };
    assert_eq!(ended(&cloud[..2]), (1, 2), "two of three are not most of many");
    assert_eq!(ended(&cloud), (0, 3), "three of four are");
}

#[test]
fn a_decision_that_nobody_claimed_is_settled_once_it_is_late() {
    let config = config();
    let fresh = decided(NOW / 1000 - 60);
    let old = decided(NOW / 1000 - 3600);
    let decisions = [fresh, old.clone()];
    let scene = Scene { decisions: &decisions, suspects: &seen_before(&[], &[], NOW), ..scene(&config, &[], &[], NOW) };
    let found = reconcile(&scene);
    let [Step::Release(released, Outcome::Refused { .. })] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(released.tick, old.tick);
}

#[test]
fn an_interrupted_plan_is_not_carried_out_while_most_machines_are_unhealthy() {
    let tick = NOW / 1000 - 200;
    let booting = |id: &str| InstanceRecord { ready_ms: None, ..record(id, 0, 1) };
    let records = [record("i-1", 0, 1), record("i-2", 0, 2), booting("i-3"), booting("i-4"), booting("i-5")];
    let cloud: Vec<_> = records.iter().map(machine).collect();
    let found = resumed(tick, true, &records, &cloud, false);
    let held = matches!(&found, Resume::Settle(Outcome::Failed { error }) if error.contains("unhealthy: of 5"));
    assert!(held, "{found:?}");
    assert!(matches!(resumed(tick, true, &records[..4], &cloud[..4], false), Resume::Again(_)));
}

/// The steps for one decision, claimed at `NOW - age_s`, with these machines in EC2.
fn steps_for(decision: Decision, records: &[InstanceRecord], cloud: &[CloudInstance]) -> Vec<Step> {
    let (config, decisions) = (config(), [decision]);
    let decisions = decisions.as_slice();
    let scene = Scene { decisions, suspects: &seen_before(records, cloud, NOW), ..scene(&config, records, cloud, NOW) };
    reconcile(&scene)
}

/// A decision claimed so many seconds ago.
fn claimed_ago(age_s: u64, action: Action, plan: Option<Plan>) -> Decision {
    let mut decision = crate::samples::claimed(NOW / 1000 - age_s, action, 1);
    let intent = decision.intent.as_mut().unwrap();
    (intent.plan, intent.claimed_ms) = (plan, NOW - age_s * 1000);
    decision
}

fn stop(id: &str) -> Option<Plan> {
    Some(Plan::Terminate { instance_ids: vec![id.into()], size: 0, drain_until_ms: None })
}

#[test]
fn a_claim_is_left_to_its_executor_for_a_while_and_a_settled_one_for_ever() {
    for plan in [None, stop("i-1")] {
        assert_eq!(steps_for(claimed_ago(PENDING_S_MAX - 1, Action::Stop(0, 1), plan.clone()), &[], &[]), []);
        let taken_up = steps_for(claimed_ago(PENDING_S_MAX, Action::Stop(0, 1), plan.clone()), &[], &[]);
        match (&plan, taken_up.as_slice()) {
            (None, [Step::Release(_, Outcome::Failed { .. })]) | (Some(_), [Step::Resume(..)]) => {}
            (_, other) => panic!("{plan:?}: {other:?}"),
        }
        let mut settled = claimed_ago(3000, Action::Stop(0, 1), plan);
        settled.intent.as_mut().unwrap().state = IntentState::Settled;
        assert_eq!(steps_for(settled, &[], &[]), []);
    }
}

#[test]
fn a_decision_is_late_after_five_ticks_and_not_before() {
    let unclaimed = |age_s: u64| steps_for(decided(NOW / 1000 - age_s), &[], &[]).len();
    assert_eq!((unclaimed(LATE_TICKS * 60), unclaimed(LATE_TICKS * 60 + 1)), (0, 1));
    let held = Decision { verdict: Verdict::Hold, ..decided(NOW / 1000 - 3600) };
    assert_eq!(steps_for(held, &[], &[]), []);
}

#[test]
fn a_launch_is_done_where_a_machine_carries_its_decision_whatever_has_become_of_it() {
    let ours = CloudInstance { decision: Some(NOW / 1000 - 200), ..machine(&record("i-1", 0, 1)) };
    let none =
        Inventory { stack: "s", now_ms: NOW, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
    let plan = crate::plan::plan(Action::Launch(0, 1), NOW / 1000 - 200, &config(), &none).unwrap();
    let decision = || claimed_ago(200, Action::Launch(0, 1), Some(plan.clone()));
    let launched = Resume::Settle(Outcome::Launched { instance_ids: vec!["i-1".into()] });
    let dead = CloudInstance { alive: false, ..ours.clone() };
    for machine in [ours, dead] {
        let found = steps_for(decision(), &[], &[machine]);
        assert!(found.iter().any(|s| matches!(s, Step::Resume(_, how, _) if *how == launched)), "{found:?}");
    }
    let others = machine(&record("i-2", 0, 1));
    let again = steps_for(decision(), &[], &[others]);
    assert!(again.iter().any(|s| matches!(s, Step::Resume(_, Resume::Again(_), _))), "{again:?}");
}

#[test]
fn an_interrupted_plan_needs_the_right_to_do_what_it_does() {
    let two = [record("i-1", 0, 1), record("i-2", 0, 2)];
    let cloud: Vec<_> = two.iter().map(machine).collect();
    let none =
        Inventory { stack: "s", now_ms: NOW, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
    let launch = crate::plan::plan(Action::Launch(1, 1), NOW / 1000 - 200, &config(), &none).unwrap();
    let again = |plan: &Plan, may_launch: bool, may_stop: bool| {
        let config = config();
        let (records, cloud) = (two.as_slice(), cloud.as_slice());
        let scene = Scene {
            may_launch,
            may_stop,
            suspects: &seen_before(records, cloud, NOW),
            ..scene(&config, records, cloud, NOW)
        };
        matches!(resume(&decided(NOW / 1000 - 200), plan, &scene), Resume::Again(_))
    };
    assert!(again(&launch, true, false) && !again(&launch, false, true));
    let stop = stop("i-1").unwrap();
    assert!(again(&stop, false, true) && !again(&stop, true, false));
}

#[test]
fn a_machine_that_was_just_stopped_is_not_adopted_because_describe_still_shows_it() {
    let shown = machine(&record("i-1", 0, 1));
    let stopped = |age_s: u64, id: &str| {
        let mut decision = claimed_ago(age_s, Action::Stop(0, 1), stop(id));
        decision.intent.as_mut().unwrap().state = IntentState::Settled;
        steps_for(decision, &[], std::slice::from_ref(&shown))
    };
    let seen_by = LATE_TICKS * 60 + UNSEEN_S_MAX;
    assert_eq!(stopped(seen_by - 1, "i-1"), []);
    assert!(matches!(stopped(seen_by, "i-1").as_slice(), [Step::Adopt(_)]));
    assert!(matches!(stopped(60, "i-2").as_slice(), [Step::Adopt(_)]));
}

#[test]
fn the_look_back_reaches_the_oldest_stop_whose_machine_may_be_shown() {
    let config = PoolConfig { drain_s: Some(1000), ..config() };
    // claimed in the last second, drained to the last, and shown for as long as may be
    let (tick, latest_s) = (7000, 7000 + LATE_TICKS * config.tick_s);
    let drained_s = latest_s + 1000;
    let seen_by_ms = (drained_s..).map(|s| s * 1000).find(|now_ms| !may_be_unseen(drained_s, &config, *now_ms));
    assert_eq!(seen_by_ms.unwrap() / 1000 - look_back_s(&config), tick);
}

#[test]
fn only_an_interrupted_plan_that_is_not_late_may_be_carried_out() {
    let may = |decision: Decision| may_resume(&[decision], &config(), NOW);
    let with_plan = |age_s: u64| claimed_ago(age_s, Action::Stop(0, 1), stop("i-1"));
    assert!(may(with_plan(LATE_TICKS * 60)) && !may(with_plan(LATE_TICKS * 60 + 1)));
    assert!(!may(claimed_ago(60, Action::Stop(0, 1), None)) && !may(decided(NOW / 1000)));
    let mut settled = with_plan(60);
    settled.intent.as_mut().unwrap().state = IntentState::Settled;
    assert!(!may(settled));
}

#[test]
fn the_launch_of_a_machine_without_a_record_is_read_if_it_is_too_old_to_be_among_the_recent_ones() {
    let of = |tick| CloudInstance { decision: Some(tick), ..machine(&record("i-1", 0, 1)) };
    let unread = |records: &[InstanceRecord], m: CloudInstance| {
        unread_launches(records, &[m], &[decided(600)]).into_iter().collect::<Vec<_>>()
    };
    assert_eq!((unread(&[], of(540)), unread(&[], of(600))), (vec![540], vec![]));
    assert!(unread(&[record("i-1", 0, 1)], of(540)).is_empty());
    assert!(unread(&[], CloudInstance { decision: None, ..of(540) }).is_empty());
    assert!(unread(&[], CloudInstance { alive: false, ..of(540) }).is_empty());
}

#[test]
fn a_machine_that_has_drained_is_not_adopted_because_describe_still_shows_it() {
    let shown = machine(&record("i-1", 0, 1));
    let drained = |ago_s: u64| {
        let drain_until_ms = Some(NOW - ago_s * 1000);
        let plan = Some(Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms });
        let mut decision = claimed_ago(5000, Action::Stop(0, 1), plan);
        decision.intent.as_mut().unwrap().state = IntentState::Settled;
        steps_for(decision, &[], std::slice::from_ref(&shown))
    };
    let seen_by = LATE_TICKS * 60 + UNSEEN_S_MAX;
    assert_eq!(drained(seen_by - 1), []);
    assert!(matches!(drained(seen_by).as_slice(), [Step::Adopt(_)]));
}

#[test]
fn a_machine_of_a_pool_that_is_held_as_unhealthy_works_on_once_its_time_is_over() {
    let sick = |id: &str| InstanceRecord { ready_ms: None, ..record(id, 0, 1) };
    let drain = Drain { until_ms: NOW, why: DrainReason::Stop, since_ms: None };
    let drains = InstanceRecord { drain: Some(drain), ..record("i-1", 0, 1) };
    let records = [drains, sick("i-2"), sick("i-3"), sick("i-4")];
    let cloud: Vec<_> = records.iter().map(machine).collect();
    let found = steps(&records, &cloud);
    assert!(matches!(found.as_slice(), [Step::Undrain(r)] if r.instance_id == "i-1"), "{found:?}");
    let found = steps(&records[..3], &cloud[..3]);
    assert!(matches!(found.as_slice(), [Step::EndDrain(r)] if r.instance_id == "i-1"), "{found:?}");
}

#[test]
fn a_machine_whose_stop_failed_is_adopted_before_its_time_to_drain_would_be_over() {
    let shown = machine(&record("i-1", 0, 1));
    let failed = |error: Option<&str>| {
        let plan =
            Some(Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: Some(NOW + 3_600_000) });
        let mut decision = claimed_ago(1000, Action::Stop(0, 1), plan);
        let intent = decision.intent.as_mut().unwrap();
        intent.state = IntentState::Settled;
        intent.outcome = error.map(|error| Outcome::Failed { error: error.into() });
        steps_for(decision, &[], std::slice::from_ref(&shown))
    };
    assert!(matches!(failed(Some("protected")).as_slice(), [Step::Adopt(_)]));
    assert_eq!(failed(None), []);
}

#[test]
fn a_booting_machine_may_be_unseen_for_longer_than_one_that_was_in_service() {
    let lost = |launched_s_ago: u64, ready: bool| {
        let mut record = record("i-1", 0, NOW - launched_s_ago * 1000);
        record.ready_ms = record.ready_ms.filter(|_| ready);
        steps(&[record], &[]).len()
    };
    assert_eq!((lost(UNSEEN_S_MAX - 1, true), lost(UNSEEN_S_MAX, true)), (0, 1));
    let late = LATE_TICKS * 60 + UNSEEN_S_MAX;
    assert_eq!((lost(late - 1, false), lost(late, false)), (0, 1));
}
