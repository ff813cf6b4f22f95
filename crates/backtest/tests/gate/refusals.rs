//! What is refused whatever is saved.

use backtest::gate::{Comparison, GateConfig, Judgement, Played, Tolerance, judge};
use twin::Outcome;

use crate::planted::{Draws, NONE, RIGHT, comparison, one_window, opponent};

/// A candidate that saves a tenth, with its outcomes changed.
fn better(change: impl Fn(usize, &mut Outcome)) -> Comparison {
    let loads = Draws::new(1).loads(24);
    let candidate: Vec<f64> = loads.iter().map(|load| 0.9 * load).collect();
    let mut comparison = comparison(1, &candidate, &loads);
    comparison.candidate.iter_mut().enumerate().for_each(|(i, played)| change(i, &mut played.outcome));
    comparison
}

fn config() -> GateConfig {
    GateConfig {
        wait_s_p95: Tolerance { relative: 0.1, absolute: 30.0 },
        lost_core_hours: Tolerance { relative: 0.1, absolute: 0.1 },
        churn: Tolerance { relative: 0.2, absolute: 4.0 },
        ..one_window()
    }
}

fn judged(comparison: &Comparison) -> Judgement {
    judge(comparison, RIGHT, &config())
}

fn is_refused(judgement: &Judgement, because: &str) {
    assert!(!judgement.promoted && judgement.because.contains(because), "{}", judgement.because);
}

#[test]
fn each_guard_refuses_beyond_its_tolerance_and_says_both_numbers() {
    // the incumbent's: 600 s, 5 core-hours, 20 launches and 20 stops; an action may be four of them
    assert!(judged(&better(|_, o| o.wait_s_p95 = 660.0)).promoted);
    is_refused(&judged(&better(|_, o| o.wait_s_p95 = 661.0)), "661 s an episode against 600 of the policy in charge");
    assert!(judged(&better(|_, o| o.lost_core_hours = 5.5)).promoted);
    is_refused(&judged(&better(|_, o| o.lost_core_hours = 5.51)), "5.51 core-hours an episode against 5.00");
    assert!(judged(&better(|_, o| o.stops = 28)).promoted);
    let one_more = judged(&better(|i, o| o.stops = if i == 0 { 29 } else { 28 }));
    is_refused(&one_more, "48.0 launches and stops an episode against 40.0");
    is_refused(&one_more, "saves 10.00 %");
}

#[test]
fn where_the_opponent_has_next_to_nothing_the_fixed_amount_is_tolerated() {
    let with = |wait_s: f64| {
        let mut comparison = better(|_, o| o.wait_s_p95 = wait_s);
        let incumbent = comparison.incumbent.as_mut().unwrap();
        incumbent.played.iter_mut().for_each(|p| p.outcome.wait_s_p95 = 0.0);
        comparison
    };
    assert!(judged(&with(30.0)).promoted);
    is_refused(&judged(&with(31.0)), "31 s an episode against 0");
    let config = GateConfig { wait_s_p95: NONE, ..one_window() };
    assert!(!judge(&with(1.0), RIGHT, &config).promoted && judge(&with(0.0), RIGHT, &config).promoted);
}

#[test]
fn guards_are_against_whom_the_candidate_takes_over_from() {
    let mut comparison = better(|_, o| o.launches = 25);
    let mut calm = opponent("rule:static=1,1,7", 1, &Draws::new(1).loads(24));
    calm.played.iter_mut().for_each(|p| (p.outcome.launches, p.outcome.stops) = (0, 0));
    comparison.rules.push(calm);
    let judgement = judged(&comparison);
    assert!(judgement.promoted, "{}", judgement.because);
    let churn = judgement.duels[0].guards.unwrap().churn;
    assert_eq!((churn.candidate, churn.opponent, churn.limit), (45.0, 40.0, 48.0));
    assert_eq!(judgement.duels[1].guards, None);
    comparison.incumbent = None;
    is_refused(&judged(&comparison), "45.0 launches and stops an episode against 0.0 of rule:static=1,1,7");
}

#[test]
fn a_candidate_that_leaves_tasks_undone_is_refused() {
    is_refused(&judged(&better(|i, o| o.completed -= u32::from(i == 7))), "leaves tasks undone");
    is_refused(&judged(&better(|i, o| o.truncated = i == 7)), "in 1 episodes");
    // the incumbent does too, and its cost leaves waiting out: that makes it no easier to beat
    let mut both = better(|i, o| o.truncated = i == 7);
    both.incumbent.as_mut().unwrap().played[7].outcome.truncated = true;
    assert!(judged(&both).promoted);
}

#[test]
fn a_twin_that_is_wrong_or_unmeasured_promotes_nobody() {
    let comparison = better(|_, _| {});
    let config = one_window();
    assert!(judge(&comparison, Some(0.25), &config).promoted);
    is_refused(&judge(&comparison, Some(0.26), &config), "26.0 % of the real cost, more than the 25 %");
    for not_a_number in [f64::NAN, f64::INFINITY] {
        assert!(!judge(&comparison, Some(not_a_number), &config).promoted);
    }
    is_refused(&judge(&comparison, None, &config), "could not be measured");
    assert!(judge(&comparison, None, &GateConfig { twin_error_required: false, ..config }).promoted);
}

#[test]
fn the_same_policy_is_not_promoted_whatever_the_margin() {
    let loads = Draws::new(1).loads(24);
    for margin in [0.0, 0.005] {
        let config = GateConfig { margin, ..one_window() };
        let judgement = judge(&comparison(1, &loads, &loads), RIGHT, &config);
        is_refused(&judgement, "0.00 % [0.00, 0.00]");
        assert_eq!(judgement.duels[0].p_value, 1.0);
    }
}

#[test]
fn numbers_that_are_none_are_refused_and_named() {
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        is_refused(
            &judged(&better(|i, o| o.total_usd = if i == 3 { bad } else { 1.0 })),
            "the candidate has a cost of",
        );
        is_refused(&judged(&better(|i, o| o.wait_s_p95 = if i == 3 { bad } else { 1.0 })), "seed 3 of window 0");
        is_refused(&judged(&better(|_, o| o.lost_core_hours = bad)), "must be numbers");
        let mut comparison = better(|_, _| {});
        comparison.incumbent.as_mut().unwrap().played[3].outcome.total_usd = bad;
        is_refused(&judged(&comparison), "the policy in charge has a cost of");
    }
}

#[test]
fn episodes_that_show_nothing_are_refused() {
    let change = |change: fn(&mut Comparison)| {
        let mut comparison = better(|_, _| {});
        change(&mut comparison);
        let judgement = judged(&comparison);
        assert!(judgement.duels.is_empty(), "episodes that do not pair have no savings");
        judgement
    };
    is_refused(&change(|c| c.incumbent = None), "nobody to compare");
    is_refused(&change(|c| c.candidate.truncate(11)), "11 episodes are too few, at least 12");
    is_refused(&change(|c| c.candidate.clear()), "0 episodes");
    is_refused(&change(|c| c.candidate.truncate(12)), "did not play the candidate's episodes");
    is_refused(&change(|c| c.candidate.swap(1, 2)), "did not play the candidate's episodes");
    is_refused(&change(|c| c.candidate[1] = c.candidate[2].clone()), "played twice");
    let for_nothing = |c: &mut Comparison| {
        c.incumbent.as_mut().unwrap().played.iter_mut().for_each(|p| p.outcome.total_usd = 0.0);
    };
    is_refused(&change(for_nothing), "costs nothing");
    let config = GateConfig { margin: -1.0, ..one_window() };
    is_refused(&judge(&better(|_, _| {}), RIGHT, &config), "the margin is -1");
}

#[test]
#[should_panic(expected = "one outcome for each seed")]
fn outcomes_without_a_seed_are_a_bug() {
    Played::of(0, &[1, 2], vec![crate::planted::outcome(1.0)]);
}
