//! Whether a pool's records keep the promises: the invariants that can be read from decisions and machines alone.
//!
//! The simulation checks the same promises against what really ran; this is for pools whose truth nobody knows. It looks at
//! the records with the configuration of now, so that a bound or a cooldown that was changed since may be reported
//! although it was kept. Money of days and months is not looked at: that needs all records of the month.

use std::collections::{BTreeMap, BTreeSet};

use contract::Action;
use contract::decision::{Decision, Intent, IntentState, Outcome, Verdict};
use contract::limits::{LATE_TICKS, PENDING_S_MAX};
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::earlier::UNSEEN_S_MAX;
use crate::money::NanoUsd;

/// Seconds that a reconciliation may take to settle what is overdue.
const SETTLE_S: u64 = 600;
/// Seconds of the budgets of launches and stops.
const HOUR_S: u64 = 3600;

/// What the audit looks at.
#[derive(Clone, Copy, Debug)]
pub struct Books<'a> {
    /// The pool's configuration.
    pub config: &'a PoolConfig,
    /// Decisions without a gap between the first and the last, oldest first.
    pub decisions: &'a [Decision],
    /// Records of all machines that were alive at the time of these decisions.
    pub instances: &'a [InstanceRecord],
    /// Now, milliseconds since the epoch.
    pub now_ms: u64,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The decision that it is about, by its tick in seconds.
    pub tick: u64,
    /// The invariant's number in the list of docs/reference/explain.md.
    pub invariant: &'static str,
    /// What is wrong, for people.
    pub what: String,
    /// Whether nothing else explains it. A count of machines by their records is too high for the time in which a loss was
    /// not noticed, or people had a machine stopped.
    pub is_certain: bool,
}

impl Finding {
    fn new(tick: u64, invariant: &'static str, what: String) -> Self {
        Self { tick, invariant, what, is_certain: true }
    }
}

/// Everything that is wrong, by tick.
pub fn audit(books: &Books<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for decision in books.decisions {
        let mut note = |invariant: &'static str, what: Option<String>| {
            found.extend(what.map(|what| Finding::new(decision.tick, invariant, what)));
        };
        note("I1", below_min(books, decision));
        note("I2", budget(books, decision));
        note("I4", overdue(books, decision));
        note("I5", too_many(books, decision));
        note("I6", another_plan(decision));
        note("I8", not_allowed(decision));
        note("I8", stop_in_the_dark(decision));
        let counted = [("I1", above_max(books, decision)), ("I2", hourly_rate(books, decision))];
        let counted = counted.into_iter().filter_map(|(invariant, what)| Some((invariant, what?)));
        found.extend(
            counted
                .map(|(invariant, what)| Finding { is_certain: false, ..Finding::new(decision.tick, invariant, what) }),
        );
    }
    found.extend(claims(books));
    found.extend(books.instances.iter().filter_map(|record| of_nobody(books, record)));
    found.sort_by_key(|finding| finding.tick);
    found
}

fn launched(decision: &Decision) -> Option<(usize, &[String])> {
    match (decision.action, outcome(decision)?) {
        (Action::Launch(size, _), Outcome::Launched { instance_ids }) => Some((usize::from(size), instance_ids)),
        _ => None,
    }
}

fn stopped(decision: &Decision) -> Option<(usize, &[String])> {
    match (decision.action, outcome(decision)?) {
        (Action::Stop(size, _), Outcome::Terminated { instance_ids } | Outcome::Draining { instance_ids, .. }) => {
            Some((usize::from(size), instance_ids))
        }
        _ => None,
    }
}

fn outcome(decision: &Decision) -> Option<&Outcome> {
    decision.intent.as_ref()?.outcome.as_ref()
}

/// Machines that the executor must have counted for a launch: there by their records, launched by a decision or long before,
/// and not gone so soon after that EC2 may have shown them as dead already.
fn counted_at<'a>(books: &Books<'a>, tick: u64) -> impl Iterator<Item = &'a InstanceRecord> {
    let (now_ms, unseen_ms) = (tick * 1000, UNSEEN_S_MAX * 1000);
    let known = move |r: &&InstanceRecord| r.launched_ms + if r.decision.is_some() { 0 } else { unseen_ms } <= now_ms;
    let stays = move |r: &&InstanceRecord| r.terminated_ms.is_none_or(|end| end > now_ms + unseen_ms);
    books.instances.iter().filter(known).filter(stays)
}

fn above_max(books: &Books<'_>, decision: &Decision) -> Option<String> {
    let (size, _) = launched(decision)?;
    let of = books.config.sizes.get(size)?;
    let have = counted_at(books, decision.tick).filter(|r| r.size == size).count() as u32;
    let max = of.bounds.max().filter(|max| have > *max)?;
    Some(format!("after {} there were {have} machines of size {}, and {max} is the maximum", decision.action, of.name))
}

fn below_min(books: &Books<'_>, decision: &Decision) -> Option<String> {
    let (size, ids) = stopped(decision)?;
    let of = books.config.sizes.get(size)?;
    let now_ms = decision.tick * 1000;
    // the launch of a machine that no decision launched is told by EC2's clock, which may be ahead of ours
    let was_there = |r: &&InstanceRecord| r.decision.is_none() || r.launched_ms <= now_ms;
    let stays = |r: &&InstanceRecord| {
        r.size == size && !ids.contains(&r.instance_id) && r.terminated_ms.is_none_or(|end| end > now_ms)
    };
    let left = books.instances.iter().filter(stays).filter(was_there).count() as u32;
    let min = of.bounds.min();
    let what = || {
        format!("after {} there were {left} machines of size {}, and {min} is the minimum", decision.action, of.name)
    };
    (left < min).then(what)
}

/// The size and the machines that a decision launched, or stopped.
type Machines = fn(&Decision) -> Option<(usize, &[String])>;

/// The budget of the decision's own kind: launches or stops.
fn budget(books: &Books<'_>, decision: &Decision) -> Option<String> {
    let (max, of, done) = match decision.action {
        Action::Launch(..) => (books.config.launches_per_hour_max?, launched as Machines, "launched"),
        Action::Stop(..) => (books.config.stops_per_hour_max?, stopped as Machines, "stopped"),
        Action::Nothing => return None,
    };
    of(decision)?;
    let in_hour = |d: &&Decision| d.tick <= decision.tick && d.tick + HOUR_S > decision.tick;
    let n: usize = books.decisions.iter().filter(in_hour).filter_map(of).map(|(_, ids)| ids.len()).sum();
    (n > max as usize).then(|| format!("{n} machines were {done} within an hour, and {max} are allowed"))
}

fn hourly_rate(books: &Books<'_>, decision: &Decision) -> Option<String> {
    launched(decision)?;
    let max = NanoUsd::of(books.config.usd_per_hour_max?);
    let rate = NanoUsd::of(counted_at(books, decision.tick).map(|r| r.usd_per_hour).sum());
    let what = || {
        format!(
            "after {} the machines cost ${:.3} an hour, and ${:.3} is the cap",
            decision.action,
            rate.usd(),
            max.usd()
        )
    };
    (rate > max).then(what)
}

fn overdue(books: &Books<'_>, decision: &Decision) -> Option<String> {
    let (since_ms, what) = match &decision.intent {
        Some(intent) if intent.state == IntentState::Settled => return None,
        Some(intent) => (intent.claimed_ms + PENDING_S_MAX * 1000, "it was claimed and never settled"),
        None if decision.verdict == Verdict::Hold => return None,
        None => ((decision.tick + LATE_TICKS * books.config.tick_s) * 1000, "nobody claimed or released it"),
    };
    (since_ms + SETTLE_S * 1000 < books.now_ms).then(|| what.to_owned())
}

fn too_many(books: &Books<'_>, decision: &Decision) -> Option<String> {
    let Some(Plan::Launch(plan)) = decision.intent.as_ref().and_then(|intent| intent.plan.as_ref()) else {
        return None;
    };
    let of = books.instances.iter().filter(|r| r.decision == Some(decision.tick));
    let machines: BTreeSet<&str> = of.map(|r| r.instance_id.as_str()).collect();
    let what = || format!("{} machines name it, and its plan was to launch {}", machines.len(), plan.count);
    (machines.len() > plan.count as usize).then(what)
}

/// A stored plan does what the decision says, if not more.
fn another_plan(decision: &Decision) -> Option<String> {
    let plan = decision.intent.as_ref()?.plan.as_ref()?;
    let machines = decision.action.machines() as usize;
    let is_same = match (plan, decision.action) {
        (Plan::Launch(plan), Action::Launch(size, _)) => {
            plan.size == usize::from(size) && plan.count as usize <= machines
        }
        (Plan::Terminate { instance_ids, size: of, .. }, Action::Stop(size, _)) => {
            *of == usize::from(size) && instance_ids.len() <= machines
        }
        _ => false,
    };
    (!is_same).then(|| format!("the plan is not to {}: {plan:?}", decision.action))
}

fn not_allowed(decision: &Decision) -> Option<String> {
    (!decision.action.is_allowed(&decision.mask)).then(|| format!("{} was refused by the guard", decision.action))
}

fn stop_in_the_dark(decision: &Decision) -> Option<String> {
    let acts = decision.verdict == Verdict::Act && matches!(decision.action, Action::Stop(..));
    let missing = decision.observation.missing();
    (acts && !missing.is_empty()).then(|| format!("{} without {}", decision.action, missing.join(", ")))
}

/// Claims, in the order of their generations: none twice, each after the cooldown of the one before.
fn claims(books: &Books<'_>) -> Vec<Finding> {
    let claimed =
        books.decisions.iter().filter_map(|d| Some((d.intent.as_ref().filter(|i| i.generation > 0)?, d.tick)));
    let mut by_generation: BTreeMap<u64, Vec<(&Intent, u64)>> = BTreeMap::new();
    for (intent, tick) in claimed {
        by_generation.entry(intent.generation).or_default().push((intent, tick));
    }
    let twice = by_generation.values().filter(|of| of.len() > 1).map(|of| {
        let what = format!("it and the decision of {} have generation {}", of[0].1, of[0].0.generation);
        Finding::new(of[1].1, "I6", what)
    });
    let cooldown_ms = books.config.cooldown_s * 1000;
    let of_each: Vec<(&Intent, u64)> = by_generation.values().map(|of| of[0]).collect();
    let hasty = of_each.windows(2).filter(|two| two[1].0.claimed_ms < two[0].0.claimed_ms + cooldown_ms);
    let hasty = hasty.map(|two| {
        let what = format!("it was claimed within the cooldown after the decision of {}", two[0].1);
        Finding::new(two[1].1, "I2", what)
    });
    twice.chain(hasty).collect()
}

/// Every machine that names a decision of this time was launched by it.
fn of_nobody(books: &Books<'_>, record: &InstanceRecord) -> Option<Finding> {
    let tick = record.decision?;
    let (first, last) = (books.decisions.first()?.tick, books.decisions.last()?.tick);
    let planned = |d: &Decision| match d.intent.as_ref().and_then(|intent| intent.plan.as_ref()) {
        Some(Plan::Launch(plan)) => plan.size == record.size,
        _ => false,
    };
    let is_known = books.decisions.iter().any(|d| d.tick == tick && planned(d));
    let what = || format!("{} names it, and it planned no launch of that size", record.instance_id);
    // a decision that is not in the log may be one of another version, which this one cannot read
    let is_certain = books.decisions.iter().any(|d| d.tick == tick);
    ((first..=last).contains(&tick) && !is_known).then(|| Finding { is_certain, ..Finding::new(tick, "I4", what()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{claimed, config, decided, record};
    use contract::plan::LaunchPlan;

    const TICK: u64 = 600_000;

    fn plan(size: usize, count: u32) -> Plan {
        Plan::Launch(LaunchPlan {
            size,
            launch_template: "lt".into(),
            instance_type: None,
            subnet: None,
            count,
            tags: BTreeMap::new(),
            client_token: "t".into(),
        })
    }

    fn settled(action: Action, tick: u64, generation: u64, plan: Plan, outcome: Outcome) -> Decision {
        let mut decision = claimed(tick, action, generation);
        let intent = decision.intent.as_mut().unwrap();
        (intent.state, intent.plan, intent.outcome) = (IntentState::Settled, Some(plan), Some(outcome));
        decision
    }

    fn launch(tick: u64, generation: u64, id: &str) -> (Decision, InstanceRecord) {
        let outcome = Outcome::Launched { instance_ids: vec![id.into()] };
        let decision = settled(Action::Launch(0, 1), tick, generation, plan(0, 1), outcome);
        (decision, InstanceRecord { decision: Some(tick), ..record(id, 0, tick * 1000) })
    }

    fn stop(tick: u64, generation: u64, id: &str) -> Decision {
        let plan = Plan::Terminate { instance_ids: vec![id.into()], size: 0, drain_until_ms: None };
        let outcome = Outcome::Terminated { instance_ids: vec![id.into()] };
        let decision = settled(Action::Stop(0, 1), tick, generation, plan, outcome);
        Decision { observation: whole(), ..decision }
    }

    /// An observation without anything missing.
    fn whole() -> contract::Observation {
        contract::Observation {
            cpu_util_avg: Some(0.5),
            cpu_util_p90: Some(0.5),
            mem_util_avg: Some(0.5),
            mem_util_p90: Some(0.5),
            wait_ratio_window: Some(0.0),
            wait_ratio_recent: Some(0.0),
            queue_depth: Some(0),
            running: Some(0),
            work: Some(contract::observation::Work::default()),
            oldest_wait_s: Some(0.0),
            arrivals: Some(0),
            since_arrival_s: Some(0.0),
            ..contract::Observation::empty([2, 4, 8])
        }
    }

    fn found_with(
        config: &PoolConfig,
        decisions: &[Decision],
        instances: &[InstanceRecord],
    ) -> Vec<(u64, &'static str)> {
        let found = audit(&Books { config, decisions, instances, now_ms: (TICK + 100_000) * 1000 });
        found.into_iter().map(|f| (f.tick, f.invariant)).collect()
    }

    fn found(decisions: &[Decision], instances: &[InstanceRecord]) -> Vec<(u64, &'static str)> {
        found_with(&config(), decisions, instances)
    }

    #[test]
    fn books_in_order_have_no_findings() {
        let old = [record("i-1", 0, 0), record("i-2", 0, 1)];
        let (first, new) = launch(TICK, 1, "i-3");
        let gone = InstanceRecord { terminated_ms: Some((TICK + 60) * 1000), ..old[0].clone() };
        let second = stop(TICK + 60, 2, "i-1");
        let hold = Decision { verdict: Verdict::Hold, action: Action::Nothing, ..decided(TICK + 120) };
        assert_eq!(found(&[first, second, hold], &[gone, old[1].clone(), new]), []);
    }

    #[test]
    fn bounds_are_one_to_three() {
        let three: Vec<_> = (0..3).map(|i| record(&format!("i-{i}"), 0, i)).collect();
        let (fourth, new) = launch(TICK, 1, "i-4");
        assert_eq!(found(std::slice::from_ref(&fourth), &[three.clone(), vec![new.clone()]].concat()), [(TICK, "I1")]);
        // one that people launched a moment ago was not to be seen
        let stranger = record("i-2", 0, TICK * 1000 - 1000);
        let records = [three[..2].to_vec(), vec![stranger, new]].concat();
        assert_eq!(found(std::slice::from_ref(&fourth), &records), []);
        assert_eq!(found(&[stop(TICK, 1, "i-0")], &three[..1]), [(TICK, "I1")]);
        assert_eq!(found(&[stop(TICK, 1, "i-0")], &three[..2]), []);
        // of one that people launched nobody knows when by our clock
        let stranger = record("i-1", 0, TICK * 1000 + 300_000);
        assert_eq!(found(&[stop(TICK, 1, "i-0")], &[three[0].clone(), stranger]), []);
    }

    #[test]
    fn a_count_of_machines_is_no_certain_finding_and_all_else_is() {
        let three: Vec<_> = (0..3).map(|i| record(&format!("i-{i}"), 1, i)).collect();
        let outcome = Outcome::Launched { instance_ids: vec!["i-4".into()] };
        let fourth = settled(Action::Launch(1, 1), TICK, 1, plan(1, 1), outcome);
        let new = InstanceRecord { decision: Some(TICK), ..record("i-4", 1, TICK * 1000) };
        let records = [three, vec![new.clone(), InstanceRecord { instance_id: "i-5".into(), ..new }]].concat();
        let config = config();
        let books = Books { config: &config, decisions: &[fourth], instances: &records, now_ms: TICK * 1000 };
        let found: Vec<_> = audit(&books).into_iter().map(|f| (f.invariant, f.is_certain, f.what)).collect();
        let (above, twice) = (
            "after launch M there were 5 machines of size M, and 3 is the maximum",
            "2 machines name it, and its plan was to launch 1",
        );
        assert_eq!(found, [("I5", true, twice.to_owned()), ("I1", false, above.to_owned())]);
    }

    #[test]
    fn a_machine_counts_to_the_millisecond() {
        let now_ms = TICK * 1000;
        let (decision, new) = launch(TICK, 1, "i-4");
        let two = [record("i-0", 0, 0), record("i-1", 0, 1)];
        let above = |third: InstanceRecord| {
            !found(std::slice::from_ref(&decision), &[&two[..], &[third, new.clone()]].concat()).is_empty()
        };
        let until = |end_ms| InstanceRecord { terminated_ms: Some(end_ms), ..record("i-2", 0, 2) };
        // it may have been shown as dead then
        assert!(!above(until(now_ms + UNSEEN_S_MAX * 1000)) && above(until(now_ms + UNSEEN_S_MAX * 1000 + 1)));
        // it may not have been shown yet, if no decision launched it
        let since = |launched_ms| record("i-2", 0, launched_ms);
        assert!(above(since(now_ms - UNSEEN_S_MAX * 1000)) && !above(since(now_ms - UNSEEN_S_MAX * 1000 + 1)));

        let below = |other: InstanceRecord| !found(&[stop(TICK, 1, "i-0")], &[two[0].clone(), other]).is_empty();
        let of_decision = |launched_ms| InstanceRecord { decision: Some(TICK + 600), ..record("i-1", 0, launched_ms) };
        assert!(below(until(now_ms)) && !below(until(now_ms + 1)));
        assert!(!below(of_decision(now_ms)) && below(of_decision(now_ms + 1)));
    }

    #[test]
    fn an_hour_has_3600_seconds_and_what_was_refused_has_no_generation() {
        let mut config = config();
        config.launches_per_hour_max = Some(1);
        let of = |apart_s: u64| {
            let ((a, i), (b, j)) = (launch(TICK, 1, "i-1"), launch(TICK + apart_s, 2, "i-2"));
            found_with(&config, &[a, b], &[i, j])
        };
        assert_eq!((of(3599), of(3600)), (vec![(TICK + 3599, "I2")], vec![]));
        config.stops_per_hour_max = Some(1);
        let five: Vec<_> = (0..5).map(|i| record(&format!("i-{i}"), 0, i)).collect();
        let stops = |apart_s: u64| found_with(&config, &[stop(TICK, 1, "i-1"), stop(TICK + apart_s, 2, "i-2")], &five);
        assert_eq!((stops(3599), stops(3600)), (vec![(TICK + 3599, "I2")], vec![]));
        let refused = |tick| {
            let mut decision = claimed(tick, Action::Launch(0, 1), 0);
            let intent = decision.intent.as_mut().unwrap();
            (intent.state, intent.outcome) = (IntentState::Settled, Some(Outcome::Refused { because: "late".into() }));
            decision
        };
        assert_eq!(found(&[refused(TICK), refused(TICK + 60)], &[]), []);
    }

    #[test]
    fn a_plan_is_of_the_decisions_size_and_no_larger() {
        let none = Outcome::Nothing { because: String::new() };
        let of = |action, plan| found(&[settled(action, TICK, 1, plan, none.clone())], &[]);
        let stop = |n: usize, size| Plan::Terminate { instance_ids: vec!["i".into(); n], size, drain_until_ms: None };
        let wrong = vec![(TICK, "I6")];
        assert_eq!(
            (of(Action::Launch(0, 2), plan(0, 2)), of(Action::Launch(0, 2), plan(0, 3))),
            (vec![], wrong.clone())
        );
        assert_eq!(of(Action::Launch(0, 2), plan(1, 2)), wrong);
        let seen = |action, plan| {
            let decision = Decision { observation: whole(), ..settled(action, TICK, 1, plan, none.clone()) };
            found(&[decision], &[])
        };
        assert_eq!(
            (seen(Action::Stop(0, 2), stop(2, 0)), seen(Action::Stop(0, 2), stop(3, 0))),
            (vec![], wrong.clone())
        );
        assert_eq!(seen(Action::Stop(0, 2), stop(2, 1)), wrong);
        assert_eq!(seen(Action::Stop(0, 2), plan(0, 1)), wrong);
    }

    #[test]
    fn cooldown_budget_and_the_price_of_the_hour_bound_claims() {
        let ((a, i), (b, j)) = (launch(TICK, 1, "i-1"), launch(TICK + 60, 2, "i-2"));
        let two = ([a, b], [i, j]);
        let of = |change: fn(&mut PoolConfig)| {
            let mut config = config();
            change(&mut config);
            found_with(&config, &two.0, &two.1)
        };
        assert_eq!(of(|_| {}), []);
        assert_eq!(of(|c| c.cooldown_s = 60), []);
        assert_eq!(of(|c| c.cooldown_s = 61), [(TICK + 60, "I2")]);
        assert_eq!(of(|c| c.launches_per_hour_max = Some(2)), []);
        assert_eq!(of(|c| c.launches_per_hour_max = Some(1)), [(TICK + 60, "I2")]);
        // each costs 0.2 dollars an hour
        assert_eq!(of(|c| c.usd_per_hour_max = Some(0.4)), []);
        assert_eq!(of(|c| c.usd_per_hour_max = Some(0.399)), [(TICK + 60, "I2")]);
    }

    #[test]
    fn what_is_never_settled_is_found_once_it_is_overdue() {
        let pending = claimed(TICK, Action::Launch(0, 1), 1);
        let unclaimed = Decision { observation: whole(), ..decided(TICK + 60) };
        let both = [pending, unclaimed];
        assert_eq!(found(&both, &[]), [(TICK, "I4"), (TICK + 60, "I4")]);
        let config = config();
        let at = |now_ms| audit(&Books { config: &config, decisions: &both, instances: &[], now_ms }).len();
        assert_eq!(at((TICK + PENDING_S_MAX + SETTLE_S) * 1000), 0);
        assert_eq!(at((TICK + PENDING_S_MAX + SETTLE_S) * 1000 + 1), 1);
        let unclaimed_s = TICK + 60 + LATE_TICKS * 60;
        assert_eq!((at((unclaimed_s + SETTLE_S) * 1000), at((unclaimed_s + SETTLE_S) * 1000 + 1)), (1, 2));
    }

    #[test]
    fn a_decision_launches_once_and_what_it_planned() {
        let (decision, first) = launch(TICK, 1, "i-1");
        let second = InstanceRecord { instance_id: "i-2".into(), ..first.clone() };
        assert_eq!(found(std::slice::from_ref(&decision), &[first.clone(), second]), [(TICK, "I5")]);
        let larger = Decision { action: Action::Launch(1, 1), ..decision.clone() };
        assert_eq!(found(std::slice::from_ref(&larger), std::slice::from_ref(&first)), [(TICK, "I6")]);
        let other_size = InstanceRecord { size: 1, ..first.clone() };
        assert_eq!(found(std::slice::from_ref(&decision), &[other_size]), [(TICK, "I4")]);
        let again = Decision { tick: TICK + 60, ..decision.clone() };
        assert_eq!(found(&[decision, again], &[first]), [(TICK + 60, "I6")]);
    }

    #[test]
    fn a_machine_that_names_a_decision_that_is_not_in_the_log_is_no_certain_finding() {
        let ((a, i), (b, j)) = (launch(TICK, 1, "i-1"), launch(TICK + 120, 2, "i-2"));
        let (config, decisions) = (config(), [a, b]);
        let certain = |tick: u64, size: usize| {
            let third = InstanceRecord { decision: Some(tick), size, ..i.clone() };
            let third = InstanceRecord { instance_id: "i-3".into(), ..third };
            let instances = [i.clone(), j.clone(), third];
            let found = audit(&Books { config: &config, decisions: &decisions, instances: &instances, now_ms: 0 });
            found.into_iter().map(|f| (f.invariant, f.is_certain)).collect::<Vec<_>>()
        };
        assert_eq!((certain(TICK + 60, 0), certain(TICK, 1)), (vec![("I4", false)], vec![("I5", true), ("I4", true)]));
        assert_eq!((certain(TICK - 60, 0), certain(TICK + 180, 0)), (vec![], vec![]), "beyond what was read");
    }

    #[test]
    fn nothing_is_stopped_in_the_dark_or_against_the_guard() {
        let two = [record("i-1", 0, 1), record("i-2", 0, 2)];
        let blind = Decision { observation: contract::Observation::empty([2, 4, 8]), ..stop(TICK, 1, "i-1") };
        assert_eq!(found(&[blind], &two), [(TICK, "I8")]);
        let mut refused = stop(TICK, 1, "i-1");
        refused.mask[2] = false;
        assert_eq!(found(&[refused], &two), [(TICK, "I8")]);
    }
}
