//! Both functions' binaries: from their start to the first event asked for, the first tick, the ticks after, memory, size.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::DeflateEncoder;
use serde_json::{Value, json};

use crate::Failure;
use crate::cloud::{BUCKET, Cloud, Done, POOL};
use crate::inside::Files;
use crate::runtime::Runtime;
use crate::stats::{Samples, head, time};

/// Cold starts of each function.
const STARTS: usize = 20;
/// Ticks of one process: as many to warm up, without latency, and with it.
const TICKS: usize = 200;
/// An answer's latency in the second half, as it is in one region at worst.
const LATENCY: Duration = Duration::from_millis(20);
/// The core that the functions get for themselves.
const CORE: &str = "0";

/// A function at work.
struct Function {
    child: Child,
    runtime: Runtime,
    cloud: Arc<Cloud>,
    /// Seconds from the start of the program to its first request for an event.
    init_s: f64,
}

/// Many invocations.
struct Many {
    samples: Samples,
    /// Processor time of all of them, seconds.
    cpu_s: f64,
    done: Done,
}

/// Ends with its measurement.
impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Function {
    /// Starts a binary on its core and waits until it is ready.
    fn start(binary: &Path, files: &Files) -> Result<Self, Failure> {
        let runtime = Runtime::start()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 60 * 60;
        let (cloud, address) = Cloud::start(files, now - 60 * (3 * TICKS as u64 + 10))?;
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(binary).env_clear();
        for (name, value) in [
            ("PATH", "/usr/bin:/bin"),
            ("AWS_LAMBDA_RUNTIME_API", &runtime.address.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "g"),
            ("AWS_ENDPOINT_URL", &format!("http://{address}")),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("TASKS_TABLE", "tasks"),
            ("INSTANCES_TABLE", "instances"),
            ("DECISIONS_TABLE", "decisions"),
            ("CONTROL_TABLE", "control"),
            ("POLICY_BUCKET", BUCKET),
            ("STACK_NAME", testkit::builders::STACK),
            ("TWINSCALER_POLICY_KEYS", &files.key.public().to_string()),
        ] {
            command.env(name, value);
        }
        let begun = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut function = Self { child, runtime, cloud, init_s: 0.0 };
        function.init_s = function.runtime.ready()?.duration_since(begun).as_secs_f64();
        Ok(function)
    }

    /// One tick or reconciliation; seconds, and the answer.
    fn tick(&self) -> Result<(f64, Value), Failure> {
        let tick = self.cloud.tick.fetch_add(60, Ordering::Relaxed) + 60;
        let at = jiff::Timestamp::from_second(tick as i64)?;
        let answered = self.runtime.invoke(json!({"pool": POOL, "scheduled_time": at.to_string()}).to_string())?;
        self.runtime.ready()?;
        Ok((answered.seconds, serde_json::from_str(&answered.body)?))
    }

    /// Many of them.
    fn many(&self) -> Result<Many, Failure> {
        *self.cloud.done.lock().expect("nothing panics with it") = Done::default();
        let cpu_s = self.cpu_s()?;
        let seconds = (0..TICKS).map(|_| Ok(self.tick()?.0)).collect::<Result<_, Failure>>()?;
        let done = *self.cloud.done.lock().expect("nothing panics with it");
        Ok(Many { samples: Samples::of(seconds), cpu_s: self.cpu_s()? - cpu_s, done })
    }

    /// Seconds of processor time that it has used, all threads together.
    fn cpu_s(&self) -> Result<f64, Failure> {
        let mut ns = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            ns += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(ns as f64 / 1e9)
    }

    /// The most memory that it ever held, MiB.
    fn memory_mib(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

/// Measures and prints.
pub fn measure(files: &Files, binaries: &Path) -> Result<(), Failure> {
    for name in ["evaluator", "executor"] {
        function(name, files, &binaries.join(name))?;
    }
    Ok(())
}

fn function(name: &str, files: &Files, binary: &Path) -> Result<(), Failure> {
    head(&format!("{name}, {STARTS} starts"));
    cold(name, files, binary)?;
    let function = Function::start(binary, files)?;
    // as many decisions as a tick looks back on, and all connections that it needs
    function.many()?;
    head(&format!("{name}, {TICKS} invocations of one process"));
    let quick = function.many()?;
    quick.samples.tell("warm, AWS answers at once");
    decided_by_policy(name, &function.tick()?.1)?;
    function.cloud.latency_us.store(LATENCY.as_micros() as u64, Ordering::Relaxed);
    let slow = function.many()?;
    slow.samples.tell(&format!("warm, each of AWS's answers takes {}", time(LATENCY.as_secs_f64())));
    let Done { calls, waited_s, units } = slow.done;
    let latency_s = waited_s / calls as f64;
    let rounds = ((slow.samples.median() - quick.samples.median()) / latency_s).round();
    let per_tick = |all: f64| all / TICKS as f64;
    println!("  calls {:.1}, one after another {rounds}", per_tick(calls as f64));
    println!("  beyond their latency {}", time(slow.samples.median() - rounds * latency_s));
    println!("  processor time {}", time(per_tick(quick.cpu_s)));
    println!("  read units {:.1}, write units {:.1}", per_tick(units.read), per_tick(units.written));
    println!("  most memory {:.1} MiB", function.memory_mib()?);
    let (bytes, zipped) = sizes(binary)?;
    println!("  binary {:.1} MB, zipped {:.1} MB", bytes as f64 / 1e6, zipped as f64 / 1e6);
    Ok(())
}

/// Starts it again and again.
fn cold(name: &str, files: &Files, binary: &Path) -> Result<(), Failure> {
    let (mut inits, mut firsts, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let function = Function::start(binary, files)?;
        let (first_s, answer) = function.tick()?;
        decided_by_policy(name, &answer)?;
        inits.push(function.init_s);
        firsts.push(first_s);
        both.push(function.init_s + first_s);
    }
    Samples::of(inits).tell("from exec to the first event asked for");
    Samples::of(firsts).tell("the first invocation");
    Samples::of(both).tell("both");
    Ok(())
}

/// A function that only fails is quick too.
fn decided_by_policy(name: &str, answer: &Value) -> Result<(), Failure> {
    let policy = answer["decision"]["policy"].as_str().unwrap_or_default();
    match name {
        "evaluator" if policy.len() != 64 => Err(format!("the policy did not decide: {answer}").into()),
        _ => Ok(()),
    }
}

/// Bytes of a file, and of its deflated form, which is what a zip holds.
fn sizes(binary: &Path) -> Result<(u64, u64), Failure> {
    let file = std::fs::File::open(binary)?;
    let bytes = file.metadata()?.len();
    let mut zipped = Vec::new();
    DeflateEncoder::new(file, Compression::default()).read_to_end(&mut zipped)?;
    Ok((bytes, zipped.len() as u64))
}
