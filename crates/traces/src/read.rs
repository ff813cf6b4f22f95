//! Opening a trace: its format, gzip, and progress.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::TraceError;
use crate::import::{Import, Options};
use crate::limits::PROGRESS_BYTES;
use crate::{jsonl, swf, table};

/// The first two bytes of any gzip member (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 64 * 1024;

/// What a trace is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Standard Workload Format: [`crate::swf`].
    Swf,
    /// CSV with a header row: [`crate::table`].
    Csv,
    /// An object a line: [`crate::jsonl`].
    JsonLines,
    /// Tasks of the Workflow Trace Archive or of OpenDC, with the feature `parquet`.
    Parquet,
}

impl Format {
    /// The format that a file's name tells, `.gz` at its end left out.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "swf" => Some(Self::Swf),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// How far a file has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read, of the compressed file if it is compressed.
    pub bytes_read: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
}

/// Reads the trace at `path`, and calls `progress` now and then and at the end. Of Parquet the path may also be a folder,
/// of whose files that end in `.parquet` all are read.
///
/// # Errors
/// See [`TraceError`].
pub fn read(path: &Path, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Import, TraceError> {
    let of_name = || if path.is_dir() { Some(Format::Parquet) } else { Format::of_name(path) };
    let format = options.format.or_else(of_name).ok_or_else(|| TraceError::UnknownFormat { path: path.to_owned() })?;
    if format == Format::Parquet {
        return read_parquet(path, options, progress);
    }
    let open = |source| TraceError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(open)?;
    let bytes_total = file.metadata().map_err(open)?.len();
    let import = read_from(
        Counted { inner: file, bytes_read: 0, reported: 0, bytes_total, progress: &mut *progress },
        format,
        options,
    )?;
    progress(Progress { bytes_read: bytes_total, bytes_total });
    Ok(import)
}

#[cfg(feature = "parquet")]
fn read_parquet(path: &Path, options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Import, TraceError> {
    crate::parquet::read(path, options, progress)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(_: &Path, _: &Options, _: &mut dyn FnMut(Progress)) -> Result<Import, TraceError> {
    Err(TraceError::NoParquet)
}

/// Reads a trace in `format` from `reader`, gzipped (in any number of members) or not. [`Options::format`] is not looked at.
///
/// # Errors
/// See [`TraceError`]. Parquet needs a path.
pub fn read_from(reader: impl Read, format: Format, options: &Options) -> Result<Import, TraceError> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    // a buffer may be filled by less than two bytes at a time only by unusual readers; then it is taken for text
    if reader.fill_buf()?.starts_with(&GZIP_MAGIC) {
        let text = BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(reader));
        return read_text(text, format, options);
    }
    read_text(reader, format, options)
}

fn read_text(reader: impl BufRead, format: Format, options: &Options) -> Result<Import, TraceError> {
    match format {
        Format::Swf => swf::read(reader, options),
        Format::Csv => table::read(reader, options),
        Format::JsonLines => jsonl::read(reader, options),
        Format::Parquet => Err(TraceError::ParquetFromStream),
    }
}

/// Tells how much has been read through it.
struct Counted<'a, R> {
    inner: R,
    bytes_read: u64,
    reported: u64,
    bytes_total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes_read += n as u64;
        if self.bytes_read - self.reported >= PROGRESS_BYTES {
            self.reported = self.bytes_read;
            (self.progress)(Progress { bytes_read: self.bytes_read, bytes_total: self.bytes_total });
        }
        Ok(n)
    }
}
