//! Collects what is known at a tick, everything at once, and turns it into the observation.
//!
//! What cannot be read is marked as missing, never as zero. Only what no decision can do without is an error: the
//! configuration, the head, the machines' records and the last decisions.

use std::time::Duration;

use contract::action::SIZE_COUNT;
use contract::capacity::Counts;
use contract::control::{Head, KillSwitch};
use contract::decision::Decision;
use contract::limits::{METRIC_AGE_S_MAX, WAIT_WINDOW_S};
use contract::observation::{OBSERVATION_VERSION, Observation};
use contract::pool::{MetricSource, OUTSIDE_METRICS, PoolConfig};
use contract::record::{InstanceRecord, NoCapacity, TaskRecord, TaskState};
use controller::earlier;
use controller::money::{self, NanoUsd, Spent};
use controller::offering::without_capacity;
use controller::outage::looks_back;
use controller::ports::{Control, Decisions, Instances, Kind, Metrics, Point, Port, PortError, Tasks};

use crate::handler::Ports;

/// Time for one source that a tick can do without; the function has 30 seconds in all.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Everything read for one tick.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The head, with the cooldown.
    pub head: Head,
    /// The kill switch.
    pub switch: KillSwitch,
    /// The decisions before this one, newest first, as many as it takes to see whether the load was gone at once.
    pub past: Vec<Decision>,
    /// Machines launched in the last hour; read only if the pool limits them.
    pub launched_last_hour: u32,
    /// Machines whose stop was claimed in the last hour; read only if the pool limits them.
    pub stopped_last_hour: u32,
    /// Machines by size that drain.
    pub draining: [u32; SIZE_COUNT],
    /// What was measured. It is what the network and the guard see, unless the pool only observes.
    pub observation: Observation,
    /// What an hour of all machines costs, by their records.
    pub rate: NanoUsd,
    /// What was spent, if money caps need to know it and it can be read.
    pub spent: Option<Spent>,
    /// Cores that the tasks that wait or run want.
    pub cores_wanted: Option<f64>,
    /// When the tasks of the last window were submitted, milliseconds, ascending.
    pub arrivals_ms: Option<Vec<u64>>,
}

/// Reads all sources concurrently.
///
/// # Errors
/// If one of the sources fails that no decision can do without.
pub async fn collect<T, I, D, C, M, P>(
    ports: &Ports<T, I, D, C, M, P>,
    config: &PoolConfig,
    tick: u64,
) -> Port<Collected>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
    M: Metrics,
{
    let (pool, now_ms) = (config.pool.as_str(), tick * 1000);
    let window_ms = WAIT_WINDOW_S * 1000;
    let sources: Vec<MetricSource> = OUTSIDE_METRICS.iter().map(|name| config.metrics[*name].clone()).collect();
    let (head, switch, no_capacity, past, alive, launched, stopped, ended, open, arrivals, metrics) = tokio::join!(
        ports.control.head(pool),
        ports.control.kill_switch(),
        ports.control.no_capacity(pool),
        ports.decisions.before(pool, tick, looks_back(config.tick_s)),
        ports.instances.alive(pool),
        launched_last_hour(&ports.instances, config, now_ms),
        stopped_last_hour(&ports.decisions, config, tick),
        in_time(ended(&ports.instances, config, now_ms)),
        in_time(ports.tasks.open(pool)),
        in_time(ports.tasks.arrival_times(pool, now_ms.saturating_sub(window_ms), now_ms)),
        in_time(ports.metrics.latest(pool, &sources, METRIC_AGE_S_MAX * 1000, now_ms)),
    );
    let head = head?;
    let (open, arrivals_ms) = (known("tasks", open), known("arrivals", arrivals));
    let (alive, ended) = (alive?, known("spending", ended).flatten());
    let observation =
        Observation { fleet: fleet(&alive), ..observe(config, &head, no_capacity?, &open, &arrivals_ms, now_ms) };
    let observation = with_metrics(observation, known("metrics", metrics), now_ms);
    Ok(Collected {
        head,
        switch: switch?,
        past: past?,
        launched_last_hour: launched?,
        stopped_last_hour: stopped?,
        draining: draining(&alive),
        observation,
        rate: alive.iter().map(|r| NanoUsd::of(r.usd_per_hour)).sum(),
        spent: ended.and_then(|ended| money::spent_by(alive.iter().chain(&ended), now_ms)),
        cores_wanted: open.map(|tasks| cores_wanted(&tasks, now_ms)),
        arrivals_ms,
    })
}

/// Cores of the tasks that the observation counts as waiting or running.
fn cores_wanted(open: &[TaskRecord], now_ms: u64) -> f64 {
    let counted = open.iter().filter(|t| t.state() != TaskState::Finished && t.submitted_ms <= now_ms);
    counted.map(|t| f64::from(t.cores)).sum()
}

/// A read that may take so long and no longer: a million new tasks must not cost the tick.
async fn in_time<T>(read: impl Future<Output = Port<T>>) -> Port<T> {
    tokio::time::timeout(SOURCE_TIMEOUT, read).await.unwrap_or_else(|_| {
        let message = format!("no whole answer in {SOURCE_TIMEOUT:?}");
        Err(PortError { operation: "collect", code: "Timeout".into(), message, kind: Kind::Unavailable })
    })
}

/// A source whose failure makes the observation doubtful and nothing worse.
fn known<T>(source: &str, result: Port<T>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(source, %error, "source is missing at this tick")).ok()
}

async fn launched_last_hour<I: Instances>(instances: &I, config: &PoolConfig, now_ms: u64) -> Port<u32> {
    if config.launches_per_hour_max.is_none() {
        return Ok(0);
    }
    let records = instances.launched(&config.pool, (now_ms + 1).saturating_sub(3_600_000), now_ms).await?;
    Ok(records.iter().filter(|r| r.decision.is_some()).count() as u32)
}

/// As the check of a plan counts them: by their claims, for a record does not say who ended its machine.
async fn stopped_last_hour<D: Decisions>(decisions: &D, config: &PoolConfig, tick: u64) -> Port<u32> {
    if config.stops_per_hour_max.is_none() {
        return Ok(0);
    }
    let log = decisions.range(&config.pool, tick.saturating_sub(earlier::look_back_s(config)), tick).await?;
    Ok(earlier::stops_of_last_hour(&earlier::before(&log, u64::MAX), tick * 1000))
}

/// Machines that ended or were launched in the time that money caps count; none if the pool has no such caps.
async fn ended<I: Instances>(instances: &I, config: &PoolConfig, now_ms: u64) -> Port<Option<Vec<InstanceRecord>>> {
    match money::spending_since_ms(config, now_ms) {
        Some(from_ms) => instances.since(&config.pool, from_ms).await.map(Some),
        None => Ok(None),
    }
}

/// Machines by size, by whether their worker takes tasks. Those that drain are as good as gone.
fn fleet(alive: &[InstanceRecord]) -> [Counts; SIZE_COUNT] {
    let mut fleet = [Counts::default(); SIZE_COUNT];
    for record in alive.iter().filter(|r| r.size < SIZE_COUNT && r.drain.is_none()) {
        match record.ready_ms {
            Some(_) => fleet[record.size].ready += 1,
            None => fleet[record.size].booting += 1,
        }
    }
    fleet
}

/// Machines by size that drain.
fn draining(alive: &[InstanceRecord]) -> [u32; SIZE_COUNT] {
    let mut draining = [0; SIZE_COUNT];
    alive.iter().filter(|r| r.size < SIZE_COUNT && r.drain.is_some()).for_each(|r| draining[r.size] += 1);
    draining
}

/// The observation without machines and outside metrics.
fn observe(
    config: &PoolConfig,
    head: &Head,
    no_capacity: NoCapacity,
    open: &Option<Vec<TaskRecord>>,
    arrivals: &Option<Vec<u64>>,
    now_ms: u64,
) -> Observation {
    let in_state = |state: TaskState| {
        open.as_ref().map(|t| t.iter().filter(move |t| t.state() == state && t.submitted_ms <= now_ms))
    };
    let waiting: Option<Vec<u64>> = in_state(TaskState::Waiting).map(|t| t.map(|t| t.submitted_ms).collect());
    let seconds_since = |ms: u64| now_ms.saturating_sub(ms) as f64 / 1000.0;
    let step_ms = config.tick_s * 1000;
    let ratio_since = |from_ms: u64| -> Option<f64> {
        let submitted = arrivals.as_ref()?.iter().filter(|t| **t > from_ms).count();
        let waiting = waiting.as_ref()?.iter().filter(|t| **t > from_ms).count();
        Some(if submitted == 0 { 0.0 } else { waiting as f64 / submitted as f64 })
    };
    Observation {
        version: OBSERVATION_VERSION,
        queue_depth: waiting.as_ref().map(|w| w.len() as u32),
        running: in_state(TaskState::Running).map(|t| t.count() as u32),
        oldest_wait_s: waiting.as_ref().map(|w| w.iter().min().map_or(0.0, |t| seconds_since(*t))),
        arrivals: arrivals.as_ref().map(|a| a.iter().filter(|t| **t > now_ms.saturating_sub(step_ms)).count() as u32),
        since_arrival_s: arrivals.as_ref().map(|a| a.iter().max().map_or(WAIT_WINDOW_S as f64, |t| seconds_since(*t))),
        wait_ratio_window: ratio_since(now_ms.saturating_sub(WAIT_WINDOW_S * 1000)),
        wait_ratio_recent: ratio_since(now_ms.saturating_sub(step_ms)),
        last_action: head.last_action,
        // Before the first claim there is no action to count from; the twin's episodes begin at 0 as well.
        since_action_s: if head.generation == 0 { 0.0 } else { seconds_since(head.last_action_ms) },
        cooldown_left_s: head.next_allowed_ms.saturating_sub(now_ms) as f64 / 1000.0,
        no_capacity: without_capacity(config, &no_capacity, now_ms),
        ..Observation::empty(config.cores())
    }
}

/// Adds the outside metrics that are young enough and possible.
fn with_metrics(o: Observation, points: Option<Vec<Option<Point>>>, now_ms: u64) -> Observation {
    let points = points.unwrap_or_default();
    let get = |i: usize| points.get(i).copied().flatten().and_then(|p| believable(p, now_ms));
    Observation { cpu_util_avg: get(0), cpu_util_p90: get(1), mem_util_avg: get(2), mem_util_p90: get(3), ..o }
}

/// A share that is young enough, finite and between 0 and 1.
fn believable(point: Point, now_ms: u64) -> Option<f64> {
    let young = point.at_ms <= now_ms && now_ms - point.at_ms <= METRIC_AGE_S_MAX * 1000;
    (young && (0.0..=1.0).contains(&point.value)).then_some(point.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_absurd_and_future_points_are_missing() {
        let now_ms = 10_000_000;
        let at = |age_s: u64, value: f64| believable(Point { at_ms: now_ms - age_s * 1000, value }, now_ms);
        assert_eq!(at(60, 0.5), Some(0.5));
        assert_eq!(at(METRIC_AGE_S_MAX, 0.5), Some(0.5));
        assert_eq!(at(METRIC_AGE_S_MAX + 1, 0.5), None);
        for absurd in [-0.1, 1.1, 55.0, f64::NAN, f64::INFINITY] {
            assert_eq!(at(60, absurd), None);
        }
        assert_eq!(believable(Point { at_ms: now_ms + 1, value: 0.5 }, now_ms), None);
    }
}
