//! Replays one seed with its whole event log, or runs many of them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, Subcommand};
use simulation::profile::{PROFILES, Profile};
use simulation::seen::EVENTS;
use simulation::{Summary, replay, run_all};

/// Failures that are printed in full.
const SHOWN_MAX: usize = 3;

/// Runs both functions' handlers in a seeded world full of faults.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed and prints its whole event log.
    Replay {
        /// calm, rough or hell.
        profile: Profile,
        /// The seed.
        seed: u64,
    },
    /// Runs many seeds of all profiles.
    Soak {
        /// How many seeds.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 1_000_000)]
        first: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Replay { profile, seed } => one(profile, seed),
        Command::Soak { seeds, first } => soak(first, seeds),
    }
}

fn one(profile: Profile, seed: u64) -> ExitCode {
    let (outcome, log) = replay(profile, seed);
    for line in log {
        println!("{line}");
    }
    match outcome {
        Ok(done) => {
            println!("holds; the hash of the event log is {}", done.hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}", failure.reason);
            ExitCode::FAILURE
        }
    }
}

fn soak(first: u64, seeds: u64) -> ExitCode {
    let runs: Vec<(Profile, u64)> =
        (first..first + seeds).map(|seed| (PROFILES[(seed % PROFILES.len() as u64) as usize], seed)).collect();
    let (done, begun, every) = (AtomicU64::new(0), Instant::now(), (seeds / 100).clamp(1, 500));
    let summary = run_all(&runs, || {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        if done.is_multiple_of(every) {
            eprintln!("{done} of {seeds} seeds in {:.0} s", begun.elapsed().as_secs_f64());
        }
    });
    told(&summary)
}

fn told(summary: &Summary) -> ExitCode {
    for event in EVENTS {
        println!("{:>9}  {}", summary.seen.count(*event), event.text());
    }
    for failure in summary.failures.iter().take(SHOWN_MAX) {
        println!("\n{failure}");
    }
    for failure in &summary.failures {
        println!("{} {} {}", failure.profile, failure.seed, failure.reason);
    }
    println!("{} runs, {} failures", summary.runs, summary.failures.len());
    if summary.failures.is_empty() && summary.seen.missing().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
