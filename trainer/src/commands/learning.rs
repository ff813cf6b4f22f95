//! The options of all commands that learn.

use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceChoice;
use crate::ppo::TrainError;
use crate::ppo::config::PpoConfig;

/// How to learn.
#[derive(Args, Clone, Debug)]
pub struct Learning {
    /// Environment steps; the settings' own number if not given
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Passes over each rollout; the settings' own number if not given
    #[arg(long, value_name = "E")]
    epochs: Option<usize>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Where the network is trained: auto, cpu or gpu
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// Settings of learning, TOML; trainer/settings has them all with their reasons
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Several files, where one run has one.
    #[error("one run has one --config; improve takes several, one for each candidate")]
    Several,
    /// The functions could not run what is learned.
    #[error(
        "the setting {0} is for comparison only: no policy can be made of it; leave it out, or measure it with \
         `cargo bench -p twinscaler --profile dev --bench quality -- FILE.toml`"
    )]
    Compared(&'static str),
    /// A setting is unknown or makes no sense.
    #[error(transparent)]
    Settings(#[from] TrainError),
}

impl Learning {
    /// The settings, from the file and the options.
    ///
    /// # Errors
    /// If the file cannot be read, or a setting makes no sense or is for comparison only.
    pub fn settings(&self) -> Result<PpoConfig, SettingsError> {
        if self.configs.len() > 1 {
            return Err(SettingsError::Several);
        }
        self.with_options(self.configs.first())
    }

    /// The settings of every file, with the options; the default ones if there is no file.
    ///
    /// # Errors
    /// If a file cannot be read, or a setting makes no sense.
    pub fn all_settings(&self) -> Result<Vec<PpoConfig>, SettingsError> {
        match self.configs.as_slice() {
            [] => Ok(vec![self.with_options(None)?]),
            files => files.iter().map(|file| self.with_options(Some(file))).collect(),
        }
    }

    fn with_options(&self, file: Option<&PathBuf>) -> Result<PpoConfig, SettingsError> {
        let mut config = match file {
            None => PpoConfig::default(),
            Some(path) => {
                let read = |source| SettingsError::Read { path: path.display().to_string(), source };
                PpoConfig::from_toml(&std::fs::read_to_string(path).map_err(read)?)?
            }
        };
        config.steps = self.steps.unwrap_or(config.steps);
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.check()?;
        match config.compared_for() {
            Some(setting) => Err(SettingsError::Compared(setting)),
            None => Ok(config),
        }
    }
}
