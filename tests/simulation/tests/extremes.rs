//! The two ends of a load, each in a run of its own without faults: more tasks at once than a tick reads, and two days with
//! nothing to do.

use std::sync::Arc;

use contract::action::Action;
use contract::capacity::Bounds;
use contract::decision::{Decider, Decision, Verdict};
use contract::event::Tick;
use contract::limits::QUEUE_ROWS_MAX;
use contract::pool::PoolConfig;
use controller::ports::Instances;
use executor::event::Event;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use simulation::invocation::{Evaluating, evaluator, executor, scheduled, streamed};
use simulation::plant::{Disasters, Load, Plant};
use simulation::policies::GOOD;
use simulation::profile::QUIET;
use simulation::promotions::Promotions;
use simulation::seen::Seen;
use simulation::{now, timer};
use testkit::World;
use testkit::builders::{TICK, pool_config};

const POOL: &str = "p";

/// A pool whose minutes pass one after the other: the workers' side, the evaluator, the executor.
struct Minutes {
    world: World,
    config: PoolConfig,
    plant: Plant,
    evaluator: Arc<Evaluating>,
    minute: u64,
    seen: Seen,
}

impl Minutes {
    /// Under a load, with a good policy in charge, and none to four machines of each size.
    fn under(load: Load) -> Self {
        let mut config = PoolConfig { machines_per_action_max: 4, ..pool_config(POOL) };
        config.sizes.iter_mut().for_each(|size| size.bounds = Bounds::new(0, Some(4)).unwrap());
        let world = World::with_pool(&config);
        Promotions::new(POOL).begin_with(&world, &GOOD[0]);
        let rng = || ChaCha8Rng::seed_from_u64(1);
        let plant = Plant::under(load, rng(), POOL, 0.0, Disasters::new(rng(), QUIET));
        let evaluator = evaluator(&world);
        Self { world, config, plant, evaluator, minute: 0, seen: Seen::default() }
    }

    /// One minute: its decision, carried out; every fifth is reconciled.
    fn next(&mut self) -> Decision {
        let tick = TICK + 60 * self.minute;
        self.world.set_now_ms(tick * 1000);
        self.plant.minute(&self.world, &self.config, tick * 1000, self.minute, &mut self.seen);
        self.minute += 1;
        let event = Tick::from_event(scheduled(POOL, tick)).unwrap();
        let decision = now(self.evaluator.tick(&event)).unwrap().decision().expect("the pool is active");
        if decision.verdict == Verdict::Act {
            let Ok(Event::Stream(records)) = Event::from_json(streamed(POOL, &[(0, tick)])) else { panic!("a batch") };
            assert!(now(executor(&self.world).batch(records, |_, _| ())).failures.is_empty());
        }
        if self.minute.is_multiple_of(5) {
            now(executor(&self.world).reconcile(&event)).unwrap();
        }
        decision
    }

    fn machines(&self) -> usize {
        now(self.world.outside().alive(POOL)).unwrap().len()
    }
}

#[test]
fn sixty_thousand_tasks_at_once_are_more_than_a_tick_reads_and_bring_the_whole_fleet_and_no_stop() {
    let timer = timer();
    let _timer = timer.enter();
    let mut minutes = Minutes::under(Load::Flood(60_000));
    for _ in 0..5 {
        assert_eq!(minutes.next().action, Action::Nothing);
    }
    for minute in 5..25 {
        let decision = minutes.next();
        let o = &decision.observation;
        assert_eq!(o.queue_depth.unwrap() + o.running.unwrap(), QUEUE_ROWS_MAX as u32, "at least so many");
        assert!(matches!(decision.decider, Decider::Policy { .. }), "{}", decision.reason);
        assert!(!matches!(decision.action, Action::Stop(..)), "{}", decision.action);
        let ratio = o.wait_ratio_window.unwrap();
        // what was not read waits as well, as in the twin, which reads all
        assert!((0.95..=1.0).contains(&ratio), "{ratio} of the tasks wait at minute {minute}");
        assert_eq!(o.arrivals, Some(if minute == 5 { 60_000 } else { 0 }));
        assert!(minute > 5 || o.wait_ratio_recent.unwrap() > 0.99, "{:?}", o.wait_ratio_recent);
    }
    assert_eq!(minutes.machines(), 12);
}

#[test]
fn after_two_days_without_a_task_nothing_runs_and_the_first_task_is_served() {
    const DAYS: u64 = 2 * 24 * 60;
    let timer = timer();
    let _timer = timer.enter();
    let mut minutes = Minutes::under(Load::One(DAYS));
    for _ in 0..DAYS {
        let decision = minutes.next();
        assert!(matches!(decision.decider, Decider::Policy { .. }), "{}", decision.reason);
        assert_eq!((decision.action, minutes.machines()), (Action::Nothing, 0), "{}", decision.tick);
    }
    let launched = (0..20).map(|_| minutes.next().action).find(|action| *action != Action::Nothing);
    assert!(matches!(launched, Some(Action::Launch(..))), "{launched:?}");
    for _ in 0..30 {
        minutes.next();
    }
    assert!(minutes.world.tasks().iter().all(|task| task.finished_ms.is_some()));
    assert_eq!(minutes.machines(), 0, "and what was launched for it is gone again");
}
