//! One child process of the local cloud: spawn, wait until ready, log, kill.
//!
//! Each runs in a process group of its own, and so do the children it starts (ministack's functions): the whole group
//! is killed when the [`Service`] is dropped. A shell in front of it, the leash, does the same when this process dies
//! without dropping anything: it holds the other end of a pipe, and the pipe's end is the signal.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use crate::Error;

/// Reads the pipe until its end, then kills its own process group; meanwhile runs the command.
const LEASH: &str = r#"
exec 3<&0 </dev/null
{ cat <&3 >/dev/null; kill -KILL 0; } &
exec 3<&-
"$@"
"#;

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 25;

/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(50);

/// What to run.
pub struct Program {
    /// Its name, in errors and of its log.
    pub name: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables on top of the inherited environment.
    pub env: Vec<(String, OsString)>,
    /// The working directory, its own to litter.
    pub dir: PathBuf,
}

/// A running process group. Killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts the program with its output in `<log_dir>/<name>.log`.
    ///
    /// # Errors
    /// If the log or the process cannot be made.
    pub fn spawn(program: &Program, log_dir: &Path) -> Result<Self, Error> {
        let log = log_dir.join(format!("{}.log", program.name));
        let out = File::create(&log).map_err(Error::io(format!("write {}", log.display())))?;
        let err = out.try_clone().map_err(Error::io("share the log"))?;
        let mut command = Command::new("/bin/sh");
        // The user's own AWS profile must never reach a part, nor a function that inherits its environment.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["-c", LEASH, "leash"])
            .arg(&program.path)
            .args(&program.args)
            .envs(program.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&program.dir)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", program.path.display())))?;
        Ok(Self { name: program.name, child, log })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// If the process ends first or the time is over; with the end of its log.
    pub async fn wait_ready(&mut self, limit: Duration, ready: impl AsyncFn() -> bool) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("it ended with {status}")));
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failed(format!("it was not ready after {} s", limit.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the process has ended well.
    ///
    /// # Errors
    /// If it failed or the time is over; with the end of its log.
    pub async fn wait_done(mut self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.failed(format!("it ended with {status}"))),
                _ => tokio::time::sleep(POLL).await,
            }
        }
        Err(self.failed(format!("it was not done after {} s", limit.as_secs())))
    }

    /// The id of its process group.
    pub fn group(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn failed(&self, reason: String) -> Error {
        Error::Part { part: self.name, reason, log: self.log.clone(), tail: tail(&self.log) }
    }

    /// Kills the group and waits for its leader.
    fn kill(&mut self) {
        // The group outlives its leader, so it is killed even when the leader has ended.
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Free ports on loopback, all different. Another process may take one before it is used; that part then fails to
/// start and says so.
///
/// # Errors
/// If there is no free port.
pub fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("find a free port"))?;
        *port = listener.local_addr().map_err(Error::io("find a free port"))?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process_group;

    fn shell(name: &'static str, script: &str, dir: &Path) -> Program {
        let args = vec!["-c".into(), script.into()];
        Program { name, path: "/bin/sh".into(), args, env: Vec::new(), dir: dir.into() }
    }

    /// True once no process of the group is left (a killed one may take a moment to be reaped by init).
    async fn gone(group: u32) -> bool {
        let group = Pid::from_raw(i32::try_from(group).unwrap()).unwrap();
        for _ in 0..1200 {
            if test_kill_process_group(group).is_err() {
                return true;
            }
            tokio::time::sleep(POLL).await;
        }
        false
    }

    #[tokio::test]
    async fn dropping_kills_the_whole_group_grandchildren_too() {
        let dir = tempfile::tempdir().unwrap();
        let script = "sleep 600 & sleep 600 & echo up; wait";
        let mut service = Service::spawn(&shell("family", script, dir.path()), dir.path()).unwrap();
        let log = service.log().to_path_buf();
        service.wait_ready(Duration::from_secs(60), async || tail(&log).contains("up")).await.unwrap();
        let group = service.group();

        drop(service);
        assert!(gone(group).await, "a process of the group is still there");
    }

    #[tokio::test]
    async fn the_leash_kills_the_group_when_the_pipe_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = Service::spawn(&shell("leashed", "sleep 600", dir.path()), dir.path()).unwrap();

        // What happens when this process is killed: the pipe closes, nothing is dropped.
        drop(service.child.stdin.take());
        assert!(gone_after_reaping(&mut service).await, "the leash let the process live");
    }

    async fn gone_after_reaping(service: &mut Service) -> bool {
        for _ in 0..1200 {
            if service.child.try_wait().unwrap().is_some() {
                return gone(service.group()).await;
            }
            tokio::time::sleep(POLL).await;
        }
        false
    }

    #[tokio::test]
    async fn a_part_that_ends_is_an_error_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = Service::spawn(&shell("brief", "echo port in use; exit 3", dir.path()), dir.path()).unwrap();

        let error = service.wait_ready(Duration::from_secs(60), async || false).await.unwrap_err().to_string();
        assert!(error.starts_with("start brief: it ended with exit status: 3; the end of its log, "), "{error}");
        assert!(error.ends_with("brief.log:\nport in use"), "{error}");
    }

    #[tokio::test]
    async fn a_part_that_never_gets_ready_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = Service::spawn(&shell("slow", "sleep 600", dir.path()), dir.path()).unwrap();

        let error = service.wait_ready(Duration::from_millis(100), async || false).await.unwrap_err().to_string();
        assert!(error.contains("it was not ready after 0 s"), "{error}");
    }

    #[test]
    fn free_ports_are_different() {
        let mut ports = free_ports::<20>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
