//! `twinscaler pool …`, `rollback` and `switch`: what people do to a pool.

use std::path::Path;

use contract::control::{KillSwitch, Mode};
use contract::decision::Decision;
use contract::limits::TICK_MAX;
use contract::pool::PoolConfig;
use contract::shadow::Account;
use controller::ports::{Control, Decisions, Kind, PolicyPublisher, Port, PortError};
use serde_json::{Value, json};
use signing::{POLICY_KEYS, PublicKeys, SigningKey};

use crate::promote::{Bundle, promote, signed_by};

/// Why a pool's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolFileError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] contract::pool::PoolError),
    /// The policy does not pass the evaluator's own checks.
    #[error("use the policy in {dir}")]
    Policy {
        /// The directory.
        dir: String,
        /// What is wrong.
        source: policy::PolicyError,
    },
}

/// Reads and validates a pool's configuration.
///
/// # Errors
/// If it cannot be read, or lists every problem in it.
pub fn read_config(path: &Path) -> Result<PoolConfig, PoolFileError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| PoolFileError::Read { path: path.display().to_string(), source })?;
    Ok(PoolConfig::from_json(&text)?)
}

/// Reads a policy and verifies it as the evaluator would.
///
/// # Errors
/// If it cannot be read or would be refused.
pub fn read_policy(dir: &Path) -> Result<Bundle, PoolFileError> {
    let name = dir.display().to_string();
    let bundle = Bundle::read(dir).map_err(|source| PoolFileError::Read { path: name.clone(), source })?;
    policy::Policy::load(&bundle.onnx, &bundle.manifest)
        .map_err(|source| PoolFileError::Policy { dir: name, source })?;
    Ok(bundle)
}

/// Creates a pool, or changes its configuration all but the mode; puts `policy` in charge if the pool has no policy yet.
///
/// # Errors
/// If a table or the bucket refuses.
pub async fn create<C: Control, P: PolicyPublisher>(
    control: &C,
    store: &P,
    config: &PoolConfig,
    policy: Option<&Bundle>,
    key: Option<&SigningKey>,
) -> Port<()> {
    let config = keep_mode(control, config).await?;
    control.put_config(&config).await?;
    println!("pool {}: configuration written, mode {:?}", config.pool, config.mode);
    let Some(bundle) = policy else { return Ok(()) };
    if let Some((pointer, _)) = store.pointer(&config.pool).await? {
        println!("pool {}: policy {} stays in charge", config.pool, pointer.sha256);
        return Ok(());
    }
    let pointer = promote(store, &config.pool, &bundle.package(), None, key).await?;
    println!("pool {}: policy {} is in charge", config.pool, pointer.sha256);
    Ok(())
}

/// A pool that is there keeps its mode: changing a bound must not let a pool act that somebody stopped.
async fn keep_mode<C: Control>(control: &C, config: &PoolConfig) -> Port<PoolConfig> {
    match control.config(&config.pool).await {
        Ok(stored) => Ok(PoolConfig { mode: stored.mode, ..config.clone() }),
        Err(error) if error.kind == Kind::NotFound => Ok(config.clone()),
        Err(error) => Err(error),
    }
}

/// Puts a policy in charge without a comparison: after a change of the schema, or to go back further than one step.
///
/// # Errors
/// If the bucket refuses, or the pointer moved meanwhile.
pub async fn put_in_charge<P: PolicyPublisher>(
    store: &P,
    pool: &str,
    policy: &Bundle,
    key: Option<&SigningKey>,
) -> Port<()> {
    let current = store.pointer(pool).await?;
    let pointer = promote(store, pool, &policy.package(), current.as_ref(), key).await?;
    println!("pool {pool}: policy {} is in charge", pointer.sha256);
    Ok(())
}

/// Prints how a pool stands; with the evaluator's keys, also which of them has signed the policy in charge.
///
/// # Errors
/// If something cannot be read.
pub async fn status<C: Control, D: Decisions, P: PolicyPublisher>(
    control: &C,
    decisions: &D,
    store: &P,
    pool: &str,
    keys: Option<&PublicKeys>,
) -> Port<()> {
    let (config, head) = (control.config(pool).await?, control.head(pool).await?);
    let pointer = store.pointer(pool).await?.map(|(pointer, _)| pointer);
    let signature = match &pointer {
        Some(pointer) => signature(store, &pointer.sha256, keys).await?,
        None => Value::Null,
    };
    let last = decisions.before(pool, TICK_MAX, 1).await?.into_iter().next();
    let shadow = last.as_ref().and_then(shadow);
    let last = last.map(|d| {
        json!({"tick": d.tick, "action": d.action.to_string(), "verdict": d.verdict, "reason": d.reason,
            "fleet": d.measured().fleet, "queue": d.measured().queue_depth, "spending": d.spending})
    });
    let status = json!({"pool": pool, "mode": config.mode, "kill_switch": control.kill_switch().await?.engaged,
        "generation": head.generation, "next_allowed_ms": head.next_allowed_ms, "policy": pointer, "signature": signature,
        "last": last, "shadow": shadow});
    println!("{}", serde_json::to_string_pretty(&status).expect("plain data"));
    Ok(())
}

/// The shadow ledger of a pool that only observes, for people: the estimate in a sentence, the shadow fleet, the books.
pub fn shadow(decision: &Decision) -> Option<Value> {
    let shadow = decision.shadow.as_ref()?;
    let Account { machines_usd, waiting_usd } = shadow.real;
    Some(json!({"summary": shadow.summary(decision.tick), "since": shadow.since, "ticks": shadow.ticks,
        "gaps": shadow.gaps, "fleet": shadow.fleet(), "queue": decision.observation.queue_depth,
        "saved_usd": shadow.saved_usd(),
        "real": {"machines_usd": machines_usd, "waiting_usd": waiting_usd},
        "would_be": {"machines_usd": shadow.shadow.machines_usd, "waiting_usd": shadow.shadow.waiting_usd}}))
}

/// What `status` says of a policy's signature.
async fn signature<P: PolicyPublisher>(store: &P, sha256: &str, keys: Option<&PublicKeys>) -> Port<Value> {
    let Some(keys) = keys else { return Ok(json!(format!("not looked at: {POLICY_KEYS} is not set"))) };
    Ok(match signed_by(store, sha256, keys).await? {
        Some(id) => json!({"valid_by_key": id}),
        None => json!(format!("none by {}; an evaluator that trusts only these refuses the policy", keys.ids())),
    })
}

/// Changes a pool's mode.
///
/// # Errors
/// If the configuration cannot be read or written.
pub async fn set_mode<C: Control>(control: &C, pool: &str, mode: Mode) -> Port<()> {
    let config = PoolConfig { mode, ..control.config(pool).await? };
    control.put_config(&config).await?;
    println!("pool {pool}: mode {mode:?}");
    Ok(())
}

/// Engages or releases the kill switch of all pools.
///
/// # Errors
/// If it cannot be written.
pub async fn switch<C: Control>(control: &C, engaged: bool) -> Result<(), PortError> {
    control.put_kill_switch(KillSwitch { engaged }).await?;
    println!("kill switch {}", if engaged { "engaged: no pool acts" } else { "released" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Action;
    use contract::control::Head;
    use controller::shadow::{Read, act, at_tick};
    use testkit::builders::{TICK, decision, observation, pool_config};

    #[test]
    fn the_ledger_of_a_pool_that_observes_is_shown_with_its_fleet() {
        let mut observed = decision("p", TICK, Action::Stop(0, 1));
        assert_eq!(shadow(&observed), None);
        let (config, measured, head) = (pool_config("p"), observation(), Head::default());
        let (arrivals_ms, policy) = (Some(&[][..]), None);
        let (config, measured, head) = (&config, &measured, &head);
        let read = |tick| Read { tick, config, measured, head, arrivals_ms, policy };
        let (mut ledger, _) = at_tick(None, &read(TICK));
        act(&mut ledger, Action::Stop(2, 1), TICK, config);
        observed.shadow = Some(ledger);
        let (ledger, seen) = at_tick(Some(&observed), &read(TICK + 3600 / 4));
        let observed = Decision { tick: TICK + 900, observation: seen, shadow: Some(ledger), ..observed };
        let shown = shadow(&observed).unwrap();
        assert_eq!(shown["fleet"][2], json!({"ready": 0, "booting": 0}));
        assert_eq!((&shown["ticks"], &shown["gaps"]), (&json!(2), &json!(14)));
        // A quarter of an hour without the L's 0.8 dollars an hour, of 1.4; one of seven tasks waits.
        let summary = "would have saved $0.19 of $0.35 over 0.2 h: machines $0.20, waiting -$0.01 (an estimate)";
        assert_eq!(shown["summary"], summary);
        assert_eq!(shown["queue"], 1);
        assert!((shown["real"]["machines_usd"].as_f64().unwrap() - 0.35).abs() < 1e-9);
    }
}
