//! What is exported runs in tract as it was trained, and is refused when it does not.

use contract::limits::POLICY_BYTES_MAX;
use contract::{ACTION_COUNT, FEATURE_COUNT, schema_hash};
use policy::{Policy, PolicyError};
use twinscaler::onnx::export;
use twinscaler::parity::{self, GOLDEN_STEPS, PARITY_TOLERANCE, ParityError, package};
use twinscaler::ppo::{PpoConfig, Weights};

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

/// What a large fleet wastes is many dollars, each of which is little to learn from.
#[test]
fn the_value_of_a_policy_of_a_large_fleet_is_compared_in_the_unit_that_it_was_learned_in() {
    for seed in 0..20 {
        let mut weights = Weights { reward_scale: 0.001, ..Weights::new(64, seed) };
        let head = weights.values.len() - 65 * (ACTION_COUNT + 1);
        weights.values[head..].iter_mut().for_each(|w| *w *= 150.0);
        let (_, manifest) = packaged(&weights).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let largest = manifest.golden.iter().map(|golden| golden.value.abs()).fold(0.0, f32::max);
        assert!(largest > 100.0, "{largest}");
    }
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
fn an_improbable_action_must_be_as_improbable_in_the_file() {
    let last = ACTION_COUNT - 1;
    let with = |bias: f32| {
        let mut weights = Weights::new(16, 11);
        let head_b = weights.values.len() - (ACTION_COUNT + 1);
        weights.values[head_b + last] = bias;
        weights
    };
    let (onnx, manifest) = packaged(&with(-12.0)).unwrap();
    let most = manifest.golden.iter().map(|golden| golden.probabilities[last]).fold(0.0, f32::max);
    assert!(most > 0.0 && most < PARITY_TOLERANCE, "its probability alone would not tell: {most}");
    let policy = Policy::load(&onnx, &manifest).unwrap();
    let error = parity::check(&with(-12.01), &policy).unwrap_err().to_string();
    assert!(error.contains(&format!("logarithm of probability {last}")), "{error}");
}

#[test]
fn a_state_must_be_the_same_even_where_no_output_shows_it() {
    let cells = 16;
    let mut hidden = weights(cells);
    // nothing reads cell 0: neither the gates nor the head
    hidden.values[FEATURE_COUNT * 4 * cells..][..4 * cells].fill(0.0);
    let head = hidden.values.len() - (cells + 1) * (ACTION_COUNT + 1);
    hidden.values[head..][..ACTION_COUNT + 1].fill(0.0);
    let (onnx, manifest) = packaged(&hidden).unwrap();
    let policy = Policy::load(&onnx, &manifest).unwrap();
    // the bias of its forget gate
    hidden.values[(FEATURE_COUNT + cells) * 4 * cells + cells] -= 0.5;
    let error = parity::check(&hidden, &policy).unwrap_err().to_string();
    assert!(error.contains(" of cell 0"), "{error}");
}

#[test]
fn the_shipped_policy_passes_the_parity_test() {
    let file =
        |name: &str| std::fs::read(format!("{}/../policies/initial/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let weights = Weights::from_checkpoint(&file("checkpoint")).unwrap();
    let policy = Policy::load(&file("policy.onnx"), &serde_json::from_slice(&file("manifest.json")).unwrap()).unwrap();
    parity::check(&weights, &policy).unwrap();
}

#[test]
fn a_network_for_comparison_is_not_exported() {
    let (two, forgetful) = (PpoConfig { lstm_layers: 2, ..small() }, PpoConfig { memory: false, ..small() });
    for (config, setting) in [(two, "lstm_layers"), (forgetful, "memory")] {
        let error = packaged(&Weights::fresh(&config, 1)).unwrap_err().to_string();
        assert!(error.contains(setting) && error.contains("for comparison only"), "{error}");
    }
}

fn small() -> PpoConfig {
    PpoConfig { lstm_cells: 4, ..PpoConfig::default() }
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
