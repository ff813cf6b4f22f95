//! The functions' deployment packages, built by cargo-lambda.
//!
//! cargo-lambda always builds for a named target, and cargo keeps artifacts of a named target apart from those of the
//! host, even where both are the same. That would compile everything a second time. So cargo-lambda is given a
//! subcommand of ours, `bin/cargo-host-build`, that drops the target, and finds the binaries through links where it
//! looks for them.
//!
//! For the same reason the whole workspace is selected: cargo settles the features of every dependency over all that is
//! selected, and with one function alone the AWS SDKs and tract would be compiled once more.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, tools};

/// The functions, by their package's and binary's name.
const FUNCTIONS: [&str; 2] = ["evaluator", "executor"];

/// Lines of the build's output that an error shows.
const OUTPUT_LINES: usize = 40;

/// Paths of the deployment packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zips {
    /// The evaluator's `bootstrap.zip`.
    pub evaluator: PathBuf,
    /// The executor's.
    pub executor: PathBuf,
}

/// Builds both functions with the dev profile into `<out_dir>/<function>/bootstrap.zip`. Honours `CARGO_TARGET_DIR`.
/// Blocks for as long as the build takes; shows cargo's progress on stderr only if it fails.
///
/// # Errors
/// If cargo-lambda is missing or the build fails, with the end of its output.
pub fn package_functions(out_dir: &Path) -> Result<Zips, Error> {
    let cargo_lambda = tools::tool("cloud", "cargo-lambda")?;
    let out_dir = std::path::absolute(out_dir).map_err(Error::io(format!("find {}", out_dir.display())))?;
    link_binaries(&target_dir())?;
    let mut command = Command::new(cargo_lambda);
    command
        .args(["lambda", "build", "--workspace", "--output-format", "zip", "--lambda-dir"])
        .arg(&out_dir)
        .args(FUNCTIONS.iter().flat_map(|function| ["--bin", function]))
        .current_dir(tools::workspace())
        .env("PATH", path_with_subcommand())
        .env("CARGO_LAMBDA_COMPILER", "cargo")
        .env("CARGO_LAMBDA_COMPILER_SUBCOMMAND", "host-build");
    let output = command.output().map_err(Error::io("run cargo-lambda"))?;
    if !output.status.success() {
        return Err(Error::Build { output: last_lines(&output.stderr) });
    }
    let [evaluator, executor] = FUNCTIONS.map(|function| out_dir.join(function).join("bootstrap.zip"));
    Ok(Zips { evaluator, executor })
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(OUTPUT_LINES)..].join("\n")
}

fn target_dir() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    tools::workspace().join(chosen.unwrap_or_else(|| "target".into()))
}

/// `PATH` with our cargo subcommand in it.
fn path_with_subcommand() -> OsString {
    let mut path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

/// Puts links to the host's binaries where cargo-lambda looks for them. They may dangle until the build.
fn link_binaries(target: &Path) -> Result<(), Error> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let dir = target.join(triple).join("debug");
    std::fs::create_dir_all(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
    for function in FUNCTIONS {
        let link = dir.join(function);
        if link.symlink_metadata().is_ok() {
            std::fs::remove_file(&link).map_err(Error::io(format!("replace {}", link.display())))?;
        }
        symlink(Path::new("../../debug").join(function), &link)
            .map_err(Error::io(format!("link {}", link.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_lead_to_the_hosts_binaries_and_can_be_made_twice() {
        let target = tempfile::tempdir().unwrap();
        let debug = target.path().join("debug");
        std::fs::create_dir(&debug).unwrap();
        std::fs::write(debug.join("evaluator"), "the binary").unwrap();

        link_binaries(target.path()).unwrap();
        link_binaries(target.path()).unwrap();
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let through = target.path().join(triple).join("debug/evaluator");
        assert_eq!(std::fs::read_to_string(through).unwrap(), "the binary");
    }
}
