//! One call through the gate: count, fault, token, forward.
//!
//! hyper serves the connections, and not a framework on top of it, because its service may fail: that is what cuts a
//! connection without an answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::forward::Answer;
use super::launches::Seen;
use super::{Fault, FaultKind, Shared};
use crate::client;

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("cut the connection, as injected")]
    Injected,
    #[error("read the request: {0}")]
    Unreadable(#[from] hyper::Error),
}

/// Serves until the task is aborted; the connections' tasks end with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection of the EC2 gate ended");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let Some(path) = head.uri.path().strip_prefix("/_gate/") {
        return Ok(control(&head.method, path, &body, shared).unwrap_or_else(|never| match never {}));
    }
    let answer = call(&head.headers, body, shared).await?;
    Ok(response(answer.status, "text/xml;charset=UTF-8", answer.body))
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(status).header("content-type", content_type);
    builder.body(Full::new(body.into())).expect("a status that came from HTTP or a constant is valid")
}

/// The control path.
fn control(method: &Method, path: &str, body: &[u8], shared: &Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    let json = |status, value: serde_json::Value| response(status, "application/json", value.to_string().into_bytes());
    Ok(match (method, path) {
        (&Method::POST, "faults") => match serde_json::from_slice::<Fault>(body) {
            Ok(fault) => {
                shared.state().faults.add(fault);
                json(200, serde_json::json!({}))
            }
            Err(error) => json(400, serde_json::json!({"error": format!("read the fault: {error}")})),
        },
        (&Method::DELETE, "faults") => {
            shared.state().faults.clear();
            json(200, serde_json::json!({}))
        }
        (&Method::GET, "calls") => json(200, serde_json::json!(shared.state().calls)),
        _ => json(404, serde_json::json!({"error": "use POST or DELETE /_gate/faults, or GET /_gate/calls"})),
    })
}

/// An EC2 call.
async fn call(headers: &HeaderMap, body: Bytes, shared: &Shared) -> Result<Answer, Cut> {
    let params: BTreeMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let action = params.get("Action").cloned().unwrap_or_default();
    let faults = shared.state().enter(&action, &params);

    for fault in &faults {
        match fault {
            FaultKind::CutBefore => return Err(Cut::Injected),
            FaultKind::DelayMs(_) | FaultKind::CutAfter => {}
            FaultKind::RequestLimitExceeded => {
                return Ok(Answer::error(503, "RequestLimitExceeded", "Request limit exceeded."));
            }
            FaultKind::InsufficientInstanceCapacity => return Ok(no_capacity()),
        }
    }
    let answer = match params.get("ClientToken").cloned() {
        Some(token) if action == "RunInstances" => launch(headers, body, params, token, shared).await,
        _ => forward(headers, body, &params, shared).await,
    };
    for fault in &faults {
        if let FaultKind::DelayMs(ms) = fault {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
        }
    }
    if faults.contains(&FaultKind::CutAfter) { Err(Cut::Injected) } else { Ok(answer) }
}

fn no_capacity() -> Answer {
    let message = "We currently do not have sufficient capacity in the Availability Zone you requested. \
                   Our system will be working on provisioning additional capacity.";
    Answer::error(500, "InsufficientInstanceCapacity", message)
}

/// Forwards, and remembers the instance type of a launch template that was created.
async fn forward(headers: &HeaderMap, body: Bytes, params: &BTreeMap<String, String>, shared: &Shared) -> Answer {
    let answer = shared.upstream.send(headers, body.to_vec()).await;
    let created = params.get("Action").is_some_and(|a| a == "CreateLaunchTemplate") && answer.is_success();
    if let (true, Some(instance_type)) = (created, params.get("LaunchTemplateData.InstanceType")) {
        let id = id_of_template(&answer.body);
        let names = params.get("LaunchTemplateName").cloned().into_iter().chain(id);
        shared.state().template_types.extend(names.map(|name| (name, instance_type.clone())));
    }
    answer
}

fn id_of_template(xml: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(xml);
    let document = roxmltree::Document::parse(&text).ok()?;
    crate::xml::text(document.root(), "launchTemplateId").map(ToOwned::to_owned)
}

/// `RunInstances` with a client token.
async fn launch(
    headers: &HeaderMap,
    body: Bytes,
    params: BTreeMap<String, String>,
    token: String,
    shared: &Shared,
) -> Answer {
    let mut launches = shared.launches.lock().await;
    match launches.seen(&token, &params) {
        Seen::Different => Answer::error(
            400,
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        ),
        Seen::Same(_, ids) if any_gone(headers, &ids, shared).await => Answer::error(
            400,
            "IdempotentInstanceTerminated",
            "The client token was used for an instance that has been terminated.",
        ),
        Seen::Same(answer, _) => answer,
        Seen::Never => {
            let answer = forward(headers, body, &params, shared).await;
            if answer.is_success() {
                launches.remember(token, params, answer.clone());
            }
            answer
        }
    }
}

/// Whether a machine is shutting down, terminated or unknown.
async fn any_gone(headers: &HeaderMap, ids: &[String], shared: &Shared) -> bool {
    let params: Vec<_> = ids.iter().zip(1..).map(|(id, i)| (format!("InstanceId.{i}"), id.clone())).collect();
    let form = client::form("DescribeInstances", crate::ec2::VERSION, &params);
    let answer = shared.upstream.send(headers, form).await;
    let text = String::from_utf8_lossy(&answer.body);
    let Ok(document) = roxmltree::Document::parse(&text) else { return true };
    let states = document.descendants().filter(|n| n.tag_name().name() == "instanceState");
    let alive =
        states.filter_map(|n| crate::xml::text(n, "name")).filter(|s| !["shutting-down", "terminated"].contains(s));
    alive.count() < ids.len()
}
