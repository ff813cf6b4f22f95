//! What AWS answers both functions in a pool at work: three machines, fifty tasks that wait, a signed policy in charge, and
//! the decisions that the evaluator wrote before.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::decision::{Decision, LstmState};
use contract::manifest::{Pointer, pointer_key, policy_key};
use contract::record::{InstanceRecord, TaskRecord};
use contract::{ACTION_COUNT, Action};
use serde_json::{Value, json};
use testkit::builders::{TICK, decision, instance, pool_config, tags, task};

use crate::Failure;
use crate::dynamo::{Row, Units, attributes, item};
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
    /// Machines alive.
    machines: Vec<Row>,
    /// The same in EC2.
    described: String,
    /// Tasks that wait; made once like all that is answered, so that the answers take no time worth mentioning.
    waiting: Vec<Row>,
    /// Decisions as they were written, newest first.
    decisions: Mutex<VecDeque<Row>>,
    /// A decision of [`TICK`] that asks for nothing: what a reconciliation reads one of for each minute.
    held: Row,
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
    /// Seconds from each call's arrival to its answer, added up.
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
            machines: (0..3).map(|size| machine(size, tick * 1000)).collect(),
            described: described(tick - 900),
            waiting: waiting(tick * 1000),
            decisions: Mutex::default(),
            held: held(),
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
        let answer = self.answered(request);
        self.note(|done| {
            done.calls += 1;
            done.waited_s += begun.elapsed().as_secs_f64();
        });
        answer
    }

    fn answered(&self, request: &Request) -> Response {
        match self.latency_us.load(Ordering::Relaxed) {
            0 => {}
            us => std::thread::sleep(Duration::from_micros(us)),
        }
        if let Some(target) = request.headers.get("x-amz-target") {
            let operation = target.rsplit('.').next().unwrap_or_default();
            return self.dynamo(operation, &serde_json::from_slice(&request.body).unwrap_or_default());
        }
        match request.method.as_str() {
            "GET" => self.object(&request.path),
            _ if request.path.ends_with("/GetMetricData") => metrics(self.tick.load(Ordering::Relaxed)),
            _ => Response::ok("text/xml", self.described.clone()),
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
        let (answer, bytes) = match (operation, table) {
            ("GetItem", "control") if asked["Key"]["item"]["S"] == "config" => {
                let config = serde_json::to_string(&pool_config(POOL)).expect("plain data");
                let row = Row::of(&attributes(&json!({ "json": config })));
                (format!(r#"{{"Item":{}}}"#, row.json), row.bytes)
            }
            ("PutItem", "decisions") => {
                let row = Row::of(&asked["Item"]);
                let bytes = row.bytes;
                let mut decisions = self.decisions.lock().expect("nothing panics with it");
                decisions.push_front(row);
                decisions.truncate(DECISIONS);
                ("{}".to_owned(), bytes)
            }
            ("Query", _) => queried(&self.rows(table, asked)),
            _ => ("{}".to_owned(), 0),
        };
        self.note(|done| done.units.add(operation, asked["ConsistentRead"] == true, bytes));
        Response::ok("application/x-amz-json-1.0", answer)
    }

    fn rows(&self, table: &str, asked: &Value) -> Vec<Row> {
        let names = |word: &str| asked["ExpressionAttributeValues"].to_string().contains(word);
        match table {
            "decisions" if asked["IndexName"] == "unsettled" => Vec::new(),
            "decisions" if asked["Limit"].is_null() => {
                let tick = |name: &str| asked["ExpressionAttributeValues"][name]["N"].as_str()?.parse().ok();
                let minutes = tick(":from").zip(tick(":last"));
                minutes.map(|(from, last)| log(&self.held, from, last)).unwrap_or_default()
            }
            "decisions" => {
                let limit = asked["Limit"].as_u64().unwrap_or(u64::MAX) as usize;
                self.decisions.lock().expect("nothing panics with it").iter().take(limit).cloned().collect()
            }
            "instances" if asked["IndexName"] == "alive" => self.machines.clone(),
            "tasks" if asked["IndexName"].is_null() || names("waiting") => self.waiting.clone(),
            _ => Vec::new(),
        }
    }
}

/// A decision as it is stored, with the recurrent state of the shipped policy's size.
fn held() -> Row {
    let cells = || (1..=128).map(|i| (i as f32).sin()).collect();
    let lstm = Some(LstmState { policy: "a".repeat(64), h: cells(), c: cells() });
    let probabilities = Some([1.0 / 19.0; ACTION_COUNT]);
    Row::of(&item(&Decision { lstm, probabilities, value: Some(-0.25), ..decision(POOL, TICK, Action::Nothing) }))
}

/// The decisions of the minutes between two times, seconds.
fn log(held: &Row, from: u64, last: u64) -> Vec<Row> {
    let at = |tick: u64| Row { json: held.json.replace(&format!("\"{TICK}\""), &format!("\"{tick}\"")), ..*held };
    (from.div_ceil(60)..=last / 60).map(|minute| at(60 * minute)).collect()
}

/// The answer to a query, and the bytes that it read.
fn queried(rows: &[Row]) -> (String, usize) {
    let items = rows.iter().map(|row| row.json.as_str()).collect::<Vec<_>>().join(",");
    let count = rows.len();
    let answer = format!(r#"{{"Items":[{items}],"Count":{count},"ScannedCount":{count}}}"#);
    (answer, rows.iter().map(|row| row.bytes).sum())
}

/// EC2 with the machines of the records, launched by the decision of `tick`.
fn described(tick: u64) -> String {
    let machine = |size: usize| {
        let tags = tags(POOL, tick, size);
        let tags = tags.iter().map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>"));
        format!(
            "<item><instancesSet><item><instanceId>i-{size}</instanceId><launchTime>2026-01-01T00:00:00Z</launchTime>\
             <instanceState><code>16</code><name>running</name></instanceState><tagSet>{}</tagSet>\
             </item></instancesSet></item>",
            tags.collect::<String>()
        )
    };
    let machines: String = (0..3).map(machine).collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><DescribeInstancesResponse
           xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><reservationSet>{machines}
           </reservationSet></DescribeInstancesResponse>"#
    )
}

const NO_KEY: &str =
    r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>"#;

fn machine(size: usize, tick_ms: u64) -> Row {
    let record = instance(POOL, &format!("i-{size}"), size, tick_ms - 900_000);
    let decision = Some(tick_ms / 1000 - 900);
    Row::of(&item(&InstanceRecord { ready_ms: Some(tick_ms - 800_000), decision, ..record }))
}

fn waiting(tick_ms: u64) -> Vec<Row> {
    let of = |k: u64| -> TaskRecord { task(POOL, &format!("t-{k}"), tick_ms - 30_000 - 1000 * k) };
    (0..QUEUE).map(|k| Row::of(&item(&of(k)))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_decision_of_four_kilobytes_each_minute() {
        let held = held();
        assert!((3_500..4_096).contains(&held.bytes), "{}", held.bytes);
        let rows = log(&held, TICK + 1, TICK + 180);
        assert_eq!(rows.len(), 3);
        for (row, tick) in rows.iter().zip([TICK + 60, TICK + 120, TICK + 180]) {
            let json: Value = serde_json::from_str(&row.json).unwrap();
            assert_eq!((json["tick"]["N"].as_str(), row.bytes), (Some(tick.to_string().as_str()), held.bytes));
        }
    }
}
