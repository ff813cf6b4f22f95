//! The one function that runs a policy through an episode, and the two simplest policies. Crate `backtest` has the rest.

use contract::{Action, Mask, Observation};
use controller::rule;

use crate::env::{Environment, TwinEnv};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::EnvSpec;
    use std::sync::Arc;

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
}
