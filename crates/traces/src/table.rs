//! CSV with a header row. Columns may be in any order and are known by these names, whatever their case, with `_`, `-` or
//! a space between words; others are ignored:
//!
//! | what | unit | names |
//! |---|---|---|
//! | submission | s | `submit_s`, `submit`, `submit_time`, `submission_time`, `arrival_s`, `arrival`, `arrival_time` |
//! | | ms | `submit_ms`, `submitted_ms`, `arrival_ms` |
//! | run time | s | `runtime_s`, `runtime`, `run_time`, `duration_s`, `duration` |
//! | | ms | `runtime_ms`, `duration_ms` |
//! | cores, 1 if absent or empty | | `cores`, `cpus`, `ncpus`, `procs`, `processors` |
//! | memory, 0 if absent or empty | MB | `memory_mb`, `mem_mb`, `memory` |
//! | number | integer | `id`, `job_id`, `task_id` |
//!
//! Lines that begin with `#` are comments.

use std::cell::Cell;
use std::io::BufRead;

use csv::{ByteRecord, ReaderBuilder, Trim};

use crate::bounded::Granted;
use crate::error::TraceError;
use crate::import::{Collector, Import, Options, Row, Task, cores, memory_mb, runtime_ms, submit_ms};
use crate::limits::LINE_BYTES_MAX;

/// What the parser reads ahead at a time.
const BUFFER_BYTES: usize = 8 * 1024;

const S: f64 = 1.0;
const MS: f64 = 1000.0;

/// Names of columns, with how many of their unit make one of ours.
type Names = [(&'static str, f64)];

const SUBMIT: &Names = &[
    ("submit_s", S),
    ("submit", S),
    ("submit_time", S),
    ("submission_time", S),
    ("arrival_s", S),
    ("arrival", S),
    ("arrival_time", S),
    ("submit_ms", MS),
    ("submitted_ms", MS),
    ("arrival_ms", MS),
];
const RUNTIME: &Names = &[
    ("runtime_s", S),
    ("runtime", S),
    ("run_time", S),
    ("duration_s", S),
    ("duration", S),
    ("runtime_ms", MS),
    ("duration_ms", MS),
];
const CORES: &Names = &[("cores", 1.0), ("cpus", 1.0), ("ncpus", 1.0), ("procs", 1.0), ("processors", 1.0)];
const MEMORY: &Names = &[("memory_mb", 1.0), ("mem_mb", 1.0), ("memory", 1.0)];
const ID: &Names = &[("id", 1.0), ("job_id", 1.0), ("task_id", 1.0)];

/// Where a column is, and how many of its unit make one of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Column {
    index: usize,
    per_unit: f64,
}

#[derive(Debug, PartialEq)]
struct Columns {
    submit: Column,
    runtime: Column,
    cores: Option<Column>,
    memory: Option<Column>,
    id: Option<Column>,
}

impl Columns {
    fn of(names: &ByteRecord) -> Result<Self, TraceError> {
        let names: Vec<String> = names.iter().map(|name| plain(&String::from_utf8_lossy(name))).collect();
        let required = |what: &str, known: &Names| {
            let missing = || {
                columns_error(format!("no column for {what}; name it {} (found: {})", list(known), names.join(", ")))
            };
            find(&names, known)?.ok_or_else(missing)
        };
        Ok(Self {
            submit: required("the submission", SUBMIT)?,
            runtime: required("the run time", RUNTIME)?,
            cores: find(&names, CORES)?,
            memory: find(&names, MEMORY)?,
            id: find(&names, ID)?,
        })
    }

    fn row(&self, record: &ByteRecord) -> Result<Row, String> {
        let required = |column, what: &str| number(record, column)?.ok_or_else(|| format!("no {what}"));
        let optional = |column: Option<Column>, or: f64| {
            Ok::<f64, String>(column.map(|c| number(record, c)).transpose()?.flatten().unwrap_or(or))
        };
        Ok(Row::Task(Task {
            id: self.id.and_then(|column| text(record, column).parse().ok()),
            submit_ms: submit_ms(required(self.submit, "submit time")?)?,
            runtime_ms: runtime_ms(required(self.runtime, "run time")?)?,
            cores: cores(optional(self.cores, 1.0)?)?,
            memory_mb: memory_mb(optional(self.memory, 0.0)?)?,
        }))
    }
}

fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace([' ', '-'], "_")
}

fn columns_error(problem: String) -> TraceError {
    TraceError::Columns { problem }
}

fn list(known: &Names) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn find(names: &[String], known: &Names) -> Result<Option<Column>, TraceError> {
    let column = |(index, name): (usize, &String)| {
        let (_, per_unit) = known.iter().find(|(n, _)| n == name)?;
        Some(Column { index, per_unit: *per_unit })
    };
    let found: Vec<Column> = names.iter().enumerate().filter_map(column).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [a, b, ..] => {
            Err(columns_error(format!("{} and {} say the same; leave one out", names[a.index], names[b.index])))
        }
    }
}

fn text(record: &ByteRecord, column: Column) -> String {
    String::from_utf8_lossy(record.get(column.index).unwrap_or_default()).into_owned()
}

/// The number in a cell; none if it is empty or missing.
fn number(record: &ByteRecord, column: Column) -> Result<Option<f64>, String> {
    let text = text(record, column);
    if text.is_empty() {
        return Ok(None);
    }
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    Ok(Some(number / column.per_unit))
}

/// Reads a table.
pub(crate) fn read(reader: impl BufRead, options: &Options) -> Result<Import, TraceError> {
    let left = Cell::new(0);
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .trim(Trim::All)
        .comment(Some(b'#'))
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(Granted::new(reader, &left));
    let mut record = ByteRecord::new();
    let mut next = |record: &mut ByteRecord| {
        left.set(LINE_BYTES_MAX + BUFFER_BYTES);
        let line_no = reader.position().line();
        reader.read_byte_record(record).map_err(|e| csv_error(e, line_no))
    };
    let mut collector = Collector::new(options);
    if !next(&mut record)? {
        return collector.finish();
    }
    let columns = Columns::of(&record)?;
    while next(&mut record)? {
        let line_no = record.position().map_or(0, csv::Position::line);
        collector.row(line_no, || joined(&record), columns.row(&record))?;
    }
    collector.finish()
}

fn joined(record: &ByteRecord) -> String {
    record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// Records may be of any length and any bytes, so that only reading can fail.
fn csv_error(error: csv::Error, line_no: u64) -> TraceError {
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::FileTooLarge => TraceError::LongRecord { line_no },
        csv::ErrorKind::Io(e) => TraceError::Read(e),
        other => TraceError::Read(std::io::Error::other(format!("{other:?}"))),
    }
}
