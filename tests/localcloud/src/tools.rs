//! Where the tools are: two virtual environments that `tests/localcloud/setup.sh` makes.

use std::path::{Path, PathBuf};

use crate::Error;

/// The tools' directory: `TWINSCALER_TOOLS`, else `target/tools` of the workspace.
pub fn tools_dir() -> PathBuf {
    std::env::var_os("TWINSCALER_TOOLS").map_or_else(|| workspace().join("target/tools"), PathBuf::from)
}

/// The workspace this crate was built in.
pub(crate) fn workspace() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).expect("the crate lies two levels deep in the workspace").to_path_buf()
}

/// The path of a program of one environment, `cloud` or `graphite`.
///
/// # Errors
/// If it is not there.
pub fn tool(environment: &str, program: &str) -> Result<PathBuf, Error> {
    tool_in(&tools_dir(), environment, program)
}

fn tool_in(tools: &Path, environment: &str, program: &str) -> Result<PathBuf, Error> {
    let path = tools.join(environment).join("bin").join(program);
    if path.exists() { Ok(path) } else { Err(Error::ToolMissing { path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_an_error_that_names_the_mend() {
        let error = tool_in(Path::new("nowhere"), "cloud", "ministack").unwrap_err().to_string();
        assert_eq!(
            error,
            "find nowhere/cloud/bin/ministack; run `make tools` (or set TWINSCALER_TOOLS to where its tools are)"
        );
    }
}
