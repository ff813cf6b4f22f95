//! Brings records and EC2 together, and finishes what another executor began.

use std::collections::{BTreeMap, BTreeSet};

use contract::Action;
use contract::decision::{Decision, Outcome};
use contract::event::Tick;
use contract::pool::PoolConfig;
use contract::record::{DrainReason, Ended, InstanceRecord, Suspects, TaskRecord};
use controller::earlier;
use controller::ports::{Cloud, CloudInstance, Control, Decisions, Instances, Kind, Port, PortError, Tasks};
use controller::reconcile::{
    Before, Resume, Scene, Step, health_of, look_back_s, may_resume, needs_tasks, reconcile, suspects_after,
    to_look_up, unread_launches,
};

use crate::execute::{Claimed, Executor};

/// What a reconciliation did, by kind of step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reconciled {
    /// Machines of ours that got the record they lacked.
    pub adopted: u32,
    /// Machines of ours that no record can be made for.
    pub orphans: u32,
    /// Records whose machine was gone.
    pub lost: u32,
    /// Machines with our tags that no decision explains, and that were terminated.
    pub orphans_ended: u32,
    /// Machines that never took tasks, and were terminated so that others take their place.
    pub stuck_ended: u32,
    /// Machines whose time to work off their tasks ended.
    pub drained: u32,
    /// Interrupted decisions that were brought to their end.
    pub finished: u32,
    /// Machines that those had launched.
    pub launched: u32,
    /// Machines that those had stopped, or told to drain.
    pub stopped: u32,
    /// Of those the ones that were tried again and that EC2 refused for good.
    pub failed: u32,
    /// Decisions that were settled without having been carried out.
    pub released: u32,
    /// Machines that are recorded as alive (those that are adopted now included) and never took tasks or are gone, before
    /// any other step.
    pub unhealthy: u32,
    /// Whether there are so many of them that nothing is launched or stopped.
    pub held: bool,
}

impl Reconciled {
    /// Counts an interrupted decision by what became of it, and whether it was tried again: one that came too late for that is no
    /// refusal by EC2.
    fn finish(&mut self, outcome: &Outcome, is_tried: bool) {
        self.finished += 1;
        match outcome {
            Outcome::Launched { instance_ids } => self.launched += instance_ids.len() as u32,
            Outcome::Terminated { instance_ids } | Outcome::Draining { instance_ids, .. } => {
                self.stopped += instance_ids.len() as u32;
            }
            Outcome::Failed { .. } => self.failed += u32::from(is_tried),
            Outcome::NoCapacity { .. } | Outcome::Nothing { .. } | Outcome::Refused { .. } => {}
        }
    }
}

/// A reconciliation in which something failed.
#[derive(Debug)]
pub struct Unfinished {
    /// The first error.
    pub error: PortError,
    /// What was found and done all the same; none if something could not be read.
    pub done: Option<Box<Reconciled>>,
}

impl From<PortError> for Unfinished {
    fn from(error: PortError) -> Self {
        Self { error, done: None }
    }
}

/// Why a machine that drains does not go, for people.
fn left(record: &InstanceRecord) -> &'static str {
    match record.drain.map(|drain| drain.why) {
        Some(DrainReason::Interruption) => "EC2 announced to take it back and has not",
        _ => "its time to drain is over, and it may not be stopped now",
    }
}

/// All of them. Of two that were read of one tick the later reading counts.
fn merged(earlier: Vec<Decision>, later: Vec<Decision>) -> Vec<Decision> {
    let by_tick: BTreeMap<u64, Decision> = earlier.into_iter().chain(later).map(|d| (d.tick, d)).collect();
    by_tick.into_values().collect()
}

impl<T, I, D, C, K> Executor<T, I, D, C, K>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    K: Cloud,
{
    /// Compares EC2, records and decisions, and takes every step that [`reconcile`] names.
    ///
    /// # Errors
    /// If something cannot be read, or a step fails: the first one that did, after all others were taken.
    pub async fn reconcile(&self, tick: &Tick) -> Result<Reconciled, Unfinished> {
        let (pool, now_s) = (tick.pool.as_str(), tick.seconds());
        let config = self.ports.control.config(pool).await?;
        // Records first: a machine launched between the two reads is then adopted twice, which is harmless, instead
        // of being taken for lost.
        let records = self.ports.instances.alive(pool).await?;
        let cloud = self.ports.cloud.describe(pool).await?;
        let (decisions, unreadable) = self.decisions(&config, &records, &cloud, now_s).await?;
        let (unreadable, suspects) = (&unreadable, &self.ports.control.suspects(pool).await?);
        let killed = self.ports.control.kill_switch().await?.engaged;
        let may = |action| !killed && config.mode.carries_out(action);
        let (may_launch, may_stop) = (may(Action::Launch(0, 1)), may(Action::Stop(0, 1)));
        let now_ms = now_s * 1000;
        let tasks = self.tasks_if_needed(&config, &records, now_ms).await;
        let (records, cloud, decisions) = (records.as_slice(), cloud.as_slice(), decisions.as_slice());
        let ended = self.ended(&config, now_ms).await;
        let (tasks, ended) = (tasks.as_deref(), ended.as_deref());
        let (config, stack) = (&config, self.ports.cloud.stack());
        let terminated = &self.ports.cloud.terminated(&to_look_up(decisions, now_ms)).await?;
        let scene = Scene {
            stack,
            config,
            may_launch,
            may_stop,
            records,
            cloud,
            tasks,
            terminated,
            ended,
            decisions,
            unreadable,
            suspects,
            now_ms,
        };
        let health = health_of(&scene);
        if health.must_hold() {
            tracing::error!(pool, %health, "unhealthy: nothing is launched or stopped until somebody has looked");
        }
        let (unhealthy, held) = (health.unhealthy(), health.must_hold());
        let (mut done, mut failed) = (Reconciled { unhealthy, held, ..Reconciled::default() }, None);
        let mut steps = reconcile(&scene);
        if let Err(error) = self.write_down(pool, &suspects_after(&steps, &scene), suspects).await {
            steps.retain(|step| step.ends().is_none());
            failed = (error.kind != Kind::Conflict).then_some(error);
        }
        for step in steps {
            if let Err(error) = self.take(config, step, now_ms, &mut done).await {
                tracing::error!(pool, %error, "a step failed; the others go on");
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(done), |error| Err(Unfinished { error, done: Some(Box::new(done)) }))
    }

    /// Writes down what was seen, and what is about to be ended. Whoever cannot ends nothing: another reconciliation was
    /// faster, or the next one would not know of it.
    async fn write_down(&self, pool: &str, after: &Suspects, before: &Suspects) -> Port<()> {
        if after == before {
            return Ok(());
        }
        for (instance, suspect) in after.machines.iter().filter(|(id, _)| !before.machines.contains_key(*id)) {
            tracing::info!(pool, instance, why = ?suspect.why, "suspected; the next reconciliation looks again");
        }
        let written = self.ports.control.put_suspects(pool, after).await;
        written.inspect_err(|error| tracing::warn!(pool, %error, "what was seen is not written down; nothing is ended"))
    }

    /// The decisions that a reconciliation looks at: those that are not settled, as many of the last ones as it must know
    /// of, and older ones whose machines have no record; and the ticks of such ones that cannot be read.
    async fn decisions(
        &self,
        config: &PoolConfig,
        records: &[InstanceRecord],
        cloud: &[CloudInstance],
        now_s: u64,
    ) -> Port<(Vec<Decision>, BTreeSet<u64>)> {
        let (log, pool) = (&self.ports.decisions, config.pool.as_str());
        let range = |back_s: u64| log.range(pool, now_s.saturating_sub(back_s), now_s + 1);
        let unsettled = log.unsettled(pool).await?;
        let mut decisions = merged(unsettled, range(look_back_s(config)).await?);
        if may_resume(&decisions, config, now_s * 1000) {
            decisions = merged(decisions, range(earlier::look_back_s(config)).await?);
        }
        let mut unreadable = BTreeSet::new();
        for tick in unread_launches(records, cloud, &decisions) {
            match log.get(pool, tick).await {
                Ok(launch) => decisions.extend(launch),
                Err(error) if error.kind == Kind::Unreadable => {
                    tracing::warn!(pool, tick, %error, "its machines are recorded at their size's first price");
                    unreadable.insert(tick);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((decisions, unreadable))
    }

    /// The tasks, if any machine drains or is overdue. If they cannot be read, machines go when their time is over, and not
    /// before, and none is taken for stuck.
    async fn tasks_if_needed(
        &self,
        config: &PoolConfig,
        records: &[InstanceRecord],
        now_ms: u64,
    ) -> Option<Vec<TaskRecord>> {
        if !needs_tasks(config, records, now_ms) {
            return None;
        }
        let (pool, tasks) = (&config.pool, self.ports.tasks.open(&config.pool).await);
        tasks
            .inspect_err(|error| tracing::warn!(pool, %error, "machines that drain stay until their time is over"))
            .ok()
    }

    async fn take(&self, config: &PoolConfig, step: Step, now_ms: u64, done: &mut Reconciled) -> Port<()> {
        match step {
            Step::Adopt(record) => {
                tracing::warn!(pool = record.pool, instance = record.instance_id, "adopted: no live record had it");
                self.ports.instances.put_new(&record).await?;
                // There may be a record that took it for lost.
                self.ports.instances.reopen(&record).await?;
                done.adopted += 1;
            }
            Step::Orphan(instance) => {
                tracing::error!(
                    pool = config.pool,
                    instance,
                    "orphan: no size of this pool, or no decision, is its own"
                );
                done.orphans += 1;
            }
            Step::EndOrphan(instance) => {
                let is_ended = self.end(&config.pool, &instance, "an orphan whose time is over").await?;
                done.orphans_ended += u32::from(is_ended);
            }
            Step::EndStuck(record) => done.stuck_ended += u32::from(self.end_stuck(&record, now_ms).await?),
            Step::MarkLost(record) => {
                tracing::warn!(pool = record.pool, instance = record.instance_id, "lost: EC2 no longer reports it");
                self.ports.instances.mark_terminated(&record, now_ms, Ended::Lost).await?;
                done.lost += 1;
            }
            Step::EndDrain(record) => {
                let ids = std::slice::from_ref(&record.instance_id);
                let outcome = self.end_drain(&record.pool, ids, now_ms).await?;
                tracing::info!(pool = record.pool, instance = record.instance_id, ?outcome, "drained");
                done.drained += u32::from(matches!(outcome, Outcome::Terminated { .. }));
            }
            Step::Undrain(record) => {
                let instance = record.instance_id.as_str();
                tracing::warn!(pool = record.pool, instance, "works on: {}", left(&record));
                self.ports.instances.reopen(&record).await?;
            }
            Step::Resume(decision, how, before) => {
                self.resume(config, &decision, (how, before), now_ms, done).await?;
            }
            Step::Release(decision, outcome) => self.release(&decision, outcome, now_ms, done).await?,
        }
        Ok(())
    }

    /// Ends a machine that never took tasks, unless its worker has said by now that it does: the index of machines alive may
    /// be behind, and the record itself, by a consistent read, is not.
    async fn end_stuck(&self, record: &InstanceRecord, now_ms: u64) -> Port<bool> {
        let (pool, instance) = (record.pool.as_str(), record.instance_id.as_str());
        let of_launch = self.ports.instances.launched(pool, record.launched_ms, record.launched_ms + 1).await?;
        if of_launch.iter().any(|stored| stored.instance_id == instance && stored.ready_ms.is_some()) {
            tracing::info!(pool, instance, "it takes tasks by now, and stays");
            return Ok(false);
        }
        let is_ended = self.end(pool, instance, "it never took tasks").await?;
        if is_ended {
            self.ports.instances.mark_terminated(record, now_ms, Ended::Stuck).await?;
        }
        Ok(is_ended)
    }

    /// Terminates a machine without a decision; whether it went. One that EC2 does not let go (somebody protected it) is left
    /// alone, and seen anew.
    async fn end(&self, pool: &str, instance: &str, because: &str) -> Port<bool> {
        match self.terminate_what_may_be(&[instance.to_owned()]).await {
            Ok(_) => {
                tracing::warn!(pool, instance, because, "ended without a decision");
                Ok(true)
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                tracing::warn!(pool, instance, because, %error, "left running");
                Ok(false)
            }
        }
    }

    async fn resume(
        &self,
        config: &PoolConfig,
        decision: &Decision,
        (how, before): (Resume, Before),
        now_ms: u64,
        done: &mut Reconciled,
    ) -> Port<()> {
        let Some(intent) = &decision.intent else { return Ok(()) };
        let claimed = Claimed { generation: intent.generation, now_ms: intent.claimed_ms };
        // what the first attempt ended is closed as ended by it, and not as lost
        self.close(&decision.pool, &before.gone, claimed.now_ms).await?;
        let is_tried = matches!(how, Resume::Again(_));
        let settled = match how {
            Resume::Settle(outcome) => self.settle(decision, claimed, intent.plan.clone(), outcome).await,
            Resume::Again(left) => self.act_again(config, decision, claimed, (&left, &before), now_ms).await,
        };
        let outcome = match settled {
            // Its own executor was only slow, or another reconciliation was faster.
            Err(error) if error.kind == Kind::Conflict => return Ok(()),
            settled => settled?,
        };
        tracing::warn!(pool = decision.pool, tick = decision.tick, ?outcome, "settled an interrupted decision");
        done.finish(&outcome, is_tried);
        Ok(())
    }

    /// Settles what nobody will carry out, unless somebody did so since it was read.
    async fn release(&self, decision: &Decision, outcome: Outcome, now_ms: u64, done: &mut Reconciled) -> Port<()> {
        let stored = self.ports.decisions.get(&decision.pool, decision.tick).await?;
        if stored.is_none_or(|stored| stored.intent != decision.intent) {
            return Ok(());
        }
        let intent = decision.intent.as_ref();
        let claimed = intent
            .map_or(Claimed { generation: 0, now_ms }, |i| Claimed { generation: i.generation, now_ms: i.claimed_ms });
        match self.settle(decision, claimed, None, outcome).await {
            Err(error) if error.kind == Kind::Conflict => return Ok(()),
            settled => settled.map(drop)?,
        }
        tracing::warn!(pool = decision.pool, tick = decision.tick, "released a decision that was not carried out");
        done.released += 1;
        Ok(())
    }
}
