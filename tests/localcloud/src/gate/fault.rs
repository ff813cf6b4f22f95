//! The faults that the gate can be told to make, and which calls they hit.

use serde::{Deserialize, Serialize};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// EC2 has no machine of that type: `InsufficientInstanceCapacity`, status 500. Hits `RunInstances` only.
    InsufficientInstanceCapacity,
    /// Throttled: `RequestLimitExceeded`, status 503.
    RequestLimitExceeded,
    /// The answer comes this many milliseconds after EC2 gave it.
    DelayMs(u64),
    /// The connection is cut before EC2 sees the call: nothing happened.
    CutBefore,
    /// The connection is cut after EC2 has answered: it happened, and the caller does not know.
    CutAfter,
}

/// A fault: what, for which calls, how often. Note that the SDK tries a 500, a 503 and a cut connection again (three
/// attempts by default): to fail an operation for good, inject a fault without [`Fault::times`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Only this action, for example `RunInstances`.
    #[serde(default)]
    pub action: Option<String>,
    /// Only launches of this instance type (directly, or through a launch template that was created through the gate).
    #[serde(default)]
    pub instance_type: Option<String>,
    /// Only launches through the launch template of this name or id, as the call names it.
    #[serde(default)]
    pub launch_template: Option<String>,
    /// How many calls it hits; without it, all until cleared.
    #[serde(default)]
    pub times: Option<u32>,
}

impl Fault {
    /// A fault that hits every call it applies to until cleared.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, action: None, instance_type: None, launch_template: None, times: None }
    }

    /// Only this action.
    #[must_use]
    pub fn action(self, action: impl Into<String>) -> Self {
        Self { action: Some(action.into()), ..self }
    }

    /// Only launches of this instance type.
    #[must_use]
    pub fn instance_type(self, instance_type: impl Into<String>) -> Self {
        Self { instance_type: Some(instance_type.into()), ..self }
    }

    /// Only launches through this launch template.
    #[must_use]
    pub fn launch_template(self, name_or_id: impl Into<String>) -> Self {
        Self { launch_template: Some(name_or_id.into()), ..self }
    }

    /// Only the next `times` calls it applies to.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    fn applies(&self, target: &Target) -> bool {
        let launches_only = self.kind == FaultKind::InsufficientInstanceCapacity;
        let wanted = |wish: &Option<String>, have: Option<&str>| wish.is_none() || wish.as_deref() == have;
        (!launches_only || target.action == "RunInstances")
            && wanted(&self.action, Some(target.action))
            && wanted(&self.instance_type, target.instance_type.as_deref())
            && wanted(&self.launch_template, target.template.as_deref())
    }
}

/// What a fault is matched with.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// The EC2 action.
    pub action: &'a str,
    /// The instance type of a launch.
    pub instance_type: Option<String>,
    /// The launch template of a launch.
    pub template: Option<String>,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The kinds that hit this call, each used up by one.
    pub(super) fn hit(&mut self, target: &Target) -> Vec<FaultKind> {
        let mut kinds = Vec::new();
        for fault in self.0.iter_mut().filter(|f| f.times != Some(0) && f.applies(target)) {
            fault.times = fault.times.map(|n| n - 1);
            kinds.push(fault.kind);
        }
        self.0.retain(|f| f.times != Some(0));
        kinds
    }
}
