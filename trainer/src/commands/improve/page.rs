//! The report of a run: the judgement, how the candidates learned, and what everybody does with the last window.

use backtest::gate::Judgement;
use backtest::play::{Contender, PlayError, Standing};

use super::candidate::Candidate;
use super::judging::{COMPARE_SEEDS, learned};
use super::windows::Windows;
use super::{Incumbent, Request};
use crate::commands::backtest as tables;
use crate::compare::fleet_chart;
use crate::report::{self, Curve};

/// Candidates whose curves are drawn at most, so that a page of a thousand can still be opened.
const CURVES_MAX: usize = 32;

/// What the report is made of.
pub(super) struct Page<'a> {
    pub request: &'a Request,
    pub candidates: &'a [Candidate],
    /// The one that was judged.
    pub chosen: &'a Candidate,
    pub windows: &'a Windows,
    pub incumbent: Option<&'a Incumbent>,
    pub judgement: &'a Judgement,
    /// In the episodes that the gate looked at, the candidate first.
    pub standings: Vec<Standing>,
}

impl Page<'_> {
    /// The report of the policy with this hash.
    pub fn html(&self, sha256: &str) -> Result<String, PlayError> {
        let body =
            [self.verdict(), self.comparison(), learning(self.candidates, self.chosen.index), self.fleets()?].concat();
        Ok(report::page(&format!("twinscaler: policy {}", &sha256[..12]), &body))
    }

    fn verdict(&self) -> String {
        // the page is there before the pointer is moved, which somebody else may do first
        let verdict = if self.judgement.promoted { "To be promoted" } else { "Not promoted" };
        let run = report::escape(&self.request.run());
        format!("<p><b>{verdict}</b>: {}.</p><p>Run <code>{run}</code></p>", report::escape(&self.judgement.because))
    }

    fn comparison(&self) -> String {
        let mut html = "<h2>The comparison</h2>".to_owned();
        if !self.judgement.duels.is_empty() {
            let error_max = self.request.gate_config.twin_error_max;
            let windows = self.windows.judged(error_max).len();
            let what = if self.windows.judges_apart(error_max) { "held out from learning" } else { "not held out" };
            let episodes = COMPARE_SEEDS.end - COMPARE_SEEDS.start;
            html += &format!("<p>Windows: {windows}, {what}; {episodes} perturbed episodes of each.</p>");
            html += &report::table(&["against", "dollars", "saved by the candidate", "p"], &self.duels());
        }
        html += &report::money_chart(&self.standings, &[]);
        html + &report::table(&tables::HEAD, &tables::rows(&self.standings))
    }

    fn duels(&self) -> Vec<Vec<String>> {
        let row = |d: &backtest::gate::Duel| {
            let saving = format!("{:.3} ({:.3} to {:.3})", d.saving_usd, d.saving_usd_low, d.saving_usd_high);
            let no_bar = if d.incumbent_loses { " (which the policy in charge surely loses to)" } else { "" };
            let against = format!("{}{no_bar}", d.opponent);
            vec![against, format!("{:.3}", d.opponent_usd), saving, format!("{:.4}", d.p_value)]
        };
        self.judgement.duels.iter().map(row).collect()
    }

    fn fleets(&self) -> Result<String, PlayError> {
        let course = &self.windows.last.course;
        let candidate = learned("the candidate", &self.chosen.weights);
        let in_charge = self.incumbent.and_then(|i| i.policy.as_ref());
        let mut all: Vec<&dyn Contender> = vec![&candidate];
        all.extend(in_charge.map(|policy| policy as &dyn Contender));
        all.push(&course.teacher.rule);
        let mut html = "<h2>The last window in the twin</h2>".to_owned();
        for contender in all {
            let chart = fleet_chart(contender, &course.exact, 0)?;
            html += &format!("<h3>{}</h3>{chart}", report::escape(&contender.name()));
        }
        Ok(html)
    }
}

/// The curves, that of the judged candidate first.
fn learning(candidates: &[Candidate], chosen: u32) -> String {
    let mut all: Vec<&Candidate> = candidates.iter().collect();
    all.sort_by_key(|candidate| candidate.index != chosen);
    let curve = |candidate: &&Candidate| curve(candidate, candidate.index == chosen);
    let curves: String = all.iter().take(CURVES_MAX).map(curve).collect();
    let left_out = all.len().saturating_sub(CURVES_MAX);
    let rest = if left_out > 0 { format!("<p>Curves left out: {left_out}</p>") } else { String::new() };
    format!("<h2>Learning</h2>{curves}{rest}")
}

fn curve(candidate: &Candidate, is_judged: bool) -> String {
    let index = candidate.index;
    let judged = if is_judged { ", the one that was judged" } else { "" };
    let curve = Curve { name: "evaluated, most probable action", points: candidate.curve.clone() };
    let chart = report::curve_chart("scaled dollars an episode, mean over the windows", "environment steps", &[curve]);
    format!("<h3>Candidate {index}{judged}</h3>{chart}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ppo::Weights;

    #[test]
    fn the_judged_candidates_curve_comes_first_and_a_page_of_a_thousand_can_be_opened() {
        let candidate = |index: u32| Candidate {
            index,
            weights: Weights::new(2, u64::from(index)),
            parent: None,
            curve: vec![(0.0, 2.0), (9.0, 1.0)],
        };
        let candidates: Vec<_> = (0..40).map(candidate).collect();
        let html = learning(&candidates, 37);
        assert!(html.starts_with("<h2>Learning</h2><h3>Candidate 37, the one that was judged</h3>"), "{html}");
        assert_eq!((html.matches("<polyline").count(), html.contains("Curves left out: 8")), (CURVES_MAX, true));
        assert!(!learning(&candidates[..2], 0).contains("left out"));
    }
}
