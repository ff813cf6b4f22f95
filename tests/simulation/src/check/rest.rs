//! What must hold after every minute, and what must hold once the faults have stopped for a while: I4, I11, I13.

use std::collections::{BTreeMap, BTreeSet};

use contract::action::SIZE_COUNT;
use contract::decision::{Decider, Decision, Intent, IntentState, Outcome, Verdict};
use contract::limits::LATE_TICKS;
use contract::plan::{Plan, TAG_SIZE};
use contract::record::{Ended, InstanceRecord, Suspicion};
use controller::audit::{Books, Finding, audit};
use controller::ports::Control;
use controller::rule;
use testkit::Machine;

use super::act::{counted_for_max, counted_for_min};
use super::{Checked, Scene, ensure, money};
use crate::plant::{Plant, is_of_other_stack, is_ours, true_size};
use crate::{has_limits, now};

/// How long a task of a feasible load may wait; in a pool with limits on launches, so much longer.
const WAIT_MS_MAX: u64 = 600_000;
const LIMITED_MS: u64 = 3_600_000;
/// For how long an answer without machines may be remembered as a first sight.
const EMPTIED_MS: u64 = 1_800_000;
/// Time after its launch in which a machine that never comes up must have been replaced, if no faults are left: its deadline,
/// two reconciliations, and as many more as there may be others that go before it.
const REPLACED_MS: u64 = 3_000_000;

/// I4: no machine has two records that say that it is alive. I3: machines of another stack are left alone.
///
/// # Errors
/// If one has, or one is not.
pub fn every_minute(scene: Scene<'_>) -> Checked {
    others_are_left_alone(scene)?;
    let mut alive: BTreeMap<String, u32> = BTreeMap::new();
    for record in scene.world.instances().into_iter().filter(|r| r.terminated_ms.is_none()) {
        *alive.entry(record.instance_id).or_default() += 1;
    }
    let twice = alive.iter().find(|(_, n)| **n > 1);
    ensure(twice.is_none(), "I4", || format!("{twice:?} records say that it is alive"))?;
    lost_ones_are_gone(scene)
}

/// I4: one empty answer of describe takes no machine for lost that was there all the time.
fn lost_ones_are_gone(scene: Scene<'_>) -> Checked {
    let emptied_before = |at_ms: u64| {
        let first = |emptied_ms: &&u64| (at_ms.saturating_sub(EMPTIED_MS)..=at_ms).contains(*emptied_ms);
        scene.meddling.emptied_ms.iter().filter(first).count()
    };
    let meddled = |id: &String| scene.meddling.left.contains_key(id) || scene.meddling.joined.contains_key(id);
    let excused = |r: &InstanceRecord| meddled(&r.instance_id) || r.terminated_ms.map_or(0, emptied_before) > 1;
    let lost = scene.world.instances().into_iter().filter(|r| r.ended == Some(Ended::Lost) && !excused(r));
    let lost: BTreeSet<String> = lost.map(|r| r.instance_id).collect();
    let is_there =
        |m: &&Machine| m.alive && m.visible && is_ours(m, &scene.config.pool) && lost.contains(&m.instance_id);
    let found = scene.world.with_machines(|all| all.iter().find(is_there).map(|m| m.instance_id.clone()));
    ensure(found.is_none(), "I4", || format!("{found:?} is there, and was marked as lost"))
}

/// I3: nobody stops the machines of another stack's pool of the same name, and no record, plan or outcome of ours names
/// one: none is adopted, counted or marked.
fn others_are_left_alone(scene: Scene<'_>) -> Checked {
    let others = scene.world.with_machines(|all| {
        let others = all.iter().filter(|m| is_of_other_stack(m));
        others.map(|m| (m.instance_id.clone(), m.alive)).collect::<BTreeMap<_, _>>()
    });
    let stopped = others.iter().find(|(_, alive)| !**alive);
    ensure(stopped.is_none(), "I3", || format!("another stack's machine was stopped: {stopped:?}"))?;
    let record = scene.world.instances().into_iter().find(|r| others.contains_key(&r.instance_id));
    ensure(record.is_none(), "I3", || format!("a record of another stack's machine: {record:?}"))?;
    let names = |d: &Decision| d.intent.as_ref().is_some_and(|i| named(i).any(|id| others.contains_key(id)));
    let named = scene.world.with_decisions(|mut all| all.find(|d| names(d)).and_then(|d| d.intent.clone()));
    ensure(named.is_none(), "I3", || format!("another stack's machine is in {named:?}"))
}

/// Machines that a plan stops, and those that an outcome names.
fn named(intent: &Intent) -> impl Iterator<Item = &String> {
    let planned: &[String] = match &intent.plan {
        Some(Plan::Terminate { instance_ids, .. }) => instance_ids,
        _ => &[],
    };
    let done: &[String] = match &intent.outcome {
        Some(
            Outcome::Launched { instance_ids }
            | Outcome::Terminated { instance_ids }
            | Outcome::Draining { instance_ids, .. },
        ) => instance_ids,
        _ => &[],
    };
    planned.iter().chain(done)
}

/// Everything that must hold once the faults have stopped for long enough; `healed_tick` is when they did, in seconds.
///
/// # Errors
/// If something does not hold.
pub fn at_rest(scene: Scene<'_>, healed_tick: u64) -> Checked {
    let decisions = scene.world.decisions();
    nothing_unsettled(scene, &decisions)?;
    records_and_machines_agree(scene)?;
    nothing_drains_for_ever(scene)?;
    nothing_boots_for_ever(scene, &decisions)?;
    within_bounds(scene)?;
    queue_has_fallen(scene)?;
    let open = scene.meddling.promotions.open();
    ensure(open == 0, "I11", || format!("{open} promotions that died were never repeated with success"))?;
    good_policy_in_charge(scene, &decisions, healed_tick)?;
    audited(scene, &decisions)
}

/// I13: under a load that one machine can keep up with, and that goes on, what had piled up is worked off, and nothing waits
/// for longer than a machine takes to be decided on, launched and booted, a cooldown included.
fn queue_has_fallen(scene: Scene<'_>) -> Checked {
    let wait_ms_max = WAIT_MS_MAX + if has_limits(scene.config) { LIMITED_MS } else { 0 };
    let waiting = Plant::waiting_since(scene.world, &scene.config.pool, scene.now_ms - wait_ms_max);
    ensure(waiting == 0, "I13", || format!("{waiting} tasks have waited for more than {} s", wait_ms_max / 1000))
}

/// What `twinscaler explain --verify` would say of the records: nothing for certain.
fn audited(scene: Scene<'_>, decisions: &[Decision]) -> Checked {
    let instances = scene.world.instances();
    let books = Books { config: scene.config, decisions, instances: &instances, now_ms: scene.now_ms };
    let found: Vec<Finding> = audit(&books).into_iter().filter(|finding| finding.is_certain).collect();
    match found.first() {
        None => Ok(()),
        Some(first) => ensure(false, first.invariant, || format!("{} findings, first {first:?}", found.len())),
    }
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
        let n = recorded(id);
        ensure(n == 1 || (n == 0 && !is_sized(machine)), "I4", || format!("{id} runs and has {n} records"))?;
    }
    for record in records.iter().filter(|r| r.terminated_ms.is_none()) {
        let id = &record.instance_id;
        let runs = machines.iter().filter(running).any(|m| m.instance_id == *id);
        let young = record.launched_ms + 900_000 > scene.now_ms;
        ensure(runs || young, "I4", || format!("{id} is recorded as alive and does not run"))?;
    }
    Ok(())
}

/// Machines that carry our tags and that no record can be made for: their tags name no size, and they never had a record.
pub(super) fn orphans(scene: Scene<'_>) -> BTreeSet<String> {
    let records = scene.world.instances();
    let recorded = |m: &Machine| records.iter().any(|r| r.instance_id == m.instance_id);
    let ours = |m: &&Machine| m.alive && m.visible && is_ours(m, &scene.config.pool);
    let machines = scene.world.machines();
    machines.iter().filter(ours).filter(|m| !is_sized(m) && !recorded(m)).map(|m| m.instance_id.clone()).collect()
}

/// Machines that reconciliations have written down as orphans, and since when.
pub(super) fn suspected(scene: Scene<'_>) -> BTreeMap<String, u64> {
    let suspects = now(scene.world.outside().suspects(&scene.config.pool)).expect("the outside's calls never fail");
    let orphans = suspects.machines.into_iter().filter(|(_, suspect)| suspect.why == Suspicion::Orphan);
    orphans.map(|(id, suspect)| (id, suspect.since_ms)).collect()
}

/// Whether a machine's tags name a size of the pool.
fn is_sized(machine: &Machine) -> bool {
    machine.tags.get(TAG_SIZE).and_then(|size| size.parse().ok()).is_some_and(|size: usize| size < SIZE_COUNT)
}

/// I13: what drains goes, or works again, once its time is over; nothing is paid for and idle for ever.
fn nothing_drains_for_ever(scene: Scene<'_>) -> Checked {
    let over_ms = (LATE_TICKS + 6) * scene.config.tick_s * 1000;
    let over = |r: &InstanceRecord| r.drain.is_some_and(|drain| drain.until_ms + over_ms < scene.now_ms);
    let runs = |r: &InstanceRecord| {
        let of = |m: &Machine| m.alive && m.instance_id == r.instance_id && is_ours(m, &scene.config.pool);
        scene.world.with_machines(|all| all.iter().any(of))
    };
    let found = scene.world.instances().into_iter().find(|r| r.terminated_ms.is_none() && over(r) && runs(r));
    ensure(found.is_none(), "I13", || format!("it drains, and nobody ends it: {found:?}"))
}

/// I13: a machine that never takes tasks makes room for another one; but people changed what it says to be, and nobody knows
/// what it is.
fn nothing_boots_for_ever(scene: Scene<'_>, decisions: &[Decision]) -> Checked {
    let boots = |r: &InstanceRecord| r.terminated_ms.is_none() && r.ready_ms.is_none() && r.drain.is_none();
    let drained_ms = |r: &InstanceRecord| {
        let told = decisions.iter().filter_map(|d| drain_until_ms(d, &r.instance_id));
        told.max().unwrap_or_default()
    };
    let old = |r: &InstanceRecord| r.launched_ms.max(drained_ms(r)) + REPLACED_MS < scene.now_ms;
    let mut stuck = scene.world.instances().into_iter().filter(|r| boots(r) && old(r));
    let found = stuck.find(|r| !scene.meddling.retagged.contains(&r.instance_id));
    ensure(found.is_none(), "I13", || format!("it never came up, and nobody replaced it: {found:?}"))
}

/// When a machine goes at the latest that a decision told to drain; until then nobody asks whether it takes tasks.
fn drain_until_ms(decision: &Decision, instance_id: &str) -> Option<u64> {
    match decision.intent.as_ref()?.plan.as_ref()? {
        Plan::Terminate { instance_ids, drain_until_ms, .. } if instance_ids.iter().any(|id| id == instance_id) => {
            *drain_until_ms
        }
        _ => None,
    }
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
