//! `speed`: measures what is deployed, as it is deployed. `make bench-functions` builds and runs it.
//!
//! - [`inside`]: the policy's load, one inference, a tick over ports in memory
//! - [`onnx`]: the same inference in onnxruntime
//! - [`outside`]: both functions' binaries over the Runtime API ([`runtime`]) and AWS's answers ([`cloud`], [`dynamo`]) on
//!   loopback, served by [`http`]
//!
//! It prints the table of docs/reference/functions.md.

mod cloud;
mod dynamo;
mod http;
mod inside;
mod onnx;
mod outside;
mod runtime;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can go wrong: everything that the system refuses, and answers that are not those of our functions.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let policy = inside::Files::read(&root().join("policies/initial"))?;
    inside::measure(&policy)?;
    match std::env::var_os("TWINSCALER_TOOLS") {
        Some(tools) => onnx::compare(&policy, &Path::new(&tools).join("onnx/bin/python"))?,
        None => println!("onnxruntime: not measured, TWINSCALER_TOOLS is not set"),
    }
    outside::measure(&policy, &binaries()?)
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the functions' binaries: this one's.
fn binaries() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    Ok(own.parent().ok_or("this program lies nowhere")?.to_owned())
}
