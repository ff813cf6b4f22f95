//! The promotion gate: a candidate replaces the policy in charge only if it wins against it, and against the tuned
//! rule, in the same twins.
//!
//! All policies play the same seeds (common random numbers), so that the paired differences show the policies and not
//! the luck. Confidence comes from the percentile bootstrap of the mean difference (Efron 1979).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Dollars per episode of each policy, in the same order of seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The candidate.
    pub candidate_usd: Vec<f64>,
    /// The policy in charge; none if the pool has none.
    pub incumbent_usd: Option<Vec<f64>>,
    /// The rule, tuned on the training twins.
    pub rule_usd: Vec<f64>,
}

/// How sure the gate has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Share of the opponent's cost that the candidate must save on average.
    pub margin: f64,
    /// Confidence of the one-sided bound of the saving, which must be above 0.
    pub confidence: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Largest relative error of the twin against reality.
    pub twin_error_max: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { margin: 0.005, confidence: 0.95, resamples: 2000, twin_error_max: 0.25 }
    }
}

/// One opponent's part of the judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Duel {
    /// Who.
    pub opponent: String,
    /// Its mean cost of an episode.
    pub opponent_usd: f64,
    /// Mean saving of the candidate an episode; negative if it costs more.
    pub saving_usd: f64,
    /// Lower bound of the saving at the gate's confidence.
    pub saving_usd_low: f64,
    /// Whether the candidate won.
    pub won: bool,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Mean cost of the candidate an episode.
    pub candidate_usd: f64,
    /// Against each opponent.
    pub duels: Vec<Duel>,
    /// Relative error of the twin against reality, if it could be measured.
    pub twin_error: Option<f64>,
    /// Whether the candidate is promoted.
    pub promoted: bool,
    /// Why, or why not.
    pub because: String,
}

/// Judges a comparison.
///
/// # Panics
/// If the lists differ in length or are empty: a bug of the caller.
pub fn judge(comparison: &Comparison, twin_error: Option<f64>, config: &GateConfig) -> Judgement {
    let candidate = &comparison.candidate_usd;
    let mut duels = Vec::new();
    if let Some(incumbent) = &comparison.incumbent_usd {
        duels.push(duel("the policy in charge", candidate, incumbent, config));
    }
    duels.push(duel("the tuned rule", candidate, &comparison.rule_usd, config));
    let (promoted, because) = verdict(&duels, twin_error, config);
    Judgement { candidate_usd: mean(candidate), duels, twin_error, promoted, because }
}

fn verdict(duels: &[Duel], twin_error: Option<f64>, config: &GateConfig) -> (bool, String) {
    if let Some(error) = twin_error.filter(|error| error.is_nan() || *error > config.twin_error_max) {
        let (error, max) = (100.0 * error, 100.0 * config.twin_error_max);
        return (false, format!("the twin is off by {error:.1} % of the real cost, more than the {max:.0} % allowed"));
    }
    match duels.iter().find(|duel| !duel.won) {
        Some(lost) => (false, format!("no sure saving against {}: {}", lost.opponent, in_words(lost))),
        None => {
            let words: Vec<String> = duels.iter().map(|d| format!("{} against {}", in_words(d), d.opponent)).collect();
            (true, format!("saves {}", words.join(" and ")))
        }
    }
}

fn in_words(duel: &Duel) -> String {
    let share = 100.0 * duel.saving_usd / duel.opponent_usd;
    format!("${:.3} ({share:.1} %, at least ${:.3})", duel.saving_usd, duel.saving_usd_low)
}

fn duel(opponent: &str, candidate: &[f64], other: &[f64], config: &GateConfig) -> Duel {
    assert_eq!(candidate.len(), other.len(), "both play the same seeds");
    assert!(!candidate.is_empty(), "at least one episode");
    let savings: Vec<f64> = other.iter().zip(candidate).map(|(o, c)| o - c).collect();
    let (saving_usd, opponent_usd) = (mean(&savings), mean(other));
    let saving_usd_low = bootstrap_low(&savings, config);
    let won = saving_usd_low > 0.0 && saving_usd >= config.margin * opponent_usd;
    Duel { opponent: opponent.to_owned(), opponent_usd, saving_usd, saving_usd_low, won }
}

/// Lower bound of the mean, by the percentile bootstrap; the same numbers give the same bound.
fn bootstrap_low(values: &[f64], config: &GateConfig) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(values.len() as u64);
    let mut means: Vec<f64> = (0..config.resamples.max(1))
        .map(|_| {
            (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let rank = ((1.0 - config.confidence) * means.len() as f64) as usize;
    means[rank.min(means.len() - 1)]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, level: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..24).map(|_| level + rng.random_range(-1.0..1.0)).collect()
    }

    /// Costs that follow `base`, shifted by `by` with a little noise of their own.
    fn near(base: &[f64], by: f64, seed: u64) -> Vec<f64> {
        base.iter().zip(noise(seed, 0.0)).map(|(x, n)| x + by + 0.2 * n).collect()
    }

    #[test]
    fn a_better_candidate_is_promoted_and_a_worse_one_is_not() {
        let incumbent = noise(1, 20.0);
        let rule = near(&incumbent, 0.5, 2);
        let judged = |by: f64| {
            let comparison = Comparison {
                candidate_usd: near(&incumbent, by, 3),
                incumbent_usd: Some(incumbent.clone()),
                rule_usd: rule.clone(),
            };
            judge(&comparison, Some(0.05), &GateConfig::default())
        };
        let better = judged(-1.0);
        assert!(better.promoted, "{better:?}");
        let worse = judged(1.0);
        assert!(!worse.promoted);
        assert!(worse.because.contains("the policy in charge"), "{}", worse.because);
    }

    #[test]
    fn winning_against_the_incumbent_alone_is_not_enough() {
        let incumbent = noise(1, 20.0);
        let comparison = Comparison {
            candidate_usd: near(&incumbent, -1.0, 3),
            incumbent_usd: Some(incumbent.clone()),
            rule_usd: near(&incumbent, -2.0, 4),
        };
        let judged = judge(&comparison, None, &GateConfig::default());
        assert!(!judged.promoted && judged.because.contains("the tuned rule"), "{}", judged.because);
    }

    #[test]
    fn an_equal_candidate_is_promoted_less_often_than_the_confidence_allows() {
        let config = GateConfig { margin: 0.0, ..GateConfig::default() };
        let promoted = (0..400)
            .filter(|seed| {
                let incumbent = noise(*seed, 20.0);
                let comparison = Comparison {
                    candidate_usd: near(&incumbent, 0.0, seed + 1000),
                    incumbent_usd: Some(incumbent.clone()),
                    rule_usd: near(&incumbent, 5.0, seed + 2000),
                };
                judge(&comparison, None, &config).promoted
            })
            .count();
        // 5 % of 400 is 20; the percentile bootstrap of 24 values is a little too sure of itself
        assert!((1..=32).contains(&promoted), "{promoted} of 400 equal candidates were promoted");
    }

    #[test]
    fn a_twin_that_disagrees_with_reality_promotes_nobody() {
        let incumbent = noise(1, 20.0);
        let comparison = Comparison {
            candidate_usd: near(&incumbent, -5.0, 3),
            incumbent_usd: Some(incumbent.clone()),
            rule_usd: incumbent.clone(),
        };
        assert!(judge(&comparison, Some(0.1), &GateConfig::default()).promoted);
        let judged = judge(&comparison, Some(0.4), &GateConfig::default());
        assert!(!judged.promoted && judged.because.contains("40.0 %"), "{}", judged.because);
    }
}
