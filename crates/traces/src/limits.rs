//! Named bounds of what is read.

/// Longest line or CSV record, bytes: a hundred times the longest of real logs. Bounds the memory of a file that is not
/// text.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most jobs of one import: the twin's ranks are 32-bit.
pub const JOBS_MAX: usize = u32::MAX as usize - 1;
/// Latest absolute submit time, seconds (about the year 33 000): its milliseconds are exact in a double.
pub const SUBMIT_S_MAX: f64 = 1e12;
/// Most header comments that are kept.
pub const HEADERS_MAX: usize = 1000;
/// Bad lines that are kept to be shown.
pub const BAD_SHOWN: usize = 3;
/// Longest part of a bad line that is kept, characters.
pub const BAD_TEXT_CHARS: usize = 120;
/// Bytes of a file from one report of progress to the next.
pub const PROGRESS_BYTES: u64 = 256 * 1024;
