//! The records of machines, by launch, with a sparse index of those that were not terminated.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use contract::limits::{LAUNCHES_MAX, MACHINES_MAX, MONTH_MACHINES_MAX};
use contract::record::{Drain, Ended, InstanceRecord};
use controller::ports::{Instances, Kind, Port, PortError, TIME_MS_MAX};

use crate::errors::failed;
use crate::tables::{Item, all_rows, n, readable, record, s, time_id_key, time_key, to_item};

/// The index of machines that were not terminated.
const ALIVE_INDEX: &str = "alive";
/// The index of machines that were, by when.
const ENDED_INDEX: &str = "ended";

/// The adapter of the table of machines.
#[derive(Clone, Debug)]
pub struct InstanceTable {
    client: Client,
    table: String,
}

fn key(record: &InstanceRecord) -> String {
    time_id_key(record.launched_ms, &record.instance_id)
}

/// The item of a machine: its fields, its key, and its place in the index while it is alive.
fn item(record: &InstanceRecord) -> Port<Item> {
    let mut item = to_item("PutItem", record)?;
    item.insert("launched_instance".into(), s(key(record)));
    if record.terminated_ms.is_none() {
        item.insert("alive_pool".into(), s(&record.pool));
    }
    Ok(item)
}

impl InstanceTable {
    /// The adapter of the table with this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// The question for machines launched in `[from_ms, to_ms)`, where that is any time at all.
    fn launches(&self, pool: &str, from_ms: u64, to_ms: u64) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#p = :p AND #t BETWEEN :from AND :to")
            .expression_attribute_names("#p", "pool")
            .expression_attribute_names("#t", "launched_instance")
            .expression_attribute_values(":p", s(pool))
            .expression_attribute_values(":from", s(time_key(from_ms)))
            .expression_attribute_values(":to", s(time_key(to_ms)))
    }

    /// Makes a whole record of a row that is none: a worker that reported itself before the launch was recorded has made
    /// it. What only the worker knows stays.
    async fn complete(&self, record: &InstanceRecord) -> Port<()> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pool", s(&record.pool))
            .key("launched_instance", s(key(record)))
            .condition_expression(format!("NOT ({IS_WHOLE})"));
        let mut sets = Vec::new();
        for (i, (name, value)) in item(record)?.into_iter().filter(|(name, _)| !is_key(name)).enumerate() {
            sets.push(format!("#a{i} = :a{i}"));
            update = update
                .expression_attribute_names(format!("#a{i}"), name)
                .expression_attribute_values(format!(":a{i}"), value);
        }
        let update = update
            .update_expression(format!("SET {}", sets.join(", ")))
            .expression_attribute_names("#size", "size")
            .expression_attribute_values(":text", s("S"))
            .expression_attribute_values(":number", s("N"));
        match update.send().await.map_err(failed("UpdateItem")) {
            Err(e) if e.kind != Kind::Conflict => Err(e),
            _ => Ok(()),
        }
    }

    /// An update of a record that is there already.
    fn update(&self, record: &InstanceRecord) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pool", s(&record.pool))
            .key("launched_instance", s(key(record)))
            .condition_expression("attribute_exists(#pool)")
            .expression_attribute_names("#pool", "pool")
    }
}

/// What a row needs to be read as a record, as a condition.
const IS_WHOLE: &str = "attribute_type(instance_id, :text) AND attribute_type(#size, :number) \
    AND attribute_type(usd_per_hour, :number) AND attribute_type(launched_ms, :number)";

fn is_key(attribute: &str) -> bool {
    matches!(attribute, "pool" | "launched_instance")
}

/// A row as a machine's record, or why it is none.
type Row = Result<InstanceRecord, String>;

fn row(item: Item) -> Row {
    record("launched_instance", item)
}

/// All records, or the first row that is none: whoever counts them to stay below a cap must not count too few.
fn every(rows: Vec<Row>) -> Port<Vec<InstanceRecord>> {
    let unreadable = |problem| PortError::unreadable("Query", format!("a machine's record cannot be read: {problem}"));
    rows.into_iter().map(|row| row.map_err(unreadable)).collect()
}

async fn send(update: UpdateItemFluentBuilder, record: &InstanceRecord) -> Port<()> {
    match update.send().await {
        Ok(_) => Ok(()),
        Err(e) if e.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
            let id = &record.instance_id;
            Err(PortError::not_found("UpdateItem", format!("no record of {id} launched at {}", record.launched_ms)))
        }
        Err(e) => Err(failed("UpdateItem")(e)),
    }
}

impl Instances for InstanceTable {
    /// A row that cannot be read is left out, for it would stop the pool for as long as it stands. Its machine is not lost:
    /// it is one that EC2 shows and no record has. Plans, caps and health count it as such, nothing stops it, and the
    /// reconciliation adopts it, which mends the row.
    async fn alive(&self, pool: &str) -> Port<Vec<InstanceRecord>> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(ALIVE_INDEX)
            .key_condition_expression("#p = :p")
            .expression_attribute_names("#p", "alive_pool")
            .expression_attribute_values(":p", s(pool));
        Ok(readable(pool, "records of machines", all_rows(query, MACHINES_MAX, row).await?).0)
    }

    async fn launched(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<InstanceRecord>> {
        if from_ms >= to_ms {
            return Ok(Vec::new());
        }
        let query = self.launches(pool, from_ms, to_ms).consistent_read(true);
        every(all_rows(query, LAUNCHES_MAX, row).await?)
    }

    async fn since(&self, pool: &str, from_ms: u64) -> Port<Vec<InstanceRecord>> {
        let mut records = every(all_rows(self.launches(pool, from_ms, TIME_MS_MAX), MONTH_MACHINES_MAX, row).await?)?;
        records.extend(self.ended(pool, from_ms, TIME_MS_MAX).await?);
        Ok(records)
    }

    async fn ended(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<InstanceRecord>> {
        if from_ms > to_ms {
            return Ok(Vec::new());
        }
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(ENDED_INDEX)
            .key_condition_expression("#p = :p AND #t BETWEEN :from AND :to")
            .expression_attribute_names("#p", "pool")
            .expression_attribute_names("#t", "terminated_ms")
            .expression_attribute_values(":p", s(pool))
            .expression_attribute_values(":from", n(from_ms))
            .expression_attribute_values(":to", n(to_ms));
        every(all_rows(query, MONTH_MACHINES_MAX, row).await?)
    }

    async fn put_new(&self, record: &InstanceRecord) -> Port<()> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item(record)?))
            .condition_expression("attribute_not_exists(#pool)")
            .expression_attribute_names("#pool", "pool");
        match call.send().await.map_err(failed("PutItem")) {
            Err(e) if e.kind == Kind::Conflict => self.complete(record).await,
            answer => answer.map(drop),
        }
    }

    async fn mark_ready(&self, record: &InstanceRecord, ready_ms: u64) -> Port<()> {
        let update = self
            .update(record)
            .update_expression("SET #r = :r")
            .expression_attribute_names("#r", "ready_ms")
            .expression_attribute_values(":r", n(ready_ms));
        send(update, record).await
    }

    async fn mark_draining(&self, record: &InstanceRecord, drain: Drain) -> Port<()> {
        let update = self
            .update(record)
            .update_expression("SET #d = if_not_exists(#d, :d)")
            .condition_expression("attribute_exists(#pool) AND attribute_not_exists(#t)")
            .expression_attribute_names("#d", "drain")
            .expression_attribute_names("#t", "terminated_ms")
            .expression_attribute_values(":d", AttributeValue::M(to_item("UpdateItem", &drain)?));
        match send(update, record).await {
            // there is no such record, or the machine is gone
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn reopen(&self, record: &InstanceRecord) -> Port<()> {
        let update = self
            .update(record)
            .update_expression("SET #a = :p REMOVE #t, #e, #d")
            .expression_attribute_names("#e", "ended")
            .expression_attribute_names("#d", "drain")
            .expression_attribute_names("#t", "terminated_ms")
            .expression_attribute_names("#a", "alive_pool")
            .expression_attribute_values(":p", s(&record.pool));
        send(update, record).await
    }

    async fn mark_terminated(&self, record: &InstanceRecord, terminated_ms: u64, ended: Ended) -> Port<()> {
        let update = self
            .update(record)
            .update_expression("SET #t = if_not_exists(#t, :t), #e = if_not_exists(#e, :e) REMOVE #a")
            .expression_attribute_names("#e", "ended")
            .expression_attribute_values(":e", s(ended.name()))
            .expression_attribute_names("#t", "terminated_ms")
            .expression_attribute_names("#a", "alive_pool")
            .expression_attribute_values(":t", n(terminated_ms));
        send(update, record).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::builders;

    #[test]
    fn a_machine_lies_under_its_pool_and_launch_and_in_the_index_while_alive() {
        let record = builders::instance("p", "i-1", 0, 1_700_000_000_000);
        let of = item(&record).unwrap();
        assert_eq!(of["pool"], s("p"));
        assert_eq!(of["launched_instance"], s("1700000000000#i-1"));
        assert_eq!(of["alive_pool"], s("p"));
        let gone = InstanceRecord { terminated_ms: Some(1), ..record };
        assert!(!item(&gone).unwrap().contains_key("alive_pool"));
    }
}
