//! The digital twin: an exact discrete-event simulator of a fleet and its queue.
//!
//! The same seed and the same actions give the same milliseconds; there is no clock, no IO and no global randomness.
//! [`sim`] is the engine, [`mod@env`] and [`spec`] the environment that policies learn in, [`scenario`] and [`outcome`] the
//! file format of `twinscaler simulate`, [`profile`] and [`perturbation`] what makes a fleet a real one, [`workload`],
//! [`arrivals`], [`bags`] and [`history`] the jobs, [`summary`] what an episode came to.

pub mod arrivals;
pub mod bags;
pub mod boot;
pub mod config;
pub mod env;
mod fit;
mod fleet;
pub mod history;
pub mod job;
pub mod limits;
mod lives;
mod load;
mod metrics;
mod observe;
pub mod outcome;
pub mod perturbation;
pub mod profile;
mod queue;
mod rails;
mod random;
mod running;
pub mod scenario;
pub mod sim;
pub mod spec;
pub mod summary;
mod tally;
pub mod units;
pub mod varied;
pub mod workload;

pub use boot::BootModel;
pub use config::{MachineType, ScenarioError, SimConfig};
pub use env::{Environment, Seen, Step, TracePoint, TwinEnv};
pub use history::History;
pub use job::{Job, Workload};
pub use perturbation::Perturbation;
pub use profile::Ec2Profile;
pub use random::TimeRange;
pub use spec::EnvSpec;
pub use summary::Outcome;
