//! The documented result of a scenario, as JSON; the only place where its integers become hours and dollars.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Action, Mask, Observation};
use serde::Serialize;

use crate::env::{Environment, TwinEnv};
use crate::scenario::Scenario;
use crate::sim::{Phase, Sim};
use crate::spec::EnvSpec;
use crate::units::{hours, s_from_ms, usd};

/// Dollars of an episode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of the machines, by type.
    #[serde(flatten)]
    pub by_type: BTreeMap<String, f64>,
    /// Of all machines.
    pub vm: f64,
    /// Of waiting.
    pub queue: f64,
    /// Of both.
    pub total: f64,
}

/// What is seen of the fleet and the queue at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Glance {
    /// The time; of the last one, the makespan or the horizon.
    pub t_s: f64,
    /// Tasks waiting.
    pub queue: u32,
    /// Tasks running.
    pub running: u32,
    /// Tasks submitted so far.
    pub submitted: u32,
    /// Tasks done so far.
    pub completed: u32,
    /// Machines in service, by type.
    pub ready: BTreeMap<String, u32>,
    /// Machines booting, by type.
    pub booting: BTreeMap<String, u32>,
    /// Cores that run a task.
    pub busy_cores: u64,
    /// Cores in service.
    pub ready_cores: u64,
    /// Cores of all machines, booting or in service.
    pub billed_cores: u64,
    /// Mean share of busy cores over machines in service.
    pub avg_util: f64,
    /// Its 90th percentile, nearest rank.
    pub p90_util: f64,
    /// Of all tasks submitted so far, the share that waits.
    pub wait_ratio_global: f64,
    /// Of the tasks submitted in the last step, the share that waits.
    pub wait_ratio_recent: f64,
}

/// The result of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimResult {
    /// Dollars.
    pub cost: Cost,
    /// Billed machine-milliseconds, by type.
    pub vm_ms: BTreeMap<String, u64>,
    /// Waiting, task-milliseconds.
    pub queue_ms: u64,
    /// Billed machine-hours, by type.
    pub vm_hours: BTreeMap<String, f64>,
    /// Billed core-hours.
    pub core_hours: f64,
    /// Core-hours that ran a task, lost work included.
    pub busy_core_hours: f64,
    /// Waiting, task-hours.
    pub queue_hours: f64,
    /// Tasks submitted.
    pub submitted: u32,
    /// Tasks done.
    pub completed: u32,
    /// Runs cut short by a stop.
    pub interrupted: u64,
    /// Core-hours of those runs.
    pub work_lost_hours: f64,
    /// Actions refused.
    pub rejected_actions: u64,
    /// Launches that failed for lack of capacity.
    pub failed_launches: u64,
    /// Machines launched.
    pub launches: u64,
    /// Machines that were taken away; left out of the JSON if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub reclaimed: u64,
    /// When the last task was done; null if the episode was cut off before.
    pub makespan_s: Option<f64>,
    /// Steps taken.
    pub steps: u64,
    /// Whether the episode was cut off.
    pub truncated: bool,
    /// Minus the dollars of each step.
    pub rewards: Vec<f64>,
    /// At the start and after each step.
    pub observations: Vec<Glance>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Runs a scenario to its end.
pub fn simulate(scenario: &Scenario) -> SimResult {
    let mut sim = Sim::new(Arc::new(scenario.config.clone()));
    sim.reset(Arc::new(scenario.workload.clone()), scenario.config.boot.seed());
    let mut rewards = Vec::new();
    let mut observations = vec![glance(&sim)];
    while sim.phase() == Phase::Going {
        let action = scenario.actions.get(rewards.len()).copied().unwrap_or(Action::Nothing);
        rewards.push(sim.step(action));
        observations.push(glance(&sim));
    }
    result(&sim, rewards, observations)
}

/// Runs an episode under a policy: its result, and the actions chosen, with which a scenario can replay it.
///
/// # Errors
/// Those of the policy.
pub fn play<E>(
    spec: &Arc<EnvSpec>,
    seed: u64,
    policy: &mut dyn FnMut(&Observation, &Mask) -> Result<Action, E>,
) -> Result<(SimResult, Vec<Action>), E> {
    let mut env = TwinEnv::new(spec.clone());
    env.reset(seed);
    let (mut rewards, mut actions) = (Vec::new(), Vec::new());
    let mut observations = vec![glance(env.sim())];
    while !env.is_over() {
        let action = policy(env.observation(), &env.mask())?;
        rewards.push(env.step(action).reward);
        actions.push(action);
        observations.push(glance(env.sim()));
    }
    Ok((result(env.sim(), rewards, observations), actions))
}

fn result(sim: &Sim, rewards: Vec<f64>, observations: Vec<Glance>) -> SimResult {
    let tally = *sim.tally();
    let vm_ms = by_type(sim, |kind| sim.vm_ms(kind));
    let truncated = sim.phase() == Phase::Truncated;
    SimResult {
        cost: cost(sim),
        queue_ms: sim.queue_ms(),
        vm_hours: vm_ms.iter().map(|(name, ms)| (name.clone(), hours(*ms))).collect(),
        vm_ms,
        core_hours: core_hours(sim),
        busy_core_hours: hours(sim.busy_core_ms()),
        queue_hours: hours(sim.queue_ms()),
        submitted: sim.submitted(),
        completed: tally.completed,
        interrupted: tally.interrupted,
        work_lost_hours: hours(tally.lost_core_ms),
        rejected_actions: tally.rejected_actions,
        failed_launches: tally.failed_launches,
        launches: tally.launches,
        reclaimed: tally.reclaimed,
        makespan_s: (!truncated).then(|| s_from_ms(sim.now_ms())),
        steps: tally.steps,
        truncated,
        rewards,
        observations,
    }
}

fn by_type<T>(sim: &Sim, get: impl Fn(usize) -> T) -> BTreeMap<String, T> {
    sim.config().types.iter().enumerate().map(|(kind, t)| (t.name.clone(), get(kind))).collect()
}

/// Dollars so far.
pub fn cost(sim: &Sim) -> Cost {
    let types = &sim.config().types;
    let usd_of = |kind: usize| usd(sim.vm_ms(kind), types[kind].usd_per_hour);
    let vm = (0..types.len()).map(usd_of).sum();
    let queue = usd(sim.queue_ms(), sim.config().queue_usd_per_task_hour);
    Cost { by_type: by_type(sim, usd_of), vm, queue, total: vm + queue }
}

/// Billed core-hours so far.
pub fn core_hours(sim: &Sim) -> f64 {
    let types = sim.config().types.iter().enumerate();
    types.map(|(kind, t)| hours(sim.vm_ms(kind)) * f64::from(t.cores)).sum()
}

/// What is seen now.
pub fn glance(sim: &Sim) -> Glance {
    let cores = |count: fn(&contract::capacity::Counts) -> u32| -> u64 {
        let types = sim.counts().iter().zip(&sim.config().types);
        types.map(|(n, t)| u64::from(count(n)) * u64::from(t.cores)).sum()
    };
    Glance {
        t_s: s_from_ms(sim.now_ms()),
        queue: sim.queue_depth(),
        running: sim.running_tasks(),
        submitted: sim.submitted(),
        completed: sim.tally().completed,
        ready: by_type(sim, |kind| sim.counts()[kind].ready),
        booting: by_type(sim, |kind| sim.counts()[kind].booting),
        busy_cores: sim.busy_cores(),
        ready_cores: cores(|n| n.ready),
        billed_cores: cores(|n| n.total()),
        avg_util: sim.fleet.load().mean(),
        p90_util: sim.fleet.load().p90(),
        wait_ratio_global: sim.queue.waiting_share(0),
        wait_ratio_recent: sim.queue.waiting_share(sim.submitted_before),
    }
}
