//! Who decides at a tick: the policy if it can be trusted and sees enough, the rule otherwise.

use std::collections::BTreeMap;

use contract::decision::{Decider, LstmState};
use contract::pool::PoolConfig;
use contract::{ACTION_COUNT, Action, Mask, Observation};
use controller::rule;
use controller::series::Cause;

/// Why outside metrics are missing, by name.
pub type Doubts = BTreeMap<&'static str, Cause>;

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

/// Chooses. Three rungs: a fleet below its minimum is brought back first; then the policy's best action; and the rule's,
/// if there is no policy or the observation is doubtful. The network's state goes on in any case, so that it is warm
/// when the data are back.
pub fn choose(
    policy: Result<PolicyStep, String>,
    o: &Observation,
    doubts: &Doubts,
    mask: &Mask,
    config: &PoolConfig,
) -> Choice {
    let trusted = match &policy {
        Err(because) => Err(because.clone()),
        Ok(_) if o.is_doubtful() => Err(format!("missing: {}", missing(o, doubts))),
        Ok(step) => Ok(step),
    };
    let (decider, action) = match (rule::below_min(o, &config.bounds(), mask), trusted) {
        (Some(launch), _) => (by(rule::MINIMUM, "the fleet is below its minimum"), launch),
        (None, Ok(step)) => (Decider::Policy { sha256: step.sha256.clone() }, step.best),
        (None, Err(because)) => (by(rule::NAME, &because), rule::decide(o, config.rule_tasks_per_core, mask)),
    };
    let step = policy.ok();
    Choice {
        decider,
        action,
        probabilities: step.as_ref().map(|s| s.probabilities),
        value: step.as_ref().map(|s| s.value),
        lstm: step.map(|s| s.lstm),
    }
}

/// What is missing, with the cause where it is known.
fn missing(o: &Observation, doubts: &Doubts) -> String {
    let told = |name: &str| doubts.get(name).map_or(name.to_owned(), |cause| format!("{name} ({cause})"));
    o.missing().into_iter().map(told).collect::<Vec<_>>().join(", ")
}

fn by(rule: &str, because: &str) -> Decider {
    Decider::Rule { name: rule.to_owned(), because: because.to_owned() }
}
