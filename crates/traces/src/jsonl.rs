//! JSON Lines: one task an object a line, either a plain one or a record of the task table.
//!
//! A plain one is `{"submit_s": 0.0, "runtime_s": 60.0, "cores": 1, "memory_mb": 0, "id": 1}`, of which the last three may
//! be left out; other fields are ignored. An object with `submitted_ms` is a [`TaskRecord`]: its run time is from the start
//! of its last run to its end, and without both it is skipped. A run of 0 ms that has ended counts as one of 1 ms, as in
//! [`twin::History`].

use std::io::BufRead;

use contract::record::TaskRecord;
use serde::Deserialize;
use serde_json::Value;

use crate::bounded::{Line, Lines};
use crate::error::TraceError;
use crate::import::{Collector, Import, Options, Row, Task, cores, memory_mb, runtime_ms, submit_ms};
use crate::limits::SUBMIT_S_MAX;

#[derive(Deserialize)]
struct Plain {
    submit_s: f64,
    runtime_s: f64,
    #[serde(default)]
    cores: Option<f64>,
    #[serde(default)]
    memory_mb: Option<f64>,
    #[serde(default)]
    id: Option<i64>,
}

impl Plain {
    fn task(&self) -> Result<Task, String> {
        Ok(Task {
            id: self.id,
            submit_ms: submit_ms(self.submit_s)?,
            runtime_ms: runtime_ms(self.runtime_s)?,
            cores: cores(self.cores.unwrap_or(1.0))?,
            memory_mb: memory_mb(self.memory_mb.unwrap_or(0.0))?,
        })
    }
}

fn task_of_record(record: &TaskRecord) -> Result<Task, String> {
    let runtime = match (record.started_ms, record.finished_ms) {
        (Some(start), Some(end)) => end.checked_sub(start).ok_or("it finished before it started")?.max(1),
        _ => 0,
    };
    if record.submitted_ms as f64 > SUBMIT_S_MAX * 1000.0 {
        return Err("submitted_ms is too large for a time".into());
    }
    Ok(Task {
        id: record.task_id.parse().ok(),
        submit_ms: record.submitted_ms,
        runtime_ms: runtime_ms(runtime as f64 / 1000.0)?,
        // as the twin's history: a record that says nothing of cores is of a task on one
        cores: record.cores.max(1),
        memory_mb: memory_mb(record.memory_mb as f64)?,
    })
}

fn row(text: &str) -> Result<Row, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if !value.is_object() {
        // a list would be taken for the fields in their order
        return Err("no object".into());
    }
    let task = if value.get("submitted_ms").is_some() {
        task_of_record(&serde_json::from_value(value).map_err(|e| e.to_string())?)
    } else {
        serde_json::from_value::<Plain>(value).map_err(|e| e.to_string())?.task()
    };
    task.map(Row::Task)
}

/// Reads lines of objects.
pub(crate) fn read(reader: impl BufRead, options: &Options) -> Result<Import, TraceError> {
    let mut collector = Collector::new(options);
    for line in Lines::new(reader) {
        let Line { no, text, is_too_long } = line?;
        if !text.trim().is_empty() {
            let row = if is_too_long { Err("the line is too long".into()) } else { row(&text) };
            collector.row(no, || text.clone(), row)?;
        }
    }
    collector.finish()
}
