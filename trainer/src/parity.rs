//! A policy leaves the trainer only if tract computes from its file what burn computed from its weights.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use burn::tensor::Device;
use contract::manifest::{Golden, MANIFEST_VERSION, Manifest};
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, FEATURE_COUNT, Features, Mask, schema_hash};
use policy::{Policy, PolicyError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::onnx::{self, ExportError};
use crate::ppo::Weights;
use crate::ppo::model::{Cells, Model, rows, to_vec};
use crate::ppo::rollout::probabilities;

/// Recurrent steps that are compared.
pub const PARITY_STEPS: usize = 200;
/// Largest difference of the logarithm of an allowed action's probability (its logit, up to a constant), relative to 1 or
/// itself if larger.
pub const PARITY_TOLERANCE: f32 = 1e-4;
/// The same of the recurrent state, and of the value in the unit that it was learned in. What tract's approximations of tanh and
/// the logistic function leave out adds up in the state, and more so in a policy that has learned for long; what that does to the
/// probabilities is held to [`PARITY_TOLERANCE`] in every step.
pub const PARITY_STATE_TOLERANCE: f32 = 1e-3;
/// Probabilities below it are compared as they are: no action of so small a one is ever taken, and its logarithm soon is none.
pub const PARITY_FLOOR: f32 = 1e-20;
/// Recurrent steps that go into the manifest, for readers to reproduce.
pub const GOLDEN_STEPS: usize = 32;
/// Any fixed number: the inputs are the same for every policy.
const INPUT_SEED: u64 = 0x601D;

/// Why a policy may not be written.
#[derive(Debug, Error)]
pub enum ParityError {
    /// A weight is NaN or infinite.
    #[error("a weight is not a finite number; train again")]
    NotFinite,
    /// There is no file of such weights.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The file is refused by the reader.
    #[error("the exported policy is refused: {0}")]
    Refused(#[from] PolicyError),
    /// burn and tract disagree.
    #[error(
        "parity: step {step}, {output}: burn has {burn}, tract has {tract}; the export is wrong, nothing was written"
    )]
    Differs {
        /// Recurrent step.
        step: usize,
        /// Which output.
        output: String,
        /// As trained.
        burn: f32,
        /// As it would run.
        tract: f32,
    },
}

/// Where a policy comes from, for its manifest.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The training settings, by name.
    pub settings: BTreeMap<String, String>,
    /// How it did, by name.
    pub evaluation: BTreeMap<String, f64>,
    /// SHA-256 of the policy that it learned on from, if any.
    pub parent: Option<String>,
    /// Machines that an action moved at most while it was learned.
    pub machines_per_action_max: u16,
}

impl Default for Origin {
    fn default() -> Self {
        Self { settings: BTreeMap::new(), evaluation: BTreeMap::new(), parent: None, machines_per_action_max: 1 }
    }
}

/// Makes the policy file and its manifest, after checking that the file does what the weights do.
///
/// # Errors
/// If it does not; then there is nothing to write.
pub fn package(weights: &Weights, origin: Origin) -> Result<(Vec<u8>, Manifest), ParityError> {
    if !weights.is_finite() {
        return Err(ParityError::NotFinite);
    }
    let onnx = onnx::export(weights)?;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        sha256: sha256_hex(&onnx),
        onnx_bytes: onnx.len() as u64,
        schema_hash: schema_hash().to_owned(),
        lstm_cells: weights.cells,
        machines_per_action_max: origin.machines_per_action_max,
        parent: origin.parent,
        settings: origin.settings,
        evaluation: origin.evaluation,
        golden: expected(weights, GOLDEN_STEPS),
    };
    let policy = Policy::load(&onnx, &manifest)?;
    check(weights, &policy)?;
    Ok((onnx, manifest))
}

/// Compares burn and tract over [`PARITY_STEPS`] recurrent steps on random features and masks.
///
/// # Errors
/// The first difference above [`PARITY_TOLERANCE`] or [`PARITY_STATE_TOLERANCE`].
pub fn check(weights: &Weights, policy: &Policy) -> Result<(), ParityError> {
    let mut state = policy.zero_state();
    for (step, (burn, [h, c])) in played(weights, PARITY_STEPS).into_iter().enumerate() {
        let features = burn.features().expect("made from an array of the right length");
        let tract = policy.step(&features, &burn.mask, &mut state)?;
        // a dollar may be any number of the units of learning
        let unit_usd = 1.0 / weights.reward_scale;
        within(step, format_args!("value"), (burn.value, tract.value), PARITY_STATE_TOLERANCE, unit_usd)?;
        for (i, (burn, tract)) in burn.probabilities.into_iter().zip(tract.probabilities).enumerate() {
            compare_probability(step, i, burn, tract)?;
        }
        for (name, burn, tract) in [("h", &h, &state.h), ("c", &c, &state.c)] {
            for (k, (burn, tract)) in burn.iter().zip(tract).enumerate() {
                compare(step, format_args!("{name} of cell {k}"), *burn, *tract, PARITY_STATE_TOLERANCE)?;
            }
        }
    }
    Ok(())
}

fn compare_probability(step: usize, i: usize, burn: f32, tract: f32) -> Result<(), ParityError> {
    if burn < PARITY_FLOOR {
        return compare(step, format_args!("probability {i}"), burn, tract, PARITY_TOLERANCE);
    }
    compare(step, format_args!("logarithm of probability {i}"), burn.ln(), tract.ln(), PARITY_TOLERANCE)
}

fn compare(step: usize, output: Arguments, burn: f32, tract: f32, tolerance: f32) -> Result<(), ParityError> {
    within(step, output, (burn, tract), tolerance, 1.0)
}

/// Relative to `unit`, or to the number itself if that is larger.
fn within(
    step: usize,
    output: Arguments,
    (burn, tract): (f32, f32),
    tolerance: f32,
    unit: f32,
) -> Result<(), ParityError> {
    if (burn - tract).abs() <= tolerance * burn.abs().max(unit) {
        return Ok(());
    }
    Err(ParityError::Differs { step, output: output.to_string(), burn, tract })
}

/// What burn computes on the CPU for the first steps of the fixed random inputs, from a zero state.
pub fn expected(weights: &Weights, steps: usize) -> Vec<Golden> {
    played(weights, steps).into_iter().map(|(golden, _)| golden).collect()
}

/// The same with the state after each step, h and c.
fn played(weights: &Weights, steps: usize) -> Vec<(Golden, [Vec<f32>; 2])> {
    let device = Device::flex();
    let model = Model::inference(weights, &device);
    let mut state = Cells::zero(1, weights, &device);
    let mut rng = ChaCha8Rng::seed_from_u64(INPUT_SEED);
    let mut played = Vec::with_capacity(steps);
    for _ in 0..steps {
        let (features, mask) = random_input(&mut rng);
        state = model.step(rows(features.to_vec(), FEATURE_COUNT, &device), state);
        let head = to_vec(model.head().raw(state.top()));
        let golden = Golden {
            features: features.to_vec(),
            mask,
            probabilities: probabilities(&head[..ACTION_COUNT], &mask),
            value: head[ACTION_COUNT] / weights.reward_scale,
        };
        played.push((golden, state.numbers()));
    }
    played
}

fn random_input(rng: &mut ChaCha8Rng) -> (Features, Mask) {
    let features = std::array::from_fn(|_| rng.random::<f32>());
    // nothing is always allowed
    let mask = std::array::from_fn(|i| i == 0 || rng.random_bool(0.6));
    (features, mask)
}
