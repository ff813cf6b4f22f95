//! How sure a ratio of sums is, such as the share of the cost that is saved: the studentised bootstrap.
//!
//! The percentile bootstrap is too sure of itself where few episodes are skewed: where a policy saves a little most of
//! the time and loses much now and then, its 5 % error is 10 % with 24 episodes. Bootstrapping Student's t instead
//! (Efron 1981, Hall 1988) is correct to the second order, and was within 6 % in the same case.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::interval::Interval;

/// A ratio of sums with its standard error.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    ratio: f64,
    standard_error: f64,
}

impl Ratio {
    /// Σ part / Σ whole; its standard error by linearisation (Cochran 1977, §2.11).
    fn of(pairs: &[(f64, f64)]) -> Self {
        let n = pairs.len() as f64;
        let (part, whole) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let ratio = part / whole;
        let squares: f64 = pairs.iter().map(|(part, whole)| (part - ratio * whole).powi(2)).sum();
        Self { ratio, standard_error: (squares * n / (n - 1.0)).sqrt() / whole }
    }

    /// Student's t of this resample of `sample`. Like pairs have no spread, and then nothing bounds what they differ
    /// by; a resample without a whole has no ratio, and counts against the sample.
    fn t(self, sample: Ratio) -> f64 {
        let difference = self.ratio - sample.ratio;
        if difference.is_nan() {
            f64::INFINITY
        } else if difference == 0.0 {
            0.0
        } else if self.standard_error > 0.0 {
            difference / self.standard_error
        } else {
            difference.signum() * f64::INFINITY
        }
    }
}

/// Σ part / Σ whole of `(part, whole)` pairs, with its two-sided interval at `confidence` (0.95); either end is infinite
/// where too many resamples have no spread. The same numbers give the same interval. Pairs without any spread, or a
/// single one, are their own interval, and of nothing all is NaN.
pub fn ratio_interval(pairs: &[(f64, f64)], confidence: f64, resamples: usize, seed: u64) -> Interval {
    let sample = Ratio::of(pairs);
    if pairs.len() < 2 || sample.standard_error == 0.0 {
        return Interval { mean: sample.ratio, low: sample.ratio, high: sample.ratio };
    }
    let t = sorted_t(pairs, sample, resamples.max(1), seed);
    let tail = (1.0 - confidence) / 2.0;
    let beyond = ((tail * t.len() as f64) as usize).min(t.len() - 1);
    // the ends change sides: where resamples come out too high, the sample itself may be too high by as much
    let end = |t: f64| sample.ratio - t * sample.standard_error;
    Interval { mean: sample.ratio, low: end(t[t.len() - 1 - beyond]), high: end(t[beyond]) }
}

fn sorted_t(pairs: &[(f64, f64)], sample: Ratio, resamples: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = pairs.to_vec();
    let mut t: Vec<f64> = (0..resamples)
        .map(|_| {
            resample.iter_mut().for_each(|pair| *pair = pairs[rng.random_range(0..pairs.len())]);
            Ratio::of(&resample).t(sample)
        })
        .collect();
    t.sort_unstable_by(f64::total_cmp);
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::interval_95;

    #[test]
    fn a_standard_error_by_hand() {
        // ratio 3/6; residuals 1 − 0.5 × 2 = 0, 2 − 0.5 × 2 = 1, 0 − 0.5 × 2 = −1: √(2 × 3/2) / 6
        let ratio = Ratio::of(&[(1.0, 2.0), (2.0, 2.0), (0.0, 2.0)]);
        assert!((ratio.ratio - 0.5).abs() < 1e-12 && (ratio.standard_error - 3.0_f64.sqrt() / 6.0).abs() < 1e-12);
    }

    /// Of three pairs there are 27 resamples: 3 of like pairs, whose t is infinite but for that of the mean.
    #[test]
    fn an_interval_by_hand() {
        let pairs = [(-1.0, 1.0), (0.0, 1.0), (1.0, 1.0)];
        // P(t = ∞) = 1/27 = 3.7 %: within the tail of 10 %, but not within that of 2.5 %
        assert_eq!(ratio_interval(&pairs, 0.95, 20_000, 1).low, f64::NEG_INFINITY);
        // the next largest is (0, 1, 1) in 3 of 27 orders: mean 2/3, s² = 1/3, t = (2/3) / √(1/9) = 2; s / √3 is 1/√3
        let interval = ratio_interval(&pairs, 0.8, 20_000, 1);
        assert!((interval.low + 2.0 / 3.0_f64.sqrt()).abs() < 1e-12, "{interval:?}");
        assert!((interval.high - 2.0 / 3.0_f64.sqrt()).abs() < 1e-12, "{interval:?}");
    }

    #[test]
    fn without_skew_it_is_students_interval() {
        let values: Vec<f64> = (0..101).map(|i| 3.0 + (f64::from(i) - 50.0) / 10.0).collect();
        let pairs: Vec<(f64, f64)> = values.iter().map(|x| (*x, 1.0)).collect();
        let (ours, student) = (ratio_interval(&pairs, 0.95, 20_000, 1), interval_95(&values).unwrap());
        assert!((ours.mean - 3.0).abs() < 1e-9);
        assert!(
            (ours.low - student.low).abs() < 0.02 && (ours.high - student.high).abs() < 0.02,
            "{ours:?} {student:?}"
        );
    }

    #[test]
    fn rare_losses_widen_it_towards_the_loss() {
        let pairs: Vec<(f64, f64)> =
            (0..24).map(|i| (if i < 2 { -8.0 } else { 1.0 + 0.01 * f64::from(i) }, 20.0)).collect();
        let interval = ratio_interval(&pairs, 0.95, 2000, 1);
        assert!(interval.mean - interval.low > 1.5 * (interval.high - interval.mean), "{interval:?}");
    }

    #[test]
    fn what_has_no_spread_is_its_own_interval() {
        let interval = ratio_interval(&[(1.0, 2.0), (2.0, 4.0)], 0.95, 100, 1);
        assert_eq!(interval, Interval { mean: 0.5, low: 0.5, high: 0.5 });
        assert!(ratio_interval(&[], 0.95, 100, 1).low.is_nan());
    }

    #[test]
    fn a_resample_without_a_whole_counts_against_the_sample() {
        // of 27 resamples 8 are of the first two pairs only: 7 have no spread and the best ratio, 1 has no whole; they
        // are 25.9 % and 29.6 % together, and the tail is 28 %
        let pairs = [(0.0, 0.0), (1.0, 2.0), (0.0, 2.0)];
        assert_eq!(ratio_interval(&pairs, 0.44, 20_000, 1).low, f64::NEG_INFINITY);
    }
}
