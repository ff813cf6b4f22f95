//! One candidate of a run: trained, or found where it was left.

use std::io;

use burn::tensor::Device;
use contract::limits::POLICY_BYTES_MAX;
use controller::ports::{Port, Runs};
use tokio::runtime::Handle;

use super::windows::Windows;
use super::{ImproveError, Incumbent, Request};
use crate::commands::train::watched;
use crate::ppo::state::State;
use crate::ppo::train::Start;
use crate::ppo::weights::Weights;
use crate::watch::Log;

/// The state of a candidate that is being trained, and the candidate, within its run.
fn names(index: u32) -> (String, String) {
    (format!("{index}/state"), format!("{index}/checkpoint"))
}

/// A candidate that the run has already.
pub(super) async fn kept<R: Runs>(store: &R, run: &str, index: u32) -> Result<Option<Weights>, ImproveError> {
    let bytes = store.run_file(run, &names(index).1, POLICY_BYTES_MAX).await?;
    Ok(bytes.map(|bytes| Weights::from_checkpoint(&bytes)).transpose()?)
}

/// Trains a candidate: from where the run was, or from the policy in charge, or from a clone of the best rules.
pub(super) async fn trained<R: Runs>(
    store: &R,
    request: &Request,
    index: u32,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
    device: &Device,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Weights, ImproveError> {
    let (run, (state, checkpoint)) = (request.run(), names(index));
    if let Some(weights) = kept(store, &run, index).await? {
        return Ok(weights);
    }
    let start = start(store.run_file(&run, &state, 4 * POLICY_BYTES_MAX).await?, incumbent)?;
    let courses = windows.learned();
    let log = log(request, index)?;
    let runtime = Handle::current();
    let keep = |bytes: Vec<u8>| runtime.block_on(store.put_run_file(&run, &state, bytes)).map_err(io::Error::other);
    let trained = tokio::task::block_in_place(|| {
        watched(&courses, start, request.settings_of(index), device, log.keeping(keep), stopped)
    })?;
    if stopped() {
        return Err(ImproveError::Stopped(request.until()));
    }
    put(store, &run, &checkpoint, &trained.best).await?;
    Ok(trained.best)
}

async fn put<R: Runs>(store: &R, run: &str, name: &str, weights: &Weights) -> Port<()> {
    store.put_run_file(run, name, weights.to_checkpoint()).await
}

fn start(state: Option<Vec<u8>>, incumbent: Option<&Incumbent>) -> Result<Start, ImproveError> {
    if let Some(bytes) = state {
        return Ok(Start::Resume(Box::new(State::from_bytes(&bytes)?)));
    }
    Ok(incumbent.and_then(|i| i.weights.clone()).map_or(Start::Fresh, Start::Weights))
}

fn log(request: &Request, index: u32) -> io::Result<Log<'static>> {
    let steps = request.settings_of(index).0.steps;
    match &request.logs {
        Some(dir) => Log::files(steps, &dir.join(index.to_string()), true),
        None => Ok(Log::bar(steps)),
    }
}
