//! `improve` as a process, with candidates in processes of their own: none of them outlives it, and none is begun in vain.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than it takes to begin.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longer than it takes to end when asked to; a call to AWS that nobody ends gives up after twelve seconds.
const SOON: Duration = Duration::from_secs(8);

/// The command in a process group of its own, with AWS at `place` and a store in a directory.
fn improve(place: SocketAddr, store: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinscaler"));
    command.args(["improve", "--pool", "p", "--device", "cpu", "--store"]).arg(store.path()).args(arguments);
    command.env("AWS_ENDPOINT_URL", format!("http://{place}")).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret").env_remove("AWS_PROFILE");
    for name in ["TASKS_TABLE", "INSTANCES_TABLE", "DECISIONS_TABLE", "CONTROL_TABLE", "POLICY_BUCKET"] {
        command.env(name, "none");
    }
    command.process_group(0).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// An AWS that takes calls and never answers; it hands each connection on, to be held.
fn silent_cloud() -> (SocketAddr, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (place, (calls, receiver)) = (listener.local_addr().unwrap(), channel());
    std::thread::spawn(move || listener.incoming().flatten().try_for_each(|call| calls.send(call)));
    (place, receiver)
}

/// Begins eight candidates, two at a time, and waits until AWS was called twice.
fn begun(store: &tempfile::TempDir) -> (Child, Vec<TcpStream>, Receiver<TcpStream>) {
    let (place, calls) = silent_cloud();
    let parent = improve(place, store, &["--population", "8", "--processes", "2"]).spawn().unwrap();
    let held = (0..2).map(|_| calls.recv_timeout(PATIENCE).expect("a candidate's process calls AWS")).collect();
    (parent, held, calls)
}

/// `kill` of the shell, which can name a group; whether there was anybody.
fn signal(signal: &str, target: i64) -> bool {
    let kill = format!("kill -s {signal} -- {target} 2>/dev/null");
    Command::new("sh").args(["-c", &kill]).status().unwrap().success()
}

/// Waits until nobody of a process group is left.
fn is_gone(group: u32) -> bool {
    let began = Instant::now();
    while signal("0", -i64::from(group)) {
        if began.elapsed() > SOON {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_ends_the_candidates_before_the_command_and_begins_no_other() {
    let store = tempfile::tempdir().unwrap();
    let (parent, held, calls) = begun(&store);
    let (group, began) = (parent.id(), Instant::now());
    assert!(signal("TERM", i64::from(group)), "the parent alone");
    let output = parent.wait_with_output().unwrap();
    assert!(began.elapsed() < SOON, "its candidates did not wait for AWS");
    assert!(!signal("0", -i64::from(group)), "nobody outlives it");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("it goes on where it was"), "{}", text(&output));
    // both calls may be of one candidate, and the other one may be asked to end before it says what it trains on
    let begun = text(&output).matches("training on the CPU").count();
    assert!((2..=3).contains(&begun), "the command and two candidates: {begun}");
    drop((held, calls));
}

#[test]
fn the_candidates_of_a_command_that_was_killed_end_too() {
    let store = tempfile::tempdir().unwrap();
    let (mut parent, held, calls) = begun(&store);
    assert!(signal("0", -i64::from(parent.id())), "all of them are there");
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(is_gone(parent.id()), "nobody outlives it for long");
    drop((held, calls));
}

#[test]
fn after_a_candidate_has_failed_no_other_is_begun() {
    let store = tempfile::tempdir().unwrap();
    // nobody listens there
    let place = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = improve(place, &store, &["--population", "8", "--processes", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("train a candidate in a process of its own"), "{}", text(&output));
    let begun = text(&output).matches("training on the CPU").count();
    assert!((2..=3).contains(&begun), "{begun} processes: {}", text(&output));
}

#[test]
fn an_index_of_an_array_job_comes_from_aws_batch() {
    let store = tempfile::tempdir().unwrap();
    let place = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut command = improve(place, &store, &["--population", "4"]);
    let output = command.env("AWS_BATCH_JOB_ARRAY_INDEX", "4").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("--index 4 is not below --population 4"), "{}", text(&output));
}
