//! The environment: its observation, mask and episodes are those of the contract, and follow the seed alone.

use std::sync::Arc;

use contract::capacity::Counts;
use contract::observation::{Work, encode};
use contract::{Action, Observation};
use proptest::prelude::*;
use twin::boot::LaunchFailures;
use twin::{BootModel, EnvSpec, Environment, Job, Perturbation, Seen, SimConfig, Step, TwinEnv, Workload};

fn spec(jobs: Vec<Job>, change: impl FnOnce(&mut SimConfig)) -> Arc<EnvSpec> {
    let mut config = SimConfig::default();
    change(&mut config);
    Arc::new(EnvSpec::new(config, vec![Arc::new(Workload::new(jobs))]).unwrap())
}

fn batch(n: i64, submit_ms: u64, runtime_ms: u64, memory_mb: u64) -> Vec<Job> {
    (0..n).map(|id| Job { id: id + 1000 * submit_ms as i64, submit_ms, runtime_ms, cores: 1, memory_mb }).collect()
}

pub fn episode(env: &mut TwinEnv, seed: u64, actions: &[u16]) -> (Seen, Vec<Step>) {
    let first = env.reset(seed);
    let mut steps = Vec::new();
    for action in actions {
        steps.push(env.step(Action::from(*action)));
        if env.is_over() {
            break;
        }
    }
    (first, steps)
}

#[test]
fn the_observation_of_a_batch_by_hand() {
    let mut env = TwinEnv::new(spec(batch(50, 0, 360_000, 1024), |config| config.cooldown_ms = 90_000));
    env.reset(0);
    let one = Counts { ready: 1, booting: 0 };
    let start = Observation {
        fleet: [one; 3],
        cpu_util_avg: Some(1.0),
        cpu_util_p90: Some(1.0),
        mem_util_avg: Some(0.25),
        mem_util_p90: Some(0.25),
        wait_ratio_window: Some(0.72),
        wait_ratio_recent: Some(0.72),
        queue_depth: Some(36),
        running: Some(14),
        work: Some(Work { queue_cores: 36, running_cores: 14, ..Work::default() }),
        oldest_wait_s: Some(0.0),
        arrivals: Some(50),
        since_arrival_s: Some(0.0),
        ..Observation::empty([2, 4, 8])
    };
    assert_eq!(env.observation(), &start);
    env.step(Action::Launch(2, 1));
    let next = Observation {
        fleet: [one, one, Counts { ready: 1, booting: 1 }],
        wait_ratio_recent: Some(0.0),
        // one minute of every core; of the largest size a machine boots, and would go first
        work: Some(Work { running_age_s: 60.0, stop_loss_core_s: [120.0, 240.0, 0.0], ..start.work.unwrap() }),
        oldest_wait_s: Some(60.0),
        arrivals: Some(0),
        since_arrival_s: Some(60.0),
        last_action: Action::Launch(2, 1),
        since_action_s: 60.0,
        cooldown_left_s: 30.0,
        ..start
    };
    assert_eq!(env.observation(), &next);
    assert_eq!(env.mask(), std::array::from_fn(|i| i == 0));
}

#[test]
fn the_window_forgets_what_is_an_hour_old() {
    let mut jobs = batch(15, 0, 4_000_000, 0);
    jobs.extend(batch(1, 600_000, 1000, 0));
    let mut env = TwinEnv::new(spec(jobs, |_| {}));
    env.reset(0);
    let shares: Vec<f64> = (0..62)
        .map(|_| {
            env.step(Action::Nothing);
            env.observation().wait_ratio_window.unwrap()
        })
        .collect();
    // one of 15 waits; from 10 minutes on two of 16; after 60 minutes the later one alone
    assert_eq!((shares[0], shares[9], shares[58]), (1.0 / 15.0, 2.0 / 16.0, 2.0 / 16.0));
    assert_eq!((shares[59], shares[61]), (1.0, 1.0));
}

#[test]
fn before_any_arrival_nothing_is_missing() {
    let mut env = TwinEnv::new(spec(batch(1, 600_000, 1000, 0), |_| {}));
    env.reset(0);
    assert!(!env.observation().is_doubtful());
    assert_eq!(env.observation().since_arrival_s, Some(3600.0));
    assert_eq!(env.observation().oldest_wait_s, Some(0.0));
}

#[test]
fn a_failed_launch_masks_its_size_until_the_back_off_ends() {
    let spec = spec(batch(50, 0, 360_000, 0), |config| {
        config.launch_failures = LaunchFailures::List(vec![true, false]);
        config.remember_no_capacity = true;
        config.cooldown_ms = 60_000;
    });
    let mut env = TwinEnv::new(spec);
    env.reset(0);
    assert!(env.step(Action::Launch(2, 1)).seen.mask[3], "the cooldown is over");
    assert_eq!(env.observation().last_action, Action::Launch(2, 1), "it was claimed");
    let mut allowed = vec![env.mask()[5]];
    allowed.extend((0..2).map(|_| env.step(Action::Nothing).seen.mask[5]));
    assert_eq!(allowed, [false, false, true]);
    assert_eq!(env.outcome().failed_launches, 1);
    env.step(Action::Launch(2, 1));
    assert_eq!((env.outcome().launches, env.observation().no_capacity), (1, [false; 3]));
}

#[test]
fn in_production_a_launch_without_capacity_begins_the_cooldown_and_in_the_published_system_not() {
    for (remember_no_capacity, cooldown_left_s) in [(true, 60.0), (false, 0.0)] {
        let mut env = TwinEnv::new(spec(batch(50, 0, 360_000, 0), |config| {
            config.launch_failures = LaunchFailures::List(vec![true]);
            config.remember_no_capacity = remember_no_capacity;
            config.cooldown_ms = 120_000;
        }));
        env.reset(0);
        env.step(Action::Launch(2, 1));
        assert_eq!(env.observation().cooldown_left_s, cooldown_left_s);
    }
}

#[test]
fn one_action_moves_several_machines_within_the_limits() {
    let spec = spec(batch(1, 7_200_000, 1000, 0), |config| {
        config.machines_per_action_max = 4;
        config.launches_per_hour_max = Some(6);
        config.types[1].bounds = contract::capacity::Bounds::new(1, Some(4)).unwrap();
    });
    let mut env = TwinEnv::new(spec);
    env.reset(0);
    assert!(!Action::Launch(1, 4).is_allowed(&env.mask()), "with the one there it would be five");
    env.step(Action::Launch(0, 4));
    let fleet = env.observation().fleet;
    assert_eq!((fleet[0], env.outcome().launches), (Counts { ready: 1, booting: 4 }, 4));
    assert!(
        Action::Launch(0, 2).is_allowed(&env.mask()) && !Action::Launch(0, 4).is_allowed(&env.mask()),
        "six an hour"
    );
    env.step(Action::Stop(0, 2));
    // of the five, booting for 71 s, two that boot go; the others are ready at the end of the second minute
    assert_eq!(env.observation().fleet[0], Counts { ready: 3, booting: 0 });
    env.step(Action::Stop(0, 4));
    assert_eq!((env.observation().fleet[0].ready, env.outcome().rejected_actions), (3, 1), "one has to stay");
}

#[test]
fn a_call_without_capacity_fails_for_all_its_machines() {
    let spec = spec(batch(1, 7_200_000, 1000, 0), |config| {
        config.machines_per_action_max = 4;
        config.launch_failures = LaunchFailures::List(vec![true, false]);
    });
    let mut env = TwinEnv::new(spec);
    env.reset(0);
    env.step(Action::Launch(2, 4));
    assert_eq!((env.outcome().launches, env.outcome().failed_launches), (0, 1));
    env.step(Action::Launch(2, 4));
    assert_eq!((env.outcome().launches, env.outcome().failed_launches), (4, 1));
}

#[test]
fn the_launch_budget_counts_the_last_hour() {
    let spec = spec(batch(1, 7_200_000, 1000, 0), |config| config.launches_per_hour_max = Some(2));
    let mut env = TwinEnv::new(spec);
    env.reset(0);
    let mut launches = Vec::new();
    while !env.is_over() {
        let before = env.outcome().launches;
        env.step(Action::Launch(0, 1));
        if env.outcome().launches > before {
            launches.push(env.outcome().steps - 1);
        }
    }
    assert_eq!(launches, [0, 1, 60, 61, 120]);
}

#[test]
fn the_stop_budget_counts_the_last_hour_and_a_new_episode_begins_with_a_whole_one() {
    let spec = spec(batch(1, 7_200_000, 1000, 0), |config| {
        config.stops_per_hour_max = Some(2);
        config.types[0].initial = 9;
    });
    let mut env = TwinEnv::new(spec);
    let stops_of_episode = |env: &mut TwinEnv| {
        env.reset(0);
        let mut stops = Vec::new();
        while !env.is_over() {
            let before = env.observation().fleet[0].total();
            env.step(Action::Stop(0, 1));
            if env.observation().fleet[0].total() < before {
                stops.push(env.outcome().steps - 1);
            }
        }
        stops
    };
    let first = stops_of_episode(&mut env);
    assert_eq!(first, [0, 1, 60, 61, 120]);
    assert_eq!(stops_of_episode(&mut env), first);
}

#[test]
fn no_launch_leads_above_the_cap_on_dollars_an_hour() {
    // S, M and L run for 1.4 dollars an hour: one more L is 2.2, and then an M is exactly 2.6.
    let spec = spec(batch(1, 7_200_000, 1000, 0), |config| config.usd_per_hour_max = Some(2.6));
    let mut env = TwinEnv::new(spec);
    let (s, m, l) = (1, 3, 5);
    assert!([s, m, l].iter().all(|launch| env.reset(0).mask[*launch]));
    assert!(env.step(Action::Launch(2, 1)).seen.mask[m]);
    assert_eq!([s, m, l].map(|launch| env.mask()[launch]), [true, true, false]);
    env.step(Action::Launch(2, 1));
    assert_eq!(env.outcome().launches, 1, "a refused launch does nothing");
    let after = env.step(Action::Launch(1, 1)).seen;
    assert_eq!([s, m, l].map(|launch| after.mask[launch]), [false; 3]);
    let after = env.step(Action::Stop(2, 1)).seen;
    assert_eq!([s, m, l].map(|launch| after.mask[launch]), [true; 3], "a stop makes room");
}

#[test]
fn seeds_take_turns_with_the_workloads() {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
    let queues = [0, 1, 2, 3].map(|seed| {
        env.reset(seed);
        env.observation().queue_depth.unwrap()
    });
    assert_eq!(queues, [36, 86, 36, 86]);
}

#[test]
fn perturbed_episodes_differ_by_seed_only_and_keep_batches_together() {
    let perturbation = Perturbation { runtime_log_sigma: 0.2, arrival_jitter_s: 60.0, ..Perturbation::default() };
    let spec = Arc::new(EnvSpec::published().perturbed(perturbation));
    let jobs = |env: &mut TwinEnv, seed| {
        env.reset(seed);
        env.sim().workload().jobs().to_vec()
    };
    let (mut env, mut other) = (TwinEnv::new(spec.clone()), TwinEnv::new(spec));
    let first = jobs(&mut env, 4);
    let second = jobs(&mut env, 6);
    assert_ne!(first, second);
    assert_eq!(jobs(&mut env, 4), first);
    assert_eq!(jobs(&mut other, 6), second);
    assert!(first.iter().all(|job| job.runtime_ms == first[0].runtime_ms));
    let mut times: Vec<u64> = first.iter().map(|job| job.submit_ms).collect();
    times.dedup();
    assert_eq!(times.len(), 22);
}

#[test]
fn a_trace_has_a_point_for_the_start_and_each_step() {
    let mut env = TwinEnv::new(spec(batch(1, 0, 100_000, 0), |_| {})).with_trace();
    episode(&mut env, 0, &[3]);
    episode(&mut env, 0, &[1, 0]);
    let points: Vec<(f64, u32, u32)> = env.trace().iter().map(|p| (p.t_s, p.fleet[0].booting, p.running)).collect();
    assert_eq!(points, [(0.0, 0, 1), (60.0, 1, 1), (100.0, 0, 0)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_same_seed_and_actions_give_the_same_episode(
        seed in 0u64..50, before in 0u64..50, actions in prop::collection::vec(0u16..7, 1..250),
    ) {
        let perturbation = Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 30.0, ..Perturbation::default() };
        let varied = EnvSpec::published().configured(|config| {
            config.boot = BootModel::ec2();
            config.launch_failures = LaunchFailures::Outages { mean_up_s: 3000.0, mean_down_s: 600.0 };
            config.remember_no_capacity = true;
        });
        let spec = Arc::new(varied.unwrap().perturbed(perturbation));
        let mut used = TwinEnv::new(spec.clone());
        episode(&mut used, before, &actions);
        let again = episode(&mut used, seed, &actions);
        prop_assert_eq!(again, episode(&mut TwinEnv::new(spec), seed, &actions));
    }

    #[test]
    fn what_is_seen_is_the_encoded_observation_and_the_mask_is_obeyed(
        seed in 0u64..4, actions in prop::collection::vec(0..contract::ACTION_COUNT, 1..100), most in prop::sample::select(&contract::STEPS),
    ) {
        let spec = EnvSpec::published().configured(|config| {
            config.cooldown_ms = 120_000;
            config.machines_per_action_max = most;
            config.types[2].bounds = contract::capacity::Bounds::new(1, Some(2)).unwrap();
        });
        let mut env = TwinEnv::new(Arc::new(spec.unwrap()));
        let mut seen = env.reset(seed);
        for action in actions {
            let (refused, allowed) = (env.outcome().rejected_actions, seen.mask[action]);
            let step = env.step(Action::at(action));
            prop_assert_eq!(env.outcome().rejected_actions == refused, allowed);
            prop_assert_eq!(step.seen.features, encode(env.observation()));
            prop_assert!(!env.observation().is_doubtful());
            seen = step.seen;
            if step.done {
                break;
            }
        }
    }
}
