//! Every reason to refuse a policy, and that no bytes make the reader panic.

mod sample;

use contract::limits::POLICY_BYTES_MAX;
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, schema_hash};
use policy::format::{self, Layers};
use policy::pb::ModelProto;
use policy::{Policy, PolicyError, State, StepOut};
use proptest::prelude::*;
use sample::{CELLS, Sample};

/// Loads bytes under a manifest that names them.
fn load_named(onnx: &[u8], sample: &Sample) -> Result<Policy, PolicyError> {
    let mut manifest = sample.manifest.clone();
    manifest.sha256 = sha256_hex(onnx);
    Policy::load(onnx, &manifest)
}

fn changed(change: impl FnOnce(&mut ModelProto)) -> Result<Policy, PolicyError> {
    let sample = Sample::new(1);
    let mut model = format::decode(&sample.onnx).unwrap();
    change(&mut model);
    load_named(&prost::Message::encode_to_vec(&model), &sample)
}

#[test]
fn a_sound_policy_loads_and_agrees_with_plain_arithmetic() {
    let sample = Sample::new(1);
    let policy = Policy::load(&sample.onnx, &sample.manifest).unwrap();
    assert_eq!((policy.sha256(), policy.cells()), (sample.manifest.sha256.as_str(), CELLS));
    let (mut state, mut expected) = (policy.zero_state(), State::zero(CELLS));
    for golden in &sample.manifest.golden {
        let features = golden.features().unwrap();
        let found = policy.step(&features, &golden.mask, &mut state).unwrap();
        let plain = sample::step(&sample.layers, &features, &golden.mask, &mut expected);
        for (a, b) in found.probabilities.iter().zip(plain.probabilities) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        assert!((found.value - plain.value).abs() < 1e-5);
        let refused = (0..ACTION_COUNT).filter(|&i| !golden.mask[i]);
        assert!(refused.map(|i| found.probabilities[i]).all(|p| p == 0.0));
    }
}

#[test]
fn bytes_too_many_are_refused_before_anything_else() {
    let sample = Sample::new(1);
    let huge = vec![0; POLICY_BYTES_MAX + 1];
    assert!(matches!(Policy::load(&huge, &sample.manifest), Err(PolicyError::TooLarge { .. })));
}

#[test]
fn a_file_has_room_for_its_names_and_not_for_much_more() {
    let sample = Sample::new(1);
    let with = |more: usize| changed(|model| model.producer_name = "x".repeat(more));
    let weights: usize = sample.layers_bytes();
    let other = sample.onnx.len() - weights;
    assert!(other < format::OTHER_BYTES_MAX / 4, "{other} bytes");
    assert!(with(format::OTHER_BYTES_MAX / 2).is_ok());
    assert!(matches!(with(format::OTHER_BYTES_MAX), Err(PolicyError::Graph("its size besides the weights"))));
}

#[test]
fn other_bytes_than_the_manifest_names_are_refused() {
    let sample = Sample::new(1);
    let cut = &sample.onnx[..sample.onnx.len() - 1];
    assert!(matches!(Policy::load(cut, &sample.manifest), Err(PolicyError::Hash { .. })));
    assert!(matches!(Policy::load(&[], &sample.manifest), Err(PolicyError::Hash { .. })));
}

#[test]
fn another_schema_is_refused_in_the_manifest_and_in_the_file() {
    let mut sample = Sample::new(1);
    sample.manifest.schema_hash = "0".repeat(64);
    let error = Policy::load(&sample.onnx, &sample.manifest).unwrap_err();
    assert!(matches!(&error, PolicyError::ManifestSchema { expected, .. } if expected == schema_hash()), "{error}");
    let error = changed(|model| model.metadata_props[0].value = "1".repeat(64)).unwrap_err();
    assert!(matches!(error, PolicyError::FileSchema { .. }), "{error}");
    let error = changed(|model| model.metadata_props.clear()).unwrap_err();
    assert!(matches!(&error, PolicyError::FileSchema { found, .. } if found.is_empty()), "{error}");
}

#[test]
fn garbage_that_the_manifest_names_is_refused() {
    let sample = Sample::new(1);
    assert!(matches!(load_named(&[0xFF; 100], &sample), Err(PolicyError::NotOnnx(_))));
    // the empty message is one, but has no metadata
    assert!(matches!(load_named(&[], &sample), Err(PolicyError::FileSchema { .. })));
    let cut = &sample.onnx[..sample.onnx.len() / 2];
    assert!(matches!(load_named(cut, &sample), Err(PolicyError::NotOnnx(_))));
}

#[test]
fn another_shape_is_refused() {
    let mut sample = Sample::new(1);
    sample.manifest.lstm_cells = CELLS + 1;
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::Shape { .. })));
    sample.manifest.lstm_cells = usize::MAX / 4;
    assert!(Policy::load(&sample.onnx, &sample.manifest).is_err());
    let graph = |model: &mut ModelProto| model.graph.take().unwrap();
    let error = changed(|model| {
        let mut graph = graph(model);
        graph.initializer[0].raw_data.truncate(8);
        model.graph = Some(graph);
    });
    assert!(matches!(error, Err(PolicyError::Shape { .. })));
}

#[test]
fn another_graph_is_refused() {
    type Change = fn(&mut policy::pb::GraphProto);
    let changes: [(&str, Change); 5] = [
        ("nodes", |g| g.node[11].op_type = "Sigmoid".to_owned()),
        ("nodes", |g| g.node[3].attribute[0].i = i64::MAX),
        ("inputs", |g| g.input.swap(1, 2)),
        ("outputs", |g| g.output[0].name = "nowhere".to_owned()),
        ("graph", |g| g.initializer[7].raw_data = vec![1; 8]),
    ];
    for (expected, change) in changes {
        let error = changed(|model| change(model.graph.as_mut().unwrap())).unwrap_err();
        assert!(matches!(error, PolicyError::Graph(what) if what == expected), "{expected}: {error}");
    }
    assert!(matches!(changed(|m| m.graph = None), Err(PolicyError::Graph("graph"))));
    assert!(matches!(changed(|m| m.opset_import[0].version = 9), Err(PolicyError::Graph("opset"))));
}

#[test]
fn golden_vectors_must_be_there_and_be_reproduced() {
    let mut sample = Sample::new(1);
    sample.manifest.golden[2].probabilities[0] += 3e-4;
    let error = Policy::load(&sample.onnx, &sample.manifest).unwrap_err();
    assert!(matches!(&error, PolicyError::Golden { step: 2, output, .. } if output == "probability 0"), "{error}");
    let mut sample = Sample::new(1);
    let largest = sample.manifest.golden.iter().map(|golden| golden.value.abs()).fold(1.0, f32::max);
    sample.manifest.golden[4].value += 3e-3 * largest;
    let error = Policy::load(&sample.onnx, &sample.manifest).unwrap_err();
    assert!(matches!(&error, PolicyError::Golden { step: 4, output, .. } if output == "value"), "{error}");
    let mut sample = Sample::new(1);
    sample.manifest.golden[5].value = f32::NAN;
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::Golden { step: 5, .. })));
    sample.manifest.golden[1].features.pop();
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::Shape { .. })));
    sample.manifest.golden.clear();
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::NoGolden)));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let sample = Sample::with(1, |layers| layers.value_b[0] = f32::INFINITY);
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::NotFinite("value_b"))));
    let sample = Sample::with(1, |layers| layers.lstm_r[3] = f32::NAN);
    assert!(matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::NotFinite("lstm_r"))));
    // finite weights whose output is not: one of the two overflows, whatever the sign of the hidden state's sum
    let overflows = |bias: f32| {
        let sample = Sample::with(1, |layers| {
            layers.value_w.fill(f32::MAX);
            layers.value_b[0] = bias;
        });
        matches!(Policy::load(&sample.onnx, &sample.manifest), Err(PolicyError::NotFinite("value")))
    };
    assert!(overflows(f32::MAX) || overflows(-f32::MAX));
}

#[test]
fn a_failed_step_leaves_the_state_as_it_was() {
    let sample = Sample::new(1);
    let policy = Policy::load(&sample.onnx, &sample.manifest).unwrap();
    let mut state = State { h: vec![0.25; CELLS], c: vec![0.5; CELLS] };
    let before = state.clone();
    let mut features = [0.5; FEATURE_COUNT];
    assert!(matches!(
        policy.step(&features, &[false; ACTION_COUNT], &mut state),
        Err(PolicyError::NotADistribution(_))
    ));
    features[4] = f32::NAN;
    assert!(matches!(
        policy.step(&features, &[true; ACTION_COUNT], &mut state),
        Err(PolicyError::NotFinite("observation"))
    ));
    assert_eq!(state, before);
    state.c.pop();
    let error = policy.step(&[0.5; FEATURE_COUNT], &[true; ACTION_COUNT], &mut state).unwrap_err();
    assert!(matches!(error, PolicyError::State { found, .. } if found == CELLS - 1));
}

#[test]
fn the_best_action_is_the_most_probable_allowed_one_and_the_first_of_equals() {
    let first = [0.1, 0.3, 0.3, 0.0, 0.0, 0.3];
    let probabilities = std::array::from_fn(|i| first.get(i).copied().unwrap_or_default());
    let out = StepOut { probabilities, value: 0.0 };
    let all = [true; ACTION_COUNT];
    assert_eq!(out.best(&all), Action::from(1));
    let only = |allowed: &[usize]| std::array::from_fn(|i| allowed.contains(&i));
    assert_eq!(out.best(&only(&[0, 2, 3])), Action::from(2));
    assert_eq!(out.best(&only(&[3, 4])), Action::from(3));
    assert_eq!(out.best(&only(&[])), Action::Nothing);
}

#[test]
fn layers_of_the_wrong_length_are_not_written() {
    let layers = Layers { logits_b: vec![0.0; 6], ..Sample::new(1).layers };
    assert!(matches!(format::write(&layers, "test", &[]), Err(PolicyError::Shape { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(load_named(&bytes, &Sample::new(1)).is_err());
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in any::<prop::sample::Index>(), by in 1u8.., more in any::<bool>()) {
        let sample = Sample::new(1);
        let mut bytes = sample.onnx.clone();
        let i = at.index(bytes.len());
        bytes[i] ^= by;
        prop_assert!(Policy::load(&bytes, &sample.manifest).is_err());
        if more {
            bytes.truncate(i + 1);
        }
        // may load if only the last bits of a weight or the producer's name changed
        let _ = load_named(&bytes, &sample);
    }

    #[test]
    fn a_refused_action_never_wins(
        p in prop::collection::vec(0f32..1.0, ACTION_COUNT), mask in prop::collection::vec(any::<bool>(), ACTION_COUNT),
    ) {
        let mask = std::array::from_fn(|i| i == 0 || mask[i]);
        let best = StepOut { probabilities: std::array::from_fn(|i| p[i]), value: 0.0 }.best(&mask).index().unwrap();
        prop_assert!(mask[best]);
        prop_assert!((0..ACTION_COUNT).all(|i| !mask[i] || p[i] < p[best] || (p[i] == p[best] && i >= best)));
    }
}
