//! The gate over real episodes of the twin.

use std::sync::Arc;

use backtest::gate::{Comparison, Judgement, Opponent, Played, judge};
use backtest::play::outcomes;
use backtest::rules::Rule;
use twin::EnvSpec;

use crate::planted::{RIGHT, one_window};

const SEEDS: [u64; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn played(rule: &str) -> Vec<Played> {
    let rule: Rule = rule.parse().unwrap();
    Played::of(0, &SEEDS, outcomes(&rule, &Arc::new(EnvSpec::published()), &SEEDS).unwrap())
}

fn judged(candidate: &str, incumbent: &str) -> Judgement {
    let incumbent = Opponent { name: incumbent.into(), played: played(incumbent) };
    let comparison = Comparison { candidate: played(candidate), incumbent: Some(incumbent), rules: Vec::new() };
    judge(&comparison, RIGHT, &one_window())
}

#[test]
fn a_rule_is_promoted_over_a_worse_one_and_not_over_itself_or_a_better_one() {
    let (better, worse) = ("rule:backlog=1.2,3,15", "rule:backlog=1.5,3,15");
    let judgement = judged(better, worse);
    assert!(judgement.promoted, "{}", judgement.because);
    let against_itself = judged(better, better);
    assert!(!against_itself.promoted && against_itself.duels[0].saving_usd == 0.0);
    let judgement = judged(worse, better);
    assert!(!judgement.promoted && judgement.duels[0].saving_usd_high < 0.0, "{}", judgement.because);
}

#[test]
fn a_hasty_rule_pays_with_churn_for_what_it_saves() {
    let judgement = judged("rule:backlog=0.65,1,2", "rule:backlog=1.5,3,15");
    assert!(judgement.duels[0].saving_usd_low > judgement.duels[0].margin_usd);
    assert!(!judgement.promoted && judgement.because.contains("churn is worse"), "{}", judgement.because);
}
