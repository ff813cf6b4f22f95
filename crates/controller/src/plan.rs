//! From a claimed decision to an immutable plan: what to launch, or exactly which machine to stop.

use std::collections::BTreeMap;

use contract::action::Action;
use contract::decision::Decision;
use contract::limits::CLIENT_TOKEN_LEN_MAX;
use contract::plan::{LaunchPlan, Plan, TAG_DECISION, TAG_MANAGED, TAG_MANAGED_VALUE, TAG_POOL, TAG_SIZE, TAG_STACK};
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, NoCapacity, TaskRecord};
use contract::schema::sha256_hex;

use crate::earlier::stopped;
use crate::guard::{StopCandidate, stop_order};
use crate::offering::choose;
use crate::ports::CloudInstance;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The decision asks for nothing.
    #[error("the decision asks for nothing")]
    Nothing,
    /// EC2 and the records together know no machine of the size that may be stopped.
    #[error("no machine of the size is both in EC2 with our tags and in our records")]
    NoVictim,
}

/// What the planner looks at: the records, EC2's fresh answer, the tasks that run now, and what was claimed before.
#[derive(Clone, Copy, Debug)]
pub struct Inventory<'a> {
    /// The name of the stack, whose machines these are.
    pub stack: &'a str,
    /// Now, milliseconds since the epoch.
    pub now_ms: u64,
    /// Records of machines that were not terminated.
    pub records: &'a [InstanceRecord],
    /// Machines with our tags, from a fresh and complete describe.
    pub cloud: &'a [CloudInstance],
    /// Tasks that wait or run now.
    pub tasks: &'a [TaskRecord],
    /// The memory of missing capacity, if a launch is planned.
    pub no_capacity: Option<&'a NoCapacity>,
    /// Decisions of the last hour that were claimed before this one, by a consistent read: see [`crate::earlier`].
    pub earlier: &'a [&'a Decision],
}

/// The plan for `action` of the decision at `tick`.
///
/// # Errors
/// If the action asks for nothing or there is nothing to stop.
pub fn plan(action: Action, tick: u64, config: &PoolConfig, inventory: &Inventory<'_>) -> Result<Plan, NoPlan> {
    match action {
        Action::Nothing => Err(NoPlan::Nothing),
        Action::Launch(size, count) => {
            Ok(Plan::Launch(launch(usize::from(size), u32::from(count), tick, config, inventory)))
        }
        Action::Stop(size, count) => {
            let size = usize::from(size);
            let instance_ids = victims(size, usize::from(count), config, inventory);
            if instance_ids.is_empty() {
                Err(NoPlan::NoVictim)
            } else {
                Ok(Plan::Terminate { instance_ids, size, drain_until_ms: drain_until_ms(config, inventory) })
            }
        }
    }
}

/// The launch of so many machines, from the best offering that has capacity as far as we know.
fn launch(size: usize, count: u32, tick: u64, config: &PoolConfig, inventory: &Inventory<'_>) -> LaunchPlan {
    let nothing = NoCapacity::default();
    let offering = choose(size, tick, config, inventory.no_capacity.unwrap_or(&nothing), inventory.now_ms);
    LaunchPlan {
        size,
        launch_template: config.sizes[size].launch_template.clone(),
        instance_type: offering.instance_type.map(str::to_owned),
        subnet: offering.subnet.map(str::to_owned),
        count,
        tags: tags(inventory.stack, &config.pool, tick, size),
        client_token: client_token(inventory.stack, &config.pool, tick),
    }
}

/// Until when stopped machines may work, if the pool lets them.
fn drain_until_ms(config: &PoolConfig, inventory: &Inventory<'_>) -> Option<u64> {
    config.drain_s.map(|drain_s| inventory.now_ms + drain_s * 1000)
}

/// The ownership tags of a machine.
pub fn tags(stack: &str, pool: &str, tick: u64, size: usize) -> BTreeMap<String, String> {
    [
        (TAG_MANAGED, TAG_MANAGED_VALUE.to_owned()),
        (TAG_STACK, stack.to_owned()),
        (TAG_POOL, pool.to_owned()),
        (TAG_DECISION, tick.to_string()),
        (TAG_SIZE, size.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Hash of the stack's name and the decision's id: at most 64 ASCII characters, the same for every repetition of the same
/// decision, and another one for each stack of an account.
pub fn client_token(stack: &str, pool: &str, tick: u64) -> String {
    let token = sha256_hex(format!("{stack}/{pool}/{tick}").as_bytes());
    debug_assert!(token.len() <= CLIENT_TOKEN_LEN_MAX);
    token
}

/// Records of a size whose machines EC2 reports alive with our tags and that size, that no earlier claim stops and that
/// do not drain. A machine whose tag was changed by somebody is left alone.
pub(crate) fn stoppable<'a>(
    size: usize,
    config: &PoolConfig,
    inventory: &Inventory<'a>,
) -> impl Iterator<Item = &'a InstanceRecord> {
    let stopped = stopped(config, inventory);
    let cloud = inventory.cloud;
    let alive = move |id: &str| cloud.iter().any(|m| m.alive && m.size == Some(size) && m.instance_id == id);
    let of_size =
        inventory.records.iter().filter(move |r| r.size == size && r.terminated_ms.is_none() && r.drain.is_none());
    of_size.filter(move |r| alive(&r.instance_id) && !stopped.contains(r.instance_id.as_str()))
}

/// The machines whose stop loses least (the twin's rule V2), among those that may be stopped: `count` of them, or as
/// many as there are.
fn victims(size: usize, count: usize, config: &PoolConfig, inventory: &Inventory<'_>) -> Vec<String> {
    let load = load_by_machine(inventory.tasks, inventory.now_ms);
    let mut candidates: Vec<&InstanceRecord> = stoppable(size, config, inventory).collect();
    candidates.sort_by_cached_key(|r| {
        let (running, lost_core_ms) = load.get(r.instance_id.as_str()).copied().unwrap_or_default();
        let order = StopCandidate { lost_core_ms, running, ready: r.ready_ms.is_some(), launch_order: r.launched_ms };
        (stop_order(&order), r.instance_id.clone())
    });
    candidates.into_iter().take(count).map(|r| r.instance_id.clone()).collect()
}

/// Running tasks and core-milliseconds already worked, by machine.
pub fn load_by_machine(tasks: &[TaskRecord], now_ms: u64) -> BTreeMap<&str, (u32, u64)> {
    let mut load: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for task in tasks {
        if let (Some(id), Some(started), None) = (&task.instance_id, task.started_ms, task.finished_ms) {
            let entry = load.entry(id.as_str()).or_default();
            entry.0 += 1;
            entry.1 = entry.1.saturating_add(u64::from(task.cores).saturating_mul(now_ms.saturating_sub(started)));
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{config, machine, record, running};

    #[test]
    fn a_launch_says_everything_and_is_the_same_each_time() {
        let mut config = config();
        config.subnets = vec!["subnet-a".into(), "subnet-b".into()];
        let none = Inventory {
            stack: "s",
            now_ms: 600_000,
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            no_capacity: None,
        };
        let first = plan(Action::Launch(2, 1), 600, &config, &none).unwrap();
        assert_eq!(first, plan(Action::Launch(2, 1), 600, &config, &Inventory { now_ms: 999_000, ..none }).unwrap());
        let Plan::Launch(launch) = first else { panic!("a launch") };
        assert_eq!((launch.size, launch.count, launch.launch_template.as_str()), (2, 1, "lt-L"));
        assert_eq!(launch.subnet.as_deref(), Some("subnet-a"));
        assert_eq!((launch.tags[TAG_STACK].as_str(), launch.tags[TAG_POOL].as_str()), ("s", "p"));
        assert_eq!(launch.tags[TAG_DECISION], "600");
        assert_eq!(launch.client_token.len(), 64);
        assert_eq!(launch.client_token, client_token("s", "p", 600));
        for other in [client_token("s", "p", 660), client_token("s", "q", 600), client_token("t", "p", 600)] {
            assert_ne!(launch.client_token, other);
        }
    }

    #[test]
    fn the_machine_that_loses_least_is_stopped() {
        let records = [record("i-old", 0, 10), record("i-idle", 0, 20), record("i-new", 0, 30), record("i-m", 1, 40)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let tasks = [running("a", "i-old", 1000), running("b", "i-new", 5000)];
        let stop = |tasks: &[TaskRecord], cloud: &[CloudInstance]| {
            let inventory = Inventory {
                stack: "s",
                now_ms: 9000,
                records: &records,
                cloud,
                tasks,
                earlier: &[],
                no_capacity: None,
            };
            plan(Action::Stop(0, 1), 60, &config(), &inventory)
        };
        let terminate =
            |id: &str| Ok(Plan::Terminate { instance_ids: vec![id.to_owned()], size: 0, drain_until_ms: None });
        assert_eq!(stop(&tasks, &cloud), terminate("i-idle"));
        let all_busy = [tasks[0].clone(), tasks[1].clone(), running("c", "i-idle", 2000)];
        assert_eq!(stop(&all_busy, &cloud), terminate("i-new"));
        assert_eq!(stop(&[], &cloud), terminate("i-new"));
    }

    #[test]
    fn a_stopped_machine_may_work_until_the_pools_time_to_drain_is_over() {
        let records = [record("i-1", 0, 10)];
        let cloud = [machine(&records[0])];
        let inventory = Inventory {
            stack: "s",
            now_ms: 9000,
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            no_capacity: None,
        };
        let config = PoolConfig { drain_s: Some(600), ..config() };
        let Ok(Plan::Terminate { drain_until_ms, .. }) = plan(Action::Stop(0, 1), 60, &config, &inventory) else {
            panic!("a stop")
        };
        assert_eq!(drain_until_ms, Some(609_000));
    }

    #[test]
    fn several_machines_are_the_ones_that_lose_least_or_all_there_are() {
        let records = [record("i-old", 0, 10), record("i-idle", 0, 20), record("i-new", 0, 30)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let tasks = [running("a", "i-old", 1000), running("b", "i-new", 5000)];
        let stop = |count: u16| {
            let inventory = Inventory {
                stack: "s",
                now_ms: 9000,
                records: &records,
                cloud: &cloud,
                tasks: &tasks,
                earlier: &[],
                no_capacity: None,
            };
            match plan(Action::Stop(0, count), 60, &config(), &inventory) {
                Ok(Plan::Terminate { instance_ids, .. }) => instance_ids,
                other => panic!("a stop: {other:?}"),
            }
        };
        assert_eq!(stop(2), ["i-idle", "i-new"]);
        assert_eq!(stop(4), ["i-idle", "i-new", "i-old"]);
        let none =
            Inventory { stack: "s", now_ms: 0, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
        let launch = plan(Action::Launch(1, 4), 60, &config(), &none);
        assert!(matches!(launch, Ok(Plan::Launch(LaunchPlan { count: 4, size: 1, .. }))));
    }

    #[test]
    fn a_machine_that_ec2_does_not_report_with_our_tags_is_never_chosen() {
        let records = [record("i-foreign", 0, 10)];
        let inventory = Inventory {
            stack: "s",
            now_ms: 9000,
            records: &records,
            cloud: &[],
            tasks: &[],
            earlier: &[],
            no_capacity: None,
        };
        assert_eq!(plan(Action::Stop(0, 1), 60, &config(), &inventory), Err(NoPlan::NoVictim));
        let dying = [CloudInstance { alive: false, ..machine(&records[0]) }];
        let inventory = Inventory { cloud: &dying, ..inventory };
        assert_eq!(plan(Action::Stop(0, 1), 60, &config(), &inventory), Err(NoPlan::NoVictim));
    }

    #[test]
    fn the_subnet_rotates_from_tick_to_tick() {
        let config = PoolConfig { subnets: vec!["a".into(), "b".into(), "c".into()], tick_s: 60, ..config() };
        let none =
            Inventory { stack: "s", now_ms: 0, records: &[], cloud: &[], tasks: &[], earlier: &[], no_capacity: None };
        let subnet = |tick: u64| match plan(Action::Launch(0, 1), tick, &config, &none) {
            Ok(Plan::Launch(launch)) => launch.subnet.unwrap(),
            other => panic!("a launch: {other:?}"),
        };
        assert_eq!([0, 60, 120, 180, 240].map(subnet), ["a", "b", "c", "a", "b"]);
    }

    #[test]
    fn what_would_be_lost_is_cores_times_time_and_a_task_just_begun_makes_a_machine_busy() {
        let records = [record("i-old", 0, 10), record("i-new", 0, 30)];
        let cloud: Vec<_> = records.iter().map(machine).collect();
        let stop = |tasks: &[TaskRecord]| {
            let inventory = Inventory {
                stack: "s",
                now_ms: 9000,
                records: &records,
                cloud: &cloud,
                tasks,
                earlier: &[],
                no_capacity: None,
            };
            match plan(Action::Stop(0, 1), 60, &config(), &inventory) {
                Ok(Plan::Terminate { instance_ids, .. }) => instance_ids[0].clone(),
                other => panic!("a stop: {other:?}"),
            }
        };
        assert_eq!(stop(&[running("a", "i-new", 9000)]), "i-old");
        assert_eq!(stop(&[running("a", "i-new", 1000), running("b", "i-old", 5000)]), "i-old");
        let wide = TaskRecord { cores: 4, ..running("a", "i-new", 8000) };
        assert_eq!(stop(&[wide, running("b", "i-old", 6000)]), "i-old");
        let done = TaskRecord { finished_ms: Some(8000), ..running("c", "i-new", 1000) };
        assert_eq!(stop(&[done, running("b", "i-old", 6000)]), "i-new");
        let two = [running("a", "i-new", 8000), running("b", "i-new", 8000), running("c", "i-old", 7500)];
        assert_eq!(stop(&two), "i-old");
    }

    #[test]
    fn a_machine_is_left_alone_if_its_record_has_ended_its_tag_differs_or_a_claim_stops_it() {
        let open = record("i-1", 0, 10);
        let stop = |record: &InstanceRecord, machine: &CloudInstance, earlier: &[&Decision]| {
            let (records, cloud) = (std::slice::from_ref(record), std::slice::from_ref(machine));
            let inventory =
                Inventory { stack: "s", now_ms: 9000, records, cloud, tasks: &[], earlier, no_capacity: None };
            plan(Action::Stop(0, 1), 60, &config(), &inventory)
        };
        assert!(stop(&open, &machine(&open), &[]).is_ok());
        let ended = InstanceRecord { terminated_ms: Some(20), ..open.clone() };
        assert_eq!(stop(&ended, &machine(&open), &[]), Err(NoPlan::NoVictim));
        let tagged = CloudInstance { size: Some(1), ..machine(&open) };
        assert_eq!(stop(&open, &tagged, &[]), Err(NoPlan::NoVictim));
        let other = CloudInstance { instance_id: "i-2".into(), ..machine(&open) };
        assert_eq!(stop(&open, &other, &[]), Err(NoPlan::NoVictim));
        let mut claim = crate::samples::claimed(0, Action::Stop(0, 1), 1);
        let plan = Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: None };
        claim.intent.as_mut().unwrap().plan = Some(plan);
        assert_eq!(stop(&open, &machine(&open), &[&claim]), Err(NoPlan::NoVictim));
    }
}
