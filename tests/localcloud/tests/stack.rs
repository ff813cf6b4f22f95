//! The project's template in the local cloud, with a stand-in for the functions' code: names, roles, stream, machines.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use localcloud::deploy::project_template;
use localcloud::{DeployOptions, Error, LocalCloud, Options, Outputs, Zips};
use serde_json::{Value, json};

/// Zips the stand-in function.
fn bootstrap_zip(dir: &Path) -> PathBuf {
    let python = localcloud::tools::tool("cloud", "python").unwrap();
    let code = include_str!("../fixtures/bootstrap.py");
    let bootstrap = dir.join("bootstrap");
    std::fs::write(&bootstrap, format!("#!{}\n{code}", python.display())).unwrap();
    std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755)).unwrap();
    let zip = dir.join("bootstrap.zip");
    let status = Command::new(python).args(["-m", "zipfile", "-c"]).args([&zip, &bootstrap]).status().unwrap();
    assert!(status.success());
    zip
}

struct Stack {
    cloud: LocalCloud,
    outputs: Outputs,
}

fn options(dir: &Path) -> DeployOptions {
    let zip = bootstrap_zip(dir);
    DeployOptions {
        stack_name: "blue".into(),
        template: project_template(),
        parameters: BTreeMap::from([("SchedulesState".into(), "DISABLED".into()), ("LogLevel".into(), "debug".into())]),
        zips: Zips { evaluator: zip.clone(), executor: zip },
    }
}

impl Stack {
    async fn deploy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cloud = LocalCloud::start(Options::default()).await.unwrap();
        let outputs = cloud.deploy(&options(dir.path())).await.unwrap();
        Self { cloud, outputs }
    }

    fn output(&self, name: &str) -> &str {
        self.outputs.get(name).unwrap_or_else(|| panic!("the stack has the output {name}: {:?}", self.outputs))
    }

    /// An AWS call made by a function, with its own role: "ok" or the error's code.
    async fn call_as(&self, function: &str, service: &str, operation: &str, params: Value) -> String {
        let event = json!({"call": [service, operation, params]});
        let answer = self.cloud.invoke(self.output(function), &event).await.unwrap();
        answer.as_str().unwrap().to_owned()
    }

    async fn put_decision(&self, tick: u64, verdict: &str) {
        let item = json!({"pool": {"S": "blue"}, "tick": {"N": tick.to_string()}, "verdict": {"S": verdict}});
        let put = json!({"TableName": self.output("DecisionsTableName"), "Item": item});
        self.cloud.aws().json("dynamodb", "DynamoDB_20120810.PutItem", &put).await.unwrap();
    }

    /// The ticks of the stream records that have reached the executor, from its log.
    async fn ticks_seen(&self) -> Vec<String> {
        let logs = self.cloud.function_logs(self.output("ExecutorFunctionName")).await.unwrap_or_default();
        let events = logs.iter().filter_map(|line| line.split_once("event {").map(|(_, rest)| format!("{{{rest}")));
        let events: Vec<Value> = events.map(|event| serde_json::from_str(&event).unwrap()).collect();
        let records = events.iter().filter_map(|event| event["Records"].as_array()).flatten();
        records.map(|r| r["dynamodb"]["NewImage"]["tick"]["N"].as_str().unwrap().to_owned()).collect()
    }
}

async fn functions_get_their_names_and_endpoints(stack: &Stack) {
    let answer = stack.cloud.invoke(stack.output("EvaluatorFunctionName"), &json!({"pool": "blue"})).await.unwrap();
    assert_eq!(answer["event"], json!({"pool": "blue"}));
    assert_eq!(answer["env"]["TASKS_TABLE"], stack.output("TasksTableName"));
    let executor = stack.cloud.invoke(stack.output("ExecutorFunctionName"), &json!({"pool": "blue"})).await.unwrap();
    assert_eq!(executor["env"]["STACK_NAME"], "blue");
    assert_eq!(answer["env"]["AWS_ENDPOINT_URL"], stack.cloud.endpoint());
    assert_eq!(answer["env"]["AWS_ENDPOINT_URL_EC2"], stack.cloud.ec2_endpoint());
    assert_eq!(answer["env"]["RUST_LOG"], "debug");
}

async fn a_failing_function_is_an_error(stack: &Stack) {
    let function = stack.output("EvaluatorFunctionName");
    let error = stack.cloud.invoke(function, &json!({"fail": "no such pool"})).await.unwrap_err();
    assert!(matches!(&error, Error::Function { message, .. } if message.contains("no such pool")), "{error}");
}

/// IAM is enforced: what a role allows works, what it does not is denied.
async fn roles_allow_what_is_needed_and_no_more(stack: &Stack) {
    let key = |table: &str, sort: (&str, Value)| json!({"TableName": stack.output(table), "Key": {"pool": {"S": "blue"}, sort.0: sort.1}});
    let item = |table: &str, sort: (&str, Value)| json!({"TableName": stack.output(table), "Item": {"pool": {"S": "blue"}, sort.0: sort.1}});
    let head = || ("item", json!({"S": "head"}));
    let open = json!({"TableName": stack.output("TasksTableName"), "IndexName": "open",
        "KeyConditionExpression": "open_pool = :p", "ExpressionAttributeValues": {":p": {"S": "blue#waiting"}}});
    let pointer = json!({"Bucket": stack.output("PolicyBucketName"), "Key": "pools/blue/current.json"});
    let (evaluator, executor) = ("EvaluatorFunctionName", "ExecutorFunctionName");
    let cases = [
        (evaluator, "dynamodb", "get_item", key("ControlTableName", head()), "ok"),
        (evaluator, "dynamodb", "put_item", item("ControlTableName", head()), "AccessDeniedException"),
        (evaluator, "dynamodb", "query", open.clone(), "ok"),
        (evaluator, "dynamodb", "put_item", item("DecisionsTableName", ("tick", json!({"N": "1"}))), "ok"),
        (evaluator, "s3", "get_object", pointer.clone(), "NoSuchKey"),
        (executor, "s3", "get_object", pointer, "AccessDenied"),
        (executor, "dynamodb", "put_item", item("ControlTableName", head()), "ok"),
        (
            executor,
            "dynamodb",
            "put_item",
            item("DecisionsTableName", ("tick", json!({"N": "2"}))),
            "AccessDeniedException",
        ),
        (executor, "dynamodb", "query", open, "ok"),
    ];
    for (function, service, operation, params, expected) in cases {
        let what = format!("{function} {service} {operation} {params}");
        assert_eq!(stack.call_as(function, service, operation, params).await, expected, "{what}");
    }
}

async fn only_decisions_to_act_reach_the_executor(stack: &Stack) {
    stack.put_decision(100, "hold").await;
    stack.put_decision(101, "act").await;
    stack.put_decision(102, "hold").await;
    stack.put_decision(103, "act").await;
    for _ in 0..600 {
        if stack.ticks_seen().await.contains(&"103".to_owned()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(stack.ticks_seen().await, ["101", "103"]);
}

async fn launch_templates_are_where_ec2_is(stack: &Stack) {
    for (size, instance_type) in [("S", "m5.large"), ("M", "m5.xlarge"), ("L", "m5.2xlarge")] {
        let name = stack.output(&format!("LaunchTemplateName{size}"));
        let params = [
            ("LaunchTemplate.LaunchTemplateName", name),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "twinscaler:managed"),
            ("TagSpecification.1.Tag.1.Value", "true"),
        ];
        let params = params.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let answer = stack.cloud.ec2().query("ec2", "2016-11-15", "RunInstances", &params).await.unwrap();
        assert!(answer.contains(&format!("<instanceType>{instance_type}</instanceType>")), "{answer}");
        for tag in ["twinscaler:managed", "twinscaler:stack"] {
            assert!(answer.contains(&format!("<key>{tag}</key>")), "{tag}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_template_deploys_and_its_parts_work_together() {
    let stack = Stack::deploy().await;
    functions_get_their_names_and_endpoints(&stack).await;
    a_failing_function_is_an_error(&stack).await;
    roles_allow_what_is_needed_and_no_more(&stack).await;
    only_decisions_to_act_reach_the_executor(&stack).await;
    launch_templates_are_where_ec2_is(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_cannot_be_created_names_the_resource() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let text = std::fs::read_to_string(project_template()).unwrap();
    options.template = dir.path().join("template.yaml");
    let broken = text.replace("ComparisonOperator: GreaterThanThreshold\n", "\n");
    assert_ne!(broken, text);
    std::fs::write(&options.template, broken).unwrap();

    let cloud = LocalCloud::start(Options::default()).await.unwrap();
    let error = cloud.deploy(&options).await.unwrap_err();
    // every alarm is broken, and the first that is created says so
    let Error::Stack { failures, .. } = &error else { panic!("{error}") };
    assert!(failures.contains(" (AWS::CloudWatch::Alarm): ComparisonOperator"), "{error}");
}
