//! The options of `twinscaler improve`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use backtest::gate::{Gate, GateConfig};
use calibration::Window;
use clap::Args;
use signing::{SIGNING_KEY, SigningKey};

use super::processes::{self, Ended};
use super::{ImproveError, Request};
use crate::commands::key::{KeyError, SigningArgs};
use crate::commands::learning::{Learning, SettingsError};

/// What to improve, and how.
#[derive(Args, Clone, Debug)]
pub struct ImproveArgs {
    /// The pool
    #[arg(long)]
    pub pool: String,
    /// End of the window, RFC 3339; now if not given. All jobs of one run need the same
    #[arg(long, value_name = "TIME", env = "TWINSCALER_UNTIL", overrides_with = "until")]
    until: Option<jiff::Timestamp>,
    /// Length of the window, hours
    #[arg(long, default_value_t = 6.0)]
    window_h: f64,
    /// Windows before the one that it ends in; one of each two is held out from learning for good, and the comparison is on
    /// those
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    older: u32,
    /// Candidates; number k has the seed plus k and the k-th --config, round and round
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    population: u32,
    /// Train candidate K alone and leave it for the job that compares: one index of an AWS Batch array job
    #[arg(long, value_name = "K", env = "AWS_BATCH_JOB_ARRAY_INDEX", overrides_with = "index")]
    pub index: Option<u32>,
    /// Train candidates in this many processes at once
    #[arg(long, default_value_t = 1, value_name = "N", overrides_with = "processes")]
    processes: u32,
    /// One of those processes, which ends when its standard input is closed
    #[arg(long, hide = true)]
    is_child: bool,
    /// paired: promote what surely saves money in the same twins; published: as the published system judged, for
    /// comparison
    #[arg(long, default_value = "paired", value_name = "GATE")]
    gate: Gate,
    /// How sure the gate has to be, TOML
    #[arg(long, value_name = "FILE")]
    gate_config: Option<PathBuf>,
    /// How to learn
    #[command(flatten)]
    pub learning: Learning,
    #[command(flatten)]
    signing: SigningArgs,
    /// Directory for the candidates' curves
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// Print the judgement as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The window.
    #[error("--window-h must be a number above 0, and --until after 1970")]
    Window,
    /// The index.
    #[error("--index {index} is not below --population {population}")]
    Index {
        /// Of the candidate.
        index: u32,
        /// Candidates.
        population: u32,
    },
    /// The pool.
    #[error("{0:?} is no name of a pool: small letters, digits and hyphens")]
    Pool(String),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The settings of learning.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings of the gate.
    #[error("use {path}: {problem}")]
    Gate {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

impl ImproveArgs {
    /// What is asked for.
    ///
    /// # Errors
    /// If it makes no sense, or a file cannot be used.
    pub fn request(&self) -> Result<Request, RequestError> {
        if let Some(index) = self.index.filter(|index| *index >= self.population) {
            return Err(RequestError::Index { index, population: self.population });
        }
        if !contract::pool::is_pool_name(&self.pool) {
            return Err(RequestError::Pool(self.pool.clone()));
        }
        Ok(Request {
            pool: self.pool.clone(),
            window: self.window()?,
            older: self.older,
            settings: self.learning.all_settings()?,
            seed: self.learning.seed,
            population: self.population,
            gate: self.gate,
            gate_config: self.gate_config()?,
            signing: self.signing_key()?,
            logs: self.logs.clone(),
        })
    }

    /// The key to sign with. Who only trains a candidate does not even read it.
    fn signing_key(&self) -> Result<Option<SigningKey>, KeyError> {
        if self.index.is_some() { Ok(None) } else { self.signing.key() }
    }

    fn window(&self) -> Result<Window, RequestError> {
        let until_ms = self.until.unwrap_or_else(jiff::Timestamp::now).as_millisecond();
        if !self.window_h.is_finite() || until_ms < 0 {
            return Err(RequestError::Window);
        }
        let until_ms = until_ms.unsigned_abs();
        let from_ms = until_ms.saturating_sub((self.window_h * 3_600_000.0) as u64);
        if from_ms < until_ms { Ok(Window { from_ms, until_ms }) } else { Err(RequestError::Window) }
    }

    fn gate_config(&self) -> Result<GateConfig, RequestError> {
        let Some(path) = &self.gate_config else { return Ok(GateConfig::default()) };
        let problem = |problem: String| RequestError::Gate { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
        let config: GateConfig = toml::from_str(&text).map_err(|e| problem(e.to_string()))?;
        config.problem().map_or(Ok(config), |what| Err(problem(what)))
    }

    /// Ends this process's work once its standard input is closed, if it is one of [`Self::train_in_processes`].
    pub fn stop_with_parent(&self, stop: &'static AtomicBool) {
        if self.is_child {
            processes::stop_when_closed(stop);
        }
    }

    /// Trains the candidates of a request in processes of their own, as the indexes of an array job would.
    ///
    /// # Errors
    /// If one cannot be started, or fails, or `stop` is set; the others are asked to stop, and waited for.
    pub fn train_in_processes(&self, request: &Request, stop: &AtomicBool) -> Result<(), ImproveError> {
        if self.processes < 2 || request.population < 2 {
            return Ok(());
        }
        let program = std::env::current_exe().map_err(ImproveError::Process)?;
        let until = request.until().to_string();
        let commands = (0..request.population).map(|index| candidate(&program, index, &until));
        match processes::run(commands, self.processes as usize, stop).map_err(ImproveError::Process)? {
            Ended::Well => Ok(()),
            Ended::Stopped => Err(ImproveError::Stopped(request.until())),
        }
    }
}

/// A process with the arguments of this one that trains one candidate, and has no key to sign it.
fn candidate(program: &Path, index: u32, until: &str) -> Command {
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).args(["--index", &index.to_string(), "--until", until]);
    command.args(["--processes", "1", "--is-child"]).env_remove(SIGNING_KEY);
    command
}
