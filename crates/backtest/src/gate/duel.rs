//! The candidate against one opponent.

use std::collections::BTreeMap;

use serde::Serialize;

use super::comparison::{Opponent, Played};
use super::config::{GateConfig, Tolerance};
use crate::bootstrap::ratio_interval;
use crate::interval::t_above_0;
use crate::rank::signed_rank_above_0;

/// What is counted as one independent observation of the saving.
///
/// Episodes of one window share its load, and a policy that suits that load does well in all of them: the chance that
/// matters is which windows the future brings. So a window is one observation, whatever the number of its seeds
/// (resampling whole clusters: Davison and Hinkley 1997, §3.8), and both the rank test and the bootstrap take the sums
/// of windows. With fewer windows than the rank test needs to reach alpha at all (5 at 0.05: 2⁻⁵ = 0.031) that could
/// never promote anybody. Then the episodes are the observations, resampled regardless of their window, the candidate must
/// save in each window, and the lower end of Student's interval of the shares saved, whose confidence is 1 − alpha, must
/// exceed the margin as well: two windows are enough where both save much, and four are not where savings come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The sum of a window's episodes.
    Window,
    /// The episode.
    Episode,
}

/// Something that the candidate must not do worse, for all that it saves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// Mean of the candidate.
    pub candidate: f64,
    /// Mean of the opponent.
    pub opponent: f64,
    /// The most that is tolerated.
    pub limit: f64,
}

impl Guard {
    /// Whether the candidate is within the limit.
    pub fn holds(&self) -> bool {
        self.candidate <= self.limit
    }
}

/// What the candidate must not do worse than whom it takes over from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Guards {
    /// 95th percentile of the wait, seconds.
    pub wait_s_p95: Guard,
    /// Core-hours of interrupted runs.
    pub lost_core_hours: Guard,
    /// Machines launched and stopped.
    pub churn: Guard,
}

/// One opponent's part of the judgement; money and counts are means of an episode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Duel {
    /// Who.
    pub opponent: String,
    /// Its cost.
    pub opponent_usd: f64,
    /// Saving of the candidate; negative if it costs more.
    pub saving_usd: f64,
    /// Lower end of the saving's interval, whose confidence is 1 − alpha.
    pub saving_usd_low: f64,
    /// Upper end.
    pub saving_usd_high: f64,
    /// The saving that the lower end must exceed.
    pub margin_usd: f64,
    /// One-sided p-value of the signed-rank test of the savings beyond the margin.
    pub p_value: f64,
    /// What was tested and resampled.
    pub unit: Unit,
    /// How many of them there are.
    pub units: usize,
    /// Windows that were played.
    pub windows: usize,
    /// Windows in which the candidate saves nothing.
    pub windows_lost: usize,
    /// One-sided p-value of Student's t of the shares that are saved in the windows, beyond the margin, where episodes are
    /// counted; none of one window, which says nothing of others.
    pub windows_p_value: Option<f64>,
    /// Episodes in which the candidate leaves tasks undone that the opponent did, or is cut off where it is not.
    pub unfinished: usize,
    /// The guards, where this is whom the candidate takes over from.
    pub guards: Option<Guards>,
    /// Whether the policy in charge surely loses to this opponent, a rule: then the candidate need not win.
    pub incumbent_loses: bool,
    /// Why the candidate does not win; none if it does, or need not.
    pub objection: Option<String>,
}

/// Savings and costs of the opponent, dollars.
type Pair = (f64, f64);

impl Duel {
    /// Judges the candidate against one opponent; the comparison has been found sound.
    pub(super) fn of(candidate: &[Played], opponent: &Opponent, config: &GateConfig) -> Self {
        let pairs = || candidate.iter().zip(&opponent.played);
        let by_window = by_window(pairs());
        let (unit, units) = units(&by_window, pairs(), config.alpha);
        let mean = |get: fn(&Pair) -> f64| by_window.values().map(get).sum::<f64>() / candidate.len() as f64;
        let (saving_usd, opponent_usd) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let share = ratio_interval(&units, 1.0 - config.alpha, config.resamples, config.seed);
        let beyond: Vec<f64> = units.iter().map(|(saving, usd)| saving - config.margin * usd).collect();
        // shares, for windows may be of any size; where there is no cost, nothing is saved
        let share_of = |(saving, usd): &Pair| if *usd > 0.0 { saving / usd } else { 0.0 };
        let of_windows: Vec<f64> = by_window.values().map(|pair| share_of(pair) - config.margin).collect();
        Self {
            opponent: opponent.name.clone(),
            opponent_usd,
            saving_usd,
            // what is surely not saved is not told apart beyond the opponent's whole cost, and no more can be saved
            saving_usd_low: saving_usd.min(share.low.max(-1.0) * opponent_usd),
            saving_usd_high: saving_usd.max(share.high.min(1.0) * opponent_usd),
            margin_usd: config.margin * opponent_usd,
            p_value: signed_rank_above_0(&beyond).p_value,
            unit,
            units: units.len(),
            windows: by_window.len(),
            windows_lost: by_window.values().filter(|pair| pair.0 <= 0.0).count(),
            windows_p_value: (unit == Unit::Episode).then(|| t_above_0(&of_windows)).flatten(),
            unfinished: pairs().filter(|(c, o)| leaves_undone(c, o)).count(),
            guards: None,
            incumbent_loses: false,
            objection: None,
        }
    }

    /// The same with the guards' numbers.
    pub(super) fn guarded(self, candidate: &[Played], opponent: &Opponent, config: &GateConfig) -> Self {
        let guard = |get: fn(&Played) -> f64, tolerance: Tolerance| {
            let (candidate, opponent) = (mean(candidate, get), mean(&opponent.played, get));
            Guard { candidate, opponent, limit: tolerance.limit(opponent) }
        };
        let guards = Guards {
            wait_s_p95: guard(|p| p.outcome.wait_s_p95, config.wait_s_p95),
            lost_core_hours: guard(|p| p.outcome.lost_core_hours, config.lost_core_hours),
            churn: guard(|p| (p.outcome.launches + p.outcome.stops) as f64, config.churn),
        };
        Self { guards: Some(guards), ..self }
    }

    /// The same with the objection, if there is one.
    pub(super) fn decided(self, config: &GateConfig) -> Self {
        let objection = self.unfinished_words().or_else(|| self.unsure_words(config)).or_else(|| self.guard_words());
        Self { objection, ..self }
    }

    /// The same against a rule that the policy in charge surely loses to.
    pub(super) fn not_to_be_won(self) -> Self {
        Self { incumbent_loses: true, ..self }
    }

    /// The saving with its interval and p-value: "saves 0.80 % [0.31, 1.20] of $20.10 an episode against … (p = 0.003)".
    pub fn in_words(&self) -> String {
        let percent = |usd: f64| 100.0 * usd / self.opponent_usd;
        let (low, high) = (percent(self.saving_usd_low), percent(self.saving_usd_high));
        let (saving, usd) = (percent(self.saving_usd), self.opponent_usd);
        let p = if self.p_value < 0.001 { "p < 0.001".into() } else { format!("p = {:.3}", self.p_value) };
        let no_bar = if self.incumbent_loses { ", which the policy in charge surely loses to" } else { "" };
        let against = format!("{} ({p}){no_bar}", self.opponent);
        format!("saves {saving:.2} % [{low:.2}, {high:.2}] of ${usd:.2} an episode against {against}")
    }

    fn unfinished_words(&self) -> Option<String> {
        (self.unfinished > 0)
            .then(|| format!("leaves tasks undone that {} did, in {} episodes", self.opponent, self.unfinished))
    }

    fn unsure_words(&self, config: &GateConfig) -> Option<String> {
        let counted = match self.unit {
            Unit::Window => format!("{} windows", self.units),
            Unit::Episode => format!("{} episodes", self.units),
        };
        let unsure = |why: String| Some(format!("no sure saving over {counted}: {}, and {why}", self.in_words()));
        // asked this way round, a number that is none refuses too
        let (is_beyond_margin, is_significant) = (self.saving_usd_low > self.margin_usd, self.p_value <= config.alpha);
        if !is_beyond_margin {
            return unsure(format!("the lower end must be above {:.2} %", 100.0 * config.margin));
        }
        if !is_significant {
            return unsure(format!("p must be at most {}", config.alpha));
        }
        if self.unit == Unit::Episode && self.windows_lost > 0 {
            return unsure(format!("it saves nothing in {} of the {} windows", self.windows_lost, self.windows));
        }
        if self.windows < config.windows_min {
            let (windows, min) = (self.windows, config.windows_min);
            return unsure(format!("windows: {windows}, and {min} at least must say so; wait, or look back further"));
        }
        // the interval has two ends
        let p = self.windows_p_value?;
        let is_sure = p <= config.alpha / 2.0;
        let differ = || format!("the savings of its {} windows differ too much for so few (p = {p:.3})", self.windows);
        (!is_sure).then(|| unsure(differ()))?
    }

    fn guard_words(&self) -> Option<String> {
        let Guards { wait_s_p95, lost_core_hours, churn } = self.guards?;
        let named = [
            (wait_s_p95, "the 95th percentile of the wait", "s", 0),
            (lost_core_hours, "lost work", "core-hours", 2),
            (churn, "churn", "launches and stops", 1),
        ];
        let (guard, what, unit, digits) = named.into_iter().find(|(guard, ..)| !guard.holds())?;
        let Guard { candidate, opponent, limit } = guard;
        Some(format!(
            "{what} is worse: {candidate:.digits$} {unit} an episode against {opponent:.digits$} of {}, and at most \
             {limit:.digits$} is tolerated, though it {}",
            self.opponent,
            self.in_words()
        ))
    }
}

fn mean(played: &[Played], get: fn(&Played) -> f64) -> f64 {
    played.iter().map(get).sum::<f64>() / played.len() as f64
}

fn pair((candidate, opponent): (&Played, &Played)) -> Pair {
    (opponent.outcome.total_usd - candidate.outcome.total_usd, opponent.outcome.total_usd)
}

fn by_window<'a>(pairs: impl Iterator<Item = (&'a Played, &'a Played)>) -> BTreeMap<usize, Pair> {
    let mut sums = BTreeMap::new();
    for (candidate, opponent) in pairs {
        let sum: &mut Pair = sums.entry(candidate.window).or_default();
        let (saving, usd) = pair((candidate, opponent));
        *sum = (sum.0 + saving, sum.1 + usd);
    }
    sums
}

fn units<'a>(
    by_window: &BTreeMap<usize, Pair>,
    pairs: impl Iterator<Item = (&'a Played, &'a Played)>,
    alpha: f64,
) -> (Unit, Vec<Pair>) {
    let smallest_p = 0.5_f64.powi(by_window.len() as i32);
    if smallest_p <= alpha {
        (Unit::Window, by_window.values().copied().collect())
    } else {
        (Unit::Episode, pairs.map(pair).collect())
    }
}

/// The cost of an episode that was cut off leaves out the waiting that was still to come: a candidate must not win by
/// that. An opponent's cost that leaves it out only makes it harder to beat.
fn leaves_undone(candidate: &Played, opponent: &Played) -> bool {
    let (candidate, opponent) = (&candidate.outcome, &opponent.outcome);
    candidate.completed < opponent.completed || (candidate.truncated && !opponent.truncated)
}
