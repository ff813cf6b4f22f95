//! `explain` against fakes: what it says of one decision and of many, and what it finds wrong.

use std::path::Path;

use clap::Parser;
use contract::capacity::Bounds;
use contract::decision::{Decider, Decision, Intent, IntentState, LstmState, Outcome, Verdict};
use contract::observation::encode;
use contract::plan::Plan;
use contract::record::Ended;
use contract::{Action, Observation};
use controller::ports::{Control, Decisions, Instances};
use policy::Policy;
use signing::{PublicKeys, SigningKey};
use testkit::World;
use testkit::builders::{TICK, decision, instance, observation, pool_config};
use twinscaler::commands::explain::{ExplainArgs, Said, run};
use twinscaler::commands::window::Ports;
use twinscaler::promote::{Bundle, promote};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: ExplainArgs,
}

async fn said(world: &World, options: &[&str], keys: Option<&PublicKeys>) -> Said {
    let args = Cli::parse_from(["explain"].iter().chain(options)).args;
    let port = || world.clone();
    let ports = Ports { tasks: port(), instances: port(), decisions: port(), control: port(), policies: port() };
    run(&ports, &args, args.asked().unwrap(), keys).await.unwrap()
}

/// The shipped policy: one that has learned something can be swayed.
fn bundle() -> Bundle {
    Bundle::read(Path::new("../policies/initial")).unwrap()
}

/// The queue grows by three tasks a tick.
fn seen(i: u64) -> Observation {
    Observation { queue_depth: Some(3 * i as u32), oldest_wait_s: Some(60.0 * i as f64), ..observation() }
}

/// Five ticks as an evaluator decides them that holds whatever the policy wants; `change` tampers with the record of one.
async fn world(change: impl Fn(u64, &mut Decision)) -> World {
    let world = World::with_pool(&pool_config("p"));
    let bundle = bundle();
    promote(&world, "p", &bundle.package(), None, None).await.unwrap();
    let policy = Policy::load(&bundle.onnx, &bundle.manifest).unwrap();
    let mut state = policy.zero_state();
    for i in 0..5 {
        let plain = decision("p", TICK + 60 * i, Action::Nothing);
        let out = policy.step(&encode(&seen(i)), &plain.mask, &mut state).unwrap();
        let mut decided = Decision {
            observation: seen(i),
            verdict: Verdict::Hold,
            reason: "no change; the policy".into(),
            decider: Decider::Policy { sha256: policy.sha256().to_owned() },
            probabilities: Some(out.probabilities),
            value: Some(out.value),
            lstm: Some(LstmState { policy: policy.sha256().to_owned(), h: state.h.clone(), c: state.c.clone() }),
            ..plain
        };
        change(i, &mut decided);
        world.put_once(&decided).await.unwrap();
    }
    world
}

const WINDOW: &str = "p@2023-11-14T22:00:00Z/2023-11-14T23:00:00Z";

#[tokio::test]
async fn one_decision_is_told_with_its_choices_and_replayed() {
    let world = world(|_, _| ()).await;
    let Said { text, is_right } = said(&world, &["--pool", "p", "--at", "2023-11-14T22:17:30Z"], None).await;
    assert!(is_right);
    // TICK is 22:14:00; the decision that stood then is number 3
    assert!(text.starts_with("p at 2023-11-14T22:17:00Z: nothing, held"), "{text}");
    assert!(text.contains("queue_depth 9,") && text.contains("oldest_wait_s 180,"), "{text}");
    assert!(text.contains("replay    the same numbers, bit for bit"), "{text}");
    assert!(text.contains("options   ") && text.contains(" % █"), "{text}");
    assert!(text.contains("swayed by ") && text.contains(": without it "), "{text}");
}

#[tokio::test]
async fn many_decisions_are_listed_in_short_and_verified() {
    let world = world(|_, _| ()).await;
    let Said { text, is_right } = said(&world, &["--pool", WINDOW, "--verify"], None).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("5 times no change, by policy "), "{text}");
    assert_eq!(lines[1], "5 decisions: 0 asked for something; held: 5 no change", "{text}");
    assert_eq!(lines[2], "5 replayed: 5 bit for bit, 0 but for rounding, 0 without a policy", "{text}");
    assert!(is_right && lines[3] == "nothing is wrong", "{text}");
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_found() {
    let world = world(|i, d| {
        if i == 2 {
            d.observation.queue_depth = Some(500);
        }
    });
    let Said { text, is_right } = said(&world.await, &["--pool", WINDOW, "--verify"], None).await;
    assert!(!is_right && text.contains("I9 2023-11-14T22:16:00Z: its replay gives OTHER NUMBERS"), "{text}");
    assert!(text.contains("4 bit for bit") && text.ends_with("1 findings"), "{text}");
}

#[tokio::test]
async fn a_value_or_a_state_that_was_tampered_with_is_found_too() {
    let changes: [fn(&mut Decision); 4] = [
        |d| d.value = d.value.map(|v| v + 1.0),
        |d| d.value = None,
        |d| d.lstm.as_mut().unwrap().h[0] += 0.01,
        |d| d.lstm.as_mut().unwrap().c.truncate(3),
    ];
    for (k, change) in changes.into_iter().enumerate() {
        // in the last one, whose state no other goes on from
        let world = world(|i, d| {
            if i == 4 {
                change(d)
            }
        })
        .await;
        let Said { text, is_right } = said(&world, &["--pool", WINDOW, "--verify"], None).await;
        assert!(!is_right && text.contains("4 bit for bit, 0 but for rounding"), "{k}: {text}");
        assert!(text.contains("I9 2023-11-14T22:18:00Z"), "{k}: {text}");
    }
}

#[tokio::test]
async fn a_machine_that_ended_since_counts_however_old_it_is() {
    let world = world(|i, d| {
        if i == 4 {
            (d.action, d.verdict) = (Action::Stop(2, 1), Verdict::Act);
            let stopped = vec!["i-2".to_owned()];
            let plan = Plan::Terminate { instance_ids: stopped.clone(), size: 2, drain_until_ms: None };
            let outcome = Some(Outcome::Terminated { instance_ids: stopped });
            let (state, claimed_ms) = (IntentState::Settled, d.tick * 1000);
            d.intent = Some(Intent { state, generation: 1, claimed_ms, plan: Some(plan), outcome });
        }
    })
    .await;
    let mut config = pool_config("p");
    config.sizes[2].bounds = Bounds::new(1, Some(10)).unwrap();
    world.outside().put_config(&config).await.unwrap();
    let month_ms = 30 * 24 * 3_600_000;
    let mut old = instance("p", "i-1", 2, TICK * 1000 - month_ms);
    old.terminated_ms = Some((TICK + 7200) * 1000);
    let mut stopped = instance("p", "i-2", 2, TICK * 1000 - month_ms);
    stopped.terminated_ms = Some((TICK + 240) * 1000);
    for record in [&old, &stopped] {
        world.outside().put_new(record).await.unwrap();
    }
    let Said { text, is_right } = said(&world, &["--pool", WINDOW, "--verify"], None).await;
    assert!(is_right, "{text}");
}

#[tokio::test]
async fn a_machine_that_was_ended_as_it_never_took_tasks_is_told_of() {
    let world = world(|_, _| ()).await;
    let mut stuck = instance("p", "i-1", 2, TICK * 1000 - 3_600_000);
    (stuck.terminated_ms, stuck.ended) = (Some((TICK + 60) * 1000), Some(Ended::Stuck));
    let mut lost = instance("p", "i-2", 2, TICK * 1000 - 3_600_000);
    (lost.terminated_ms, lost.ended) = (Some((TICK + 60) * 1000), Some(Ended::Lost));
    let mut later = instance("p", "i-3", 2, TICK * 1000 - 3_600_000);
    (later.terminated_ms, later.ended) = (Some((TICK + 86_400) * 1000), Some(Ended::Stuck));
    for record in [&stuck, &lost, &later] {
        world.outside().put_new(record).await.unwrap();
    }
    let Said { text, .. } = said(&world, &["--pool", WINDOW], None).await;
    let told = "2023-11-14T22:15:00Z  i-1 was ended without a decision: it never took tasks";
    assert!(text.ends_with(told) && !text.contains("i-2") && !text.contains("i-3"), "{text}");
    let Said { text, .. } = said(&world, &["--pool", WINDOW, "--json"], None).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ended = serde_json::json!([{"time": "2023-11-14T22:15:00Z", "instance": "i-1"}]);
    assert_eq!(json["ended_without_decision"], ended);
}

#[tokio::test]
async fn a_policy_that_nobody_trusted_has_signed_is_found() {
    let (world, key) = (world(|_, _| ()).await, SigningKey::from_seed(&[1; 32]).unwrap());
    let keys = PublicKeys::parse(&key.public().to_string()).unwrap();
    let Said { text, is_right } = said(&world, &["--pool", WINDOW, "--verify", "--json"], Some(&keys)).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(!is_right);
    assert_eq!((&json["findings"][0]["invariant"], json["findings"].as_array().unwrap().len()), (&"I7".into(), 5));
    assert_eq!(json["decisions"][4]["replay"]["replay"], "bit_for_bit");
}

#[tokio::test]
async fn a_policy_that_is_gone_is_said_and_no_finding() {
    let world = world(|i, d| {
        if i == 4 {
            d.lstm.as_mut().unwrap().policy = "0".repeat(64);
        }
    });
    // keys make no difference: one that is gone is signed by nobody
    let keys = PublicKeys::parse(&SigningKey::from_seed(&[1; 32]).unwrap().public().to_string()).unwrap();
    let world = world.await;
    let Said { text, is_right } = said(&world, &["--pool", WINDOW, "--verify"], None).await;
    assert!(is_right && text.contains("4 bit for bit") && text.contains("not replayed: policy 0000"), "{text}");
    let Said { text, .. } = said(&world, &["--pool", WINDOW, "--verify"], Some(&keys)).await;
    assert!(text.contains("I7") && !text.contains("signed policy 0000"), "of the policy that is there alone: {text}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_mend() {
    let asked = |options: &[&str]| Cli::parse_from(["explain"].iter().chain(options)).args.asked();
    let wrong = |options: &[&str]| asked(options).unwrap_err().to_string();
    assert!(wrong(&["--pool", "p@soon"]).contains("for example demo@6h"));
    assert!(wrong(&["--pool", "P p"]).contains("NAME@WINDOW"));
    assert!(wrong(&["--pool", "p@6h", "--at", "2026-01-01T00:00:00Z"]).contains("without --at"));
}
