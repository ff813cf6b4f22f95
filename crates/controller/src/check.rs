//! Checks any plan against the configuration and the fleet before it is carried out: the last line before EC2.

use contract::limits::CLIENT_TOKEN_LEN_MAX;
use contract::money::Cap;
use contract::plan::{LaunchPlan, Plan, TAG_DECISION};
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::earlier::{launches_of_last_hour, stops_of_last_hour, stops_without_plan, unseen_launches};
use crate::health::is_overdue;
use crate::money::NanoUsd;
use crate::offering::{Offering, offerings};
use crate::plan::{Inventory, stoppable, tags};
use crate::ports::CloudInstance;

/// What is wrong with a plan. Any note forbids carrying it out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The size does not exist.
    #[error("size {0} is not one of the pool's")]
    UnknownSize(usize),
    /// More or fewer machines than one decision may launch or stop.
    #[error("{count} machines in one plan; one action of this pool moves at most {max}")]
    Count {
        /// Machines in the plan.
        count: u32,
        /// Machines that one action may move.
        max: u16,
    },
    /// The launch would pass the maximum, counting machines that only EC2 or only the records know.
    #[error("{have} machines of the size are there or on their way, more are planned, and {max} is the maximum")]
    AboveMax {
        /// Machines counted.
        have: u32,
        /// The maximum.
        max: u32,
    },
    /// The stop would pass the minimum.
    #[error(
        "{have} machines of the size are there that work or still may, fewer are to stay, and {min} is the minimum"
    )]
    BelowMin {
        /// Machines counted: without those that never took tasks by their deadline.
        have: u32,
        /// The minimum.
        min: u32,
    },
    /// A machine in the plan is not ours.
    #[error("{0} does not carry our tags for this pool, or is not alive")]
    NotOurs(String),
    /// The template is not the size's.
    #[error("launch template {0:?} is not the size's")]
    Template(String),
    /// The type or the subnet is not one of the pool's.
    #[error("{0} is not one of the pool's for the size")]
    Offering(String),
    /// A tag is missing, or not the one of this stack's machines in this pool: nobody would find the machine again.
    #[error("the tag {0} is not the one of this stack's machines of this size in this pool")]
    Tag(String),
    /// EC2 would refuse the token.
    #[error("the client token has {0} characters")]
    Token(usize),
    /// The launch would pass the budget of launches.
    #[error("{have} launches were claimed in the last hour, more are planned, and {max} are allowed")]
    Budget {
        /// Launches counted.
        have: u32,
        /// The budget.
        max: u32,
    },
    /// The stop would pass the budget of stops.
    #[error("{have} stops were claimed in the last hour, more are planned, and {max} are allowed")]
    StopBudget {
        /// Stops counted.
        have: u32,
        /// The budget.
        max: u32,
    },
    /// The launch would pass a money cap; see [`crate::money::check`].
    #[error("{cap} leaves ${:.3} an hour, and the launch adds ${:.3}", left.usd(), asked.usd())]
    Money {
        /// Which.
        cap: Cap,
        /// What may be added an hour.
        left: NanoUsd,
        /// What the launch adds an hour.
        asked: NanoUsd,
    },
}

/// All that is wrong with `plan`; empty if it may be carried out.
pub fn check(plan: &Plan, config: &PoolConfig, inventory: &Inventory<'_>) -> Vec<Note> {
    match plan {
        Plan::Launch(launch) => check_launch(launch, config, inventory),
        Plan::Terminate { instance_ids, size, .. } => check_terminate(instance_ids, *size, config, inventory),
    }
}

fn check_launch(plan: &LaunchPlan, config: &PoolConfig, inventory: &Inventory<'_>) -> Vec<Note> {
    let Some(size) = config.sizes.get(plan.size) else { return vec![Note::UnknownSize(plan.size)] };
    let mut notes = Vec::new();
    notes.extend(wrong_count(plan.count, config));
    if plan.launch_template != size.launch_template {
        notes.push(Note::Template(plan.launch_template.clone()));
    }
    if !offerings(plan.size, 0, config).contains(&Offering::of(plan)) {
        notes.push(Note::Offering(Offering::of(plan).key()));
    }
    notes.extend(wrong_tags(plan, config, inventory));
    if plan.client_token.is_empty() || plan.client_token.len() > CLIENT_TOKEN_LEN_MAX {
        notes.push(Note::Token(plan.client_token.len()));
    }
    let have = at_most(plan.size, config, inventory);
    if let Some(max) = size.bounds.max().filter(|_| !size.bounds.may_grow(have, plan.count)) {
        notes.push(Note::AboveMax { have, max });
    }
    let have = launches_of_last_hour(inventory.earlier, inventory.now_ms);
    if let Some(max) = config.launches_per_hour_max.filter(|max| have.saturating_add(plan.count) > *max) {
        notes.push(Note::Budget { have, max });
    }
    notes
}

/// Tags that are not those of this stack's machines. Which decision it is the plan says; that there is one is checked.
fn wrong_tags(plan: &LaunchPlan, config: &PoolConfig, inventory: &Inventory<'_>) -> Vec<Note> {
    let Some(tick) = plan.tags.get(TAG_DECISION).and_then(|tick| tick.parse().ok()) else {
        return vec![Note::Tag(TAG_DECISION.into())];
    };
    let ours = tags(inventory.stack, &config.pool, tick, plan.size);
    ours.into_iter().filter(|(key, value)| plan.tags.get(key) != Some(value)).map(|(key, _)| Note::Tag(key)).collect()
}

fn wrong_count(count: u32, config: &PoolConfig) -> Option<Note> {
    let max = config.machines_per_action_max;
    (count == 0 || count > u32::from(max)).then_some(Note::Count { count, max })
}

fn check_terminate(ids: &[String], size: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> Vec<Note> {
    let Some(bounds) = config.sizes.get(size).map(|s| s.bounds) else { return vec![Note::UnknownSize(size)] };
    let mut notes = Vec::new();
    let stops = ids.len() as u32;
    notes.extend(wrong_count(stops, config));
    for id in ids {
        if !inventory.cloud.iter().any(|m| m.alive && m.instance_id == *id) {
            notes.push(Note::NotOurs(id.clone()));
        }
    }
    let have = at_least(size, config, inventory);
    let is_stopped = |r: &InstanceRecord| ids.contains(&r.instance_id);
    let lost = in_service(size, config, inventory).filter(|r| is_stopped(r)).count() as u32;
    if !bounds.may_shrink(have, lost) {
        notes.push(Note::BelowMin { have, min: bounds.min() });
    }
    let have = stops_of_last_hour(inventory.earlier, inventory.now_ms);
    if let Some(max) = config.stops_per_hour_max.filter(|max| have.saturating_add(stops) > *max) {
        notes.push(Note::StopBudget { have, max });
    }
    notes
}

/// Machines of a size that may exist: recorded and not known to be dead, alive in EC2 without a record, or launched by
/// an earlier claim and not visible yet. What a machine is, its record says; its tag counts only where there is none,
/// for tags can be changed by anybody.
fn at_most(size: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let dead = |id: &str| inventory.cloud.iter().any(|m| !m.alive && m.instance_id == id);
    let recorded = |id: &str| inventory.records.iter().any(|r| r.instance_id == id);
    let of_records = inventory.records.iter().filter(|r| r.size == size && !dead(&r.instance_id)).count();
    let by_tag = |m: &&CloudInstance| m.alive && m.size == Some(size) && !recorded(&m.instance_id);
    let without_record = inventory.cloud.iter().filter(by_tag).count();
    (of_records + without_record) as u32 + unseen_launches(size, config, inventory)
}

/// Machines of a size that exist for certain once all earlier claims have done what they will, and that work or may still.
fn at_least(size: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> u32 {
    let there = in_service(size, config, inventory).count() as u32;
    there.saturating_sub(stops_without_plan(size, inventory))
}

/// Machines that may be stopped, without those that never took tasks by their deadline: a reconciliation may be ending one
/// at this very moment, and what is left must then be the minimum.
fn in_service<'a>(
    size: usize,
    config: &PoolConfig,
    inventory: &Inventory<'a>,
) -> impl Iterator<Item = &'a InstanceRecord> {
    stoppable(size, config, inventory).filter(|r| !is_overdue(r, config, inventory.now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Inventory};
    use crate::samples::{config, machine, record};
    use contract::Action;
    use contract::plan::{TAG_MANAGED, TAG_POOL, TAG_SIZE, TAG_STACK};

    #[test]
    fn a_plan_within_the_bounds_has_no_notes() {
        let records = [record("i-1", 0, 1), record("i-2", 0, 2)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        for action in [Action::Launch(0, 1), Action::Stop(0, 1)] {
            let plan = plan::plan(action, 60, &config(), &inventory).unwrap();
            assert_eq!(check(&plan, &config(), &inventory), []);
        }
    }

    #[test]
    fn machines_that_only_one_side_knows_count_against_growth_and_not_for_shrinking() {
        let records = [record("i-1", 0, 1), record("i-unseen", 0, 2)];
        let orphan = crate::ports::CloudInstance { instance_id: "i-orphan".into(), ..machine(&records[0]) };
        let cloud = [machine(&records[0]), orphan];
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let launch = plan::plan(Action::Launch(0, 1), 60, &config(), &inventory).unwrap();
        assert_eq!(check(&launch, &config(), &inventory), [Note::AboveMax { have: 3, max: 3 }]);
        let stop = plan::plan(Action::Stop(0, 1), 60, &config(), &inventory).unwrap();
        assert_eq!(check(&stop, &config(), &inventory), [Note::BelowMin { have: 1, min: 1 }]);
    }

    #[test]
    fn foreign_machines_wrong_templates_and_counts_are_noted() {
        let records = [record("i-1", 0, 1), record("i-2", 0, 2)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let foreign = Plan::Terminate { instance_ids: vec!["i-other".into()], size: 0, drain_until_ms: None };
        assert_eq!(check(&foreign, &config(), &inventory), [Note::NotOurs("i-other".into())]);
        let Plan::Launch(mut launch) = plan::plan(Action::Launch(1, 1), 60, &config(), &inventory).unwrap() else {
            panic!("a launch")
        };
        launch.count = 40;
        launch.instance_type = Some("p5.48xlarge".into());
        launch.launch_template = "somebody-elses".into();
        launch.client_token = "x".repeat(65);
        let notes = check(&Plan::Launch(launch), &config(), &inventory);
        assert_eq!(
            notes,
            [
                Note::Count { count: 40, max: 1 },
                Note::Template("somebody-elses".into()),
                Note::Offering("1/p5.48xlarge/".into()),
                Note::Token(65),
                Note::AboveMax { have: 0, max: 3 }
            ]
        );
    }

    #[test]
    fn several_machines_need_room_for_all_of_them() {
        let records = [record("i-1", 1, 1), record("i-2", 0, 1), record("i-3", 0, 2), record("i-4", 0, 3)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let check = |action: Action, config: &PoolConfig| {
            check(&plan::plan(action, 60, config, &inventory).unwrap(), config, &inventory)
        };
        let config = PoolConfig { machines_per_action_max: 4, launches_per_hour_max: Some(2), ..config() };
        assert_eq!(check(Action::Launch(1, 2), &config), []);
        let of_budget = |max| Note::Budget { have: 0, max };
        assert_eq!(check(Action::Launch(1, 4), &config), [Note::AboveMax { have: 1, max: 3 }, of_budget(2)]);
        assert_eq!(check(Action::Stop(0, 2), &config), []);
        assert_eq!(check(Action::Stop(0, 4), &config), [Note::BelowMin { have: 3, min: 1 }]);
        let single = PoolConfig { machines_per_action_max: 1, ..config };
        assert_eq!(check(Action::Stop(0, 2), &single), [Note::Count { count: 2, max: 1 }]);
        let none = Plan::Terminate { instance_ids: Vec::new(), size: 0, drain_until_ms: None };
        assert_eq!(super::check(&none, &single, &inventory), [Note::Count { count: 0, max: 1 }]);
    }

    #[test]
    fn a_size_that_does_not_exist_and_a_used_up_budget_are_noted() {
        let none = Inventory {
            stack: "s",
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let unknown = Plan::Terminate { instance_ids: vec!["i-1".into()], size: 3, drain_until_ms: None };
        assert_eq!(check(&unknown, &config(), &none), [Note::UnknownSize(3)]);
        let launch = plan::plan(Action::Launch(0, 1), 60, &config(), &none).unwrap();
        let Plan::Launch(of_size) = launch.clone() else { panic!("a launch") };
        assert_eq!(check(&Plan::Launch(LaunchPlan { size: 3, ..of_size }), &config(), &none), [Note::UnknownSize(3)]);
        let pending = crate::samples::claimed(0, Action::Launch(1, 1), 1);
        let earlier = [&pending];
        let budget = |max: u32| {
            let config = PoolConfig { launches_per_hour_max: Some(max), ..config() };
            check(&launch, &config, &Inventory { earlier: &earlier, ..none })
        };
        assert_eq!(budget(2), []);
        assert_eq!(budget(1), [Note::Budget { have: 1, max: 1 }]);
    }

    #[test]
    fn a_used_up_budget_of_stops_is_noted_and_launches_do_not_count() {
        let records = [record("i-1", 0, 1), record("i-2", 0, 2), record("i-3", 0, 3)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let [of_m, launch] = [Action::Stop(1, 1), Action::Launch(0, 4)].map(|a| crate::samples::claimed(0, a, 1));
        let earlier = [&of_m, &launch];
        let stop = Plan::Terminate { instance_ids: vec!["i-1".into(), "i-2".into()], size: 0, drain_until_ms: None };
        let noted = |max: u32| {
            let config = PoolConfig { stops_per_hour_max: Some(max), machines_per_action_max: 2, ..config() };
            let (records, cloud, earlier) = (records.as_slice(), cloud.as_slice(), earlier.as_slice());
            let tasks = &[];
            let inventory = Inventory { stack: "s", now_ms: 60_000, records, cloud, tasks, earlier, no_capacity: None };
            check(&stop, &config, &inventory)
        };
        assert_eq!(noted(3), []);
        assert_eq!(noted(2), [Note::StopBudget { have: 1, max: 2 }]);
    }

    #[test]
    fn a_launch_whose_machines_would_be_somebody_elses_is_noted() {
        let none = Inventory {
            stack: "s",
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let Ok(Plan::Launch(launch)) = plan::plan(Action::Launch(0, 1), 60, &config(), &none) else {
            panic!("a launch")
        };
        let notes = |change: &dyn Fn(&mut LaunchPlan)| {
            let mut launch = launch.clone();
            change(&mut launch);
            check(&Plan::Launch(launch), &config(), &none)
        };
        assert_eq!(notes(&|_| ()), []);
        for key in [TAG_MANAGED, TAG_STACK, TAG_POOL, TAG_DECISION, TAG_SIZE] {
            let note = [Note::Tag(key.to_owned())];
            assert_eq!(notes(&|plan| drop(plan.tags.remove(key))), note, "without it");
            assert_eq!(notes(&|plan| drop(plan.tags.insert(key.to_owned(), "other".into()))), note, "another one");
        }
        assert_eq!(notes(&|plan| drop(plan.tags.insert("Name".into(), "x".into()))), [], "others may be there");
    }

    #[test]
    fn an_empty_token_and_one_of_the_longest_kind() {
        let none = Inventory {
            stack: "s",
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            now_ms: 60_000,
            no_capacity: None,
        };
        let Ok(Plan::Launch(launch)) = plan::plan(Action::Launch(0, 1), 60, &config(), &none) else {
            panic!("a launch")
        };
        let with = |len: usize| {
            check(&Plan::Launch(LaunchPlan { client_token: "x".repeat(len), ..launch.clone() }), &config(), &none)
        };
        assert_eq!(with(0), [Note::Token(0)]);
        assert_eq!(with(CLIENT_TOKEN_LEN_MAX), []);
    }

    #[test]
    fn a_record_says_the_size_a_tag_only_without_one_and_the_dead_do_not_count() {
        let have = |records: &[InstanceRecord], cloud: &[CloudInstance]| {
            at_most(
                0,
                &config(),
                &Inventory { stack: "s", records, cloud, tasks: &[], earlier: &[], now_ms: 60_000, no_capacity: None },
            )
        };
        let small = record("i-1", 0, 1);
        let tagged_m = CloudInstance { size: Some(1), ..machine(&small) };
        let dying = CloudInstance { alive: false, ..machine(&small) };
        let one = std::slice::from_ref(&small);
        assert_eq!(have(one, std::slice::from_ref(&tagged_m)), 1, "recorded as S, tagged as M");
        assert_eq!(have(&[record("i-1", 1, 1)], &[machine(&small)]), 0, "recorded as M, tagged as S");
        assert_eq!(have(&[], &[machine(&small)]), 1);
        assert_eq!(have(one, &[machine(&small), machine(&record("i-9", 0, 2))]), 2, "one of the two has a record");
        assert_eq!(have(&[], &[tagged_m]), 0);
        assert_eq!(have(one, std::slice::from_ref(&dying)), 0);
        assert_eq!(have(&[], &[dying]), 0);
    }

    #[test]
    fn a_launch_that_an_earlier_claim_may_still_make_counts_against_the_maximum() {
        let records = [record("i-1", 0, 1), record("i-2", 0, 2)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let pending = crate::samples::claimed(0, Action::Launch(0, 1), 1);
        let earlier = [&pending];
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &earlier,
            now_ms: 60_000,
            no_capacity: None,
        };
        let launch = plan::plan(Action::Launch(0, 1), 60, &config(), &inventory).unwrap();
        assert_eq!(check(&launch, &config(), &inventory), [Note::AboveMax { have: 3, max: 3 }]);
    }

    #[test]
    fn a_machine_that_never_took_tasks_is_not_what_is_left_when_another_one_stops() {
        let booting = |id: &str| InstanceRecord { ready_ms: None, ..record(id, 0, 1) };
        let noted = |records: &[InstanceRecord], ids: &[&str], now_ms: u64| {
            let cloud: Vec<_> = records.iter().map(machine).collect();
            let (cloud, tasks, earlier) = (cloud.as_slice(), &[], &[]);
            let inventory = Inventory { stack: "s", now_ms, records, cloud, tasks, earlier, no_capacity: None };
            let instance_ids = ids.iter().map(|id| (*id).to_owned()).collect();
            let stop = Plan::Terminate { instance_ids, size: 0, drain_until_ms: None };
            check(&stop, &PoolConfig { machines_per_action_max: 2, ..config() }, &inventory)
        };
        let two = [record("i-1", 0, 1), booting("i-stuck")];
        // Five ticks to be launched in, and ten minutes to boot.
        assert_eq!(noted(&two, &["i-1"], 900_000), [], "it may come up");
        assert_eq!(noted(&two, &["i-1"], 900_002), [Note::BelowMin { have: 1, min: 1 }]);
        assert_eq!(noted(&two, &["i-stuck"], 900_002), [], "what works is left");
        assert_eq!(noted(&two[1..], &["i-stuck"], 900_002), [Note::BelowMin { have: 0, min: 1 }]);
        let three = [record("i-1", 0, 1), record("i-2", 0, 2), booting("i-stuck")];
        assert_eq!(noted(&three, &["i-2", "i-stuck"], 900_002), []);
        assert_eq!(noted(&three, &["i-1", "i-2"], 900_002), [Note::BelowMin { have: 2, min: 1 }]);
    }

    #[test]
    fn a_stop_that_has_no_plan_yet_is_counted_as_done() {
        let records = [record("i-1", 0, 1), record("i-2", 0, 2)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let pending = crate::samples::claimed(0, Action::Stop(0, 1), 1);
        let earlier = [&pending];
        let inventory = Inventory {
            stack: "s",
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &earlier,
            now_ms: 60_000,
            no_capacity: None,
        };
        let stop = plan::plan(Action::Stop(0, 1), 60, &config(), &inventory).unwrap();
        assert_eq!(check(&stop, &config(), &inventory), [Note::BelowMin { have: 1, min: 1 }]);
    }
}
