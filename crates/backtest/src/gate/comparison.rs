//! What the gate compares: everybody's episodes, the same ones in the same order.

use std::collections::BTreeSet;

use twin::Outcome;

/// One episode of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// Which held-out window of history was played.
    pub window: usize,
    /// With which seed.
    pub seed: u64,
    /// What it came to.
    pub outcome: Outcome,
}

impl Played {
    /// The episodes of one window, from [`crate::play::outcomes`] of the same seeds.
    ///
    /// # Panics
    /// If there are not as many outcomes as seeds: a bug of the caller.
    pub fn of(window: usize, seeds: &[u64], outcomes: Vec<Outcome>) -> Vec<Self> {
        assert_eq!(seeds.len(), outcomes.len(), "one outcome for each seed");
        seeds.iter().zip(outcomes).map(|(seed, outcome)| Self { window, seed: *seed, outcome }).collect()
    }

    fn episode(&self) -> (usize, u64) {
        (self.window, self.seed)
    }

    fn has_numbers(&self) -> bool {
        let o = &self.outcome;
        [o.total_usd, o.wait_s_p95, o.lost_core_hours].iter().all(|x| x.is_finite() && *x >= 0.0)
    }
}

/// Somebody that the candidate has to win against.
#[derive(Clone, Debug, PartialEq)]
pub struct Opponent {
    /// As it reads in a sentence: "the policy in charge", "rule:backlog=0.65,1,2".
    pub name: String,
    /// Its episodes.
    pub played: Vec<Played>,
}

/// The candidate and its opponents in the same episodes (common random numbers), so that their differences show the
/// policies and not the luck.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The candidate's episodes.
    pub candidate: Vec<Played>,
    /// The policy in charge; none if the pool has none.
    pub incumbent: Option<Opponent>,
    /// Tuned rules, the one to beat first.
    pub rules: Vec<Opponent>,
}

impl Comparison {
    /// All opponents; the first is the one that the candidate takes over from, and must not be worse than in any way.
    pub fn opponents(&self) -> impl Iterator<Item = &Opponent> {
        self.incumbent.iter().chain(&self.rules)
    }

    /// Why nothing can be concluded from these episodes, if that is so.
    pub(super) fn problem(&self, episodes_min: usize) -> Option<String> {
        if self.opponents().next().is_none() {
            return Some("there is nobody to compare the candidate with".into());
        }
        if self.candidate.len() < episodes_min.max(1) {
            return Some(format!("{} episodes are too few, at least {episodes_min} are needed", self.candidate.len()));
        }
        let different: BTreeSet<_> = self.candidate.iter().map(Played::episode).collect();
        if different.len() < self.candidate.len() {
            return Some("an episode was played twice, which shows nothing new".into());
        }
        let without_numbers = self.candidate.iter().find(|p| !p.has_numbers());
        let of_candidate = without_numbers.map(|p| without_number("the candidate", p));
        of_candidate.or_else(|| self.opponents().find_map(|o| o.problem(&self.candidate)))
    }
}

impl Opponent {
    fn problem(&self, candidate: &[Played]) -> Option<String> {
        if !self.played.iter().map(Played::episode).eq(candidate.iter().map(Played::episode)) {
            return Some(format!("{} did not play the candidate's episodes in the same order", self.name));
        }
        if let Some(played) = self.played.iter().find(|p| !p.has_numbers()) {
            return Some(without_number(&self.name, played));
        }
        let costs_nothing = self.played.iter().all(|p| p.outcome.total_usd == 0.0);
        costs_nothing.then(|| format!("{} costs nothing, and nothing can be saved against it", self.name))
    }
}

fn without_number(who: &str, played: &Played) -> String {
    let Played { window, seed, outcome } = played;
    let numbers = (outcome.total_usd, outcome.wait_s_p95, outcome.lost_core_hours);
    format!(
        "{who} has a cost of ${}, a wait of {} s or a loss of {} core-hours with seed {seed} of window {window}, and all \
         must be numbers at or above 0",
        numbers.0, numbers.1, numbers.2
    )
}
