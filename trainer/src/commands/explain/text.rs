//! A decision in words.

use contract::action::ACTIONS;
use contract::decision::{Decider, Decision, IntentState, Outcome, Verdict};
use contract::observation::FEATURES;
use contract::plan::Plan;

use super::replay::{Replay, Sway};

/// Characters of a probability's bar.
const BAR: f32 = 20.0;
/// Choices that are shown at most.
const OPTIONS_MAX: usize = 6;
/// Probability below which a choice is not worth a line.
const OPTION_MIN: f32 = 0.005;
/// Characters of a hash that tell policies apart.
const SHORT: usize = 12;

/// A tick as a time for people.
pub fn time(tick: u64) -> String {
    let time = i64::try_from(tick).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(|| format!("tick {tick}"), |time| time.to_string())
}

/// Who decided, and why it was not the policy.
pub fn decider(decision: &Decision) -> String {
    match &decision.decider {
        Decider::Policy { sha256 } => format!("policy {}", short(sha256)),
        Decider::Rule { name, because } => format!("rule {name}, because {because}"),
    }
}

fn short(sha256: &str) -> &str {
    sha256.get(..SHORT).unwrap_or(sha256)
}

/// What became of a decision, in one line.
pub fn story(decision: &Decision) -> String {
    let Some(intent) = &decision.intent else {
        return match decision.verdict {
            Verdict::Act => "asked for; no executor has claimed it".into(),
            Verdict::Hold => "held".into(),
        };
    };
    match (&intent.outcome, intent.state) {
        (Some(outcome), _) => result(outcome),
        (None, IntentState::Pending) if intent.plan.is_some() => "claimed and planned; not settled".into(),
        (None, _) => "claimed; not settled".into(),
    }
}

fn result(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Launched { instance_ids } => format!("launched {}", instance_ids.join(", ")),
        Outcome::Terminated { instance_ids } => format!("stopped {}", instance_ids.join(", ")),
        Outcome::Draining { instance_ids, until_ms } => {
            format!("draining {} until {}", instance_ids.join(", "), time(until_ms / 1000))
        }
        Outcome::NoCapacity { code } => format!("EC2 had no capacity: {code}"),
        Outcome::Refused { because } => format!("refused: {because}"),
        Outcome::Nothing { because } => format!("nothing to do: {because}"),
        Outcome::Failed { error } => format!("failed: {error}"),
    }
}

fn plan(decision: &Decision) -> Option<String> {
    Some(match decision.intent.as_ref()?.plan.as_ref()? {
        Plan::Launch(launch) => {
            let of = launch.instance_type.as_deref().unwrap_or("the template's type");
            let place = launch.subnet.as_deref().unwrap_or("the template's subnet");
            format!("launch {} of {}: {of}, {place}", launch.count, launch.launch_template)
        }
        Plan::Terminate { instance_ids, drain_until_ms, .. } => {
            let how = drain_until_ms.map(|ms| format!(", draining until {}", time(ms / 1000))).unwrap_or_default();
            format!("stop {}{how}", instance_ids.join(", "))
        }
    })
}

/// The whole of one decision.
pub fn whole(decision: &Decision, sways: Option<&[Sway]>, replay: &Replay) -> String {
    let mut lines = vec![
        format!("{} at {}: {}, {}", decision.pool, time(decision.tick), decision.action, story(decision)),
        format!("  reason    {}", decision.reason),
        format!("  decided   by {}", decider(decision)),
    ];
    lines.push(format!("  saw       {}", seen(decision)));
    if !decision.missing.is_empty() {
        lines.push(format!("  missing   {}", decision.missing.join(", ")));
    }
    if let Some(spending) = &decision.spending {
        lines.push(format!("  money     {}", serde_json::to_string(spending).expect("plain data")));
    }
    if let Some(shadow) = &decision.shadow {
        lines.push(format!("  shadow    {}", shadow.summary(decision.tick)));
    }
    lines.extend(options(decision));
    lines.extend(reasons(sways));
    lines.extend(plan(decision).map(|plan| format!("  plan      {plan}")));
    lines.push(format!("  replay    {}", of_replay(replay)));
    lines.join("\n")
}

fn seen(decision: &Decision) -> String {
    let value =
        |f: &contract::observation::Feature| Some(format!("{} {}", f.name, number(f.value(&decision.observation)?)));
    let all: Vec<String> = FEATURES.iter().filter_map(value).filter(|text| !text.ends_with(" 0")).collect();
    if all.is_empty() { "an empty pool".to_owned() } else { format!("{} (all else 0)", all.join(", ")) }
}

fn number(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x}") } else { format!("{x:.3}") }
}

/// The policy's choices that are worth a line: the probable ones, and the first that were refused.
fn options(decision: &Decision) -> Vec<String> {
    let Some(probabilities) = &decision.probabilities else { return Vec::new() };
    let mut allowed: Vec<(f32, &str)> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for (i, (_, name)) in ACTIONS.iter().enumerate() {
        match decision.refusals.get(i).filter(|why| !why.is_empty()) {
            Some(why) => refused.push(format!("{name} ({why})")),
            None => allowed.push((probabilities[i], name)),
        }
    }
    allowed.sort_by(|a, b| b.0.total_cmp(&a.0));
    let bar = |p: f32| "█".repeat((p * BAR).round() as usize);
    let lines = allowed.iter().filter(|(p, _)| *p >= OPTION_MIN).take(OPTIONS_MAX).enumerate();
    let lines = lines.map(|(i, (p, name))| {
        format!("  {:<9} {name:<12} {:5.1} % {}", if i == 0 { "options" } else { "" }, 100.0 * p, bar(*p))
            .trim_end()
            .to_owned()
    });
    let refused = (!refused.is_empty()).then(|| format!("  refused   {}", refused.join(", ")));
    lines.chain(refused).collect()
}

fn reasons(sways: Option<&[Sway]>) -> Vec<String> {
    let line = |(i, s): (usize, &Sway)| {
        let value = s.value.map_or("missing".to_owned(), number);
        let head = if i == 0 { "swayed by" } else { "" };
        format!(
            "  {head:<9} {} = {value}: without it {:.1} % instead of {:.1} %",
            s.feature,
            100.0 * s.without,
            100.0 * s.probability
        )
    };
    sways.unwrap_or_default().iter().enumerate().map(line).collect()
}

/// What a replay found, in words.
pub fn of_replay(replay: &Replay) -> String {
    match replay {
        Replay::NoPolicy => "no policy ran".into(),
        Replay::BitForBit => "the same numbers, bit for bit".into(),
        Replay::Rounding { difference } => {
            format!("the same numbers but for rounding ({difference:.0e}): another kind of processor decided")
        }
        Replay::Differs { difference } => format!("OTHER NUMBERS, by up to {difference:.4}"),
        Replay::Impossible { because } => format!("not possible: {because}"),
    }
}
