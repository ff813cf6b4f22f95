//! Records that are valid as they are; a test changes what it is about with `..` syntax.

use std::collections::BTreeMap;

use contract::action::{ACTION_COUNT, Action};
use contract::capacity::{Bounds, Counts};
use contract::control::Mode;
use contract::decision::{DECISION_VERSION, Decider, Decision, Intent, IntentState, Verdict};
use contract::observation::{Observation, Work};
use contract::pool::{Aggregation, MetricSource, OUTSIDE_METRICS, POOL_VERSION, PoolConfig, SizeConfig};
use contract::record::{InstanceRecord, TaskRecord};
use contract::schema::schema_hash;

/// A tick that the builders' times are near: a full minute, seconds since the epoch.
pub const TICK: u64 = 1_700_000_040;

/// The name of the executor's stack.
pub const STACK: &str = "twinscaler-test";

/// The CloudWatch source that [`pool_config`] gives an outside metric.
pub fn cloudwatch(metric: &str) -> MetricSource {
    MetricSource::CloudWatch {
        namespace: "Twinscaler".into(),
        metric: metric.into(),
        statistic: "Average".into(),
        aggregation: Aggregation::Last,
    }
}

fn size(name: &str, cores: u32) -> SizeConfig {
    SizeConfig {
        name: name.into(),
        launch_template: format!("twinscaler-{}", name.to_lowercase()),
        cores,
        memory_mb: 4096 * u64::from(cores),
        usd_per_hour: 0.1 * f64::from(cores),
        bounds: Bounds::new(0, Some(10)).expect("0 is below 10"),
        alternates: Vec::new(),
    }
}

/// An active pool of sizes S, M and L with 2, 4 and 8 cores, 0 to 10 machines of each, no cooldown, and all outside
/// metrics from CloudWatch.
pub fn pool_config(pool: &str) -> PoolConfig {
    PoolConfig {
        version: POOL_VERSION,
        pool: pool.into(),
        mode: Mode::Active,
        sizes: [size("S", 2), size("M", 4), size("L", 8)],
        tick_s: 60,
        cooldown_s: 0,
        drain_s: None,
        machines_per_action_max: 1,
        queue_usd_per_task_hour: 0.036,
        launches_per_hour_max: None,
        stops_per_hour_max: None,
        orphans_end_after_s: None,
        usd_per_hour_max: None,
        usd_per_day_max: None,
        usd_per_month_max: None,
        subnets: Vec::new(),
        boot_s: 71.0,
        metrics: OUTSIDE_METRICS.iter().map(|name| ((*name).to_owned(), cloudwatch(name))).collect(),
        rule_tasks_per_core: 1.5,
    }
}

/// An observation in which nothing is missing: one ready machine of each size, half busy, nothing waits.
pub fn observation() -> Observation {
    Observation {
        fleet: [Counts { ready: 1, booting: 0 }; 3],
        cpu_util_avg: Some(0.5),
        cpu_util_p90: Some(0.75),
        mem_util_avg: Some(0.25),
        mem_util_p90: Some(0.5),
        wait_ratio_window: Some(0.0),
        wait_ratio_recent: Some(0.0),
        queue_depth: Some(0),
        running: Some(7),
        work: Some(Work { running_cores: 7, running_age_s: 90.0, idle: [1, 0, 0], ..Work::default() }),
        oldest_wait_s: Some(0.0),
        arrivals: Some(2),
        since_arrival_s: Some(12.5),
        since_action_s: 600.0,
        ..Observation::empty([2, 4, 8])
    }
}

/// An unclaimed decision of the rule; it asks for `action`, unless that is nothing.
pub fn decision(pool: &str, tick: u64, action: Action) -> Decision {
    Decision {
        version: DECISION_VERSION,
        pool: pool.into(),
        tick,
        observation: observation(),
        missing: Vec::new(),
        doubts: BTreeMap::new(),
        mask: [true; ACTION_COUNT],
        refusals: vec![String::new(); ACTION_COUNT],
        spending: None,
        decider: Decider::Rule { name: "test".into(), because: "the test says so".into() },
        probabilities: None,
        value: None,
        action,
        verdict: if action == Action::Nothing { Verdict::Hold } else { Verdict::Act },
        reason: "the test says so".into(),
        lstm: None,
        shadow: None,
        schema_hash: schema_hash().into(),
        expires_at: tick + 86_400,
        intent: None,
    }
}

/// A pending intent without a plan.
pub fn pending(generation: u64, claimed_ms: u64) -> Intent {
    Intent { state: IntentState::Pending, generation, claimed_ms, plan: None, outcome: None }
}

/// A waiting task of one core.
pub fn task(pool: &str, task_id: &str, submitted_ms: u64) -> TaskRecord {
    TaskRecord {
        pool: pool.into(),
        task_id: task_id.into(),
        submitted_ms,
        started_ms: None,
        finished_ms: None,
        cores: 1,
        memory_mb: 1024,
        instance_id: None,
        attempts: 0,
    }
}

/// The record of a booting machine of the pool's start, priced as in [`pool_config`].
pub fn instance(pool: &str, instance_id: &str, size: usize, launched_ms: u64) -> InstanceRecord {
    InstanceRecord {
        pool: pool.into(),
        instance_id: instance_id.into(),
        size,
        usd_per_hour: [0.2, 0.4, 0.8][size],
        launched_ms,
        ready_ms: None,
        terminated_ms: None,
        ended: None,
        decision: None,
        drain: None,
    }
}

/// The tags of a machine of the stack [`STACK`], for [`crate::World::add_machine`].
pub fn tags(pool: &str, tick: u64, size: usize) -> BTreeMap<String, String> {
    controller::plan::tags(STACK, pool, tick, size)
}
