//! Who decides at a tick: the policy if it can be trusted and sees enough, the rule otherwise.

use contract::decision::{Decider, LstmState};
use contract::pool::PoolConfig;
use contract::{ACTION_COUNT, Action, Mask, Observation};
use controller::rule;

/// A choice, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Who chose.
    pub decider: Decider,
    /// What.
    pub action: Action,
    /// The network's probabilities, if it ran.
    pub probabilities: Option<[f32; ACTION_COUNT]>,
    /// The network's value, if it ran.
    pub value: Option<f32>,
    /// The recurrent state to go on from, if it ran.
    pub lstm: Option<LstmState>,
}

/// One step of the policy in charge.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyStep {
    /// SHA-256 of the policy.
    pub sha256: String,
    /// Its best allowed action.
    pub best: Action,
    /// Its probabilities.
    pub probabilities: [f32; ACTION_COUNT],
    /// Its value.
    pub value: f32,
    /// Its state after the step.
    pub lstm: LstmState,
}

/// Chooses: the policy's best action, unless there is no policy or the observation is doubtful; then the rule's. The
/// network's state goes on in either case, so that it is warm when the data are back.
pub fn choose(policy: Result<PolicyStep, String>, o: &Observation, mask: &Mask, config: &PoolConfig) -> Choice {
    let by_rule = |because: String| {
        let action = rule::decide(o, config.rule_tasks_per_core, mask);
        (Decider::Rule { name: rule::NAME.to_owned(), because }, action)
    };
    match policy {
        Err(because) => {
            let (decider, action) = by_rule(because);
            Choice { decider, action, probabilities: None, value: None, lstm: None }
        }
        Ok(step) => {
            let (decider, action) = if o.is_doubtful() {
                by_rule(format!("missing: {}", o.missing().join(", ")))
            } else {
                (Decider::Policy { sha256: step.sha256 }, step.best)
            };
            let (probabilities, value) = (Some(step.probabilities), Some(step.value));
            Choice { decider, action, probabilities, value, lstm: Some(step.lstm) }
        }
    }
}
