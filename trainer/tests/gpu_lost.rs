//! A GPU that is lost in mid-training: an error that says so, and a state to go on from. A test program of its own, as the device
//! stays lost.
#![cfg(feature = "gpu")]

mod worlds;

use std::ops::ControlFlow;

use burn::tensor::{Device, DeviceKind};
use twinscaler::ppo::{Job, PpoConfig, Start, State, TrainError, Watcher, train};
use worlds::{Recall, many};

fn job(device: Device, start: Start) -> Job {
    Job { envs: many(&Recall::boxed, 8), evaluation: vec![], start, device }
}

#[test]
fn a_gpu_that_is_lost_in_mid_training_is_an_error_and_the_run_goes_on_elsewhere() {
    let config = PpoConfig {
        steps: 512,
        rollout_steps: 16,
        sequence_steps: 8,
        minibatch_sequences: 8,
        lstm_cells: 8,
        epochs: 1,
        ..PpoConfig::default()
    };
    // a real GPU if there is one
    let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0), DeviceKind::Cpu];
    let open = |kind| Device::wgpu_options().device_kind(kind).init_with_setup().ok();
    let (gpu, setup) = kinds.into_iter().find_map(open).expect("a GPU, or a driver that stands in for one");

    let mut kept: Option<State> = None;
    let watch: &mut Watcher = &mut |progress, snapshot| {
        kept = Some(snapshot.state());
        if progress.steps == 256 {
            setup.device.destroy();
        }
        ControlFlow::Continue(())
    };
    let error = train(job(gpu, Start::Fresh), &config, 1, watch).unwrap_err();
    assert!(matches!(error, TrainError::DeviceLost(_)), "{error}");
    assert!(error.to_string().contains("--resume"), "{error}");

    let state = kept.expect("a state after each update");
    assert_eq!(state.steps, 256);
    let start = Start::Resume(Box::new(state));
    let trained = train(job(Device::flex(), start), &config, 1, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert!(trained.steps == 512 && trained.last.is_finite());
}
