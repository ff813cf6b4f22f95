//! The adapters against the local cloud: conditions, indexes and pages as a real service has them.

use std::time::Duration;

use aws::SdkConfig;
use aws::cloudwatch::CloudWatch;
use aws::config::Access;
use aws::ec2::Ec2;
use aws::graphite::Graphite;
use aws::s3::PolicyBucket;
use aws::sources::Sources;
use aws::tables::{TableNames, Tables};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use contract::action::Action;
use contract::control::{Head, KillSwitch, Lease, Mode};
use contract::decision::{Decision, Intent, IntentState, Outcome, Verdict};
use contract::manifest::Pointer;
use contract::plan::Plan;
use contract::pool::{Aggregation, MetricSource, PoolConfig};
use contract::record::{BackOff, Drain, DrainReason, Ended, NoCapacity, Suspect, Suspects, Suspicion, TaskRecord};
use controller::ports::*;
use localcloud::{LocalCloud, Options};
use testkit::builders::{self, TICK};
use tokio::io::AsyncWriteExt;

async fn config(cloud: &LocalCloud, endpoint: &str) -> SdkConfig {
    let env: std::collections::BTreeMap<String, String> = cloud.env().into_iter().collect();
    let access =
        Access { region: &env["AWS_REGION"], key_id: &env["AWS_ACCESS_KEY_ID"], secret: &env["AWS_SECRET_ACCESS_KEY"] };
    aws::config::at(endpoint, access).await
}

/// One start for all of them: bringing the cloud up takes longer than everything that is tried in it.
#[tokio::test]
async fn the_adapters_keep_their_promises() {
    let cloud = LocalCloud::start(Options::default()).await.unwrap();
    let config_ = config(&cloud, cloud.endpoint()).await;
    let tables = create_tables(&config_).await;
    tasks(&tables).await;
    many_tasks_take_many_pages(&tables).await;
    instances(&tables).await;
    rows_that_are_no_records(&config_, &tables).await;
    control(&tables).await;
    leases(&tables).await;
    decisions(&tables).await;
    unsettled(&tables).await;
    claims(&tables).await;
    claims_heed_the_mode(&tables, &aws_sdk_dynamodb::Client::new(&config_)).await;
    a_stored_plan_stays(&tables).await;
    claims_side_by_side_have_one_winner(&tables).await;
    policies(&config_).await;
    metrics(&cloud, &config_).await;
    machines(&config(&cloud, cloud.ec2_endpoint()).await).await;
}

/// A table's keys, by name and whether they are numbers; an index's partition key shares the sort key.
struct Keys {
    table: &'static str,
    partition: &'static str,
    sort: (&'static str, ScalarAttributeType),
    index: Option<(&'static str, &'static str)>,
    /// An index with the table's own partition and a number to sort by.
    by_number: Option<(&'static str, &'static str)>,
}

fn schema(partition: &str, sort: &str) -> Vec<KeySchemaElement> {
    [(partition, KeyType::Hash), (sort, KeyType::Range)]
        .map(|(name, of)| KeySchemaElement::builder().attribute_name(name).key_type(of).build().unwrap())
        .into()
}

async fn create(client: &aws_sdk_dynamodb::Client, keys: Keys) {
    let text = ScalarAttributeType::S;
    let mut attributes = vec![(keys.partition, text.clone()), keys.sort.clone()];
    attributes.extend(keys.index.map(|(_, partition)| (partition, text)));
    attributes.extend(keys.by_number.map(|(_, sort)| (sort, ScalarAttributeType::N)));
    let attributes = attributes
        .into_iter()
        .map(|(name, of)| AttributeDefinition::builder().attribute_name(name).attribute_type(of).build().unwrap());
    let of_index = |name, schema| {
        let all = Projection::builder().projection_type(ProjectionType::All).build();
        let index = GlobalSecondaryIndex::builder().index_name(name).set_key_schema(Some(schema)).projection(all);
        index.build().unwrap()
    };
    let index = keys.index.map(|(name, partition)| of_index(name, schema(partition, keys.sort.0)));
    let by_number = keys.by_number.map(|(name, sort)| of_index(name, schema(keys.partition, sort)));
    let indexes: Vec<_> = index.into_iter().chain(by_number).collect();
    let call = client
        .create_table()
        .table_name(keys.table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes.collect()))
        .set_key_schema(Some(schema(keys.partition, keys.sort.0)))
        .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes));
    call.send().await.unwrap();
}

async fn create_tables(config: &SdkConfig) -> Tables {
    let client = aws_sdk_dynamodb::Client::new(config);
    let (text, number) = (ScalarAttributeType::S, ScalarAttributeType::N);
    let key = |table, partition, sort, index| Keys { table, partition, sort, index, by_number: None };
    create(&client, key("tasks", "pool_hour", ("submitted_task", text.clone()), Some(("open", "open_pool")))).await;
    let instances = key("instances", "pool", ("launched_instance", text.clone()), Some(("alive", "alive_pool")));
    create(&client, Keys { by_number: Some(("ended", "terminated_ms")), ..instances }).await;
    create(&client, key("decisions", "pool", ("tick", number), Some(("unsettled", "unsettled_pool")))).await;
    create(&client, key("control", "pool", ("item", text), None)).await;
    let names = TableNames {
        tasks: "tasks".into(),
        instances: "instances".into(),
        decisions: "decisions".into(),
        control: "control".into(),
    };
    Tables::new(config, names)
}

async fn tasks(tables: &Tables) {
    let tasks = &tables.tasks;
    let hour = 3_600_000;
    let waiting = builders::task("p", "b", 2 * hour - 1);
    let running = TaskRecord { started_ms: Some(2 * hour), attempts: 1, ..builders::task("p", "a", hour) };
    let other = builders::task("other", "a", hour);
    for task in [&waiting, &running, &other] {
        tasks.put(task).await.unwrap();
    }
    assert_eq!(tasks.open("p").await.unwrap(), [running.clone(), waiting.clone()]);
    let finished = TaskRecord { finished_ms: Some(3 * hour), ..running };
    tasks.put(&finished).await.unwrap();
    assert_eq!(tasks.open("p").await.unwrap(), std::slice::from_ref(&waiting));
    let last = builders::task("p", "c", 2 * hour);
    tasks.put(&last).await.unwrap();
    assert_eq!(tasks.submitted("p", hour, 2 * hour).await.unwrap(), [finished, waiting.clone()]);
    assert_eq!(tasks.arrival_times("p", hour, 2 * hour).await.unwrap(), [2 * hour - 1, 2 * hour]);
    assert_eq!(tasks.arrival_times("p", 0, hour).await.unwrap(), [hour]);
    assert_eq!(tasks.submitted("p", hour + 1, hour + 1).await.unwrap(), []);
}

/// More than DynamoDB gives in one page, which is a megabyte.
async fn many_tasks_take_many_pages(tables: &Tables) {
    let padding = "x".repeat(1000);
    let many: Vec<TaskRecord> =
        (0..1200).map(|i| builders::task("many", &format!("{i:04}-{padding}"), 1000 + i)).collect();
    tables.tasks.put_many(&many).await.unwrap();
    assert_eq!(tables.tasks.open("many").await.unwrap(), many);
    assert_eq!(tables.tasks.submitted("many", 0, 10_000).await.unwrap(), many);
}

async fn instances(tables: &Tables) {
    let instances = &tables.instances;
    let record = builders::instance("p", "i-1", 1, 1000);
    let later = builders::instance("p", "i-0", 0, 2000);
    instances.put_new(&later).await.unwrap();
    instances.put_new(&record).await.unwrap();
    instances.mark_ready(&record, 1500).await.unwrap();
    instances.put_new(&record).await.unwrap();
    let ready = contract::record::InstanceRecord { ready_ms: Some(1500), ..record.clone() };
    assert_eq!(instances.alive("p").await.unwrap(), [ready, later.clone()]);
    let drain = |until_ms| Drain { until_ms, why: DrainReason::Stop, since_ms: Some(1) };
    instances.mark_draining(&later, drain(5000)).await.unwrap();
    instances.mark_draining(&later, drain(9000)).await.unwrap();
    assert_eq!(instances.alive("p").await.unwrap()[1].drain, Some(drain(5000)), "the first mark stays");
    instances.reopen(&later).await.unwrap();
    assert_eq!(instances.alive("p").await.unwrap()[1], later);
    instances.mark_terminated(&record, 3000, Ended::Lost).await.unwrap();
    instances.mark_terminated(&record, 4000, Ended::Stopped).await.unwrap();
    assert_eq!(instances.launched("p", 1000, 2000).await.unwrap()[0].ended, Some(Ended::Lost), "the first mark stays");
    instances.mark_draining(&record, drain(5000)).await.unwrap();
    assert_eq!(instances.launched("p", 1000, 2000).await.unwrap()[0].drain, None, "it is gone");
    instances.reopen(&record).await.unwrap();
    assert_eq!(instances.alive("p").await.unwrap().len(), 2);
    assert_eq!(instances.launched("p", 1000, 2000).await.unwrap()[0].ended, None);
    instances.mark_terminated(&record, 3000, Ended::Stuck).await.unwrap();
    assert_eq!(instances.alive("p").await.unwrap(), [later]);
    let gone = instances.launched("p", 1000, 2000).await.unwrap();
    assert_eq!((gone[0].terminated_ms, gone[0].ended), (Some(3000), Some(Ended::Stuck)));
    for (from_ms, to_ms, found) in [(3000, 3000, 1), (0, 2999, 0), (3001, u64::MAX / 2, 0), (4000, 3000, 0)] {
        assert_eq!(instances.ended("p", from_ms, to_ms).await.unwrap(), gone[..found], "{from_ms} {to_ms}");
    }
    assert_eq!(instances.ended("other", 0, 9000).await.unwrap(), []);
    let unknown = builders::instance("p", "i-9", 0, 1000);
    assert_eq!(instances.mark_ready(&unknown, 1).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(instances.mark_terminated(&unknown, 1, Ended::Lost).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(instances.launched("p", 0, u64::MAX / 2).await.unwrap().len(), 2);
}

/// A worker that did not ask whether its row was there makes one before the executor does; and somebody damages one.
async fn rows_that_are_no_records(config: &SdkConfig, tables: &Tables) {
    let instances = &tables.instances;
    let record = |id: &str| builders::instance("torn", id, 1, 1_700_000_000_000);
    let client = aws_sdk_dynamodb::Client::new(config);
    let set = |id: &str, expression: &str, value: AttributeValue| {
        let update = client.update_item().table_name("instances").key("pool", AttributeValue::S("torn".into()));
        let key = AttributeValue::S(format!("1700000000000#{id}"));
        let update = update.key("launched_instance", key).update_expression(expression);
        update.expression_attribute_values(":v", value).send()
    };
    set("i-1", "SET ready_ms = :v", AttributeValue::N("1700000071000".into())).await.unwrap();
    instances.put_new(&record("i-2")).await.unwrap();
    instances.put_new(&record("i-3")).await.unwrap();
    set("i-2", "SET usd_per_hour = :v", AttributeValue::S("much".into())).await.unwrap();

    let logs = testkit::logs::Logs::capture();
    assert_eq!(instances.alive("torn").await.unwrap(), [record("i-3")], "its machine is one without a record");
    assert!(logs.text().contains("1700000000000#i-2"), "{}", logs.text());
    // whoever counts dollars must not count too few
    let error = instances.launched("torn", 0, TIME_MS_MAX).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreadable);
    assert!(error.message.contains("1700000000000#i-1"), "{}", error.message);

    // what adoption does
    for id in ["i-1", "i-2", "i-3"] {
        instances.put_new(&record(id)).await.unwrap();
        instances.reopen(&record(id)).await.unwrap();
    }
    let ready = contract::record::InstanceRecord { ready_ms: Some(1_700_000_071_000), ..record("i-1") };
    let all = [ready, record("i-2"), record("i-3")];
    assert_eq!(instances.alive("torn").await.unwrap(), all, "the worker's own time stays");
    assert_eq!(instances.launched("torn", 0, TIME_MS_MAX).await.unwrap(), all);
    assert_eq!(instances.since("torn", 1).await.unwrap(), all);
}

async fn control(tables: &Tables) {
    let control = &tables.control;
    assert_eq!(control.config("p").await.unwrap_err().kind, Kind::NotFound);
    let config = builders::pool_config("p");
    control.put_config(&config).await.unwrap();
    assert_eq!(control.config("p").await.unwrap(), config);
    assert_eq!(control.head("p").await.unwrap(), Head::default());
    assert_eq!(control.no_capacity("p").await.unwrap(), NoCapacity::default());
    let memory = NoCapacity {
        offerings: std::collections::BTreeMap::from([("2//subnet-1".to_owned(), BackOff::default().failed(1000))]),
    };
    control.put_no_capacity("p", &memory).await.unwrap();
    assert_eq!(control.no_capacity("p").await.unwrap(), memory);
    assert!(!control.kill_switch().await.unwrap().engaged);
    suspects(control).await;
}

/// Of two who have read the same, one writes.
async fn suspects(control: &impl Control) {
    let with = |version, id: &str| {
        let suspect = Suspect { why: Suspicion::Stuck, since_ms: 1, ended_ms: Some(2) };
        Suspects { version, machines: [(id.to_owned(), suspect)].into() }
    };
    assert_eq!(control.suspects("p").await.unwrap(), Suspects::default());
    control.put_suspects("p", &with(1, "i-1")).await.unwrap();
    control.put_suspects("p", &with(1, "i-1")).await.expect("the same again is no error");
    assert_eq!(control.put_suspects("p", &with(1, "i-2")).await.unwrap_err().kind, Kind::Conflict);
    control.put_suspects("p", &with(2, "i-2")).await.unwrap();
    assert_eq!(control.put_suspects("p", &with(2, "i-3")).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(control.suspects("p").await.unwrap(), with(2, "i-2"));
}

async fn leases(tables: &Tables) {
    let lease = |owner: &str, until_ms: u64| Lease { owner: owner.into(), until_ms };
    let control = &tables.control;
    assert_eq!(control.take("leased", &lease("a", 100), 10).await.unwrap(), None);
    assert_eq!(control.take("leased", &lease("b", 200), 99).await.unwrap(), Some(lease("a", 100)));
    assert_eq!(control.take("leased", &lease("a", 150), 99).await.unwrap(), None, "its holder prolongs it");
    assert_eq!(control.take("leased", &lease("b", 300), 150).await.unwrap(), None, "it ran out");
    control.give_back("leased", "a").await.unwrap();
    assert_eq!(control.take("leased", &lease("a", 400), 160).await.unwrap(), Some(lease("b", 300)));
    control.give_back("leased", "b").await.unwrap();
    assert_eq!(control.take("leased", &lease("a", 400), 160).await.unwrap(), None);
    assert_eq!(control.take("other", &lease("b", 400), 160).await.unwrap(), None, "each pool has its own");
    assert_eq!(control.head("leased").await.unwrap(), Head::default());
}

async fn decisions(tables: &Tables) {
    let decisions = &tables.decisions;
    let at = |tick| builders::decision("log", tick, Action::Nothing);
    for tick in [60, 120, 180] {
        assert_eq!(decisions.put_once(&at(tick)).await.unwrap(), Written::New);
    }
    let again = builders::decision("log", 120, Action::Launch(0, 1));
    assert_eq!(decisions.put_once(&again).await.unwrap(), Written::Existed(Box::new(at(120))));
    assert_eq!(decisions.get("log", 120).await.unwrap(), Some(at(120)));
    assert_eq!(decisions.get("log", 121).await.unwrap(), None);
    assert_eq!(decisions.before("log", 180, 10).await.unwrap(), [at(120), at(60)]);
    assert_eq!(decisions.before("log", 180, 1).await.unwrap(), [at(120)]);
    assert_eq!(decisions.before("log", 180, 0).await.unwrap(), []);
    assert_eq!(decisions.range("log", 60, 180).await.unwrap(), [at(60), at(120)]);
    assert_eq!(decisions.range("log", 60, 60).await.unwrap(), []);
    assert_eq!(decisions.unsettled("log").await.unwrap(), [], "none asks for anything");
}

/// In the index from the first write, or from the claim, until it is settled.
async fn unsettled(tables: &Tables) {
    let decisions = &tables.decisions;
    let ticks = || async {
        let found = decisions.unsettled("open").await.unwrap();
        found.into_iter().map(|d| (d.tick, d.intent.map(|i| i.generation))).collect::<Vec<_>>()
    };
    tables.control.put_config(&builders::pool_config("open")).await.unwrap();
    let at = |tick| builders::decision("open", tick, Action::Launch(0, 1));
    for tick in [180, 60, 120] {
        assert_eq!(decisions.put_once(&at(tick)).await.unwrap(), Written::New);
    }
    decisions.put_once(&builders::decision("open", 90, Action::Nothing)).await.unwrap();
    decisions.put_once(&builders::decision("other", 60, Action::Launch(0, 1))).await.unwrap();
    assert_eq!(ticks().await, [(60, None), (120, None), (180, None)]);
    assert_eq!(decisions.claim(&at(60), &Head::default(), &head(1, 0), 5).await.unwrap(), Claim::Won(1));
    decisions.put_intent("open", 60, &builders::pending(1, 5)).await.unwrap();
    assert_eq!(ticks().await, [(60, Some(1)), (120, None), (180, None)], "a claim is not the end");
    decisions.put_intent("open", 60, &settled(1)).await.unwrap();
    decisions.put_intent("open", 180, &settled(0)).await.unwrap();
    assert_eq!(ticks().await, [(120, None)]);
    let old = Decision { verdict: Verdict::Hold, ..at(240) };
    decisions.put_once(&old).await.unwrap();
    assert_eq!(decisions.claim(&old, &head(1, 0), &head(2, 0), 5).await.unwrap(), Claim::Won(2));
    assert_eq!(ticks().await, [(120, None), (240, Some(2))], "one that was written without the attribute");
}

fn head(generation: u64, next_allowed_ms: u64) -> Head {
    Head { generation, next_allowed_ms, last_action: Action::Launch(0, 1), last_action_ms: 5 }
}

fn settled(generation: u64) -> Intent {
    let outcome = Some(Outcome::Nothing { because: "test".into() });
    Intent { state: IntentState::Settled, outcome, ..builders::pending(generation, 5) }
}

async fn put(tables: &Tables, tick: u64) -> Decision {
    let decision = builders::decision("p", tick, Action::Launch(0, 1));
    assert_eq!(tables.decisions.put_once(&decision).await.unwrap(), Written::New);
    decision
}

async fn claims(tables: &Tables) {
    let decisions = &tables.decisions;
    let forged = builders::decision("p", TICK, Action::Launch(0, 1));
    let error = decisions.claim(&forged, &Head::default(), &head(1, 0), 5).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(decisions.get("p", TICK).await.unwrap(), None);

    let first = put(tables, TICK).await;
    tables.control.put_kill_switch(KillSwitch { engaged: true }).await.unwrap();
    assert_eq!(decisions.claim(&first, &Head::default(), &head(1, 0), 5).await.unwrap(), Claim::Killed);
    tables.control.put_kill_switch(KillSwitch { engaged: false }).await.unwrap();
    assert_eq!(decisions.claim(&first, &head(3, 0), &head(4, 0), 5).await.unwrap(), Claim::Raced);
    assert_eq!(decisions.claim(&first, &Head::default(), &head(1, 500), 5).await.unwrap(), Claim::Won(1));
    assert_eq!(tables.control.head("p").await.unwrap(), head(1, 500));
    let pending = Claim::Duplicate(Box::new(builders::pending(1, 5)));
    assert_eq!(decisions.claim(&first, &head(1, 500), &head(2, 0), 500).await.unwrap(), pending);

    let second = put(tables, TICK + 60).await;
    assert_eq!(decisions.claim(&second, &head(1, 500), &head(2, 0), 499).await.unwrap(), Claim::Cooldown);
    assert_eq!(decisions.claim(&second, &Head::default(), &head(1, 0), 500).await.unwrap(), Claim::Raced);
    for refused in [settled(0), settled(2)] {
        assert_eq!(decisions.put_intent("p", TICK, &refused).await.unwrap_err().kind, Kind::Conflict);
    }
    decisions.put_intent("p", TICK, &settled(1)).await.unwrap();
    assert_eq!(decisions.put_intent("p", TICK, &builders::pending(1, 5)).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(decisions.get("p", TICK).await.unwrap().unwrap().intent, Some(settled(1)));

    decisions.put_intent("p", TICK + 60, &settled(0)).await.unwrap();
    decisions.put_intent("p", TICK + 60, &settled(0)).await.expect("the same again is no error");
    let other = Intent { claimed_ms: 7, ..settled(0) };
    assert_eq!(decisions.put_intent("p", TICK + 60, &other).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(decisions.put_intent("p", TICK + 1, &settled(0)).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(decisions.get("p", TICK + 1).await.unwrap(), None);
}

/// By the attribute beside the JSON; an item of an earlier version has none, and its mode was read before the claim.
async fn claims_heed_the_mode(tables: &Tables, client: &aws_sdk_dynamodb::Client) {
    let (decisions, control) = (&tables.decisions, &tables.control);
    let at = |tick, action| builders::decision("modes", tick, action);
    let (launch, stop) = (at(60, Action::Launch(0, 1)), at(120, Action::Stop(0, 1)));
    for decision in [&launch, &stop] {
        assert_eq!(decisions.put_once(decision).await.unwrap(), Written::New);
    }
    let claim = |decision, from: u64| async move {
        decisions.claim(decision, &head(from, 0), &head(from + 1, 0), 5).await.unwrap()
    };
    let put = |mode| async move {
        control.put_config(&PoolConfig { mode, ..builders::pool_config("modes") }).await.unwrap();
    };
    assert_eq!(claim(&launch, 0).await, Claim::Mode, "it has no configuration any more");
    for mode in [Mode::Off, Mode::Observe] {
        put(mode).await;
        assert_eq!([claim(&launch, 0).await, claim(&stop, 0).await], [Claim::Mode, Claim::Mode], "{mode:?}");
    }
    put(Mode::Drain).await;
    assert_eq!([claim(&launch, 0).await, claim(&stop, 0).await], [Claim::Mode, Claim::Won(1)]);
    let text = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
    let old = [("pool", text("modes")), ("item", text("config")), ("json", text("{}"))];
    let old = old.into_iter().fold(client.put_item().table_name("control"), |put, (name, of)| put.item(name, of));
    old.send().await.unwrap();
    assert_eq!(claim(&launch, 1).await, Claim::Won(2));
}

async fn a_stored_plan_stays(tables: &Tables) {
    let decisions = &tables.decisions;
    let decision = put(tables, TICK + 300).await;
    let from = tables.control.head("p").await.unwrap();
    let next = head(from.generation + 1, 0);
    let now_ms = from.next_allowed_ms;
    decisions.claim(&decision, &from, &next, now_ms).await.unwrap();
    let pending = builders::pending(next.generation, now_ms);
    let stop = |id: &str| Some(Plan::Terminate { instance_ids: vec![id.into()], size: 0, drain_until_ms: None });
    let planned = Intent { plan: stop("i-1"), ..pending.clone() };
    decisions.put_intent("p", TICK + 300, &planned).await.unwrap();
    let settled = settled(next.generation);
    for other in [pending.clone(), Intent { plan: stop("i-2"), ..pending }, settled.clone()] {
        assert_eq!(decisions.put_intent("p", TICK + 300, &other).await.unwrap_err().kind, Kind::Conflict);
    }
    decisions.put_intent("p", TICK + 300, &Intent { plan: stop("i-1"), ..settled }).await.unwrap();
}

async fn claims_side_by_side_have_one_winner(tables: &Tables) {
    let from = tables.control.head("p").await.unwrap();
    let next = Head { next_allowed_ms: 10_000, ..head(from.generation + 1, 10_000) };
    let mut claims = Vec::new();
    for i in 0..8 {
        let decision = put(tables, TICK + 600 + i).await;
        let (decisions, from, next) = (tables.decisions.clone(), from.clone(), next.clone());
        claims.push(tokio::spawn(async move { decisions.claim(&decision, &from, &next, 9000).await.unwrap() }));
    }
    let mut won = 0;
    for claim in claims {
        match claim.await.unwrap() {
            Claim::Won(generation) => {
                assert_eq!(generation, next.generation);
                won += 1;
            }
            Claim::Cooldown | Claim::Raced => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
    let claimed = tables.decisions.range("p", TICK + 600, TICK + 608).await.unwrap();
    assert_eq!(claimed.iter().filter(|d| d.intent.is_some()).count(), 1);
    assert_eq!(tables.control.head("p").await.unwrap(), next);
    // The cooldown is over, and the head has moved on all the same.
    let late = put(tables, TICK + 700).await;
    assert_eq!(tables.decisions.claim(&late, &from, &next, 10_000).await.unwrap(), Claim::Raced);
}

async fn runs(bucket: &PolicyBucket) {
    assert_eq!(bucket.run_file("run", "0/state", 9).await.unwrap(), None);
    bucket.put_run_file("run", "0/state", b"one".to_vec()).await.unwrap();
    bucket.put_run_file("run", "0/state", b"two".to_vec()).await.unwrap();
    assert_eq!(bucket.run_file("run", "0/state", 9).await.unwrap(), Some(b"two".to_vec()));
    assert_eq!(bucket.run_file("run", "0/state", 2).await.unwrap_err().code, "TooLarge");
}

async fn policies(config: &SdkConfig) {
    aws_sdk_s3::Client::new(config).create_bucket().bucket("policies").send().await.unwrap();
    let bucket = PolicyBucket::new(config, "policies");
    runs(&bucket).await;
    assert_eq!(bucket.pointer("p").await.unwrap(), None);
    let at = |serial| Pointer { version: 1, sha256: "a".repeat(64), previous: None, serial };
    bucket.move_pointer("p", &at(1), None).await.unwrap();
    assert_eq!(bucket.move_pointer("p", &at(2), None).await.unwrap_err().kind, Kind::Conflict);
    let (stands, tag) = bucket.pointer("p").await.unwrap().unwrap();
    assert_eq!(stands, at(1));
    bucket.move_pointer("p", &at(2), Some(&tag)).await.unwrap();
    assert_eq!(bucket.move_pointer("p", &at(3), Some(&tag)).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(bucket.pointer("p").await.unwrap().unwrap().0, at(2));

    bucket.put_file("x", "policy.onnx", vec![1, 2, 3]).await.unwrap();
    bucket.put_file("x", "policy.onnx", vec![1, 2, 3]).await.unwrap();
    assert_eq!(bucket.put_file("x", "policy.onnx", vec![1, 2]).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(bucket.file("x", "policy.onnx", 3).await.unwrap(), [1, 2, 3]);
    assert_eq!(bucket.file("x", "policy.onnx", 2).await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(bucket.file("x", "checkpoint", 2).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(bucket.manifest("x").await.unwrap_err().kind, Kind::NotFound);
    let gone = PolicyBucket::new(config, "no-such-bucket").pointer("p").await.unwrap_err();
    assert_eq!(gone.kind, Kind::NotFound);
}

/// Now, in whole minutes: both services drop what is too old for them.
fn minute_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() / 60 * 60
}

async fn metrics(cloud: &LocalCloud, config: &SdkConfig) {
    let cloudwatch = CloudWatch::new(config);
    let minute = minute_s();
    for (ago, value) in [(120, 0.25), (60, 0.5)] {
        cloudwatch.put("Twinscaler", "p", &[("cpu", value), ("mem", 0.1)], (minute - ago) * 1000).await.unwrap();
    }
    cloudwatch.put("Twinscaler", "other", &[("cpu", 0.9)], minute * 1000).await.unwrap();
    let line = format!("twin.p.cpu 0.75 {}\ntwin.p.cpu 0.8 {}\n", minute - 120, minute - 60);
    let mut carbon = tokio::net::TcpStream::connect(cloud.carbon_addr()).await.unwrap();
    carbon.write_all(line.as_bytes()).await.unwrap();
    carbon.shutdown().await.unwrap();

    let metric = |metric: &str| MetricSource::CloudWatch {
        namespace: "Twinscaler".into(),
        metric: metric.into(),
        statistic: "Average".into(),
        aggregation: Aggregation::Last,
    };
    let target = |target: &str| MetricSource::Graphite {
        url: cloud.graphite_url().into(),
        target: target.into(),
        aggregation: Aggregation::Last,
    };
    let asked = [target("twin.p.none"), metric("cpu"), target("twin.p.cpu"), metric("none"), metric("mem")];
    let sources = Sources::new(cloudwatch, Graphite::new(None).unwrap());
    let ago = |s: u64, value: f64| Point { at_ms: (minute - s) * 1000, value };
    let expected = [
        Some(vec![]),
        Some(vec![ago(120, 0.25), ago(60, 0.5)]),
        Some(vec![ago(120, 0.75), ago(60, 0.8)]),
        Some(vec![]),
        Some(vec![ago(120, 0.1), ago(60, 0.1)]),
    ];
    let mut series = Vec::new();
    // Graphite takes a moment to write what it was sent; on a busy machine, a long one.
    for _ in 0..120 {
        series = sources.series("p", &asked, 300_000, minute * 1000).await.unwrap();
        // the port promises no order
        series.iter_mut().flatten().for_each(|points| points.sort_by_key(|point| point.at_ms));
        if series == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(series, expected);
    let earlier = sources.series("p", &asked[1..2], 60_000, (minute - 120) * 1000).await.unwrap();
    assert_eq!(earlier, [Some(vec![ago(120, 0.25)])]);
}

async fn machines(config: &SdkConfig) {
    use aws_sdk_ec2::types::{InstanceType, RequestLaunchTemplateData};
    let client = aws_sdk_ec2::Client::new(config);
    let images = client.describe_images().send().await.unwrap();
    let image = images.images()[0].image_id().unwrap();
    let data = RequestLaunchTemplateData::builder().image_id(image).instance_type(InstanceType::T3Micro).build();
    let template = client.create_launch_template().launch_template_name("twinscaler-s").launch_template_data(data);
    template.send().await.unwrap();

    let ec2 = Ec2::new(config, builders::STACK);
    let plan = contract::plan::LaunchPlan {
        size: 0,
        launch_template: "twinscaler-s".into(),
        instance_type: None,
        subnet: None,
        count: 1,
        tags: builders::tags("p", TICK, 0),
        client_token: "token-1".into(),
    };
    let launched = ec2.launch(&plan).await.unwrap();
    assert_eq!((launched.len(), launched[0].size, launched[0].decision), (1, Some(0), Some(TICK)));
    let again = ec2.launch(&plan).await.unwrap();
    assert_eq!(again[0].instance_id, launched[0].instance_id);
    let other = contract::plan::LaunchPlan { tags: builders::tags("other", TICK, 0), ..plan.clone() };
    assert_eq!(ec2.launch(&other).await.unwrap_err().code, "IdempotentParameterMismatch");
    ec2.launch(&contract::plan::LaunchPlan { client_token: "token-2".into(), ..other }).await.unwrap();

    let blue = Ec2::new(config, "blue");
    let tags = controller::plan::tags("blue", "p", TICK, 0);
    let of_blue = contract::plan::LaunchPlan { tags, client_token: "token-4".into(), ..plan.clone() };
    let of_blue = blue.launch(&of_blue).await.unwrap();
    assert_eq!(ec2.pool_of(&of_blue[0].instance_id).await.unwrap(), None);
    assert_eq!(blue.pool_of(&of_blue[0].instance_id).await.unwrap().as_deref(), Some("p"));
    assert_eq!(blue.describe("p").await.unwrap().len(), 1);

    let described = ec2.describe("p").await.unwrap();
    assert_eq!(described.len(), 1);
    assert_eq!((&described[0].instance_id, described[0].alive), (&launched[0].instance_id, true));
    assert!(described[0].launched_ms > 1_600_000_000_000);
    ec2.terminate(&["i-0123456789abcdef0".into(), launched[0].instance_id.clone()]).await.unwrap();
    assert!(ec2.describe("p").await.unwrap().iter().all(|m| !m.alive));
    let both = [launched[0].instance_id.clone(), of_blue[0].instance_id.clone()];
    assert_eq!(ec2.terminated(&both).await.unwrap(), both[..1]);
    let gone = contract::plan::LaunchPlan { launch_template: "none".into(), client_token: "token-3".into(), ..plan };
    assert_eq!(ec2.launch(&gone).await.unwrap_err().kind, Kind::NotFound);
}
