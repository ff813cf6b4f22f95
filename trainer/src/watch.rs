//! What a training run leaves for people to look at: a bar, JSON Lines, TensorBoard's event files, and checkpoints.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ppo::train::{Progress, Snapshot};

/// The file with a line for every update.
pub const LINES: &str = "progress.jsonl";
/// The file to go on from.
pub const STATE: &str = "state";
/// What the names of TensorBoard's event files begin with.
const EVENTS: &str = "events.out.tfevents.";

/// Says what is going on and for how long, on standard error and only if that is a terminal.
pub fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a valid template");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The scalars of one update under the names that tools for reinforcement learning use.
fn scalars(progress: &Progress, steps_per_s: f64) -> Vec<(&'static str, f64)> {
    let losses = &progress.losses;
    let always = [
        ("charts/learning_rate", progress.learning_rate),
        ("charts/SPS", steps_per_s),
        ("losses/total_loss", f64::from(losses.total)),
        ("losses/policy_loss", f64::from(losses.policy)),
        ("losses/value_loss", f64::from(losses.value)),
        ("losses/entropy", f64::from(losses.entropy)),
        ("losses/approx_kl", f64::from(losses.kl)),
        ("losses/clipfrac", f64::from(losses.clipped)),
        ("losses/grad_norm", f64::from(losses.grad_norm)),
        ("losses/explained_variance", progress.explained_variance),
    ];
    let sometimes = [
        ("charts/episodic_return", progress.episode_reward),
        ("charts/episodic_length", progress.episode_steps),
        ("charts/evaluation_return", progress.evaluation),
        ("charts/best_return", progress.best),
    ];
    sometimes.into_iter().filter_map(|(name, value)| Some((name, value?))).chain(always).collect()
}

/// Takes a state to where it is kept.
type Keep<'a> = Box<dyn FnMut(Vec<u8>) -> io::Result<()> + 'a>;

/// Where a run is followed.
pub struct Log<'a> {
    bar: ProgressBar,
    is_scaled: bool,
    is_paired: bool,
    files: Option<Files>,
    keep: Option<Keep<'a>>,
    kept: Option<Instant>,
    began: Option<(Instant, u64)>,
}

/// How long a run goes on at most without its state being kept.
const KEEP_EVERY: Duration = Duration::from_secs(60);

impl<'a> Log<'a> {
    /// A bar alone, on standard error and only if that is a terminal.
    pub fn bar(steps: u64) -> Self {
        let template = "{msg} {wide_bar} {pos}/{len} steps {per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::new(steps).with_style(style).with_message("training");
        Self { bar, is_scaled: false, is_paired: false, files: None, keep: None, kept: None, began: None }
    }

    /// A bar, and files in this directory; `goes_on` keeps the lines that are there of the steps before.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn files(steps: u64, dir: &Path, goes_on: bool) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { files: Some(Files { dir: dir.to_owned(), goes_on, open: None }), ..Self::bar(steps) })
    }

    /// The same for a run that learns so many workloads together, from what it wastes or (paired) how much less than a teacher.
    pub fn over(self, workloads: usize, is_paired: bool) -> Self {
        Self { is_scaled: workloads > 1, is_paired, ..self }
    }

    /// The same, and the state to go on from is given to `keep` after the first update and each evaluation, every minute, and
    /// at the end.
    pub fn keeping<'b>(self, keep: impl FnMut(Vec<u8>) -> io::Result<()> + 'b) -> Log<'b> {
        let Self { bar, is_scaled, is_paired, files, kept, began, .. } = self;
        Log { keep: Some(Box::new(keep)), bar, is_scaled, is_paired, files, kept, began }
    }

    /// One update; `is_last` if the run is about to be stopped.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn update(&mut self, progress: &Progress, snapshot: &Snapshot, is_last: bool) -> io::Result<()> {
        // the first update only starts the clock: before it lie the teacher and, in a run that goes on, the steps of before
        let (began, from) = *self.began.get_or_insert_with(|| (Instant::now(), progress.steps));
        let steps_per_s = (progress.steps - from) as f64 / began.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_position(progress.steps.min(progress.steps_total));
        if let Some(message) = message(progress, self.is_scaled, self.is_paired) {
            self.bar.set_message(message);
        }
        if let Some(files) = &mut self.files {
            files.add(progress.steps, &scalars(progress, steps_per_s))?;
        }
        let is_due =
            is_last || progress.evaluation.is_some() || self.kept.is_none_or(|kept| kept.elapsed() >= KEEP_EVERY);
        if let Some(keep) = self.keep.as_mut().filter(|_| is_due || progress.steps >= progress.steps_total) {
            keep(snapshot.state().to_bytes())?;
            self.kept = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What the bar says. Of several workloads only the evaluations are comparable, and their dollars are scaled to what is at stake in
/// each. What is learned from rewards less a teacher's is no cost of an episode.
fn message(progress: &Progress, is_scaled: bool, is_paired: bool) -> Option<String> {
    let best = -progress.best?;
    if is_scaled {
        return Some(format!("training, best {best:.3} scaled dollars"));
    }
    let cost = progress.episode_reward.filter(|_| !is_paired);
    let now = cost.map_or(String::new(), |now| format!(", now ${:.3}", -now));
    Some(format!("training, best ${best:.3}{now}"))
}

/// A run's files to look at. They are opened at its first update: a run that fails before that leaves an earlier one's as they
/// are.
struct Files {
    dir: PathBuf,
    goes_on: bool,
    open: Option<(BufWriter<File>, Events)>,
}

impl Files {
    fn add(&mut self, steps: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let (lines, events) = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.dir, self.goes_on, steps)?),
        };
        line(lines, steps, scalars)?;
        events.scalars(steps, scalars)
    }
}

/// Opens the files of a run whose first update ends with step `first`.
fn open(dir: &Path, goes_on: bool, first: u64) -> io::Result<(BufWriter<File>, Events)> {
    let earlier = if goes_on { lines_before(dir, first)? } else { String::new() };
    if !goes_on {
        remove_events(dir)?;
    }
    let path = dir.join(LINES);
    replace(&path, earlier.as_bytes())?;
    Ok((BufWriter::new(File::options().append(true).open(path)?), Events::create(dir, first)?))
}

/// The lines of the steps before. A run that was killed has others after them, of updates that came after its last state, and
/// the last of them may be torn.
fn lines_before(dir: &Path, steps: u64) -> io::Result<String> {
    let text = lines(dir)?;
    let is_before = |line: &&str| line.ends_with('\n') && Point::of(line).is_some_and(|point| point.steps < steps);
    Ok(text.split_inclusive('\n').take_while(is_before).collect())
}

/// The lines of a run's updates; none if there are none yet.
fn lines(dir: &Path) -> io::Result<String> {
    match std::fs::read(dir.join(LINES)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    }
}

/// Removes the event files of an earlier run: TensorBoard would draw them into this one's curves.
fn remove_events(dir: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(EVENTS) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// A point of a run's curves.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Point {
    /// Environment steps done.
    #[serde(rename = "global_step")]
    pub steps: u64,
    /// Mean total reward of the training episodes that ended before it, dollars.
    #[serde(rename = "charts/episodic_return")]
    pub episode_reward: Option<f64>,
    /// Mean total reward at an evaluation, dollars.
    #[serde(rename = "charts/evaluation_return")]
    pub evaluation: Option<f64>,
}

impl Point {
    fn of(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The curves of the run in this directory, whatever number of processes it took.
    ///
    /// # Errors
    /// If its lines cannot be read.
    pub fn all(dir: &Path) -> io::Result<Vec<Self>> {
        Ok(lines(dir)?.lines().map_while(Self::of).collect())
    }
}

/// Writes a file so that whoever reads it finds the old one or the new one, even if this program is killed.
///
/// # Errors
/// If it cannot be written; the old one is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[derive(Serialize)]
struct Line {
    global_step: u64,
    #[serde(flatten)]
    scalars: Map<String, Value>,
}

fn line(out: &mut impl Write, steps: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
    let scalars = scalars.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    serde_json::to_writer(&mut *out, &Line { global_step: steps, scalars })?;
    out.write_all(b"\n")?;
    out.flush()
}

/// TensorBoard's event file: TFRecords of `tensorflow.Event` messages, of which scalars need five fields.
struct Events {
    out: BufWriter<File>,
}

impl Events {
    /// A file whose first event comes with step `first`. What event files of before say of steps from there on counts no more:
    /// they are of a run that was killed after its last state.
    fn create(dir: &Path, first: u64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{EVENTS}{:010}.twinscaler.{}", now.as_secs(), now.subsec_nanos());
        let mut events = Self { out: BufWriter::new(File::create(dir.join(name))?) };
        // Event.file_version, field 3
        events.event(0, &bytes_field(3, b"brain.Event:2"))?;
        // Event.session_log, field 7, whose status, field 1, is START
        events.event(first, &bytes_field(7, &[1 << 3, 1]))?;
        Ok(events)
    }

    fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        // Summary.value, field 1 of Event.summary, field 5; Value.tag is field 1, Value.simple_value field 2
        let value = |(tag, value): &(&str, f64)| {
            let number = [&[(2 << 3) | 5][..], &(*value as f32).to_le_bytes()].concat();
            bytes_field(1, &[bytes_field(1, tag.as_bytes()), number].concat())
        };
        let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
        self.event(step, &bytes_field(5, &summary))?;
        self.out.flush()
    }

    fn event(&mut self, step: u64, what: &[u8]) -> io::Result<()> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let time = [&[(1 << 3) | 1][..], &now_s.to_le_bytes()].concat();
        let step = [vec![2 << 3], varint(step)].concat();
        record(&mut self.out, &[time.as_slice(), &step, what].concat())
    }
}

/// A field of a protocol buffer that holds bytes, text or a message.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[(number << 3) | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut x: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while x >= 0x80 {
        bytes.push(x as u8 | 0x80);
        x >>= 7;
    }
    bytes.push(x as u8);
    bytes
}

/// One TFRecord: length, its masked checksum, data, their masked checksum.
fn record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes();
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&[&length[..], &masked(&length), data, &masked(data)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_by_hand() {
        assert_eq!(varint(1), [1]);
        assert_eq!(varint(300), [0b1010_1100, 0b10]);
    }

    /// The bytes that TensorBoard's own writer makes of an empty event file header at time 0 have this shape.
    #[test]
    fn a_record_has_its_length_and_two_checksums() {
        let mut out = Vec::new();
        record(&mut out, b"123456789").unwrap();
        assert_eq!(out[..8], 9u64.to_le_bytes());
        // CRC-32C of "123456789" is 0xE3069283 (RFC 3720, appendix B.4 has the polynomial's test vectors)
        // turned right by 15 bits, plus 0xA282EAD8
        let masked: u32 = 0xC78A_B0E5;
        assert_eq!(out[21..], masked.to_le_bytes());
        assert_eq!(out.len(), 8 + 4 + 9 + 4);
    }

    fn progress(steps: u64, best: f64, evaluation: Option<f64>) -> Progress {
        Progress {
            steps,
            steps_total: 1000,
            episode_reward: Some(-21.5),
            episode_steps: Some(196.0),
            evaluation,
            best: Some(best),
            learning_rate: 1e-3,
            explained_variance: 0.5,
            losses: Default::default(),
        }
    }

    #[test]
    fn scalars_have_the_names_that_tools_know() {
        let names: Vec<_> = scalars(&progress(1, -19.0, Some(-20.0)), 1.0).into_iter().map(|(name, _)| name).collect();
        let charts = ["episodic_return", "episodic_length", "evaluation_return", "best_return", "learning_rate", "SPS"];
        let losses = ["total_loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clipfrac", "grad_norm"];
        let charts = charts.map(|name| format!("charts/{name}"));
        let losses = losses.map(|name| format!("losses/{name}"));
        assert_eq!(names, [&charts[..], &losses, &["losses/explained_variance".to_owned()]].concat());
    }

    #[test]
    fn only_the_dollars_of_a_single_workload_are_called_dollars() {
        let progress = progress(1, -19.25, None);
        assert_eq!(message(&progress, false, false).unwrap(), "training, best $19.250, now $21.500");
        assert_eq!(message(&progress, false, true).unwrap(), "training, best $19.250");
        assert_eq!(message(&progress, true, false).unwrap(), "training, best 19.250 scaled dollars");
        assert_eq!(message(&Progress { best: None, ..progress }, true, false), None);
        let (one, two) = (Log::bar(1).over(1, true), Log::bar(1).over(2, false));
        assert_eq!((one.is_scaled, one.is_paired, two.is_scaled, two.is_paired), (false, true, true, false));
    }

    #[test]
    fn a_run_that_goes_on_keeps_the_lines_of_the_steps_before_and_a_new_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let run = |goes_on: bool, steps: &[u64]| {
            let mut files = Files { dir: dir.path().to_owned(), goes_on, open: None };
            for &steps in steps {
                files.add(steps, &scalars(&progress(steps, -19.0, Some(-20.0)), 1.0)).unwrap();
            }
            Point::all(dir.path()).unwrap().iter().map(|point| point.steps).collect::<Vec<_>>()
        };
        assert_eq!(run(false, &[10, 20, 30]), [10, 20, 30]);
        assert_eq!(run(true, &[30, 40]), [10, 20, 30, 40], "it was killed after a state of 20 steps");
        let path = dir.path().join(LINES);
        let torn = std::fs::read_to_string(&path).unwrap() + "{\"global_step\":50,\"cha";
        std::fs::write(&path, torn).unwrap();
        assert_eq!(run(true, &[50]), [10, 20, 30, 40, 50]);
        let events = || std::fs::read_dir(dir.path()).unwrap().count() - 1;
        assert_eq!(events(), 3);
        assert_eq!(run(false, &[25]), [25]);
        assert_eq!(events(), 1);
        let point = Point { steps: 25, episode_reward: Some(-21.5), evaluation: Some(-20.0) };
        assert_eq!(Point::all(dir.path()).unwrap(), [point]);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
