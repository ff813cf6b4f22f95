//! The local cloud that the demo and the end-to-end tests run on: real parts on loopback, one machine.
//!
//! [`LocalCloud::start`] brings up ministack (AWS without EC2, IAM enforced), moto behind our own [`gate`] (EC2 with
//! client tokens and injectable faults) and a real Graphite, each on a free port; [`LocalCloud::deploy`] deploys the
//! SAM template into them. Dropping it stops every process it started, the functions' processes included.
//!
//! - [`cloud`] the whole: start, addresses, stop
//! - [`gate`] the proxy in front of EC2
//! - [`client`] signed HTTP calls to AWS's own interfaces
//! - [`deploy`] the template and the functions
//! - [`package`] the functions' zips, built by cargo-lambda
//! - [`service`] one child process: spawn, wait until ready, log, kill
//! - [`tools`] where the tools are

pub mod client;
pub mod cloud;
pub mod deploy;
mod ec2;
pub mod error;
pub mod gate;
mod graphite;
pub mod package;
pub mod service;
pub mod tools;
mod xml;

pub use client::AwsClient;
pub use cloud::{LocalCloud, Options};
pub use deploy::{DeployOptions, Outputs};
pub use error::Error;
pub use gate::{Fault, FaultKind, Gate};
pub use package::{Zips, package_functions};
