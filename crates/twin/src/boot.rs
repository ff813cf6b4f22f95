//! How long machines take to boot, and which launches fail for lack of capacity.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};
use serde::{Deserialize, Serialize};

use crate::random::{BOOT_STREAM, CAPACITY_STREAM, exponential_ms, stream};
use crate::units::ms_from_s;

/// Where boot times come from. The k-th accepted launch takes the k-th value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum BootModel {
    /// Always the same.
    Fixed {
        /// The boot time.
        seconds: f64,
    },
    /// The values in turn, wrapping around.
    List {
        /// The boot times; at least one.
        seconds: Vec<f64>,
    },
    /// Observed values, drawn at random with replacement.
    Sample {
        /// The observed boot times; at least one.
        seconds: Vec<f64>,
        /// Seed of the draws; an environment uses the episode's instead.
        #[serde(default)]
        seed: u64,
    },
    /// Evenly between two values.
    Uniform {
        /// The shortest.
        low_s: f64,
        /// The longest.
        high_s: f64,
        /// Seed of the draws; an environment uses the episode's instead.
        #[serde(default)]
        seed: u64,
    },
    /// `shift_s` plus a log-normal; a share of the boots takes evenly between two long times instead.
    Lognormal {
        /// The part that never varies.
        shift_s: f64,
        /// Median of the log-normal part.
        median_s: f64,
        /// Standard deviation of its logarithm.
        sigma: f64,
        /// Share of boots in the long tail.
        #[serde(default)]
        tail_probability: f64,
        /// Shortest boot of the tail.
        #[serde(default)]
        tail_low_s: f64,
        /// Longest boot of the tail.
        #[serde(default)]
        tail_high_s: f64,
        /// Seed of the draws; an environment uses the episode's instead.
        #[serde(default)]
        seed: u64,
    },
}

impl BootModel {
    /// EC2 until a pool has records of its own: 20 s + log-normal (median 25 s, sigma 0.45), 0.5 % of 180 to 900 s.
    pub fn ec2() -> Self {
        BootModel::Lognormal {
            shift_s: 20.0,
            median_s: 25.0,
            sigma: 0.45,
            tail_probability: 0.005,
            tail_low_s: 180.0,
            tail_high_s: 900.0,
            seed: 0,
        }
    }

    /// The seed that a scenario pins.
    pub fn seed(&self) -> u64 {
        match self {
            BootModel::Fixed { .. } | BootModel::List { .. } => 0,
            BootModel::Sample { seed, .. } | BootModel::Uniform { seed, .. } | BootModel::Lognormal { seed, .. } => {
                *seed
            }
        }
    }

    /// The boot times of the first `n` launches of an episode, seconds.
    pub fn draw_s(&self, seed: u64, n: usize) -> Vec<f64> {
        let mut times = BootTimes::new(seed, 1.0);
        (0..n).map(|_| crate::units::s_from_ms(times.next_ms(self))).collect()
    }

    /// What is wrong with the model, each problem naming its field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut time = |name: &str, s: f64| {
            if !(0.0..=crate::limits::TIME_S_MAX).contains(&s) {
                problems.push(format!("config.boot.{name}: must be between 0 and {:e} s", crate::limits::TIME_S_MAX));
            }
        };
        match self {
            BootModel::Fixed { seconds } => time("seconds", *seconds),
            BootModel::List { seconds } | BootModel::Sample { seconds, .. } => {
                seconds.iter().enumerate().for_each(|(i, s)| time(&format!("seconds[{i}]"), *s));
                if seconds.is_empty() {
                    problems.push("config.boot.seconds: give at least one".into());
                }
            }
            BootModel::Uniform { low_s, high_s, .. } => {
                time("low_s", *low_s);
                time("high_s", *high_s);
                if low_s > high_s {
                    problems.push("config.boot.low_s: must not be above high_s".into());
                }
            }
            BootModel::Lognormal { shift_s, median_s, sigma, tail_probability, tail_low_s, tail_high_s, .. } => {
                time("shift_s", *shift_s);
                time("median_s", *median_s);
                time("tail_low_s", *tail_low_s);
                time("tail_high_s", *tail_high_s);
                if *median_s <= 0.0 {
                    problems.push("config.boot.median_s: must be above 0".into());
                }
                if !(0.0..=10.0).contains(sigma) {
                    problems.push("config.boot.sigma: must be between 0 and 10".into());
                }
                if !(0.0..=1.0).contains(tail_probability) {
                    problems.push("config.boot.tail_probability: must be between 0 and 1".into());
                }
                if tail_low_s > tail_high_s {
                    problems.push("config.boot.tail_low_s: must not be above tail_high_s".into());
                }
            }
        }
        problems
    }
}

/// Draws boot times for one episode.
#[derive(Clone, Debug)]
pub(crate) struct BootTimes {
    drawn: usize,
    factor: f64,
    rng: ChaCha8Rng,
}

impl BootTimes {
    /// Boot times of one episode, all multiplied by `factor`.
    pub fn new(seed: u64, factor: f64) -> Self {
        Self { drawn: 0, factor, rng: stream(seed, BOOT_STREAM) }
    }

    /// The boot time of the next accepted launch, milliseconds.
    pub fn next_ms(&mut self, model: &BootModel) -> u64 {
        let k = self.drawn;
        self.drawn += 1;
        let seconds = match model {
            BootModel::Fixed { seconds } => *seconds,
            BootModel::List { seconds } => seconds[k % seconds.len()],
            BootModel::Sample { seconds, .. } => seconds[self.rng.random_range(0..seconds.len())],
            BootModel::Uniform { low_s, high_s, .. } => self.rng.random_range(*low_s..=*high_s),
            BootModel::Lognormal { shift_s, median_s, sigma, tail_probability, tail_low_s, tail_high_s, .. } => {
                // both are always drawn, so that a changed tail does not shift the draws that follow
                let in_tail = self.rng.random::<f64>() < *tail_probability;
                let body = LogNormal::new(median_s.ln(), *sigma).expect("sigma was checked").sample(&mut self.rng);
                let long = self.rng.random_range(*tail_low_s..=*tail_high_s);
                if in_tail { long } else { (shift_s + body).min(crate::limits::TIME_S_MAX) }
            }
        };
        ms_from_s((seconds * self.factor).min(crate::limits::TIME_S_MAX))
    }
}

/// Which launches fail for lack of capacity.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LaunchFailures {
    /// None.
    #[default]
    Never,
    /// The k-th launch that passes the guard fails if entry k, wrapping around, is true (rule V6).
    List(Vec<bool>),
    /// Each machine type has times without capacity, exponentially long and exponentially far apart.
    Outages {
        /// Mean time with capacity between two outages, seconds; above 0.
        mean_up_s: f64,
        /// Mean length of an outage, seconds; above 0.
        mean_down_s: f64,
    },
}

/// Capacity of one type: until when it lasts or is lacking.
#[derive(Clone, Debug)]
struct Offering {
    rng: ChaCha8Rng,
    is_down: bool,
    until_ms: u64,
}

/// Decides for one episode which launches fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capacity {
    asked: usize,
    offerings: Vec<Offering>,
    /// How many times as long and as frequent outages are.
    factor: f64,
}

impl Capacity {
    /// Starts an episode for `types` machine types, whose outages are `factor` times as long and as frequent.
    pub fn reset(&mut self, failures: &LaunchFailures, types: usize, seed: u64, factor: f64) {
        self.asked = 0;
        self.factor = factor;
        self.offerings.clear();
        if let LaunchFailures::Outages { mean_up_s, .. } = failures {
            self.offerings.extend((0..types as u64).map(|i| {
                let mut rng = stream(seed, CAPACITY_STREAM + i);
                let until_ms = exponential_ms(*mean_up_s / factor, &mut rng);
                Offering { rng, is_down: false, until_ms }
            }));
        }
    }

    /// Whether this launch of type `size` fails.
    pub fn fails(&mut self, failures: &LaunchFailures, size: usize, now_ms: u64) -> bool {
        let k = self.asked;
        self.asked += 1;
        match failures {
            LaunchFailures::Never => false,
            LaunchFailures::List(list) if list.is_empty() => false,
            LaunchFailures::List(list) => list[k % list.len()],
            LaunchFailures::Outages { mean_up_s, mean_down_s } => {
                let offering = &mut self.offerings[size];
                while offering.until_ms <= now_ms {
                    offering.is_down = !offering.is_down;
                    let mean_s = if offering.is_down { *mean_down_s * self.factor } else { *mean_up_s / self.factor };
                    offering.until_ms += exponential_ms(mean_s, &mut offering.rng);
                }
                offering.is_down
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(model: &BootModel, seed: u64, n: usize) -> Vec<u64> {
        let mut times = BootTimes::new(seed, 1.0);
        (0..n).map(|_| times.next_ms(model)).collect()
    }

    #[test]
    fn a_list_wraps_around() {
        let model = BootModel::List { seconds: vec![10.0, 50.0] };
        assert_eq!(draw(&model, 3, 3), [10_000, 50_000, 10_000]);
    }

    #[test]
    fn a_distribution_follows_its_seed_and_its_shape() {
        let model = BootModel::ec2();
        assert_eq!(draw(&model, 7, 20), draw(&model, 7, 20));
        assert_ne!(draw(&model, 7, 20), draw(&model, 8, 20));
        let mut many = draw(&model, 1, 20_001);
        many.sort_unstable();
        assert!((many[10_000] as f64 - 45_000.0).abs() < 500.0, "median {}", many[10_000]);
        assert!(many[0] > 20_000);
        let tail = many.iter().filter(|ms| **ms >= 180_000).count();
        assert!((60..150).contains(&tail), "{tail} of 20001 in the tail");
    }

    #[test]
    fn one_factor_stretches_every_boot_of_an_episode() {
        let model = BootModel::ec2();
        let (mut plain, mut slow) = (BootTimes::new(7, 1.0), BootTimes::new(7, 1.5));
        for _ in 0..1000 {
            let (plain_ms, slow_ms) = (plain.next_ms(&model) as f64, slow.next_ms(&model) as f64);
            assert!((slow_ms - 1.5 * plain_ms).abs() <= 1.5, "{slow_ms} for {plain_ms}");
        }
    }

    #[test]
    fn outages_are_as_frequent_as_asked_and_per_type() {
        let (seen, down, _) = outages(1.0);
        assert!((down - 0.1).abs() < 0.02, "{down}");
        assert!(seen.iter().any(|s| s[0] && !s[1]));
    }

    #[test]
    fn one_factor_makes_outages_longer_and_more_frequent() {
        let ((_, plain, plain_count), (_, more, more_count)) = (outages(1.0), outages(1.5));
        // 9000 and 1000 s become 6000 and 1500 s: a fifth of the time, and a cycle of 7500 instead of 10 000 s
        assert!((more - 0.2).abs() < 0.02 && plain < 0.12, "{plain} and {more}");
        let cycles = more_count as f64 / plain_count as f64;
        assert!((cycles - 4.0 / 3.0).abs() < 0.1, "{plain_count} and {more_count} outages");
    }

    /// Minute by minute what two types lack; the share of time that the first lacks it, and how many times.
    fn outages(factor: f64) -> (Vec<[bool; 2]>, f64, usize) {
        let failures = LaunchFailures::Outages { mean_up_s: 9000.0, mean_down_s: 1000.0 };
        let mut capacity = Capacity::default();
        capacity.reset(&failures, 2, 5, factor);
        let minutes = 1..200_000u64;
        let seen: Vec<[bool; 2]> =
            minutes.map(|m| [0, 1].map(|size| capacity.fails(&failures, size, m * 60_000))).collect();
        let down = seen.iter().filter(|s| s[0]).count() as f64 / seen.len() as f64;
        let count = seen.windows(2).filter(|pair| !pair[0][0] && pair[1][0]).count();
        (seen, down, count)
    }
}
