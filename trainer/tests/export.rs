//! What is exported runs in tract as it was trained, and is refused when it does not.

use contract::limits::POLICY_BYTES_MAX;
use contract::{ACTION_COUNT, FEATURE_COUNT, schema_hash};
use policy::{Policy, PolicyError};
use twinscaler::onnx::export;
use twinscaler::parity::{self, GOLDEN_STEPS, ParityError, package};
use twinscaler::ppo::Weights;

fn weights(cells: usize) -> Weights {
    let mut weights = Weights { reward_scale: 0.25, ..Weights::new(cells, 11) };
    // a head as strong as that of a trained policy
    let head = weights.values.len() - (cells + 1) * (ACTION_COUNT + 1);
    weights.values[head..].iter_mut().for_each(|w| *w *= 150.0);
    weights
}

fn packaged(weights: &Weights) -> Result<(Vec<u8>, contract::manifest::Manifest), ParityError> {
    package(weights, Default::default())
}

#[test]
fn a_packaged_policy_passes_its_parity_test_and_loads() {
    for cells in [1, 16, 128] {
        let weights = weights(cells);
        let (onnx, manifest) = packaged(&weights).unwrap();
        assert_eq!((manifest.lstm_cells, manifest.golden.len()), (cells, GOLDEN_STEPS));
        assert_eq!(manifest.onnx_bytes, onnx.len() as u64);
        assert!(onnx.len() < POLICY_BYTES_MAX / 8);
        // a manifest is stored as JSON
        let manifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
        let policy = Policy::load(&onnx, &manifest).unwrap();
        parity::check(&weights, &policy).unwrap();
    }
}

#[test]
fn the_probabilities_are_far_from_uniform_and_the_value_is_in_dollars() {
    let (_, manifest) = packaged(&weights(16)).unwrap();
    let largest = manifest.golden.iter().flat_map(|g| g.probabilities).fold(0.0, f32::max);
    assert!(largest > 0.5, "parity of equal probabilities would show little: {largest}");
    let twice = Weights { reward_scale: 0.125, ..weights(16) };
    let (_, doubled) = packaged(&twice).unwrap();
    assert!((doubled.golden[3].value - 2.0 * manifest.golden[3].value).abs() < 1e-4);
}

#[test]
fn other_weights_fail_the_parity_test() {
    let right = weights(16);
    let (onnx, manifest) = packaged(&right).unwrap();
    let policy = Policy::load(&onnx, &manifest).unwrap();
    let mut wrong = right.clone();
    // the bias of one forget gate
    wrong.values[(FEATURE_COUNT + 16) * 64 + 16] -= 0.5;
    assert!(matches!(parity::check(&wrong, &policy), Err(ParityError::Differs { .. })));
}

#[test]
fn weights_that_are_not_finite_are_not_exported() {
    let mut bad = weights(4);
    bad.values[17] = f32::NAN;
    assert!(matches!(packaged(&bad), Err(ParityError::NotFinite)));
}

#[test]
fn the_file_carries_the_schema_it_was_trained_with() {
    let model = policy::format::decode(&export(&weights(2)).unwrap()).unwrap();
    assert_eq!(policy::format::metadata(&model, "schema_hash"), Some(schema_hash()));
    assert_eq!(policy::format::metadata(&model, "lstm_cells"), Some("2"));
    assert_eq!(model.producer_name, "twinscaler");
}

#[test]
fn a_reader_with_the_wrong_cells_refuses_it() {
    let (onnx, mut manifest) = packaged(&weights(4)).unwrap();
    manifest.lstm_cells = 5;
    assert!(matches!(Policy::load(&onnx, &manifest), Err(PolicyError::Shape { .. })));
}
