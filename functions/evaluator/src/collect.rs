//! Collects what is known at a tick, everything at once, and turns it into the observation.
//!
//! What cannot be read is marked as missing, never as zero. Only what no decision can do without is an error: the
//! configuration, the head, the machines' records and the last decisions.

use std::array;

use contract::action::SIZE_COUNT;
use contract::capacity::Counts;
use contract::control::{Head, KillSwitch};
use contract::decision::Decision;
use contract::limits::{METRIC_WINDOW_S, QUEUE_ROWS_MAX, WAIT_WINDOW_S};
use contract::observation::{OBSERVATION_VERSION, Observation, Work};
use contract::pool::{MetricSource, OUTSIDE_METRICS, PoolConfig};
use contract::record::{InstanceRecord, NoCapacity, TaskRecord, TaskState};
use controller::earlier;
use controller::money::{self, NanoUsd, Spent};
use controller::offering::without_capacity;
use controller::outage::looks_back;
use controller::plan::load_by_machine;
use controller::ports::{Control, Decisions, Instances, Metrics, Point, Port, Tasks};
use controller::series::{Cause, Reading, reading};

use crate::deadline::Deadline;
use crate::handler::Ports;
use crate::ladder::Doubts;

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
    /// Why an outside metric is missing, by its name.
    pub doubts: Doubts,
    /// What an hour of all machines costs, by their records.
    pub rate: NanoUsd,
    /// What was spent, if money caps need to know it and it can be read.
    pub spent: Option<Spent>,
    /// When the tasks of the last window were submitted, milliseconds, ascending.
    pub arrivals_ms: Option<Vec<u64>>,
}

/// Reads all sources concurrently. Until the deadline it waits for those that a tick can do without: a million new tasks
/// must not cost the tick.
///
/// # Errors
/// If one of the sources fails that no decision can do without.
pub async fn collect<T, I, D, C, M, P>(
    ports: &Ports<T, I, D, C, M, P>,
    config: &PoolConfig,
    tick: u64,
    deadline: Deadline,
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
        deadline.wait("ended", ended(&ports.instances, config, now_ms)),
        deadline.wait("open", ports.tasks.open(pool)),
        deadline.wait("arrival_times", ports.tasks.arrival_times(pool, now_ms.saturating_sub(window_ms), now_ms)),
        deadline.wait("series", ports.metrics.series(pool, &sources, METRIC_WINDOW_S * 1000, now_ms)),
    );
    let head = head?;
    let (open, arrivals_ms) = (known("tasks", open), known("arrivals", arrivals));
    let (alive, ended) = (alive?, known("spending", ended).flatten());
    let observation = Observation {
        fleet: fleet(&alive),
        work: open.as_ref().map(|open| work(open, &alive, now_ms)),
        ..observe(config, &head, no_capacity?, &open, &arrivals_ms, now_ms)
    };
    let readings = readings(&sources, &known("metrics", metrics).unwrap_or_default(), now_ms);
    let observation = with_metrics(observation, &readings);
    Ok(Collected {
        head,
        switch: switch?,
        past: past?,
        launched_last_hour: launched?,
        stopped_last_hour: stopped?,
        draining: draining(&alive),
        doubts: doubts(&observation, &readings),
        observation,
        rate: alive.iter().map(|r| NanoUsd::of(r.usd_per_hour)).sum(),
        spent: ended.and_then(|ended| money::spent_by(alive.iter().chain(&ended), now_ms)),
        arrivals_ms,
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

/// What the tasks ask of the machines. A stop loses what the plan's choice would, as far as the records know.
fn work(open: &[TaskRecord], alive: &[InstanceRecord], now_ms: u64) -> Work {
    let cores = |state: TaskState| {
        let counted = open.iter().filter(|t| t.state() == state && t.submitted_ms <= now_ms);
        counted.fold(0u32, |sum, task| sum.saturating_add(task.cores))
    };
    let load = load_by_machine(open, now_ms);
    let loss = |r: &InstanceRecord| load.get(r.instance_id.as_str()).map(|(_, lost_core_ms)| *lost_core_ms);
    let of_size = |size: usize| alive.iter().filter(move |r| r.size == size && r.drain.is_none());
    let least = |size: usize| of_size(size).map(|r| loss(r).unwrap_or(0)).min().unwrap_or(0);
    let worked_core_ms = load.values().fold(0u64, |sum, (_, lost_core_ms)| sum.saturating_add(*lost_core_ms));
    let running_cores = cores(TaskState::Running);
    Work {
        queue_cores: cores(TaskState::Waiting),
        running_cores,
        running_age_s: worked_core_ms as f64 / 1000.0 / f64::from(running_cores.max(1)),
        idle: array::from_fn(|size| of_size(size).filter(|r| r.ready_ms.is_some() && loss(r).is_none()).count() as u32),
        stop_loss_core_s: array::from_fn(|size| least(size) as f64 / 1000.0),
    }
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
    let unread_after_ms = open.as_ref().map_or(u64::MAX, |open| unread_after_ms(open));
    let ratio_since = |from_ms: u64| -> Option<f64> {
        let submitted_after = |ms: u64| Some(arrivals.as_ref()?.iter().filter(|t| **t > ms).count());
        let submitted = submitted_after(from_ms)?;
        let read = waiting.as_ref()?.iter().filter(|t| **t > from_ms).count();
        let waiting = read + submitted_after(from_ms.max(unread_after_ms))?;
        Some(if submitted == 0 { 0.0 } else { (waiting as f64 / submitted as f64).min(1.0) })
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
        machines_per_action_max: config.machines_per_action_max,
        drains: config.drain_s.is_some(),
        ..Observation::empty(config.cores())
    }
}

/// From when on tasks were not read, for the queue is deeper than one tick reads; whatever was submitted after that waits
/// behind what was read. Never, if all were read.
fn unread_after_ms(open: &[TaskRecord]) -> u64 {
    if open.len() < QUEUE_ROWS_MAX { u64::MAX } else { open.last().map_or(u64::MAX, |task| task.submitted_ms) }
}

/// What became of each outside metric, in the order of [`OUTSIDE_METRICS`].
type Readings = [Result<Reading, Cause>; OUTSIDE_METRICS.len()];

/// Each source's series as the value of this tick, or the reason why there is none.
fn readings(sources: &[MetricSource], series: &[Option<Vec<Point>>], now_ms: u64) -> Readings {
    std::array::from_fn(|i| {
        let points = series.get(i).and_then(Option::as_ref).ok_or(Cause::SourceFailed)?;
        reading(points, sources[i].aggregation(), now_ms)
    })
}

/// Adds the outside metrics. With no machine in service there is nobody to publish any, and a share of nothing is 0, as in
/// the twin: the policy has learned from such minutes, and may launch a pool's first machine where the minimum is 0.
fn with_metrics(o: Observation, readings: &Readings) -> Observation {
    let nobody_in_service = o.fleet.iter().all(|counts| counts.ready == 0);
    let get = |i: usize| if nobody_in_service { Some(0.0) } else { readings[i].ok().map(|reading| reading.value) };
    Observation { cpu_util_avg: get(0), cpu_util_p90: get(1), mem_util_avg: get(2), mem_util_p90: get(3), ..o }
}

/// Why each outside metric is missing that is.
fn doubts(o: &Observation, readings: &Readings) -> Doubts {
    let missing = o.missing();
    let causes = OUTSIDE_METRICS.into_iter().zip(readings).filter(|(name, _)| missing.contains(name));
    causes.filter_map(|(name, reading)| Some((name, reading.err()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::{Drain, DrainReason};
    use testkit::builders::{self, cloudwatch, observation};

    const NOW_MS: u64 = 10_000_000;

    /// What is read of four series: half, late, absurd, and of a source that failed.
    fn read() -> Readings {
        let sources = OUTSIDE_METRICS.map(cloudwatch);
        let series = |age_s: u64, value: f64| Some(vec![Point { at_ms: NOW_MS - age_s * 1000, value }]);
        readings(&sources, &[series(60, 0.5), series(600, 0.5), series(60, 55.0), None], NOW_MS)
    }

    #[test]
    fn what_cannot_be_believed_is_missing_and_its_cause_is_told() {
        let o = with_metrics(observation(), &read());
        let metrics = (o.cpu_util_avg, o.cpu_util_p90, o.mem_util_avg, o.mem_util_p90);
        assert_eq!(metrics, (Some(0.5), None, None, None));
        let expected =
            [("cpu_util_p90", Cause::Late), ("mem_util_avg", Cause::Absurd), ("mem_util_p90", Cause::SourceFailed)];
        assert_eq!(doubts(&o, &read()), expected.into());
    }

    #[test]
    fn a_stop_loses_what_the_least_busy_machine_has_done() {
        let (early, late) = (NOW_MS - 100_000, NOW_MS - 40_000);
        let machine = |id: &str, size: usize, ready: bool| InstanceRecord {
            ready_ms: ready.then_some(early),
            ..builders::instance("p", id, size, early)
        };
        let draining = InstanceRecord {
            drain: Some(Drain { until_ms: NOW_MS, why: DrainReason::Stop, since_ms: None }),
            ..machine("i-drains", 2, true)
        };
        let alive = [
            machine("i-old", 0, true),
            machine("i-new", 0, true),
            machine("i-busy", 1, true),
            machine("i-idle", 1, true),
            machine("i-busy-too", 2, true),
            draining,
        ];
        let task = |on: &str, cores: u32, started_ms: u64| TaskRecord {
            started_ms: Some(started_ms),
            instance_id: Some(on.into()),
            cores,
            ..builders::task("p", on, early)
        };
        let waiting = TaskRecord { cores: 4, ..builders::task("p", "w", late) };
        let future = TaskRecord { cores: 4, ..builders::task("p", "f", NOW_MS + 1) };
        let open = [
            task("i-old", 2, early),
            task("i-new", 2, late),
            task("i-busy", 1, early),
            task("i-busy-too", 3, late),
            task("i-drains", 2, early),
            waiting,
            future,
        ];
        let expected = Work {
            queue_cores: 4,
            running_cores: 10,
            running_age_s: (200.0 + 80.0 + 100.0 + 120.0 + 200.0) / 10.0,
            idle: [0, 1, 0],
            stop_loss_core_s: [80.0, 0.0, 120.0],
        };
        assert_eq!(work(&open, &alive, NOW_MS), expected);
        let boots = [machine("i-old", 0, true), machine("i-boots", 0, false)];
        let with_one_that_boots = work(&open, &boots, NOW_MS);
        assert_eq!((with_one_that_boots.idle[0], with_one_that_boots.stop_loss_core_s[0]), (0, 0.0));
    }

    #[test]
    fn without_a_machine_in_service_all_shares_are_zero_and_none_is_missing() {
        let booting = Counts { ready: 0, booting: 2 };
        let o = with_metrics(Observation { fleet: [booting; SIZE_COUNT], ..observation() }, &read());
        assert_eq!([o.cpu_util_avg, o.cpu_util_p90, o.mem_util_avg, o.mem_util_p90], [Some(0.0); 4]);
        assert!(!o.is_doubtful() && doubts(&o, &read()).is_empty());
    }
}
