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
        matches!(outcome, Some(Outcome::Launched { .. } | Outcome::Terminated { .. }))
    };
    let step = |d: &Decision| (d.tick * 1000).saturating_sub(window.from_ms) / (config.tick_s * 1000);
    decisions.iter().filter(carried_out).map(|d| (step(d), d.action)).collect()
}

/// Replays the window in the twin with what was really done. `spec` has the window's jobs and fleet and no perturbation.
pub fn twin_error(
    spec: &Arc<EnvSpec>,
    config: &PoolConfig,
    decisions: &[Decision],
    (real_vm_usd, real_queue_usd): (f64, f64),
    window: Window,
) -> TwinError {
    let actions = actions(decisions, config, window);
    let mut env = TwinEnv::new(spec.clone());
    env.reset(0);
    let steps = (window.until_ms - window.from_ms) / (config.tick_s * 1000);
    let mut twin_usd = 0.0;
    for k in 0..steps {
        if env.is_over() {
            break;
        }
        twin_usd -= env.step(actions.get(&k).copied().unwrap_or(Action::Nothing)).reward;
    }
    TwinError { real_usd: real_vm_usd + real_queue_usd, twin_usd }
}
