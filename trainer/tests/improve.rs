//! The improvement job against fakes: one at a time, once per run, on from where it was, alone or in an array.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backtest::gate::{Gate, GateConfig, Tolerance};
use calibration::Window;
use contract::capacity::Bounds;
use contract::control::Lease;
use contract::limits::POLICY_BYTES_MAX;
use contract::manifest::{Manifest, Pointer};
use contract::pool::PoolConfig;
use controller::ports::{Instances, Kind, Leases, PolicyStore, Runs, Tasks};
use serde_json::json;
use signing::{PublicKeys, SigningKey};
use testkit::builders::{instance, pool_config, task};
use testkit::fate::{Director, Fate};
use testkit::{World, fault, op};
use twinscaler::commands::improve::{ImproveError, Request, run, train_one};
use twinscaler::commands::window::Ports;
use twinscaler::device::{DeviceChoice, select};
use twinscaler::parity::package;
use twinscaler::ppo::config::CloningConfig;
use twinscaler::ppo::{PpoConfig, State, Weights};
use twinscaler::promote::{Bundle, keep, promote, signed_by};

static NEVER: AtomicBool = AtomicBool::new(false);
const HOUR_MS: u64 = 3_600_000;
const UNTIL_MS: u64 = 1_700_000_000_000 / HOUR_MS * HOUR_MS;

/// A pool with a machine of each size, and four hours of its history: a burst of tasks every twenty minutes.
async fn world() -> World {
    let mut config = pool_config("p");
    config.sizes.iter_mut().for_each(|s| s.bounds = Bounds::new(1, Some(10)).unwrap());
    world_of(config).await
}

async fn world_of(config: PoolConfig) -> World {
    let world = World::with_pool(&config);
    for size in 0..3 {
        let mut machine = instance("p", &format!("i-{size}"), size, UNTIL_MS - 6 * HOUR_MS);
        machine.ready_ms = Some(machine.launched_ms + 60_000);
        Instances::put_new(&world, &machine).await.unwrap();
    }
    for burst in 0..12 {
        for k in 0..20 {
            let submitted_ms = UNTIL_MS - 4 * HOUR_MS + burst * HOUR_MS / 3 + k * 1000;
            let mut task = task("p", &format!("t-{burst}-{k}"), submitted_ms);
            task.started_ms = Some(submitted_ms + 5_000);
            task.finished_ms = Some(submitted_ms + 125_000);
            task.attempts = 1;
            Tasks::put(&world, &task).await.unwrap();
        }
    }
    world
}

fn ports(world: &World) -> Ports<World, World, World, World, World> {
    let world = || world.clone();
    Ports { tasks: world(), instances: world(), decisions: world(), control: world(), policies: world() }
}

fn request() -> Request {
    let settings = PpoConfig {
        steps: 2048,
        n_envs: 4,
        rollout_steps: 64,
        sequence_steps: 32,
        lstm_cells: 8,
        evaluate_every_steps: 512,
        evaluate_episodes: 2,
        cloning: CloningConfig { steps: 512, ..CloningConfig::default() },
        ..PpoConfig::default()
    };
    Request {
        pool: "p".into(),
        window: Window { from_ms: UNTIL_MS - HOUR_MS, until_ms: UNTIL_MS },
        older: 7,
        settings: vec![settings],
        seed: 1,
        population: 1,
        gate: Default::default(),
        gate_config: Default::default(),
        signing: None,
        logs: None,
    }
}

fn cpu() -> burn::tensor::Device {
    select(DeviceChoice::Cpu).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_what_it_said_and_lets_others_work() {
    let (world, request) = (world().await, request());
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    // four hours of history: two are learned from, two are held out
    let windows = (said["windows_learned"].as_u64(), said["windows_judged"].as_u64());
    assert_eq!((said["pool"].as_str(), windows), (Some("p"), (Some(2), Some(2))), "{said}");
    assert!(said["judgement"]["because"].as_str().is_some_and(|b| !b.is_empty()), "{said}");
    assert_eq!(said["device"].as_str().map(|d| d.starts_with("the CPU")), Some(true), "{said}");
    let promoted = said["judgement"]["promoted"].as_bool().unwrap();
    assert_eq!(world.pointer("p").await.unwrap().is_some(), promoted);
    let held = world.take("p", &Lease { owner: "next".into(), until_ms: u64::MAX }, 0).await.unwrap();
    assert_eq!(held, None, "the lease was given back");
    world.give_back("p", "next").await.unwrap();
    let reads = world.count(op::TASKS_SUBMITTED);
    assert_eq!(run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap(), said);
    assert_eq!(world.count(op::TASKS_SUBMITTED), reads, "nothing was done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_window_that_the_twin_is_wrong_about_is_not_judged_on() {
    let (world, request) = (world().await, request());
    // machines that came and went in the first hour without any decision, which the twin knows nothing of
    for i in 0..8 {
        let mut machine = instance("p", &format!("i-x{i}"), 2, UNTIL_MS - 4 * HOUR_MS + HOUR_MS / 4);
        machine.terminated_ms = Some(UNTIL_MS - 3 * HOUR_MS - 1);
        Instances::put_new(&world, &machine).await.unwrap();
    }
    let judged = async |error_max: f64, seed: u64| {
        let gate_config = GateConfig { twin_error_max: error_max, ..GateConfig::default() };
        let request = Request { gate_config, seed, ..request.clone() };
        run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap()["windows_judged"].as_u64()
    };
    assert_eq!((judged(0.25, 1).await, judged(1e9, 2).await), (Some(1), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_has_nothing_but_what_is_held_out_learns_from_its_last_window_and_says_so() {
    let world = world().await;
    // of these two hours the first is held out, and the second is learned from
    for until_ms in [UNTIL_MS - HOUR_MS, UNTIL_MS] {
        let window = Window { from_ms: until_ms - HOUR_MS, until_ms };
        let request = Request { window, older: 0, ..request() };
        let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
        assert_eq!((&said["windows_learned"], &said["windows_judged"]), (&json!(1), &json!(1)), "{said}");
        assert!(report_of(&world, &said).await.contains("Windows: 1, not held out"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_job_works_another_is_told_so() {
    let world = world().await;
    let lease = Lease { owner: "the other".into(), until_ms: u64::MAX / 2_000_000 };
    assert_eq!(world.take("p", &lease, 0).await.unwrap(), None);
    let error = run(&ports(&world), &request(), "job", &cpu(), &NEVER).await.unwrap_err();
    assert!(matches!(&error, ImproveError::Held { owner, .. } if owner == "the other"), "{error}");
    assert_eq!(world.count(op::TASKS_SUBMITTED), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_lost_its_lease_changes_nothing() {
    let (world, request) = (world().await, Request { gate: Gate::Published, ..request() });
    let job = tokio::spawn({
        let (world, request) = (world.clone(), request.clone());
        async move { run(&ports(&world), &request, "job", &cpu(), &NEVER).await }
    });
    // in mid-training somebody else finds that the lease has run out, as after a long pause of the machine
    while world.count(op::RUNS_PUT) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let theirs = Lease { owner: "the other".into(), until_ms: u64::MAX / 1_000_000 };
    assert_eq!(world.outside().take("p", &theirs, u64::MAX / 2_000_000).await.unwrap(), None);
    let error = job.await.unwrap().unwrap_err();
    assert!(matches!(error, ImproveError::LeaseLost), "{error}");
    assert_eq!(world.pointer("p").await.unwrap(), None);
    assert!(!world.run_files(&request.run()).iter().any(|name| name.starts_with("result-")), "it says nothing");
    let held = world.take("p", &Lease { owner: "job".into(), until_ms: u64::MAX }, 0).await.unwrap();
    assert_eq!(held.map(|lease| lease.owner).as_deref(), Some("the other"), "the other's lease was not given back");
}

/// One call's answer is lost, after so many that work.
struct CutAt {
    operation: &'static str,
    calls_left: usize,
}

impl Director for CutAt {
    fn fate(&mut self, operation: &'static str) -> Fate {
        if operation != self.operation {
            return Fate::Fine;
        }
        let is_cut = self.calls_left == 0;
        self.calls_left = self.calls_left.wrapping_sub(1);
        if is_cut { Fate::Lost(fault(operation, "Cut", Kind::Unavailable)) } else { Fate::Fine }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_goes_on_where_it_was() {
    let (world, request) = (world().await, request());
    // the first file says what it learns on from, the second is its first state
    world.direct(CutAt { operation: op::RUNS_PUT, calls_left: 1 });
    assert!(run(&ports(&world), &request, "job", &cpu(), &NEVER).await.is_err());
    world.heal();
    let kept = world.run_file(&request.run(), "0/state", usize::MAX).await.unwrap().expect("it kept its state");
    assert!(State::from_bytes(&kept).unwrap().steps > 0);
    // a state that is done, with a best and a last: a run that goes on from it ends with the better one, whichever that is, for
    // what the best was worth then says nothing now
    let of = async |best: u64, last: u64| {
        let (other, best) = (self::world().await, Some((1e9, Weights::new(8, best))));
        let state = State { steps: 2048, best, ..State::of(Weights::new(8, last)) };
        other.put_run_file(&request.run(), "0/state", state.to_bytes()).await.unwrap();
        run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
        candidate_of(&other, &request).await
    };
    let better = of(77, 78).await;
    assert!([77, 78].iter().any(|seed| better == Weights::new(8, *seed)), "one of them");
    assert_eq!(of(78, 77).await, better);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_before_the_pointer_moved_moves_it() {
    let (world, request) = (world().await, Request { gate: Gate::Published, ..request() });
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    // whatever this one was judged: the same run with a verdict to promote, and no pointer yet
    let other = self::world().await;
    let checkpoint = world.run_file(&request.run(), "0/checkpoint", usize::MAX).await.unwrap().unwrap();
    let weights = Weights::from_checkpoint(&checkpoint).unwrap();
    let (onnx, manifest) = package(&weights, Default::default()).unwrap();
    assert_eq!(json!(manifest.sha256), said["candidate"]);
    let bundle = Bundle { onnx, manifest, checkpoint, report: Vec::new() };
    keep(&other, &bundle.package(), None).await.unwrap();
    let mut verdict = said.clone();
    verdict["judgement"]["promoted"] = true.into();
    let result = world.run_files(&request.run()).into_iter().find(|name| name.starts_with("result-")).unwrap();
    other.put_run_file(&request.run(), &result, verdict.to_string().into_bytes()).await.unwrap();
    // whoever trains can write a verdict: with a key, it is no reason to sign, and the run is judged again
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let request = Request { signing: Some(key.clone()), ..request };
    let again = run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(again["judgement"], said["judgement"], "as this gate judges, and not as the forged verdict does");
    assert!(other.pointer("p").await.unwrap().is_none(), "this candidate is none to promote");
    other.put_run_file(&request.run(), &result, verdict.to_string().into_bytes()).await.unwrap();
    keep(&other, &bundle.package(), Some(&key)).await.unwrap();
    run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
    let (pointer, _) = other.pointer("p").await.unwrap().expect("somebody is in charge");
    assert_eq!(json!(pointer.sha256), said["candidate"]);
    let keys = PublicKeys::parse(&key.public().to_string()).unwrap();
    assert_eq!(signed_by(&other, &pointer.sha256, &keys).await.unwrap().as_deref(), Some(key.public().id()));
    // it says so as long as that is true
    let again = run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(again["in_charge"], true, "{again}");
    // who rolls it back does not get it again
    let (stands, _) = other.pointer("p").await.unwrap().unwrap();
    let rolled_back = Pointer { sha256: "0".repeat(64), previous: Some(stands.sha256.clone()), ..stands };
    other.overwrite_pointer("p", rolled_back.clone());
    let mut verdict = verdict.clone();
    verdict["incumbent"] = json!(rolled_back.sha256);
    other.put_run_file(&request.run(), &result, verdict.to_string().into_bytes()).await.unwrap();
    let again = run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(again["in_charge"], false, "{again}");
    assert_eq!(other.pointer("p").await.unwrap().unwrap().0.sha256, rolled_back.sha256);
    let next = put_in_charge(&other, &Weights::new(8, 5)).await;
    let again = run(&ports(&other), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!((&again["judgement"]["promoted"], &again["in_charge"]), (&json!(true), &json!(false)), "{again}");
    assert_eq!(other.pointer("p").await.unwrap().unwrap().0.sha256, next, "the pointer is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_before_the_comparison_judges_and_promotes_nothing() {
    let (world, request) = (world().await, Request { gate: Gate::Published, ..request() });
    train_one(&ports(&world), &request, 0, &cpu(), &NEVER).await.unwrap();
    let error = run(&ports(&world), &request, "job", &cpu(), &AtomicBool::new(true)).await.unwrap_err();
    assert!(matches!(error, ImproveError::Stopped(_)), "{error}");
    assert!(!world.run_files(&request.run()).iter().any(|name| name.starts_with("result-")), "it says nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_not_the_policys_in_charge_is_no_opponent() {
    let (world, request) = (world().await, request());
    let weights = Weights::new(8, 1);
    let (onnx, manifest) = package(&weights, Default::default()).unwrap();
    // whoever can write the store makes the policy in charge look bad, so that any candidate beats it
    let bundle = Bundle { onnx, manifest, checkpoint: Weights::new(8, 2).to_checkpoint(), report: Vec::new() };
    promote(&world, "p", &bundle.package(), None, None).await.unwrap();
    let error = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap_err();
    assert!(matches!(error, ImproveError::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("roll back"), "{error}");
    // with its own it is one
    world.overwrite_file(&bundle.manifest.sha256, "checkpoint", weights.to_checkpoint());
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(said["incumbent"], json!(bundle.manifest.sha256));
    assert_eq!(said["judgement"]["duels"][0]["opponent"], "the policy in charge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_charge_whose_checkpoint_is_damaged_is_an_opponent_all_the_same() {
    let (world, request) = (world().await, request());
    let in_charge = put_in_charge(&world, &Weights::new(8, 1)).await;
    world.overwrite_file(&in_charge, "checkpoint", b"damaged".to_vec());
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(said["judgement"]["duels"][0]["opponent"], "the policy in charge", "{said}");
    assert_eq!(parent_of(&world, &request).await, "", "there is nothing to go on from");
    // one that is far too large is none either
    world.overwrite_file(&in_charge, "checkpoint", vec![0; POLICY_BYTES_MAX + 1]);
    let next = Request { seed: 2, ..request };
    let said = run(&ports(&world), &next, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(said["judgement"]["duels"][0]["opponent"], "the policy in charge", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_says_how_to_go_on() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (world, mut request) = (world().await, request());
    request.settings[0].steps = 1 << 40;
    let (of, run_of) = (world.clone(), request.run());
    let asks = std::thread::spawn(move || {
        let is_there = || of.run_files(&run_of).contains(&"0/state".to_owned());
        // a minute at most, so that a run that keeps no state fails and does not hang
        let is_kept = (0..12_000).any(|_| {
            is_there() || {
                std::thread::sleep(Duration::from_millis(5));
                false
            }
        });
        STOP.store(true, Ordering::Relaxed);
        is_kept
    });
    let error = run(&ports(&world), &request, "job", &cpu(), &STOP).await.unwrap_err();
    assert!(asks.join().unwrap(), "its state is kept");
    assert!(error.to_string().contains("--until 2023-"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_before_it_learns_prepares_no_further() {
    let world = world().await;
    let error = run(&ports(&world), &request(), "job", &cpu(), &AtomicBool::new(true)).await.unwrap_err();
    assert!(matches!(error, ImproveError::Stopped(_)), "{error}");
    assert_eq!((world.count(op::TASKS_SUBMITTED), world.run_files(&request().run()).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_job_leaves_candidates_that_the_last_job_finds() {
    let (world, request) = (world().await, Request { population: 2, ..request() });
    for index in 0..2 {
        train_one(&ports(&world), &request, index, &cpu(), &NEVER).await.unwrap();
        // the same index again finds its candidate
        train_one(&ports(&world), &request, index, &cpu(), &NEVER).await.unwrap();
    }
    let first = world.run_file(&request.run(), "0/checkpoint", usize::MAX).await.unwrap();
    let second = world.run_file(&request.run(), "1/checkpoint", usize::MAX).await.unwrap();
    assert!(first.is_some() && first != second, "they have seeds of their own");
    let puts = world.count(op::RUNS_PUT);
    run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(world.count(op::RUNS_PUT), puts + 2, "nothing was trained again: two files more, report and result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_goes_astray_is_left_out_and_the_others_are_judged() {
    let mut request = request();
    let astray = PpoConfig { learning_rate: 1e30, ..request.settings[0].clone() };
    request.settings.insert(0, astray);
    let world = world().await;
    let error = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap_err();
    assert!(matches!(error, ImproveError::Train(_)), "there is no other: {error}");
    request.population = 2;
    // in a process of its own it is no failure, which would end the others' processes
    train_one(&ports(&world), &request, 0, &cpu(), &NEVER).await.unwrap();
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    let report = report_of(&world, &said).await;
    assert!(report.contains("Candidate 1, the one that was judged") && !report.contains("Candidate 0"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_says_too_little_is_refused_with_the_mend() {
    let world = World::with_pool(&pool_config("p"));
    let error = run(&ports(&world), &request(), "job", &cpu(), &NEVER).await.unwrap_err();
    assert!(error.to_string().contains("widen the window"), "{error}");
    let held = world.take("p", &Lease { owner: "next".into(), until_ms: u64::MAX }, 0).await.unwrap();
    assert_eq!(held, None, "the lease was given back");
}

/// A pool that needs no machine when there is no work, and where an M costs this much an hour.
fn pool_with_m_at(usd_per_hour: f64) -> PoolConfig {
    let mut config = PoolConfig { queue_usd_per_task_hour: 0.3, ..pool_config("p") };
    config.sizes[1].usd_per_hour = usd_per_hour;
    config
}

/// Some seconds of learning; the history was paid at other prices than the twin's, which is not what these tests are about.
fn thorough() -> Request {
    let settings = PpoConfig {
        steps: 40_000,
        n_envs: 16,
        rollout_steps: 128,
        lstm_cells: 16,
        evaluate_every_steps: 4096,
        evaluate_episodes: 8,
        cloning: CloningConfig::default(),
        ..request().settings.remove(0)
    };
    // to wait some seconds more is worth it where a size has become too dear
    let wait_s_p95 = Tolerance { relative: 0.1, absolute: 300.0 };
    let gate_config = GateConfig { twin_error_max: 1e9, wait_s_p95, ..GateConfig::default() };
    Request { settings: vec![settings], gate_config, ..request() }
}

async fn candidate_of(world: &World, request: &Request) -> Weights {
    let bytes = world.run_file(&request.run(), "0/checkpoint", usize::MAX).await.unwrap().unwrap();
    Weights::from_checkpoint(&bytes).unwrap()
}

async fn put_in_charge(world: &World, weights: &Weights) -> String {
    let (onnx, manifest) = package(weights, Default::default()).unwrap();
    let bundle = Bundle { onnx, manifest, checkpoint: weights.to_checkpoint(), report: Vec::new() };
    let stands = world.pointer("p").await.unwrap();
    promote(world, "p", &bundle.package(), stands.as_ref(), None).await.unwrap();
    bundle.manifest.sha256
}

async fn report_of(world: &World, said: &serde_json::Value) -> String {
    let key = said["report"].as_str().unwrap().strip_prefix("candidates/").unwrap();
    let (run, name) = key.split_once('/').unwrap();
    String::from_utf8(world.run_file(run, name, usize::MAX).await.unwrap().unwrap()).unwrap()
}

/// The hash of the policy that the request's candidate learned on from; empty if it was a clone.
async fn parent_of(world: &World, request: &Request) -> String {
    train_one(&ports(world), request, 0, &cpu(), &NEVER).await.unwrap();
    String::from_utf8(world.run_file(&request.run(), "0/parent", usize::MAX).await.unwrap().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_learns_on_from_the_policy_in_charge_unless_that_is_at_a_loss() {
    let (first, mut request) = (world().await, thorough());
    request.settings[0].steps = 2048;
    put_in_charge(&first, &Weights::new(16, 3)).await;
    assert_eq!(parent_of(&first, &request).await, "", "who knows nothing has nothing to go on from");
    let (second, good) = (world().await, candidate_of(&first, &request).await);
    let in_charge = put_in_charge(&second, &good).await;
    assert_eq!(parent_of(&second, &request).await, in_charge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_a_price_has_made_dear_is_replaced_and_does_not_come_back() {
    let (before, request) = (world_of(pool_with_m_at(0.4)).await, thorough());
    run(&ports(&before), &request, "job", &cpu(), &NEVER).await.unwrap();
    let used_to_m = candidate_of(&before, &request).await;
    // the same history, were an M to cost this much: rules look at cores alone, and so does a policy that has learned from them
    let world = world_of(pool_with_m_at(5.0)).await;
    let old = put_in_charge(&world, &used_to_m).await;
    let said = run(&ports(&world), &request, "job", &cpu(), &NEVER).await.unwrap();
    assert_eq!(said["judgement"]["promoted"], true, "{said}");
    let (pointer, _) = world.pointer("p").await.unwrap().unwrap();
    assert_eq!((json!(pointer.sha256), pointer.previous.as_ref()), (said["candidate"].clone(), Some(&old)));
    let manifest: Manifest = serde_json::from_slice(&world.manifest(&pointer.sha256).await.unwrap()).unwrap();
    assert_eq!(manifest.parent, None, "so dear a policy is nothing to go on from: a clone of the rules was");
    let report = report_of(&world, &said).await;
    assert_eq!(world.file(&pointer.sha256, "report.html", usize::MAX).await.unwrap(), report.as_bytes());
    for part in
        ["<b>To be promoted</b>", "Windows: 2, held out from learning", "<polyline", "<h3>the policy in charge</h3>"]
    {
        assert!(report.contains(part), "{part}: {report}");
    }

    // a run whose candidate is the policy of before, planted as what its training has come to
    let next = Request { seed: 2, ..request };
    let state = State { steps: next.settings[0].steps, ..State::of(used_to_m) };
    world.put_run_file(&next.run(), "0/state", state.to_bytes()).await.unwrap();
    let said = run(&ports(&world), &next, "job", &cpu(), &NEVER).await.unwrap();
    let because = said["judgement"]["because"].as_str().unwrap();
    assert!(because.starts_with("no sure saving") && because.contains("against the policy in charge"), "{said}");
    assert_eq!((&said["judgement"]["promoted"], &said["incumbent"]), (&json!(false), &json!(pointer.sha256)));
    assert_eq!(world.pointer("p").await.unwrap().unwrap().0, pointer);
    assert!(report_of(&world, &said).await.contains("<b>Not promoted</b>: no sure saving"));
}
