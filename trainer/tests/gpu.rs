//! The same training on a GPU, or on a software Vulkan driver that stands in for one (Debian: mesa-vulkan-drivers,
//! with XDG_RUNTIME_DIR set). Only in builds with `--features gpu`, where a missing driver is a failure.
#![cfg(feature = "gpu")]

mod worlds;

use std::ops::ControlFlow;

use burn::tensor::Device;
use twinscaler::device::{DeviceChoice, select};
use twinscaler::parity::package;
use twinscaler::ppo::{Job, PpoConfig, Start, Trained, train};
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
fn a_few_steps_on_the_gpu_give_what_the_cpu_gives() {
    let gpu = few_steps(select(DeviceChoice::Gpu).unwrap());
    let cpu = few_steps(Device::flex());
    let largest = gpu.last.values.iter().zip(&cpu.last.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-3, "weights differ by {largest}");
    package(&gpu.last, Default::default()).unwrap();
}
