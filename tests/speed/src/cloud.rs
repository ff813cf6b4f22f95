//! What AWS answers both functions in a pool at work: three machines, fifty tasks that wait, a signed policy in charge, and
//! the decisions that the evaluator wrote before.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::manifest::{Pointer, pointer_key, policy_key};
use contract::record::{InstanceRecord, TaskRecord};
use serde_json::{Value, json};
use testkit::builders::{instance, pool_config, task};

use crate::Failure;
use crate::dynamo::{Units, attributes, item};
use crate::http::{Request, Response, serve};
use crate::inside::Files;

/// The bucket's name.
pub const BUCKET: &str = "policies";
/// The pool.
pub const POOL: &str = "p";
/// Tasks that wait.
const QUEUE: u64 = 50;
/// Decisions kept: more than the evaluator asks for.
const DECISIONS: usize = 100;

/// The stand-in's state.
pub struct Cloud {
    /// Objects by key.
    objects: Vec<(String, Vec<u8>)>,
    /// Decisions as they were written, newest first.
    decisions: Mutex<VecDeque<Value>>,
    /// The scheduled time of the tick at hand, seconds.
    pub tick: AtomicU64,
    /// What each answer waits for, as if it came from further away; microseconds.
    pub latency_us: AtomicU64,
    /// What was answered so far.
    pub done: Mutex<Done>,
}

/// Calls answered, and what they cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Calls.
    pub calls: u64,
    /// Seconds that they waited for their answers, one by one.
    pub waited_s: f64,
    /// Units of the tables.
    pub units: Units,
}

impl Cloud {
    /// Serves it.
    pub fn start(files: &Files, tick: u64) -> Result<(Arc<Self>, SocketAddr), Failure> {
        let pointer = Pointer { version: 1, sha256: files.sha256.clone(), previous: None, serial: 1 };
        let mut objects = vec![(pointer_key(POOL), serde_json::to_vec(&pointer)?)];
        objects.extend(files.stored().map(|(name, bytes)| (policy_key(&files.sha256, &name), bytes)));
        let cloud = Arc::new(Self {
            objects,
            decisions: Mutex::default(),
            tick: tick.into(),
            latency_us: 0.into(),
            done: Mutex::default(),
        });
        let serving = cloud.clone();
        let address = serve(move |request| serving.answer(&request))?;
        Ok((cloud, address))
    }

    fn answer(&self, request: &Request) -> Response {
        let begun = Instant::now();
        match self.latency_us.load(Ordering::Relaxed) {
            0 => {}
            us => std::thread::sleep(Duration::from_micros(us)),
        }
        self.note(|done| {
            done.calls += 1;
            done.waited_s += begun.elapsed().as_secs_f64();
        });
        if let Some(target) = request.headers.get("x-amz-target") {
            let operation = target.rsplit('.').next().unwrap_or_default();
            return self.dynamo(operation, &serde_json::from_slice(&request.body).unwrap_or_default());
        }
        match request.method.as_str() {
            "GET" => self.object(&request.path),
            _ if request.path.ends_with("/GetMetricData") => metrics(self.tick.load(Ordering::Relaxed)),
            _ => Response::ok("text/xml", DESCRIBED),
        }
    }

    fn note(&self, what: impl FnOnce(&mut Done)) {
        what(&mut self.done.lock().expect("nothing panics with it"));
    }

    fn object(&self, path: &str) -> Response {
        let key = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let key = key.strip_prefix(BUCKET).unwrap_or(key).trim_start_matches('/');
        match self.objects.iter().find(|(name, _)| name == key) {
            Some((_, bytes)) => {
                let mut found = Response::ok("application/octet-stream", bytes.clone());
                found.headers.push(("etag", "\"1\"".to_owned()));
                found
            }
            None => Response { status: 404, headers: Vec::new(), body: NO_KEY.into() },
        }
    }

    fn dynamo(&self, operation: &str, asked: &Value) -> Response {
        let table = asked["TableName"].as_str().unwrap_or_default();
        let answer = match (operation, table) {
            ("GetItem", "control") if asked["Key"]["item"]["S"] == "config" => {
                json!({"Item": attributes(&json!({"json": serde_json::to_string(&pool_config(POOL)).expect("plain data")}))})
            }
            ("PutItem", "decisions") => {
                let mut decisions = self.decisions.lock().expect("nothing panics with it");
                decisions.push_front(asked["Item"].clone());
                decisions.truncate(DECISIONS);
                json!({})
            }
            ("Query", _) => {
                let items = self.rows(table, asked);
                json!({"Items": items, "Count": items.len(), "ScannedCount": items.len()})
            }
            _ => json!({}),
        };
        self.note(|done| done.units.add(operation, asked, &answer));
        Response::ok("application/x-amz-json-1.0", answer.to_string())
    }

    fn rows(&self, table: &str, asked: &Value) -> Vec<Value> {
        let tick_ms = self.tick.load(Ordering::Relaxed) * 1000;
        let names = |word: &str| asked["ExpressionAttributeValues"].to_string().contains(word);
        match table {
            "decisions" => {
                let limit = asked["Limit"].as_u64().unwrap_or(u64::MAX) as usize;
                self.decisions.lock().expect("nothing panics with it").iter().take(limit).cloned().collect()
            }
            "instances" if asked["IndexName"] == "alive" => (0..3).map(|size| machine(size, tick_ms)).collect(),
            "tasks" if asked["IndexName"] == "open" && names("waiting") => waiting(tick_ms),
            "tasks" if asked["IndexName"].is_null() => waiting(tick_ms),
            _ => Vec::new(),
        }
    }
}

/// EC2 without machines of ours.
const DESCRIBED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<requestId>r</requestId><reservationSet/></DescribeInstancesResponse>"#;

const NO_KEY: &str =
    r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>"#;

fn machine(size: usize, tick_ms: u64) -> Value {
    let record = instance(POOL, &format!("i-{size}"), size, tick_ms - 900_000);
    item(&InstanceRecord { ready_ms: Some(tick_ms - 800_000), ..record })
}

fn waiting(tick_ms: u64) -> Vec<Value> {
    let of = |k: u64| -> TaskRecord { task(POOL, &format!("t-{k}"), tick_ms - 30_000 - 1000 * k) };
    (0..QUEUE).map(|k| item(&of(k))).collect()
}

/// CloudWatch's answer in CBOR (RFC 8949): each of the four queries has one point, a minute before the tick.
fn metrics(tick: u64) -> Response {
    let mut body = Vec::new();
    map(&mut body, 1);
    text(&mut body, "MetricDataResults");
    body.push(0x84);
    for place in 0..4 {
        map(&mut body, 4);
        text(&mut body, "Id");
        text(&mut body, &format!("q{place}"));
        text(&mut body, "StatusCode");
        text(&mut body, "Complete");
        text(&mut body, "Timestamps");
        // one, a number of seconds with the tag of a time
        body.extend([0x81, 0xc1, 0xfb]);
        body.extend(((tick - 60) as f64).to_be_bytes());
        text(&mut body, "Values");
        body.extend([0x81, 0xfb]);
        body.extend(0.5f64.to_be_bytes());
    }
    let mut answer = Response::ok("application/cbor", body);
    answer.headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
    answer
}

/// The head of a map with so few entries.
fn map(body: &mut Vec<u8>, entries: u8) {
    assert!(entries < 24);
    body.push(0xa0 | entries);
}

fn text(body: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 24);
    body.push(0x60 | text.len() as u8);
    body.extend(text.as_bytes());
}
