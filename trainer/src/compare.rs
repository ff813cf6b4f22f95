//! Plays policies and rules in the same twins, seed by seed.

use std::sync::Arc;

use backtest::play::{Contender, PlayError, episode, spec_of};
use backtest::rules::Family;
use backtest::tune::{Tuned, tune};
use twin::{EnvSpec, Environment, TwinEnv};

use crate::report::{self, FleetPoint};
use crate::watch::spinner;

/// Environments over one specification.
pub fn environments(spec: &Arc<EnvSpec>, n: usize) -> Vec<Box<dyn Environment>> {
    (0..n).map(|_| Box::new(TwinEnv::new(spec.clone())) as Box<dyn Environment>).collect()
}

/// The families of rules that can teach: those that look at the load.
const TEACHERS: [Family; 5] = [Family::Backlog, Family::Queue, Family::Threshold, Family::Plateau, Family::Production];

/// The best rule of each family that looks at the load, tuned on these seeds; a terminal says how far it is.
pub fn tuned_rules(load: &str, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Vec<Tuned> {
    let bar = spinner();
    let tuned = |(i, family): (usize, Family)| {
        bar.set_message(format!("{load}: tuning rule:{} ({} of {})", family.name(), i + 1, TEACHERS.len()));
        tune(family, spec, seeds)
    };
    let rules = TEACHERS.into_iter().enumerate().map(tuned).collect();
    bar.finish_and_clear();
    rules
}

/// The cheapest of them.
pub fn best_of(rules: &[Tuned]) -> Tuned {
    *rules.iter().min_by(|a, b| a.usd.total_cmp(&b.usd)).expect("there are rules")
}

/// The fleet over time in one episode, as a chart.
///
/// # Errors
/// If the policy cannot be played.
pub fn fleet_chart(contender: &dyn Contender, spec: &Arc<EnvSpec>, seed: u64) -> Result<String, PlayError> {
    let points = episode(contender, spec, seed)?.trace.iter().map(FleetPoint::from).collect();
    Ok(report::fleet_chart(&report::thinned(points), spec_of(contender, spec)?.cores(), &[]))
}
