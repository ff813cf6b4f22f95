//! One invocation: an event in, the answer out, and a metric document for all that was done.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use controller::emf::Timing;
use controller::ports::{Cloud, Control, Decisions, Instances, Port, Tasks};
use serde_json::{Value, json};

use crate::event::{Event, Record};
use crate::execute::{Done, Executor};
use crate::metrics;

impl<T, I, D, C, K> Executor<T, I, D, C, K>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    K: Cloud,
{
    /// Does what the event asks for. Metric documents go to `tell`, one at a time.
    ///
    /// # Errors
    /// If the invocation is to be repeated.
    pub async fn handle(&self, event: Event, mut tell: impl FnMut(Value)) -> Port<Value> {
        let mut begun = Instant::now();
        match event {
            Event::Stream(records) => {
                let report = |record: &Record, done: &Port<Done>| {
                    tell(metrics::executed(&record.pool, done, timing(begun)));
                    begun = Instant::now();
                };
                Ok(json!(self.batch(records, report).await))
            }
            Event::Schedule(tick) => {
                let done = self.reconcile(&tick).await;
                tell(metrics::reconciled(&tick.pool, &done, timing(begun)));
                let done = done.map_err(|unfinished| unfinished.error).inspect_err(|error| {
                    tracing::error!(pool = tick.pool, tick = tick.seconds(), %error, "reconciliation stopped");
                })?;
                Ok(json!({ "reconciled": done }))
            }
            Event::Interruption(notice) => {
                let instance = notice.instance_id.as_str();
                let done = self.interrupted(&notice).await;
                let pool = done.inspect_err(|error| tracing::error!(instance, %error, "a notice was not taken"))?;
                if let Some(pool) = &pool {
                    tracing::warn!(pool, instance, "EC2 takes a spot machine back");
                    tell(metrics::interrupted(pool, timing(begun)));
                }
                Ok(json!({ "interrupted": pool }))
            }
        }
    }
}

/// What a metric document says of time: the functions' own clock, which nothing is decided by.
fn timing(begun: Instant) -> Timing {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timing { at_ms: at.as_millis() as u64, own_ms: begun.elapsed().as_secs_f64() * 1000.0 }
}
