//! Launches and stops that are claimed, made and recorded.

use super::*;

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
    let resumed = executor.reconcile(&schedule(TICK + 180)).await.unwrap();
    assert_eq!((resumed.finished, resumed.launched, resumed.failed), (1, 0, 1));
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
    assert_eq!((later.finished, later.launched, later.stopped, later.failed), (1, 1, 0, 0));
    assert_eq!((world.machines().len(), world.instances().len()), (1, 1));
    assert!(world.decisions()[0].is_settled());
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

#[tokio::test]
async fn an_answer_without_a_machine_is_a_failure_and_not_a_launch() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.launch_fewer_next();
    let Done::Settled(Outcome::Failed { error }) = executor.execute("p", TICK).await.unwrap() else { panic!("failed") };
    assert!(error.contains("names no machine"), "{error}");
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
