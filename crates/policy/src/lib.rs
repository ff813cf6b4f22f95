//! Loads, verifies and runs a policy with tract.
//!
//! A policy is one file in one fixed form (see [`mod@format`]): a single step of an LSTM with its state as inputs and
//! outputs. [`Policy::load`] refuses everything that is not exactly that, says why, and never panics on bad bytes.

pub mod error;
pub mod format;
mod policy;
pub mod recurrence;
mod wire;

pub use error::PolicyError;
pub use policy::{GOLDEN_TOLERANCE, Policy, State, StepOut};
/// The ONNX messages, for those who write or inspect policy files without tract as a dependency.
pub use tract_onnx::pb;
