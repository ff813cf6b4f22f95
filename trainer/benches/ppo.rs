//! How fast training is: `cargo bench -p twinscaler --profile dev`. Environment steps a second for the forward and
//! backward pass of minibatches, for rollouts alone, and for both.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::Device;
use contract::{ACTION_COUNT, Action, FEATURE_COUNT};
use twin::env::{Environment, Seen, Step};
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::update::{Minibatch, Objective, loss_and_gradient};
use twinscaler::ppo::{Job, PpoConfig, Start, Tape, Weights, train};

const BY: Coefficients = Coefficients { clip: 0.2, value: 0.5, entropy: 0.01 };

/// Costs nothing to step, so that only the network is measured.
struct Free(u32);

impl Environment for Free {
    fn reset(&mut self, _: u64) -> Seen {
        self.0 = 0;
        Seen { features: [0.5; FEATURE_COUNT], mask: [true; ACTION_COUNT] }
    }

    fn step(&mut self, action: Action) -> Step {
        self.0 += 1;
        let features = [self.0 as f32 / 256.0; FEATURE_COUNT];
        let reward = if action == Action::Nothing { 0.0 } else { -0.1 };
        Step { seen: Seen { features, mask: [true; ACTION_COUNT] }, reward, done: self.0 == 200 }
    }
}

fn minibatch(steps: usize, sequences: usize, cells: usize) -> Minibatch {
    let n = steps * sequences;
    Minibatch {
        x: vec![0.3; n * FEATURE_COUNT],
        keep: vec![1.0; n],
        first: [vec![0.1; sequences * cells], vec![0.1; sequences * cells]],
        action: (0..n * ACTION_COUNT).map(|i| f32::from(i % ACTION_COUNT == 0)).collect(),
        penalty: vec![0.0; n * ACTION_COUNT],
        old_log_prob: vec![-2.0; n],
        advantage: vec![0.5; n],
        value: vec![0.5; n],
    }
}

fn gradients(steps: usize, sequences: usize) {
    let (weights, minibatch) = (Weights::new(128, 1), minibatch(steps, sequences, 128));
    let mut tape = Tape::default();
    let mut once =
        || loss_and_gradient(&weights, black_box(&minibatch), Objective::Ppo, BY, &Device::flex(), &mut tape);
    black_box(once());
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 2.0 {
        black_box(once());
        rounds += 1;
    }
    let per_second = (rounds * steps * sequences) as f64 / start.elapsed().as_secs_f64();
    println!("gradient, {sequences:4} sequences of {steps:4}: {per_second:9.0} steps/s");
}

fn whole(name: &str, config: &PpoConfig) {
    let envs = (0..config.n_envs).map(|_| Box::new(Free(0)) as Box<dyn Environment>).collect();
    let job = Job { envs, evaluation: vec![], start: Start::Fresh, device: Device::flex() };
    let start = Instant::now();
    train(job, config, 1, &mut |_, _| ControlFlow::Continue(())).expect("the settings are sound");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {:9.0} steps/s, {:6.1} s for 250 000",
        config.steps as f64 / seconds,
        250_000.0 * seconds / config.steps as f64
    );
}

fn main() {
    for (steps, sequences) in [(250, 1), (64, 8), (250, 8), (64, 32), (64, 64), (64, 256)] {
        gradients(steps, sequences);
    }
    let steps = 32_768;
    whole("default", &PpoConfig { steps, ..PpoConfig::default() });
    whole("default, learning rate tiny, 1 epoch", &PpoConfig { steps, epochs: 1, ..PpoConfig::default() });
    let published = PpoConfig::from_toml(include_str!("../settings/published.toml")).expect("sound settings");
    whole("published", &PpoConfig { steps: 8192, ..published });
}
