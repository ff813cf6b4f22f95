//! The tables, the bucket, the stream, the schedules and the machines are what the code and the design count on.

use std::collections::BTreeSet;

use infra::Template;
use infra::deployed::Deployed;
use serde_json::{Value, json};

fn template() -> Template {
    Template::transformed().unwrap()
}

/// The queue of what was given up.
fn dead_letters() -> Value {
    json!({"Fn::GetAtt": ["DeadLetters", "Arn"]})
}

/// `name (type) role` of each key of a table or an index.
fn keys(table: &Value, schema: &Value) -> Vec<String> {
    let definitions = table["AttributeDefinitions"].as_array().unwrap();
    let kind =
        |name: &Value| definitions.iter().find(|d| d["AttributeName"] == *name).unwrap()["AttributeType"].clone();
    let keys = schema.as_array().unwrap().iter();
    let describe = |k: &Value| {
        let (name, role) = (&k["AttributeName"], &k["KeyType"]);
        format!("{} {} {}", name.as_str().unwrap(), kind(name).as_str().unwrap(), role.as_str().unwrap())
    };
    keys.map(describe).collect()
}

#[test]
fn the_tables_have_their_keys() {
    let template = template();
    let expected: [(&str, [&str; 2]); 4] = [
        ("TasksTable", ["pool_hour S HASH", "submitted_task S RANGE"]),
        ("InstancesTable", ["pool S HASH", "launched_instance S RANGE"]),
        ("DecisionsTable", ["pool S HASH", "tick N RANGE"]),
        ("ControlTable", ["pool S HASH", "item S RANGE"]),
    ];
    for (name, expected) in expected {
        let table = template.properties(name);
        assert_eq!(keys(table, &table["KeySchema"]), expected, "{name}");
    }
    for (name, i, index, projection, expected) in [
        ("TasksTable", 0, "open", "ALL", ["open_pool S HASH", "submitted_task S RANGE"]),
        ("InstancesTable", 0, "alive", "ALL", ["alive_pool S HASH", "launched_instance S RANGE"]),
        ("InstancesTable", 1, "ended", "ALL", ["pool S HASH", "terminated_ms N RANGE"]),
        ("DecisionsTable", 0, "unsettled", "KEYS_ONLY", ["unsettled_pool S HASH", "tick N RANGE"]),
    ] {
        let table = template.properties(name);
        let indexes = table["GlobalSecondaryIndexes"].as_array().unwrap();
        assert_eq!(indexes.len(), if name == "InstancesTable" { 2 } else { 1 }, "{name}");
        assert_eq!(indexes[i]["IndexName"], index);
        assert_eq!(indexes[i]["Projection"], json!({ "ProjectionType": projection }));
        assert_eq!(keys(table, &indexes[i]["KeySchema"]), expected, "{name}/{index}");
    }
}

#[test]
fn every_table_is_encrypted_recoverable_paid_by_request_and_outlives_the_stack() {
    let template = template();
    let tables = template.of_type("AWS::DynamoDB::Table");
    assert_eq!(tables.len(), 4);
    for (name, table) in tables {
        let properties = &table["Properties"];
        assert_eq!(properties["BillingMode"], "PAY_PER_REQUEST", "{name}");
        assert_eq!(properties["SSESpecification"]["SSEEnabled"], true, "{name}");
        assert_eq!(properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true, "{name}");
        assert_eq!((&table["DeletionPolicy"], &table["UpdateReplacePolicy"]), (&json!("Retain"), &json!("Retain")));
    }
    let decisions = template.properties("DecisionsTable");
    assert_eq!(decisions["StreamSpecification"]["StreamViewType"], "NEW_IMAGE");
    assert_eq!(decisions["TimeToLiveSpecification"], json!({"AttributeName": "expires_at", "Enabled": true}));
}

#[test]
fn the_bucket_is_versioned_encrypted_and_private() {
    let template = template();
    let bucket = template.properties("Policies");
    assert_eq!(bucket["VersioningConfiguration"]["Status"], "Enabled");
    assert!(bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0].is_object());
    for block in ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"] {
        assert_eq!(bucket["PublicAccessBlockConfiguration"][block], true, "{block}");
    }
}

#[test]
fn both_functions_are_built_for_al2023_and_know_their_tables() {
    let template = template();
    let functions = template.of_type("AWS::Lambda::Function");
    assert_eq!(functions.keys().copied().collect::<Vec<_>>(), ["EvaluatorFunction", "ExecutorFunction"]);
    for (name, function) in functions {
        let properties = &function["Properties"];
        assert_eq!((&properties["Runtime"], &properties["Handler"]), (&json!("provided.al2023"), &json!("bootstrap")));
        assert!(properties["FunctionName"].is_null(), "{name}: its name comes from the stack");
        let variables = &properties["Environment"]["Variables"];
        for (variable, resource) in [
            ("TASKS_TABLE", "TasksTable"),
            ("INSTANCES_TABLE", "InstancesTable"),
            ("DECISIONS_TABLE", "DecisionsTable"),
            ("CONTROL_TABLE", "ControlTable"),
            ("POLICY_BUCKET", "Policies"),
            ("RUST_LOG", "LogLevel"),
        ] {
            assert_eq!(variables[variable], json!({"Ref": resource}), "{name} {variable}");
        }
        let stack = (name == "ExecutorFunction").then(|| json!({"Ref": "AWS::StackName"}));
        assert_eq!(variables.get("STACK_NAME"), stack.as_ref(), "{name} knows whose machines are its own");
        let group = properties["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap();
        assert!(!template.properties(group)["RetentionInDays"].is_null(), "{name}: its log has a retention");
    }
}

#[test]
fn the_stream_brings_the_executor_new_decisions_to_act_and_gives_up_into_a_queue() {
    let template = template();
    let mapping = template.properties("ExecutorFunctionDecisions");
    assert_eq!(mapping["EventSourceArn"], json!({"Fn::GetAtt": ["DecisionsTable", "StreamArn"]}));
    let filters = mapping["FilterCriteria"]["Filters"].as_array().unwrap();
    let pattern: Value = serde_json::from_str(filters[0]["Pattern"].as_str().unwrap()).unwrap();
    let expected = json!({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"verdict": {"S": ["act"]}}}});
    assert_eq!((filters.len(), pattern), (1, expected));
    assert_eq!(mapping["StartingPosition"], "TRIM_HORIZON");
    assert_eq!(mapping["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]));
    assert_eq!(mapping["BisectBatchOnFunctionError"], true);
    assert!(mapping["MaximumRetryAttempts"].as_u64().is_some_and(|n| n <= 10));
    assert_eq!(mapping["DestinationConfig"]["OnFailure"]["Destination"], dead_letters());
}

#[test]
fn the_schedules_carry_their_time_and_can_be_disabled() {
    let template = template();
    for (schedule, function, rate) in [
        ("EvaluatorSchedule", "EvaluatorFunction", "rate(1 minute)"),
        ("ReconcileSchedule", "ExecutorFunction", "rate(1 minute)"),
    ] {
        let properties = template.properties(schedule);
        assert_eq!(properties["ScheduleExpression"], rate);
        assert_eq!(properties["State"], json!({"Ref": "SchedulesState"}));
        assert_eq!(properties["Target"]["Arn"], json!({"Fn::GetAtt": [function, "Arn"]}));
        assert!(!properties["Name"].is_null(), "without a name two stacks collide in the local cloud");
        let input = properties["Target"]["Input"]["Fn::Sub"].as_str().unwrap();
        let input: Value = serde_json::from_str(input).unwrap();
        assert_eq!(input, json!({"pool": "${PoolName}", "scheduled_time": "<aws.scheduler.scheduled-time>"}));
        assert_eq!(
            properties["Target"]["DeadLetterConfig"],
            json!({"Arn": dead_letters()}),
            "what cannot be delivered"
        );
    }
}

#[test]
fn a_notice_that_cannot_be_delivered_lies_in_the_queue_which_lets_that_rule_in_and_no_other() {
    let template = template();
    let target = &template.properties("ExecutorFunctionSpotNotices")["Targets"][0];
    assert_eq!(target["DeadLetterConfig"], json!({"Arn": dead_letters()}));
    let policy = template.properties("DeadLettersPolicy");
    assert_eq!(policy["Queues"], json!([{"Ref": "DeadLetters"}]));
    let statements = policy["PolicyDocument"]["Statement"].as_array().unwrap();
    let allowed = &statements[0];
    assert_eq!(
        (statements.len(), &allowed["Effect"], &allowed["Action"]),
        (1, &json!("Allow"), &json!("sqs:SendMessage"))
    );
    assert_eq!(
        (&allowed["Principal"], &allowed["Resource"]),
        (&json!({"Service": "events.amazonaws.com"}), &dead_letters())
    );
    let rule = json!({"Fn::GetAtt": ["ExecutorFunctionSpotNotices", "Arn"]});
    assert_eq!(allowed["Condition"], json!({"ArnEquals": {"aws:SourceArn": rule}}));
}

#[test]
fn every_batch_resource_and_the_trainers_schedule_wait_for_an_image() {
    let template = template();
    let batch = template.of_type("AWS::Batch::");
    assert_eq!(batch.len(), 4);
    for (name, resource) in batch {
        // which is about the trainer too
        let condition = if name == "PromoterJob" { "HasPromoter" } else { "HasTrainer" };
        assert_eq!(resource["Condition"], condition, "{name}");
    }
    for condition in ["HasPopulation", "HasSigningKey"] {
        assert_eq!(template.0["Conditions"][condition]["Fn::And"][0]["Condition"], "HasTrainer", "{condition}");
    }
    assert_eq!(template.0["Resources"]["TrainerSchedule"]["Condition"], "HasTrainer");
    assert_eq!(template.0["Parameters"]["TrainerImage"]["Default"], "");
}

#[test]
fn the_trainer_pays_for_a_gpu_only_if_it_is_asked_to() {
    let template = template();
    assert_eq!(template.0["Parameters"]["TrainerGpus"]["Default"], 0);
    let gpu = json!({"Fn::If": ["HasTrainerGpus", {"Type": "GPU", "Value": "1"}, {"Ref": "AWS::NoValue"}]});
    for job in ["TrainerJob", "PromoterJob"] {
        let needs = template.properties(job)["ContainerProperties"]["ResourceRequirements"].clone();
        assert_eq!(needs.as_array().map(|all| (all.len(), &all[2])), Some((3, &gpu)), "{job}");
    }
}

/// What a job of a stack with these parameters runs.
fn command(template: &Template, job: &str, parameters: &[(&str, &str)]) -> String {
    let command =
        Deployed::with(template, parameters).value(&template.properties(job)["ContainerProperties"]["Command"]);
    let words = command.as_ref().and_then(Value::as_array).expect("a list of words");
    words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_trainer_learns_as_it_is_told_or_as_a_gpu_wants() {
    let template = template();
    let base = "improve --pool default --until Ref::until --older 9 --population";
    let settings = "--config /usr/local/share/twinscaler/settings";
    for (parameters, expected) in [
        (vec![], format!("{base} 1")),
        (vec![("TrainerOlder", "20")], format!("{} 1", base.replace("--older 9", "--older 20"))),
        (vec![("TrainerGpus", "1")], format!("{base} 1 {settings}/gpu.toml")),
        (
            vec![("TrainerPopulation", "4"), ("TrainerGpus", "1"), ("TrainerConfigs", "default,ablations/rate-3e-4")],
            format!("{base} 4 {settings}/default.toml {settings}/ablations/rate-3e-4.toml"),
        ),
    ] {
        let parameters: Vec<_> = [("TrainerImage", "image")].into_iter().chain(parameters).collect();
        // the run is named by what it is told: both jobs are told the same
        assert_eq!(command(&template, "TrainerJob", &parameters), expected);
        assert_eq!(command(&template, "PromoterJob", &parameters), expected);
    }
}

#[test]
fn what_the_commands_name_is_in_the_image() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let recipe = std::fs::read_to_string(format!("{root}/trainer/Containerfile")).unwrap();
    assert!(recipe.contains("\nCOPY trainer/settings /usr/local/share/twinscaler/settings\n"), "{recipe}");
    for settings in ["default", "gpu", "ablations/rate-3e-4"] {
        assert!(std::fs::exists(format!("{root}/trainer/settings/{settings}.toml")).unwrap(), "{settings}");
    }
    // the one file that Podman and Docker both look for
    let ignored = std::fs::read_to_string(format!("{root}/.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "target") && !ignored.contains("settings"), "{ignored}");
    assert!(!std::fs::exists(format!("{root}/.containerignore")).unwrap(), "Podman would read it instead");
}

/// The schedule's call of SubmitJob.
fn submitted(template: &Template, parameters: &[(&str, &str)]) -> Value {
    let input = &template.properties("TrainerSchedule")["Target"]["Input"];
    let input = Deployed::with(template, parameters).value(input).unwrap();
    serde_json::from_str(input.as_str().unwrap()).unwrap()
}

#[test]
fn a_population_is_an_array_job_and_one_candidate_is_none() {
    let template = template();
    let array = submitted(&template, &[("TrainerImage", "image"), ("TrainerPopulation", "8")]);
    assert_eq!(array["ArrayProperties"], json!({"Size": 8}));
    assert_eq!(array["JobDefinition"], "<TrainerJob>");
    // each of its jobs has an index from AWS Batch, which the command takes from the environment, and not from its words
    let parameters = [("TrainerImage", "image"), ("TrainerPopulation", "8")];
    assert!(!command(&template, "TrainerJob", &parameters).contains("--index"));
    let one = submitted(&template, &[("TrainerImage", "image")]);
    assert_eq!((&one["ArrayProperties"], &one["JobName"]), (&Value::Null, &json!("<AWS::StackName>-improve")));
    for call in [array, one] {
        assert_eq!(call["Parameters"], json!({"until": "<aws.scheduler.scheduled-time>"}));
    }
}

#[test]
fn the_end_of_all_candidates_starts_the_job_that_compares_them() {
    let template = template();
    let parameters = [("TrainerImage", "image"), ("TrainerPopulation", "8")];
    let stack = Deployed::with(&template, &parameters);
    assert!(stack.holds(template.0["Resources"]["TrainerChoice"]["Condition"].as_str().unwrap()));
    let choice = stack.value(template.properties("TrainerChoice")).unwrap();
    let detail = &choice["EventPattern"]["detail"];
    assert_eq!(detail["jobName"], json!([submitted(&template, &parameters)["JobName"]]));
    assert_eq!(detail["jobQueue"], json!([submitted(&template, &parameters)["JobQueue"]]));
    assert_eq!(detail["status"], json!(["SUCCEEDED", "FAILED"]));
    assert_eq!(detail["arrayProperties"], json!({"index": [{"exists": false}]}), "the array's own end, not an index's");
    let target = &choice["Targets"][0];
    assert_eq!(
        (&target["Arn"], &target["BatchParameters"]["JobDefinition"]),
        (&json!("<TrainerQueue>"), &json!("<PromoterJob>"))
    );
    assert_eq!(target["InputTransformer"]["InputPathsMap"], json!({"until": "$.detail.parameters.until"}));
    // and its own end starts nothing
    assert_ne!(json!([target["BatchParameters"]["JobName"]]), detail["jobName"]);
}

#[test]
fn as_many_candidates_are_trained_at_once_as_the_stack_is_told() {
    let template = template();
    let resources = |parameters: &[(&str, &str)]| {
        Deployed::with(&template, parameters)
            .value(&template.properties("TrainerMachines")["ComputeResources"])
            .unwrap()
    };
    assert_eq!(resources(&[])["MaxvCpus"], "8");
    assert_eq!(resources(&[("TrainerVcpusMax", "64")])["MaxvCpus"], "64");
}

fn given_if(condition: &str, parameter: &str) -> Value {
    json!({"Fn::If": [condition, {"Ref": parameter}, {"Ref": "AWS::NoValue"}]})
}

#[test]
fn signatures_are_off_unless_keys_are_given() {
    let template = template();
    for parameter in ["PolicyPublicKeys", "PolicySigningKeySecretArn"] {
        assert_eq!(template.0["Parameters"][parameter]["Default"], "", "{parameter}");
    }
    // not set at all: set to nothing the evaluator would not start
    let variables = &template.properties("EvaluatorFunction")["Environment"]["Variables"];
    assert_eq!(variables["TWINSCALER_POLICY_KEYS"], given_if("HasPolicyKeys", "PolicyPublicKeys"));
    assert!(template.properties("ExecutorFunction")["Environment"]["Variables"]["TWINSCALER_POLICY_KEYS"].is_null());
}

#[test]
fn the_signing_key_reaches_the_job_that_promotes_and_no_other() {
    let template = template();
    let container = |job: &str| template.properties(job)["ContainerProperties"].clone();
    let key = json!([{"Name": "TWINSCALER_SIGNING_KEY", "ValueFrom": {"Ref": "PolicySigningKeySecretArn"}}]);
    let promoter = container("PromoterJob");
    assert_eq!(promoter["Secrets"], json!({"Fn::If": ["HasSigningKey", key, {"Ref": "AWS::NoValue"}]}));
    assert_eq!(promoter["JobRoleArn"], json!({"Fn::GetAtt": ["PromoterRole", "Arn"]}));
    let trainer = container("TrainerJob");
    assert!(trainer["Secrets"].is_null() && trainer["ExecutionRoleArn"].is_null(), "{trainer}");
    // with a promoter the trainer cannot promote, and a candidate trained alone is only trained
    let role = |name: &str| json!({"Fn::GetAtt": [name, "Arn"]});
    assert_eq!(trainer["JobRoleArn"], json!({"Fn::If": ["HasPromoter", role("TrainerRole"), role("PromoterRole")]}));
    let apart = [("TrainerImage", "image"), ("PolicySigningKeySecretArn", "secret")];
    assert!(command(&template, "TrainerJob", &apart).ends_with(" --population 1 --index 0"));
    assert!(command(&template, "PromoterJob", &apart).ends_with(" --population 1"));
    let target = &template.properties("TrainerChoice")["Targets"][0];
    assert_eq!(target["BatchParameters"]["JobDefinition"], json!({"Ref": "PromoterJob"}));
}

#[test]
fn every_launch_template_asks_for_session_tokens_and_names_one_size() {
    let template = template();
    let templates = template.of_type("AWS::EC2::LaunchTemplate");
    assert_eq!(templates.len(), 3);
    for (size, instance_type) in [("S", "m5.large"), ("M", "m5.xlarge"), ("L", "m5.2xlarge")] {
        let properties = template.properties(&format!("LaunchTemplate{size}"));
        let name = format!("${{AWS::StackName}}-{}", size.to_lowercase());
        assert_eq!(properties["LaunchTemplateName"]["Fn::Sub"], name);
        assert_eq!(template.0["Outputs"][format!("LaunchTemplateName{size}")]["Value"]["Fn::Sub"], name);
        let data = &properties["LaunchTemplateData"];
        assert_eq!(data["MetadataOptions"]["HttpTokens"], "required", "{size}");
        assert_eq!(data["InstanceType"], json!({"Ref": format!("InstanceType{size}")}));
        assert_eq!(template.0["Parameters"][format!("InstanceType{size}")]["Default"], instance_type);
    }
}

#[test]
fn failures_of_both_functions_and_lost_events_raise_an_alarm() {
    let template = template();
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    let watched: Vec<String> = alarms.values().map(|a| a["Properties"]["Dimensions"][0]["Value"].to_string()).collect();
    for resource in ["EvaluatorFunction", "ExecutorFunction", "DeadLetters"] {
        assert!(watched.iter().any(|value| value.contains(resource)), "{resource}: {watched:?}");
    }
}

#[test]
fn every_alarm_has_its_runbook() {
    let template = template();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/alarms.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, template.of_type("AWS::CloudWatch::Alarm").into_keys().collect());
}

#[test]
fn a_pool_that_nobody_decides_about_or_reconciles_raises_an_alarm_where_schedules_tick() {
    let template = template();
    assert_eq!(template.0["Conditions"]["HasSchedules"], json!({"Fn::Equals": [{"Ref": "SchedulesState"}, "ENABLED"]}));
    for (name, metric) in [("SilentEvaluator", "Decisions"), ("SilentExecutor", "Reconciliations")] {
        assert_eq!(template.0["Resources"][name]["Condition"], "HasSchedules");
        let alarm = template.properties(name);
        assert_eq!((&alarm["MetricName"], &alarm["TreatMissingData"]), (&json!(metric), &json!("breaching")));
        assert_eq!((&alarm["Statistic"], &alarm["Threshold"]), (&json!("Sum"), &json!(1)));
        assert_eq!(alarm["ComparisonOperator"], "LessThanThreshold");
        assert_eq!(alarm["Dimensions"], json!([{"Name": "Pool", "Value": {"Ref": "PoolName"}}]));
    }
}

/// No value of the secret is a parameter, and without its name nothing is looked up.
#[test]
fn graphites_authorization_is_resolved_from_a_secret() {
    let template = template();
    let of = &template.properties("EvaluatorFunction")["Environment"]["Variables"]["GRAPHITE_AUTHORIZATION"]["Fn::If"];
    let secret = json!({"Fn::Sub": "{{resolve:secretsmanager:${GraphiteAuthorizationSecret}}}"});
    assert_eq!(*of, json!(["HasGraphiteAuthorization", secret, {"Ref": "AWS::NoValue"}]));
    assert_eq!(template.0["Parameters"]["GraphiteAuthorizationSecret"]["Default"], "");
    assert!(template.0["Parameters"]["GraphiteAuthorization"].is_null());
}
