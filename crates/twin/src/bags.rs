//! Bags of tasks: a load shaped like the logs of clusters that people share.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use crate::job::Job;
use crate::random::{SHAPE_STREAM, log_uniform, stream};
use crate::units::ms_from_s;

const HOUR_S: f64 = 3600.0;
const DAY_S: f64 = 24.0 * HOUR_S;

/// How wide tasks are: cores, and the share of bags with such tasks.
const WIDTHS: [(u32, f64); 4] = [(1, 0.6), (2, 0.15), (4, 0.15), (8, 0.1)];

/// People come by the hour of the day, and each hands in a bag of tasks that are alike: as wide, and about as long. Bags
/// differ in size and in run time by orders of magnitude, as they do on shared clusters (A. Iosup et al., "The performance
/// of bags-of-tasks in large-scale distributed systems", HPDC 2008). The numbers are our own: they are to span what logs
/// have, not to repeat one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bags {
    /// Cores that the tasks keep busy on average.
    pub busy_cores_mean: f64,
    /// How long tasks arrive, hours.
    pub hours: f64,
    /// By how much of the mean there is more to do at two in the afternoon, and less at two in the night, from 0 to 1.
    pub amplitude: f64,
    /// Median number of tasks in a bag.
    pub bag_tasks_median: f64,
    /// Median of the bags' typical run times.
    pub runtime_s_median: f64,
}

impl Bags {
    /// Spreads, sigma of logarithms: of the bags' sizes, of their run times, and of the run times within a bag.
    const SIZE_SIGMA: f64 = 1.3;
    const RUNTIME_SIGMA: f64 = 1.3;
    const WITHIN_SIGMA: f64 = 0.4;
    /// The largest bag, also as a share of all work so that no bag is the whole load, and the longest task.
    const BAG_TASKS_MAX: f64 = 500.0;
    const BAG_SHARE_MAX: f64 = 0.1;
    const RUNTIME_S_MAX: f64 = 12.0 * HOUR_S;
    const PEAK_HOUR: f64 = 14.0;

    /// A cluster of the kind: three days, 4 to 40 busy cores, bags with a median of 2 to 16 tasks and of one minute to
    /// an hour and a half, each drawn evenly on a logarithmic scale.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = stream(seed, SHAPE_STREAM);
        let mut between = |low: f64, high: f64| log_uniform(low, high, &mut rng);
        Self {
            busy_cores_mean: between(4.0, 40.0),
            hours: 72.0,
            amplitude: 0.6,
            bag_tasks_median: between(2.0, 16.0),
            runtime_s_median: between(60.0, 5400.0),
        }
    }

    /// Draws the jobs, in order: bags until they are as much work as was asked for; the last may exceed it.
    pub fn jobs(&self, seed: u64) -> Vec<Job> {
        let mut rng = stream(seed, 0);
        let core_s = self.busy_cores_mean * self.hours * HOUR_S;
        let (mut left_core_s, mut jobs) = (core_s, Vec::new());
        while left_core_s > 0.0 {
            let mut bag_core_s = 0.0;
            jobs.extend(self.bag(&mut rng).into_iter().take_while(|job| {
                let has_room = bag_core_s < Self::BAG_SHARE_MAX * core_s;
                bag_core_s += if has_room { f64::from(job.cores) * job.runtime_ms as f64 / 1000.0 } else { 0.0 };
                has_room
            }));
            left_core_s -= bag_core_s;
        }
        jobs.sort_by_key(|job| job.submit_ms);
        jobs.iter_mut().enumerate().for_each(|(i, job)| job.id = i as i64);
        jobs
    }

    /// One bag: all of it arrives at once, as a script hands it in.
    fn bag(&self, rng: &mut ChaCha8Rng) -> Vec<Job> {
        let tasks = log_normal(self.bag_tasks_median, Self::SIZE_SIGMA, rng).round().clamp(1.0, Self::BAG_TASKS_MAX);
        let typical_s = log_normal(self.runtime_s_median, Self::RUNTIME_SIGMA, rng);
        let (submit_ms, cores) = (ms_from_s(self.submit_s(rng)), width(rng));
        let mut job = || {
            let runtime_s = log_normal(typical_s, Self::WITHIN_SIGMA, rng).min(Self::RUNTIME_S_MAX);
            Job { id: 0, submit_ms, runtime_ms: ms_from_s(runtime_s).max(1), cores, memory_mb: 0 }
        };
        (0..tasks as usize).map(|_| job()).collect()
    }

    /// A time by the rhythm of the day, by rejection.
    fn submit_s(&self, rng: &mut ChaCha8Rng) -> f64 {
        loop {
            let at_s = rng.random::<f64>() * self.hours * HOUR_S;
            let phase = (at_s - Self::PEAK_HOUR * HOUR_S) * TAU / DAY_S;
            if rng.random::<f64>() * (1.0 + self.amplitude) < 1.0 + self.amplitude * phase.cos() {
                return at_s;
            }
        }
    }
}

fn log_normal(median: f64, sigma: f64, rng: &mut ChaCha8Rng) -> f64 {
    LogNormal::new(median.ln(), sigma).expect("sigma is a constant").sample(rng)
}

fn width(rng: &mut ChaCha8Rng) -> u32 {
    let mut left = rng.random::<f64>();
    for (cores, share) in WIDTHS {
        left -= share;
        if left < 0.0 {
            return cores;
        }
    }
    WIDTHS[0].0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Bags =
        Bags { busy_cores_mean: 20.0, hours: 2400.0, amplitude: 0.6, bag_tasks_median: 4.0, runtime_s_median: 600.0 };

    fn core_s(jobs: &[Job]) -> f64 {
        jobs.iter().map(|job| f64::from(job.cores) * job.runtime_ms as f64 / 1000.0).sum()
    }

    #[test]
    fn there_is_as_much_work_as_asked_for_and_the_tails_are_heavy() {
        let jobs = A.jobs(1);
        let busy = core_s(&jobs) / (A.hours * HOUR_S);
        assert!((20.0..22.1).contains(&busy), "the last bag exceeds it by a tenth at most, not {busy}");
        let mut by_work: Vec<f64> = jobs.iter().map(|job| f64::from(job.cores) * job.runtime_ms as f64).collect();
        by_work.sort_by(f64::total_cmp);
        let whole: f64 = by_work.iter().sum();
        // of exponential run times the longest tenth is a third of the work, and the median 0.7 of the mean
        let longest: f64 = by_work[by_work.len() * 9 / 10..].iter().sum();
        let median = by_work[by_work.len() / 2];
        assert!(longest > 0.5 * whole && median < 0.4 * whole / by_work.len() as f64, "{longest} {median} {whole}");
    }

    #[test]
    fn tasks_of_a_bag_are_alike_and_come_together() {
        let bag = A.bag(&mut stream(3, 0));
        assert!(bag.len() > 2, "{}", bag.len());
        assert!(bag.iter().all(|job| (job.submit_ms, job.cores) == (bag[0].submit_ms, bag[0].cores)));
        let (least, most) = (bag.iter().map(|j| j.runtime_ms).min(), bag.iter().map(|j| j.runtime_ms).max());
        assert!(most.unwrap() < 10 * least.unwrap() && most > least, "{least:?} {most:?}");
    }

    #[test]
    fn the_afternoon_has_more_bags_than_the_night_and_widths_their_shares() {
        let mut rng = stream(5, 0);
        let hours: Vec<f64> = (0..20_000).map(|_| A.submit_s(&mut rng) / HOUR_S % 24.0).collect();
        let within = |from: f64| hours.iter().filter(|h| (from..from + 2.0).contains(*h)).count() as f64;
        let ratio = within(13.0) / within(1.0);
        assert!((3.4..4.6).contains(&ratio), "1.6 / 0.4 is 4, not {ratio}");
        let widths: Vec<u32> = (0..20_000).map(|_| width(&mut rng)).collect();
        for (cores, share) in WIDTHS {
            let found = widths.iter().filter(|w| **w == cores).count() as f64 / 20_000.0;
            assert!((found - share).abs() < 0.01, "{cores}: {found}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_cluster_and_others_span_orders_of_magnitude() {
        let jobs = Bags::drawn(7).jobs(7);
        assert_eq!(jobs, Bags::drawn(7).jobs(7));
        assert!(jobs.is_sorted_by_key(|job| (job.submit_ms, job.id)));
        let all: Vec<Bags> = (0..64).map(Bags::drawn).collect();
        let span = |of: fn(&Bags) -> f64| {
            let values = all.iter().map(of);
            values.clone().fold(0.0, f64::max) / values.fold(f64::INFINITY, f64::min)
        };
        assert!(span(|b| b.runtime_s_median) > 30.0 && span(|b| b.busy_cores_mean) > 6.0);
    }
}
