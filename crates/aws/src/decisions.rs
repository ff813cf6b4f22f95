//! The decision log: written once, claimed in one transaction, settled once.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, ConditionCheck, Put, TransactWriteItem, Update};
use contract::control::{Head, Mode};
use contract::decision::{Decision, Intent, IntentState, Verdict};
use contract::limits::{HISTORY_ROWS_MAX, UNREADABLE_MAX, UNSETTLED_MAX};
use controller::ports::{Claim, Decisions, Kind, Port, PortError, Written};

use crate::control::{self, CONFIG, HEAD, MODE, SWITCH, SWITCH_POOL, read_head};
use crate::errors::{answered, failed};
use crate::tables::{Item, all_rows, from_item, n, readable, record, rows, s, to_item};

/// The index of decisions that ask for something and are not settled.
const UNSETTLED_INDEX: &str = "unsettled";
/// What puts a decision into that index: its pool. A decision without it is not in the index.
const UNSETTLED_POOL: &str = "unsettled_pool";

/// The adapter of the decision log, and of what a claim touches in the control table.
#[derive(Clone, Debug)]
pub struct DecisionTable {
    client: Client,
    decisions: String,
    control: String,
}

/// The conditions of the claim's transaction, in the order of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The decision has an intent, or does not exist.
    Decision,
    /// The head has moved, or its cooldown is not over.
    Head,
    /// The kill switch is engaged.
    Switch,
    /// The pool's mode does not carry the action out.
    Mode,
    /// Another transaction is at the same items.
    Conflict,
}

/// Why the transaction was cancelled, by what matters most; none if for no reason that a claim expects.
fn lost(reasons: &[CancellationReason]) -> Option<Lost> {
    let code = |i: usize| reasons.get(i).and_then(CancellationReason::code).unwrap_or("None");
    let failed = |i: usize| code(i) == "ConditionalCheckFailed";
    match () {
        () if failed(0) => Some(Lost::Decision),
        () if failed(2) => Some(Lost::Switch),
        () if failed(3) => Some(Lost::Mode),
        () if failed(1) => Some(Lost::Head),
        () if (0..4).any(|i| code(i) == "TransactionConflict") => Some(Lost::Conflict),
        () => None,
    }
}

/// The error of a cancelled transaction whose reasons a claim does not expect: throttling, a malformed item.
fn unexpected(reasons: &[CancellationReason]) -> PortError {
    let reason = reasons.iter().find(|r| r.code().is_some_and(|code| code != "None"));
    let code = reason.and_then(CancellationReason::code);
    let message = reason.and_then(CancellationReason::message).unwrap_or("cancelled without a reason");
    answered("TransactWriteItems", code, message, 400)
}

fn built<T, E: std::error::Error>(built: Result<T, E>) -> Port<T> {
    built.map_err(|e| PortError::invalid("TransactWriteItems", e.to_string()))
}

impl DecisionTable {
    /// The adapter of the tables with these names.
    pub fn new(client: Client, decisions: impl Into<String>, control: impl Into<String>) -> Self {
        Self { client, decisions: decisions.into(), control: control.into() }
    }

    /// Intent: absent → pending. The decision must exist, so that a forged stream record creates nothing. It is put into
    /// the index of unsettled ones again, as an evaluator of an older version did not do so.
    fn claim_decision(&self, decision: &Decision, intent: &Intent) -> Port<TransactWriteItem> {
        let update = Update::builder()
            .table_name(&self.decisions)
            .key("pool", s(&decision.pool))
            .key("tick", n(decision.tick))
            .update_expression("SET #intent = :intent, #unsettled = :pool")
            .condition_expression("attribute_exists(#tick) AND attribute_not_exists(#intent)")
            .expression_attribute_names("#intent", "intent")
            .expression_attribute_names("#unsettled", UNSETTLED_POOL)
            .expression_attribute_values(":pool", s(&decision.pool))
            .expression_attribute_names("#tick", "tick")
            .expression_attribute_values(":intent", intent_value("TransactWriteItems", intent)?);
        Ok(TransactWriteItem::builder().update(built(update.build())?).build())
    }

    /// Head: generation g → g + 1, if it is still g and the cooldown is over.
    fn move_head(&self, pool: &str, head: &Head, next: &Head, now_ms: u64) -> Port<TransactWriteItem> {
        let at_g = match head.generation {
            0 => "(attribute_not_exists(#g) OR #g = :g)",
            _ => "#g = :g",
        };
        let put = Put::builder()
            .table_name(&self.control)
            .set_item(Some(control::item(pool, HEAD, next)?))
            .condition_expression(format!("{at_g} AND (attribute_not_exists(#next) OR #next <= :now)"))
            .expression_attribute_names("#g", "generation")
            .expression_attribute_names("#next", "next_allowed_ms")
            .expression_attribute_values(":g", n(head.generation))
            .expression_attribute_values(":now", n(now_ms));
        Ok(TransactWriteItem::builder().put(built(put.build())?).build())
    }

    fn check_switch(&self) -> Port<TransactWriteItem> {
        let check = ConditionCheck::builder()
            .table_name(&self.control)
            .key("pool", s(SWITCH_POOL))
            .key("item", s(SWITCH))
            .condition_expression("attribute_not_exists(#engaged) OR #engaged = :off")
            .expression_attribute_names("#engaged", "engaged")
            .expression_attribute_values(":off", AttributeValue::Bool(false));
        Ok(TransactWriteItem::builder().condition_check(built(check.build())?).build())
    }

    /// The configuration is there, and its mode carries the action out. An item without the attribute is from a version
    /// that did not write it; its mode was read from the JSON a moment ago, and whoever has changed it since with this
    /// version has written the attribute.
    fn check_mode(&self, decision: &Decision) -> Port<TransactWriteItem> {
        let allowed = Mode::ALL.into_iter().filter(|mode| mode.carries_out(decision.action)).map(Mode::name);
        let values: HashMap<_, _> = allowed.map(|name| (format!(":{name}"), s(name))).collect();
        let names: Vec<&str> = values.keys().map(String::as_str).collect();
        let in_force = format!("attribute_not_exists(#mode) OR #mode IN ({})", names.join(", "));
        let check = ConditionCheck::builder()
            .table_name(&self.control)
            .key("pool", s(&decision.pool))
            .key("item", s(CONFIG))
            .condition_expression(format!("attribute_exists(#item) AND ({in_force})"))
            .expression_attribute_names("#item", "item")
            .expression_attribute_names("#mode", MODE)
            .set_expression_attribute_values(Some(values));
        Ok(TransactWriteItem::builder().condition_check(built(check.build())?).build())
    }

    /// Says what stands, where the claim lost.
    async fn explain(&self, lost: Lost, decision: &Decision, now_ms: u64) -> Port<Claim> {
        let (pool, tick) = (&decision.pool, decision.tick);
        match lost {
            Lost::Switch => Ok(Claim::Killed),
            Lost::Mode => Ok(Claim::Mode),
            Lost::Conflict => Ok(Claim::Raced),
            Lost::Head => {
                let head = read_head(&self.client, &self.control, pool).await?;
                Ok(if head.next_allowed_ms > now_ms { Claim::Cooldown } else { Claim::Raced })
            }
            Lost::Decision => match self.get(pool, tick).await? {
                Some(Decision { intent: Some(intent), .. }) => Ok(Claim::Duplicate(Box::new(intent))),
                Some(_) => Ok(Claim::Raced),
                None => Err(PortError::not_found("TransactWriteItems", format!("no decision {pool}/{tick}"))),
            },
        }
    }

    /// The conditional write behind `put_intent`.
    async fn replace_intent(&self, pool: &str, tick: u64, intent: &Intent) -> Port<()> {
        let call = self
            .client
            .update_item()
            .table_name(&self.decisions)
            .key("pool", s(pool))
            .key("tick", n(tick))
            .condition_expression(may_replace(intent))
            .expression_attribute_names("#intent", "intent")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#generation", "generation")
            .expression_attribute_names("#plan", "plan")
            .expression_attribute_names("#tick", "tick")
            .expression_attribute_values(":intent", intent_value("UpdateItem", intent)?)
            .expression_attribute_values(":pending", s("PENDING"))
            .expression_attribute_values(":generation", n(intent.generation));
        let call = match intent.state {
            IntentState::Pending => call.update_expression("SET #intent = :intent"),
            IntentState::Settled => call
                .update_expression("SET #intent = :intent REMOVE #unsettled")
                .expression_attribute_names("#unsettled", UNSETTLED_POOL),
        };
        let call = match &intent.plan {
            Some(plan) => call.expression_attribute_values(":plan", AttributeValue::M(to_item("UpdateItem", plan)?)),
            None => call,
        };
        call.send().await.map_err(failed("UpdateItem"))?;
        Ok(())
    }

    /// The item of a tick, by a consistent read.
    async fn item(&self, pool: &str, tick: AttributeValue) -> Port<Option<Item>> {
        let call = self.client.get_item().table_name(&self.decisions).consistent_read(true);
        Ok(call.key("pool", s(pool)).key("tick", tick).send().await.map_err(failed("GetItem"))?.item)
    }

    fn of_pool(&self, pool: &str, condition: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.decisions)
            .key_condition_expression(format!("#pool = :pool AND {condition}"))
            .expression_attribute_names("#pool", "pool")
            .expression_attribute_names("#tick", "tick")
            .expression_attribute_values(":pool", s(pool))
    }
}

/// The item of a decision: its fields, and its place in the index of unsettled ones if it asks for something.
fn item(decision: &Decision) -> Port<Item> {
    let mut item = to_item("PutItem", decision)?;
    if decision.verdict == Verdict::Act && !decision.is_settled() {
        item.insert(UNSETTLED_POOL.into(), s(&decision.pool));
    }
    Ok(item)
}

fn intent_value(operation: &'static str, intent: &Intent) -> Port<AttributeValue> {
    Ok(AttributeValue::M(to_item(operation, intent)?))
}

/// The condition under which an intent may take the place of the stored one.
fn may_replace(intent: &Intent) -> String {
    let same_plan = match intent.plan {
        Some(_) => "(attribute_not_exists(#intent.#plan) OR #intent.#plan = :plan)",
        None => "attribute_not_exists(#intent.#plan)",
    };
    let ours = format!("(#intent.#state = :pending AND #intent.#generation = :generation AND {same_plan})");
    match intent.generation {
        0 => format!("attribute_exists(#tick) AND (attribute_not_exists(#intent) OR {ours})"),
        _ => format!("attribute_exists(#tick) AND {ours}"),
    }
}

impl Decisions for DecisionTable {
    async fn put_once(&self, decision: &Decision) -> Port<Written> {
        let call = self
            .client
            .put_item()
            .table_name(&self.decisions)
            .set_item(Some(item(decision)?))
            .condition_expression("attribute_not_exists(#tick)")
            .expression_attribute_names("#tick", "tick");
        match call.send().await.map_err(failed("PutItem")) {
            Ok(_) => Ok(Written::New),
            Err(e) if e.kind == Kind::Conflict => match self.get(&decision.pool, decision.tick).await {
                Ok(Some(stands)) => Ok(Written::Existed(Box::new(stands))),
                Ok(None) => Err(e),
                Err(other) if other.kind == Kind::Unreadable => Ok(Written::Unreadable),
                Err(other) => Err(other),
            },
            Err(e) => Err(e),
        }
    }

    async fn get(&self, pool: &str, tick: u64) -> Port<Option<Decision>> {
        let item = self.item(pool, n(tick)).await?;
        item.map(|item| read("GetItem", item)).transpose()
    }

    async fn before(&self, pool: &str, tick: u64, n_max: usize) -> Port<Vec<Decision>> {
        if n_max == 0 {
            return Ok(Vec::new());
        }
        let query = self
            .of_pool(pool, "#tick < :tick")
            .expression_attribute_values(":tick", n(tick))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::try_from(n_max).unwrap_or(i32::MAX));
        let mut rows = query.into_paginator().items().send();
        let (mut passed, mut unreadable) = (Vec::new(), 0);
        while passed.len() - unreadable < n_max
            && unreadable < UNREADABLE_MAX
            && let Some(item) = rows.next().await
        {
            let row = row(item.map_err(failed("Query"))?);
            unreadable += usize::from(row.is_err());
            passed.push(row);
        }
        Ok(readable_of(pool, passed))
    }

    async fn range(&self, pool: &str, from: u64, to: u64) -> Port<Vec<Decision>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let query = self
            .of_pool(pool, "#tick BETWEEN :from AND :last")
            .expression_attribute_values(":from", n(from))
            .expression_attribute_values(":last", n(to - 1))
            .consistent_read(true);
        Ok(readable_of(pool, all_rows(query, HISTORY_ROWS_MAX, row).await?))
    }

    async fn unsettled(&self, pool: &str) -> Port<Vec<Decision>> {
        let query = self
            .client
            .query()
            .table_name(&self.decisions)
            .index_name(UNSETTLED_INDEX)
            .key_condition_expression("#p = :p")
            .expression_attribute_names("#p", UNSETTLED_POOL)
            .expression_attribute_values(":p", s(pool))
            .limit(i32::try_from(UNSETTLED_MAX).unwrap_or(i32::MAX));
        let mut items = Vec::new();
        let tick = |mut key: Item| key.remove("tick");
        for tick in rows(query, UNSETTLED_MAX, tick).await?.into_iter().flatten() {
            items.extend(self.item(pool, tick).await?);
        }
        let decisions = readable_of(pool, items.into_iter().map(row).collect());
        Ok(decisions.into_iter().filter(|decision| !decision.is_settled()).collect())
    }

    async fn claim(&self, decision: &Decision, head: &Head, next: &Head, now_ms: u64) -> Port<Claim> {
        if next.generation != head.generation + 1 {
            return Err(PortError::invalid("TransactWriteItems", "the next head is not the successor of the head"));
        }
        let generation = next.generation;
        let intent = Intent { state: IntentState::Pending, generation, claimed_ms: now_ms, plan: None, outcome: None };
        let call = self
            .client
            .transact_write_items()
            .transact_items(self.claim_decision(decision, &intent)?)
            .transact_items(self.move_head(&decision.pool, head, next, now_ms)?)
            .transact_items(self.check_switch()?)
            .transact_items(self.check_mode(decision)?);
        let error = match call.send().await {
            Ok(_) => return Ok(Claim::Won(generation)),
            Err(error) => error,
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
            return Err(failed("TransactWriteItems")(error));
        };
        match lost(cancelled.cancellation_reasons()) {
            Some(lost) => self.explain(lost, decision, now_ms).await,
            None => Err(unexpected(cancelled.cancellation_reasons())),
        }
    }

    async fn put_intent(&self, pool: &str, tick: u64, intent: &Intent) -> Port<()> {
        match self.replace_intent(pool, tick, intent).await {
            // It may have worked, its answer been lost, and the SDK's repetition met our own intent.
            Err(e) if e.kind == Kind::Conflict => match self.get(pool, tick).await? {
                Some(stands) if stands.intent.as_ref() == Some(intent) => Ok(()),
                _ => Err(e),
            },
            result => result,
        }
    }
}

/// A decision from its item.
fn read(operation: &'static str, item: Item) -> Port<Decision> {
    from_item(operation, item).map_err(|e| PortError::unreadable(operation, e.message))
}

/// A row as a decision, or why it is none.
type Row = Result<Decision, String>;

fn row(item: Item) -> Row {
    record("tick", item)
}

/// The decisions that this version can read. Those that it cannot read must not stop a pool for as long as they are kept.
fn readable_of(pool: &str, rows: Vec<Row>) -> Vec<Decision> {
    readable(pool, "decisions of another version", rows).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: [&str; 4]) -> Vec<CancellationReason> {
        codes.map(|code| CancellationReason::builder().code(code).message("m").build()).into()
    }

    #[test]
    fn the_reason_that_matters_most_is_named() {
        let check = "ConditionalCheckFailed";
        let table = [
            ([check, check, check, check], Some(Lost::Decision)),
            (["None", check, check, check], Some(Lost::Switch)),
            (["None", check, "None", check], Some(Lost::Mode)),
            (["None", check, "None", "None"], Some(Lost::Head)),
            (["None", "TransactionConflict", "None", "None"], Some(Lost::Conflict)),
            (["None", "None", "None", "TransactionConflict"], Some(Lost::Conflict)),
            (["None", "None", "None", "None"], None),
        ];
        for (codes, expected) in table {
            assert_eq!(lost(&reasons(codes)), expected, "{codes:?}");
        }
    }

    #[test]
    fn other_reasons_keep_their_kind() {
        assert_eq!(unexpected(&reasons(["None", "ThrottlingError", "None", "None"])).kind, Kind::Throttled);
        let invalid = unexpected(&reasons(["ValidationError", "None", "None", "None"]));
        assert_eq!((invalid.kind, invalid.code.as_str()), (Kind::Invalid, "ValidationError"));
        assert_eq!(unexpected(&[]).kind, Kind::Invalid);
    }
}
