//! Ticks of the evaluator over an in-memory world: one decision each, and the ladder when something is missing.

use std::sync::OnceLock;
use std::time::Duration;

use contract::capacity::Bounds;
use contract::decision::{Decider, Decision, Verdict};
use contract::event::Tick;
use contract::manifest::{Manifest, Pointer};
use contract::pool::{Aggregation, MetricSource, OUTSIDE_METRICS, PoolConfig};
use contract::record::TaskRecord;
use contract::{Action, observation};
use controller::ports::{Control, Instances, Kind, Point, PolicyPublisher, Tasks};
use evaluator::handler::{Evaluator, Ports, Ticked};
use testkit::builders::{TICK, instance, pool_config, task};
use testkit::{World, op};

type OverWorld = Evaluator<World, World, World, World, World, World>;

fn over(world: &World) -> OverWorld {
    Evaluator::new(Ports {
        tasks: world.clone(),
        instances: world.clone(),
        decisions: world.clone(),
        control: world.clone(),
        metrics: world.clone(),
        policies: world.clone(),
    })
}

fn at(tick: u64) -> Tick {
    Tick { pool: "p".into(), scheduled_time: jiff::Timestamp::from_second(tick as i64).unwrap() }
}

/// Two policies that differ, packaged by the trainer as production would.
fn policies() -> &'static [(Vec<u8>, Manifest); 2] {
    static MADE: OnceLock<[(Vec<u8>, Manifest); 2]> = OnceLock::new();
    MADE.get_or_init(|| [1, 2].map(testkit_policy))
}

fn testkit_policy(seed: u64) -> (Vec<u8>, Manifest) {
    let weights = twinscaler::ppo::weights::Weights::new(16, seed);
    twinscaler::parity::package(&weights, Default::default()).unwrap()
}

async fn promote(world: &World, which: usize) {
    let (onnx, manifest) = &policies()[which];
    let json = serde_json::to_vec(manifest).unwrap();
    world.put_file(&manifest.sha256, "policy.onnx", onnx.clone()).await.unwrap();
    world.put_file(&manifest.sha256, "manifest.json", json).await.unwrap();
    let pointer = Pointer { version: 1, sha256: manifest.sha256.clone(), previous: None, serial: 1 };
    world.overwrite_pointer("p", pointer);
}

fn metrics(world: &World, config: &PoolConfig, tick: u64) {
    for name in OUTSIDE_METRICS {
        world.add_point("p", &config.metrics[name], Point { at_ms: (tick - 60) * 1000, value: 0.5 });
    }
}

/// A pool with one ready machine of each size, metrics, a task that waits, and a policy in charge.
async fn setup() -> (World, OverWorld) {
    let config = pool_config("p");
    let world = World::with_pool(&config);
    for size in 0..3 {
        let record = instance("p", &format!("i-{size}"), size, (TICK - 900) * 1000);
        world.put_new(&record).await.unwrap();
        world.mark_ready(&record, (TICK - 800) * 1000).await.unwrap();
    }
    world.put(&task("p", "t", (TICK - 90) * 1000)).await.unwrap();
    metrics(&world, &config, TICK);
    promote(&world, 0).await;
    let evaluator = over(&world);
    (world, evaluator)
}

async fn decide(evaluator: &OverWorld, tick: u64) -> Decision {
    evaluator.tick(&at(tick)).await.unwrap().decision().expect("the pool is not off")
}

fn hash(which: usize) -> String {
    policies()[which].1.sha256.clone()
}

#[tokio::test]
async fn the_policy_decides_and_the_decision_can_be_replayed_bit_for_bit() {
    let (world, evaluator) = setup().await;
    let made = decide(&evaluator, TICK).await;
    assert_eq!(made.decider, Decider::Policy { sha256: hash(0) });
    assert_eq!(made.missing, Vec::<String>::new());
    assert_eq!(world.decisions(), std::slice::from_ref(&made));
    let o = &made.observation;
    assert_eq!((o.queue_depth, o.arrivals, o.oldest_wait_s), (Some(1), Some(0), Some(90.0)));
    assert_eq!((o.wait_ratio_window, o.wait_ratio_recent, o.since_arrival_s), (Some(1.0), Some(0.0), Some(90.0)));
    assert_eq!(o.fleet[2].ready, 1);
    let (onnx, manifest) = &policies()[0];
    let policy = policy::Policy::load(onnx, manifest).unwrap();
    let mut state = policy.zero_state();
    let again = policy.step(&observation::encode(o), &made.mask, &mut state).unwrap();
    assert_eq!(Some(again.probabilities), made.probabilities);
    assert_eq!(made.lstm.unwrap().h, state.h);
}

#[tokio::test]
async fn a_pool_takes_no_larger_steps_than_its_policy_has_learned() {
    let (world, evaluator) = setup().await;
    let four = PoolConfig { machines_per_action_max: 4, ..pool_config("p") };
    world.put_config(&four).await.unwrap();
    let made = decide(&evaluator, TICK).await;
    assert!(matches!(made.decider, Decider::Policy { .. }));
    assert!(Action::Launch(0, 1).is_allowed(&made.mask) && !Action::Launch(0, 2).is_allowed(&made.mask));
    assert_eq!(made.refusals[Action::Launch(0, 2).index().unwrap()], "too many at once");
    // of the rule nothing has to be learned
    world.take_down(op::POLICIES_MANIFEST, Kind::Throttled);
    let ruled = decide(&over(&world), TICK + 60).await;
    assert!(matches!(ruled.decider, Decider::Rule { .. }) && Action::Launch(0, 4).is_allowed(&ruled.mask));
}

#[tokio::test]
async fn the_same_tick_twice_is_one_decision() {
    let (world, evaluator) = setup().await;
    let first = decide(&evaluator, TICK).await;
    world.put(&task("p", "more", (TICK - 10) * 1000)).await.unwrap();
    assert_eq!(decide(&evaluator, TICK).await, first);
    assert_eq!(decide(&over(&world), TICK).await, first);
    assert_eq!(world.decisions().len(), 1);
}

#[tokio::test]
async fn a_tick_that_another_version_has_decided_stays_decided_and_the_next_one_goes_on_from_before_it() {
    let (world, evaluator) = setup().await;
    let first = decide(&evaluator, TICK).await;
    decide(&evaluator, TICK + 60).await;
    let more = |json: &mut serde_json::Value| json["mask"].as_array_mut().unwrap().resize(25, true.into());
    assert!(!world.rewrite_decision("p", TICK + 60, more));
    assert_eq!(evaluator.tick(&at(TICK + 60)).await.unwrap(), Ticked::Unreadable);
    let third = decide(&evaluator, TICK + 120).await;
    let policy = policy::Policy::load(&policies()[0].0, &policies()[0].1).unwrap();
    let state = first.lstm.unwrap();
    let mut state = policy::State { h: state.h, c: state.c };
    policy.step(&observation::encode(&third.observation), &third.mask, &mut state).unwrap();
    assert_eq!(third.lstm.unwrap().h, state.h);
}

#[tokio::test]
async fn the_recurrent_state_goes_on_from_the_last_decision_even_in_a_new_process() {
    let (world, evaluator) = setup().await;
    let first = decide(&evaluator, TICK).await;
    metrics(&world, &pool_config("p"), TICK + 60);
    let second = decide(&over(&world), TICK + 60).await;
    let (onnx, manifest) = &policies()[0];
    let policy = policy::Policy::load(onnx, manifest).unwrap();
    let before = first.lstm.unwrap();
    let mut state = policy::State { h: before.h, c: before.c };
    policy.step(&observation::encode(&second.observation), &second.mask, &mut state).unwrap();
    assert_eq!(second.lstm.unwrap().h, state.h);
}

#[tokio::test]
async fn a_promoted_policy_takes_over_warmed_up_on_the_stored_observations() {
    let (world, evaluator) = setup().await;
    let mut seen = Vec::new();
    for i in 0..3 {
        metrics(&world, &pool_config("p"), TICK + 60 * i);
        seen.push(decide(&evaluator, TICK + 60 * i).await);
    }
    promote(&world, 1).await;
    metrics(&world, &pool_config("p"), TICK + 180);
    let taken = decide(&evaluator, TICK + 180).await;
    assert_eq!(taken.decider, Decider::Policy { sha256: hash(1) });
    let (onnx, manifest) = &policies()[1];
    let policy = policy::Policy::load(onnx, manifest).unwrap();
    let mut state = policy.zero_state();
    for d in seen.iter().chain([&taken]) {
        policy.step(&observation::encode(&d.observation), &d.mask, &mut state).unwrap();
    }
    assert_eq!(taken.lstm.unwrap().h, state.h);
}

#[tokio::test]
async fn a_corrupt_promotion_leaves_the_last_good_policy_in_charge_even_after_a_cold_start() {
    let (world, evaluator) = setup().await;
    decide(&evaluator, TICK).await;
    promote(&world, 1).await;
    world.overwrite_file(&hash(1), "policy.onnx", b"not a policy".to_vec());
    for (i, evaluator) in [evaluator, over(&world)].iter().enumerate() {
        let tick = TICK + 60 * (1 + i as u64);
        metrics(&world, &pool_config("p"), tick);
        let made = decide(evaluator, tick).await;
        assert_eq!(made.decider, Decider::Policy { sha256: hash(0) });
        assert!(made.reason.contains("refused"), "{}", made.reason);
    }
}

#[tokio::test]
async fn an_evaluator_that_trusts_a_key_decides_by_rule_until_the_policy_is_signed() {
    let (world, evaluator) = setup().await;
    let key = signing::SigningKey::from_seed(&[1; 32]).unwrap();
    let keys = signing::PublicKeys::parse(&key.public().to_string()).unwrap();
    let evaluator = evaluator.trusting(Some(keys));
    let made = decide(&evaluator, TICK).await;
    assert!(matches!(&made.decider, Decider::Rule { because, .. } if because.contains("no signature")), "{made:?}");
    let signature = key.sign(&hash(0), &serde_json::to_vec(&policies()[0].1).unwrap());
    world.put_file(&hash(0), &signing::file_name(key.public()), signature).await.unwrap();
    metrics(&world, &pool_config("p"), TICK + 60);
    assert_eq!(decide(&evaluator, TICK + 60).await.decider, Decider::Policy { sha256: hash(0) });
}

#[tokio::test]
async fn missing_metrics_bring_the_rule_and_forbid_every_stop() {
    let (world, evaluator) = setup().await;
    world.take_down(op::METRICS_SERIES, Kind::Unavailable);
    let made = decide(&evaluator, TICK).await;
    let Decider::Rule { because, .. } = &made.decider else { panic!("{:?}", made.decider) };
    assert!(because.contains("cpu_util_avg (source failed)"), "{because}");
    assert_eq!(made.doubts["mem_util_p90"], "source failed");
    assert!((0..3).all(|i| !Action::Stop(i, 1).is_allowed(&made.mask)));
    assert!(made.lstm.is_some(), "the network stays warm");
}

#[tokio::test]
async fn each_metric_says_why_it_is_missing_and_a_series_is_aggregated_as_its_configuration_says() {
    let (world, evaluator) = setup().await;
    let mut config = pool_config("p");
    let MetricSource::CloudWatch { aggregation, .. } = config.metrics.get_mut("cpu_util_avg").unwrap() else {
        panic!()
    };
    *aggregation = Aggregation::Mean { minutes: 3 };
    world.put_config(&config).await.unwrap();
    let tick = TICK + 600;
    let add = |name: &str, age_s: u64, value: f64| {
        world.add_point("p", &config.metrics[name], Point { at_ms: (tick - age_s) * 1000, value });
    };
    for (age_s, value) in [(60, 0.25), (120, 0.5), (180, 0.75), (240, 1.0)] {
        add("cpu_util_avg", age_s, value);
    }
    add("cpu_util_p90", 60, f64::NAN);
    add("mem_util_avg", 60, 7.0);
    let made = decide(&evaluator, tick).await;
    assert_eq!(made.observation.cpu_util_avg, Some(0.5));
    assert!(
        made.reason.contains("cpu_util_p90 (not finite), mem_util_avg (absurd), mem_util_p90 (late)"),
        "{}",
        made.reason
    );
    let doubts: Vec<&str> = made.doubts.values().map(String::as_str).collect();
    assert_eq!((made.missing.len(), doubts), (3, vec!["not finite", "absurd", "late"]));
}

#[tokio::test]
async fn with_no_machine_in_service_nobody_publishes_metrics_and_the_policy_decides_all_the_same() {
    let world = World::with_pool(&pool_config("p"));
    world.put(&task("p", "t", (TICK - 90) * 1000)).await.unwrap();
    promote(&world, 0).await;
    let made = decide(&over(&world), TICK).await;
    assert_eq!(made.decider, Decider::Policy { sha256: hash(0) });
    assert_eq!((made.observation.cpu_util_avg, made.observation.mem_util_p90), (Some(0.0), Some(0.0)));
    // one that boots publishes none either
    world.put_new(&instance("p", "i-0", 0, TICK * 1000)).await.unwrap();
    assert_eq!(decide(&over(&world), TICK + 60).await.decider, Decider::Policy { sha256: hash(0) });
    // and one in service does
    world.mark_ready(&instance("p", "i-0", 0, TICK * 1000), (TICK + 90) * 1000).await.unwrap();
    let silent = decide(&over(&world), TICK + 120).await;
    assert_eq!(
        (silent.policy_name().as_str(), silent.doubts["cpu_util_avg"].as_str()),
        ("rule:production", "no point")
    );
}

/// Time after which these tests' evaluators wait for nothing. What does not hang answers at once.
const PATIENCE: Duration = Duration::from_millis(30);

/// Keys of which the second has signed policy 0.
async fn signed(world: &World) -> signing::PublicKeys {
    let keys = [1, 2].map(|seed| signing::SigningKey::from_seed(&[seed; 32]).unwrap());
    let signature = keys[1].sign(&hash(0), &serde_json::to_vec(&policies()[0].1).unwrap());
    world.put_file(&hash(0), &signing::file_name(keys[1].public()), signature).await.unwrap();
    signing::PublicKeys::parse(&keys.map(|key| key.public().to_string()).join(",")).unwrap()
}

#[tokio::test]
async fn a_store_that_hangs_at_any_call_costs_a_cold_evaluator_the_policy_and_never_the_decision() {
    // The policy's file and two signatures are three calls of the same operation.
    let calls = [(op::POLICIES_POINTER, 0), (op::POLICIES_MANIFEST, 0)];
    let files = [0, 1, 2].map(|calls| (op::POLICIES_FILE, calls));
    for (operation, calls) in calls.into_iter().chain(files) {
        let (world, evaluator) = setup().await;
        let evaluator = evaluator.trusting(Some(signed(&world).await)).patient_for(PATIENCE);
        world.hang_after(operation, calls);
        let made = decide(&evaluator, TICK).await;
        assert!(made.reason.contains("no whole answer in 30ms"), "{operation} {calls}: {}", made.reason);
        assert_eq!(made.policy_name(), "rule:production", "{operation} {calls}");
        world.bring_up(operation);
        metrics(&world, &pool_config("p"), TICK + 60);
        assert_eq!(decide(&evaluator, TICK + 60).await.policy_name(), hash(0), "{operation} {calls}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_leaves_the_last_good_policy_of_a_warm_evaluator_in_charge() {
    for operation in [op::POLICIES_POINTER, op::POLICIES_MANIFEST, op::POLICIES_FILE] {
        let (world, evaluator) = setup().await;
        let evaluator = evaluator.patient_for(PATIENCE);
        decide(&evaluator, TICK).await;
        promote(&world, 1).await;
        world.hang_after(operation, 0);
        metrics(&world, &pool_config("p"), TICK + 60);
        let made = decide(&evaluator, TICK + 60).await;
        assert_eq!(made.policy_name(), hash(0), "{operation}");
        assert!(made.reason.contains("no whole answer"), "{operation}: {}", made.reason);
    }
}

#[tokio::test]
async fn past_observations_that_never_come_cost_the_policy_and_never_the_decision() {
    let (world, evaluator) = setup().await;
    // Only the last decisions are read once more, for a policy without a state.
    world.hang_after(op::DECISIONS_BEFORE, 1);
    let made = decide(&evaluator.patient_for(PATIENCE), TICK).await;
    assert_eq!(made.policy_name(), "rule:production");
    assert!(made.reason.contains("warm-up: before: Timeout"), "{}", made.reason);
}

#[tokio::test]
async fn an_unreadable_queue_means_that_nothing_is_done() {
    let (world, evaluator) = setup().await;
    world.take_down(op::TASKS_OPEN, Kind::Throttled);
    let made = decide(&evaluator, TICK).await;
    assert_eq!((made.action, made.verdict), (Action::Nothing, Verdict::Hold));
    assert_eq!(made.observation.queue_depth, None);
}

#[tokio::test]
async fn what_no_decision_can_do_without_is_an_error_and_writes_nothing() {
    let needed = [op::CONTROL_CONFIG, op::CONTROL_HEAD, op::CONTROL_KILL_SWITCH, op::INSTANCES_ALIVE];
    for operation in needed {
        let (world, evaluator) = setup().await;
        world.take_down(operation, Kind::Unavailable);
        assert!(evaluator.tick(&at(TICK)).await.is_err(), "{operation}");
        assert!(world.decisions().is_empty());
    }
}

#[tokio::test]
async fn a_fleet_below_its_minimum_is_brought_back_before_anything_else() {
    let mut config = pool_config("p");
    config.sizes[1].bounds = Bounds::new(2, Some(4)).unwrap();
    let world = World::with_pool(&config);
    let made = decide(&over(&world), TICK).await;
    assert_eq!((made.action, made.verdict), (Action::Launch(1, 1), Verdict::Act));
    assert_eq!(made.policy_name(), "rule:minimum");
}

#[tokio::test]
async fn observe_and_the_kill_switch_record_and_never_act() {
    let mut config = pool_config("p");
    config.sizes[0].bounds = Bounds::new(1, Some(4)).unwrap();
    config.mode = contract::control::Mode::Observe;
    let made = decide(&over(&World::with_pool(&config)), TICK).await;
    assert_eq!((made.action, made.verdict), (Action::Launch(0, 1), Verdict::Hold));
    assert!(made.reason.starts_with("observe"), "{}", made.reason);
    config.mode = contract::control::Mode::Off;
    assert_eq!(over(&World::with_pool(&config)).tick(&at(TICK)).await.unwrap(), Ticked::Off);
}

#[tokio::test]
async fn finished_and_running_tasks_do_not_wait() {
    let (world, evaluator) = setup().await;
    let running = TaskRecord { started_ms: Some(TICK * 1000 - 5), ..task("p", "r", (TICK - 20) * 1000) };
    let done = TaskRecord { finished_ms: Some(TICK * 1000 - 1), ..running.clone() };
    world.put(&running).await.unwrap();
    world.put(&TaskRecord { task_id: "d".into(), ..done }).await.unwrap();
    let o = decide(&evaluator, TICK).await.observation;
    assert_eq!((o.queue_depth, o.running, o.arrivals), (Some(1), Some(1), Some(2)));
}

/// A pool whose fleet is below its minimum by an S, under these caps of the hour and the day.
async fn below_minimum(usd_per_hour_max: Option<f64>, usd_per_day_max: Option<f64>) -> (World, Decision) {
    let (world, evaluator) = setup().await;
    let mut config = PoolConfig { usd_per_hour_max, usd_per_day_max, ..pool_config("p") };
    config.sizes[0].bounds = Bounds::new(2, Some(4)).unwrap();
    world.put_config(&config).await.unwrap();
    let made = decide(&evaluator, TICK).await;
    (world, made)
}

#[tokio::test]
async fn the_hours_money_cap_masks_launches_even_those_for_the_minimum() {
    let (_, made) = below_minimum(Some(1.6), None).await;
    assert_eq!((made.action, made.refusals[1].as_str()), (Action::Launch(0, 1), ""), "1.4 dollars an hour run");
    assert_eq!(made.refusals[3], "the money cap of the hour");
    let spending = made.spending.unwrap();
    assert!((spending.room_usd_per_hour - 0.2).abs() < 1e-9 && !spending.is_full, "{spending:?}");
    assert_eq!((spending.usd_per_hour, spending.usd_today), (1.4, None));
    let (_, made) = below_minimum(Some(1.599_999), None).await;
    assert!(!made.mask[1] && !matches!(made.action, Action::Launch(..)), "{:?}", made.action);
    assert!(made.reason.contains("no launch: the money cap of the hour leaves $0.200 an hour"), "{}", made.reason);
    assert!(made.mask[4], "stops are free");
}

#[tokio::test]
async fn the_days_money_counts_what_ran_since_midnight_and_what_will_run_until_the_next() {
    // Three machines for a quarter of an hour at 1.4 dollars; the rest of the day is 106 minutes at 1.6.
    let exactly = 1.4 / 4.0 + 1.6 * 106.0 / 60.0;
    let (_, made) = below_minimum(None, Some(exactly + 1e-6)).await;
    assert_eq!(made.action, Action::Launch(0, 1));
    assert!((made.spending.unwrap().usd_today.unwrap() - 0.35).abs() < 1e-8);
    let (_, made) = below_minimum(None, Some(exactly - 1e-6)).await;
    assert_eq!(made.refusals[1], "the money cap of the day");
    assert!(made.spending.unwrap().is_used_up());
}

#[tokio::test]
async fn what_was_spent_and_cannot_be_read_forbids_launches_and_nothing_else() {
    let (world, evaluator) = setup().await;
    world.put_config(&PoolConfig { usd_per_month_max: Some(1e6), ..pool_config("p") }).await.unwrap();
    world.take_down(op::INSTANCES_ENDED, Kind::Throttled);
    let made = decide(&evaluator, TICK).await;
    assert_eq!([1, 3, 5].map(|launch| made.refusals[launch].as_str()), ["spending that cannot be read"; 3]);
    assert!(made.mask[2] && made.mask[4] && made.mask[6]);
    assert!(matches!(made.decider, Decider::Policy { .. }));
}
