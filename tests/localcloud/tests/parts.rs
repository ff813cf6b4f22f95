//! The parts of the local cloud, each through the interface that the product uses.

use std::io::Write;
use std::time::{Duration, SystemTime};

use localcloud::{AwsClient, Error, Fault, FaultKind, LocalCloud, Options};
use serde_json::json;

type Params<'a> = &'a [(&'a str, &'a str)];

async fn ec2(cloud: &LocalCloud, action: &str, params: Params<'_>) -> Result<String, Error> {
    let params: Vec<_> = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    cloud.ec2().query("ec2", "2016-11-15", action, &params).await
}

/// The text of the first element of that name.
fn text(xml: &str, name: &str) -> String {
    let document = roxmltree::Document::parse(xml).unwrap();
    let node = document.descendants().find(|n| n.tag_name().name() == name).expect("the element is there");
    node.text().unwrap_or_default().to_owned()
}

async fn dynamodb_keeps_an_item(aws: &AwsClient) {
    let create = json!({"TableName": "machines", "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pool", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pool", "KeyType": "HASH"}]});
    aws.json("dynamodb", "DynamoDB_20120810.CreateTable", &create).await.unwrap();
    let item = json!({"pool": {"S": "blue"}, "cores": {"N": "8"}});
    let put = json!({"TableName": "machines", "Item": item, "ConditionExpression": "attribute_not_exists(#pool)",
        "ExpressionAttributeNames": {"#pool": "pool"}});
    aws.json("dynamodb", "DynamoDB_20120810.PutItem", &put).await.unwrap();

    let get = json!({"TableName": "machines", "Key": {"pool": {"S": "blue"}}});
    let got = aws.json("dynamodb", "DynamoDB_20120810.GetItem", &get).await.unwrap();
    assert_eq!(got["Item"], item);
    let again = aws.json("dynamodb", "DynamoDB_20120810.PutItem", &put).await.unwrap_err().to_string();
    assert!(again.contains("ConditionalCheckFailedException"), "{again}");
}

async fn a_token_launches_one_real_machine(cloud: &LocalCloud) {
    let images = ec2(cloud, "DescribeImages", &[]).await.unwrap();
    let image = text(&images, "imageId");
    let launch: Params = &[
        ("ImageId", &image),
        ("InstanceType", "m5.large"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ClientToken", "decision-1"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "twinscaler:pool"),
        ("TagSpecification.1.Tag.1.Value", "blue"),
    ];
    cloud.gate().inject(Fault::new(FaultKind::CutAfter).action("RunInstances").times(1));
    assert!(matches!(ec2(cloud, "RunInstances", launch).await, Err(Error::Unreachable { .. })));
    let first = ec2(cloud, "RunInstances", launch).await.unwrap();
    let again = ec2(cloud, "RunInstances", launch).await.unwrap();
    assert_eq!(text(&first, "instanceId"), text(&again, "instanceId"));

    let ours: Params = &[("Filter.1.Name", "tag:twinscaler:pool"), ("Filter.1.Value.1", "blue")];
    let machines = ec2(cloud, "DescribeInstances", ours).await.unwrap();
    assert_eq!(machines.matches("<instanceId>").count(), 1, "{machines}");

    let id = text(&first, "instanceId");
    ec2(cloud, "TerminateInstances", &[("InstanceId.1", &id)]).await.unwrap();
    let late = ec2(cloud, "RunInstances", launch).await.unwrap_err().to_string();
    assert!(late.contains("IdempotentInstanceTerminated"), "{late}");
}

async fn graphite_gives_back_what_carbon_took(cloud: &LocalCloud) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Now, and six hours ago: a replayed day lies in the past.
    for (name, at) in [("now", now), ("replayed", now - 6 * 3600)] {
        let mut carbon = std::net::TcpStream::connect(cloud.carbon_addr()).unwrap();
        writeln!(carbon, "twinscaler.{name}.cpu 42.5 {at}").unwrap();
        drop(carbon);

        let (from, until) = (at - 120, at + 120);
        let url = format!(
            "{}/render?target=twinscaler.{name}.cpu&format=json&from={from}&until={until}",
            cloud.graphite_url()
        );
        let values = wait_for_values(&url).await;
        assert_eq!(values, [42.5], "{name}");
    }
}

/// Asks until there is a value that is not null, for at most two minutes.
async fn wait_for_values(url: &str) -> Vec<f64> {
    for _ in 0..600 {
        let series: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let points = series[0]["datapoints"].as_array().cloned().unwrap_or_default();
        let values: Vec<f64> = points.iter().filter_map(|point| point[0].as_f64()).collect();
        if !values.is_empty() {
            return values;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Vec::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_works_and_nothing_is_left_behind() {
    let logs = tempfile::tempdir().unwrap();
    let cloud = LocalCloud::start(Options { log_dir: Some(logs.path().to_path_buf()) }).await.unwrap();

    dynamodb_keeps_an_item(cloud.aws()).await;
    a_token_launches_one_real_machine(&cloud).await;
    graphite_gives_back_what_carbon_took(&cloud).await;
    for part in ["ministack", "moto", "carbon", "graphite-web"] {
        assert!(logs.path().join(format!("{part}.log")).exists(), "{part} has a log");
    }

    let addresses =
        [cloud.endpoint(), cloud.ec2_endpoint(), cloud.graphite_url()].map(|url| url.replace("http://", ""));
    let carbon = cloud.carbon_addr().to_owned();
    cloud.stop();
    for address in addresses.iter().chain([&carbon]) {
        assert!(falls_silent(address).await, "{address} still listens");
    }
}

/// Whether nobody listens at an address any more, soon: the gate's task and killed processes close their sockets a
/// moment after they were told to stop.
async fn falls_silent(address: &str) -> bool {
    for _ in 0..1200 {
        if std::net::TcpStream::connect(address).is_err() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    false
}
