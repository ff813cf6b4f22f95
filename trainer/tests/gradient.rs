//! The gradient that burn gives is the slope of the loss.

use burn::tensor::Device;
use contract::{ACTION_COUNT, FEATURE_COUNT};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::update::{Minibatch, Objective, composed, loss_and_gradient};
use twinscaler::ppo::{PpoConfig, Tape, Weights};

/// Steps, sequences and numbers of a state, h or c, of a minibatch.
type Shape = (usize, usize, usize);

const SMALL: Shape = (4, 2, 3);

/// Sequences of which the last has an episode that starts at its third step, and refused actions.
fn minibatch(rng: &mut ChaCha8Rng, (steps, sequences, width): Shape) -> Minibatch {
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

#[test]
fn finite_differences_agree_with_the_gradient() {
    for layers in [1, 2] {
        has_the_slope_as_its_gradient(layers);
    }
}

fn has_the_slope_as_its_gradient(layers: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (steps, sequences, cells) = SMALL;
    let minibatch = minibatch(&mut rng, (steps, sequences, layers * cells));
    let by = Coefficients { clip: 0.2, value: 0.5, entropy: 0.1, advice: 0.3 };
    let config = PpoConfig { lstm_cells: cells, lstm_layers: layers, ..PpoConfig::default() };
    let mut weights = Weights::fresh(&config, 9);
    // a head that matters
    let head = weights.values.len() - (cells + 1) * (ACTION_COUNT + 1);
    weights.values[head..].iter_mut().for_each(|w| *w = rng.random_range(-0.5..0.5));
    for objective in [Objective::Ppo, Objective::Cloning] {
        let at = |weights: &Weights| {
            loss_and_gradient(weights, &minibatch, objective, by, &Device::flex(), &mut Tape::default())
        };
        let (_, gradient) = at(&weights);
        assert_eq!(gradient.len(), weights.values.len());
        for i in (0..weights.values.len()).step_by(7) {
            let moved = |by: f32| {
                let mut moved = weights.clone();
                moved.values[i] += by;
                f64::from(at(&moved).0.total)
            };
            let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            let gradient = f64::from(gradient[i]);
            assert!(
                (slope - gradient).abs() < 2e-3 + 0.02 * slope.abs(),
                "{layers} {objective:?} {i}: {slope} {gradient}"
            );
        }
    }
}

/// The CPU's own operation against burn's composed cell and its backward pass: small, of odd sizes, as the default settings
/// have it, and as the published ones do.
#[test]
fn the_operation_of_our_own_gives_what_burn_gives() {
    for shape in [SMALL, (9, 5, 17), (64, 16, 128), (250, 1, 128)] {
        agrees_with_burn(shape);
    }
}

fn agrees_with_burn(shape: Shape) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (minibatch, device) = (minibatch(&mut rng, shape), Device::flex());
    let mut weights = Weights::new(shape.2, 9);
    // as large as trained ones; what comes in at a gate does not grow with the number of cells
    let most = 0.8 * (3.0 / shape.2 as f32).sqrt();
    weights.values.iter_mut().for_each(|w| *w = rng.random_range(-most..most));
    let by = Coefficients { clip: 0.2, value: 0.5, entropy: 0.1, advice: 0.3 };
    let (losses, ours) = loss_and_gradient(&weights, &minibatch, Objective::Ppo, by, &device, &mut Tape::default());
    let (theirs, burns) = composed(&weights, &minibatch, Objective::Ppo, by, &device);
    assert!((losses.total - theirs.total).abs() < 1e-5, "{shape:?}: {losses:?} {theirs:?}");
    for (i, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
        assert!((ours - burns).abs() < 1e-5 + 1e-4 * burns.abs(), "{shape:?} {i}: {ours} {burns}");
    }
}
