//! What starts the executor: records of the decision stream, its own schedule, or a notice of an interruption.

use contract::event::Tick;
use serde::{Deserialize, Serialize};

use crate::interruption::{self, Notice};

/// One invocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Decisions that ask for something, in the stream's order.
    Stream(Vec<Record>),
    /// Time to reconcile.
    Schedule(Tick),
    /// EC2 takes a spot machine back.
    Interruption(Notice),
}

/// The name of a decision in the stream. Its content is read from the table, so that a forged or stale record cannot
/// make the executor do anything that the table does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The pool.
    pub pool: String,
    /// The tick, seconds.
    pub tick: u64,
    /// Where to go on from if this record fails.
    pub sequence_number: String,
}

#[derive(Deserialize)]
struct RawStream {
    #[serde(rename = "Records")]
    records: Vec<RawRecord>,
}

#[derive(Deserialize)]
struct RawRecord {
    dynamodb: RawChange,
}

#[derive(Deserialize)]
struct RawChange {
    #[serde(rename = "Keys")]
    keys: RawKeys,
    #[serde(rename = "SequenceNumber")]
    sequence_number: String,
}

#[derive(Deserialize)]
struct RawKeys {
    pool: RawString,
    tick: RawNumber,
}

#[derive(Deserialize)]
struct RawString {
    #[serde(rename = "S")]
    s: String,
}

#[derive(Deserialize)]
struct RawNumber {
    #[serde(rename = "N")]
    n: String,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn from_json(event: serde_json::Value) -> Result<Self, String> {
        if event.get("detail-type").and_then(|kind| kind.as_str()) == Some(interruption::DETAIL_TYPE) {
            return Notice::from_json(event).map(Event::Interruption);
        }
        if event.get("Records").is_none() {
            return Tick::from_event(event).map(Event::Schedule);
        }
        let raw: RawStream = serde_json::from_value(event)
            .map_err(|e| format!("the records are not those of the decision stream: {e}; mend the event source"))?;
        raw.records.into_iter().map(Record::try_from).collect::<Result<_, _>>().map(Event::Stream)
    }
}

impl TryFrom<RawRecord> for Record {
    type Error = String;
    fn try_from(raw: RawRecord) -> Result<Self, String> {
        let RawChange { keys, sequence_number } = raw.dynamodb;
        let tick = keys.tick.n.parse().map_err(|_| format!("tick {:?} is not a whole number", keys.tick.n))?;
        Ok(Self { pool: keys.pool.s, tick, sequence_number })
    }
}

/// The answer to a stream batch: where to go on from, or nothing if all is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchAnswer {
    /// Records to deliver again.
    #[serde(rename = "batchItemFailures")]
    pub failures: Vec<Failure>,
}

/// One record to deliver again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its sequence number.
    #[serde(rename = "itemIdentifier")]
    pub sequence_number: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stream_record_names_its_decision() {
        let event = json!({"Records": [{"eventName": "INSERT", "dynamodb": {
            "Keys": {"pool": {"S": "demo"}, "tick": {"N": "600"}}, "SequenceNumber": "17", "NewImage": {}}}]});
        let record = Record { pool: "demo".into(), tick: 600, sequence_number: "17".into() };
        assert_eq!(Event::from_json(event).unwrap(), Event::Stream(vec![record]));
    }

    #[test]
    fn other_events_are_refused_with_a_reason() {
        for event in [json!({"Records": [{"s3": {}}]}), json!({"hello": 1}), json!("x")] {
            assert!(Event::from_json(event).unwrap_err().contains("mend"));
        }
    }
}
