//! Brings records and EC2 together, and finishes what another executor began.

use contract::decision::Outcome;
use contract::event::Tick;
use controller::ports::{Cloud, Control, Decisions, Instances, Port, Tasks};
use controller::reconcile::{Step, reconcile};

use crate::execute::Executor;

/// Seconds of decisions that are looked through for unsettled ones.
const LOOK_BACK_S: u64 = 6 * 3600;

/// What a reconciliation did, by kind of step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reconciled {
    /// Machines of ours that got the record they lacked.
    pub adopted: u32,
    /// Machines of ours that no record can be made for.
    pub orphans: u32,
    /// Records whose machine was gone.
    pub lost: u32,
    /// Claims that were carried out again and settled.
    pub finished: u32,
    /// Claims that were settled as failed.
    pub released: u32,
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
    /// If something cannot be read, or a step fails; the next run takes up the rest.
    pub async fn reconcile(&self, tick: &Tick) -> Port<Reconciled> {
        let (pool, now_s) = (tick.pool.as_str(), tick.seconds());
        let config = self.ports.control.config(pool).await?;
        // Records first: a machine launched between the two reads is then adopted twice, which is harmless, instead
        // of being taken for lost.
        let records = self.ports.instances.alive(pool).await?;
        let cloud = self.ports.cloud.describe(pool).await?;
        let decisions = self.ports.decisions.range(pool, now_s.saturating_sub(LOOK_BACK_S), now_s + 1).await?;
        let mut done = Reconciled::default();
        for step in reconcile(&config, &records, &cloud, &decisions, now_s * 1000) {
            self.take(&config, step, now_s * 1000, &mut done).await?;
        }
        Ok(done)
    }

    async fn take(
        &self,
        config: &contract::pool::PoolConfig,
        step: Step,
        now_ms: u64,
        done: &mut Reconciled,
    ) -> Port<()> {
        match step {
            Step::Adopt(record) => {
                tracing::warn!(pool = record.pool, instance = record.instance_id, "adopted: it had no record");
                self.ports.instances.put_new(&record).await?;
                done.adopted += 1;
            }
            Step::Orphan(instance) => {
                tracing::error!(pool = config.pool, instance, "orphan: its tags name no size of this pool");
                done.orphans += 1;
            }
            Step::MarkLost(record) => {
                tracing::warn!(pool = record.pool, instance = record.instance_id, "lost: EC2 no longer reports it");
                self.ports.instances.mark_terminated(&record, now_ms).await?;
                done.lost += 1;
            }
            Step::Finish(decision) => {
                let Some(intent) = &decision.intent else { return Ok(()) };
                let Some(plan) = intent.plan.clone() else { return Ok(()) };
                let outcome = self.act_and_settle(config, &decision, intent.generation, plan, now_ms).await?;
                tracing::warn!(pool = decision.pool, tick = decision.tick, ?outcome, "finished a pending decision");
                done.finished += 1;
            }
            Step::Release(decision, outcome) => self.release(&decision, outcome, done).await?,
        }
        Ok(())
    }

    async fn release(
        &self,
        decision: &contract::decision::Decision,
        outcome: Outcome,
        done: &mut Reconciled,
    ) -> Port<()> {
        let Some(intent) = &decision.intent else { return Ok(()) };
        self.settle(decision, intent.generation, intent.claimed_ms, None, outcome).await?;
        tracing::warn!(pool = decision.pool, tick = decision.tick, "released a claim without a plan");
        done.released += 1;
        Ok(())
    }
}
