//! Keeps the last policy that was good, takes up a promoted one, and carries the recurrent state from tick to tick.

use std::sync::{Arc, Mutex};

use contract::decision::{Decision, LstmState};
use contract::limits::{POLICIES_HELD_MAX, POLICIES_REFUSED_MAX, POLICY_BYTES_MAX, WARM_UP_TICKS};
use contract::manifest::{Manifest, Pointer};
use contract::{Features, Mask};
use controller::ports::{Decisions, PolicyStore, Port};
use policy::{Policy, State, recurrence};
use signing::PublicKeys;

use crate::deadline::Deadline;
use crate::ladder::PolicyStep;
use crate::recent::Recent;
use crate::signed::Signatures;

/// Policies held in memory: the ones in charge, and why others were refused. Only a cache: losing it costs a load.
pub struct Policies {
    /// Keys of which one must have signed a policy; without any, nobody looks at signatures.
    trusted: Option<PublicKeys>,
    /// Verified policies by hash. The one in charge is asked for at every tick, so that it is never the one forgotten.
    good: Mutex<Recent<Arc<Policy>>>,
    /// The hash of each pool's last good policy; no more pools than policies.
    in_charge: Mutex<Recent<String>>,
    /// Why a policy was refused, by hash, so that a bad one is fetched once, not every tick.
    refused: Mutex<Recent<String>>,
}

/// The policy to use at a tick, and what is wrong with the promoted one if that is another.
pub struct InCharge {
    /// A verified policy.
    pub policy: Arc<Policy>,
    /// Why the pointer's policy is not the one, if so.
    pub warning: Option<String>,
}

impl Policies {
    /// None yet; with keys, only signed ones will be taken.
    pub fn trusting(trusted: Option<PublicKeys>) -> Self {
        Self {
            trusted,
            good: Mutex::new(Recent::of(POLICIES_HELD_MAX)),
            in_charge: Mutex::new(Recent::of(POLICIES_HELD_MAX)),
            refused: Mutex::new(Recent::of(POLICIES_REFUSED_MAX)),
        }
    }

    /// The policy for this tick: that of the pointer, as it was read, if it can be verified, else the last good one: this
    /// process's, the last decision's, or the pointer's predecessor.
    ///
    /// # Errors
    /// Says why there is none, for the decision's record.
    pub async fn in_charge<P: PolicyStore>(
        &self,
        store: &P,
        pool: &str,
        pointer: Port<Option<(Pointer, String)>>,
        last: Option<&Decision>,
    ) -> Result<InCharge, String> {
        let mut problems = Vec::new();
        for sha256 in self.candidates(pointer, pool, last, &mut problems) {
            match self.load(store, &sha256).await {
                Ok(policy) => {
                    self.in_charge.lock().expect("no panic while held").put(pool, sha256);
                    let warning = (!problems.is_empty()).then(|| problems.join("; "));
                    return Ok(InCharge { policy, warning });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            problems.push("the pool has no policy yet".into());
        }
        Err(problems.join("; "))
    }

    /// Hashes to try, best first, each once.
    fn candidates(
        &self,
        pointer: Port<Option<(Pointer, String)>>,
        pool: &str,
        last: Option<&Decision>,
        problems: &mut Vec<String>,
    ) -> Vec<String> {
        let pointer = pointer.unwrap_or_else(|error| {
            problems.push(format!("pointer: {error}"));
            None
        });
        let held = self.in_charge.lock().expect("no panic while held").get(pool);
        let used = last.and_then(|d| d.lstm.as_ref()).map(|state| state.policy.clone());
        let (current, previous) = match pointer {
            Some((pointer, _)) => (Some(pointer.sha256), pointer.previous),
            None => (None, None),
        };
        let mut hashes: Vec<String> = Vec::new();
        for sha256 in [current, held, used, previous].into_iter().flatten() {
            if !hashes.contains(&sha256) {
                hashes.push(sha256);
            }
        }
        hashes
    }

    /// A verified policy, from memory or from the store. An unreachable store is tried again at the next tick, and so is
    /// a policy without a valid signature, which may still be signed; one that was read and found bad is not.
    async fn load<P: PolicyStore>(&self, store: &P, sha256: &str) -> Result<Arc<Policy>, String> {
        if let Some(policy) = self.good.lock().expect("no panic while held").get(sha256) {
            return Ok(policy);
        }
        if let Some(problem) = self.refused.lock().expect("no panic while held").get(sha256) {
            return Err(problem);
        }
        let short = sha256.get(..12).unwrap_or(sha256);
        let (manifest, onnx, signatures) = tokio::join!(
            store.manifest(sha256),
            store.file(sha256, "policy.onnx", POLICY_BYTES_MAX),
            self.signatures(store, sha256),
        );
        let manifest = manifest.map_err(|e| format!("policy {short}: {e}"))?;
        let onnx = onnx.map_err(|e| format!("policy {short}: {e}"))?;
        if let Some(signatures) = signatures {
            signatures.check(sha256, &manifest).map_err(|e| format!("policy {short} refused: {e}"))?;
        }
        match verified(sha256, &manifest, &onnx) {
            Ok(policy) => {
                let policy = Arc::new(policy);
                self.good.lock().expect("no panic while held").put(sha256, policy.clone());
                Ok(policy)
            }
            Err(problem) => {
                let problem = format!("policy {short} refused: {problem}");
                self.refused.lock().expect("no panic while held").put(sha256, problem.clone());
                Err(problem)
            }
        }
    }

    async fn signatures<P: PolicyStore>(&self, store: &P, sha256: &str) -> Option<Signatures<'_>> {
        match &self.trusted {
            Some(keys) => Some(Signatures::read(store, keys, sha256).await),
            None => None,
        }
    }
}

/// The policy in these files, if they are what the name says and the loader finds nothing wrong.
fn verified(sha256: &str, manifest: &[u8], onnx: &[u8]) -> Result<Policy, String> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|e| format!("its manifest is not readable: {e}"))?;
    if manifest.sha256 != sha256 {
        return Err("its manifest names another policy".to_owned());
    }
    Policy::load(onnx, &manifest).map_err(|e| e.to_string())
}

/// One step of `policy` from the last decision's state, or from a state warmed up on the stored observations if the
/// last decision was another policy's or is too long ago.
///
/// # Errors
/// Says why the policy cannot decide.
pub async fn step<D: Decisions>(
    policy: &Policy,
    decisions: &D,
    last: Option<&Decision>,
    at: At<'_>,
    features: &Features,
    mask: &Mask,
) -> Result<PolicyStep, String> {
    let mut state = match recurrence::carried(policy, last, at.tick, at.tick_s) {
        Some(state) => state,
        None => warmed_up(policy, decisions, &at).await?,
    };
    let out = policy.step(features, mask, &mut state).map_err(|e| e.to_string())?;
    Ok(PolicyStep {
        sha256: policy.sha256().to_owned(),
        best: out.best(mask),
        probabilities: out.probabilities,
        value: out.value,
        lstm: LstmState { policy: policy.sha256().to_owned(), h: state.h, c: state.c },
    })
}

/// Where in a pool's time a step is taken.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The pool.
    pub pool: &'a str,
    /// The tick, seconds.
    pub tick: u64,
    /// Seconds between two ticks.
    pub tick_s: u64,
    /// Until when past observations are waited for.
    pub deadline: Deadline,
}

/// A state after the last ticks' observations, as if this policy had been in charge.
async fn warmed_up<D: Decisions>(policy: &Policy, decisions: &D, at: &At<'_>) -> Result<State, String> {
    let past = at.deadline.wait("before", decisions.before(at.pool, at.tick, WARM_UP_TICKS)).await;
    let past = past.map_err(|e| format!("warm-up: {e}"))?;
    recurrence::warmed_up(policy, past.iter().rev()).map_err(|e| e.to_string())
}
