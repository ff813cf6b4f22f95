//! The plant: the stand-in for the real machines and the workers on them. A random process of its own, not the twin.
//!
//! It boots the machines that EC2 reports, runs tasks on them first come first served, loses the work on machines that
//! disappear, and measures utilisation. It knows nothing of DynamoDB, metrics or the control loop.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use contract::pool::PoolConfig;
use contract::record::TaskRecord;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

/// Seconds that every boot takes at least; the rest is log-normal.
const BOOT_S_MIN: f64 = 20.0;
/// Median of the log-normal part of a boot, seconds.
const BOOT_S_MEDIAN: f64 = 25.0;
/// Sigma of the log-normal part of a boot.
const BOOT_SIGMA: f64 = 0.45;
/// Sigma of the log-normal factor on a task's run time.
const RUNTIME_SIGMA: f64 = 0.05;
/// Longest time between a machine being free and its worker having the next task, seconds.
const PICK_UP_S_MAX: f64 = 3.0;

/// One machine that EC2 reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// EC2's id.
    pub instance_id: String,
    /// Index of its size in the pool.
    pub size: usize,
}

/// One task of the load, with the run time it would have on a quiet machine.
#[derive(Clone, Debug, PartialEq)]
pub struct PlantTask {
    /// Its id.
    pub task_id: String,
    /// When it is submitted, milliseconds since the epoch.
    pub submit_ms: u64,
    /// How long it runs, milliseconds.
    pub runtime_ms: u64,
    /// Cores it occupies.
    pub cores: u32,
    /// Memory it occupies.
    pub memory_mb: u64,
}

/// What happened since the last call, to be written to the tables.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Tasks as they are now; each at most once.
    pub tasks: Vec<TaskRecord>,
    /// Machines whose worker began to take tasks, with the time.
    pub ready: Vec<(String, u64)>,
}

/// Utilisation of one ready machine over the last interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Utilisation {
    /// EC2's id.
    pub instance_id: String,
    /// Mean share of busy cores.
    pub cpu: f64,
    /// Share of used memory now.
    pub memory: f64,
}

#[derive(Debug)]
struct Machine {
    cores: u32,
    memory_mb: u64,
    ready: bool,
    running: BTreeSet<usize>,
    used_cores: u32,
    used_memory_mb: u64,
    busy_core_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finish { task: usize, attempt: u32 },
    Boot { machine: usize },
    Submit { task: usize },
}

/// The machines, the workers and the tasks.
pub struct Plant {
    rng: ChaCha8Rng,
    now_ms: u64,
    measured_since_ms: u64,
    sizes: Vec<(u32, u64)>,
    load: Vec<PlantTask>,
    records: Vec<TaskRecord>,
    /// Machines in the order they were first reported; gone ones are none.
    machines: Vec<Option<Machine>>,
    ids: Vec<String>,
    waiting: BTreeSet<(u64, usize)>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    changed: BTreeSet<usize>,
    became_ready: Vec<(String, u64)>,
}

impl Plant {
    /// A plant for a pool at `start_ms` with this load.
    pub fn new(seed: u64, config: &PoolConfig, start_ms: u64, load: Vec<PlantTask>) -> Self {
        let records: Vec<TaskRecord> = load.iter().map(|t| submitted(&config.pool, t)).collect();
        let events = (0..load.len()).map(|task| Reverse((load[task].submit_ms, Event::Submit { task }))).collect();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: start_ms,
            measured_since_ms: start_ms,
            sizes: config.sizes.iter().map(|s| (s.cores, s.memory_mb)).collect(),
            load,
            records,
            machines: Vec::new(),
            ids: Vec::new(),
            waiting: BTreeSet::new(),
            events,
            changed: BTreeSet::new(),
            became_ready: Vec::new(),
        }
    }

    /// Tells the plant which machines EC2 reports now: new ones begin to boot, the work on missing ones is lost.
    pub fn see(&mut self, reported: &[Reported]) {
        for index in 0..self.machines.len() {
            if self.machines[index].is_some() && !reported.iter().any(|r| r.instance_id == self.ids[index]) {
                self.lose(index);
            }
        }
        for machine in reported {
            if !self.ids.contains(&machine.instance_id) {
                self.boot(machine);
            }
        }
        self.dispatch();
    }

    /// Lets time pass until `to_ms` and says what changed.
    pub fn advance(&mut self, to_ms: u64) -> Changes {
        while let Some(Reverse((at_ms, event))) = self.events.peek().copied() {
            if at_ms > to_ms {
                break;
            }
            self.events.pop();
            self.pass(at_ms);
            self.happen(event);
            self.dispatch();
        }
        self.pass(to_ms);
        let tasks = std::mem::take(&mut self.changed).into_iter().map(|i| self.records[i].clone()).collect();
        Changes { tasks, ready: std::mem::take(&mut self.became_ready) }
    }

    /// Utilisation of the ready machines since the last call.
    pub fn measure(&mut self) -> Vec<Utilisation> {
        let span_ms = (self.now_ms - self.measured_since_ms).max(1) as f64;
        self.measured_since_ms = self.now_ms;
        let mut out = Vec::new();
        for (machine, id) in self.machines.iter_mut().zip(&self.ids) {
            let Some(m) = machine.as_mut().filter(|m| m.ready) else { continue };
            let cpu = (m.busy_core_ms as f64 / span_ms / f64::from(m.cores)).min(1.0);
            m.busy_core_ms = 0;
            let memory = m.used_memory_mb as f64 / m.memory_mb.max(1) as f64;
            out.push(Utilisation { instance_id: id.clone(), cpu, memory });
        }
        out
    }

    /// Tasks that are not finished yet.
    pub fn unfinished(&self) -> usize {
        self.records.iter().filter(|r| r.finished_ms.is_none()).count()
    }

    /// All tasks as they are now.
    pub fn tasks(&self) -> &[TaskRecord] {
        &self.records
    }

    fn pass(&mut self, to_ms: u64) {
        let span_ms = to_ms - self.now_ms;
        for machine in self.machines.iter_mut().flatten().filter(|m| m.ready) {
            machine.busy_core_ms += span_ms * u64::from(machine.used_cores);
        }
        self.now_ms = to_ms;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit { task } => {
                self.waiting.insert((self.load[task].submit_ms, task));
                self.changed.insert(task);
            }
            Event::Boot { machine } => {
                if let Some(m) = &mut self.machines[machine] {
                    m.ready = true;
                    self.became_ready.push((self.ids[machine].clone(), self.now_ms));
                }
            }
            Event::Finish { task, attempt } => self.finish(task, attempt),
        }
    }

    fn finish(&mut self, task: usize, attempt: u32) {
        let still_running = |m: &Machine| m.running.contains(&task);
        let Some(machine) = self.machines.iter_mut().flatten().find(|m| still_running(m)) else { return };
        if self.records[task].attempts != attempt {
            return;
        }
        machine.running.remove(&task);
        machine.used_cores -= self.load[task].cores;
        machine.used_memory_mb -= self.load[task].memory_mb;
        self.records[task].finished_ms = Some(self.now_ms);
        self.changed.insert(task);
    }

    fn boot(&mut self, reported: &Reported) {
        let (cores, memory_mb) = self.sizes[reported.size];
        let slow = LogNormal::new(BOOT_S_MEDIAN.ln(), BOOT_SIGMA).expect("constants").sample(&mut self.rng);
        let ready_ms = self.now_ms + ((BOOT_S_MIN + slow) * 1000.0) as u64;
        self.events.push(Reverse((ready_ms, Event::Boot { machine: self.machines.len() })));
        self.ids.push(reported.instance_id.clone());
        self.machines.push(Some(Machine {
            cores,
            memory_mb,
            ready: false,
            running: BTreeSet::new(),
            used_cores: 0,
            used_memory_mb: 0,
            busy_core_ms: 0,
        }));
    }

    fn lose(&mut self, index: usize) {
        let Some(machine) = self.machines[index].take() else { return };
        for task in machine.running {
            self.records[task].started_ms = None;
            self.records[task].instance_id = None;
            self.waiting.insert((self.load[task].submit_ms, task));
            self.changed.insert(task);
        }
    }

    /// Gives waiting tasks, oldest first, to the first machine with room; a task that fits nowhere holds the rest back.
    fn dispatch(&mut self) {
        while let Some((submit_ms, task)) = self.waiting.first().copied() {
            let (cores, memory_mb) = (self.load[task].cores, self.load[task].memory_mb);
            let fits =
                |m: &Machine| m.ready && m.cores - m.used_cores >= cores && m.memory_mb - m.used_memory_mb >= memory_mb;
            let Some(index) = self.machines.iter().position(|m| m.as_ref().is_some_and(fits)) else { return };
            self.waiting.remove(&(submit_ms, task));
            self.start(task, index);
        }
    }

    fn start(&mut self, task: usize, index: usize) {
        let pick_up_ms = (self.rng.random_range(0.0..PICK_UP_S_MAX) * 1000.0) as u64;
        let factor = LogNormal::new(0.0, RUNTIME_SIGMA).expect("constants").sample(&mut self.rng);
        let runtime_ms = (self.load[task].runtime_ms as f64 * factor).max(1.0) as u64;
        let machine = self.machines[index].as_mut().expect("chosen because it is there");
        machine.running.insert(task);
        machine.used_cores += self.load[task].cores;
        machine.used_memory_mb += self.load[task].memory_mb;
        let record = &mut self.records[task];
        record.started_ms = Some(self.now_ms + pick_up_ms);
        record.instance_id = Some(self.ids[index].clone());
        record.attempts += 1;
        let finish = Event::Finish { task, attempt: record.attempts };
        self.events.push(Reverse((self.now_ms + pick_up_ms + runtime_ms, finish)));
        self.changed.insert(task);
    }
}

fn submitted(pool: &str, task: &PlantTask) -> TaskRecord {
    TaskRecord {
        pool: pool.to_owned(),
        task_id: task.task_id.clone(),
        submitted_ms: task.submit_ms,
        started_ms: None,
        finished_ms: None,
        cores: task.cores,
        memory_mb: task.memory_mb,
        instance_id: None,
        attempts: 0,
    }
}
