//! Episodes with planted differences.

use backtest::gate::{Comparison, Judgement, Opponent, Played, judge};
use backtest::gate::{GateConfig, Tolerance};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};
use twin::Outcome;

/// A twin that is right.
pub const RIGHT: Option<f64> = Some(0.05);

/// An episode that came to this much.
pub fn outcome(total_usd: f64) -> Outcome {
    Outcome {
        vm_usd: 0.8 * total_usd,
        queue_usd: 0.2 * total_usd,
        total_usd,
        usd_by_type: vec![0.8 * total_usd],
        wait_s_p50: 60.0,
        wait_s_p95: 600.0,
        wait_s_p99: 900.0,
        wait_s_mean: 100.0,
        queue_hours: 10.0,
        core_hours: 100.0,
        busy_core_hours: 70.0,
        packing: 0.65,
        lost_core_hours: 5.0,
        submitted: 500,
        completed: 500,
        interrupted: 20,
        reclaimed: 0,
        accepted_actions: 40,
        rejected_actions: 0,
        launches: 20,
        stops: 20,
        failed_launches: 0,
        steps: 480,
        hours: 8.0,
        makespan_s: Some(28_800.0),
        truncated: false,
    }
}

/// As many windows as given, each with the same number of seeds, in that order.
pub fn played(windows: usize, usd: &[f64]) -> Vec<Played> {
    let seeds = usd.len() / windows;
    assert_eq!(seeds * windows, usd.len());
    let played =
        |(i, usd): (usize, &f64)| Played { window: i / seeds, seed: (i % seeds) as u64, outcome: outcome(*usd) };
    usd.iter().enumerate().map(played).collect()
}

/// The candidate against the policy in charge and nobody else.
pub fn comparison(windows: usize, candidate_usd: &[f64], incumbent_usd: &[f64]) -> Comparison {
    Comparison {
        candidate: played(windows, candidate_usd),
        incumbent: Some(opponent("the policy in charge", windows, incumbent_usd)),
        rules: Vec::new(),
    }
}

pub fn opponent(name: &str, windows: usize, usd: &[f64]) -> Opponent {
    Opponent { name: name.into(), played: played(windows, usd) }
}

/// The defaults for what is told by the episodes of a single window.
pub fn one_window() -> GateConfig {
    GateConfig { windows_min: 1, ..GateConfig::default() }
}

/// Judges by the defaults but for the margin.
pub fn judged(comparison: &Comparison, margin: f64) -> Judgement {
    judge(comparison, RIGHT, &GateConfig { margin, ..one_window() })
}

/// No tolerance at all.
pub const NONE: Tolerance = Tolerance { relative: 0.0, absolute: 0.0 };

/// Draws of the noise that is planted.
pub struct Draws(ChaCha8Rng);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        Normal::standard().inverse_cdf(self.0.random_range(1e-12..1.0))
    }

    /// Log-normal, with a long tail of costly episodes; its mean is 0.
    pub fn skewed(&mut self) -> f64 {
        self.normal().exp() - 0.5_f64.exp()
    }

    /// Exponential with mean 0: mostly a little below, now and then far above.
    pub fn rare_losses(&mut self) -> f64 {
        -self.0.random_range(1e-12..1.0_f64).ln() - 1.0
    }

    /// Costs around $20 that all policies share: the luck of the load.
    pub fn loads(&mut self, episodes: usize) -> Vec<f64> {
        (0..episodes).map(|_| 20.0 + 3.0 * self.0.random_range(-1.0..1.0)).collect()
    }

    /// What a policy costs on these loads: a share of them, and noise of its own.
    pub fn costs(&mut self, loads: &[f64], share: f64, noise: impl Fn(&mut Self) -> f64) -> Vec<f64> {
        loads.iter().map(|load| load * share + noise(self)).collect()
    }
}
