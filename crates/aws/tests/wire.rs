//! AWS over the wire, from a script: what no emulator answers.

mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use aws::SdkConfig;
use aws::cloudwatch::CloudWatch;
use aws::ec2::Ec2;
use aws::errors::CODES;
use aws::s3::PolicyBucket;
use aws::tables::{TableNames, Tables};
use contract::action::Action;
use contract::control::Head;
use contract::decision::{Intent, IntentState};
use contract::manifest::Pointer;
use contract::plan::LaunchPlan;
use contract::pool::{Aggregation, MetricSource};
use controller::ports::*;
use script::{Answer, Fault, Script, answer, config};
use serde_json::{Value, json};
use testkit::builders::{self, TICK};

fn tables_of(config: &SdkConfig) -> Tables {
    let names = TableNames { tasks: "T".into(), instances: "I".into(), decisions: "D".into(), control: "C".into() };
    Tables::new(config, names)
}

async fn tables(answers: impl IntoIterator<Item = Answer>) -> (Script, Tables) {
    let (script, url) = Script::start(answers).await;
    (script, tables_of(&config(&url).await))
}

async fn bucket(answers: impl IntoIterator<Item = Answer>) -> (Script, PolicyBucket) {
    let (script, url) = Script::start(answers).await;
    (script, PolicyBucket::new(&config(&url).await, "B"))
}

async fn ec2(answers: impl IntoIterator<Item = Answer>) -> (Script, Ec2) {
    let (script, url) = Script::start(answers).await;
    (script, Ec2::new(&config(&url).await, builders::STACK))
}

fn dynamodb_error(status: u16, code: &str) -> Answer {
    answer(status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"the message"}}"#))
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_three_times_and_no_more() {
    let (script, tables) = tables([dynamodb_error(500, "InternalServerError")]).await;
    let error = tables.control.head("p").await.unwrap_err();
    assert_eq!((error.kind, error.operation), (Kind::Unavailable, "GetItem"));
    assert_eq!(script.asked().len(), 3);
}

/// An error as one of the services writes it.
fn error_of(service: &str, status: u16, code: &str) -> Answer {
    match service {
        "dynamodb" => dynamodb_error(status, code),
        "s3" => s3_error(status, code),
        "cloudwatch" => cbor_answer(status, &json!({"__type": format!("x#{code}"), "message": "the message"})),
        _ => ec2_error(status, code),
    }
}

/// The failure of a call to one of the services, or of its one call that makes something.
async fn failure(service: &str, config: &SdkConfig) -> PortError {
    match service {
        "dynamodb" => tables_of(config).decisions.get("p", TICK).await.unwrap_err(),
        "s3" => PolicyBucket::new(config, "B").manifest("x").await.unwrap_err(),
        "cloudwatch" => CloudWatch::new(config).series("p", &[p90("cpu")], 60_000, NOW_MS).await.unwrap_err(),
        "ec2" => Ec2::new(config, builders::STACK).describe("p").await.unwrap_err(),
        launch => {
            assert_eq!(launch, "ec2 launch");
            Ec2::new(config, builders::STACK).launch(&launch_plan()).await.unwrap_err()
        }
    }
}

const CALLS: [&str; 5] = ["dynamodb", "s3", "cloudwatch", "ec2", "ec2 launch"];

/// Whatever service says it, and whatever the status beside it.
#[tokio::test]
async fn every_code_that_we_name_keeps_its_kind_over_every_wire() {
    for service in CALLS {
        let (script, url) = Script::start(CODES.iter().map(|(code, _)| error_of(service, 400, code))).await;
        let config = script::impatient(&url, Duration::from_secs(10)).await;
        for (code, kind) in CODES {
            let error = failure(service, &config).await;
            assert_eq!((error.kind, error.code.as_str()), (*kind, *code), "{service}");
            assert!(error.message.contains("the message"), "{service}: {}", error.message);
            let mends_itself = matches!(kind, Kind::Throttled | Kind::Unavailable);
            assert_eq!(error.is_transient(), mends_itself, "{service} {code}");
        }
        assert_eq!(script.asked().len(), CODES.len(), "{service}");
    }
}

/// Slow, cut and malformed answers of each service: none says that nothing was done, so that none is a refusal. A launch
/// that may have worked is repeated with its token.
#[tokio::test]
async fn an_answer_that_is_slow_cut_or_nonsense_is_of_unknown_effect() {
    for service in CALLS {
        for (fault, code) in [
            (Fault::Silent, "Timeout"),
            (Fault::CutBefore, "NoConnection"),
            (Fault::CutWithin, "UnreadableResponse"),
            (Fault::Nonsense, "UnreadableResponse"),
        ] {
            let timeout = Duration::from_millis(if fault == Fault::Silent { 200 } else { 10_000 });
            let config = script::impatient(&script::faulty(fault).await, timeout).await;
            if service == "s3" {
                // bodies are streams of any bytes, which we read ourselves
                of_a_pointer(&config, fault).await;
                continue;
            }
            let error = failure(service, &config).await;
            assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, code), "{service} {fault:?}");
        }
    }
}

async fn of_a_pointer(config: &SdkConfig, fault: Fault) {
    let error = PolicyBucket::new(config, "B").pointer("p").await.unwrap_err();
    let expected = match fault {
        Fault::Silent => (Kind::Unavailable, "Timeout"),
        Fault::CutBefore => (Kind::Unavailable, "NoConnection"),
        Fault::CutWithin => (Kind::Unavailable, "BodyCut"),
        Fault::Nonsense => (Kind::Invalid, "Invalid"),
    };
    assert_eq!((error.kind, error.code.as_str()), expected, "{fault:?}");
}

/// The time that metrics are asked at.
const NOW_MS: u64 = 1_700_000_040_000;

fn p90(metric: &str) -> MetricSource {
    MetricSource::CloudWatch {
        namespace: "N".into(),
        metric: metric.into(),
        statistic: "p90".into(),
        aggregation: Aggregation::Last,
    }
}

/// CBOR, as far as CloudWatch needs it: numbers as doubles, and `{"at": s}` for a time.
fn cbor(value: &Value) -> Vec<u8> {
    let head = |major: u8, n: usize| [&[major << 5 | 25][..], &u16::try_from(n).unwrap().to_be_bytes()].concat();
    let text = |text: &str| [head(3, text.len()), text.into()].concat();
    let number = |n: &Value| [&[0xfb][..], &n.as_f64().unwrap().to_be_bytes()].concat();
    match value {
        Value::String(s) => text(s),
        Value::Array(items) => [head(4, items.len()), items.iter().flat_map(cbor).collect()].concat(),
        Value::Object(fields) if fields.contains_key("at") => [vec![0xc1], number(&fields["at"])].concat(),
        Value::Object(fields) => {
            let pairs = fields.iter().flat_map(|(name, value)| [text(name), cbor(value)].concat());
            [head(5, fields.len()), pairs.collect()].concat()
        }
        n => number(n),
    }
}

fn cbor_answer(status: u16, body: &Value) -> Answer {
    answer(status, cbor(body)).header("smithy-protocol", "rpc-v2-cbor").header("content-type", "application/cbor")
}

#[tokio::test]
async fn metrics_come_in_pages_and_a_series_may_go_on_in_the_next() {
    let result = |id: &str, points: &[(u64, f64)]| {
        let times: Vec<_> = points.iter().map(|(at_s, _)| json!({"at": at_s})).collect();
        let values: Vec<_> = points.iter().map(|(_, value)| value).collect();
        json!({"Id": id, "Timestamps": times, "Values": values})
    };
    let now_s = NOW_MS / 1000;
    let first = json!({"MetricDataResults": [result("q0", &[(now_s - 60, 0.5)])], "NextToken": "more"});
    let (newer, beyond) = ((now_s - 30, 0.75), (now_s + 30, 0.9));
    let second = json!({"MetricDataResults": [result("q1", &[]), result("q0", &[beyond, newer])]});
    let (script, url) = Script::start([cbor_answer(200, &first), cbor_answer(200, &second)]).await;
    let cloudwatch = CloudWatch::new(&config(&url).await);
    let series = cloudwatch.series("p", &[p90("cpu"), p90("mem")], 240_000, NOW_MS).await.unwrap();
    let point = |before_ms: u64, value: f64| Point { at_ms: NOW_MS - before_ms, value };
    assert_eq!(series, [Some(vec![point(60_000, 0.5), point(30_000, 0.75)]), Some(vec![])]);
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].path_and_query.ends_with("/operation/GetMetricData"), "{}", asked[0].path_and_query);
    assert!(asked[0].body.contains("p90") && !asked[0].body.contains("more"), "{}", asked[0].body);
    assert!(asked[1].body.contains("NextToken") && asked[1].body.contains("more"), "{}", asked[1].body);
}

#[tokio::test]
async fn a_transaction_that_meets_another_has_raced() {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"cancelled",
        "CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"m"},{"Code":"None"},
        {"Code":"None"}]}"#;
    let (_, tables) = tables([answer(400, body)]).await;
    let decision = builders::decision("p", TICK, Action::Launch(0, 1));
    let next = Head { generation: 1, ..Head::default() };
    assert_eq!(tables.decisions.claim(&decision, &Head::default(), &next, 5).await.unwrap(), Claim::Raced);
}

/// A value as DynamoDB writes it in JSON.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(b) => json!({"BOOL": b}),
        Value::Number(n) => json!({"N": n.to_string()}),
        Value::String(text) => json!({"S": text}),
        Value::Array(items) => json!({"L": items.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(_) => json!({"M": attributes(value)}),
    }
}

fn attributes(value: &Value) -> Value {
    let fields = value.as_object().expect("an object");
    fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

#[tokio::test]
async fn an_intent_whose_answer_was_lost_is_no_conflict_and_anybody_elses_is() {
    let intent = builders::pending(3, 5);
    let mut stored = builders::decision("p", TICK, Action::Launch(0, 1));
    for (stands, conflict) in [(intent.clone(), false), (builders::pending(4, 5), true)] {
        stored.intent = Some(stands);
        let item = json!({"Item": attributes(&serde_json::to_value(&stored).unwrap())}).to_string();
        let repeated = dynamodb_error(400, "ConditionalCheckFailedException");
        let (script, tables) = tables([dynamodb_error(500, "InternalServerError"), repeated, answer(200, item)]).await;
        let answer = tables.decisions.put_intent("p", TICK, &intent).await;
        assert_eq!(answer.is_err_and(|e| e.kind == Kind::Conflict), conflict);
        assert_eq!(script.asked().len(), 3);
    }
}

/// A stored decision; with more actions than this version has, if it cannot read it.
fn stored(tick: u64, readable: bool) -> Value {
    let mut json = serde_json::to_value(builders::decision("p", tick, Action::Launch(0, 1))).unwrap();
    if !readable {
        json["mask"].as_array_mut().unwrap().resize(25, true.into());
    }
    attributes(&json)
}

#[tokio::test]
async fn a_decision_of_another_version_is_told_from_a_failure() {
    let item = json!({"Item": stored(TICK, false)}).to_string();
    let (_, of_get) = tables([answer(200, item.clone())]).await;
    assert_eq!(of_get.decisions.get("p", TICK).await.unwrap_err().kind, Kind::Unreadable);
    let (_, of_put) = tables([dynamodb_error(400, "ConditionalCheckFailedException"), answer(200, item)]).await;
    let ours = builders::decision("p", TICK, Action::Nothing);
    assert_eq!(of_put.decisions.put_once(&ours).await.unwrap(), Written::Unreadable);
}

#[tokio::test]
async fn decisions_of_another_version_are_passed_on_the_way_to_older_ones() {
    let page = |ticks: &[(u64, bool)], next: Option<u64>| {
        let items: Vec<_> = ticks.iter().map(|(tick, readable)| stored(*tick, *readable)).collect();
        let key = next.map(|tick| json!({"pool": {"S": "p"}, "tick": {"N": tick.to_string()}}));
        answer(200, json!({"Items": items, "LastEvaluatedKey": key}).to_string())
    };
    let (script, tables) = tables([page(&[(180, false)], Some(180)), page(&[(120, true), (60, true)], None)]).await;
    let found = tables.decisions.before("p", TICK, 1).await.unwrap();
    assert_eq!(found.iter().map(|d| d.tick).collect::<Vec<_>>(), [120]);
    assert_eq!(script.asked().len(), 2);
}

#[tokio::test]
async fn an_unsettled_decision_is_read_by_its_key_and_left_out_if_it_was_settled_meanwhile() {
    let rows = [60, 120, 180]
        .map(|tick: u64| json!({"unsettled_pool": {"S": "p"}, "pool": {"S": "p"}, "tick": {"N": tick.to_string()}}));
    let index = answer(200, json!({ "Items": rows }).to_string());
    let mut settled = builders::decision("p", 60, Action::Launch(0, 1));
    settled.intent = Some(Intent { state: IntentState::Settled, ..builders::pending(1, 5) });
    let settled = attributes(&serde_json::to_value(&settled).unwrap());
    let items = [settled, stored(120, false), stored(180, true)];
    let items = items.map(|item| answer(200, json!({ "Item": item }).to_string()));
    let (script, tables) = tables(std::iter::once(index).chain(items)).await;
    let found = tables.decisions.unsettled("p").await.unwrap();
    assert_eq!(found.iter().map(|d| d.tick).collect::<Vec<_>>(), [180]);
    let asked = script.asked();
    assert!(asked[0].body.contains(r#""IndexName":"unsettled""#), "{}", asked[0].body);
    for (call, tick) in asked[1..].iter().zip([60, 120, 180]) {
        let body: Value = serde_json::from_str(&call.body).unwrap();
        assert_eq!(body["ConsistentRead"], true);
        assert_eq!(body["Key"], json!({"pool": {"S": "p"}, "tick": {"N": tick.to_string()}}));
    }
}

#[tokio::test]
async fn what_a_batch_leaves_is_written_again_and_nothing_else() {
    let left = r#"{"UnprocessedItems":{"T":[{"PutRequest":{"Item":{"task_id":{"S":"left"}}}}]}}"#;
    let (script, tables) = tables([answer(200, left), answer(200, "{}")]).await;
    let tasks = [builders::task("p", "a", 1), builders::task("p", "b", 2)];
    tables.tasks.put_many(&tasks).await.unwrap();
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].body.contains(r#""S":"a""#) && asked[0].body.contains(r#""S":"b""#));
    assert!(asked[1].body.contains("left") && !asked[1].body.contains(r#""S":"a""#));
}

fn s3_error(status: u16, code: &str) -> Answer {
    answer(status, format!("<Error><Code>{code}</Code><Message>the message</Message></Error>"))
}

#[tokio::test]
async fn a_file_above_the_cap_is_refused_with_and_without_a_length() {
    let (_, bucket) = bucket([answer(200, vec![1; 5000])]).await;
    assert_eq!(bucket.file("x", "policy.onnx", 4999).await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(bucket.file("x", "policy.onnx", 5000).await.unwrap().len(), 5000);
    let (_, bucket) = self::bucket([answer(200, vec![1; 5000]).length_unknown()]).await;
    assert_eq!(bucket.file("x", "policy.onnx", 4999).await.unwrap_err().kind, Kind::Invalid);
    assert_eq!(bucket.file("x", "policy.onnx", 5000).await.unwrap().len(), 5000);
}

#[tokio::test]
async fn a_pool_without_a_pointer_is_no_error_but_a_denial_is() {
    let (script, bucket) = bucket([s3_error(404, "NoSuchKey")]).await;
    assert_eq!(bucket.pointer("p").await.unwrap(), None);
    assert!(script.asked()[0].path_and_query.starts_with("/B/pools/p/current.json"));
    for (status, code, kind) in [(403, "AccessDenied", Kind::Denied), (404, "NoSuchBucket", Kind::NotFound)] {
        let (_, bucket) = self::bucket([s3_error(status, code)]).await;
        assert_eq!(bucket.pointer("p").await.unwrap_err().kind, kind, "{code}");
    }
    let (_, bucket) = self::bucket([answer(200, "{").header("etag", "\"1\"")]).await;
    assert_eq!(bucket.pointer("p").await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_file_that_is_there_is_compared() {
    let there = s3_error(412, "PreconditionFailed");
    for (stored, kind) in [
        (&b"abc"[..], None),
        (b"abx", Some(Kind::Conflict)),
        (b"ab", Some(Kind::Conflict)),
        (b"abcd", Some(Kind::Conflict)),
    ] {
        let (script, bucket) = bucket([there.clone(), answer(200, stored)]).await;
        let got = bucket.put_file("x", "policy.onnx", b"abc".to_vec()).await;
        assert_eq!(got.err().map(|e| e.kind), kind, "{stored:?}");
        assert_eq!(script.asked()[0].headers["if-none-match"], "*");
    }
}

#[tokio::test]
async fn the_pointer_moves_only_from_the_one_with_the_tag() {
    let pointer = Pointer { version: 1, sha256: "a".into(), previous: None, serial: 1 };
    for (status, code) in [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict"), (404, "NoSuchKey")] {
        let (script, bucket) = bucket([s3_error(status, code)]).await;
        assert_eq!(bucket.move_pointer("p", &pointer, Some("\"7\"")).await.unwrap_err().kind, Kind::Conflict);
        assert_eq!(script.asked()[0].headers["if-match"], "\"7\"");
    }
    let ours = answer(200, serde_json::to_vec(&pointer).unwrap()).header("etag", "\"8\"");
    let (_, bucket) = self::bucket([s3_error(412, "PreconditionFailed"), ours]).await;
    bucket.move_pointer("p", &pointer, Some("\"7\"")).await.unwrap();
    let (script, bucket) = self::bucket([answer(200, "")]).await;
    bucket.move_pointer("p", &pointer, None).await.unwrap();
    assert_eq!(script.asked()[0].headers["if-none-match"], "*");
}

fn ec2_error(status: u16, code: &str) -> Answer {
    let error = format!("<Error><Code>{code}</Code><Message>the message</Message></Error>");
    answer(status, format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"))
}

fn launch_plan() -> LaunchPlan {
    LaunchPlan {
        size: 1,
        launch_template: "twinscaler-m".into(),
        instance_type: None,
        subnet: Some("subnet-1".into()),
        count: 1,
        tags: builders::tags("p", TICK, 1),
        client_token: "token".into(),
    }
}

fn machine(id: &str, pool: &str, state: &str) -> String {
    tagged(id, &builders::tags(pool, TICK, 1), state)
}

/// A machine of a pool of the same name in another stack.
fn machine_of_other_stack(id: &str, pool: &str, state: &str) -> String {
    tagged(id, &controller::plan::tags("blue", pool, TICK, 1), state)
}

fn tagged(id: &str, tags: &BTreeMap<String, String>, state: &str) -> String {
    let tag = |(key, value): (&String, &String)| format!("<item><key>{key}</key><value>{value}</value></item>");
    let tags: String = tags.iter().map(tag).collect();
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><code>0</code><name>{state}</name></instanceState>\
         <launchTime>2023-11-14T22:14:00.000Z</launchTime><tagSet>{tags}</tagSet></item>"
    )
}

fn described(machines: &[String], next: &str) -> Answer {
    let set = machines.concat();
    answer(
        200,
        format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet>{set}</instancesSet></item>\
             </reservationSet>{next}</DescribeInstancesResponse>"
        ),
    )
}

#[tokio::test]
async fn a_launch_says_exactly_what_the_plan_says() {
    let instances = format!("<instancesSet>{}</instancesSet>", machine("i-1", "p", "pending"));
    let (script, ec2) = ec2([answer(200, format!("<RunInstancesResponse>{instances}</RunInstancesResponse>"))]).await;
    let launched_ms = 1_700_000_040_000;
    let expected =
        CloudInstance { instance_id: "i-1".into(), alive: true, size: Some(1), decision: Some(TICK), launched_ms };
    let plan = LaunchPlan { count: 4, instance_type: Some("m6a.large".into()), ..launch_plan() };
    assert_eq!(ec2.launch(&plan).await.unwrap(), [expected], "fewer than asked for");
    let body = &script.asked()[0].body;
    for part in [
        "Action=RunInstances",
        "&MinCount=1",
        "&MaxCount=4",
        "&InstanceType=m6a.large",
        "&ClientToken=token",
        "&SubnetId=subnet-1",
        "LaunchTemplate.LaunchTemplateName=twinscaler-m",
        "LaunchTemplate.Version=%24Latest",
        "TagSpecification.1.ResourceType=instance",
        "Key=twinscaler%3Amanaged",
        "Key=twinscaler%3Astack&TagSpecification.1.Tag.5.Value=twinscaler-test",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn describe_reads_all_pages_and_trusts_no_filter() {
    let first = [
        machine("i-1", "p", "running"),
        machine("i-2", "other", "running"),
        machine_of_other_stack("i-5", "p", "running"),
    ];
    let second = [machine("i-3", "p", "stopping"), machine("i-4", "p", "terminated")];
    let (script, ec2) = ec2([described(&first, "<nextToken>n</nextToken>"), described(&second, "")]).await;
    let got = ec2.describe("p").await.unwrap();
    let ids: Vec<_> = got.iter().map(|m| (m.instance_id.as_str(), m.alive)).collect();
    assert_eq!(ids, [("i-1", true), ("i-3", false)]);
    let asked = script.asked();
    for part in [
        "Filter.1.Name=tag%3Atwinscaler%3Amanaged&Filter.1.Value.1=true",
        "Filter.2.Name=tag%3Atwinscaler%3Astack&Filter.2.Value.1=twinscaler-test",
        "Filter.3.Name=tag%3Atwinscaler%3Apool&Filter.3.Value.1=p",
    ] {
        assert!(asked[0].body.contains(part), "{part} in {}", asked[0].body);
    }
    assert!(asked[1].body.contains("NextToken=n"), "{}", asked[1].body);
}

#[tokio::test]
async fn what_is_terminated_is_asked_by_id_whatever_its_tags() {
    let ended = tagged("i-2", &BTreeMap::new(), "terminated");
    let all = [
        machine("i-1", "p", "shutting-down"),
        ended,
        machine("i-3", "p", "stopped"),
        machine("i-4", "p", "terminated"),
    ];
    let (script, ec2) = ec2([described(&all, "")]).await;
    let asked = ["i-1", "i-2", "i-3"].map(str::to_owned);
    assert_eq!(ec2.terminated(&asked).await.unwrap(), ["i-1", "i-2"]);
    let body = &script.asked()[0].body;
    for part in ["Name=instance-id&Filter.1.Value.1=i-1", "Value.3=i-3", "Value.1=shutting-down", "Value.2=terminated"]
    {
        assert!(body.contains(part), "{part} in {body}");
    }
    let (script, ec2) = self::ec2([]).await;
    assert!(ec2.terminated(&[]).await.unwrap().is_empty() && script.asked().is_empty());
}

#[tokio::test]
async fn a_machine_of_another_stack_has_no_pool_of_ours() {
    for (machine, pool) in [
        (machine("i-1", "p", "running"), Some("p")),
        (machine_of_other_stack("i-1", "p", "running"), None),
        (machine("i-2", "p", "running"), None),
    ] {
        let (script, ec2) = ec2([described(&[machine], "")]).await;
        assert_eq!(ec2.pool_of("i-1").await.unwrap().as_deref(), pool);
        let body = &script.asked()[0].body;
        assert!(body.contains("Name=tag%3Atwinscaler%3Astack&Filter.2.Value.1=twinscaler-test"), "{body}");
    }
}

#[tokio::test]
async fn a_machine_that_is_gone_is_terminated_already() {
    let gone = ec2_error(400, "InvalidInstanceID.NotFound");
    let done = answer(200, "<TerminateInstancesResponse/>");
    let (script, ec2) = ec2([gone.clone(), gone.clone(), done]).await;
    ec2.terminate(&["i-1".into(), "i-2".into()]).await.unwrap();
    let bodies: Vec<String> = script.asked().into_iter().map(|asked| asked.body).collect();
    assert!(bodies[0].contains("InstanceId.2=i-2"), "{}", bodies[0]);
    assert!(bodies[1].contains("=i-1") && !bodies[1].contains("i-2"), "{}", bodies[1]);
    assert!(bodies[2].contains("=i-2") && !bodies[2].contains("i-1"), "{}", bodies[2]);
    let (_, ec2) = self::ec2([ec2_error(403, "UnauthorizedOperation")]).await;
    assert_eq!(ec2.terminate(&["i-1".into(), "i-2".into()]).await.unwrap_err().kind, Kind::Denied);
}
