//! Loading with verification, and stepping.

use std::sync::Arc;

use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::{Golden, Manifest};
use contract::schema::{schema_hash, sha256_hex};
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, Features, Mask};
use tract_onnx::prelude::*;

use crate::PolicyError;
use crate::format;
use crate::pb::ModelProto;

/// Largest difference to a golden vector's probabilities.
pub const GOLDEN_TOLERANCE: f32 = 1e-4;
/// Largest difference to its value, relative to a dollar or the largest value of all vectors: another processor rounds the
/// recurrent state otherwise, and no action depends on the value.
pub const GOLDEN_VALUE_TOLERANCE: f32 = 1e-3;

/// The LSTM's state between two steps, one number a cell each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Hidden state.
    pub h: Vec<f32>,
    /// Cell state.
    pub c: Vec<f32>,
}

impl State {
    /// The state at the start of an episode.
    pub fn zero(cells: usize) -> Self {
        Self { h: vec![0.0; cells], c: vec![0.0; cells] }
    }
}

/// What one step gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOut {
    /// Probability of each action; 0 for a refused one; they sum to 1.
    pub probabilities: [f32; ACTION_COUNT],
    /// Expected discounted reward from here, dollars (negative: cost).
    pub value: f32,
}

impl StepOut {
    /// The most probable allowed action; of equal ones the lowest number. Without any allowed action: nothing.
    pub fn best(&self, mask: &Mask) -> Action {
        let mut best: Option<usize> = None;
        for i in (0..ACTION_COUNT).filter(|&i| mask[i]) {
            if best.is_none_or(|b| self.probabilities[i] > self.probabilities[b]) {
                best = Some(i);
            }
        }
        best.map_or(Action::Nothing, Action::at)
    }
}

/// A verified policy, ready to run. Cheap to share; a step does not change it.
pub struct Policy {
    plan: Arc<TypedRunnableModel>,
    sha256: String,
    cells: usize,
    machines_per_action_max: u16,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("sha256", &self.sha256).field("cells", &self.cells).finish_non_exhaustive()
    }
}

impl Policy {
    /// Verifies a policy's file against its manifest and this program, and plans it. The cheap checks come first, and
    /// no byte is interpreted before its hash is known to be right.
    ///
    /// # Errors
    /// The first check that fails, in the order of [`PolicyError`]'s variants.
    pub fn load(onnx: &[u8], manifest: &Manifest) -> Result<Self, PolicyError> {
        check_bytes(onnx, manifest)?;
        let model = format::decode(onnx)?;
        let found = format::metadata(&model, format::SCHEMA_HASH).unwrap_or_default();
        if found != schema_hash() {
            return Err(PolicyError::FileSchema { expected: schema_hash().to_owned(), found: found.to_owned() });
        }
        format::read(&model, manifest.lstm_cells)?;
        let policy = Self {
            plan: plan(&model)?,
            sha256: manifest.sha256.clone(),
            cells: manifest.lstm_cells,
            machines_per_action_max: manifest.machines_per_action_max,
        };
        policy.check_golden(&manifest.golden)?;
        Ok(policy)
    }

    /// SHA-256 of the file: the policy's name.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Machines that an action moved at most while it was learned: of larger steps the policy knows nothing.
    pub fn machines_per_action_max(&self) -> u16 {
        self.machines_per_action_max
    }

    /// Cells of the LSTM.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The state at the start of an episode.
    pub fn zero_state(&self) -> State {
        State::zero(self.cells)
    }

    /// One step: the action's probabilities and the value, and the next state in place of the given one.
    ///
    /// # Errors
    /// If the state has another size, an input or an output is not finite, the probabilities are no distribution, or
    /// tract fails; the state is then left as it was.
    pub fn step(&self, features: &Features, mask: &Mask, state: &mut State) -> Result<StepOut, PolicyError> {
        if let Some(found) = [state.h.len(), state.c.len()].into_iter().find(|&n| n != self.cells) {
            return Err(PolicyError::State { expected: self.cells, found });
        }
        check_finite(&[("observation", features), ("h", &state.h), ("c", &state.c)])?;
        let (out, next) = self.run(features, mask, state).map_err(|e| PolicyError::Run(format!("{e:#}")))?;
        check_outputs(&out, &next)?;
        *state = next;
        Ok(out)
    }

    fn run(&self, features: &Features, mask: &Mask, state: &State) -> TractResult<(StepOut, State)> {
        let mask = mask.map(|allowed| f32::from(u8::from(allowed)));
        let row = |x: &[f32]| Tensor::from_shape(&[1, x.len()], x).map(IntoTValue::into_tvalue);
        let inputs = tvec![row(features)?, row(&state.h)?, row(&state.c)?, row(&mask)?];
        let outputs = self.plan.run(inputs)?;
        let output = |i: usize| -> TractResult<&[f32]> { outputs[i].try_as_plain_ram()?.as_slice::<f32>() };
        let out = StepOut { probabilities: output(0)?.try_into()?, value: output(1)?[0] };
        Ok((out, State { h: output(2)?.to_vec(), c: output(3)?.to_vec() }))
    }

    fn check_golden(&self, golden: &[Golden]) -> Result<(), PolicyError> {
        if golden.is_empty() {
            return Err(PolicyError::NoGolden);
        }
        // dollars: a policy of a large fleet is off by more of them
        let unit_usd = golden.iter().map(|golden| golden.value.abs()).fold(1.0, f32::max);
        let mut state = self.zero_state();
        for (step, golden) in golden.iter().enumerate() {
            let features = golden.features().ok_or_else(|| PolicyError::Shape {
                tensor: format!("golden[{step}].features"),
                reason: format!("has {} numbers instead of {FEATURE_COUNT}", golden.features.len()),
            })?;
            let out = self.step(&features, &golden.mask, &mut state)?;
            compare_golden(step, golden, &out, unit_usd)?;
        }
        Ok(())
    }
}

fn check_bytes(onnx: &[u8], manifest: &Manifest) -> Result<(), PolicyError> {
    if onnx.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLarge { bytes: onnx.len(), limit: POLICY_BYTES_MAX });
    }
    let found = sha256_hex(onnx);
    if found != manifest.sha256 {
        return Err(PolicyError::Hash { expected: manifest.sha256.clone(), found });
    }
    if manifest.schema_hash != schema_hash() {
        let (expected, found) = (schema_hash().to_owned(), manifest.schema_hash.clone());
        return Err(PolicyError::ManifestSchema { expected, found });
    }
    Ok(())
}

fn plan(model: &ModelProto) -> Result<Arc<TypedRunnableModel>, PolicyError> {
    let planned = tract_onnx::onnx()
        .model_for_proto_model(model)
        .and_then(|model| model.into_optimized())
        .and_then(|model| model.into_runnable());
    planned.map_err(|e| PolicyError::Plan(format!("{e:#}")))
}

fn check_finite(tensors: &[(&'static str, &[f32])]) -> Result<(), PolicyError> {
    match tensors.iter().find(|(_, numbers)| numbers.iter().any(|x| !x.is_finite())) {
        Some((name, _)) => Err(PolicyError::NotFinite(name)),
        None => Ok(()),
    }
}

fn check_outputs(out: &StepOut, next: &State) -> Result<(), PolicyError> {
    let value = [out.value];
    check_finite(&[("probabilities", &out.probabilities), ("value", &value), ("h_out", &next.h), ("c_out", &next.c)])?;
    let sum = out.probabilities.iter().sum::<f32>();
    if (sum - 1.0).abs() > 1e-3 { Err(PolicyError::NotADistribution(sum)) } else { Ok(()) }
}

fn compare_golden(step: usize, golden: &Golden, out: &StepOut, unit_usd: f32) -> Result<(), PolicyError> {
    let wrong = |output: String, expected: f32, found: f32| PolicyError::Golden { step, output, expected, found };
    for (i, (&expected, &found)) in golden.probabilities.iter().zip(&out.probabilities).enumerate() {
        if !near(expected, found, GOLDEN_TOLERANCE) {
            return Err(wrong(format!("probability {i}"), expected, found));
        }
    }
    if !near(golden.value, out.value, GOLDEN_VALUE_TOLERANCE * unit_usd) {
        return Err(wrong("value".to_owned(), golden.value, out.value));
    }
    Ok(())
}

/// Whether two numbers differ by at most `tolerance`; nothing is near NaN.
fn near(a: f32, b: f32, tolerance: f32) -> bool {
    (a - b).abs() <= tolerance
}
