//! Tasks of the Workflow Trace Archive and of OpenDC, in Parquet.
//!
//! | what | archive | OpenDC |
//! |---|---|---|
//! | submission, ms | `ts_submit` | `submission_time`; in older ones `submissionTime` or `start_time` |
//! | run time, ms | `runtime` | `duration`; in older ones `endTime` or `stop_time`, less the submission |
//! | cores | `resource_amount_requested` | `cpu_count`; in older ones `maxCores` |
//! | memory, MB | `memory_requested` | `mem_capacity`; in older ones `requiredMemory` |
//! | number | `id` | `id` |
//!
//! Times that are declared as timestamps are taken in their declared unit. Cores and memory that are missing, NaN, 0 or
//! negative are not known: then it is one core, and no memory. The archive leaves the unit of `memory_requested` to each
//! trace (in some it is a share of a machine); it is taken as MB, as OpenDC does. Dependencies between tasks are ignored.
//!
//! Sources: the archive's [trace format](https://wta.atlarge-research.com/traceformat.html) and its tools
//! (`atlarge-research/wta-tools`, `objects/task.py`); OpenDC's
//! [workloads](https://atlarge-research.github.io/opendc/docs/documentation/Input/Workload).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row as Cells};
use ::parquet::schema::types::{Type, TypePtr};

use crate::error::TraceError;
use crate::import::{Collector, Import, Options, Row, Task, cores, memory_mb, runtime_ms, submit_ms};
use crate::read::Progress;

/// Rows from one report of progress to the next.
const PROGRESS_ROWS: u64 = 65_536;

const SUBMIT: &[&str] = &["ts_submit", "submission_time", "submissionTime", "start_time"];
const RUNTIME: &[&str] = &["runtime", "duration"];
const STOP: &[&str] = &["stop_time", "endTime"];
const CORES: &[&str] = &["resource_amount_requested", "cpu_count", "maxCores"];
const MEMORY: &[&str] = &["memory_requested", "mem_capacity", "requiredMemory"];
const ID: &[&str] = &["id"];

/// Where a column is among those read, and how many of its unit are a second if it is a time.
#[derive(Clone, Copy, Debug)]
struct Column {
    index: usize,
    per_s: f64,
}

struct Columns {
    submit: Column,
    runtime: Option<Column>,
    stop: Option<Column>,
    cores: Option<Column>,
    memory: Option<Column>,
    id: Option<Column>,
}

/// Reads a file, or all files of a folder whose names end in `.parquet`, in the order of their names.
pub(crate) fn read(path: &Path, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Import, TraceError> {
    let paths = files(path)?;
    let open = |path: &PathBuf| File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let mut opened = Vec::with_capacity(paths.len());
    for path in paths {
        let (bytes, file) = open(&path).map_err(|source| TraceError::Open { path: path.clone(), source })?;
        opened.push((path, bytes, file));
    }
    let bytes_total = opened.iter().map(|(_, bytes, _)| bytes).sum();
    let mut collector = Collector::new(options);
    let (mut before, mut rows) = (0, 0);
    for (path, bytes, file) in opened {
        let mut told = |share: f64| {
            progress(Progress { bytes_read: before + (bytes as f64 * share) as u64, bytes_total });
        };
        rows = read_file(&path, file, rows, &mut collector, &mut told)?;
        before += bytes;
    }
    progress(Progress { bytes_read: bytes_total, bytes_total });
    collector.finish()
}

fn files(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let open = |source| TraceError::Open { path: path.to_owned(), source };
    let entries: Vec<PathBuf> = path.read_dir().and_then(|list| list.map(|e| Ok(e?.path())).collect()).map_err(open)?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    files.sort();
    if files.is_empty() {
        return Err(TraceError::UnknownFormat { path: path.to_owned() });
    }
    Ok(files)
}

/// Reads a file whose first row is number `rows`, from 0; gives the next one's.
fn read_file(
    path: &Path,
    file: File,
    mut rows: u64,
    collector: &mut Collector<'_>,
    told: &mut dyn FnMut(f64),
) -> Result<u64, TraceError> {
    let broken = |e: ParquetError| TraceError::Parquet { path: path.to_owned(), source: e.into() };
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let (projection, columns) = columns(reader.metadata().file_metadata().schema_descr().root_schema())?;
    let first = rows;
    let in_file = reader.metadata().file_metadata().num_rows().max(1) as f64;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        for cells in RowIter::from_row_group(Some(projection.clone()), &*group).map_err(broken)? {
            let cells = cells.map_err(broken)?;
            rows += 1;
            collector.row(rows, || cells.to_string(), columns.row(&cells))?;
            if (rows - first).is_multiple_of(PROGRESS_ROWS) {
                told((rows - first) as f64 / in_file);
            }
        }
    }
    told(1.0);
    Ok(rows)
}

/// The part of the schema that is needed, and where its columns are.
fn columns(schema: &Type) -> Result<(Type, Columns), TraceError> {
    let all: Vec<&str> = [SUBMIT, RUNTIME, STOP, CORES, MEMORY, ID].concat();
    let fields: Vec<TypePtr> = schema.get_fields().iter().filter(|f| all.contains(&f.name())).map(Arc::clone).collect();
    let find = |names: &[&str]| {
        let index = names.iter().find_map(|name| fields.iter().position(|f| f.name() == *name))?;
        Some(Column { index, per_s: per_s(&fields[index]) })
    };
    let columns = Columns {
        submit: find(SUBMIT).ok_or_else(|| missing(SUBMIT, schema))?,
        runtime: find(RUNTIME),
        stop: find(STOP),
        cores: find(CORES),
        memory: find(MEMORY),
        id: find(ID),
    };
    if columns.runtime.or(columns.stop).is_none() {
        return Err(missing(RUNTIME, schema));
    }
    if let Some(field) = fields.iter().find(|f| !is_scalar(f)) {
        return Err(TraceError::Columns {
            problem: format!("{} is no column of numbers, times or text", field.name()),
        });
    }
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build();
    Ok((projection.expect("fields of a schema are valid"), columns))
}

fn missing(names: &[&str], schema: &Type) -> TraceError {
    let found: Vec<&str> = schema.get_fields().iter().map(|f| f.name()).collect();
    TraceError::Columns { problem: format!("there is none of {} (found: {})", names.join(", "), found.join(", ")) }
}

/// Whether the library gives its values as fields without panicking, and one a row.
fn is_scalar(field: &Type) -> bool {
    use ConvertedType as C;
    if !field.is_primitive() || field.get_basic_info().repetition() == Repetition::REPEATED {
        return false;
    }
    let plain = matches!(field.get_basic_info().converted_type(), C::NONE | C::UTF8);
    match field.get_physical_type() {
        Physical::INT32 => {
            use C::{INT_8, INT_16, INT_32, UINT_8, UINT_16, UINT_32};
            let integer = [INT_8, INT_16, INT_32, UINT_8, UINT_16, UINT_32];
            plain || integer.contains(&field.get_basic_info().converted_type())
        }
        Physical::INT64 => {
            let integer = [C::INT_64, C::UINT_64, C::TIMESTAMP_MILLIS, C::TIMESTAMP_MICROS];
            plain || integer.contains(&field.get_basic_info().converted_type())
        }
        Physical::INT96 | Physical::FLOAT | Physical::DOUBLE | Physical::BYTE_ARRAY => plain,
        Physical::BOOLEAN | Physical::FIXED_LEN_BYTE_ARRAY => false,
    }
}

/// How many of a column's unit are a second: milliseconds unless it says otherwise.
fn per_s(field: &Type) -> f64 {
    let info = field.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Timestamp(stamp)), _) if stamp.unit == TimeUnit::NANOS => 1e9,
        (Some(LogicalType::Timestamp(stamp)), _) if stamp.unit == TimeUnit::MICROS => 1e6,
        (_, ConvertedType::TIMESTAMP_MICROS) => 1e6,
        _ => 1e3,
    }
}

impl Columns {
    fn row(&self, cells: &Cells) -> Result<Row, String> {
        let cell = |column: Option<Column>| column.and_then(|c| Some((cells.get_column_iter().nth(c.index)?.1, c)));
        let known = |column| cell(column).and_then(|(field, _)| number(field)).filter(|x| *x > 0.0);
        let time_s = |column, what: &str| {
            let (field, c) = cell(column).ok_or_else(|| format!("no {what}"))?;
            number(field).map(|x| x / c.per_s).ok_or_else(|| format!("no {what}"))
        };
        let submit_s = time_s(Some(self.submit), "submit time")?;
        let runtime_s = match self.runtime {
            Some(_) => time_s(self.runtime, "run time")?,
            None => time_s(self.stop, "stop time")? - submit_s,
        };
        Ok(Row::Task(Task {
            id: cell(self.id).and_then(|(field, _)| integer(field)),
            submit_ms: submit_ms(submit_s)?,
            runtime_ms: runtime_ms(runtime_s)?,
            cores: cores(known(self.cores).unwrap_or(1.0))?,
            memory_mb: memory_mb(known(self.memory).unwrap_or(0.0))?,
        }))
    }
}

fn number(field: &Field) -> Option<f64> {
    match field {
        Field::Float(x) => Some(f64::from(*x)),
        Field::Double(x) => Some(*x),
        other => integer(other).map(|n| n as f64),
    }
}

fn integer(field: &Field) -> Option<i64> {
    match field {
        Field::Byte(n) => Some(i64::from(*n)),
        Field::Short(n) => Some(i64::from(*n)),
        Field::Int(n) => Some(i64::from(*n)),
        Field::Long(n) | Field::TimestampMillis(n) | Field::TimestampMicros(n) => Some(*n),
        Field::UByte(n) => Some(i64::from(*n)),
        Field::UShort(n) => Some(i64::from(*n)),
        Field::UInt(n) => Some(i64::from(*n)),
        Field::ULong(n) => i64::try_from(*n).ok(),
        Field::Str(text) => text.parse().ok(),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok()?.parse().ok(),
        _ => None,
    }
}
