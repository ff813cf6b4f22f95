//! A pool that only observes, by hand: every wish is carried out on paper, once, and nothing is done.

use contract::action::Action;
use contract::control::{KillSwitch, Mode};
use contract::decision::{Decision, Verdict};
use contract::event::Tick;
use contract::pool::{OUTSIDE_METRICS, PoolConfig};
use contract::record::InstanceRecord;
use controller::ports::{Control, Instances, Point};
use executor::execute::Done;
use simulation::invocation::{evaluator, executor, scheduled};
use simulation::{now, timer};
use testkit::World;
use testkit::builders::{TICK, instance, pool_config, tags};

const POOL: &str = "p";

/// Two idle small machines of a pool that observes; the rule stops one a tick.
fn world() -> World {
    let world = World::with_pool(&PoolConfig { mode: Mode::Observe, ..pool_config(POOL) });
    for tick in [TICK - 7200, TICK - 7260] {
        let id = world.add_machine(tags(POOL, tick, 0));
        let record = InstanceRecord { decision: Some(tick), ..instance(POOL, &id, 0, tick * 1000) };
        now(world.put_new(&record)).unwrap();
        now(world.mark_ready(&record, (tick + 60) * 1000)).unwrap();
    }
    world
}

/// The decision of a tick.
fn tick(world: &World, tick: u64) -> Decision {
    for name in OUTSIDE_METRICS {
        world.add_point(POOL, &pool_config(POOL).metrics[name], Point { at_ms: (tick - 60) * 1000, value: 0.0 });
    }
    let timer = timer();
    let _timer = timer.enter();
    let event = scheduled(POOL, tick);
    now(evaluator(world).tick(&Tick::from_event(event).unwrap())).unwrap().decision().unwrap()
}

/// The decision of a tick, of which an executor makes nothing.
fn decide(world: &World, at: u64) -> Decision {
    let decision = tick(world, at);
    let done = now(executor(world).execute(POOL, at)).unwrap();
    assert!(matches!(done, Done::Dropped(_)), "{done}");
    decision
}

#[test]
fn each_wish_is_carried_out_once_on_paper_and_nothing_is_done() {
    let world = world();
    let decided: Vec<Decision> = (0..5).map(|i| decide(&world, TICK + 60 * i)).collect();
    let actions: Vec<Action> = decided.iter().map(|d| d.action).collect();
    assert_eq!(actions, [Action::Stop(0, 1), Action::Stop(0, 1), Action::Nothing, Action::Nothing, Action::Nothing]);
    assert!(decided.iter().all(|d| d.verdict == Verdict::Hold && d.measured().fleet[0].ready == 2));
    let seen: Vec<u32> = decided.iter().map(|d| d.observation.fleet[0].ready).collect();
    assert_eq!(seen, [2, 1, 0, 0, 0]);
    assert_eq!(world.with_machines(|all| all.iter().filter(|m| m.alive).count()), 2);
    // A minute with one machine fewer and three with two fewer, at 0.2 dollars an hour.
    let shadow = decided[4].shadow.as_ref().unwrap();
    assert!((shadow.saved_usd() - 7.0 * 0.2 / 60.0).abs() < 1e-9, "{shadow:?}");
    assert!((shadow.real.total_usd() - 8.0 * 0.2 / 60.0).abs() < 1e-9);
    assert_eq!((shadow.since, shadow.ticks, shadow.gaps), (TICK, 5, 0));
}

#[test]
fn behind_the_kill_switch_nothing_happens_on_paper_either() {
    let world = world();
    now(world.put_kill_switch(KillSwitch { engaged: true })).unwrap();
    let held = decide(&world, TICK);
    assert_eq!((held.action, held.verdict), (Action::Stop(0, 1), Verdict::Hold));
    assert_eq!(held.shadow.unwrap().ready[0], 2);
    now(world.put_kill_switch(KillSwitch { engaged: false })).unwrap();
    assert_eq!(decide(&world, TICK + 60).shadow.unwrap().ready[0], 1);
}

#[test]
fn a_pool_that_acts_has_no_ledger_and_one_that_observes_again_begins_a_new_one() {
    let world = world();
    decide(&world, TICK);
    now(world.put_config(&PoolConfig { mode: Mode::Drain, ..pool_config(POOL) })).unwrap();
    assert_eq!(tick(&world, TICK + 60).shadow, None);
    now(world.put_config(&PoolConfig { mode: Mode::Observe, ..pool_config(POOL) })).unwrap();
    assert_eq!(decide(&world, TICK + 120).shadow.unwrap().since, TICK + 120);
}
