//! Arrivals that are not even: bursts, and the rhythm of the day.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::job::Job;
use crate::limits::{TASKS_MAX, TIME_S_MAX};
use crate::random::stream;
use crate::units::ms_from_s;
use crate::workload::{exponential, one_core};

const HOUR_S: f64 = 3600.0;
const DAY_HOURS: f64 = 24.0;

/// A state of [`Mmpp`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MmppState {
    /// Tasks an hour while it lasts.
    pub rate_per_hour: f64,
    /// How long it lasts on average.
    pub dwell_s_mean: f64,
}

/// Bursts: a Markov-modulated Poisson process. Tasks arrive as a Poisson process whose rate is that of a state; a state
/// lasts for an exponential time, and any of the others follows, each as likely. The process begins in its stationary
/// distribution, so that its mean rate is the same from the start.
///
/// Definition: W. Fischer and K. Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance
/// Evaluation 18 (1993), 149–171.
#[derive(Clone, Debug, PartialEq)]
pub struct Mmpp {
    /// Two or more states.
    pub states: Vec<MmppState>,
    /// How long tasks arrive.
    pub hours: f64,
    /// Mean of the run times, which are exponential.
    pub runtime_s_mean: f64,
}

impl Default for Mmpp {
    /// A day with 60 tasks of a minute an hour, and once in about two hours a burst of five minutes at twenty times that
    /// rate.
    fn default() -> Self {
        let calm = MmppState { rate_per_hour: 60.0, dwell_s_mean: 7200.0 };
        let burst = MmppState { rate_per_hour: 1200.0, dwell_s_mean: 300.0 };
        Self { states: vec![calm, burst], hours: 24.0, runtime_s_mean: 60.0 }
    }
}

impl Mmpp {
    /// Tasks an hour in the long run: the states' rates, weighted with their mean times. The weights are the stationary
    /// distribution, as each state is entered equally often.
    pub fn rate_per_hour_mean(&self) -> f64 {
        let dwell_s: f64 = self.states.iter().map(|s| s.dwell_s_mean).sum();
        self.states.iter().map(|s| s.rate_per_hour * s.dwell_s_mean).sum::<f64>() / dwell_s
    }

    /// Every problem of the options, each naming its field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.states.len() < 2 {
            problems.push("states: give at least two".into());
        }
        for (i, state) in self.states.iter().enumerate() {
            if !is_rate(state.rate_per_hour) {
                problems.push(format!("states[{i}].rate_per_hour: must be a number at or above 0"));
            }
            // below a second states would change without an end in sight
            if !(1.0..=TIME_S_MAX).contains(&state.dwell_s_mean) {
                problems.push(format!("states[{i}].dwell_s_mean: must be between 1 and {TIME_S_MAX:e} s"));
            }
        }
        problems.extend(common_problems(self.hours, self.runtime_s_mean, self.rate_per_hour_mean()));
        problems
    }
}

/// Independent one-core tasks in bursts. The options must have no [`Mmpp::problems`].
pub fn mmpp(options: &Mmpp, seed: u64) -> Vec<Job> {
    debug_assert!(options.problems().is_empty(), "{:?}", options.problems());
    let mut rng = stream(seed, 0);
    let end_s = options.hours * HOUR_S;
    let mut jobs = Vec::new();
    let mut state = stationary(&options.states, &mut rng);
    let mut from_s = 0.0;
    while from_s < end_s {
        let MmppState { rate_per_hour, dwell_s_mean } = options.states[state];
        // what is left of the first state is as long as a whole one: the exponential has no memory
        let until_s = (from_s + exponential(dwell_s_mean, &mut rng)).min(end_s);
        arrive(&mut jobs, from_s..until_s, rate_per_hour, options.runtime_s_mean, &mut rng);
        from_s = until_s;
        state = another(state, options.states.len(), &mut rng);
    }
    jobs
}

/// A state, as likely as the share of time that is spent in it.
fn stationary(states: &[MmppState], rng: &mut ChaCha8Rng) -> usize {
    let all_s: f64 = states.iter().map(|s| s.dwell_s_mean).sum();
    let mut left_s = rng.random::<f64>() * all_s;
    for (i, state) in states.iter().enumerate() {
        left_s -= state.dwell_s_mean;
        if left_s < 0.0 {
            return i;
        }
    }
    states.len() - 1
}

/// Any of `n` states but `state`, each as likely.
fn another(state: usize, n: usize, rng: &mut ChaCha8Rng) -> usize {
    let k = rng.random_range(0..n - 1);
    if k < state { k } else { k + 1 }
}

/// Poisson arrivals within a time, seconds.
fn arrive(
    jobs: &mut Vec<Job>,
    when_s: std::ops::Range<f64>,
    rate_per_hour: f64,
    runtime_s_mean: f64,
    rng: &mut ChaCha8Rng,
) {
    if rate_per_hour == 0.0 {
        return;
    }
    let gap_s = HOUR_S / rate_per_hour;
    let mut at_s = when_s.start + exponential(gap_s, rng);
    while at_s < when_s.end {
        add(jobs, at_s, runtime_s_mean, rng);
        at_s += exponential(gap_s, rng);
    }
}

fn add(jobs: &mut Vec<Job>, at_s: f64, runtime_s_mean: f64, rng: &mut ChaCha8Rng) {
    let runtime_ms = ms_from_s(exponential(runtime_s_mean, rng)).max(1);
    jobs.push(one_core(jobs.len(), ms_from_s(at_s), runtime_ms));
}

/// The rhythm of the day: a Poisson process with the rate `base (1 + amplitude cos(2π (h - peak_hour) / 24))` at the hour
/// `h`. It begins at midnight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Daily {
    /// Tasks an hour, mean of a whole day.
    pub base_per_hour: f64,
    /// By how much of the base the rate is higher at the peak and lower half a day from it, from 0 to 1.
    pub amplitude: f64,
    /// Hour of the day with the highest rate, from 0 to under 24.
    pub peak_hour: f64,
    /// How long tasks arrive.
    pub hours: f64,
    /// Mean of the run times, which are exponential.
    pub runtime_s_mean: f64,
}

impl Default for Daily {
    /// A week with 120 tasks of a minute an hour: 216 at two in the afternoon, 24 at two in the night.
    fn default() -> Self {
        Self { base_per_hour: 120.0, amplitude: 0.8, peak_hour: 14.0, hours: 7.0 * DAY_HOURS, runtime_s_mean: 60.0 }
    }
}

impl Daily {
    /// Tasks an hour at `hour` hours from the start.
    pub fn rate_per_hour(&self, hour: f64) -> f64 {
        self.base_per_hour * (1.0 + self.amplitude * ((hour - self.peak_hour) * TAU / DAY_HOURS).cos())
    }

    /// Every problem of the options, each naming its field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(is_rate(self.base_per_hour) && self.base_per_hour > 0.0) {
            problems.push("base_per_hour: must be a number above 0".into());
        }
        if !(0.0..=1.0).contains(&self.amplitude) {
            problems.push("amplitude: must be between 0 and 1".into());
        }
        if !(0.0..DAY_HOURS).contains(&self.peak_hour) {
            problems.push("peak_hour: must be from 0 to under 24".into());
        }
        problems.extend(common_problems(self.hours, self.runtime_s_mean, self.base_per_hour));
        problems
    }
}

/// Independent one-core tasks in the rhythm of the day. The options must have no [`Daily::problems`].
///
/// By thinning: arrivals at the peak's rate, each kept as likely as the rate of its time is of the peak's (P. A. W. Lewis
/// and G. S. Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", Naval Research Logistics Quarterly 26
/// (1979), 403–413).
pub fn daily(options: &Daily, seed: u64) -> Vec<Job> {
    debug_assert!(options.problems().is_empty(), "{:?}", options.problems());
    let mut rng = stream(seed, 0);
    let peak_per_hour = options.rate_per_hour(options.peak_hour);
    let mut jobs = Vec::new();
    let mut hour = exponential(1.0 / peak_per_hour, &mut rng);
    while hour < options.hours {
        if rng.random::<f64>() * peak_per_hour < options.rate_per_hour(hour) {
            add(&mut jobs, hour * HOUR_S, options.runtime_s_mean, &mut rng);
        }
        hour += exponential(1.0 / peak_per_hour, &mut rng);
    }
    jobs
}

fn is_rate(per_hour: f64) -> bool {
    per_hour.is_finite() && per_hour >= 0.0
}

fn common_problems(hours: f64, runtime_s_mean: f64, rate_per_hour: f64) -> Vec<String> {
    let mut problems = Vec::new();
    let hours_max = TIME_S_MAX / HOUR_S;
    if !(hours > 0.0 && hours <= hours_max) {
        problems.push(format!("hours: must be above 0 and at most {hours_max:.0}"));
    }
    // run times are exponential, and the longest of many are far above their mean
    if !(runtime_s_mean > 0.0 && runtime_s_mean <= TIME_S_MAX / 1000.0) {
        problems.push(format!("runtime_s_mean: must be above 0 and at most {:e}", TIME_S_MAX / 1000.0));
    }
    if hours * rate_per_hour > TASKS_MAX {
        problems.push(format!("hours: with these rates there are more than {TASKS_MAX:e} tasks"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::poisson;

    const HOUR_MS: u64 = 3_600_000;

    /// Index of dispersion for counts, `Var N / E N`, of the tasks in windows of an hour: 1 of a Poisson process.
    fn dispersion(jobs: &[Job], hours: usize) -> f64 {
        let mut counts = vec![0.0; hours];
        jobs.iter().for_each(|job| counts[(job.submit_ms / HOUR_MS) as usize] += 1.0);
        let mean = counts.iter().sum::<f64>() / hours as f64;
        counts.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / (hours as f64 - 1.0) / mean
    }

    fn assert_near(value: f64, expected: f64, share: f64) {
        assert!((value / expected - 1.0).abs() < share, "{value} is not within {share} of {expected}");
    }

    fn long() -> Mmpp {
        Mmpp { hours: 20_000.0, ..Mmpp::default() }
    }

    /// Index of dispersion for counts in windows of `t`, of two states with rates `a`, `b` that are left at the rates
    /// `c`, `d`: `1 + 2 p q (a - b)² / (m (c + d)²) × ((c + d) - (1 - exp(-(c + d) t)) / t)`, with `p = d / (c + d)`,
    /// `q = 1 - p` and the mean rate `m`; from the variance of the integral of a rate whose covariance falls off as
    /// `exp(-(c + d) t)`.
    fn dispersion_of_two(options: &Mmpp, t: f64) -> f64 {
        let [x, y] = options.states[..] else { panic!("two states") };
        let (c, d) = (HOUR_S / x.dwell_s_mean, HOUR_S / y.dwell_s_mean);
        let (p, q, s) = (d / (c + d), c / (c + d), c + d);
        let gap = x.rate_per_hour - y.rate_per_hour;
        1.0 + 2.0 * p * q * gap * gap / (options.rate_per_hour_mean() * s * s) * (s - (1.0 - (-s * t).exp()) / t)
    }

    #[test]
    fn bursts_have_the_mean_rate_and_the_dispersion_of_the_theory() {
        let options = long();
        assert_near(options.rate_per_hour_mean(), 105.6, 1e-12);
        let jobs = mmpp(&options, 1);
        assert_near(jobs.len() as f64, 105.6 * options.hours, 0.02);
        let expected = dispersion_of_two(&options, 1.0);
        assert!(expected > 10.0, "{expected}");
        assert_near(dispersion(&jobs, 20_000), expected, 0.05);
        let mean_s = jobs.iter().map(|j| j.runtime_ms as f64).sum::<f64>() / jobs.len() as f64 / 1000.0;
        assert_near(mean_s, 60.0, 0.01);
    }

    #[test]
    fn a_poisson_process_and_bursts_without_a_difference_are_not_dispersed() {
        assert_near(dispersion(&poisson(105.6, 20_000.0, 60.0, 1), 20_000), 1.0, 0.03);
        let mut even = long();
        even.states.iter_mut().for_each(|s| s.rate_per_hour = 100.0);
        assert_near(dispersion(&mmpp(&even, 2), 20_000), 1.0, 0.03);
    }

    #[test]
    fn more_than_two_states_share_time_by_their_dwell_times_and_may_be_silent() {
        let state = |rate_per_hour, dwell_s_mean| MmppState { rate_per_hour, dwell_s_mean };
        let states = vec![state(0.0, 1800.0), state(100.0, 600.0), state(900.0, 300.0), state(10.0, 3600.0)];
        let options = Mmpp { states, hours: 20_000.0, runtime_s_mean: 1.0 };
        let mean = (100.0 * 600.0 + 900.0 * 300.0 + 10.0 * 3600.0) / 6300.0;
        assert_near(options.rate_per_hour_mean(), mean, 1e-12);
        assert_near(mmpp(&options, 3).len() as f64, mean * 20_000.0, 0.03);
    }

    #[test]
    fn the_first_hour_is_like_any_other() {
        let options = Mmpp { hours: 1.0, ..Mmpp::default() };
        let jobs: usize = (0..20_000).map(|seed| mmpp(&options, seed).len()).sum();
        assert_near(jobs as f64, 105.6 * 20_000.0, 0.03);
    }

    #[test]
    fn the_day_has_its_mean_its_peak_and_its_trough() {
        let days = 2000.0;
        let options = Daily { hours: days * 24.0, ..Daily::default() };
        let jobs = daily(&options, 1);
        assert_near(jobs.len() as f64, 120.0 * options.hours, 0.01);
        let mut by_hour = [0.0; 24];
        jobs.iter().for_each(|job| by_hour[(job.submit_ms / HOUR_MS % 24) as usize] += 1.0 / days);
        for (hour, n) in by_hour.iter().enumerate() {
            assert_near(*n, options.rate_per_hour(hour as f64 + 0.5), 0.03);
        }
        // the hours on both sides of the peak, and of the trough, have the same rate
        let (most, least) = ((by_hour[13] + by_hour[14]) / 2.0, (by_hour[1] + by_hour[2]) / 2.0);
        assert!(by_hour.iter().all(|n| (0.97 * least..=1.03 * most).contains(n)), "{by_hour:?}");
        assert_near(most / least, 9.0, 0.1);
    }

    #[test]
    fn the_same_seed_gives_the_same_tasks_in_order() {
        let draws = [|seed| mmpp(&Mmpp::default(), seed), |seed| daily(&Daily::default(), seed)];
        for draw in draws {
            let jobs = draw(7);
            assert_eq!(jobs, draw(7));
            assert_ne!(jobs, draw(8));
            assert!(jobs.is_sorted_by_key(|job| (job.submit_ms, job.id)) && jobs.len() > 100);
        }
    }

    #[test]
    fn impossible_options_are_named() {
        assert!(Mmpp::default().problems().is_empty() && Daily::default().problems().is_empty());
        let state = MmppState { rate_per_hour: f64::NAN, dwell_s_mean: 0.0 };
        let problems = Mmpp { states: vec![state], hours: -1.0, runtime_s_mean: 0.0 }.problems();
        let fields = ["states:", "states[0].rate_per_hour", "states[0].dwell_s_mean", "hours", "runtime_s_mean"];
        assert!(problems.iter().zip(fields).all(|(p, f)| p.starts_with(f)) && problems.len() == 5, "{problems:?}");
        let wrong =
            Daily { base_per_hour: 0.0, amplitude: 1.1, peak_hour: 24.0, hours: f64::INFINITY, runtime_s_mean: 1e9 };
        assert_eq!(wrong.problems().len(), 5, "{:?}", wrong.problems());
        let many = Daily { base_per_hour: 1e6, ..Daily::default() };
        assert_eq!(many.problems().len(), 1, "{:?}", many.problems());
    }
}
