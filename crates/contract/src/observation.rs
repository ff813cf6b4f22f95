//! What the controller knows at one tick, and its one encoding as the network's input.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::action::{Action, SIZE_COUNT, STEPS};
use crate::capacity::Counts;

/// Version of the stored form of [`Observation`].
pub const OBSERVATION_VERSION: u32 = 2;

/// What the tasks at hand ask of the machines, by the tasks' records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Cores that waiting tasks want.
    pub queue_cores: u32,
    /// Cores that tasks run on, those of draining machines included.
    pub running_cores: u32,
    /// How long running tasks have run so far, seconds, in the mean of their cores; 0 if none runs.
    pub running_age_s: f64,
    /// Machines in service that run nothing, by size.
    pub idle: [u32; SIZE_COUNT],
    /// What is lost if one machine of a size is stopped, core-seconds: 0 if one is idle, boots, or none is there.
    pub stop_loss_core_s: [f64; SIZE_COUNT],
}

impl Work {
    /// Share of the cores in service that tasks run on; 0 of none.
    pub fn busy_share(&self, observation: &Observation) -> f64 {
        (f64::from(self.running_cores) / f64::from(observation.ready_cores().max(1))).min(1.0)
    }

    /// Cores that waiting and running tasks want.
    pub fn wanted_cores(&self) -> u32 {
        self.queue_cores.saturating_add(self.running_cores)
    }
}

/// Everything measured at one tick, in plain units. Stored in the decision record, so that every decision can be
/// replayed bit for bit. `None` means missing or too old to be believed; it is never replaced by a zero here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Version of this form.
    pub version: u32,
    /// Machines by size, from the instance records; may lag EC2 by the time a record takes to be written.
    pub fleet: [Counts; SIZE_COUNT],
    /// Cores of one machine of each size.
    pub cores: [u32; SIZE_COUNT],
    /// Mean share of busy cores over ready machines; outside metric, may be minutes old.
    pub cpu_util_avg: Option<f64>,
    /// 90th percentile (nearest rank) of the share of busy cores over ready machines; outside metric.
    pub cpu_util_p90: Option<f64>,
    /// Mean share of used memory over ready machines; outside metric.
    pub mem_util_avg: Option<f64>,
    /// 90th percentile (nearest rank) of the share of used memory over ready machines; outside metric.
    pub mem_util_p90: Option<f64>,
    /// Of the tasks submitted in the last window ([`crate::limits::WAIT_WINDOW_S`]), the share that waits now.
    pub wait_ratio_window: Option<f64>,
    /// Of the tasks submitted since the last tick, the share that waits now.
    pub wait_ratio_recent: Option<f64>,
    /// Tasks that wait now.
    pub queue_depth: Option<u32>,
    /// Tasks that run now.
    pub running: Option<u32>,
    /// What they ask of the machines; not in records of the first version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Age of the task that waits longest, seconds; 0 if none waits.
    pub oldest_wait_s: Option<f64>,
    /// Tasks submitted since the last tick.
    pub arrivals: Option<u32>,
    /// Seconds since the last task was submitted; the window's length if none was.
    pub since_arrival_s: Option<f64>,
    /// The last action that was carried out.
    pub last_action: Action,
    /// Seconds since that action.
    pub since_action_s: f64,
    /// Seconds until the next action is allowed.
    pub cooldown_left_s: f64,
    /// Sizes whose launches failed for lack of capacity and are not tried again yet.
    pub no_capacity: [bool; SIZE_COUNT],
    /// Machines that one action may move at most, by the pool's configuration.
    #[serde(default = "one")]
    pub machines_per_action_max: u16,
    /// Whether a stopped machine works off its tasks, likewise.
    #[serde(default)]
    pub drains: bool,
}

/// What all pools had when the first version was written.
fn one() -> u16 {
    1
}

impl Observation {
    /// An observation of an empty fleet with nothing measured: every outside quantity missing.
    pub fn empty(cores: [u32; SIZE_COUNT]) -> Self {
        Self {
            version: OBSERVATION_VERSION,
            fleet: [Counts::default(); SIZE_COUNT],
            cores,
            cpu_util_avg: None,
            cpu_util_p90: None,
            mem_util_avg: None,
            mem_util_p90: None,
            wait_ratio_window: None,
            wait_ratio_recent: None,
            queue_depth: None,
            running: None,
            work: None,
            oldest_wait_s: None,
            arrivals: None,
            since_arrival_s: None,
            last_action: Action::Nothing,
            since_action_s: 0.0,
            cooldown_left_s: 0.0,
            no_capacity: [false; SIZE_COUNT],
            machines_per_action_max: 1,
            drains: false,
        }
    }

    /// Cores of all machines, booting ones included.
    pub fn billed_cores(&self) -> u32 {
        sum(self.fleet.iter().zip(self.cores).map(|(n, cores)| n.total().saturating_mul(cores)))
    }

    /// Cores of the machines in service.
    pub fn ready_cores(&self) -> u32 {
        sum(self.fleet.iter().zip(self.cores).map(|(n, cores)| n.ready.saturating_mul(cores)))
    }

    /// Whether a quantity is missing or not a finite number, so that the observation cannot justify a scale-in.
    pub fn is_doubtful(&self) -> bool {
        FEATURES.iter().any(|feature| feature.is_missing(self))
    }

    /// The names of the features that are missing or not finite.
    pub fn missing(&self) -> Vec<&'static str> {
        FEATURES.iter().filter(|feature| feature.is_missing(self)).map(|feature| feature.name).collect()
    }
}

/// A sum that a record with absurd counts cannot make wrap.
fn sum(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}

/// How a plain value becomes a number of about the size of one. Values outside the range are clamped to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// `x / max`.
    Linear {
        /// The value that becomes 1.
        max: f64,
    },
    /// `ln(1 + x) / ln(1 + max)`: for quantities that span orders of magnitude.
    Log {
        /// The value that becomes 1.
        max: f64,
    },
}

impl Scale {
    /// What the value is divided by, once its logarithm is taken if that is asked for.
    fn unit(self) -> f64 {
        match self {
            Scale::Linear { max } => max,
            Scale::Log { max } => max.ln_1p(),
        }
    }

    /// Scales a value, given its own [`Scale::unit`].
    fn apply(self, x: f64, unit: f64) -> f32 {
        let y = match self {
            Scale::Linear { .. } => x / unit,
            Scale::Log { .. } => x.max(0.0).ln_1p() / unit,
        };
        y.clamp(0.0, 1.0) as f32
    }

    /// The plain value behind a scaled one; what was clamped stays at the end of the range.
    pub fn invert(self, y: f32) -> f64 {
        match self {
            Scale::Linear { max } => f64::from(y) * max,
            Scale::Log { max } => (f64::from(y) * max.ln_1p()).exp_m1(),
        }
    }
}

/// The plain value of the feature called `name` in a network's input.
///
/// # Panics
/// If there is no such feature: a bug of the caller.
pub fn plain(features: &Features, name: &str) -> f64 {
    let i = FEATURES.iter().position(|f| f.name == name).unwrap_or_else(|| panic!("no feature {name}"));
    FEATURES[i].scale.invert(features[i])
}

/// One input of the network.
pub struct Feature {
    /// Its name, in the documentation, the schema hash and explanations.
    pub name: &'static str,
    /// Its scaling.
    pub scale: Scale,
    /// The plain value that stands in for a missing one. It is neutral, and a missing value also forbids scale-in.
    pub if_missing: f64,
    /// Reads it from an observation.
    get: fn(&Observation) -> Option<f64>,
}

impl Feature {
    /// The plain value, if it is there and finite.
    pub fn value(&self, observation: &Observation) -> Option<f64> {
        (self.get)(observation).filter(|x| x.is_finite())
    }

    fn is_missing(&self, observation: &Observation) -> bool {
        self.value(observation).is_none()
    }
}

const fn feature(name: &'static str, scale: Scale, if_missing: f64, get: fn(&Observation) -> Option<f64>) -> Feature {
    Feature { name, scale, if_missing, get }
}

fn count(n: Option<u32>) -> Option<f64> {
    n.map(f64::from)
}

fn flag(on: bool) -> Option<f64> {
    Some(f64::from(u8::from(on)))
}

/// Machines of a size that the last action launched.
fn launched(o: &Observation, size: u16) -> Option<f64> {
    Some(if matches!(o.last_action, Action::Launch(i, _) if i == size) {
        f64::from(o.last_action.machines())
    } else {
        0.0
    })
}

/// Machines of a size that the last action stopped.
fn stopped(o: &Observation, size: u16) -> Option<f64> {
    Some(if matches!(o.last_action, Action::Stop(i, _) if i == size) {
        f64::from(o.last_action.machines())
    } else {
        0.0
    })
}

const RATIO: Scale = Scale::Linear { max: 1.0 };
const MACHINES: Scale = Scale::Linear { max: STEPS[STEPS.len() - 1] as f64 };
/// Fleets differ by orders of magnitude; what one machine more means depends on how many there are.
const FLEET: Scale = Scale::Log { max: 1000.0 };
const TASKS: Scale = Scale::Log { max: 10_000.0 };
const HOUR: Scale = Scale::Log { max: 3600.0 };
const DAY: Scale = Scale::Log { max: 86_400.0 };
/// The largest machine at work for a day, about.
const LOSS: Scale = Scale::Log { max: 1e6 };

/// Cores beyond those that tasks want, booting ones included; negative if they are too few. Of a large fleet the shares say
/// nothing of one machine more or less.
fn spare_cores(o: &Observation, work: &Work) -> f64 {
    f64::from(o.billed_cores()) - f64::from(work.wanted_cores())
}

fn queue_per_core(o: &Observation) -> Option<f64> {
    o.work.map(|work| f64::from(work.queue_cores) / f64::from(o.ready_cores().max(1)))
}

fn idle(o: &Observation, size: usize) -> Option<f64> {
    o.work.map(|work| f64::from(work.idle[size]))
}

fn stop_loss(o: &Observation, size: usize) -> Option<f64> {
    o.work.map(|work| work.stop_loss_core_s[size])
}

/// The network's inputs, in order: the seven of the published system, repaired, and what it lacked.
pub const FEATURES: [Feature; FEATURE_COUNT] = [
    feature("billed_cores", TASKS, 0.0, |o| Some(f64::from(o.billed_cores()))),
    feature("cpu_util_avg", RATIO, 0.5, |o| o.cpu_util_avg),
    feature("cpu_util_p90", RATIO, 0.5, |o| o.cpu_util_p90),
    feature("mem_util_avg", RATIO, 0.5, |o| o.mem_util_avg),
    feature("mem_util_p90", RATIO, 0.5, |o| o.mem_util_p90),
    feature("wait_ratio_window", RATIO, 0.0, |o| o.wait_ratio_window),
    feature("wait_ratio_recent", RATIO, 0.0, |o| o.wait_ratio_recent),
    feature("ready_s", FLEET, 0.0, |o| Some(f64::from(o.fleet[0].ready))),
    feature("ready_m", FLEET, 0.0, |o| Some(f64::from(o.fleet[1].ready))),
    feature("ready_l", FLEET, 0.0, |o| Some(f64::from(o.fleet[2].ready))),
    feature("booting_s", FLEET, 0.0, |o| Some(f64::from(o.fleet[0].booting))),
    feature("booting_m", FLEET, 0.0, |o| Some(f64::from(o.fleet[1].booting))),
    feature("booting_l", FLEET, 0.0, |o| Some(f64::from(o.fleet[2].booting))),
    feature("queue_depth", TASKS, 0.0, |o| count(o.queue_depth)),
    feature("queue_per_core", Scale::Log { max: 100.0 }, 0.0, queue_per_core),
    feature("running", TASKS, 0.0, |o| count(o.running)),
    feature("free_cores", TASKS, 0.0, |o| {
        o.work.map(|work| f64::from(o.ready_cores()) - f64::from(work.running_cores))
    }),
    feature("short_cores", TASKS, 0.0, |o| o.work.map(|work| -spare_cores(o, &work))),
    feature("spare_cores", TASKS, 0.0, |o| o.work.map(|work| spare_cores(o, &work))),
    feature("running_age_s", DAY, 0.0, |o| o.work.map(|work| work.running_age_s)),
    feature("idle_s", FLEET, 0.0, |o| idle(o, 0)),
    feature("idle_m", FLEET, 0.0, |o| idle(o, 1)),
    feature("idle_l", FLEET, 0.0, |o| idle(o, 2)),
    feature("stop_loss_s", LOSS, 0.0, |o| stop_loss(o, 0)),
    feature("stop_loss_m", LOSS, 0.0, |o| stop_loss(o, 1)),
    feature("stop_loss_l", LOSS, 0.0, |o| stop_loss(o, 2)),
    feature("oldest_wait_s", DAY, 0.0, |o| o.oldest_wait_s),
    feature("arrivals", TASKS, 0.0, |o| count(o.arrivals)),
    feature("since_arrival_s", HOUR, 0.0, |o| o.since_arrival_s),
    feature("last_nothing", RATIO, 0.0, |o| flag(o.last_action == Action::Nothing)),
    feature("last_launch_s", MACHINES, 0.0, |o| launched(o, 0)),
    feature("last_stop_s", MACHINES, 0.0, |o| stopped(o, 0)),
    feature("last_launch_m", MACHINES, 0.0, |o| launched(o, 1)),
    feature("last_stop_m", MACHINES, 0.0, |o| stopped(o, 1)),
    feature("last_launch_l", MACHINES, 0.0, |o| launched(o, 2)),
    feature("last_stop_l", MACHINES, 0.0, |o| stopped(o, 2)),
    feature("since_action_s", HOUR, 0.0, |o| Some(o.since_action_s)),
    feature("cooldown_left_s", Scale::Linear { max: 600.0 }, 0.0, |o| Some(o.cooldown_left_s)),
    feature("no_capacity_s", RATIO, 0.0, |o| flag(o.no_capacity[0])),
    feature("no_capacity_m", RATIO, 0.0, |o| flag(o.no_capacity[1])),
    feature("no_capacity_l", RATIO, 0.0, |o| flag(o.no_capacity[2])),
    feature("machines_per_action_max", MACHINES, 1.0, |o| Some(f64::from(o.machines_per_action_max))),
    feature("drains", RATIO, 0.0, |o| flag(o.drains)),
];

/// How many inputs the network has.
pub const FEATURE_COUNT: usize = 43;

/// The network's input: one number in [0, 1] for each row of [`FEATURES`].
pub type Features = [f32; FEATURE_COUNT];

/// The units of [`FEATURES`], so that a logarithm is taken once and not in every step of training.
static UNITS: LazyLock<[f64; FEATURE_COUNT]> = LazyLock::new(|| FEATURES.map(|feature| feature.scale.unit()));

/// Turns an observation into the network's input. The only place where that happens.
pub fn encode(observation: &Observation) -> Features {
    let units = &*UNITS;
    std::array::from_fn(|i| {
        let feature = &FEATURES[i];
        feature.scale.apply(feature.value(observation).unwrap_or(feature.if_missing), units[i])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(name: &str) -> usize {
        FEATURES.iter().position(|f| f.name == name).unwrap()
    }

    fn complete() -> Observation {
        Observation {
            cpu_util_avg: Some(0.25),
            cpu_util_p90: Some(1.0),
            mem_util_avg: Some(0.0),
            mem_util_p90: Some(0.0),
            wait_ratio_window: Some(0.1),
            wait_ratio_recent: Some(1.0),
            queue_depth: Some(99),
            running: Some(3),
            work: Some(Work {
                queue_cores: 198,
                running_cores: 6,
                running_age_s: 59.0,
                idle: [1, 0, 0],
                stop_loss_core_s: [0.0, 0.0, 120.0],
            }),
            oldest_wait_s: Some(60.0),
            arrivals: Some(50),
            since_arrival_s: Some(0.0),
            fleet: [Counts { ready: 2, booting: 1 }, Counts::default(), Counts { ready: 1, booting: 0 }],
            ..Observation::empty([2, 4, 8])
        }
    }

    #[test]
    fn features_by_hand() {
        let x = encode(&complete());
        let log = |x: f64, max: f64| ((1.0 + x).ln() / (1.0 + max).ln()) as f32;
        assert_eq!(x[at("billed_cores")], log(14.0, 10_000.0));
        assert_eq!(x[at("cpu_util_avg")], 0.25);
        assert_eq!(x[at("ready_s")], log(2.0, 1000.0));
        assert_eq!(x[at("booting_s")], log(1.0, 1000.0));
        assert_eq!(x[at("queue_depth")], log(99.0, 10_000.0));
        assert_eq!(x[at("queue_per_core")], log(198.0 / 12.0, 100.0));
        assert_eq!(x[at("free_cores")], log(6.0, 10_000.0));
        assert_eq!((x[at("short_cores")], x[at("spare_cores")]), (log(190.0, 10_000.0), 0.0));
        assert_eq!(x[at("running_age_s")], log(59.0, 86_400.0));
        assert_eq!((x[at("idle_s")], x[at("idle_m")]), (log(1.0, 1000.0), 0.0));
        assert_eq!((x[at("stop_loss_m")], x[at("stop_loss_l")]), (0.0, log(120.0, 1e6)));
        assert_eq!(x[at("last_nothing")], 1.0);
        assert_eq!(x[at("last_launch_m")], 0.0);
        assert_eq!((x[at("machines_per_action_max")], x[at("drains")]), (0.25, 0.0));
        let of_pool = encode(&Observation { machines_per_action_max: 4, drains: true, ..complete() });
        assert_eq!((of_pool[at("machines_per_action_max")], of_pool[at("drains")]), (1.0, 1.0));
    }

    #[test]
    fn a_record_of_the_first_version_can_be_read() {
        let mut old = serde_json::to_value(complete()).unwrap();
        for later in ["work", "machines_per_action_max", "drains"] {
            old.as_object_mut().unwrap().remove(later);
        }
        let read: Observation = serde_json::from_value(old).unwrap();
        assert_eq!((read.work, read.missing().len(), read.missing()[0]), (None, 11, "queue_per_core"));
    }

    #[test]
    fn the_last_action_is_a_share_of_the_largest_step() {
        let after = |last_action| encode(&Observation { last_action, ..complete() });
        let x = after(Action::Launch(1, 2));
        assert_eq!((x[at("last_nothing")], x[at("last_launch_m")], x[at("last_stop_m")]), (0.0, 0.5, 0.0));
        assert_eq!(after(Action::Stop(2, 4))[at("last_stop_l")], 1.0);
    }

    #[test]
    fn plain_values_come_back_from_the_input() {
        let x = encode(&complete());
        for (name, value) in [("queue_depth", 99.0), ("ready_s", 2.0), ("oldest_wait_s", 60.0), ("running", 3.0)] {
            assert!((plain(&x, name) - value).abs() < 1e-3, "{name}: {}", plain(&x, name));
        }
    }

    #[test]
    fn a_missing_value_is_neutral_and_makes_the_observation_doubtful() {
        let whole = complete();
        assert!(!whole.is_doubtful());
        for bad in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let o = Observation { cpu_util_avg: bad, ..whole.clone() };
            assert_eq!(encode(&o)[at("cpu_util_avg")], 0.5);
            assert_eq!(o.missing(), ["cpu_util_avg"]);
        }
    }

    proptest! {
        #[test]
        fn every_input_is_finite_and_in_range(x in any::<f64>(), n in any::<u32>(), s in any::<f64>()) {
            let o = Observation {
                cpu_util_avg: Some(x), oldest_wait_s: Some(x), queue_depth: Some(n), since_action_s: s, ..complete()
            };
            for v in encode(&o) {
                prop_assert!((0.0..=1.0).contains(&v), "{v}");
            }
        }

        #[test]
        fn a_stored_observation_encodes_to_the_same_bits(x in 0.0f64..1.0, w in 0.0f64..1e6) {
            let o = Observation { cpu_util_avg: Some(x), oldest_wait_s: Some(w), ..complete() };
            let back: Observation = serde_json::from_str(&serde_json::to_string(&o).unwrap()).unwrap();
            prop_assert_eq!(encode(&back).map(f32::to_bits), encode(&o).map(f32::to_bits));
        }
    }
}
