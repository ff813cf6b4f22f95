//! The outcome of an episode in dollars, waits and counts: what back-tests and reports compare.

use serde::Serialize;

use crate::outcome::{core_hours, cost};
use crate::sim::{Phase, Sim};
use crate::units::{hours, nearest_rank, s_from_ms};

/// Dollars of a core-hour in the published evaluation.
const PUBLISHED_USD_PER_CORE_HOUR: f64 = 0.043;

/// What machines cost by the formula of the published evaluation: core-minutes / 60 × $0.043. It leaves waiting out.
pub fn published_usd(core_minutes: f64) -> f64 {
    core_minutes / 60.0 * PUBLISHED_USD_PER_CORE_HOUR
}

/// One episode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Dollars for machines.
    pub vm_usd: f64,
    /// Dollars for waiting.
    pub queue_usd: f64,
    /// Dollars for both.
    pub total_usd: f64,
    /// Dollars for machines, by type in the order of the settings.
    pub usd_by_type: Vec<f64>,
    /// Median wait (completion less submission less run time) of the tasks that were done, nearest rank.
    pub wait_s_p50: f64,
    /// 95th percentile of the waits.
    pub wait_s_p95: f64,
    /// 99th percentile of the waits.
    pub wait_s_p99: f64,
    /// Mean of the waits; 0 if nothing was done.
    pub wait_s_mean: f64,
    /// Waiting, task-hours.
    pub queue_hours: f64,
    /// Billed core-hours.
    pub core_hours: f64,
    /// Core-hours that ran a task, lost work included.
    pub busy_core_hours: f64,
    /// Useful share of the billed core-hours: busy less lost; 0 if nothing was billed. With free boots or work in a
    /// cut-off episode it is still at most 1.
    pub packing: f64,
    /// Core-hours of interrupted runs.
    pub lost_core_hours: f64,
    /// Tasks submitted.
    pub submitted: u32,
    /// Tasks done.
    pub completed: u32,
    /// Runs cut short by a stop.
    pub interrupted: u64,
    /// Machines taken away by spot interruptions.
    pub reclaimed: u64,
    /// Actions carried out.
    pub accepted_actions: u64,
    /// Actions refused.
    pub rejected_actions: u64,
    /// Machines launched.
    pub launches: u64,
    /// Machines stopped.
    pub stops: u64,
    /// Launches that failed for lack of capacity.
    pub failed_launches: u64,
    /// Steps taken.
    pub steps: u64,
    /// Simulated time, hours.
    pub hours: f64,
    /// When the last task was done; none if the episode was cut off or goes on.
    pub makespan_s: Option<f64>,
    /// Whether the episode was cut off.
    pub truncated: bool,
}

impl Outcome {
    /// The outcome of an episode, as far as it went.
    pub fn of(sim: &Sim) -> Self {
        let cost = cost(sim);
        let tally = *sim.tally();
        let mut waits_ms = sim.waits_ms().to_vec();
        waits_ms.sort_unstable();
        let wait_s = |percent| s_from_ms(nearest_rank(&waits_ms, percent));
        let core_hours = core_hours(sim);
        let busy_core_hours = hours(sim.busy_core_ms());
        let lost_core_hours = hours(tally.lost_core_ms);
        Self {
            vm_usd: cost.vm,
            queue_usd: cost.queue,
            total_usd: cost.total,
            usd_by_type: sim.config().types.iter().map(|t| cost.by_type[&t.name]).collect(),
            wait_s_p50: wait_s(50),
            wait_s_p95: wait_s(95),
            wait_s_p99: wait_s(99),
            wait_s_mean: s_from_ms(waits_ms.iter().sum()) / waits_ms.len().max(1) as f64,
            queue_hours: hours(sim.queue_ms()),
            packing: if core_hours > 0.0 { (busy_core_hours - lost_core_hours) / core_hours } else { 0.0 },
            core_hours,
            busy_core_hours,
            lost_core_hours,
            submitted: sim.submitted(),
            completed: tally.completed,
            interrupted: tally.interrupted,
            reclaimed: tally.reclaimed,
            accepted_actions: tally.accepted_actions,
            rejected_actions: tally.rejected_actions,
            launches: tally.launches,
            stops: tally.stops,
            failed_launches: tally.failed_launches,
            steps: tally.steps,
            hours: hours(sim.now_ms()),
            makespan_s: (sim.phase() == Phase::Finished).then(|| s_from_ms(sim.now_ms())),
            truncated: sim.phase() == Phase::Truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published means: 11 422 tasks of 41.87 s at a packing of 71 % are 11 220 core-minutes, and 9 500 with updates.
    #[test]
    fn the_published_formula_gives_the_published_costs() {
        let cents = |core_minutes: f64| (published_usd(core_minutes) * 100.0).round() / 100.0;
        assert_eq!(cents(11_220.0), 8.04);
        assert_eq!(cents(9_500.0), 6.81);
    }
}
