//! A promoted policy's manifest, and the pointer to the policy in charge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::action::{ACTION_COUNT, Mask};
use crate::observation::Features;

/// Version of the stored form of [`Manifest`].
pub const MANIFEST_VERSION: u32 = 1;

/// Everything about a policy that is not its weights; stored beside it and written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub version: u32,
    /// SHA-256 of the ONNX file, in hexadecimal: the policy's name.
    pub sha256: String,
    /// Size of the ONNX file.
    pub onnx_bytes: u64,
    /// The schema that it was trained with.
    pub schema_hash: String,
    /// Cells of its LSTM.
    pub lstm_cells: usize,
    /// Machines that an action moved at most while it was learned; no pool lets it move more.
    #[serde(default = "one")]
    pub machines_per_action_max: u16,
    /// SHA-256 of the policy that training started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The training settings, flat, by name.
    pub settings: BTreeMap<String, String>,
    /// The evaluation that it was promoted for, flat, by name.
    pub evaluation: BTreeMap<String, f64>,
    /// Inputs and outputs that any reader must reproduce before using the policy.
    pub golden: Vec<Golden>,
}

fn one() -> u16 {
    1
}

/// One step of the policy from a given state, as its trainer computed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// The network's input.
    pub features: Vec<f32>,
    /// The allowed actions.
    pub mask: Mask,
    /// Probabilities expected at this step, the steps being run one after another from a zero state.
    pub probabilities: [f32; ACTION_COUNT],
    /// Value expected.
    pub value: f32,
}

impl Golden {
    /// The input as an array, if it has the right length.
    pub fn features(&self) -> Option<Features> {
        self.features.as_slice().try_into().ok()
    }
}

/// `pools/<pool>/current.json`: the one mutable object, moved by compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Version of this form.
    pub version: u32,
    /// SHA-256 of the policy in charge.
    pub sha256: String,
    /// The policy that was in charge before, for the roll-back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Grows by one with every promotion and roll-back.
    pub serial: u64,
}

/// Object key of a policy's file.
pub fn policy_key(sha256: &str, file: &str) -> String {
    format!("policies/{sha256}/{file}")
}

/// Object key of a pool's pointer.
pub fn pointer_key(pool: &str) -> String {
    format!("pools/{pool}/current.json")
}

/// Object key of a file of a training run.
pub fn run_key(run: &str, name: &str) -> String {
    format!("candidates/{run}/{name}")
}
