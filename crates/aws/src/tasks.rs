//! The task table: partitions of one pool and hour, and a sparse index of what is open.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use contract::limits::{BATCH_ATTEMPTS_MAX, HISTORY_HOURS_MAX, HISTORY_ROWS_MAX, QUEUE_ROWS_MAX};
use contract::record::{TaskRecord, TaskState};
use controller::ports::{Kind, Port, PortError, Tasks};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::errors::failed;
use crate::tables::{Item, from_item, rows, s, time_id_key, time_key, to_item};

/// The index of what waits or runs.
const OPEN_INDEX: &str = "open";
const HOUR_MS: u64 = 3_600_000;
/// Partitions read, or batches written, side by side.
const SIDE_BY_SIDE: usize = 8;
/// DynamoDB takes no more in one batch.
const BATCH_ROWS_MAX: usize = 25;
/// Pause before the first repetition of what a batch left unprocessed; doubled each time.
const BATCH_PAUSE_MS: u64 = 50;

/// The adapter of the task table.
#[derive(Clone, Debug)]
pub struct TaskTable {
    client: Client,
    table: String,
}

/// The item of a task: its fields, its key, and its place in the index unless it is finished.
fn item(operation: &'static str, task: &TaskRecord) -> Port<Item> {
    let mut item = to_item(operation, task)?;
    item.insert("pool_hour".into(), s(pool_hour(&task.pool, task.submitted_ms / HOUR_MS)));
    item.insert("submitted_task".into(), s(time_id_key(task.submitted_ms, &task.task_id)));
    if let Some(state) = index_state(task.state()) {
        item.insert("open_pool".into(), s(open_pool(&task.pool, state)));
    }
    Ok(item)
}

fn pool_hour(pool: &str, hour: u64) -> String {
    format!("{pool}#{hour}")
}

fn open_pool(pool: &str, state: &str) -> String {
    format!("{pool}#{state}")
}

fn index_state(state: TaskState) -> Option<&'static str> {
    match state {
        TaskState::Waiting => Some("waiting"),
        TaskState::Running => Some("running"),
        TaskState::Finished => None,
    }
}

/// Reads a row. One that cannot be read is reported and left out: a single submitter's mistake must not blind the
/// control loop to all other tasks.
fn readable(row: Item) -> Option<TaskRecord> {
    let key = row.get("submitted_task").and_then(|key| key.as_s().ok()).cloned();
    match from_item("Query", row) {
        Ok(task) => Some(task),
        Err(error) => {
            tracing::warn!(key, %error, "a task record cannot be read");
            None
        }
    }
}

impl TaskTable {
    /// The adapter of the table with this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Writes many tasks, each as [`Tasks::put`] would; their ids must differ.
    ///
    /// # Errors
    /// If the table refuses them or keeps leaving some unprocessed. Some may have been written then.
    pub async fn put_many(&self, tasks: &[TaskRecord]) -> Port<()> {
        let requests = tasks.iter().map(write_request).collect::<Port<Vec<_>>>()?;
        let batches: Vec<_> = requests.chunks(BATCH_ROWS_MAX).map(|batch| self.write(batch.to_vec())).collect();
        stream::iter(batches).buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }

    async fn write(&self, mut requests: Vec<WriteRequest>) -> Port<()> {
        for attempt in 0..BATCH_ATTEMPTS_MAX {
            let call = self.client.batch_write_item().request_items(&self.table, requests);
            let answer = call.send().await.map_err(failed("BatchWriteItem"))?;
            let left = answer.unprocessed_items.and_then(|mut of| of.remove(&self.table));
            requests = match left {
                Some(left) if !left.is_empty() => left,
                _ => return Ok(()),
            };
            tokio::time::sleep(std::time::Duration::from_millis(BATCH_PAUSE_MS << attempt)).await;
        }
        let message = format!("{} rows were left after {BATCH_ATTEMPTS_MAX} attempts", requests.len());
        Err(PortError { operation: "BatchWriteItem", code: "UnprocessedItems".into(), message, kind: Kind::Throttled })
    }

    fn in_state(&self, pool: &str, state: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .index_name(OPEN_INDEX)
            .key_condition_expression("#p = :p")
            .expression_attribute_names("#p", "open_pool")
            .expression_attribute_values(":p", s(open_pool(pool, state)))
    }

    /// The rows of one hour with submission in `[from_ms, to_ms)`.
    fn in_hour(&self, pool: &str, hour: u64, from_ms: u64, to_ms: u64) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#p = :p AND #t BETWEEN :from AND :to")
            .expression_attribute_names("#p", "pool_hour")
            .expression_attribute_names("#t", "submitted_task")
            .expression_attribute_values(":p", s(pool_hour(pool, hour)))
            .expression_attribute_values(":from", s(time_key(from_ms)))
            // No key equals a bare time, so that the upper end is left out.
            .expression_attribute_values(":to", s(time_key(to_ms)))
    }

    /// Rows submitted in `[from_ms, to_ms)`, in order, hour by hour.
    async fn window(&self, queries: Vec<QueryFluentBuilder>) -> Port<Vec<Item>> {
        let pages = queries.into_iter().map(|query| rows(query, HISTORY_ROWS_MAX + 1));
        let hours: Vec<Vec<Item>> = stream::iter(pages).buffered(SIDE_BY_SIDE).try_collect().await?;
        let all: Vec<Item> = hours.into_iter().flatten().collect();
        match all.len() <= HISTORY_ROWS_MAX {
            true => Ok(all),
            false => Err(PortError::invalid("Query", format!("more than {HISTORY_ROWS_MAX} tasks; ask for less"))),
        }
    }

    fn hours(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<QueryFluentBuilder>> {
        let hours = hours(from_ms, to_ms);
        if hours.end - hours.start > HISTORY_HOURS_MAX {
            return Err(PortError::invalid("Query", format!("more than {HISTORY_HOURS_MAX} hours; ask for less")));
        }
        Ok(hours.map(|hour| self.in_hour(pool, hour, from_ms, to_ms)).collect())
    }
}

/// The hours that `[from_ms, to_ms)` touches.
fn hours(from_ms: u64, to_ms: u64) -> std::ops::Range<u64> {
    match from_ms < to_ms {
        true => from_ms / HOUR_MS..(to_ms - 1) / HOUR_MS + 1,
        false => 0..0,
    }
}

fn write_request(task: &TaskRecord) -> Port<WriteRequest> {
    let put = PutRequest::builder().set_item(Some(item("BatchWriteItem", task)?)).build();
    let put = put.map_err(|e| PortError::invalid("BatchWriteItem", e.to_string()))?;
    Ok(WriteRequest::builder().put_request(put).build())
}

impl Tasks for TaskTable {
    async fn open(&self, pool: &str) -> Port<Vec<TaskRecord>> {
        let waiting = rows(self.in_state(pool, "waiting"), QUEUE_ROWS_MAX);
        let running = rows(self.in_state(pool, "running"), QUEUE_ROWS_MAX);
        let (waiting, running) = tokio::try_join!(waiting, running)?;
        // A task that starts between the two reads is in both; it counts once, as running.
        let by_age: BTreeMap<(u64, String), TaskRecord> = waiting
            .into_iter()
            .chain(running)
            .filter_map(readable)
            .map(|task| ((task.submitted_ms, task.task_id.clone()), task))
            .collect();
        Ok(by_age.into_values().take(QUEUE_ROWS_MAX).collect())
    }

    async fn submitted(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<TaskRecord>> {
        let rows = self.window(self.hours(pool, from_ms, to_ms)?).await?;
        Ok(rows.into_iter().filter_map(readable).collect())
    }

    async fn arrival_times(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<u64>> {
        let queries = self.hours(pool, from_ms.saturating_add(1), to_ms.saturating_add(1))?;
        let times_only = |query: QueryFluentBuilder| query.projection_expression("#t");
        let rows = self.window(queries.into_iter().map(times_only).collect()).await?;
        Ok(rows.iter().filter_map(submitted_ms).collect())
    }

    async fn put(&self, task: &TaskRecord) -> Port<()> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item("PutItem", task)?));
        call.send().await.map_err(failed("PutItem"))?;
        Ok(())
    }
}

/// The time in a row's sort key.
fn submitted_ms(row: &Item) -> Option<u64> {
    let key = row.get("submitted_task")?.as_s().ok()?;
    key.split_once('#')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::TaskRecord;
    use testkit::builders;

    #[test]
    fn a_task_lies_under_its_pool_and_hour_and_in_the_index_until_it_is_finished() {
        let waiting = builders::task("p", "a", 2 * HOUR_MS + 5);
        let of = item("PutItem", &waiting).unwrap();
        assert_eq!(of["pool_hour"], s("p#2"));
        assert_eq!(of["submitted_task"], s("0000007200005#a"));
        assert_eq!(of["open_pool"], s("p#waiting"));
        assert_eq!(submitted_ms(&of), Some(2 * HOUR_MS + 5));
        assert_eq!(readable(of), Some(waiting.clone()));
        let running = TaskRecord { started_ms: Some(9), ..waiting };
        assert_eq!(item("PutItem", &running).unwrap()["open_pool"], s("p#running"));
        let finished = TaskRecord { finished_ms: Some(10), ..running };
        assert!(!item("PutItem", &finished).unwrap().contains_key("open_pool"));
    }

    #[test]
    fn a_row_that_is_no_task_is_left_out() {
        let mut of = item("PutItem", &builders::task("p", "a", 5)).unwrap();
        of.insert("cores".into(), s("many"));
        assert_eq!(readable(of), None);
    }

    #[test]
    fn a_window_touches_the_hours_it_lies_in() {
        assert_eq!(hours(0, HOUR_MS), 0..1);
        assert_eq!(hours(HOUR_MS - 1, HOUR_MS + 1), 0..2);
        assert_eq!(hours(HOUR_MS, HOUR_MS), 0..0);
        assert_eq!(hours(5, 4), 0..0);
    }
}
