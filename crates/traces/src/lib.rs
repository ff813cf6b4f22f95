//! Workloads of others: logs and traces of batch systems, read into the twin's jobs.
//!
//! [`read()`] reads a file and [`read_from`] a stream, in any [`Format`]: Standard Workload Format ([`swf`]), CSV
//! ([`table`]), JSON Lines ([`jsonl`]), and Parquet with the feature `parquet`; text may be gzipped. What a trace says that
//! cannot be used is counted, and refused if it is more than a share ([`Options`]). [`fit()`] makes tasks that are wider
//! than the largest machine fit, or refuses them.
//!
//! There is no clock and no network; files are read where a path is given.

mod bounded;
mod error;
pub mod fit;
pub mod import;
pub mod jsonl;
pub mod limits;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod read;
pub mod swf;
pub mod table;

pub use error::TraceError;
pub use fit::{Fitted, Width, fit};
pub use import::{BadLine, BadLines, Header, Import, Options, Skipped};
pub use read::{Format, Progress, read, read_from};
