//! Does in the twin what was really done, and counts what came of it as the records count it.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::decision::{Decision, Outcome};
use contract::plan::Plan;
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, TaskRecord};
use contract::{Action, SIZE_COUNT};
use serde::Serialize;
use twin::{EnvSpec, Environment, TwinEnv};

use crate::recorded::{Recorded, Window};

const MS_PER_HOUR: f64 = 3_600_000.0;

/// The same window's bill, real and simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TwinError {
    /// What machines and waiting really cost.
    pub real_usd: f64,
    /// What they cost in the twin under the same actions.
    pub twin_usd: f64,
    /// Real actions that the twin refused: its fleet then went another way.
    pub refused_actions: u64,
}

impl TwinError {
    /// Difference as a share of the real bill; none if nothing was billed.
    pub fn relative(&self) -> Option<f64> {
        (self.real_usd > 0.0).then(|| (self.twin_usd - self.real_usd).abs() / self.real_usd)
    }
}

/// What one window came to, in reality or in the twin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Dollars for machines.
    pub vm_usd: f64,
    /// Dollars for waiting.
    pub queue_usd: f64,
    /// Waiting, task-hours.
    pub queue_hours: f64,
    /// Waits of the tasks that ended, seconds, ascending.
    pub waits_s: Vec<f64>,
    /// Machines in service at each tick, by size.
    pub ready: Vec<[f64; SIZE_COUNT]>,
    /// Tasks waiting at each tick.
    pub queue: Vec<f64>,
}

/// Machines and waiting in a window, in dollars, from the records. A machine is billed from when it took tasks, as the
/// pool's twin bills it. An interrupted task counts as waiting from its submission to its last start: records do not
/// keep earlier runs.
pub fn real_usd(config: &PoolConfig, tasks: &[TaskRecord], instances: &[InstanceRecord], window: Window) -> (f64, f64) {
    let vm_usd = instances
        .iter()
        .filter_map(|i| Some((i, i.ready_ms?)))
        .map(|(i, ready)| i.usd_per_hour * clip_ms(window, ready, i.terminated_ms.unwrap_or(u64::MAX)) / MS_PER_HOUR)
        .sum();
    let waited_ms: f64 = tasks.iter().map(|t| clip_ms(window, t.submitted_ms, t.started_ms.unwrap_or(u64::MAX))).sum();
    (vm_usd, config.queue_usd_per_task_hour * waited_ms / MS_PER_HOUR)
}

/// The part of a stretch of time that lies in the window, milliseconds.
fn clip_ms(window: Window, from_ms: u64, to_ms: u64) -> f64 {
    to_ms.min(window.until_ms).saturating_sub(from_ms.max(window.from_ms)) as f64
}

/// What really came of the window, up to `window.until_ms`.
pub fn real_course(recorded: &Recorded, window: Window) -> Course {
    let Recorded { config, tasks, instances, .. } = recorded;
    let (vm_usd, queue_usd) = real_usd(config, tasks, instances, window);
    let is_over = |t: &&TaskRecord| t.finished_ms.is_some_and(|ms| ms > window.from_ms && ms <= window.until_ms);
    let wait_s =
        |t: &TaskRecord| Some(t.started_ms?.saturating_sub(t.submitted_ms.max(window.from_ms)) as f64 / 1000.0);
    let mut waits_s: Vec<f64> = tasks.iter().filter(is_over).filter_map(wait_s).collect();
    waits_s.sort_by(f64::total_cmp);
    let ticks = window.from_ms..=window.until_ms;
    let ticks = ticks.step_by(config.tick_s as usize * 1000);
    let (ready, queue) = ticks.map(|at_ms| (ready_at(instances, at_ms), waiting_at(tasks, at_ms))).unzip();
    Course {
        vm_usd,
        queue_usd,
        queue_hours: queue_usd / config.queue_usd_per_task_hour.max(1e-12),
        waits_s,
        ready,
        queue,
    }
}

fn ready_at(instances: &[InstanceRecord], at_ms: u64) -> [f64; SIZE_COUNT] {
    let mut counts = [0.0; SIZE_COUNT];
    for instance in instances.iter().filter(|i| serves(i, at_ms)) {
        if let Some(count) = counts.get_mut(instance.size) {
            *count += 1.0;
        }
    }
    counts
}

/// Whether a machine takes tasks at a time.
pub(crate) fn serves(instance: &InstanceRecord, at_ms: u64) -> bool {
    instance.ready_ms.is_some_and(|ms| ms <= at_ms) && instance.terminated_ms.is_none_or(|ms| ms > at_ms)
}

fn waiting_at(tasks: &[TaskRecord], at_ms: u64) -> f64 {
    let waits = |t: &&TaskRecord| t.submitted_ms <= at_ms && t.started_ms.is_none_or(|ms| ms > at_ms);
    tasks.iter().filter(waits).count() as f64
}

/// What was really done, by step of the window: from the decisions, or from the machines' records where there are none.
/// The twin does one action a step; of several machines that came or went in one step the later ones wait for the next.
pub fn actions(recorded: &Recorded) -> BTreeMap<u64, Action> {
    let Recorded { decisions, instances, window, .. } = recorded;
    let step_ms = recorded.config.tick_s * 1000;
    if decisions.is_empty() {
        return actions_of_machines(instances, *window, step_ms);
    }
    let in_window = decisions.iter().filter(|d| (window.from_ms..window.until_ms).contains(&(d.tick * 1000)));
    in_window.filter_map(|d| Some(((d.tick * 1000 - window.from_ms) / step_ms, carried_out(d)?))).collect()
}

/// What EC2 did of a decision: it may have given fewer machines than were asked for.
fn carried_out(d: &Decision) -> Option<Action> {
    let outcome = d.intent.as_ref()?.outcome.as_ref()?;
    match (d.action, outcome) {
        (Action::Launch(size, _), Outcome::Launched { instance_ids }) => {
            Some(Action::Launch(size, instance_ids.len() as u16))
        }
        (Action::Stop(size, _), Outcome::Terminated { instance_ids }) => {
            Some(Action::Stop(size, instance_ids.len() as u16))
        }
        // those without tasks went at once
        (Action::Stop(size, n), Outcome::Draining { .. }) => match &d.intent.as_ref()?.plan {
            Some(Plan::Terminate { instance_ids, .. }) => Some(Action::Stop(size, instance_ids.len() as u16)),
            _ => Some(Action::Stop(size, n)),
        },
        _ => None,
    }
}

fn actions_of_machines(instances: &[InstanceRecord], window: Window, step_ms: u64) -> BTreeMap<u64, Action> {
    let launches = instances.iter().map(|i| (i.launched_ms, Action::Launch(i.size as u16, 1)));
    let stops = instances.iter().filter_map(|i| Some((i.terminated_ms?, Action::Stop(i.size as u16, 1))));
    let mut events: Vec<(u64, Action)> = launches.chain(stops).collect();
    events.retain(|(at_ms, _)| (window.from_ms..window.until_ms).contains(at_ms));
    events.sort_unstable();
    let mut actions = BTreeMap::new();
    let mut free = 0;
    for (at_ms, action) in events {
        let step = ((at_ms - window.from_ms) / step_ms).max(free);
        actions.insert(step, action);
        free = step + 1;
    }
    actions
}

/// The window in the twin, under what was really done.
pub struct Replay {
    /// What came of it.
    pub course: Course,
    /// The window, up to the twin's last task or the real end, whichever comes first.
    pub window: Window,
    /// Real actions that the twin refused.
    pub refused_actions: u64,
}

/// Replays the window with boots drawn from `seed`. `spec` has the window's jobs and fleet and no perturbation.
pub fn replay(spec: &Arc<EnvSpec>, recorded: &Recorded, seed: u64) -> Replay {
    let (actions, window) = (actions(recorded), recorded.window);
    let step_ms = recorded.config.tick_s * 1000;
    let steps = (window.until_ms - window.from_ms) / step_ms;
    let mut env = TwinEnv::new(spec.clone()).with_trace();
    env.reset(seed);
    for k in 0..steps {
        if env.is_over() {
            break;
        }
        env.step(actions.get(&k).copied().unwrap_or(Action::Nothing));
    }
    let outcome = env.outcome();
    let mut waits_s: Vec<f64> = env.sim().waits_ms().iter().map(|ms| *ms as f64 / 1000.0).collect();
    waits_s.sort_by(f64::total_cmp);
    Replay {
        course: Course {
            vm_usd: outcome.vm_usd,
            queue_usd: outcome.queue_usd,
            queue_hours: outcome.queue_hours,
            waits_s,
            ready: env.trace().iter().map(|p| p.fleet.map(|c| f64::from(c.ready))).collect(),
            queue: env.trace().iter().map(|p| f64::from(p.queue)).collect(),
        },
        window: Window { until_ms: window.from_ms + env.sim().now_ms(), ..window },
        refused_actions: outcome.rejected_actions,
    }
}

/// The bill of the window, real and in the twin.
pub fn twin_error(spec: &Arc<EnvSpec>, recorded: &Recorded) -> TwinError {
    let replay = replay(spec, recorded, 0);
    let (vm_usd, queue_usd) = real_usd(&recorded.config, &recorded.tasks, &recorded.instances, replay.window);
    TwinError {
        real_usd: vm_usd + queue_usd,
        twin_usd: replay.course.vm_usd + replay.course.queue_usd,
        refused_actions: replay.refused_actions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::builders::{decision, instance, pool_config, task};

    const FROM_MS: u64 = 1_700_000_040_000;

    /// One small machine for ten minutes with two tasks of two minutes each, the second waiting for a core.
    fn recorded() -> Recorded {
        let ran = |id: &str, from_s: u64| TaskRecord {
            started_ms: Some(FROM_MS + from_s * 1000),
            finished_ms: Some(FROM_MS + (from_s + 120) * 1000),
            cores: 2,
            memory_mb: 0,
            ..task("p", id, FROM_MS)
        };
        let machine = InstanceRecord { ready_ms: Some(FROM_MS - 50_000), ..instance("p", "i-1", 0, FROM_MS - 90_000) };
        // the launch of the machine lies before the window and must not be replayed
        let mut launched = decision("p", FROM_MS / 1000 - 60, Action::Launch(0, 1));
        launched.intent = Some(contract::decision::Intent {
            state: contract::decision::IntentState::Settled,
            generation: 1,
            claimed_ms: 0,
            plan: None,
            outcome: Some(Outcome::Launched { instance_ids: vec!["i-1".into()] }),
        });
        Recorded {
            config: pool_config("p"),
            tasks: vec![ran("a", 0), ran("b", 120)],
            instances: vec![machine],
            decisions: vec![launched],
            window: Window { from_ms: FROM_MS, until_ms: FROM_MS + 600_000 },
        }
    }

    #[test]
    fn the_twin_of_a_window_bills_what_the_records_bill() {
        let recorded = recorded();
        let history = recorded.history();
        assert_eq!(history.initial, [1, 0, 0]);
        let spec = EnvSpec::from_pool(
            &recorded.config,
            vec![Arc::new(twin::Workload::new(history.jobs))],
            history.boots_s,
            history.initial,
        );
        let error = twin_error(&Arc::new(spec.unwrap()), &recorded);
        // 240 s of a machine at $0.2 an hour, and 120 s of waiting at $0.036 an hour
        let expected = 0.2 * 240.0 / 3600.0 + 0.036 * 120.0 / 3600.0;
        assert!((error.real_usd - expected).abs() < 1e-9, "{error:?}");
        assert!((error.twin_usd - expected).abs() < 1e-9, "{error:?}");
        assert_eq!((error.refused_actions, error.relative().map(|r| r < 1e-9)), (0, Some(true)));
    }
    #[test]
    fn without_decisions_the_machines_say_what_was_done_one_action_a_step() {
        let machine = |size, launched_s: u64, terminated_s: Option<u64>| InstanceRecord {
            terminated_ms: terminated_s.map(|s| FROM_MS + s * 1000),
            ended: None,
            ..instance("p", "i", size, FROM_MS + launched_s * 1000)
        };
        let instances = vec![machine(2, 5, Some(130)), machine(0, 10, None), machine(1, 400, Some(700))];
        let done = actions(&Recorded { instances, decisions: Vec::new(), ..recorded() });
        let expected =
            [(0, Action::Launch(2, 1)), (1, Action::Launch(0, 1)), (2, Action::Stop(2, 1)), (6, Action::Launch(1, 1))];
        assert_eq!(done, BTreeMap::from(expected));
    }

    #[test]
    fn the_real_course_counts_at_each_tick() {
        let course = real_course(&recorded(), recorded().window);
        assert_eq!((course.ready.len(), course.ready[0], course.ready[10]), (11, [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]));
        assert_eq!(course.queue[..4], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(course.waits_s, [0.0, 120.0]);
    }
}
