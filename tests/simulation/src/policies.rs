//! Small policies with numbers chosen by hand, and broken ones of every kind.
//!
//! Two cells are enough to run a fleet by: one sees the queue, the other idle cores. Their golden steps are computed
//! here in plain arithmetic, as the trainer would deliver them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::{Golden, MANIFEST_VERSION, Manifest};
use contract::observation::FEATURES;
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, ACTIONS, Action, FEATURE_COUNT, Features, Mask, schema_hash};
use policy::Policy;
use policy::format::{self, Layers};
use signing::{PublicKeys, SigningKey, file_name};

use crate::seen::Event;

const CELLS: usize = 2;

/// A policy's file and manifest, as a promoter would upload them.
#[derive(Clone, Debug)]
pub struct Package {
    /// The name that it is uploaded under.
    pub sha256: String,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The manifest, as JSON.
    pub manifest: Vec<u8>,
    /// What its refusal shows; none for a policy that is good.
    pub refusal: Option<Event>,
}

impl Package {
    /// The files, by name: the signature is the promoter's, unless that is what is wrong.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files =
            vec![("policy.onnx".to_owned(), self.onnx.clone()), ("manifest.json".into(), self.manifest.clone())];
        if self.refusal != Some(Event::RefusedUnsigned) {
            files.push((file_name(KEY.public()), self.signature()));
        }
        files
    }

    /// A good one, as the promoter is given it.
    pub fn packed(&self) -> promotion::Package {
        let files = vec![("policy.onnx", self.onnx.clone())];
        promotion::Package { sha256: self.sha256.clone(), files, manifest: self.manifest.clone() }
    }

    fn signature(&self) -> Vec<u8> {
        if self.refusal != Some(Event::RefusedForged) {
            return KEY.sign(&self.sha256, &self.manifest);
        }
        // somebody else's, under the promoter's name
        let stranger = SigningKey::from_seed(&[2; 32]).expect("any 32 bytes are a key");
        let theirs = String::from_utf8(stranger.sign(&self.sha256, &self.manifest)).expect("JSON");
        theirs.replace(stranger.public().id(), KEY.public().id()).into_bytes()
    }
}

/// What promotions are signed with.
pub static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_seed(&[1; 32]).expect("any 32 bytes are a key"));

/// What the evaluators trust.
pub static TRUSTED: LazyLock<PublicKeys> =
    LazyLock::new(|| PublicKeys::parse(&KEY.public().to_string()).expect("one key"));

/// Policies that run a fleet well enough: launch while tasks wait, stop while cores idle.
pub static GOOD: LazyLock<Vec<Package>> = LazyLock::new(|| (0..3).map(|i| package(&sensible(i), None)).collect());

/// A policy that is verified and useless: it always wants the same.
pub static STUBBORN: LazyLock<Package> = LazyLock::new(|| {
    let mut layers = sensible(7);
    layers.logits_b[5] = 50.0;
    package(&layers, None)
});

/// Policies that must be refused, one of each kind.
pub static BAD: LazyLock<Vec<Package>> = LazyLock::new(bad);

/// The policy with this hash that passes the evaluator's checks, if it is one.
pub fn verified(sha256: &str) -> Option<&'static Package> {
    GOOD.iter().chain([&*STUBBORN]).find(|package| package.sha256 == sha256)
}

/// Every verified policy, loaded, by its hash.
pub static LOADED: LazyLock<BTreeMap<String, Arc<Policy>>> = LazyLock::new(|| {
    let verified = GOOD.iter().chain([&*STUBBORN]);
    verified.map(|package| (package.sha256.clone(), Arc::new(load(package)))).collect()
});

fn load(package: &Package) -> Policy {
    let manifest: Manifest = serde_json::from_slice(&package.manifest).expect("written here");
    Policy::load(&package.onnx, &manifest).expect("the policy is one of the good ones")
}

fn bad() -> Vec<Package> {
    let good = package(&sensible(20), None);
    let of = |refusal: Event| Package { refusal: Some(refusal), ..good.clone() };
    let changed = |i: u32, refusal: Event, change: fn(&mut Manifest)| {
        let mut package = package(&sensible(i), Some(refusal));
        let mut manifest: Manifest = serde_json::from_slice(&package.manifest).expect("written here");
        change(&mut manifest);
        package.manifest = serde_json::to_vec(&manifest).expect("plain data");
        package
    };
    let mut corrupt = package(&sensible(21), Some(Event::RefusedCorrupt));
    let middle = corrupt.onnx.len() / 2;
    corrupt.onnx[middle] ^= 1;
    let mut truncated = package(&sensible(22), Some(Event::RefusedTruncated));
    truncated.onnx.truncate(middle);
    let mut not_finite = sensible(23);
    not_finite.value_b[0] = f32::NAN;
    let huge = Package { sha256: "f".repeat(64), onnx: vec![0; POLICY_BYTES_MAX + 1], ..of(Event::RefusedHuge) };
    vec![
        corrupt,
        truncated,
        huge,
        package(&not_finite, Some(Event::RefusedNotFinite)),
        changed(24, Event::RefusedShape, |m| m.lstm_cells = CELLS + 1),
        changed(25, Event::RefusedSchema, |m| m.schema_hash = "another".into()),
        changed(26, Event::RefusedGolden, |m| m.golden[0].value += 1.0),
        // with nothing else wrong
        package(&sensible(27), Some(Event::RefusedUnsigned)),
        package(&sensible(28), Some(Event::RefusedForged)),
    ]
}

/// The index of a feature in the network's input.
fn feature(name: &str) -> usize {
    FEATURES.iter().position(|f| f.name == name).expect("a feature of the contract")
}

/// Weights by hand; `variant` only makes the file another one.
fn sensible(variant: u32) -> Layers {
    let mut lstm_w = vec![0.0; 4 * CELLS * FEATURE_COUNT];
    let mut lstm_b = vec![0.0; 8 * CELLS];
    // The gates are in the order input, output, forget, cell: in and out open, forget nearly shut.
    for cell in 0..CELLS {
        (lstm_b[cell], lstm_b[CELLS + cell], lstm_b[2 * CELLS + cell]) = (4.0, 4.0, -4.0);
    }
    let row = |cell: usize| (3 * CELLS + cell) * FEATURE_COUNT;
    // Every feature counts a little, so that a replay with another input gives other numbers.
    for i in 0..FEATURE_COUNT {
        lstm_w[row(0) + i] = 0.002 * (1 + i % 3) as f32;
    }
    lstm_w[row(0) + feature("queue_depth")] = 12.0;
    lstm_b[3 * CELLS] = -0.6;
    lstm_w[row(1) + feature("cpu_util_avg")] = -6.0;
    // Not even one of several idle machines is stopped while a task runs: it might be the one.
    lstm_w[row(1) + feature("running")] = -20.0;
    lstm_b[3 * CELLS + 1] = 2.7;
    Layers {
        cells: CELLS,
        lstm_w,
        lstm_r: vec![0.05; 4 * CELLS * CELLS],
        lstm_b,
        logits_w: [logits(queue_weight), logits(idleness_weight)].concat(),
        logits_b: logits(bias),
        value_w: vec![-1.0, 0.5],
        value_b: vec![variant as f32 / 16.0],
    }
}

fn logits(of: fn(Action) -> f32) -> Vec<f32> {
    ACTIONS.iter().map(|(action, _)| of(*action)).collect()
}

/// Larger steps are wanted for a longer queue, and less at first.
fn queue_weight(action: Action) -> f32 {
    match action {
        Action::Nothing => 0.0,
        Action::Launch(_, n) => 6.0 + 2.0 * f32::from(n / 2),
        Action::Stop(..) => -4.0,
    }
}

fn idleness_weight(action: Action) -> f32 {
    match action {
        Action::Stop(_, n) => 3.0 + 2.0 * f32::from(n / 2),
        _ => 0.0,
    }
}

/// Of equal ones the largest size.
fn bias(action: Action) -> f32 {
    match action {
        Action::Nothing => 0.0,
        Action::Launch(size, n) => -0.6 + 0.2 * f32::from(size) - 1.3 * f32::from(n / 2),
        Action::Stop(size, n) => -3.3 + 0.05 * f32::from(size) - 1.3 * f32::from(n / 2),
    }
}

fn package(layers: &Layers, refusal: Option<Event>) -> Package {
    let onnx = format::write(layers, "simulation", &[(format::SCHEMA_HASH, schema_hash())]).expect("two cells fit");
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        sha256: sha256_hex(&onnx),
        onnx_bytes: onnx.len() as u64,
        schema_hash: schema_hash().to_owned(),
        lstm_cells: CELLS,
        machines_per_action_max: 4,
        parent: None,
        settings: BTreeMap::new(),
        evaluation: BTreeMap::new(),
        golden: golden(layers),
    };
    let sha256 = manifest.sha256.clone();
    let manifest = match layers.value_b[0].is_finite() {
        true => serde_json::to_vec(&manifest).expect("plain data"),
        // JSON has no NaN; the file itself is what is to be refused.
        false => serde_json::to_vec(&Manifest { golden: golden(&sensible(0)), ..manifest }).expect("plain data"),
    };
    Package { sha256, onnx, manifest, refusal }
}

/// Two steps from the zero state.
fn golden(layers: &Layers) -> Vec<Golden> {
    let (mut h, mut c) = ([0.0; CELLS], [0.0; CELLS]);
    let mask: Mask = std::array::from_fn(|i| i != 2);
    let step = |i: usize| {
        let features: Features = std::array::from_fn(|k| ((i + 3 * k) % 5) as f32 / 5.0);
        let (probabilities, value) = step(layers, &features, &mask, &mut h, &mut c);
        Golden { features: features.to_vec(), mask, probabilities, value }
    };
    (0..2).map(step).collect()
}

type Cells = [f32; CELLS];

/// One step by the textbook.
fn step(l: &Layers, x: &Features, mask: &Mask, h: &mut Cells, c: &mut Cells) -> ([f32; ACTION_COUNT], f32) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let before = *h;
    let gate = |gate: usize, cell: usize| {
        let row = gate * CELLS + cell;
        dot(&l.lstm_w[row * FEATURE_COUNT..], x)
            + dot(&l.lstm_r[row * CELLS..], &before)
            + l.lstm_b[row]
            + l.lstm_b[4 * CELLS + row]
    };
    for cell in 0..CELLS {
        c[cell] = sigmoid(gate(2, cell)) * c[cell] + sigmoid(gate(0, cell)) * gate(3, cell).tanh();
        h[cell] = sigmoid(gate(1, cell)) * c[cell].tanh();
    }
    let logit = |k: usize| (0..CELLS).map(|j| h[j] * l.logits_w[j * ACTION_COUNT + k]).sum::<f32>() + l.logits_b[k];
    let powers: [f32; ACTION_COUNT] = std::array::from_fn(|k| if mask[k] { logit(k).exp() } else { 0.0 });
    let sum: f32 = powers.iter().sum();
    (powers.map(|p| p / sum), dot(&l.value_w, &h[..]) + l.value_b[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capacity::Counts;
    use contract::{Observation, observation};

    fn wanted(queue: u32, cpu: f64, machines_per_action: u16) -> Action {
        let o = Observation {
            queue_depth: Some(queue),
            cpu_util_avg: Some(cpu),
            fleet: [Counts { ready: 1, booting: 0 }; 3],
            ..Observation::empty([2, 4, 8])
        };
        let policy = &LOADED[&GOOD[0].sha256];
        let mask = std::array::from_fn(|i| i < contract::actions_up_to(machines_per_action).len());
        policy.step(&observation::encode(&o), &mask, &mut policy.zero_state()).unwrap().best(&mask)
    }

    #[test]
    fn a_good_policy_launches_for_a_queue_and_stops_idle_machines() {
        assert_eq!(wanted(30, 1.0, 1), Action::Launch(2, 1));
        assert_eq!(wanted(0, 0.0, 1), Action::Stop(2, 1));
        assert_eq!(wanted(0, 0.7, 1), Action::Nothing);
        assert_eq!(wanted(2, 1.0, 4), Action::Launch(2, 1));
        assert_eq!(wanted(3000, 1.0, 4), Action::Launch(2, 4));
        assert_eq!(wanted(0, 0.0, 4), Action::Stop(2, 4));
    }

    #[test]
    fn every_bad_policy_is_refused() {
        for package in BAD.iter() {
            let Package { sha256, onnx, manifest, refusal } = package;
            let files: BTreeMap<String, Vec<u8>> = package.files().into_iter().collect();
            let key = TRUSTED.iter().next().unwrap();
            let signature = files.get(&file_name(key));
            let signed = signature.is_some_and(|file| key.verify(sha256, manifest, file).is_ok());
            let by_signature = matches!(refusal, Some(Event::RefusedUnsigned | Event::RefusedForged));
            assert_eq!(signed, !by_signature, "{refusal:?}");
            let manifest: Manifest = serde_json::from_slice(manifest).unwrap();
            let broken = *sha256 != manifest.sha256 || Policy::load(onnx, &manifest).is_err();
            assert_eq!(broken, !by_signature, "{refusal:?}");
        }
    }
}
