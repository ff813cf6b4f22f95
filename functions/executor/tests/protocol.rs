//! The executor's protocol over an in-memory world: once, within the rails, and nothing lost.

use std::task::{Context, Poll, Waker};

use contract::control::Mode;
use contract::decision::{IntentState, Outcome};
use contract::event::Tick;
use contract::pool::PoolConfig;
use contract::record::{Drain, DrainReason, Ended, TaskRecord};
use contract::{ACTION_COUNT, Action, Mask};
use controller::offering::without_capacity;
use controller::ports::{Control, Decisions, Instances, Kind, Tasks};
use controller::reason::Dropped;
use executor::event::Record;
use executor::execute::Done;
use executor::interruption::Notice;
use executor::{Executor, Ports};
use testkit::builders::{TICK, decision, instance, pool_config, task};
use testkit::{World, fault, op};

type OverWorld = Executor<World, World, World, World, World>;

fn over(world: &World) -> OverWorld {
    Executor::new(Ports {
        tasks: world.clone(),
        instances: world.clone(),
        decisions: world.clone(),
        control: world.clone(),
        cloud: world.clone(),
    })
}

fn schedule(tick: u64) -> Tick {
    let at = jiff::Timestamp::from_second(tick as i64).unwrap();
    Tick { pool: "p".into(), scheduled_time: at }
}

async fn decided(world: &World, tick: u64, action: Action) {
    world.put_once(&decision("p", tick, action)).await.unwrap();
}

/// A world with a pool that has a cooldown, and the executor over it.
fn setup() -> (World, OverWorld) {
    let config = PoolConfig { cooldown_s: 120, ..pool_config("p") };
    let world = World::with_pool(&config);
    let executor = over(&world);
    (world, executor)
}

#[tokio::test]
async fn a_launch_is_claimed_recorded_and_settled() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(1, 1)).await;
    let Done::Settled(Outcome::Launched { instance_ids }) = executor.execute("p", TICK).await.unwrap() else {
        panic!("launched")
    };
    let [record] = world.instances().try_into().unwrap();
    assert_eq!(instance_ids, std::slice::from_ref(&record.instance_id));
    assert_eq!((record.size, record.launched_ms, record.decision), (1, TICK * 1000, Some(TICK)));
    let stored = &world.decisions()[0];
    let intent = stored.intent.as_ref().unwrap();
    assert_eq!((intent.state, intent.generation), (IntentState::Settled, 1));
    assert!(intent.plan.is_some());
    let head = world.head("p").await.unwrap();
    assert_eq!((head.generation, head.next_allowed_ms), (1, (TICK + 120) * 1000));
}

#[tokio::test]
async fn a_duplicate_record_launches_nothing_more() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Dropped(_)));
    }
    assert_eq!(world.machines().len(), 1);
    assert_eq!(world.count(op::LAUNCH), 1);
}

#[tokio::test]
async fn a_decision_within_the_cooldown_is_refused_and_recorded() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    decided(&world, TICK + 60, Action::Launch(0, 1)).await;
    let refused = Done::Settled(Outcome::Refused { because: "cooldown".into() });
    assert_eq!(executor.execute("p", TICK + 60).await.unwrap(), refused);
    decided(&world, TICK + 120, Action::Launch(0, 1)).await;
    assert!(matches!(executor.execute("p", TICK + 120).await.unwrap(), Done::Settled(Outcome::Launched { .. })));
    assert_eq!(world.machines().len(), 2);
    assert!(world.decisions().iter().all(|d| d.is_settled()));
}

#[tokio::test]
async fn an_older_decision_after_a_younger_one_is_late() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    decided(&world, TICK + 60, Action::Launch(0, 1)).await;
    executor.execute("p", TICK + 60).await.unwrap();
    let Done::Settled(Outcome::Refused { because }) = executor.execute("p", TICK).await.unwrap() else { panic!() };
    assert!(because.starts_with("late"), "{because}");
    assert_eq!(world.machines().len(), 1);
}

#[tokio::test]
async fn no_capacity_is_recorded_and_backed_off_and_nothing_leaks() {
    let (world, executor) = setup();
    world.without_capacity(2);
    decided(&world, TICK, Action::Launch(2, 1)).await;
    let done = executor.execute("p", TICK).await.unwrap();
    assert!(matches!(done, Done::Settled(Outcome::NoCapacity { .. })), "{done:?}");
    let memory = world.no_capacity("p").await.unwrap();
    assert_eq!(without_capacity(&pool_config("p"), &memory, TICK * 1000), [false, false, true]);
    assert!(world.machines().is_empty() && world.instances().is_empty());
}

#[tokio::test]
async fn a_launch_that_may_have_worked_counts_although_its_second_call_finds_no_capacity() {
    let config = PoolConfig { launches_per_hour_max: Some(1), ..pool_config("p") };
    let world = World::with_pool(&config);
    let executor = over(&world);
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.fail_after(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    let id = world.machines()[0].instance_id.clone();
    world.change_machine(&id, |m| m.visible = false);
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "InsufficientInstanceCapacity", Kind::NoCapacity));
    assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().finished, 1);
    let outcome = world.decisions()[0].intent.clone().unwrap().outcome.unwrap();
    assert!(matches!(&outcome, Outcome::Failed { error } if error.contains("may have worked")), "{outcome:?}");
    decided(&world, TICK + 240, Action::Launch(0, 1)).await;
    let next = executor.execute("p", TICK + 240).await.unwrap();
    assert!(matches!(&next, Done::Settled(Outcome::Refused { because }) if because.contains("launches were claimed")));
}

#[tokio::test]
async fn without_capacity_the_next_launch_goes_elsewhere_and_is_recorded_at_its_price() {
    let mut config = PoolConfig { subnets: vec!["a".into()], ..pool_config("p") };
    let alternate = contract::pool::Alternate { instance_type: "m6a.large".into(), usd_per_hour: 0.25 };
    config.sizes[0].alternates = vec![alternate];
    let world = World::with_pool(&config);
    let executor = over(&world);
    world.without_capacity_at(None, Some("a"));
    for tick in [TICK, TICK + 60] {
        decided(&world, tick, Action::Launch(0, 1)).await;
        executor.execute("p", tick).await.unwrap();
    }
    let outcomes = world.decisions().into_iter().map(|d| d.intent.unwrap().outcome.unwrap());
    let [Outcome::NoCapacity { .. }, Outcome::Launched { .. }] = &outcomes.collect::<Vec<_>>()[..] else {
        panic!("elsewhere: {:?}", world.decisions())
    };
    assert_eq!(world.instances()[0].usd_per_hour, 0.25);
    // the place without capacity is remembered although the other one worked
    assert_eq!(world.no_capacity("p").await.unwrap().offerings.len(), 1);
}

#[tokio::test]
async fn a_launch_that_worked_behind_a_time_out_is_finished_by_the_reconciler_without_a_second_machine() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.fail_after(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    assert_eq!((world.machines().len(), world.instances().len()), (1, 0));
    let early = executor.reconcile(&schedule(TICK + 60)).await.unwrap();
    assert_eq!((early.finished, early.adopted), (0, 1));
    let later = executor.reconcile(&schedule(TICK + 180)).await.unwrap();
    assert_eq!(later.finished, 1);
    assert_eq!((world.machines().len(), world.instances().len()), (1, 1));
    assert!(world.decisions()[0].is_settled());
}

#[tokio::test]
async fn a_delayed_stream_does_not_launch_for_what_was_long_ago() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    decided(&world, TICK + 360, Action::Nothing).await;
    let Done::Settled(Outcome::Refused { because }) = executor.execute("p", TICK).await.unwrap() else { panic!() };
    assert_eq!(because, "late by 360 s");
    assert!(world.machines().is_empty());
}

#[tokio::test]
async fn a_decision_that_no_executor_claimed_is_settled_by_the_reconciler() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    assert_eq!(executor.reconcile(&schedule(TICK + 120)).await.unwrap().released, 0);
    assert_eq!(executor.reconcile(&schedule(TICK + 360)).await.unwrap().released, 1);
    assert!(world.decisions()[0].is_settled() && world.machines().is_empty());
}

#[tokio::test]
async fn a_claim_that_was_never_settled_is_settled_however_old_it_is() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.take_down(op::INSTANCES_ALIVE, Kind::Unavailable);
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    world.heal();
    let done = executor.reconcile(&schedule(TICK + 30 * 86_400)).await.unwrap();
    assert_eq!(done.released, 1);
    assert!(world.decisions()[0].is_settled());
}

/// Two L whose second must not be launched while the budget of the hour allows one, and the first is 50 minutes old.
#[tokio::test]
async fn an_interrupted_launch_is_checked_against_all_claims_of_the_hour() {
    let config = PoolConfig { launches_per_hour_max: Some(2), ..pool_config("p") };
    let world = World::with_pool(&config);
    let executor = over(&world);
    decided(&world, TICK, Action::Launch(2, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    let again = TICK + 3000;
    decided(&world, again, Action::Launch(2, 1)).await;
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "RequestLimitExceeded", Kind::Throttled));
    assert!(matches!(executor.execute("p", again).await.unwrap(), Done::Pending(_)));
    world.put_config(&PoolConfig { launches_per_hour_max: Some(1), ..config }).await.unwrap();
    executor.reconcile(&schedule(again + 180)).await.unwrap();
    let intent = world.decisions()[1].intent.clone().unwrap();
    let Some(Outcome::Failed { error }) = intent.outcome else { panic!("{intent:?}") };
    assert!(error.contains("1 launches were claimed in the last hour"), "{error}");
    assert_eq!(world.machines().len(), 1);
}

#[tokio::test]
async fn a_reconciliation_with_nothing_to_finish_reads_the_last_minutes_once() {
    let (world, executor) = setup();
    executor.reconcile(&schedule(TICK)).await.unwrap();
    assert_eq!((world.count(op::DECISIONS_UNSETTLED), world.count(op::DECISIONS_RANGE)), (1, 1));
    assert_eq!(world.count(op::DECISIONS_GET), 0);
}

#[tokio::test]
async fn a_machine_whose_record_is_lost_is_adopted_at_its_launches_price_however_old_that_is() {
    let mut config = pool_config("p");
    let alternate = contract::pool::Alternate { instance_type: "m6a.large".into(), usd_per_hour: 0.25 };
    config.sizes[0].alternates = vec![alternate];
    let world = World::with_pool(&config);
    let executor = over(&world);
    world.without_capacity_at(None, None);
    for tick in [TICK, TICK + 60] {
        decided(&world, tick, Action::Launch(0, 1)).await;
        executor.execute("p", tick).await.unwrap();
    }
    let [record] = world.instances().try_into().unwrap();
    let outside = world.outside();
    outside.mark_terminated(&record, (TICK + 90) * 1000, Ended::Lost).await.unwrap();
    let done = executor.reconcile(&schedule(TICK + 86_400)).await.unwrap();
    assert_eq!((done.adopted, world.count(op::DECISIONS_GET)), (1, 3), "two to execute, one for the price");
    let adopted = world.instances();
    assert_eq!((adopted.len(), adopted[0].usd_per_hour), (1, 0.25));
}

#[tokio::test]
async fn an_interrupted_launch_is_not_repeated_behind_the_kill_switch() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    world.put_kill_switch(contract::control::KillSwitch { engaged: true }).await.unwrap();
    assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().finished, 1);
    assert!(world.decisions()[0].is_settled() && world.machines().is_empty());
}

#[tokio::test]
async fn an_interrupted_launch_is_not_repeated_while_the_pool_is_drained_and_an_interrupted_stop_is() {
    for (action, operation) in [(Action::Launch(0, 1), op::LAUNCH), (Action::Stop(0, 1), op::TERMINATE)] {
        let (world, executor) = setup();
        let id = world.add_machine(testkit::builders::tags("p", TICK - 3600, 0));
        world.put_new(&instance("p", &id, 0, (TICK - 3600) * 1000)).await.unwrap();
        decided(&world, TICK, action).await;
        world.fail_next(operation, fault(operation, "RequestTimeout", Kind::Unavailable));
        assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
        let draining = PoolConfig { mode: Mode::Drain, ..pool_config("p") };
        world.put_config(&draining).await.unwrap();
        assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().finished, 1);
        assert!(world.decisions()[0].is_settled());
        let alive = world.machines().iter().filter(|m| m.alive).count();
        assert_eq!(alive, usize::from(operation == op::LAUNCH), "{action}");
    }
}

#[tokio::test]
async fn a_machine_taken_for_lost_gets_its_record_back_when_ec2_shows_it_again() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    let id = world.machines()[0].instance_id.clone();
    world.change_machine(&id, |m| m.visible = false);
    assert_eq!(executor.reconcile(&schedule(TICK + 600)).await.unwrap().lost, 0, "at first sight");
    assert_eq!(executor.reconcile(&schedule(TICK + 660)).await.unwrap().lost, 1);
    assert_eq!(world.instances()[0].ended, Some(Ended::Lost));
    assert!(world.alive("p").await.unwrap().is_empty());
    world.change_machine(&id, |m| m.visible = true);
    assert_eq!(executor.reconcile(&schedule(TICK + 900)).await.unwrap().adopted, 1);
    assert_eq!(world.alive("p").await.unwrap()[0].instance_id, id);
}

#[tokio::test]
async fn a_crash_between_claim_and_plan_is_released() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.take_down(op::DESCRIBE, Kind::Unavailable);
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    world.heal();
    assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().released, 1);
    assert!(world.machines().is_empty() && world.decisions()[0].is_settled());
}

#[tokio::test]
async fn a_machine_without_our_tags_is_never_stopped() {
    let (world, executor) = setup();
    let foreign = world.add_machine(std::collections::BTreeMap::new());
    for id in [foreign.as_str(), "i-gone"] {
        world.put_new(&instance("p", id, 0, (TICK - 600) * 1000)).await.unwrap();
    }
    decided(&world, TICK, Action::Stop(0, 1)).await;
    let done = executor.execute("p", TICK).await.unwrap();
    assert!(matches!(done, Done::Settled(Outcome::Nothing { .. })), "{done:?}");
    assert_eq!(world.count(op::TERMINATE), 0);
    assert!(world.machines()[0].alive);
}

#[tokio::test]
async fn the_kill_switch_and_the_mode_refuse_every_claim() {
    let (world, executor) = setup();
    world.put_kill_switch(contract::control::KillSwitch { engaged: true }).await.unwrap();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    let refused = Done::Settled(Outcome::Refused { because: "kill switch".into() });
    assert_eq!(executor.execute("p", TICK).await.unwrap(), refused);
    world.put_kill_switch(contract::control::KillSwitch { engaged: false }).await.unwrap();
    let watching = PoolConfig { mode: Mode::Observe, ..pool_config("p") };
    world.put_config(&watching).await.unwrap();
    decided(&world, TICK + 60, Action::Launch(0, 1)).await;
    let refused = Done::Settled(Outcome::Refused { because: "mode observe".into() });
    assert_eq!(executor.execute("p", TICK + 60).await.unwrap(), refused);
    assert!(world.machines().is_empty());
}

/// Executes the decision of [`TICK`]; between its last call before the claim and the claim, somebody sets this mode.
async fn execute_around_mode(world: &World, executor: &OverWorld, mode: Mode) -> Done {
    world.step_by_step();
    let mut run = std::pin::pin!(executor.execute("p", TICK));
    let mut poll = || run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    while world.count(op::DECISIONS_BEFORE) == 0 {
        assert!(poll().is_pending());
    }
    world.outside().put_config(&PoolConfig { mode, ..pool_config("p") }).await.unwrap();
    loop {
        if let Poll::Ready(done) = poll() {
            return done.unwrap();
        }
    }
}

#[tokio::test]
async fn a_mode_that_is_set_between_its_reading_and_the_claim_refuses_it() {
    let refused = Done::Settled(Outcome::Refused { because: "mode: changed before the claim".into() });
    for (mode, action, is_refused) in [
        (Mode::Off, Action::Stop(0, 1), true),
        (Mode::Observe, Action::Launch(0, 1), true),
        (Mode::Drain, Action::Launch(0, 1), true),
        (Mode::Drain, Action::Stop(0, 1), false),
    ] {
        let (world, executor) = setup();
        decided(&world, TICK, action).await;
        let done = execute_around_mode(&world, &executor, mode).await;
        assert_eq!(done == refused, is_refused, "{mode:?} {action}: {done}");
        assert_eq!(world.outside().head("p").await.unwrap().generation, u64::from(!is_refused));
        assert!(world.machines().is_empty());
    }
}

#[tokio::test]
async fn several_machines_come_and_go_in_one_action_but_for_the_protected_one() {
    let world = World::with_pool(&PoolConfig { machines_per_action_max: 4, ..pool_config("p") });
    let executor = over(&world);
    decided(&world, TICK, Action::Launch(0, 4)).await;
    let launched = executor.execute("p", TICK).await.unwrap();
    let Done::Settled(Outcome::Launched { instance_ids }) = launched else { panic!("{launched:?}") };
    assert_eq!((instance_ids.len(), world.instances().len()), (4, 4));
    world.change_machine(&instance_ids[3], |m| m.protected = true);
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    let stopped = executor.execute("p", TICK + 60).await.unwrap();
    let Done::Settled(Outcome::Terminated { instance_ids: gone }) = stopped else { panic!("{stopped:?}") };
    // of machines as good as each other the first by name go
    assert_eq!(gone, instance_ids[..2]);
    decided(&world, TICK + 120, Action::Stop(0, 2)).await;
    let stopped = executor.execute("p", TICK + 120).await.unwrap();
    assert_eq!(stopped, Done::Settled(Outcome::Terminated { instance_ids: vec![instance_ids[2].clone()] }));
    let alive: Vec<String> = world.alive("p").await.unwrap().into_iter().map(|r| r.instance_id).collect();
    assert_eq!(alive, [instance_ids[3].clone()]);
}

/// A pool whose machines have ten minutes to work off their tasks, two of size S, and a task that runs on the first.
async fn with_drain() -> (World, OverWorld) {
    let world = World::with_pool(&PoolConfig { drain_s: Some(600), machines_per_action_max: 2, ..pool_config("p") });
    let executor = over(&world);
    decided(&world, TICK, Action::Launch(0, 2)).await;
    executor.execute("p", TICK).await.unwrap();
    let id = world.machines()[0].instance_id.clone();
    let runs = TaskRecord { started_ms: Some(TICK * 1000), instance_id: Some(id), ..task("p", "t", TICK * 1000) };
    world.put(&runs).await.unwrap();
    (world, executor)
}

#[tokio::test]
async fn a_busy_machine_works_off_its_tasks_and_an_idle_one_goes_a_tick_later() {
    let (world, executor) = with_drain().await;
    let ids: Vec<String> = world.machines().iter().map(|m| m.instance_id.clone()).collect();
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    let until_ms = (TICK + 660) * 1000;
    let draining = Done::Settled(Outcome::Draining { instance_ids: ids, until_ms });
    assert_eq!(executor.execute("p", TICK + 60).await.unwrap(), draining);
    let alive = || world.machines().iter().map(|m| m.alive).collect::<Vec<_>>();
    let stored = world.alive("p").await.unwrap().into_iter().map(|r| r.drain);
    let drain = Drain { until_ms, why: DrainReason::Stop, since_ms: Some((TICK + 60) * 1000) };
    assert_eq!(stored.collect::<Vec<_>>(), [Some(drain); 2]);
    assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.unwrap().drained, 0);
    assert_eq!(alive(), [true, true]);
    // the other one is not stopped while it works
    assert_eq!(executor.reconcile(&schedule(TICK + 120)).await.unwrap().drained, 1);
    assert_eq!(alive(), [true, false]);
    let done = TaskRecord { finished_ms: Some((TICK + 150) * 1000), ..world.tasks()[0].clone() };
    world.put(&done).await.unwrap();
    assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().drained, 1);
    assert!(world.alive("p").await.unwrap().is_empty() && !world.machines()[0].alive);
}

#[tokio::test]
async fn a_task_that_was_taken_just_before_the_mark_is_worked_off() {
    let (world, executor) = with_drain().await;
    let id = world.machines()[1].instance_id.clone();
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    executor.execute("p", TICK + 60).await.unwrap();
    assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.unwrap().drained, 0);
    // its worker had looked at its record before; the task shows only now
    let started_ms = Some((TICK + 59) * 1000);
    let late = TaskRecord { started_ms, instance_id: Some(id.clone()), ..task("p", "late", TICK * 1000) };
    world.put(&late).await.unwrap();
    for tick in [TICK + 120, TICK + 180] {
        assert_eq!(executor.reconcile(&schedule(tick)).await.unwrap().drained, 0, "{tick}");
    }
    world.put(&TaskRecord { finished_ms: Some((TICK + 200) * 1000), ..late }).await.unwrap();
    assert_eq!(executor.reconcile(&schedule(TICK + 240)).await.unwrap().drained, 1);
    assert!(!world.machines()[1].alive);
}

#[tokio::test]
async fn a_task_that_does_not_end_has_its_time_and_no_more() {
    let (world, executor) = with_drain().await;
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    executor.execute("p", TICK + 60).await.unwrap();
    world.take_down(op::TASKS_OPEN, Kind::Unavailable);
    assert_eq!(executor.reconcile(&schedule(TICK + 659)).await.unwrap().drained, 0);
    assert_eq!(executor.reconcile(&schedule(TICK + 660)).await.unwrap().drained, 2);
}

#[tokio::test]
async fn behind_the_kill_switch_a_machine_that_drains_stays_and_works_on_once_its_time_is_over() {
    let (world, executor) = with_drain().await;
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    executor.execute("p", TICK + 60).await.unwrap();
    world.put_kill_switch(contract::control::KillSwitch { engaged: true }).await.unwrap();
    for (tick, drains) in [(TICK + 659, true), (TICK + 660, false)] {
        assert_eq!(executor.reconcile(&schedule(tick)).await.unwrap().drained, 0);
        assert_eq!(world.alive("p").await.unwrap()[0].drain.is_some(), drains, "{tick}");
    }
    assert!(world.machines()[0].alive);
}

#[tokio::test]
async fn a_machine_that_ec2_does_not_let_go_works_again() {
    let (world, executor) = with_drain().await;
    let id = world.machines()[1].instance_id.clone();
    world.change_machine(&id, |m| m.protected = true);
    decided(&world, TICK + 60, Action::Stop(0, 1)).await;
    let done = executor.execute("p", TICK + 60).await.unwrap();
    assert!(matches!(&done, Done::Settled(Outcome::Draining { instance_ids, .. }) if *instance_ids == [id.clone()]));
    executor.reconcile(&schedule(TICK + 120)).await.unwrap();
    assert!(world.alive("p").await.unwrap().iter().all(|r| r.drain.is_none()));
    assert!(world.machines()[1].alive);
}

#[tokio::test]
async fn a_drain_of_machines_without_live_records_is_a_failure() {
    let (world, executor) = with_drain().await;
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    let (outside, records) = (world.outside(), world.alive("p").await.unwrap());
    world.step_by_step();
    let mut execute = std::pin::pin!(executor.execute("p", TICK + 60));
    let mut poll = || execute.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    while world.decisions()[1].intent.as_ref().is_none_or(|intent| intent.plan.is_none()) {
        assert!(poll().is_pending(), "it has no plan yet");
    }
    for record in records {
        outside.mark_terminated(&record, (TICK + 60) * 1000, Ended::Lost).await.unwrap();
    }
    let done = loop {
        if let Poll::Ready(done) = poll() {
            break done.unwrap();
        }
    };
    assert!(matches!(&done, Done::Settled(Outcome::Failed { error }) if error.contains("live record")), "{done:?}");
    assert!(world.machines().iter().all(|m| m.alive));
}

#[tokio::test]
async fn an_executor_that_stops_between_the_marks_and_the_outcome_is_finished() {
    let (world, executor) = with_drain().await;
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    world.fail_after(op::INSTANCES_MARK_DRAINING, fault(op::INSTANCES_MARK_DRAINING, "Throttling", Kind::Throttled));
    let done = executor.execute("p", TICK + 60).await.unwrap();
    assert!(matches!(done, Done::Pending(_)), "{done:?}");
    // the first, which is busy, was told; the second is told only now, and has a tick for what its worker may have taken
    let reconciled = executor.reconcile(&schedule(TICK + 240)).await.unwrap();
    assert_eq!((reconciled.finished, reconciled.drained), (1, 0), "{reconciled:?}");
    let ids: Vec<String> = world.machines().iter().map(|m| m.instance_id.clone()).collect();
    let outcome = world.decisions()[1].intent.clone().unwrap().outcome;
    assert_eq!(outcome, Some(Outcome::Draining { instance_ids: ids, until_ms: (TICK + 660) * 1000 }));
    assert_eq!(executor.reconcile(&schedule(TICK + 240)).await.unwrap().drained, 0);
    assert_eq!(executor.reconcile(&schedule(TICK + 300)).await.unwrap().drained, 1);
    assert_eq!(world.machines().iter().map(|m| m.alive).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn an_interrupted_stop_of_several_machines_says_and_records_all_that_went() {
    for killed in [false, true] {
        let world = World::with_pool(&PoolConfig { machines_per_action_max: 2, ..pool_config("p") });
        let executor = over(&world);
        decided(&world, TICK, Action::Launch(0, 2)).await;
        executor.execute("p", TICK).await.unwrap();
        let ids: Vec<String> = world.machines().iter().map(|m| m.instance_id.clone()).collect();
        decided(&world, TICK + 300, Action::Stop(0, 2)).await;
        // EC2 refuses both together; of the calls for each, the first works behind a time-out
        world.fail_next(op::TERMINATE, fault(op::TERMINATE, "OperationNotPermitted", Kind::Denied));
        world.fail_after(op::TERMINATE, fault(op::TERMINATE, "RequestTimeout", Kind::Unavailable));
        assert!(matches!(executor.execute("p", TICK + 300).await.unwrap(), Done::Pending(_)));
        let alive = || world.machines().iter().map(|m| m.alive).collect::<Vec<_>>();
        assert_eq!(alive(), [false, true]);
        // a minute later it is still the executor's
        assert_eq!(executor.reconcile(&schedule(TICK + 360)).await.unwrap().lost, 0);
        world.put_kill_switch(contract::control::KillSwitch { engaged: killed }).await.unwrap();
        let reconciled = executor.reconcile(&schedule(TICK + 420)).await.unwrap();
        assert_eq!((reconciled.finished, reconciled.lost), (1, 0), "{reconciled:?}");
        let went = if killed { &ids[..1] } else { &ids };
        let outcome = world.decisions()[1].intent.clone().unwrap().outcome;
        assert_eq!(outcome, Some(Outcome::Terminated { instance_ids: went.to_vec() }));
        let ended = world.instances().into_iter().filter(|r| r.terminated_ms.is_some()).map(|r| r.instance_id);
        assert_eq!(ended.collect::<Vec<_>>(), went);
        assert_eq!(world.instances()[0].terminated_ms, Some((TICK + 300) * 1000));
        assert_eq!(alive(), [false, killed]);
    }
}

#[tokio::test]
async fn of_an_interrupted_stop_only_what_is_still_ours_is_terminated() {
    let world = World::with_pool(&PoolConfig { machines_per_action_max: 2, ..pool_config("p") });
    let executor = over(&world);
    decided(&world, TICK, Action::Launch(0, 2)).await;
    executor.execute("p", TICK).await.unwrap();
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    world.fail_next(op::TERMINATE, fault(op::TERMINATE, "Throttling", Kind::Throttled));
    assert!(matches!(executor.execute("p", TICK + 60).await.unwrap(), Done::Pending(_)));
    let ids: Vec<String> = world.machines().iter().map(|m| m.instance_id.clone()).collect();
    world.change_machine(&ids[0], |m| drop(m.tags.insert("twinscaler:pool".into(), "other".into())));
    executor.reconcile(&schedule(TICK + 240)).await.unwrap();
    assert_eq!(world.machines().iter().map(|m| m.alive).collect::<Vec<_>>(), [true, false]);
    let outcome = world.decisions()[1].intent.clone().unwrap().outcome.unwrap();
    assert_eq!(outcome, Outcome::Terminated { instance_ids: vec![ids[1].clone()] });
}

#[tokio::test]
async fn a_machine_that_ec2_takes_back_is_counted_on_no_more() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    let id = world.machines()[0].instance_id.clone();
    let notice = |id: &str| Notice { instance_id: id.into(), at_ms: (TICK + 70) * 1000 };
    assert_eq!(executor.interrupted(&notice(&id)).await.unwrap().as_deref(), Some("p"));
    let (since_ms, why) = (Some((TICK + 70) * 1000), DrainReason::Interruption);
    let drain = Drain { until_ms: (TICK + 190) * 1000, why, since_ms };
    assert_eq!(world.alive("p").await.unwrap()[0].drain, Some(drain));
    // nobody stops it before its time: it may still finish something
    assert_eq!(executor.reconcile(&schedule(TICK + 240)).await.unwrap().drained, 0);
    assert!(world.alive("p").await.unwrap()[0].drain.is_some());
    // EC2 shows it long after it should be gone: the notice was withdrawn, or forged
    executor.reconcile(&schedule(TICK + 190 + 180)).await.unwrap();
    assert_eq!(world.alive("p").await.unwrap()[0].drain, None);
    let foreign = world.add_machine(Default::default());
    assert_eq!(executor.interrupted(&notice(&foreign)).await.unwrap(), None);
    let young = world.add_machine(testkit::builders::tags("p", TICK, 0));
    assert_eq!(executor.interrupted(&notice(&young)).await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn an_answer_without_a_machine_is_a_failure_and_not_a_launch() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.launch_fewer_next();
    let Done::Settled(Outcome::Failed { error }) = executor.execute("p", TICK).await.unwrap() else { panic!("failed") };
    assert!(error.contains("names no machine"), "{error}");
}

#[tokio::test]
async fn a_plan_that_is_not_allowed_any_more_is_refused_and_nothing_is_done() {
    let config = PoolConfig { launches_per_hour_max: Some(1), ..pool_config("p") };
    let world = World::with_pool(&config);
    let executor = over(&world);
    for tick in [TICK, TICK + 60] {
        decided(&world, tick, Action::Launch(0, 1)).await;
        executor.execute("p", tick).await.unwrap();
    }
    let intent = world.decisions()[1].intent.clone().unwrap();
    let Some(Outcome::Refused { because }) = intent.outcome else { panic!("{intent:?}") };
    assert!(
        because.contains("1 launches were claimed in the last hour, more are planned, and 1 are allowed"),
        "{because}"
    );
    assert_eq!(world.machines().len(), 1);
}

/// A pool with this cap on dollars a day, and an L that ran for an hour of this day and is gone.
async fn spent(usd_per_day_max: f64) -> (World, OverWorld) {
    let config = PoolConfig { usd_per_day_max: Some(usd_per_day_max), ..pool_config("p") };
    let world = World::with_pool(&config);
    let gone = instance("p", "i-gone", 2, (TICK - 7200) * 1000);
    world.put_new(&gone).await.unwrap();
    world.mark_terminated(&gone, (TICK - 3600) * 1000, Ended::Stopped).await.unwrap();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    let executor = over(&world);
    (world, executor)
}

/// What is left of the day of [`TICK`]: 22:14 o'clock.
const REST_H: f64 = 1.0 + 46.0 / 60.0;

#[tokio::test]
async fn a_launch_that_the_days_money_cannot_pay_until_midnight_is_refused_at_the_claim() {
    // The L cost 0.8 dollars; the S would cost 0.2 an hour.
    let (world, executor) = spent(0.8 + 0.2 * REST_H + 1e-6).await;
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Settled(Outcome::Launched { .. })));
    assert_eq!(world.machines().len(), 1);
    let (world, executor) = spent(0.8 + 0.2 * REST_H - 1e-6).await;
    let Done::Settled(Outcome::Refused { because }) = executor.execute("p", TICK).await.unwrap() else {
        panic!("refused")
    };
    assert!(
        because.contains("the money cap of the day leaves $0.200 an hour, and the launch adds $0.200"),
        "{because}"
    );
    assert!(world.machines().is_empty());
}

#[tokio::test]
async fn nothing_is_launched_while_what_was_spent_cannot_be_read() {
    let (world, executor) = spent(1000.0).await;
    world.take_down(op::INSTANCES_ENDED, Kind::Unavailable);
    let Done::Settled(Outcome::Refused { because }) = executor.execute("p", TICK).await.unwrap() else {
        panic!("refused")
    };
    assert!(because.contains("spending that cannot be read"), "{because}");
    assert!(world.machines().is_empty());
}

#[tokio::test]
async fn a_machine_that_neither_describe_nor_the_index_shows_counts_against_the_maximum() {
    let mut config = pool_config("p");
    config.sizes[0].bounds = contract::capacity::Bounds::new(0, Some(1)).unwrap();
    let world = World::with_pool(&config);
    let executor = over(&world);
    world.set_alive_index_behind(true);
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    let id = world.machines()[0].instance_id.clone();
    world.change_machine(&id, |m| m.visible = false);
    decided(&world, TICK + 60, Action::Launch(0, 1)).await;
    let done = executor.execute("p", TICK + 60).await.unwrap();
    assert!(matches!(done, Done::Settled(Outcome::Refused { .. })), "{done:?}");
    assert_eq!(world.machines().len(), 1);
}

#[tokio::test]
async fn a_stopped_machine_that_describe_still_shows_is_neither_counted_nor_adopted() {
    let mut config = pool_config("p");
    config.sizes[0].bounds = contract::capacity::Bounds::new(1, Some(3)).unwrap();
    let world = World::with_pool(&config);
    let executor = over(&world);
    for tick in [TICK, TICK + 60] {
        decided(&world, tick, Action::Launch(0, 1)).await;
        executor.execute("p", tick).await.unwrap();
    }
    decided(&world, TICK + 120, Action::Stop(0, 1)).await;
    let Done::Settled(Outcome::Terminated { instance_ids }) = executor.execute("p", TICK + 120).await.unwrap() else {
        panic!("terminated")
    };
    world.change_machine(&instance_ids[0], |m| (m.visible, m.shown_alive) = (true, Some(true)));
    assert_eq!(executor.reconcile(&schedule(TICK + 180)).await.unwrap().adopted, 0);
    decided(&world, TICK + 180, Action::Stop(0, 1)).await;
    executor.execute("p", TICK + 180).await.unwrap();
    assert_eq!(world.machines().iter().filter(|m| m.alive).count(), 1);
}

#[tokio::test]
async fn a_step_that_fails_does_not_keep_the_reconciler_from_the_others() {
    let (world, executor) = setup();
    world.add_machine(testkit::builders::tags("p", TICK - 60, 0));
    world.put_new(&instance("p", "i-gone", 0, (TICK - 3600) * 1000)).await.unwrap();
    executor.reconcile(&schedule(TICK - 60)).await.unwrap();
    world.fail_next(op::INSTANCES_PUT_NEW, fault(op::INSTANCES_PUT_NEW, "Throttling", Kind::Throttled));
    let unfinished = executor.reconcile(&schedule(TICK)).await.unwrap_err();
    assert_eq!((unfinished.error.kind, unfinished.done.map(|done| done.lost)), (Kind::Throttled, Some(1)));
    assert_eq!(world.instances().iter().filter(|r| r.terminated_ms.is_some()).count(), 1);
    assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.unwrap().adopted, 1);
}

/// A decision as a version with more actions writes it.
async fn decided_by_a_newer_version(world: &World, tick: u64) {
    decided(world, tick, Action::Launch(0, 1)).await;
    let more = |json: &mut serde_json::Value| json["mask"].as_array_mut().unwrap().resize(25, true.into());
    assert!(!world.rewrite_decision("p", tick, more));
}

#[tokio::test]
async fn a_decision_of_another_version_holds_up_neither_its_batch_nor_a_reconciliation() {
    let world = World::with_pool(&pool_config("p"));
    let executor = over(&world);
    decided_by_a_newer_version(&world, TICK).await;
    decided(&world, TICK + 60, Action::Launch(1, 1)).await;
    let record = |tick: u64| Record { pool: "p".into(), tick, sequence_number: tick.to_string() };
    let mut done = Vec::new();
    let answer = executor
        .batch(vec![record(TICK), record(TICK + 60)], |_, result| done.extend(result.as_ref().ok().cloned()))
        .await;
    assert!(answer.failures.is_empty());
    assert_eq!(done[0], Done::Dropped(Dropped::Unreadable));
    assert!(matches!(done[1], Done::Settled(Outcome::Launched { .. })));
    let machine = world.add_machine(testkit::builders::tags("p", TICK, 2));
    let done = executor.reconcile(&schedule(TICK + 3600)).await.unwrap();
    assert_eq!((done.adopted, done.released), (1, 0), "whoever can read it releases it");
    assert!(world.instances().iter().any(|r| r.instance_id == machine));
}

#[tokio::test]
async fn a_forged_record_does_nothing() {
    let (world, executor) = setup();
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Dropped(_)));
    let mask: Mask = [true; ACTION_COUNT];
    let held = contract::decision::Decision { mask, ..decision("p", TICK, Action::Nothing) };
    world.put_once(&held).await.unwrap();
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Dropped(_)));
    assert_eq!(world.count(op::LAUNCH), 0);
}

/// Machines of the pool whose workers never said that they take tasks, launched an hour ago.
async fn never_ready(world: &World, n: u64) {
    for i in 0..n {
        let tick = TICK - 3600 - 60 * i;
        let id = world.add_machine(testkit::builders::tags("p", tick, 0));
        world.put_new(&instance("p", &id, 0, tick * 1000)).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_launched_or_stopped_while_most_machines_are_unhealthy() {
    for action in [Action::Launch(1, 1), Action::Stop(0, 1)] {
        let (world, executor) = setup();
        never_ready(&world, 3).await;
        decided(&world, TICK, action).await;
        let done = executor.execute("p", TICK).await.unwrap();
        let Done::Settled(Outcome::Refused { because }) = &done else { panic!("{done:?}") };
        assert_eq!(because, "unhealthy: of 3 machines 3 never took tasks and 0 are gone from EC2");
        assert_eq!((world.count(op::LAUNCH), world.count(op::TERMINATE)), (0, 0));
        let reconciled = executor.reconcile(&schedule(TICK + 60)).await.unwrap();
        assert_eq!((reconciled.unhealthy, reconciled.held), (3, true));
    }
}

#[tokio::test]
async fn a_pool_that_is_held_is_reported_so_although_a_step_fails() {
    let (world, executor) = setup();
    never_ready(&world, 3).await;
    world.add_machine(testkit::builders::tags("p", TICK - 60, 0));
    executor.reconcile(&schedule(TICK - 60)).await.unwrap();
    world.fail_next(op::INSTANCES_PUT_NEW, fault(op::INSTANCES_PUT_NEW, "Throttling", Kind::Throttled));
    let mut told = Vec::new();
    let event = executor::event::Event::Schedule(schedule(TICK));
    executor.handle(event, |document| told.push(document)).await.unwrap_err();
    assert_eq!((&told[0]["UnhealthyHold"], &told[0]["ExecutorFailures"]), (&1.0.into(), &1.0.into()));
}

#[tokio::test]
async fn a_few_machines_that_never_take_tasks_stop_nobody() {
    let (world, executor) = setup();
    never_ready(&world, 2).await;
    decided(&world, TICK, Action::Launch(1, 1)).await;
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Settled(Outcome::Launched { .. })));
    let reconciled = executor.reconcile(&schedule(TICK + 60)).await.unwrap();
    assert_eq!((reconciled.unhealthy, reconciled.held), (2, false));
}

/// What reconciliations a minute apart from [`TICK`] on end as stuck, how many of them each.
async fn stuck_ended<const N: usize>(executor: &OverWorld) -> [u32; N] {
    let mut ended = [0; N];
    for (i, n) in ended.iter_mut().enumerate() {
        *n = executor.reconcile(&schedule(TICK + 60 * i as u64)).await.unwrap().stuck_ended;
    }
    ended
}

#[tokio::test]
async fn a_machine_that_never_takes_tasks_is_ended_at_second_sight_and_makes_room_for_another() {
    let mut config = pool_config("p");
    config.sizes[0].bounds = contract::capacity::Bounds::new(1, Some(1)).unwrap();
    let world = World::with_pool(&config);
    let executor = over(&world);
    never_ready(&world, 1).await;
    let id = world.machines()[0].instance_id.clone();
    for _ in 0..2 {
        let of_same_tick = executor.reconcile(&schedule(TICK)).await.unwrap();
        assert_eq!((of_same_tick.unhealthy, of_same_tick.stuck_ended), (1, 0), "one sight, however often");
    }
    assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.unwrap().stuck_ended, 1);
    let record = world.instances().remove(0);
    assert_eq!((record.terminated_ms, record.ended), (Some((TICK + 60) * 1000), Some(Ended::Stuck)));
    // describe is behind, and shows it for a while
    world.change_machine(&id, |m| (m.visible, m.shown_alive) = (true, Some(true)));
    assert_eq!(executor.reconcile(&schedule(TICK + 120)).await.unwrap().adopted, 0);
    world.change_machine(&id, |m| (m.visible, m.shown_alive) = (false, None));
    decided(&world, TICK + 120, Action::Launch(0, 1)).await;
    let done = executor.execute("p", TICK + 120).await.unwrap();
    assert!(matches!(done, Done::Settled(Outcome::Launched { .. })), "{done}");
}

#[tokio::test]
async fn of_several_stuck_machines_one_goes_at_a_time_and_none_of_a_pool_that_is_held() {
    for (machines, ended) in [(2, [0, 1, 1]), (3, [0, 0, 0])] {
        let (world, executor) = setup();
        never_ready(&world, machines).await;
        assert_eq!(stuck_ended(&executor).await, ended, "of {machines}");
    }
}

#[tokio::test]
async fn a_stuck_machine_stays_while_the_pool_may_not_stop_any() {
    for mode in [Mode::Off, Mode::Observe, Mode::Drain] {
        let (world, executor) = setup();
        never_ready(&world, 1).await;
        world.put_config(&PoolConfig { mode, ..pool_config("p") }).await.unwrap();
        assert_eq!(stuck_ended(&executor).await, [0, u32::from(mode == Mode::Drain)], "{mode:?}");
    }
    let (world, executor) = setup();
    never_ready(&world, 1).await;
    world.put_kill_switch(contract::control::KillSwitch { engaged: true }).await.unwrap();
    assert_eq!(stuck_ended(&executor).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_machine_that_runs_a_task_or_of_which_nobody_can_say_is_not_stuck() {
    let (world, executor) = setup();
    never_ready(&world, 1).await;
    let id = Some(world.machines()[0].instance_id.clone());
    let runs = TaskRecord { started_ms: Some(TICK * 1000), instance_id: id, ..task("p", "t", TICK * 1000) };
    world.put(&runs).await.unwrap();
    assert_eq!(stuck_ended(&executor).await, [0, 0, 0]);
    world.put(&TaskRecord { finished_ms: Some(TICK * 1000), ..runs }).await.unwrap();
    world.take_down(op::TASKS_OPEN, Kind::Unavailable);
    assert_eq!(stuck_ended(&executor).await, [0, 0, 0]);
    world.heal();
    assert_eq!(stuck_ended(&executor).await, [0, 1]);
}

#[tokio::test]
async fn a_protected_machine_that_is_stuck_stays_and_keeps_no_other_one_from_being_ended() {
    let (world, executor) = setup();
    never_ready(&world, 2).await;
    // the older one, whose turn is first
    let id = world.machines()[1].instance_id.clone();
    world.change_machine(&id, |m| m.protected = true);
    assert_eq!(stuck_ended(&executor).await, [0, 0, 1, 0]);
    let alive: Vec<String> = world.alive("p").await.unwrap().into_iter().map(|r| r.instance_id).collect();
    assert_eq!(alive, [id]);
    assert!(world.machines()[1].alive);
}

#[tokio::test]
async fn nothing_is_ended_that_is_not_written_down_before() {
    for (kind, is_error) in [(Kind::Conflict, false), (Kind::Throttled, true)] {
        let (world, executor) = setup();
        never_ready(&world, 1).await;
        executor.reconcile(&schedule(TICK)).await.unwrap();
        world.fail_next(op::CONTROL_PUT_SUSPECTS, fault(op::CONTROL_PUT_SUSPECTS, "Scripted", kind));
        assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.is_err(), is_error, "{kind:?}");
        assert!(world.machines()[0].alive);
        assert_eq!(executor.reconcile(&schedule(TICK + 120)).await.unwrap().stuck_ended, 1);
    }
}

#[tokio::test]
async fn one_empty_describe_takes_no_machine_for_lost_and_two_do() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    executor.execute("p", TICK).await.unwrap();
    let lost = async |at: u64, is_empty: bool| {
        if is_empty {
            world.hide_recorded_next();
        }
        executor.reconcile(&schedule(at)).await.unwrap().lost
    };
    let mut found = Vec::new();
    for (i, is_empty) in [true, false, true, true].into_iter().enumerate() {
        found.push(lost(TICK + 1200 + 60 * i as u64, is_empty).await);
    }
    assert_eq!(found, [0, 0, 0, 1]);
}

/// A pool that ends orphans after ten minutes, or not, and a machine with all our tags of a tick that nobody decided.
async fn with_stray(orphans_end_after_s: Option<u64>) -> (World, OverWorld, String) {
    let world = World::with_pool(&PoolConfig { orphans_end_after_s, ..pool_config("p") });
    let executor = over(&world);
    let id = world.add_machine(testkit::builders::tags("p", TICK - 7, 0));
    (world, executor, id)
}

#[tokio::test]
async fn a_machine_that_no_decision_explains_is_adopted_at_second_sight() {
    let (world, executor, _) = with_stray(None).await;
    assert_eq!(executor.reconcile(&schedule(TICK)).await.unwrap().adopted, 0);
    assert_eq!(executor.reconcile(&schedule(TICK + 60)).await.unwrap().adopted, 1);
    assert!(world.machines()[0].alive);
}

#[tokio::test]
async fn an_orphan_is_reported_at_second_sight_and_ended_once_its_time_is_over_where_the_pool_asks_for_that() {
    let (world, executor, id) = with_stray(Some(600)).await;
    let mut found = Vec::new();
    for at in [0, 60, 599, 600, 660] {
        let done = executor.reconcile(&schedule(TICK + at)).await.unwrap();
        assert_eq!(done.adopted, 0);
        found.push((done.orphans, done.orphans_ended));
    }
    assert_eq!(found, [(0, 0), (1, 0), (1, 0), (1, 1), (0, 0)]);
    assert!(world.machines().iter().all(|m| m.instance_id != id || !m.alive) && world.instances().is_empty());
}

#[tokio::test]
async fn an_orphan_that_is_protected_or_lacks_a_tag_is_never_ended() {
    let (world, executor, id) = with_stray(Some(600)).await;
    world.change_machine(&id, |m| m.protected = true);
    let mut tags = testkit::builders::tags("p", TICK - 7, 1);
    tags.remove(contract::plan::TAG_DECISION);
    let by_hand = world.add_machine(tags);
    for at in (0..3600).step_by(60) {
        assert_eq!(executor.reconcile(&schedule(TICK + at)).await.unwrap().orphans_ended, 0);
    }
    assert!(world.machines().iter().all(|m| m.alive));
    assert_eq!(world.instances().iter().map(|r| &r.instance_id).collect::<Vec<_>>(), [&by_hand], "adopted as ever");
}

#[tokio::test]
async fn a_launch_is_settled_although_the_memory_of_missing_capacity_cannot_be_kept() {
    for down in [op::CONTROL_NO_CAPACITY, op::CONTROL_PUT_NO_CAPACITY] {
        let (world, executor) = setup();
        world.without_capacity(0);
        decided(&world, TICK, Action::Launch(0, 1)).await;
        // what the plan reads works
        world.step_by_step();
        let mut run = std::pin::pin!(executor.execute("p", TICK));
        let mut poll = || run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        while world.count(op::LAUNCH) == 0 {
            assert!(poll().is_pending());
        }
        world.take_down(down, Kind::Unavailable);
        let done = loop {
            if let Poll::Ready(done) = poll() {
                break done.unwrap();
            }
        };
        assert!(matches!(done, Done::Settled(Outcome::NoCapacity { .. })), "{down}: {done}");
    }
}

#[tokio::test]
async fn a_machine_of_another_stacks_pool_of_the_same_name_is_neither_counted_nor_touched() {
    let mut config = pool_config("p");
    config.sizes[0].bounds = contract::capacity::Bounds::new(0, Some(1)).unwrap();
    let world = World::with_pool(&config);
    let executor = over(&world);
    // launched by the other stack's decision of the same tick
    let other = world.add_machine(controller::plan::tags("blue", "p", TICK, 0));
    let reconciled = executor.reconcile(&schedule(TICK)).await.unwrap();
    assert_eq!((reconciled.adopted, reconciled.orphans), (0, 0));
    let notice = Notice { instance_id: other.clone(), at_ms: TICK * 1000 };
    assert_eq!(executor.interrupted(&notice).await.unwrap(), None);
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    // what is taken up is our launch, and not taken for done
    executor.reconcile(&schedule(TICK + 180)).await.unwrap();
    let outcome = world.decisions()[0].intent.clone().unwrap().outcome;
    let Some(Outcome::Launched { instance_ids }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(world.instances().iter().map(|r| &r.instance_id).collect::<Vec<_>>(), [&instance_ids[0]]);
    assert_ne!(instance_ids[0], other);
    // a record of it, forged or of an earlier version, does not make it ours
    world.put_new(&instance("p", &other, 0, (TICK - 600) * 1000)).await.unwrap();
    decided(&world, TICK + 240, Action::Stop(0, 2)).await;
    executor.execute("p", TICK + 240).await.unwrap();
    let alive: Vec<String> = world.machines().into_iter().filter(|m| m.alive).map(|m| m.instance_id).collect();
    assert_eq!(alive, [other]);
}
