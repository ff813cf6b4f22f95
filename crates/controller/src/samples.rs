//! Small values that the tests of this crate share.

use std::collections::{BTreeMap, BTreeSet};

use contract::decision::{DECISION_VERSION, Decider, Decision, Intent, IntentState, Verdict};
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, Suspect, Suspects, Suspicion, TaskRecord};
use contract::{Action, Observation};

use crate::ports::CloudInstance;
use crate::reconcile::Scene;

/// An unclaimed decision to stop a small machine.
pub fn decided(tick: u64) -> Decision {
    Decision {
        version: DECISION_VERSION,
        pool: "p".into(),
        tick,
        observation: Observation::empty([2, 4, 8]),
        missing: Vec::new(),
        doubts: BTreeMap::new(),
        mask: [true; contract::ACTION_COUNT],
        refusals: Vec::new(),
        spending: None,
        decider: Decider::Policy { sha256: "0".into() },
        probabilities: None,
        value: None,
        action: Action::Stop(0, 1),
        verdict: Verdict::Act,
        reason: String::new(),
        lstm: None,
        shadow: None,
        schema_hash: String::new(),
        expires_at: 0,
        intent: None,
    }
}

/// A claim of `action` that has no plan yet.
pub fn claimed(tick: u64, action: Action, generation: u64) -> Decision {
    let state = IntentState::Pending;
    let intent = Intent { state, generation, claimed_ms: tick * 1000, plan: None, outcome: None };
    Decision { action, intent: Some(intent), ..decided(tick) }
}

/// A pool of S, M and L machines, 1 to 3 of each.
pub fn config() -> PoolConfig {
    let size = |name: &str, cores: u32| {
        serde_json::json!({"name": name, "launch_template": format!("lt-{name}"), "cores": cores,
            "memory_mb": 4096, "usd_per_hour": 0.1 * f64::from(cores), "bounds": {"min": 1, "max": 3}})
    };
    let metric = serde_json::json!({"source": "cloudwatch", "namespace": "n", "metric": "m", "statistic": "Average"});
    let json = serde_json::json!({"version": 1, "pool": "p", "sizes": [size("S", 2), size("M", 4), size("L", 8)],
        "metrics": {"cpu_util_avg": metric, "cpu_util_p90": metric, "mem_util_avg": metric, "mem_util_p90": metric}});
    PoolConfig::from_json(&json.to_string()).unwrap()
}

/// A ready machine's record.
pub fn record(id: &str, size: usize, launched_ms: u64) -> InstanceRecord {
    InstanceRecord {
        pool: "p".into(),
        instance_id: id.into(),
        size,
        usd_per_hour: 0.2,
        launched_ms,
        ready_ms: Some(launched_ms + 1),
        terminated_ms: None,
        ended: None,
        decision: None,
        drain: None,
    }
}

/// The same machine as EC2 reports it.
pub fn machine(record: &InstanceRecord) -> CloudInstance {
    CloudInstance {
        instance_id: record.instance_id.clone(),
        alive: true,
        size: Some(record.size),
        decision: record.decision,
        launched_ms: record.launched_ms,
    }
}

/// A task that runs on a machine since `started_ms`.
pub fn running(id: &str, on: &str, started_ms: u64) -> TaskRecord {
    TaskRecord {
        pool: "p".into(),
        task_id: id.into(),
        submitted_ms: 0,
        started_ms: Some(started_ms),
        finished_ms: None,
        cores: 1,
        memory_mb: 0,
        instance_id: Some(on.into()),
        attempts: 1,
    }
}

/// No decision that cannot be read.
pub static READABLE: BTreeSet<u64> = BTreeSet::new();

/// Nothing that is suspected.
static NO_SUSPECTS: Suspects = Suspects { version: 0, machines: BTreeMap::new() };

/// What a reconciliation looks at: a pool that may act, of whose tasks, decisions and suspects nothing is known.
pub fn scene<'a>(
    config: &'a PoolConfig,
    records: &'a [InstanceRecord],
    cloud: &'a [CloudInstance],
    now_ms: u64,
) -> Scene<'a> {
    Scene {
        stack: "s",
        config,
        may_launch: true,
        may_stop: true,
        records,
        cloud,
        tasks: None,
        ended: None,
        terminated: &[],
        decisions: &[],
        unreadable: &READABLE,
        suspects: &NO_SUSPECTS,
        now_ms,
    }
}

/// What a reconciliation a millisecond ago suspected, if it saw the same: every machine of which one side knows nothing, and
/// as stuck all others.
pub fn seen_before(records: &[InstanceRecord], cloud: &[CloudInstance], now_ms: u64) -> Suspects {
    let suspect = |why| Suspect { why, since_ms: now_ms - 1, ended_ms: None };
    let is_there = |r: &InstanceRecord| cloud.iter().any(|m| m.alive && m.instance_id == r.instance_id);
    let is_recorded = |m: &&CloudInstance| records.iter().any(|r| r.instance_id == m.instance_id);
    let why = |r: &InstanceRecord| if is_there(r) { Suspicion::Stuck } else { Suspicion::Lost };
    let of_records = records.iter().map(|r| (r.instance_id.clone(), suspect(why(r))));
    let strays = cloud.iter().filter(|m| !is_recorded(m)).map(|m| (m.instance_id.clone(), suspect(Suspicion::Orphan)));
    Suspects { version: 1, machines: of_records.chain(strays).collect() }
}
