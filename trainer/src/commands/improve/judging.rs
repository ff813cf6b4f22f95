//! The comparison at the end of a job: which candidate, and whether it takes over.

use std::collections::BTreeMap;
use std::ops::Range;

use backtest::gate::{Comparison, Gate, Judgement, Opponent, Played, judge, judge_published};
use backtest::play::{Contender, PlayError, Standing, outcomes, standing};
use backtest::rules::Rule;
use contract::manifest::Manifest;
use twin::Outcome;

use super::candidate::Candidate;
use super::page::Page;
use super::windows::Windows;
use super::{ImproveError, Incumbent, Request};
use crate::commands::train::settings;
use crate::contender::Learned;
use crate::course::Course;
use crate::parity::{self, Origin};
use crate::ppo::weights::Weights;
use crate::promote::Bundle;

/// Seeds of the comparison; training draws its seeds from all 64-bit numbers and all but never meets them.
pub(super) const COMPARE_SEEDS: Range<u64> = 7_000_000..7_000_032;
/// Seeds that the best of several candidates is chosen by, on the windows that were learned from: its luck there does not
/// count again where it is judged.
const CHOOSE_SEEDS: Range<u64> = 6_000_000..6_000_016;

/// What the gate says of the best candidate.
pub(super) struct Judged {
    pub judgement: Judgement,
    pub bundle: Bundle,
}

pub(super) fn judged(
    request: &Request,
    candidates: &[Candidate],
    windows: &Windows,
    incumbent: Option<&Incumbent>,
) -> Result<Judged, ImproveError> {
    let chosen = best(candidates, windows)?;
    let (judgement, standings) = judgement(request, &chosen.weights, windows, incumbent)?;
    let (onnx, manifest) = parity::package(&chosen.weights, origin(request, chosen, windows, &judgement))?;
    let judgement = unless_the_same(judgement, &manifest, incumbent);
    let page = Page { request, candidates, chosen, windows, incumbent, judgement: &judgement, standings };
    let report = page.html(&manifest.sha256)?.into_bytes();
    let bundle = Bundle { onnx, manifest, checkpoint: chosen.weights.to_checkpoint(), report };
    Ok(Judged { judgement, bundle })
}

/// The candidate that leaves least undone, and of those the cheapest.
fn best<'a>(candidates: &'a [Candidate], windows: &Windows) -> Result<&'a Candidate, PlayError> {
    let (mut best, courses): (Option<(Costs, &Candidate)>, _) = (None, windows.learned());
    for candidate in candidates {
        let costs = costs(&played(&learned("candidate", &candidate.weights), &courses, CHOOSE_SEEDS)?);
        if best.is_none_or(|(least, _)| costs < least) {
            best = Some((costs, candidate));
        }
    }
    let (_, candidate) = best.expect("a run has at least one candidate");
    Ok(candidate)
}

pub(super) fn learned<'a>(name: &str, weights: &'a Weights) -> Learned<'a> {
    Learned { name: name.to_owned(), weights }
}

/// All episodes of some windows, perturbed copies of what happened.
fn played(contender: &dyn Contender, courses: &[Course], seeds: Range<u64>) -> Result<Vec<Played>, PlayError> {
    let seeds: Vec<u64> = seeds.collect();
    let mut all = Vec::new();
    for (i, course) in courses.iter().enumerate() {
        all.extend(Played::of(i, &seeds, outcomes(contender, &course.spec, &seeds)?));
    }
    Ok(all)
}

/// What the gate says, and how everybody stands in the episodes that it looked at, the candidate first.
fn judgement(
    request: &Request,
    candidate: &Weights,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
) -> Result<(Judgement, Vec<Standing>), PlayError> {
    if request.gate == Gate::Published {
        let simulated = outcomes(&learned("candidate", candidate), &windows.last.course.exact, &[0])?;
        let judgement = judge_published(simulated[0].total_usd, windows.last.error.real_usd);
        return Ok((judgement, standings(&Played::of(0, &[0], simulated), &[])));
    }
    let courses = windows.judged(request.gate_config.twin_error_max);
    let in_charge = incumbent.and_then(|i| i.policy.as_ref());
    let incumbent = in_charge.map(|policy| opponent(&policy.name, policy, &courses)).transpose()?;
    let rule = best_rule(&windows.learned())?;
    let rules = vec![opponent(&format!("the tuned {rule}"), &rule, &courses)?];
    let candidate = played(&learned("candidate", candidate), &courses, COMPARE_SEEDS)?;
    let comparison = Comparison { candidate, incumbent, rules };
    let judgement = judge(&comparison, windows.last.error.relative(), &request.gate_config);
    Ok((judgement, standings(&comparison.candidate, &comparison.opponents().collect::<Vec<_>>())))
}

fn standings(candidate: &[Played], opponents: &[&Opponent]) -> Vec<Standing> {
    let candidate_usd: Vec<f64> = candidate.iter().map(|p| p.outcome.total_usd).collect();
    let of = |name: &str, played: &[Played]| {
        let outcomes: Vec<Outcome> = played.iter().map(|p| p.outcome.clone()).collect();
        standing(name.to_owned(), &outcomes, &candidate_usd)
    };
    let others = opponents.iter().map(|o| of(&o.name, &o.played));
    std::iter::once(of("the candidate", candidate)).chain(others).collect()
}

/// Episodes cut off, and dollars.
type Costs = (usize, f64);

/// Where an episode is cut off its cost leaves out what was still to come: who leaves the fewest undone comes first.
fn costs(played: &[Played]) -> Costs {
    let undone = played.iter().filter(|p| p.outcome.truncated).count();
    (undone, played.iter().map(|p| p.outcome.total_usd).sum())
}

/// One rule with one setting, as somebody would run it: of those tuned on each window that was learned from, the one that is
/// best on all of them.
fn best_rule(courses: &[Course]) -> Result<Rule, PlayError> {
    let mut best: Option<(Costs, Rule)> = None;
    for rule in courses.iter().flat_map(|course| &course.rules).map(|tuned| tuned.rule) {
        let costs = costs(&played(&rule, courses, CHOOSE_SEEDS)?);
        if best.is_none_or(|(least, _)| costs < least) {
            best = Some((costs, rule));
        }
    }
    let (_, rule) = best.expect("every course has its rules");
    Ok(rule)
}

fn opponent(name: &str, contender: &dyn Contender, courses: &[Course]) -> Result<Opponent, PlayError> {
    Ok(Opponent { name: name.to_owned(), played: played(contender, courses, COMPARE_SEEDS)? })
}

/// Training keeps the weights that it began with if it finds nothing better; the judgement says so.
fn unless_the_same(judgement: Judgement, manifest: &Manifest, incumbent: Option<&Incumbent>) -> Judgement {
    match incumbent {
        Some(i) if i.pointer.0.sha256 == manifest.sha256 => Judgement {
            promoted: false,
            because: "training found nothing better than the policy in charge".into(),
            ..judgement
        },
        _ => judgement,
    }
}

/// What the manifest says of where the candidate came from.
fn origin(request: &Request, candidate: &Candidate, windows: &Windows, judgement: &Judgement) -> Origin {
    let mut evaluation = BTreeMap::from([("candidate_usd".to_owned(), judgement.candidate_usd)]);
    evaluation.extend(windows.last.error.relative().map(|error| ("twin_error".to_owned(), error)));
    for duel in &judgement.duels {
        let name = duel.opponent.replace(' ', "_");
        evaluation.insert(format!("{name}/usd"), duel.opponent_usd);
        evaluation.insert(format!("{name}/saving_usd"), duel.saving_usd);
        evaluation.insert(format!("{name}/saving_usd_low"), duel.saving_usd_low);
    }
    evaluation.retain(|_, value| value.is_finite());
    let machines_per_action_max = windows.last.course.spec.config().machines_per_action_max;
    let (config, seed) = request.settings_of(candidate.index);
    let mut settings = settings(config, seed, "the pool's own history");
    settings.insert("run".into(), request.run());
    let twin = serde_json::to_string(&windows.last.fit).expect("plain data");
    settings.insert("twin".into(), twin);
    Origin { settings, evaluation, parent: candidate.parent.clone(), machines_per_action_max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::where_idling_is_cheapest;

    #[test]
    fn a_rule_that_leaves_tasks_undone_is_not_the_one_to_beat_however_little_it_costs() {
        let rules = ["rule:nothing", "rule:queue=0.5,5"].map(|rule| rule.parse::<Rule>().unwrap());
        let courses = [where_idling_is_cheapest(1, &rules)];
        let usd = |rule: &Rule| -> f64 {
            played(rule, &courses, CHOOSE_SEEDS).unwrap().iter().map(|p| p.outcome.total_usd).sum()
        };
        assert!(usd(&rules[0]) < usd(&rules[1]), "who does nothing pays less: {} {}", usd(&rules[0]), usd(&rules[1]));
        assert_eq!(best_rule(&courses).unwrap(), rules[1]);
    }
}
