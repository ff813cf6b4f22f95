//! What is acted on only when it is seen again at a later reconciliation: machines that are lost, that are stuck, and orphans.
//!
//! A describe that is behind, or one answer that is empty by mistake, looks the same as a loss, and is over a minute later.
//! The first sight is written down, the second one counts. What a reconciliation ends of its own is written down before
//! that, so that it is not adopted while EC2 still shows it.

use std::collections::BTreeMap;

use contract::decision::Decision;
use contract::limits::{RECONCILER_ENDS_MAX, SUSPECTS_MAX};
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, Suspect, Suspects, Suspicion};

use super::drain::is_running_on;
use super::resume::is_being_ended;
use super::{Scene, Step, is_unrecorded};
use crate::earlier::{UNSEEN_S_MAX, stopped};
use crate::health::{is_missing, is_overdue};
use crate::plan::Inventory;
use crate::ports::CloudInstance;

/// Since when a machine has been seen so, if it was at an earlier reconciliation.
fn seen_since_ms(id: &str, why: Suspicion, scene: &Scene<'_>) -> Option<u64> {
    let suspect = scene.suspects.machines.get(id).filter(|s| s.why == why && s.ended_ms.is_none())?;
    (suspect.since_ms < scene.now_ms).then_some(suspect.since_ms)
}

/// Whether a machine was seen so at an earlier reconciliation.
pub(super) fn is_seen_again(id: &str, why: Suspicion, scene: &Scene<'_>) -> bool {
    seen_since_ms(id, why, scene).is_some()
}

/// Whether a reconciliation has ended the machine so short a while ago that EC2 may still show it.
pub(super) fn was_ended(id: &str, scene: &Scene<'_>) -> bool {
    scene.suspects.machines.get(id).is_some_and(|suspect| may_be_shown(suspect, scene.now_ms))
}

fn may_be_shown(suspect: &Suspect, now_ms: u64) -> bool {
    suspect.ended_ms.is_some_and(|ended_ms| now_ms < ended_ms + UNSEEN_S_MAX * 1000)
}

/// Whether [`super::reconcile`] has to know what runs: whether a machine that drains, or one that never said that it takes
/// tasks, has any.
pub fn needs_tasks(config: &PoolConfig, records: &[InstanceRecord], now_ms: u64) -> bool {
    records.iter().any(|record| record.drain.is_some() || is_overdue(record, config, now_ms))
}

/// Whether a record's machine is gone, as far as this reconciliation sees.
pub(super) fn is_lost(record: &InstanceRecord, scene: &Scene<'_>) -> bool {
    let missing = is_missing(record, scene.cloud, scene.config, scene.now_ms);
    missing && !is_being_ended(&record.instance_id, scene)
}

/// Records of machines that should have taken tasks by now, and of which none is known to run any: a worker that cannot
/// write that it is ready may well work. A machine that lacks one of our tags, or whose size tag was changed by somebody, is left
/// alone.
fn stuck<'a>(scene: &Scene<'a>) -> Vec<&'a InstanceRecord> {
    let Some(tasks) = scene.tasks else { return Vec::new() };
    let earlier: Vec<&Decision> = scene.decisions.iter().collect();
    let Scene { stack, now_ms, records, cloud, config, .. } = *scene;
    let inventory = Inventory { stack, now_ms, records, cloud, tasks, earlier: &earlier, no_capacity: None };
    let stopped = stopped(config, &inventory);
    let is_whole = |m: &CloudInstance, r: &InstanceRecord| m.size == Some(r.size) && m.decision.is_some();
    let is_there =
        |r: &InstanceRecord| cloud.iter().any(|m| m.alive && m.instance_id == r.instance_id && is_whole(m, r));
    let works = |r: &InstanceRecord| tasks.iter().any(|task| is_running_on(task, &r.instance_id));
    let overdue = records.iter().filter(|r| r.drain.is_none() && is_overdue(r, config, now_ms));
    overdue.filter(|r| is_there(r) && !works(r) && !stopped.contains(r.instance_id.as_str())).collect()
}

/// Whether a decision launched the machine, or may have: one of another version cannot be read.
pub(super) fn is_explained(machine: &CloudInstance, scene: &Scene<'_>) -> bool {
    let Some(tick) = machine.decision else { return false };
    let launched = |d: &Decision| {
        let plan = d.intent.as_ref().and_then(|intent| intent.plan.as_ref());
        d.tick == tick && matches!(plan, Some(Plan::Launch(_)))
    };
    scene.unreadable.contains(&tick) || scene.decisions.iter().any(launched)
}

/// Whether the pool ends such a machine once its time is over: one with all our tags that no decision explains.
pub(super) fn may_be_ended(machine: &CloudInstance, scene: &Scene<'_>) -> bool {
    let has_all_tags = machine.size.is_some() && machine.decision.is_some();
    scene.config.orphans_end_after_s.is_some() && has_all_tags && !is_explained(machine, scene)
}

/// Machines of ours without a record that cannot have one, or that no decision explains.
fn orphans<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a CloudInstance> {
    let sizes = scene.config.sizes.len();
    let scene = *scene;
    let strays = scene.cloud.iter().filter(move |m| m.alive && is_unrecorded(m, &scene));
    strays.filter(move |m| m.size.is_none_or(|size| size >= sizes) || !is_explained(m, &scene))
}

/// What is ended without a decision, the oldest suspicion first, and few at a time.
pub(super) fn ends(scene: &Scene<'_>) -> Vec<Step> {
    let stuck = stuck(scene).into_iter().filter_map(|record| {
        let since_ms = seen_since_ms(&record.instance_id, Suspicion::Stuck, scene)?;
        Some((since_ms, Step::EndStuck(record.clone())))
    });
    let orphans = orphans(scene).filter(|m| may_be_ended(m, scene)).filter_map(|m| {
        let since_ms = seen_since_ms(&m.instance_id, Suspicion::Orphan, scene)?;
        let is_over = since_ms + scene.config.orphans_end_after_s? * 1000 <= scene.now_ms;
        is_over.then(|| (since_ms, Step::EndOrphan(m.instance_id.clone())))
    });
    let mut all: Vec<(u64, Step)> = stuck.chain(orphans).collect();
    all.sort_by_key(|(since_ms, _)| *since_ms);
    all.into_iter().map(|(_, step)| step).take(RECONCILER_ENDS_MAX).collect()
}

/// What the next reconciliation has to know, if these steps are taken. It must be written down before they are.
pub fn suspects_after(steps: &[Step], scene: &Scene<'_>) -> Suspects {
    let lost = scene.records.iter().filter(|r| is_lost(r, scene)).map(|r| (&r.instance_id, Suspicion::Lost));
    let stuck = stuck(scene).into_iter().map(|r| (&r.instance_id, Suspicion::Stuck));
    let orphans = orphans(scene).map(|m| (&m.instance_id, Suspicion::Orphan));
    let known = &scene.suspects.machines;
    let mut all: Vec<(String, Suspect)> =
        known.iter().filter(|(_, s)| may_be_shown(s, scene.now_ms)).map(|(id, s)| (id.clone(), *s)).collect();
    for (id, why) in lost.chain(stuck).chain(orphans).filter(|(id, _)| !was_ended(id, scene)) {
        let since_ms =
            known.get(id).filter(|s| s.why == why && s.ended_ms.is_none()).map_or(scene.now_ms, |s| s.since_ms);
        let ended_ms = steps.iter().any(|step| step.ends() == Some(id)).then_some(scene.now_ms);
        all.push((id.clone(), Suspect { why, since_ms, ended_ms }));
    }
    all.sort_by_key(|(_, suspect)| suspect.since_ms);
    let machines: BTreeMap<String, Suspect> = all.into_iter().take(SUSPECTS_MAX).collect();
    let version = scene.suspects.version + u64::from(machines != *known);
    Suspects { version, machines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::reconcile;
    use crate::samples::{READABLE, claimed, config, machine, record, running, scene, seen_before};
    use contract::Action;
    use contract::limits::ORPHAN_GRACE_S_MIN;
    use contract::record::{Drain, DrainReason, TaskRecord};
    use std::collections::BTreeSet;

    const NOW: u64 = 10_000_000;

    /// What one reconciliation looks at; the defaults are of a pool that may stop machines, and of which nothing is known.
    struct Look<'a> {
        config: PoolConfig,
        records: &'a [InstanceRecord],
        cloud: &'a [CloudInstance],
        tasks: Option<&'a [TaskRecord]>,
        decisions: &'a [Decision],
        unreadable: &'a BTreeSet<u64>,
    }

    fn look<'a>(records: &'a [InstanceRecord], cloud: &'a [CloudInstance]) -> Look<'a> {
        Look { config: config(), records, cloud, tasks: Some(&[]), decisions: &[], unreadable: &READABLE }
    }

    impl Look<'_> {
        /// The steps, and what is written down.
        fn at(&self, now_ms: u64, suspects: &Suspects) -> (Vec<Step>, Suspects) {
            let Self { config, records, cloud, tasks, decisions, unreadable } = self;
            let scene =
                Scene { tasks: *tasks, decisions, unreadable, suspects, ..scene(config, records, cloud, now_ms) };
            let steps = reconcile(&scene);
            let after = suspects_after(&steps, &scene);
            (steps, after)
        }

        /// What is ended of all that was suspected a moment ago.
        fn ended(&self) -> Vec<String> {
            let (steps, _) = self.at(NOW, &seen_before(self.records, self.cloud, NOW));
            steps.iter().filter_map(Step::ends).cloned().collect()
        }
    }

    /// A machine that never took tasks.
    fn booting(id: &str) -> InstanceRecord {
        InstanceRecord { ready_ms: None, decision: Some(600), ..record(id, 0, 1) }
    }

    #[test]
    fn what_is_seen_once_is_written_down_and_forgotten_if_it_is_not_seen_again() {
        let records = [record("i-1", 0, 1), booting("i-2"), record("i-3", 0, 1)];
        let cloud = [machine(&records[1]), machine(&records[2]), machine(&record("i-4", 0, 1))];
        let (steps, seen) = look(&records, &cloud).at(NOW, &Suspects::default());
        assert_eq!((steps, seen.version), (vec![], 1));
        let of = |why| Suspect { why, since_ms: NOW, ended_ms: None };
        let expected = [("i-1", Suspicion::Lost), ("i-2", Suspicion::Stuck), ("i-4", Suspicion::Orphan)];
        assert_eq!(seen.machines, expected.map(|(id, why)| (id.to_owned(), of(why))).into());
        let (_, same) = look(&records, &cloud).at(NOW, &seen);
        assert_eq!(same, seen, "nothing is new, and nothing is to be written");
        let all_well = [machine(&records[0]), machine(&records[2])];
        let (_, later) = look(&[records[0].clone(), records[2].clone()], &all_well).at(NOW + 60_000, &seen);
        assert_eq!((later.version, later.machines.len()), (2, 0));
    }

    #[test]
    fn another_suspicion_of_the_same_machine_begins_anew() {
        let records = [booting("i-1")];
        let (_, seen) = look(&records, &[]).at(NOW, &Suspects::default());
        assert_eq!(seen.machines["i-1"].why, Suspicion::Lost);
        let cloud = [machine(&records[0])];
        let (steps, seen) = look(&records, &cloud).at(NOW + 60_000, &seen);
        let stuck = Suspect { why: Suspicion::Stuck, since_ms: NOW + 60_000, ended_ms: None };
        assert_eq!((steps.len(), seen.machines["i-1"]), (0, stuck));
        let (steps, _) = look(&records, &cloud).at(NOW + 120_000, &seen);
        assert!(matches!(steps.as_slice(), [Step::EndStuck(_)]), "{steps:?}");
    }

    #[test]
    fn what_is_ended_is_remembered_for_as_long_as_ec2_may_show_it() {
        let records = [booting("i-1")];
        let cloud = [machine(&records[0])];
        let (_, after) = look(&records, &cloud).at(NOW, &seen_before(&records, &cloud, NOW));
        assert_eq!(after.machines["i-1"].ended_ms, Some(NOW));
        let shown_ms = NOW + UNSEEN_S_MAX * 1000;
        // its record is closed by then
        let (steps, kept) = look(&[], &cloud).at(shown_ms - 1, &after);
        assert_eq!((steps, &kept), (vec![], &after));
        let (steps, anew) = look(&[], &cloud).at(shown_ms, &after);
        let orphan = Suspect { why: Suspicion::Orphan, since_ms: shown_ms, ended_ms: None };
        assert_eq!((steps, anew.machines["i-1"]), (vec![], orphan));
        // it was protected: its turn comes again after two more sights
        let (steps, anew) = look(&records, &cloud).at(shown_ms, &after);
        assert_eq!((steps, anew.machines["i-1"].ended_ms), (vec![], None));
    }

    #[test]
    fn only_an_idle_machine_of_ours_that_nobody_stops_is_stuck() {
        let records = [booting("i-1")];
        let cloud = [machine(&records[0])];
        assert_eq!(look(&records, &cloud).ended(), ["i-1"]);
        assert!(look(&[record("i-1", 0, 1)], &cloud).ended().is_empty(), "it is ready");
        assert!(look(&records, &[CloudInstance { size: Some(1), ..cloud[0].clone() }]).ended().is_empty(), "retagged");
        assert!(look(&records, &[CloudInstance { decision: None, ..cloud[0].clone() }]).ended().is_empty(), "by hand");
        assert!(look(&records, &[CloudInstance { alive: false, ..cloud[0].clone() }]).ended().is_empty(), "gone");
        let (runs, beside) = ([running("t", "i-1", 1)], [running("t", "i-2", 1)]);
        assert!(Look { tasks: Some(&runs), ..look(&records, &cloud) }.ended().is_empty(), "it works");
        assert_eq!(Look { tasks: Some(&beside), ..look(&records, &cloud) }.ended(), ["i-1"]);
        assert!(Look { tasks: None, ..look(&records, &cloud) }.ended().is_empty(), "nobody knows");
        let drain = Drain { until_ms: NOW + 60_000, why: DrainReason::Interruption, since_ms: None };
        let draining = [InstanceRecord { drain: Some(drain), ..booting("i-1") }];
        assert!(look(&draining, &cloud).ended().is_empty(), "EC2 takes it back");
        let mut stop = claimed(NOW / 1000 - 30, Action::Stop(0, 1), 1);
        let plan = Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: None };
        stop.intent.as_mut().unwrap().plan = Some(plan);
        assert!(Look { decisions: &[stop], ..look(&records, &cloud) }.ended().is_empty(), "a decision stops it");
    }

    #[test]
    fn the_oldest_suspicion_has_its_turn_first_and_one_at_a_time() {
        let records = [booting("i-1"), booting("i-2"), record("i-3", 0, 1), record("i-4", 0, 1)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let mut seen = seen_before(&records, &cloud, NOW);
        seen.machines.get_mut("i-2").unwrap().since_ms = 1;
        let (steps, _) = look(&records, &cloud).at(NOW, &seen);
        assert_eq!(steps.iter().filter_map(Step::ends).collect::<Vec<_>>(), ["i-2"]);
    }

    /// A machine with all our tags, of a tick.
    fn stray(tick: Option<u64>) -> [CloudInstance; 1] {
        [CloudInstance { decision: tick, ..machine(&record("i-1", 0, 1)) }]
    }

    #[test]
    fn an_orphan_is_ended_only_where_the_pool_asks_for_it_and_no_decision_explains_it() {
        let ends = |cloud: &[CloudInstance], of: Look<'_>| {
            let config = PoolConfig { orphans_end_after_s: Some(ORPHAN_GRACE_S_MIN), ..config() };
            let mut seen = seen_before(&[], cloud, NOW);
            seen.machines.get_mut("i-1").unwrap().since_ms = NOW - ORPHAN_GRACE_S_MIN * 1000;
            Look { config, ..of }.at(NOW, &seen).0
        };
        let all = stray(Some(600));
        let [Step::Orphan(_), Step::EndOrphan(id)] = &ends(&all, look(&[], &all))[..] else { panic!() };
        assert_eq!(id, "i-1");
        let mut launch = claimed(600, Action::Launch(0, 1), 1);
        launch.intent.as_mut().unwrap().state = contract::decision::IntentState::Settled;
        let held = [launch.clone()];
        assert_eq!(ends(&all, Look { decisions: &held, ..look(&[], &all) }).len(), 2, "it has launched nothing");
        let none =
            Inventory { stack: "s", now_ms: 0, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
        launch.intent.as_mut().unwrap().plan = crate::plan::plan(Action::Launch(0, 1), 600, &config(), &none).ok();
        let launched = [launch];
        let adopted = |steps: Vec<Step>| matches!(steps.as_slice(), [Step::Adopt(_)]);
        assert!(adopted(ends(&all, Look { decisions: &launched, ..look(&[], &all) })));
        assert!(adopted(ends(&all, Look { unreadable: &BTreeSet::from([600]), ..look(&[], &all) })));
        let untagged = stray(None);
        assert!(adopted(ends(&untagged, look(&[], &untagged))), "it does not carry all our tags");
        let sizeless = [CloudInstance { size: None, ..stray(Some(600))[0].clone() }];
        assert_eq!(ends(&sizeless, look(&[], &sizeless)), [Step::Orphan("i-1".into())]);
    }

    #[test]
    fn an_orphan_has_its_time_to_the_millisecond() {
        let cloud = stray(Some(600));
        let config = PoolConfig { orphans_end_after_s: Some(ORPHAN_GRACE_S_MIN), ..config() };
        let of = Look { config, ..look(&[], &cloud) };
        let (_, seen) = of.at(NOW, &Suspects::default());
        let over_ms = NOW + ORPHAN_GRACE_S_MIN * 1000;
        assert_eq!(of.at(over_ms - 1, &seen).0, [Step::Orphan("i-1".into())]);
        let (steps, after) = of.at(over_ms, &seen);
        assert_eq!((steps.len(), after.machines["i-1"].ended_ms), (2, Some(over_ms)));
    }

    #[test]
    fn a_machine_of_no_size_of_the_pool_is_an_orphan_at_second_sight_whatever_explains_it() {
        for size in [None, Some(config().sizes.len())] {
            let cloud = [CloudInstance { size, ..stray(Some(600))[0].clone() }];
            let explained = BTreeSet::from([600]);
            let of = Look { unreadable: &explained, ..look(&[], &cloud) };
            let (steps, seen) = of.at(NOW, &Suspects::default());
            assert_eq!((steps, seen.machines["i-1"].why), (vec![], Suspicion::Orphan));
            assert_eq!(of.at(NOW + 1, &seen).0, [Step::Orphan("i-1".into())]);
        }
    }

    #[test]
    fn tasks_are_needed_for_a_machine_that_drains_and_for_one_that_should_have_taken_some() {
        let needed = |record: InstanceRecord| needs_tasks(&config(), &[record], NOW);
        assert!(!needed(record("i-1", 0, 1)) && needed(booting("i-1")));
        let drain = Some(Drain { until_ms: NOW, why: DrainReason::Stop, since_ms: None });
        assert!(needed(InstanceRecord { drain, ..record("i-1", 0, 1) }));
    }

    #[test]
    fn no_more_are_remembered_than_an_item_holds_and_the_oldest_stay() {
        let records: Vec<_> = (0..SUSPECTS_MAX + 1).map(|i| record(&format!("i-{i:05}"), 0, 1)).collect();
        let (_, seen) = look(&records[1..], &[]).at(NOW, &Suspects::default());
        assert_eq!(seen.machines.len(), SUSPECTS_MAX);
        let (steps, later) = look(&records, &[]).at(NOW + 1, &seen);
        assert_eq!((steps.len(), later.machines.len()), (SUSPECTS_MAX, SUSPECTS_MAX));
        assert!(!later.machines.contains_key("i-00000"), "its turn comes once the others are closed");
    }
}
