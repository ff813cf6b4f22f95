//! What a simulated fleet consists of and how it is paid.

use contract::STEPS;
use contract::capacity::Bounds;

use crate::boot::{BootModel, LaunchFailures};
use crate::job::Job;
use crate::limits::{CORES_MAX, INITIAL_MAX, MEMORY_MB_MAX, TIME_S_MAX, TYPES_MAX};
use crate::random::TimeRange;
use crate::units::ms_from_s;

/// One machine type.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineType {
    /// Its name in results.
    pub name: String,
    /// Cores of one machine.
    pub cores: u32,
    /// Memory of one machine; none means no limit.
    pub memory_mb: Option<u64>,
    /// Its price.
    pub usd_per_hour: f64,
    /// Machines in service at the start.
    pub initial: u32,
    /// How many there may be.
    pub bounds: Bounds,
    /// How often a machine is taken away, its tasks interrupted: each that becomes ready draws an exponential life of
    /// this rate. 0 is on demand.
    pub spot_interruptions_per_hour: f64,
}

impl MachineType {
    /// Whether an empty machine of this type can run `job`.
    pub fn holds(&self, job: &Job) -> bool {
        job.cores <= self.cores && self.memory_mb.is_none_or(|memory_mb| job.memory_mb <= memory_mb)
    }
}

/// Settings of a simulation. The default is the published system's.
#[derive(Clone, Debug, PartialEq)]
pub struct SimConfig {
    /// Time between two actions, milliseconds.
    pub step_ms: u64,
    /// Steps after which an episode is cut off.
    pub max_steps: u64,
    /// The machine types.
    pub types: Vec<MachineType>,
    /// How long machines boot.
    pub boot: BootModel,
    /// What an hour of waiting of one task costs.
    pub queue_usd_per_task_hour: f64,
    /// Whether the time that an interrupted task had run counts as waiting (rule C2).
    pub charge_lost_run: bool,
    /// Whether a machine is billed from its launch, or from its readiness (rule C1).
    pub bill_boot: bool,
    /// The shortest time that a machine is billed for, milliseconds.
    pub min_billed_ms: u64,
    /// Time after an accepted action in which no other is accepted, milliseconds.
    pub cooldown_ms: u64,
    /// Which launches fail.
    pub launch_failures: LaunchFailures,
    /// Machines that one action may move at most.
    pub machines_per_action_max: u16,
    /// Launches in any hour at most; none means no limit.
    pub launches_per_hour_max: Option<u32>,
    /// Stops in any hour at most; none means no limit.
    pub stops_per_hour_max: Option<u32>,
    /// Dollars an hour of all machines together that no launch may lead above; none means no limit.
    pub usd_per_hour_max: Option<f64>,
    /// Whether a failed launch is remembered, so that the guard masks its type for a while as production does.
    pub remember_no_capacity: bool,
    /// Whether a stop lets running tasks end: the machine takes no more, is billed until its last one ends, and counts
    /// neither as ready nor as booting, but against the maximum. An idle or booting one goes at once.
    pub drain: bool,
    /// How long such a machine has for its tasks; then they are interrupted and it goes. None means as long as they take.
    pub drain_max_ms: Option<u64>,
    /// How much longer a stopped machine is billed; it is out of service at once. None means not at all.
    pub stop_delay: Option<TimeRange>,
    /// How old the outside metrics are that an environment shows, drawn tick by tick and rounded to whole steps. None
    /// means fresh.
    pub metric_delay: Option<TimeRange>,
    /// Share of ticks at which an environment has no outside metrics, so that the guard refuses stops.
    pub metric_gap_probability: f64,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            step_ms: 60_000,
            max_steps: 2000,
            types: published_types(),
            boot: BootModel::Fixed { seconds: 71.0 },
            queue_usd_per_task_hour: 0.036,
            charge_lost_run: false,
            bill_boot: true,
            min_billed_ms: 0,
            cooldown_ms: 0,
            launch_failures: LaunchFailures::Never,
            machines_per_action_max: 1,
            launches_per_hour_max: None,
            stops_per_hour_max: None,
            usd_per_hour_max: None,
            remember_no_capacity: false,
            drain: false,
            drain_max_ms: None,
            stop_delay: None,
            metric_delay: None,
            metric_gap_probability: 0.0,
        }
    }
}

/// S, M and L of the published system: 2, 4 and 8 cores at $0.1 a core-hour, one of each kept.
pub fn published_types() -> Vec<MachineType> {
    [("S", 2u32), ("M", 4), ("L", 8)]
        .map(|(name, cores)| MachineType {
            name: name.into(),
            cores,
            memory_mb: Some(u64::from(cores) * 4096),
            usd_per_hour: 0.1 * f64::from(cores),
            initial: 1,
            bounds: Bounds::new(1, None).expect("no maximum"),
            spot_interruptions_per_hour: 0.0,
        })
        .into()
}

/// All that is wrong with a scenario or a specification, each problem naming its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use the scenario: {}", .problems.join("; "))]
pub struct ScenarioError {
    /// One entry a problem.
    pub problems: Vec<String>,
}

impl ScenarioError {
    /// Nothing, or an error if there are problems.
    ///
    /// # Errors
    /// With at least one problem.
    pub fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl SimConfig {
    /// Every problem of the settings.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: &str| {
            if !ok {
                problems.push(format!("config.{problem}"));
            }
        };
        check(self.step_ms > 0, "step_s: must be above 0");
        check(is_price(self.queue_usd_per_task_hour), "queue_usd_per_task_hour: must be a number at or above 0");
        let is_cap = self.usd_per_hour_max.is_none_or(|usd| usd.is_finite() && usd > 0.0);
        check(is_cap, "usd_per_hour_max: must be a number above 0");
        check(!self.types.is_empty(), "vm_types: give at least one");
        check(self.types.len() <= TYPES_MAX, "vm_types: there are more than an action's number can name");
        check(STEPS.contains(&self.machines_per_action_max), "machines_per_action_max: must be 1, 2 or 4");
        let outage_ok = match self.launch_failures {
            LaunchFailures::Outages { mean_up_s, mean_down_s } => mean_up_s > 0.0 && mean_down_s > 0.0,
            _ => true,
        };
        check(outage_ok, "launch_failures: mean times must be above 0");
        let drain_ok = self.drain_max_ms.is_none_or(|ms| ms > 0 && self.drain);
        check(drain_ok, "drain_max_s: must be above 0, and needs drain");
        let in_order = |range: &Option<TimeRange>| range.is_none_or(|range| range.is_valid());
        check(in_order(&self.stop_delay), "stop_delay_s.low: must not be above high, nor that above 1e9 s");
        check(in_order(&self.metric_delay), "metric_delay_s.low: must not be above high, nor that above 1e9 s");
        let gap_ok = (0.0..=1.0).contains(&self.metric_gap_probability);
        check(gap_ok, "metric_gap_probability: must be between 0 and 1");
        problems.extend(self.types.iter().enumerate().flat_map(|(i, kind)| self.type_problems(i, kind)));
        problems.extend(self.boot.problems());
        problems
    }

    fn type_problems(&self, i: usize, kind: &MachineType) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: String| {
            if !ok {
                problems.push(format!("config.vm_types[{i}].{problem}"));
            }
        };
        let name = &kind.name;
        check(!["vm", "queue", "total", ""].contains(&name.as_str()), format!("name: {name:?} is reserved"));
        check(!self.types[..i].iter().any(|other| other.name == *name), format!("name: {name:?} is given twice"));
        check((1..=CORES_MAX).contains(&kind.cores), format!("cores: must be between 1 and {CORES_MAX}"));
        check(
            kind.memory_mb.is_none_or(|mb| mb <= MEMORY_MB_MAX),
            format!("memory_mb: must be at most {MEMORY_MB_MAX}"),
        );
        check(is_price(kind.usd_per_hour), "usd_per_hour: must be a number at or above 0".into());
        check(kind.initial <= INITIAL_MAX, format!("initial: must be at most {INITIAL_MAX}"));
        let rate = kind.spot_interruptions_per_hour;
        check(rate.is_finite() && rate >= 0.0, "spot_interruptions_per_hour: must be a number at or above 0".into());
        problems
    }

    /// Every problem of `jobs` with these machines. Jobs are numbered as given.
    pub fn job_problems(&self, jobs: &[Job]) -> Vec<String> {
        let mut problems = Vec::new();
        for (i, job) in jobs.iter().enumerate() {
            if !(1..=CORES_MAX).contains(&job.cores) {
                problems.push(format!("jobs[{i}].cores: must be between 1 and {CORES_MAX}"));
            } else if !self.types.iter().any(|kind| kind.cores >= job.cores) {
                problems.push(format!("jobs[{i}].cores: {} fit on no machine type", job.cores));
            } else if !self.types.iter().any(|kind| kind.holds(job)) {
                problems
                    .push(format!("jobs[{i}].memory_mb: {} fit on no machine type that has the cores", job.memory_mb));
            }
        }
        problems
    }

    /// Whether only machines that are counted work, and machines go only by an action.
    pub fn all_machines_are_counted(&self) -> bool {
        !self.drain && self.types.iter().all(|t| t.spot_interruptions_per_hour == 0.0)
    }

    /// Whether an episode is the same for every seed.
    pub fn draws_nothing(&self) -> bool {
        let boots = matches!(self.boot, BootModel::Fixed { .. } | BootModel::List { .. });
        let capacity = !matches!(self.launch_failures, LaunchFailures::Outages { .. });
        let on_demand = self.types.iter().all(|t| t.spot_interruptions_per_hour == 0.0);
        let metrics = self.metric_delay.is_none() && self.metric_gap_probability == 0.0;
        boots && capacity && on_demand && metrics && self.stop_delay.is_none()
    }

    /// When an episode is cut off, milliseconds.
    pub fn horizon_ms(&self) -> u64 {
        self.step_ms.saturating_mul(self.max_steps)
    }
}

fn is_price(usd: f64) -> bool {
    usd.is_finite() && usd >= 0.0
}

/// Milliseconds of a time in a scenario, or a problem that names `field`.
pub(crate) fn checked_ms(seconds: f64, field: impl FnOnce() -> String, problems: &mut Vec<String>) -> u64 {
    if (0.0..=TIME_S_MAX).contains(&seconds) {
        return ms_from_s(seconds);
    }
    problems.push(format!("{}: {seconds} is not between 0 and {TIME_S_MAX:e} s", field()));
    0
}
