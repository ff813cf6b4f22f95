//! What a claim refuses.

use super::*;

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
async fn a_delayed_stream_does_not_launch_for_what_was_long_ago() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    decided(&world, TICK + 360, Action::Nothing).await;
    let Done::Settled(Outcome::Refused { because }) = executor.execute("p", TICK).await.unwrap() else { panic!() };
    assert_eq!(because, "late by 360 s");
    assert!(world.machines().is_empty());
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
