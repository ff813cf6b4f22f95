//! Measures the twin: steps a second of the published training load under random actions, observation and mask
//! included, and the time of a big run. `cargo run -p twin --example speed [environment|engine|big]`

// A measurement needs a clock; the crate has none.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use contract::Action;
use twin::sim::{Phase, Sim};
use twin::{EnvSpec, Environment, Job, SimConfig, TwinEnv, Workload};

const EPISODES: u64 = 5000;
const BIG_TASKS: i64 = 10_000_000;
const BIG_MACHINES: u32 = 5000;

/// A plain linear congruential generator: cheap, so that the twin is what is measured.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn environment() {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
    let mut dice = Dice(7);
    let (mut steps, mut total_usd) = (0u64, 0.0);
    let start = Instant::now();
    for episode in 0..EPISODES {
        env.reset(episode);
        loop {
            let step = env.step(Action::from(dice.roll(7) as u16));
            steps += 1;
            total_usd -= step.reward;
            if step.done {
                break;
            }
        }
    }
    let s = start.elapsed().as_secs_f64();
    println!("environment: {steps} steps in {s:.2} s, {:.2} million a second", steps as f64 / s / 1e6);
    println!("             mean episode ${:.2}", total_usd / EPISODES as f64);
}

fn engine() {
    let spec = EnvSpec::published();
    let mut sim = Sim::new(spec.config().clone());
    let mut dice = Dice(7);
    let mut steps = 0u64;
    let start = Instant::now();
    for episode in 0..EPISODES {
        sim.reset(spec.workloads()[episode as usize % 2].clone(), episode);
        while sim.phase() == Phase::Going {
            sim.step(Action::from(dice.roll(7) as u16));
            steps += 1;
        }
    }
    let s = start.elapsed().as_secs_f64();
    println!("engine:      {steps} steps in {s:.2} s, {:.2} million a second", steps as f64 / s / 1e6);
}

/// Ten million tasks of different lengths on five thousand machines, machines being stopped and launched
/// all the time.
fn big() {
    let mut dice = Dice(3);
    let cores = u64::from(BIG_MACHINES) * 8;
    let job = |id: i64| Job {
        id,
        submit_ms: id as u64 * 58_000 / cores,
        runtime_ms: 1000 + dice.roll(110_000),
        cores: 1 + u32::from(id % 17 == 0),
        memory_mb: 0,
    };
    let workload = Arc::new(Workload::new((0..BIG_TASKS).map(job).collect()));
    let mut config = SimConfig { max_steps: 1 << 40, ..SimConfig::default() };
    config.types[2].initial = BIG_MACHINES;
    let mut sim = Sim::new(Arc::new(config));
    let start = Instant::now();
    sim.reset(workload, 0);
    while sim.phase() == Phase::Going {
        let action = if sim.tally().steps % 4 < 2 { Action::Stop(2) } else { Action::Launch(2) };
        sim.step(action);
    }
    let s = start.elapsed().as_secs_f64();
    println!("big run:     {} tasks, {} steps in {s:.2} s", sim.tally().completed, sim.tally().steps);
    println!(
        "             {} interrupted, waits up to {} ms",
        sim.tally().interrupted,
        sim.waits_ms().iter().max().unwrap()
    );
}

fn main() {
    let parts: [(&str, fn()); 3] = [("environment", environment), ("engine", engine), ("big", big)];
    let chosen = std::env::args().nth(1);
    for (name, part) in parts {
        if chosen.as_deref().is_none_or(|c| c == name) {
            part();
        }
    }
}
