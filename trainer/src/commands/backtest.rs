//! `twinscaler backtest`: policies and rules on the same episodes of a load, in dollars.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backtest::bound::bounds;
use backtest::plan;
use backtest::play::{Contender, PlayError, Standing, episode, outcomes, standing};
use backtest::rules::{FORMS, Rule, RuleError};
use clap::Args;
use contract::Action;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;
use twin::EnvSpec;

use crate::commands::twin_args::TwinArgs;
use crate::compare::fleet_chart;
use crate::contender::{ContenderError, Named};
use crate::load::{Load, LoadError, LoadName, LoadOptions};
use crate::report::{self, Line};
use crate::watch::spinner;

/// Episodes that rules are searched on at most.
const TUNE_SEEDS_MAX: usize = 8;

/// What to compare, on what.
#[derive(Args, Clone, Debug)]
pub struct BacktestArgs {
    /// The load: a name, a FILE or pool:NAME@WINDOW; all of them are listed below
    #[arg(long, value_name = "LOAD")]
    pub workload: String,
    /// Policy files or directories, and rules: several at once, or the option again and again
    #[arg(long = "policy", value_name = "FILE|rule:NAME", required = true, num_args = 1..)]
    pub policies: Vec<String>,
    /// Episodes; all policies play the same ones
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// Search the best settings of rules that are given without settings, on the load at hand
    #[arg(long)]
    pub tune: bool,
    /// Also print bounds: the work alone, and a linear programme that no policy can beat
    #[arg(long)]
    pub bounds: bool,
    /// Also search for the cheapest action sequence with hindsight, for about this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub clairvoyant: Option<f64>,
    /// Write a page with charts
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Let episodes depart from the load at random (run times, arrivals)
    #[arg(long)]
    perturb: bool,
    /// Machines that one action may move at most: 1, 2 or 4, in place of what the twin's settings say
    #[arg(long, value_name = "N")]
    machines_per_action: Option<u16>,
    #[command(flatten)]
    twin: TwinArgs,
}

impl BacktestArgs {
    /// What the load is played with.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            is_perturbed: self.perturb,
            machines_per_action: self.machines_per_action,
            ..self.twin.load_options()
        }
    }

    /// The load that is asked for.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn load_name(&self) -> Result<LoadName, LoadError> {
        self.workload.parse()
    }
}

/// Why a back-test gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A policy's name.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A policy.
    #[error(transparent)]
    Contender(#[from] ContenderError),
    /// An episode.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// The time to search.
    #[error("search for {0} seconds: --clairvoyant takes a number above 0")]
    Clairvoyant(f64),
    /// The page cannot be written.
    #[error("write {path}")]
    Write {
        /// Where.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl BacktestError {
    /// Whether the user has to change something: exit code 2.
    pub fn is_input(&self) -> bool {
        !matches!(self, BacktestError::Write { .. } | BacktestError::Play(PlayError::Policy { .. }))
    }
}

/// What everything is measured against; means over the episodes, dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BoundsLine {
    /// The work alone, on the cheapest cores.
    pub work_usd: Option<f64>,
    /// The linear programme; none if it was not asked for, or the load is too large for it.
    pub fluid_usd: Option<f64>,
    /// The cheapest sequence found with hindsight: no proof, but somebody could really do it.
    pub clairvoyant_usd: Option<f64>,
}

/// The result, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Backtest {
    /// The load.
    pub workload: String,
    /// Episodes.
    pub seeds: u64,
    /// What people should know about the load.
    pub notes: Vec<String>,
    /// What everything is measured against.
    pub bounds: BoundsLine,
    /// One line a policy, in the order given.
    pub results: Vec<Standing>,
}

/// Plays and prints.
///
/// # Errors
/// If something cannot be read, or a policy cannot be played.
pub fn run(args: &BacktestArgs, load: Load) -> Result<(), BacktestError> {
    let named: Vec<Named> = args.policies.iter().map(|p| Named::parse(p, args.tune)).collect::<Result<_, _>>()?;
    if let Some(seconds) = args.clairvoyant.filter(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(BacktestError::Clairvoyant(seconds));
    }
    let spec = load.spec.clone();
    let seeds: Vec<u64> = (0..args.seeds).collect();
    let bar = spinner();
    let mut contenders = Vec::new();
    for (named, text) in named.iter().zip(&args.policies) {
        bar.set_message(format!("preparing {text}"));
        contenders.push(named.contender(&spec, &seeds[..seeds.len().min(TUNE_SEEDS_MAX)])?);
    }
    let results = standings(&contenders, &spec, &seeds, &bar)?;
    let bounds = BoundsLine {
        clairvoyant_usd: args.clairvoyant.map(|s| clairvoyant_usd(&contenders, &spec, &seeds, s, &bar)).transpose()?,
        ..if args.bounds || args.out.is_some() {
            {
                bar.set_message("solving for the bounds");
                mean_bounds(&spec, &seeds)
            }
        } else {
            BoundsLine::default()
        }
    };
    bar.finish_and_clear();
    let backtest = Backtest { workload: load.name, seeds: args.seeds, notes: load.notes, bounds, results };
    if let Some(path) = &args.out {
        let page = page(&backtest, &contenders, &spec)?;
        write(path, &page)?;
    }
    print(&backtest, args.json);
    Ok(())
}

fn standings(
    contenders: &[Box<dyn Contender>],
    spec: &Arc<EnvSpec>,
    seeds: &[u64],
    bar: &ProgressBar,
) -> Result<Vec<Standing>, BacktestError> {
    let mut first_usd: Option<Vec<f64>> = None;
    let mut results = Vec::new();
    for contender in contenders {
        bar.set_message(format!("playing {}", contender.name()));
        let outcomes = outcomes(contender.as_ref(), spec, seeds)?;
        let first = first_usd.get_or_insert_with(|| outcomes.iter().map(|o| o.total_usd).collect());
        results.push(standing(contender.name(), &outcomes, first));
    }
    Ok(results)
}

/// Seeds with different episodes: all of them, or one a workload where nothing is drawn.
fn distinct(spec: &EnvSpec, seeds: &[u64]) -> Vec<u64> {
    let n = if spec.is_certain() { spec.workloads().len() } else { usize::MAX };
    seeds.iter().copied().take(n).collect()
}

/// The bounds of a load, means over the episodes of these seeds.
pub(crate) fn mean_bounds(spec: &Arc<EnvSpec>, seeds: &[u64]) -> BoundsLine {
    let n = if spec.has_certain_jobs() { spec.workloads().len() } else { usize::MAX };
    let seeds = &seeds[..seeds.len().min(n)];
    let each: Vec<_> = seeds.par_iter().map(|seed| bounds(spec, &spec.jobs(*seed))).collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let fluid: Option<Vec<f64>> = each.iter().map(|b| b.fluid_usd).collect();
    BoundsLine {
        work_usd: Some(mean(each.iter().map(|b| b.work_usd).collect())),
        fluid_usd: fluid.map(mean),
        clairvoyant_usd: None,
    }
}

/// The search starts from what the contenders did (those that begin with the fleet as it is), and from a few rules.
fn clairvoyant_usd(
    contenders: &[Box<dyn Contender>],
    spec: &Arc<EnvSpec>,
    seeds: &[u64],
    seconds: f64,
    bar: &ProgressBar,
) -> Result<f64, BacktestError> {
    let seeds = distinct(spec, seeds);
    let budget = Duration::from_secs_f64(seconds / seeds.len() as f64);
    let queue = Rule::Queue { tasks_per_core: 1.7, hold_ticks: 4 };
    let mut total = 0.0;
    for seed in &seeds {
        let mut starts: Vec<Vec<Action>> = vec![episode(&queue, spec, *seed)?.actions];
        for contender in contenders.iter().filter(|c| c.initial().is_none()) {
            starts.push(episode(contender.as_ref(), spec, *seed)?.actions);
        }
        let mut say = |usd: f64| bar.set_message(format!("searching with hindsight, ${usd:.3}"));
        total += plan::search(spec, *seed, &starts, budget, &mut say).usd;
    }
    Ok(total / seeds.len() as f64)
}

fn print(backtest: &Backtest, json: bool) {
    if json {
        println!("{}", serde_json::to_string(backtest).expect("plain data"));
        return;
    }
    println!("{}, {} episodes", backtest.workload, backtest.seeds);
    backtest.notes.iter().for_each(|note| println!("{note}"));
    print!("\n{}", report::text_table(&HEAD, &rows(&backtest.results)));
    for (label, usd) in bound_lines(&backtest.bounds) {
        println!("{label}: ${usd:.3}");
    }
}

/// The columns of a table of standings.
pub(crate) const HEAD: [&str; 13] = [
    "policy",
    "total $",
    "95 %",
    "machines $",
    "waiting $",
    "wait p50 s",
    "p95 s",
    "p99 s",
    "packing",
    "lost core-h",
    "actions/h",
    "launches",
    "interrupted",
];

/// Its rows.
pub(crate) fn rows(results: &[Standing]) -> Vec<Vec<String>> {
    let row = |s: &Standing| {
        let cut = if s.truncated > 0 { format!(" ({} cut off)", s.truncated) } else { String::new() };
        vec![
            s.policy.clone() + &cut,
            format!("{:.3}", s.total_usd.mean),
            format!("{:.3}–{:.3}", s.total_usd.low, s.total_usd.high),
            format!("{:.3}", s.vm_usd.mean),
            format!("{:.3}", s.queue_usd.mean),
            format!("{:.0}", s.wait_s.p50),
            format!("{:.0}", s.wait_s.p95),
            format!("{:.0}", s.wait_s.p99),
            format!("{:.3}", s.packing),
            format!("{:.2}", s.lost_core_hours),
            format!("{:.1}", s.actions_per_hour),
            format!("{:.1}", s.launches),
            format!("{:.1}", s.interrupted),
        ]
    };
    results.iter().map(row).collect()
}

/// The bounds that there are, with what to call them.
pub(crate) fn bound_lines(bounds: &BoundsLine) -> Vec<(&'static str, f64)> {
    let lines = [
        ("best sequence found with hindsight", bounds.clairvoyant_usd),
        ("proven lower bound, linear programme", bounds.fluid_usd),
        ("proven lower bound, work alone", bounds.work_usd),
    ];
    lines.into_iter().filter_map(|(label, usd)| Some((label, usd?))).collect()
}

fn page(backtest: &Backtest, contenders: &[Box<dyn Contender>], spec: &Arc<EnvSpec>) -> Result<String, BacktestError> {
    let lines = bound_lines(&backtest.bounds);
    let marks: Vec<Line> = lines.iter().map(|(label, usd)| Line { label: (*label).into(), usd: *usd }).collect();
    let mut body = format!("<p>{} episodes of each; all policies play the same ones.</p>", backtest.seeds);
    body += &backtest.notes.iter().map(|note| format!("<p>{}</p>", report::escape(note))).collect::<String>();
    body += &report::money_chart(&backtest.results, &marks);
    body += &report::table(&HEAD, &rows(&backtest.results));
    for (label, usd) in lines {
        body += &format!("<p>{label}: ${usd:.3}</p>");
    }
    for contender in contenders {
        let chart = fleet_chart(contender.as_ref(), spec, 0)?;
        body += &format!("<h2>{}, first episode</h2>{chart}", report::escape(&contender.name()));
    }
    Ok(report::page(&format!("twinscaler: back-test on {}", backtest.workload), &body))
}

fn write(path: &Path, page: &str) -> Result<(), BacktestError> {
    std::fs::write(path, page).map_err(|source| BacktestError::Write { path: path.display().to_string(), source })
}

/// The rules there are, for help.
pub fn rules_help() -> String {
    format!("Rules: {FORMS}, and rule:tuned for the best of them after a search.\nLoads: {}.", crate::load::FORMS)
}
