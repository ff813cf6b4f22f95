//! Machines that work off their tasks before they go.

use super::*;

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
    assert_eq!(executor.reconcile(&schedule(TICK + 120)).await.unwrap().drained, 0, "it did not go");
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
