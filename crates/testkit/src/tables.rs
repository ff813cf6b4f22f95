//! The fakes of the four tables, with the conditions that the real adapters write.

use std::collections::{BTreeMap, BTreeSet};

use contract::control::{Head, KillSwitch};
use contract::decision::{Decision, Intent, IntentState, Verdict};
use contract::limits::{QUEUE_ROWS_MAX, UNREADABLE_MAX, UNSETTLED_MAX};
use contract::pool::PoolConfig;
use contract::record::{Drain, Ended, InstanceRecord, NoCapacity, Suspects, TaskRecord, TaskState};
use controller::ports::{Claim, Control, Decisions, Instances, Kind, Port, PortError, Tasks, Written};

use crate::builders::pending;
use crate::fate::Happened;
use crate::op;
use crate::world::{Key, State, World};

/// DynamoDB takes no larger item.
const ITEM_BYTES_MAX: usize = 400 * 1024;

/// What DynamoDB says to an item that is too large. JSON is longer than an item of the same record, by its quotes.
fn fits(operation: &'static str, json: serde_json::Result<Vec<u8>>) -> Port<()> {
    let bytes = json.expect("records are plain data").len();
    match bytes <= ITEM_BYTES_MAX {
        true => Ok(()),
        false => Err(PortError {
            operation,
            code: "ValidationException".into(),
            message: format!("Item size has exceeded the maximum allowed size: {bytes} bytes"),
            kind: Kind::Invalid,
        }),
    }
}

fn task_key(task: &TaskRecord) -> Key {
    (task.pool.clone(), task.submitted_ms, task.task_id.clone())
}

fn instance_key(record: &InstanceRecord) -> Key {
    (record.pool.clone(), record.launched_ms, record.instance_id.clone())
}

impl State {
    fn submitted(&self, pool: &str, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values().filter(move |t| t.pool == pool && (from_ms..to_ms).contains(&t.submitted_ms))
    }

    /// The index of machines alive, as far as it has caught up.
    fn shown_alive(&self, pool: &str) -> Vec<InstanceRecord> {
        self.shown().filter(|r| r.pool == pool && r.terminated_ms.is_none()).cloned().collect()
    }

    /// The index of machines that have ended, as far as it has caught up.
    fn shown_ended(&self, pool: &str, from_ms: u64, to_ms: u64) -> Vec<InstanceRecord> {
        let inside = |r: &&InstanceRecord| r.terminated_ms.is_some_and(|at_ms| (from_ms..=to_ms).contains(&at_ms));
        let mut ended: Vec<_> = self.shown().filter(|r| r.pool == pool).filter(inside).cloned().collect();
        ended.sort_by_key(|r| r.terminated_ms);
        ended
    }

    /// Records as the indices show them.
    fn shown(&self) -> impl Iterator<Item = &InstanceRecord> {
        let old = |key: &Key| self.alive_index_old.get(key);
        self.instances.iter().filter_map(move |(key, record)| old(key).map_or(Some(record), Option::as_ref))
    }

    /// Remembers what the index of machines alive goes on showing while it is behind.
    fn before_change(&mut self, key: &Key) {
        if self.alive_index_behind {
            let now = self.instances.get(key).cloned();
            self.alive_index_old.entry(key.clone()).or_insert(now);
        }
    }

    fn recorded(&mut self, operation: &'static str, record: &InstanceRecord) -> Port<&mut InstanceRecord> {
        let key = instance_key(record);
        self.before_change(&key);
        self.instances.get_mut(&key).ok_or_else(|| PortError::not_found(operation, record.instance_id.clone()))
    }
}

impl Tasks for World {
    async fn open(&self, pool: &str) -> Port<Vec<TaskRecord>> {
        self.call(op::TASKS_OPEN, |s| {
            let in_state = |state| s.tasks.iter().filter(move |(_, t)| t.pool == pool && t.state() == state);
            // as in the real table what runs is kept before what waits
            let kept = in_state(TaskState::Running).chain(in_state(TaskState::Waiting)).take(QUEUE_ROWS_MAX);
            Ok(kept.collect::<BTreeMap<_, _>>().into_values().cloned().collect())
        })
        .await
    }

    async fn submitted(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<TaskRecord>> {
        self.call(op::TASKS_SUBMITTED, |s| Ok(s.submitted(pool, from_ms, to_ms).cloned().collect())).await
    }

    async fn arrival_times(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<u64>> {
        self.call(op::TASKS_ARRIVAL_TIMES, |s| {
            Ok(s.submitted(pool, from_ms + 1, to_ms + 1).map(|t| t.submitted_ms).collect())
        })
        .await
    }

    async fn put(&self, task: &TaskRecord) -> Port<()> {
        self.call(op::TASKS_PUT, |s| {
            s.tasks.insert(task_key(task), task.clone());
            Ok(())
        })
        .await
    }
}

impl Instances for World {
    async fn alive(&self, pool: &str) -> Port<Vec<InstanceRecord>> {
        self.call(op::INSTANCES_ALIVE, |s| Ok(s.shown_alive(pool))).await
    }

    async fn launched(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<InstanceRecord>> {
        self.call(op::INSTANCES_LAUNCHED, |s| {
            let inside = |r: &&InstanceRecord| r.pool == pool && (from_ms..to_ms).contains(&r.launched_ms);
            Ok(s.instances.values().filter(inside).cloned().collect())
        })
        .await
    }

    async fn ended(&self, pool: &str, from_ms: u64, to_ms: u64) -> Port<Vec<InstanceRecord>> {
        self.call(op::INSTANCES_ENDED, |s| Ok(s.shown_ended(pool, from_ms, to_ms))).await
    }

    async fn put_new(&self, record: &InstanceRecord) -> Port<()> {
        self.call(op::INSTANCES_PUT_NEW, |s| {
            s.before_change(&instance_key(record));
            s.instances.entry(instance_key(record)).or_insert_with(|| record.clone());
            Ok(())
        })
        .await
    }

    async fn mark_ready(&self, record: &InstanceRecord, ready_ms: u64) -> Port<()> {
        self.call(op::INSTANCES_MARK_READY, |s| {
            s.recorded(op::INSTANCES_MARK_READY, record)?.ready_ms = Some(ready_ms);
            Ok(())
        })
        .await
    }

    async fn mark_draining(&self, record: &InstanceRecord, drain: Drain) -> Port<()> {
        self.call(op::INSTANCES_MARK_DRAINING, |s| {
            let stored = s.recorded(op::INSTANCES_MARK_DRAINING, record)?;
            if stored.terminated_ms.is_none() {
                stored.drain.get_or_insert(drain);
            }
            Ok(())
        })
        .await
    }

    async fn reopen(&self, record: &InstanceRecord) -> Port<()> {
        self.call(op::INSTANCES_REOPEN, |s| {
            let stored = s.recorded(op::INSTANCES_REOPEN, record)?;
            (stored.terminated_ms, stored.ended, stored.drain) = (None, None, None);
            Ok(())
        })
        .await
    }

    async fn mark_terminated(&self, record: &InstanceRecord, terminated_ms: u64, ended: Ended) -> Port<()> {
        self.call(op::INSTANCES_MARK_TERMINATED, |s| {
            let stored = s.recorded(op::INSTANCES_MARK_TERMINATED, record)?;
            stored.terminated_ms.get_or_insert(terminated_ms);
            stored.ended.get_or_insert(ended);
            Ok(())
        })
        .await
    }
}

impl State {
    fn put_once(&mut self, decision: &Decision) -> Written {
        let key = (decision.pool.clone(), decision.tick);
        if self.unreadable.contains_key(&key) {
            return Written::Unreadable;
        }
        match self.decisions.get(&key) {
            Some(stands) => Written::Existed(Box::new(stands.clone())),
            None => {
                self.decisions.insert(key, decision.clone());
                self.happened.push(Happened::Decided(Box::new(decision.clone())));
                Written::New
            }
        }
    }

    fn get(&self, pool: &str, tick: u64) -> Port<Option<Decision>> {
        let key = (pool.to_owned(), tick);
        match self.unreadable.contains_key(&key) {
            true => Err(PortError::unreadable(op::DECISIONS_GET, format!("{pool}/{tick}"))),
            false => Ok(self.decisions.get(&key).cloned()),
        }
    }

    /// The last ones that can be read, past so many that cannot.
    fn before(&self, pool: &str, tick: u64, n: usize) -> Vec<Decision> {
        let pool_ = pool.to_owned();
        let unreadable = self.unreadable.range((pool_.clone(), 0)..(pool_, tick)).map(|(key, _)| key.1);
        let oldest = unreadable.rev().nth(UNREADABLE_MAX - 1).unwrap_or_default();
        self.of_pool(pool, oldest, tick).rev().take(n).cloned().collect()
    }

    fn of_pool(&self, pool: &str, from: u64, to: u64) -> impl DoubleEndedIterator<Item = &Decision> {
        let pool = pool.to_owned();
        self.decisions.range((pool.clone(), from)..(pool, to.max(from))).map(|(_, d)| d)
    }

    /// Keys in the index of unsettled decisions, as far as it has caught up.
    pub(crate) fn shown_unsettled(&self) -> BTreeSet<(String, u64)> {
        let is_in = |d: &Decision| d.verdict == Verdict::Act && !d.is_settled();
        let readable = || self.decisions.iter().filter(|(_, d)| is_in(d)).map(|(key, _)| key);
        let unreadable = || self.unreadable.iter().filter(|(_, asks)| **asks).map(|(key, _)| key);
        let now = || readable().chain(unreadable()).cloned().collect();
        self.unsettled_index_old.clone().unwrap_or_else(now)
    }

    /// All conditions of the claim's transaction, then all its writes, under one lock.
    fn claim(&mut self, decision: &Decision, head: &Head, next: &Head, now_ms: u64) -> Port<Claim> {
        if next.generation != head.generation + 1 {
            return Err(PortError::invalid(op::DECISIONS_CLAIM, "the next head is not the successor of the head"));
        }
        let key = (decision.pool.clone(), decision.tick);
        let Some(stored) = self.decisions.get_mut(&key) else {
            return Err(PortError::not_found(op::DECISIONS_CLAIM, format!("{}/{}", decision.pool, decision.tick)));
        };
        if let Some(intent) = &stored.intent {
            return Ok(Claim::Duplicate(Box::new(intent.clone())));
        }
        if self.kill_switch.engaged {
            return Ok(Claim::Killed);
        }
        if !self.configs.get(&decision.pool).is_some_and(|config| config.mode.carries_out(decision.action)) {
            return Ok(Claim::Mode);
        }
        let current = self.heads.get(&decision.pool).cloned().unwrap_or_default();
        if current.next_allowed_ms > now_ms {
            return Ok(Claim::Cooldown);
        }
        if current.generation != head.generation {
            return Ok(Claim::Raced);
        }
        stored.intent = Some(pending(next.generation, now_ms));
        self.heads.insert(decision.pool.clone(), next.clone());
        self.happened.push(Happened::Claimed {
            pool: decision.pool.clone(),
            tick: decision.tick,
            generation: next.generation,
            now_ms,
            killed: self.kill_switch.engaged,
        });
        Ok(Claim::Won(next.generation))
    }

    fn put_intent(&mut self, pool: &str, tick: u64, intent: &Intent) -> Port<()> {
        let stored = self.decisions.get_mut(&(pool.to_owned(), tick));
        // The same again is no error, as with the real adapter, which reads what stands when its condition fails.
        if stored.as_ref().is_some_and(|d| d.intent.as_ref() == Some(intent)) {
            return Ok(());
        }
        let allowed = stored.as_ref().is_some_and(|d| match &d.intent {
            None => intent.generation == 0,
            Some(old) => {
                let kept = old.plan.is_none() || old.plan == intent.plan;
                old.state == IntentState::Pending && old.generation == intent.generation && kept
            }
        });
        match stored.filter(|_| allowed) {
            Some(decision) => {
                let with_intent = Decision { intent: Some(intent.clone()), ..decision.clone() };
                fits(op::DECISIONS_PUT_INTENT, serde_json::to_vec(&with_intent))?;
                let before = decision.intent.replace(intent.clone()).map(Box::new);
                let (pool, after) = (pool.to_owned(), Box::new(intent.clone()));
                self.happened.push(Happened::Stored { pool, tick, before, after });
                Ok(())
            }
            None => Err(PortError::conflict(op::DECISIONS_PUT_INTENT, format!("{pool}/{tick}"))),
        }
    }
}

impl Decisions for World {
    async fn put_once(&self, decision: &Decision) -> Port<Written> {
        self.call(op::DECISIONS_PUT_ONCE, |s| {
            fits(op::DECISIONS_PUT_ONCE, serde_json::to_vec(decision))?;
            Ok(s.put_once(decision))
        })
        .await
    }

    async fn get(&self, pool: &str, tick: u64) -> Port<Option<Decision>> {
        self.call(op::DECISIONS_GET, |s| s.get(pool, tick)).await
    }

    async fn before(&self, pool: &str, tick: u64, n: usize) -> Port<Vec<Decision>> {
        self.call(op::DECISIONS_BEFORE, |s| Ok(s.before(pool, tick, n))).await
    }

    async fn range(&self, pool: &str, from: u64, to: u64) -> Port<Vec<Decision>> {
        self.call(op::DECISIONS_RANGE, |s| Ok(s.of_pool(pool, from, to).cloned().collect())).await
    }

    async fn unsettled(&self, pool: &str) -> Port<Vec<Decision>> {
        let ticks: Vec<u64> = self
            .call(op::DECISIONS_UNSETTLED, |s| {
                let of_pool = s.shown_unsettled().into_iter().filter(|(of, _)| of == pool);
                Ok(of_pool.map(|(_, tick)| tick).take(UNSETTLED_MAX).collect())
            })
            .await?;
        let mut unsettled = Vec::new();
        for tick in ticks {
            match Decisions::get(self, pool, tick).await {
                Ok(found) => unsettled.extend(found.filter(|d| !d.is_settled())),
                Err(error) if error.kind == Kind::Unreadable => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unsettled)
    }

    async fn claim(&self, decision: &Decision, head: &Head, next: &Head, now_ms: u64) -> Port<Claim> {
        let claimed = self.call(op::DECISIONS_CLAIM, |s| s.claim(decision, head, next, now_ms)).await;
        match claimed {
            // As the real adapter has it: another transaction was at the same items.
            Err(error) if error.code == "TransactionConflict" => Ok(Claim::Raced),
            other => other,
        }
    }

    async fn put_intent(&self, pool: &str, tick: u64, intent: &Intent) -> Port<()> {
        self.call(op::DECISIONS_PUT_INTENT, |s| s.put_intent(pool, tick, intent)).await
    }
}

impl Control for World {
    async fn config(&self, pool: &str) -> Port<PoolConfig> {
        self.call(op::CONTROL_CONFIG, |s| {
            s.configs.get(pool).cloned().ok_or_else(|| PortError::not_found(op::CONTROL_CONFIG, pool))
        })
        .await
    }

    async fn put_config(&self, config: &PoolConfig) -> Port<()> {
        self.call(op::CONTROL_PUT_CONFIG, |s| {
            s.configs.insert(config.pool.clone(), config.clone());
            Ok(())
        })
        .await
    }

    async fn head(&self, pool: &str) -> Port<Head> {
        self.call(op::CONTROL_HEAD, |s| Ok(s.heads.get(pool).cloned().unwrap_or_default())).await
    }

    async fn no_capacity(&self, pool: &str) -> Port<NoCapacity> {
        self.call(op::CONTROL_NO_CAPACITY, |s| Ok(s.no_capacity.get(pool).cloned().unwrap_or_default())).await
    }

    async fn put_no_capacity(&self, pool: &str, memory: &NoCapacity) -> Port<()> {
        self.call(op::CONTROL_PUT_NO_CAPACITY, |s| {
            fits(op::CONTROL_PUT_NO_CAPACITY, serde_json::to_vec(memory))?;
            s.no_capacity.insert(pool.to_owned(), memory.clone());
            Ok(())
        })
        .await
    }

    async fn suspects(&self, pool: &str) -> Port<Suspects> {
        self.call(op::CONTROL_SUSPECTS, |s| Ok(s.suspects.get(pool).cloned().unwrap_or_default())).await
    }

    async fn put_suspects(&self, pool: &str, suspects: &Suspects) -> Port<()> {
        self.call(op::CONTROL_PUT_SUSPECTS, |s| {
            let stored = s.suspects.get(pool);
            let follows = stored.is_none_or(|stored| stored.version + 1 == suspects.version || stored == suspects);
            if !follows {
                return Err(PortError::conflict(op::CONTROL_PUT_SUSPECTS, pool));
            }
            s.suspects.insert(pool.to_owned(), suspects.clone());
            Ok(())
        })
        .await
    }

    async fn kill_switch(&self) -> Port<KillSwitch> {
        self.call(op::CONTROL_KILL_SWITCH, |s| Ok(s.kill_switch)).await
    }

    async fn put_kill_switch(&self, switch: KillSwitch) -> Port<()> {
        self.call(op::CONTROL_PUT_KILL_SWITCH, |s| {
            s.kill_switch = switch;
            Ok(())
        })
        .await
    }
}
