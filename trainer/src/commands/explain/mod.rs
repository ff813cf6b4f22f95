//! `twinscaler explain`: why a pool did what it did, and whether its records keep the promises.

mod replay;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use calibration::Window;
use clap::Args;
use contract::decision::{Decision, Verdict};
use contract::limits::WARM_UP_TICKS;
use contract::pool::PoolConfig;
use contract::record::{Ended, InstanceRecord};
use controller::audit::{Books, Finding, audit};
use controller::ports::{Control, Decisions, Instances, Kind, PolicyPublisher, PolicyStore, Port, PortError, Tasks};
use controller::reason::{Hold, Reason};
use serde_json::{Value, json};
use signing::PublicKeys;

use self::replay::{PoliciesByHash, Replay, replay, sways};
use crate::commands::window::{Ports, now_ms};
use crate::load::LoadName;
use crate::promote::signed_by;
use crate::store::runnable;

/// What to explain.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The pool's last decision, or those of a time: NAME, or NAME@WINDOW with a WINDOW like 6h or
    /// 2026-01-31T00:00:00Z/2026-02-01T00:00:00Z
    #[arg(long, value_name = "NAME[@WINDOW]")]
    pool: String,
    /// The one decision that stood at this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// Replay every decision and check the records against the invariants; exit code 1 if something is wrong
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The name or the window.
    #[error("--pool takes NAME or NAME@WINDOW, for example demo@6h, and not {0:?}")]
    Pool(String),
    /// Both.
    #[error("give --at with the pool's name alone, or a window without --at")]
    Both,
}

/// Which decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// The last one not after this time, seconds.
    One(u64),
    /// All of a time.
    All(Window),
}

impl ExplainArgs {
    /// The pool, and which of its decisions.
    ///
    /// # Errors
    /// If that makes no sense.
    pub fn asked(&self) -> Result<(String, Asked), AskError> {
        let wrong = || AskError::Pool(self.pool.clone());
        if !self.pool.contains('@') {
            let at = self.at.unwrap_or_else(jiff::Timestamp::now);
            let at = u64::try_from(at.as_second()).map_err(|_| wrong())?;
            return contract::pool::is_pool_name(&self.pool)
                .then(|| (self.pool.clone(), Asked::One(at)))
                .ok_or_else(wrong);
        }
        match LoadName::from_str(&format!("pool:{}", self.pool)) {
            Ok(LoadName::Pool { .. }) if self.at.is_some() => Err(AskError::Both),
            Ok(LoadName::Pool { pool, window }) => Ok((pool, Asked::All(window))),
            _ => Err(wrong()),
        }
    }
}

/// The decisions that are explained, and what that needs.
struct Read {
    config: PoolConfig,
    /// Those before the explained ones first.
    log: Vec<Decision>,
    /// How many of the log come before.
    before: usize,
    instances: Vec<InstanceRecord>,
    policies: PoliciesByHash,
    /// Policies that no trusted key has signed, if there are trusted keys.
    unsigned: Vec<String>,
    /// The time that was asked for; of one decision none.
    window: Window,
    now_ms: u64,
}

impl Read {
    fn explained(&self) -> &[Decision] {
        &self.log[self.before..]
    }

    /// The log up to and with the i-th explained decision.
    fn up_to(&self, i: usize) -> &[Decision] {
        let end = self.before + i + 1;
        &self.log[end.saturating_sub(WARM_UP_TICKS + 3)..end]
    }

    /// Machines that were ended in that time as they never took tasks, which no decision asks for: when, and which.
    fn stuck(&self) -> Vec<(u64, &str)> {
        let ended = self.instances.iter().filter(|r| r.ended == Some(Ended::Stuck));
        let ended = ended.filter_map(|r| Some((r.terminated_ms?, r.instance_id.as_str())));
        let mut ended: Vec<_> =
            ended.filter(|(at_ms, _)| (self.window.from_ms..self.window.until_ms).contains(at_ms)).collect();
        ended.sort_unstable();
        ended
    }

    fn replays(&self) -> Vec<Replay> {
        (0..self.explained().len()).map(|i| replay(self.up_to(i), &self.policies, self.config.tick_s)).collect()
    }

    fn findings(&self, replays: &[Replay]) -> Vec<Finding> {
        let (config, now_ms) = (&self.config, self.now_ms);
        let mut found = audit(&Books { config, decisions: self.explained(), instances: &self.instances, now_ms });
        for (decision, replay) in self.explained().iter().zip(replays) {
            let finding = |invariant, what: String| Finding { tick: decision.tick, invariant, what, is_certain: true };
            if let Replay::Differs { .. } = replay {
                found.push(finding("I9", format!("its replay gives {}", text::of_replay(replay))));
            }
            let policy = decision.policy_name();
            if self.unsigned.contains(&policy) {
                found.push(finding("I7", format!("no trusted key has signed policy {policy}")));
            }
        }
        found.sort_by_key(|finding| finding.tick);
        found
    }
}

/// What there is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Text or JSON, to print.
    pub text: String,
    /// Whether nothing is wrong, as far as that was looked at.
    pub is_right: bool,
}

/// Reads and explains.
///
/// # Errors
/// If something cannot be read, or there is no decision.
pub async fn run<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    args: &ExplainArgs,
    (pool, asked): (String, Asked),
    keys: Option<&PublicKeys>,
) -> Port<Said>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher,
{
    let read = read(ports, &pool, &asked, keys).await?;
    let replays = if args.verify || matches!(asked, Asked::One(_)) { read.replays() } else { Vec::new() };
    let findings = args.verify.then(|| read.findings(&replays));
    let is_right = !findings.iter().flatten().any(|finding| finding.is_certain);
    if args.json {
        return Ok(Said { text: as_json(&read, &replays, findings.as_deref()).to_string(), is_right });
    }
    let mut lines = match (&asked, read.explained(), replays.as_slice()) {
        (Asked::One(_), [decision], [replay]) => {
            let sways = sways(read.up_to(0), &read.policies, read.config.tick_s);
            vec![text::whole(decision, sways.as_deref(), replay)]
        }
        (_, decisions, _) => [listed(decisions), stuck(&read.stuck())].concat(),
    };
    lines.extend(findings.map(|findings| verified(&replays, &findings)).into_iter().flatten());
    Ok(Said { text: lines.join("\n"), is_right })
}

async fn read<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    pool: &str,
    asked: &Asked,
    keys: Option<&PublicKeys>,
) -> Port<Read>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    P: PolicyPublisher,
{
    let config = ports.control.config(pool).await?;
    let nothing = || PortError::not_found("explain", format!("pool {pool} has no decision then"));
    let explained = match asked {
        Asked::One(at) => ports.decisions.before(pool, at + 1, 1).await?,
        Asked::All(window) => {
            ports.decisions.range(pool, window.from_ms.div_ceil(1000), window.until_ms.div_ceil(1000)).await?
        }
    };
    let first = explained.first().ok_or_else(nothing)?.tick;
    let mut log = ports.decisions.before(pool, first, WARM_UP_TICKS + 3).await?;
    log.reverse();
    let before = log.len();
    log.extend(explained);
    let first_ms = first * 1000;
    let window = match asked {
        Asked::One(_) => Window { from_ms: first_ms, until_ms: first_ms },
        Asked::All(window) => *window,
    };
    let instances = alive_since(&ports.instances, pool, window.from_ms.min(first_ms)).await?;
    let policies = policies(&ports.policies, &log[before..]).await?;
    let there = policies.iter().filter(|(_, policy)| policy.is_ok()).map(|(sha256, _)| sha256);
    let unsigned = match keys {
        Some(keys) => unsigned(&ports.policies, there, keys).await?,
        None => Vec::new(),
    };
    let now_ms = now_ms();
    Ok(Read { config, log, before, instances, policies, unsigned, window, now_ms })
}

/// Every machine that was alive at some time since then, once.
async fn alive_since<I: Instances>(table: &I, pool: &str, from_ms: u64) -> Port<Vec<InstanceRecord>> {
    let mut records = table.since(pool, from_ms).await?;
    records.extend(table.alive(pool).await?);
    let key = |r: &InstanceRecord| (r.launched_ms, r.instance_id.clone());
    Ok(records.into_iter().map(|r| (key(&r), r)).collect::<BTreeMap<_, _>>().into_values().collect())
}

/// The policies that ran, or why one cannot be used: it is gone, or this version refuses it.
async fn policies<P: PolicyStore>(store: &P, decisions: &[Decision]) -> Port<PoliciesByHash> {
    let hashes: BTreeSet<&str> = decisions.iter().filter_map(|d| Some(d.lstm.as_ref()?.policy.as_str())).collect();
    let mut policies = BTreeMap::new();
    for sha256 in hashes {
        let policy = match runnable(store, sha256).await {
            Ok(policy) => policy.map_err(|e| e.to_string()),
            Err(error) if error.kind == Kind::NotFound => Err(format!("policy {sha256} is gone: {error}")),
            Err(error) => return Err(error),
        };
        policies.insert(sha256.to_owned(), policy);
    }
    Ok(policies)
}

async fn unsigned<P: PolicyStore>(
    store: &P,
    hashes: impl Iterator<Item = &String>,
    keys: &PublicKeys,
) -> Port<Vec<String>> {
    let mut unsigned = Vec::new();
    for sha256 in hashes {
        if signed_by(store, sha256, keys).await?.is_none() {
            unsigned.push(sha256.clone());
        }
    }
    Ok(unsigned)
}

fn as_json(read: &Read, replays: &[Replay], findings: Option<&[Finding]>) -> Value {
    let of = |(i, decision): (usize, &Decision)| {
        let sways = replays.get(i).and_then(|_| sways(read.up_to(i), &read.policies, read.config.tick_s));
        json!({"time": text::time(decision.tick), "decision": decision, "story": text::story(decision),
            "replay": replays.get(i), "swayed_by": sways})
    };
    let decisions: Vec<Value> = read.explained().iter().enumerate().map(of).collect();
    let finding = |f: &Finding| json!({"tick": f.tick, "time": text::time(f.tick), "invariant": f.invariant, "what": f.what, "certain": f.is_certain});
    let findings = findings.map(|all| all.iter().map(finding).collect::<Vec<_>>());
    let stuck = read.stuck();
    let ended: Vec<Value> =
        stuck.iter().map(|(at_ms, id)| json!({"time": text::time(at_ms / 1000), "instance": id})).collect();
    json!({"pool": read.config.pool, "decisions": decisions, "ended_without_decision": ended, "findings": findings})
}

/// One line for each decision that asked for something, and one for each run of holds of a kind; then sums.
fn listed(decisions: &[Decision]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = decisions;
    while let Some(first) = rest.first() {
        let n = rest.iter().take_while(|d| is_like(first, d)).count().max(1);
        lines.push(line(&rest[..n]));
        rest = &rest[n..];
    }
    lines.push(sums(decisions));
    lines
}

fn stuck(ended: &[(u64, &str)]) -> Vec<String> {
    let line = |(at_ms, id): &(u64, &str)| {
        format!("{}  {id} was ended without a decision: it never took tasks", text::time(at_ms / 1000))
    };
    ended.iter().map(line).collect()
}

/// Holds of the same kind by the same kind of decider say the same.
fn is_like(a: &Decision, b: &Decision) -> bool {
    let kind = |d: &Decision| Some((Hold::of_decision(d)?, d.policy_name()));
    kind(a).is_some() && kind(a) == kind(b)
}

fn line(run: &[Decision]) -> String {
    let (first, n) = (&run[0], run.len());
    let begins = text::time(first.tick);
    match Hold::of_decision(first) {
        Some(hold) if n > 1 => format!("{begins}  {n} times {}, by {}", hold.word(), text::decider(first)),
        Some(_) => format!("{begins}  {}", first.reason),
        None => format!("{begins}  {} → {}", first.reason, text::story(first)),
    }
}

fn sums(decisions: &[Decision]) -> String {
    let acted = decisions.iter().filter(|d| d.verdict == Verdict::Act).count();
    let mut holds: BTreeMap<&str, usize> = BTreeMap::new();
    for hold in decisions.iter().filter_map(Hold::of_decision) {
        *holds.entry(hold.word()).or_default() += 1;
    }
    let holds: Vec<String> = holds.into_iter().map(|(word, n)| format!("{n} {word}")).collect();
    format!("{} decisions: {acted} asked for something; held: {}", decisions.len(), holds.join(", "))
}

/// What was verified, in words.
fn verified(replays: &[Replay], findings: &[Finding]) -> Vec<String> {
    let count = |of: fn(&Replay) -> bool| replays.iter().filter(|r| of(r)).count();
    let same = count(|r| matches!(r, Replay::BitForBit));
    let rounded = count(|r| matches!(r, Replay::Rounding { .. }));
    let none = count(|r| matches!(r, Replay::NoPolicy));
    let mut lines = vec![format!(
        "{} replayed: {same} bit for bit, {rounded} but for rounding, {none} without a policy",
        replays.len()
    )];
    let impossible: BTreeSet<&str> = replays
        .iter()
        .filter_map(|r| if let Replay::Impossible { because } = r { Some(because.as_str()) } else { None })
        .collect();
    lines.extend(impossible.iter().map(|because| format!("not replayed: {because}")));
    let certainty = |f: &Finding| if f.is_certain { "" } else { "by the records' count, " };
    lines
        .extend(findings.iter().map(|f| format!("{} {}: {}{}", f.invariant, text::time(f.tick), certainty(f), f.what)));
    let wrong = findings.iter().filter(|f| f.is_certain).count();
    lines.push(if wrong == 0 { "nothing is wrong".into() } else { format!("{wrong} findings") });
    lines
}
