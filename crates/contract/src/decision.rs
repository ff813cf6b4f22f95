//! The decision record: written once by the evaluator, settled by the executor, read by people and by the trainer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::action::{ACTION_COUNT, Action, Mask};
use crate::money::Spending;
use crate::observation::Observation;
use crate::plan::Plan;
use crate::shadow::Shadow;

/// Version of the stored form of [`Decision`].
pub const DECISION_VERSION: u32 = 1;

/// Whether the decision asks the executor for something. The stream's filter reads this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The executor carries the action out.
    Act,
    /// Nothing happens; the reason says why.
    Hold,
}

/// Who chose the action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Decider {
    /// A promoted and verified policy.
    Policy {
        /// SHA-256 of its ONNX file.
        sha256: String,
    },
    /// The fallback rule, and why it stood in.
    Rule {
        /// The rule's name.
        name: String,
        /// Why the policy did not decide.
        because: String,
    },
}

/// The recurrent state after this decision, tied to the policy it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmState {
    /// SHA-256 of the policy.
    pub policy: String,
    /// Hidden state.
    pub h: Vec<f32>,
    /// Cell state.
    pub c: Vec<f32>,
}

/// How far the executor is with a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IntentState {
    /// Claimed; the plan is being carried out.
    Pending,
    /// Finished, for better or worse; the outcome says which. Never rewritten.
    Settled,
}

/// The executor's part of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// How far it is.
    pub state: IntentState,
    /// The generation that the claim made; 0 if the claim was refused.
    pub generation: u64,
    /// When it was claimed, by the claiming event's time, milliseconds since the epoch.
    pub claimed_ms: u64,
    /// The plan, once it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What came of it, once it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// What came of a decision that asked for something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// Machines were launched.
    Launched {
        /// EC2's ids.
        instance_ids: Vec<String>,
    },
    /// Machines were terminated.
    Terminated {
        /// EC2's ids.
        instance_ids: Vec<String>,
    },
    /// Machines take no more tasks, and are terminated a tick later if they have none, or when they have none or the time is
    /// over.
    Draining {
        /// EC2's ids.
        instance_ids: Vec<String>,
        /// When they go at the latest, milliseconds since the epoch.
        until_ms: u64,
    },
    /// EC2 had no capacity; the type is not tried in that subnet for a while.
    NoCapacity {
        /// EC2's error code.
        code: String,
    },
    /// The claim or its plan was refused, and nothing was done.
    Refused {
        /// Why: cooldown, late, mode, kill switch, or what the check of the plan found.
        because: String,
    },
    /// There was nothing to do (no machine to stop, for example).
    Nothing {
        /// Why.
        because: String,
    },
    /// It failed for good.
    Failed {
        /// EC2's error code or the broken rule.
        error: String,
    },
}

/// One tick of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Version of this form.
    pub version: u32,
    /// The pool.
    pub pool: String,
    /// The scheduled time of the tick, seconds since the epoch: with the pool, the decision's id.
    pub tick: u64,
    /// What was decided on: what was measured, or in mode `observe` what would have been seen of the shadow fleet.
    pub observation: Observation,
    /// Names of what was missing.
    pub missing: Vec<String>,
    /// Why each outside metric among them is missing, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub doubts: BTreeMap<String, String>,
    /// What was allowed, by action number.
    #[serde(deserialize_with = "crate::padded::array")]
    pub mask: Mask,
    /// Why each refused action was refused, by action number; empty for allowed ones.
    pub refusals: Vec<String>,
    /// The pool's money, if it has caps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending: Option<Spending>,
    /// Who chose.
    pub decider: Decider,
    /// The network's probabilities, if a policy chose.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::padded::option")]
    pub probabilities: Option<[f32; ACTION_COUNT]>,
    /// What the network foresees, in discounted dollars, if a policy chose: minus what will be wasted, or how much less than its
    /// teacher's waste that is, as it was trained. Nothing acts on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// The chosen action.
    pub action: Action,
    /// Whether it is to be carried out.
    pub verdict: Verdict,
    /// Why it is held, or what asked for it, for people.
    pub reason: String,
    /// The recurrent state to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lstm: Option<LstmState>,
    /// The shadow ledger, in mode `observe` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Schema that the evaluator was built with.
    pub schema_hash: String,
    /// Seconds since the epoch at which the table may forget the record.
    pub expires_at: u64,
    /// The executor's part; absent until the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

impl Decision {
    /// The policy's hash or `rule:NAME`: what the decision is attributed to.
    pub fn policy_name(&self) -> String {
        match &self.decider {
            Decider::Policy { sha256 } => sha256.clone(),
            Decider::Rule { name, .. } => format!("rule:{name}"),
        }
    }

    /// What was really measured, whatever the decision was made on.
    pub fn measured(&self) -> &Observation {
        self.shadow.as_ref().map_or(&self.observation, |shadow| &shadow.measured)
    }

    /// Whether it asked for something and the executor is done with it.
    pub fn is_settled(&self) -> bool {
        self.intent.as_ref().is_some_and(|i| i.state == IntentState::Settled)
    }
}
