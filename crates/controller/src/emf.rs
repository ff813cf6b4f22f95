//! What both functions report, as lines in CloudWatch's embedded metric format: one JSON document in the log, from which
//! CloudWatch makes metrics without a call.
//!
//! Format: "Specification: Embedded metric format", Amazon CloudWatch User Guide. `docs/reference/metrics.md` lists every
//! metric with what to watch it for.

use contract::decision::{Decider, Decision};
use contract::money::Spending;
use contract::shadow::Shadow;
use serde_json::{Map, Value, json};

use crate::reason::{Hold, Reason};

/// The namespace of every metric.
pub const NAMESPACE: &str = "Twinscaler";
/// The dimension that every metric has.
pub const POOL: &str = "Pool";
/// The dimension that some metrics have as well: a name out of an enum, so that there are few.
pub const REASON: &str = "Reason";
/// The reason of a hold or a failure that is none of ours to name.
pub const OTHER: &str = "Other";

/// The units that are used here, as CloudWatch names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A time.
    Seconds,
    /// A short time.
    Milliseconds,
    /// Dollars: CloudWatch has no unit for money.
    None,
}

impl Unit {
    /// CloudWatch's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
            Unit::Milliseconds => "Milliseconds",
            Unit::None => "None",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Whether it is also reported by reason.
    pub by_reason: bool,
}

const fn count(name: &'static str) -> Metric {
    Metric { name, unit: Unit::Count, by_reason: false }
}

const fn by_reason(name: &'static str) -> Metric {
    Metric { by_reason: true, ..count(name) }
}

const fn time(name: &'static str, unit: Unit) -> Metric {
    Metric { unit, ..count(name) }
}

const fn dollars(name: &'static str) -> Metric {
    Metric { unit: Unit::None, ..count(name) }
}

macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident: $($name:ident = $metric:expr;)+) => {
        $(
            #[allow(missing_docs, reason = "docs/reference/metrics.md, which a test holds to this list")]
            pub const $name: Metric = $metric;
        )+
        $(#[$doc])*
        pub const $list: &[Metric] = &[$($name,)+];
    };
}

metrics! {
    /// What the evaluator reports, once a tick.
    EVALUATOR:
    DECISIONS = count("Decisions");
    HOLDS = by_reason("Holds");
    DECIDED_BY_POLICY = count("DecidedByPolicy");
    DECIDED_BY_RULE = count("DecidedByRule");
    MISSING_METRICS = count("MissingMetrics");
    QUEUE_DEPTH = count("QueueDepth");
    OLDEST_WAIT = time("OldestWait", Unit::Seconds);
    MACHINES_READY = count("MachinesReady");
    MACHINES_BOOTING = count("MachinesBooting");
    REAL_DOLLARS = dollars("RealDollars");
    SHADOW_DOLLARS = dollars("ShadowDollars");
    SHADOW_SAVING = dollars("ShadowSaving");
    DOLLARS_PER_HOUR = dollars("DollarsPerHour");
    SPENT_TODAY = dollars("SpentToday");
    SPENT_THIS_MONTH = dollars("SpentThisMonth");
    LAUNCHES_CAPPED = count("LaunchesCapped");
    MONEY_USED_UP = count("MoneyUsedUp");
    TICK_LAG = time("TickLag", Unit::Milliseconds);
    EVALUATOR_TIME = time("EvaluatorTime", Unit::Milliseconds);
    EVALUATOR_FAILURES = by_reason("EvaluatorFailures");
}

metrics! {
    /// What the executor reports, once a record of the stream, once a reconciliation and once a notice that was taken.
    EXECUTOR:
    CLAIMS = count("Claims");
    LOST_CLAIMS = by_reason("LostClaims");
    LAUNCHES = count("Launches");
    STOPS = count("Stops");
    NO_CAPACITY = count("NoCapacity");
    REFUSED = by_reason("Refused");
    NOTHING_TO_DO = count("NothingToDo");
    FAILED_ACTIONS = count("FailedActions");
    PENDING = count("Pending");
    RECONCILIATIONS = count("Reconciliations");
    ADOPTED = count("Adopted");
    ORPHANS = count("Orphans");
    ORPHANS_ENDED = count("OrphansEnded");
    STUCK_ENDED = count("StuckEnded");
    LOST = count("Lost");
    UNHEALTHY = count("Unhealthy");
    UNHEALTHY_HOLD = count("UnhealthyHold");
    DRAINED = count("Drained");
    INTERRUPTIONS = count("Interruptions");
    FINISHED = count("Finished");
    RELEASED = count("Released");
    EXECUTOR_TIME = time("ExecutorTime", Unit::Milliseconds);
    EXECUTOR_FAILURES = by_reason("ExecutorFailures");
}

/// Values of one report.
pub type Values = Vec<(Metric, f64)>;

/// One document: these values of a pool, those that go by reason under this one as well.
///
/// A value that is not a finite number is left out: CloudWatch would refuse the whole document. A metric by reason
/// without a reason is reported for the pool alone.
pub fn document(at_ms: u64, pool: &str, reason: Option<&str>, values: &[(Metric, f64)]) -> Value {
    let finite = || values.iter().filter(|(_, value)| value.is_finite());
    let named = |by: bool| -> Vec<Value> {
        let of_kind = finite().filter(|(metric, _)| (metric.by_reason && reason.is_some()) == by);
        of_kind.map(|(metric, _)| json!({"Name": metric.name, "Unit": metric.unit.name()})).collect()
    };
    let directive = |dimensions: Value, metrics: Vec<Value>| {
        (!metrics.is_empty()).then(|| json!({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": metrics}))
    };
    let of_pool = directive(json!([[POOL]]), named(false));
    let of_reason = directive(json!([[POOL], [POOL, REASON]]), named(true));
    let directives: Vec<Value> = of_pool.into_iter().chain(of_reason).collect();
    let mut document = Map::new();
    document.insert("_aws".into(), json!({"Timestamp": at_ms, "CloudWatchMetrics": directives}));
    document.insert(POOL.into(), pool.into());
    document.extend(reason.map(|reason| (REASON.to_owned(), reason.into())));
    document.extend(finite().map(|(metric, value)| (metric.name.to_owned(), json!(value))));
    Value::Object(document)
}

/// When an invocation ran, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Its end, milliseconds since the epoch, by the function's own clock.
    pub at_ms: u64,
    /// Its own time, milliseconds.
    pub own_ms: f64,
}

/// The evaluator's document about a tick that was decided.
pub fn decided(decision: &Decision, timing: Timing) -> Value {
    let hold = Hold::of_decision(decision).map(Hold::name);
    let holds = decision.verdict == contract::decision::Verdict::Hold;
    let mut values = vec![
        (DECISIONS, 1.0),
        (HOLDS, f64::from(u8::from(holds))),
        (DECIDED_BY_POLICY, f64::from(u8::from(matches!(decision.decider, Decider::Policy { .. })))),
        (DECIDED_BY_RULE, f64::from(u8::from(matches!(decision.decider, Decider::Rule { .. })))),
        (MISSING_METRICS, decision.missing.len() as f64),
    ];
    values.extend(seen(decision));
    values.extend(decision.shadow.iter().flat_map(books));
    values.extend(decision.spending.iter().flat_map(money));
    values.extend(times(decision.tick, timing));
    document(timing.at_ms, &decision.pool, holds.then(|| hold.unwrap_or(OTHER)), &values)
}

/// The books of a pool that only observes, since its ledger began.
fn books(shadow: &Shadow) -> Values {
    let (real, paper) = (shadow.real.total_usd(), shadow.shadow.total_usd());
    vec![(REAL_DOLLARS, real), (SHADOW_DOLLARS, paper), (SHADOW_SAVING, shadow.saved_usd())]
}

/// The money of a pool with caps.
fn money(spending: &Spending) -> Values {
    let known = [(SPENT_TODAY, spending.usd_today), (SPENT_THIS_MONTH, spending.usd_this_month)];
    let flags = [(LAUNCHES_CAPPED, spending.is_full), (MONEY_USED_UP, spending.is_used_up())];
    let known = known.into_iter().filter_map(|(metric, usd)| Some((metric, usd?)));
    let flags = flags.map(|(metric, on)| (metric, f64::from(u8::from(on))));
    [(DOLLARS_PER_HOUR, spending.usd_per_hour)].into_iter().chain(known).chain(flags).collect()
}

/// What was measured at a tick. What was missing is left out, never reported as zero.
fn seen(decision: &Decision) -> Values {
    let o = decision.measured();
    let machines =
        |n: fn(&contract::capacity::Counts) -> u32| o.fleet.iter().map(|counts| f64::from(n(counts))).sum::<f64>();
    let queue = o.queue_depth.map(|n| (QUEUE_DEPTH, f64::from(n)));
    let wait = o.oldest_wait_s.map(|s| (OLDEST_WAIT, s));
    let fleet = [(MACHINES_READY, machines(|n| n.ready)), (MACHINES_BOOTING, machines(|n| n.booting))];
    queue.into_iter().chain(wait).chain(fleet).collect()
}

fn times(tick: u64, timing: Timing) -> Values {
    let lag_ms = timing.at_ms as f64 - timing.own_ms - tick as f64 * 1000.0;
    vec![(TICK_LAG, lag_ms.max(0.0)), (EVALUATOR_TIME, timing.own_ms)]
}

/// The evaluator's document about a tick of a pool whose mode is off.
pub fn off(pool: &str, tick: u64, timing: Timing) -> Value {
    let mut values = vec![(DECISIONS, 0.0), (HOLDS, 1.0)];
    values.extend(times(tick, timing));
    document(timing.at_ms, pool, Some(Hold::ModeOff.name()), &values)
}

/// The evaluator's document about a tick that a version has decided whose record this one cannot read: that it is decided is all
/// that is known.
pub fn decided_elsewhere(pool: &str, tick: u64, timing: Timing) -> Value {
    let mut values = vec![(DECISIONS, 1.0)];
    values.extend(times(tick, timing));
    document(timing.at_ms, pool, None, &values)
}

/// The evaluator's document about a tick that could not be decided.
pub fn undecided(pool: &str, tick: u64, kind: crate::ports::Kind, timing: Timing) -> Value {
    let mut values = vec![(DECISIONS, 0.0), (EVALUATOR_FAILURES, 1.0)];
    values.extend(times(tick, timing));
    document(timing.at_ms, pool, Some(kind.name()), &values)
}

#[cfg(test)]
mod tests;
