//! Where a machine of a size may come from: the template's own type or one as large, in each of the pool's subnets; and
//! the memory of those that had no capacity.

use contract::action::SIZE_COUNT;
use contract::plan::LaunchPlan;
use contract::pool::PoolConfig;
use contract::record::{BackOff, NoCapacity};

/// EC2's codes for quotas of the whole region: another subnet has the same, and so, most likely, has another type.
const OF_THE_REGION: [&str; 3] = ["VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"];
/// EC2's code for a subnet without a free address: no type helps.
const OF_THE_SUBNET: &str = "InsufficientFreeAddressesInSubnet";

/// One way to get a machine of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offering<'a> {
    /// Index of the size.
    pub size: usize,
    /// The instance type; none for the launch template's own.
    pub instance_type: Option<&'a str>,
    /// The subnet; none for the launch template's own.
    pub subnet: Option<&'a str>,
}

impl<'a> Offering<'a> {
    /// The offering that a plan uses.
    pub fn of(plan: &'a LaunchPlan) -> Self {
        let LaunchPlan { size, instance_type, subnet, .. } = plan;
        Self { size: *size, instance_type: instance_type.as_deref(), subnet: subnet.as_deref() }
    }

    /// Its name in [`NoCapacity`].
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.size, self.instance_type.unwrap_or_default(), self.subnet.unwrap_or_default())
    }

    fn is_free(&self, memory: &NoCapacity, now_ms: u64) -> bool {
        memory.offerings.get(&self.key()).is_none_or(|back_off| back_off.until_ms <= now_ms)
    }
}

/// All offerings of a size, best first: all subnets with the template's own type, then with each alternate. The subnets
/// rotate with the tick, so that one dead zone does not stop the fleet.
pub fn offerings(size: usize, tick: u64, config: &PoolConfig) -> Vec<Offering<'_>> {
    let alternates = config.sizes[size].alternates.iter().map(|alternate| Some(alternate.instance_type.as_str()));
    let first = (tick / config.tick_s) as usize % config.subnets.len().max(1);
    let (before, after) = config.subnets.split_at(first.min(config.subnets.len()));
    let subnets: Vec<Option<&str>> = match config.subnets.is_empty() {
        true => vec![None],
        false => after.iter().chain(before).map(|subnet| Some(subnet.as_str())).collect(),
    };
    let of_type = |instance_type| subnets.iter().map(move |subnet| Offering { size, instance_type, subnet: *subnet });
    std::iter::once(None).chain(alternates).flat_map(of_type).collect()
}

/// The best offering that is not left alone for lack of capacity; the best of all, if all are.
pub fn choose<'a>(size: usize, tick: u64, config: &'a PoolConfig, memory: &NoCapacity, now_ms: u64) -> Offering<'a> {
    let all = offerings(size, tick, config);
    *all.iter().find(|offering| offering.is_free(memory, now_ms)).unwrap_or(&all[0])
}

/// Sizes of which every offering is left alone: what the policy sees, and what masks their launches.
pub fn without_capacity(config: &PoolConfig, memory: &NoCapacity, now_ms: u64) -> [bool; SIZE_COUNT] {
    std::array::from_fn(|size| offerings(size, 0, config).iter().all(|offering| !offering.is_free(memory, now_ms)))
}

/// The memory after a launch that failed for lack of capacity with this code of EC2's.
pub fn failed(memory: &NoCapacity, plan: &LaunchPlan, code: &str, config: &PoolConfig, now_ms: u64) -> NoCapacity {
    let tried = Offering::of(plan);
    let alike = |offering: &Offering<'_>| {
        *offering == tried
            || OF_THE_REGION.contains(&code)
            || (code == OF_THE_SUBNET && offering.subnet == tried.subnet)
    };
    let mut memory = memory.clone();
    for offering in offerings(plan.size, 0, config).iter().filter(|offering| alike(offering)) {
        let back_off = memory.offerings.entry(offering.key()).or_default();
        *back_off = back_off.failed(now_ms);
    }
    memory
}

/// The memory after a launch that worked; none if it has nothing to forget.
pub fn worked(memory: &NoCapacity, plan: &LaunchPlan) -> Option<NoCapacity> {
    let key = Offering::of(plan).key();
    memory.offerings.get(&key).filter(|back_off| **back_off != BackOff::default())?;
    let mut memory = memory.clone();
    memory.offerings.remove(&key);
    Some(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Inventory, plan};
    use crate::samples::config;
    use contract::Action;
    use contract::plan::Plan;
    use contract::pool::Alternate;

    const NOW: u64 = 6_000_000;

    fn pool() -> PoolConfig {
        let mut config = config();
        config.subnets = vec!["a".into(), "b".into()];
        let alternate = Alternate { instance_type: "m6a.large".into(), usd_per_hour: 0.3 };
        config.sizes[0].alternates = vec![alternate];
        config
    }

    fn launch(memory: &NoCapacity, tick: u64) -> LaunchPlan {
        let none = Inventory {
            stack: "s",
            now_ms: NOW,
            records: &[],
            cloud: &[],
            tasks: &[],
            earlier: &[],
            no_capacity: Some(memory),
        };
        match plan(Action::Launch(0, 1), tick, &pool(), &none) {
            Ok(Plan::Launch(launch)) => launch,
            other => panic!("a launch: {other:?}"),
        }
    }

    fn place(plan: &LaunchPlan) -> (Option<&str>, Option<&str>) {
        (plan.instance_type.as_deref(), plan.subnet.as_deref())
    }

    #[test]
    fn the_other_subnets_come_first_and_then_the_other_types() {
        let (mut memory, mut seen) = (NoCapacity::default(), Vec::new());
        for _ in 0..5 {
            let plan = launch(&memory, 6000);
            seen.push((plan.instance_type.clone(), plan.subnet.clone()));
            memory = failed(&memory, &plan, "InsufficientInstanceCapacity", &pool(), NOW);
        }
        let seen: Vec<_> = seen.iter().map(|(t, s)| (t.as_deref(), s.as_deref().unwrap())).collect();
        let large = Some("m6a.large");
        assert_eq!(seen, [(None, "a"), (None, "b"), (large, "a"), (large, "b"), (None, "a")], "then the best again");
        assert_eq!(without_capacity(&pool(), &memory, NOW), [true, false, false]);
        // the first one was tried twice, and is left alone for twice as long
        assert_eq!(without_capacity(&pool(), &memory, NOW + 180_000), [false; 3]);
        assert_eq!(place(&launch(&memory, 6000)), (None, Some("a")), "nothing is free at {NOW}");
    }

    #[test]
    fn the_subnets_take_turns_among_those_that_have_capacity() {
        let memory = NoCapacity::default();
        assert_eq!([6000, 6060, 6120].map(|tick| launch(&memory, tick).subnet.unwrap()), ["a", "b", "a"]);
        let memory = failed(&memory, &launch(&memory, 6000), "InsufficientInstanceCapacity", &pool(), NOW);
        assert_eq!([6000, 6060, 6120].map(|tick| launch(&memory, tick).subnet.unwrap()), ["b", "b", "b"]);
    }

    #[test]
    fn a_quota_is_of_all_offerings_and_addresses_are_of_the_subnet() {
        let plan = launch(&NoCapacity::default(), 6000);
        let after = |code: &str| failed(&NoCapacity::default(), &plan, code, &pool(), NOW);
        assert_eq!(without_capacity(&pool(), &after("VcpuLimitExceeded"), NOW), [true, false, false]);
        let keys = |memory: NoCapacity| memory.offerings.into_keys().collect::<Vec<_>>();
        assert_eq!(keys(after("InsufficientFreeAddressesInSubnet")), ["0//a", "0/m6a.large/a"]);
        assert_eq!(keys(after("InsufficientInstanceCapacity")), ["0//a"]);
    }

    #[test]
    fn a_launch_that_worked_is_forgotten_and_one_without_memory_changes_nothing() {
        let plan = launch(&NoCapacity::default(), 6000);
        let memory = failed(&NoCapacity::default(), &plan, "InsufficientInstanceCapacity", &pool(), NOW);
        assert_eq!(worked(&memory, &plan), Some(NoCapacity::default()));
        assert_eq!(worked(&NoCapacity::default(), &plan), None);
    }
}
