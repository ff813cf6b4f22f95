//! Tasks in Parquet, written with the same library and read back.
#![cfg(feature = "parquet")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use traces::{Import, Options, Progress, TraceError, read};
use twin::Job;

/// The values of one column.
enum Values {
    Int(Vec<i32>),
    Long(Vec<i64>),
    Double(Vec<f64>),
    Text(Vec<&'static str>),
    /// Longs of which some are null.
    Nullable(Vec<Option<i64>>),
}

fn write(path: &Path, schema: &str, compression: Compression, columns: &[Values]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        match values {
            Values::Int(v) => column.typed::<Int32Type>().write_batch(v, None, None).unwrap(),
            Values::Long(v) => column.typed::<Int64Type>().write_batch(v, None, None).unwrap(),
            Values::Double(v) => column.typed::<DoubleType>().write_batch(v, None, None).unwrap(),
            Values::Text(v) => {
                let v: Vec<ByteArray> = v.iter().map(|text| ByteArray::from(*text)).collect();
                column.typed::<ByteArrayType>().write_batch(&v, None, None).unwrap()
            }
            Values::Nullable(v) => {
                let levels: Vec<i16> = v.iter().map(|x| i16::from(x.is_some())).collect();
                let v: Vec<i64> = v.iter().copied().flatten().collect();
                column.typed::<Int64Type>().write_batch(&v, Some(&levels), None).unwrap()
            }
        };
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn import(path: &Path, bad_share_max: f64) -> Result<Import, TraceError> {
    read(path, &Options { bad_share_max, ..Options::default() }, &mut |_| {})
}

fn job(id: i64, submit_ms: u64, runtime_ms: u64, cores: u32, memory_mb: u64) -> Job {
    Job { id, submit_ms, runtime_ms, cores, memory_mb }
}

const ARCHIVE: &str = "message spark_schema {
    required int64 id; required int64 ts_submit; required binary nfrs (UTF8); required int64 runtime;
    required double resource_amount_requested; required double memory_requested;
}";

fn archive(path: &Path, first_id: i64) {
    let columns = [
        Values::Long((0..4).map(|i| first_id + i).collect()),
        Values::Long(vec![5000, 3000, 3500, 3500]),
        Values::Text(vec!["{}"; 4]),
        Values::Long(vec![1500, 250, 0, -1]),
        Values::Double(vec![4.0, -1.0, 1.0, 1.0]),
        Values::Double(vec![100.5, -1.0, f64::NAN, 1.0]),
    ];
    write(path, ARCHIVE, Compression::SNAPPY, &columns);
}

#[test]
fn tasks_of_the_workflow_trace_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.0.parquet");
    archive(&path, 10);
    let import = import(&path, 0.5).unwrap();
    assert_eq!(import.jobs, [job(11, 0, 250, 1, 0), job(10, 2000, 1500, 4, 101)]);
    assert_eq!((import.skipped.no_runtime, import.bad.count, import.bad.first[0].line_no), (1, 1, 4));
}

#[test]
fn a_folder_is_read_as_one_trace() {
    let folder = tempfile::tempdir().unwrap();
    archive(&folder.path().join("part.0.parquet"), 10);
    archive(&folder.path().join("part.1.parquet"), 20);
    std::fs::write(folder.path().join("_SUCCESS"), "").unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    let options = Options { bad_share_max: 0.5, ..Options::default() };
    let import = read(folder.path(), &options, &mut |p| seen.push(p)).unwrap();
    assert_eq!(import.jobs.iter().map(|j| j.id).collect::<Vec<_>>(), [11, 21, 10, 20]);
    let bad: Vec<u64> = import.bad.first.iter().map(|bad| bad.line_no).collect();
    assert_eq!(bad, [4, 8]);
    assert!(import.bad.first[0].text.contains("id: 13"), "the parts are in the order of their names: {:?}", import.bad);
    let total = seen[0].bytes_total;
    let expected = [total / 2, total, total].map(|bytes_read| Progress { bytes_read, bytes_total: total });
    assert_eq!(seen, expected, "of two parts of the same length");
}

#[test]
fn tasks_of_opendc() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.parquet");
    let schema = "message resource {
        required binary id (UTF8); required int64 submission_time (TIMESTAMP(MILLIS, true)); required int64 duration;
        required int32 cpu_count; required double cpu_capacity; required int64 mem_capacity;
    }";
    let columns = [
        Values::Text(vec!["7", "vm-b"]),
        Values::Long(vec![1_600_000_000_000, 1_600_000_000_250]),
        Values::Long(vec![300_000, 1]),
        Values::Int(vec![2, 0]),
        Values::Double(vec![2000.0, 2000.0]),
        Values::Long(vec![4096, 0]),
    ];
    write(&path, schema, Compression::ZSTD(ZstdLevel::default()), &columns);
    assert_eq!(import(&path, 0.0).unwrap().jobs, [job(7, 0, 300_000, 2, 4096), job(1, 250, 1, 1, 0)]);
}

#[test]
fn times_are_in_their_declared_unit_and_a_run_may_be_told_by_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.parquet");
    let schema = "message schema {
        required int64 start_time (TIMESTAMP(NANOS, true)); optional int64 stop_time (TIMESTAMP(MICROS, true));
    }";
    let start_ns = 1_600_000_000_000_000_000;
    let columns = [
        Values::Long(vec![start_ns, start_ns + 2_000_000, start_ns]),
        Values::Nullable(vec![Some(start_ns / 1000 + 5_000_000), Some(start_ns / 1000 + 3000), None]),
    ];
    write(&path, schema, Compression::UNCOMPRESSED, &columns);
    let import = import(&path, 0.5).unwrap();
    assert_eq!(import.jobs, [job(0, 0, 5000, 1, 0), job(1, 2, 1, 1, 0)]);
    assert_eq!(import.bad.first[0].reason, "no stop time");
}

#[test]
fn other_columns_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    write(&path, "message m { required int64 when; }", Compression::UNCOMPRESSED, &[Values::Long(vec![1])]);
    let error = import(&path, 0.0).unwrap_err().to_string();
    assert!(error.contains("ts_submit") && error.contains("found: when"), "{error}");
    let schema = "message m { required int64 ts_submit (DECIMAL(18,2)); required int64 runtime; }";
    write(&path, schema, Compression::UNCOMPRESSED, &[Values::Long(vec![1]), Values::Long(vec![1])]);
    assert!(matches!(import(&path, 0.0), Err(TraceError::Columns { .. })));
    std::fs::write(&path, "no parquet").unwrap();
    assert!(matches!(import(&path, 0.0), Err(TraceError::Parquet { .. })));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(import(&empty, 0.0), Err(TraceError::UnknownFormat { .. })));
}
