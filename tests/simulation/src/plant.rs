//! The machines' and workers' side: boots, tasks, and the metrics that come of them. It never fails; what people and
//! nature do to it is `meddling`'s.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::{OUTAGE_TASKS_MIN, UNHEALTHY_MACHINES_MIN};
use contract::plan::{TAG_DECISION, TAG_SIZE, TAG_STACK};
use contract::pool::{OUTSIDE_METRICS, PoolConfig};
use contract::record::{TaskRecord, TaskState};
use controller::ports::{Instances, Point, Tasks};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::builders::{STACK, task};
use testkit::{Machine, World};

use crate::now;
use crate::profile::Rates;
use crate::seen::{Event, Seen};

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A task every other minute, which one small machine can keep up with.
    Gentle,
    /// Nothing for hours, then a little.
    Idle,
    /// A few tasks a minute.
    Steady,
    /// Nothing, then hundreds at once.
    Bursts,
    /// So many at once in the sixth minute, and nothing else.
    Flood(usize),
    /// A task in this minute, and nothing before or after it.
    One(u64),
}

/// What is wrong with the outside metrics for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Broken {
    /// No points.
    Missing,
    /// The last points get older and older.
    Stale,
    /// This number instead.
    Value(f64),
}

/// Minutes in which all tasks are gone at once, and images that never start their worker. Their chances have a randomness
/// of their own, so that they change no other one.
pub struct Disasters {
    rng: ChaCha8Rng,
    blackout: f64,
    dark_until_ms: u64,
    bad_image: f64,
    bad_until_ms: u64,
}

impl Disasters {
    /// Disasters at these rates.
    pub fn new(rng: ChaCha8Rng, rates: Rates) -> Self {
        let Rates { blackout, bad_image, .. } = rates;
        Self { rng, blackout, dark_until_ms: 0, bad_image, bad_until_ms: 0 }
    }
}

/// Machines, workers and tasks.
pub struct Plant {
    pool: String,
    rng: ChaCha8Rng,
    load: Load,
    next_task: u64,
    runtime_ms: BTreeMap<String, u64>,
    boot_ms: BTreeMap<String, u64>,
    unhealthy: BTreeSet<String>,
    unhealthy_rate: f64,
    disasters: Disasters,
    /// What is wrong with the metrics.
    pub broken: Option<Broken>,
    /// How far the submitters' clocks are off, milliseconds.
    pub skew_ms: i64,
}

/// Whether a machine belongs to the pool, by its tags.
pub fn is_ours(machine: &Machine, pool: &str) -> bool {
    machine.is_of(pool)
}

/// Whether a machine says that it is another stack's.
pub fn is_of_other_stack(machine: &Machine) -> bool {
    machine.tags.get(TAG_STACK).is_some_and(|stack| stack != STACK)
}

/// The size of a machine: what its launch template makes, else what its tag says.
pub fn true_size(machine: &Machine, config: &PoolConfig) -> Option<usize> {
    let by_template = config.sizes.iter().position(|s| s.launch_template == machine.launch_template);
    by_template.or_else(|| machine.tags.get(TAG_SIZE)?.parse().ok().filter(|size| *size < config.sizes.len()))
}

impl Plant {
    /// A plant with its own randomness, and a load of its choice.
    pub fn new(mut rng: ChaCha8Rng, pool: &str, unhealthy_rate: f64, disasters: Disasters) -> Self {
        let load = [Load::Idle, Load::Steady, Load::Steady, Load::Bursts][rng.random_range(0..4)];
        Self::under(load, rng, pool, unhealthy_rate, disasters)
    }

    /// A plant under a load.
    pub fn under(load: Load, rng: ChaCha8Rng, pool: &str, unhealthy_rate: f64, disasters: Disasters) -> Self {
        Self {
            pool: pool.to_owned(),
            rng,
            load,
            next_task: 0,
            runtime_ms: BTreeMap::new(),
            boot_ms: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            unhealthy_rate,
            disasters,
            broken: None,
            skew_ms: 0,
        }
    }

    /// One minute: machines boot, tasks end, are lost, begin and come, and metrics are written.
    pub fn minute(&mut self, world: &World, config: &PoolConfig, at_ms: u64, tick: u64, seen: &mut Seen) {
        let outside = world.outside();
        let ready = self.ready(&outside, config, at_ms, seen);
        self.black_out(&outside, at_ms, seen);
        if self.disasters.rng.random_bool(self.disasters.bad_image) {
            self.disasters.bad_until_ms = at_ms + 60_000 * self.disasters.rng.random_range(5..30);
        }
        let busy = self.work(&outside, &ready, config, at_ms);
        self.submit(&outside, at_ms, tick, seen);
        let cores: u32 = ready.values().sum();
        let share = if cores == 0 { 0.0 } else { f64::from(busy) / f64::from(cores) };
        self.measure(world, config, at_ms, share, seen);
    }

    /// Faults stop: what is launched from now on is healthy, and the tasks that still come are few and end. Machines that never come up stay so,
    /// for the executor to replace; but people mend those whose tags they changed or left out, which it leaves alone, and
    /// all of them where they are so many that it may hold.
    pub fn heal(&mut self, world: &World, retagged: &BTreeSet<String>) {
        self.load = Load::Gentle;
        // Whoever sent a task without an end takes it back: a load that never ends is not a feasible one.
        self.runtime_ms.values_mut().filter(|ms| **ms == u64::MAX).for_each(|ms| *ms = 0);
        for machine in world.machines() {
            if retagged.contains(&machine.instance_id) || !machine.tags.contains_key(TAG_DECISION) {
                self.unhealthy.remove(&machine.instance_id);
            }
        }
        let is_sick = |m: &&Machine| m.alive && is_ours(m, &self.pool) && self.unhealthy.contains(&m.instance_id);
        if world.with_machines(|all| all.iter().filter(is_sick).count()) >= UNHEALTHY_MACHINES_MIN as usize {
            self.unhealthy.clear();
        }
        self.unhealthy_rate = 0.0;
        (self.disasters.blackout, self.disasters.bad_image) = (0.0, 0.0);
        self.disasters.bad_until_ms = 0;
        self.broken = None;
        self.skew_ms = 0;
    }

    /// Tasks that were submitted before a time and still wait.
    pub fn waiting_since(world: &World, pool: &str, before_ms: u64) -> usize {
        let open = now(world.outside().open(pool)).expect("the outside's calls never fail");
        open.iter().filter(|t| t.state() == TaskState::Waiting && t.submitted_ms < before_ms).count()
    }

    /// Cores of every machine whose worker takes tasks, by id; and the records of new ones say so.
    fn ready(&mut self, outside: &World, config: &PoolConfig, at_ms: u64, seen: &mut Seen) -> BTreeMap<String, u32> {
        let machines = outside.machines();
        let records = outside.instances();
        let mut ready = BTreeMap::new();
        // another stack's workers take that stack's tasks
        for machine in machines.iter().filter(|m| m.alive && !is_of_other_stack(m)) {
            let Some(size) = true_size(machine, config) else { continue };
            if self.is_up(machine, at_ms, seen) {
                ready.insert(machine.instance_id.clone(), config.sizes[size].cores);
                let record = records.iter().find(|r| r.instance_id == machine.instance_id && r.ready_ms.is_none());
                if let Some(record) = record {
                    now(outside.mark_ready(record, at_ms)).expect("the record is there");
                }
            }
        }
        ready
    }

    fn is_up(&mut self, machine: &Machine, at_ms: u64, seen: &mut Seen) -> bool {
        let id = &machine.instance_id;
        if !self.boot_ms.contains_key(id) {
            self.boot_ms.insert(id.clone(), at_ms + self.rng.random_range(30_000..150_000));
            let bad_image = at_ms < self.disasters.bad_until_ms;
            seen.note_if(bad_image, Event::BadImage);
            if self.rng.random_bool(self.unhealthy_rate) || bad_image {
                seen.note(Event::NeverHealthy);
                self.unhealthy.insert(id.clone());
            }
        }
        self.boot_ms[id] <= at_ms && !self.unhealthy.contains(id)
    }

    /// Ends, loses and begins tasks; the number of busy cores.
    fn work(&mut self, outside: &World, ready: &BTreeMap<String, u32>, config: &PoolConfig, at_ms: u64) -> u32 {
        let mut free = ready.clone();
        let open = now(outside.open(&config.pool)).expect("the outside's calls never fail");
        let (mut waiting, mut busy) = (Vec::new(), 0);
        for task in open {
            match (task.state(), task.instance_id.as_deref().and_then(|id| free.get_mut(id))) {
                (TaskState::Waiting, _) => waiting.push(task),
                (_, None) => waiting.push(put(outside, TaskRecord { started_ms: None, instance_id: None, ..task })),
                (_, Some(_)) if self.is_done(&task, at_ms) => {
                    put(outside, TaskRecord { finished_ms: Some(at_ms), ..task });
                }
                (_, Some(cores)) => {
                    *cores = cores.saturating_sub(1);
                    busy += 1;
                }
            }
        }
        // a worker whose record says so takes no more tasks
        let draining = outside.instances().into_iter().filter(|r| r.drain.is_some());
        for record in draining {
            free.remove(&record.instance_id);
        }
        busy + begin(outside, waiting, &mut free, at_ms)
    }

    /// In some minutes all tasks are gone, and nobody submits any for a while.
    fn black_out(&mut self, outside: &World, at_ms: u64, seen: &mut Seen) {
        if !self.disasters.rng.random_bool(self.disasters.blackout) {
            return;
        }
        self.disasters.dark_until_ms = at_ms + 60_000 * self.disasters.rng.random_range(3..15);
        let open = now(outside.open(&self.pool)).expect("the outside's calls never fail");
        seen.note_if(open.len() >= OUTAGE_TASKS_MIN as usize, Event::LoadVanished);
        for task in open {
            put(outside, TaskRecord { finished_ms: Some(at_ms), ..task });
        }
    }

    fn is_done(&self, task: &TaskRecord, at_ms: u64) -> bool {
        let runtime_ms = self.runtime_ms.get(&task.task_id).copied().unwrap_or_default();
        task.started_ms.is_some_and(|started| started.saturating_add(runtime_ms) <= at_ms)
    }

    fn submit(&mut self, outside: &World, at_ms: u64, tick: u64, seen: &mut Seen) {
        let n = match self.load {
            Load::Gentle => usize::from(tick.is_multiple_of(2)),
            _ if at_ms < self.disasters.dark_until_ms => 0,
            Load::Idle if tick == 100 => 2,
            Load::Idle => 0,
            Load::Steady => self.rng.random_range(0..6),
            Load::Bursts if tick % 70 == 30 => 150,
            Load::Bursts => 0,
            Load::Flood(n) if tick == 5 => n,
            Load::One(at) if tick == at => 1,
            Load::Flood(_) | Load::One(_) => 0,
        };
        seen.note_if(self.load == Load::Idle && tick == 99, Event::Idle);
        seen.note_if(n >= 100, Event::Burst);
        for _ in 0..n {
            let runtime_ms = match self.rng.random_range(0..300) {
                0 if self.load != Load::Gentle => u64::MAX,
                1..10 => 0,
                _ => self.rng.random_range(20_000..240_000),
            };
            seen.note_if(runtime_ms == u64::MAX, Event::EndlessTask);
            seen.note_if(runtime_ms == 0, Event::ZeroLengthTask);
            self.next_task += 1;
            let id = format!("t-{}", self.next_task);
            let submitted_ms = at_ms.saturating_add_signed(self.skew_ms) - self.rng.random_range(0..60_000);
            put(outside, task(&self.pool, &id, submitted_ms));
            self.runtime_ms.insert(id, runtime_ms);
        }
    }

    fn measure(&mut self, world: &World, config: &PoolConfig, at_ms: u64, share: f64, seen: &mut Seen) {
        let (value, late_ms) = match self.broken {
            None => (share, 60_000),
            Some(Broken::Stale) => (share, 600_000),
            Some(Broken::Missing) => return seen.note(Event::MetricsMissing),
            Some(Broken::Value(value)) => (value, 60_000),
        };
        seen.note_if(self.broken == Some(Broken::Stale), Event::MetricsStale);
        seen.note_if(value.is_nan(), Event::MetricsNan);
        seen.note_if(value.is_infinite(), Event::MetricsInfinite);
        seen.note_if(value < 0.0 && value.is_finite(), Event::MetricsNegative);
        seen.note_if(value > 1.0 && value.is_finite(), Event::MetricsAbsurd);
        for name in OUTSIDE_METRICS {
            world.add_point(&config.pool, &config.metrics[name], Point { at_ms: at_ms - late_ms, value });
        }
    }
}

fn begin(outside: &World, waiting: Vec<TaskRecord>, free: &mut BTreeMap<String, u32>, at_ms: u64) -> u32 {
    let mut begun = 0;
    for task in waiting {
        let Some((id, cores)) = free.iter_mut().find(|(_, cores)| **cores > 0) else { break };
        *cores -= 1;
        begun += 1;
        let attempts = task.attempts + 1;
        put(outside, TaskRecord { started_ms: Some(at_ms), instance_id: Some(id.clone()), attempts, ..task });
    }
    begun
}

fn put(outside: &World, task: TaskRecord) -> TaskRecord {
    now(outside.put(&task)).expect("the outside's calls never fail");
    task
}
