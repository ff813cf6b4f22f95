//! Twin against reality: replays what was really done in the twin and compares the bills.

use std::collections::BTreeMap;

use contract::Action;
use contract::decision::{Decision, Outcome};
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, TaskRecord};
use serde::Serialize;
use std::sync::Arc;
use twin::{EnvSpec, Environment, TwinEnv};

/// A stretch of time, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from_ms: u64,
    /// Its end, excluded.
    pub until_ms: u64,
}

/// The same window's bill, real and simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TwinError {
    /// What machines and waiting really cost.
    pub real_usd: f64,
    /// What they cost in the twin under the same actions.
    pub twin_usd: f64,
    /// Real actions that the twin refused: its fleet then went another way.
    pub refused_actions: u64,
}

impl TwinError {
    /// Difference as a share of the real bill; none if nothing was billed.
    pub fn relative(&self) -> Option<f64> {
        (self.real_usd > 0.0).then(|| (self.twin_usd - self.real_usd).abs() / self.real_usd)
    }
}

/// Machines and waiting in a window, in dollars, from the records. A machine is billed from when it took tasks, as the
/// pool's twin bills it. An interrupted task counts as waiting from its submission to its last start: records do not
/// keep earlier runs.
pub fn real_usd(config: &PoolConfig, tasks: &[TaskRecord], instances: &[InstanceRecord], window: Window) -> (f64, f64) {
    let clip_ms = |from: u64, to: u64| to.min(window.until_ms).saturating_sub(from.max(window.from_ms));
    let hours = |ms: u64| ms as f64 / 3_600_000.0;
    let vm_usd = instances
        .iter()
        .filter_map(|i| Some((i, i.ready_ms?)))
        .map(|(i, ready)| i.usd_per_hour * hours(clip_ms(ready, i.terminated_ms.unwrap_or(u64::MAX))))
        .sum();
    let waited_ms: u64 = tasks.iter().map(|t| clip_ms(t.submitted_ms, t.started_ms.unwrap_or(u64::MAX))).sum();
    (vm_usd, config.queue_usd_per_task_hour * hours(waited_ms))
}

/// What was really done, by step of the window.
fn actions(decisions: &[Decision], config: &PoolConfig, window: Window) -> BTreeMap<u64, Action> {
    let carried_out = |d: &&Decision| {
        let outcome = d.intent.as_ref().and_then(|i| i.outcome.as_ref());
        let in_window = (window.from_ms..window.until_ms).contains(&(d.tick * 1000));
        in_window && matches!(outcome, Some(Outcome::Launched { .. } | Outcome::Terminated { .. }))
    };
    let step = |d: &Decision| (d.tick * 1000 - window.from_ms) / (config.tick_s * 1000);
    decisions.iter().filter(carried_out).map(|d| (step(d), d.action)).collect()
}

/// What the tables hold: tasks, machines, decisions.
pub type Recorded<'a> = (&'a [TaskRecord], &'a [InstanceRecord], &'a [Decision]);

/// Replays the window in the twin with what was really done, and bills both until the twin's last task is done or the
/// window ends. `spec` has the window's jobs and fleet and no perturbation.
pub fn twin_error(spec: &Arc<EnvSpec>, config: &PoolConfig, recorded: Recorded<'_>, window: Window) -> TwinError {
    let (tasks, instances, decisions) = recorded;
    let actions = actions(decisions, config, window);
    let step_ms = config.tick_s * 1000;
    let steps = (window.until_ms - window.from_ms) / step_ms;
    let mut env = TwinEnv::new(spec.clone());
    env.reset(0);
    let (mut twin_usd, mut k) = (0.0, 0);
    while k < steps && !env.is_over() {
        twin_usd -= env.step(actions.get(&k).copied().unwrap_or(Action::Nothing)).reward;
        k += 1;
    }
    let end_ms = if env.is_over() { window.from_ms + env.sim().now_ms() } else { window.from_ms + k * step_ms };
    let billed = Window { until_ms: end_ms, ..window };
    let (vm_usd, queue_usd) = real_usd(config, tasks, instances, billed);
    TwinError { real_usd: vm_usd + queue_usd, twin_usd, refused_actions: env.outcome().rejected_actions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::builders::{decision, instance, pool_config, task};
    use twin::{History, Workload};

    const FROM_MS: u64 = 1_700_000_040_000;

    /// One small machine for ten minutes with two tasks of two minutes each, the second waiting for a core.
    fn recorded() -> (Vec<TaskRecord>, Vec<InstanceRecord>, Vec<Decision>) {
        let ran = |id: &str, from_s: u64| TaskRecord {
            started_ms: Some(FROM_MS + from_s * 1000),
            finished_ms: Some(FROM_MS + (from_s + 120) * 1000),
            cores: 2,
            memory_mb: 0,
            ..task("p", id, FROM_MS)
        };
        let machine = InstanceRecord { ready_ms: Some(FROM_MS - 50_000), ..instance("p", "i-1", 0, FROM_MS - 90_000) };
        // the launch of the machine lies before the window and must not be replayed
        let mut launched = decision("p", FROM_MS / 1000 - 60, Action::Launch(0));
        launched.intent = Some(contract::decision::Intent {
            state: contract::decision::IntentState::Settled,
            generation: 1,
            claimed_ms: 0,
            plan: None,
            outcome: Some(Outcome::Launched { instance_ids: vec!["i-1".into()] }),
        });
        (vec![ran("a", 0), ran("b", 120)], vec![machine], vec![launched])
    }

    #[test]
    fn the_twin_of_a_window_bills_what_the_records_bill() {
        let config = pool_config("p");
        let (tasks, instances, decisions) = recorded();
        let window = Window { from_ms: FROM_MS, until_ms: FROM_MS + 600_000 };
        let history = History::from_records(&tasks, &instances, window.from_ms, window.until_ms);
        assert_eq!(history.initial, [1, 0, 0]);
        let workload = Arc::new(Workload::new(history.jobs));
        let spec = Arc::new(EnvSpec::from_pool(&config, vec![workload], history.boots_s, history.initial).unwrap());
        let error = twin_error(&spec, &config, (&tasks, &instances, &decisions), window);
        // 240 s of a machine at $0.2 an hour, and 120 s of waiting at $0.036 an hour
        let expected = 0.2 * 240.0 / 3600.0 + 0.036 * 120.0 / 3600.0;
        assert!((error.real_usd - expected).abs() < 1e-9, "{error:?}");
        assert!((error.twin_usd - expected).abs() < 1e-9, "{error:?}");
        assert_eq!((error.refused_actions, error.relative().map(|r| r < 1e-9)), (0, Some(true)));
    }
}
