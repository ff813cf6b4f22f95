//! What an import gives, and what every format has in common: checks, counts, and times that begin at zero.

use twin::Job;
use twin::limits::{MEMORY_MB_MAX, TIME_S_MAX};
use twin::units::ms_from_s;

use crate::error::TraceError;
use crate::limits::{BAD_SHOWN, BAD_TEXT_CHARS, HEADERS_MAX, JOBS_MAX, SUBMIT_S_MAX};
use crate::read::Format;

/// How to import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The format; none means that the file's name tells.
    pub format: Option<Format>,
    /// Share of the lines that may be bad, from 0 to 1.
    pub bad_share_max: f64,
    /// Most jobs; at most [`JOBS_MAX`].
    pub jobs_max: usize,
}

impl Default for Options {
    /// By the name, one line in a hundred, as many as the twin can hold.
    fn default() -> Self {
        Self { format: None, bad_share_max: 0.01, jobs_max: JOBS_MAX }
    }
}

/// A workload from a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// The jobs, in the order of service; the first is submitted at 0. An id is the trace's own where that is an integer,
    /// else the task's place in the trace, from 0; it orders jobs and need not be unique (those of [`crate::fit()`] are).
    pub jobs: Vec<Job>,
    /// Lines or rows that are neither jobs nor skipped.
    pub bad: BadLines,
    /// Tasks that are left out.
    pub skipped: Skipped,
    /// Comments at the head of the trace, in its order: the acknowledgement is among them.
    pub headers: Vec<Header>,
}

impl Import {
    /// The first header of that key, whatever its case.
    pub fn header(&self, key: &str) -> Option<&str> {
        let found = self.headers.iter().find(|h| h.key.as_deref().is_some_and(|k| k.eq_ignore_ascii_case(key)));
        found.map(|h| h.value.as_str())
    }
}

/// One comment line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What comes before the colon; none for free text, which may go on from the line before.
    pub key: Option<String>,
    /// The rest.
    pub value: String,
}

/// Lines that say nothing usable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadLines {
    /// How many.
    pub count: u64,
    /// The first [`BAD_SHOWN`] of them.
    pub first: Vec<BadLine>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1; of a Parquet file, the row's.
    pub line_no: u64,
    /// The first [`BAD_TEXT_CHARS`] characters of it.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadLines {
    /// The first ones, for a message.
    pub fn in_words(&self) -> String {
        let shown = self.first.iter().map(|b| format!("line {} ({}): {:?}", b.line_no, b.reason, b.text));
        shown.collect::<Vec<_>>().join("; ")
    }

    fn add(&mut self, line_no: u64, text: &str, reason: String) {
        self.count += 1;
        if self.first.len() < BAD_SHOWN {
            self.first.push(BadLine { line_no, text: text.chars().take(BAD_TEXT_CHARS).collect(), reason });
        }
    }
}

/// Tasks that are left out though nothing is wrong with their lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Those that did not run, or of which it is not known how long.
    pub no_runtime: u64,
    /// Those without cores, or of which it is not known how many.
    pub no_cores: u64,
    /// Lines of a log for one of several runs of a task, whose summary has a line of its own.
    pub partial: u64,
}

impl Skipped {
    /// All of them.
    pub fn total(self) -> u64 {
        self.no_runtime + self.no_cores + self.partial
    }
}

/// A task as a trace tells of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Task {
    /// The trace's own number; none means the place in the trace.
    pub id: Option<i64>,
    /// On the trace's clock, milliseconds.
    pub submit_ms: u64,
    /// 0 if it did not run or that is not known, milliseconds.
    pub runtime_ms: u64,
    /// 0 if that is not known.
    pub cores: u32,
    /// 0 if that is not known.
    pub memory_mb: u64,
}

/// What one line says.
pub(crate) enum Row {
    Task(Task),
    /// One of several runs of a task.
    Partial,
}

/// Milliseconds of a submit time, seconds.
pub(crate) fn submit_ms(s: f64) -> Result<u64, String> {
    within(s, SUBMIT_S_MAX, "the submit time").map(ms_from_s)
}

/// Milliseconds of a run time, seconds. Never 0 for more than 0.
pub(crate) fn runtime_ms(s: f64) -> Result<u64, String> {
    let s = within(s, TIME_S_MAX, "the run time")?;
    Ok(if s > 0.0 { ms_from_s(s).max(1) } else { 0 })
}

/// Whole cores, a part of one counting as one.
pub(crate) fn cores(n: f64) -> Result<u32, String> {
    within(n, f64::from(u32::MAX), "the number of cores").map(|n| n.ceil() as u32)
}

/// Whole megabytes, a part of one counting as one.
pub(crate) fn memory_mb(mb: f64) -> Result<u64, String> {
    within(mb, MEMORY_MB_MAX as f64, "the memory").map(|mb| mb.ceil() as u64)
}

/// NaN and infinities are never within.
fn within(x: f64, max: f64, what: &str) -> Result<f64, String> {
    if (0.0..=max).contains(&x) { Ok(x) } else { Err(format!("{what} {x} is not between 0 and {max:e}")) }
}

/// Gathers rows into an import.
pub(crate) struct Collector<'a> {
    options: &'a Options,
    import: Import,
    tasks: u64,
}

impl<'a> Collector<'a> {
    pub fn new(options: &'a Options) -> Self {
        Self { options, import: Import::default(), tasks: 0 }
    }

    pub fn header(&mut self, header: Header) {
        if self.import.headers.len() < HEADERS_MAX {
            self.import.headers.push(header);
        }
    }

    /// Adds what line `line_no`, with that text, says.
    pub fn row(
        &mut self,
        line_no: u64,
        text: impl FnOnce() -> String,
        row: Result<Row, String>,
    ) -> Result<(), TraceError> {
        match row {
            Ok(Row::Task(task)) => return self.task(task),
            Ok(Row::Partial) => self.import.skipped.partial += 1,
            Err(reason) => self.import.bad.add(line_no, &text(), reason),
        }
        Ok(())
    }

    fn task(&mut self, task: Task) -> Result<(), TraceError> {
        let place = self.tasks as i64;
        self.tasks += 1;
        if task.runtime_ms == 0 {
            self.import.skipped.no_runtime += 1;
        } else if task.cores == 0 {
            self.import.skipped.no_cores += 1;
        } else {
            let Task { id, submit_ms, runtime_ms, cores, memory_mb } = task;
            let max = self.options.jobs_max.min(JOBS_MAX);
            if self.import.jobs.len() >= max {
                return Err(TraceError::TooManyJobs { max });
            }
            self.import.jobs.push(Job { id: id.unwrap_or(place), submit_ms, runtime_ms, cores, memory_mb });
        }
        Ok(())
    }

    /// The import, if enough of the trace is usable.
    pub fn finish(self) -> Result<Import, TraceError> {
        let Self { options, mut import, .. } = self;
        let rows = import.bad.count + import.skipped.total() + import.jobs.len() as u64;
        if import.bad.count as f64 > options.bad_share_max * rows as f64 {
            return Err(TraceError::TooManyBad { bad: import.bad, rows, share_max: options.bad_share_max });
        }
        start_at_zero(&mut import.jobs)?;
        if import.jobs.is_empty() {
            return Err(TraceError::Empty { skipped: import.skipped.total(), bad: import.bad.count });
        }
        Ok(import)
    }
}

/// Sorts jobs into the order of service, of equal ones the earlier in the trace first, and shifts them to begin at 0.
fn start_at_zero(jobs: &mut [Job]) -> Result<(), TraceError> {
    jobs.sort_by_key(|job| (job.submit_ms, job.id));
    let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else { return Ok(()) };
    let first_ms = first.submit_ms;
    let span_s = twin::units::s_from_ms(last.submit_ms - first_ms);
    if span_s > TIME_S_MAX {
        return Err(TraceError::Span { span_s });
    }
    jobs.iter_mut().for_each(|job| job.submit_ms -= first_ms);
    Ok(())
}
