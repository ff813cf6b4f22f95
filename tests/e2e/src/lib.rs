//! The whole system on the local cloud, for the demo and the end-to-end tests.
//!
//! - [`stack`]: the local cloud with the template deployed, and the adapters to look at it
//! - [`plant`]: the stand-in for machines and workers
//! - [`run`]: time, minute by minute, as the plant and the schedule make it
//! - [`load`]: the workload shaped like the published one
//! - [`summary`]: what a run came to, as a table and as a page

pub mod load;
pub mod plant;
pub mod run;
pub mod stack;
pub mod summary;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local cloud.
    #[error(transparent)]
    Cloud(#[from] localcloud::Error),
    /// A table, the bucket, EC2 or CloudWatch.
    #[error(transparent)]
    Port(#[from] controller::ports::PortError),
    /// A file or a child process.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("twinscaler {command} ended with {status}:\n{output}")]
    Command {
        /// Its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// The twin that the run is compared with.
    #[error(transparent)]
    Twin(#[from] twin::ScenarioError),
    /// The episodes that the run is compared with.
    #[error(transparent)]
    Play(#[from] backtest::play::PlayError),
    /// Something did not happen in time, or is not as it should be.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// An error of a file or a child process.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::Io { what: what.into(), source }
    }
}
