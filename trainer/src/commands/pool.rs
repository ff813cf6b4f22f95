//! `twinscaler pool …`, `rollback` and `switch`: what people do to a pool.

use std::path::Path;

use contract::control::{KillSwitch, Mode};
use contract::limits::TICK_MAX;
use contract::pool::PoolConfig;
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
    let pointer = promote(store, &config.pool, bundle, None, key).await?;
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
    let pointer = promote(store, pool, policy, current.as_ref(), key).await?;
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
    let last = last.map(|d| {
        json!({"tick": d.tick, "action": d.action.to_string(), "verdict": d.verdict, "reason": d.reason,
            "fleet": d.observation.fleet, "queue": d.observation.queue_depth})
    });
    let status = json!({"pool": pool, "mode": config.mode, "kill_switch": control.kill_switch().await?.engaged,
        "generation": head.generation, "next_allowed_ms": head.next_allowed_ms, "policy": pointer, "signature": signature,
        "last": last});
    println!("{}", serde_json::to_string_pretty(&status).expect("plain data"));
    Ok(())
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
