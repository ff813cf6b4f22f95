//! An invocation's event as a tick, and a decision as the invocation's answer.

use contract::decision::Decision;
use contract::event::Tick;
use serde_json::{Value, json};

/// How far a tick may be ahead of the clock: by no more than the clock's own error. A decision of tomorrow would make all
/// until then late.
const AHEAD_S_MAX: i64 = 600;

/// The tick of an event.
///
/// # Errors
/// If it is none, or of the future.
pub fn tick(event: Value) -> Result<Tick, String> {
    let tick = Tick::from_event(event)?;
    let ahead_s = tick.scheduled_time.as_second() - jiff::Timestamp::now().as_second();
    if ahead_s <= AHEAD_S_MAX { Ok(tick) } else { Err(format!("scheduled_time is {ahead_s} s ahead of the clock")) }
}

/// What whoever invoked the function by hand wants to know.
pub fn answer(decision: Option<&Decision>) -> Value {
    let summary = decision.map(|d| {
        json!({"tick": d.tick, "action": d.action.to_string(), "verdict": d.verdict, "policy": d.policy_name(),
            "reason": d.reason})
    });
    json!({ "decision": summary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_may_be_ahead_by_the_clocks_error_and_no_more() {
        let at = |ahead_s: i64| {
            let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead_s);
            tick(json!({"pool": "demo", "scheduled_time": time.to_string()}))
        };
        assert_eq!(at(500).unwrap().pool, "demo");
        assert!(at(-7 * 86_400).is_ok(), "a day can be replayed");
        assert!(at(700).unwrap_err().contains("ahead of the clock"));
        assert!(tick(json!("no event")).is_err());
    }
}
