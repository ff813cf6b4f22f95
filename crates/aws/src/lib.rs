//! The adapters behind the ports of `controller::ports`; the only crate that names the AWS SDK.
//!
//! A cargo feature per service, none by default, so that nobody compiles an SDK that they do not call.
//!
//! - [`config`]: region, credentials, retries and time-outs, once for all services
//! - [`errors`]: every AWS error code that we name, and the kind it means
//! - `dynamodb`: [`tables`] (names, keys, pages), [`tasks`], [`instances`], [`decisions`], [`control`]
//! - `s3`: [`s3`], the store of policies
//! - `cloudwatch`, `graphite`: the outside metrics; with both, [`sources`] asks each for its own
//! - `ec2`: [`ec2`], the machines

#[cfg(feature = "cloudwatch")]
pub mod cloudwatch;
#[cfg(feature = "sdk")]
pub mod config;
#[cfg(feature = "dynamodb")]
pub mod control;
#[cfg(feature = "dynamodb")]
pub mod decisions;
#[cfg(feature = "ec2")]
pub mod ec2;
#[cfg(feature = "sdk")]
pub mod errors;
#[cfg(feature = "graphite")]
pub mod graphite;
#[cfg(feature = "dynamodb")]
pub mod instances;
#[cfg(feature = "dynamodb")]
mod lease;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "dynamodb")]
pub mod settings;
#[cfg(all(feature = "cloudwatch", feature = "graphite"))]
pub mod sources;
#[cfg(feature = "dynamodb")]
pub mod tables;
#[cfg(feature = "dynamodb")]
pub mod tasks;

#[cfg(feature = "sdk")]
pub use aws_config::SdkConfig;
