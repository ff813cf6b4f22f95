//! The directory of a training run: what the run is about, how far it is, and whether it is finished.
//!
//! Nothing in it is touched before the run's first state: until then a mistake costs nothing that an earlier run left. The
//! state is there as long as the run is not finished, so that no other run takes its place by mistake.

use std::io;
use std::path::{Path, PathBuf};

use crate::commands::train::TrainCommandError;
use crate::ppo::config::PpoConfig;
use crate::ppo::state::State;
use crate::ppo::train::Start;
use crate::watch::{STATE, replace};

/// The settings of a run, beside its state.
const SETTINGS: &str = "settings.toml";

/// A run's directory.
pub struct RunDir {
    path: PathBuf,
    /// What its file of settings says, or will.
    settings: String,
}

impl RunDir {
    /// The directory of a run with these settings; `about` is all else that it depends on, in a line.
    pub fn new(path: &Path, about: &str, config: &PpoConfig) -> Self {
        // as a comment above the settings: a resumed run must be about the same
        let settings = format!("# {about}\n{}", toml::to_string(config).expect("settings are plain data"));
        Self { path: path.to_owned(), settings }
    }

    /// Makes sure that a new run may begin.
    ///
    /// # Errors
    /// If the directory holds the state of a run that is not finished.
    pub fn begin(&self) -> Result<(), TrainCommandError> {
        let is_taken = self.path.join(STATE).exists();
        if is_taken { Err(TrainCommandError::Unfinished { dir: self.path.display().to_string() }) } else { Ok(()) }
    }

    /// Where the run in the directory is.
    ///
    /// # Errors
    /// If there is none, it has other settings, or it is finished.
    pub fn resume(&self) -> Result<Start, TrainCommandError> {
        let problem = |problem: String| TrainCommandError::Resume { dir: self.path.display().to_string(), problem };
        let settings = self.path.join(SETTINGS);
        let theirs = std::fs::read_to_string(&settings).map_err(|e| problem(format!("{SETTINGS}: {e}")))?;
        if !self.is_about_the_same(&theirs) {
            let about = theirs.lines().next().unwrap_or_default().trim_start_matches("# ");
            let config = settings.display();
            return Err(problem(format!(
                "its options or data are others ({about}); give it the same, and --config {config}; a pool's window like 6h \
                 ends now, so that it takes FROM/UNTIL"
            )));
        }
        match std::fs::read(self.path.join(STATE)) {
            Ok(bytes) => Ok(Start::Resume(Box::new(State::from_bytes(&bytes)?))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(problem("its run is finished and left no state; without --resume it is trained anew".into()))
            }
            Err(e) => Err(problem(format!("{STATE}: {e}"))),
        }
    }

    /// Whether a file of settings is that of the same run. A version may have settings that an earlier one lacked: these have
    /// their defaults.
    fn is_about_the_same(&self, theirs: &str) -> bool {
        let about = |text: &str| text.lines().next().map(str::to_owned);
        let settings = |text: &str| PpoConfig::from_toml(text).ok();
        about(theirs) == about(&self.settings) && settings(theirs) == settings(&self.settings)
    }

    /// Keeps the run's state, and its settings with the first one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn keep(&self, state: &[u8]) -> io::Result<()> {
        let settings = self.path.join(SETTINGS);
        if std::fs::read(&settings).ok().as_deref() != Some(self.settings.as_bytes()) {
            replace(&settings, self.settings.as_bytes())?;
        }
        replace(&self.path.join(STATE), state)
    }

    /// The run is finished, and its policy written: another may take its place.
    ///
    /// # Errors
    /// If the state cannot be removed.
    pub fn finish(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(STATE)) {
            // a run of no steps has kept none
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
