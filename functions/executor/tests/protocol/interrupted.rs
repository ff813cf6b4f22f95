//! Actions that were interrupted, and the reconciler that finishes or releases them.

use super::*;

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
async fn an_interrupted_launch_is_not_repeated_behind_the_kill_switch() {
    let (world, executor) = setup();
    decided(&world, TICK, Action::Launch(0, 1)).await;
    world.fail_next(op::LAUNCH, fault(op::LAUNCH, "RequestTimeout", Kind::Unavailable));
    assert!(matches!(executor.execute("p", TICK).await.unwrap(), Done::Pending(_)));
    world.put_kill_switch(contract::control::KillSwitch { engaged: true }).await.unwrap();
    let resumed = executor.reconcile(&schedule(TICK + 180)).await.unwrap();
    assert_eq!((resumed.finished, resumed.failed), (1, 0), "EC2 refused nothing");
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
async fn an_executor_that_stops_between_the_marks_and_the_outcome_is_finished() {
    let (world, executor) = with_drain().await;
    decided(&world, TICK + 60, Action::Stop(0, 2)).await;
    world.fail_after(op::INSTANCES_MARK_DRAINING, fault(op::INSTANCES_MARK_DRAINING, "Throttling", Kind::Throttled));
    let done = executor.execute("p", TICK + 60).await.unwrap();
    assert!(matches!(done, Done::Pending(_)), "{done:?}");
    // the first, which is busy, was told; the second is told only now, and has a tick for what its worker may have taken
    let reconciled = executor.reconcile(&schedule(TICK + 240)).await.unwrap();
    assert_eq!((reconciled.finished, reconciled.stopped, reconciled.drained), (1, 2, 0), "{reconciled:?}");
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
