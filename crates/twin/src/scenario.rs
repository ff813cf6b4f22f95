//! The scenario file of `twinscaler simulate`: its model, its defaults and its validation.

use std::collections::BTreeSet;

use contract::Action;
use contract::capacity::Bounds;
use serde::Deserialize;

use crate::boot::{BootModel, LaunchFailures};
use crate::config::{MachineType, ScenarioError, SimConfig, checked_ms, published_types};
use crate::job::{Job, Workload};
use crate::random::TimeRange;

/// A valid scenario: machines, jobs and the actions to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The settings.
    pub config: SimConfig,
    /// The jobs, in the order of service.
    pub workload: Workload,
    /// `actions[k]` is applied at the k-th step; missing ones do nothing.
    pub actions: Vec<Action>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    #[serde(default)]
    config: RawConfig,
    #[serde(default)]
    jobs: Vec<RawJob>,
    #[serde(default)]
    actions: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    step_s: f64,
    vm_types: Option<Vec<RawType>>,
    boot: BootModel,
    queue_usd_per_task_hour: f64,
    max_steps: u64,
    charge_lost_run: bool,
    bill_boot: bool,
    min_billed_s: f64,
    cooldown_s: f64,
    machines_per_action_max: u16,
    launch_failures: Vec<bool>,
    drain: bool,
    drain_max_s: Option<f64>,
    stop_delay_s: Option<RawRange>,
}

impl Default for RawConfig {
    fn default() -> Self {
        let published = SimConfig::default();
        Self {
            step_s: 60.0,
            vm_types: None,
            boot: published.boot,
            queue_usd_per_task_hour: published.queue_usd_per_task_hour,
            max_steps: published.max_steps,
            charge_lost_run: published.charge_lost_run,
            bill_boot: published.bill_boot,
            min_billed_s: 0.0,
            cooldown_s: 0.0,
            machines_per_action_max: published.machines_per_action_max,
            launch_failures: Vec::new(),
            drain: published.drain,
            drain_max_s: None,
            stop_delay_s: None,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawType {
    name: String,
    cores: u32,
    #[serde(default)]
    memory_mb: Option<u64>,
    usd_per_hour: f64,
    #[serde(default = "one")]
    initial: u32,
    #[serde(default = "one")]
    min: u32,
    #[serde(default)]
    max: Option<u32>,
    #[serde(default)]
    spot_interruptions_per_hour: f64,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJob {
    /// Its place in the list, if it is not given.
    #[serde(default)]
    id: Option<i64>,
    submit_s: f64,
    runtime_s: f64,
    #[serde(default = "one")]
    cores: u32,
    #[serde(default)]
    memory_mb: u64,
}

/// Reads and validates settings: a scenario's `config` by itself.
///
/// # Errors
/// Lists every problem found, or where the JSON is broken, naming the field.
pub fn config_from_json(text: &str) -> Result<SimConfig, ScenarioError> {
    let raw: RawConfig = from_json(text)?;
    let mut problems = Vec::new();
    let config = read_config(raw, &mut problems);
    problems.extend(config.problems());
    ScenarioError::unless_empty(problems)?;
    Ok(config)
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ScenarioError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let raw = serde_path_to_error::deserialize(&mut reader)
        .map_err(|e| ScenarioError { problems: vec![format!("{}: {}", e.path(), e.inner())] })?;
    reader.end().map_err(|e| ScenarioError { problems: vec![e.to_string()] })?;
    Ok(raw)
}

impl Scenario {
    /// Reads and validates a scenario.
    ///
    /// # Errors
    /// Lists every problem found, or where the JSON is broken, naming the field.
    pub fn from_json(text: &str) -> Result<Self, ScenarioError> {
        let raw: RawScenario = from_json(text)?;
        let mut problems = Vec::new();
        let config = read_config(raw.config, &mut problems);
        let jobs = read_jobs(&raw.jobs, &mut problems);
        let actions = read_actions(&raw.actions, config.types.len(), &mut problems);
        problems.extend(config.problems());
        problems.extend(config.job_problems(&jobs));
        ScenarioError::unless_empty(problems)?;
        Ok(Self { config, workload: Workload::new(jobs), actions })
    }
}

fn read_config(raw: RawConfig, problems: &mut Vec<String>) -> SimConfig {
    let mut time = |name: &str, s: f64| checked_ms(s, || format!("config.{name}"), problems);
    SimConfig {
        step_ms: time("step_s", raw.step_s),
        min_billed_ms: time("min_billed_s", raw.min_billed_s),
        cooldown_ms: time("cooldown_s", raw.cooldown_s),
        stop_delay: raw.stop_delay_s.map(|range| TimeRange {
            low_ms: time("stop_delay_s.low", range.low),
            high_ms: time("stop_delay_s.high", range.high),
        }),
        drain: raw.drain,
        drain_max_ms: raw.drain_max_s.map(|s| time("drain_max_s", s)),
        max_steps: raw.max_steps,
        types: raw.vm_types.map_or_else(published_types, |types| read_types(types, problems)),
        boot: raw.boot,
        queue_usd_per_task_hour: raw.queue_usd_per_task_hour,
        charge_lost_run: raw.charge_lost_run,
        bill_boot: raw.bill_boot,
        machines_per_action_max: raw.machines_per_action_max,
        launch_failures: LaunchFailures::List(raw.launch_failures),
        ..SimConfig::default()
    }
}

fn read_types(raw: Vec<RawType>, problems: &mut Vec<String>) -> Vec<MachineType> {
    let mut types = Vec::with_capacity(raw.len());
    for (i, t) in raw.into_iter().enumerate() {
        let bounds = Bounds::new(t.min, t.max).unwrap_or_else(|e| {
            problems.push(format!("config.vm_types[{i}].min: {e}"));
            Bounds::new(0, None).expect("no maximum")
        });
        types.push(MachineType {
            name: t.name,
            cores: t.cores,
            memory_mb: t.memory_mb,
            usd_per_hour: t.usd_per_hour,
            initial: t.initial,
            bounds,
            spot_interruptions_per_hour: t.spot_interruptions_per_hour,
        });
    }
    types
}

fn read_jobs(raw: &[RawJob], problems: &mut Vec<String>) -> Vec<Job> {
    let mut ids = BTreeSet::new();
    let mut jobs = Vec::with_capacity(raw.len());
    for (i, job) in raw.iter().enumerate() {
        let id = job.id.unwrap_or(i as i64);
        if !ids.insert(id) {
            problems.push(format!("jobs[{i}].id: {id} is given twice"));
        }
        jobs.push(Job {
            id,
            submit_ms: checked_ms(job.submit_s, || format!("jobs[{i}].submit_s"), problems),
            runtime_ms: checked_ms(job.runtime_s, || format!("jobs[{i}].runtime_s"), problems).max(1),
            cores: job.cores,
            memory_mb: job.memory_mb,
        });
    }
    jobs
}

fn read_actions(raw: &[u16], types: usize, problems: &mut Vec<String>) -> Vec<Action> {
    let actions: Vec<Action> = raw.iter().copied().map(Action::from).collect();
    for (k, action) in actions.iter().enumerate() {
        if action.size().is_some_and(|size| size >= types) {
            problems.push(format!("actions[{k}]: {} is for an unknown type; there are {types}", raw[k]));
        }
    }
    actions
}
