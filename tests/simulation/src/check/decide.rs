//! What must hold for every decision that is written: I7, I8, I9, and I14 for its record.

use contract::action::Action;
use contract::decision::{Decider, Decision, Verdict};
use contract::limits::{LSTM_GAP_TICKS_MAX, OUTAGE_HOLD_S, OUTAGE_TASKS_MIN, WARM_UP_TICKS};
use contract::observation::encode;
use controller::ports::Decisions;
use controller::rule;
use policy::{Policy, State, StepOut};

use super::{Checked, Checker, Scene, ensure, shadow};
use crate::SECRET;
use crate::now;
use crate::policies::LOADED;

impl Checker {
    /// I7, I8, I9 and I14 for a new decision.
    pub(super) fn decided(&mut self, scene: Scene<'_>, d: &Decision) -> Checked {
        let recent: Vec<u64> =
            self.written.iter().filter(|(at, _)| *at >= scene.begun).map(|(_, tick)| *tick).collect();
        self.written.push((scene.meddling.moment, d.tick));
        decided(scene, d, &recent)
    }
}

/// `recent`: ticks that were decided since the evaluator began, in the order of their writes.
fn decided(scene: Scene<'_>, d: &Decision, recent: &[u64]) -> Checked {
    let json = serde_json::to_string(d).expect("a decision is plain data");
    ensure(!json.contains(SECRET), "I14", || format!("the decision of {} holds the secret", d.tick))?;
    let back: Option<Decision> = serde_json::from_str(&json).ok();
    ensure(back.as_ref() == Some(d), "I9", || format!("the decision of {} is not what its record gives back", d.tick))?;
    let doubtful = d.observation.is_doubtful();
    ensure(d.action.is_allowed(&d.mask), "I8", || format!("{} at {} is not allowed by the mask", d.action, d.tick))?;
    let stops = matches!(d.action, Action::Stop(..)) && d.verdict == Verdict::Act;
    ensure(!(stops && doubtful), "I8", || format!("{} at {} on doubtful data", d.action, d.tick))?;
    finite(d)?;
    blacked_out(scene, d, recent)?;
    warming_up(scene, d)?;
    attributed(scene, d)?;
    shadow::balanced(scene, d, recent)?;
    replayed(scene, d, recent)
}

/// I8: nothing is stopped while what is seen looks like an outage. Where others decided meanwhile, the evaluator may not
/// have seen what is stored now.
fn blacked_out(scene: Scene<'_>, d: &Decision, recent: &[u64]) -> Checked {
    if !matches!(d.action, Action::Stop(..)) || d.verdict != Verdict::Act || !recent.is_empty() {
        return Ok(());
    }
    let past =
        now(scene.world.outside().before(&d.pool, d.tick, WARM_UP_TICKS)).expect("the outside's calls never fail");
    let look = |d: &'_ Decision| (d.tick, tasks(d));
    let mut known = past.iter().map(look).filter_map(|(tick, tasks)| Some((tick, tasks?)));
    let before = known.find(|(_, tasks)| *tasks > 0);
    let first_without = past.iter().take_while(|p| Some(p.tick) != before.map(|b| b.0)).filter(|p| tasks(p).is_some());
    let first_without = first_without.last().map_or(d.tick, |p| p.tick);
    let hidden = tasks(d) == Some(0)
        && first_without + OUTAGE_HOLD_S > d.tick
        && before.is_some_and(|(tick, n)| {
            n >= OUTAGE_TASKS_MIN && tick + LSTM_GAP_TICKS_MAX * scene.config.tick_s >= first_without
        });
    ensure(!hidden, "I8", || format!("{} at {}, and {before:?} tasks were gone at once", d.action, d.tick))
}

/// Tasks that a decision saw, if it could see them.
fn tasks(d: &Decision) -> Option<u32> {
    let o = d.measured();
    Some((o.queue_depth? + o.running?).max(o.arrivals?))
}

/// I8: what is stored is finite, or missing.
fn finite(d: &Decision) -> Checked {
    let o = &d.observation;
    let numbers =
        [o.cpu_util_avg, o.cpu_util_p90, o.mem_util_avg, o.mem_util_p90, o.wait_ratio_window, o.oldest_wait_s];
    let shares = &numbers[..5];
    let sound =
        numbers.iter().flatten().all(|x| x.is_finite() && *x >= 0.0) && shares.iter().flatten().all(|x| *x <= 1.0);
    ensure(sound, "I8", || format!("the observation at {} is absurd: {o:?}", d.tick))
}

/// I8: no machine counts as ready before its worker said so.
fn warming_up(scene: Scene<'_>, d: &Decision) -> Checked {
    let records = scene.world.instances();
    for (size, counts) in d.measured().fleet.iter().enumerate() {
        let ever_ready = records.iter().filter(|r| r.size == size && r.ready_ms.is_some()).count();
        ensure(counts.ready as usize <= ever_ready, "I8", || {
            format!("{} machines of size {size} ready at {}, and {ever_ready} ever were", counts.ready, d.tick)
        })?;
    }
    Ok(())
}

/// I7: the rule, or a policy that the pointer named and that is verified.
fn attributed(scene: Scene<'_>, d: &Decision) -> Checked {
    match &d.decider {
        Decider::Rule { name, .. } => {
            ensure([rule::NAME, rule::MINIMUM].contains(&name.as_str()), "I7", || format!("no such rule: {name}"))
        }
        Decider::Policy { sha256 } => {
            let promoted = scene.meddling.promotions.named.contains(sha256) && LOADED.contains_key(sha256);
            ensure(promoted, "I7", || format!("{sha256} decided at {} and was never promoted or verified", d.tick))
        }
    }
}

/// I9: the policy on the encoded observation, from one of the states that it may have gone on from, gives the same
/// numbers again, bit for bit.
fn replayed(scene: Scene<'_>, d: &Decision, recent: &[u64]) -> Checked {
    let (Some(state), Some(probabilities)) = (&d.lstm, d.probabilities) else { return Ok(()) };
    let Some(policy) = LOADED.get(&state.policy) else {
        return ensure(false, "I7", || format!("the state at {} belongs to {}", d.tick, state.policy));
    };
    let same = |mut from: State| {
        let out: Option<StepOut> = policy.step(&encode(&d.observation), &d.mask, &mut from).ok();
        let of_record = |out: StepOut| out.probabilities == probabilities && Some(out.value) == d.value;
        out.is_some_and(of_record) && from.h == state.h && from.c == state.c
    };
    let limit = WARM_UP_TICKS + recent.len();
    let past = now(scene.world.outside().before(&d.pool, d.tick, limit)).expect("the outside's calls never fail");
    let again = (0..=recent.len()).any(|seen| {
        // What was written after the evaluator's read, it did not see.
        let known: Vec<&Decision> = past.iter().filter(|p| !recent[seen..].contains(&p.tick)).collect();
        carried(scene, &known, d).is_some_and(same) || same(warmed_up(policy, &known))
    });
    ensure(again, "I9", || format!("the decision of {} cannot be replayed", d.tick))
}

/// The state of the decision before, if it is this policy's and young enough.
fn carried(scene: Scene<'_>, known: &[&Decision], d: &Decision) -> Option<State> {
    let last = known.first()?;
    let young = (d.tick - last.tick) / scene.config.tick_s <= LSTM_GAP_TICKS_MAX;
    let policy = &d.lstm.as_ref()?.policy;
    let lstm = last.lstm.as_ref().filter(|lstm| young && lstm.policy == *policy)?;
    Some(State { h: lstm.h.clone(), c: lstm.c.clone() })
}

fn warmed_up(policy: &Policy, known: &[&Decision]) -> State {
    let mut state = policy.zero_state();
    for decision in known.iter().take(WARM_UP_TICKS).rev() {
        // A step that cannot be run leaves the state as it was; the handler would have given up.
        let _ = policy.step(&encode(&decision.observation), &decision.mask, &mut state);
    }
    state
}
