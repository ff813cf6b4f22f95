//! The Standard Workload Format 2.2 of the Parallel Workloads Archive: one job a line, 18 numbers, `;` before comments.
//!
//! Definition: <https://www.cs.huji.ac.il/labs/parallel/workload/swf.html>.

use std::collections::BTreeSet;
use std::io::BufRead;

use crate::bounded::{Line, Lines};
use crate::error::TraceError;
use crate::import::{Collector, Header, Import, Options, Row, Task, cores, memory_mb, runtime_ms, submit_ms};

/// Fields of a line.
const FIELDS: usize = 18;
/// Those that are times or memory, from 1, and may have a fraction; the others are whole numbers.
const WITH_FRACTION: [usize; 8] = [2, 3, 4, 6, 7, 9, 10, 18];

/// One line of a log. −1, and any other negative number, means that it is not known, but for the first two fields.
#[derive(Clone, Debug, PartialEq)]
pub struct SwfJob {
    /// 1: counts from 1.
    pub job: i64,
    /// 2: seconds since the log's start.
    pub submit_s: f64,
    /// 3: from the submission to the start, seconds.
    pub wait_s: Option<f64>,
    /// 4: wall-clock time of the run, seconds.
    pub run_s: Option<f64>,
    /// 5: processors that it had.
    pub used_procs: Option<i64>,
    /// 6: mean CPU time over its processors, seconds.
    pub cpu_s_mean: Option<f64>,
    /// 7: mean memory that it used, kilobytes a processor.
    pub used_memory_kb: Option<f64>,
    /// 8: processors that it asked for.
    pub requested_procs: Option<i64>,
    /// 9: run time (or mean CPU time) that it asked for, seconds.
    pub requested_s: Option<f64>,
    /// 10: memory that it asked for, kilobytes a processor.
    pub requested_memory_kb: Option<f64>,
    /// 11: how it ended.
    pub status: SwfStatus,
    /// 12: user, from 1.
    pub user: Option<i64>,
    /// 13: group, from 1.
    pub group: Option<i64>,
    /// 14: application, from 1.
    pub executable: Option<i64>,
    /// 15: queue; 0 is for interactive jobs.
    pub queue: Option<i64>,
    /// 16: partition, from 1.
    pub partition: Option<i64>,
    /// 17: number of the job that this one waited for.
    pub preceding_job: Option<i64>,
    /// 18: from that job's end to this one's submission, seconds.
    pub think_s: Option<f64>,
}

/// Field 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwfStatus {
    /// 0.
    Failed,
    /// 1.
    Completed,
    /// 2 to 4: this line is one of several runs of a job whose first line is for all of them.
    Partial,
    /// 5: cancelled, before or in its run.
    Cancelled,
    /// Anything else.
    Unknown,
}

impl SwfJob {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it: too few or too many fields, or one that is no finite number.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut numbers = [0.0; FIELDS];
        let mut words = line.split_ascii_whitespace();
        for (i, number) in numbers.iter_mut().enumerate() {
            let word = words.next().ok_or_else(|| format!("{i} fields where {FIELDS} are due"))?;
            let parsed: Option<f64> = word.parse().ok().filter(|x: &f64| x.is_finite());
            *number = parsed.ok_or_else(|| format!("field {} is no number: {word:?}", i + 1))?;
            if number.fract() != 0.0 && !WITH_FRACTION.contains(&(i + 1)) {
                return Err(format!("field {} is no whole number: {word:?}", i + 1));
            }
        }
        if words.next().is_some() {
            return Err(format!("more fields than {FIELDS}"));
        }
        Ok(Self::from_numbers(numbers))
    }

    fn from_numbers(n: [f64; FIELDS]) -> Self {
        let known = |i: usize| (n[i] >= 0.0).then_some(n[i]);
        let number = |i: usize| known(i).map(|x| x as i64);
        Self {
            job: n[0] as i64,
            submit_s: n[1],
            wait_s: known(2),
            run_s: known(3),
            used_procs: number(4),
            cpu_s_mean: known(5),
            used_memory_kb: known(6),
            requested_procs: number(7),
            requested_s: known(8),
            requested_memory_kb: known(9),
            status: status(n[10]),
            user: number(11),
            group: number(12),
            executable: number(13),
            queue: number(14),
            partition: number(15),
            preceding_job: number(16),
            think_s: known(17),
        }
    }

    /// Cores: those it had, or else those it asked for; 0 if neither is known.
    fn cores(&self) -> f64 {
        self.used_procs.or(self.requested_procs).unwrap_or(0) as f64
    }

    /// The job as a task. `summaries` are the jobs that earlier lines told all of.
    fn row(&self, summaries: &mut BTreeSet<i64>) -> Result<Row, String> {
        // some logs have status 2 on jobs of a single line, which are tasks like others
        if self.status == SwfStatus::Partial && summaries.contains(&self.job) {
            return Ok(Row::Partial);
        }
        if self.status != SwfStatus::Partial {
            summaries.insert(self.job);
        }
        let memory_kb = self.used_memory_kb.or(self.requested_memory_kb).unwrap_or(0.0);
        Ok(Row::Task(Task {
            id: Some(self.job),
            submit_ms: submit_ms(self.submit_s)?,
            runtime_ms: runtime_ms(self.run_s.unwrap_or(0.0))?,
            cores: cores(self.cores())?,
            memory_mb: memory_mb(memory_kb * self.cores() / 1024.0)?,
        }))
    }
}

fn status(number: f64) -> SwfStatus {
    match number {
        0.0 => SwfStatus::Failed,
        1.0 => SwfStatus::Completed,
        2.0 | 3.0 | 4.0 => SwfStatus::Partial,
        5.0 => SwfStatus::Cancelled,
        _ => SwfStatus::Unknown,
    }
}

/// `Key: value`, or free text. The colon must end a word, so that an address on a line of its own is text.
fn header(comment: &str) -> Option<Header> {
    let text = comment.trim_start_matches(';').trim();
    if text.is_empty() {
        return None;
    }
    let is_key = |key: &str| key.starts_with(|c: char| c.is_ascii_alphabetic()) && !key.contains(char::is_whitespace);
    let split =
        text.split_once(':').filter(|(key, rest)| is_key(key) && (rest.is_empty() || rest.starts_with([' ', '\t'])));
    Some(match split {
        Some((key, value)) => Header { key: Some(key.to_owned()), value: value.trim().to_owned() },
        None => Header { key: None, value: text.to_owned() },
    })
}

/// Reads a log. A cancelled or failed job that ran counts, as it used the machines; a job without a run time or
/// processors is skipped, as are the single runs of one that has a line for all of them.
pub(crate) fn read(reader: impl BufRead, options: &Options) -> Result<Import, TraceError> {
    let mut collector = Collector::new(options);
    let mut summaries = BTreeSet::new();
    for line in Lines::new(reader) {
        let Line { no, text, is_too_long } = line?;
        let trimmed = text.trim();
        if trimmed.starts_with(';') {
            header(trimmed).into_iter().for_each(|h| collector.header(h));
        } else if !trimmed.is_empty() {
            let job = if is_too_long { Err("the line is too long".into()) } else { SwfJob::parse(trimmed) };
            collector.row(no, || trimmed.to_owned(), job.and_then(|job| job.row(&mut summaries)))?;
        }
    }
    collector.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 10 3 60 4 55 2048 8 3600 4096 5 1 2 3 0 1 6 9";

    #[test]
    fn every_field_is_in_its_place() {
        let job = SwfJob::parse(LINE).unwrap();
        let expected = SwfJob {
            job: 7,
            submit_s: 10.0,
            wait_s: Some(3.0),
            run_s: Some(60.0),
            used_procs: Some(4),
            cpu_s_mean: Some(55.0),
            used_memory_kb: Some(2048.0),
            requested_procs: Some(8),
            requested_s: Some(3600.0),
            requested_memory_kb: Some(4096.0),
            status: SwfStatus::Cancelled,
            user: Some(1),
            group: Some(2),
            executable: Some(3),
            queue: Some(0),
            partition: Some(1),
            preceding_job: Some(6),
            think_s: Some(9.0),
        };
        assert_eq!(job, expected);
    }

    #[test]
    fn minus_one_is_unknown() {
        let job = SwfJob::parse("1 0 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1").unwrap();
        assert_eq!((job.wait_s, job.run_s, job.used_procs, job.think_s), (None, None, None, None));
        assert_eq!((job.status, job.user, job.preceding_job), (SwfStatus::Unknown, None, None));
    }

    #[test]
    fn a_line_of_another_length_or_with_other_than_numbers_is_bad() {
        assert!(SwfJob::parse("1 2 3").unwrap_err().contains("3 fields"));
        assert!(SwfJob::parse(&format!("{LINE} 1")).unwrap_err().contains("more fields"));
        for bad in ["NaN", "inf", "-inf", "x", "1e999"] {
            let error = SwfJob::parse(&LINE.replacen("60", bad, 1)).unwrap_err();
            assert!(error.contains("field 4"), "{error}");
        }
        assert!(SwfJob::parse(&LINE.replacen("60", "60.5", 1)).is_ok());
        assert!(SwfJob::parse(&LINE.replacen("60 4", "60 4.5", 1)).unwrap_err().contains("field 5 is no whole number"));
    }

    #[test]
    fn comments_are_keys_with_values_or_text() {
        let of = |comment| header(comment).map(|h| (h.key, h.value));
        assert_eq!(of("; MaxProcs: 128"), Some((Some("MaxProcs".into()), "128".into())));
        assert_eq!(of(";  Acknowledge:\tA: B"), Some((Some("Acknowledge".into()), "A: B".into())));
        assert_eq!(of(";     http://example.org/log"), Some((None, "http://example.org/log".into())));
        assert_eq!(of("; a text: with a colon"), Some((None, "a text: with a colon".into())));
        assert_eq!(of(";"), None);
    }
}
