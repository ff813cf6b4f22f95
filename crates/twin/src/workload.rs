//! Loads to train on and to compare with: the published one, one shaped like the published application, and arrivals at
//! random. Those that come in bursts or by the hour of the day are in [`crate::arrivals`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::job::Job;
use crate::random::stream;
use crate::units::ms_from_s;

const MINUTE_MS: u64 = 60_000;

/// The published training load in both orders of its batches: alternating from 50, and all 100s first.
pub fn published_orders() -> [Vec<Job>; 2] {
    let alternating: Vec<u32> = (0..21).map(|i| if i % 2 == 0 { 50 } else { 100 }).collect();
    let hundreds_first: Vec<u32> = (0..21).map(|i| if i < 10 { 100 } else { 50 }).collect();
    [published(&alternating), published(&hundreds_first)]
}

/// Batches of one-core jobs of 360 s, 8 minutes apart, and one job 30 minutes after the last batch.
fn published(batches: &[u32]) -> Vec<Job> {
    let mut submits_ms = Vec::new();
    for (i, size) in batches.iter().enumerate() {
        submits_ms.extend((0..*size).map(|_| i as u64 * 8 * MINUTE_MS));
    }
    let last_ms = submits_ms.last().copied().unwrap_or(0);
    submits_ms.push(last_ms + 30 * MINUTE_MS);
    let jobs = submits_ms.into_iter().enumerate();
    jobs.map(|(id, submit_ms)| one_core(id, submit_ms, 6 * MINUTE_MS)).collect()
}

/// A task on one core.
pub(crate) fn one_core(id: usize, submit_ms: u64, runtime_ms: u64) -> Job {
    Job { id: id as i64, submit_ms, runtime_ms, cores: 1, memory_mb: 0 }
}

/// A load shaped like the published application: a co-evolutionary search that submits generation after generation,
/// of very different sizes, at irregular times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Application {
    /// Tasks in all.
    pub tasks: usize,
    /// Generations that they come in.
    pub generations: usize,
    /// Mean run time.
    pub runtime_s_mean: f64,
    /// Time from the first generation to the last.
    pub span_s: f64,
}

impl Default for Application {
    /// The published evaluation: 11 422 tasks of 41.87 s in about 285 minutes.
    fn default() -> Self {
        Self { tasks: 11_422, generations: 96, runtime_s_mean: 41.87, span_s: 280.0 * 60.0 }
    }
}

impl Application {
    /// Spread of the sizes of generations, of the gaps between them, and of run times: sigma of their logarithms.
    const SIZE_SIGMA: f64 = 0.9;
    const GAP_SIGMA: f64 = 0.7;
    const RUNTIME_SIGMA: f64 = 0.35;

    /// Draws the jobs: exactly `tasks`, over exactly `span_s`, with exactly the mean run time but for rounding.
    pub fn jobs(&self, seed: u64) -> Vec<Job> {
        let mut rng = stream(seed, 0);
        let generations = self.generations.clamp(1, self.tasks.max(1));
        let sizes = running_shares(&log_normals(generations, Self::SIZE_SIGMA, &mut rng));
        let mut gaps = log_normals(generations, Self::GAP_SIGMA, &mut rng);
        gaps[0] = 0.0;
        let times = running_shares(&gaps);
        let runtimes = log_normals(self.tasks, Self::RUNTIME_SIGMA, &mut rng);
        let scale_s = self.runtime_s_mean * self.tasks as f64 / runtimes.iter().sum::<f64>();
        let jobs = runtimes.iter().enumerate().map(|(i, x)| {
            let share = (i as f64 + 0.5) / self.tasks as f64;
            let generation = sizes.partition_point(|end| *end < share).min(generations - 1);
            one_core(i, ms_from_s(times[generation] * self.span_s), ms_from_s(x * scale_s).max(1))
        });
        jobs.collect()
    }
}

fn log_normals(n: usize, sigma: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let law = LogNormal::new(0.0, sigma).expect("sigma is a constant");
    (0..n).map(|_| law.sample(rng)).collect()
}

/// Partial sums as shares of the whole; 0 throughout if there is nothing.
fn running_shares(parts: &[f64]) -> Vec<f64> {
    let whole: f64 = parts.iter().sum();
    let sums = parts.iter().scan(0.0, |sum, part| {
        *sum += part;
        Some(if whole > 0.0 { *sum / whole } else { 0.0 })
    });
    sums.collect()
}

/// Independent one-core tasks at random times: `rate_per_hour` for `hours`, run times exponential with the given mean.
pub fn poisson(rate_per_hour: f64, hours: f64, runtime_s_mean: f64, seed: u64) -> Vec<Job> {
    debug_assert!(rate_per_hour > 0.0);
    let mut rng = stream(seed, 0);
    let mut jobs = Vec::new();
    let gap_s = 3600.0 / rate_per_hour;
    let mut at_s = exponential(gap_s, &mut rng);
    while at_s < hours * 3600.0 {
        jobs.push(one_core(jobs.len(), ms_from_s(at_s), ms_from_s(exponential(runtime_s_mean, &mut rng)).max(1)));
        at_s += exponential(gap_s, &mut rng);
    }
    jobs
}

/// An exponential time with that mean.
pub(crate) fn exponential(mean: f64, rng: &mut ChaCha8Rng) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_load_is_as_described() {
        for jobs in published_orders() {
            assert_eq!(jobs.len(), 1551);
            assert_eq!(jobs.last().unwrap().submit_ms, 190 * MINUTE_MS);
            assert!(jobs.iter().all(|job| job.runtime_ms == 360_000 && job.cores == 1));
        }
        let [alternating, hundreds] = published_orders();
        let first = |jobs: &[Job]| jobs.iter().filter(|job| job.submit_ms == 0).count();
        assert_eq!((first(&alternating), first(&hundreds)), (50, 100));
    }

    #[test]
    fn the_application_has_the_published_totals_and_is_irregular() {
        let jobs = Application::default().jobs(3);
        assert_eq!(jobs.len(), 11_422);
        let mean_s = jobs.iter().map(|job| job.runtime_ms as f64).sum::<f64>() / 11_422.0 / 1000.0;
        assert!((mean_s - 41.87).abs() < 0.001, "{mean_s}");
        assert_eq!(jobs.iter().map(|job| job.submit_ms).max(), Some(280 * MINUTE_MS));
        let mut sizes = std::collections::BTreeMap::new();
        jobs.iter().for_each(|job| *sizes.entry(job.submit_ms).or_insert(0u32) += 1);
        let (least, most) = (sizes.values().min().unwrap(), sizes.values().max().unwrap());
        assert!(most / least > 10, "{least} to {most}");
        assert_eq!(jobs, Application::default().jobs(3));
        assert_ne!(jobs, Application::default().jobs(4));
    }

    #[test]
    fn poisson_arrivals_have_the_asked_rate_and_mean() {
        let jobs = poisson(600.0, 100.0, 30.0, 1);
        assert!((jobs.len() as f64 - 60_000.0).abs() < 1000.0, "{}", jobs.len());
        let mean_ms = jobs.iter().map(|job| job.runtime_ms).sum::<u64>() / jobs.len() as u64;
        assert!((29_000..31_000).contains(&mean_ms), "{mean_ms}");
    }
}
