//! What must hold after every minute, and what must hold once the faults have stopped for a while: I4, I11, I13.

use std::collections::BTreeMap;

use contract::decision::{Decider, Decision, IntentState, Verdict};
use contract::limits::LATE_TICKS;
use controller::rule;
use testkit::Machine;

use super::act::{counted_for_max, counted_for_min};
use super::{Checked, Scene, ensure, money};
use crate::plant::{Plant, is_ours, true_size};

/// I4: no machine has two records that say that it is alive.
///
/// # Errors
/// If one has.
pub fn every_minute(scene: Scene<'_>) -> Checked {
    let mut alive: BTreeMap<String, u32> = BTreeMap::new();
    for record in scene.world.instances().into_iter().filter(|r| r.terminated_ms.is_none()) {
        *alive.entry(record.instance_id).or_default() += 1;
    }
    let twice = alive.iter().find(|(_, n)| **n > 1);
    ensure(twice.is_none(), "I4", || format!("{twice:?} records say that it is alive"))
}

/// Everything that must hold once the faults have stopped for long enough; `healed_tick` is when they did, in seconds.
///
/// # Errors
/// If something does not hold.
pub fn at_rest(scene: Scene<'_>, healed_tick: u64) -> Checked {
    let decisions = scene.world.decisions();
    nothing_unsettled(scene, &decisions)?;
    records_and_machines_agree(scene)?;
    within_bounds(scene)?;
    let waiting = Plant::waiting(scene.world, &scene.config.pool);
    ensure(waiting == 0, "I13", || format!("{waiting} tasks still wait"))?;
    let open = scene.meddling.promotions.open();
    ensure(open == 0, "I11", || format!("{open} promotions that died were never repeated with success"))?;
    good_policy_in_charge(scene, &decisions, healed_tick)
}

/// I13 and I4: every record settles.
fn nothing_unsettled(scene: Scene<'_>, decisions: &[Decision]) -> Checked {
    let open = |d: &&Decision| {
        let old = d.tick * 1000 + (LATE_TICKS + 6) * scene.config.tick_s * 1000 < scene.now_ms;
        match &d.intent {
            Some(intent) => intent.state == IntentState::Pending && old,
            None => d.verdict == Verdict::Act && old,
        }
    };
    let found = decisions.iter().find(open);
    ensure(found.is_none(), "I13", || format!("never settled: {:?}", found.map(|d| (d.tick, d.action, &d.intent))))
}

/// I4: every machine of ours that has a size has one record, and every record has its machine.
fn records_and_machines_agree(scene: Scene<'_>) -> Checked {
    let records = scene.world.instances();
    let recorded = |id: &str| records.iter().filter(|r| r.terminated_ms.is_none() && r.instance_id == id).count();
    let machines = scene.world.machines();
    let running = |m: &&Machine| m.alive && is_ours(m, &scene.config.pool);
    for machine in machines.iter().filter(running) {
        let id = &machine.instance_id;
        let sized =
            machine.tags.get(contract::plan::TAG_SIZE).and_then(|s| s.parse().ok()).is_some_and(|s: usize| s < 3);
        let n = recorded(id);
        ensure(n == 1 || (n == 0 && !sized), "I4", || format!("{id} runs and has {n} records"))?;
    }
    for record in records.iter().filter(|r| r.terminated_ms.is_none()) {
        let id = &record.instance_id;
        let runs = machines.iter().filter(running).any(|m| m.instance_id == *id);
        let young = record.launched_ms + 900_000 > scene.now_ms;
        ensure(runs || young, "I4", || format!("{id} is recorded as alive and does not run"))?;
    }
    Ok(())
}

/// I13: the fleet is within its bounds; machines that people gave us may be above them.
fn within_bounds(scene: Scene<'_>) -> Checked {
    for (size, of) in scene.config.sizes.iter().enumerate() {
        let (least, most) = (counted_for_min(scene, size) as u32, counted_for_max(scene, size) as u32);
        let given = scene.world.with_machines(|all| all.iter().filter(|m| is_given(scene, m, size)).count()) as u32;
        let may_be_less = money::leaves_no_room(scene, size);
        ensure(least >= of.bounds.min() || may_be_less, "I13", || {
            format!("{least} of size {size}; {} is the minimum", of.bounds.min())
        })?;
        let max = of.bounds.max().map(|max| max + given);
        ensure(max.is_none_or(|max| most <= max), "I13", || format!("{most} of size {size}; {max:?} is the maximum"))?;
    }
    Ok(())
}

/// Whether people gave us this machine.
fn is_given(scene: Scene<'_>, machine: &Machine, size: usize) -> bool {
    machine.alive
        && is_ours(machine, &scene.config.pool)
        && true_size(machine, scene.config) == Some(size)
        && scene.meddling.joined.contains_key(&machine.instance_id)
}

/// I11: where a good policy was ever promoted, a good one decides, whatever the pointer points to now.
fn good_policy_in_charge(scene: Scene<'_>, decisions: &[Decision], healed_tick: u64) -> Checked {
    if !scene.meddling.promotions.has_good() {
        return Ok(());
    }
    let late = decisions.iter().filter(|d| d.tick > healed_tick + 1200 && !d.observation.is_doubtful());
    let ruled = |d: &&Decision| matches!(&d.decider, Decider::Rule { name, .. } if name == rule::NAME);
    let found = late.clone().find(ruled);
    ensure(late.count() > 0, "I13", || "no decision on whole data since the faults stopped".into())?;
    ensure(found.is_none(), "I11", || format!("the rule decided: {:?}", found.map(|d| &d.decider)))
}
