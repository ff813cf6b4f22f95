//! Whether so many machines are unhealthy that nothing may be launched or stopped until somebody has looked.
//!
//! Many unhealthy machines at once have one cause: an image that does not start its worker, a zone that is lost, records
//! that cannot be written. More launches would only make more of them, and a stop could take one of the few that work.

use std::fmt;

use contract::limits::{BOOT_DEADLINE_S, BOOT_TIMES_MAX, LATE_TICKS, UNHEALTHY_MACHINES_MIN, UNHEALTHY_SHARE_MAX};
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::earlier::{UNSEEN_S_MAX, may_be_unseen, stopped};
use crate::plan::Inventory;
use crate::ports::CloudInstance;

/// How many machines are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Machines that are recorded as alive and were not stopped by us.
    pub machines: u32,
    /// Of those, the ones that did not take tasks by their deadline.
    pub never_ready: u32,
    /// Of those, the ones that EC2 does not report as alive.
    pub missing: u32,
}

impl Health {
    /// Machines that are not well.
    pub fn unhealthy(&self) -> u32 {
        self.never_ready + self.missing
    }

    /// Whether nothing may be done. A few machines are no share of anything: one bad machine in a fleet of one must not
    /// keep it from being replaced.
    pub fn must_hold(&self) -> bool {
        let too_many = f64::from(self.unhealthy()) > f64::from(self.machines) * UNHEALTHY_SHARE_MAX;
        self.unhealthy() >= UNHEALTHY_MACHINES_MIN && too_many
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machines, never_ready, missing } = self;
        write!(f, "of {machines} machines {never_ready} never took tasks and {missing} are gone from EC2")
    }
}

/// The health of the pool's machines.
pub fn health(config: &PoolConfig, inventory: &Inventory<'_>) -> Health {
    let ours = stopped(config, inventory);
    let mut health = Health::default();
    for record in inventory.records.iter().filter(|r| !ours.contains(r.instance_id.as_str())) {
        health.machines += 1;
        if is_missing(record, inventory.cloud, config, inventory.now_ms) {
            health.missing += 1;
        } else if is_overdue(record, config, inventory.now_ms) {
            health.never_ready += 1;
        }
    }
    health
}

/// Whether a machine should have begun to take tasks by now. It may have been launched late.
pub(crate) fn is_overdue(record: &InstanceRecord, config: &PoolConfig, now_ms: u64) -> bool {
    let boot_s = BOOT_DEADLINE_S.max((config.boot_s * BOOT_TIMES_MAX) as u64);
    let deadline_s = boot_s.saturating_add(LATE_TICKS * config.tick_s);
    record.ready_ms.is_none() && now_ms > record.launched_ms.saturating_add(deadline_s.saturating_mul(1000))
}

/// Whether a machine that is recorded as alive is gone from EC2. One that was in service has been visible; a booting one
/// may have been launched late, and not be visible yet.
pub fn is_missing(record: &InstanceRecord, cloud: &[CloudInstance], config: &PoolConfig, now_ms: u64) -> bool {
    let in_cloud = cloud.iter().any(|m| m.alive && m.instance_id == record.instance_id);
    let too_new = match record.ready_ms {
        Some(_) => now_ms < record.launched_ms + UNSEEN_S_MAX * 1000,
        None => may_be_unseen(record.launched_ms / 1000, config, now_ms),
    };
    !in_cloud && !too_new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{claimed, config, machine, record};
    use contract::Action;
    use contract::decision::Decision;
    use contract::plan::Plan;
    use proptest::prelude::*;

    const NOW: u64 = 10_000_000;

    /// Three machines that are well, three that never took tasks, and three that are gone, as far as these counts go.
    fn of(well: u32, never_ready: u32, missing: u32) -> Health {
        let old = |kind: &str, i: u32| record(&format!("i-{kind}-{i}"), 0, 1);
        let booting = |r: InstanceRecord| InstanceRecord { ready_ms: None, ..r };
        let mut records: Vec<InstanceRecord> = (0..well).map(|i| old("well", i)).collect();
        records.extend((0..never_ready).map(|i| booting(old("slow", i))));
        let cloud: Vec<CloudInstance> = records.iter().map(machine).collect();
        records.extend((0..missing).map(|i| old("gone", i)));
        health(
            &config(),
            &Inventory {
                stack: "s",
                now_ms: NOW,
                records: &records,
                cloud: &cloud,
                tasks: &[],
                earlier: &[],
                no_capacity: None,
            },
        )
    }

    #[test]
    fn both_kinds_are_counted() {
        assert_eq!(of(4, 2, 1), Health { machines: 7, never_ready: 2, missing: 1 });
        assert_eq!(of(0, 0, 0), Health::default());
        assert_eq!(of(4, 2, 1).to_string(), "of 7 machines 2 never took tasks and 1 are gone from EC2");
    }

    #[test]
    fn more_than_half_and_three_at_least_make_a_hold() {
        for (well, never_ready, missing, held) in [
            (0, 0, 0, false),
            (0, 1, 0, false),
            (0, 2, 0, false),
            (0, 3, 0, true),
            (0, 0, 3, true),
            (2, 2, 1, true),
            (3, 2, 1, false),
            (30, 15, 14, false),
            (30, 15, 16, true),
        ] {
            assert_eq!(of(well, never_ready, missing).must_hold(), held, "{well} {never_ready} {missing}");
        }
    }

    /// Whether a machine launched so many seconds ago counts as never ready.
    fn overdue(age_s: u64, boot_s: f64, tick_s: u64) -> bool {
        let booting = InstanceRecord { ready_ms: None, ..record("i-1", 0, NOW - age_s * 1000) };
        let config = PoolConfig { boot_s, tick_s, ..config() };
        let (records, cloud) = ([booting], [machine(&record("i-1", 0, 1))]);
        let inventory = Inventory {
            stack: "s",
            now_ms: NOW,
            records: &records,
            cloud: &cloud,
            tasks: &[],
            earlier: &[],
            no_capacity: None,
        };
        health(&config, &inventory).never_ready == 1
    }

    #[test]
    fn a_machine_has_until_its_deadline_to_boot() {
        // Five ticks to be launched in, and ten minutes to boot.
        assert!(!overdue(300 + 600, 71.0, 60) && overdue(300 + 601, 71.0, 60));
        // A pool whose machines take long: five times their usual time.
        assert!(!overdue(300 + 2000, 400.0, 60) && overdue(300 + 2001, 400.0, 60));
        assert!(!overdue(1500 + 600, 71.0, 300) && overdue(1500 + 601, 71.0, 300));
    }

    #[test]
    fn a_machine_that_we_stopped_is_not_unhealthy() {
        let records: Vec<InstanceRecord> = (0..3).map(|i| record(&format!("i-{i}"), 0, 1)).collect();
        let stop = |i: u64| {
            let mut decision: Decision = claimed(NOW / 1000 - 60 * i, Action::Stop(0, 1), i + 1);
            let plan = Plan::Terminate { instance_ids: vec![format!("i-{i}")], size: 0, drain_until_ms: None };
            decision.intent.as_mut().unwrap().plan = Some(plan);
            decision
        };
        let stops: Vec<Decision> = (0..3).map(stop).collect();
        let earlier: Vec<&Decision> = stops.iter().collect();
        let with = |earlier: &[&Decision]| {
            health(
                &config(),
                &Inventory {
                    stack: "s",
                    now_ms: NOW,
                    records: &records,
                    cloud: &[],
                    tasks: &[],
                    earlier,
                    no_capacity: None,
                },
            )
        };
        assert_eq!(with(&earlier), Health::default());
        assert!(with(&[]).must_hold());
    }

    proptest! {
        #[test]
        fn one_more_unhealthy_machine_never_lifts_a_hold(well in 0u32..40, never_ready in 0u32..40, missing in 0u32..40) {
            let machines = well + never_ready + missing;
            let now = Health { machines, never_ready, missing };
            let worse = Health { machines: machines + 1, missing: missing + 1, ..now };
            let better = Health { machines: machines + 1, ..now };
            prop_assert!(!now.must_hold() || worse.must_hold());
            prop_assert!(now.must_hold() || !better.must_hold());
        }
    }
}
