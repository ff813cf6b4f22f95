//! The program as it is started, and the signals that end it.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const SETTINGS: &str = include_str!("worlds/small.toml");

/// A run that is killed when its test is over, however that ends.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.kill().expect("a child can be killed, or is gone");
    }
}

/// A run of so many steps into `out`.
fn start(dir: &Path, steps: &str, options: &[&str]) -> Run {
    start_by(Command::new(env!("CARGO_BIN_EXE_twinscaler")), dir, steps, options)
}

/// The same where no file may grow beyond so many blocks of 512 bytes: writes fail, as on a disk that is full.
fn start_on_a_full_disk(dir: &Path, blocks: &str, steps: &str, options: &[&str]) -> Run {
    let mut shell = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    shell.args(["-c", script, "sh", blocks, env!("CARGO_BIN_EXE_twinscaler")]);
    start_by(shell, dir, steps, options)
}

fn start_by(mut command: Command, dir: &Path, steps: &str, options: &[&str]) -> Run {
    let config = dir.join("small.toml");
    std::fs::write(&config, SETTINGS).unwrap();
    command.args(["train", "--workload", "paper", "--exact", "--device", "cpu", "--steps", steps]).args(options);
    command.arg("--config").arg(config).arg("--out").arg(dir.join("out"));
    Run(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

/// The exit code, and what was said on standard error.
fn end(mut run: Run) -> (Option<i32>, String) {
    let mut said = String::new();
    run.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (run.0.wait().unwrap().code(), said)
}

fn interrupt(run: &Run) {
    kill_process(Pid::from_child(&run.0), Signal::INT).unwrap();
}

fn steps(dir: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join("out/progress.jsonl")).unwrap_or_default();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["global_step"].as_u64();
    text.lines().filter_map(step).collect()
}

/// Waits until the run has written its state and gone on for a while.
fn wait_for_updates(dir: &Path) {
    let began = Instant::now();
    while !dir.join("out/state").exists() || steps(dir).len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(300), "the run learns");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_ends_a_run_that_learns_with_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let run = start(dir.path(), "100000000", &[]);
    wait_for_updates(dir.path());
    interrupt(&run);
    let (code, said) = end(run);
    assert!(code == Some(0) && said.contains("ending with what there is"), "{code:?} {said}");
    let out = dir.path().join("out");
    assert!(out.join("policy.onnx").exists() && out.join("state").exists(), "it can be gone on with");
    // and whoever forgets --resume is told so, before anything is tuned
    let (code, said) = end(start(dir.path(), "4096", &[]));
    assert!(code == Some(2) && said.contains("--resume") && !said.contains("tuning"), "{code:?} {said}");
}

#[test]
fn ctrl_c_while_the_rules_are_tuned_ends_the_program_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), "4096", &[]);
    let mut said = BufReader::new(run.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("tuning the rules") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it tunes the rules");
    }
    interrupt(&run);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("nothing was written") && !dir.path().join("out").exists(), "{rest}");
}

#[test]
fn a_run_that_was_killed_goes_on_with_every_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), "65536", &[]);
    wait_for_updates(dir.path());
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    assert!(*steps(dir.path()).last().unwrap() < 65_536, "it was killed in mid-run");
    let (code, said) = end(start(dir.path(), "65536", &["--resume"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(steps(dir.path()), (1..=256).map(|k| 256 * k).collect::<Vec<u64>>());
    assert!(!dir.path().join("out/state").exists(), "it is finished");
}

#[test]
fn a_disk_that_is_full_is_named_and_costs_nothing_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = start(dir.path(), "65536", &[]);
    wait_for_updates(dir.path());
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let state = dir.path().join("out/state");
    let before = std::fs::read(&state).unwrap();
    let blocks = (before.len() / 512 - 1).to_string();
    let (code, said) = end(start_on_a_full_disk(dir.path(), &blocks, "65536", &["--resume"]));
    let named = format!("use the directory {}", dir.path().join("out").display());
    assert!(code == Some(1) && said.contains("File too large") && said.contains(&named), "{code:?} {said}");
    assert_eq!(std::fs::read(&state).unwrap(), before, "the state that could be written last");
    let (code, said) = end(start(dir.path(), "65536", &["--resume"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(steps(dir.path()), (1..=256).map(|k| 256 * k).collect::<Vec<u64>>());
}
