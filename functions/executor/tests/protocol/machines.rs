//! Machines that are lost, stray, stuck or not ours.

use super::*;

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
async fn a_machine_that_took_tasks_at_last_stays_although_the_index_is_behind() {
    let (world, executor) = setup();
    never_ready(&world, 1).await;
    assert_eq!(stuck_ended(&executor).await, [0]);
    world.set_alive_index_behind(true);
    world.mark_ready(&world.instances()[0], TICK * 1000).await.unwrap();
    let done = executor.reconcile(&schedule(TICK + 60)).await.unwrap();
    assert_eq!((done.unhealthy, done.stuck_ended, world.count(op::TERMINATE)), (1, 0, 0));
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
