//! How sure the gate has to be, and what it does not trade for money.

use serde::{Deserialize, Serialize};

/// Resamples beyond which nothing more is learnt.
const RESAMPLES_MAX: usize = 1_000_000;
/// Resamples that lie beyond each end of the interval at least: an end that rests on fewer is a matter of luck.
const RESAMPLES_BEYOND_MIN: f64 = 5.0;

/// How much more than the opponent's a mean may be: the larger of a share of it and a fixed amount.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Share of the opponent's mean.
    pub relative: f64,
    /// Amount, in the unit of the mean; it decides where the opponent's mean is next to nothing.
    pub absolute: f64,
}

impl Tolerance {
    /// The most that is tolerated.
    pub fn limit(&self, opponent: f64) -> f64 {
        opponent + (self.relative * opponent).max(self.absolute)
    }

    fn is_valid(&self) -> bool {
        [self.relative, self.absolute].iter().all(|x| x.is_finite() && *x >= 0.0)
    }
}

/// How sure the gate has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Probability of promoting a policy that is no better, at most: the level of the one-sided rank test, and the error
    /// of the interval, whose confidence is 1 − alpha. The interval has two ends, so that the lower one alone errs half
    /// as often: a reserve for skewed savings, where intervals are too sure of themselves.
    pub alpha: f64,
    /// Share of the opponent's cost that the candidate surely saves: the lower end of the interval must exceed it, and
    /// the rank test is of what is saved beyond it.
    pub margin: f64,
    /// Largest relative error of the twin against reality.
    pub twin_error_max: f64,
    /// Whether a twin whose error could not be measured promotes nobody.
    pub twin_error_required: bool,
    /// What the mean of the episodes' 95th percentiles of the wait may be more, seconds.
    pub wait_s_p95: Tolerance,
    /// What interrupted runs may lose more, core-hours an episode.
    pub lost_core_hours: Tolerance,
    /// Machines launched and stopped more, an episode.
    pub churn: Tolerance,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Seed of the bootstrap: the same episodes get the same judgement.
    pub seed: u64,
    /// Episodes below which nothing is judged.
    pub episodes_min: usize,
    /// Windows below which nobody is promoted. With 1 a single window may promote: alpha is then that of other episodes of
    /// this very window, and says nothing of other windows.
    pub windows_min: usize,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            margin: 0.005,
            twin_error_max: 0.25,
            twin_error_required: true,
            wait_s_p95: Tolerance { relative: 0.1, absolute: 30.0 },
            lost_core_hours: Tolerance { relative: 0.1, absolute: 0.5 },
            churn: Tolerance { relative: 0.5, absolute: 12.0 },
            resamples: 2000,
            seed: 0,
            episodes_min: 12,
            windows_min: 2,
        }
    }
}

impl GateConfig {
    /// What is wrong with the settings, if something is.
    pub fn problem(&self) -> Option<String> {
        if !(self.alpha > 0.0 && self.alpha <= 0.5) {
            return Some(format!("alpha is {} and must be above 0 and at most 0.5", self.alpha));
        }
        // below 0, a candidate and its opponent could each be better than the other
        if !(0.0..1.0).contains(&self.margin) {
            return Some(format!("the margin is {} and must be at least 0 and below 1", self.margin));
        }
        if !(self.twin_error_max.is_finite() && self.twin_error_max >= 0.0) {
            return Some(format!("twin_error_max is {} and must be a number at or above 0", self.twin_error_max));
        }
        if ![self.wait_s_p95, self.lost_core_hours, self.churn].iter().all(Tolerance::is_valid) {
            return Some("tolerances must be numbers at or above 0".into());
        }
        let resamples_min = (2.0 * RESAMPLES_BEYOND_MIN / self.alpha).ceil() as usize;
        if !(resamples_min..=RESAMPLES_MAX).contains(&self.resamples) {
            let range = format!("{resamples_min} to {RESAMPLES_MAX} at this alpha");
            return Some(format!("resamples is {} and must be {range}", self.resamples));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_what_cannot_be_is_named() {
        let valid = GateConfig::default();
        assert_eq!(valid.problem(), None);
        let too_few = Tolerance { relative: -0.1, absolute: 1.0 };
        for (config, named) in [
            (GateConfig { alpha: 0.0, ..valid }, "alpha"),
            (GateConfig { alpha: f64::NAN, ..valid }, "alpha"),
            (GateConfig { margin: -0.01, ..valid }, "margin"),
            (GateConfig { margin: f64::NAN, ..valid }, "margin"),
            (GateConfig { twin_error_max: f64::INFINITY, ..valid }, "twin_error_max"),
            (GateConfig { churn: too_few, ..valid }, "tolerances"),
            (GateConfig { resamples: 100, ..valid }, "resamples"),
            (GateConfig { alpha: 0.001, ..valid }, "resamples"),
        ] {
            assert!(config.problem().unwrap().contains(named), "{config:?}");
        }
    }

    #[test]
    fn the_larger_tolerance_counts() {
        let tolerance = Tolerance { relative: 0.1, absolute: 30.0 };
        assert_eq!((tolerance.limit(0.0), tolerance.limit(1000.0)), (30.0, 1100.0));
    }
}
