//! What EC2 adds to the published system, worked by hand: drain, stop delays, spot interruptions, late metrics.

use std::sync::Arc;

use contract::Action;
use proptest::prelude::*;
use serde_json::{Value, json};
use twin::boot::LaunchFailures;
use twin::{Ec2Profile, EnvSpec, Environment, Job, Perturbation, SimConfig, TimeRange, TwinEnv, Workload};

use crate::environment::episode;
use crate::golden::{a_with, config, merged, near, run, totals};
use crate::random::AT_ONCE_PER_HOUR;

mod drain {
    use super::*;

    fn draining(changes: Value) -> Value {
        merged(config(json!({"drain": true})), changes)
    }

    #[test]
    fn a_running_task_ends_and_the_machine_is_billed_until_then() {
        let r = run(draining(json!({})), &[(0.0, 200.0)], &[0, 2]);
        assert_eq!((totals(&r), r.interrupted, r.rejected_actions), ((Some(200.0), 0, 200_000), 0, 0));
        // at 120 s it runs its task and counts as nothing else
        let seen = &r.observations[2];
        assert_eq!((seen.running, seen.ready["A"], seen.booting["A"]), (1, 0, 0));
        assert_eq!((seen.busy_cores, seen.billed_cores, seen.avg_util), (0, 0, 0.0));
    }

    #[test]
    fn it_takes_no_more_tasks() {
        // it drains from 60 to 100 s; the next machine is asked for at 120 s and ready at 150 s
        let r = run(draining(json!({})), &[(0.0, 100.0), (0.0, 50.0)], &[0, 2, 1]);
        assert_eq!(totals(&r), (Some(200.0), 150_000, 100_000 + 80_000));
    }

    #[test]
    fn it_goes_with_the_last_of_its_tasks() {
        let two_cores = json!({"vm_types": [a_with(json!({"cores": 2}))]});
        // it drains until 150 s; the third task runs from 150 s (120 s and a boot of 30 s) to 160 s
        let r = run(draining(two_cores), &[(0.0, 100.0), (0.0, 150.0), (70.0, 10.0)], &[0, 2, 1]);
        assert_eq!(totals(&r), (Some(160.0), 80_000, 150_000 + 40_000));
    }

    #[test]
    fn after_its_time_it_goes_and_what_runs_is_interrupted() {
        let a_minute = |max_s: f64| draining(json!({"drain_max_s": max_s, "charge_lost_run": true}));
        // it drains from 60 to 120 s; at 120 s the next machine is asked for, and the task runs there from 150 to 350 s:
        // it has waited those 30 s, and 120 s for nothing
        let r = run(a_minute(60.0), &[(0.0, 200.0)], &[0, 2, 1]);
        assert_eq!((r.interrupted, totals(&r)), (1, (Some(350.0), 30_000 + 120_000, 120_000 + 230_000)));
        // time enough
        let r = run(a_minute(140.0), &[(0.0, 200.0)], &[0, 2, 1]);
        assert_eq!((r.interrupted, totals(&r).0), (0, Some(200.0)));
        // a task that ends at that very instant has ended
        assert_eq!(run(a_minute(60.0), &[(0.0, 120.0)], &[0, 2]).interrupted, 0);
    }

    #[test]
    fn a_booting_or_idle_machine_goes_at_once() {
        let slow = json!({"boot": {"kind": "fixed", "seconds": 90}});
        assert_eq!(totals(&run(draining(slow), &[(0.0, 300.0)], &[1, 2])), (Some(300.0), 0, 360_000));
        let idle = json!({"vm_types": [a_with(json!({"initial": 2}))]});
        assert_eq!(totals(&run(draining(idle), &[(0.0, 300.0)], &[0, 2])), (Some(300.0), 0, 360_000));
    }

    #[test]
    fn it_counts_for_the_maximum_alone_and_is_no_victim() {
        let one = json!({"vm_types": [a_with(json!({"max": 1}))]});
        let r = run(draining(one), &[(0.0, 200.0)], &[0, 2, 1, 2, 2]);
        // nothing is launched beside it at 120 s, and nothing is left to stop
        assert_eq!((r.launches, totals(&r).2), (0, 200_000));
        let r = run(draining(json!({})), &[(0.0, 200.0)], &[0, 2, 2]);
        assert_eq!((r.rejected_actions, r.interrupted, totals(&r)), (1, 0, (Some(200.0), 0, 200_000)));
    }

    #[test]
    fn the_rest_of_its_minimum_is_due_when_it_goes() {
        let r = run(draining(json!({"min_billed_s": 300})), &[(0.0, 100.0), (110.0, 10.0)], &[0, 2, 1]);
        assert_eq!(totals(&r), (Some(160.0), 40_000, 300_000 + 40_000));
        // from 60 to 120 s: 40 s of draining, 200 s of the minimum, 10 s of waiting
        assert!(near(r.rewards[1], -0.25), "{:?}", r.rewards);
    }
}

mod stop_delay {
    use super::*;

    fn delayed(seconds: f64, changes: Value) -> Value {
        merged(config(json!({"stop_delay_s": {"low": seconds, "high": seconds}})), changes)
    }

    const APART: [(f64, f64); 2] = [(0.0, 60.0), (600.0, 60.0)];
    const STOP_THEN_LAUNCH: [u16; 10] = [0, 2, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn a_stopped_machine_is_billed_longer() {
        let r = run(delayed(45.0, json!({})), &APART, &STOP_THEN_LAUNCH);
        assert_eq!(totals(&r), (Some(660.0), 0, 60_000 + 45_000 + 120_000));
        assert!(near(r.rewards[1], -0.045) && near(r.rewards[2], 0.0), "{:?}", r.rewards);
        assert_eq!(r.observations[2].billed_cores, 0);
    }

    #[test]
    fn a_delay_of_two_steps_is_billed_in_both() {
        let r = run(delayed(70.5, json!({})), &APART, &STOP_THEN_LAUNCH);
        assert_eq!(totals(&r).2, 60_000 + 70_500 + 120_000);
        assert!(near(r.rewards[1], -0.06) && near(r.rewards[2], -0.0105), "{:?}", r.rewards);
    }

    #[test]
    fn it_is_out_of_service_at_once() {
        let r = run(delayed(45.0, json!({})), &[(0.0, 100.0)], &[0, 2, 1]);
        assert_eq!((totals(&r), r.interrupted), ((Some(250.0), 90_000, 190_000 + 45_000), 1));
    }

    #[test]
    fn the_end_of_the_episode_ends_it() {
        let two = json!({"vm_types": [a_with(json!({"initial": 2}))], "min_billed_s": 3000});
        // stopped at 60 s, billed to the end at 100 s; its bill never ended, so that no minimum is due
        assert_eq!(totals(&run(delayed(600.0, two), &[(0.0, 100.0)], &[0, 2])), (Some(100.0), 0, 200_000));
    }

    #[test]
    fn it_counts_towards_the_minimum() {
        let r = run(delayed(30.0, json!({"min_billed_s": 100})), &APART, &STOP_THEN_LAUNCH);
        assert_eq!(totals(&r).2, 100_000 + 120_000);
        // the other 10 s are due when the bill ends, at 90 s
        assert!(near(r.rewards[1], -0.04), "{:?}", r.rewards);
    }

    #[test]
    fn a_machine_that_never_was_billed_has_none() {
        let slow = json!({"boot": {"kind": "fixed", "seconds": 90}, "bill_boot": false});
        assert_eq!(totals(&run(delayed(30.0, slow), &[(0.0, 100.0)], &[1, 2])).2, 100_000);
        let billed = json!({"boot": {"kind": "fixed", "seconds": 90}});
        assert_eq!(totals(&run(delayed(30.0, billed), &[(0.0, 100.0)], &[1, 2])).2, 100_000 + 60_000 + 30_000);
    }

    #[test]
    fn it_begins_when_a_draining_machine_goes() {
        let r = run(delayed(45.0, json!({"drain": true})), &[(0.0, 100.0), (0.0, 50.0)], &[0, 2, 1]);
        assert_eq!(totals(&r), (Some(200.0), 150_000, 145_000 + 80_000));
    }

    #[test]
    fn delays_are_drawn_from_the_whole_range() {
        let many = |seed: u64| {
            let boot = json!({"kind": "uniform", "low_s": 1, "high_s": 2, "seed": seed});
            let changes = json!({"boot": boot, "vm_types": [a_with(json!({"initial": 1000}))], "step_s": 1,
                "stop_delay_s": {"low": 15, "high": 60}});
            let stops: Vec<u16> = vec![2; 1000];
            totals(&run(config(changes), &[(1500.0, 1.0)], &stops)).2
        };
        // the k-th machine is stopped at k s
        let delays_s = (many(1) as f64 - 1000.0 * 999.0 / 2.0 * 1000.0) / 1000.0;
        assert!((delays_s / 1000.0 - 37.5).abs() < 1.5, "{delays_s} s in 1000 stops");
        assert_eq!(many(1), many(1));
        assert_ne!(many(1), many(2));
    }
}

mod spot {
    use super::*;

    /// A machine of type B that is taken away 1 ms after it is ready, and machines of type A on demand.
    fn spot(changes: Value) -> Value {
        let b = json!({"name": "B", "spot_interruptions_per_hour": AT_ONCE_PER_HOUR});
        merged(config(json!({"vm_types": [a_with(json!({"initial": 0})), a_with(b)]})), changes)
    }

    #[test]
    fn its_task_waits_again_and_it_is_billed_to_that_instant() {
        let r = run(spot(json!({"min_billed_s": 60, "stop_delay_s": {"low": 9, "high": 9}})), &[(0.0, 100.0)], &[0, 1]);
        // asked for at 60 s, A runs the task from 90 to 190 s
        assert_eq!((r.makespan_s, r.queue_ms, r.interrupted, r.reclaimed), (Some(190.0), 89_999, 1, 1));
        assert_eq!((r.vm_ms["B"], r.vm_ms["A"], r.work_lost_hours), (1, 130_000, 1.0 / 3_600_000.0));
        assert_eq!((r.rejected_actions, r.launches), (0, 1));
    }

    #[test]
    fn a_lost_run_is_paid_as_waiting_if_asked_for() {
        assert_eq!(run(spot(json!({"charge_lost_run": true})), &[(0.0, 100.0)], &[0, 1]).queue_ms, 90_000);
    }

    #[test]
    fn the_minimum_does_not_keep_it() {
        let mut config = spot(json!({}));
        config["vm_types"][1]["min"] = json!(1);
        let r = run(config, &[(0.0, 100.0)], &[0, 1]);
        assert_eq!((r.reclaimed, r.observations[1].ready["B"], r.observations[1].billed_cores), (1, 0, 0));
    }

    #[test]
    fn a_completion_of_the_same_instant_comes_first() {
        let r = run(spot(json!({})), &[(0.0, 0.001)], &[]);
        assert_eq!((totals(&r), r.interrupted, r.reclaimed), ((Some(0.001), 0, 1), 0, 1));
    }

    #[test]
    fn a_life_begins_when_the_machine_is_ready() {
        // B is stopped at 0 s, before its end, and not taken away; the next is asked for at 60 s and ready at 90 s
        let r = run(spot(json!({})), &[(90.0, 100.0)], &[4, 3, 1]);
        assert_eq!((r.reclaimed, r.vm_ms["B"], r.interrupted), (1, 30_001, 1));
        // A is asked for at 120 s and ready at 150 s
        assert_eq!((r.makespan_s, r.queue_ms), (Some(250.0), 59_999));
    }

    #[test]
    fn draining_does_not_save_a_machine() {
        let r = run(spot(json!({"drain": true})), &[(0.0, 100.0)], &[4, 1]);
        assert_eq!((r.interrupted, r.reclaimed, r.vm_ms["B"], r.queue_ms), (1, 1, 1, 89_999));
    }

    #[test]
    fn without_any_the_result_does_not_speak_of_it() {
        let with = |config| serde_json::to_value(run(config, &[(0.0, 100.0)], &[0, 1])).unwrap();
        assert_eq!(with(spot(json!({})))["reclaimed"], json!(1));
        assert_eq!(with(config(json!({}))).get("reclaimed"), None);
    }
}

mod metrics {
    use super::*;

    /// Seven one-core tasks of 90 s on 14 cores, and one after ten minutes.
    fn env(change: impl FnOnce(&mut SimConfig)) -> TwinEnv {
        let job = |id, submit_ms, runtime_ms| Job { id, submit_ms, runtime_ms, cores: 1, memory_mb: 1024 };
        let mut jobs: Vec<Job> = (0..7).map(|id| job(id, 0, 90_000)).collect();
        jobs.push(job(7, 600_000, 1000));
        let mut config = SimConfig::default();
        change(&mut config);
        TwinEnv::new(Arc::new(EnvSpec::new(config, vec![Arc::new(Workload::new(jobs))]).unwrap()))
    }

    #[test]
    fn they_are_late_while_the_task_table_is_fresh() {
        let mut env = env(|config| config.metric_delay = Some(TimeRange { low_ms: 120_000, high_ms: 120_000 }));
        let mut seen = Vec::new();
        env.reset(3);
        for _ in 0..6 {
            let o = env.observation();
            seen.push((o.cpu_util_avg, o.cpu_util_p90, o.mem_util_avg, o.mem_util_p90, o.running));
            assert!(!o.is_doubtful());
            env.step(Action::Nothing);
        }
        // S and M are full and L runs one of eight; a task takes a quarter of the memory of its core
        let busy = (Some((2.0 + 0.125) / 3.0), Some(1.0), Some((0.25 + 0.25 + 0.03125) / 3.0), Some(0.25));
        let idle = (Some(0.0), Some(0.0), Some(0.0), Some(0.0));
        let with = |(a, b, c, d), running| (a, b, c, d, Some(running));
        // what is measured at 0, 60 and 120 s is seen at 120, 180 and 240 s, and the first until then
        assert_eq!(seen, [with(busy, 7), with(busy, 7), with(busy, 0), with(busy, 0), with(idle, 0), with(idle, 0)]);
    }

    #[test]
    fn in_a_gap_nothing_is_stopped() {
        let mut env = env(|config| {
            config.metric_gap_probability = 1.0;
            config.types[2].initial = 2;
        });
        let seen = env.reset(0);
        assert_eq!(env.observation().missing(), ["cpu_util_avg", "cpu_util_p90", "mem_util_avg", "mem_util_p90"]);
        assert_eq!(seen.mask[..7], [true, true, false, true, false, true, false]);
        env.step(Action::Stop(2, 1));
        assert_eq!((env.outcome().rejected_actions, env.observation().fleet[2].ready), (1, 2));
    }

    #[test]
    fn between_gaps_machines_are_stopped_as_ever() {
        let mut env = env(|config| {
            config.metric_gap_probability = 0.3;
            config.types[2].initial = 200;
        });
        let (mut refused, mut gaps, mut ticks) = (0, 0, 0);
        for seed in 0..100 {
            env.reset(seed);
            while !env.is_over() {
                (gaps, ticks) = (gaps + u64::from(env.observation().is_doubtful()), ticks + 1);
                env.step(Action::Stop(2, 1));
            }
            refused += env.outcome().rejected_actions;
        }
        assert_eq!(refused, gaps);
        assert!((gaps as f64 / f64::from(ticks) - 0.3).abs() < 0.05, "{gaps} of {ticks}");
    }
}

/// The published load on a fleet with everything that EC2 adds, spot machines and perturbations besides.
fn real_fleet() -> Arc<EnvSpec> {
    let profile = Ec2Profile { spot_interruptions_per_hour: 0.5, ..Ec2Profile::default() };
    let perturbation = Perturbation::ALL_KINDS;
    Arc::new(EnvSpec::published().configured(|config| profile.apply(config)).unwrap().perturbed(perturbation))
}

#[test]
fn the_profile_is_the_documented_one() {
    let mut config = SimConfig::default();
    Ec2Profile::default().apply(&mut config);
    assert_eq!(
        (config.drain, config.bill_boot, config.charge_lost_run, config.min_billed_ms),
        (true, false, true, 60_000)
    );
    assert_eq!(config.stop_delay, Some(TimeRange { low_ms: 15_000, high_ms: 60_000 }));
    assert_eq!(config.metric_delay, Some(TimeRange { low_ms: 60_000, high_ms: 180_000 }));
    assert_eq!((config.metric_gap_probability, config.boot.clone()), (0.02, twin::BootModel::ec2()));
    let outages = LaunchFailures::Outages { mean_up_s: 43_200.0, mean_down_s: 1200.0 };
    assert_eq!(config.launch_failures, outages);
    assert!(config.remember_no_capacity && config.types.iter().all(|t| t.spot_interruptions_per_hour == 0.0));
    assert_eq!((config.step_ms, config.max_steps), (60_000, 2000));
    assert_eq!(config.problems(), [""; 0]);
}

#[test]
fn settings_out_of_range_are_named() {
    let problems = |change: fn(&mut SimConfig)| {
        let mut config = SimConfig::default();
        change(&mut config);
        config.problems().join("; ")
    };
    assert!(problems(|c| c.metric_delay = Some(TimeRange { low_ms: 2, high_ms: 1 })).contains("metric_delay_s.low"));
    assert!(problems(|c| c.metric_gap_probability = 1.1).contains("metric_gap_probability"));
    assert!(problems(|c| c.types[1].spot_interruptions_per_hour = f64::NAN).contains("vm_types[1].spot_interruptions"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_same_seed_gives_the_same_episode(
        seed in 0u64..50, before in 0u64..50, actions in prop::collection::vec(0u16..7, 1..250),
    ) {
        let spec = real_fleet();
        let mut used = TwinEnv::new(spec.clone());
        episode(&mut used, before, &actions);
        let again = episode(&mut used, seed, &actions);
        let mut new = TwinEnv::new(spec);
        prop_assert_eq!(again, episode(&mut new, seed, &actions));
        prop_assert_eq!(used.outcome(), new.outcome());
        prop_assert_eq!(used.sim().tally(), new.sim().tally());
    }

    #[test]
    fn the_mask_is_obeyed(seed in 0u64..50, actions in prop::collection::vec(0..contract::ACTION_COUNT, 1..250)) {
        let spec = EnvSpec::clone(&real_fleet()).configured(|config| config.machines_per_action_max = 2);
        let mut env = TwinEnv::new(Arc::new(spec.unwrap()));
        let mut seen = env.reset(seed);
        for action in actions {
            let (refused, allowed) = (env.outcome().rejected_actions, seen.mask[action]);
            let step = env.step(Action::at(action));
            prop_assert_eq!(env.outcome().rejected_actions == refused, allowed);
            seen = step.seen;
            if step.done {
                break;
            }
        }
    }
}
