//! What the evaluator reports: one document in CloudWatch's embedded metric format a tick.

use std::time::Instant;

use contract::event::Tick;
use controller::emf::{self, Timing};
use controller::ports::Port;
use serde_json::Value;

use crate::handler::Ticked;

/// The document about a tick that began at `begun` and has ended now. The time in it is the function's own clock, which
/// nothing is decided by.
pub fn report(tick: &Tick, ticked: &Port<Ticked>, begun: Instant) -> Value {
    let at_ms = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    let timing = Timing { at_ms, own_ms: begun.elapsed().as_secs_f64() * 1000.0 };
    match ticked {
        Ok(Ticked::Decided(decision)) => emf::decided(decision, timing),
        Ok(Ticked::Off) => emf::off(&tick.pool, tick.seconds(), timing),
        Ok(Ticked::Unreadable) => emf::decided_elsewhere(&tick.pool, tick.seconds(), timing),
        Err(error) => emf::undecided(&tick.pool, tick.seconds(), error.kind, timing),
    }
}
