//! Reads what the tables hold of a window of a pool, or the same from an export.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use calibration::recorded::{LineError, json_lines};
use calibration::{Recorded, Window};
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;
use controller::ports::{Control, Decisions, Instances, Port, Tasks};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::pool::{PoolFileError, read_config};

/// How far before the window tasks and launches are looked for that reach into it; machines that are older are found by their end.
const LOOK_BACK_MS: u64 = 24 * 3_600_000;

/// The outside world of the commands that learn from history.
pub struct Ports<T, I, D, C, P> {
    /// The task table.
    pub tasks: T,
    /// The machines' records.
    pub instances: I,
    /// The decision log.
    pub decisions: D,
    /// The configuration.
    pub control: C,
    /// The policies.
    pub policies: P,
}

/// Why an export cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The pool's configuration.
    #[error(transparent)]
    Config(#[from] PoolFileError),
    /// A file.
    #[error("{what} {path}")]
    Io {
        /// Read or write.
        what: &'static str,
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of a file.
    #[error("use {path}")]
    Line {
        /// Which file.
        path: String,
        /// Which line, and what is wrong with it.
        source: LineError,
    },
    /// The export holds no time.
    #[error("use the export in {0}: it has no tasks")]
    Empty(String),
}

/// The records of a pool that reach into a window, and its configuration.
///
/// # Errors
/// If a table cannot be read.
pub async fn read<T, I, D, C, P>(ports: &Ports<T, I, D, C, P>, pool: &str, window: Window) -> Port<Recorded>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
{
    let Window { from_ms, until_ms } = window;
    let earlier_ms = from_ms.saturating_sub(LOOK_BACK_MS);
    let config = ports.control.config(pool).await?;
    let mut tasks = ports.tasks.submitted(pool, earlier_ms, until_ms).await?;
    tasks.retain(|t| t.finished_ms.is_none_or(|finished_ms| finished_ms > from_ms));
    let instances = machines(&ports.instances, pool, (earlier_ms, from_ms, until_ms)).await?;
    let decisions = ports.decisions.range(pool, from_ms / 1000, until_ms.div_ceil(1000)).await?;
    Ok(Recorded { config, tasks, instances, decisions, window })
}

/// The machines that ran in a window: those launched since `earlier_ms`, and of older ones those that are alive or ended since
/// the window began. One that both indexes show has ended.
async fn machines<I: Instances>(
    instances: &I,
    pool: &str,
    (earlier_ms, from_ms, until_ms): (u64, u64, u64),
) -> Port<Vec<InstanceRecord>> {
    let mut found = instances.launched(pool, earlier_ms, until_ms).await?;
    // in this order: a machine that ends between the two reads is in both, and not in neither
    let alive = instances.alive(pool).await?;
    let mut older = alive;
    // day by day, so that a window long ago is not more than a read may hold
    let mut at_ms = from_ms;
    while at_ms < until_ms.max(now_ms()) {
        let ended = instances.ended(pool, at_ms, at_ms + LOOK_BACK_MS - 1).await?;
        older.extend(ended);
        at_ms += LOOK_BACK_MS;
    }
    let older = older.into_iter().filter(|i| i.launched_ms < earlier_ms);
    let once: BTreeMap<_, _> = older.map(|i| ((i.launched_ms, i.instance_id.clone()), i)).collect();
    found.extend(once.into_values());
    found.retain(|i| i.terminated_ms.is_none_or(|terminated_ms| terminated_ms > from_ms));
    Ok(found)
}

/// The time, Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// The files of an export, in its directory.
const CONFIG: &str = "config.json";
const TASKS: &str = "tasks.jsonl";
const INSTANCES: &str = "instances.jsonl";
const DECISIONS: &str = "decisions.jsonl";

/// Writes records into a directory, which is made if it is not there: the configuration, and a record a line.
///
/// # Errors
/// If a file cannot be written.
pub fn export(recorded: &Recorded, dir: &Path) -> Result<(), ExportError> {
    std::fs::create_dir_all(dir).map_err(io("write", dir))?;
    let config = dir.join(CONFIG);
    let json = serde_json::to_string_pretty(&recorded.config).expect("a configuration is plain data");
    std::fs::write(&config, json).map_err(io("write", &config))?;
    write_lines(&dir.join(TASKS), &recorded.tasks)?;
    write_lines(&dir.join(INSTANCES), &recorded.instances)?;
    write_lines(&dir.join(DECISIONS), &recorded.decisions)
}

fn write_lines<T: Serialize>(path: &Path, records: &[T]) -> Result<(), ExportError> {
    let write = || {
        let mut file = std::io::BufWriter::new(File::create(path)?);
        for record in records {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(io("write", path))
}

/// Reads an export. Decisions may be missing: then the machines' records say what was done. The window is from the first
/// submission to the last time that any record names.
///
/// # Errors
/// If a file is missing or broken, or there are no tasks.
pub fn import(dir: &Path) -> Result<Recorded, ExportError> {
    let config: PoolConfig = read_config(&dir.join(CONFIG))?;
    let tasks: Vec<contract::record::TaskRecord> = read_lines(&dir.join(TASKS))?;
    let instances: Vec<contract::record::InstanceRecord> = read_lines(&dir.join(INSTANCES))?;
    let path = dir.join(DECISIONS);
    let mut decisions: Vec<contract::decision::Decision> = if path.exists() { read_lines(&path)? } else { Vec::new() };
    decisions.sort_by_key(|d| d.tick);
    let first_ms = tasks.iter().map(|t| t.submitted_ms).min();
    let from_ms = first_ms.ok_or_else(|| ExportError::Empty(dir.display().to_string()))?;
    let times = tasks.iter().flat_map(|t| [Some(t.submitted_ms), t.started_ms, t.finished_ms]);
    let last_ms = times.flatten().max().unwrap_or(from_ms);
    // the twin's steps begin at full ticks
    let tick_ms = (config.tick_s * 1000).max(1);
    let window = Window { from_ms: from_ms / tick_ms * tick_ms, until_ms: last_ms.div_ceil(tick_ms) * tick_ms };
    Ok(Recorded { config, tasks, instances, decisions, window })
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ExportError> {
    let file = File::open(path).map_err(io("read", path))?;
    json_lines(BufReader::new(file)).map_err(|source| ExportError::Line { path: path.display().to_string(), source })
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    let path = path.display().to_string();
    move |source| ExportError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::World;
    use testkit::builders::{decision, instance, pool_config, task};

    #[tokio::test]
    async fn every_machine_that_ran_in_a_window_is_found_however_old_it_is() {
        const HOUR_MS: u64 = 3_600_000;
        const UNTIL_MS: u64 = 100 * HOUR_MS;
        let window = Window { from_ms: UNTIL_MS - 6 * HOUR_MS, until_ms: UNTIL_MS };
        let world = World::with_pool(&pool_config("p"));
        for (id, launched_h, ended_h) in [
            ("young", 97, None),
            ("ended-young", 95, Some(96)),
            ("old", 10, None),
            ("ended-old", 10, Some(98)),
            ("ended-old-after-it", 10, Some(101)),
            ("ended-before-it", 80, Some(93)),
            ("ended-old-before-it", 10, Some(93)),
            ("launched-after-it", 100, None),
        ] {
            let mut machine = instance("p", id, 0, launched_h * HOUR_MS);
            machine.terminated_ms = ended_h.map(|h: u64| h * HOUR_MS);
            Instances::put_new(&world, &machine).await.unwrap();
        }
        let world = || world.clone();
        let ports =
            Ports { tasks: world(), instances: world(), decisions: world(), control: world(), policies: world() };
        let recorded = read(&ports, "p", window).await.unwrap();
        let mut found: Vec<&str> = recorded.instances.iter().map(|i| i.instance_id.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, ["ended-old", "ended-old-after-it", "ended-young", "old", "young"]);
    }

    #[test]
    fn an_export_reads_back_as_it_was_and_a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = vec![task("p", "a", 60_000), task("p", "b", 130_000)];
        let recorded = Recorded {
            config: pool_config("p"),
            tasks,
            instances: vec![instance("p", "i-1", 0, 5)],
            decisions: vec![decision("p", 60, contract::Action::Nothing)],
            window: Window { from_ms: 60_000, until_ms: 180_000 },
        };
        export(&recorded, dir.path()).unwrap();
        assert_eq!(import(dir.path()).unwrap(), recorded);
        std::fs::write(dir.path().join(TASKS), "{}\n").unwrap();
        let error = import(dir.path()).unwrap_err();
        assert!(error.to_string().contains("tasks.jsonl"), "{error}");
        std::fs::write(dir.path().join(TASKS), "").unwrap();
        assert!(import(dir.path()).unwrap_err().to_string().contains("no tasks"));
    }
}
