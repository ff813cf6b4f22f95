//! The engine: resets, steps, and carries the events of a step out in the order of rules T2 to T6.

use std::sync::Arc;

use contract::Action;
use contract::capacity::Counts;
use contract::reward::reward;
use controller::guard::{Situation, permit};
use rand_chacha::ChaCha8Rng;

use crate::boot::{BootTimes, Capacity};
use crate::config::SimConfig;
use crate::fleet::{Bundle, Fleet};
use crate::job::Workload;
use crate::perturbation::Variation;
use crate::queue::Queue;
use crate::rails::Rails;
use crate::random::{STOP_STREAM, stream};
use crate::running::{Group, Running};
use crate::units::{Integral, usd};

pub use crate::tally::{Phase, Tally};

/// A simulated fleet and its queue. Reusable: a reset keeps all memory.
#[derive(Clone, Debug)]
pub struct Sim {
    config: Arc<SimConfig>,
    workload: Arc<Workload>,
    /// What takes the place of jobs that are handed back.
    no_jobs: Arc<Workload>,
    now_ms: u64,
    phase: Phase,
    pub(crate) fleet: Fleet,
    pub(crate) queue: Queue,
    pub(crate) running: Running,
    boots: BootTimes,
    capacity: Capacity,
    /// Draws stop delays, if there are any.
    stop_rng: Option<ChaCha8Rng>,
    /// Next of the workload's arrivals.
    next_arrival: usize,
    /// Tasks submitted before this step; those from here on are recent.
    pub(crate) submitted_before: u32,
    /// Cores that run a task.
    busy: Integral,
    /// Σ cores × start over the tasks that run, so that their mean age is known in constant time.
    core_start_ms: u64,
    /// Cores that the tasks want that are submitted and not done.
    wanted_cores: u64,
    rails: Rails,
    waits_ms: Vec<u64>,
    tally: Tally,
    /// Milliseconds that earlier steps' rewards account for: machines by type, and waiting.
    accounted_vm_ms: Vec<u64>,
    accounted_queue_ms: u64,
}

impl Sim {
    /// An engine for valid settings, at the state before any reset. Call [`Sim::reset`] first.
    pub fn new(config: Arc<SimConfig>) -> Self {
        debug_assert!(config.problems().is_empty(), "{:?}", config.problems());
        let types = config.types.len();
        Self {
            workload: Arc::default(),
            no_jobs: Arc::default(),
            now_ms: 0,
            phase: Phase::Finished,
            fleet: Fleet::new(&config),
            queue: Queue::default(),
            running: Running::default(),
            boots: BootTimes::new(0, 1.0),
            capacity: Capacity::default(),
            stop_rng: None,
            next_arrival: 0,
            submitted_before: 0,
            busy: Integral::default(),
            core_start_ms: 0,
            wanted_cores: 0,
            rails: Rails::new(&config),
            waits_ms: Vec::new(),
            tally: Tally::default(),
            accounted_vm_ms: vec![0; types],
            accounted_queue_ms: 0,
            config,
        }
    }

    /// Starts an episode (T3). `seed` is that of all random draws: boot times, failures, stops, spot interruptions.
    pub fn reset(&mut self, workload: Arc<Workload>, seed: u64) {
        self.reset_varied(workload, seed, Variation::NONE);
    }

    /// Starts an episode with other boot times and outages than the settings'.
    pub(crate) fn reset_varied(&mut self, workload: Arc<Workload>, seed: u64, variation: Variation) {
        self.workload = workload;
        self.now_ms = 0;
        self.fleet.reset(self.workload.needs_memory(), seed);
        self.queue.reset();
        self.running.reset();
        self.boots = BootTimes::new(seed, variation.boot_factor);
        let types = self.config.types.len();
        self.capacity.reset(&self.config.launch_failures, types, seed, variation.outage_factor);
        self.stop_rng = self.config.stop_delay.map(|_| stream(seed, STOP_STREAM));
        self.next_arrival = 0;
        self.submitted_before = 0;
        self.busy = Integral::default();
        self.core_start_ms = 0;
        self.wanted_cores = 0;
        self.rails.reset();
        self.waits_ms.clear();
        self.waits_ms.reserve(self.workload.jobs().len());
        self.tally = Tally::default();
        self.accounted_vm_ms.fill(0);
        self.accounted_queue_ms = 0;
        self.phase = Phase::Going;
        self.settle_instant();
        self.close_if_over();
    }

    /// Applies `action` and lets one step pass (T4); returns the step's reward. Only while the episode is going.
    pub fn step(&mut self, action: Action) -> f64 {
        assert_eq!(self.phase, Phase::Going, "reset an episode that is over");
        self.submitted_before = self.queue.submitted();
        self.apply(action);
        self.dispatch();
        self.tally.steps += 1;
        self.run_until(self.config.step_ms * self.tally.steps);
        self.close_if_over();
        self.close_books()
    }

    fn run_until(&mut self, end_ms: u64) {
        while let Some(at_ms) = self.next_event_ms().filter(|at_ms| *at_ms <= end_ms) {
            debug_assert!(at_ms > self.now_ms, "events move on");
            self.now_ms = at_ms;
            self.settle_instant();
            if self.is_done() {
                return;
            }
        }
        self.now_ms = end_ms;
    }

    fn next_event_ms(&mut self) -> Option<u64> {
        let arrival = self.workload.arrivals().get(self.next_arrival).map_or(u64::MAX, |a| a.at_ms);
        let end = self.running.next_end_ms().unwrap_or(u64::MAX);
        let boot = self.fleet.next_boot_ms().unwrap_or(u64::MAX);
        let reclaim = self.fleet.next_reclaim_ms().unwrap_or(u64::MAX);
        let drain = self.fleet.next_drain_end_ms().unwrap_or(u64::MAX);
        Some(arrival.min(end).min(boot).min(reclaim).min(drain)).filter(|at_ms| *at_ms < u64::MAX)
    }

    /// Everything that happens now: completions, boots, spot interruptions, ends of drains, arrivals, one dispatch pass (T2).
    fn settle_instant(&mut self) {
        while let Some(group) = self.running.end(self.now_ms) {
            self.complete(&group);
        }
        self.fleet.end_boots(self.now_ms);
        while let Some(id) = self.fleet.reclaim_due(self.now_ms) {
            self.interrupt_tasks(id);
            self.fleet.reclaim(id, self.now_ms);
            self.tally.reclaimed += 1;
        }
        while let Some(id) = self.fleet.drain_due(self.now_ms) {
            self.interrupt_tasks(id);
            self.end_machine(id);
        }
        if let Some(arrival) = self.workload.arrivals().get(self.next_arrival)
            && arrival.at_ms == self.now_ms
        {
            let jobs = &self.workload.jobs()[self.queue.submitted() as usize..arrival.end as usize];
            self.wanted_cores += jobs.iter().map(|job| u64::from(job.cores)).sum::<u64>();
            self.queue.submit(arrival.end, self.now_ms);
            self.next_arrival += 1;
        }
        self.dispatch();
    }

    fn complete(&mut self, group: &Group) {
        let bundle = self.leave_machine(group);
        self.tally.completed += bundle.tasks;
        self.wanted_cores -= u64::from(bundle.busy_cores());
        let jobs = &self.workload.jobs()[group.ranks.indices()];
        // it ran its whole runtime at last, so that the wait is the last start less the submission
        self.waits_ms.extend(jobs.iter().map(|job| group.start_ms - job.submit_ms));
        if self.fleet.has_drained(group.machine) {
            self.end_machine(group.machine);
        }
    }

    fn leave_machine(&mut self, group: &Group) -> Bundle {
        let job = self.workload.job(group.ranks.first);
        let bundle =
            Bundle { tasks: group.ranks.len(), cores: job.cores, memory_mb: job.memory_mb, start_ms: group.start_ms };
        self.fleet.release(group.machine, &bundle);
        self.busy.leave(u64::from(bundle.busy_cores()), self.now_ms);
        self.core_start_ms -= bundle.core_start_ms();
        bundle
    }

    /// Starts waiting tasks until the first of them fits nowhere (S1).
    fn dispatch(&mut self) {
        while let Some(head) = self.queue.head(&self.workload) {
            let job = *self.workload.job(head.first);
            let Some((machine, room)) = self.fleet.place(&job) else { return };
            let ranks = self.queue.take(room.min(head.len()), self.now_ms);
            let bundle =
                Bundle { tasks: ranks.len(), cores: job.cores, memory_mb: job.memory_mb, start_ms: self.now_ms };
            self.fleet.occupy(machine, &bundle);
            self.busy.enter(u64::from(bundle.busy_cores()), self.now_ms);
            self.core_start_ms += bundle.core_start_ms();
            self.running.start(ranks, machine, self.now_ms..self.now_ms + job.runtime_ms);
        }
    }

    /// Carries an action out if the guard permits it; a refused one does nothing but count (V1, V2, V4, V5).
    fn apply(&mut self, action: Action) {
        if permit(action, &self.situation()).is_err() {
            self.tally.rejected_actions += 1;
            return;
        }
        match action {
            Action::Nothing => {}
            Action::Launch(size, machines) => self.launch(action, usize::from(size), machines),
            Action::Stop(size, machines) => self.stop(action, usize::from(size), machines),
        }
    }

    /// One call of EC2: it fails for all of the machines or for none.
    fn launch(&mut self, action: Action, size: usize, machines: u16) {
        if self.capacity.fails(&self.config.launch_failures, size, self.now_ms) {
            self.tally.failed_launches += 1;
            self.rails.failed(action, size, self.now_ms);
            return;
        }
        for _ in 0..machines {
            let boot_ms = self.boots.next_ms(&self.config.boot);
            self.fleet.launch(size, self.now_ms, boot_ms);
        }
        self.tally.launches += u64::from(machines);
        self.accept(action);
    }

    fn stop(&mut self, action: Action, size: usize, machines: u16) {
        for _ in 0..machines {
            let id = self.fleet.victim(size, self.now_ms).expect("the guard saw the machines above the minimum");
            if self.config.drain && self.fleet.machine(id).tasks > 0 {
                self.fleet.drain(id, self.config.drain_max_ms.map(|ms| self.now_ms + ms));
            } else {
                self.interrupt_tasks(id);
                self.end_machine(id);
            }
        }
        self.tally.stops += u64::from(machines);
        self.accept(action);
    }

    /// A machine without tasks is stopped; the k-th one takes the k-th delay.
    fn end_machine(&mut self, id: u32) {
        let delay_ms = match (&self.config.stop_delay, &mut self.stop_rng) {
            (Some(delay), Some(rng)) => delay.draw_ms(rng),
            _ => 0,
        };
        self.fleet.stop(id, self.now_ms, delay_ms);
    }

    /// The tasks of a machine lose their progress and wait again (V3).
    fn interrupt_tasks(&mut self, id: u32) {
        while let Some(group) = self.running.interrupt(id) {
            let bundle = self.leave_machine(&group);
            let ran_ms = self.now_ms - group.start_ms;
            self.tally.interrupted += u64::from(bundle.tasks);
            self.tally.lost_core_ms += u64::from(bundle.busy_cores()) * ran_ms;
            self.queue.put_back(group.ranks, self.now_ms);
            if self.config.charge_lost_run {
                self.queue.charge(u64::from(bundle.tasks) * ran_ms);
            }
        }
    }

    fn accept(&mut self, action: Action) {
        self.tally.accepted_actions += 1;
        self.rails.accepted(action, self.now_ms);
    }

    fn is_done(&self) -> bool {
        self.tally.completed == self.workload.len()
    }

    /// Sees whether the episode goes on (T5, T6), and brings the guard's memory up to now.
    fn close_if_over(&mut self) {
        self.phase = if self.is_done() {
            Phase::Finished
        } else if self.tally.steps >= self.config.max_steps {
            Phase::Truncated
        } else {
            Phase::Going
        };
        self.rails.pass_to(self.now_ms);
    }

    /// The reward of what accrued since the books were last closed (C3).
    fn close_books(&mut self) -> f64 {
        self.fleet.end_bills(self.now_ms);
        let mut vm_usd = 0.0;
        for (kind, accounted) in self.accounted_vm_ms.iter_mut().enumerate() {
            let total_ms = self.fleet.billed_ms(kind, self.now_ms);
            vm_usd += usd(total_ms - *accounted, self.config.types[kind].usd_per_hour);
            *accounted = total_ms;
        }
        let waited_ms = self.queue.waited_ms(self.now_ms);
        let queue_usd = usd(waited_ms - self.accounted_queue_ms, self.config.queue_usd_per_task_hour);
        self.accounted_queue_ms = waited_ms;
        reward(vm_usd, queue_usd)
    }

    /// What the guard looks at now.
    pub fn situation(&self) -> Situation<'_> {
        self.rails.situation(&self.fleet, self.now_ms)
    }

    /// Whether the data at hand are doubtful, so that the guard refuses stops until told otherwise.
    pub fn set_doubtful(&mut self, doubtful: bool) {
        self.rails.set_doubtful(doubtful);
    }

    /// The settings.
    pub fn config(&self) -> &SimConfig {
        &self.config
    }

    /// The jobs.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Hands the jobs back, so that their memory can be used for the next episode's; reset before going on.
    pub(crate) fn take_workload(&mut self) -> Arc<Workload> {
        self.phase = Phase::Finished;
        std::mem::replace(&mut self.workload, self.no_jobs.clone())
    }

    /// The time: of the last observation, or of the end.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether the episode goes on.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What happened so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Machines by type.
    pub fn counts(&self) -> &[Counts] {
        self.fleet.counts()
    }

    /// Tasks submitted so far.
    pub fn submitted(&self) -> u32 {
        self.queue.submitted()
    }

    /// Tasks that wait.
    pub fn queue_depth(&self) -> u32 {
        self.queue.depth()
    }

    /// Tasks that run.
    pub fn running_tasks(&self) -> u32 {
        self.running.tasks()
    }

    /// Cores that waiting tasks want.
    pub fn queue_cores(&self) -> u64 {
        self.wanted_cores - self.busy.count()
    }

    /// Cores that tasks run on, those of draining machines included.
    pub fn working_cores(&self) -> u64 {
        self.busy.count()
    }

    /// How long running tasks have run so far, milliseconds, in the mean of their cores; 0 if none runs.
    pub fn running_age_ms(&self) -> f64 {
        let cores = self.busy.count();
        (cores * self.now_ms - self.core_start_ms) as f64 / cores.max(1) as f64
    }

    /// Cores of the machines in service that are busy.
    pub fn busy_cores(&self) -> u64 {
        self.fleet.load().busy_cores()
    }

    /// Billed time of a type so far, milliseconds.
    pub fn vm_ms(&self, kind: usize) -> u64 {
        self.fleet.billed_ms(kind, self.now_ms)
    }

    /// Waiting so far, task-milliseconds.
    pub fn queue_ms(&self) -> u64 {
        self.queue.waited_ms(self.now_ms)
    }

    /// Work so far, core-milliseconds, lost work included.
    pub fn busy_core_ms(&self) -> u64 {
        self.busy.value(self.now_ms)
    }

    /// Waits (completion less submission less runtime) of the tasks done so far, milliseconds, in order of completion.
    pub fn waits_ms(&self) -> &[u64] {
        &self.waits_ms
    }

    /// The last action that was carried out, if any, and when.
    pub fn last_action(&self) -> Option<(Action, u64)> {
        self.rails.last_action()
    }
}
