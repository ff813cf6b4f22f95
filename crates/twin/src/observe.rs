//! Builds the contract's observation from the state of the twin, as the evaluator does from tables and metrics.

use contract::limits::WAIT_WINDOW_S;
use contract::observation::Work;
use contract::{Action, Observation, SIZE_COUNT};

use crate::config::SimConfig;
use crate::metrics::{LateMetrics, Metrics};
use crate::sim::Sim;
use crate::units::s_from_ms;

const WINDOW_MS: u64 = WAIT_WINDOW_S * 1000;

/// Observes one environment, tick by tick.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    observation: Observation,
    /// First task that was submitted within the window.
    window_first: u32,
    shares: Vec<f64>,
    /// There if the outside metrics are not always fresh.
    late: Option<LateMetrics>,
}

impl Observer {
    pub fn new(config: &SimConfig, cores: [u32; SIZE_COUNT]) -> Self {
        let (machines_per_action_max, drains) = (config.machines_per_action_max, config.drain);
        let observation = Observation { machines_per_action_max, drains, ..Observation::empty(cores) };
        Self { observation, window_first: 0, shares: Vec::new(), late: LateMetrics::new(config) }
    }

    /// Starts an episode. `seed` is that of delays and gaps.
    pub fn reset(&mut self, seed: u64) {
        self.window_first = 0;
        if let Some(late) = &mut self.late {
            late.reset(seed);
        }
    }

    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Looks at the state now; call it once a tick.
    pub fn observe(&mut self, sim: &Sim) {
        self.observation.fleet.copy_from_slice(sim.counts());
        self.see_metrics(sim);
        self.see_tasks(sim);
        self.see_actions(sim);
    }

    fn see_metrics(&mut self, sim: &Sim) {
        let fresh = self.measure(sim);
        let known = match &mut self.late {
            Some(late) => late.pass(fresh),
            None => Some(fresh),
        };
        let o = &mut self.observation;
        o.cpu_util_avg = known.map(|m| m.cpu_avg);
        o.cpu_util_p90 = known.map(|m| m.cpu_p90);
        o.mem_util_avg = known.map(|m| m.mem_avg);
        o.mem_util_p90 = known.map(|m| m.mem_p90);
    }

    fn measure(&mut self, sim: &Sim) -> Metrics {
        let load = sim.fleet.load();
        sim.fleet.memory_shares(&mut self.shares);
        let n = self.shares.len();
        let mem_avg = self.shares.iter().sum::<f64>() / n.max(1) as f64;
        let mem_p90 = match n {
            0 => 0.0,
            n => *self.shares.select_nth_unstable_by((9 * n).div_ceil(10) - 1, f64::total_cmp).1,
        };
        Metrics { cpu_avg: load.mean(), cpu_p90: load.p90(), mem_avg, mem_p90 }
    }

    fn see_tasks(&mut self, sim: &Sim) {
        let jobs = sim.workload().jobs();
        let now_ms = sim.now_ms();
        let submitted = sim.submitted();
        while self.window_first < submitted && jobs[self.window_first as usize].submit_ms + WINDOW_MS <= now_ms {
            self.window_first += 1;
        }
        let age_s = |rank: u32| s_from_ms(now_ms - jobs[rank as usize].submit_ms);
        let since_arrival_s = submitted.checked_sub(1).map_or(f64::INFINITY, age_s);
        let o = &mut self.observation;
        o.wait_ratio_window = Some(sim.queue.waiting_share(self.window_first));
        o.wait_ratio_recent = Some(sim.queue.waiting_share(sim.submitted_before));
        o.queue_depth = Some(sim.queue_depth());
        o.running = Some(sim.running_tasks());
        o.work = Some(work(sim));
        o.oldest_wait_s = Some(sim.queue.oldest().map_or(0.0, age_s));
        o.arrivals = Some(submitted - sim.submitted_before);
        o.since_arrival_s = Some(since_arrival_s.min(WAIT_WINDOW_S as f64));
    }

    fn see_actions(&mut self, sim: &Sim) {
        let situation = sim.situation();
        let (last, at_ms) = sim.last_action().unwrap_or((Action::Nothing, 0));
        let o = &mut self.observation;
        o.last_action = last;
        o.since_action_s = s_from_ms(sim.now_ms() - at_ms);
        o.cooldown_left_s = s_from_ms(situation.next_allowed_ms.saturating_sub(sim.now_ms()));
        o.no_capacity.copy_from_slice(situation.no_capacity);
    }
}

fn work(sim: &Sim) -> Work {
    let (fleet, now_ms) = (&sim.fleet, sim.now_ms());
    Work {
        queue_cores: sim.queue_cores() as u32,
        running_cores: sim.working_cores() as u32,
        running_age_s: sim.running_age_ms() / 1000.0,
        idle: std::array::from_fn(|kind| fleet.load().idle(kind)),
        stop_loss_core_s: std::array::from_fn(|kind| s_from_ms(fleet.stop_loss_core_ms(kind, now_ms))),
    }
}
