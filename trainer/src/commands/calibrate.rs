//! `twinscaler calibrate`: what the records say about the twin's parameters, and how near the twin is to reality.

use std::path::PathBuf;

use calibration::Recorded;
use calibration::fit::{Fit, fit};
use calibration::quantity::{Comparison, compare};
use clap::Args;
use serde::Serialize;
use twin::ScenarioError;

use crate::report;

/// Replays, each with its own draws of what the records do not pin.
const SEEDS: std::ops::Range<u64> = 0..8;
/// Error that the verdict allows if no other is given.
const ERROR_MAX: f64 = 0.1;

/// What to calibrate on.
#[derive(Args, Clone, Debug)]
pub struct CalibrateArgs {
    /// A window of a pool's tables
    #[arg(long, value_name = "NAME@WINDOW", required_unless_present = "from", conflicts_with = "from")]
    pub pool: Option<String>,
    /// The directory of an export (`pool export`): config.json, tasks.jsonl, instances.jsonl, decisions.jsonl
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Fail (exit code 1) if any quantity is off by more than this share
    #[arg(long, value_name = "SHARE")]
    pub max_error: Option<f64>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no calibration, or why it is not good enough.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The limit is none.
    #[error("allow an error of {0}: --max-error takes a number at or above 0")]
    MaxError(f64),
    /// The window does not make a twin.
    #[error(transparent)]
    Twin(#[from] ScenarioError),
    /// The twin is not like reality.
    #[error("trust the twin: {0} off by more than {1:.1} %")]
    Off(String, f64),
}

impl CalibrateError {
    /// Whether the calibration was made and did not please, which is not the user's fault: exit code 1.
    pub fn is_verdict(&self) -> bool {
        matches!(self, CalibrateError::Off(..))
    }
}

/// The result, as JSON.
#[derive(Clone, Debug, Serialize)]
struct Calibration {
    pool: String,
    tasks: usize,
    tasks_left_out: usize,
    fit: Fit,
    #[serde(flatten)]
    comparison: Comparison,
}

/// Fits, replays, prints; with a limit, fails if a quantity is beyond it.
///
/// # Errors
/// If the records make no twin, or it is beyond the limit.
pub fn run(args: &CalibrateArgs, recorded: Recorded) -> Result<(), CalibrateError> {
    if let Some(error) = args.max_error.filter(|e| !(e.is_finite() && *e >= 0.0)) {
        return Err(CalibrateError::MaxError(error));
    }
    let recorded = recorded.begun_with_the_fleet();
    let (spec, tasks_left_out) = recorded.twin()?;
    let seeds: Vec<u64> = SEEDS.collect();
    let calibration = Calibration {
        pool: recorded.config.pool.clone(),
        tasks: recorded.tasks.len(),
        tasks_left_out,
        fit: fit(&recorded),
        comparison: compare(&spec, &recorded, &seeds, args.max_error.unwrap_or(ERROR_MAX)),
    };
    if args.json {
        println!("{}", serde_json::to_string(&calibration).expect("plain data"));
    } else {
        print!("{}", as_text(&calibration));
    }
    verdict(&calibration.comparison, args.max_error)
}

fn verdict(comparison: &Comparison, limit: Option<f64>) -> Result<(), CalibrateError> {
    let Some(limit) = limit.filter(|_| !comparison.within) else { return Ok(()) };
    let off = comparison.quantities.iter().filter(|q| !q.within).map(|q| q.name.clone());
    Err(CalibrateError::Off(off.collect::<Vec<_>>().join(", "), 100.0 * limit))
}

fn as_text(calibration: &Calibration) -> String {
    let Calibration { pool, tasks, tasks_left_out, fit, comparison } = calibration;
    let mut text = format!("pool {pool}: {tasks} tasks, {tasks_left_out} left out\n");
    text += &match &fit.boot {
        Some(b) => format!("boot: {} seen, median {:.1} s, p95 {:.1} s, {:?}\n", b.count, b.median_s, b.p95_s, b.model),
        None => "boot: too few seen\n".into(),
    };
    text += &match &fit.runtime {
        Some(r) => format!(
            "run time: {} seen, mean {:.1} s, median {:.1} s, log sigma {:.3}\n",
            r.count, r.mean_s, r.median_s, r.log_sigma
        ),
        None => "run time: too few seen\n".into(),
    };
    text += &match &fit.failures {
        Some(f) => format!("launches: {}, {} without capacity\n", f.launches, f.failed),
        None => "launches: none decided\n".into(),
    };
    text += &match &fit.metric {
        Some(m) => {
            let late = m.delay.map_or("delay unknown".into(), |delay| format!("{:.0} s late", delay.delay_s));
            format!("metrics: {late}, missing at {:.1} % of the ticks\n", 100.0 * m.gap_share)
        }
        None => "metrics: too few ticks\n".into(),
    };
    let rows: Vec<Vec<String>> = comparison
        .quantities
        .iter()
        .map(|q| {
            let verdict = if q.within { "ok" } else { "off" };
            vec![
                q.name.clone(),
                format!("{:.3}", q.real),
                format!("{:.3}", q.twin),
                format!("{:.1} %", 100.0 * q.error),
                verdict.into(),
            ]
        })
        .collect();
    text += "\n";
    text += &report::text_table(&["quantity", "real", "twin", "error", "verdict"], &rows);
    let verdict = if comparison.within { "like reality" } else { "not like reality" };
    let limit = 100.0 * comparison.error_max;
    text + &format!(
        "the twin is {verdict} within {limit:.0} %; it refused {} real actions\n",
        comparison.refused_actions
    )
}
