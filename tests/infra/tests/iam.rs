//! Least privilege, read off the template: the emulators do not evaluate EC2's conditions, so these are checked here.

use std::collections::BTreeSet;

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

    // what `twinscaler improve` queries besides the tables themselves
    let alive = json!({"Fn::Sub": "${InstancesTable.Arn}/index/alive"});
    assert!(with_action(&statements, true, "dynamodb:Query").iter().any(|s| s.resources.contains(&alive)));
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
fn both_functions_may_read_what_money_caps_count() {
    let template = template();
    for role in ["EvaluatorRole", "ExecutorRole"] {
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

/// Every call that the adapters make is allowed to some role, so that no action is forgotten.
#[test]
fn every_sdk_call_of_the_adapters_is_allowed_to_somebody() {
    // Calls that no role of the stack makes, and who makes them instead.
    const BY_PEOPLE: [&str; 1] = ["batch_write_item"]; // whoever submits tasks does so with an identity of their own
    const CALLS: [(&str, &str); 14] = [
        ("batch_write_item", "dynamodb:BatchWriteItem"),
        ("delete_item", "dynamodb:DeleteItem"),
        ("describe_instances", "ec2:DescribeInstances"),
        ("get_item", "dynamodb:GetItem"),
        ("get_metric_data", "cloudwatch:GetMetricData"),
        ("get_object", "s3:GetObject"),
        ("put_item", "dynamodb:PutItem"),
        ("put_metric_data", "cloudwatch:PutMetricData"),
        ("put_object", "s3:PutObject"),
        ("query", "dynamodb:Query"),
        ("run_instances", "ec2:RunInstances"),
        ("scan", "dynamodb:Scan"),
        ("terminate_instances", "ec2:TerminateInstances"),
        ("update_item", "dynamodb:UpdateItem"),
    ];
    let template = template();
    let roles = ["EvaluatorRole", "ExecutorRole", "PromoterRole", "TrainerRole", "WorkerRole"];
    let allowed: BTreeSet<String> = roles.iter().flat_map(|role| allowed(&template, role)).collect();
    let sources = adapters();
    let made = CALLS.iter().filter(|(call, _)| sources.contains(&format!(".{call}()")));
    let made: Vec<_> = made.filter(|(call, _)| !BY_PEOPLE.contains(call)).collect();
    assert!(made.len() >= 8, "the adapters' calls are found: {made:?}");
    for (call, action) in made {
        assert!(allowed.contains(*action), "crates/aws calls {call}, but no role is allowed {action}");
    }
}

/// The adapters' source.
fn adapters() -> String {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/aws/src");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|p| std::fs::read_to_string(p).unwrap())
        .collect()
}
