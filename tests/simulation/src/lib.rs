//! Both functions' real handlers in a seeded world full of faults.
//!
//! A run is one pool over some hours: 110 minutes with faults by [`profile`], then an hour or two without any. The handlers of
//! `evaluator` and `executor` are the ones that are deployed; the ports are [`testkit`]'s fakes, stepped: every call
//! stops before and after its effect, and the run decides by chance who goes on, who sleeps and who crashes there. A run
//! is single-threaded and depends on its seed only.
//!
//! - [`faults`], [`meddling`], [`neighbour`], [`promotions`], `versions`: what goes wrong; [`plant`]: machines, workers, tasks and metrics
//! - [`invocation`]: one invocation as a future that can be dropped between any two calls
//! - [`check`]: the invariants; [`seen`]: what must happen somewhere in a set of seeds
//! - [`journal`]: the event log and its hash; [`kept`]: seeds that failed once
//!
//! # Where each invariant is checked
//!
//! | invariant | checked by | on |
//! |---|---|---|
//! | I1 bounds | `check::act` (`launched`, `terminated`) | every launch and termination that takes effect, against what really runs, visible or not |
//! | I2 cooldown, budgets | `check::act` (`claimed`, `within_budget`), `check::money` | every claim, launch and stop; dollars by what really runs and what the records say was spent |
//! | I3 only ours, not protected | `check::act` (`termination_asked`, `terminated`), `check::rest` (`others_are_left_alone`) | every id that is even asked for; after every minute no record and no intent names a machine of another stack |
//! | I4 one record a machine | `check::rest`, `check::act` (`ended_without_decision`) | after every minute (no two, none lost at first sight), and at rest (exactly one, or an orphan); everything that a reconciliation ends of its own |
//! | I5 one launch a decision | `check::act` (`launched`, `claimed`) | every launch and claim |
//! | I6 generation, settled, plan | `check::act` (`claimed`, `stored`, `launched`, `terminated`) | every claim and intent; every action against the stored plan |
//! | I7 attributed | `check::decide` (`attributed`) | every decision |
//! | I8 doubtful data, warming up | `check::decide` (`decided`, `finite`, `blacked_out`, `warming_up`), `check::act` (`terminated`) | every decision and termination; that booting machines may be stopped is the twin's rule V2 |
//! | I9 replay | `check::decide` (`replayed`) | every decision in which a policy ran |
//! | I10 kill switch, modes, unhealthy fleets | `check::act` (`claimed`, `mostly_healthy`, `launched`, `terminated`) | every claim and action |
//! | nothing done and books that balance in mode observe | `check::shadow` | every decision with a shadow ledger |
//! | I11 last good policy | `check::decide` (`attributed`), `check::rest` (`good_policy_in_charge`), `check::promote` | every decision, at rest behind bad pointers, and every move of the pointer by the promoter |
//! | I12 same seed, same log | `tests/seeds.rs` | six seeds a profile, alone and side by side |
//! | I13 liveness | `check::rest` (`at_rest`) | an hour or two after the faults have stopped |
//! | I14 no secret | `check::decide` (`decided`), [`journal`] | every decision's record and every line that the handlers log |

pub mod check;
pub mod faults;
pub mod invocation;
pub mod journal;
pub mod kept;
pub mod meddling;
pub mod neighbour;
pub mod plant;
pub mod policies;
pub mod profile;
pub mod promotions;
mod run;
pub mod seen;
mod sim;
mod telling;
mod versions;

use contract::pool::PoolConfig;

pub use run::{Done, Failure, Summary, replay, run, run_all, timer};

/// A secret in the configuration, as people put them there. It must never stand in a log or a record.
pub const SECRET: &str = "hunter2-never-log-me";

/// Whether the pool's launches are limited by number or by money.
fn has_limits(config: &PoolConfig) -> bool {
    let caps = [config.usd_per_hour_max, config.usd_per_day_max, config.usd_per_month_max];
    config.launches_per_hour_max.is_some() || caps.iter().any(Option::is_some)
}

/// The answer of a future that never waits, as all calls of the world's outside are.
///
/// # Panics
/// If it waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a call of the outside waits"),
    }
}
