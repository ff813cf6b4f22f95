//! One tick: collect, observe, infer, guard, write the decision once.

use contract::action::SIZE_COUNT;
use contract::capacity::Bounds;
use contract::control::Mode;
use contract::decision::{DECISION_VERSION, Decider, Decision, Verdict};
use contract::event::Tick;
use contract::limits::DECISION_DAYS;
use contract::manifest::Pointer;
use contract::observation::encode;
use contract::pool::PoolConfig;
use contract::{Action, schema_hash};
use controller::guard::{Refusal, Situation, verdicts};
use controller::outage::{self, Look, Vanished};
use controller::ports::{Control, Decisions, Instances, Kind, Metrics, PolicyStore, Port, PortError, Tasks, Written};
use controller::reason::{Hold, Reason};
use signing::PublicKeys;

use crate::collect::{Collected, collect};
use crate::ladder::{Choice, PolicyStep, choose};
use crate::policies::{self, At, Policies};

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

/// The evaluator with its cache of policies.
pub struct Evaluator<T, I, D, C, M, P> {
    ports: Ports<T, I, D, C, M, P>,
    policies: Policies,
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
        Self { ports, policies: Policies::default() }
    }

    /// The same, for policies that one of these keys has signed and no others; without keys, for all.
    pub fn trusting(self, keys: Option<PublicKeys>) -> Self {
        Self { policies: Policies::trusting(keys), ..self }
    }

    /// Decides one tick. The same tick again gives the decision that stands.
    ///
    /// # Errors
    /// If something cannot be read or written that no decision can do without; then nothing was decided, and nothing
    /// happens to the fleet.
    pub async fn tick(&self, tick: &Tick) -> Port<Option<Decision>> {
        let config = self.ports.control.config(&tick.pool).await?;
        config.validate().map_err(|e| PortError {
            operation: "config",
            code: "InvalidConfig".into(),
            message: e.to_string(),
            kind: Kind::Invalid,
        })?;
        if config.mode == Mode::Off {
            tracing::info!(pool = tick.pool, tick = tick.seconds(), "mode is off; nothing is decided");
            return Ok(None);
        }
        let decision = self.decide(&config, tick.seconds()).await?;
        let stands = match self.ports.decisions.put_once(&decision).await? {
            Written::New => decision,
            Written::Existed(stands) => *stands,
        };
        log(&stands);
        Ok(Some(stands))
    }

    async fn decide(&self, config: &PoolConfig, tick: u64) -> Port<Decision> {
        let (collected, pointer) =
            tokio::join!(collect(&self.ports, config, tick), self.ports.policies.pointer(&config.pool));
        let collected = collected?;
        let verdicts = verdicts(&situation(config, &config.bounds(), &collected, tick));
        let mask = verdicts.map(|verdict| verdict.is_ok());
        let step = self.infer(config, &collected, pointer, tick, &mask).await;
        let (step, warning) = match step {
            Ok((step, warning)) => (Ok(step), warning),
            Err(problem) => (Err(problem), None),
        };
        let choice = choose(step, &collected.observation, &mask, config);
        Ok(record(config, tick, collected, verdicts, choice, warning))
    }

    /// One step of the policy in charge, with a warning if that is not the promoted one.
    async fn infer(
        &self,
        config: &PoolConfig,
        collected: &Collected,
        pointer: Port<Option<(Pointer, String)>>,
        tick: u64,
        mask: &contract::Mask,
    ) -> Result<(PolicyStep, Option<String>), String> {
        let last = collected.past.first();
        let in_charge = self.policies.in_charge(&self.ports.policies, &config.pool, pointer, last).await?;
        let at = At { pool: &config.pool, tick, tick_s: config.tick_s };
        let features = encode(&collected.observation);
        let step = policies::step(&in_charge.policy, &self.ports.decisions, last, at, &features, mask).await?;
        Ok((step, in_charge.warning))
    }
}

/// What the guard looks at.
fn situation<'a>(
    config: &PoolConfig,
    bounds: &'a [Bounds; SIZE_COUNT],
    collected: &'a Collected,
    tick: u64,
) -> Situation<'a> {
    let o = &collected.observation;
    Situation {
        mode: config.mode,
        fleet: &o.fleet,
        bounds,
        no_capacity: &o.no_capacity,
        now_ms: tick * 1000,
        next_allowed_ms: collected.head.next_allowed_ms,
        doubtful: o.is_doubtful(),
        launches_left: config.launches_per_hour_max.map(|max| max.saturating_sub(collected.launched_last_hour)),
    }
}

/// The record of the choice.
fn record(
    config: &PoolConfig,
    tick: u64,
    collected: Collected,
    verdicts: [Result<(), Refusal>; contract::ACTION_COUNT],
    choice: Choice,
    warning: Option<String>,
) -> Decision {
    let (verdict, reason) = verdict(config, tick, &collected, &choice, verdicts);
    Decision {
        version: DECISION_VERSION,
        pool: config.pool.clone(),
        tick,
        missing: collected.observation.missing().into_iter().map(str::to_owned).collect(),
        observation: collected.observation,
        mask: verdicts.map(|v| v.is_ok()),
        refusals: verdicts.iter().map(|v| v.err().map(|r| r.to_string()).unwrap_or_default()).collect(),
        decider: choice.decider,
        probabilities: choice.probabilities,
        value: choice.value,
        action: choice.action,
        verdict,
        reason: match warning {
            Some(warning) => format!("{reason} ({warning})"),
            None => reason,
        },
        lstm: choice.lstm,
        schema_hash: schema_hash().to_owned(),
        expires_at: tick + DECISION_DAYS * 86_400,
        intent: None,
    }
}

/// Whether the choice is to be carried out, and why or why not.
fn verdict(
    config: &PoolConfig,
    tick: u64,
    collected: &Collected,
    choice: &Choice,
    verdicts: [Result<(), Refusal>; contract::ACTION_COUNT],
) -> (Verdict, String) {
    let by = match &choice.decider {
        Decider::Policy { .. } => "the policy".to_owned(),
        Decider::Rule { name, because } => format!("rule {name}, because {because}"),
    };
    if choice.action == Action::Nothing {
        let cooling = verdicts.contains(&Err(Refusal::Cooldown));
        let hold = if cooling { Hold::Cooldown } else { Hold::NoChange };
        (Verdict::Hold, format!("{}; {by}", hold.word()))
    } else if collected.switch.engaged {
        (Verdict::Hold, format!("{}; {by} would {}", Hold::KillSwitch.word(), choice.action))
    } else if config.mode == Mode::Observe {
        (Verdict::Hold, format!("{}; {by} would {}", Hold::Observe.word(), choice.action))
    } else if let Some(vanished) = vanished_load(config, tick, collected, choice.action) {
        (Verdict::Hold, format!("{}: {vanished}; {by} would {}", Hold::LoadVanished.word(), choice.action))
    } else {
        (Verdict::Act, format!("{} wanted by {by}", choice.action))
    }
}

/// Why nothing is stopped now although nothing is there to do, if so.
fn vanished_load(config: &PoolConfig, tick: u64, collected: &Collected, action: Action) -> Option<Vanished> {
    let now = Look { tick, observation: &collected.observation };
    let past = collected.past.iter().map(|d| Look { tick: d.tick, observation: &d.observation });
    matches!(action, Action::Stop(_)).then(|| outage::vanished(now, past, config.tick_s))?
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
        queue = d.observation.queue_depth,
        "decided"
    );
}
