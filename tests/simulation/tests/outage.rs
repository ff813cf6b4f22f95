//! The last rung of the evaluator's ladder, by hand: many tasks at one tick, none at the next.

use contract::Observation;
use contract::action::Action;
use contract::decision::{Decision, Verdict};
use contract::event::Tick;
use contract::limits::OUTAGE_HOLD_S;
use contract::pool::OUTSIDE_METRICS;
use contract::record::InstanceRecord;
use controller::ports::{Decisions, Instances, Point};
use simulation::invocation::{evaluator, scheduled};
use simulation::{now, timer};
use testkit::World;
use testkit::builders::{TICK, decision, instance, observation, pool_config, tags};

const POOL: &str = "p";

/// Two idle machines that the rule stops one of, and the decision of the minute before, which saw so many tasks.
fn world(tasks_before: u32) -> World {
    let world = World::with_pool(&pool_config(POOL));
    for tick in [TICK - 7200, TICK - 7260] {
        let id = world.add_machine(tags(POOL, tick, 0));
        let record = InstanceRecord { decision: Some(tick), ..instance(POOL, &id, 0, tick * 1000) };
        now(world.put_new(&record)).unwrap();
        now(world.mark_ready(&record, (tick + 60) * 1000)).unwrap();
    }
    let seen = Observation { running: Some(tasks_before), ..observation() };
    now(world.put_once(&Decision { observation: seen, ..decision(POOL, TICK - 60, Action::Nothing) })).unwrap();
    world
}

/// The decision of a tick; the outside metrics are there.
fn decide(world: &World, tick: u64) -> Decision {
    let config = pool_config(POOL);
    for name in OUTSIDE_METRICS {
        world.add_point(POOL, &config.metrics[name], Point { at_ms: (tick - 60) * 1000, value: 0.0 });
    }
    let timer = timer();
    let _timer = timer.enter();
    let event = scheduled(POOL, tick);
    now(evaluator(world).tick(&Tick::from_event(event).unwrap())).unwrap().decision().unwrap()
}

#[test]
fn a_stop_is_held_for_ten_minutes_after_the_load_was_gone_at_once() {
    let world = world(24);
    for tick in (TICK..TICK + OUTAGE_HOLD_S).step_by(60) {
        let held = decide(&world, tick);
        assert_eq!((held.action, held.verdict), (Action::Stop(0, 1), Verdict::Hold), "{}", held.reason);
        let expected = format!("load vanished: 24 tasks were gone at once {} s ago; nothing is stopped", tick - TICK);
        assert!(held.reason.starts_with(&expected), "{}", held.reason);
        assert!(held.action.is_allowed(&held.mask), "the network's input is as it was trained");
    }
    assert_eq!(decide(&world, TICK + OUTAGE_HOLD_S).verdict, Verdict::Act);
}

#[test]
fn a_few_tasks_that_end_are_no_outage() {
    let stops = decide(&world(9), TICK);
    assert_eq!((stops.action, stops.verdict), (Action::Stop(0, 1), Verdict::Act), "{}", stops.reason);
}
