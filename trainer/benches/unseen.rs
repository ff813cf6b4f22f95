//! Policies on loads that they have not seen, beside the best rule for each load:
//! `cargo bench -p twinscaler --profile dev --bench unseen -- --policy DIR … --log NAME=FILE[,PAST] …`.
//!
//! Each load is played in the published twin and in the EC2 profile, with one and with up to four machines an action.
//! Generated loads are drawn with seeds that no training uses. The rule is the cheapest that a search of five families finds on
//! other days of the same load (of a log, on its PAST); with `--hindsight`, or of a log without a past, on the very episodes
//! that are compared. A line has the rule, and of each policy the mean cost and its difference from that rule, paired by
//! episode, with its 95 % interval (Student's t).
//!
//! With `--varied N` also N loads of any shape, drawn as those of `varied` that are learned from, each beside the rule that is
//! cheapest on other days of it, of those that teachers are picked from: the mean difference for all of them and for each kind of
//! arrivals, the mean of the dearest twentieth, and how many are dearer by more than 2 %, and how many of these surely so.
//!
//! With `--learn STEPS` each policy first goes on learning for that long, as `improve` would, from what the load's rule was
//! tuned on.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use backtest::interval::{Interval, interval_95};
use backtest::play::{Contender, outcomes};
use backtest::rules::Rule;
use backtest::tune::{Tuned, far_apart};
use clap::Parser;
use rayon::prelude::*;
use traces::Width;
use twin::arrivals::{Daily, Mmpp, MmppState, daily, mmpp};
use twin::varied::shape;
use twin::workload::{Application, poisson};
use twin::{EnvSpec, Job, SimConfig, Workload};
use twinscaler::commands::parent::Parent;
use twinscaler::compare::{best_of, tuned_rules};
use twinscaler::contender::{Learned, Named};
use twinscaler::course::{Course, cheapest, with_drawn_boots};
use twinscaler::device::{DeviceChoice, select};
use twinscaler::learn::{better_start, learn};
use twinscaler::load::{LoadName, LoadOptions, PERTURBATION, load};
use twinscaler::ppo::config::PpoConfig;
use twinscaler::ppo::weights::Weights;

/// Compares policies with rules that were tuned on the load at hand.
#[derive(Parser)]
struct Arguments {
    /// Directories of policies
    #[arg(long = "policy", required = true, num_args = 1..)]
    policies: Vec<String>,
    /// Logs, each with the name it has in the table, and another one that its rules are tuned on
    #[arg(long = "log", num_args = 1.., value_name = "NAME=FILE[,PAST]")]
    logs: Vec<Log>,
    /// Tune the rules on the very episodes that are compared
    #[arg(long)]
    hindsight: bool,
    /// Only the loads whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Only the twins whose name contains this, for example "EC2" or "up to 4"
    #[arg(long, default_value = "")]
    twin: String,
    /// Rules found by an earlier run are taken from this file, and others added to it
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Also this many loads of any shape, each beside the rule that is cheapest on other days of it
    #[arg(long, value_name = "N", default_value_t = 0)]
    varied: u64,
    /// Let each policy go on learning for so many steps from what the load's rule is tuned on
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    learn: u64,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone)]
struct Log {
    name: String,
    file: LoadName,
    past: Option<LoadName>,
}

impl FromStr for Log {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, files) = text.split_once('=').ok_or("give NAME=FILE or NAME=FILE,PAST")?;
        let load = |file: &str| file.parse::<LoadName>().map_err(|e| e.to_string());
        let (file, past) = match files.split_once(',') {
            Some((file, past)) => (file, Some(load(past)?)),
            None => (files, None),
        };
        Ok(Self { name: name.into(), file: load(file)?, past })
    }
}

/// The best rules of rows, by twin and name.
struct Rules {
    file: Option<PathBuf>,
    known: BTreeMap<String, String>,
}

impl Rules {
    fn read(file: Option<PathBuf>) -> Self {
        let bytes = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let known = bytes.map(|bytes| serde_json::from_slice(&bytes).expect("a file of rules")).unwrap_or_default();
        Self { file, known }
    }

    /// The known rule of a row, or the best that can be found on what its rules are tuned on.
    fn of(&mut self, twin: &str, row: &Row) -> Rule {
        let name = format!("{twin}: {}", row.name);
        if let Some(rule) = self.known.get(&name) {
            return rule.parse().expect("a rule");
        }
        let (spec, seeds) = &row.tuned_on;
        let rule = best_of(&tuned_rules(&row.name, spec, seeds)).rule;
        self.known.insert(name, rule.to_string());
        if let Some(file) = &self.file {
            let text = serde_json::to_vec_pretty(&self.known).expect("it is text");
            std::fs::write(file, text).expect("a file that can be written");
        }
        rule
    }
}

/// Draws of generated loads: apart from those that are learned from and those that training is compared on.
const DRAWS: Range<u64> = 5000..5016;
/// Other days of the same loads, that rules are searched on.
const OTHER_DRAWS: Range<u64> = 4000..4008;
/// The shape of the first of the loads of any shape: from here on none is learned from.
const VARIED_FROM: u64 = 7000;
/// How arrivals come in `varied`, by the seed's remainder.
const KINDS: [&str; 4] = ["even", "daily", "bursts", "generations"];
/// Episodes that rules are searched on.
const TUNED_ON: u64 = 8;
const GENERATED: [&str; 3] = ["application", "bursts", "bags"];

/// A load of no generator that is learned from, or of one with other numbers.
type Shape = (&'static str, fn(u64) -> Vec<Job>);
const SHAPES: [Shape; 5] = [
    ("poisson, 3000 tasks of 2 min an hour", |seed| poisson(3000.0, 24.0, 120.0, seed)),
    ("daily, 2400 tasks of 1 min an hour", |seed| {
        daily(&Daily { base_per_hour: 2400.0, hours: 48.0, ..Daily::default() }, seed)
    }),
    ("daily, 60 tasks of 1 h an hour", |seed| {
        daily(&Daily { base_per_hour: 60.0, hours: 96.0, runtime_s_mean: 3600.0, ..Daily::default() }, seed)
    }),
    ("bursts of 10 min tasks, thrice a day", |seed| {
        let calm = MmppState { rate_per_hour: 20.0, dwell_s_mean: 8.0 * 3600.0 };
        let burst = MmppState { rate_per_hour: 1000.0, dwell_s_mean: 1200.0 };
        mmpp(&Mmpp { states: vec![calm, burst], hours: 48.0, runtime_s_mean: 600.0 }, seed)
    }),
    ("application, 24 generations of 4 min tasks", |seed| {
        Application { tasks: 3000, generations: 24, runtime_s_mean: 240.0, span_s: 8.0 * 3600.0 }.jobs(seed)
    }),
];

/// A load with the seeds of its episodes, and what rules are searched on.
struct Row {
    name: String,
    spec: Arc<EnvSpec>,
    seeds: Vec<u64>,
    tuned_on: (Arc<EnvSpec>, Vec<u64>),
}

impl Row {
    /// Of a load that has no other days: other boots are all that can differ.
    fn alone(name: &str, spec: Arc<EnvSpec>, episodes: u64) -> Self {
        let tuned_on = (spec.clone(), (0..episodes.min(TUNED_ON)).map(|i| 1000 + i).collect());
        Self { name: name.into(), spec, seeds: (0..episodes).collect(), tuned_on }
    }

    fn drawn(name: &str, of: impl Fn(Range<u64>) -> Arc<EnvSpec>) -> Self {
        let each = |spec: Arc<EnvSpec>| (spec.clone(), (0..spec.workloads().len() as u64).collect());
        let (spec, seeds) = each(of(DRAWS));
        Self { name: name.into(), spec, seeds, tuned_on: each(of(OTHER_DRAWS)) }
    }

    /// Of a generator: days without a task are left out.
    fn generated(name: &str, config: &SimConfig, jobs: impl Fn(u64) -> Vec<Job>) -> Self {
        Self::drawn(name, |draws| {
            let workloads = draws.map(|seed| Arc::new(Workload::new(jobs(seed)))).filter(|w| !w.jobs().is_empty());
            let spec = EnvSpec::new(config.clone(), workloads.collect()).expect("a load that fits");
            Arc::new(spec.with_time_enough())
        })
    }

    fn with_hindsight(self) -> Self {
        let tuned_on = (self.spec.clone(), self.seeds.iter().copied().take(TUNED_ON as usize).collect());
        Self { tuned_on, ..self }
    }
}

fn options(is_ec2: bool, machines: u16) -> LoadOptions {
    LoadOptions { config: None, machines_per_action: Some(machines), is_ec2, wide: Width::Split, is_perturbed: false }
}

fn rows(arguments: &Arguments, is_ec2: bool, machines: u16) -> Vec<Row> {
    let spec = |name: &LoadName, draws| load(name, &options(is_ec2, machines), draws).expect("a load to play").spec;
    let named = |name: &str| name.parse::<LoadName>().expect("a load's name");
    let paper = spec(&named("paper:both"), 0..1);
    let mut rows = match is_ec2 {
        true => vec![Row::alone("paper:both", paper.clone(), 32)],
        false => vec![
            Row::alone("paper:both, boot 71 s", paper.clone(), 2),
            Row::alone("paper:both, boots drawn", Arc::new(with_drawn_boots(&paper)), 32),
        ],
    };
    rows.extend(GENERATED.map(|name| Row::drawn(name, |draws| spec(&named(name), draws))));
    rows.extend(SHAPES.map(|(name, jobs)| Row::generated(name, paper.config(), jobs)));
    let episodes = if is_ec2 { 2 } else { 1 };
    rows.extend(arguments.logs.iter().map(|log| {
        let row = Row::alone(&log.name, spec(&log.file, 0..1), episodes);
        match &log.past {
            Some(past) => Row { tuned_on: (spec(past, 0..1), row.tuned_on.1.clone()), ..row },
            None => row.with_hindsight(),
        }
    }));
    rows.retain(|row| row.name.contains(&arguments.only));
    if arguments.hindsight { rows.into_iter().map(Row::with_hindsight).collect() } else { rows }
}

/// What each episode costs a policy, which may have learned from other days of the load before.
fn policy_usd(policy: &str, row: &Row, rule: Rule, learn: u64) -> Vec<f64> {
    if learn == 0 {
        let policy = Named::File(policy.into()).contender(&row.spec, &row.seeds).expect("a policy that can be used");
        return usd(policy.as_ref(), row);
    }
    let weights = improved(policy, row, rule, learn);
    usd(&Learned { name: policy.into(), weights: &weights }, row)
}

/// A policy that went on learning from what the row's rule was tuned on, as `improve` does it.
fn improved(policy: &str, row: &Row, rule: Rule, steps: u64) -> Weights {
    let (settings, device) = (PpoConfig { steps, ..PpoConfig::default() }, select(DeviceChoice::Cpu).expect("a CPU"));
    let parent = Parent::read(Path::new(policy), &settings).expect("a policy to go on from");
    let (exact, seeds) = &row.tuned_on;
    let tuned = Tuned { rule, usd: mean(&of_seeds(&rule, exact, seeds)) };
    let spec = Arc::new(EnvSpec::clone(exact).perturbed(PERTURBATION));
    let course = Course::with_rules(&row.name, spec, exact.clone(), vec![tuned]).expect("a load that can be learned");
    let courses = [course];
    let start = better_start(&courses, parent.weights, &settings, 1, &device).expect("a policy to go on from");
    learn(&courses, start, &settings, 1, &device, &mut |_, _| ControlFlow::Continue(())).expect("training").best
}

fn of_seeds(contender: &dyn Contender, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<f64> {
    outcomes(contender, spec, seeds).expect("it plays").iter().map(|o| o.total_usd).collect()
}

fn usd(contender: &dyn Contender, row: &Row) -> Vec<f64> {
    of_seeds(contender, &row.spec, &row.seeds)
}

/// Loads of any shape, each with the rule that is cheapest on other days of it.
fn any_shape(arguments: &Arguments, is_ec2: bool, machines: u16) -> Vec<(Row, Rule)> {
    let paper: LoadName = "paper".parse().expect("a load's name");
    let config = load(&paper, &options(is_ec2, machines), 0..1).expect("a load to play").spec.config().clone();
    let draw = |k: u64| {
        let shape = shape(VARIED_FROM + k);
        let row = Row::generated(&format!("varied {k}"), &config, |seed| shape.jobs(seed));
        let row = if arguments.hindsight { row.with_hindsight() } else { row };
        let (spec, seeds) = &row.tuned_on;
        let rule = cheapest(far_apart().into_iter(), spec, seeds).expect("a load that a rule gets done");
        (row, rule)
    };
    (0..arguments.varied).into_par_iter().map(draw).collect()
}

/// Each policy on loads of any shape.
fn varied(arguments: &Arguments, is_ec2: bool, machines: u16) {
    let loads = any_shape(arguments, is_ec2, machines);
    let rules: Vec<Vec<f64>> = loads.iter().map(|(row, rule)| usd(rule, row)).collect();
    for policy in &arguments.policies {
        let difference = |((row, rule), usd): (&(Row, Rule), &Vec<f64>)| {
            difference(&policy_usd(policy, row, *rule, arguments.learn), usd)
        };
        let differences: Vec<Interval> = loads.iter().zip(&rules).map(difference).collect();
        println!("| varied, {} loads | {} |", loads.len(), summary(&differences));
    }
}

fn summary(differences: &[Interval]) -> String {
    let means: Vec<f64> = differences.iter().map(|i| i.mean).collect();
    let i = interval_95(&means).expect("at least one load");
    let kind = |k: usize| means.iter().skip(k).step_by(KINDS.len()).copied().collect::<Vec<f64>>();
    let kinds: Vec<String> = KINDS.iter().enumerate().map(|(k, of)| format!("{of} {:+.1}", mean(&kind(k)))).collect();
    let dearer = |by: fn(&Interval) -> f64| differences.iter().filter(|i| by(i) > 2.0).count();
    let (all, surely) = (dearer(|i| i.mean), dearer(|i| i.low));
    let (kinds, worst) = (kinds.join(" | "), mean(&dearest(means)));
    format!(
        "{:+.2} % [{:+.2}, {:+.2}] | {kinds} | worst {worst:+.1} | above 2 %: {all}, surely {surely}",
        i.mean, i.low, i.high
    )
}

/// The largest twentieth, at least one.
fn dearest(mut means: Vec<f64>) -> Vec<f64> {
    means.sort_by(|a, b| b.total_cmp(a));
    means.truncate(means.len().div_ceil(20));
    means
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A policy's difference from the rule, percent of the rule's mean cost.
fn difference(policy: &[f64], rule: &[f64]) -> Interval {
    let shares: Vec<f64> = policy.iter().zip(rule).map(|(p, r)| 100.0 * (p - r) / mean(rule)).collect();
    interval_95(&shares).expect("at least one episode")
}

/// A policy's cost, and its difference from the rule.
fn compared(policy: &[f64], rule: &[f64]) -> (String, f64) {
    let i = difference(policy, rule);
    let sure = if policy.len() > 2 { format!(" [{:+.1}, {:+.1}]", i.low, i.high) } else { String::new() };
    (format!("{:.3} | {:+.1} %{sure}", mean(policy), i.mean), i.mean)
}

fn main() {
    let arguments = Arguments::parse();
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); arguments.policies.len()];
    let mut rules = Rules::read(arguments.rules.clone());
    for (is_ec2, machines) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
        let twin = format!("{}, up to {machines} machines an action", if is_ec2 { "EC2" } else { "published twin" });
        if !twin.contains(&arguments.twin) {
            continue;
        }
        println!("{twin}");
        for row in rows(&arguments, is_ec2, machines) {
            let best = rules.of(&twin, &row);
            let rule = usd(&best, &row);
            let mut line = format!("| {} | `{best}` {:.3} |", row.name, mean(&rule));
            for (policy, shares) in arguments.policies.iter().zip(&mut all) {
                let (text, share) = compared(&policy_usd(policy, &row, best, arguments.learn), &rule);
                line += &format!(" {text} |");
                shares.push(share);
            }
            println!("{line}");
        }
        if arguments.varied > 0 {
            varied(&arguments, is_ec2, machines);
        }
    }
    for (name, shares) in arguments.policies.iter().zip(&all).filter(|(_, shares)| !shares.is_empty()) {
        let worst = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!("{name}: mean {:+.2} %, worst {worst:+.2} % over {} lines", mean(shares), shares.len());
    }
}
