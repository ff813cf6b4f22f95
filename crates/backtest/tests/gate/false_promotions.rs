//! How often the gate is wrong: over a thousand simulated gates each, with a margin of 0, the hardest case.

use backtest::gate::{GateConfig, judge, judge_published};

use crate::planted::{Draws, RIGHT, comparison, judged, opponent};

const GATES: u64 = 1000;
/// 5 % of the gates: the default alpha.
const ALLOWED: usize = 50;

/// Promotions among `GATES` gates; each is given its own draws, and the windows and costs of both come back.
fn promotions(play: impl Fn(&mut Draws) -> (usize, Vec<f64>, Vec<f64>)) -> usize {
    let is_promoted = |seed: &u64| {
        let (windows, candidate, incumbent) = play(&mut Draws::new(*seed));
        judged(&comparison(windows, &candidate, &incumbent), 0.0).promoted
    };
    (0..GATES).filter(is_promoted).count()
}

#[test]
fn an_equal_policy_with_symmetric_noise_is_promoted_no_more_often_than_alpha() {
    let promoted = promotions(|draws| {
        let loads = draws.loads(24);
        (1, draws.costs(&loads, 1.0, |d| 0.3 * d.normal()), draws.costs(&loads, 1.0, |d| 0.3 * d.normal()))
    });
    assert!((1..=ALLOWED).contains(&promoted), "{promoted}");
}

#[test]
fn an_equal_policy_with_skewed_noise_is_promoted_no_more_often_than_alpha() {
    let promoted = promotions(|draws| {
        let loads = draws.loads(24);
        (1, draws.costs(&loads, 1.0, |d| 0.3 * d.skewed()), draws.costs(&loads, 1.0, |d| 0.3 * d.skewed()))
    });
    assert!((1..=ALLOWED).contains(&promoted), "{promoted}");
}

/// The signs are not as likely either way here: the candidate is better in most episodes and just as good on average.
/// That is where the rank test alone would promote one in five, and the percentile bootstrap one in ten.
#[test]
fn a_policy_that_wins_often_and_loses_much_is_no_better() {
    let promoted = promotions(|draws| {
        let loads = draws.loads(24);
        (1, draws.costs(&loads, 1.0, |d| 0.3 * d.rare_losses()), loads)
    });
    assert!((1..=ALLOWED).contains(&promoted), "{promoted}");
}

/// The candidate suits some windows and not others, and is as good as the incumbent over all that there could be.
fn suits_some_windows(draws: &mut Draws, windows: usize) -> (Vec<f64>, Vec<f64>) {
    let (loads, suits) = (draws.loads(6 * windows), (0..windows).map(|_| draws.normal()).collect::<Vec<_>>());
    let candidate = loads.iter().enumerate().map(|(i, load)| load + suits[i / 6] + 0.3 * draws.normal()).collect();
    (candidate, loads)
}

#[test]
fn luck_with_the_windows_is_luck_however_many_seeds_are_played() {
    for windows in [2, 3, 4, 5, 8] {
        let play = |draws: &mut Draws| {
            let (candidate, incumbent) = suits_some_windows(draws, windows);
            (windows, candidate, incumbent)
        };
        let promoted = promotions(play);
        println!("{promoted} of {GATES} with {windows} windows");
        assert!((1..=ALLOWED).contains(&promoted), "{promoted} with {windows} windows");
    }
    // the same episodes, passed off as one window
    let promoted = promotions(|draws| {
        let (candidate, incumbent) = suits_some_windows(draws, 8);
        (1, candidate, incumbent)
    });
    assert!(promoted > 3 * ALLOWED, "{promoted}");
}

/// A policy that is no better in the windows to come, judged by one of them: no number of seeds makes up for it.
#[test]
fn one_window_promotes_nobody_by_default() {
    let mut draws = Draws::new(1);
    let loads = draws.loads(24);
    let candidate: Vec<f64> = loads.iter().map(|load| 0.5 * load).collect();
    let judgement = judge(&comparison(1, &candidate, &loads), RIGHT, &GateConfig::default());
    assert!(!judgement.promoted && judgement.because.contains("windows: 1, and 2 at least"), "{}", judgement.because);
    assert!(judge(&comparison(2, &candidate, &loads), RIGHT, &GateConfig::default()).promoted);
}

#[test]
fn savings_that_come_and_go_are_too_unsure_for_few_windows() {
    let of_windows = |savings: [f64; 3]| {
        let candidate: Vec<f64> = (0..24).map(|i| 20.0 * (1.0 - savings[i / 8]) - 0.001 * i as f64).collect();
        judged(&comparison(3, &candidate, &[20.0; 24]), 0.0)
    };
    assert!(of_windows([0.05, 0.06, 0.07]).promoted, "{}", of_windows([0.05, 0.06, 0.07]).because);
    let judgement = of_windows([0.01, 0.05, 0.12]);
    assert!(judgement.because.contains("of its 3 windows differ too much"), "{}", judgement.because);
}

/// Promotions of a candidate that costs 1 on average.
fn promotions_beside_a_rule(incumbent: f64, rule: f64) -> usize {
    let is_promoted = |seed: &u64| {
        let mut draws = Draws::new(*seed);
        let loads = draws.loads(24);
        let mut costs = |share| draws.costs(&loads, share, |d| 0.3 * d.normal());
        let (candidate, incumbent, rule) = (costs(1.0), costs(incumbent), costs(rule));
        let mut comparison = comparison(1, &candidate, &incumbent);
        comparison.rules.push(opponent("rule:queue=1.5,0", 1, &rule));
        judged(&comparison, 0.0).promoted
    };
    (0..GATES).filter(is_promoted).count()
}

/// Against a rule that is worse, and against one that is better, to which the policy in charge loses.
#[test]
fn a_candidate_no_better_than_the_incumbent_is_promoted_no_more_often_than_alpha_whatever_the_rule() {
    for rule in [0.9, 1.3] {
        let promoted = promotions_beside_a_rule(1.0, rule);
        assert!((1..=ALLOWED).contains(&promoted), "{promoted} with a rule that costs {rule}");
    }
    assert!(promotions_beside_a_rule(1.0, 1.0) <= ALLOWED);
    assert!(promotions_beside_a_rule(1.3, 1.0) > GATES as usize * 9 / 10, "the better of two that could be in charge");
}

/// The same policy, simulated, against what it really cost; the simulation is 2 % too cheap, well within its limit.
#[test]
fn the_published_gate_promotes_an_equal_policy_by_the_twins_optimism() {
    let promoted = |optimism: f64| {
        let is_promoted = |seed: &u64| {
            let mut draws = Draws::new(*seed);
            let mut mean = |share: f64| {
                let loads = draws.loads(24);
                draws.costs(&loads, share, |d| 0.3 * d.normal()).iter().sum::<f64>() / 24.0
            };
            judge_published(mean(1.0 - optimism), mean(1.0)).promoted
        };
        (0..GATES).filter(is_promoted).count()
    };
    assert!((400..=600).contains(&promoted(0.0)), "{}", promoted(0.0));
    assert!(promoted(0.02) > 700, "{}", promoted(0.02));
}
