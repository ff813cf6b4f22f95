//! Candidates trained in processes of their own.
//!
//! A child lives as long as its standard input is open. The parent closes it to ask the child to stop, and the system does so
//! when the parent is gone in whatever way, so that no child outlives it. A signal would not do: Ctrl-C reaches parent and
//! children alike, and a second signal makes a child give up what it has.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often somebody looks whether it is to stop, or whether a child has ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the processes ended.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// All of them well.
    Well,
    /// They were asked to stop.
    Stopped,
}

/// Runs the commands, so many at once. Once it is asked to stop or one of them fails, it starts no other, asks those that run
/// to stop, and waits for them.
pub(super) fn run(commands: impl Iterator<Item = Command>, at_once: usize, stop: &AtomicBool) -> io::Result<Ended> {
    let mut running = Vec::new();
    let ended = follow(commands, at_once, &mut running, stop);
    for child in &mut running {
        drop(child.stdin.take());
    }
    for child in &mut running {
        child.wait()?;
    }
    ended
}

fn follow(
    mut commands: impl Iterator<Item = Command>,
    at_once: usize,
    running: &mut Vec<Child>,
    stop: &AtomicBool,
) -> io::Result<Ended> {
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(Ended::Stopped);
        }
        take_away_ended(running)?;
        while running.len() < at_once
            && let Some(mut command) = commands.next()
        {
            running.push(command.stdin(Stdio::piped()).spawn()?);
        }
        if running.is_empty() {
            return Ok(Ended::Well);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Takes away those that have ended well.
fn take_away_ended(running: &mut Vec<Child>) -> io::Result<()> {
    let mut i = 0;
    while i < running.len() {
        match running[i].try_wait()? {
            Some(status) if status.success() => drop(running.swap_remove(i)),
            Some(status) => return Err(io::Error::other(format!("it ended with {status}"))),
            None => i += 1,
        }
    }
    Ok(())
}

/// Sets `stop` once this process's own standard input is closed: what a child does.
pub(super) fn stop_when_closed(stop: &'static AtomicBool) {
    std::thread::spawn(move || {
        // an input that cannot be read is as good as closed
        let _read = io::copy(&mut io::stdin(), &mut io::sink());
        stop.store(true, Ordering::Relaxed);
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A shell that says in `dir` that it began, and does the rest.
    fn shell(dir: &Path, i: usize, rest: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("touch began-{i}; {rest}")]).current_dir(dir);
        command
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_of_them_run_and_no_more_than_so_many_at_once() {
        let dir = tempfile::tempdir().unwrap();
        // each fails if it finds three others at work
        let work = "mkdir at-work-$$; set -- at-work-*; sleep 0.1; rmdir at-work-$$; test $# -lt 3";
        let commands = (0..6).map(|i| shell(dir.path(), i, work));
        assert_eq!(run(commands, 2, &AtomicBool::new(false)).unwrap(), Ended::Well);
        assert_eq!(files(dir.path()).len(), 6);
    }

    #[test]
    fn after_a_failure_none_is_started_and_those_that_run_end_in_peace() {
        let dir = tempfile::tempdir().unwrap();
        let commands = (0..8).map(|i| {
            let rest = if i == 1 { "exit 3".to_owned() } else { format!("cat; touch ended-{i}") };
            shell(dir.path(), i, &rest)
        });
        let error = run(commands, 2, &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert_eq!(files(dir.path()), ["began-0", "began-1", "ended-0"]);
    }

    #[test]
    fn when_it_is_asked_to_stop_its_children_end_before_it_does() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let dir = tempfile::tempdir().unwrap();
        let commands = (0..8).map(|i| shell(dir.path(), i, &format!("cat; sleep 0.2; touch ended-{i}")));
        let path = dir.path().to_owned();
        let asks = std::thread::spawn(move || {
            while files(&path).len() < 2 {
                std::thread::sleep(LOOK_EVERY);
            }
            STOP.store(true, Ordering::Relaxed);
        });
        assert_eq!(run(commands, 2, &STOP).unwrap(), Ended::Stopped);
        asks.join().unwrap();
        assert_eq!(files(dir.path()), ["began-0", "began-1", "ended-0", "ended-1"]);
    }
}
