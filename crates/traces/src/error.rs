//! What can go wrong with a trace.

use std::io;
use std::path::PathBuf;

use crate::import::BadLines;

/// Why a trace was not imported. The messages name the mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("open {}; check that it is there and readable", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read to its end, or is no valid gzip.
    #[error("read the trace; check that the file is whole, and if it is compressed that it is gzip")]
    Read(#[from] io::Error),
    /// Neither the name nor the options say what format it is.
    #[error(
        "tell the format of {}: give it, or let the name end in .swf, .csv, .jsonl, .ndjson or .parquet \
         (of text, with .gz or without)", .path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// It is Parquet, and this build cannot read it.
    #[error("read Parquet with this build; build with the feature `parquet` (cargo build --features parquet)")]
    NoParquet,
    /// Parquet has its index at the end, so that a stream will not do.
    #[error("read Parquet from a stream; give the path of a file")]
    ParquetFromStream,
    /// The Parquet file is broken or of an unusual kind.
    #[error("read {} as Parquet", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The columns are not those of a workload.
    #[error("use the columns: {problem}")]
    Columns {
        /// What is missing or given twice, and what would do.
        problem: String,
    },
    /// A CSV record does not end.
    #[error(
        "read the CSV record at line {line_no}: it is longer than {} bytes; close its quotes, or check that the file \
         is CSV",
        crate::limits::LINE_BYTES_MAX
    )]
    LongRecord {
        /// Where it begins, from 1.
        line_no: u64,
    },
    /// More of it is unusable than is allowed.
    #[error(
        "use the trace: {} of {rows} lines are bad, and a share of {share_max} may be; {}; mend them, or allow a larger \
         share of bad lines", .bad.count, .bad.in_words()
    )]
    TooManyBad {
        /// The bad lines.
        bad: BadLines,
        /// Lines in all, comments and empty ones left out.
        rows: u64,
        /// The share that is allowed.
        share_max: f64,
    },
    /// More jobs than the twin can hold, or than the options allow.
    #[error("hold more than {max} tasks; cut the trace into parts")]
    TooManyJobs {
        /// Most jobs.
        max: usize,
    },
    /// Times that are far apart, as of two clocks.
    #[error(
        "use submit times {span_s:.0} s apart, more than {:e} s; give all of them on one clock",
        twin::limits::TIME_S_MAX
    )]
    Span {
        /// From the first to the last, seconds.
        span_s: f64,
    },
    /// Nothing to run.
    #[error(
        "find a task to run in the trace: {skipped} were skipped for having no run time or no cores, {bad} lines were bad"
    )]
    Empty {
        /// Tasks skipped.
        skipped: u64,
        /// Bad lines.
        bad: u64,
    },
    /// Tasks that fit on no machine, where that is refused.
    #[error(
        "place {count} tasks: no machine type holds them, the first of them task {id} with {cores} cores and {memory_mb} \
         MB; give a larger machine type, or split wide tasks (--wide split)"
    )]
    TooWide {
        /// How many.
        count: usize,
        /// The first one's number in the trace.
        id: i64,
        /// Its cores.
        cores: u32,
        /// Its memory.
        memory_mb: u64,
    },
    /// Tasks that fit on no machine even one core at a time.
    #[error(
        "split {count} tasks: not even one core's part of them fits on a machine type, the first of them task {id} with \
         {cores} cores and {memory_mb} MB; give a machine type with more memory"
    )]
    Unsplittable {
        /// How many.
        count: usize,
        /// The first one's number in the trace.
        id: i64,
        /// Its cores.
        cores: u32,
        /// Its memory.
        memory_mb: u64,
    },
}
