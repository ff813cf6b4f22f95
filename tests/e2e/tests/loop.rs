//! The two loops end to end: real function binaries, the deployed template, the emulators, a real Graphite.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contract::Action;
use contract::capacity::Counts;
use contract::decision::{Decider, Decision, Outcome, Verdict};
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;
use controller::offering::without_capacity;
use controller::ports::{Cloud, Control, Decisions, Instances, PolicyStore, Tasks};
use e2e::load::published_shape;
use e2e::run::Run;
use e2e::stack::{Stack, workspace};
use e2e::summary::Records;
use localcloud::{Fault, FaultKind};
use serde_json::json;
use twinscaler::ppo::weights::Weights;
use twinscaler::promote::{Bundle, promote};

fn initial() -> PathBuf {
    workspace().join("policies/initial")
}

/// A full minute some hours ago: Graphite and CloudWatch take no points from the future.
fn some_hours_ago() -> u64 {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now_s / 60 - 240) * 60
}

/// A stack with a pool that has the shipped policy.
async fn stack(cooldown_s: u64) -> (Stack, PoolConfig) {
    let stack = Stack::start("e2e", None).await.unwrap_or_else(|e| panic!("{e}"));
    let config = stack.pool_config(cooldown_s);
    stack.create_pool(&config, &initial()).await.unwrap_or_else(|e| panic!("{e}"));
    (stack, config)
}

/// A decision that asks for `action`, written as the evaluator would, so that the stream starts the executor.
async fn ask(stack: &Stack, tick: u64, action: Action) -> Decision {
    let decision = Decision { pool: stack.pool.clone(), ..testkit::builders::decision(&stack.pool, tick, action) };
    stack.tables.decisions.put_once(&decision).await.unwrap();
    stack.settled(tick).await.unwrap_or_else(|e| panic!("{e}"))
}

fn outcome(d: &Decision) -> &Outcome {
    d.intent.as_ref().and_then(|i| i.outcome.as_ref()).expect("settled")
}

async fn machines(stack: &Stack) -> usize {
    stack.ec2.describe(&stack.pool).await.unwrap().iter().filter(|m| m.alive).count()
}

/// Another policy than the shipped one, packaged as the trainer does it.
fn another_policy() -> Bundle {
    let weights = Weights::new(16, 7);
    let (onnx, manifest) = twinscaler::parity::package(&weights, Default::default()).unwrap();
    Bundle { onnx, manifest, checkpoint: weights.to_checkpoint(), report: b"<p>test</p>".to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_loop_turns_and_a_promoted_policy_takes_over() {
    let (stack, config) = stack(60).await;
    let start_s = some_hours_ago();
    let load = published_shape(2, (start_s + 60) * 1000, 3);
    let mut run = Run::new(&stack, config, 3, start_s, load);
    let mut promoted = None;
    while run.plant.unfinished() > 0 {
        assert!(run.next_tick() < start_s + 90 * 60, "the load takes too long");
        if run.next_tick() == start_s + 12 * 60 {
            let until = e2e::stack::rfc3339(run.next_tick());
            let gate = concat!(env!("CARGO_MANIFEST_DIR"), "/one-window.toml");
            let arguments = ["improve", "--pool", "e2e", "--until", &until, "--steps", "4096", "--json"];
            let arguments = [&arguments[..], &["--gate-config", gate]].concat();
            let said = stack.command(&arguments).await.unwrap_or_else(|e| panic!("{e}"));
            let judged: serde_json::Value = serde_json::from_str(&said).unwrap();
            let (pointer, tag) = stack.store.pointer("e2e").await.unwrap().unwrap();
            let moved = json!(pointer.sha256) != judged["incumbent"];
            assert_eq!(judged["judgement"]["promoted"], json!(moved), "{judged}");
            assert!(!moved || json!(pointer.sha256) == judged["candidate"], "{judged}");
            let bundle = another_policy();
            promote(&stack.store, "e2e", &bundle.package(), Some(&(pointer, tag)), None).await.unwrap();
            promoted = Some((run.next_tick(), bundle.manifest.sha256));
        }
        run.minute().await.unwrap_or_else(|e| panic!("{e}"));
    }
    run.minute().await.unwrap();
    let records = Records::read(&stack, start_s, run.next_tick()).await.unwrap();
    assert_eq!(records.broken(&stack, 150).await.unwrap(), Vec::<String>::new());

    let (since, sha256) = promoted.expect("the run is longer than 12 minutes");
    for d in records.decisions.iter().filter(|d| d.tick >= since) {
        assert_eq!(d.lstm.as_ref().map(|s| &s.policy), Some(&sha256), "tick {}", d.tick);
    }
    let by_policy = records.decisions.iter().filter(|d| matches!(d.decider, Decider::Policy { .. })).count();
    assert!(by_policy * 2 > records.decisions.len(), "{by_policy} of {}", records.decisions.len());
    let measured = records.decisions.iter().filter(|d| d.missing.is_empty()).count();
    assert!(measured * 2 > records.decisions.len(), "metrics of both sources arrive: {measured}");
    let (text, page) = records.report(&stack.pool_config(60)).unwrap();
    assert!(text.contains("the run") && page.contains("<svg"));
    the_twin_is_measured_against(&stack, start_s, run.next_tick()).await;
    the_records_explain_themselves(&stack, start_s, run.next_tick(), records.decisions.len()).await;
}

/// Every decision of the run is replayed by the command, on this processor bit for bit, and the records keep the promises.
async fn the_records_explain_themselves(stack: &Stack, start_s: u64, end_s: u64, decided: usize) {
    let window = format!("e2e@{}/{}", e2e::stack::rfc3339(start_s), e2e::stack::rfc3339(end_s));
    let run = async |arguments: &[&str]| stack.command(arguments).await.unwrap_or_else(|e| panic!("{e}"));
    let said = run(&["explain", "--pool", &window, "--verify"]).await;
    assert!(said.contains(&format!("{decided} replayed: ")) && said.ends_with("nothing is wrong\n"), "{said}");
    assert!(said.contains(", 0 but for rounding") && !said.contains("not replayed"), "{said}");
    let one = run(&["explain", "--pool", "e2e", "--at", &e2e::stack::rfc3339(end_s - 300)]).await;
    assert!(one.contains("replay    the same numbers, bit for bit") && one.contains("saw       billed_cores"), "{one}");
    let json: serde_json::Value = serde_json::from_str(&run(&["explain", "--pool", "e2e", "--json"]).await).unwrap();
    assert_eq!(json["decisions"][0]["replay"]["replay"], "bit_for_bit", "{json}");
}

/// What the tables hold of the run: exported, calibrated on from the tables and from the export, and back-tested.
async fn the_twin_is_measured_against(stack: &Stack, start_s: u64, end_s: u64) {
    let window = format!("e2e@{}/{}", e2e::stack::rfc3339(start_s), e2e::stack::rfc3339(end_s));
    let run = async |arguments: &[&str]| stack.command(arguments).await;
    let said = run(&["calibrate", "--pool", &window, "--json"]).await.unwrap_or_else(|e| panic!("{e}"));
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(found["fit"]["runtime"]["count"].as_u64().unwrap() > 20, "{found}");
    let total = found["quantities"].as_array().unwrap().iter().find(|q| q["name"] == "total_usd").unwrap();
    assert!(total["error"].as_f64().unwrap() < 0.25, "{found}");

    let dir = format!("{}/export", env!("CARGO_TARGET_TMPDIR"));
    run(&["pool", "export", "--pool", &window, "--out", &dir]).await.unwrap_or_else(|e| panic!("{e}"));
    let again = run(&["calibrate", "--from", &dir]).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(again.contains("total_usd") && again.contains("run time:"), "{again}");
    let refused = run(&["calibrate", "--from", &dir, "--max-error", "0"]).await.unwrap_err().to_string();
    assert!(refused.contains("trust the twin"), "{refused}");

    let load = format!("pool:{window}");
    let arguments = ["backtest", "--workload", &load, "--policy", "rule:production", "--seeds", "2", "--json"];
    let said = run(&arguments).await.unwrap_or_else(|e| panic!("{e}"));
    let compared: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(compared["results"][0]["total_usd"]["mean"].as_f64().unwrap() > 0.0, "{compared}");

    let (out, settings) = (format!("{}/learned", env!("CARGO_TARGET_TMPDIR")), "../../trainer/tests/worlds/small.toml");
    // one of before
    let _ = std::fs::remove_dir_all(&out);
    let settings = format!("{}/{settings}", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["train", "--workload", &load, "--steps", "512", "--device", "cpu", "--config", &settings];
    run(&[&arguments[..], &["--out", &out]].concat()).await.unwrap_or_else(|e| panic!("{e}"));
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{out}/manifest.json")).unwrap()).unwrap();
    let twin: serde_json::Value = serde_json::from_str(manifest["settings"]["twin"].as_str().unwrap()).unwrap();
    let (_, fit) = twin["pools"].as_object().unwrap().iter().next().expect("one pool");
    assert_eq!(fit["runtime"]["count"], found["fit"]["runtime"]["count"], "{twin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_do_nothing_more_and_the_cooldown_is_refused_and_recorded() {
    let (stack, _) = stack(120).await;
    let tick = some_hours_ago();

    let first = stack.tick(tick).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((first.action, first.policy_name().as_str()), (Action::Launch(0, 1), "rule:minimum"));
    assert_eq!(stack.tick(tick).await.unwrap(), first, "a duplicate tick is the same decision");
    assert_eq!(stack.tables.decisions.range("e2e", tick, tick + 60).await.unwrap().len(), 1);

    let record = json!({"Records": [{"eventName": "INSERT", "dynamodb": {"SequenceNumber": "1",
        "Keys": {"pool": {"S": "e2e"}, "tick": {"N": tick.to_string()}}}}]});
    for _ in 0..2 {
        let answer = stack.cloud.invoke(&stack.outputs["ExecutorFunctionName"], &record).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }
    assert_eq!(machines(&stack).await, 1, "a duplicate record launches nothing");
    assert_eq!(stack.cloud.gate().calls("RunInstances"), 1);

    let refused = ask(&stack, tick + 60, Action::Launch(1, 1)).await;
    assert_eq!(*outcome(&refused), Outcome::Refused { because: "cooldown".into() });
    assert_eq!(machines(&stack).await, 1);
    let held = stack.tick(tick + 90).await.unwrap();
    assert_eq!((held.verdict, held.refusals[1].as_str()), (Verdict::Hold, "cooldown"));
    let allowed = ask(&stack, tick + 120, Action::Launch(1, 1)).await;
    assert!(matches!(outcome(&allowed), Outcome::Launched { .. }), "{:?}", outcome(&allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_policy_in_the_bucket_leaves_the_last_good_one_in_charge() {
    let (stack, _) = stack(0).await;
    let tick = some_hours_ago();
    let before = stack.tick(tick).await.unwrap_or_else(|e| panic!("{e}"));
    let good = before.lstm.expect("the shipped policy runs").policy;

    let mut bundle = another_policy();
    let last = bundle.onnx.len() - 1;
    bundle.onnx[last] ^= 0xff;
    let incumbent = stack.store.pointer("e2e").await.unwrap();
    promote(&stack.store, "e2e", &bundle.package(), incumbent.as_ref(), None).await.unwrap();

    let after = stack.tick(tick + 60).await.unwrap();
    assert_eq!(after.lstm.map(|s| s.policy), Some(good));
    assert!(after.reason.contains("refused"), "{}", after.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_capacity_is_recorded_and_backed_off_and_nothing_leaks() {
    let (stack, config) = stack(0).await;
    let tick = some_hours_ago();
    let template = config.sizes[2].launch_template.clone();
    stack.cloud.gate().inject(Fault::new(FaultKind::InsufficientInstanceCapacity).launch_template(template));

    let failed = ask(&stack, tick, Action::Launch(2, 1)).await;
    assert_eq!(*outcome(&failed), Outcome::NoCapacity { code: "InsufficientInstanceCapacity".into() });
    let memory = stack.tables.control.no_capacity("e2e").await.unwrap();
    assert_eq!(without_capacity(&config, &memory, tick * 1000), [false, false, true]);
    assert_eq!((machines(&stack).await, stack.tables.instances.alive("e2e").await.unwrap().len()), (0, 0));

    let next = stack.tick(tick + 60).await.unwrap();
    assert!(next.observation.no_capacity[2] && !Action::Launch(2, 1).is_allowed(&next.mask));
    assert_eq!(next.refusals[5], "no capacity");
    assert!(matches!(outcome(&next), Outcome::Launched { .. }), "other sizes go on: {:?}", outcome(&next));
    stack.cloud.gate().clear();
    let reconciled = stack.reconcile(tick + 60).await.unwrap();
    assert_eq!(reconciled["reconciled"]["orphans"], 0);
}

/// Processes that run a function of this cloud: their environment says so.
fn processes_of(function: &str, stack: &Stack) -> Vec<String> {
    let says = |environ: &[u8], variable: String| environ.split(|b| *b == 0).any(|v| v == variable.as_bytes());
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    all.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            says(&environ, format!("AWS_LAMBDA_FUNCTION_NAME={function}"))
                && says(&environ, format!("AWS_ENDPOINT_URL={}", stack.cloud.endpoint()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_killed_in_mid_action_is_finished_by_the_reconciler_without_a_second_machine() {
    let (stack, _) = stack(0).await;
    let tick = some_hours_ago();
    stack.cloud.gate().inject(Fault::new(FaultKind::DelayMs(20_000)).action("RunInstances"));
    let decision =
        Decision { pool: stack.pool.clone(), ..testkit::builders::decision(&stack.pool, tick, Action::Launch(0, 1)) };
    stack.tables.decisions.put_once(&decision).await.unwrap();

    let deadline = Instant::now() + Duration::from_secs(120);
    while machines(&stack).await == 0 {
        assert!(Instant::now() < deadline, "the executor never called EC2");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let executors = processes_of(&stack.outputs["ExecutorFunctionName"], &stack);
    assert!(!executors.is_empty(), "somebody made the machine");
    let killed = std::process::Command::new("kill").arg("-9").args(&executors).status().unwrap();
    assert!(killed.success(), "{executors:?}");
    stack.cloud.gate().clear();

    let pending = stack.tables.decisions.get(&stack.pool, tick).await.unwrap().unwrap().intent.unwrap();
    assert!(pending.outcome.is_none() && pending.plan.is_some(), "{pending:?}");
    let reconciled = stack.reconcile(tick + 180).await.unwrap();
    assert_eq!(reconciled["reconciled"]["finished"], 1, "{reconciled}");
    let finished = stack.settled(tick).await.unwrap();
    let Outcome::Launched { instance_ids } = outcome(&finished) else { panic!("{:?}", outcome(&finished)) };
    let recorded: Vec<String> =
        stack.tables.instances.alive("e2e").await.unwrap().into_iter().map(|r| r.instance_id).collect();
    assert_eq!((&recorded, machines(&stack).await), (instance_ids, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_our_tags_is_never_stopped() {
    let (stack, _) = stack(0).await;
    let tick = some_hours_ago();
    // somebody else's machine, with a forged record that claims it for the pool
    let foreign = stack.cloud.run_foreign_instance().await.unwrap();
    let forged =
        InstanceRecord { ready_ms: Some(1), ..testkit::builders::instance("e2e", &foreign, 0, (tick - 3600) * 1000) };
    stack.tables.instances.put_new(&forged).await.unwrap();

    let decision = ask(&stack, tick, Action::Stop(0, 1)).await;
    assert!(matches!(outcome(&decision), Outcome::Nothing { .. }), "{:?}", outcome(&decision));
    assert_eq!(stack.cloud.gate().calls("TerminateInstances"), 0);
    assert!(stack.cloud.is_running(&foreign).await.unwrap());

    // the reconciler marks the forged record at second sight and leaves the machine alone
    for at in [tick + 60, tick + 120] {
        stack.reconcile(at).await.unwrap();
    }
    assert_eq!(stack.tables.instances.alive("e2e").await.unwrap(), []);
    assert!(stack.cloud.is_running(&foreign).await.unwrap());
    let next = stack.tick(tick + 120).await.unwrap();
    assert_eq!(next.observation.fleet, [Counts::default(); 3]);
    assert!(stack.tables.tasks.open("e2e").await.unwrap().is_empty());
}
