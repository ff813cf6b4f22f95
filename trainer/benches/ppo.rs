//! How fast training is, and where its time goes: `cargo bench -p twinscaler --profile dev --bench ppo`. The published network
//! (128 cells) on the published load, on the CPU; evaluations are left out. With a GPU, beside the CPU of the same machine:
//! `cargo bench -p twinscaler --features gpu --bench ppo -- gpu`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use contract::{ACTION_COUNT, FEATURE_COUNT};
use twin::Environment;
use twinscaler::compare::environments;
use twinscaler::course::published_twin;
use twinscaler::device::{DeviceChoice, described, select};
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::rollout::{Actor, Collector};
use twinscaler::ppo::runner::is_cpu;
use twinscaler::ppo::update::{Minibatch, Objective, composed, loss_and_gradient};
use twinscaler::ppo::{Job, PpoConfig, Start, Tape, Weights, train};

const BY: Coefficients = Coefficients { clip: 0.2, value: 0.5, entropy: 0.01, advice: 0.0 };
const CELLS: usize = 128;
/// Steps that the published system trains for.
const STEPS: f64 = 250_000.0;

fn minibatch(steps: usize, sequences: usize) -> Minibatch {
    let n = steps * sequences;
    Minibatch {
        x: vec![0.3; n * FEATURE_COUNT],
        keep: vec![1.0; n],
        first: [vec![0.1; sequences * CELLS], vec![0.1; sequences * CELLS]],
        action: (0..n * ACTION_COUNT).map(|i| f32::from(i % ACTION_COUNT == 0)).collect(),
        advice: vec![0.0; n * ACTION_COUNT],
        penalty: vec![0.0; n * ACTION_COUNT],
        old_log_prob: vec![-2.0; n],
        advantage: vec![0.5; n],
        value: vec![0.5; n],
    }
}

/// Environment steps a second of something that does `steps` of them, over two seconds.
fn speed(name: &str, steps: usize, mut once: impl FnMut()) -> f64 {
    once();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 2.0 {
        once();
        rounds += 1;
    }
    let per_second = (rounds * steps) as f64 / start.elapsed().as_secs_f64();
    println!("{name:<60} {per_second:9.0} steps/s {:6.2} s for 250 000", STEPS / per_second);
    per_second
}

fn loss_and_gradients(steps: usize, sequences: usize, device: &Device) {
    let (weights, minibatch) = (Weights::new(CELLS, 1), minibatch(steps, sequences));
    let (n, mut tape) = (steps * sequences, Tape::default());
    speed(&format!("loss and gradient, {sequences} sequences of {steps}"), n, || {
        black_box(loss_and_gradient(&weights, &minibatch, Objective::Ppo, BY, device, &mut tape));
    });
    speed(&format!("the same from burn's operations, {sequences} sequences of {steps}"), n, || {
        black_box(composed(&weights, &minibatch, Objective::Ppo, BY, device));
    });
}

/// One thread's part of an update: what two threads do side by side.
fn gradients(steps: usize, sequences: usize) {
    let (weights, minibatch, device) = (Weights::new(CELLS, 1), minibatch(steps, sequences), Device::flex());
    let (n, mut tape) = (steps * sequences, Tape::default());
    let what = format!("{sequences} sequences of {steps}");
    speed(&format!("LSTM forward, {what}"), n, || {
        black_box(tape.forward(&weights, &minibatch.x, &minibatch.keep, &minibatch.first));
    });
    let (d_hidden, mut gradient) = (vec![1e-3; n * CELLS], vec![0.0; weights.values.len()]);
    speed(&format!("LSTM forward and backward, {what}"), n, || {
        tape.forward(&weights, &minibatch.x, &minibatch.keep, &minibatch.first);
        tape.backward(&weights, &minibatch.x, &minibatch.keep, &d_hidden, &mut gradient);
    });
    loss_and_gradients(steps, sequences, &device);
}

fn twins(n: usize) -> Vec<Box<dyn Environment>> {
    environments(&Arc::new(published_twin()), n)
}

fn rollouts(config: &PpoConfig, device: &Device) {
    let weights = Weights::new(CELLS, 1);
    let mut collector = Collector::new(twins(config.n_envs), config, &weights, true, 1, device);
    speed(&format!("rollouts of {} twins", config.n_envs), config.n_envs * config.rollout_steps, || {
        collector.collect(&weights, Actor::Policy).expect("a twin's rewards are numbers");
    });
    let mut tracks = collector.tracks();
    tracks.iter_mut().for_each(|track| track.estimate(1.0, config.gae_lambda));
    let sequences: Vec<_> = (0..config.minibatch_sequences.min(tracks.len())).map(|track| (track, 0)).collect();
    let what = format!("gathering {} sequences of {}", sequences.len(), config.sequence_steps);
    speed(&what, sequences.len() * config.sequence_steps, || {
        black_box(Minibatch::pick(&tracks, &sequences));
    });
}

fn whole(name: &str, config: &PpoConfig, device: &Device) {
    let job = Job { envs: twins(config.n_envs), evaluation: vec![], start: Start::Fresh, device: device.clone() };
    let start = Instant::now();
    train(job, config, 1, &mut |_, _| ControlFlow::Continue(())).expect("the settings are sound");
    let seconds = start.elapsed().as_secs_f64();
    let per_second = config.steps as f64 / seconds;
    println!("{name:<60} {per_second:9.0} steps/s {:6.2} s for 250 000", STEPS / per_second);
}

/// The settings for a GPU on one, and on the CPU beside it.
fn with_a_gpu() {
    let gpu = select(DeviceChoice::Gpu).unwrap_or_else(|error| panic!("{error}"));
    let config = PpoConfig::from_toml(include_str!("../settings/gpu.toml")).expect("sound settings");
    let rollout_steps = (config.n_envs * config.rollout_steps) as u64;
    for (device, rounds) in [(gpu, 8), (Device::flex(), 1)] {
        println!("{}", described(&device));
        if !is_cpu(&device) {
            [128, 1024, 4096]
                .into_iter()
                .for_each(|sequences| loss_and_gradients(config.sequence_steps, sequences, &device));
        }
        rollouts(&config, &device);
        whole("training, settings for a GPU", &PpoConfig { steps: rounds * rollout_steps, ..config.clone() }, &device);
    }
    whole("training, default settings", &by_default(), &Device::flex());
}

fn by_default() -> PpoConfig {
    PpoConfig { steps: STEPS as u64, ..PpoConfig::default() }
}

fn main() {
    let (default, cpu) = (by_default(), Device::flex());
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    // under `time`, the processor time of one training alone
    if asked("whole") {
        return whole("training, default settings", &default, &cpu);
    }
    if asked("gpu") {
        return with_a_gpu();
    }
    gradients(64, 8);
    rollouts(&default, &cpu);
    whole("training, default settings", &default, &cpu);
    let published = PpoConfig::from_toml(include_str!("../settings/published.toml")).expect("sound settings");
    whole("training, published settings", &PpoConfig { steps: 32_768, ..published }, &cpu);
}
