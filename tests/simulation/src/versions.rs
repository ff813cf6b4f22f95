//! Two versions of the stack at once: the decision of a tick as another version's evaluator stores it.

use contract::decision::Decision;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use testkit::World;

use crate::seen::Event;

/// Actions of the version before this one: nothing, and one machine of each size.
const OLD_ACTIONS: usize = 7;
/// Actions of a version to come.
const MORE_ACTIONS: usize = 25;

/// Stores a decision again as another version would have: one with fewer actions, one that only adds to the record, or
/// one with more actions, which this version cannot read. What it was.
pub fn store(rng: &mut ChaCha8Rng, world: &World, decision: &Decision) -> Event {
    let is_old = decision.action.index().is_some_and(|i| i < OLD_ACTIONS);
    let (version, change): (Event, fn(&mut Value)) = match rng.random_range(0..3) {
        0 if is_old => (Event::OlderVersion, older),
        0 | 1 => (Event::NewerVersion, newer),
        _ => (Event::UnreadableVersion, with_more_actions),
    };
    let readable = world.rewrite_decision(&decision.pool, decision.tick, change);
    assert_eq!(readable, version != Event::UnreadableVersion, "{version:?} of {}", decision.tick);
    version
}

/// Arrays by action, which are null where no policy decided.
const BY_ACTION: [&str; 3] = ["mask", "probabilities", "refusals"];

fn older(json: &mut Value) {
    for name in BY_ACTION {
        if let Some(entries) = json[name].as_array_mut() {
            entries.truncate(OLD_ACTIONS);
        }
    }
}

fn newer(json: &mut Value) {
    json["version"] = json!(2);
    json["schema_hash"] = json!("f".repeat(64));
    json["forecast"] = json!({"horizon_s": 3600, "arrivals": [1.5, 2.0]});
}

fn with_more_actions(json: &mut Value) {
    for name in BY_ACTION {
        if let Some(entries) = json[name].as_array_mut() {
            let last = entries.last().cloned().unwrap_or_default();
            entries.resize(MORE_ACTIONS, last);
        }
    }
    newer(json);
}
