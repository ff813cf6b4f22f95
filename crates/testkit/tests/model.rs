//! The fakes themselves are right: conditions, idempotency and the order of answers.

use contract::action::Action;
use contract::control::{Head, KillSwitch, Mode};
use contract::decision::{Decision, Intent, IntentState, Outcome};
use contract::manifest::Pointer;
use contract::plan::{LaunchPlan, Plan};
use contract::pool::PoolConfig;
use contract::record::{Ended, Suspect, Suspects, Suspicion};
use controller::plan::{Inventory, plan};
use controller::ports::*;
use proptest::prelude::*;
use testkit::builders::{self, TICK, cloudwatch, pool_config};
use testkit::{World, fault, op};

/// Runs a future of the fakes, which never wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn world_with(decision: &Decision) -> World {
    let world = World::with_pool(&pool_config("p"));
    assert_eq!(run(world.put_once(decision)).unwrap(), Written::New);
    world
}

fn launch_plan(tick: u64) -> LaunchPlan {
    let inventory = Inventory {
        stack: builders::STACK,
        now_ms: tick * 1000,
        records: &[],
        cloud: &[],
        tasks: &[],
        earlier: &[],
        no_capacity: None,
    };
    match plan(Action::Launch(0, 1), tick, &pool_config("p"), &inventory).unwrap() {
        Plan::Launch(launch) => launch,
        other => panic!("not a launch: {other:?}"),
    }
}

fn head(generation: u64, next_allowed_ms: u64) -> Head {
    Head { generation, next_allowed_ms, ..Head::default() }
}

fn settled(generation: u64) -> Intent {
    let outcome = Some(Outcome::Nothing { because: "test".into() });
    Intent { state: IntentState::Settled, outcome, ..builders::pending(generation, 0) }
}

#[test]
fn a_tick_is_decided_once_and_the_first_decision_stands() {
    let first = builders::decision("p", TICK, Action::Launch(0, 1));
    let world = world_with(&first);
    let second = builders::decision("p", TICK, Action::Nothing);
    assert_eq!(run(world.put_once(&second)).unwrap(), Written::Existed(Box::new(first.clone())));
    assert_eq!(run(world.get("p", TICK)).unwrap(), Some(first));
}

#[test]
fn a_claim_says_which_condition_it_lost() {
    let decision = builders::decision("p", TICK, Action::Launch(0, 1));
    let world = world_with(&decision);
    let claim = |from: &Head, next: &Head, now| run(world.claim(&decision, from, next, now)).unwrap();
    run(world.put_kill_switch(KillSwitch { engaged: true })).unwrap();
    assert_eq!(claim(&Head::default(), &head(1, 0), 5), Claim::Killed);
    run(world.put_kill_switch(KillSwitch { engaged: false })).unwrap();
    for mode in [Mode::Off, Mode::Observe, Mode::Drain] {
        run(world.put_config(&PoolConfig { mode, ..pool_config("p") })).unwrap();
        assert_eq!(claim(&Head::default(), &head(1, 0), 5), Claim::Mode);
    }
    run(world.put_config(&pool_config("p"))).unwrap();
    assert_eq!(claim(&head(3, 0), &head(4, 0), 5), Claim::Raced);
    assert_eq!(claim(&Head::default(), &head(1, 500), 5), Claim::Won(1));
    assert_eq!(claim(&head(1, 500), &head(2, 0), 500), Claim::Duplicate(Box::new(builders::pending(1, 5))));
    let later = builders::decision("p", TICK + 60, Action::Launch(0, 1));
    run(world.put_once(&later)).unwrap();
    assert_eq!(run(world.claim(&later, &head(1, 500), &head(2, 0), 499)).unwrap(), Claim::Cooldown);
    assert_eq!(run(world.claim(&later, &head(1, 500), &head(2, 900), 500)).unwrap(), Claim::Won(2));
    assert_eq!(run(world.head("p")).unwrap(), head(2, 900));
}

#[test]
fn a_claim_of_a_decision_that_nobody_wrote_is_an_error() {
    let forged = builders::decision("p", TICK, Action::Launch(0, 1));
    let error = run(World::new().claim(&forged, &Head::default(), &head(1, 0), 5)).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[test]
fn a_settled_intent_is_never_rewritten() {
    let decision = builders::decision("p", TICK, Action::Launch(0, 1));
    let world = world_with(&decision);
    run(world.claim(&decision, &Head::default(), &head(1, 0), 5)).unwrap();
    assert_eq!(run(world.put_intent("p", TICK, &settled(0))).unwrap_err().kind, Kind::Conflict);
    assert_eq!(run(world.put_intent("p", TICK, &settled(2))).unwrap_err().kind, Kind::Conflict);
    run(world.put_intent("p", TICK, &settled(1))).unwrap();
    assert_eq!(run(world.put_intent("p", TICK, &builders::pending(1, 9))).unwrap_err().kind, Kind::Conflict);
    run(world.put_intent("p", TICK, &settled(1))).expect("the same again is no error");
    assert!(world.decisions()[0].is_settled());
}

#[test]
fn a_stored_plan_is_never_replaced() {
    let decision = builders::decision("p", TICK, Action::Launch(0, 1));
    let world = world_with(&decision);
    run(world.claim(&decision, &Head::default(), &head(1, 0), 5)).unwrap();
    let planned = |tick| Intent { plan: Some(Plan::Launch(launch_plan(tick))), ..builders::pending(1, 5) };
    run(world.put_intent("p", TICK, &planned(TICK))).unwrap();
    run(world.put_intent("p", TICK, &planned(TICK))).expect("the same again is no error");
    for other in [planned(TICK + 60), builders::pending(1, 5), settled(1)] {
        assert_eq!(run(world.put_intent("p", TICK, &other)).unwrap_err().kind, Kind::Conflict);
    }
    run(world.put_intent("p", TICK, &Intent { plan: planned(TICK).plan, ..settled(1) })).unwrap();
}

#[test]
fn a_refusal_is_settled_without_a_claim_once() {
    let decision = builders::decision("p", TICK, Action::Launch(0, 1));
    let world = world_with(&decision);
    run(world.put_intent("p", TICK, &settled(0))).unwrap();
    let other = Intent { claimed_ms: 7, ..settled(0) };
    assert_eq!(run(world.put_intent("p", TICK, &other)).unwrap_err().kind, Kind::Conflict);
    assert_eq!(run(world.put_intent("p", TICK + 1, &settled(0))).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn the_index_of_unsettled_decisions_shows_what_asks_until_it_is_settled_and_may_be_behind() {
    let world = world_with(&builders::decision("p", TICK, Action::Launch(0, 1)));
    run(world.put_once(&builders::decision("p", TICK + 60, Action::Nothing))).unwrap();
    run(world.put_once(&builders::decision("other", TICK, Action::Launch(0, 1)))).unwrap();
    let shown = |world: &World| run(world.unsettled("p")).unwrap().iter().map(|d| d.tick).collect::<Vec<_>>();
    assert_eq!(shown(&world), [TICK]);
    world.set_unsettled_index_behind(true);
    run(world.put_once(&builders::decision("p", TICK + 120, Action::Launch(0, 1)))).unwrap();
    assert_eq!(shown(&world), [TICK], "not yet");
    run(world.put_intent("p", TICK, &settled(0))).unwrap();
    assert_eq!(shown(&world), Vec::<u64>::new(), "it still names the settled one, which is then read and left out");
    world.set_unsettled_index_behind(false);
    assert_eq!(shown(&world), [TICK + 120]);
}

#[test]
fn a_decision_of_another_version_stands_in_the_log_and_is_passed_by_readers() {
    let world = world_with(&builders::decision("p", TICK, Action::Launch(0, 1)));
    run(world.put_once(&builders::decision("p", TICK + 60, Action::Launch(0, 1)))).unwrap();
    let old = |json: &mut serde_json::Value| json["mask"].as_array_mut().unwrap().truncate(7);
    assert!(world.rewrite_decision("p", TICK, old), "fewer actions are filled up");
    assert!(!world.decisions()[0].mask[7] && world.decisions()[1].mask[7]);
    let newer = |json: &mut serde_json::Value| json["mask"].as_array_mut().unwrap().resize(25, true.into());
    assert!(!world.rewrite_decision("p", TICK + 60, newer));
    let ticks = |found: Port<Vec<Decision>>| found.unwrap().iter().map(|d| d.tick).collect::<Vec<_>>();
    assert_eq!(run(world.get("p", TICK + 60)).unwrap_err().kind, Kind::Unreadable);
    assert_eq!(ticks(run(world.before("p", TICK + 120, 1))), [TICK]);
    assert_eq!(ticks(run(world.range("p", 0, TICK + 120))), [TICK]);
    assert_eq!(ticks(run(world.unsettled("p"))), [TICK]);
    let again = builders::decision("p", TICK + 60, Action::Nothing);
    assert_eq!(run(world.put_once(&again)).unwrap(), Written::Unreadable);
}

#[test]
fn a_launch_is_idempotent_by_its_token() {
    let world = World::new();
    let plan = launch_plan(TICK);
    let first = run(world.launch(&plan)).unwrap();
    assert_eq!(run(world.launch(&plan)).unwrap(), first);
    assert_eq!(world.machines().len(), 1);
    let other = LaunchPlan { size: 1, ..plan.clone() };
    assert_eq!(run(world.launch(&other)).unwrap_err().code, "IdempotentParameterMismatch");
    run(world.terminate(&[first[0].instance_id.clone()])).unwrap();
    assert_eq!(run(world.launch(&plan)).unwrap_err().code, "IdempotentInstanceTerminated");
    assert_eq!(run(world.launch(&launch_plan(TICK + 60))).unwrap().len(), 1);
}

#[test]
fn describe_knows_our_machines_only_and_foreign_ones_are_not_terminated() {
    let world = World::new();
    let ours = run(world.launch(&launch_plan(TICK))).unwrap();
    assert_eq!((ours[0].size, ours[0].decision), (Some(0), Some(TICK)));
    let foreign = world.add_machine([("Name".to_owned(), "db".to_owned())].into());
    world.add_machine(builders::tags("other", TICK, 0));
    let of_other_stack = world.add_machine(controller::plan::tags("blue", "p", TICK, 0));
    assert_eq!(run(world.pool_of(&of_other_stack)).unwrap(), None);
    assert_eq!(run(world.pool_of(&ours[0].instance_id)).unwrap().as_deref(), Some("p"));
    assert_eq!(run(world.describe("p")).unwrap(), ours);
    for foreign in [&foreign, &of_other_stack] {
        let ids = [ours[0].instance_id.clone(), foreign.clone()];
        assert_eq!(run(world.terminate(&ids)).unwrap_err().kind, Kind::Denied);
    }
    assert!(world.machines().iter().all(|m| m.alive));
    world.change_machine(&ours[0].instance_id, |m| m.visible = false);
    assert_eq!(run(world.describe("p")).unwrap(), []);
    let asked = [ours[0].instance_id.clone(), foreign];
    assert!(run(world.terminated(&asked)).unwrap().is_empty(), "it is only not shown yet");
    world.change_machine(&ours[0].instance_id, |m| m.alive = false);
    assert_eq!(run(world.terminated(&asked)).unwrap(), asked[..1]);
    world.change_machine(&ours[0].instance_id, |m| m.visible = true);
    assert!(run(world.terminated(&asked)).unwrap().is_empty(), "a person stopped it");
}

#[test]
fn faults_come_before_or_after_the_effect_and_end() {
    let world = World::new();
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "RequestLimitExceeded", Kind::Throttled));
    assert!(run(world.launch(&launch_plan(TICK))).unwrap_err().is_transient());
    assert_eq!(world.machines().len(), 0);
    world.fail_after(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert_eq!(run(world.launch(&launch_plan(TICK))).unwrap_err().kind, Kind::Unavailable);
    assert_eq!(world.machines().len(), 1);
    world.without_capacity(0);
    assert_eq!(run(world.launch(&launch_plan(TICK + 60))).unwrap_err().kind, Kind::NoCapacity);
    world.take_down(op::DESCRIBE, Kind::Unavailable);
    assert!(run(world.describe("p")).is_err() && run(world.describe("p")).is_err());
    world.heal();
    assert_eq!(run(world.describe("p")).unwrap().len(), 1);
    assert_eq!((world.count(op::LAUNCH), world.count(op::DESCRIBE)), (3, 3));
}

#[test]
#[should_panic(expected = "no operation")]
fn a_fault_for_an_operation_that_does_not_exist_is_a_mistake_in_the_test() {
    World::new().take_down("RunInstance", Kind::Denied);
}

#[test]
fn the_pointer_moves_by_compare_and_swap() {
    let world = World::new();
    let at = |serial| Pointer { version: 1, sha256: "a".repeat(64), previous: None, serial };
    assert_eq!(run(world.pointer("p")).unwrap(), None);
    run(world.move_pointer("p", &at(1), None)).unwrap();
    let (stands, tag) = run(world.pointer("p")).unwrap().unwrap();
    assert_eq!(stands, at(1));
    assert_eq!(run(world.move_pointer("p", &at(2), None)).unwrap_err().kind, Kind::Conflict);
    run(world.move_pointer("p", &at(2), Some(&tag))).unwrap();
    run(world.move_pointer("p", &at(2), Some(&tag))).unwrap();
    assert_eq!(run(world.move_pointer("p", &at(3), Some(&tag))).unwrap_err().kind, Kind::Conflict);
}

#[test]
fn a_file_is_written_once_and_refused_above_the_cap() {
    let world = World::new();
    run(world.put_file("x", "policy.onnx", vec![1, 2, 3])).unwrap();
    run(world.put_file("x", "policy.onnx", vec![1, 2, 3])).unwrap();
    assert_eq!(run(world.put_file("x", "policy.onnx", vec![9])).unwrap_err().kind, Kind::Conflict);
    assert_eq!(run(world.file("x", "policy.onnx", 3)).unwrap(), [1, 2, 3]);
    assert_eq!(run(world.file("x", "policy.onnx", 2)).unwrap_err().kind, Kind::Invalid);
    assert_eq!(run(world.manifest("x")).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn machines_are_recorded_once_and_their_first_end_stays() {
    let world = World::new();
    let record = builders::instance("p", "i-1", 0, 1000);
    run(world.put_new(&record)).unwrap();
    run(world.mark_ready(&record, 2000)).unwrap();
    run(world.put_new(&record)).unwrap();
    assert_eq!(run(world.alive("p")).unwrap()[0].ready_ms, Some(2000));
    run(world.mark_terminated(&record, 3000, Ended::Lost)).unwrap();
    run(world.mark_terminated(&record, 4000, Ended::Stopped)).unwrap();
    assert_eq!(run(world.alive("p")).unwrap(), []);
    let stored = || run(world.launched("p", 1000, 1001)).unwrap().remove(0);
    assert_eq!((stored().terminated_ms, stored().ended), (Some(3000), Some(Ended::Lost)));
    run(world.reopen(&record)).unwrap();
    assert_eq!((stored().terminated_ms, stored().ended), (None, None));
    let unknown = builders::instance("p", "i-2", 0, 1000);
    assert_eq!(run(world.mark_ready(&unknown, 1)).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn of_two_who_have_read_the_same_suspects_one_writes() {
    let world = World::new();
    let with = |version, id: &str| {
        let suspect = Suspect { why: Suspicion::Lost, since_ms: 1, ended_ms: None };
        Suspects { version, machines: [(id.to_owned(), suspect)].into() }
    };
    assert_eq!(run(world.suspects("p")).unwrap(), Suspects::default());
    run(world.put_suspects("p", &with(1, "i-1"))).unwrap();
    run(world.put_suspects("p", &with(1, "i-1"))).expect("the same again is no error");
    assert_eq!(run(world.put_suspects("p", &with(1, "i-2"))).unwrap_err().kind, Kind::Conflict);
    run(world.put_suspects("p", &with(2, "i-2"))).unwrap();
    assert_eq!(run(world.put_suspects("p", &with(2, "i-3"))).unwrap_err().kind, Kind::Conflict);
    assert_eq!(run(world.suspects("p")).unwrap(), with(2, "i-2"));
}

#[test]
fn a_decision_above_400_kilobytes_is_refused_and_so_is_an_intent_that_makes_it_so() {
    let world = World::new();
    let of = |bytes: usize| Decision { reason: "x".repeat(bytes), ..builders::decision("p", 60, Action::Launch(0, 1)) };
    let refused = run(world.put_once(&of(400 * 1024))).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.kind), ("ValidationException", Kind::Invalid));
    run(world.put_once(&of(390 * 1024))).unwrap();
    let outcome = Some(Outcome::Failed { error: "y".repeat(10 * 1024) });
    let intent = Intent { generation: 0, state: IntentState::Settled, outcome, ..builders::pending(0, 1) };
    assert_eq!(run(world.put_intent("p", 60, &intent)).unwrap_err().code, "ValidationException");
    assert_eq!(world.decisions()[0].intent, None);
}

#[test]
fn the_points_within_the_window_are_given() {
    let world = World::new();
    let source = cloudwatch("cpu_util_avg");
    let point = |at_ms, value| Point { at_ms, value };
    for (at, value) in [(100, 1.0), (300, 3.0), (200, 2.0), (900, 9.0)] {
        world.add_point("p", &source, point(at, value));
    }
    let series = |window, to| run(world.series("p", std::slice::from_ref(&source), window, to)).unwrap();
    assert_eq!(series(1000, 400), [Some(vec![point(100, 1.0), point(300, 3.0), point(200, 2.0)])]);
    assert_eq!(series(100, 400), [Some(vec![])]);
    assert_eq!(series(101, 400), [Some(vec![point(300, 3.0)])]);
}

/// What a sequence of claims must do, said in a different way: by remembering, instead of by conditions.
#[derive(Default)]
struct Model {
    claimed: Vec<u64>,
    generation: u64,
    next_allowed_ms: u64,
}

proptest! {
    #[test]
    fn claims_agree_with_a_model(
        steps in prop::collection::vec((0u64..4, 0u64..4, 0u64..100, 0u64..40, 0usize..4, any::<bool>()), 1..40),
    ) {
        let world = World::new();
        let mut model = Model::default();
        for (tick, seen_generation, now_ms, cooldown_ms, mode, stops) in steps {
            let mode = Mode::ALL[mode];
            let action = if stops { Action::Stop(0, 1) } else { Action::Launch(0, 1) };
            let decision = builders::decision("p", tick, action);
            run(world.put_config(&PoolConfig { mode, ..pool_config("p") })).unwrap();
            run(world.put_once(&decision)).unwrap();
            let next = head(seen_generation + 1, now_ms + cooldown_ms);
            let claim = run(world.claim(&decision, &head(seen_generation, 0), &next, now_ms)).unwrap();
            let may_win = !model.claimed.contains(&tick)
                && (mode == Mode::Active || (mode == Mode::Drain && stops))
                && now_ms >= model.next_allowed_ms
                && seen_generation == model.generation;
            prop_assert_eq!(matches!(claim, Claim::Won(_)), may_win, "{:?}", claim);
            if may_win {
                model.claimed.push(tick);
                model.generation += 1;
                model.next_allowed_ms = now_ms + cooldown_ms;
            }
            prop_assert_eq!(run(world.head("p")).unwrap().generation, model.generation);
        }
    }

    #[test]
    fn tasks_are_found_by_their_window_in_order(times in prop::collection::vec(0u64..50, 0..30), from in 0u64..50, to in 0u64..50) {
        let world = World::new();
        for (i, t) in times.iter().enumerate() {
            run(world.put(&builders::task("p", &i.to_string(), *t))).unwrap();
        }
        let mut expected: Vec<u64> = times.iter().copied().filter(|t| (from..to).contains(t)).collect();
        expected.sort_unstable();
        let got: Vec<u64> = run(world.submitted("p", from, to)).unwrap().iter().map(|t| t.submitted_ms).collect();
        prop_assert_eq!(got, expected);
        let mut expected: Vec<u64> = times.iter().copied().filter(|t| *t > from && *t <= to).collect();
        expected.sort_unstable();
        prop_assert_eq!(run(world.arrival_times("p", from, to)).unwrap(), expected);
    }
}
