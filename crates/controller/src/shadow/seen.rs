//! What would be seen of the shadow fleet: its own machines and head, and of the load what was measured, moved by what
//! the fluid model says that another number of cores changes.
//!
//! Where the shadow has the real fleet's cores and is not behind, that is the measurement itself, to the last bit. What
//! was not measured stays missing.

use contract::SIZE_COUNT;
use contract::limits::WAIT_WINDOW_S;
use contract::observation::{Observation, Work};
use contract::shadow::Shadow;

use super::fluid::{Fluid, fluid, open_tasks};
use super::{Read, cores};

/// The two fleets under the load of a tick.
struct Both {
    real: Fluid,
    shadow: Fluid,
    /// Tasks open for the shadow.
    open: f64,
    cores_per_task: f64,
}

/// None if the tasks are not known.
fn both(shadow: &Shadow, measured: &Observation) -> Option<Both> {
    let real_open = open_tasks(measured)?;
    let open = (real_open + shadow.tasks_behind).max(0.0);
    let of = |tasks: f64, cores: f64| fluid(tasks, shadow.cores_per_task, cores);
    let real = of(real_open, f64::from(measured.ready_cores()));
    Some(Both { real, shadow: of(open, cores(&shadow.ready, measured)), open, cores_per_task: shadow.cores_per_task })
}

/// Tasks that would wait.
pub(super) fn waiting(shadow: &Shadow) -> Option<f64> {
    let both = both(shadow, &shadow.measured)?;
    let measured = f64::from(shadow.measured.queue_depth?);
    Some(waiting_of(&both, measured))
}

fn waiting_of(both: &Both, measured: f64) -> f64 {
    (measured + (both.shadow.waiting - both.real.waiting)).clamp(0.0, both.open)
}

/// The observation of the shadow.
pub(super) fn of(shadow: &Shadow, read: &Read<'_>) -> Observation {
    let (m, now_ms) = (read.measured, read.tick * 1000);
    let own = Observation {
        fleet: shadow.fleet(),
        last_action: shadow.head.last_action,
        since_action_s: match shadow.head.generation {
            0 => 0.0,
            _ => now_ms.saturating_sub(shadow.head.last_action_ms) as f64 / 1000.0,
        },
        cooldown_left_s: shadow.head.next_allowed_ms.saturating_sub(now_ms) as f64 / 1000.0,
        ..m.clone()
    };
    match (both(shadow, m), m.queue_depth) {
        (Some(both), Some(queue)) => with_load(own, &both, f64::from(queue), read),
        _ => own,
    }
}

fn with_load(o: Observation, both: &Both, queue: f64, read: &Read<'_>) -> Observation {
    let waiting = waiting_of(both, queue);
    let queue_depth = waiting.round();
    let moved = Moved { more: waiting - queue, queue, arrivals_ms: read.arrivals_ms, now_ms: read.tick * 1000 };
    let busier = both.shadow.utilisation - both.real.utilisation;
    let cpu = |share: Option<f64>| share.map(|share| (share + busier).clamp(0.0, 1.0));
    let memory = |share: Option<f64>| share.map(|share| (share * ratio(both)).clamp(0.0, 1.0));
    let running = (both.open.round() - queue_depth).max(0.0);
    let more_running = running - o.running.map_or(running, f64::from);
    let work = o.work.map(|work| Work {
        queue_cores: moved_by(work.queue_cores, (queue_depth - queue) * both.cores_per_task),
        running_cores: moved_by(work.running_cores, more_running * both.cores_per_task),
        ..of_fleet(&work, &o, read.measured, busier)
    });
    Observation {
        queue_depth: Some(queue_depth as u32),
        running: Some(running as u32),
        work,
        cpu_util_avg: cpu(o.cpu_util_avg),
        cpu_util_p90: cpu(o.cpu_util_p90),
        mem_util_avg: memory(o.mem_util_avg),
        mem_util_p90: memory(o.mem_util_p90),
        wait_ratio_window: moved.ratio(o.wait_ratio_window, WAIT_WINDOW_S),
        wait_ratio_recent: moved.ratio(o.wait_ratio_recent, read.config.tick_s),
        oldest_wait_s: o.oldest_wait_s.map(|age_s| moved.oldest_wait_s(age_s)),
        ..o
    }
}

fn moved_by(cores: u32, more: f64) -> u32 {
    (f64::from(cores) + more).round().max(0.0) as u32
}

/// What stops would do to the shadow's own machines: as many of them are idle as its share of busy cores says. Where one
/// would lose work, and none of that size does in reality, its tasks are as old as tasks are.
fn of_fleet(work: &Work, shadow: &Observation, real: &Observation, busier: f64) -> Work {
    let idle: [u32; SIZE_COUNT] = std::array::from_fn(|size| {
        let (of, ready) = (f64::from(shadow.fleet[size].ready), f64::from(real.fleet[size].ready));
        let idle = if ready > 0.0 { f64::from(work.idle[size]) / ready } else { 1.0 - work.busy_share(real) };
        ((idle - busier).clamp(0.0, 1.0) * of).round() as u32
    });
    let stop_loss_core_s = std::array::from_fn(|size| {
        let (own, there) = (shadow.fleet[size], real.fleet[size]);
        let loses = |idle: u32, booting: u32, ready: u32| idle == 0 && booting == 0 && ready > 0;
        match (loses(idle[size], own.booting, own.ready), loses(work.idle[size], there.booting, there.ready)) {
            (false, _) => 0.0,
            (true, true) => work.stop_loss_core_s[size],
            (true, false) => work.running_age_s * f64::from(shadow.cores[size]),
        }
    });
    Work { idle, stop_loss_core_s, ..*work }
}

/// How much fuller the shadow's machines are. Memory is what running tasks use; where none runs, the measurement stays.
fn ratio(both: &Both) -> f64 {
    match both.real.utilisation {
        real if real > 0.0 => both.shadow.utilisation / real,
        _ => 1.0,
    }
}

/// A queue with more or fewer tasks than the measured one. It is first come, first served: those that wait are the
/// youngest.
struct Moved<'a> {
    more: f64,
    /// The measured one.
    queue: f64,
    arrivals_ms: Option<&'a [u64]>,
    now_ms: u64,
}

impl Moved<'_> {
    /// The share that waits of the tasks of the last `window_s`.
    fn ratio(&self, measured: Option<f64>, window_s: u64) -> Option<f64> {
        let from_ms = self.now_ms.saturating_sub(window_s * 1000);
        let submitted = self.arrivals_ms?.iter().filter(|at_ms| **at_ms > from_ms).count();
        let measured = measured?;
        Some(if submitted == 0 { measured } else { (measured + self.more / submitted as f64).clamp(0.0, 1.0) })
    }

    fn oldest_wait_s(&self, measured_s: f64) -> f64 {
        let waiting = self.queue + self.more;
        if waiting.round() < 1.0 {
            return 0.0;
        }
        (measured_s + (self.age_s(waiting) - self.age_s(self.queue))).max(0.0)
    }

    /// Age of the oldest of the `n` youngest tasks; the window's length if it is not known that far back.
    fn age_s(&self, n: f64) -> f64 {
        let (n, arrivals_ms) = (n.round() as usize, self.arrivals_ms.unwrap_or_default());
        match (n, arrivals_ms.len().checked_sub(n)) {
            (0, _) => 0.0,
            (_, Some(i)) => self.now_ms.saturating_sub(arrivals_ms[i]) as f64 / 1000.0,
            (_, None) => WAIT_WINDOW_S as f64,
        }
    }
}
