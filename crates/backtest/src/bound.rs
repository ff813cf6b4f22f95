//! Lower bounds: what no policy can beat on an episode, whatever it knows.
//!
//! [`work_usd`] is the work alone on the cheapest cores. [`fluid_usd`] relaxes the twin to a linear programme over its
//! steps: machines and tasks are divisible, tasks are served in any order and on any machine, and only this holds:
//! one action a step and its machines, bounds, boot times, each task for its whole run time on its cores, and the two prices. Every
//! schedule of the twin is a solution of it, so that its minimum, certified by duality, is below every policy's cost.

use std::collections::BTreeMap;

use contract::SIZE_COUNT;
use serde::Serialize;
use twin::boot::LaunchFailures;
use twin::{BootModel, EnvSpec, SimConfig, Workload};

use crate::lp::{Programme, Var};

const MS_PER_HOUR: f64 = 3_600_000.0;
/// Steps after the earliest end in which the programme may still work.
const TAIL_STEPS: u64 = 60;
/// Size of a programme at most, in variables: about half a minute.
const VARS_MAX: u64 = 60_000;

/// Bounds of one episode, dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// The work alone.
    pub work_usd: f64,
    /// The linear programme; none if the load is too large for it or the settings are beyond it.
    pub fluid_usd: Option<f64>,
}

/// Both bounds of a load.
pub fn bounds(spec: &EnvSpec, workload: &Workload) -> Bounds {
    Bounds { work_usd: work_usd(spec, workload), fluid_usd: fluid_usd(spec, workload) }
}

/// All tasks on the cheapest cores, without a minute of waiting or idling.
pub fn work_usd(spec: &EnvSpec, workload: &Workload) -> f64 {
    workload.core_ms() as f64 / MS_PER_HOUR * cheapest_usd(spec.config())
}

/// Price of an hour of the cheapest core.
fn cheapest_usd(config: &SimConfig) -> f64 {
    config.types.iter().map(|t| t.usd_per_hour / f64::from(t.cores)).fold(f64::INFINITY, f64::min)
}

/// The minimum of the linear programme. None if it would be too large, or if the settings let machines work that are no
/// longer counted, or go without an action.
pub fn fluid_usd(spec: &EnvSpec, workload: &Workload) -> Option<f64> {
    let grid = Grid::new(spec.config(), workload)?;
    Some(Fluid::new(spec.config(), workload, grid)?.solve())
}

/// The shortest boot, and whether all boots take that long.
fn shortest_boot_ms(boot: &BootModel) -> (u64, bool) {
    let least = |seconds: &[f64]| seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let (s, fixed) = match boot {
        BootModel::Fixed { seconds } => (*seconds, true),
        BootModel::List { seconds } | BootModel::Sample { seconds, .. } => (least(seconds), false),
        BootModel::Uniform { low_s, .. } => (*low_s, false),
        BootModel::Lognormal { shift_s, tail_low_s, tail_probability, .. } => {
            (if *tail_probability > 0.0 { shift_s.min(*tail_low_s) } else { *shift_s }, false)
        }
    };
    (twin::units::ms_from_s(s), fixed)
}

/// Time, cut at every step and, within it, where machines become ready: between two cuts the fleet does not change.
#[derive(Clone, Debug)]
struct Grid {
    step_ms: u64,
    steps: u64,
    /// Cuts of a step, from its start: 0 and, if boots are no whole steps, the rest.
    cuts_ms: Vec<u64>,
    boot_ms: u64,
    /// No episode ends before.
    end_ms: u64,
}

/// One piece of time: its step, start and length.
#[derive(Clone, Copy, Debug)]
struct Piece {
    step: u64,
    start_ms: u64,
    length_ms: u64,
}

impl Grid {
    fn new(config: &SimConfig, workload: &Workload) -> Option<Self> {
        let (boot_ms, step_ms) = (shortest_boot_ms(&config.boot).0, config.step_ms);
        let end_ms = workload.jobs().iter().map(|j| j.submit_ms + j.runtime_ms).max()?;
        let mut cuts_ms = vec![0, boot_ms % step_ms];
        cuts_ms.dedup();
        let steps = (end_ms.div_ceil(step_ms) + TAIL_STEPS).min(config.max_steps);
        let vars = steps * (cuts_ms.len() as u64 * (SIZE_COUNT as u64 + 2) + 3 * SIZE_COUNT as u64);
        (vars <= VARS_MAX).then_some(Self { step_ms, steps, cuts_ms, boot_ms, end_ms })
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> {
        (0..self.steps).flat_map(move |step| {
            (0..self.cuts_ms.len()).map(move |i| {
                let end = self.cuts_ms.get(i + 1).copied().unwrap_or(self.step_ms);
                let start_ms = step * self.step_ms + self.cuts_ms[i];
                Piece { step, start_ms, length_ms: end - self.cuts_ms[i] }
            })
        })
    }

    /// Whether the piece is before the earliest end, so that every machine that is there is billed.
    fn is_certain(&self, piece: Piece) -> bool {
        piece.start_ms + piece.length_ms <= self.end_ms
    }

    /// Launches that cannot be ready in a piece: those of the steps from the returned one on.
    fn first_booting(&self, piece: Piece) -> u64 {
        match piece.start_ms.checked_sub(self.boot_ms) {
            None => 0,
            Some(ms) => ms / self.step_ms + 1,
        }
    }
}

/// Tasks that need the same: their cores, their run time in whole steps (rounded down), and when they are submitted.
struct Class {
    cores: f64,
    steps: usize,
    submits_ms: Vec<u64>,
}

fn classes(workload: &Workload, step_ms: u64) -> Vec<Class> {
    let mut classes: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
    for job in workload.jobs() {
        classes.entry((job.cores, job.runtime_ms / step_ms)).or_default().push(job.submit_ms);
    }
    let class = |((cores, steps), submits_ms): ((u32, u64), Vec<u64>)| Class {
        cores: f64::from(cores),
        steps: steps as usize,
        submits_ms,
    };
    classes.into_iter().map(class).collect()
}

impl Class {
    /// The mean number of tasks submitted by a time in a piece.
    fn submitted(&self, piece: Piece) -> f64 {
        let end_ms = piece.start_ms + piece.length_ms;
        let before = self.submits_ms.partition_point(|ms| *ms <= piece.start_ms);
        let within = self.submits_ms[before..].iter().take_while(|ms| **ms < end_ms);
        let part: u64 = within.map(|ms| end_ms - ms).sum();
        before as f64 + part as f64 / piece.length_ms as f64
    }
}

/// The programme: for each step launches, stops and machines by type; for each piece ready machines by type, and of
/// each class the tasks that have begun their last run.
struct Fluid<'a> {
    config: &'a SimConfig,
    grid: Grid,
    classes: Vec<Class>,
    programme: Programme,
    launches: Vec<[Var; SIZE_COUNT]>,
    stops: Vec<[Var; SIZE_COUNT]>,
    machines: Vec<[Var; SIZE_COUNT]>,
    /// Dollars that are paid in any case.
    constant_usd: f64,
}

impl<'a> Fluid<'a> {
    fn new(config: &'a SimConfig, workload: &Workload, grid: Grid) -> Option<Self> {
        let classes = classes(workload, config.step_ms);
        let vars = grid.steps * (grid.cuts_ms.len() * (classes.len() + 4) + 9) as u64;
        let counted = config.types.len() == SIZE_COUNT && config.all_machines_are_counted();
        (counted && vars <= VARS_MAX).then(|| Self {
            config,
            grid,
            classes,
            programme: Programme::default(),
            launches: Vec::new(),
            stops: Vec::new(),
            machines: Vec::new(),
            constant_usd: 0.0,
        })
    }

    fn solve(mut self) -> f64 {
        for step in 0..self.grid.steps {
            self.add_step(step);
        }
        let pieces: Vec<Piece> = self.grid.pieces().collect();
        let ready: Vec<[Var; SIZE_COUNT]> = pieces.iter().map(|piece| self.add_ready(*piece)).collect();
        let lost: Vec<Option<Var>> = pieces.iter().map(|piece| self.add_lost(*piece)).collect();
        let begun: Vec<Vec<Var>> = (0..self.classes.len()).map(|q| self.add_begun(q, &pieces)).collect();
        self.keep_to_cores(&pieces, &ready, &lost, &begun);
        self.limit_lost(&pieces, &lost);
        self.wait_at_least_0(&pieces, &lost, &begun);
        self.constant_usd + self.programme.certified_minimum()
    }

    /// The step's actions and the machines after them.
    fn add_step(&mut self, step: u64) {
        let machines_max = f64::from(self.config.machines_per_action_max);
        let p = &mut self.programme;
        let launches: [Var; SIZE_COUNT] = std::array::from_fn(|_| p.var(0.0, machines_max, 0.0));
        let stops: [Var; SIZE_COUNT] = std::array::from_fn(|_| p.var(0.0, machines_max, 0.0));
        let is_certain = (step + 1) * self.grid.step_ms <= self.grid.end_ms;
        let machines: [Var; SIZE_COUNT] = std::array::from_fn(|i| {
            let kind = &self.config.types[i];
            let most = f64::from(kind.initial) + (step as f64 + 1.0) * machines_max;
            let most = kind.bounds.max().map_or(most, |max| most.min(f64::from(max.max(kind.initial))));
            let least = if is_certain { f64::from(kind.bounds.min().min(kind.initial)) } else { 0.0 };
            p.var(least, most, 0.0)
        });
        let moved: Vec<(f64, Var)> = launches.iter().chain(&stops).map(|var| (1.0, *var)).collect();
        p.at_most(&moved, machines_max);
        for i in 0..SIZE_COUNT {
            let mut terms = vec![(1.0, machines[i]), (-1.0, launches[i]), (1.0, stops[i])];
            let before = self.machines.last().map(|before| before[i]);
            terms.extend(before.map(|var| (-1.0, var)));
            let value = if before.is_none() { f64::from(self.config.types[i].initial) } else { 0.0 };
            // after the earliest end machines may vanish: the episode may be over
            if is_certain { p.equal(&terms, value) } else { p.at_most(&terms, value) }
        }
        self.launches.push(launches);
        self.stops.push(stops);
        self.machines.push(machines);
    }

    /// Machines in service in a piece; and the bill of the piece.
    ///
    /// Ready machines are all but the launches that are too young. Where boots are drawn, or launches fail, a launch may
    /// have been stopped as it booted (to get at the next draw), so that stops since then do not count against them.
    /// Elsewhere no cheapest schedule does so, for not to launch costs no more.
    fn add_ready(&mut self, piece: Piece) -> [Var; SIZE_COUNT] {
        let step = piece.step as usize;
        let hours = piece.length_ms as f64 / MS_PER_HOUR;
        let never_fails = matches!(self.config.launch_failures, LaunchFailures::Never);
        let boots_exactly = never_fails && shortest_boot_ms(&self.config.boot).1;
        std::array::from_fn(|i| {
            let kind = &self.config.types[i];
            let bills_all = self.config.bill_boot && self.grid.is_certain(piece);
            if bills_all {
                self.programme.charge(self.machines[step][i], kind.usd_per_hour * hours);
            }
            let most = f64::from(kind.initial) + (step as f64 + 1.0) * f64::from(self.config.machines_per_action_max);
            let usd = if bills_all { 0.0 } else { kind.usd_per_hour * hours };
            let ready = self.programme.var(0.0, most, usd);
            let mut terms = vec![(1.0, ready), (-1.0, self.machines[step][i])];
            let booting = self.grid.first_booting(piece) as usize..step + 1;
            if !boots_exactly {
                self.programme.at_most(&terms, 0.0);
                terms.extend(booting.clone().map(|j| (-1.0, self.stops[j][i])));
            }
            terms.extend(booting.map(|j| (1.0, self.launches[j][i])));
            let is_exact = boots_exactly && self.grid.is_certain(piece);
            if is_exact {
                self.programme.equal(&terms, 0.0)
            } else {
                self.programme.at_most(&terms, 0.0)
            }
            ready
        })
    }

    /// Tasks in a run that a stop will cut short. Where such a run pauses the wait clock it has to be allowed for.
    fn add_lost(&mut self, piece: Piece) -> Option<Var> {
        let submitted: f64 = self.classes.iter().map(|class| class.submitted(piece)).sum();
        let usd = self.wait_usd(piece);
        (!self.config.charge_lost_run).then(|| self.programme.var(0.0, submitted, -usd))
    }

    /// What a task that waits through a piece costs.
    fn wait_usd(&self, piece: Piece) -> f64 {
        self.config.queue_usd_per_task_hour * piece.length_ms as f64 / MS_PER_HOUR
    }

    /// Tasks of a class that have begun their last run, on average over each piece; those submitted and not begun wait.
    fn add_begun(&mut self, q: usize, pieces: &[Piece]) -> Vec<Var> {
        let mut begun: Vec<Var> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (submitted, usd) = (self.classes[q].submitted(*piece), self.wait_usd(*piece));
            self.constant_usd += usd * submitted;
            let var = self.programme.var(0.0, submitted, -usd);
            if let Some(before) = begun.last() {
                self.programme.at_most(&[(1.0, *before), (-1.0, var)], 0.0);
            }
            begun.push(var);
        }
        // what has not begun when the programme ends still has to be paid for
        let class = &self.classes[q];
        let hours = class.steps as f64 * self.grid.step_ms as f64 / MS_PER_HOUR;
        let usd = class.cores * hours * cheapest_usd(self.config);
        self.constant_usd += usd * class.submits_ms.len() as f64;
        self.programme.charge(*begun.last().expect("there is time"), -usd);
        begun
    }

    /// Runs fit on the cores in service: those begun and not yet over, and those that are lost.
    fn keep_to_cores(
        &mut self,
        pieces: &[Piece],
        ready: &[[Var; SIZE_COUNT]],
        lost: &[Option<Var>],
        begun: &[Vec<Var>],
    ) {
        let cuts = self.grid.cuts_ms.len();
        for k in 0..pieces.len() {
            let types = self.config.types.iter().zip(ready[k]);
            let mut terms: Vec<(f64, Var)> = types.map(|(kind, var)| (-f64::from(kind.cores), var)).collect();
            terms.extend(lost[k].map(|var| (1.0, var)));
            for (class, begun) in self.classes.iter().zip(begun) {
                terms.push((class.cores, begun[k]));
                terms.extend(k.checked_sub(class.steps * cuts).map(|over| (-class.cores, begun[over])));
            }
            self.programme.at_most(&terms, 0.0);
        }
    }

    /// A stop cuts at most as many runs short as its machine has cores, each no longer than the longest run time.
    fn limit_lost(&mut self, pieces: &[Piece], lost: &[Option<Var>]) {
        let longest_steps = self.classes.iter().map(|class| class.steps + 1).max().unwrap_or(0);
        let longest_ms = longest_steps as f64 * self.grid.step_ms as f64;
        let mut terms: Vec<(f64, Var)> =
            pieces.iter().zip(lost).filter_map(|(piece, var)| Some((piece.length_ms as f64, (*var)?))).collect();
        if terms.is_empty() {
            return;
        }
        for stops in &self.stops {
            let types = self.config.types.iter().zip(stops);
            terms.extend(types.map(|(kind, var)| (-f64::from(kind.cores) * longest_ms, *var)));
        }
        // in minutes, for the solver's sake
        terms.iter_mut().for_each(|(factor, _)| *factor /= 60_000.0);
        self.programme.at_most(&terms, 0.0);
    }

    /// What is begun or lost has been submitted.
    fn wait_at_least_0(&mut self, pieces: &[Piece], lost: &[Option<Var>], begun: &[Vec<Var>]) {
        for (k, piece) in pieces.iter().enumerate() {
            let Some(lost) = lost[k] else { continue };
            let submitted: f64 = self.classes.iter().map(|class| class.submitted(*piece)).sum();
            let terms: Vec<(f64, Var)> = begun.iter().map(|begun| (1.0, begun[k])).chain([(1.0, lost)]).collect();
            self.programme.at_most(&terms, submitted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::outcomes;
    use crate::rules::Rule;
    use std::sync::Arc;

    /// twin.md's bounds of the published load: the work alone costs $15.51; one machine a minute costs at least $19.42
    /// (alternating) and $19.05 (100s first).
    #[test]
    fn the_published_load_has_the_published_bounds() {
        let spec = EnvSpec::published();
        for (workload, published) in spec.workloads().iter().zip([19.42, 19.05]) {
            let bounds = bounds(&spec, workload);
            assert!((bounds.work_usd - 15.51).abs() < 1e-9);
            assert!((bounds.fluid_usd.unwrap() - published).abs() < 0.01, "{bounds:?}");
        }
    }

    #[test]
    fn one_task_on_one_machine_by_hand() {
        // six minutes of the 14 cores that are there, and nothing waits
        let job = twin::Job { id: 0, submit_ms: 0, runtime_ms: 360_000, cores: 1, memory_mb: 0 };
        let workload = Arc::new(Workload::new(vec![job]));
        let spec = EnvSpec::new(SimConfig::default(), vec![workload.clone()]).unwrap();
        let usd = fluid_usd(&spec, &workload).unwrap();
        assert!((usd - 0.14).abs() < 1e-5, "{usd}");
    }

    #[test]
    fn no_rule_is_below_the_bounds_on_loads_of_all_kinds() {
        for seed in 0..3 {
            let jobs = twin::workload::poisson(200.0 + 100.0 * seed as f64, 1.5, 400.0, seed);
            let jobs =
                jobs.into_iter().map(|j| twin::Job { runtime_ms: j.runtime_ms.div_ceil(300_000) * 300_000, ..j });
            let workload = Arc::new(Workload::new(jobs.collect()));
            let config = SimConfig {
                bill_boot: seed % 2 == 0,
                charge_lost_run: seed % 3 == 0,
                boot: BootModel::Uniform { low_s: 45.0, high_s: 97.0, seed: 0 },
                ..SimConfig::default()
            };
            let spec = Arc::new(EnvSpec::new(config, vec![workload.clone()]).unwrap());
            let bounds = bounds(&spec, &workload);
            let fluid = bounds.fluid_usd.expect("small enough");
            assert!(fluid > bounds.work_usd * 0.9, "{bounds:?}");
            let queue = Rule::Queue { tasks_per_core: 1.3, hold_ticks: 3 };
            for rule in [queue, Rule::Plateau { cores: 40, quiet_s: 300.0 }, Rule::Production { tasks_per_core: 1.0 }] {
                let usd = outcomes(&rule, &spec, &[seed]).unwrap()[0].total_usd;
                assert!(usd > fluid, "{rule} {usd} {bounds:?}");
            }
        }
    }
}
