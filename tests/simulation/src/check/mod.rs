//! The invariants, checked on everything that happens. The table in the crate's documentation says which is where.

mod act;
mod decide;
mod money;
mod promote;
mod rest;
mod shadow;

use std::collections::{BTreeMap, BTreeSet};

use contract::decision::Intent;
use contract::pool::PoolConfig;
use testkit::World;
use testkit::fate::Happened;

pub use rest::{at_rest, every_minute};

use crate::meddling::Meddling;

/// An invariant that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Self(what)
    }
}

/// Whether all is well.
pub type Checked = Result<(), Violation>;

/// The violation of an invariant, unless something holds.
pub fn ensure(holds: bool, invariant: &str, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation(format!("{invariant}: {}", what()))) }
}

/// What the checks look at besides what happened.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The world.
    pub world: &'a World,
    /// The pool's configuration, mode aside.
    pub config: &'a PoolConfig,
    /// What people and nature did.
    pub meddling: &'a Meddling,
    /// Now, by the simulation's own clock, milliseconds.
    pub now_ms: u64,
    /// The moment at which the invocation began that did this.
    pub begun: u64,
}

/// What the checks remember.
#[derive(Default)]
pub struct Checker {
    /// The generation of the last claim, and its time.
    generation: u64,
    claimed_ms: Option<u64>,
    /// Settled intents, by tick.
    settled: BTreeMap<u64, Intent>,
    /// When each decision was claimed, by tick.
    claims: BTreeMap<u64, u64>,
    /// Machines launched, by the tick of their decision.
    launched: BTreeMap<u64, Vec<String>>,
    /// Machines stopped, by the tick of their decision.
    stops: BTreeMap<u64, Vec<String>>,
    /// Ticks in the order in which their decisions were written, with the moment.
    written: Vec<(u64, u64)>,
    /// Machines that a decision stopped, and when.
    stopped: BTreeMap<String, u64>,
    /// Machines that a reconciliation ended without a decision, and when.
    ended: BTreeMap<String, u64>,
    /// Orphans, and the moment since which each is one.
    orphans: BTreeMap<String, u64>,
    /// Those that a reconciliation has written down as orphans: since when, and the moment since which we know.
    suspected: BTreeMap<String, (u64, u64)>,
}

impl Checker {
    /// Remembers which machines are orphans at the end of a minute.
    pub fn look_for_orphans(&mut self, scene: Scene<'_>) {
        let orphans = rest::orphans(scene);
        self.orphans.retain(|id, _| orphans.contains(id));
        for id in orphans {
            self.orphans.entry(id).or_insert(scene.meddling.moment);
        }
        let known = std::mem::take(&mut self.suspected);
        let of = |(id, since_ms): (String, u64)| {
            let before = known.get(&id).filter(|(since, _)| *since == since_ms).copied();
            (id, before.unwrap_or((since_ms, scene.meddling.moment)))
        };
        self.suspected = rest::suspected(scene).into_iter().map(of).collect();
    }

    /// I4: a reconciliation that saw everything writes down every orphan that was one before it began and is one still, and
    /// reports those that an earlier one had written down, if its clock has gone on since.
    ///
    /// # Errors
    /// If it wrote down or reported fewer.
    pub fn reconciled(&self, scene: Scene<'_>, reported: u32) -> Checked {
        let (now, suspected) = (rest::orphans(scene), rest::suspected(scene));
        let changed = |id: &String, since: u64| scene.meddling.left_at.get(id).is_some_and(|at| *at > since);
        let stood = self.orphans.iter().filter(|(id, since)| **since < scene.begun && !changed(id, **since));
        let known: BTreeSet<&String> = stood.map(|(id, _)| id).filter(|id| now.contains(*id)).collect();
        let missed = known.iter().find(|id| !suspected.contains_key(**id));
        ensure(missed.is_none(), "I4", || format!("{missed:?} is an orphan that nobody has written down"))?;
        let gone_on = |since_ms: u64| self.written.iter().any(|(tick, at)| tick * 1000 > since_ms && *at < scene.begun);
        let again = known.iter().filter(|id| {
            let before = self.suspected.get(**id).filter(|(_, moment)| *moment < scene.begun);
            before.is_some_and(|(since_ms, _)| suspected.get(**id) == Some(since_ms) && gone_on(*since_ms))
        });
        let again = again.count();
        ensure(reported as usize >= again, "I4", || {
            format!("{reported} orphans are reported, {again} of {known:?} due")
        })
    }

    /// Checks one thing that happened.
    ///
    /// # Errors
    /// If an invariant does not hold.
    pub fn on(&mut self, scene: Scene<'_>, happened: &Happened) -> Checked {
        match happened {
            Happened::Called { .. } => Ok(()),
            Happened::Decided(decision) => self.decided(scene, decision),
            Happened::Claimed { tick, generation, now_ms, killed, .. } => {
                self.claimed(scene, *tick, *generation, *now_ms, *killed)
            }
            Happened::Stored { tick, before, after, .. } => self.stored(scene, *tick, before.as_deref(), after),
            Happened::Launched { plan, instance_ids } => self.launched(scene, plan, instance_ids),
            Happened::TerminationAsked(ids) => self.termination_asked(scene, ids),
            Happened::Terminated(id) => self.terminated(scene, id),
            Happened::PointerMoved { before, after, .. } => promote::moved(scene, before.as_ref(), after),
        }
    }
}
