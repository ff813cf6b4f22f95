//! The task table: partitions of one pool and hour, and a sparse index of what is open.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use contract::limits::{
    ARRIVALS_MAX, BATCH_ATTEMPTS_MAX, HISTORY_HOURS_MAX, HISTORY_ROWS_MAX, QUEUE_ROWS_MAX, TASKS_UNREADABLE_MAX,
};
use contract::record::{TaskRecord, TaskState};
use controller::ports::{Kind, Port, PortError, Tasks};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::errors::failed;
use crate::tables::{Item, all_rows, readable, record, rows, s, time_id_key, time_key, to_item, uncut};

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

/// A row as a task, or why it is none.
type Row = Result<TaskRecord, String>;

fn row(item: Item) -> Row {
    record("submitted_task", item)
}

/// What a pool's rows say of its queue. Some that cannot be read are left out: a submitter's mistake must not blind the
/// control loop to all other tasks.
///
/// # Errors
/// If so many cannot be read that nobody knows what waits and runs.
fn known(pool: &str, rows: Vec<Row>) -> Port<Vec<TaskRecord>> {
    match readable(pool, "task records", rows) {
        (tasks, left_out) if left_out <= TASKS_UNREADABLE_MAX => Ok(tasks),
        (_, left_out) => Err(PortError::unreadable("Query", format!("{left_out} task records cannot be read"))),
    }
}

/// The open tasks, oldest first. A machine that none of these runs on may be ended, so that those that run are kept
/// first, and those that wait take the room that is left. A task that started between the two reads is in both; it runs.
fn open_tasks(waiting: Vec<TaskRecord>, running: Vec<TaskRecord>) -> Vec<TaskRecord> {
    let keyed = |task: TaskRecord| ((task.submitted_ms, task.task_id.clone()), task);
    let mut by_age: BTreeMap<(u64, String), TaskRecord> = running.into_iter().map(keyed).collect();
    for (key, task) in waiting.into_iter().map(keyed) {
        if by_age.len() >= QUEUE_ROWS_MAX {
            break;
        }
        by_age.entry(key).or_insert(task);
    }
    by_age.into_values().collect()
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

    /// What `read` makes of the rows of these hours, in order; more than `rows_max` are an error.
    async fn window<T>(
        &self,
        queries: Vec<QueryFluentBuilder>,
        rows_max: usize,
        read: impl Fn(Item) -> T + Copy,
    ) -> Port<Vec<T>> {
        let pages = queries.into_iter().map(|query| all_rows(query, rows_max, read));
        let hours: Vec<Vec<T>> = stream::iter(pages).buffered(SIDE_BY_SIDE).try_collect().await?;
        uncut(hours.into_iter().flatten().collect(), rows_max)
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
        let waiting = rows(self.in_state(pool, "waiting"), QUEUE_ROWS_MAX, row);
        // all of them or an error: a machine whose task was cut off would look idle
        let running = all_rows(self.in_state(pool, "running"), QUEUE_ROWS_MAX, row);
        let (waiting, running) = tokio::try_join!(waiting, running)?;
        Ok(open_tasks(known(pool, waiting)?, known(pool, running)?))
    }

    async fn submitted(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<TaskRecord>> {
        let rows = self.window(self.hours(pool, from_ms, to_ms)?, HISTORY_ROWS_MAX, row).await?;
        Ok(readable(pool, "task records", rows).0)
    }

    async fn arrival_times(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<u64>> {
        let queries = self.hours(pool, from_ms.saturating_add(1), to_ms.saturating_add(1))?;
        let times_only = |query: QueryFluentBuilder| query.projection_expression("#t");
        let times = self.window(queries.into_iter().map(times_only).collect(), ARRIVALS_MAX, submitted_ms).await?;
        Ok(times.into_iter().flatten().collect())
    }

    async fn put(&self, task: &TaskRecord) -> Port<()> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item("PutItem", task)?));
        call.send().await.map_err(failed("PutItem"))?;
        Ok(())
    }
}

/// The time in a row's sort key.
fn submitted_ms(row: Item) -> Option<u64> {
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
        assert_eq!(submitted_ms(of.clone()), Some(2 * HOUR_MS + 5));
        assert_eq!(row(of), Ok(waiting.clone()));
        let running = TaskRecord { started_ms: Some(9), ..waiting };
        assert_eq!(item("PutItem", &running).unwrap()["open_pool"], s("p#running"));
        let finished = TaskRecord { finished_ms: Some(10), ..running };
        assert!(!item("PutItem", &finished).unwrap().contains_key("open_pool"));
    }

    fn bad(id: &str) -> Row {
        let mut of = item("PutItem", &builders::task("p", id, 5)).unwrap();
        of.insert("cores".into(), s("many"));
        row(of)
    }

    #[test]
    fn rows_that_are_no_tasks_are_left_out_until_they_are_too_many() {
        let good = builders::task("p", "good", 5);
        let with = |bad_ones: usize| {
            known("p", std::iter::repeat_with(|| bad("b")).take(bad_ones).chain([Ok(good.clone())]).collect())
        };
        assert_eq!(with(TASKS_UNREADABLE_MAX).unwrap(), std::slice::from_ref(&good));
        assert_eq!(with(TASKS_UNREADABLE_MAX + 1).unwrap_err().kind, Kind::Unreadable);
    }

    #[test]
    fn unreadable_rows_are_one_line_in_the_log_that_names_the_first() {
        let logs = testkit::logs::Logs::capture();
        known("p", vec![bad("one"), bad("two"), bad("three")]).unwrap();
        let lines = logs.text();
        assert_eq!(lines.matches("cannot be read").count(), 1, "{lines}");
        assert!(
            lines.contains("left_out=3") && lines.contains("0000000000005#one") && !lines.contains("#two"),
            "{lines}"
        );
    }

    #[test]
    fn what_runs_is_kept_before_what_waits_and_counts_once() {
        let waiting: Vec<_> = (0..QUEUE_ROWS_MAX as u64).map(|i| builders::task("p", &format!("w{i}"), i)).collect();
        let run = |id: &str, at| TaskRecord { started_ms: Some(at), ..builders::task("p", id, at) };
        let running = vec![run("w0", 0), run("young", u64::MAX)];
        let open = open_tasks(waiting.clone(), running.clone());
        assert_eq!(open.len(), QUEUE_ROWS_MAX);
        assert_eq!((&open[0], open.last().unwrap()), (&running[0], &running[1]), "oldest first");
        assert_eq!(open[1..open.len() - 1], waiting[1..waiting.len() - 1]);
    }

    #[test]
    fn a_window_touches_the_hours_it_lies_in() {
        assert_eq!(hours(0, HOUR_MS), 0..1);
        assert_eq!(hours(HOUR_MS - 1, HOUR_MS + 1), 0..2);
        assert_eq!(hours(HOUR_MS, HOUR_MS), 0..0);
        assert_eq!(hours(5, 4), 0..0);
    }
}
