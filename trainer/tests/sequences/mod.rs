//! Minibatches of random numbers, and whether two gradients of one agree.
#![allow(dead_code, reason = "each test file that includes this uses a part of it")]

use contract::{ACTION_COUNT, FEATURE_COUNT};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use twinscaler::ppo::Weights;
use twinscaler::ppo::update::{Losses, Minibatch};

/// Steps, sequences and numbers of a state, h or c, of a minibatch.
pub type Shape = (usize, usize, usize);

/// The smallest.
pub const SMALL: Shape = (4, 2, 3);
/// Small, of odd sizes, as the default settings have it, and as the published ones do.
pub const SHAPES: [Shape; 4] = [SMALL, (9, 5, 17), (64, 16, 128), (250, 1, 128)];

/// Sequences of which the last has an episode that starts at its third step, and refused actions.
pub fn minibatch(rng: &mut ChaCha8Rng, (steps, sequences, width): Shape) -> Minibatch {
    let n = steps * sequences;
    let mut numbers = |n: usize, low: f32, high: f32| (0..n).map(|_| rng.random_range(low..high)).collect::<Vec<f32>>();
    let mut keep = vec![1.0; n];
    keep[3 * sequences - 1] = 0.0;
    let action = (0..n).flat_map(|i| (0..ACTION_COUNT).map(move |a| f32::from(a == i % 3))).collect();
    let refused = (0..n).flat_map(|i| (0..ACTION_COUNT).map(move |a| if a == 6 && i % 2 == 1 { -1e9 } else { 0.0 }));
    Minibatch {
        x: numbers(n * FEATURE_COUNT, 0.0, 1.0),
        keep,
        first: [numbers(sequences * width, -0.5, 0.5), numbers(sequences * width, -0.5, 0.5)],
        action,
        advice: (0..n).flat_map(|i| (0..ACTION_COUNT).map(move |a| f32::from(a == i % 2))).collect(),
        penalty: refused.collect(),
        old_log_prob: numbers(n, -2.2, -1.7),
        advantage: numbers(n, -1.0, 1.0),
        value: numbers(n, -1.0, 1.0),
    }
}

/// Weights as large as trained ones; what comes in at a gate does not grow with the number of cells.
pub fn trained(rng: &mut ChaCha8Rng, shape: Shape) -> Weights {
    let mut weights = Weights::new(shape.2, 9);
    let most = 0.8 * (3.0 / shape.2 as f32).sqrt();
    weights.values.iter_mut().for_each(|w| *w = rng.random_range(-most..most));
    weights
}

/// Losses within 1e-5, and each number of the gradient within `absolute` and a ten-thousandth of itself.
pub fn agree(shape: Shape, ours: &(Losses, Vec<f32>), theirs: &(Losses, Vec<f32>), absolute: f32) {
    assert!((ours.0.total - theirs.0.total).abs() < 1e-5, "{shape:?}: {:?} {:?}", ours.0, theirs.0);
    assert_eq!(ours.1.len(), theirs.1.len());
    for (i, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
        assert!((ours - theirs).abs() < absolute + 1e-4 * theirs.abs(), "{shape:?} {i}: {ours} {theirs}");
    }
}
