//! Scenarios worked by hand from the rules; each names the rule that it shows.

use serde_json::{Value, json};
use twin::outcome::{SimResult, simulate};
use twin::scenario::Scenario;

/// The machine type of the hand-worked table: $0.001 a second, and so is a waiting task.
pub fn a() -> Value {
    json!({"name": "A", "cores": 1, "usd_per_hour": 3.6, "initial": 1, "min": 0})
}

/// Type A with other fields.
pub fn a_with(changes: Value) -> Value {
    merged(a(), changes)
}

pub fn merged(mut base: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        base[key] = value.clone();
    }
    base
}

pub fn config(changes: Value) -> Value {
    let boot = json!({"kind": "fixed", "seconds": 30});
    merged(json!({"vm_types": [a()], "boot": boot, "queue_usd_per_task_hour": 3.6}), changes)
}

pub fn run(config: Value, jobs: &[(f64, f64)], actions: &[u16]) -> SimResult {
    let jobs: Vec<Value> = jobs.iter().map(|(submit, run)| json!({"submit_s": submit, "runtime_s": run})).collect();
    run_jobs(config, json!(jobs), actions)
}

pub fn run_jobs(config: Value, jobs: Value, actions: &[u16]) -> SimResult {
    let scenario = json!({"config": config, "jobs": jobs, "actions": actions});
    simulate(&Scenario::from_json(&scenario.to_string()).expect("a valid scenario"))
}

fn plain(jobs: &[(f64, f64)], actions: &[u16]) -> SimResult {
    run(config(json!({})), jobs, actions)
}

/// Makespan in seconds, waiting and machine time in milliseconds.
pub fn totals(r: &SimResult) -> (Option<f64>, u64, u64) {
    (r.makespan_s, r.queue_ms, r.vm_ms.values().sum())
}

pub fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

const TWO: [(f64, f64); 2] = [(0.0, 100.0), (0.0, 100.0)];

mod table {
    use super::*;

    #[test]
    fn one_machine_works_off_two_tasks() {
        let r = plain(&TWO, &[]);
        assert_eq!((totals(&r), r.steps), ((Some(200.0), 100_000, 200_000), 4));
        assert!(near(r.cost.vm, 0.2) && near(r.cost.queue, 0.1) && near(r.cost.total, 0.3));
    }

    #[test]
    fn a_launch_takes_the_second() {
        assert_eq!(totals(&plain(&TWO, &[1])), (Some(130.0), 30_000, 260_000));
    }

    #[test]
    fn a_stop_loses_the_run() {
        let r = plain(&[(0.0, 100.0)], &[0, 2, 1]);
        assert_eq!(totals(&r), (Some(250.0), 90_000, 190_000));
        assert_eq!((r.interrupted, r.work_lost_hours), (1, 60.0 / 3600.0));
    }

    #[test]
    fn an_idle_machine_stops_without_loss() {
        let r = plain(&[(0.0, 60.0), (600.0, 60.0)], &[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((r.interrupted, r.makespan_s, r.queue_ms), (0, Some(660.0), 0));
    }

    #[test]
    fn an_interrupted_task_goes_before_a_later_one() {
        assert_eq!(plain(&[(0.0, 100.0), (50.0, 100.0)], &[0, 2, 1]).makespan_s, Some(350.0));
    }

    #[test]
    fn boots_come_from_the_list() {
        let boot = json!({"kind": "list", "seconds": [10, 50]});
        let r = run(config(json!({"boot": boot})), &[(0.0, 300.0); 3], &[1, 1]);
        assert_eq!((r.makespan_s, r.queue_ms), (Some(410.0), 120_000));
    }
}

mod time {
    use super::*;

    #[test]
    fn t1_half_a_millisecond_rounds_up_and_a_run_takes_at_least_one() {
        assert_eq!(totals(&plain(&[(0.0005, 0.0004)], &[])), (Some(0.002), 0, 2));
    }

    #[test]
    fn t2_a_completion_comes_before_an_arrival_of_the_same_instant() {
        assert_eq!(totals(&plain(&[(0.0, 100.0), (100.0, 50.0)], &[])), (Some(150.0), 0, 150_000));
    }

    #[test]
    fn t2_a_boot_ends_before_an_arrival_of_the_same_instant() {
        assert_eq!(totals(&plain(&[(0.0, 100.0), (30.0, 50.0)], &[1])), (Some(100.0), 0, 200_000));
    }

    #[test]
    fn t4_an_event_at_the_end_of_a_step_belongs_to_it() {
        let r = plain(&[(0.0, 60.0), (60.0, 60.0)], &[]);
        assert_eq!((r.steps, r.observations[1].completed, r.observations[1].running), (2, 1, 1));
    }

    #[test]
    fn t5_billing_stops_at_the_last_completion_in_the_middle_of_a_step() {
        let r = plain(&[(0.0, 61.0)], &[]);
        assert_eq!((r.steps, r.observations[2].t_s, totals(&r)), (2, 61.0, (Some(61.0), 0, 61_000)));
        assert!(near(r.rewards[0], -0.06) && near(r.rewards[1], -0.001), "{:?}", r.rewards);
    }

    #[test]
    fn t5_without_jobs_the_episode_is_over_at_once() {
        let r = plain(&[], &[1, 1]);
        assert_eq!((totals(&r), r.steps, r.observations.len()), ((Some(0.0), 0, 0), 0, 1));
        assert!(!r.truncated && r.rewards.is_empty());
    }

    #[test]
    fn t6_an_episode_is_cut_off_at_the_horizon() {
        let r = run(config(json!({"max_steps": 2})), &[(0.0, 1000.0), (0.0, 10.0)], &[]);
        assert_eq!((totals(&r), r.steps, r.truncated), ((None, 120_000, 120_000), 2, true));
        assert_eq!((r.submitted, r.completed, r.busy_core_hours), (2, 0, 120.0 / 3600.0));
    }

    #[test]
    fn t6_a_completion_at_the_horizon_still_counts() {
        let r = run(config(json!({"max_steps": 2})), &[(0.0, 120.0)], &[]);
        assert_eq!((totals(&r), r.truncated), ((Some(120.0), 0, 120_000), false));
    }
}

mod scheduling {
    use super::*;

    #[test]
    fn s1_nothing_overtakes_a_task_that_does_not_fit() {
        let jobs = json!([{"submit_s": 0, "runtime_s": 100}, {"submit_s": 0, "runtime_s": 100, "cores": 2},
            {"submit_s": 0, "runtime_s": 50}]);
        let r = run_jobs(config(json!({"vm_types": [a_with(json!({"cores": 2}))]})), jobs, &[]);
        assert_eq!(totals(&r), (Some(250.0), 300_000, 250_000));
    }

    #[test]
    fn s1_memory_limits_as_cores_do() {
        let jobs = json!([{"submit_s": 0, "runtime_s": 100, "memory_mb": 60},
            {"submit_s": 0, "runtime_s": 100, "memory_mb": 60}]);
        let limited = a_with(json!({"cores": 4, "memory_mb": 100}));
        assert_eq!(totals(&run_jobs(config(json!({"vm_types": [limited]})), jobs.clone(), &[])).0, Some(200.0));
        let unlimited = a_with(json!({"cores": 4}));
        assert_eq!(totals(&run_jobs(config(json!({"vm_types": [unlimited]})), jobs, &[])).0, Some(100.0));
    }

    #[test]
    fn s1_the_lowest_machine_with_room_is_taken_and_ties_go_by_id() {
        let types = json!([a(), a_with(json!({"name": "B", "cores": 4}))]);
        let jobs = json!([{"id": 5, "submit_s": 0, "runtime_s": 100},
            {"id": 4, "submit_s": 0, "runtime_s": 100, "cores": 2}]);
        let first = &run_jobs(config(json!({"vm_types": types})), jobs, &[]).observations[0];
        // the wide task comes first, goes to B; the narrow one to A: shares 1 and 1/2
        assert_eq!((first.busy_cores, first.avg_util, first.p90_util), (3, 0.75, 1.0));
    }
}

mod machines {
    use super::*;

    #[test]
    fn v1_a_launch_above_the_maximum_is_refused() {
        let r = run(config(json!({"vm_types": [a_with(json!({"max": 1}))]})), &TWO, &[1]);
        assert_eq!((totals(&r).0, r.rejected_actions, r.launches), (Some(200.0), 1, 0));
    }

    #[test]
    fn v1_without_a_boot_the_machine_is_there_for_the_dispatch_pass() {
        let r = run(config(json!({"boot": {"kind": "fixed", "seconds": 0}})), &TWO, &[1]);
        assert_eq!((totals(&r), r.steps), ((Some(100.0), 0, 200_000), 2));
    }

    #[test]
    fn v2_a_stop_below_the_minimum_is_refused() {
        let r = run(config(json!({"vm_types": [a_with(json!({"min": 1}))]})), &[(0.0, 100.0)], &[2]);
        assert_eq!((totals(&r).0, r.rejected_actions, r.interrupted), (Some(100.0), 1, 0));
    }

    #[test]
    fn v2_the_machine_that_loses_least_work_goes() {
        let two = a_with(json!({"initial": 2}));
        let r = run(config(json!({"vm_types": [two]})), &[(0.0, 100.0), (30.0, 100.0)], &[0, 2]);
        assert_eq!((totals(&r), r.work_lost_hours), ((Some(200.0), 40_000, 260_000), 30.0 / 3600.0));
    }

    #[test]
    fn v2_of_equal_losses_the_one_with_fewer_tasks_goes() {
        let jobs = json!([{"submit_s": 0, "runtime_s": 100}, {"submit_s": 0, "runtime_s": 100},
            {"submit_s": 0, "runtime_s": 100, "cores": 2}]);
        let two = a_with(json!({"initial": 2, "cores": 2}));
        let r = run_jobs(config(json!({"vm_types": [two]})), jobs, &[0, 2]);
        assert_eq!((r.interrupted, totals(&r)), (1, (Some(200.0), 40_000, 260_000)));
    }

    #[test]
    fn v2_of_idle_machines_the_youngest_goes() {
        let config = config(json!({"boot": {"kind": "fixed", "seconds": 0}, "min_billed_s": 200}));
        // at 120 s the machines are 120 s and 60 s old; the younger one is billed 200 s
        assert_eq!(totals(&run(config, &[(300.0, 60.0)], &[0, 1, 2])), (Some(360.0), 0, 560_000));
    }

    #[test]
    fn v2_a_booting_machine_goes_before_an_idle_one() {
        let config = config(json!({"boot": {"kind": "fixed", "seconds": 300}}));
        assert_eq!(totals(&run(config, &[(320.0, 10.0)], &[1, 2])), (Some(330.0), 0, 390_000));
    }

    #[test]
    fn v2_an_idle_machine_goes_before_one_that_has_just_begun() {
        let config = config(json!({"vm_types": [a_with(json!({"initial": 2}))]}));
        let r = run(config, &[(60.0, 100.0)], &[0, 2]);
        assert_eq!((r.interrupted, totals(&r)), (0, (Some(160.0), 0, 220_000)));
    }

    #[test]
    fn v3_an_interrupted_task_waits_under_its_old_place() {
        let config = config(json!({"vm_types": [a_with(json!({"initial": 2}))]}));
        let r = run(config, &[(0.0, 100.0), (0.0, 100.0), (10.0, 100.0)], &[0, 2]);
        assert_eq!(totals(&r), (Some(300.0), 40_000 + 190_000, 360_000));
    }

    #[test]
    fn v3_a_task_that_is_stopped_as_it_starts_loses_nothing() {
        let r = plain(&[(0.0, 100.0)], &[2, 1]);
        assert_eq!((totals(&r), r.interrupted, r.work_lost_hours), ((Some(190.0), 90_000, 130_000), 1, 0.0));
    }

    #[test]
    fn v5_a_cooldown_ends_at_its_last_instant() {
        let counts = |cooldown_s: f64| {
            let r = run(config(json!({"cooldown_s": cooldown_s})), &[(0.0, 300.0)], &[1, 1, 1]);
            (r.launches, r.rejected_actions)
        };
        assert_eq!(counts(60.0), (3, 0));
        assert_eq!(counts(60.001), (2, 1));
        assert_eq!(counts(500.0), (1, 2));
    }

    #[test]
    fn v5_doing_nothing_is_never_refused() {
        let r = run(config(json!({"cooldown_s": 500})), &[(0.0, 300.0)], &[1, 0, 0]);
        assert_eq!(r.rejected_actions, 0);
    }

    #[test]
    fn v6_a_failed_launch_uses_no_boot_time_and_starts_no_cooldown() {
        let changes = json!({"boot": {"kind": "list", "seconds": [10, 50]}, "launch_failures": [true, false],
            "cooldown_s": 600});
        let r = run(config(changes), &TWO, &[1, 1, 1]);
        assert_eq!((r.failed_launches, r.launches, r.rejected_actions), (1, 1, 1));
        assert_eq!(totals(&r), (Some(170.0), 70_000, 170_000 + 110_000));
    }

    #[test]
    fn v6_failures_wrap_around_and_refused_launches_do_not_count() {
        let changes = json!({"launch_failures": [false, true], "vm_types": [a_with(json!({"max": 2}))]});
        // accepted, refused at the maximum, refused, stopped, failed, accepted
        let r = run(config(changes), &[(0.0, 600.0)], &[1, 1, 1, 2, 1, 1]);
        assert_eq!((r.launches, r.failed_launches, r.rejected_actions), (2, 1, 2));
    }
}

mod money {
    use super::*;

    /// Launched at 0 with a boot of 90 s, stopped at 60 s; the task ends at 100 s.
    fn stopped_while_booting(changes: Value) -> SimResult {
        let boot = json!({"boot": {"kind": "fixed", "seconds": 90}});
        run(merged(config(boot), changes), &[(0.0, 100.0)], &[1, 2])
    }

    #[test]
    fn c1_booting_is_billed_or_not() {
        assert_eq!(totals(&stopped_while_booting(json!({}))).2, 160_000);
        assert_eq!(totals(&stopped_while_booting(json!({"bill_boot": false}))).2, 100_000);
        assert_eq!(totals(&run(config(json!({"bill_boot": false})), &TWO, &[1])).2, 230_000);
    }

    #[test]
    fn c1_the_rest_of_the_minimum_is_due_when_the_machine_stops() {
        let r = stopped_while_booting(json!({"min_billed_s": 300}));
        assert_eq!(totals(&r).2, 100_000 + 300_000);
        assert!(near(r.rewards[0], -0.12) && near(r.rewards[1], -0.28), "{:?}", r.rewards);
    }

    #[test]
    fn c1_a_machine_that_never_was_billed_has_no_minimum() {
        assert_eq!(totals(&stopped_while_booting(json!({"min_billed_s": 300, "bill_boot": false}))).2, 100_000);
    }

    #[test]
    fn c1_machines_that_live_to_the_end_owe_no_minimum() {
        assert_eq!(totals(&run(config(json!({"min_billed_s": 3000})), &TWO, &[1])).2, 260_000);
    }

    #[test]
    fn c2_a_lost_run_is_paid_as_waiting_if_asked_for() {
        let r = run(config(json!({"charge_lost_run": true})), &[(0.0, 100.0)], &[0, 2, 1]);
        // completion 250 less submission 0 less run time 100
        assert_eq!(totals(&r), (Some(250.0), 150_000, 190_000));
        assert!(near(r.rewards[1], -0.12), "60 s lost and 60 s waited: {:?}", r.rewards);
    }

    #[test]
    fn c3_rewards_add_up_to_the_cost() {
        let r = plain(&TWO, &[1]);
        assert!(near(r.rewards.iter().sum::<f64>(), -r.cost.total));
    }

    #[test]
    fn the_defaults_are_the_published_machines() {
        let jobs = json!([{"submit_s": 0, "runtime_s": 360, "cores": 8}]);
        let r = run_jobs(json!({}), jobs, &[]);
        assert_eq!(r.makespan_s, Some(360.0));
        assert!(near(r.cost.total, 0.14) && near(r.cost.by_type["L"], 0.08) && near(r.core_hours, 1.4));
    }
}

mod observations {
    use super::*;

    #[test]
    fn a_batch_on_the_published_fleet() {
        let jobs: Vec<Value> = (0..50).map(|_| json!({"submit_s": 0, "runtime_s": 360})).collect();
        let r = run_jobs(json!({}), json!(jobs), &[5]);
        let (start, next) = (&r.observations[0], &r.observations[1]);
        assert_eq!((start.queue, start.running, start.submitted, start.completed), (36, 14, 50, 0));
        assert_eq!((start.wait_ratio_global, start.wait_ratio_recent), (36.0 / 50.0, 36.0 / 50.0));
        assert_eq!((start.avg_util, start.p90_util, start.busy_cores), (1.0, 1.0, 14));
        // a minute later nothing was submitted, and the machine of 8 cores still boots
        assert_eq!((next.wait_ratio_global, next.wait_ratio_recent), (36.0 / 50.0, 0.0));
        assert_eq!((next.ready_cores, next.billed_cores, next.booting["L"], next.ready["L"]), (14, 22, 1, 1));
    }
}
