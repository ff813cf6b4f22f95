//! The promotion gate: a candidate replaces the policy in charge only if it surely saves money against it, and against
//! every tuned rule that the policy in charge does not itself lose to, in the same held-out episodes of a twin that is known to
//! be right, and does nothing else worse.
//!
//! "Surely" is two things that must both hold of the paired savings: the signed-rank test ([`crate::rank`]), which a few
//! extreme episodes cannot sway, and the lower end of the bootstrap interval of the mean ([`crate::bootstrap`]), which
//! a small saving in most episodes cannot raise over a large loss in a few. If a policy is only as good as its
//! opponent, the signs of the differences are as likely either way, and the rank test alone keeps false promotions at
//! or below alpha, whatever the shape of the noise. Alpha is that of one judgement: whoever judges many candidates on
//! the same episodes picks the luckiest.
//!
//! The gate knows nothing of how the episodes came about; [`Comparison`] checks that they are paired.

mod comparison;
mod config;
mod duel;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use comparison::{Comparison, Opponent, Played};
pub use config::{GateConfig, Tolerance};
pub use duel::{Duel, Guard, Guards, Unit};

/// How a candidate is judged: `--gate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// By [`judge`].
    #[default]
    Paired,
    /// By [`judge_published`], for comparison only.
    Published,
}

/// A name that is no gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the gate {0:?}: there are paired and published")]
pub struct GateError(String);

impl FromStr for Gate {
    type Err = GateError;
    fn from_str(text: &str) -> Result<Self, GateError> {
        match text {
            "paired" => Ok(Gate::Paired),
            "published" => Ok(Gate::Published),
            _ => Err(GateError(text.to_owned())),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gate::Paired => "paired",
            Gate::Published => "published",
        })
    }
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Which gate.
    pub gate: Gate,
    /// Mean cost of the candidate an episode; NaN (null in JSON) if it played none or a cost was no number.
    pub candidate_usd: f64,
    /// Against each opponent; empty if nothing could be concluded, and of the published gate.
    pub duels: Vec<Duel>,
    /// Relative error of the twin against reality, if it could be measured.
    pub twin_error: Option<f64>,
    /// Whether the candidate is promoted.
    pub promoted: bool,
    /// Why, or why not: a sentence without its subject and full stop, with the number that decided.
    pub because: String,
}

/// Judges a comparison. Whatever cannot be judged promotes nobody.
///
/// The candidate must win every duel. Each is tested at alpha and that needs no correction for their number: promoting a
/// candidate that is no better than one of them takes a false win of that very duel, which has probability alpha at most
/// (intersection-union test, Berger 1982).
///
/// A rule that the policy in charge surely loses to is no bar: a rule cannot take over, so that whoever fails on it would leave
/// the fleet to the dearer of two policies. The duel with the policy in charge has to be won all the same.
pub fn judge(comparison: &Comparison, twin_error: Option<f64>, config: &GateConfig) -> Judgement {
    let candidate = &comparison.candidate;
    let candidate_usd = candidate.iter().map(|p| p.outcome.total_usd).sum::<f64>() / candidate.len() as f64;
    let problem = config.problem().or_else(|| comparison.problem(config.episodes_min));
    let duels = if problem.is_none() { duels(comparison, config) } else { Vec::new() };
    let objection = problem
        .or_else(|| twin_objection(twin_error, config))
        .or_else(|| duels.iter().find_map(|duel| duel.objection.clone()));
    let promoted = objection.is_none();
    let because = objection.unwrap_or_else(|| wins_in_words(&duels));
    Judgement { gate: Gate::Paired, candidate_usd, duels, twin_error, promoted, because }
}

/// Judges as the published evaluation did: a candidate whose mean cost in the simulation is below the mean that the
/// policy in charge really cost is promoted.
///
/// For comparison only. Whatever the simulation is too optimistic about counts as the candidate's merit, the two costs
/// are of different loads, and a difference of a cent decides: an equal policy is promoted every other time, or always.
pub fn judge_published(candidate_simulated_usd: f64, incumbent_real_usd: f64) -> Judgement {
    let promoted = candidate_simulated_usd < incumbent_real_usd;
    let is = if promoted { "is" } else { "is not" };
    Judgement {
        gate: Gate::Published,
        candidate_usd: candidate_simulated_usd,
        duels: Vec::new(),
        twin_error: None,
        promoted,
        because: format!(
            "${candidate_simulated_usd:.2} an episode in the simulation {is} below the ${incumbent_real_usd:.2} that the \
             policy in charge really cost"
        ),
    }
}

/// The guards are against whom the candidate takes over from: the policy in charge, or the rule if there is none.
fn duels(comparison: &Comparison, config: &GateConfig) -> Vec<Duel> {
    let candidate = &comparison.candidate;
    let duel = |(i, opponent): (usize, &Opponent)| {
        let duel = Duel::of(candidate, opponent, config);
        let takes_over = i == 0;
        let duel = if takes_over { duel.guarded(candidate, opponent, config) } else { duel };
        let is_no_bar = !takes_over && incumbent_loses(comparison, opponent, config);
        if is_no_bar { duel.not_to_be_won() } else { duel.decided(config) }
    };
    comparison.opponents().enumerate().map(duel).collect()
}

/// Whether the policy in charge, if there is one, surely loses to this rule.
fn incumbent_loses(comparison: &Comparison, rule: &Opponent, config: &GateConfig) -> bool {
    let wins = |incumbent| Duel::of(&rule.played, incumbent, config).decided(config).objection.is_none();
    comparison.incumbent.as_ref().is_some_and(wins)
}

fn twin_objection(twin_error: Option<f64>, config: &GateConfig) -> Option<String> {
    let Some(error) = twin_error else {
        let why = "the twin's error could not be measured, so that what it says of the candidate may be wrong";
        return config.twin_error_required.then(|| why.into());
    };
    let is_right = error.abs() <= config.twin_error_max;
    let (error, max) = (100.0 * error, 100.0 * config.twin_error_max);
    (!is_right).then(|| format!("the twin is off by {error:.1} % of the real cost, more than the {max:.0} % allowed"))
}

fn wins_in_words(duels: &[Duel]) -> String {
    duels.iter().map(Duel::in_words).collect::<Vec<_>>().join(" and ")
}
