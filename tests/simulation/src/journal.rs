//! The event log of one run: every line goes into a hash, and the last ones are kept for people.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::seen::Seen;
use crate::telling;

/// Lines that a failure shows.
const TAIL_LINES: usize = 80;

/// The event log; clones write to the same one. The handlers' own logs go into it, too.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hash: Sha256,
    tail: VecDeque<String>,
    all: Option<Vec<String>>,
    secret: Option<&'static str>,
    leaked: Option<String>,
    heard: Seen,
}

impl Journal {
    /// A log that also keeps every line, for a replay.
    pub fn keeping_all() -> Self {
        let journal = Self::default();
        journal.lock().all = Some(Vec::new());
        journal
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a line with this text in it is remembered as a leak.
    pub fn watch_for(&self, secret: &'static str) {
        self.lock().secret = Some(secret);
    }

    /// The first line in which the secret stood.
    pub fn leaked(&self) -> Option<String> {
        self.lock().leaked.clone()
    }

    /// Adds a line.
    pub fn line(&self, line: impl Into<String>) {
        let line = line.into();
        let mut inner = self.lock();
        inner.hash.update(line.as_bytes());
        inner.hash.update(b"\n");
        if inner.leaked.is_none() && inner.secret.is_some_and(|secret| line.contains(secret)) {
            inner.leaked = Some(line.clone());
        }
        if let Some(all) = &mut inner.all {
            all.push(line.clone());
        }
        if inner.tail.len() == TAIL_LINES {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    /// What the handlers' own logs showed.
    pub fn heard(&self) -> Seen {
        self.lock().heard.clone()
    }

    /// SHA-256 of all lines so far, in hexadecimal.
    pub fn hash(&self) -> String {
        let digest = self.lock().hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.lock().tail.iter().cloned().collect()
    }

    /// All lines, if they were kept.
    pub fn all(&self) -> Vec<String> {
        self.lock().all.clone().unwrap_or_default()
    }
}

/// What the handlers log, as lines of the event log.
impl io::Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        telling::note_log(&text, &mut self.lock().heard);
        self.line(format!("    {}", text.trim_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
