//! The comparison at the end of a job: which candidate, and whether it takes over.

use std::collections::BTreeMap;
use std::ops::Range;

use backtest::gate::{Comparison, Gate, Judgement, Opponent, Played, judge, judge_published};
use backtest::play::{Contender, PlayError, outcomes};
use backtest::rules::Rule;

use super::windows::Windows;
use super::{ImproveError, Incumbent, Request};
use crate::commands::train::settings;
use crate::compare::fleet_chart;
use crate::contender::Learned;
use crate::course::Course;
use crate::parity::{self, Origin};
use crate::ppo::weights::Weights;
use crate::promote::Bundle;
use crate::report;

/// Seeds of the comparison; training draws its seeds from all 64-bit numbers and all but never meets them.
const COMPARE_SEEDS: Range<u64> = 7_000_000..7_000_032;
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
    candidates: &[Weights],
    windows: &Windows,
    incumbent: Option<&Incumbent>,
) -> Result<Judged, ImproveError> {
    let (index, candidate) = best(candidates, windows)?;
    let judgement = judgement(request, candidate, windows, incumbent)?;
    let bundle = bundle(request, index, candidate, windows, incumbent, &judgement)?;
    let judgement = unless_the_same(judgement, &bundle, incumbent);
    Ok(Judged { judgement, bundle })
}

/// The cheapest of the candidates, and its number.
fn best<'a>(candidates: &'a [Weights], windows: &Windows) -> Result<(u32, &'a Weights), PlayError> {
    let (mut best, courses): (Option<(f64, u32, &Weights)>, _) = (None, windows.learned());
    for (index, weights) in (0..).zip(candidates) {
        let played = played(&learned("candidate", weights), &courses, CHOOSE_SEEDS)?;
        let usd: f64 = played.iter().map(|p| p.outcome.total_usd).sum();
        if best.is_none_or(|(least, ..)| usd < least) {
            best = Some((usd, index, weights));
        }
    }
    let (_, index, weights) = best.expect("a request has at least one candidate");
    Ok((index, weights))
}

fn learned<'a>(name: &str, weights: &'a Weights) -> Learned<'a> {
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

fn judgement(
    request: &Request,
    candidate: &Weights,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
) -> Result<Judgement, PlayError> {
    if request.gate == Gate::Published {
        let simulated = outcomes(&learned("candidate", candidate), &windows.last.course.exact, &[0])?;
        return Ok(judge_published(simulated[0].total_usd, windows.last.error.real_usd));
    }
    let courses = windows.judged(request.gate_config.twin_error_max);
    let in_charge = incumbent.and_then(|i| i.weights.as_ref());
    let in_charge = in_charge.map(|weights| opponent("the policy in charge", &learned("", weights), &courses));
    let incumbent = in_charge.transpose()?;
    let rule = best_rule(&windows.learned())?;
    let rules = vec![opponent(&format!("the tuned {rule}"), &rule, &courses)?];
    let candidate = played(&learned("candidate", candidate), &courses, COMPARE_SEEDS)?;
    let comparison = Comparison { candidate, incumbent, rules };
    Ok(judge(&comparison, windows.last.error.relative(), &request.gate_config))
}

/// One rule with one setting, as somebody would run it: of those tuned on each window that was learned from, the one that is
/// best on all of them.
fn best_rule(courses: &[Course]) -> Result<Rule, PlayError> {
    let mut best: Option<(f64, Rule)> = None;
    for rule in courses.iter().flat_map(|course| &course.rules).map(|tuned| tuned.rule) {
        let usd: f64 = played(&rule, courses, CHOOSE_SEEDS)?.iter().map(|p| p.outcome.total_usd).sum();
        if best.is_none_or(|(least, _)| usd < least) {
            best = Some((usd, rule));
        }
    }
    let (_, rule) = best.expect("every course has its rules");
    Ok(rule)
}

fn opponent(name: &str, contender: &dyn Contender, courses: &[Course]) -> Result<Opponent, PlayError> {
    Ok(Opponent { name: name.to_owned(), played: played(contender, courses, COMPARE_SEEDS)? })
}

/// Training keeps the weights that it began with if it finds nothing better; the judgement says so.
fn unless_the_same(judgement: Judgement, bundle: &Bundle, incumbent: Option<&Incumbent>) -> Judgement {
    match incumbent {
        Some(i) if i.pointer.0.sha256 == bundle.manifest.sha256 => Judgement {
            promoted: false,
            because: "training found nothing better than the policy in charge".into(),
            ..judgement
        },
        _ => judgement,
    }
}

fn bundle(
    request: &Request,
    index: u32,
    candidate: &Weights,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
    judgement: &Judgement,
) -> Result<Bundle, ImproveError> {
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
    let parent = incumbent.map(|i| i.pointer.0.sha256.clone());
    let (config, seed) = request.settings_of(index);
    let mut settings = settings(config, seed, "the pool's own history");
    settings.insert("run".into(), request.run());
    let twin = serde_json::to_string(&windows.last.fit).expect("plain data");
    settings.insert("twin".into(), twin);
    let (onnx, manifest) =
        parity::package(candidate, Origin { settings, evaluation, parent, machines_per_action_max })?;
    let report = page(request, &manifest.sha256, candidate, windows, incumbent, judgement)?.into_bytes();
    Ok(Bundle { onnx, manifest, checkpoint: candidate.to_checkpoint(), report })
}

/// The report: the judgement, and what everybody does with the last window.
fn page(
    request: &Request,
    sha256: &str,
    candidate: &Weights,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
    judgement: &Judgement,
) -> Result<String, PlayError> {
    let mut rows =
        vec![vec!["the candidate".to_owned(), format!("{:.3}", judgement.candidate_usd), String::new(), String::new()]];
    for d in &judgement.duels {
        let saving = format!("{:.3} ({:.3} to {:.3})", d.saving_usd, d.saving_usd_low, d.saving_usd_high);
        rows.push(vec![d.opponent.clone(), format!("{:.3}", d.opponent_usd), saving, format!("{:.4}", d.p_value)]);
    }
    let table = report::table(&["who", "dollars an episode", "saved by the candidate", "p"], &rows);
    let verdict = if judgement.promoted { "Promoted" } else { "Not promoted" };
    let held_out = if windows.older.is_empty() { "the window learned from" } else { "windows held out from learning" };
    let mut body = format!(
        "<p><b>{verdict}</b>: {}.</p><p>Judged on {} ({held_out}), {} perturbed episodes of each.</p>{table}\
         <h2>The last window in the twin</h2>",
        report::escape(&judgement.because),
        windows.judged(request.gate_config.twin_error_max).len(),
        COMPARE_SEEDS.end - COMPARE_SEEDS.start
    );
    let course = &windows.last.course;
    let in_charge = incumbent.and_then(|i| i.weights.as_ref()).map(|weights| learned("the policy in charge", weights));
    let candidate = learned("the candidate", candidate);
    let mut all: Vec<&dyn Contender> = vec![&candidate];
    all.extend(in_charge.iter().map(|l| l as &dyn Contender));
    all.push(&course.teacher.rule);
    for contender in all {
        let chart = fleet_chart(contender, &course.exact, 0)?;
        body += &format!("<h3>{}</h3>{chart}", report::escape(&contender.name()));
    }
    Ok(report::page(&format!("twinscaler: policy {}", &sha256[..12]), &body))
}
