//! Twin against reality, quantity by quantity, with an error and a verdict.

use std::sync::Arc;

use contract::SIZE_COUNT;
use rayon::prelude::*;
use serde::Serialize;
use twin::EnvSpec;

use crate::fit::percentile;
use crate::recorded::Recorded;
use crate::replay::{Course, Replay, real_course, replay};

/// One quantity, in reality and in the twin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// Its name, unit last.
    pub name: String,
    /// In reality.
    pub real: f64,
    /// In the twin, mean over its seeds.
    pub twin: f64,
    /// Difference as a share of the real value; of counts over time, the mean difference of a tick as a share of the
    /// mean count.
    pub error: f64,
    /// Whether the error is within the limit.
    pub within: bool,
}

/// The twin against reality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Each quantity.
    pub quantities: Vec<Quantity>,
    /// Largest error that is allowed.
    pub error_max: f64,
    /// Real actions that the twin refused, mean over its seeds.
    pub refused_actions: f64,
    /// Whether all quantities are within the limit.
    pub within: bool,
}

/// Replays the window once a seed and compares. Differences below a tick of waiting, a task in the queue or a machine
/// are smaller than what the loop can see, and are measured against that.
pub fn compare(spec: &Arc<EnvSpec>, recorded: &Recorded, seeds: &[u64], error_max: f64) -> Comparison {
    assert!(!seeds.is_empty(), "at least one replay");
    let replays: Vec<Replay> = seeds.par_iter().map(|seed| replay(spec, recorded, *seed)).collect();
    let pairs: Vec<(Course, &Course)> = replays.iter().map(|r| (real_course(recorded, r.window), &r.course)).collect();
    let tick_s = recorded.config.tick_s as f64;
    let total = |c: &Course| c.vm_usd + c.queue_usd;
    let mut quantities = vec![
        scalar("total_usd", &pairs, total, 1e-9),
        scalar("vm_usd", &pairs, |c| c.vm_usd, 1e-9),
        scalar("queue_usd", &pairs, |c| c.queue_usd, 0.01 * mean(&pairs, |(real, _)| total(real))),
        scalar("queue_hours", &pairs, |c| c.queue_hours, tick_s / 3600.0),
        scalar("wait_s_p50", &pairs, |c| percentile(&c.waits_s, 50), tick_s),
        scalar("wait_s_p95", &pairs, |c| percentile(&c.waits_s, 95), tick_s),
        series("queue_over_time", &pairs, |c| c.queue.clone()),
    ];
    for size in 0..SIZE_COUNT {
        let name = format!("ready_{}_over_time", recorded.config.sizes[size].name.to_lowercase());
        quantities.push(series(&name, &pairs, |c| c.ready.iter().map(|n| n[size]).collect()));
    }
    quantities.iter_mut().for_each(|q| q.within = q.error <= error_max);
    let refused_actions = replays.iter().map(|r| r.refused_actions as f64).sum::<f64>() / replays.len() as f64;
    Comparison { within: quantities.iter().all(|q| q.within), quantities, error_max, refused_actions }
}

fn mean(pairs: &[(Course, &Course)], value: impl Fn(&(Course, &Course)) -> f64) -> f64 {
    pairs.iter().map(value).sum::<f64>() / pairs.len() as f64
}

fn scalar(name: &str, pairs: &[(Course, &Course)], value: impl Fn(&Course) -> f64, least: f64) -> Quantity {
    let (real, twin) = (mean(pairs, |(real, _)| value(real)), mean(pairs, |(_, twin)| value(twin)));
    let error = (twin - real).abs() / real.abs().max(least).max(1e-9);
    Quantity { name: name.into(), real, twin, error, within: false }
}

fn series(name: &str, pairs: &[(Course, &Course)], values: impl Fn(&Course) -> Vec<f64>) -> Quantity {
    let of = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len().max(1) as f64;
    let (real, twin) = (mean(pairs, |(real, _)| of(&values(real))), mean(pairs, |(_, twin)| of(&values(twin))));
    let difference = mean(pairs, |(real, twin)| {
        let (real, twin) = (values(real), values(twin));
        of(&real.iter().zip(&twin).map(|(r, t)| (r - t).abs()).collect::<Vec<f64>>())
    });
    Quantity { name: name.into(), real, twin, error: difference / real.max(1.0), within: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::{InstanceRecord, TaskRecord};
    use testkit::builders::{instance, pool_config, task};

    const FROM_MS: u64 = 1_700_000_040_000;

    /// Thirty tasks of two minutes, one a minute, on the one small machine that is there; `late_ms` more of waiting.
    fn recorded(late_ms: u64) -> Recorded {
        let tasks = (0..30u64).map(|k| TaskRecord {
            started_ms: Some(FROM_MS + k * 120_000 + late_ms),
            finished_ms: Some(FROM_MS + (k + 1) * 120_000 + late_ms),
            cores: 2,
            memory_mb: 0,
            instance_id: Some("i-1".into()),
            ..task("p", &format!("t{k:02}"), FROM_MS + k * 60_000)
        });
        let machine = InstanceRecord { ready_ms: Some(FROM_MS - 1000), ..instance("p", "i-1", 0, FROM_MS - 90_000) };
        let mut config = pool_config("p");
        config.sizes.iter_mut().for_each(|s| s.bounds = contract::capacity::Bounds::new(0, Some(9)).unwrap());
        Recorded {
            config,
            tasks: tasks.collect(),
            instances: vec![machine],
            decisions: Vec::new(),
            window: crate::Window { from_ms: FROM_MS, until_ms: FROM_MS + 3_600_000 },
        }
    }

    fn compared(late_ms: u64, error_max: f64) -> Comparison {
        let recorded = recorded(late_ms);
        let (spec, left_out) = recorded.twin().unwrap();
        assert_eq!(left_out, 0);
        compare(&spec, &recorded, &[0, 1], error_max)
    }

    #[test]
    fn a_reality_that_is_like_the_twin_has_no_error() {
        let same = compared(0, 0.001);
        assert!(same.within, "{same:?}");
        assert!(same.quantities.iter().all(|q| q.error < 1e-9), "{same:?}");
    }

    #[test]
    fn a_reality_that_waits_longer_is_out_of_the_limit_where_it_differs() {
        let late = compared(300_000, 0.05);
        let of = |name: &str| late.quantities.iter().find(|q| q.name == name).unwrap();
        assert!(!late.within && !of("wait_s_p50").within && of("vm_usd").within, "{late:?}");
        assert!((of("wait_s_p50").real - of("wait_s_p50").twin - 300.0).abs() < 121.0, "{late:?}");
    }
}
