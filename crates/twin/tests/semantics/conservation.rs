//! What no episode can break: tasks, work, waiting and money are neither made nor lost.

use std::sync::Arc;

use contract::Action;
use proptest::prelude::*;
use serde_json::Value;
use twin::scenario::Scenario;
use twin::sim::{Phase, Sim};

use crate::random;

/// With and without what EC2 adds.
fn any_scenario() -> impl Strategy<Value = Value> {
    prop_oneof![random::scenario(), random::real_scenario()]
}

/// Runs a scenario and calls `check` at the start and after each step, with the rewards so far.
fn watch(
    scenario: &Scenario,
    mut check: impl FnMut(&Sim, f64) -> Result<(), TestCaseError>,
) -> Result<Sim, TestCaseError> {
    let mut sim = Sim::new(Arc::new(scenario.config.clone()));
    sim.reset(Arc::new(scenario.workload.clone()), 0);
    let mut actions = scenario.actions.iter().copied();
    let mut reward = 0.0;
    check(&sim, reward)?;
    while sim.phase() == Phase::Going {
        reward += sim.step(actions.next().unwrap_or(Action::Nothing));
        check(&sim, reward)?;
    }
    Ok(sim)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn tasks_and_money_are_conserved(scenario in any_scenario()) {
        let scenario = Scenario::from_json(&scenario.to_string()).unwrap();
        let prices: Vec<f64> = scenario.config.types.iter().map(|t| t.usd_per_hour).collect();
        watch(&scenario, |sim, reward| {
            let (waiting, running) = (sim.queue_depth(), sim.running_tasks());
            prop_assert_eq!(sim.submitted(), sim.tally().completed + waiting + running);
            let vm: f64 = prices.iter().enumerate().map(|(i, usd)| sim.vm_ms(i) as f64 * usd).sum();
            let queue = sim.queue_ms() as f64 * scenario.config.queue_usd_per_task_hour;
            prop_assert!((reward + (vm + queue) / 3_600_000.0).abs() < 1e-9);
            let types = scenario.config.types.iter().enumerate();
            let billed_core_ms: u64 = types.map(|(i, t)| sim.vm_ms(i) * u64::from(t.cores)).sum();
            prop_assert!(sim.busy_core_ms() <= billed_core_ms, "work is done on machines that are paid for");
            Ok(())
        })?;
    }

    #[test]
    fn work_and_waits_are_conserved(scenario in any_scenario()) {
        let mut scenario = Scenario::from_json(&scenario.to_string()).unwrap();
        scenario.config.charge_lost_run = true;
        let sim = watch(&scenario, |_, _| Ok(()))?;
        if sim.phase() == Phase::Finished {
            prop_assert_eq!(sim.busy_core_ms(), scenario.workload.core_ms() + sim.tally().lost_core_ms);
            prop_assert_eq!(sim.waits_ms().iter().sum::<u64>(), sim.queue_ms());
            prop_assert_eq!(sim.waits_ms().len(), scenario.workload.jobs().len());
        }
    }

    #[test]
    fn an_engine_that_is_used_again_gives_what_a_new_one_gives(scenario in any_scenario(), stop_after in 0usize..40) {
        let scenario = Scenario::from_json(&scenario.to_string()).unwrap();
        let new = watch(&scenario, |_, _| Ok(()))?;
        let mut used = Sim::new(Arc::new(scenario.config.clone()));
        for steps in [stop_after, usize::MAX] {
            used.reset(Arc::new(scenario.workload.clone()), 0);
            for k in 0..steps {
                if used.phase() != Phase::Going {
                    break;
                }
                used.step(scenario.actions.get(k).copied().unwrap_or(Action::Nothing));
            }
        }
        prop_assert_eq!((used.tally(), used.queue_ms(), used.now_ms()), (new.tally(), new.queue_ms(), new.now_ms()));
        prop_assert_eq!((used.waits_ms(), used.busy_core_ms()), (new.waits_ms(), new.busy_core_ms()));
    }
}
