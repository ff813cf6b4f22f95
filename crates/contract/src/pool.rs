//! A pool's configuration: read once, all problems listed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{SIZE_COUNT, STEPS};
use crate::capacity::Bounds;
use crate::control::Mode;
use crate::limits::{
    COOLDOWN_S_MAX, CORES_MAX, DRAIN_S_MAX, METRIC_MINUTES_MAX, ORPHAN_GRACE_S_MAX, ORPHAN_GRACE_S_MIN,
    POOL_NAME_LEN_MAX, TICK_S_MAX,
};

/// Version of the stored form of [`PoolConfig`].
pub const POOL_VERSION: u32 = 1;

/// How one pool is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Version of this form.
    pub version: u32,
    /// The pool's name, part of every key and tag.
    pub pool: String,
    /// What the control loop may do.
    #[serde(default)]
    pub mode: Mode,
    /// The three machine sizes, small to large.
    pub sizes: [SizeConfig; SIZE_COUNT],
    /// Seconds between two ticks.
    #[serde(default = "default_tick_s")]
    pub tick_s: u64,
    /// Seconds after an accepted action in which no other is accepted.
    #[serde(default)]
    pub cooldown_s: u64,
    /// Seconds that a stopped machine has to work off its tasks; none means that they are interrupted and run again.
    #[serde(default)]
    pub drain_s: Option<u64>,
    /// Machines that one action may launch or stop at most: one of [`STEPS`].
    #[serde(default = "default_machines_per_action")]
    pub machines_per_action_max: u16,
    /// What an hour of waiting of one task is worth.
    #[serde(default = "default_queue_usd")]
    pub queue_usd_per_task_hour: f64,
    /// Launches in any hour at most; none means no limit.
    #[serde(default)]
    pub launches_per_hour_max: Option<u32>,
    /// Machines stopped in any hour at most; none means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_per_hour_max: Option<u32>,
    /// Seconds after which a machine with all our tags that no decision has launched is terminated; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans_end_after_s: Option<u64>,
    /// Dollars an hour of all machines together that no launch may lead above; none means no limit. See
    /// `docs/reference/money.md` for the three caps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour_max: Option<f64>,
    /// Dollars of a day of UTC that no launch may lead above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_day_max: Option<f64>,
    /// Dollars of a month of UTC that no launch may lead above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_month_max: Option<f64>,
    /// Subnets to launch in, taking turns; none means the launch template's own, or the default VPC's where it names none.
    #[serde(default)]
    pub subnets: Vec<String>,
    /// Boot time that the twin assumes until it has records of its own.
    #[serde(default = "default_boot_s")]
    pub boot_s: f64,
    /// Where each outside metric comes from, by feature name.
    pub metrics: BTreeMap<String, MetricSource>,
    /// The fallback rule's setting: tasks waiting or running that one core is given.
    #[serde(default = "default_tasks_per_core")]
    pub rule_tasks_per_core: f64,
}

fn default_tick_s() -> u64 {
    60
}

fn default_machines_per_action() -> u16 {
    1
}

fn default_queue_usd() -> f64 {
    0.036
}

fn default_boot_s() -> f64 {
    71.0
}

fn default_tasks_per_core() -> f64 {
    1.5
}

/// One machine size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeConfig {
    /// Its name, for people: S, M, L.
    pub name: String,
    /// Name of its launch template.
    pub launch_template: String,
    /// Cores of one machine.
    pub cores: u32,
    /// Memory of one machine.
    pub memory_mb: u64,
    /// Its price.
    pub usd_per_hour: f64,
    /// How many there may be.
    pub bounds: Bounds,
    /// Other instance types with as many cores and as much memory, tried in order where EC2 has no capacity for the launch
    /// template's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<Alternate>,
}

/// An instance type that may stand in for a size's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternate {
    /// EC2's name of it.
    pub instance_type: String,
    /// Its price.
    pub usd_per_hour: f64,
}

impl SizeConfig {
    /// The price of a machine of this size; `instance_type` is none for the launch template's own. A type that is no
    /// alternate any more is taken for the dearest.
    pub fn price_of(&self, instance_type: Option<&str>) -> f64 {
        let Some(name) = instance_type else { return self.usd_per_hour };
        let alternate = self.alternates.iter().find(|alternate| alternate.instance_type == name);
        alternate.map_or_else(|| self.usd_per_hour_at_most(), |alternate| alternate.usd_per_hour)
    }

    /// The price of the dearest machine of this size.
    pub fn usd_per_hour_at_most(&self) -> f64 {
        self.alternates.iter().map(|alternate| alternate.usd_per_hour).fold(self.usd_per_hour, f64::max)
    }
}

/// Where a metric comes from. Its debug form has only the host of a URL.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase", deny_unknown_fields)]
pub enum MetricSource {
    /// A CloudWatch metric with the dimension `Pool` = the pool's name.
    CloudWatch {
        /// The namespace.
        namespace: String,
        /// The metric's name.
        metric: String,
        /// The statistic, for example `Average` or `p90`.
        statistic: String,
        /// How its points become one value.
        #[serde(default, skip_serializing_if = "Aggregation::is_last")]
        aggregation: Aggregation,
    },
    /// A Graphite target that answers with one series.
    Graphite {
        /// Graphite's base URL; sources with the same one are asked in one request.
        url: String,
        /// The target expression.
        target: String,
        /// How its points become one value.
        #[serde(default, skip_serializing_if = "Aggregation::is_last")]
        aggregation: Aggregation,
    },
}

impl MetricSource {
    /// How its points become one value.
    pub fn aggregation(&self) -> Aggregation {
        match self {
            MetricSource::CloudWatch { aggregation, .. } | MetricSource::Graphite { aggregation, .. } => *aggregation,
        }
    }
}

/// How the points of a raw series become the one value of a tick. The minutes are those up to the newest point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub enum Aggregation {
    /// The newest point.
    #[default]
    Last,
    /// The mean of the points of so many minutes.
    Mean {
        /// The minutes.
        minutes: u64,
    },
    /// The largest of the points of so many minutes.
    Max {
        /// The minutes.
        minutes: u64,
    },
}

impl Aggregation {
    /// The minutes that it looks at; none for the newest point alone.
    pub fn minutes(self) -> Option<u64> {
        match self {
            Aggregation::Last => None,
            Aggregation::Mean { minutes } | Aggregation::Max { minutes } => Some(minutes),
        }
    }

    fn is_last(&self) -> bool {
        *self == Aggregation::Last
    }
}

impl fmt::Debug for MetricSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudWatch { namespace, metric, statistic, .. } => {
                write!(f, "CloudWatch {namespace}/{metric} {statistic}")
            }
            Self::Graphite { url, target, .. } => write!(f, "Graphite at {} {target}", host(url)),
        }
    }
}

/// The host of a URL and its port: what of it may stand in logs. The user, the password, the path and the query may be
/// secrets. A password may also hold what ends a host, so that the last `@` counts.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

/// Features that come from outside metrics; a pool must say where each comes from.
pub const OUTSIDE_METRICS: [&str; 4] = ["cpu_util_avg", "cpu_util_p90", "mem_util_avg", "mem_util_p90"];

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use the pool configuration: {}", .problems.join("; "))]
pub struct PoolError {
    /// One entry a problem, each naming its field.
    pub problems: Vec<String>,
}

impl PoolConfig {
    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// Lists every problem of values, or says where the form is broken: JSON, a field that is unknown or missing, a bound.
    pub fn from_json(text: &str) -> Result<Self, PoolError> {
        let config: Self = serde_json::from_str(text).map_err(|e| PoolError { problems: vec![e.to_string()] })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the whole configuration.
    ///
    /// # Errors
    /// Lists every problem found.
    pub fn validate(&self) -> Result<(), PoolError> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: String| {
            if !ok {
                problems.push(problem);
            }
        };
        check(self.version == POOL_VERSION, format!("version: {} is not {POOL_VERSION}", self.version));
        check(is_pool_name(&self.pool), format!("pool: {:?} is not 1 to 64 of a-z, 0-9 and '-'", self.pool));
        check((1..=TICK_S_MAX).contains(&self.tick_s), format!("tick_s: must be between 1 and {TICK_S_MAX}"));
        check(self.cooldown_s <= COOLDOWN_S_MAX, format!("cooldown_s: must be at most {COOLDOWN_S_MAX}"));
        check(
            self.drain_s.is_none_or(|s| (1..=DRAIN_S_MAX).contains(&s)),
            format!("drain_s: must be between 1 and {DRAIN_S_MAX}, or left out"),
        );
        check(
            self.orphans_end_after_s.is_none_or(|s| (ORPHAN_GRACE_S_MIN..=ORPHAN_GRACE_S_MAX).contains(&s)),
            format!("orphans_end_after_s: must be between {ORPHAN_GRACE_S_MIN} and {ORPHAN_GRACE_S_MAX}, or left out"),
        );
        check(
            STEPS.contains(&self.machines_per_action_max),
            format!("machines_per_action_max: must be one of {STEPS:?}"),
        );
        check(
            self.queue_usd_per_task_hour.is_finite() && self.queue_usd_per_task_hour >= 0.0,
            "queue_usd_per_task_hour: must be a number at or above 0".into(),
        );
        check(self.boot_s.is_finite() && self.boot_s >= 0.0, "boot_s: must be a number at or above 0".into());
        check(
            self.rule_tasks_per_core.is_finite() && self.rule_tasks_per_core > 0.0,
            "rule_tasks_per_core: must be a number above 0".into(),
        );
        for (i, size) in self.sizes.iter().enumerate() {
            check(
                (1..=CORES_MAX).contains(&size.cores),
                format!("sizes[{i}].cores: must be between 1 and {CORES_MAX}"),
            );
            check(!size.launch_template.is_empty(), format!("sizes[{i}].launch_template: must be given"));
            for (k, alternate) in size.alternates.iter().enumerate() {
                let is_price = alternate.usd_per_hour.is_finite() && alternate.usd_per_hour > 0.0;
                let field = format!("sizes[{i}].alternates[{k}]");
                check(is_price, format!("{field}.usd_per_hour: must be a number above 0"));
                let name = &alternate.instance_type;
                check(is_instance_type(name), format!("{field}.instance_type: {name:?} is no instance type"));
            }
            check(
                size.usd_per_hour.is_finite() && size.usd_per_hour > 0.0,
                format!("sizes[{i}].usd_per_hour: must be a number above 0"),
            );
        }
        let caps = [
            ("usd_per_hour_max", self.usd_per_hour_max),
            ("usd_per_day_max", self.usd_per_day_max),
            ("usd_per_month_max", self.usd_per_month_max),
        ];
        for (name, cap) in caps {
            let is_money = cap.is_none_or(|usd| usd.is_finite() && usd > 0.0);
            check(is_money, format!("{name}: must be a number above 0"));
        }
        let least = self.usd_per_hour_min();
        check(
            self.usd_per_hour_max.is_none_or(|max| max > least - 1e-9 || !least.is_finite()),
            format!(
                "usd_per_hour_max: the machines that the bounds ask for cost {least:.3} an hour; raise it or lower a min"
            ),
        );
        for name in OUTSIDE_METRICS {
            check(self.metrics.contains_key(name), format!("metrics.{name}: no source is given"));
        }
        for (name, source) in &self.metrics {
            check(OUTSIDE_METRICS.contains(&name.as_str()), format!("metrics.{name}: no such metric"));
            check(
                source.aggregation().minutes().is_none_or(|m| (1..=METRIC_MINUTES_MAX).contains(&m)),
                format!("metrics.{name}.aggregation: minutes must be between 1 and {METRIC_MINUTES_MAX}"),
            );
            if let MetricSource::Graphite { url, .. } = source {
                let is_http = url.starts_with("http://") || url.starts_with("https://");
                check(
                    is_http,
                    format!("metrics.{name}: url of {:?} does not begin with http:// or https://", host(url)),
                );
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(PoolError { problems }) }
    }

    /// Cores of one machine of each size.
    pub fn cores(&self) -> [u32; SIZE_COUNT] {
        std::array::from_fn(|i| self.sizes[i].cores)
    }

    /// What an hour of the smallest fleet costs that the bounds allow.
    fn usd_per_hour_min(&self) -> f64 {
        self.sizes.iter().map(|size| f64::from(size.bounds.min()) * size.usd_per_hour).sum()
    }

    /// Bounds of each size.
    pub fn bounds(&self) -> [Bounds; SIZE_COUNT] {
        std::array::from_fn(|i| self.sizes[i].bounds)
    }
}

/// Whether a name has the form of EC2's instance types, such as `m7g.2xlarge` or `u-6tb1.metal`.
fn is_instance_type(name: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (3..=32).contains(&name.len()) && name.contains('.') && name.bytes().all(of_name)
}

/// Whether a name can stand in keys, tags and object names.
pub fn is_pool_name(name: &str) -> bool {
    (1..=POOL_NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> serde_json::Value {
        let size = |name: &str, cores: u32| {
            serde_json::json!({"name": name, "launch_template": format!("lt-{name}"), "cores": cores,
                "memory_mb": 4096 * cores, "usd_per_hour": 0.1 * f64::from(cores), "bounds": {"min": 1, "max": 9}})
        };
        let metric = serde_json::json!({"source": "graphite", "url": "http://127.0.0.1:1", "target": "a.b"});
        serde_json::json!({"version": 1, "pool": "demo", "sizes": [size("S", 2), size("M", 4), size("L", 8)],
            "metrics": {"cpu_util_avg": metric, "cpu_util_p90": metric,
            "mem_util_avg": metric, "mem_util_p90": metric}})
    }

    #[test]
    fn a_whole_configuration_is_read_with_its_defaults() {
        let config = PoolConfig::from_json(&json().to_string()).unwrap();
        assert_eq!(config.mode, Mode::Active);
        assert_eq!(config.tick_s, 60);
        assert_eq!(config.cores(), [2, 4, 8]);
    }

    #[test]
    fn an_aggregation_is_named_with_the_metric_and_left_out_it_is_the_newest_point() {
        let mut v = json();
        v["metrics"]["cpu_util_p90"]["aggregation"] = serde_json::json!({"by": "max", "minutes": 5});
        let config = PoolConfig::from_json(&v.to_string()).unwrap();
        assert_eq!(config.metrics["cpu_util_avg"].aggregation(), Aggregation::Last);
        assert_eq!(config.metrics["cpu_util_p90"].aggregation(), Aggregation::Max { minutes: 5 });
        // what an earlier version wrote, it can read again
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(again["metrics"]["cpu_util_avg"], v["metrics"]["cpu_util_avg"]);
        assert_eq!(again["metrics"]["cpu_util_p90"], v["metrics"]["cpu_util_p90"]);
    }

    #[test]
    fn the_example_of_the_reference_is_valid() {
        let page = include_str!("../../../docs/reference/pool.md");
        let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(PoolConfig::from_json(example).unwrap().pool, "render");
    }

    #[test]
    fn every_problem_is_listed_with_its_field() {
        let mut v = json();
        v["pool"] = "No Good".into();
        v["sizes"][1]["cores"] = 0.into();
        v["machines_per_action_max"] = 3.into();
        v["drain_s"] = 0.into();
        v["orphans_end_after_s"] = 60.into();
        v["sizes"][2]["alternates"] = serde_json::json!([{"instance_type": "large", "usd_per_hour": 0.0}]);
        v["metrics"].as_object_mut().unwrap().remove("mem_util_avg");
        v["metrics"]["cpu_util_avg"]["url"] = "ftp://user:secret@graphite.local/key".into();
        v["metrics"]["cpu_util_p90"]["aggregation"] = serde_json::json!({"by": "mean", "minutes": 0});
        let problems = PoolConfig::from_json(&v.to_string()).unwrap_err().problems;
        assert!(!problems.concat().contains("secret"), "{problems:?}");
        for field in [
            "pool:",
            "machines_per_action_max:",
            "drain_s:",
            "orphans_end_after_s:",
            "sizes[2].alternates[0].usd_per_hour:",
            "sizes[2].alternates[0].instance_type:",
            "sizes[1].cores:",
            "metrics.mem_util_avg:",
            "metrics.cpu_util_avg: url of \"graphite.local\"",
            "metrics.cpu_util_p90.aggregation:",
        ] {
            assert!(problems.iter().any(|p| p.starts_with(field)), "{field} in {problems:?}");
        }
    }

    #[test]
    fn of_a_url_only_the_host_is_shown() {
        for (url, shown) in [
            ("https://graphite.example:8080/key/secret?api=secret#secret", "graphite.example:8080"),
            ("https://user:secret@graphite.example", "graphite.example"),
            ("https://user:sec/r@et@graphite.example/secret", "graphite.example"),
            ("https://user:secret@[::1]:80/", "[::1]:80"),
            ("user:secret@graphite.example/secret", "graphite.example"),
            ("", ""),
        ] {
            assert_eq!(host(url), shown, "{url}");
            let source =
                MetricSource::Graphite { url: url.into(), target: "a.b".into(), aggregation: Aggregation::Last };
            assert_eq!(format!("{source:?}"), format!("Graphite at {shown} a.b"));
        }
    }

    #[test]
    fn money_caps_are_dollars_and_leave_room_for_the_minimum() {
        let with = |name: &str, usd: serde_json::Value| {
            let mut v = json();
            v[name] = usd;
            PoolConfig::from_json(&v.to_string()).map_err(|e| e.problems.join("; "))
        };
        assert_eq!(with("usd_per_day_max", 12.5.into()).unwrap().usd_per_day_max, Some(12.5));
        for name in ["usd_per_hour_max", "usd_per_day_max", "usd_per_month_max"] {
            for bad in [0.0, -1.0] {
                let problems = with(name, bad.into()).unwrap_err();
                assert!(problems.contains(&format!("{name}: must be a number above 0")), "{problems}");
            }
        }
        // One of each size is kept: 0.2, 0.4 and 0.8 dollars an hour, of which the sum is not quite 1.4.
        assert!(with("usd_per_hour_max", 1.4.into()).is_ok());
        let problems = with("usd_per_hour_max", 1.39.into()).unwrap_err();
        assert!(problems.contains("usd_per_hour_max: the machines that the bounds ask for cost 1.400"), "{problems}");
    }

    #[test]
    fn an_unknown_field_and_crossed_bounds_are_refused() {
        let mut v = json();
        v["sizes"][0]["bounds"] = serde_json::json!({"min": 3, "max": 2});
        assert!(PoolConfig::from_json(&v.to_string()).unwrap_err().to_string().contains("min 3 is above max 2"));
        let mut v = json();
        v["colour"] = "red".into();
        assert!(PoolConfig::from_json(&v.to_string()).unwrap_err().to_string().contains("colour"));
    }
}
