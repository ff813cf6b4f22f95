//! Random draws of an episode: each kind has a stream of its own, so that one never shifts another.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, StandardNormal};

use crate::limits::TIME_S_MAX;
use crate::units::ms_from_s;

/// Boot times.
pub(crate) const BOOT_STREAM: u64 = 1;
/// Outages of the first machine type; the others' follow.
pub(crate) const CAPACITY_STREAM: u64 = 2;
/// Perturbed jobs: the common factor of run times, and how batches move.
pub(crate) const JOBS_STREAM: u64 = 1 << 32;
/// How long stopped machines stay billed.
pub(crate) const STOP_STREAM: u64 = JOBS_STREAM + 1;
/// Lives of machines that are not on demand.
pub(crate) const LIFE_STREAM: u64 = JOBS_STREAM + 2;
/// Age of the outside metrics.
pub(crate) const METRIC_DELAY_STREAM: u64 = JOBS_STREAM + 3;
/// Gaps in the outside metrics.
pub(crate) const METRIC_GAP_STREAM: u64 = JOBS_STREAM + 4;
/// Perturbed run times, task by task.
pub(crate) const TASK_STREAM: u64 = JOBS_STREAM + 5;
/// How many tasks there are, and which.
pub(crate) const LOAD_STREAM: u64 = JOBS_STREAM + 6;
/// The common factor of boot times.
pub(crate) const BOOT_FACTOR_STREAM: u64 = JOBS_STREAM + 7;
/// The common factor of outages.
pub(crate) const OUTAGE_FACTOR_STREAM: u64 = JOBS_STREAM + 8;
/// What kind of load a generator draws; apart from the stream of its jobs, which is 0.
pub(crate) const SHAPE_STREAM: u64 = 1;

/// One stream of the generator of `seed`.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// A time drawn evenly from `low_ms` to `high_ms`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The shortest, milliseconds.
    pub low_ms: u64,
    /// The longest, milliseconds; not below `low_ms`.
    pub high_ms: u64,
}

impl TimeRange {
    pub(crate) fn is_valid(&self) -> bool {
        self.low_ms <= self.high_ms && self.high_ms <= ms_from_s(TIME_S_MAX)
    }

    pub(crate) fn draw_ms(&self, rng: &mut ChaCha8Rng) -> u64 {
        rng.random_range(self.low_ms..=self.high_ms)
    }
}

/// An exponential time of a mean above 0, at least 1 ms, so that what it ends always makes way.
pub(crate) fn exponential_ms(mean_s: f64, rng: &mut ChaCha8Rng) -> u64 {
    debug_assert!(mean_s > 0.0);
    let s: f64 = Exp::new(1.0 / mean_s).expect("a positive mean").sample(rng);
    ms_from_s(s.min(TIME_S_MAX)).max(1)
}

/// A log-normal factor with median 1, whose logarithm has this standard deviation.
pub(crate) fn factor(log_sigma: f64, rng: &mut ChaCha8Rng) -> f64 {
    let normal: f64 = StandardNormal.sample(rng);
    (log_sigma * normal).exp()
}

/// A number from `low` to `high`, evenly on a logarithmic scale.
pub(crate) fn log_uniform(low: f64, high: f64, rng: &mut ChaCha8Rng) -> f64 {
    low * (high / low).powf(rng.random::<f64>())
}
