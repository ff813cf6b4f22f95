//! Policies to compare with, and the one function that runs any policy through an episode.

use std::sync::Arc;

use contract::{Action, Mask, Observation, SIZE_COUNT};
use controller::rule;

use crate::config::ScenarioError;
use crate::env::{Environment, TwinEnv};
use crate::spec::EnvSpec;
use crate::summary::Outcome;

/// Chooses an action from what is known and what is allowed; may keep state from tick to tick.
pub type Policy<'a> = dyn FnMut(&Observation, &Mask) -> Action + 'a;

/// Runs one episode under `policy`.
pub fn run_policy(env: &mut TwinEnv, seed: u64, policy: &mut Policy<'_>) -> Outcome {
    env.reset(seed);
    while !env.is_over() {
        let action = policy(env.observation(), &env.mask());
        env.step(action);
    }
    env.outcome()
}

/// Never does anything.
pub fn nothing(_: &Observation, _: &Mask) -> Action {
    Action::Nothing
}

/// The rule that production falls back on.
pub fn production(tasks_per_core: f64) -> impl FnMut(&Observation, &Mask) -> Action {
    move |observation, mask| rule::decide(observation, tasks_per_core, mask)
}

/// One episode of a fleet that is there from the start and never changes.
///
/// # Errors
/// If there are too many machines.
pub fn static_fleet(spec: &EnvSpec, fleet: [u32; SIZE_COUNT], seed: u64) -> Result<Outcome, ScenarioError> {
    let mut env = TwinEnv::new(Arc::new(spec.with_initial(fleet)?));
    Ok(run_policy(&mut env, seed, &mut nothing))
}

/// The cheapest static fleet of a number of cores in `cores`, for the episode of `seed`: as many of the largest
/// machines as fit beside the minimum of the others, the rest from large to small.
///
/// # Errors
/// If there are too many machines, or no fleet at or above the minimum has a number of cores in `cores`.
pub fn best_static(
    spec: &EnvSpec,
    cores: std::ops::RangeInclusive<u32>,
    seed: u64,
) -> Result<([u32; SIZE_COUNT], Outcome), ScenarioError> {
    let mut best: Option<([u32; SIZE_COUNT], Outcome)> = None;
    for fleet in cores.filter_map(|n| fleet_of(spec, n)) {
        let outcome = static_fleet(spec, fleet, seed)?;
        if best.as_ref().is_none_or(|(_, b)| outcome.total_usd < b.total_usd) {
            best = Some((fleet, outcome));
        }
    }
    best.ok_or_else(|| ScenarioError { problems: vec!["cores: no fleet within the bounds has as many".into()] })
}

/// A fleet of exactly `cores` cores within the bounds, if the greedy choice finds one.
pub fn fleet_of(spec: &EnvSpec, cores: u32) -> Option<[u32; SIZE_COUNT]> {
    let types = &spec.config().types;
    let mut fleet: [u32; SIZE_COUNT] = std::array::from_fn(|i| types[i].bounds.min());
    let kept: u32 = fleet.iter().zip(types).map(|(n, t)| n * t.cores).sum();
    let mut left = cores.checked_sub(kept)?;
    let mut order: [usize; SIZE_COUNT] = std::array::from_fn(|i| i);
    order.sort_by_key(|i| std::cmp::Reverse(types[*i].cores));
    for i in order {
        let room = types[i].bounds.max().map_or(u32::MAX, |max| max - fleet[i]);
        let more = (left / types[i].cores).min(room);
        fleet[i] += more;
        left -= more * types[i].cores;
    }
    (left == 0).then_some(fleet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_sees_and_does_what_the_environment_says() {
        let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
        let mut launches = 0;
        let outcome = run_policy(&mut env, 0, &mut |o, mask| {
            if o.queue_depth.unwrap() > 0 && launches < 3 && mask[5] {
                launches += 1;
                return Action::Launch(2);
            }
            Action::Nothing
        });
        assert_eq!((outcome.launches, outcome.completed), (3, 1551));
    }

    #[test]
    fn the_greedy_fleet_has_the_asked_cores() {
        let spec = EnvSpec::published();
        assert_eq!(fleet_of(&spec, 62), Some([1, 1, 7]));
        assert_eq!(fleet_of(&spec, 20), Some([2, 2, 1]));
        assert_eq!(fleet_of(&spec, 13), None);
    }
}
