//! How long a tick waits for what it can do without.

use std::time::Duration;

use contract::manifest::Pointer;
use controller::ports::{Kind, PolicyStore, Port, PortError};
use tokio::time::{Instant, timeout_at};

/// From the tick's beginning, time for all that it can do without; the function has 30 seconds in all, of which the
/// decision's write may take twelve.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A moment after which nothing is waited for. What is there at once, as what lies in memory, is had even then.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }

    /// The answer, or an error once the deadline has passed.
    ///
    /// # Errors
    /// Those of the call, and a time-out.
    pub async fn wait<T>(self, operation: &'static str, call: impl Future<Output = Port<T>>) -> Port<T> {
        timeout_at(self.at, call).await.unwrap_or_else(|_| {
            let message = format!("no whole answer in {:?}", self.after);
            Err(PortError { operation, code: "Timeout".into(), message, kind: Kind::Unavailable })
        })
    }

    /// A store of policies that answers before this deadline. A policy takes several calls, several are tried, and each
    /// call may take seconds: one deadline for each of them would be none for the tick.
    pub fn over<P>(self, store: &P) -> InTime<'_, P> {
        InTime { store, deadline: self }
    }
}

/// A store of policies whose every answer comes before a deadline or is an error.
#[derive(Clone, Copy, Debug)]
pub struct InTime<'a, P> {
    store: &'a P,
    deadline: Deadline,
}

impl<P: PolicyStore> PolicyStore for InTime<'_, P> {
    async fn pointer(&self, pool: &str) -> Port<Option<(Pointer, String)>> {
        self.deadline.wait("pointer", self.store.pointer(pool)).await
    }

    async fn manifest(&self, sha256: &str) -> Port<Vec<u8>> {
        self.deadline.wait("manifest", self.store.manifest(sha256)).await
    }

    async fn file(&self, sha256: &str, name: &str, bytes_max: usize) -> Port<Vec<u8>> {
        self.deadline.wait("file", self.store.file(sha256, name, bytes_max)).await
    }
}
