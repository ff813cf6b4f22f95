//! One candidate of a run: trained, or found where it was left.

use std::io;

use burn::tensor::Device;
use contract::limits::POLICY_BYTES_MAX;
use controller::ports::{PortError, Runs};
use tokio::runtime::Handle;

use super::windows::Windows;
use super::{ImproveError, Incumbent, Request};
use crate::commands::train::watched;
use crate::course::Course;
use crate::learn::better_start;
use crate::ppo::TrainError;
use crate::ppo::config::PpoConfig;
use crate::ppo::state::State;
use crate::ppo::train::{Progress, Start};
use crate::ppo::weights::Weights;
use crate::watch::Log;

/// Larger curves are not ours: an evaluation is a line of some tens of bytes, and a run has about a hundred.
const CURVE_BYTES_MAX: usize = 1 << 20;
/// A hash in hexadecimal.
const SHA256_BYTES: usize = 64;

/// A candidate.
pub(super) struct Candidate {
    /// Its number in the run.
    pub index: u32,
    pub weights: Weights,
    /// The hash of the policy that it learned on from; none if that was a clone of the rules.
    pub parent: Option<String>,
    /// Steps, and what an episode of the evaluation after them cost; empty if it was not kept.
    pub curve: Vec<(f64, f64)>,
}

/// A file of a candidate within its run.
struct Name(u32);

impl Name {
    /// Where it is while it is trained.
    fn state(&self) -> String {
        format!("{}/state", self.0)
    }

    /// The hash of the policy that it learns on from; empty if that is a clone of the rules.
    fn parent(&self) -> String {
        format!("{}/parent", self.0)
    }

    fn curve(&self) -> String {
        format!("{}/curve.json", self.0)
    }

    /// The candidate itself, written last.
    fn checkpoint(&self) -> String {
        format!("{}/checkpoint", self.0)
    }
}

/// A candidate that the run has already.
pub(super) async fn kept<R: Runs>(store: &R, run: &str, index: u32) -> Result<Option<Candidate>, ImproveError> {
    let name = Name(index);
    let Some(bytes) = store.run_file(run, &name.checkpoint(), POLICY_BYTES_MAX).await? else { return Ok(None) };
    let weights = Weights::from_checkpoint(&bytes)?;
    let curve = store.run_file(run, &name.curve(), CURVE_BYTES_MAX).await?;
    let curve = curve.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    let curve = curve.map_err(|e| PortError::invalid("read a curve", e.to_string()))?.unwrap_or_default();
    Ok(Some(Candidate { index, weights, curve, parent: parent(store, run, &name).await? }))
}

async fn parent<R: Runs>(store: &R, run: &str, name: &Name) -> Result<Option<String>, ImproveError> {
    let bytes = store.run_file(run, &name.parent(), SHA256_BYTES).await?.unwrap_or_default();
    let sha256 = String::from_utf8(bytes).map_err(|e| PortError::invalid("read a parent", e.to_string()))?;
    Ok((!sha256.is_empty()).then_some(sha256))
}

/// Trains a candidate: from where the run was, or from the policy in charge, or from a clone of the best rules if there is none or
/// that is clearly better.
pub(super) async fn trained<R: Runs>(
    store: &R,
    request: &Request,
    index: u32,
    windows: &Windows,
    incumbent: Option<&Incumbent>,
    device: &Device,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Candidate, ImproveError> {
    let (run, name) = (request.run(), Name(index));
    if let Some(candidate) = kept(store, &run, index).await? {
        return Ok(candidate);
    }
    let courses = windows.learned();
    let (start, parent) = match store.run_file(&run, &name.state(), 4 * POLICY_BYTES_MAX).await? {
        Some(bytes) => (Start::Resume(Box::new(State::from_bytes(&bytes)?)), parent(store, &run, &name).await?),
        None => {
            let begin = || start(incumbent, &courses, request.settings_of(index), device);
            let (start, parent) = tokio::task::block_in_place(begin)?;
            store.put_run_file(&run, &name.parent(), parent.clone().unwrap_or_default().into_bytes()).await?;
            (start, parent)
        }
    };
    let log = log(request, index)?;
    let runtime = Handle::current();
    let keep =
        |bytes: Vec<u8>| runtime.block_on(store.put_run_file(&run, &name.state(), bytes)).map_err(io::Error::other);
    let trained = tokio::task::block_in_place(|| {
        watched(&courses, start, request.settings_of(index), device, log.keeping(keep), stopped)
    })?;
    if stopped() {
        return Err(ImproveError::Stopped(request.until()));
    }
    let candidate = Candidate { index, curve: evaluations(&trained.curve), weights: trained.best, parent };
    let curve = serde_json::to_vec(&candidate.curve).expect("numbers are plain data");
    store.put_run_file(&run, &name.curve(), curve).await?;
    store.put_run_file(&run, &name.checkpoint(), candidate.weights.to_checkpoint()).await?;
    Ok(candidate)
}

fn evaluations(curve: &[Progress]) -> Vec<(f64, f64)> {
    curve.iter().filter_map(|p| Some((p.steps as f64, -p.evaluation?))).collect()
}

/// What a new candidate begins with, and the hash of the policy if it is one.
fn start(
    incumbent: Option<&Incumbent>,
    courses: &[Course],
    (config, seed): (&PpoConfig, u64),
    device: &Device,
) -> Result<(Start, Option<String>), TrainError> {
    let weights = incumbent.and_then(|i| Some((i.weights.clone()?, &i.pointer.0.sha256)));
    let Some((weights, sha256)) = weights else { return Ok((Start::Fresh, None)) };
    let start = better_start(courses, weights, config, seed, device)?;
    let parent = matches!(start, Start::Weights(_)).then(|| sha256.clone());
    Ok((start, parent))
}

fn log(request: &Request, index: u32) -> io::Result<Log<'static>> {
    let steps = request.settings_of(index).0.steps;
    match &request.logs {
        Some(dir) => Log::files(steps, &dir.join(index.to_string()), true),
        None => Ok(Log::bar(steps)),
    }
}
