//! Better, equal and worse candidates, and what is said of them.

use backtest::gate::{Gate, GateConfig, Judgement, Opponent, Unit, judge, judge_published};
use proptest::prelude::*;

use crate::planted::{Draws, RIGHT, comparison, judged, one_window, opponent, played};

/// A candidate that costs this share of the incumbent's cost, with noise of both.
fn planted(windows: usize, share: f64, seed: u64) -> backtest::gate::Comparison {
    let mut draws = Draws::new(seed);
    let loads = draws.loads(24);
    let candidate = draws.costs(&loads, share, |d| 0.2 * d.normal());
    let incumbent = draws.costs(&loads, 1.0, |d| 0.2 * d.normal());
    comparison(windows, &candidate, &incumbent)
}

#[test]
fn a_better_candidate_is_promoted_and_an_equal_or_worse_one_is_not() {
    for windows in [1, 3, 8] {
        let promoted = |share| (0..50).filter(|seed| judged(&planted(windows, share, *seed), 0.005).promoted).count();
        assert!(promoted(0.96) >= 48, "better: {} with {windows} windows", promoted(0.96));
        assert!(promoted(1.0) <= 2, "equal: {} with {windows} windows", promoted(1.0));
        assert_eq!(promoted(1.04), 0, "worse, with {windows} windows");
    }
}

#[test]
fn a_saving_below_the_margin_is_not_enough_however_sure() {
    // a tenth of a percent, in every episode
    let loads = Draws::new(1).loads(24);
    let candidate: Vec<f64> = loads.iter().map(|load| 0.999 * load).collect();
    assert!(judged(&comparison(1, &candidate, &loads), 0.0).promoted);
    let judgement = judged(&comparison(1, &candidate, &loads), 0.005);
    assert!(!judgement.promoted && judgement.duels[0].p_value == 1.0);
    assert!(
        judgement.because.contains("0.10 %") && judgement.because.contains("above 0.50 %"),
        "{}",
        judgement.because
    );
}

#[test]
fn the_numbers_are_those_of_the_episodes() {
    // $20 each; $1 saved in all, so that nothing is unsure
    let judgement = judged(&comparison(1, &[19.0; 12], &[20.0; 12]), 0.005);
    assert!(judgement.promoted, "{}", judgement.because);
    let duel = &judgement.duels[0];
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(judgement.candidate_usd, 19.0) && close(duel.opponent_usd, 20.0) && close(duel.saving_usd, 1.0));
    assert!(close(duel.saving_usd_low, 1.0) && close(duel.saving_usd_high, 1.0) && close(duel.margin_usd, 0.1));
    assert_eq!((duel.p_value, duel.unit, duel.units, duel.windows), (0.5_f64.powi(12), Unit::Episode, 12, 1));
    assert_eq!(
        judgement.because,
        "saves 5.00 % [5.00, 5.00] of $20.00 an episode against the policy in charge (p < 0.001)"
    );
}

#[test]
fn the_interval_holds_the_saving_and_what_is_said_of_it() {
    let judgement = judged(&planted(8, 0.96, 3), 0.005);
    let duel = &judgement.duels[0];
    assert_eq!((duel.unit, duel.units), (Unit::Window, 8));
    assert!(duel.margin_usd < duel.saving_usd_low && duel.saving_usd_low < duel.saving_usd);
    assert!(duel.saving_usd < duel.saving_usd_high && duel.saving_usd_high < 2.0, "{duel:?}");
    let low = format!("[{:.2}, ", 100.0 * duel.saving_usd_low / duel.opponent_usd);
    assert!(judgement.because.contains(&low), "{}", judgement.because);
}

/// Everybody costs a share of what the policy in charge costs, in every episode.
fn beside_a_rule(candidate: f64, rule: f64) -> Judgement {
    let loads = Draws::new(1).loads(24);
    let costs = |share: f64| loads.iter().map(|load| share * load).collect::<Vec<_>>();
    let mut all = comparison(1, &costs(candidate), &loads);
    all.rules.push(opponent("rule:backlog=0.65,1,2", 1, &costs(rule)));
    judged(&all, 0.005)
}

#[test]
fn winning_against_the_incumbent_alone_is_not_enough() {
    // 0.7 % less than the policy in charge, and 0.3 % less than the rule
    let judgement = beside_a_rule(0.993, 0.996);
    assert!(judgement.duels[0].objection.is_none() && !judgement.promoted);
    assert!(judgement.because.contains("against rule:backlog=0.65,1,2"), "{}", judgement.because);
    let judgement = beside_a_rule(0.99, 0.996);
    assert!(judgement.promoted && judgement.because.contains(") and saves"), "{}", judgement.because);
}

#[test]
fn a_rule_that_the_incumbent_loses_to_does_not_keep_it_in_charge() {
    // the rule costs 5 % less than the policy in charge, and the candidate a little more than the rule
    let judgement = beside_a_rule(0.951, 0.95);
    assert!(judgement.promoted && judgement.duels[1].incumbent_loses, "{}", judgement.because);
    assert!(judgement.because.ends_with(", which the policy in charge surely loses to"), "{}", judgement.because);
    // who does not surely beat the policy in charge stays out whatever the rule
    let judgement = beside_a_rule(0.996, 0.95);
    assert!(!judgement.promoted && judgement.because.contains("the policy in charge"), "{}", judgement.because);
    // nobody is in charge: the rule is what the candidate takes over from
    let mut first = comparison(1, &[19.0; 12], &[20.0; 12]);
    first.rules.push(Opponent { name: "rule:queue".into(), ..first.incumbent.take().unwrap() });
    assert!(judged(&first, 0.005).promoted);
    first.candidate = played(1, &[19.95; 12]);
    assert!(!judged(&first, 0.005).promoted);
}

/// The mean is far better and the interval sure of it, but half of the episodes are worse.
#[test]
fn few_large_savings_do_not_pass_the_rank_test() {
    let loads = Draws::new(1).loads(24);
    let saving = |i: usize| match i % 4 {
        0 => 8.0,
        1 => 0.1,
        _ => -0.5 - 0.01 * i as f64,
    };
    let candidate: Vec<f64> = loads.iter().enumerate().map(|(i, load)| load - saving(i)).collect();
    let judgement = judged(&comparison(1, &candidate, &loads), 0.0);
    let duel = &judgement.duels[0];
    assert!(duel.saving_usd_low > 0.0 && duel.p_value > 0.05, "{duel:?}");
    assert!(!judgement.promoted && judgement.because.contains("p must be at most 0.05"), "{}", judgement.because);
}

#[test]
fn with_few_windows_the_candidate_must_save_in_each() {
    let loads = Draws::new(1).loads(24);
    let costs = |of_last: f64| -> Vec<f64> {
        loads.iter().enumerate().map(|(i, load)| load - if i < 16 { 2.0 } else { of_last }).collect()
    };
    assert!(judged(&comparison(3, &costs(1.8), &loads), 0.005).promoted);
    let judgement = judged(&comparison(3, &costs(-0.01), &loads), 0.005);
    assert!(judgement.duels[0].saving_usd_low > 0.1 && judgement.duels[0].p_value < 0.01, "{judgement:?}");
    assert!(!judgement.promoted && judgement.because.contains("1 of the 3 windows"), "{}", judgement.because);
    // 8 windows are enough for a small loss in one of them
    let costs = |worst: f64| -> Vec<f64> {
        let savings = [0.3, 1.2, 0.8, 1.5, worst, 2.0, 1.1, 0.5];
        loads.iter().enumerate().map(|(i, load)| load - savings[i / 3]).collect()
    };
    let judgement = judged(&comparison(8, &costs(-0.1), &loads), 0.0);
    assert!(judgement.promoted && judgement.duels[0].windows_lost == 1, "{}", judgement.because);
    assert!(!judged(&comparison(8, &costs(-3.0), &loads), 0.0).promoted);
}

#[test]
fn an_interval_stays_within_what_can_be_saved_and_lost() {
    let unsure = judged(&planted(1, 1.0, 1), 0.0);
    assert!((-2.0..0.0).contains(&unsure.duels[0].saving_usd_low), "{unsure:?}");
    // in two of 24 episodes only is there a difference: resamples without any have no spread, and bound nothing
    let judged = |of_two: f64| {
        let candidate: Vec<f64> = (0..24).map(|i| 20.0 - if i < 2 { of_two } else { 0.0 }).collect();
        judged(&comparison(1, &candidate, &[20.0; 24]), 0.0)
    };
    assert_eq!(judged(1.0).duels[0].saving_usd_high, 20.0);
    assert_eq!(judged(-1.0).duels[0].saving_usd_low, -20.0);
    assert!(!judged(1.0).promoted && !judged(-1.0).promoted);
}

#[test]
fn the_same_episodes_get_the_same_judgement() {
    let planted = planted(1, 0.98, 5);
    assert_eq!(judged(&planted, 0.005), judged(&planted, 0.005));
    let other = judge(&planted, RIGHT, &GateConfig { seed: 1, ..one_window() });
    assert_ne!(other.duels[0].saving_usd_low, judged(&planted, 0.005).duels[0].saving_usd_low);
}

#[test]
fn the_published_gate_compares_two_means() {
    let judgement = judge_published(19.99, 20.0);
    assert!(judgement.promoted && judgement.gate == Gate::Published);
    assert!(judgement.because.contains("$19.99") && judgement.because.contains("$20.00"), "{}", judgement.because);
    for candidate in [20.0, 20.01, f64::NAN] {
        assert!(!judge_published(candidate, 20.0).promoted);
    }
    assert_eq!("published".parse(), Ok(Gate::Published));
    assert_eq!(Gate::default().to_string().parse(), Ok(Gate::Paired));
    assert!("real".parse::<Gate>().unwrap_err().to_string().contains("paired and published"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn of_two_policies_at_most_one_is_promoted_over_the_other(
        costs in prop::collection::vec((0.01..100.0_f64, -1.0..1.0_f64), 8..40),
        windows in 1..9_usize,
        share in 0.8..1.2_f64,
        noise in 0.0..5.0_f64,
        margin in 0.0..0.2_f64,
        alpha in 0.02..0.5_f64,
    ) {
        let episodes = costs.len() / windows * windows;
        let one: Vec<f64> = costs[..episodes].iter().map(|(usd, _)| *usd).collect();
        let other: Vec<f64> = costs[..episodes].iter().map(|(usd, x)| (usd * share + noise * x).max(0.0)).collect();
        let config = GateConfig { alpha, margin, resamples: 500, episodes_min: 1, ..one_window() };
        let there = judge(&comparison(windows, &one, &other), RIGHT, &config);
        let back = judge(&comparison(windows, &other, &one), RIGHT, &config);
        prop_assert!(!(there.promoted && back.promoted), "{} / {}", there.because, back.because);
        for duel in there.duels.iter().chain(&back.duels) {
            prop_assert!(duel.saving_usd_low <= duel.saving_usd && duel.saving_usd <= duel.saving_usd_high);
            prop_assert!((0.0..=1.0).contains(&duel.p_value));
        }
        // and who surely costs far less than another is promoted
        let half: Vec<f64> = one.iter().map(|usd| 0.5 * usd).collect();
        let half = judge(&comparison(windows, &half, &one), RIGHT, &config);
        prop_assert!(half.promoted || 0.5_f64.powi(half.duels[0].units as i32) > alpha, "{}", half.because);
    }
}
