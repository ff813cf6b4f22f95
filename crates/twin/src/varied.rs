//! Loads of any shape and size, so that a policy learns to find out what it has before it.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::arrivals::{Daily, Mmpp, MmppState, daily, mmpp};
use crate::job::Job;
use crate::random::{SHAPE_STREAM, log_uniform, stream};
use crate::workload::{Application, poisson};

const HOUR_S: f64 = 3600.0;

/// More tasks an hour than this make an episode slow and say nothing new: then the tasks are longer.
const TASKS_PER_HOUR_MAX: f64 = 3000.0;

/// How tasks arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Evenly at random, by [`poisson`].
    Even {
        /// Tasks an hour.
        rate_per_hour: f64,
        /// How long they arrive.
        hours: f64,
        /// Mean of the run times.
        runtime_s_mean: f64,
    },
    /// By the hour of the day.
    Daily(Daily),
    /// In bursts.
    Bursts(Mmpp),
    /// In generations.
    Application(Application),
}

/// Draws a shape, each as likely, and its numbers, all of them evenly on a logarithmic scale: 2 to 150 busy cores on
/// average, run times of 20 seconds to two hours, bursts of five minutes to two hours at 5 to 50 times the rate of the
/// calm between them, which lasts one to eight hours, 8 to 128 generations in eight hours.
pub fn shape(seed: u64) -> Shape {
    let mut rng = stream(seed, SHAPE_STREAM);
    let busy_cores = log_uniform(2.0, 150.0, &mut rng);
    let runtime_s_mean = log_uniform(20.0, 7200.0, &mut rng).max(busy_cores * HOUR_S / TASKS_PER_HOUR_MAX);
    let rate_per_hour = busy_cores * HOUR_S / runtime_s_mean;
    match seed % 4 {
        0 => Shape::Even { rate_per_hour, hours: 12.0, runtime_s_mean },
        1 => Shape::Daily(Daily {
            base_per_hour: rate_per_hour,
            amplitude: log_uniform(0.3, 0.95, &mut rng),
            peak_hour: 24.0 * rng.random::<f64>(),
            hours: 24.0,
            runtime_s_mean,
        }),
        2 => Shape::Bursts(bursts(rate_per_hour, runtime_s_mean, &mut rng)),
        _ => {
            let hours = 8.0;
            let tasks = (rate_per_hour * hours).round().max(1.0) as usize;
            let generations = log_uniform(8.0, 128.0, &mut rng).round() as usize;
            Shape::Application(Application { tasks, generations, runtime_s_mean, span_s: hours * HOUR_S })
        }
    }
}

/// Bursts and calm that have this rate in the long run.
fn bursts(rate_per_hour: f64, runtime_s_mean: f64, rng: &mut ChaCha8Rng) -> Mmpp {
    let times = log_uniform(5.0, 50.0, rng);
    let calm_s = log_uniform(HOUR_S, 8.0 * HOUR_S, rng);
    let burst_s = log_uniform(300.0, 2.0 * HOUR_S, rng);
    let calm_rate = rate_per_hour * (calm_s + burst_s) / (calm_s + times * burst_s);
    let calm = MmppState { rate_per_hour: calm_rate, dwell_s_mean: calm_s };
    let burst = MmppState { rate_per_hour: times * calm_rate, dwell_s_mean: burst_s };
    Mmpp { states: vec![calm, burst], hours: 24.0, runtime_s_mean }
}

impl Shape {
    /// Jobs of this shape, in order; with another seed those of another day.
    pub fn jobs(&self, seed: u64) -> Vec<Job> {
        match self {
            Self::Even { rate_per_hour, hours, runtime_s_mean } => {
                poisson(*rate_per_hour, *hours, *runtime_s_mean, seed)
            }
            Self::Daily(options) => daily(options, seed),
            Self::Bursts(options) => mmpp(options, seed),
            Self::Application(options) => options.jobs(seed),
        }
    }
}

/// The jobs of [`shape`], in order.
pub fn varied(seed: u64) -> Vec<Job> {
    shape(seed).jobs(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_the_busy_cores_and_run_times_of_its_range() {
        let of = |seed: u64| match shape(seed) {
            Shape::Even { rate_per_hour, hours, runtime_s_mean } => (rate_per_hour, hours, runtime_s_mean),
            Shape::Daily(d) => (d.base_per_hour, d.hours, d.runtime_s_mean),
            Shape::Bursts(b) => {
                assert!(b.problems().is_empty(), "{:?}", b.problems());
                (b.rate_per_hour_mean(), b.hours, b.runtime_s_mean)
            }
            Shape::Application(a) => (a.tasks as f64 / 8.0, a.span_s / HOUR_S, a.runtime_s_mean),
        };
        let mut runtimes_s = Vec::new();
        for seed in 0..400 {
            let (rate_per_hour, hours, runtime_s) = of(seed);
            let busy_cores = rate_per_hour * runtime_s / HOUR_S;
            assert!((1.9..150.1).contains(&busy_cores) && rate_per_hour < 3001.0, "{seed}: {busy_cores}");
            assert!((20.0..=7200.0).contains(&runtime_s) && (8.0..=24.0).contains(&hours), "{seed}: {runtime_s}");
            runtimes_s.push(runtime_s);
        }
        let longest = runtimes_s.iter().copied().fold(0.0, f64::max);
        let shortest = runtimes_s.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(longest / shortest > 200.0, "{shortest} {longest}");
    }

    #[test]
    fn the_same_seed_is_the_same_load_in_order_and_none_that_is_learned_is_empty() {
        for seed in 0..192 {
            let jobs = varied(seed);
            assert!(!jobs.is_empty() && jobs.is_sorted_by_key(|job| (job.submit_ms, job.id)), "{seed}");
        }
        assert_eq!(varied(6), varied(6));
    }
}
