//! Plays policies and rules in the same twins, seed by seed.

use std::sync::Arc;

use backtest::play::outcomes;
use backtest::rules::{Family, Rule};
use backtest::tune::{Tuned, tune};
use twin::{EnvSpec, Environment, Outcome, TwinEnv};

/// Settings of the production rule that tuning tries: tasks that one core is given.
pub const TASKS_PER_CORE: [f64; 8] = [1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0];

/// Environments over one specification.
pub fn environments(spec: &Arc<EnvSpec>, n: usize) -> Vec<Box<dyn Environment>> {
    (0..n).map(|_| Box::new(TwinEnv::new(spec.clone())) as Box<dyn Environment>).collect()
}

/// The outcome of each episode under the production rule.
pub fn rule_outcomes(tasks_per_core: f64, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<Outcome> {
    outcomes(&Rule::Production { tasks_per_core }, spec, seeds).expect("a rule never fails")
}

/// Dollars of each episode under the production rule.
fn rule_usd(tasks_per_core: f64, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<f64> {
    rule_outcomes(tasks_per_core, spec, seeds).iter().map(|o| o.total_usd).collect()
}

/// The setting of the production rule that is cheapest on these seeds.
pub fn tuned_rule(spec: &Arc<EnvSpec>, seeds: &[u64]) -> f64 {
    let total = |setting: &f64| rule_usd(*setting, spec, seeds).iter().sum::<f64>();
    let totals = TASKS_PER_CORE.iter().map(|setting| (*setting, total(setting)));
    let best = totals.min_by(|a, b| a.1.total_cmp(&b.1));
    best.expect("there are settings to try").0
}

/// The families of rules that can teach: those that look at the load.
const TEACHERS: [Family; 5] = [Family::Backlog, Family::Queue, Family::Threshold, Family::Plateau, Family::Production];

/// The best rule of each family that looks at the load, tuned on these seeds.
pub fn tuned_rules(spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<Tuned> {
    TEACHERS.into_iter().map(|family| tune(family, spec, seeds)).collect()
}

/// The cheapest of them.
pub fn best_of(rules: &[Tuned]) -> Tuned {
    *rules.iter().min_by(|a, b| a.usd.total_cmp(&b.usd)).expect("there are rules")
}
