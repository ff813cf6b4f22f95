//! Why the local cloud could not do what it was asked for.

use std::path::PathBuf;

/// Every message names the mend, or ends with the log of the part that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool of the virtual environments is not there.
    #[error("find {}; run `make tools` (or set TWINSCALER_TOOLS to where its tools are)", path.display())]
    ToolMissing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file or a process could not be handled.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A part ended by itself or was not ready in time.
    #[error("start {part}: {reason}; the end of its log, {}:\n{tail}", log.display())]
    Part {
        /// Which part.
        part: &'static str,
        /// What happened.
        reason: String,
        /// The log's path.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// No answer from a part that had started.
    #[error("reach {url}; see that part's log, the process may be gone")]
    Unreachable {
        /// Which address.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// A request could not be signed.
    #[error("sign the request: {0}")]
    Sign(String),
    /// An AWS interface answered with an error.
    #[error("call {action}: {status} {message}")]
    Service {
        /// The service and the action.
        action: String,
        /// HTTP status.
        status: u16,
        /// The answer's body, or its error message.
        message: String,
    },
    /// An answer was not what the interface promises.
    #[error("read the answer of {action}: {reason}")]
    Answer {
        /// The service and the action.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stack was not created.
    #[error("deploy the stack {stack} ({status}); these resources failed:\n{failures}")]
    Stack {
        /// Its name.
        stack: String,
        /// Its last status.
        status: String,
        /// One line a resource.
        failures: String,
    },
    /// The template is not one this can deploy.
    #[error("prepare the template {}: {reason}", path.display())]
    Template {
        /// Its path.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The function itself failed.
    #[error("invoke {function}: it failed with {message}\n{logs}")]
    Function {
        /// Its name.
        function: String,
        /// The error that it returned.
        message: String,
        /// Its last log lines.
        logs: String,
    },
    /// cargo-lambda did not build the functions.
    #[error("build the functions with cargo-lambda; its output:\n{output}")]
    Build {
        /// The end of what it printed.
        output: String,
    },
}

impl Error {
    /// An IO error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
