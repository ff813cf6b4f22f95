//! Plays policies and rules in the same twins, seed by seed.

use std::sync::Arc;

use backtest::play::outcomes;
use backtest::rules::{Family, Rule};
use backtest::tune::{Tuned, tune};
use twin::{EnvSpec, Environment, Outcome, TwinEnv};

use policy::{Policy, PolicyError};

use crate::ppo::evaluate::{Choice, evaluate};
use crate::ppo::weights::Weights;
use crate::report::FleetPoint;

/// Settings of the production rule that tuning tries: tasks that one core is given.
pub const TASKS_PER_CORE: [f64; 8] = [1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0];

/// Environments over one specification.
pub fn environments(spec: &Arc<EnvSpec>, n: usize) -> Vec<Box<dyn Environment>> {
    (0..n).map(|_| Box::new(TwinEnv::new(spec.clone())) as Box<dyn Environment>).collect()
}

/// Dollars of each episode under a policy that takes its most probable action, as production does.
pub fn policy_usd(weights: &Weights, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<f64> {
    let mut envs = environments(spec, rayon::current_num_threads());
    evaluate(weights, &mut envs, seeds, Choice::Argmax).iter().map(|outcome| -outcome.reward).collect()
}

/// The outcome of each episode under the production rule.
pub fn rule_outcomes(tasks_per_core: f64, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<Outcome> {
    outcomes(&Rule::Production { tasks_per_core }, spec, seeds).expect("a rule never fails")
}

/// Dollars of each episode under the production rule.
pub fn rule_usd(tasks_per_core: f64, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<f64> {
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

/// One episode of a policy file as production would run it, with its outcome and the fleet over time.
///
/// # Errors
/// If the policy fails in mid-episode.
pub fn policy_trace(
    policy: &Policy,
    spec: &Arc<EnvSpec>,
    seed: u64,
) -> Result<(Outcome, Vec<FleetPoint>), PolicyError> {
    let mut env = TwinEnv::new(spec.clone()).with_trace();
    let mut seen = env.reset(seed);
    let mut state = policy.zero_state();
    while !env.is_over() {
        let out = policy.step(&seen.features, &seen.mask, &mut state)?;
        seen = env.step(out.best(&seen.mask)).seen;
    }
    Ok((env.outcome(), env.trace().iter().map(FleetPoint::from).collect()))
}
