//! What must hold for every claim, every stored intent, every launch and every termination: I1 to I6, I8 and I10.

use std::collections::{BTreeMap, BTreeSet};

use contract::action::Action;
use contract::control::Mode;
use contract::decision::{Decision, Intent, IntentState, Outcome, Verdict};
use contract::limits::{BOOT_DEADLINE_S, LATE_TICKS, UNHEALTHY_MACHINES_MIN, UNHEALTHY_SHARE_MAX};
use contract::plan::{LaunchPlan, Plan, TAG_DECISION, TAG_MANAGED, TAG_POOL, TAG_SIZE, TAG_STACK};
use contract::record::{DrainReason, InstanceRecord, Suspect, Suspicion, TaskRecord, TaskState};
use controller::earlier::UNSEEN_S_MAX;
use controller::ports::Control;
use testkit::Machine;

use super::{Checked, Checker, Scene, ensure, money};
use crate::now;
use crate::plant::{is_ours, true_size};

const HOUR_MS: u64 = 3_600_000;
/// How long what people and nature did may be unknown to the controller: describe's lag, and one slow invocation.
const UNKNOWN_MS: u64 = UNSEEN_S_MAX * 1000;

impl Checker {
    /// I2: one claim a cooldown. I6: the generation grows by one. I10: no claim behind the kill switch, nor in a mode that
    /// does not act.
    pub(super) fn claimed(
        &mut self,
        scene: Scene<'_>,
        tick: u64,
        generation: u64,
        now_ms: u64,
        killed: bool,
    ) -> Checked {
        ensure(!killed, "I10", || format!("{tick} was claimed behind the kill switch"))?;
        let mode = scene.meddling.mode.map_or(Mode::Active, |(mode, _)| mode);
        let claimed = scene.world.with_decisions(|mut all| all.find(|d| d.tick == tick).map(|d| d.action));
        let carried_out = claimed.is_some_and(|action| mode.carries_out(action));
        ensure(carried_out, "I10", || format!("{tick} was claimed in mode {mode:?}"))?;
        ensure(generation == self.generation + 1, "I6", || {
            format!("generation {generation} follows {}", self.generation)
        })?;
        let rested = self.claimed_ms.is_none_or(|last| now_ms >= last + scene.config.cooldown_s * 1000);
        ensure(rested, "I2", || format!("{tick} was claimed at {now_ms}, in the cooldown of {:?}", self.claimed_ms))?;
        ensure(!self.claims.contains_key(&tick), "I5", || format!("{tick} was claimed twice"))?;
        self.generation = generation;
        self.claimed_ms = Some(now_ms);
        self.claims.insert(tick, now_ms);
        Ok(())
    }

    /// I6: what is settled stays, and a stored plan is never another one.
    pub(super) fn stored(&mut self, scene: Scene<'_>, tick: u64, before: Option<&Intent>, after: &Intent) -> Checked {
        if let Some(settled) = self.settled.get(&tick) {
            ensure(settled == after, "I6", || format!("the settled intent of {tick} was rewritten: {after:?}"))?;
        }
        if before.is_none_or(|intent| intent.plan.is_none()) && after.state == IntentState::Pending {
            self.may_drain(scene, tick, after.plan.as_ref())?;
        }
        let planned = before.and_then(|intent| intent.plan.as_ref());
        let kept = planned.is_none() || planned == after.plan.as_ref();
        ensure(kept, "I6", || format!("the plan of {tick} was replaced: {planned:?} by {:?}", after.plan))?;
        if after.state == IntentState::Settled {
            self.settled.insert(tick, after.clone());
        }
        Ok(())
    }

    /// I1 for machines that are to work off their tasks: they count as gone from here on.
    fn may_drain(&self, scene: Scene<'_>, tick: u64, plan: Option<&Plan>) -> Checked {
        let Some(Plan::Terminate { instance_ids, size, drain_until_ms: Some(_) }) = plan else { return Ok(()) };
        let draining: BTreeSet<String> =
            scene.world.instances().into_iter().filter(drains).map(|r| r.instance_id).collect();
        let stays = |m: &Machine| !draining.contains(&m.instance_id) && !instance_ids.contains(&m.instance_id);
        let have = counted(scene, *size, stays) + self.unknown_losses(scene, *size);
        let min = scene.config.sizes[*size].bounds.min() as usize;
        ensure(have >= min, "I1", || {
            format!("{have} machines of size {size} stay after the plan of {tick}; {min} is the minimum")
        })
    }

    /// I1, I2, I5 and I6 for a launch.
    pub(super) fn launched(&mut self, scene: Scene<'_>, plan: &LaunchPlan, ids: &[String]) -> Checked {
        let of = |d: &Decision| {
            planned(d) == Some(&Plan::Launch(plan.clone()))
                && d.action == Action::Launch(plan.size as u16, plan.count as u16)
        };
        // a plan that was refused may have named it before, and one that failed
        let intent = |d: &Decision| d.intent.clone();
        let is_refused = |d: &Decision| matches!(intent(d).and_then(|i| i.outcome), Some(Outcome::Refused { .. }));
        let generation = |d: &Decision| intent(d).map(|i| i.generation);
        let asks = |d: &&Decision| of(d) && !is_refused(d);
        let decision = scene.world.with_decisions(|all| all.filter(asks).max_by_key(|d| generation(d)).cloned());
        let Some(decision) = decision else {
            return ensure(false, "I6", || format!("a launch that no stored plan asks for: {plan:?}"));
        };
        let tick = decision.tick;
        ensure(mode(scene).is_none(), "I10", || format!("{tick} launched in mode {:?}", mode(scene)))?;
        ensure(decision.verdict == Verdict::Act, "I6", || format!("{tick} was held and launched all the same"))?;
        self.launched.entry(tick).or_default().extend(ids.iter().cloned());
        ensure(self.launched[&tick].len() <= plan.count as usize, "I5", || {
            format!("{tick} launched {:?}", self.launched[&tick])
        })?;
        self.within_budget(tick, scene.config.launches_per_hour_max, &self.launched)?;
        money::within_caps(scene, tick, self.claims.get(&tick).copied().unwrap_or(scene.now_ms))?;
        self.mostly_healthy(scene, &format!("the launch of {tick}"))?;
        let max = scene.config.sizes[plan.size].bounds.max();
        let have = counted_for_max(scene, plan.size);
        ensure(max.is_none_or(|max| have <= max as usize), "I1", || {
            format!("{have} machines of size {} after the launch of {tick}; {max:?} is the maximum", plan.size)
        })
    }

    /// I10: nothing is done while most machines have been unhealthy for so long that every executor must know it. One
    /// that some plan stops may be left out of the executor's count.
    fn mostly_healthy(&self, scene: Scene<'_>, what: &str) -> Checked {
        let known_ms = scene.now_ms.saturating_sub(UNKNOWN_MS + LATE_TICKS * scene.config.tick_s * 1000);
        let planned: BTreeSet<String> =
            scene.world.with_decisions(|all| all.filter_map(planned).flat_map(stops).cloned().collect());
        let records = scene.world.instances();
        let alive = records.iter().filter(|r| r.terminated_ms.is_none_or(|at| at > known_ms)).count();
        let deadline_ms = (BOOT_DEADLINE_S + LATE_TICKS * scene.config.tick_s) * 1000;
        let sick = |r: &&InstanceRecord| {
            let never_ready = r.ready_ms.is_none() && r.launched_ms + deadline_ms < known_ms;
            let gone = scene.meddling.left.get(&r.instance_id).is_some_and(|at| *at < known_ms)
                && !scene.meddling.joined.contains_key(&r.instance_id)
                && r.launched_ms < known_ms;
            r.terminated_ms.is_none() && !planned.contains(&r.instance_id) && (never_ready || gone)
        };
        let sick = records.iter().filter(sick).count();
        let held = sick >= UNHEALTHY_MACHINES_MIN as usize && sick as f64 > alive as f64 * UNHEALTHY_SHARE_MAX;
        ensure(!held, "I10", || format!("{what} while {sick} of {alive} machines are unhealthy"))
    }

    /// I2: launches, and stops, of any hour, by the time of their claims.
    fn within_budget(&self, tick: u64, max: Option<u32>, done: &BTreeMap<u64, Vec<String>>) -> Checked {
        let (Some(max), Some(claimed)) = (max, self.claims.get(&tick)) else { return Ok(()) };
        let in_hour = |t: &u64| self.claims.get(t).is_some_and(|at| at + HOUR_MS > *claimed && at <= claimed);
        let n: usize = done.iter().filter(|(t, _)| in_hour(t)).map(|(_, ids)| ids.len()).sum();
        ensure(n <= max as usize, "I2", || {
            format!("{n} machines in the hour before the one of {tick}; {max} are allowed")
        })
    }

    /// I3: no machine without our tags is even named, unless it lost them after the invocation began.
    pub(super) fn termination_asked(&mut self, scene: Scene<'_>, ids: &[String]) -> Checked {
        for id in ids {
            let machines = scene.world.machines();
            let machine = machines.iter().find(|m| m.instance_id == *id);
            let ours = machine.is_some_and(|m| is_ours(m, &scene.config.pool));
            let just_lost = scene.meddling.left_at.get(id).is_some_and(|at| *at >= scene.begun);
            ensure(ours || just_lost, "I3", || format!("{id} was to be terminated without our tags"))?;
        }
        Ok(())
    }

    /// I1, I3, I6 and I8 for a termination that took effect.
    pub(super) fn terminated(&mut self, scene: Scene<'_>, id: &str) -> Checked {
        let machines = scene.world.machines();
        let machine = machines.iter().find(|m| m.instance_id == id).expect("it was terminated");
        ensure(is_ours(machine, &scene.config.pool), "I3", || format!("{id} was terminated without our tags"))?;
        ensure(!machine.protected, "I3", || format!("{id} was terminated in spite of its protection"))?;
        let quiet = matches!(mode(scene), Some(Mode::Off | Mode::Observe));
        ensure(!quiet, "I10", || format!("{id} was terminated in mode {:?}", mode(scene)))?;
        self.mostly_healthy(scene, &format!("the stop of {id}"))?;
        let suspects = now(scene.world.outside().suspects(&scene.config.pool)).expect("the outside's calls never fail");
        if let Some(suspect) = suspects.machines.get(id).filter(|suspect| suspect.ended_ms.is_some()) {
            self.ended.insert(id.to_owned(), scene.now_ms);
            return ended_without_decision(scene, machine, *suspect);
        }
        let Some(decision) = stopping(scene, id) else {
            return ensure(false, "I6", || format!("a termination of {id} that no stored plan asks for"));
        };
        let sound = decision.verdict == Verdict::Act && !decision.observation.is_doubtful();
        ensure(sound, "I8", || format!("{id} was terminated for a decision on doubtful data"))?;
        self.stopped.insert(id.to_owned(), scene.now_ms);
        self.stops.entry(decision.tick).or_default().push(id.to_owned());
        self.within_budget(decision.tick, scene.config.stops_per_hour_max, &self.stops)?;
        let Some(size) = true_size(machine, scene.config) else { return Ok(()) };
        if matches!(planned(&decision), Some(Plan::Terminate { drain_until_ms: Some(_), .. })) {
            return Ok(()); // it was counted as gone when its plan was stored
        }
        let min = scene.config.sizes[size].bounds.min() as usize;
        let have = counted_for_min(scene, size) + self.unknown_losses(scene, size);
        ensure(have >= min, "I1", || {
            format!("{have} machines of size {size} after the stop of {id}; {min} is the minimum")
        })
    }

    /// Machines that people or nature took, or a reconciliation without a decision, so short a while ago that an executor
    /// cannot know it.
    fn unknown_losses(&self, scene: Scene<'_>, size: usize) -> usize {
        scene.world.with_machines(|all| {
            let left = |m: &&Machine| {
                let gone = !m.alive || !is_ours(m, &scene.config.pool);
                let at = scene.meddling.left.get(&m.instance_id).max(self.ended.get(&m.instance_id));
                gone && !self.stopped.contains_key(&m.instance_id)
                    && at.is_some_and(|at| at + UNKNOWN_MS >= scene.now_ms)
                    && true_size(m, scene.config) == Some(size)
            };
            all.iter().filter(left).count()
        })
    }
}

/// What a reconciliation may end without a decision, seen at two of them at least: a machine that never took tasks, or one
/// with all our tags that no decision launched, if the pool asks for that.
fn ended_without_decision(scene: Scene<'_>, machine: &Machine, suspect: Suspect) -> Checked {
    let id = &machine.instance_id;
    let twice = suspect.ended_ms.is_some_and(|ended_ms| suspect.since_ms < ended_ms);
    ensure(twice, "I4", || format!("{id} was ended at first sight: {suspect:?}"))?;
    let allowed = match suspect.why {
        Suspicion::Stuck => is_stuck(scene, id),
        Suspicion::Orphan => is_orphan(scene, machine, suspect.since_ms),
        Suspicion::Lost => false,
    };
    ensure(allowed, "I4", || format!("{id} was ended as {:?}", suspect.why))
}

fn is_stuck(scene: Scene<'_>, id: &str) -> bool {
    let deadline_ms = (BOOT_DEADLINE_S + LATE_TICKS * scene.config.tick_s) * 1000;
    let overdue =
        |r: &InstanceRecord| r.instance_id == id && r.ready_ms.is_none() && r.launched_ms + deadline_ms < scene.now_ms;
    let runs = |t: &TaskRecord| t.state() == TaskState::Running && t.instance_id.as_deref() == Some(id);
    scene.world.instances().iter().any(overdue) && !scene.world.tasks().iter().any(runs)
}

fn is_orphan(scene: Scene<'_>, machine: &Machine, since_ms: u64) -> bool {
    let has_all =
        [TAG_MANAGED, TAG_STACK, TAG_POOL, TAG_DECISION, TAG_SIZE].iter().all(|tag| machine.tags.contains_key(*tag));
    let tick = machine.tags.get(TAG_DECISION).and_then(|tick| tick.parse().ok());
    let launches = |d: &Decision| Some(d.tick) == tick && matches!(planned(d), Some(Plan::Launch(_)));
    let is_over = scene.config.orphans_end_after_s.is_some_and(|s| since_ms + s * 1000 <= scene.now_ms);
    let is_given = scene.meddling.joined.contains_key(&machine.instance_id);
    has_all && is_over && is_given && !scene.world.with_decisions(|mut all| all.any(launches))
}

/// Whether a decision has taken a machine out of service.
fn drains(record: &InstanceRecord) -> bool {
    record.drain.is_some_and(|drain| drain.why == DrainReason::Stop)
}

/// The mode that the pool was in when the invocation began, if it was not active. Behind its claim an action goes on
/// whatever the mode is; the claim itself is held to the mode of its moment.
fn mode(scene: Scene<'_>) -> Option<Mode> {
    scene.meddling.mode.filter(|(_, since)| *since <= scene.begun).map(|(mode, _)| mode)
}

/// Machines that a plan stops.
fn stops(plan: &Plan) -> &[String] {
    match plan {
        Plan::Launch(_) => &[],
        Plan::Terminate { instance_ids, .. } => instance_ids,
    }
}

/// The decision whose plan ends a machine: the last one claimed, as an earlier one may have failed. A plan that was refused may
/// name it as well, and ends nothing.
fn stopping(scene: Scene<'_>, id: &str) -> Option<Decision> {
    let names = |d: &Decision| planned(d).is_some_and(|plan| stops(plan).iter().any(|i| i == id));
    let is_refused = |intent: &Intent| matches!(intent.outcome, Some(Outcome::Refused { .. }));
    let ends = |d: &&Decision| names(d) && !d.intent.as_ref().is_some_and(is_refused);
    let generation = |d: &&Decision| d.intent.as_ref().map(|intent| intent.generation);
    scene.world.with_decisions(|all| all.filter(ends).max_by_key(generation).cloned())
}

fn planned(decision: &Decision) -> Option<&Plan> {
    decision.intent.as_ref()?.plan.as_ref()
}

/// Machines of ours that run, visible or not, of a size.
fn counted(scene: Scene<'_>, size: usize, counts: impl Fn(&Machine) -> bool) -> usize {
    let of = |m: &&Machine| {
        m.alive && is_ours(m, &scene.config.pool) && true_size(m, scene.config) == Some(size) && counts(m)
    };
    scene.world.with_machines(|all| all.iter().filter(of).count())
}

/// Those that the controller can know of: not one that people gave us a moment ago, and not one that only a tag that
/// people changed says the size of.
pub(super) fn counted_for_max(scene: Scene<'_>, size: usize) -> usize {
    let recorded = recorded_as(scene, size);
    counted(scene, size, |m| {
        let id = &m.instance_id;
        let just_given = scene.meddling.joined.get(id).is_some_and(|at| at + UNKNOWN_MS >= scene.now_ms);
        !just_given && (!scene.meddling.retagged.contains(id) || recorded.contains(id))
    })
}

/// Those that run, and those that people tagged as something else and a live record says to be of this size.
pub(super) fn counted_for_min(scene: Scene<'_>, size: usize) -> usize {
    let recorded = recorded_as(scene, size);
    let otherwise = |m: &&Machine| {
        let retagged = scene.meddling.retagged.contains(&m.instance_id) && recorded.contains(&m.instance_id);
        m.alive && is_ours(m, &scene.config.pool) && retagged && true_size(m, scene.config) != Some(size)
    };
    counted(scene, size, |_| true) + scene.world.with_machines(|all| all.iter().filter(otherwise).count())
}

/// Machines that a live record says to be of a size.
fn recorded_as(scene: Scene<'_>, size: usize) -> BTreeSet<String> {
    let alive = scene.world.instances().into_iter().filter(|r| r.size == size && r.terminated_ms.is_none());
    alive.map(|r| r.instance_id).collect()
}
