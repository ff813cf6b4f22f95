//! Events of both functions: the schedule's and the stream's.

use contract::event::Tick;
use executor::event::Event;
use fuzz::{BYTES_ALWAYS, arbitrary, cases, damaged, read};
use proptest::prelude::*;
use serde_json::{Value, json};

fn schedule() -> Vec<u8> {
    json!({"pool": "demo", "scheduled_time": "2026-11-24T04:10:00Z"}).to_string().into_bytes()
}

fn stream() -> Vec<u8> {
    let record = |n: u32| {
        json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": n.to_string(), "StreamViewType": "KEYS_ONLY",
            "Keys": {"pool": {"S": "demo"}, "tick": {"N": (600 * n).to_string()}}}})
    };
    json!({"Records": [record(1), record(2), record(3)]}).to_string().into_bytes()
}

fn of_evaluator(bytes: &[u8]) -> Result<Tick, String> {
    Tick::from_event(serde_json::from_slice::<Value>(bytes).map_err(|e| e.to_string())?)
}

fn of_executor(bytes: &[u8]) -> Result<Event, String> {
    Event::from_json(serde_json::from_slice::<Value>(bytes).map_err(|e| e.to_string())?)
}

/// Reads with both functions, and uses what was read.
fn both(bytes: &[u8]) {
    if let Some(tick) = read(bytes, BYTES_ALWAYS, of_evaluator) {
        assert!(contract::pool::is_pool_name(&tick.pool) && tick.seconds() < i64::MAX as u64);
    }
    match read(bytes, BYTES_ALWAYS, of_executor) {
        Some(Event::Stream(records)) => assert!(records.len() <= bytes.len()),
        Some(Event::Schedule(tick)) => assert!(contract::pool::is_pool_name(&tick.pool)),
        Some(Event::Interruption(notice)) => assert!(notice.instance_id.len() <= 32),
        None => {}
    }
}

fn notice() -> Vec<u8> {
    json!({"detail-type": executor::interruption::DETAIL_TYPE, "source": "aws.ec2", "time": "2026-01-31T00:00:10Z",
        "detail": {"instance-id": "i-0123456789abcdef0", "instance-action": "terminate"}})
    .to_string()
    .into_bytes()
}

#[test]
fn the_events_are_valid_before_they_are_damaged() {
    assert!(of_evaluator(&schedule()).is_ok());
    assert!(matches!(of_executor(&schedule()), Ok(Event::Schedule(_))));
    assert!(matches!(of_executor(&stream()), Ok(Event::Stream(records)) if records.len() == 3));
    assert!(matches!(of_executor(&notice()), Ok(Event::Interruption(_))));
}

#[test]
fn deep_nesting_is_refused_and_needs_no_deep_stack() {
    for open in ["[", "{\"Records\":[", "{\"pool\":"] {
        both(open.repeat(100_000).as_bytes());
    }
}

#[test]
fn many_small_values_take_memory_in_proportion() {
    both(format!("[{}0]", "0,".repeat(100_000)).as_bytes());
    both(format!("{{\"Records\":[{}{{}}]}}", "{},".repeat(50_000)).as_bytes());
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_damaged_event_of_the_schedule(bytes in damaged(schedule())) {
        both(&bytes);
    }

    #[test]
    fn a_damaged_event_of_the_stream(bytes in damaged(stream())) {
        both(&bytes);
    }

    #[test]
    fn a_damaged_notice(bytes in damaged(notice())) {
        both(&bytes);
    }

    #[test]
    fn arbitrary_bytes(bytes in arbitrary()) {
        both(&bytes);
    }
}
