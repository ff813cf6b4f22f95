//! A second implementation of the twin's rules, slow and plain, that shares no code with the first: it reads the JSON
//! itself, scans every task and machine at every event, and sums the bill machine by machine.

use std::collections::BTreeMap;

use serde_json::Value;

/// The integers of a result, and its floats.
#[derive(Debug, Default, PartialEq)]
pub struct Expected {
    pub vm_ms: BTreeMap<String, u64>,
    pub queue_ms: u64,
    pub busy_core_ms: u64,
    pub lost_core_ms: u64,
    pub submitted: usize,
    pub completed: usize,
    pub interrupted: u64,
    pub rejected_actions: u64,
    pub failed_launches: u64,
    pub launches: u64,
    pub reclaimed: u64,
    pub makespan_ms: Option<u64>,
    pub steps: u64,
    pub rewards: Vec<f64>,
    pub observations: Vec<Seen>,
}

/// One observation.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub t_ms: u64,
    pub queue: usize,
    pub running: usize,
    pub submitted: usize,
    pub completed: usize,
    pub ready: Vec<usize>,
    pub booting: Vec<usize>,
    pub busy_cores: u64,
    pub ready_cores: u64,
    pub billed_cores: u64,
    pub avg_util: f64,
    pub p90_util: f64,
    pub wait_ratio_global: f64,
    pub wait_ratio_recent: f64,
}

struct Kind {
    name: String,
    cores: u64,
    memory: Option<u64>,
    usd_per_hour: f64,
    initial: u64,
    min: usize,
    max: Option<usize>,
    /// Its machines are taken away after a millisecond.
    is_spot: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Unborn,
    Waiting,
    Running { on: usize, since: u64 },
    Done,
}

struct Task {
    id: i64,
    submit: u64,
    runtime: u64,
    cores: u64,
    memory: u64,
    life: Life,
}

struct Machine {
    kind: usize,
    asked: u64,
    ready_at: u64,
    draining: bool,
    drains_until: Option<u64>,
    gone: Option<u64>,
    reclaimed: bool,
}

impl Machine {
    fn new(kind: usize, asked: u64, ready_at: u64) -> Self {
        Self { kind, asked, ready_at, draining: false, drains_until: None, gone: None, reclaimed: false }
    }

    /// Whether the minimum and observations count it.
    fn counts(&self) -> bool {
        self.gone.is_none() && !self.draining
    }
}

struct World {
    kinds: Vec<Kind>,
    step: u64,
    boots: Vec<u64>,
    queue_rate: f64,
    charge_lost_run: bool,
    bill_boot: bool,
    min_billed: u64,
    drain: bool,
    drain_max: Option<u64>,
    stop_delay: u64,
    cooldown: u64,
    machines_per_action: usize,
    failures: Vec<bool>,
    tasks: Vec<Task>,
    machines: Vec<Machine>,
    now: u64,
    next_allowed: u64,
    asked: usize,
    out: Expected,
}

fn ms(v: &Value) -> u64 {
    (v.as_f64().unwrap() * 1000.0 + 0.5).floor() as u64
}

/// Runs a complete scenario: every field of the configuration has to be there.
pub fn run(scenario: &Value) -> Expected {
    let config = &scenario["config"];
    let mut world = World::read(scenario);
    let actions: Vec<u64> = scenario["actions"].as_array().unwrap().iter().map(|a| a.as_u64().unwrap()).collect();
    let max_steps = config["max_steps"].as_u64().unwrap();
    world.events();
    world.observe();
    while !world.is_over() && world.out.steps < max_steps {
        let action = actions.get(world.out.steps as usize).copied().unwrap_or(0);
        world.step(action);
    }
    world.finish()
}

impl World {
    fn read(scenario: &Value) -> Self {
        let config = &scenario["config"];
        let kinds: Vec<Kind> = config["vm_types"].as_array().unwrap().iter().map(kind).collect();
        let boot = &config["boot"]["seconds"];
        let boots = boot.as_array().map_or_else(|| vec![ms(boot)], |list| list.iter().map(ms).collect());
        let mut machines = Vec::new();
        for (i, k) in kinds.iter().enumerate() {
            machines.extend((0..k.initial).map(|_| Machine::new(i, 0, 0)));
        }
        let flags = config["launch_failures"].as_array().unwrap();
        Self {
            kinds,
            step: ms(&config["step_s"]),
            boots,
            queue_rate: config["queue_usd_per_task_hour"].as_f64().unwrap(),
            charge_lost_run: config["charge_lost_run"].as_bool().unwrap(),
            bill_boot: config["bill_boot"].as_bool().unwrap(),
            min_billed: ms(&config["min_billed_s"]),
            drain: config["drain"].as_bool().unwrap_or(false),
            drain_max: config.get("drain_max_s").filter(|s| !s.is_null()).map(ms),
            stop_delay: config.get("stop_delay_s").map_or(0, |range| ms(&range["low"])),
            cooldown: ms(&config["cooldown_s"]),
            machines_per_action: config["machines_per_action_max"].as_u64().unwrap_or(1) as usize,
            failures: flags.iter().map(|f| f.as_bool().unwrap()).collect(),
            tasks: scenario["jobs"].as_array().unwrap().iter().map(task).collect(),
            machines,
            now: 0,
            next_allowed: 0,
            asked: 0,
            out: Expected::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.tasks.iter().all(|t| t.life == Life::Done)
    }

    fn is_ready(&self, m: usize) -> bool {
        self.machines[m].counts() && self.machines[m].ready_at <= self.now
    }

    fn on(&self, m: usize) -> impl Iterator<Item = (&Task, u64)> {
        self.tasks.iter().filter_map(move |t| match t.life {
            Life::Running { on, since } if on == m => Some((t, since)),
            _ => None,
        })
    }

    /// All that happens at this instant.
    fn events(&mut self) {
        for t in &mut self.tasks {
            if matches!(t.life, Life::Running { since, .. } if since + t.runtime == self.now) {
                t.life = Life::Done;
            }
        }
        for m in 0..self.machines.len() {
            if self.machines[m].draining && self.machines[m].gone.is_none() && self.on(m).count() == 0 {
                self.machines[m].gone = Some(self.now);
            }
        }
        // boots need no event here: readiness is a matter of the time
        for m in 0..self.machines.len() {
            if self.reclaim_at(m) == Some(self.now) {
                self.interrupt(m);
                self.machines[m].gone = Some(self.now);
                self.machines[m].reclaimed = true;
                self.out.reclaimed += 1;
            }
        }
        for m in 0..self.machines.len() {
            if self.drain_ends_at(m) == Some(self.now) {
                self.interrupt(m);
                self.machines[m].gone = Some(self.now);
            }
        }
        for t in &mut self.tasks {
            if t.life == Life::Unborn && t.submit <= self.now {
                t.life = Life::Waiting;
            }
        }
        self.dispatch();
    }

    fn reclaim_at(&self, m: usize) -> Option<u64> {
        let machine = &self.machines[m];
        (machine.gone.is_none() && self.kinds[machine.kind].is_spot).then_some(machine.ready_at + 1)
    }

    fn drain_ends_at(&self, m: usize) -> Option<u64> {
        self.machines[m].drains_until.filter(|_| self.machines[m].gone.is_none())
    }

    fn dispatch(&mut self) {
        loop {
            let waiting = (0..self.tasks.len()).filter(|t| self.tasks[*t].life == Life::Waiting);
            let Some(t) = waiting.min_by_key(|t| (self.tasks[*t].submit, self.tasks[*t].id)) else { return };
            let Some(m) = (0..self.machines.len()).find(|m| self.fits(&self.tasks[t], *m)) else { return };
            self.tasks[t].life = Life::Running { on: m, since: self.now };
        }
    }

    fn fits(&self, task: &Task, m: usize) -> bool {
        let kind = &self.kinds[self.machines[m].kind];
        let cores: u64 = self.on(m).map(|(t, _)| t.cores).sum();
        let memory: u64 = self.on(m).map(|(t, _)| t.memory).sum();
        self.is_ready(m)
            && cores + task.cores <= kind.cores
            && kind.memory.is_none_or(|all| memory + task.memory <= all)
    }

    fn step(&mut self, action: u64) {
        let before = self.money();
        self.act(action);
        self.dispatch();
        self.out.steps += 1;
        let end = self.out.steps * self.step;
        while !self.is_over() {
            match self.next_event() {
                Some(at) if at <= end => {
                    self.pass_to(at);
                    self.events();
                }
                _ => {
                    self.pass_to(end);
                    break;
                }
            }
        }
        self.out.rewards.push(before - self.money());
        self.observe();
    }

    fn next_event(&self) -> Option<u64> {
        let ends = self.tasks.iter().filter_map(|t| match t.life {
            Life::Running { since, .. } => Some(since + t.runtime),
            Life::Unborn => Some(t.submit),
            _ => None,
        });
        let boots = self.machines.iter().filter(|m| m.gone.is_none()).map(|m| m.ready_at);
        let reclaims = (0..self.machines.len()).filter_map(|m| self.reclaim_at(m));
        let drains = (0..self.machines.len()).filter_map(|m| self.drain_ends_at(m));
        ends.chain(boots).chain(reclaims).chain(drains).filter(|at| *at > self.now).min()
    }

    fn pass_to(&mut self, at: u64) {
        let span = at - self.now;
        for t in &self.tasks {
            match t.life {
                Life::Waiting => self.out.queue_ms += span,
                Life::Running { .. } => self.out.busy_core_ms += span * t.cores,
                _ => {}
            }
        }
        self.now = at;
    }

    fn act(&mut self, action: u64) {
        let (action, machines) = (action % 1000, (action / 1000 + 1) as usize);
        if action == 0 {
            return;
        }
        let kind = ((action - 1) / 2) as usize;
        let of_kind = || self.machines.iter().filter(|m| m.kind == kind);
        let launches = action % 2 == 1;
        let in_bounds = match launches {
            // those that drain are there as well
            true => {
                let there = of_kind().filter(|m| m.gone.is_none()).count();
                self.kinds[kind].max.is_none_or(|max| there + machines <= max)
            }
            false => of_kind().filter(|m| m.counts()).count() >= self.kinds[kind].min + machines,
        };
        if !in_bounds || machines > self.machines_per_action || self.now < self.next_allowed {
            self.out.rejected_actions += 1;
        } else if launches {
            self.launch(kind, machines);
        } else {
            (0..machines).for_each(|_| self.stop(kind));
            self.next_allowed = self.now + self.cooldown;
        }
    }

    fn launch(&mut self, kind: usize, machines: usize) {
        let fails = !self.failures.is_empty() && self.failures[self.asked % self.failures.len()];
        self.asked += 1;
        if fails {
            self.out.failed_launches += 1;
            return;
        }
        for _ in 0..machines {
            let boot = self.boots[self.out.launches as usize % self.boots.len()];
            self.out.launches += 1;
            self.machines.push(Machine::new(kind, self.now, self.now + boot));
        }
        self.next_allowed = self.now + self.cooldown;
    }

    fn stop(&mut self, kind: usize) {
        let mut best = None;
        for m in (0..self.machines.len()).filter(|m| self.machines[*m].kind == kind && self.machines[*m].counts()) {
            let tasks = self.on(m).count();
            let lost: u64 = self.on(m).map(|(t, since)| t.cores * (self.now - since)).sum();
            let key = (tasks != 0, lost, tasks, self.is_ready(m), usize::MAX - m);
            if best.as_ref().is_none_or(|(k, _)| key < *k) {
                best = Some((key, m));
            }
        }
        let ((is_busy, ..), m) = best.unwrap();
        if self.drain && is_busy {
            self.machines[m].draining = true;
            self.machines[m].drains_until = self.drain_max.map(|max| self.now + max);
        } else {
            self.interrupt(m);
            self.machines[m].gone = Some(self.now);
        }
    }

    fn interrupt(&mut self, m: usize) {
        self.out.lost_core_ms += self.on(m).map(|(t, since)| t.cores * (self.now - since)).sum::<u64>();
        self.out.interrupted += self.on(m).count() as u64;
        for t in &mut self.tasks {
            if let Life::Running { on, since } = t.life
                && on == m
            {
                t.life = Life::Waiting;
                self.out.queue_ms += if self.charge_lost_run { self.now - since } else { 0 };
            }
        }
    }

    /// What a machine is billed until now.
    fn billed(&self, machine: &Machine) -> u64 {
        let from = if self.bill_boot { machine.asked } else { machine.ready_at };
        let Some(gone) = machine.gone else { return self.now.saturating_sub(from) };
        if from > gone {
            return 0;
        }
        if machine.reclaimed {
            return gone - from;
        }
        let until = gone + self.stop_delay;
        if until > self.now { self.now - from } else { (until - from).max(self.min_billed) }
    }

    fn money(&self) -> f64 {
        let machines = self.machines.iter().map(|m| self.billed(m) as f64 * self.kinds[m.kind].usd_per_hour);
        (machines.sum::<f64>() + self.out.queue_ms as f64 * self.queue_rate) / 3_600_000.0
    }

    fn count(&self, pick: impl Fn(&Life) -> bool) -> usize {
        self.tasks.iter().filter(|t| pick(&t.life)).count()
    }

    fn observe(&mut self) {
        let ready: Vec<usize> = (0..self.machines.len()).filter(|m| self.is_ready(*m)).collect();
        let busy = |m: usize| self.on(m).map(|(t, _)| t.cores).sum::<u64>();
        let cores = |m: usize| self.kinds[self.machines[m].kind].cores;
        let mut shares: Vec<f64> = ready.iter().map(|m| busy(*m) as f64 / cores(*m) as f64).collect();
        shares.sort_by(f64::total_cmp);
        let n = shares.len();
        let alive: Vec<usize> = (0..self.machines.len()).filter(|m| self.machines[*m].counts()).collect();
        let per_kind = |list: &[usize]| -> Vec<usize> {
            (0..self.kinds.len()).map(|k| list.iter().filter(|m| self.machines[**m].kind == k).count()).collect()
        };
        let booting: Vec<usize> = alive.iter().copied().filter(|m| !ready.contains(m)).collect();
        let queue = self.count(|l| *l == Life::Waiting);
        let submitted = self.count(|l| *l != Life::Unborn);
        let recent: Vec<&Task> =
            self.tasks.iter().filter(|t| t.life != Life::Unborn && t.submit + self.step > self.now).collect();
        let recent_waiting = recent.iter().filter(|t| t.life == Life::Waiting).count();
        let ratio = |a: usize, b: usize| if b == 0 { 0.0 } else { a as f64 / b as f64 };
        let seen = Seen {
            t_ms: self.now,
            queue,
            running: self.count(|l| matches!(l, Life::Running { .. })),
            submitted,
            completed: self.count(|l| *l == Life::Done),
            ready: per_kind(&ready),
            booting: per_kind(&booting),
            busy_cores: ready.iter().map(|m| busy(*m)).sum(),
            ready_cores: ready.iter().map(|m| cores(*m)).sum(),
            billed_cores: alive.iter().map(|m| cores(*m)).sum(),
            avg_util: if n == 0 { 0.0 } else { shares.iter().sum::<f64>() / n as f64 },
            p90_util: if n == 0 { 0.0 } else { shares[(0.9 * n as f64).ceil() as usize - 1] },
            wait_ratio_global: ratio(queue, submitted),
            wait_ratio_recent: ratio(recent_waiting, recent.len()),
        };
        self.out.observations.push(seen);
    }

    fn finish(mut self) -> Expected {
        for (k, kind) in self.kinds.iter().enumerate() {
            let sum = self.machines.iter().filter(|m| m.kind == k).map(|m| self.billed(m)).sum();
            self.out.vm_ms.insert(kind.name.clone(), sum);
        }
        self.out.submitted = self.count(|l| *l != Life::Unborn);
        self.out.completed = self.count(|l| *l == Life::Done);
        self.out.makespan_ms = self.is_over().then_some(self.now);
        self.out
    }
}

fn kind(v: &Value) -> Kind {
    Kind {
        name: v["name"].as_str().unwrap().into(),
        cores: v["cores"].as_u64().unwrap(),
        memory: v["memory_mb"].as_u64(),
        usd_per_hour: v["usd_per_hour"].as_f64().unwrap(),
        initial: v["initial"].as_u64().unwrap(),
        min: v["min"].as_u64().unwrap() as usize,
        max: v["max"].as_u64().map(|max| max as usize),
        is_spot: v.get("spot_interruptions_per_hour").is_some_and(|rate| rate.as_f64().unwrap() > 0.0),
    }
}

fn task(v: &Value) -> Task {
    Task {
        id: v["id"].as_i64().unwrap(),
        submit: ms(&v["submit_s"]),
        runtime: ms(&v["runtime_s"]).max(1),
        cores: v["cores"].as_u64().unwrap(),
        memory: v["memory_mb"].as_u64().unwrap(),
        life: Life::Unborn,
    }
}
