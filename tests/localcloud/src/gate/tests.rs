//! The gate in front of a tiny upstream that counts what reaches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::*;
use crate::AwsClient;

/// An EC2 of a few lines: launches count up, machine `i-1` can be terminated.
#[derive(Default)]
struct Ec2 {
    launched: AtomicU64,
    terminated: AtomicU64,
}

impl Ec2 {
    fn answer(&self, body: &str) -> String {
        let action = form_urlencoded::parse(body.as_bytes()).find(|(k, _)| k == "Action").map(|(_, v)| v.into_owned());
        match action.as_deref() {
            Some("RunInstances") => {
                let n = self.launched.fetch_add(1, Ordering::SeqCst) + 1;
                format!("<RunInstancesResponse><instanceId>i-{n}</instanceId></RunInstancesResponse>")
            }
            Some("TerminateInstances") => {
                self.terminated.fetch_add(1, Ordering::SeqCst);
                "<TerminateInstancesResponse/>".into()
            }
            Some("CreateLaunchTemplate") => "<r><launchTemplateId>lt-7</launchTemplateId></r>".into(),
            _ => {
                let state = if self.terminated.load(Ordering::SeqCst) > 0 { "terminated" } else { "running" };
                format!("<r><instanceState><code>16</code><name>{state}</name></instanceState></r>")
            }
        }
    }
}

async fn upstream() -> (Arc<Ec2>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ec2 = Arc::new(Ec2::default());
    let shared = ec2.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ec2 = shared.clone();
            tokio::spawn(async move {
                let service = service_fn(async |request: Request<Incoming>| {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = ec2.answer(std::str::from_utf8(&body).unwrap());
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(answer))))
                });
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    (ec2, url)
}

struct World {
    ec2: Arc<Ec2>,
    gate: Gate,
    client: AwsClient,
}

async fn world() -> World {
    let (ec2, url) = upstream().await;
    let gate = Gate::start(&url).await.unwrap();
    let client = AwsClient::new(gate.endpoint());
    World { ec2, gate, client }
}

impl World {
    async fn call(&self, action: &str, params: &[(&str, &str)]) -> Result<String, Error> {
        let params: Vec<_> = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.client.query("ec2", "2016-11-15", action, &params).await
    }

    async fn launch(&self, token: &str, instance_type: &str) -> Result<String, Error> {
        self.call("RunInstances", &[("ClientToken", token), ("InstanceType", instance_type)]).await
    }

    fn launched(&self) -> u64 {
        self.ec2.launched.load(Ordering::SeqCst)
    }
}

/// Status and EC2 error code of a failed call.
fn code(result: Result<String, Error>) -> (u16, String) {
    let Err(Error::Service { status, message, .. }) = result else { panic!("expected an error of EC2's: {result:?}") };
    let document = roxmltree::Document::parse(&message).expect("EC2's errors are XML");
    assert_eq!(document.root_element().tag_name().name(), "Response");
    (status, crate::xml::text(document.root(), "Code").expect("an error has a code").to_owned())
}

#[tokio::test]
async fn the_same_token_launches_once_and_gets_the_same_answer() {
    let world = world().await;
    let first = world.launch("t", "m5.large").await.unwrap();
    let again = world.launch("t", "m5.large").await.unwrap();
    let other = world.launch("u", "m5.large").await.unwrap();

    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_eq!(world.launched(), 2);
    assert_eq!(world.gate.calls("RunInstances"), 3);
}

#[tokio::test]
async fn eight_at_once_with_one_token_launch_once() {
    let world = Arc::new(world().await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let world = world.clone();
        calls.spawn(async move { world.launch("t", "m5.large").await.unwrap() });
    }
    let mut answers = calls.join_all().await;
    answers.dedup();
    assert_eq!((answers.len(), world.launched()), (1, 1));
}

#[tokio::test]
async fn the_same_token_with_other_parameters_is_a_mismatch() {
    let world = world().await;
    world.launch("t", "m5.large").await.unwrap();
    let answer = world.launch("t", "m5.xlarge").await;
    assert_eq!(code(answer), (400, "IdempotentParameterMismatch".into()));
    assert_eq!(world.launched(), 1);
}

#[tokio::test]
async fn the_token_of_a_terminated_machine_launches_nothing() {
    let world = world().await;
    world.launch("t", "m5.large").await.unwrap();
    world.call("TerminateInstances", &[("InstanceId.1", "i-1")]).await.unwrap();
    let answer = world.launch("t", "m5.large").await;
    assert_eq!(code(answer), (400, "IdempotentInstanceTerminated".into()));
    assert_eq!(world.launched(), 1);
}

#[tokio::test]
async fn no_capacity_for_one_type_twice_then_there_is_some() {
    let world = world().await;
    world.gate.inject(Fault::new(FaultKind::InsufficientInstanceCapacity).instance_type("m5.large").times(2));

    world.launch("a", "m5.xlarge").await.unwrap();
    for _ in 0..2 {
        let answer = world.launch("b", "m5.large").await;
        assert_eq!(code(answer), (500, "InsufficientInstanceCapacity".into()));
    }
    world.launch("b", "m5.large").await.unwrap();
    assert_eq!(world.launched(), 2, "a refused launch is not remembered under its token");
}

#[tokio::test]
async fn no_capacity_by_type_also_hits_launches_through_a_template_of_that_type() {
    let world = world().await;
    let template = [("LaunchTemplateName", "pool-s"), ("LaunchTemplateData.InstanceType", "m5.large")];
    world.call("CreateLaunchTemplate", &template).await.unwrap();
    world.gate.inject(Fault::new(FaultKind::InsufficientInstanceCapacity).instance_type("m5.large"));

    for (name, value) in [("LaunchTemplateName", "pool-s"), ("LaunchTemplateId", "lt-7")] {
        let launch = world.call("RunInstances", &[(&format!("LaunchTemplate.{name}"), value)]).await;
        assert_eq!(code(launch).1, "InsufficientInstanceCapacity", "{name}");
    }
    world.call("RunInstances", &[("LaunchTemplate.LaunchTemplateName", "pool-m")]).await.unwrap();
}

#[tokio::test]
async fn throttling_holds_until_cleared_and_only_for_its_action() {
    let world = world().await;
    world.gate.inject(Fault::new(FaultKind::RequestLimitExceeded).action("DescribeInstances"));

    for _ in 0..3 {
        assert_eq!(code(world.call("DescribeInstances", &[]).await), (503, "RequestLimitExceeded".into()));
    }
    world.launch("t", "m5.large").await.unwrap();
    world.gate.clear();
    world.call("DescribeInstances", &[]).await.unwrap();
}

#[tokio::test]
async fn a_connection_cut_before_launches_nothing_and_cut_after_launches_once() {
    let world = world().await;
    world.gate.inject(Fault::new(FaultKind::CutBefore).times(1));
    assert!(matches!(world.launch("t", "m5.large").await, Err(Error::Unreachable { .. })));
    assert_eq!(world.launched(), 0);

    world.gate.inject(Fault::new(FaultKind::CutAfter).times(1));
    assert!(matches!(world.launch("t", "m5.large").await, Err(Error::Unreachable { .. })));
    assert_eq!(world.launched(), 1);

    assert!(world.launch("t", "m5.large").await.unwrap().contains("i-1"), "the retry gets the stored answer");
    assert_eq!(world.launched(), 1);
}

#[tokio::test]
async fn a_delay_is_a_delay() {
    let world = world().await;
    world.gate.inject(Fault::new(FaultKind::DelayMs(200)).times(1));
    let start = Instant::now();
    world.launch("t", "m5.large").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn faults_can_be_injected_and_cleared_over_http() {
    let world = world().await;
    let http = reqwest::Client::new();
    let faults = format!("{}/_gate/faults", world.gate.endpoint());

    let fault = serde_json::json!({"kind": "insufficient_instance_capacity", "instance_type": "m5.large"});
    assert!(http.post(&faults).json(&fault).send().await.unwrap().status().is_success());
    assert_eq!(code(world.launch("t", "m5.large").await).1, "InsufficientInstanceCapacity");
    assert!(http.delete(&faults).send().await.unwrap().status().is_success());
    world.launch("t", "m5.large").await.unwrap();

    let calls = http.get(format!("{}/_gate/calls", world.gate.endpoint())).send().await.unwrap();
    assert_eq!(calls.json::<serde_json::Value>().await.unwrap(), serde_json::json!({"RunInstances": 2}));
    let wrong = http.post(&faults).json(&serde_json::json!({"kind": "earthquake"})).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}
