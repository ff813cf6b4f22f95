//! How fast the twin is: `make bench`. Its items are steps, episodes or tasks; the published load under random actions
//! unless said otherwise.

use std::sync::Arc;

use contract::Action;
use divan::Bencher;
use divan::counter::ItemsCount;
use rayon::prelude::*;
use twin::sim::{Phase, Sim};
use twin::{Ec2Profile, EnvSpec, Environment, Job, Perturbation, SimConfig, TwinEnv, Workload};

/// Steps that are measured together, about fifty episodes.
const STEPS: u64 = 10_000;
const EPISODES: u64 = 256;
const BIG_TASKS: i64 = 10_000_000;
const BIG_MACHINES: u32 = 5000;

fn main() {
    divan::main();
}

/// A plain linear congruential generator: cheap, so that the twin is what is measured.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn action(&mut self) -> Action {
        Action::from(self.roll(7) as u16)
    }
}

fn run_episode(env: &mut TwinEnv, seed: u64) -> f64 {
    let mut dice = Dice(seed);
    let mut reward = 0.0;
    env.reset(seed);
    while !env.is_over() {
        reward += env.step(dice.action()).reward;
    }
    reward
}

fn measure_steps(bencher: Bencher<'_, '_>, spec: EnvSpec) {
    let mut env = TwinEnv::new(Arc::new(spec));
    let (mut dice, mut seed) = (Dice(7), 0);
    env.reset(seed);
    bencher.counter(ItemsCount::new(STEPS)).bench_local(|| {
        for _ in 0..STEPS {
            if divan::black_box(env.step(dice.action())).done {
                seed += 1;
                env.reset(seed);
            }
        }
    });
}

/// Steps of the environment, observation and mask included, and resets where an episode ends.
#[divan::bench]
fn step(bencher: Bencher<'_, '_>) {
    measure_steps(bencher, EnvSpec::published());
}

/// The same on EC2, in perturbed episodes.
#[divan::bench]
fn step_ec2(bencher: Bencher<'_, '_>) {
    let spec = EnvSpec::published().configured(|config| Ec2Profile::default().apply(config));
    let perturbation = Perturbation::ALL_KINDS;
    measure_steps(bencher, spec.expect("a valid profile").perturbed(perturbation));
}

/// Steps of the engine alone, without observation and mask.
#[divan::bench]
fn step_engine(bencher: Bencher<'_, '_>) {
    let spec = EnvSpec::published();
    let mut sim = Sim::new(spec.config().clone());
    let (mut dice, mut seed) = (Dice(7), 0);
    bencher.counter(ItemsCount::new(STEPS)).bench_local(|| {
        for _ in 0..STEPS {
            if sim.phase() != Phase::Going {
                sim.reset(spec.workloads()[seed as usize % 2].clone(), seed);
                seed += 1;
            }
            divan::black_box(sim.step(dice.action()));
        }
    });
}

/// One episode.
#[divan::bench]
fn episode(bencher: Bencher<'_, '_>) {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
    let mut seed = 0;
    bencher.counter(ItemsCount::new(1u64)).bench_local(|| {
        seed += 1;
        run_episode(&mut env, seed)
    });
}

/// Episodes side by side, on so many threads.
#[divan::bench(args = [1, 2])]
fn episodes(bencher: Bencher<'_, '_>, threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
    let spec = Arc::new(EnvSpec::published());
    bencher.counter(ItemsCount::new(EPISODES)).bench_local(|| {
        pool.install(|| {
            let rewards = (0..EPISODES).into_par_iter().map_init(|| TwinEnv::new(spec.clone()), run_episode);
            rewards.collect::<Vec<f64>>()
        })
    });
}

/// Ten million tasks of different lengths on five thousand machines, machines being stopped and launched all the time.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn big(bencher: Bencher<'_, '_>) {
    let mut config = SimConfig { max_steps: 1 << 40, ..SimConfig::default() };
    config.types[2].initial = BIG_MACHINES;
    let config = Arc::new(config);
    let workload = Arc::new(big_workload());
    bencher.counter(ItemsCount::new(BIG_TASKS as u64)).bench_local(|| {
        let mut sim = Sim::new(config.clone());
        sim.reset(workload.clone(), 0);
        while sim.phase() == Phase::Going {
            let action = if sim.tally().steps % 4 < 2 { Action::Stop(2, 1) } else { Action::Launch(2, 1) };
            sim.step(action);
        }
        assert_eq!(i64::from(sim.tally().completed), BIG_TASKS);
    });
}

fn big_workload() -> Workload {
    let mut dice = Dice(3);
    let cores = u64::from(BIG_MACHINES) * 8;
    let job = |id: i64| Job {
        id,
        submit_ms: id as u64 * 58_000 / cores,
        runtime_ms: 1000 + dice.roll(110_000),
        cores: 1 + u32::from(id % 17 == 0),
        memory_mb: 0,
    };
    Workload::new((0..BIG_TASKS).map(job).collect())
}
