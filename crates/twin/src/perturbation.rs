//! Domain randomisation: episodes around the fitted values, so that a policy survives what the last window did not
//! show.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::job::{Job, Workload};
use crate::random::{BOOT_FACTOR_STREAM, JOBS_STREAM, LOAD_STREAM, OUTAGE_FACTOR_STREAM, TASK_STREAM, factor, stream};
use crate::units::{ms_from_s, s_from_ms};

/// Jobs that follow one another this closely belong together: a batch is no instant, its submitter takes a while.
const TOGETHER_MS: u64 = 2000;
/// Tasks of a perturbed episode at most: ranks are 32-bit.
const TASKS_MAX: f64 = (u32::MAX - 1) as f64;

/// How far an episode may differ from the settings and the workload that it comes from. Every factor is log-normal with
/// median 1, and `…_log_sigma` is the standard deviation of its logarithm. All draws follow the episode's seed, each
/// kind from a stream of its own. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perturbation {
    /// Every run time of an episode is multiplied by one factor.
    pub runtime_log_sigma: f64,
    /// Jobs that are submitted together are moved together, evenly by at most this much to either side, seconds.
    pub arrival_jitter_s: f64,
    /// Each task's run time is multiplied by a factor of its own.
    pub task_log_sigma: f64,
    /// Every boot time of an episode is multiplied by one factor.
    pub boot_log_sigma: f64,
    /// The number of tasks is multiplied by one factor, but is at least 1. For fewer, tasks are left out at random; for
    /// more, random ones are repeated under new ids, at most two seconds before or after.
    pub load_log_sigma: f64,
    /// Times without capacity ([`crate::boot::LaunchFailures::Outages`]) are one factor times as long, and one factor
    /// times as frequent: the mean time between them is divided by it.
    pub outage_log_sigma: f64,
}

/// What is different in one episode, besides its jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Variation {
    pub boot_factor: f64,
    pub outage_factor: f64,
}

impl Variation {
    /// Nothing is different.
    pub const NONE: Self = Self { boot_factor: 1.0, outage_factor: 1.0 };
}

impl Perturbation {
    /// Some of everything, as much as a window of a real fleet may leave unseen.
    pub const ALL_KINDS: Self = Self {
        runtime_log_sigma: 0.1,
        arrival_jitter_s: 30.0,
        task_log_sigma: 0.2,
        boot_log_sigma: 0.2,
        load_log_sigma: 0.2,
        outage_log_sigma: 0.5,
    };

    /// Changes nothing; the default, for constants.
    pub const NONE: Self = Self {
        runtime_log_sigma: 0.0,
        arrival_jitter_s: 0.0,
        task_log_sigma: 0.0,
        boot_log_sigma: 0.0,
        load_log_sigma: 0.0,
        outage_log_sigma: 0.0,
    };

    /// What is different in the episode of `seed`, besides its jobs.
    pub(crate) fn variation(&self, seed: u64) -> Variation {
        Variation {
            boot_factor: common_factor(self.boot_log_sigma, seed, BOOT_FACTOR_STREAM),
            outage_factor: common_factor(self.outage_log_sigma, seed, OUTAGE_FACTOR_STREAM),
        }
    }

    /// Writes the jobs of the episode of `seed` over `into`, in the memory that it already has.
    pub(crate) fn rewrite(&self, into: &mut Workload, base: &Workload, seed: u64) {
        into.rewrite_from(base, |jobs| {
            let tasks = jobs.len() as f64;
            let mut load_rng = stream(seed, LOAD_STREAM);
            let target = (tasks * factor(self.load_log_sigma, &mut load_rng)).round().clamp(1.0, TASKS_MAX) as usize;
            thin_out(jobs, target, &mut load_rng);
            self.move_and_stretch(jobs, seed);
            repeat_some(jobs, target, &mut load_rng);
            self.stretch_each(jobs, seed);
        });
    }

    fn move_and_stretch(&self, jobs: &mut [Job], seed: u64) {
        let mut rng = stream(seed, JOBS_STREAM);
        let factor = factor(self.runtime_log_sigma, &mut rng);
        let jitter_s = self.arrival_jitter_s;
        let (mut last_ms, mut moved_s) = (None, 0.0);
        for job in jobs {
            if last_ms.is_none_or(|last_ms: u64| job.submit_ms.abs_diff(last_ms) > TOGETHER_MS) {
                moved_s = rng.random_range(-jitter_s..=jitter_s);
            }
            last_ms = Some(job.submit_ms);
            stretch(job, factor);
            job.submit_ms = ms_from_s((s_from_ms(job.submit_ms) + moved_s).max(0.0));
        }
    }

    fn stretch_each(&self, jobs: &mut [Job], seed: u64) {
        if self.task_log_sigma == 0.0 {
            return;
        }
        let mut rng = stream(seed, TASK_STREAM);
        jobs.iter_mut().for_each(|job| stretch(job, factor(self.task_log_sigma, &mut rng)));
    }
}

fn common_factor(log_sigma: f64, seed: u64, of: u64) -> f64 {
    if log_sigma == 0.0 { 1.0 } else { factor(log_sigma, &mut stream(seed, of)) }
}

fn stretch(job: &mut Job, factor: f64) {
    job.runtime_ms = ((job.runtime_ms as f64 * factor).round() as u64).max(1);
}

/// Leaves jobs out at random until there are at most `target`: each stays with probability needed / left, which makes
/// every choice of `target` jobs equally likely (Knuth, The Art of Computer Programming 2, algorithm 3.4.2 S).
fn thin_out(jobs: &mut Vec<Job>, target: usize, rng: &mut ChaCha8Rng) {
    let (mut left, mut needed) = (jobs.len(), target);
    if needed >= left {
        return;
    }
    jobs.retain(|_| {
        let stays = rng.random_range(0..left) < needed;
        left -= 1;
        needed -= usize::from(stays);
        stays
    });
}

/// Repeats random jobs until there are at least `target`, each near the one that it repeats.
fn repeat_some(jobs: &mut Vec<Job>, target: usize, rng: &mut ChaCha8Rng) {
    let given = jobs.len();
    let mut id = jobs.iter().map(|job| job.id).max().unwrap_or(0);
    while jobs.len() < target {
        id = id.saturating_add(1);
        let like = jobs[rng.random_range(0..given)];
        let submit_ms = (like.submit_ms + rng.random_range(0..=2 * TOGETHER_MS)).saturating_sub(TOGETHER_MS);
        jobs.push(Job { id, submit_ms, ..like });
    }
}
