//! The load as a fluid: tasks come in, busy cores drain them, and what the cores cannot hold waits.
//!
//! Reality says how many tasks came and were done; the model only says how much faster or slower another number of cores
//! would have been. So a shadow with the real fleet's cores is exactly as far as reality is, whatever the load.

use contract::observation::Observation;
use contract::shadow::Shadow;

/// Tasks that wait or run, if that is known.
pub(super) fn open_tasks(o: &Observation) -> Option<f64> {
    Some(f64::from(o.queue_depth?) + f64::from(o.running?))
}

/// How a number of tasks stands to a number of cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fluid {
    /// Tasks for which there are no cores.
    pub waiting: f64,
    /// Share of the cores that is busy; 0 of none.
    pub utilisation: f64,
}

/// `tasks` that want `cores_per_task` cores each, on so many cores.
pub(super) fn fluid(tasks: f64, cores_per_task: f64, cores: f64) -> Fluid {
    let wanted = tasks * cores_per_task;
    let busy = wanted.min(cores);
    let utilisation = if cores > 0.0 { busy / cores } else { 0.0 };
    Fluid { waiting: (wanted - busy) / cores_per_task, utilisation }
}

/// What happened between two ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    /// Tasks open at its start, in reality.
    pub before: f64,
    /// Tasks open at its end, in reality.
    pub after: f64,
    /// Tasks submitted in it.
    pub arrivals: f64,
    /// Cores in service, in reality.
    pub real_cores: f64,
    /// Cores in service, of the shadow.
    pub shadow_cores: f64,
    /// Its length, seconds.
    pub dt_s: f64,
}

/// Moves on by an interval how many tasks the shadow is behind reality.
///
/// Reality did `before + arrivals - after` tasks with the cores that were busy. The shadow does the same share of them as
/// it has busy cores, and with more busy cores than reality (it has a backlog, or tasks waited there) more of them, at the
/// pace seen so far. It is never ahead by more tasks than there are.
pub(super) fn tasks_behind(shadow: &mut Shadow, i: &Interval) {
    let offered = i.before + i.arrivals;
    let done = (offered - i.after).max(0.0);
    let busy = |tasks: f64, cores: f64| (tasks.max(0.0) * shadow.cores_per_task).min(cores);
    let real_busy = busy(offered, i.real_cores);
    let shadow_busy = busy(offered + shadow.tasks_behind, i.shadow_cores);
    let share = if real_busy > 0.0 { (shadow_busy / real_busy).min(1.0) } else { 1.0 };
    let extra = (shadow_busy - real_busy).max(0.0) * i.dt_s * shadow.pace.tasks_per_core_s();
    shadow.tasks_behind = (shadow.tasks_behind + done * (1.0 - share) - extra).max(-i.after);
    shadow.pace.tasks += done;
    shadow.pace.core_s += real_busy * i.dt_s;
}
