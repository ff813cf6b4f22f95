//! One tick: collect, observe, infer, guard, write the decision once.

use std::time::Duration;

use contract::control::Mode;
use contract::decision::{DECISION_VERSION, Decider, Decision, Verdict};
use contract::event::Tick;
use contract::limits::DECISION_DAYS;
use contract::observation::encode;
use contract::pool::PoolConfig;
use contract::{Action, schema_hash};
use controller::guard::{Refusal, Situation, verdicts};
use controller::money::Room;
use controller::outage::{self, Look, Vanished};
use controller::ports::{Control, Decisions, Instances, Kind, Metrics, PolicyStore, Port, PortError, Tasks, Written};
use controller::reason::{Hold, Reason};
use controller::shadow;
use signing::PublicKeys;

use crate::basis::Basis;
use crate::collect::{Collected, collect};
use crate::deadline::{Deadline, PATIENCE};
use crate::ladder::{Choice, choose};
use crate::policies::{self, At, InCharge, Policies};

/// The evaluator's outside world.
pub struct Ports<T, I, D, C, M, P> {
    /// The task table, read.
    pub tasks: T,
    /// The machines' records, read.
    pub instances: I,
    /// The decision log, read and written once.
    pub decisions: D,
    /// Configuration, head and kill switch, read.
    pub control: C,
    /// Outside metrics.
    pub metrics: M,
    /// Promoted policies, read.
    pub policies: P,
}

/// What came of a tick.
#[derive(Clone, Debug, PartialEq)]
pub enum Ticked {
    /// The decision that stands.
    Decided(Box<Decision>),
    /// The pool's mode is off.
    Off,
    /// Another version of the stack has decided it, and this one cannot read what.
    Unreadable,
}

impl Ticked {
    /// The decision, if there is one that can be read.
    pub fn decision(self) -> Option<Decision> {
        match self {
            Ticked::Decided(decision) => Some(*decision),
            Ticked::Off | Ticked::Unreadable => None,
        }
    }
}

/// The evaluator with its cache of policies.
pub struct Evaluator<T, I, D, C, M, P> {
    ports: Ports<T, I, D, C, M, P>,
    policies: Policies,
    patience: Duration,
}

impl<T, I, D, C, M, P> Evaluator<T, I, D, C, M, P>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    M: Metrics,
    P: PolicyStore,
{
    /// An evaluator over these ports, with no policy loaded yet.
    pub fn new(ports: Ports<T, I, D, C, M, P>) -> Self {
        Self { ports, policies: Policies::trusting(None), patience: PATIENCE }
    }

    /// The same, for policies that one of these keys has signed and no others; without keys, for all.
    pub fn trusting(self, keys: Option<PublicKeys>) -> Self {
        Self { policies: Policies::trusting(keys), ..self }
    }

    /// The same, that waits so long for what a tick can do without: outside metrics, tasks, the policy.
    pub fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Decides one tick. The same tick again gives the decision that stands.
    ///
    /// # Errors
    /// If something cannot be read or written that no decision can do without; then nothing was decided, and nothing
    /// happens to the fleet.
    pub async fn tick(&self, tick: &Tick) -> Port<Ticked> {
        let deadline = Deadline::after(self.patience);
        let config = self.ports.control.config(&tick.pool).await?;
        config.validate().map_err(|e| PortError {
            operation: "config",
            code: "InvalidConfig".into(),
            message: e.to_string(),
            kind: Kind::Invalid,
        })?;
        if config.mode == Mode::Off {
            tracing::info!(pool = tick.pool, tick = tick.seconds(), "mode is off; nothing is decided");
            return Ok(Ticked::Off);
        }
        let decision = self.decide(&config, tick.seconds(), deadline).await?;
        let stands = match self.ports.decisions.put_once(&decision).await? {
            Written::New => decision,
            Written::Existed(stands) => *stands,
            Written::Unreadable => {
                tracing::warn!(pool = tick.pool, tick = tick.seconds(), "decided by a version that cannot be read");
                return Ok(Ticked::Unreadable);
            }
        };
        log(&stands);
        Ok(Ticked::Decided(Box::new(stands)))
    }

    async fn decide(&self, config: &PoolConfig, tick: u64, deadline: Deadline) -> Port<Decision> {
        let store = deadline.over(&self.ports.policies);
        let (collected, pointer) =
            tokio::join!(collect(&self.ports, config, tick, deadline), store.pointer(&config.pool));
        let collected = collected?;
        let last = collected.past.first();
        let in_charge = self.policies.in_charge(&store, &config.pool, pointer, last).await;
        let basis = Basis::of(config, &collected, tick, in_charge.as_ref().ok().map(|p| p.policy.sha256()));
        let bounds = config.bounds();
        let verdicts = verdicts(&learned_steps(basis.situation(config, &bounds, tick), in_charge.as_ref().ok()));
        let mask = verdicts.map(|verdict| verdict.is_ok());
        let (step, warning) = match in_charge {
            Ok(InCharge { policy, warning }) => {
                let at = At { pool: &config.pool, tick, tick_s: config.tick_s, deadline };
                let features = encode(&basis.observation);
                let step = policies::step(&policy, &self.ports.decisions, last, at, &features, &mask).await;
                (step, warning)
            }
            Err(problem) => (Err(problem), None),
        };
        let warning = warning.filter(|_| step.is_ok());
        let choice = choose(step, &basis.observation, &collected.doubts, &mask, config);
        Ok(record(config, tick, collected, basis, verdicts, choice, warning))
    }
}

/// The same with no larger steps than the policy in charge has learned to take.
fn learned_steps<'a>(s: Situation<'a>, in_charge: Option<&InCharge>) -> Situation<'a> {
    let learned = in_charge.map_or(u16::MAX, |in_charge| in_charge.policy.machines_per_action_max());
    Situation { machines_per_action_max: s.machines_per_action_max.min(learned), ..s }
}

/// The record of the choice.
fn record(
    config: &PoolConfig,
    tick: u64,
    collected: Collected,
    basis: Basis,
    verdicts: [Result<(), Refusal>; contract::ACTION_COUNT],
    choice: Choice,
    warning: Option<String>,
) -> Decision {
    let held = held(config, tick, &collected, &choice, verdicts);
    let (spending, no_money) = (basis.spending(&collected), no_money(&basis));
    let mut shadow = basis.shadow;
    if let Some(shadow) = shadow.as_mut().filter(|_| held.is_none()) {
        shadow::act(shadow, choice.action, tick, config);
    }
    let (verdict, reason) = verdict(config, &choice, held);
    Decision {
        version: DECISION_VERSION,
        pool: config.pool.clone(),
        tick,
        missing: basis.observation.missing().into_iter().map(str::to_owned).collect(),
        doubts: collected.doubts.iter().map(|(name, cause)| ((*name).to_owned(), cause.to_string())).collect(),
        observation: basis.observation,
        mask: verdicts.map(|v| v.is_ok()),
        refusals: verdicts.iter().map(|v| v.err().map(|r| r.to_string()).unwrap_or_default()).collect(),
        spending,
        decider: choice.decider,
        probabilities: choice.probabilities,
        value: choice.value,
        action: choice.action,
        verdict,
        reason: warning.into_iter().chain(no_money).fold(reason, |reason, note| format!("{reason} ({note})")),
        lstm: choice.lstm,
        shadow,
        schema_hash: schema_hash().to_owned(),
        expires_at: tick + DECISION_DAYS * 86_400,
        intent: None,
    }
}

/// Whether the choice is to be carried out, and why or why not. In mode `observe` it is carried out on the shadow only.
fn verdict(config: &PoolConfig, choice: &Choice, held: Option<String>) -> (Verdict, String) {
    match held {
        Some(reason) => (Verdict::Hold, reason),
        None if config.mode == Mode::Observe => {
            (Verdict::Hold, format!("{}; {} would {}", Hold::Observe.word(), by(choice), choice.action))
        }
        None => (Verdict::Act, format!("{} wanted by {}", choice.action, by(choice))),
    }
}

/// That there is no money for any launch, if so.
fn no_money(basis: &Basis) -> Option<String> {
    let room = basis.room().filter(Room::is_full)?;
    Some(format!("no launch: {} leaves ${:.3} an hour", room.cap, room.left.usd()))
}

fn by(choice: &Choice) -> String {
    match &choice.decider {
        Decider::Policy { .. } => "the policy".to_owned(),
        Decider::Rule { name, because } => format!("rule {name}, because {because}"),
    }
}

/// Why the choice would not be carried out in any mode, if so.
fn held(
    config: &PoolConfig,
    tick: u64,
    collected: &Collected,
    choice: &Choice,
    verdicts: [Result<(), Refusal>; contract::ACTION_COUNT],
) -> Option<String> {
    let by = by(choice);
    if choice.action == Action::Nothing {
        let cooling = verdicts.contains(&Err(Refusal::Cooldown));
        let hold = if cooling { Hold::Cooldown } else { Hold::NoChange };
        return Some(format!("{}; {by}", hold.word()));
    }
    if collected.switch.engaged {
        return Some(format!("{}; {by} would {}", Hold::KillSwitch.word(), choice.action));
    }
    let vanished = vanished_load(config, tick, collected, choice.action)?;
    Some(format!("{}: {vanished}; {by} would {}", Hold::LoadVanished.word(), choice.action))
}

/// Why nothing is stopped now although nothing is there to do, if so.
fn vanished_load(config: &PoolConfig, tick: u64, collected: &Collected, action: Action) -> Option<Vanished> {
    let now = Look { tick, observation: &collected.observation };
    let past = collected.past.iter().map(|d| Look { tick: d.tick, observation: d.measured() });
    matches!(action, Action::Stop(..)).then(|| outage::vanished(now, past, config.tick_s))?
}

fn log(d: &Decision) {
    let verdict = if d.verdict == Verdict::Act { "act" } else { "hold" };
    tracing::info!(
        pool = d.pool,
        tick = d.tick,
        policy = d.policy_name(),
        action = %d.action,
        verdict,
        reason = d.reason,
        doubts = ?d.doubts,
        queue = d.measured().queue_depth,
        "decided"
    );
}
