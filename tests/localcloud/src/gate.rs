//! The gate in front of EC2: a proxy that adds what no emulator has.
//!
//! - Client tokens: `RunInstances` with a token seen before gets the stored answer, `IdempotentParameterMismatch` when
//!   its parameters differ, `IdempotentInstanceTerminated` when that machine is gone.
//! - Faults, when told to: no capacity, throttling, delays, cut connections. See [`Fault`].
//! - Counts: how often each action was called.
//!
//! It is told in process through its handle, or over HTTP: `POST /_gate/faults` with a fault as JSON,
//! `DELETE /_gate/faults`, `GET /_gate/calls`.

mod fault;
mod forward;
mod launches;
mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fault::{Fault, FaultKind};
use fault::{Faults, Target};
use forward::Upstream;
use launches::Launches;

use crate::Error;

/// A running gate. It stops when dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    state: Mutex<State>,
    /// One launch at a time, so that two with the same token cannot both reach EC2.
    launches: tokio::sync::Mutex<Launches>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    calls: BTreeMap<String, u64>,
    /// Instance type of each launch template, by name and by id.
    template_types: BTreeMap<String, String>,
}

impl Gate {
    /// Starts a gate on a free port of loopback, in front of `upstream`, for example `http://127.0.0.1:5555`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(upstream: &str) -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::io("open a port for the EC2 gate"))?;
        let address = listener.local_addr().map_err(Error::io("open a port for the EC2 gate"))?;
        let shared = Arc::new(Shared {
            upstream: Upstream::new(upstream),
            state: Mutex::default(),
            launches: tokio::sync::Mutex::default(),
        });
        let server = tokio::spawn(serve::run(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Its address, for `AWS_ENDPOINT_URL_EC2`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a fault; it holds until used up or cleared.
    pub fn inject(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
    }

    /// Clears all faults.
    pub fn clear(&self) {
        self.shared.state().faults.clear();
    }

    /// How often an action was called, those a fault answered included.
    pub fn calls(&self, action: &str) -> u64 {
        self.shared.state().calls.get(action).copied().unwrap_or(0)
    }

    /// All counts, by action.
    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        self.shared.state().calls.clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    /// Counts the call and gives the faults that hit it.
    fn enter(&mut self, action: &str, params: &BTreeMap<String, String>) -> Vec<FaultKind> {
        *self.calls.entry(action.to_owned()).or_default() += 1;
        let template = ["LaunchTemplate.LaunchTemplateName", "LaunchTemplate.LaunchTemplateId"]
            .iter()
            .find_map(|name| params.get(*name));
        let instance_type =
            params.get("InstanceType").or_else(|| template.and_then(|name| self.template_types.get(name)));
        let target = Target { action, instance_type: instance_type.cloned(), template: template.cloned() };
        self.faults.hit(&target)
    }
}

#[cfg(test)]
mod tests;
