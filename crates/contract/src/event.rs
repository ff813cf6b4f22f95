//! The scheduled event that starts a tick of the evaluator and a reconciliation of the executor.

use serde::Deserialize;

/// One tick of one pool, as the schedule's input gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tick {
    /// The pool.
    pub pool: String,
    /// The scheduled time, RFC 3339: the only clock of the control loop.
    pub scheduled_time: jiff::Timestamp,
}

impl Tick {
    /// Reads the event.
    ///
    /// # Errors
    /// Says which field is missing or wrong.
    pub fn from_event(event: serde_json::Value) -> Result<Self, String> {
        let tick: Self = serde_json::from_value(event).map_err(|e| {
            format!("the event is not {{\"pool\", \"scheduled_time\"}}: {e}; mend the schedule's input")
        })?;
        if !crate::pool::is_pool_name(&tick.pool) {
            return Err(format!("pool {:?} is not 1 to 64 of a-z, 0-9 and '-'; mend the schedule's input", tick.pool));
        }
        if tick.scheduled_time.as_second() < 0 {
            return Err("scheduled_time is before 1970; mend the schedule's input".into());
        }
        Ok(tick)
    }

    /// The scheduled time in seconds since the epoch: with the pool, the decision's id.
    pub fn seconds(&self) -> u64 {
        self.scheduled_time.as_second().unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schedulers_input_is_read() {
        let tick = Tick::from_event(json!({"pool": "demo", "scheduled_time": "2026-11-24T04:10:00Z"})).unwrap();
        assert_eq!((tick.pool.as_str(), tick.seconds()), ("demo", 1_795_493_400));
    }

    #[test]
    fn other_events_are_refused_with_a_reason() {
        for (event, word) in [
            (json!({"pool": "demo"}), "scheduled_time"),
            (json!({"pool": "demo", "scheduled_time": "soon"}), "schedule"),
            (json!({"pool": "../x", "scheduled_time": "2026-11-24T04:10:00Z"}), "a-z"),
            (json!([1, 2]), "schedule"),
        ] {
            let error = Tick::from_event(event).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
