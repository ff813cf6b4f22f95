//! What an environment simulates: settings, jobs to draw from, and how much they are perturbed.

use std::sync::Arc;

use contract::SIZE_COUNT;
use contract::pool::PoolConfig;

use crate::boot::{BootModel, LaunchFailures};
use crate::config::{MachineType, ScenarioError, SimConfig};
use crate::job::Workload;
use crate::perturbation::{Perturbation, Variation};
use crate::profile::EC2_MIN_BILLED_MS;

/// Observed boot times below which a pool's assumed one is better than their distribution.
pub const BOOTS_MIN: usize = 5;
/// Steps that an episode of a pool may always take.
const POOL_STEPS_MIN: u64 = 2000;

/// What [`crate::env::TwinEnv`] simulates; shared by any number of environments.
#[derive(Clone, Debug)]
pub struct EnvSpec {
    config: Arc<SimConfig>,
    workloads: Vec<Arc<Workload>>,
    perturbation: Option<Perturbation>,
}

impl EnvSpec {
    /// A specification for three machine types and at least one workload, none of them empty.
    ///
    /// # Errors
    /// Lists every problem found.
    pub fn new(config: SimConfig, workloads: Vec<Arc<Workload>>) -> Result<Self, ScenarioError> {
        let mut problems = config.problems();
        if config.types.len() != SIZE_COUNT {
            problems.push(format!("config.vm_types: the policy knows {SIZE_COUNT}, not {}", config.types.len()));
        }
        if config.max_steps == 0 {
            problems.push("config.max_steps: must be above 0".into());
        }
        if workloads.is_empty() {
            problems.push("workloads: give at least one".into());
        }
        for (i, workload) in workloads.iter().enumerate() {
            if workload.jobs().is_empty() {
                problems.push(format!("workloads[{i}]: has no jobs"));
            }
            let of_jobs = config.job_problems(workload.jobs());
            problems.extend(of_jobs.into_iter().take(1).map(|p| format!("workloads[{i}].{p}")));
        }
        ScenarioError::unless_empty(problems)?;
        Ok(Self { config: Arc::new(config), workloads, perturbation: None })
    }

    /// The published system with its training load in both orders: seeds take turns.
    pub fn published() -> Self {
        let workloads = crate::workload::published_orders().map(|jobs| Arc::new(Workload::new(jobs)));
        Self::new(SimConfig::default(), workloads.into()).expect("the published system is valid")
    }

    /// A pool as production runs it: its bounds, cooldown, prices, hourly budgets and cap on dollars an hour; per-second billing with EC2's
    /// minimum and free boots; lost runs are paid for. Boot times are drawn from `boots_s`, observed ones in seconds,
    /// if there are enough of them, and are the configured one otherwise.
    ///
    /// # Errors
    /// Lists every problem found, for example a task that fits on no machine of the pool.
    pub fn from_pool(
        pool: &PoolConfig,
        workloads: Vec<Arc<Workload>>,
        boots_s: Vec<f64>,
        initial: [u32; SIZE_COUNT],
    ) -> Result<Self, ScenarioError> {
        let step_ms = pool.tick_s * 1000;
        let last_ms = workloads.iter().map(|w| w.last_submit_ms()).max().unwrap_or(0);
        let config = SimConfig {
            step_ms,
            max_steps: (2 * last_ms / step_ms.max(1)).max(POOL_STEPS_MIN),
            types: pool_types(pool, initial),
            boot: boot_model(pool, boots_s),
            queue_usd_per_task_hour: pool.queue_usd_per_task_hour,
            charge_lost_run: true,
            bill_boot: false,
            min_billed_ms: EC2_MIN_BILLED_MS,
            cooldown_ms: pool.cooldown_s * 1000,
            launch_failures: LaunchFailures::Never,
            machines_per_action_max: pool.machines_per_action_max,
            launches_per_hour_max: pool.launches_per_hour_max,
            stops_per_hour_max: pool.stops_per_hour_max,
            usd_per_hour_max: pool.usd_per_hour_max,
            remember_no_capacity: true,
            drain: pool.drain_s.is_some(),
            drain_max_ms: pool.drain_s.map(|s| s * 1000),
            stop_delay: None,
            metric_delay: None,
            metric_gap_probability: 0.0,
        };
        Self::new(config, workloads)
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// Lists every problem of the changed settings.
    pub fn configured(&self, change: impl FnOnce(&mut SimConfig)) -> Result<Self, ScenarioError> {
        let mut config = SimConfig::clone(&self.config);
        change(&mut config);
        Ok(Self { perturbation: self.perturbation, ..Self::new(config, self.workloads.clone())? })
    }

    /// The same with a fleet that is there from the start, and no more than that kept.
    ///
    /// # Errors
    /// If there are too many machines.
    pub fn with_initial(&self, initial: [u32; SIZE_COUNT]) -> Result<Self, ScenarioError> {
        self.configured(|config| config.types.iter_mut().zip(initial).for_each(|(t, n)| t.initial = n))
    }

    /// The same with perturbed episodes.
    pub fn perturbed(self, perturbation: Perturbation) -> Self {
        Self { perturbation: Some(perturbation), ..self }
    }

    /// The same with enough steps for every task to be done, if machines are launched at all: twice the time of the
    /// longest load.
    pub fn with_time_enough(&self) -> Self {
        let last_ms = |w: &Arc<Workload>| w.jobs().iter().map(|j| j.submit_ms + j.runtime_ms).max().unwrap_or(0);
        let end_ms = self.workloads.iter().map(last_ms).max().unwrap_or(0);
        let steps = 2 * end_ms.div_ceil(self.config.step_ms);
        self.configured(|c| c.max_steps = c.max_steps.max(steps)).expect("more steps are as valid")
    }

    /// The jobs of the episode of `seed`.
    pub fn jobs(&self, seed: u64) -> Arc<Workload> {
        self.jobs_of(seed, None)
    }

    /// Whether two seeds with the same workload give the same episode: nothing is drawn.
    pub fn is_certain(&self) -> bool {
        self.perturbation.is_none() && self.config.draws_nothing()
    }

    /// Whether two seeds with the same workload have the same jobs; boots and outages may differ.
    pub fn has_certain_jobs(&self) -> bool {
        self.perturbation.is_none()
    }

    /// The settings.
    pub fn config(&self) -> &Arc<SimConfig> {
        &self.config
    }

    /// The workloads that seeds take turns with.
    pub fn workloads(&self) -> &[Arc<Workload>] {
        &self.workloads
    }

    /// Cores of one machine of each type.
    pub fn cores(&self) -> [u32; SIZE_COUNT] {
        std::array::from_fn(|i| self.config.types[i].cores)
    }

    /// Dollars of a core-hour on the type where it is cheapest.
    pub fn cheapest_core_usd_per_hour(&self) -> f64 {
        let per_core = self.config.types.iter().map(|t| t.usd_per_hour / f64::from(t.cores));
        per_core.fold(f64::INFINITY, f64::min)
    }

    /// The jobs of the episode of `seed`: workload `seed mod n`, perturbed if asked for. Uses the memory of `spare`.
    pub(crate) fn jobs_of(&self, seed: u64, spare: Option<Arc<Workload>>) -> Arc<Workload> {
        let base = &self.workloads[(seed % self.workloads.len() as u64) as usize];
        let Some(perturbation) = self.perturbation else { return base.clone() };
        let mut jobs = spare.unwrap_or_default();
        perturbation.rewrite(Arc::make_mut(&mut jobs), base, seed);
        jobs
    }

    /// What else differs in the episode of `seed`.
    pub(crate) fn variation_of(&self, seed: u64) -> Variation {
        self.perturbation.map_or(Variation::NONE, |perturbation| perturbation.variation(seed))
    }
}

fn pool_types(pool: &PoolConfig, initial: [u32; SIZE_COUNT]) -> Vec<MachineType> {
    let types = pool.sizes.iter().zip(initial).map(|(size, initial)| MachineType {
        name: size.name.clone(),
        cores: size.cores,
        memory_mb: Some(size.memory_mb),
        usd_per_hour: size.usd_per_hour,
        initial,
        bounds: size.bounds,
        spot_interruptions_per_hour: 0.0,
    });
    types.collect()
}

fn boot_model(pool: &PoolConfig, boots_s: Vec<f64>) -> BootModel {
    if boots_s.len() < BOOTS_MIN {
        return BootModel::Fixed { seconds: pool.boot_s };
    }
    BootModel::Sample { seconds: boots_s, seed: 0 }
}
