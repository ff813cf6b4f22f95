//! What the executor reports: one document in CloudWatch's embedded metric format for each record of the stream, for each
//! reconciliation, and for each notice that was taken.

use contract::decision::Outcome;
use contract::pool::is_pool_name;
use controller::emf::{self, Timing, Values};
use controller::ports::Port;
use controller::reason::{Dropped, Reason, Refused};
use serde_json::Value;

use crate::execute::Done;
use crate::reconcile::{Reconciled, Unfinished};

/// The pool of a record that the table does not know: its name is somebody else's, and could be any. No pool is called so.
const UNKNOWN_POOL: &str = "(unknown)";

/// The document about one record of the stream.
pub fn executed(pool: &str, done: &Port<Done>, timing: Timing) -> Value {
    let (mut values, reason) = match done {
        Ok(Done::Dropped(why)) => (vec![(emf::LOST_CLAIMS, 1.0)], Some(why.name())),
        Ok(Done::Pending(_)) => (vec![(emf::CLAIMS, 1.0), (emf::PENDING, 1.0)], None),
        Ok(Done::Settled(outcome)) => settled(outcome),
        Err(error) => (vec![(emf::EXECUTOR_FAILURES, 1.0)], Some(error.kind.name())),
    };
    values.push((emf::EXECUTOR_TIME, timing.own_ms));
    let known = is_pool_name(pool) && !matches!(done, Ok(Done::Dropped(Dropped::Unknown)));
    emf::document(timing.at_ms, if known { pool } else { UNKNOWN_POOL }, reason, &values)
}

fn settled(outcome: &Outcome) -> (Values, Option<&'static str>) {
    let of = |metric, n: usize| (vec![(emf::CLAIMS, 1.0), (metric, n as f64)], None);
    match outcome {
        Outcome::Launched { instance_ids } => of(emf::LAUNCHES, instance_ids.len()),
        Outcome::Terminated { instance_ids } | Outcome::Draining { instance_ids, .. } => {
            of(emf::STOPS, instance_ids.len())
        }
        Outcome::NoCapacity { .. } => of(emf::NO_CAPACITY, 1),
        Outcome::Nothing { .. } => of(emf::NOTHING_TO_DO, 1),
        Outcome::Failed { .. } => of(emf::FAILED_ACTIONS, 1),
        Outcome::Refused { because } => {
            let why = Refused::of(because);
            // A plan is made, and refused, behind the claim; every other refusal is made before it.
            let claimed = f64::from(u8::from(why.is_some_and(Refused::is_after_claim)));
            (vec![(emf::CLAIMS, claimed), (emf::REFUSED, 1.0)], Some(why.map_or(emf::OTHER, Reason::name)))
        }
    }
}

/// The document about a reconciliation: what it found and did, also where a step failed.
pub fn reconciled(pool: &str, done: &Result<Reconciled, Unfinished>, timing: Timing) -> Value {
    let (found, error) = match done {
        Ok(done) => (Some(done), None),
        Err(Unfinished { error, done }) => (done.as_deref(), Some(error)),
    };
    let reason = error.map(|error| error.kind.name());
    let mut values = found.map(steps).unwrap_or_default();
    values.extend(error.map(|_| (emf::EXECUTOR_FAILURES, 1.0)));
    values.push((emf::RECONCILIATIONS, f64::from(u8::from(error.is_none()))));
    values.push((emf::EXECUTOR_TIME, timing.own_ms));
    emf::document(timing.at_ms, pool, reason, &values)
}

/// The document of a notice that a machine of the pool is taken back.
pub fn interrupted(pool: &str, timing: Timing) -> Value {
    emf::document(timing.at_ms, pool, None, &[(emf::INTERRUPTIONS, 1.0), (emf::EXECUTOR_TIME, timing.own_ms)])
}

fn steps(done: &Reconciled) -> Values {
    let Reconciled { adopted, orphans, orphans_ended, stuck_ended, lost, drained, released, unhealthy, held, .. } =
        *done;
    let Reconciled { finished, launched, stopped, failed, .. } = *done;
    let counts = [
        (emf::ADOPTED, adopted),
        (emf::ORPHANS, orphans),
        (emf::ORPHANS_ENDED, orphans_ended),
        (emf::STUCK_ENDED, stuck_ended),
        (emf::LOST, lost),
        (emf::UNHEALTHY, unhealthy),
        (emf::UNHEALTHY_HOLD, u32::from(held)),
        (emf::DRAINED, drained),
        (emf::FINISHED, finished),
        (emf::LAUNCHES, launched),
        (emf::STOPS, stopped),
        (emf::FAILED_ACTIONS, failed),
        (emf::RELEASED, released),
    ];
    counts.map(|(metric, n)| (metric, f64::from(n))).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::ports::{Kind, PortError};
    use serde_json::json;

    const TIMING: Timing = Timing { at_ms: 1000, own_ms: 20.0 };

    /// What a document reports besides its time: names and values, and the reason.
    fn told(document: &Value) -> (Vec<(String, f64)>, Option<&str>) {
        let all = document.as_object().unwrap().iter();
        let numbers = all.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        let reported = numbers.filter(|(name, _)| name != "ExecutorTime").collect();
        (reported, document.get("Reason").and_then(Value::as_str))
    }

    fn of(outcome: Outcome) -> Value {
        executed("p", &Ok(Done::Settled(outcome)), TIMING)
    }

    fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        let mut all: Vec<_> = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn each_outcome_is_counted_as_what_it_is() {
        let two = || vec!["i-1".to_owned(), "i-2".to_owned()];
        let text = String::new;
        for (outcome, name, n) in [
            (Outcome::Launched { instance_ids: two() }, "Launches", 2.0),
            (Outcome::Terminated { instance_ids: two() }, "Stops", 2.0),
            (Outcome::NoCapacity { code: text() }, "NoCapacity", 1.0),
            (Outcome::Nothing { because: text() }, "NothingToDo", 1.0),
            (Outcome::Failed { error: text() }, "FailedActions", 1.0),
        ] {
            assert_eq!(told(&of(outcome)), (named(&[("Claims", 1.0), (name, n)]), None));
        }
        let pending = executed("p", &Ok(Done::Pending("why".into())), TIMING);
        assert_eq!(told(&pending), (named(&[("Claims", 1.0), ("Pending", 1.0)]), None));
    }

    #[test]
    fn a_refusal_is_named_and_only_one_behind_the_claim_is_a_claim() {
        let refused = |because: &str| of(Outcome::Refused { because: because.into() });
        for (because, claims, reason) in [
            ("cooldown", 0.0, "Cooldown"),
            ("kill switch", 0.0, "KillSwitch"),
            ("late by 400 s", 0.0, "Late"),
            ("mode observe", 0.0, "Mode"),
            ("unhealthy: of 4 machines 3 never took tasks and 0 are gone from EC2", 1.0, "Unhealthy"),
            ("the plan was refused: i-1 does not carry our tags", 1.0, "Plan"),
            ("words of another version", 0.0, "Other"),
        ] {
            let document = refused(because);
            assert_eq!(told(&document), (named(&[("Claims", claims), ("Refused", 1.0)]), Some(reason)));
            assert!(!document.to_string().contains("i-1"), "no machine is a dimension");
        }
    }

    #[test]
    fn a_dropped_record_is_named_and_a_forged_one_makes_no_pool() {
        let dropped = |pool: &str, why| executed(pool, &Ok(Done::Dropped(why)), TIMING);
        let duplicate = dropped("p", Dropped::Duplicate);
        assert_eq!(told(&duplicate), (named(&[("LostClaims", 1.0)]), Some("Duplicate")));
        assert_eq!(duplicate["Pool"], "p");
        assert_eq!(dropped("p-17", Dropped::Unknown)["Pool"], "(unknown)");
        assert!(!is_pool_name("(unknown)"));
        let error = || PortError::not_found("GetItem", "no such pool");
        assert_eq!(executed("../etc", &Err(error()), TIMING)["Pool"], "(unknown)");
        let failed = executed("p", &Err(error()), TIMING);
        assert_eq!(told(&failed), (named(&[("ExecutorFailures", 1.0)]), Some("NotFound")));
    }

    #[test]
    fn a_reconciliation_reports_every_kind_of_step() {
        let done = Reconciled {
            adopted: 1,
            orphans: 2,
            orphans_ended: 8,
            stuck_ended: 9,
            lost: 3,
            drained: 7,
            finished: 4,
            launched: 10,
            stopped: 11,
            failed: 12,
            released: 5,
            unhealthy: 6,
            held: true,
        };
        let document = reconciled("p", &Ok(done), TIMING);
        let expected = [
            ("Adopted", 1.0),
            ("Orphans", 2.0),
            ("OrphansEnded", 8.0),
            ("Lost", 3.0),
            ("Drained", 7.0),
            ("Finished", 4.0),
            ("Launches", 10.0),
            ("Stops", 11.0),
            ("FailedActions", 12.0),
            ("Released", 5.0),
            ("StuckEnded", 9.0),
            ("Unhealthy", 6.0),
            ("UnhealthyHold", 1.0),
        ];
        let of_all = |others: &[(&str, f64)]| named(&[&expected, others].concat());
        assert_eq!(told(&document), (of_all(&[("Reconciliations", 1.0)]), None));
        assert_eq!(document["ExecutorTime"], 20.0);
        let error = || PortError { operation: "x", code: "y".into(), message: "z".into(), kind: Kind::Denied };
        let unread = Err(Unfinished::from(error()));
        let failed = [("ExecutorFailures", 1.0), ("Reconciliations", 0.0)];
        assert_eq!(told(&reconciled("p", &unread, TIMING)), (named(&failed), Some("Denied")));
        let some = Err(Unfinished { error: error(), done: Some(Box::new(done)) });
        assert_eq!(told(&reconciled("p", &some, TIMING)), (of_all(&failed), Some("Denied")));
    }

    #[test]
    fn together_they_report_every_metric_of_the_list() {
        let mut reported = std::collections::BTreeSet::new();
        let error = || PortError::conflict("claim", "raced");
        let outcomes = [
            Outcome::Launched { instance_ids: vec![] },
            Outcome::Terminated { instance_ids: vec![] },
            Outcome::NoCapacity { code: String::new() },
            Outcome::Nothing { because: String::new() },
            Outcome::Failed { error: String::new() },
            Outcome::Refused { because: String::new() },
        ];
        let done = outcomes.into_iter().map(|o| Ok(Done::Settled(o)));
        let others = [Ok(Done::Pending(String::new())), Ok(Done::Dropped(Dropped::Duplicate)), Err(error())];
        let documents = done.chain(others).map(|d| executed("p", &d, TIMING));
        for document in documents.chain([reconciled("p", &Ok(Reconciled::default()), TIMING), interrupted("p", TIMING)])
        {
            reported.extend(document.as_object().unwrap().keys().cloned());
        }
        let mut listed: std::collections::BTreeSet<String> = emf::EXECUTOR.iter().map(|m| m.name.to_owned()).collect();
        listed.extend(["_aws", "Pool", "Reason"].map(str::to_owned));
        assert_eq!(json!(reported), json!(listed));
    }
}
