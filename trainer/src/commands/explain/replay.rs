//! Whether a policy gives the same numbers again on what a decision stored, and which of its inputs swayed it.

use std::collections::BTreeMap;

use contract::decision::{Decision, LstmState};
use contract::limits::WARM_UP_TICKS;
use contract::observation::{FEATURES, encode};
use contract::{Action, Features, Mask, Observation};
use policy::{Policy, State, recurrence};
use serde::Serialize;

/// Largest difference of a number that another processor's rounding explains.
const ROUNDING_MAX: f32 = 1e-4;
/// Decisions that may have been written after an evaluator that was late had read the log.
const UNSEEN_MAX: usize = 2;
/// Change of the probability below which an input is not worth a line.
const SWAY_MIN: f32 = 0.01;
/// Inputs that are shown at most.
const SHOWN_MAX: usize = 6;

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "replay", rename_all = "snake_case")]
pub enum Replay {
    /// No policy ran.
    NoPolicy,
    /// The same numbers, bit for bit.
    BitForBit,
    /// The same but for rounding: another kind of processor decided.
    Rounding {
        /// Largest difference of a number.
        difference: f32,
    },
    /// Other numbers.
    Differs {
        /// Largest difference of a probability, of the value or of the state; infinite if one is no number.
        difference: f32,
    },
    /// It cannot be replayed here.
    Impossible {
        /// Why.
        because: String,
    },
}

/// How much one input swayed a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sway {
    /// The input's name.
    pub feature: &'static str,
    /// Its plain value; none if it was missing.
    pub value: Option<f64>,
    /// The chosen action's probability.
    pub probability: f32,
    /// What that would be if this input alone were what it is for an empty pool.
    pub without: f32,
}

/// Policies by hash, or why one cannot be used.
pub type PoliciesByHash = BTreeMap<String, Result<Policy, String>>;

/// A step that gives what a decision stored, or the nearest there is.
struct Found {
    from: State,
    difference: f32,
    is_same: bool,
}

/// Replays the last of `log`, which has the decisions before it, oldest first.
pub fn replay(log: &[Decision], policies: &PoliciesByHash, tick_s: u64) -> Replay {
    match found(log, policies, tick_s) {
        Ok(None) => Replay::NoPolicy,
        Ok(Some((_, found))) if found.is_same => Replay::BitForBit,
        Ok(Some((_, Found { difference, .. }))) if difference <= ROUNDING_MAX => Replay::Rounding { difference },
        Ok(Some((_, Found { difference, .. }))) => Replay::Differs { difference },
        Err(because) => Replay::Impossible { because },
    }
}

fn found<'a>(
    log: &[Decision],
    policies: &'a PoliciesByHash,
    tick_s: u64,
) -> Result<Option<(&'a Policy, Found)>, String> {
    let (decision, before) = log.split_last().ok_or("there is no decision")?;
    let Some((stored, probabilities)) = decision.lstm.as_ref().zip(decision.probabilities.as_ref()) else {
        return Ok(None);
    };
    let policy = policies.get(&stored.policy).ok_or_else(|| format!("policy {} was not read", stored.policy))?;
    let policy = policy.as_ref().map_err(Clone::clone)?;
    let mut best: Option<Found> = None;
    for from in starts(policy, before, decision, tick_s) {
        let found = compared(policy, from, decision, stored, probabilities)?;
        if found.is_same {
            return Ok(Some((policy, found)));
        }
        if best.as_ref().is_none_or(|best| found.difference < best.difference) {
            best = Some(found);
        }
    }
    best.map(|best| Some((policy, best))).ok_or_else(|| "the policy cannot take the stored steps".to_owned())
}

/// The states that the evaluator may have gone on from, the likeliest first.
fn starts<'a>(
    policy: &'a Policy,
    before: &'a [Decision],
    decision: &'a Decision,
    tick_s: u64,
) -> impl Iterator<Item = State> + 'a {
    let known = move || (0..=UNSEEN_MAX.min(before.len())).map(move |unseen| &before[..before.len() - unseen]);
    let carried = known().filter_map(move |known| recurrence::carried(policy, known.last(), decision.tick, tick_s));
    let past = |known: &'a [Decision]| &known[known.len().saturating_sub(WARM_UP_TICKS)..];
    carried.chain(known().filter_map(move |known| recurrence::warmed_up(policy, past(known)).ok()))
}

fn compared(
    policy: &Policy,
    from: State,
    decision: &Decision,
    stored: &LstmState,
    probabilities: &[f32],
) -> Result<Found, String> {
    let mut state = from.clone();
    let out = policy.step(&encode(&decision.observation), &decision.mask, &mut state).map_err(|e| e.to_string())?;
    let value = decision.value.unwrap_or(f32::NAN);
    let all = [
        difference(&out.probabilities, probabilities),
        // relative, as a value is of any size
        difference(&[out.value], &[value]) / value.abs().max(1.0),
        difference(&state.h, &stored.h),
        difference(&state.c, &stored.c) / stored.c.iter().fold(1.0, |most: f32, c| most.max(c.abs())),
    ];
    let is_same =
        out.probabilities == probabilities && out.value == value && state.h == stored.h && state.c == stored.c;
    let difference = all.into_iter().map(|d| if d.is_nan() { f32::INFINITY } else { d }).fold(0.0, f32::max);
    Ok(Found { from, difference, is_same })
}

/// The largest difference of two lists; infinite if one of them is longer or holds what is no number.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    if ours.len() != theirs.len() {
        return f32::INFINITY;
    }
    let gaps = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
    gaps.map(|gap| if gap.is_nan() { f32::INFINITY } else { gap }).fold(0.0, f32::max)
}

/// The inputs that swayed the last of `log` most: each is replaced, alone, by what it is for an empty pool of which nothing
/// was measured. None if it cannot be replayed.
///
/// What several inputs say together, or the recurrent state, does not show in this.
pub fn sways(log: &[Decision], policies: &PoliciesByHash, tick_s: u64) -> Option<Vec<Sway>> {
    let decision = log.last()?;
    let (policy, found) = found(log, policies, tick_s).ok()??;
    // the policy's own choice, also where a rule or a hold stood in its place
    let chosen = best(decision.probabilities.as_ref()?, &decision.mask)?;
    let features = encode(&decision.observation);
    let neutral = encode(&Observation::empty(decision.observation.cores));
    let probability = |features: &Features| {
        let out = policy.step(features, &decision.mask, &mut found.from.clone()).ok()?;
        Some(out.probabilities[chosen])
    };
    let with = probability(&features)?;
    let mut all = Vec::new();
    for (i, feature) in FEATURES.iter().enumerate().filter(|(i, _)| features[*i] != neutral[*i]) {
        let mut changed = features;
        changed[i] = neutral[i];
        let value = feature.value(&decision.observation);
        all.push(Sway { feature: feature.name, value, probability: with, without: probability(&changed)? });
    }
    let size = |s: &Sway| (s.probability - s.without).abs();
    all.retain(|sway| size(sway) >= SWAY_MIN);
    all.sort_by(|a, b| size(b).total_cmp(&size(a)));
    all.truncate(SHOWN_MAX);
    Some(all)
}

fn best(probabilities: &[f32], mask: &Mask) -> Option<usize> {
    let allowed = (0..probabilities.len()).filter(|i| Action::at(*i).is_allowed(mask));
    allowed.max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]).then(b.cmp(a)))
}
