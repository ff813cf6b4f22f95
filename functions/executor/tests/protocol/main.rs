//! The executor's protocol over an in-memory world: once, within the rails, and nothing lost.

mod claim;
mod drain;
mod interrupted;
mod launch;
mod machines;

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
