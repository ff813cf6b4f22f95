//! What happened, in a line for people, and as an event that must happen somewhere.

use contract::Action;
use contract::decision::{Decider, Decision, Intent, IntentState, Outcome, Verdict};
use contract::money::Cap;
use contract::plan::Plan;
use controller::guard::Refusal;
use controller::reason::Hold;
use controller::rule;
use testkit::fate::Happened;
use testkit::{Machine, World, op};

use crate::invocation::Answer;
use crate::policies::BAD;
use crate::seen::{Event, Seen};

/// A line of the event log.
pub fn line(id: u64, happened: &Happened) -> String {
    match happened {
        Happened::Called { operation, code: None } => format!("  #{id} {operation}"),
        Happened::Called { operation, code: Some(code) } => format!("  #{id} {operation} fails: {code}"),
        Happened::Decided(d) => {
            let fleet = d.measured().fleet.map(|of| format!("{}+{}", of.ready, of.booting)).join(" ");
            format!("  #{id} decided {}: {} {:?} by {}, fleet {fleet}", d.tick, d.action, d.verdict, d.policy_name())
        }
        Happened::Claimed { tick, generation, now_ms, .. } => {
            format!("  #{id} claimed {tick} as generation {generation} at {now_ms}")
        }
        Happened::Stored { tick, after, .. } => {
            format!("  #{id} stored {tick}: {:?} {:?} {:?}", after.state, after.plan, after.outcome)
        }
        Happened::Launched { plan, instance_ids } => format!("  #{id} launched {instance_ids:?} of size {}", plan.size),
        Happened::TerminationAsked(ids) => format!("  #{id} asks to terminate {ids:?}"),
        Happened::Terminated(machine) => format!("  #{id} terminated {machine}"),
        Happened::PointerMoved { after, .. } => {
            format!("  #{id} moved the pointer to {} as number {}", &after.sha256[..12], after.serial)
        }
    }
}

/// The machines that run and the records that say so, for whoever has to find out why something does not hold.
pub fn still(world: &World) -> Vec<String> {
    let tags = |m: &Machine| m.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
    let machine = |m: &Machine| {
        let Machine { instance_id, visible, protected, launch_template, .. } = m;
        format!("  {instance_id} of {launch_template:?}: visible {visible}, protected {protected}; {}", tags(m))
    };
    let (machines, records) = (world.machines(), world.instances());
    let live = records.iter().filter(|r| r.terminated_ms.is_none()).map(|r| format!("  {r:?}"));
    machines.iter().filter(|m| m.alive).map(machine).chain(live).collect()
}

/// A line of the event log about an invocation's end.
pub fn answer(id: u64, answer: &Answer) -> String {
    match answer {
        Answer::Evaluated(Ok(())) => format!("  #{id} ends"),
        Answer::Evaluated(Err(error)) | Answer::Reconciled(Err(error)) => format!("  #{id} ends: {error}"),
        Answer::Batch(batch) => format!("  #{id} ends: to be delivered again {:?}", batch.failures),
        Answer::Reconciled(Ok(done)) => format!("  #{id} ends: {done:?}"),
        Answer::Interrupted(done) => format!("  #{id} ends: taken out of service of {done:?}"),
        Answer::Promoted(Ok(done)) => {
            format!("  #{id} ends: number {:?} is in charge", done.as_ref().map(|p| p.serial))
        }
        Answer::Promoted(Err(error)) => format!("  #{id} ends: {error}"),
        Answer::Refused(error) => format!("  #{id} refuses its event: {error}"),
    }
}

/// Notes what an answer shows.
pub fn note_answer(answer: &Answer, seen: &mut Seen) {
    seen.note_if(matches!(answer, Answer::Refused(_)), Event::MalformedEvent);
    seen.note_if(matches!(answer, Answer::Interrupted(Ok(Some(_)))), Event::NoticeTaken);
    seen.note_if(matches!(answer, Answer::Interrupted(Ok(None))), Event::NoticeOfOthers);
    let Answer::Reconciled(Ok(done)) = answer else { return };
    seen.note_if(done.drained > 0, Event::Drained);
    seen.note_if(done.stuck_ended > 0, Event::StuckEnded);
    seen.note_if(done.orphans_ended > 0, Event::OrphanEnded);
}

/// Notes what the handlers' own log shows and nothing else does.
pub fn note_log(text: &str, seen: &mut Seen) {
    const PHRASES: [(&str, Event); 13] = [
        ("duplicate of a decision", Event::Duplicate),
        ("the table has no such decision", Event::ForgedRecord),
        ("adopted: no live record", Event::Adopted),
        ("orphan: ", Event::Orphan),
        ("lost: EC2 no longer", Event::Lost),
        ("suspected; the next", Event::Suspected),
        ("Control.put_suspects: Conflict", Event::SuspectsRaced),
        ("settled an interrupted decision", Event::Finished),
        ("released a decision", Event::Released),
        ("mode is off", Event::ModeOff),
        ("works on: its time to drain", Event::WorkedOn),
        ("decided by a version that cannot be read", Event::UnreadableTick),
        ("an executor of another version is at work", Event::UnreadableRecord),
    ];
    for (phrase, event) in PHRASES {
        seen.note_if(text.contains(phrase), event);
    }
}

/// Notes what happened.
pub fn note(happened: &Happened, seen: &mut Seen) {
    match happened {
        Happened::Called { operation: op::DECISIONS_CLAIM, code: Some(code) } => {
            seen.note_if(code == "TransactionConflict", Event::Raced);
        }
        Happened::Called { operation, code: Some(code) } if code == "Down" => note_outage(operation, seen),
        Happened::Claimed { .. } => seen.note(Event::Claimed),
        Happened::Decided(decision) => note_decision(decision, seen),
        Happened::Stored { after, .. } if after.state == IntentState::Settled => {
            note_several(after, seen);
            after.outcome.iter().for_each(|outcome| note_outcome(outcome, seen));
        }
        _ => {}
    }
}

/// Notes which call met an outage, where hardly any other shows it.
fn note_outage(operation: &str, seen: &mut Seen) {
    let event = match operation {
        op::DECISIONS_BEFORE => Event::PastDown,
        op::POOL_OF => Event::OwnerDown,
        op::INSTANCES_LAUNCHED => Event::BudgetDown,
        op::TASKS_ARRIVAL_TIMES => Event::ArrivalsDown,
        _ => return,
    };
    seen.note(event);
}

fn note_several(intent: &Intent, seen: &mut Seen) {
    match (&intent.plan, &intent.outcome) {
        (_, Some(Outcome::Launched { instance_ids })) => {
            seen.note_if(instance_ids.len() > 1, Event::LaunchedSeveral);
            let elsewhere = matches!(&intent.plan, Some(Plan::Launch(launch)) if launch.instance_type.is_some());
            seen.note_if(elsewhere, Event::LaunchedElsewhere);
        }
        (Some(Plan::Terminate { instance_ids: planned, .. }), Some(Outcome::Terminated { instance_ids })) => {
            seen.note_if(instance_ids.len() > 1, Event::TerminatedSeveral);
            seen.note_if(instance_ids.len() < planned.len(), Event::TerminatedSome);
        }
        _ => {}
    }
}

fn note_outcome(outcome: &Outcome, seen: &mut Seen) {
    let event = match outcome {
        Outcome::Launched { .. } => Some(Event::Launched),
        Outcome::Terminated { .. } => Some(Event::Terminated),
        Outcome::Draining { .. } => Some(Event::Draining),
        Outcome::NoCapacity { .. } => Some(Event::NoCapacity),
        Outcome::Nothing { .. } => Some(Event::NothingToStop),
        Outcome::Refused { because } => refused(because),
        Outcome::Failed { error } if error.contains("OperationNotPermitted") => Some(Event::Protected),
        Outcome::Failed { error } => refused(error),
    };
    event.into_iter().for_each(|event| seen.note(event));
    let raced = matches!(outcome, Outcome::Refused { because } if because.ends_with("changed before the claim"));
    seen.note_if(raced, Event::RefusedModeRaced);
    let without_money = matches!(outcome, Outcome::Refused { because } if because.contains("money cap"));
    seen.note_if(without_money, Event::PlanWithoutMoney);
    let never_ready = matches!(outcome, Outcome::Refused { because } if because.ends_with("and 0 are gone from EC2"));
    seen.note_if(never_ready && event == Some(Event::RefusedUnhealthy), Event::RefusedNeverReady);
}

fn refused(because: &str) -> Option<Event> {
    const WORDS: [(&str, Event); 6] = [
        ("unhealthy", Event::RefusedUnhealthy),
        ("cooldown", Event::RefusedCooldown),
        ("kill switch", Event::RefusedKilled),
        ("late", Event::RefusedLate),
        ("mode", Event::RefusedMode),
        ("the plan was refused", Event::PlanRefused),
    ];
    WORDS.into_iter().find(|(word, _)| because.starts_with(word)).map(|(_, event)| event)
}

fn note_decision(d: &Decision, seen: &mut Seen) {
    match &d.decider {
        Decider::Policy { .. } => seen.note(Event::PolicyDecided),
        Decider::Rule { name, .. } if name == rule::MINIMUM => seen.note(Event::MinimumRestored),
        Decider::Rule { .. } => seen.note(Event::RuleTookOver),
    }
    let held = d.verdict == Verdict::Hold;
    seen.note_if(held && d.reason.starts_with("kill switch"), Event::HeldKilled);
    seen.note_if(held && d.reason.starts_with("observe"), Event::HeldObserve);
    let on_paper = Hold::of_decision(d) == Some(Hold::Observe);
    seen.note_if(on_paper && matches!(d.action, Action::Launch(..)), Event::ShadowLaunched);
    seen.note_if(on_paper && matches!(d.action, Action::Stop(..)), Event::ShadowStopped);
    seen.note_if(d.measured().fleet != d.observation.fleet, Event::ShadowApart);
    let vanished = Hold::of_decision(d) == Some(Hold::LoadVanished);
    seen.note_if(vanished && matches!(d.action, Action::Stop(..)), Event::HeldVanished);
    for package in BAD.iter() {
        let named = d.reason.contains(&format!("policy {}", &package.sha256[..12]));
        if let Some(event) = package.refusal.filter(|_| named) {
            seen.note(event);
            seen.note_if(matches!(d.decider, Decider::Policy { .. }), Event::LastGoodStayed);
        }
    }
    seen.note_if(d.reason.contains("policy 000000000000"), Event::PointerToNothing);
    seen.note_if(d.refusals.contains(&Refusal::StopBudget.to_string()), Event::StopBudget);
    for (cap, event) in [
        (Cap::Hour, Event::NoMoneyHour),
        (Cap::Day, Event::NoMoneyDay),
        (Cap::Month, Event::NoMoneyMonth),
        (Cap::Unknown, Event::NoMoneyUnknown),
    ] {
        seen.note_if(d.refusals.contains(&cap.to_string()), event);
    }
}
