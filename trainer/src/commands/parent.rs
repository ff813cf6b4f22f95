//! The policy that a training run goes on from.

use std::path::Path;

use policy::{Policy, PolicyError};

use crate::parity::{self, ParityError};
use crate::ppo::TrainError;
use crate::ppo::config::PpoConfig;
use crate::ppo::weights::Weights;
use crate::promote::Bundle;

/// A policy to go on from.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its weights.
    pub weights: Weights,
    /// The hash of its file.
    pub sha256: String,
}

/// Why training cannot go on from a policy.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// A file of the directory.
    #[error("it needs the files that `train` leaves")]
    Files(#[from] std::io::Error),
    /// The policy does not pass the evaluator's own checks.
    #[error("its policy.onnx cannot be used")]
    Policy(#[from] PolicyError),
    /// The checkpoint is none.
    #[error("its checkpoint cannot be used")]
    Checkpoint(#[from] TrainError),
    /// They do not belong together.
    #[error("its checkpoint is not that of its policy.onnx: they compute different things")]
    Differs(#[from] ParityError),
}

impl Parent {
    /// The policy in a directory, once its checkpoint has been seen to compute what its file does.
    ///
    /// # Errors
    /// If a file is missing or broken, they do not belong together, or the settings are about another network.
    pub fn read(dir: &Path, config: &PpoConfig) -> Result<Self, ParentError> {
        let Bundle { onnx, manifest, checkpoint, .. } = Bundle::read(dir)?;
        let (policy, weights) = (Policy::load(&onnx, &manifest)?, Weights::from_checkpoint(&checkpoint)?);
        weights.check(config)?;
        parity::check(&weights, &policy)?;
        Ok(Self { weights, sha256: manifest.sha256 })
    }
}
