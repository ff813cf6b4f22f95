//! The shadow ledger: in mode `observe` it carries every decision out on paper, and keeps the books of both fleets.
//!
//! Real machines never follow the wishes of a pool that only observes; a policy that saw them would wish for the same
//! again and again. So it sees the shadow: a fleet that was the real one when the ledger began, and has done since what
//! was decided. How much of the load that fleet would have worked off is a simple fluid model (`fluid`), which makes
//! the books an estimate; a back-test on the recorded history is exact. `docs/reference/shadow.md` has the whole model.

mod fluid;
mod seen;
#[cfg(test)]
mod tests;

use contract::action::{Action, SIZE_COUNT};
use contract::control::Head;
use contract::decision::Decision;
use contract::limits::{CORES_MAX, SHADOW_GAP_TICKS_MAX};
use contract::observation::Observation;
use contract::pool::PoolConfig;
use contract::shadow::{Account, Pace, Shadow, ShadowBoot};

use crate::earlier::BUDGET_S;
use crate::shadow::fluid::{Interval, tasks_behind};

const S_PER_HOUR: f64 = 3600.0;
/// More tasks than any queue has: a ledger that says so is damaged.
const TASKS_MAX: f64 = 1e9;
/// A mean that no tasks with a core each have.
const CORES_PER_TASK_MIN: f64 = 1e-3;

/// What was read at a tick.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// The tick, seconds.
    pub tick: u64,
    /// The pool's configuration.
    pub config: &'a PoolConfig,
    /// What was measured.
    pub measured: &'a Observation,
    /// The real head.
    pub head: &'a Head,
    /// When tasks were submitted, milliseconds, ascending; those of the last window.
    pub arrivals_ms: Option<&'a [u64]>,
    /// The policy in charge, by its hash.
    pub policy: Option<&'a str>,
}

/// The ledger at a tick, before its action, and what would be seen of the shadow fleet.
///
/// It goes on from the last decision's, or begins anew with the real fleet: after another mode, another policy, a change
/// of the sizes' cores, or a gap of more than [`SHADOW_GAP_TICKS_MAX`] ticks.
pub fn at_tick(last: Option<&Decision>, read: &Read<'_>) -> (Shadow, Observation) {
    let shadow = match last.and_then(|last| Some((last, goes_on(last, read)?))) {
        Some((last, shadow)) => advanced(shadow.clone(), last, read),
        None => begun(read),
    };
    let observation = seen::of(&shadow, read);
    (shadow, observation)
}

/// The last decision's ledger, if this tick may go on from it.
fn goes_on<'a>(last: &'a Decision, read: &Read<'_>) -> Option<&'a Shadow> {
    let shadow = last.shadow.as_ref()?;
    // a policy that cannot be loaded for a while is no other one
    let same_policy = read.policy.is_none() || read.policy == shadow.policy.as_deref();
    let same_sizes = shadow.measured.cores == read.measured.cores;
    let is_near = missed(last.tick, read) <= SHADOW_GAP_TICKS_MAX && last.tick < read.tick;
    (same_policy && same_sizes && is_near && is_sound(shadow)).then_some(shadow)
}

/// Whether the numbers of a stored ledger can be gone on from: a damaged record must not spoil all that follow.
fn is_sound(shadow: &Shadow) -> bool {
    let Shadow { pace, real, shadow: paper, .. } = shadow;
    let sums = [pace.tasks, pace.core_s, real.machines_usd, real.waiting_usd, paper.machines_usd, paper.waiting_usd];
    let known_sizes = shadow.booting.iter().all(|boot| boot.size < SIZE_COUNT);
    sums.iter().all(|sum| sum.is_finite() && *sum >= 0.0)
        && known_sizes
        && shadow.tasks_behind.abs() <= TASKS_MAX
        && (CORES_PER_TASK_MIN..=f64::from(CORES_MAX)).contains(&shadow.cores_per_task)
}

/// Ticks between two decisions that have none.
fn missed(last_tick: u64, read: &Read<'_>) -> u64 {
    (read.tick.saturating_sub(last_tick) / read.config.tick_s.max(1)).saturating_sub(1)
}

/// A ledger that begins at this tick: the shadow is the real fleet, and what boots there boots as long as any machine.
fn begun(read: &Read<'_>) -> Shadow {
    let ready_ms = ready_ms(read.tick, read.config);
    let booting = |size: usize| (0..read.measured.fleet[size].booting).map(move |_| ShadowBoot { size, ready_ms });
    let mut shadow = Shadow {
        since: read.tick,
        ticks: 1,
        gaps: 0,
        policy: read.policy.map(str::to_owned),
        ready: read.measured.fleet.map(|counts| counts.ready),
        booting: (0..SIZE_COUNT).flat_map(booting).collect(),
        head: read.head.clone(),
        launches_ms: Vec::new(),
        stops_ms: Vec::new(),
        tasks_behind: 0.0,
        cores_per_task: 1.0,
        pace: Pace::default(),
        real: Account::default(),
        shadow: Account::default(),
        measured: read.measured.clone(),
    };
    learn_shape(&mut shadow, read);
    shadow
}

/// The ledger after the time since the last decision. What is seen at a tick is taken to have been so since then.
fn advanced(mut shadow: Shadow, last: &Decision, read: &Read<'_>) -> Shadow {
    let (now_ms, dt_s) = (read.tick * 1000, (read.tick - last.tick) as f64);
    shadow.ticks += 1;
    shadow.gaps += missed(last.tick, read);
    end_boots(&mut shadow, now_ms);
    for times_ms in [&mut shadow.launches_ms, &mut shadow.stops_ms] {
        times_ms.retain(|at_ms| at_ms.saturating_add(BUDGET_S * 1000) > now_ms);
    }
    learn_shape(&mut shadow, read);
    drain(&mut shadow, last, read, dt_s);
    shadow.measured = read.measured.clone();
    charge(&mut shadow, read.config, dt_s);
    shadow
}

fn end_boots(shadow: &mut Shadow, now_ms: u64) {
    let ready = &mut shadow.ready;
    shadow.booting.retain(|boot| {
        let boots = boot.ready_ms > now_ms;
        if !boots {
            ready[boot.size] = ready[boot.size].saturating_add(1);
        }
        boots
    });
}

/// Takes in how many cores a task wants, if there are any.
fn learn_shape(shadow: &mut Shadow, read: &Read<'_>) {
    let open = fluid::open_tasks(read.measured).filter(|open| *open > 0.0);
    let wanted = read.measured.work.map(|work| work.wanted_cores()).filter(|cores| *cores > 0);
    if let (Some(open), Some(cores)) = (open, wanted) {
        shadow.cores_per_task = (f64::from(cores) / open).clamp(CORES_PER_TASK_MIN, f64::from(CORES_MAX));
    }
}

/// Moves on how far the shadow is behind. A tick at which the tasks could not be read changes nothing.
fn drain(shadow: &mut Shadow, last: &Decision, read: &Read<'_>, dt_s: f64) {
    let opens = (fluid::open_tasks(last.measured()), fluid::open_tasks(read.measured));
    let ((Some(before), Some(after)), Some(arrivals_ms)) = (opens, read.arrivals_ms) else { return };
    let since = |at_ms: &&u64| **at_ms > last.tick * 1000 && **at_ms <= read.tick * 1000;
    let arrivals = arrivals_ms.iter().filter(since).count() as f64;
    let interval = Interval {
        before,
        after,
        arrivals,
        real_cores: f64::from(read.measured.ready_cores()),
        shadow_cores: cores(&shadow.ready, read.measured),
        dt_s,
    };
    tasks_behind(shadow, &interval);
}

/// Cores of these machines in service.
fn cores(ready: &[u32; SIZE_COUNT], o: &Observation) -> f64 {
    ready.iter().zip(o.cores).map(|(n, cores)| f64::from(*n) * f64::from(cores)).sum()
}

/// Adds an interval to both accounts: machines from the moment at which they take tasks, as in the twin of a pool, and
/// what waits. Where the queue is not known, neither account is charged for it.
fn charge(shadow: &mut Shadow, config: &PoolConfig, dt_s: f64) {
    let hours = dt_s / S_PER_HOUR;
    let machines_usd = |ready: [u32; SIZE_COUNT]| -> f64 {
        ready.iter().zip(&config.sizes).map(|(n, size)| f64::from(*n) * size.usd_per_hour * hours).sum()
    };
    let waiting_usd = |tasks: f64| tasks * config.queue_usd_per_task_hour * hours;
    shadow.real.machines_usd += machines_usd(shadow.measured.fleet.map(|counts| counts.ready));
    shadow.shadow.machines_usd += machines_usd(shadow.ready);
    if let (Some(real), Some(waiting)) = (shadow.measured.queue_depth, seen::waiting(shadow)) {
        shadow.real.waiting_usd += waiting_usd(f64::from(real));
        shadow.shadow.waiting_usd += waiting_usd(waiting);
    }
}

/// When a machine launched at a tick takes tasks.
fn ready_ms(tick: u64, config: &PoolConfig) -> u64 {
    (tick * 1000).saturating_add((config.boot_s * 1000.0) as u64)
}

/// Carries an action out on the shadow fleet: a launch boots for the pool's boot time, a stop takes a booting machine
/// first and the youngest of those, as the twin's rule V2 does. The cooldown begins.
pub fn act(shadow: &mut Shadow, action: Action, tick: u64, config: &PoolConfig) {
    let Some(size) = action.size().filter(|size| *size < SIZE_COUNT) else { return };
    let now_ms = tick * 1000;
    match action {
        Action::Nothing => {}
        Action::Launch(_, machines) => {
            let (ready_ms, machines) = (ready_ms(tick, config), usize::from(machines));
            shadow.booting.extend(std::iter::repeat_n(ShadowBoot { size, ready_ms }, machines));
            if config.launches_per_hour_max.is_some() {
                shadow.launches_ms.extend(std::iter::repeat_n(now_ms, machines));
            }
        }
        Action::Stop(_, machines) => {
            (0..machines).for_each(|_| stop(shadow, size));
            if config.stops_per_hour_max.is_some() {
                shadow.stops_ms.extend(std::iter::repeat_n(now_ms, usize::from(machines)));
            }
        }
    }
    shadow.head = Head {
        generation: shadow.head.generation.saturating_add(1),
        next_allowed_ms: now_ms + config.cooldown_s * 1000,
        last_action: action,
        last_action_ms: now_ms,
    };
}

fn stop(shadow: &mut Shadow, size: usize) {
    let of_size = shadow.booting.iter().enumerate().filter(|(_, boot)| boot.size == size);
    match of_size.max_by_key(|(_, boot)| boot.ready_ms).map(|(i, _)| i) {
        Some(youngest) => drop(shadow.booting.remove(youngest)),
        None => shadow.ready[size] = shadow.ready[size].saturating_sub(1),
    }
}

/// Launches that the pool's budget still allows the shadow; none without a budget.
pub fn launches_left(shadow: &Shadow, config: &PoolConfig) -> Option<u32> {
    config.launches_per_hour_max.map(|max| max.saturating_sub(shadow.launches_ms.len() as u32))
}

/// Stops that the pool's budget still allows the shadow; none without a budget.
pub fn stops_left(shadow: &Shadow, config: &PoolConfig) -> Option<u32> {
    config.stops_per_hour_max.map(|max| max.saturating_sub(shadow.stops_ms.len() as u32))
}
