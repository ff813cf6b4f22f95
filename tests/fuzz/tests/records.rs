//! Records as JSON and as items of the tables: decisions, tasks, machines, configuration, head and memory; manifests and
//! pointers.

use std::collections::{BTreeMap, HashMap};

use contract::control::Head;
use contract::decision::{Decision, Intent, IntentState, LstmState, Outcome};
use contract::limits::TICK_MAX;
use contract::manifest::{Golden, MANIFEST_VERSION, Manifest, Pointer};
use contract::money::{Cap, Spending};
use contract::observation::encode;
use contract::plan::Plan;
use contract::pool::{Aggregation, Alternate, MetricSource, PoolConfig};
use contract::record::{BackOff, InstanceRecord, NoCapacity, TaskRecord};
use contract::shadow::Shadow;
use contract::{ACTION_COUNT, Action, FEATURE_COUNT, Observation};
use controller::emf::{self, Timing};
use controller::guard::{Situation, verdicts};
use controller::money;
use controller::offering::{offerings, without_capacity};
use controller::outage::{Look, vanished};
use controller::shadow::{self, Read};
use fuzz::{BYTES_ALWAYS, arbitrary, cases, damaged, read};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_dynamo::AttributeValue;
use testkit::builders::{TICK, decision, instance, observation, pool_config, task};

fn whole_decision() -> Decision {
    let plan = Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: Some(TICK * 1000) };
    let outcome = Outcome::Terminated { instance_ids: vec!["i-1".into()] };
    let (state, generation, claimed_ms) = (IntentState::Settled, 7, TICK * 1000);
    Decision {
        probabilities: Some([0.1; ACTION_COUNT]),
        value: Some(-1.5),
        lstm: Some(LstmState { policy: "ab".repeat(32), h: vec![0.5; 4], c: vec![-0.5; 4] }),
        shadow: Some(ledger(None, TICK)),
        spending: Some(Spending {
            usd_per_hour: 1.4,
            usd_today: Some(3.5),
            usd_this_month: None,
            room_usd_per_hour: 0.25,
            cap: Cap::Day,
            is_full: false,
        }),
        intent: Some(Intent { state, generation, claimed_ms, plan: Some(plan), outcome: Some(outcome) }),
        ..decision("p", TICK, Action::Stop(0, 1))
    }
}

/// The shadow ledger at a tick, after a launch.
fn ledger(last: Option<&Decision>, tick: u64) -> Shadow {
    let (config, measured, head) = (pool_config("p"), observation(), Head::default());
    let arrivals_ms = Some(&[(TICK - 30) * 1000, TICK * 1000 + 5][..]);
    let read = Read { tick, config: &config, measured: &measured, head: &head, arrivals_ms, policy: None };
    let (mut shadow, seen) = shadow::at_tick(last, &read);
    assert!(encode(&seen).iter().all(|x| (0.0..=1.0).contains(x)));
    shadow::act(&mut shadow, Action::Launch(1, 1), tick, &config);
    shadow
}

fn whole_task() -> TaskRecord {
    let (started_ms, instance_id) = (Some(TICK * 1000), Some("i-1".into()));
    TaskRecord { started_ms, instance_id, ..task("p", "t-1", TICK * 1000) }
}

fn whole_instance() -> InstanceRecord {
    InstanceRecord { ready_ms: Some(TICK * 1000), decision: Some(TICK), ..instance("p", "i-1", 1, TICK * 1000) }
}

fn whole_manifest() -> Manifest {
    let golden = Golden {
        features: vec![0.5; FEATURE_COUNT],
        mask: [true; ACTION_COUNT],
        probabilities: [0.1; ACTION_COUNT],
        value: -1.0,
    };
    Manifest {
        version: MANIFEST_VERSION,
        sha256: "ab".repeat(32),
        onnx_bytes: 1000,
        schema_hash: "cd".repeat(32),
        lstm_cells: 4,
        machines_per_action_max: 2,
        parent: None,
        settings: BTreeMap::from([("seed".into(), "1".into())]),
        evaluation: BTreeMap::from([("cost_usd".into(), 1.5)]),
        golden: vec![golden],
    }
}

/// Everything that a configuration can have.
fn whole_config() -> PoolConfig {
    let mut config = PoolConfig {
        drain_s: Some(300),
        launches_per_hour_max: Some(12),
        usd_per_hour_max: Some(30.0),
        usd_per_day_max: Some(200.0),
        subnets: vec!["subnet-1".into()],
        ..pool_config("p")
    };
    config.sizes[0].alternates = vec![Alternate { instance_type: "m6a.large".into(), usd_per_hour: 0.25 }];
    let (url, target) = ("https://graphite.example".into(), "cpu".into());
    let source = MetricSource::Graphite { url, target, aggregation: Aggregation::Mean { minutes: 3 } };
    config.metrics.insert("cpu_util_avg".into(), source);
    config
}

fn whole_head() -> Head {
    let now_ms = TICK * 1000;
    Head { generation: 7, next_allowed_ms: now_ms, last_action: Action::Launch(1, 2), last_action_ms: now_ms }
}

fn whole_memory() -> NoCapacity {
    let back_off = BackOff { until_ms: TICK * 1000 + 60_000, backoff_s: 360 };
    let config = whole_config();
    NoCapacity { offerings: offerings(0, TICK, &config).iter().map(|offering| (offering.key(), back_off)).collect() }
}

fn json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap()
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    read(bytes, BYTES_ALWAYS, |bytes| serde_json::from_slice(bytes))
}

/// What the functions do with a decision that they read.
fn used(d: &Decision) {
    assert!(encode(&d.observation).iter().all(|x| (0.0..=1.0).contains(x)));
    assert!(d.action == contract::Action::Nothing || d.action.size().is_some());
    let look = Look { tick: d.tick, observation: d.measured() };
    let _ = (vanished(look, [look], 60), d.policy_name(), d.is_settled());
    let next = ledger(Some(d), d.tick.saturating_add(60).min(TICK_MAX));
    let finite = [next.real, next.shadow].map(|account| account.total_usd().is_finite());
    assert_eq!(finite, [true; 2], "{next:?}");
    let document = emf::decided(d, Timing { at_ms: TICK * 1000, own_ms: 1.0 });
    assert!(document["_aws"]["CloudWatchMetrics"].is_array());
}

/// What the evaluator does with a configuration, a head and a memory that it read: an observation, and what is allowed.
fn observed(config: &PoolConfig, head: &Head, memory: &NoCapacity) {
    let now_ms = TICK * 1000;
    let o = Observation {
        last_action: head.last_action,
        since_action_s: now_ms.saturating_sub(head.last_action_ms) as f64 / 1000.0,
        cooldown_left_s: head.next_allowed_ms.saturating_sub(now_ms) as f64 / 1000.0,
        no_capacity: without_capacity(config, memory, now_ms),
        ..Observation::empty(config.cores())
    };
    assert!(encode(&o).iter().all(|x| (0.0..=1.0).contains(x)));
    let allowed = verdicts(&Situation {
        mode: config.mode,
        fleet: &o.fleet,
        draining: &[],
        bounds: &config.bounds(),
        no_capacity: &o.no_capacity,
        now_ms,
        next_allowed_ms: head.next_allowed_ms,
        doubtful: o.is_doubtful(),
        machines_per_action_max: config.machines_per_action_max,
        launches_left: config.launches_per_hour_max,
        stops_left: config.stops_per_hour_max,
        money: None,
    });
    assert!(allowed[0].is_ok(), "nothing is always allowed");
    let _ = (money::prices(config), money::spending_since_ms(config, now_ms));
    memory.offerings.values().for_each(|back_off| assert!(back_off.failed(now_ms).until_ms > now_ms));
}

/// A configuration that is read is a valid one, and reads the same again.
fn from_config(bytes: &[u8]) -> Option<PoolConfig> {
    let text = String::from_utf8_lossy(bytes);
    let config = read(text.as_bytes(), BYTES_ALWAYS, |_| PoolConfig::from_json(&text))?;
    let again = PoolConfig::from_json(&serde_json::to_string(&config).unwrap());
    assert_eq!(again.unwrap(), config);
    Some(config)
}

fn all_kinds(bytes: &[u8]) {
    if let Some(decision) = from_json::<Decision>(bytes) {
        used(&decision);
    }
    if let Some(task) = from_json::<TaskRecord>(bytes) {
        let _ = task.state();
    }
    from_json::<InstanceRecord>(bytes);
    from_json::<Pointer>(bytes);
    if let Some(config) = from_config(bytes) {
        observed(&config, &Head::default(), &NoCapacity::default());
    }
    if let Some(head) = from_json::<Head>(bytes) {
        observed(&whole_config(), &head, &NoCapacity::default());
    }
    if let Some(memory) = from_json::<NoCapacity>(bytes) {
        observed(&whole_config(), &Head::default(), &memory);
    }
    if let Some(manifest) = from_json::<Manifest>(bytes) {
        assert!(manifest.golden.iter().all(|g| g.features().is_some() == (g.features.len() == FEATURE_COUNT)));
    }
}

/// A record as an item, with some of its attributes, at any depth, replaced by others.
fn damaged_item(record: &impl serde::Serialize) -> impl Strategy<Value = HashMap<String, AttributeValue>> {
    let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(record).unwrap();
    prop::collection::vec((any::<prop::sample::Index>(), attribute()), 1..4).prop_map(move |changes| {
        let mut whole = AttributeValue::M(item.clone());
        for (at, odd) in changes {
            let n = leaves(&mut whole).len();
            *leaves(&mut whole).swap_remove(at.index(n)) = odd;
        }
        let AttributeValue::M(item) = whole else { return HashMap::new() };
        item
    })
}

/// Every attribute in a value that is no map or list of others, in an order that is the same each time.
fn leaves(value: &mut AttributeValue) -> Vec<&mut AttributeValue> {
    let is_leaf = match value {
        AttributeValue::M(map) => map.is_empty(),
        AttributeValue::L(list) => list.is_empty(),
        _ => true,
    };
    if is_leaf {
        return vec![value];
    }
    match value {
        AttributeValue::M(map) => {
            let mut entries: Vec<_> = map.iter_mut().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            entries.into_iter().flat_map(|(_, value)| leaves(value)).collect()
        }
        AttributeValue::L(list) => list.iter_mut().flat_map(leaves).collect(),
        _ => Vec::new(),
    }
}

fn attribute() -> impl Strategy<Value = AttributeValue> {
    const NUMBERS: [&str; 9] =
        ["", "-1", "NaN", "inf", "1e999", "18446744073709551615", "18446744073709551616", "4294967295", "0.5"];
    prop_oneof![
        4 => prop::sample::select(&NUMBERS[..]).prop_map(|n| AttributeValue::N(n.into())),
        1 => any::<String>().prop_map(AttributeValue::S),
        1 => any::<bool>().prop_map(AttributeValue::Bool),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(AttributeValue::B),
        1 => Just(AttributeValue::Null(true)),
        1 => Just(AttributeValue::L(vec![AttributeValue::N("1".into()); 50])),
        1 => Just(AttributeValue::M(HashMap::new())),
        1 => Just(AttributeValue::Ss(vec!["a".into()])),
    ]
}

fn from_item<T: DeserializeOwned>(item: HashMap<String, AttributeValue>) -> Option<T> {
    serde_dynamo::from_item(item).inspect_err(|error| assert!(error.to_string().len() > 3)).ok()
}

#[test]
fn the_records_are_valid_before_they_are_damaged() {
    assert_eq!(from_json::<Decision>(&json(&whole_decision())).unwrap(), whole_decision());
    assert_eq!(from_json::<TaskRecord>(&json(&whole_task())).unwrap(), whole_task());
    assert_eq!(from_json::<InstanceRecord>(&json(&whole_instance())).unwrap(), whole_instance());
    assert_eq!(from_json::<Manifest>(&json(&whole_manifest())).unwrap(), whole_manifest());
    assert_eq!(from_config(&json(&whole_config())).unwrap(), whole_config());
    assert_eq!(from_json::<Head>(&json(&whole_head())).unwrap(), whole_head());
    assert_eq!(from_json::<NoCapacity>(&json(&whole_memory())).unwrap(), whole_memory());
    observed(&whole_config(), &whole_head(), &whole_memory());
    let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(whole_decision()).unwrap();
    assert_eq!(from_item::<Decision>(item).unwrap(), whole_decision());
    used(&whole_decision());
}

#[test]
fn long_lists_and_deep_nesting_take_memory_in_proportion() {
    let text = String::from_utf8(json(&whole_manifest())).unwrap();
    let long = text.replace("\"golden\":[", &format!("\"golden\":[{}", "{},".repeat(50_000)));
    all_kinds(long.as_bytes());
    let features = text.replace("\"features\":[", &format!("\"features\":[{}", "0,".repeat(100_000)));
    assert!(from_json::<Manifest>(features.as_bytes()).is_some_and(|m| m.golden[0].features().is_none()));
    all_kinds("{\"golden\":[".repeat(50_000).as_bytes());
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn a_damaged_decision(bytes in damaged(json(&whole_decision()))) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_task(bytes in damaged(json(&whole_task()))) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_machine(bytes in damaged(json(&whole_instance()))) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_manifest(bytes in damaged(json(&whole_manifest()))) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_configuration(bytes in damaged(json(&whole_config()))) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_head_or_memory(head in damaged(json(&whole_head())), memory in damaged(json(&whole_memory()))) {
        all_kinds(&head);
        all_kinds(&memory);
    }

    #[test]
    fn a_damaged_item_of_the_control_table(
        config in damaged_item(&whole_config()),
        head in damaged_item(&whole_head()),
        memory in damaged_item(&whole_memory()),
    ) {
        let config = from_item::<PoolConfig>(config).filter(|config| config.validate().is_ok());
        let (config, head, memory) =
            (config.unwrap_or_else(whole_config), from_item::<Head>(head), from_item::<NoCapacity>(memory));
        observed(&config, &head.unwrap_or_default(), &memory.unwrap_or_default());
    }

    #[test]
    fn arbitrary_bytes(bytes in arbitrary()) {
        all_kinds(&bytes);
    }

    #[test]
    fn a_damaged_item_of_a_decision(item in damaged_item(&whole_decision())) {
        if let Some(decision) = from_item::<Decision>(item) {
            used(&decision);
        }
    }

    #[test]
    fn a_damaged_item_of_a_task_or_a_machine(
        task in damaged_item(&whole_task()), machine in damaged_item(&whole_instance()),
    ) {
        from_item::<TaskRecord>(task);
        from_item::<InstanceRecord>(machine);
    }
}
