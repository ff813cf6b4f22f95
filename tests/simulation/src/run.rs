//! Runs seeds: one, many at once, or one with its whole log.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use tracing_subscriber::fmt::MakeWriter;

use crate::journal::Journal;
use crate::profile::Profile;
use crate::seen::Seen;
use crate::sim::Sim;

/// What a run that held gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The hash of its event log.
    pub hash: String,
    /// What happened in it.
    pub seen: Seen,
}

/// A run in which an invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its profile.
    pub profile: Profile,
    /// Its seed.
    pub seed: u64,
    /// The invariant, and what shows it.
    pub reason: String,
    /// The last lines of its event log.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        let Self { profile, seed, reason, .. } = self;
        writeln!(f, "profile {profile}, seed {seed}: {reason}")?;
        writeln!(f, "replay it:  cargo run -p simulation --bin simulate -- replay {profile} {seed}")?;
        write!(f, "keep it:    echo '{profile} {seed} {reason}' >> tests/simulation/seeds/kept.txt")
    }
}

impl MakeWriter<'_> for Journal {
    type Writer = Journal;
    fn make_writer(&self) -> Journal {
        self.clone()
    }
}

/// One run.
///
/// # Errors
/// The first invariant that did not hold; a panic of a handler is one, too.
pub fn run(profile: Profile, seed: u64) -> Result<Done, Box<Failure>> {
    with(profile, seed, &Journal::default())
}

/// One run, and every line of its event log.
pub fn replay(profile: Profile, seed: u64) -> (Result<Done, Box<Failure>>, Vec<String>) {
    let journal = Journal::keeping_all();
    (with(profile, seed, &journal), journal.all())
}

/// A timer for the evaluator's time-outs, to be entered; no time passes in it.
///
/// # Panics
/// If the system has no timers.
pub fn timer() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a timer")
}

fn with(profile: Profile, seed: u64, journal: &Journal) -> Result<Done, Box<Failure>> {
    let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false).with_target(false);
    let _logs = tracing::subscriber::set_default(subscriber.with_writer(journal.clone()).finish());
    let timer = timer();
    let _timer = timer.enter();
    let mut sim = Sim::new(profile, seed, journal.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| sim.run())).unwrap_or_else(|panic| Err(panicked(&*panic).into()));
    let mut seen = sim.seen();
    seen.add(&journal.heard());
    match outcome {
        Ok(()) => Ok(Done { hash: journal.hash(), seen }),
        Err(violation) => Err(Box::new(Failure { profile, seed, reason: violation.0, tail: journal.tail() })),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

/// What many runs give.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// What happened in them.
    pub seen: Seen,
    /// Runs that failed.
    pub failures: Vec<Box<Failure>>,
}

/// Runs all of these, on as many threads as rayon has, and calls `progress` after each.
pub fn run_all(seeds: &[(Profile, u64)], progress: impl Fn() + Sync) -> Summary {
    let one = |&(profile, seed): &(Profile, u64)| {
        let outcome = run(profile, seed);
        progress();
        outcome
    };
    let outcomes: Vec<_> = seeds.par_iter().map(one).collect();
    outcomes.into_iter().fold(Summary::default(), |mut summary, outcome| {
        summary.runs += 1;
        match outcome {
            Ok(done) => summary.seen.add(&done.seen),
            Err(failure) => summary.failures.push(failure),
        }
        summary
    })
}
