//! The machines: booting, in service, gone; what they run, what they are billed, which one a stop takes.
//!
//! It knows nothing of the queue, of rules about actions, or of dollars.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use contract::capacity::Counts;
use controller::guard::{StopCandidate, stop_order};

use crate::config::{MachineType, SimConfig};
use crate::fit::FitTree;
use crate::job::Job;
use crate::lives::Lives;
use crate::load::Load;
use crate::units::Integral;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Booting,
    Ready,
    /// It takes no more tasks and goes with its last one.
    Draining,
    Gone,
}

/// One machine. Its id is its place in the list of all machines ever launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub kind: u16,
    pub state: State,
    /// Since when it is billed; meaningless while it boots for free.
    billed_from_ms: u64,
    pub tasks: u32,
    pub busy_cores: u32,
    used_memory_mb: u64,
    /// Σ cores × start over its tasks, so that the work they would lose is known in constant time.
    core_start_ms: u64,
}

impl Machine {
    /// Core-milliseconds that its tasks have run for.
    fn lost_core_ms(&self, now_ms: u64) -> u64 {
        u64::from(self.busy_cores) * now_ms - self.core_start_ms
    }
}

/// Tasks of one shape that start or end together on one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundle {
    pub tasks: u32,
    pub cores: u32,
    pub memory_mb: u64,
    pub start_ms: u64,
}

impl Bundle {
    pub fn busy_cores(&self) -> u32 {
        self.tasks * self.cores
    }

    pub fn core_start_ms(&self) -> u64 {
        u64::from(self.busy_cores()) * self.start_ms
    }
}

/// All machines of an episode.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    types: Vec<MachineType>,
    bill_boot: bool,
    min_billed_ms: u64,
    machines: Vec<Machine>,
    /// Ids of the booting and ready machines, ascending, by type.
    alive: Vec<Vec<u32>>,
    counts: Vec<Counts>,
    draining: Vec<u32>,
    billed: Vec<Integral>,
    boots: BinaryHeap<Reverse<(u64, u32)>>,
    lives: Lives,
    /// Machines that drain, by when they go at the latest, as long as all have the same time.
    drains: VecDeque<(u64, u32)>,
    /// Machines that are gone and still billed, by the time at which that ends.
    stopping: BinaryHeap<Reverse<(u64, u32)>>,
    room: FitTree,
    load: Load,
    used_memory_mb: u64,
}

impl Fleet {
    pub fn new(config: &SimConfig) -> Self {
        let types = config.types.clone();
        let cores: Vec<u32> = types.iter().map(|t| t.cores).collect();
        Self {
            bill_boot: config.bill_boot,
            min_billed_ms: config.min_billed_ms,
            machines: Vec::new(),
            alive: vec![Vec::new(); types.len()],
            counts: vec![Counts::default(); types.len()],
            draining: vec![0; types.len()],
            billed: vec![Integral::default(); types.len()],
            boots: BinaryHeap::new(),
            lives: Lives::default(),
            drains: VecDeque::new(),
            stopping: BinaryHeap::new(),
            room: FitTree::default(),
            load: Load::new(&cores),
            used_memory_mb: 0,
            types,
        }
    }

    /// Back to the initial machines, in service and billed from 0 (T3). `seed` is that of spot interruptions.
    pub fn reset(&mut self, memory_counts: bool, seed: u64) {
        self.machines.clear();
        self.alive.iter_mut().for_each(Vec::clear);
        self.counts.fill(Counts::default());
        self.draining.fill(0);
        self.billed.fill(Integral::default());
        self.boots.clear();
        self.lives.reset(&self.types, seed);
        self.drains.clear();
        self.stopping.clear();
        self.room.clear(memory_counts);
        self.load.clear();
        self.used_memory_mb = 0;
        for kind in 0..self.types.len() {
            for _ in 0..self.types[kind].initial {
                let id = self.add(kind, 0);
                self.serve(id, 0);
            }
        }
    }

    /// A machine is asked for; it is in service after `boot_ms`.
    pub fn launch(&mut self, kind: usize, now_ms: u64, boot_ms: u64) {
        let id = self.add(kind, now_ms);
        if boot_ms == 0 {
            self.serve(id, now_ms);
        } else {
            self.boots.push(Reverse((now_ms + boot_ms, id)));
        }
    }

    fn add(&mut self, kind: usize, now_ms: u64) -> u32 {
        let id = self.machines.len() as u32;
        self.machines.push(Machine {
            kind: kind as u16,
            state: State::Booting,
            billed_from_ms: now_ms,
            tasks: 0,
            busy_cores: 0,
            used_memory_mb: 0,
            core_start_ms: 0,
        });
        self.alive[kind].push(id);
        self.counts[kind].booting += 1;
        if self.bill_boot {
            self.billed[kind].enter(1, now_ms);
        }
        id
    }

    /// A booting machine begins to take tasks.
    fn serve(&mut self, id: u32, now_ms: u64) {
        let machine = &mut self.machines[id as usize];
        debug_assert_eq!(machine.state, State::Booting);
        let kind = usize::from(machine.kind);
        machine.state = State::Ready;
        if !self.bill_boot {
            machine.billed_from_ms = now_ms;
            self.billed[kind].enter(1, now_ms);
        }
        self.counts[kind].booting -= 1;
        self.counts[kind].ready += 1;
        self.load.join(kind, 0);
        self.lives.begin(id, &self.types[kind], now_ms);
        self.show_room(id);
    }

    /// When the next boot ends.
    pub fn next_boot_ms(&mut self) -> Option<u64> {
        while let Some(Reverse((at_ms, id))) = self.boots.peek() {
            if self.machines[*id as usize].state == State::Booting {
                return Some(*at_ms);
            }
            self.boots.pop();
        }
        None
    }

    /// Puts the machines into service whose boot ends at `now_ms`.
    pub fn end_boots(&mut self, now_ms: u64) {
        while self.next_boot_ms() == Some(now_ms) {
            let Reverse((_, id)) = self.boots.pop().expect("it was there");
            self.serve(id, now_ms);
        }
    }

    /// When the next machine is taken away.
    pub fn next_reclaim_ms(&mut self) -> Option<u64> {
        while let Some((at_ms, id)) = self.lives.next() {
            if self.machines[id as usize].state != State::Gone {
                return Some(at_ms);
            }
            self.lives.skip();
        }
        None
    }

    /// The next machine that is taken away at `now_ms`; it is still there.
    pub fn reclaim_due(&mut self, now_ms: u64) -> Option<u32> {
        let is_due = self.next_reclaim_ms() == Some(now_ms);
        self.lives.next().filter(|_| is_due).map(|(_, id)| id)
    }

    /// Tells the tree of free room about a machine.
    fn show_room(&mut self, id: u32) {
        let machine = &self.machines[id as usize];
        let kind = &self.types[usize::from(machine.kind)];
        let memory_mb = kind.memory_mb.map_or(u64::MAX, |all| all - machine.used_memory_mb);
        self.room.set(id, kind.cores - machine.busy_cores, memory_mb);
    }

    /// The lowest machine in service that can take `job` now, and how many like it.
    pub fn place(&self, job: &Job) -> Option<(u32, u32)> {
        let id = self.room.first(job.cores, job.memory_mb)?;
        let machine = &self.machines[id as usize];
        let kind = &self.types[usize::from(machine.kind)];
        let by_cores = (kind.cores - machine.busy_cores) / job.cores;
        let by_memory = match kind.memory_mb {
            Some(all) if job.memory_mb > 0 => (all - machine.used_memory_mb) / job.memory_mb,
            _ => u64::MAX,
        };
        Some((id, u64::from(by_cores).min(by_memory) as u32))
    }

    pub fn occupy(&mut self, id: u32, bundle: &Bundle) {
        let machine = &mut self.machines[id as usize];
        debug_assert_eq!(machine.state, State::Ready);
        let before = machine.busy_cores;
        machine.tasks += bundle.tasks;
        machine.busy_cores += bundle.busy_cores();
        machine.core_start_ms += bundle.core_start_ms();
        let memory_mb = u64::from(bundle.tasks) * bundle.memory_mb;
        machine.used_memory_mb += memory_mb;
        self.used_memory_mb += memory_mb;
        self.load.change(usize::from(machine.kind), before, machine.busy_cores);
        self.show_room(id);
    }

    pub fn release(&mut self, id: u32, bundle: &Bundle) {
        let machine = &mut self.machines[id as usize];
        debug_assert!(matches!(machine.state, State::Ready | State::Draining) && machine.tasks >= bundle.tasks);
        let before = machine.busy_cores;
        machine.tasks -= bundle.tasks;
        machine.busy_cores -= bundle.busy_cores();
        machine.core_start_ms -= bundle.core_start_ms();
        let memory_mb = u64::from(bundle.tasks) * bundle.memory_mb;
        machine.used_memory_mb -= memory_mb;
        self.used_memory_mb -= memory_mb;
        if machine.state == State::Ready {
            self.load.change(usize::from(machine.kind), before, machine.busy_cores);
            self.show_room(id);
        }
    }

    /// Whether a machine was draining and its last task has been released.
    pub fn has_drained(&self, id: u32) -> bool {
        let machine = self.machine(id);
        machine.state == State::Draining && machine.tasks == 0
    }

    /// The machine of a type that a stop takes (V2); none if there is none.
    pub fn victim(&self, kind: usize, now_ms: u64) -> Option<u32> {
        self.alive[kind].iter().copied().min_by_key(|id| {
            let machine = &self.machines[*id as usize];
            stop_order(&StopCandidate {
                lost_core_ms: machine.lost_core_ms(now_ms),
                running: machine.tasks,
                ready: machine.state == State::Ready,
                launch_order: u64::from(*id),
            })
        })
    }

    /// Core-milliseconds that are lost if one machine of a type is stopped now; 0 if none is there.
    pub fn stop_loss_core_ms(&self, kind: usize, now_ms: u64) -> u64 {
        // such a machine goes first, and there mostly is one: no need to look for it
        if self.load.idle(kind) > 0 || self.counts[kind].booting > 0 {
            return 0;
        }
        self.victim(kind, now_ms).map_or(0, |id| self.machine(id).lost_core_ms(now_ms))
    }

    /// When the next draining machine has no more time.
    pub fn next_drain_end_ms(&mut self) -> Option<u64> {
        while let Some((at_ms, id)) = self.drains.front() {
            if self.machines[*id as usize].state == State::Draining {
                return Some(*at_ms);
            }
            self.drains.pop_front();
        }
        None
    }

    /// The next draining machine that has no more time at `now_ms`; it is still there.
    pub fn drain_due(&mut self, now_ms: u64) -> Option<u32> {
        let is_due = self.next_drain_end_ms() == Some(now_ms);
        self.drains.front().filter(|_| is_due).map(|(_, id)| *id)
    }

    /// A busy machine takes no more tasks, and counts no longer. It goes at `until_ms` at the latest, if that is given.
    pub fn drain(&mut self, id: u32, until_ms: Option<u64>) {
        debug_assert!(self.machine(id).tasks > 0, "an idle machine is stopped");
        self.withdraw(id);
        let machine = &mut self.machines[id as usize];
        machine.state = State::Draining;
        self.draining[usize::from(machine.kind)] += 1;
        self.drains.extend(until_ms.map(|at_ms| (at_ms, id)));
    }

    /// Ends a machine, whose tasks have been released. It is billed for `delay_ms` longer, and for its minimum.
    pub fn stop(&mut self, id: u32, now_ms: u64, delay_ms: u64) {
        if !self.remove(id) {
            return;
        }
        match delay_ms {
            0 => self.end_bill(id, now_ms),
            _ => self.stopping.push(Reverse((now_ms + delay_ms, id))),
        }
    }

    /// Takes a machine away, whose tasks have been released. It is billed to this instant, without a minimum.
    pub fn reclaim(&mut self, id: u32, now_ms: u64) {
        if self.remove(id) {
            let kind = usize::from(self.machine(id).kind);
            self.billed[kind].leave(1, now_ms);
        }
    }

    /// Removes an empty machine; returns whether it is billed.
    fn remove(&mut self, id: u32) -> bool {
        let machine = *self.machine(id);
        assert!(machine.tasks == 0 && machine.state != State::Gone, "only an empty machine is removed, once");
        if machine.state == State::Draining {
            self.draining[usize::from(machine.kind)] -= 1;
        } else {
            self.withdraw(id);
        }
        self.machines[id as usize].state = State::Gone;
        self.bill_boot || machine.state != State::Booting
    }

    /// Takes a booting or ready machine out of everything that counts them.
    fn withdraw(&mut self, id: u32) {
        let machine = self.machines[id as usize];
        let kind = usize::from(machine.kind);
        let at = self.alive[kind].binary_search(&id).expect("it is alive");
        self.alive[kind].remove(at);
        if machine.state == State::Ready {
            self.counts[kind].ready -= 1;
            self.load.leave(kind, machine.busy_cores);
            self.room.set(id, 0, 0);
        } else {
            self.counts[kind].booting -= 1;
        }
    }

    /// The bill of a machine ends at `at_ms`; the rest of its minimum is due.
    fn end_bill(&mut self, id: u32, at_ms: u64) {
        let machine = &self.machines[id as usize];
        let billed = &mut self.billed[usize::from(machine.kind)];
        billed.leave(1, at_ms);
        billed.add(self.min_billed_ms.saturating_sub(at_ms - machine.billed_from_ms));
    }

    /// Ends the bills of stopped machines that were due by `now_ms`. Call it before [`Fleet::billed_ms`].
    pub fn end_bills(&mut self, now_ms: u64) {
        while let Some(Reverse((at_ms, id))) = self.stopping.peek().copied().filter(|Reverse((at, _))| *at <= now_ms) {
            self.stopping.pop();
            self.end_bill(id, at_ms);
        }
    }

    pub fn machine(&self, id: u32) -> &Machine {
        &self.machines[id as usize]
    }

    pub fn counts(&self) -> &[Counts] {
        &self.counts
    }

    /// Machines that take no more tasks and still have some, by type.
    pub fn draining(&self) -> &[u32] {
        &self.draining
    }

    /// Billed time of a type so far, machine-milliseconds.
    pub fn billed_ms(&self, kind: usize, now_ms: u64) -> u64 {
        self.billed[kind].value(now_ms)
    }

    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Share of used memory of each ready machine whose memory is limited, 0 for the others, into `shares`; left empty
    /// if no memory is used at all.
    pub fn memory_shares(&self, shares: &mut Vec<f64>) {
        shares.clear();
        if self.used_memory_mb == 0 {
            return;
        }
        for (kind, ids) in self.types.iter().zip(&self.alive) {
            let ready = ids.iter().map(|id| self.machine(*id)).filter(|m| m.state == State::Ready);
            shares.extend(ready.map(|m| match kind.memory_mb {
                Some(all) if all > 0 => m.used_memory_mb as f64 / all as f64,
                _ => 0.0,
            }));
        }
    }
}
