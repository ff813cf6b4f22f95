//! Why a policy was refused or failed.

use thiserror::Error;

/// Why a policy's file was refused, or a step of it failed. Each check has its own variant, so that whoever keeps the
/// last good policy can record the reason.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file is larger than any policy of ours.
    #[error("policy file has {bytes} bytes, more than the {limit} allowed; check that it is a policy file")]
    TooLarge {
        /// Size of the file.
        bytes: usize,
        /// The limit, `contract::limits::POLICY_BYTES_MAX`.
        limit: usize,
    },
    /// The bytes are not those that the manifest names.
    #[error("policy file has sha256 {found}, the manifest says {expected}; fetch the file again")]
    Hash {
        /// From the manifest.
        expected: String,
        /// Of the bytes.
        found: String,
    },
    /// The manifest belongs to another schema.
    #[error("manifest has schema {found}, this program has {expected}; promote a policy trained with this version")]
    ManifestSchema {
        /// Of this program.
        expected: String,
        /// From the manifest.
        found: String,
    },
    /// The bytes are not an ONNX message.
    #[error("policy file is not ONNX ({0}); export it again")]
    NotOnnx(String),
    /// The file's own metadata belong to another schema.
    #[error("policy file has schema {found}, this program has {expected}; promote a policy trained with this version")]
    FileSchema {
        /// Of this program.
        expected: String,
        /// From the file; empty if it has none.
        found: String,
    },
    /// A tensor has another shape or type than the manifest's cells and the contract ask for.
    #[error("tensor {tensor}: {reason}; export the policy again")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The graph is not the one graph that policies have.
    #[error("policy graph differs from the exported form at {0}; export the policy again")]
    Graph(&'static str),
    /// tract could not plan the graph.
    #[error("cannot plan the policy: {0}")]
    Plan(String),
    /// The manifest has no golden vectors to check the policy with.
    #[error("manifest has no golden vectors; package the policy again")]
    NoGolden,
    /// A golden vector was not reproduced.
    #[error("golden step {step}: {output} is {found}, the manifest says {expected}; do not use this policy here")]
    Golden {
        /// Index of the vector.
        step: usize,
        /// Which output.
        output: String,
        /// From the manifest.
        expected: f32,
        /// As computed here.
        found: f32,
    },
    /// A weight, an input or an output is NaN or infinite; the state was left as it was.
    #[error("{0} has a number that is not finite; use another policy, or look at what it was given")]
    NotFinite(&'static str),
    /// Every action is refused, or the probabilities do not sum to one.
    #[error("policy probabilities sum to {0}, not 1; allow at least one action")]
    NotADistribution(f32),
    /// A recurrent state of another size.
    #[error("recurrent state has {found} cells, the policy {expected}; start from the zero state")]
    State {
        /// Cells of the policy.
        expected: usize,
        /// Cells of the state.
        found: usize,
    },
    /// tract failed while running.
    #[error("cannot run the policy: {0}")]
    Run(String),
}
