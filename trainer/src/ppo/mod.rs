//! PPO with an LSTM, readable in one sitting: [`rollout`] → [`gae`] → [`loss`] → [`update`], tied together in
//! [`mod@train`].
//!
//! The weights are one plain row of numbers ([`Weights`]); [`model`] turns them into burn tensors on whatever device was
//! chosen, and gives the gradient back as another row.

mod checkpoint;
pub mod cloning;
pub mod config;
pub mod evaluate;
pub mod gae;
pub mod loss;
mod lost;
mod lstm;
#[cfg(feature = "gpu")]
mod lstm_gpu;
pub mod model;
pub mod rollout;
pub mod runner;
pub mod state;
pub mod track;
pub mod train;
pub mod update;
pub mod weights;

use thiserror::Error;

pub use cloning::clone_teacher;
pub use config::{CloningConfig, PpoConfig, RewardScale};
pub use evaluate::{Choice, Worth, evaluate, mean_reward};
pub use lstm::Tape;
pub use rollout::EpisodeOutcome;
pub use state::State;
pub use train::{Job, Progress, Snapshot, Start, Trained, Watcher, train};
pub use update::Losses;
pub use weights::Weights;

/// Why training stopped without a result.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting is unknown or makes no sense.
    #[error("training settings: {0}")]
    Config(String),
    /// There is nothing to learn in.
    #[error("there is no environment to train in; give at least one")]
    NoEnvironment,
    /// A number became NaN or infinite.
    #[error(
        "{what} is not a finite number (update {update}); no policy is made of it; lower learning_rate or check the rewards"
    )]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// The update it happened in; 0 during a rollout.
        update: u64,
    },
    /// The weights to go on from are those of another network.
    #[error(
        "the policy to learn on from has {setting} = {found} and the settings say {wanted}; give the settings of that policy"
    )]
    Network {
        /// Which setting.
        setting: &'static str,
        /// What the weights have.
        found: String,
        /// What is asked for.
        wanted: String,
    },
    /// The GPU is gone.
    #[error(
        "the GPU is gone ({0}); run it again to go on from the last state (train: with --resume, improve: with the same \
         --until), or with --device cpu"
    )]
    DeviceLost(String),
    /// A checkpoint cannot be used.
    #[error("checkpoint: {0}; train from fresh weights or use another checkpoint")]
    Checkpoint(String),
}
