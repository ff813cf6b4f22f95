//! What the adapters of the four tables share: names, keys, conversion of items, and pages.
//!
//! A record's fields are its item's top-level attributes, so that streams can be filtered and people can read them;
//! the attributes of the keys and indexes stand beside them and are ignored on reading.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use controller::ports::{Port, PortError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::ControlTable;
use crate::decisions::DecisionTable;
use crate::errors::failed;
use crate::instances::InstanceTable;
use crate::tasks::TaskTable;

/// The names of the four tables, as the stack made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// Tasks.
    pub tasks: String,
    /// Records of machines.
    pub instances: String,
    /// Decisions.
    pub decisions: String,
    /// Configuration, head, memory, kill switch.
    pub control: String,
}

/// The four tables over one client.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Tasks.
    pub tasks: TaskTable,
    /// Records of machines.
    pub instances: InstanceTable,
    /// Decisions.
    pub decisions: DecisionTable,
    /// Configuration, head, memory, kill switch.
    pub control: ControlTable,
}

impl Tables {
    /// Adapters for the tables with these names.
    pub fn new(config: &SdkConfig, names: TableNames) -> Self {
        let client = Client::new(config);
        Self {
            tasks: TaskTable::new(client.clone(), names.tasks),
            instances: InstanceTable::new(client.clone(), names.instances),
            decisions: DecisionTable::new(client.clone(), names.decisions, names.control.clone()),
            control: ControlTable::new(client, names.control),
        }
    }
}

/// One item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(crate) fn s(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(crate) fn n(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A time that sorts as text: milliseconds in 13 digits, enough until the year 2286.
pub(crate) fn time_key(ms: u64) -> String {
    format!("{ms:013}")
}

/// The sort key of a task or a machine: by time, then by id.
pub(crate) fn time_id_key(ms: u64, id: &str) -> String {
    format!("{ms:013}#{id}")
}

/// A record as an item.
pub(crate) fn to_item<T: Serialize>(operation: &'static str, record: &T) -> Port<Item> {
    serde_dynamo::to_item(record).map_err(|e| PortError::invalid(operation, e.to_string()))
}

/// A record from an item.
pub(crate) fn from_item<T: DeserializeOwned>(operation: &'static str, item: Item) -> Port<T> {
    serde_dynamo::from_item(item).map_err(|e| PortError::invalid(operation, e.to_string()))
}

/// What `read` makes of the first `rows_max` items of a query, over as many pages as it takes. Items are dropped page by
/// page: as a map an item takes ten times the memory of its record, and a function has little.
pub(crate) async fn rows<T>(query: QueryFluentBuilder, rows_max: usize, read: impl Fn(Item) -> T) -> Port<Vec<T>> {
    let mut items = query.into_paginator().items().send();
    let mut rows = Vec::new();
    while rows.len() < rows_max
        && let Some(item) = items.next().await
    {
        rows.push(read(item.map_err(failed("Query"))?));
    }
    Ok(rows)
}

/// What `read` makes of all items of a query.
///
/// # Errors
/// Also if there are more than `rows_max`: an answer that was cut would look like a whole one.
pub(crate) async fn all_rows<T>(query: QueryFluentBuilder, rows_max: usize, read: impl Fn(Item) -> T) -> Port<Vec<T>> {
    uncut(rows(query, rows_max + 1, read).await?, rows_max)
}

/// These rows, if they are no more than `rows_max`.
pub(crate) fn uncut<T>(rows: Vec<T>, rows_max: usize) -> Port<Vec<T>> {
    match rows.len() <= rows_max {
        true => Ok(rows),
        false => Err(PortError::invalid("Query", format!("more than {rows_max} rows; ask for a shorter time"))),
    }
}

/// A record, or the name of its row (what its sort key `name` holds) and why it cannot be read.
pub(crate) fn record<T: DeserializeOwned>(name: &str, item: Item) -> Result<T, String> {
    let key = match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.clone(),
        _ => "without a key".to_owned(),
    };
    serde_dynamo::from_item(item).map_err(|e| format!("{key}: {e}"))
}

/// The records that can be read, and how many cannot. These are one line in the log, however many they are: it names the
/// first.
pub(crate) fn readable<T>(pool: &str, what: &str, rows: Vec<Result<T, String>>) -> (Vec<T>, usize) {
    let (mut read, mut left_out, mut first) = (Vec::new(), 0, None);
    for row in rows {
        match row {
            Ok(record) => read.push(record),
            Err(problem) => {
                left_out += 1;
                first.get_or_insert(problem);
            }
        }
    }
    if let Some(first) = first {
        tracing::warn!(pool, left_out, first, "{what} cannot be read and are left out");
    }
    (read, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::action::Action;
    use contract::decision::{Decider, Decision, LstmState, Outcome};
    use contract::plan::{LaunchPlan, Plan};
    use proptest::prelude::*;
    use testkit::builders;

    fn whole() -> Decision {
        let mut decision = builders::decision("p", builders::TICK, Action::Launch(1, 1));
        decision.decider = Decider::Policy { sha256: "a".repeat(64) };
        decision.probabilities = Some(std::array::from_fn(|i| (i + 1) as f32 / 190.0));
        decision.lstm = Some(LstmState { policy: "a".repeat(64), h: vec![0.1, -1e-30], c: vec![1.5, 0.0] });
        let mut intent = builders::pending(3, 1);
        intent.plan = Some(Plan::Launch(LaunchPlan {
            size: 1,
            launch_template: "twinscaler-m".into(),
            instance_type: None,
            subnet: None,
            count: 1,
            tags: builders::tags("p", builders::TICK, 1),
            client_token: "t".into(),
        }));
        intent.outcome = Some(Outcome::Launched { instance_ids: vec!["i-1".into()] });
        decision.intent = Some(intent);
        decision
    }

    #[test]
    fn a_decision_is_flat_and_comes_back_whole() {
        let item = to_item("PutItem", &whole()).unwrap();
        assert_eq!(item["verdict"], s("act"));
        assert_eq!(item["tick"], n(builders::TICK));
        assert_eq!(item["pool"], s("p"));
        assert_eq!(item["intent"].as_m().unwrap()["state"], s("PENDING"));
        assert_eq!(from_item::<Decision>("GetItem", item).unwrap(), whole());
    }

    #[test]
    fn a_decision_of_the_time_of_seven_actions_can_be_read() {
        let mut item = to_item("PutItem", &whole()).unwrap();
        for name in ["mask", "probabilities"] {
            let AttributeValue::L(entries) = item.get_mut(name).unwrap() else { panic!("{name} is a list") };
            entries.truncate(7);
        }
        let old: Decision = from_item("GetItem", item).unwrap();
        assert_eq!((old.action, old.mask[7..].iter().any(|allowed| *allowed)), (whole().action, false));
        assert_eq!(old.intent, whole().intent);
    }

    #[test]
    fn an_unclaimed_decision_has_no_intent_at_all() {
        let item = to_item("PutItem", &builders::decision("p", 60, Action::Nothing)).unwrap();
        assert!(!item.contains_key("intent"));
        assert_eq!(item["verdict"], s("hold"));
    }

    #[test]
    fn more_rows_than_allowed_are_an_error_and_never_cut() {
        assert_eq!(uncut(vec![1, 2], 2).unwrap(), [1, 2]);
        assert_eq!(uncut(vec![1, 2, 3], 2).unwrap_err().kind, controller::ports::Kind::Invalid);
    }

    #[test]
    fn keys_sort_by_time_whatever_the_id() {
        assert_eq!(time_id_key(1_700_000_000_000, "i-1"), "1700000000000#i-1");
        assert!(time_id_key(999, "z") < time_id_key(1000, "a"));
        assert!(time_id_key(999, "z") < time_key(1000));
        assert!(time_key(1000) < time_id_key(1000, ""));
    }

    proptest! {
        #[test]
        fn floats_keep_their_bits(
            h in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..8),
            u in 0.0f64..1.0,
        ) {
            let mut decision = whole();
            decision.lstm = Some(LstmState { policy: "p".into(), h: h.clone(), c: Vec::new() });
            decision.observation.cpu_util_avg = Some(u);
            let back: Decision = from_item("GetItem", to_item("PutItem", &decision).unwrap()).unwrap();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back.lstm.unwrap().h), bits(&h));
            prop_assert_eq!(back.observation.cpu_util_avg.unwrap().to_bits(), u.to_bits());
        }
    }
}
