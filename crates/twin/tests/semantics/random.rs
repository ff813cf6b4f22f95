//! Random scenarios with all options, which both implementations must agree on, integer by integer.

use proptest::prelude::*;
use serde_json::{Value, json};
use twin::outcome::{SimResult, simulate};
use twin::scenario::Scenario;

use crate::reference::{self, Expected};

/// Times that often coincide with others, and some that rarely do; seconds.
fn time_s(max_s: u32) -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (0..=max_s / 30).prop_map(|k| f64::from(k * 30)),
        2 => (0..=max_s / 10).prop_map(|k| f64::from(k * 10)),
        1 => (0..=max_s * 10_000).prop_map(|k| f64::from(k) / 10_000.0),
    ]
}

fn machine_type(index: usize) -> impl Strategy<Value = Value> {
    let cores = prop::sample::select(vec![1u32, 2, 3, 4, 8]);
    let memory_mb = prop_oneof![Just(None), (4u64..40).prop_map(|gb| Some(gb * 10))];
    let max_above = prop_oneof![Just(None), (0u32..4).prop_map(Some)];
    (cores, memory_mb, 0u32..4, 0u32..3, max_above, 0u32..50).prop_map(
        move |(cores, mb, initial, min, above, price)| {
            json!({"name": format!("T{index}"), "cores": cores, "memory_mb": mb, "initial": initial, "min": min,
            "max": above.map(|above| min + above), "usd_per_hour": f64::from(price) / 10.0})
        },
    )
}

fn types() -> impl Strategy<Value = Vec<Value>> {
    (1usize..5).prop_flat_map(|n| (0..n).map(machine_type).collect::<Vec<_>>())
}

/// Jobs that fit on some type. Ids are a permutation, so that they and the order of the list disagree.
fn jobs(types: Vec<Value>) -> impl Strategy<Value = Vec<Value>> {
    // often the same cores and run time, so that neighbours differ in one thing alone
    let cores = prop_oneof![Just(1u64), 1u64..9];
    let memory = prop_oneof![Just(0u64), Just(30), 1u64..60];
    let runtime_s = prop_oneof![Just(60.0), time_s(300)];
    let one = (0..types.len(), cores, memory, time_s(900), runtime_s);
    let alike = prop::collection::vec((one, 1usize..6), 0..16);
    (alike, any::<u64>()).prop_map(move |(groups, salt)| {
        let mut jobs = Vec::new();
        for ((kind, cores, memory, submit_s, runtime_s), copies) in groups {
            let kind = &types[kind];
            let cores = cores.min(kind["cores"].as_u64().unwrap());
            let memory = memory.min(kind["memory_mb"].as_u64().unwrap_or(60));
            for _ in 0..copies {
                jobs.push(json!({"submit_s": submit_s, "runtime_s": runtime_s, "cores": cores, "memory_mb": memory}));
            }
        }
        let n = jobs.len() as u64;
        for (i, job) in jobs.iter_mut().enumerate() {
            // odd factors are invertible modulo a power of two, so that the ids differ
            job["id"] = json!((i as u64).wrapping_mul(2 * (salt % 512) + 1) % n.next_power_of_two().max(1));
        }
        jobs
    })
}

fn boot() -> impl Strategy<Value = Value> {
    prop_oneof![
        time_s(200).prop_map(|s| json!({"kind": "fixed", "seconds": s})),
        Just(json!({"kind": "fixed", "seconds": 0})),
        prop::collection::vec(time_s(200), 1..4).prop_map(|list| json!({"kind": "list", "seconds": list})),
    ]
}

/// Seconds of an option that is off half of the time.
fn option_s(max_s: u32) -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), time_s(max_s)]
}

pub fn scenario() -> impl Strategy<Value = Value> {
    let flags = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(any::<bool>(), 0..4),
        prop::sample::select(vec![1, 1, 2, 4]),
    );
    let times = (prop::sample::select(vec![60.0, 30.0, 45.5]), boot(), option_s(400), option_s(200));
    let rest = (types(), 0u64..80, prop::collection::vec(0u32..1000, 0..60));
    (flags, times, rest).prop_flat_map(|(flags, times, (types, max_steps, draws))| {
        jobs(types.clone()).prop_map(move |jobs| {
            let (charge_lost_run, bill_boot, failures, most) = flags.clone();
            let (step_s, boot, min_billed_s, cooldown_s) = times.clone();
            let actions: Vec<u32> =
                draws.iter().map(|d| 1000 * (d / 100 % most) + d % (1 + 2 * types.len() as u32)).collect();
            json!({"jobs": jobs, "actions": actions, "config": {"vm_types": types, "step_s": step_s, "boot": boot,
                "max_steps": max_steps, "queue_usd_per_task_hour": 0.5, "charge_lost_run": charge_lost_run,
                "bill_boot": bill_boot, "min_billed_s": min_billed_s, "cooldown_s": cooldown_s,
                "launch_failures": failures, "machines_per_action_max": most}})
        })
    })
}

/// Interruptions in an hour of which every life is a millisecond long, the shortest: a draw that can be foretold.
pub const AT_ONCE_PER_HOUR: f64 = 1e12;

/// A scenario with drain, stop delays and spot machines besides. `rate` and `high_above_s` say how random they are.
fn real(rate: f64, high_above_s: f64) -> impl Strategy<Value = Value> {
    let spot = prop::collection::vec(prop::bool::weighted(0.3), 4);
    let drain = (prop::bool::weighted(0.8), prop::option::weighted(0.6, 1u32..200));
    (scenario(), drain, option_s(200), spot).prop_map(move |(mut scenario, (drain, drain_max_s), low_s, spot)| {
        let config = &mut scenario["config"];
        config["drain"] = json!(drain);
        config["drain_max_s"] = json!(drain_max_s.filter(|_| drain));
        config["stop_delay_s"] = json!({"low": low_s, "high": low_s + high_above_s});
        for (kind, is_spot) in config["vm_types"].as_array_mut().expect("a list").iter_mut().zip(spot) {
            kind["spot_interruptions_per_hour"] = json!(if is_spot { rate } else { 0.0 });
        }
        scenario
    })
}

/// A fleet with everything that EC2 adds, its delays and lives drawn at random or as short as can be.
pub fn real_scenario() -> impl Strategy<Value = Value> {
    prop_oneof![real(12.0, 90.0), real(AT_ONCE_PER_HOUR, 90.0)]
}

/// The same with nothing left to chance, so that another implementation can follow.
fn foretold_scenario() -> impl Strategy<Value = Value> {
    real(AT_ONCE_PER_HOUR, 0.0)
}

fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

fn compare(result: &SimResult, expected: &Expected) -> Result<(), TestCaseError> {
    prop_assert_eq!(&result.vm_ms, &expected.vm_ms);
    prop_assert_eq!(result.queue_ms, expected.queue_ms);
    prop_assert_eq!(result.busy_core_hours, hours(expected.busy_core_ms));
    prop_assert_eq!(result.work_lost_hours, hours(expected.lost_core_ms));
    prop_assert_eq!(result.submitted as usize, expected.submitted);
    prop_assert_eq!(result.completed as usize, expected.completed);
    prop_assert_eq!(result.interrupted, expected.interrupted);
    prop_assert_eq!(result.rejected_actions, expected.rejected_actions);
    prop_assert_eq!(result.failed_launches, expected.failed_launches);
    prop_assert_eq!(result.launches, expected.launches);
    prop_assert_eq!(result.reclaimed, expected.reclaimed);
    prop_assert_eq!(result.makespan_s, expected.makespan_ms.map(|ms| ms as f64 / 1000.0));
    prop_assert_eq!(result.truncated, expected.makespan_ms.is_none());
    prop_assert_eq!(result.steps, expected.steps);
    prop_assert_eq!(result.rewards.len(), expected.rewards.len());
    for (a, b) in result.rewards.iter().zip(&expected.rewards) {
        prop_assert!(close(*a, *b), "rewards {a} and {b}");
    }
    compare_observations(result, expected)
}

fn compare_observations(result: &SimResult, expected: &Expected) -> Result<(), TestCaseError> {
    prop_assert_eq!(result.observations.len(), expected.observations.len());
    for (a, b) in result.observations.iter().zip(&expected.observations) {
        let counts = |map: &std::collections::BTreeMap<String, u32>| -> Vec<usize> {
            map.values().map(|n| *n as usize).collect()
        };
        prop_assert_eq!(a.t_s, b.t_ms as f64 / 1000.0);
        prop_assert_eq!((a.queue as usize, a.running as usize), (b.queue, b.running));
        prop_assert_eq!((a.submitted as usize, a.completed as usize), (b.submitted, b.completed));
        prop_assert_eq!((counts(&a.ready), counts(&a.booting)), (b.ready.clone(), b.booting.clone()));
        prop_assert_eq!(a.busy_cores, b.busy_cores);
        prop_assert_eq!((a.ready_cores, a.billed_cores), (b.ready_cores, b.billed_cores));
        prop_assert!(close(a.avg_util, b.avg_util) && close(a.p90_util, b.p90_util), "{a:?} and {b:?}");
        prop_assert!(close(a.wait_ratio_global, b.wait_ratio_global), "{a:?} and {b:?}");
        prop_assert!(close(a.wait_ratio_recent, b.wait_ratio_recent), "{a:?} and {b:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn both_implementations_agree(scenario in scenario()) {
        let parsed = Scenario::from_json(&scenario.to_string()).expect("the generator makes valid scenarios");
        compare(&simulate(&parsed), &reference::run(&scenario))?;
    }

    #[test]
    fn both_implementations_agree_on_real_fleets(scenario in foretold_scenario()) {
        let parsed = Scenario::from_json(&scenario.to_string()).expect("the generator makes valid scenarios");
        compare(&simulate(&parsed), &reference::run(&scenario))?;
    }
}
