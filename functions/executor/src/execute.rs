//! Claim → plan → act → settle, for one decision.

use std::fmt;

use contract::action::Action;
use contract::control::Head;
use contract::decision::{Decision, Intent, IntentState, Outcome, Verdict};
use contract::limits::{LATE_TICKS, TICK_MAX};
use contract::plan::{LaunchPlan, Plan};
use contract::pool::PoolConfig;
use contract::record::{Drain, DrainReason, Ended, InstanceRecord, NoCapacity};
use controller::check::check;
use controller::earlier;
use controller::health::health;
use controller::money;
use controller::offering;
use controller::plan::{Inventory, plan};
use controller::ports::{Claim, Cloud, CloudInstance, Control, Decisions, Instances, Kind, Port, PortError, Tasks};
use controller::reason::{Dropped, Reason, Refused};
use controller::reconcile::Before;

use crate::event::{BatchAnswer, Failure, Record};

/// The executor's outside world.
pub struct Ports<T, I, D, C, K> {
    /// The task table, read: what runs where.
    pub tasks: T,
    /// The machines' records, written.
    pub instances: I,
    /// The decision log: claimed and settled.
    pub decisions: D,
    /// Configuration, head and memory of missing capacity.
    pub control: C,
    /// EC2.
    pub cloud: K,
}

/// The executor over its ports.
pub struct Executor<T, I, D, C, K> {
    pub(crate) ports: Ports<T, I, D, C, K>,
}

/// What became of one record of the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Nothing was to be done, and why.
    Dropped(Dropped),
    /// It was settled with this outcome.
    Settled(Outcome),
    /// It was claimed and could not be finished; the reconciler takes it up.
    Pending(String),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Dropped(why) => write!(f, "dropped: {}", why.word()),
            Done::Settled(outcome) => write!(f, "settled: {outcome:?}"),
            Done::Pending(why) => write!(f, "pending: {why}"),
        }
    }
}

impl<T, I, D, C, K> Executor<T, I, D, C, K>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    K: Cloud,
{
    /// An executor over these ports.
    pub fn new(ports: Ports<T, I, D, C, K>) -> Self {
        Self { ports }
    }

    /// Carries out a batch of the stream, in order, and calls `report` after each record. The first record that fails
    /// before its claim ends the batch: it and all after it are delivered again, for the stream's order is the order of
    /// the decisions.
    pub async fn batch(&self, records: Vec<Record>, mut report: impl FnMut(&Record, &Port<Done>)) -> BatchAnswer {
        for record in records {
            let Record { pool, tick, .. } = &record;
            let done = self.execute(pool, *tick).await;
            report(&record, &done);
            match done {
                Ok(done) => tracing::info!(pool, tick, %done, "executed"),
                Err(error) => {
                    tracing::error!(pool, tick, %error, "to be delivered again");
                    return BatchAnswer { failures: vec![Failure { sequence_number: record.sequence_number }] };
                }
            }
        }
        BatchAnswer::default()
    }

    /// Carries out one decision, once, however often it is delivered.
    ///
    /// # Errors
    /// If something failed before the claim, so that the record may be delivered again.
    pub async fn execute(&self, pool: &str, tick: u64) -> Port<Done> {
        let decision = match self.ports.decisions.get(pool, tick).await {
            Ok(Some(decision)) => decision,
            Ok(None) => return Ok(Done::Dropped(Dropped::Unknown)),
            // delivered again it would only hold up those behind it; the reconciler of its version settles it
            Err(error) if error.kind == Kind::Unreadable => {
                tracing::warn!(pool, tick, %error, "an executor of another version is at work");
                return Ok(Done::Dropped(Dropped::Unreadable));
            }
            Err(error) => return Err(error),
        };
        if decision.verdict != Verdict::Act || decision.action == Action::Nothing {
            return Ok(Done::Dropped(Dropped::AsksNothing));
        }
        if decision.intent.is_some() {
            return Ok(Done::Dropped(Dropped::Duplicate));
        }
        let config = self.ports.control.config(pool).await?;
        let head = self.ports.control.head(pool).await?;
        let now_ms = self.now_ms(&decision).await?;
        if let Some(because) = refusal(&config, &head, &decision, now_ms) {
            return self.refuse(&decision, because).await;
        }
        let next = next_head(&config, &head, &decision, now_ms);
        match self.ports.decisions.claim(&decision, &head, &next, now_ms).await? {
            Claim::Won(generation) => Ok(self.carry_out(&config, &decision, Claimed { generation, now_ms }).await),
            Claim::Duplicate(_) => Ok(Done::Dropped(Dropped::Duplicate)),
            Claim::Cooldown => self.refuse(&decision, Refused::Cooldown.word().into()).await,
            Claim::Killed => self.refuse(&decision, Refused::KillSwitch.word().into()).await,
            Claim::Mode => self.refuse(&decision, format!("{}: changed before the claim", Refused::Mode.word())).await,
            Claim::Raced => Err(PortError::conflict("claim", "another claim moved the head at the same moment")),
        }
    }

    /// The time, as far as the control loop knows it: the youngest tick that was decided.
    async fn now_ms(&self, decision: &Decision) -> Port<u64> {
        let youngest = self.ports.decisions.before(&decision.pool, TICK_MAX, 1).await?;
        Ok(youngest.first().map_or(decision.tick, |d| d.tick.max(decision.tick)) * 1000)
    }

    async fn refuse(&self, decision: &Decision, because: String) -> Port<Done> {
        let outcome = Outcome::Refused { because };
        let never = Claimed { generation: 0, now_ms: decision.tick * 1000 };
        let intent = settled(never, None, outcome.clone());
        match self.ports.decisions.put_intent(&decision.pool, decision.tick, &intent).await {
            Ok(()) => Ok(Done::Settled(outcome)),
            Err(error) if error.kind == Kind::Conflict => Ok(Done::Dropped(Dropped::Duplicate)),
            Err(error) => Err(error),
        }
    }

    /// Plans, checks, stores the plan, acts and settles. After the claim nothing is an error of the batch any more:
    /// what cannot be finished stays pending, and the reconciler takes it up.
    async fn carry_out(&self, config: &PoolConfig, decision: &Decision, claimed: Claimed) -> Done {
        match self.plan_and_act(config, decision, claimed).await {
            Ok(outcome) => Done::Settled(outcome),
            Err(error) => {
                let generation = claimed.generation;
                tracing::error!(pool = decision.pool, tick = decision.tick, generation, %error, "left pending");
                Done::Pending(error.to_string())
            }
        }
    }

    async fn plan_and_act(&self, config: &PoolConfig, decision: &Decision, claimed: Claimed) -> Port<Outcome> {
        let pool = &decision.pool;
        let log_from = (claimed.now_ms / 1000).saturating_sub(earlier::look_back_s(config));
        let (records, cloud, tasks, log, no_capacity) = tokio::join!(
            self.ports.instances.alive(pool),
            self.ports.cloud.describe(pool),
            self.ports.tasks.open(pool),
            self.ports.decisions.range(pool, log_from, TICK_MAX),
            self.ports.control.no_capacity(pool),
        );
        let (records, cloud, tasks, log, no_capacity) = (records?, cloud?, tasks?, log?, no_capacity?);
        let earlier = earlier::before(&log, claimed.generation);
        let now_ms = claimed.now_ms;
        let inventory = Inventory {
            stack: self.ports.cloud.stack(),
            now_ms,
            records: &records,
            cloud: &cloud,
            tasks: &tasks,
            earlier: &earlier,
            no_capacity: Some(&no_capacity),
        };
        let health = health(config, &inventory);
        if health.must_hold() {
            let outcome = Outcome::Refused { because: format!("{}: {health}", Refused::Unhealthy.word()) };
            return self.settle(decision, claimed, None, outcome).await;
        }
        let plan = match plan(decision.action, decision.tick, config, &inventory) {
            Ok(plan) => plan,
            Err(why) => {
                let outcome = Outcome::Nothing { because: why.to_string() };
                return self.settle(decision, claimed, None, outcome).await;
            }
        };
        let mut notes = check(&plan, config, &inventory);
        if matches!(plan, Plan::Launch(_)) {
            let ended = self.ended(config, now_ms).await;
            notes.extend(money::check(&plan, config, &inventory, ended.as_deref()));
        }
        if !notes.is_empty() {
            let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
            let outcome = Outcome::Refused { because: format!("{}: {}", Refused::Plan.word(), notes.join("; ")) };
            return self.settle(decision, claimed, Some(plan), outcome).await;
        }
        let pending = Intent {
            state: IntentState::Pending,
            generation: claimed.generation,
            claimed_ms: claimed.now_ms,
            plan: Some(plan.clone()),
            outcome: None,
        };
        self.ports.decisions.put_intent(pool, decision.tick, &pending).await?;
        let outcome = self.act(config, decision, &plan, now_ms).await?;
        self.settle(decision, claimed, Some(plan), outcome).await
    }

    /// The records of machines that ended or were launched in the time that money caps count, if there are such caps; none
    /// if they cannot be read, and then nothing is launched.
    pub(crate) async fn ended(&self, config: &PoolConfig, now_ms: u64) -> Option<Vec<InstanceRecord>> {
        let Some(from_ms) = money::spending_since_ms(config, now_ms) else { return Some(Vec::new()) };
        let ended = self.ports.instances.since(&config.pool, from_ms).await;
        ended.inspect_err(|error| tracing::warn!(pool = config.pool, %error, "what was spent cannot be read")).ok()
    }

    /// Carries out what is `left` of a stored plan, whose executor stopped, and settles with what both attempts have done. That
    /// there is no capacity now says nothing of the first call, which may have worked: its machine counts for as long as it
    /// may not be seen.
    pub(crate) async fn act_again(
        &self,
        config: &PoolConfig,
        decision: &Decision,
        claimed: Claimed,
        (left, before): (&Plan, &Before),
        now_ms: u64,
    ) -> Port<Outcome> {
        let outcome = match self.act(config, decision, left, now_ms).await? {
            Outcome::NoCapacity { code } => {
                Outcome::Failed { error: format!("{code} at the second call; the first one may have worked") }
            }
            outcome => outcome,
        };
        let plan = decision.intent.as_ref().and_then(|intent| intent.plan.clone());
        self.settle(decision, claimed, plan, before.with(outcome)).await
    }

    /// Carries a plan out; `now_ms` is when, by the control loop's clock.
    async fn act(&self, config: &PoolConfig, decision: &Decision, plan: &Plan, now_ms: u64) -> Port<Outcome> {
        match plan {
            Plan::Launch(launch) => self.launch(config, decision, launch).await,
            Plan::Terminate { instance_ids, drain_until_ms: None, .. } => {
                self.terminate(&decision.pool, instance_ids, now_ms).await
            }
            Plan::Terminate { instance_ids, drain_until_ms: Some(until_ms), .. } => {
                self.drain(&decision.pool, instance_ids, *until_ms, now_ms).await
            }
        }
    }

    async fn launch(&self, config: &PoolConfig, decision: &Decision, plan: &LaunchPlan) -> Port<Outcome> {
        let now_ms = decision.tick * 1000;
        match self.ports.cloud.launch(plan).await {
            Ok(machines) => {
                for machine in &machines {
                    self.ports.instances.put_new(&new_record(config, decision, plan, machine)).await?;
                }
                self.remember(&config.pool, |memory| offering::worked(memory, plan)).await;
                Ok(launched(machines))
            }
            Err(error) if error.kind == Kind::NoCapacity => {
                let failed = |memory: &NoCapacity| Some(offering::failed(memory, plan, &error.code, config, now_ms));
                self.remember(&config.pool, failed).await;
                Ok(Outcome::NoCapacity { code: error.code })
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) => Ok(Outcome::Failed { error: error.to_string() }),
        }
    }

    /// Changes the memory of missing capacity. It is read again behind the call, although the plan was made with it: it is
    /// replaced as a whole, and what another executor noted during the call must not be lost. If it cannot be kept, the next
    /// launch tries an offering in vain, or leaves one alone for longer; what the call has done is settled all the same.
    async fn remember(&self, pool: &str, change: impl FnOnce(&NoCapacity) -> Option<NoCapacity>) {
        let changed = async {
            match change(&self.ports.control.no_capacity(pool).await?) {
                Some(memory) => self.ports.control.put_no_capacity(pool, &memory).await,
                None => Ok(()),
            }
        };
        if let Err(error) = changed.await {
            tracing::warn!(pool, %error, "the memory of missing capacity is not kept");
        }
    }

    /// Tells the machines to take no more tasks. The reconciler ends them, none before the next tick: a worker may take one
    /// more task while it is told.
    async fn drain(&self, pool: &str, instance_ids: &[String], until_ms: u64, now_ms: u64) -> Port<Outcome> {
        let records = self.ports.instances.alive(pool).await?;
        let drain = Drain { until_ms, why: DrainReason::Stop, since_ms: Some(now_ms) };
        let mut told = Vec::new();
        for record in records.iter().filter(|r| instance_ids.contains(&r.instance_id)) {
            self.ports.instances.mark_draining(record, drain).await?;
            told.push(record.instance_id.clone());
        }
        match told.is_empty() {
            true => Ok(Outcome::Failed { error: "no machine of the plan has a live record any more".into() }),
            false => Ok(Outcome::Draining { instance_ids: told, until_ms }),
        }
    }

    /// Terminates machines that drain. One that EC2 does not let go is put back into service: as it is paid for, it may
    /// as well work.
    pub(crate) async fn end_drain(&self, pool: &str, instance_ids: &[String], now_ms: u64) -> Port<Outcome> {
        let outcome = self.terminate(pool, instance_ids, now_ms).await?;
        let gone = match &outcome {
            Outcome::Terminated { instance_ids } => instance_ids.as_slice(),
            _ => &[],
        };
        if gone.len() == instance_ids.len() {
            return Ok(outcome);
        }
        let stays = |id: &String| instance_ids.contains(id) && !gone.contains(id);
        for record in self.ports.instances.alive(pool).await?.iter().filter(|r| stays(&r.instance_id)) {
            self.ports.instances.reopen(record).await?;
        }
        Ok(outcome)
    }

    async fn terminate(&self, pool: &str, instance_ids: &[String], now_ms: u64) -> Port<Outcome> {
        let instance_ids = match self.terminate_what_may_be(instance_ids).await {
            Ok(terminated) => terminated,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return Ok(Outcome::Failed { error: error.to_string() }),
        };
        self.close(pool, &instance_ids, now_ms).await?;
        Ok(Outcome::Terminated { instance_ids })
    }

    /// Marks the live records of these machines as ended.
    pub(crate) async fn close(&self, pool: &str, instance_ids: &[String], at_ms: u64) -> Port<()> {
        if instance_ids.is_empty() {
            return Ok(());
        }
        let records = self.ports.instances.alive(pool).await?;
        for record in records.iter().filter(|r| instance_ids.contains(&r.instance_id)) {
            self.ports.instances.mark_terminated(record, at_ms, Ended::Stopped).await?;
        }
        Ok(())
    }

    /// EC2 refuses a whole call for one machine that is protected; then the others go one by one. An error if none goes.
    pub(crate) async fn terminate_what_may_be(&self, instance_ids: &[String]) -> Port<Vec<String>> {
        let refusal = match self.ports.cloud.terminate(instance_ids).await {
            Ok(()) => return Ok(instance_ids.to_vec()),
            Err(error) if error.is_transient() || instance_ids.len() == 1 => return Err(error),
            Err(error) => error,
        };
        let mut terminated = Vec::new();
        for id in instance_ids {
            match self.ports.cloud.terminate(std::slice::from_ref(id)).await {
                Ok(()) => terminated.push(id.clone()),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(instance_id = id, %error, "left running"),
            }
        }
        if terminated.is_empty() { Err(refusal) } else { Ok(terminated) }
    }

    pub(crate) async fn settle(
        &self,
        decision: &Decision,
        claimed: Claimed,
        plan: Option<Plan>,
        outcome: Outcome,
    ) -> Port<Outcome> {
        let intent = settled(claimed, plan, outcome.clone());
        self.ports.decisions.put_intent(&decision.pool, decision.tick, &intent).await?;
        Ok(outcome)
    }
}

/// A claim: its generation (0 for none), and when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) generation: u64,
    pub(crate) now_ms: u64,
}

/// The outcome of a launch that EC2 took. An answer without a machine is a failure: if there is one after all, its tags
/// lead the reconciler to it.
fn launched(machines: Vec<CloudInstance>) -> Outcome {
    match machines.is_empty() {
        true => Outcome::Failed { error: "RunInstances: the answer names no machine".into() },
        false => Outcome::Launched { instance_ids: machines.into_iter().map(|m| m.instance_id).collect() },
    }
}

fn settled(claimed: Claimed, plan: Option<Plan>, outcome: Outcome) -> Intent {
    let Claimed { generation, now_ms } = claimed;
    Intent { state: IntentState::Settled, generation, claimed_ms: now_ms, plan, outcome: Some(outcome) }
}

/// Why a decision is not even claimed, if so.
fn refusal(config: &PoolConfig, head: &Head, decision: &Decision, now_ms: u64) -> Option<String> {
    let late_ms = now_ms.saturating_sub(decision.tick * 1000);
    if !config.mode.carries_out(decision.action) {
        Some(format!("{} {}", Refused::Mode.word(), config.mode.name()))
    } else if head.last_action_ms > decision.tick * 1000 {
        Some(format!("{}: a younger decision was claimed", Refused::Late.word()))
    } else if late_ms > LATE_TICKS * config.tick_s * 1000 {
        Some(format!("{} by {} s", Refused::Late.word(), late_ms / 1000))
    } else {
        None
    }
}

/// The head after this decision's claim: the cooldown begins here.
fn next_head(config: &PoolConfig, head: &Head, decision: &Decision, now_ms: u64) -> Head {
    Head {
        generation: head.generation + 1,
        next_allowed_ms: now_ms + config.cooldown_s * 1000,
        last_action: decision.action,
        last_action_ms: decision.tick * 1000,
    }
}

/// The record of a new machine. Its launch time is the tick: the control loop has no other clock.
fn new_record(config: &PoolConfig, decision: &Decision, plan: &LaunchPlan, machine: &CloudInstance) -> InstanceRecord {
    InstanceRecord {
        pool: config.pool.clone(),
        instance_id: machine.instance_id.clone(),
        size: plan.size,
        usd_per_hour: config.sizes[plan.size].price_of(plan.instance_type.as_deref()),
        launched_ms: decision.tick * 1000,
        ready_ms: None,
        terminated_ms: None,
        ended: None,
        decision: Some(decision.tick),
        drain: None,
    }
}
