//! What the tables hold of one window of a pool, and the twin of that window.

use std::io::BufRead;
use std::sync::Arc;

use contract::decision::Decision;
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, TaskRecord};
use serde::de::DeserializeOwned;
use twin::{EnvSpec, History, Job, ScenarioError, Workload};

/// A stretch of time, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from_ms: u64,
    /// Its end, excluded.
    pub until_ms: u64,
}

/// Records of one pool that reach into a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The pool's configuration.
    pub config: PoolConfig,
    /// Tasks.
    pub tasks: Vec<TaskRecord>,
    /// Machines.
    pub instances: Vec<InstanceRecord>,
    /// Decisions, in order; may be empty.
    pub decisions: Vec<Decision>,
    /// The window.
    pub window: Window,
}

/// A line of an export that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read line {line}: {problem}")]
pub struct LineError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong, naming the field.
    pub problem: String,
}

/// Reads JSON Lines: one record a line, empty lines allowed.
///
/// # Errors
/// The first line that cannot be read, or is no such record.
pub fn json_lines<T: DeserializeOwned>(reader: impl BufRead) -> Result<Vec<T>, LineError> {
    let mut records = Vec::new();
    for (i, line) in reader.lines().enumerate() {
        let fail = |problem: String| LineError { line: i + 1, problem };
        let line = line.map_err(|e| fail(e.to_string()))?;
        if !line.trim().is_empty() {
            records.push(serde_json::from_str(&line).map_err(|e| fail(e.to_string()))?);
        }
    }
    Ok(records)
}

impl Recorded {
    /// Moves the window's start to the first tick at which the fleet was whole: no size below its minimum and nothing
    /// booting, which is how the twin's episodes begin. Without such a tick the window stays as it is.
    pub fn begun_with_the_fleet(mut self) -> Self {
        let bounds = self.config.bounds();
        let whole = |d: &&Decision| {
            let mut sizes = d.measured().fleet.iter().zip(bounds);
            sizes.all(|(counts, bounds)| counts.booting == 0 && counts.ready >= bounds.min())
        };
        let window = self.window.from_ms..self.window.until_ms;
        let first = self.decisions.iter().filter(|d| window.contains(&(d.tick * 1000))).find(whole);
        self.window.from_ms = first.map_or(self.window.from_ms, |d| d.tick * 1000);
        self
    }

    /// The window's jobs, fleet and boots.
    pub fn history(&self) -> History {
        History::from_records(&self.tasks, &self.instances, self.window.from_ms, self.window.until_ms)
    }

    /// The window as it was, in the twin, and how many tasks were left out of it since they fit on no machine.
    ///
    /// # Errors
    /// If the window does not make a valid twin.
    pub fn twin(&self) -> Result<(Arc<EnvSpec>, usize), ScenarioError> {
        let history = self.history();
        let sizes = &self.config.sizes;
        let initial = std::array::from_fn(|i| history.initial[i].max(sizes[i].bounds.min()));
        let fits = |job: &Job| sizes.iter().any(|s| job.cores <= s.cores && job.memory_mb <= s.memory_mb);
        let (jobs, too_large): (Vec<_>, Vec<_>) = history.jobs.into_iter().partition(fits);
        let workload = Arc::new(Workload::new(jobs));
        let spec = EnvSpec::from_pool(&self.config, vec![workload], history.boots_s, initial)?;
        Ok((Arc::new(spec), too_large.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::builders::{decision, pool_config, task};

    #[test]
    fn json_lines_name_the_line_that_is_broken() {
        let good = serde_json::to_string(&task("p", "a", 5)).unwrap();
        let text = format!("{good}\n\n{{\"pool\":1}}\n");
        assert_eq!(json_lines::<TaskRecord>(good.as_bytes()).unwrap(), [task("p", "a", 5)]);
        let error = json_lines::<TaskRecord>(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, 3);
    }

    #[test]
    fn a_window_begins_when_the_fleet_is_whole() {
        let ready = |tick: u64, counts: [u32; 3]| {
            let mut d = decision("p", tick, contract::Action::Nothing);
            d.observation.fleet = counts.map(|ready| contract::capacity::Counts { ready, booting: 0 });
            d
        };
        let mut config = pool_config("p");
        config.sizes.iter_mut().for_each(|s| s.bounds = contract::capacity::Bounds::new(1, None).unwrap());
        let recorded = Recorded {
            decisions: vec![ready(60, [1, 0, 1]), ready(120, [1, 1, 1]), ready(180, [2, 1, 1])],
            config,
            tasks: Vec::new(),
            instances: Vec::new(),
            window: Window { from_ms: 60_000, until_ms: 600_000 },
        };
        // what happened after the window, as an export may hold it, says nothing of its beginning
        let short = Recorded { window: Window { from_ms: 60_000, until_ms: 120_000 }, ..recorded.clone() };
        assert_eq!(short.begun_with_the_fleet().window.from_ms, 60_000);
        assert_eq!(recorded.begun_with_the_fleet().window.from_ms, 120_000);
    }
}
