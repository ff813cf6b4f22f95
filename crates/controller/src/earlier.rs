//! What the claims before this one may have done that neither the records nor EC2 show yet.
//!
//! EC2's describe and the index of machines alive are eventually consistent, and an executor can stop between its launch
//! and the record of it. The decision log is read consistently, and claims have an order: whoever claims later counts
//! what the earlier ones may still do as done. So two claims never use the same room below a maximum, above a minimum or
//! in a budget.

use std::collections::BTreeSet;

use contract::action::Action;
use contract::decision::{Decision, Intent, IntentState, Outcome};
use contract::limits::LATE_TICKS;
use contract::plan::Plan;
use contract::pool::PoolConfig;

use crate::plan::Inventory;

/// Seconds that a new machine may be missing from describe, and a dead one may still be shown as alive: EC2 is
/// eventually consistent.
pub const UNSEEN_S_MAX: u64 = 180;

/// Seconds of the log that a plan looks back on: the hour of a budget.
pub const BUDGET_S: u64 = 3600;

/// Seconds of the log to read for [`before`]: a claim of the last hour is of a decision that was not late by then.
pub fn look_back_s(config: &PoolConfig) -> u64 {
    BUDGET_S + LATE_TICKS * config.tick_s
}

/// Of these decisions, those that were claimed before `generation`.
pub fn before(decisions: &[Decision], generation: u64) -> Vec<&Decision> {
    let earlier = |i: &Intent| i.generation > 0 && i.generation < generation;
    decisions.iter().filter(|d| d.intent.as_ref().is_some_and(earlier)).collect()
}

/// Whether what a decision of `tick` did may not show yet at `now_ms`. It was done, at the latest, when it became late.
pub fn may_be_unseen(tick: u64, config: &PoolConfig, now_ms: u64) -> bool {
    now_ms < (tick + LATE_TICKS * config.tick_s + UNSEEN_S_MAX) * 1000
}

/// Whether a claim may have acted, or may still do so: it has not ended, or not with a word that says that nothing was
/// done.
fn may_have_acted(intent: &Intent) -> bool {
    match (&intent.state, &intent.outcome) {
        (IntentState::Pending, _) => true,
        (_, Some(Outcome::Launched { .. } | Outcome::Terminated { .. })) => true,
        // The call failed, or nobody knows; without a plan there was no call.
        (_, Some(Outcome::Failed { .. })) => intent.plan.is_some(),
        _ => false,
    }
}

/// Machines of a size that earlier claims may have launched, or still launch, and that nothing shows.
pub fn unseen_launches(size: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let unseen = inventory.earlier.iter().filter(|d| d.action == Action::Launch(size as u16));
    unseen.map(|d| unseen_machines(d, config, inventory)).sum()
}

fn unseen_machines(decision: &Decision, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let Some(intent) = decision.intent.as_ref().filter(|intent| may_have_acted(intent)) else { return 0 };
    let pending = intent.state == IntentState::Pending;
    if !pending && !may_be_unseen(decision.tick, config, inventory.now_ms) {
        return 0;
    }
    match &intent.outcome {
        Some(Outcome::Launched { instance_ids }) => {
            let gone = stopped(config, inventory);
            instance_ids.iter().filter(|id| !gone.contains(id.as_str()) && !shows(id, inventory)).count() as u32
        }
        _ => u32::from(!shows_launch_of(decision.tick, inventory)),
    }
}

fn shows(id: &str, inventory: &Inventory<'_>) -> bool {
    inventory.cloud.iter().any(|m| m.instance_id == id) || inventory.records.iter().any(|r| r.instance_id == id)
}

fn shows_launch_of(tick: u64, inventory: &Inventory<'_>) -> bool {
    inventory.cloud.iter().any(|m| m.decision == Some(tick))
        || inventory.records.iter().any(|r| r.decision == Some(tick))
}

/// Machines that earlier claims stop or have stopped, whatever describe still says of them. One whose stop failed
/// belongs to them for a while, for it may have worked, and so that the next stop takes another one.
pub fn stopped<'a>(config: &PoolConfig, inventory: &Inventory<'a>) -> BTreeSet<&'a str> {
    let acted = inventory.earlier.iter().filter_map(|d| Some((d.tick, d.intent.as_ref()?)));
    acted
        .filter(|(tick, intent)| match intent.outcome {
            Some(Outcome::Failed { .. }) => may_be_unseen(*tick, config, inventory.now_ms),
            _ => may_have_acted(intent),
        })
        .filter_map(|(_, intent)| match &intent.plan {
            Some(Plan::Terminate { instance_ids, .. }) => Some(instance_ids.iter().map(String::as_str)),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Earlier claims that will stop a machine of a size and have not said which.
pub fn stops_without_plan(size: usize, inventory: &Inventory<'_>) -> u32 {
    let open = |i: &Intent| i.state == IntentState::Pending && i.plan.is_none();
    let of_size = inventory.earlier.iter().filter(|d| d.action == Action::Stop(size as u16));
    of_size.filter(|d| d.intent.as_ref().is_some_and(open)).count() as u32
}

/// Launches that earlier claims of the last hour made or may have made.
pub fn launches_of_last_hour(inventory: &Inventory<'_>) -> u32 {
    let young = |i: &Intent| i.claimed_ms + BUDGET_S * 1000 > inventory.now_ms;
    let launches = inventory.earlier.iter().filter(|d| matches!(d.action, Action::Launch(_)));
    launches.filter(|d| d.intent.as_ref().is_some_and(|i| young(i) && may_have_acted(i))).count() as u32
}
