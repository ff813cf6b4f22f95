//! Least privilege, read off the template: the emulators do not evaluate EC2's conditions, so these are checked here.

use std::collections::{BTreeMap, BTreeSet};

use contract::plan::{TAG_DECISION, TAG_MANAGED, TAG_POOL, TAG_STACK};
use infra::Template;
use infra::iam::{Statement, allowed, statements};
use serde_json::{Value, json};

/// The stack's own name, as the template writes it.
fn stack_name() -> Value {
    json!({"Ref": "AWS::StackName"})
}

fn template() -> Template {
    Template::transformed().unwrap()
}

fn set(actions: &[&str]) -> BTreeSet<String> {
    actions.iter().map(|action| (*action).to_owned()).collect()
}

fn with_action<'a>(statements: &'a [Statement], allows: bool, action: &str) -> Vec<&'a Statement> {
    statements.iter().filter(|s| s.allows == allows && s.actions.contains(action)).collect()
}

fn denies_all_of_ec2(template: &Template, role: &str) -> bool {
    statements(template, role)
        .iter()
        .any(|s| !s.allows && s.actions.contains("ec2:*") && s.of_everything() && s.condition.is_null())
}

#[test]
fn the_evaluator_reads_and_writes_decisions_and_never_touches_machines() {
    let template = template();
    let expected = set(&[
        "cloudwatch:GetMetricData",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:GetObject",
        "s3:ListBucket",
        "sqs:SendMessage",
    ]);
    assert_eq!(allowed(&template, "EvaluatorRole"), expected);
    assert!(denies_all_of_ec2(&template, "EvaluatorRole"));

    let statements = statements(&template, "EvaluatorRole");
    for writes in with_action(&statements, true, "dynamodb:PutItem") {
        assert_eq!(writes.resources, [json!({"Fn::GetAtt": ["DecisionsTable", "Arn"]})]);
    }
}

#[test]
fn the_executor_reads_neither_policies_nor_metrics() {
    let expected = set(&[
        "dynamodb:ConditionCheckItem",
        "dynamodb:DescribeStream",
        "dynamodb:GetItem",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "ec2:CreateTags",
        "ec2:DescribeInstances",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
        "iam:PassRole",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sqs:SendMessage",
    ]);
    assert_eq!(allowed(&template(), "ExecutorRole"), expected);
}

#[test]
fn the_executor_stops_only_machines_with_all_our_tags() {
    let statements = statements(&template(), "ExecutorRole");
    let tag = |name: &str| format!("aws:ResourceTag/{name}");

    let allow = with_action(&statements, true, "ec2:TerminateInstances");
    assert_eq!(allow.len(), 1);
    assert_eq!(allow[0].condition["StringEquals"][tag(TAG_MANAGED)], "true");
    assert_eq!(allow[0].condition["StringEquals"][tag(TAG_STACK)], stack_name());
    for name in [TAG_POOL, TAG_DECISION] {
        assert_eq!(allow[0].condition["Null"][tag(name)], "false", "{name} must be there");
    }

    // And whatever else is ever attached to the role, without each of the tags it is denied.
    let deny = with_action(&statements, false, "ec2:TerminateInstances");
    assert!(deny.iter().all(|s| s.of_everything()));
    let conditions: Vec<&Value> = deny.iter().map(|s| &s.condition).collect();
    for condition in [
        json!({"StringNotEquals": {tag(TAG_MANAGED): "true"}}),
        json!({"StringNotEquals": {tag(TAG_STACK): stack_name()}}),
        json!({"Null": {tag(TAG_POOL): "true"}}),
        json!({"Null": {tag(TAG_DECISION): "true"}}),
    ] {
        assert!(conditions.contains(&&condition), "{condition} is denied: {conditions:?}");
    }
}

#[test]
fn the_executor_launches_only_tagged_machines_of_our_templates_and_image() {
    let statements = statements(&template(), "ExecutorRole");
    let launches = with_action(&statements, true, "ec2:RunInstances");
    let of = |kind: &str| -> Vec<&&Statement> {
        launches.iter().filter(|s| s.resources.iter().any(|r| r.to_string().contains(kind))).collect()
    };

    let instance = of(":instance/*");
    assert_eq!(instance.len(), 1);
    let condition = &instance[0].condition;
    assert_eq!(condition["StringEquals"][format!("aws:RequestTag/{TAG_MANAGED}")], "true");
    assert_eq!(condition["StringEquals"][format!("aws:RequestTag/{TAG_STACK}")], stack_name());
    for name in [TAG_POOL, TAG_DECISION] {
        assert_eq!(condition["Null"][format!("aws:RequestTag/{name}")], "false", "{name} must be given");
    }
    assert_eq!(condition["ArnEquals"]["ec2:LaunchTemplate"].as_array().map(Vec::len), Some(3));
    let image = of("image/");
    assert_eq!((image.len(), image[0].resources.len()), (1, 1));
    assert!(image[0].resources[0].to_string().contains("image/${AmiId}"));
    assert!(launches.iter().all(|s| !s.of_everything()));
}

#[test]
fn the_executor_tags_at_launch_and_never_later() {
    let statements = statements(&template(), "ExecutorRole");
    for allow in with_action(&statements, true, "ec2:CreateTags") {
        let stack = format!("aws:RequestTag/{TAG_STACK}");
        let at_launch = json!({"StringEquals": {"ec2:CreateAction": "RunInstances", stack: stack_name()}});
        assert_eq!(allow.condition, at_launch);
    }
    let deny = with_action(&statements, false, "ec2:CreateTags");
    assert_eq!(deny.len(), 1);
    assert_eq!(deny[0].condition, json!({"StringNotEquals": {"ec2:CreateAction": "RunInstances"}}));
}

#[test]
fn the_executor_passes_the_workers_role_to_ec2_and_no_other() {
    let statements = statements(&template(), "ExecutorRole");
    let pass = with_action(&statements, true, "iam:PassRole");
    assert_eq!(pass.len(), 1);
    assert_eq!(pass[0].resources, [json!({"Fn::GetAtt": ["WorkerRole", "Arn"]})]);
    assert_eq!(pass[0].condition, json!({"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}));
}

#[test]
fn the_trainer_reads_and_leaves_candidates_and_can_neither_promote_nor_touch_machines() {
    let template = template();
    let expected = set(&["dynamodb:GetItem", "dynamodb:Query", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]);
    assert_eq!(allowed(&template, "TrainerRole"), expected);
    assert!(denies_all_of_ec2(&template, "TrainerRole"));
    let statements = statements(&template, "TrainerRole");
    let puts = with_action(&statements, true, "s3:PutObject");
    assert_eq!(puts.len(), 1);
    assert_eq!(puts[0].resources, [json!({"Fn::Sub": "${Policies.Arn}/candidates/*"})]);
}

#[test]
fn only_what_starts_the_promoter_reads_the_signing_key() {
    let template = template();
    for role in template.of_type("AWS::IAM::Role").into_keys() {
        let statements = statements(&template, role);
        let reads = with_action(&statements, true, "secretsmanager:GetSecretValue");
        assert_eq!(reads.len(), usize::from(role == "PromoterKeyRole"), "{role}");
        for read in reads {
            assert_eq!(read.resources, [json!({"Ref": "PolicySigningKeySecretArn"})]);
        }
    }
    assert_eq!(template.0["Resources"]["PromoterKeyRole"]["Condition"], "HasSigningKey");
}

#[test]
fn the_promoter_reads_history_writes_policies_and_never_touches_machines() {
    let template = template();
    let expected = set(&[
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
    ]);
    assert_eq!(allowed(&template, "PromoterRole"), expected);
    assert!(denies_all_of_ec2(&template, "PromoterRole"));

    // of the tables it writes nothing but leases, and no pool can have such a key
    let statements = statements(&template, "PromoterRole");
    for action in ["dynamodb:PutItem", "dynamodb:DeleteItem"] {
        let writes = with_action(&statements, true, action);
        assert_eq!(writes.len(), 1, "{action}");
        let condition = json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "lease#*"}});
        assert_eq!(writes[0].condition, condition, "{action}");
    }
}

/// What a role may query.
fn queried(template: &Template, role: &str) -> Vec<Value> {
    let statements = statements(template, role);
    with_action(&statements, true, "dynamodb:Query").iter().flat_map(|s| s.resources.clone()).collect()
}

#[test]
fn the_executor_and_nobody_else_may_look_for_unsettled_decisions() {
    let template = template();
    let index = json!({"Fn::Sub": "${DecisionsTable.Arn}/index/unsettled"});
    let may = |role: &&str| queried(&template, role).contains(&index);
    let roles = template.of_type("AWS::IAM::Role");
    assert_eq!(roles.keys().copied().filter(may).collect::<Vec<_>>(), ["ExecutorRole"]);
}

#[test]
fn whoever_counts_money_or_learns_from_history_may_read_all_machines_of_a_time() {
    let template = template();
    for role in ["EvaluatorRole", "ExecutorRole", "TrainerRole", "PromoterRole"] {
        let queries = queried(&template, role);
        for index in ["alive", "ended"] {
            let arn = json!({"Fn::Sub": format!("${{InstancesTable.Arn}}/index/{index}")});
            assert!(queries.contains(&arn), "{role} {index}");
        }
    }
}

/// `*` only where the service has no resource-level permission, or with a condition.
#[test]
fn no_role_may_do_everything_or_touch_everything() {
    const UNAVOIDABLE: [&str; 3] = ["cloudwatch:GetMetricData", "dynamodb:ListStreams", "ec2:DescribeInstances"];
    let template = template();
    for role in template.of_type("AWS::IAM::Role").into_keys() {
        for statement in statements(&template, role).iter().filter(|s| s.allows) {
            let what = format!("{role} {}", statement.sid);
            assert!(statement.actions.iter().all(|action| !action.contains('*')), "{what}");
            let unavoidable = statement.actions.iter().all(|action| UNAVOIDABLE.contains(&action.as_str()));
            let bounded = !statement.of_everything() || unavoidable || !statement.condition.is_null();
            assert!(bounded, "{what} is about every resource");
        }
    }
}

#[test]
fn every_role_takes_the_permissions_boundary() {
    let template = template();
    let roles = template.of_type("AWS::IAM::Role");
    assert!(roles.len() >= 6, "{roles:?}");
    for (role, resource) in roles {
        let boundary = &resource["Properties"]["PermissionsBoundary"];
        assert_eq!(boundary["Fn::If"][0], "HasBoundary", "{role}");
    }
}

/// A call of an adapter: the file in `crates/aws/src`, the SDK's call, the ports' methods that make it, and the rights that it
/// takes, as action and resource.
struct Call(&'static str, &'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const EVALUATOR: &[Call] = &[
    Call(
        "tasks",
        "query",
        &["open", "arrival_times"],
        &[("dynamodb:Query", "TasksTable"), ("dynamodb:Query", "TasksTable/open")],
    ),
    Call(
        "instances",
        "query",
        &["alive", "launched", "since"],
        &[
            ("dynamodb:Query", "InstancesTable"),
            ("dynamodb:Query", "InstancesTable/alive"),
            ("dynamodb:Query", "InstancesTable/ended"),
        ],
    ),
    Call("decisions", "query", &["before"], &[("dynamodb:Query", "DecisionsTable")]),
    Call("decisions", "put_item", &["put_once"], &[("dynamodb:PutItem", "DecisionsTable")]),
    // what stands where its own was not the first
    Call("decisions", "get_item", &["put_once"], &[("dynamodb:GetItem", "DecisionsTable")]),
    Call(
        "control",
        "get_item",
        &["config", "head", "kill_switch", "no_capacity"],
        &[("dynamodb:GetItem", "ControlTable")],
    ),
    Call("s3", "get_object", &["pointer", "manifest", "file"], &[("s3:GetObject", "Policies")]),
    Call("cloudwatch", "get_metric_data", &["series"], &[("cloudwatch:GetMetricData", "*")]),
];

const EXECUTOR: &[Call] = &[
    Call("tasks", "query", &["open"], &[("dynamodb:Query", "TasksTable/open")]),
    Call(
        "instances",
        "query",
        &["alive", "since"],
        &[
            ("dynamodb:Query", "InstancesTable"),
            ("dynamodb:Query", "InstancesTable/alive"),
            ("dynamodb:Query", "InstancesTable/ended"),
        ],
    ),
    Call("instances", "put_item", &["put_new"], &[("dynamodb:PutItem", "InstancesTable")]),
    Call(
        "instances",
        "update_item",
        &["mark_draining", "reopen", "mark_terminated"],
        &[("dynamodb:UpdateItem", "InstancesTable")],
    ),
    Call("decisions", "get_item", &["get", "unsettled"], &[("dynamodb:GetItem", "DecisionsTable")]),
    Call(
        "decisions",
        "query",
        &["before", "range", "unsettled"],
        &[("dynamodb:Query", "DecisionsTable"), ("dynamodb:Query", "DecisionsTable/unsettled")],
    ),
    Call("decisions", "update_item", &["put_intent"], &[("dynamodb:UpdateItem", "DecisionsTable")]),
    // the decision's intent, the head, and the kill switch
    Call(
        "decisions",
        "transact_write_items",
        &["claim"],
        &[
            ("dynamodb:UpdateItem", "DecisionsTable"),
            ("dynamodb:PutItem", "ControlTable"),
            ("dynamodb:ConditionCheckItem", "ControlTable"),
        ],
    ),
    Call(
        "control",
        "get_item",
        &["config", "head", "kill_switch", "no_capacity"],
        &[("dynamodb:GetItem", "ControlTable")],
    ),
    Call("control", "put_item", &["put_no_capacity"], &[("dynamodb:PutItem", "ControlTable")]),
    Call("ec2", "describe_instances", &["describe", "pool_of", "terminated"], &[("ec2:DescribeInstances", "*")]),
    Call(
        "ec2",
        "run_instances",
        &["launch"],
        &[("ec2:RunInstances", "ours"), ("ec2:CreateTags", "ours"), ("iam:PassRole", "WorkerRole")],
    ),
    Call("ec2", "terminate_instances", &["terminate"], &[("ec2:TerminateInstances", "ours")]),
];

/// What others than the two functions call: the trainer's jobs, the worker, and people who submit tasks and make pools.
const OTHERS: [(&str, &str); 6] = [
    ("cloudwatch", "put_metric_data"),
    ("lease", "delete_item"),
    ("lease", "put_item"),
    ("s3", "put_object"),
    ("tasks", "batch_write_item"),
    ("tasks", "put_item"),
];

/// What Lambda does with a function's role, and the right that makes S3 say "not found".
const NO_CALLS: [&str; 8] = [
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "s3:ListBucket",
    "sqs:SendMessage",
];

/// A resource as the tables above name it.
fn short(resource: &Value) -> String {
    if let Some(name) = resource["Fn::GetAtt"][0].as_str() {
        return name.to_owned();
    }
    match resource.as_str().or(resource["Fn::Sub"].as_str()) {
        Some(text) => match text.strip_prefix("${").and_then(|rest| rest.split_once(".Arn}")) {
            Some((name, rest)) => match rest.strip_prefix("/index/") {
                Some(index) => format!("{name}/{index}"),
                None => name.to_owned(),
            },
            None if text == "*" => text.to_owned(),
            None => "ours".to_owned(),
        },
        None => resource.to_string(),
    }
}

/// What a role is allowed, as action and resource, without what no call of ours takes.
fn rights(template: &Template, role: &str) -> BTreeSet<(String, String)> {
    let of = |s: Statement| {
        let resources: Vec<String> = s.resources.iter().map(short).collect();
        let pairs = move |action: String| resources.clone().into_iter().map(move |r| (action.clone(), r));
        s.actions.into_iter().flat_map(pairs).collect::<Vec<_>>()
    };
    let all = statements(template, role).into_iter().filter(|s| s.allows).flat_map(of);
    all.filter(|(action, _)| !NO_CALLS.contains(&action.as_str())).collect()
}

#[test]
fn each_function_may_do_exactly_what_its_adapters_call() {
    let template = template();
    for (role, calls) in [("EvaluatorRole", EVALUATOR), ("ExecutorRole", EXECUTOR)] {
        let needed = calls.iter().flat_map(|Call(.., rights)| *rights);
        let needed = needed.map(|(action, resource)| ((*action).to_owned(), (*resource).to_owned()));
        assert_eq!(rights(&template, role), needed.collect(), "{role}");
    }
}

#[test]
fn each_function_does_call_what_it_may_do() {
    for (function, calls) in [("evaluator", EVALUATOR), ("executor", EXECUTOR)] {
        let source: String = sources(&format!("functions/{function}/src")).into_values().collect();
        for Call(adapter, call, methods, _) in calls {
            for method in *methods {
                assert!(source.contains(&format!(".{method}(")), "{function}: {adapter}.{call} for {method}");
            }
        }
    }
}

#[test]
fn every_call_of_the_adapters_is_somebodys() {
    let known = EVALUATOR.iter().chain(EXECUTOR).map(|Call(adapter, call, ..)| (*adapter, *call)).chain(OTHERS);
    let known: BTreeSet<(String, String)> = known.map(|(adapter, call)| (adapter.into(), call.into())).collect();
    // Graphite's client is no SDK's
    let adapters = sources("crates/aws/src").into_iter().filter(|(name, _)| name != "graphite");
    let made = adapters.flat_map(|(name, text)| sdk_calls(&text).into_iter().map(move |call| (name.clone(), call)));
    assert_eq!(made.collect::<BTreeSet<_>>(), known);
}

/// The calls `client.NAME()` of a source.
fn sdk_calls(source: &str) -> BTreeSet<String> {
    let packed: String = source.split_whitespace().collect();
    let calls = packed.split("client.").skip(1).filter_map(|rest| Some(rest.split_once("()")?.0.to_owned()));
    calls.filter(|name| name != "clone" && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).collect()
}

/// The files of a folder without their endings, and what is in them.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let read = |path: std::path::PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.map(read).collect()
}

#[test]
fn the_executor_writes_neither_the_kill_switch_nor_a_configuration_nor_a_lease() {
    let statements = statements(&template(), "ExecutorRole");
    let control = json!({"Fn::GetAtt": ["ControlTable", "Arn"]});
    let denied = |action: &str| -> Vec<Value> {
        let denied = with_action(&statements, false, action);
        assert!(denied.iter().all(|s| s.resources == std::slice::from_ref(&control)), "{action}");
        denied.iter().map(|s| s.condition.clone()).collect()
    };
    // as a word and not as a pattern, which would be every pool's head
    let switch = json!({"ForAnyValue:StringEquals": {"dynamodb:LeadingKeys": "*"}});
    // the attribute that holds a configuration's bounds and caps, and no other item has
    let configuration = json!({"ForAnyValue:StringEquals": {"dynamodb:Attributes": "json"}});
    let lease = json!({"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": "lease#*"}});
    assert_eq!(denied("dynamodb:PutItem"), [switch.clone(), configuration, lease]);
    // of writes it has no others
    for action in ["dynamodb:UpdateItem", "dynamodb:DeleteItem"] {
        assert_eq!(denied(action), std::slice::from_ref(&switch), "{action}");
        let allowed = with_action(&statements, true, action);
        assert!(allowed.iter().all(|s| !s.resources.contains(&control)), "{action}");
    }
}

#[test]
fn the_scheduler_calls_both_functions_and_leaves_what_it_cannot_deliver() {
    let statements = statements(&template(), "SchedulerRole");
    for (action, resources) in [
        ("lambda:InvokeFunction", &["EvaluatorFunction", "ExecutorFunction"][..]),
        ("sqs:SendMessage", &["DeadLetters"]),
    ] {
        let allowed = with_action(&statements, true, action).into_iter().flat_map(|s| s.resources.iter().map(short));
        assert_eq!(allowed.collect::<Vec<_>>(), resources, "{action}");
    }
}

#[test]
fn a_worker_publishes_no_metrics_of_the_functions() {
    let statements = statements(&template(), "WorkerRole");
    let publishes = with_action(&statements, true, "cloudwatch:PutMetricData");
    let conditions: Vec<Value> = publishes.iter().map(|s| s.condition.clone()).collect();
    assert_eq!(conditions, [json!({"StringLike": {"cloudwatch:namespace": "Twinscaler/*"}})]);
}

#[test]
fn a_worker_writes_nothing_of_a_machine_but_that_it_takes_tasks() {
    let statements = statements(&template(), "WorkerRole");
    const READS: [&str; 2] = ["dynamodb:GetItem", "dynamodb:Query"];
    let machines = json!({"Fn::GetAtt": ["InstancesTable", "Arn"]});
    let writes: Vec<&Statement> = statements
        .iter()
        .filter(|s| s.resources.contains(&machines) && s.actions.iter().any(|action| !READS.contains(&action.as_str())))
        .collect();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].actions, set(&["dynamodb:UpdateItem"]));
    let attributes = &writes[0].condition["ForAllValues:StringEquals"]["dynamodb:Attributes"];
    assert_eq!(*attributes, json!(["pool", "launched_instance", "ready_ms"]));
}
