//! The same training on a GPU, or on a software Vulkan driver that stands in for one (Debian: mesa-vulkan-drivers,
//! with XDG_RUNTIME_DIR set). Only in builds with `--features gpu`, where a missing driver is a failure.
#![cfg(feature = "gpu")]

mod sequences;
mod worlds;

use std::ops::ControlFlow;

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sequences::{SHAPES, agree, minibatch, trained};
use twinscaler::device::{DeviceChoice, described, select};
use twinscaler::parity::package;
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::update::{Objective, loss_and_gradient};
use twinscaler::ppo::{Job, PpoConfig, Start, Tape, Trained, train};
use worlds::{Recall, many};

fn few_steps(device: Device) -> Trained {
    let config = PpoConfig {
        steps: 256,
        rollout_steps: 16,
        sequence_steps: 8,
        minibatch_sequences: 16,
        lstm_cells: 8,
        epochs: 2,
        ..PpoConfig::default()
    };
    let job = Job { envs: many(&Recall::boxed, 16), evaluation: vec![], start: Start::Fresh, device };
    train(job, &config, 1, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn the_kernels_of_our_own_give_what_the_cpu_gives() {
    let (gpu, mut rng) = (select(DeviceChoice::Gpu).unwrap(), ChaCha8Rng::seed_from_u64(5));
    let by = Coefficients { clip: 0.2, value: 0.5, entropy: 0.1, advice: 0.3 };
    // … one of which a GPU runs fewer sequences together, and one that is too long for its kernels
    for shape in SHAPES.into_iter().chain([(5, 7, 300), (110, 1, 600)]) {
        let (minibatch, weights) = (minibatch(&mut rng, shape), trained(&mut rng, shape));
        let on =
            |device: &Device| loss_and_gradient(&weights, &minibatch, Objective::Ppo, by, device, &mut Tape::default());
        agree(shape, &on(&gpu), &on(&Device::flex()), 2e-5);
    }
}

#[test]
fn a_gpu_has_a_name_and_can_be_asked_for_twice() {
    let gpu = select(DeviceChoice::Gpu).unwrap();
    assert_eq!(gpu, select(DeviceChoice::Gpu).unwrap());
    let name = described(&gpu);
    assert!(name.starts_with("the GPU: ") && !name.contains("Device"), "{name}");
}

#[test]
fn a_few_steps_on_the_gpu_give_what_the_cpu_gives() {
    let gpu = few_steps(select(DeviceChoice::Gpu).unwrap());
    let cpu = few_steps(Device::flex());
    let largest = gpu.last.values.iter().zip(&cpu.last.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-3, "weights differ by {largest}");
    package(&gpu.last, Default::default()).unwrap();
}
