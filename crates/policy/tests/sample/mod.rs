//! A small policy with made-up numbers, and its step in plain arithmetic.

use contract::manifest::{Golden, MANIFEST_VERSION, Manifest};
use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, FEATURE_COUNT, Features, Mask, schema_hash};
use policy::format::{self, Layers};
use policy::{State, StepOut};

pub const CELLS: usize = 5;

/// A policy file with its manifest and the numbers in it.
pub struct Sample {
    pub layers: Layers,
    pub onnx: Vec<u8>,
    pub manifest: Manifest,
}

impl Sample {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// Bytes of its numbers.
    pub fn layers_bytes(&self) -> usize {
        let Layers { lstm_w, lstm_r, lstm_b, logits_w, logits_b, value_w, value_b, .. } = &self.layers;
        [lstm_w, lstm_r, lstm_b, logits_w, logits_b, value_w, value_b].iter().map(|w| 4 * w.len()).sum()
    }

    /// A policy with some of its numbers changed; the golden vectors are those of the unchanged one.
    pub fn with(seed: u64, change: impl FnOnce(&mut Layers)) -> Self {
        let mut numbers = Numbers(seed);
        let mut layers = Layers {
            cells: CELLS,
            lstm_w: numbers.take(4 * CELLS * FEATURE_COUNT),
            lstm_r: numbers.take(4 * CELLS * CELLS),
            lstm_b: numbers.take(8 * CELLS),
            logits_w: numbers.take(CELLS * ACTION_COUNT),
            logits_b: numbers.take(ACTION_COUNT),
            value_w: numbers.take(CELLS),
            value_b: numbers.take(1),
        };
        let golden = golden(&layers, &mut numbers);
        change(&mut layers);
        let onnx = format::write(&layers, "sample", &[(format::SCHEMA_HASH, schema_hash())]).unwrap();
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            sha256: sha256_hex(&onnx),
            onnx_bytes: onnx.len() as u64,
            schema_hash: schema_hash().to_owned(),
            lstm_cells: CELLS,
            machines_per_action_max: 1,
            parent: None,
            settings: Default::default(),
            evaluation: Default::default(),
            golden,
        };
        Self { layers, onnx, manifest }
    }
}

fn golden(layers: &Layers, numbers: &mut Numbers) -> Vec<Golden> {
    let mut state = State::zero(CELLS);
    (0..16)
        .map(|step| {
            let features: Features = numbers.take(FEATURE_COUNT).try_into().unwrap();
            let mask = std::array::from_fn(|i| i == 0 || (step + i) % 3 != 0);
            let out = self::step(layers, &features, &mask, &mut state);
            Golden { features: features.to_vec(), mask, probabilities: out.probabilities, value: out.value }
        })
        .collect()
}

/// Numbers between −1 and 1 from a linear congruential generator (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, n: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }
}

/// One step by the textbook: the oracle for the runtime.
pub fn step(layers: &Layers, x: &Features, mask: &Mask, state: &mut State) -> StepOut {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let gate = |gate: usize, cell: usize| {
        let row = gate * CELLS + cell;
        dot(&layers.lstm_w[row * FEATURE_COUNT..], x)
            + dot(&layers.lstm_r[row * CELLS..], &state.h)
            + layers.lstm_b[row]
            + layers.lstm_b[4 * CELLS + row]
    };
    let c: Vec<f32> =
        (0..CELLS).map(|j| sigmoid(gate(2, j)) * state.c[j] + sigmoid(gate(0, j)) * gate(3, j).tanh()).collect();
    let h: Vec<f32> = (0..CELLS).map(|j| sigmoid(gate(1, j)) * c[j].tanh()).collect();
    let head = |w: &[f32], width: usize, k: usize| (0..CELLS).map(|j| h[j] * w[j * width + k]).sum::<f32>();
    let power = |k: usize| {
        if mask[k] { (head(&layers.logits_w, ACTION_COUNT, k) + layers.logits_b[k]).exp() } else { 0.0 }
    };
    let powers: [f32; ACTION_COUNT] = std::array::from_fn(power);
    let sum: f32 = powers.iter().sum();
    let value = head(&layers.value_w, 1, 0) + layers.value_b[0];
    *state = State { h, c };
    StepOut { probabilities: powers.map(|p| p / sum), value }
}
