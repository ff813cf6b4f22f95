//! The gradient that burn gives is the slope of the loss.

mod sequences;

use burn::tensor::Device;
use contract::ACTION_COUNT;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sequences::{SHAPES, SMALL, Shape, agree, minibatch, trained};
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::update::{Objective, composed, loss_and_gradient};
use twinscaler::ppo::{PpoConfig, Tape, Weights};

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

/// The CPU's own operation against burn's composed cell and its backward pass.
#[test]
fn the_operation_of_our_own_gives_what_burn_gives() {
    SHAPES.into_iter().for_each(agrees_with_burn);
}

fn agrees_with_burn(shape: Shape) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (minibatch, device) = (minibatch(&mut rng, shape), Device::flex());
    let weights = trained(&mut rng, shape);
    let by = Coefficients { clip: 0.2, value: 0.5, entropy: 0.1, advice: 0.3 };
    let ours = loss_and_gradient(&weights, &minibatch, Objective::Ppo, by, &device, &mut Tape::default());
    let theirs = composed(&weights, &minibatch, Objective::Ppo, by, &device);
    agree(shape, &ours, &theirs, 1e-5);
}
