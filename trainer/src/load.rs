//! Loads by name: the published one, generated ones, traces of other systems, and a pool's own history.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use calibration::fit::Fit;
use calibration::{Recorded, Window};
use indicatif::{ProgressBar, ProgressStyle};
use traces::{Import, TraceError, Width, fit};
use twin::arrivals::{Daily, Mmpp, daily, mmpp};
use twin::bags::Bags;
use twin::profile::Ec2Profile;
use twin::scenario::{Scenario, config_from_json};
use twin::varied::varied;
use twin::workload::{Application, poisson, published_orders};
use twin::{EnvSpec, Job, Perturbation, ScenarioError, SimConfig, Workload};

/// A load as the command line names it.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadName {
    /// The published training load; its orders by index.
    Paper(Vec<usize>),
    /// One that is drawn anew for every seed.
    Generated(Generator),
    /// A trace, or a scenario.
    File(PathBuf),
    /// A pool's history.
    Pool {
        /// The pool.
        pool: String,
        /// The time.
        window: Window,
    },
}

/// Loads that are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// Shaped like the published application.
    Application,
    /// Evenly at random, 300 one-core tasks of two minutes an hour for a day.
    Poisson,
    /// In bursts.
    Bursts,
    /// By the hour of the day.
    Daily,
    /// Bags of tasks, shaped like the logs of shared clusters.
    Bags,
    /// Of any shape and size.
    Varied,
}

/// What names mean, for help and errors.
pub const FORMS: &str = "paper (paper:alternating), paper:100s-first, paper:both, application, poisson, bursts, daily, bags, \
     varied, a FILE (.swf, .csv, .jsonl or .ndjson, each also .gz; .parquet, or a folder of them, in builds with that \
     feature; .json for a scenario), or pool:NAME@WINDOW with a WINDOW like 6h or \
     2026-01-31T00:00:00Z/2026-02-01T00:00:00Z";

/// Names of the generated loads.
const GENERATORS: [(&str, Generator); 6] = [
    ("application", Generator::Application),
    ("poisson", Generator::Poisson),
    ("bursts", Generator::Bursts),
    ("daily", Generator::Daily),
    ("bags", Generator::Bags),
    ("varied", Generator::Varied),
];
/// Of [`Generator::Poisson`].
const POISSON: (f64, f64, f64) = (300.0, 24.0, 120.0);
/// How far perturbed episodes depart from a load: domain randomisation.
pub const PERTURBATION: Perturbation =
    Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 30.0, ..Perturbation::NONE };

/// What a load is played with.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Settings of the twin, a scenario's `config`; the published ones if not given.
    pub config: Option<PathBuf>,
    /// Machines that one action may move at most, in place of what the settings say.
    pub machines_per_action: Option<u16>,
    /// Whether to be as a real fleet on EC2.
    pub is_ec2: bool,
    /// What becomes of tasks that are wider than the largest machine.
    pub wide: Width,
    /// Whether episodes depart from the load at random.
    pub is_perturbed: bool,
}

/// A load, ready to play.
#[derive(Clone)]
pub struct Load {
    /// What it is called.
    pub name: String,
    /// The twin.
    pub spec: Arc<EnvSpec>,
    /// What people should know about it: bad lines, tasks split or left out.
    pub notes: Vec<String>,
    /// What a pool's records say of its twin.
    pub fit: Option<Fit>,
}

/// Why a load cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The name says nothing.
    #[error("find the workload {0:?}; there are {FORMS}")]
    Name(String),
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A trace cannot be used.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The settings or the jobs are not valid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

impl FromStr for LoadName {
    type Err = LoadError;
    fn from_str(text: &str) -> Result<Self, LoadError> {
        if let Some((_, generator)) = GENERATORS.into_iter().find(|(name, _)| *name == text) {
            return Ok(LoadName::Generated(generator));
        }
        match text {
            "paper" | "paper:alternating" => Ok(LoadName::Paper(vec![0])),
            "paper:100s-first" => Ok(LoadName::Paper(vec![1])),
            "paper:both" => Ok(LoadName::Paper(vec![0, 1])),
            _ => match text.strip_prefix("pool:") {
                Some(pool) => pool_window(pool).ok_or_else(|| LoadError::Name(text.to_owned())),
                None if Path::new(text).exists() => Ok(LoadName::File(text.into())),
                None => Err(LoadError::Name(text.to_owned())),
            },
        }
    }
}

/// `NAME@6h` up to now, or `NAME@FROM/UNTIL`.
fn pool_window(text: &str) -> Option<LoadName> {
    let (pool, window) = text.split_once('@')?;
    let ms = |t: jiff::Timestamp| u64::try_from(t.as_millisecond()).ok();
    let window = match window.split_once('/') {
        Some((from, until)) => Window { from_ms: ms(from.parse().ok()?)?, until_ms: ms(until.parse().ok()?)? },
        None => {
            let hours: f64 = window.strip_suffix('h')?.parse().ok()?;
            let until_ms = ms(jiff::Timestamp::now())?;
            let is_length = hours.is_finite() && hours > 0.0;
            is_length.then(|| Window { from_ms: until_ms.saturating_sub((hours * 3_600_000.0) as u64), until_ms })?
        }
    };
    let is_window = contract::pool::is_pool_name(pool) && window.from_ms < window.until_ms;
    is_window.then(|| LoadName::Pool { pool: pool.to_owned(), window })
}

/// A load that needs no table. `seeds` are those that episodes of a generated one are drawn with.
///
/// # Errors
/// If a file cannot be read, or something in it cannot be.
///
/// # Panics
/// For a pool's history, which [`of_pool`] is for.
pub fn load(name: &LoadName, options: &LoadOptions, seeds: Range<u64>) -> Result<Load, LoadError> {
    let config = config(options)?;
    let (called, config, workloads, notes) = match name {
        LoadName::Paper(orders) => {
            let all = published_orders();
            (paper_name(orders), config, orders.iter().map(|i| all[*i].clone()).collect(), Vec::new())
        }
        LoadName::Generated(generator) => {
            let drawn = seeds.map(|seed| generate(*generator, seed)).collect();
            let called = GENERATORS.into_iter().find(|(_, g)| g == generator).map(|(name, _)| name);
            (called.unwrap_or_default().to_owned(), config, drawn, Vec::new())
        }
        LoadName::File(path) if path.extension().is_some_and(|e| e == "json") => {
            let scenario = Scenario::from_json(&text(path)?)?;
            let config = if options.config.is_some() { config } else { scenario.config };
            (path.display().to_string(), config, vec![scenario.workload.jobs().to_vec()], Vec::new())
        }
        LoadName::File(path) => {
            let (jobs, notes) = trace(path, &config, options.wide)?;
            (path.display().to_string(), config, vec![jobs], notes)
        }
        LoadName::Pool { .. } => unreachable!("a pool's history is read from its tables"),
    };
    let workloads = workloads.into_iter().map(|jobs: Vec<Job>| Arc::new(Workload::new(jobs))).collect();
    let spec = EnvSpec::new(config, workloads)?.with_time_enough();
    Ok(Load { name: called, spec: Arc::new(finished(spec, options)?), notes, fit: None })
}

/// A window of a pool's history as a load, in the twin that its records make.
///
/// # Errors
/// If it does not make a valid twin.
pub fn of_pool(recorded: Recorded, options: &LoadOptions) -> Result<Load, LoadError> {
    let recorded = recorded.begun_with_the_fleet();
    let (spec, left_out) = recorded.twin()?;
    let notes = (left_out > 0).then(|| format!("{left_out} tasks that fit on no machine of the pool are left out"));
    let name = pool_name(&recorded);
    let fit = calibration::fit::fit(&recorded);
    let spec = spec.configured(|config| fit.apply(config))?.with_time_enough();
    Ok(Load { name, spec: Arc::new(finished(spec, options)?), notes: notes.into_iter().collect(), fit: Some(fit) })
}

/// The name of a pool's window with its beginning and end: it is the same at any other time.
fn pool_name(recorded: &Recorded) -> String {
    let time = |ms: u64| i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = |ms: u64| time(ms).map_or_else(|| ms.to_string(), |time| time.to_string());
    let Window { from_ms, until_ms } = recorded.window;
    format!("pool:{}@{}/{}", recorded.config.pool, time(from_ms), time(until_ms))
}

/// The profile and the perturbation of the options.
fn finished(spec: EnvSpec, options: &LoadOptions) -> Result<EnvSpec, ScenarioError> {
    let spec = if options.is_ec2 { spec.configured(|config| Ec2Profile::default().apply(config))? } else { spec };
    let spec = match options.machines_per_action {
        Some(machines) => spec.configured(|config| config.machines_per_action_max = machines)?,
        None => spec,
    };
    Ok(if options.is_perturbed { spec.perturbed(PERTURBATION) } else { spec })
}

fn config(options: &LoadOptions) -> Result<SimConfig, LoadError> {
    match &options.config {
        Some(path) => Ok(config_from_json(&text(path)?)?),
        None => Ok(SimConfig::default()),
    }
}

fn text(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.display().to_string(), source })
}

fn paper_name(orders: &[usize]) -> String {
    match orders {
        [0] => "paper".into(),
        [1] => "paper:100s-first".into(),
        _ => "paper:both".into(),
    }
}

fn generate(generator: Generator, seed: u64) -> Vec<Job> {
    match generator {
        Generator::Application => Application::default().jobs(seed),
        Generator::Poisson => poisson(POISSON.0, POISSON.1, POISSON.2, seed),
        Generator::Bursts => mmpp(&Mmpp::default(), seed),
        Generator::Daily => daily(&Daily::default(), seed),
        Generator::Bags => Bags::drawn(seed).jobs(seed),
        Generator::Varied => varied(seed),
    }
}

/// Imports a trace with a progress bar, and says what became of what could not be used.
fn trace(path: &Path, config: &SimConfig, wide: Width) -> Result<(Vec<Job>, Vec<String>), LoadError> {
    let style =
        ProgressStyle::with_template("importing {wide_bar} {bytes}/{total_bytes} {eta}").expect("a valid template");
    let bar = ProgressBar::new(0).with_style(style);
    let import = traces::read(path, &traces::Options::default(), &mut |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_read);
    });
    bar.finish_and_clear();
    let import = import?;
    let mut notes = notes(&import);
    let fitted = fit(import.jobs, &config.types, wide)?;
    if fitted.split > 0 {
        notes.push(format!("{} wide tasks were split into {} that fit", fitted.split, fitted.pieces));
    }
    Ok((fitted.jobs, notes))
}

fn notes(import: &Import) -> Vec<String> {
    let mut notes = vec![format!("{} tasks imported", import.jobs.len())];
    let skipped = import.skipped.total();
    if skipped > 0 {
        notes.push(format!(
            "{skipped} tasks left out: they did not run, or nothing is known of how long or on how many cores"
        ));
    }
    if import.bad.count > 0 {
        notes.push(format!("{} bad lines, the first: {}", import.bad.count, import.bad.in_words()));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LoadOptions {
        LoadOptions { config: None, machines_per_action: None, is_ec2: false, wide: Width::Refuse, is_perturbed: false }
    }

    #[test]
    fn names_are_read_and_what_is_none_says_which_there_are() {
        assert_eq!("paper".parse::<LoadName>().unwrap(), LoadName::Paper(vec![0]));
        assert_eq!("bursts".parse::<LoadName>().unwrap(), LoadName::Generated(Generator::Bursts));
        let LoadName::Pool { pool, window } = "pool:demo@2026-01-31T00:00:00Z/2026-01-31T06:00:00Z".parse().unwrap()
        else {
            panic!("a pool")
        };
        assert_eq!((pool.as_str(), window.until_ms - window.from_ms), ("demo", 6 * 3_600_000));
        assert!(matches!("pool:demo@1.5h".parse(), Ok(LoadName::Pool { .. })));
        for bad in [
            "pool:demo",
            "pool:demo@-1h",
            "pool:Demo@1h",
            "no-such-file.swf",
            "pool:x@2026-01-31T06:00:00Z/2026-01-31T00:00:00Z",
        ] {
            let error = bad.parse::<LoadName>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("pool:NAME@WINDOW"), "{error}");
        }
    }

    #[test]
    fn a_trace_is_imported_split_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "submit_s,runtime_s,cores\n0,60,1\n5,120,12\n").unwrap();
        let name = LoadName::File(path);
        assert!(matches!(load(&name, &options(), 0..1), Err(LoadError::Trace(_))));
        let load = load(&name, &LoadOptions { wide: Width::Split, ..options() }, 0..1).unwrap();
        assert_eq!(load.spec.workloads()[0].jobs().len(), 3);
        assert!(load.notes.iter().any(|n| n.contains("split")), "{:?}", load.notes);
    }

    #[test]
    fn a_generated_load_is_drawn_once_a_seed() {
        let load = load(&LoadName::Generated(Generator::Application), &options(), 0..3).unwrap();
        assert_eq!(load.spec.workloads().len(), 3);
        assert_ne!(load.spec.workloads()[0], load.spec.workloads()[1]);
    }
}
