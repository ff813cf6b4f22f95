//! What the records say about boots, run times, failed launches and the delay of metrics: the parameters of the twin.
//!
//! Boots that were observed are drawn from as they are, and run times are those of the window's own tasks; the rest is put into the
//! twin by [`Fit::apply`].

use contract::decision::{Decision, Outcome};
use contract::record::{InstanceRecord, TaskRecord};
use serde::Serialize;
use twin::boot::LaunchFailures;
use twin::{BootModel, Ec2Profile, SimConfig, TimeRange};

use crate::recorded::{Recorded, Window};
use crate::replay::serves;

/// Boots above this are the long tail of the EC2 profile, seconds.
const BOOT_TAIL_S: f64 = 180.0;
/// Fewest observations of a distribution.
const OBSERVATIONS_MIN: usize = 5;
/// Fewest outages of capacity that say how often there is one.
const OUTAGES_MIN: usize = 2;
/// Candidates for the part of a boot that never varies, as shares of the shortest boot.
const SHIFTS: usize = 50;
/// Longest delay of a metric that is looked for, ticks.
const LAG_TICKS_MAX: usize = 10;
/// What the worst delay explains less than the best one at least, mean absolute difference of utilisation: a load that hardly
/// changes says nothing of delays.
const LAGS_DIFFER_MIN: f64 = 0.01;

/// Everything that could be fitted; none where there are too few records.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// From launch to ready.
    pub boot: Option<BootFit>,
    /// Of finished tasks.
    pub runtime: Option<RuntimeFit>,
    /// Of launches that were tried.
    pub failures: Option<FailureFit>,
    /// Of the mean CPU utilisation, against what tasks and machines say.
    pub metric: Option<MetricFit>,
}

/// Boot times, and the law that fits them best.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BootFit {
    /// Boots seen.
    pub count: usize,
    /// Median, seconds.
    pub median_s: f64,
    /// 95th percentile, seconds.
    pub p95_s: f64,
    /// A shifted log-normal with its tail.
    pub model: BootModel,
}

/// Run times as a log-normal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RuntimeFit {
    /// Runs seen.
    pub count: usize,
    /// Mean, seconds.
    pub mean_s: f64,
    /// Median, seconds.
    pub median_s: f64,
    /// Standard deviation of the logarithm.
    pub log_sigma: f64,
}

/// Launches without capacity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FailureFit {
    /// Launches tried.
    pub launches: usize,
    /// Of them, those that failed for lack of capacity.
    pub failed: usize,
    /// Times that a size had no capacity until a launch worked again, however many failed meanwhile.
    pub outages: usize,
    /// Mean time from the first failure of a size to its next launch that worked, or to its last that failed, seconds; none
    /// without either.
    pub mean_down_s: Option<f64>,
    /// Mean time with capacity between two outages, seconds; none without one.
    pub mean_up_s: Option<f64>,
}

/// How late a metric is, and how often it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricFit {
    /// Ticks compared.
    pub count: usize,
    /// The delay; none where there are too few ticks to compare, or all delays explain the metric as well.
    pub delay: Option<DelayFit>,
    /// Share of the ticks with a machine in service at which the metric was missing.
    pub gap_share: f64,
}

/// The delay that explains a metric best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DelayFit {
    /// Seconds, in whole ticks.
    pub delay_s: f64,
    /// What is left unexplained at that delay: mean absolute difference of utilisation.
    pub error: f64,
}

impl Fit {
    /// Puts into a twin's settings what a policy of the pool has to live with: outages of capacity, and metrics that are late or
    /// missing. Where the records say nothing of them they are those of [`Ec2Profile`]: a few hours without an outage are no
    /// reason to believe that there are none.
    pub fn apply(&self, config: &mut SimConfig) {
        let assumed = Ec2Profile::default();
        let seen = self.failures.as_ref().and_then(FailureFit::launch_failures);
        config.launch_failures = seen.unwrap_or(assumed.launch_failures);
        let delay = self.metric.and_then(|metric| metric.delay);
        config.metric_delay = Some(delay.map_or(assumed.metric_delay, |delay| delay.range()));
        config.metric_gap_probability = self.metric.map_or(assumed.metric_gap_probability, |metric| metric.gap_share);
    }
}

impl FailureFit {
    /// What a twin may take for the pool's own: one outage says nothing of how often there is one.
    fn launch_failures(&self) -> Option<LaunchFailures> {
        if self.launches < OBSERVATIONS_MIN || self.outages < OUTAGES_MIN {
            return None;
        }
        let (mean_up_s, mean_down_s) = self.mean_up_s.zip(self.mean_down_s)?;
        (mean_up_s > 0.0 && mean_down_s > 0.0).then_some(LaunchFailures::Outages { mean_up_s, mean_down_s })
    }
}

impl DelayFit {
    fn range(&self) -> TimeRange {
        let ms = (1000.0 * self.delay_s) as u64;
        TimeRange { low_ms: ms, high_ms: ms }
    }
}

/// Fits everything.
pub fn fit(recorded: &Recorded) -> Fit {
    Fit {
        boot: boot(&recorded.history().boots_s),
        runtime: runtime(&recorded.tasks),
        failures: failures(&recorded.decisions, recorded.window),
        metric: metric(recorded),
    }
}

/// The shifted log-normal of greatest likelihood (the shift by a search, the rest in closed form) for the boots below
/// 180 s, and the share of those above.
pub fn boot(boots_s: &[f64]) -> Option<BootFit> {
    let mut sorted = boots_s.to_vec();
    sorted.sort_by(f64::total_cmp);
    let body = &sorted[..sorted.partition_point(|s| *s < BOOT_TAIL_S)];
    if body.len() < OBSERVATIONS_MIN || body[0] <= 0.0 {
        return None;
    }
    let shifts = (0..SHIFTS).map(|i| body[0] * i as f64 / SHIFTS as f64);
    let laws = shifts.map(|shift_s| (shift_s, log_normal(body.iter().map(|s| s - shift_s))));
    let best = laws.max_by(|a, b| a.1.log_likelihood.total_cmp(&b.1.log_likelihood)).expect("there are shifts");
    let tail = &sorted[body.len()..];
    let model = BootModel::Lognormal {
        shift_s: best.0,
        median_s: best.1.mu.exp(),
        sigma: best.1.sigma,
        tail_probability: tail.len() as f64 / sorted.len() as f64,
        tail_low_s: tail.first().copied().unwrap_or(BOOT_TAIL_S),
        tail_high_s: tail.last().copied().unwrap_or(BOOT_TAIL_S),
        seed: 0,
    };
    Some(BootFit { count: sorted.len(), median_s: percentile(&sorted, 50), p95_s: percentile(&sorted, 95), model })
}

/// Nearest rank, of ascending values; 0 of nothing.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n => sorted[(percent * n).div_ceil(100).max(1) - 1],
    }
}

/// A log-normal law with how well it explains what it was fitted to.
struct LogNormal {
    mu: f64,
    sigma: f64,
    log_likelihood: f64,
}

/// Maximum likelihood of a log-normal: mean and standard deviation of the logarithms.
fn log_normal(values: impl Iterator<Item = f64>) -> LogNormal {
    let logs: Vec<f64> = values.map(f64::ln).collect();
    let n = logs.len() as f64;
    let mu = logs.iter().sum::<f64>() / n;
    // boots that are all alike have no spread, whose likelihood would be infinite
    let sigma = (logs.iter().map(|x| (x - mu).powi(2)).sum::<f64>() / n).sqrt().max(1e-3);
    LogNormal { mu, sigma, log_likelihood: -n * sigma.ln() - logs.iter().sum::<f64>() }
}

/// The log-normal of the finished runs.
pub fn runtime(tasks: &[TaskRecord]) -> Option<RuntimeFit> {
    let run_s = |t: &TaskRecord| Some(t.finished_ms?.checked_sub(t.started_ms?)?.max(1) as f64 / 1000.0);
    let mut runs_s: Vec<f64> = tasks.iter().filter_map(run_s).collect();
    runs_s.sort_by(f64::total_cmp);
    (runs_s.len() >= OBSERVATIONS_MIN).then(|| RuntimeFit {
        count: runs_s.len(),
        mean_s: runs_s.iter().sum::<f64>() / runs_s.len() as f64,
        median_s: percentile(&runs_s, 50),
        log_sigma: log_normal(runs_s.iter().copied()).sigma,
    })
}

/// Launches that were carried out or failed for lack of capacity, in order, each with its size and time in seconds.
fn launches(decisions: &[Decision]) -> Vec<(usize, u64, bool)> {
    let launch = |d: &Decision| {
        let worked = match d.intent.as_ref()?.outcome.as_ref()? {
            Outcome::Launched { .. } => true,
            Outcome::NoCapacity { .. } => false,
            _ => return None,
        };
        Some((d.action.size()?, d.tick, worked))
    };
    decisions.iter().filter_map(launch).collect()
}

/// How often launches fail and for how long a size then has no capacity. Of an outage that no launch has ended nothing is known
/// after the last one that failed, so that a single failure without a further try says nothing.
pub fn failures(decisions: &[Decision], window: Window) -> Option<FailureFit> {
    let (launches, until_ms) = (launches(decisions), window.until_ms);
    let first_s = launches.first()?.1.min(window.from_ms / 1000);
    let (mut outages_s, mut open_s) = (Vec::new(), Vec::new());
    for size in 0..contract::SIZE_COUNT {
        let mut began: Option<(u64, u64)> = None;
        for (_, at_s, worked) in launches.iter().filter(|l| l.0 == size) {
            match (began, worked) {
                (since, false) => began = Some((since.map_or(*at_s, |(first, _)| first), *at_s)),
                (Some((first, _)), true) => {
                    outages_s.push((at_s - first) as f64);
                    began = None;
                }
                (None, true) => {}
            }
        }
        open_s.extend(began.filter(|(first, last)| last > first).map(|(first, last)| (last - first) as f64));
    }
    let ended = outages_s.len();
    outages_s.append(&mut open_s);
    let n = outages_s.len() as f64;
    let down_s: f64 = outages_s.iter().sum();
    let span_s = contract::SIZE_COUNT as f64 * (until_ms / 1000).saturating_sub(first_s) as f64;
    Some(FailureFit {
        launches: launches.len(),
        failed: launches.iter().filter(|l| !l.2).count(),
        outages: ended,
        mean_down_s: (n > 0.0).then(|| down_s / n),
        mean_up_s: (n > 0.0).then(|| (span_s - down_s).max(0.0) / n),
    })
}

/// How often the metric was missing at ticks with a machine in service (without one there is none to miss), and how late it was;
/// none where there are too few of these ticks.
pub fn metric(recorded: &Recorded) -> Option<MetricFit> {
    let counts = |d: &&Decision| {
        let at_ms = d.tick * 1000;
        at_ms >= recorded.window.from_ms && recorded.instances.iter().any(|i| serves(i, at_ms))
    };
    let decisions: Vec<&Decision> = recorded.decisions.iter().filter(counts).collect();
    if decisions.len() < OBSERVATIONS_MIN {
        return None;
    }
    let seen: Vec<(u64, f64)> =
        decisions.iter().filter_map(|d| Some((d.tick * 1000, d.measured().cpu_util_avg?))).collect();
    let longest_ms = LAG_TICKS_MAX as u64 * recorded.config.tick_s * 1000;
    let usable: Vec<(u64, f64)> =
        seen.iter().filter(|(at_ms, _)| *at_ms >= recorded.window.from_ms + longest_ms).copied().collect();
    let gap_share = 1.0 - seen.len() as f64 / decisions.len() as f64;
    Some(MetricFit { count: usable.len(), delay: delay(recorded, &usable), gap_share })
}

/// The delay at which the mean utilisation that tasks and machines show is nearest to what was seen.
fn delay(recorded: &Recorded, seen: &[(u64, f64)]) -> Option<DelayFit> {
    if seen.len() < OBSERVATIONS_MIN {
        return None;
    }
    let tick_s = recorded.config.tick_s;
    let error = |lag: usize| {
        let before_ms = lag as u64 * tick_s * 1000;
        let differences = seen.iter().map(|(at_ms, seen)| (seen - utilisation(recorded, at_ms - before_ms)).abs());
        differences.sum::<f64>() / seen.len() as f64
    };
    let errors: Vec<f64> = (0..=LAG_TICKS_MAX).map(error).collect();
    let best = (0..errors.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b])).expect("there are lags");
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let delay_s = (best as u64 * tick_s) as f64;
    (worst - errors[best] >= LAGS_DIFFER_MIN).then_some(DelayFit { delay_s, error: errors[best] })
}

/// Mean share of busy cores over the machines in service at a time; 0 of none.
fn utilisation(recorded: &Recorded, at_ms: u64) -> f64 {
    let runs =
        |t: &&TaskRecord| t.started_ms.is_some_and(|ms| ms <= at_ms) && t.finished_ms.is_none_or(|ms| ms > at_ms);
    let mut busy: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
    for task in recorded.tasks.iter().filter(runs) {
        if let Some(id) = &task.instance_id {
            *busy.entry(id).or_default() += task.cores;
        }
    }
    let share = |i: &InstanceRecord| {
        let cores = recorded.config.sizes.get(i.size)?.cores;
        Some(f64::from(busy.get(i.instance_id.as_str()).copied().unwrap_or(0)) / f64::from(cores))
    };
    let in_service = recorded.instances.iter().filter(|i| serves(i, at_ms));
    let shares: Vec<f64> = in_service.filter_map(share).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Action;
    use contract::decision::{Intent, IntentState};
    use testkit::builders::{decision, instance, pool_config, task};

    #[test]
    fn boots_drawn_from_the_ec2_law_are_fitted_back() {
        let boots = BootModel::ec2().draw_s(3, 2000);
        let fit = boot(&boots).unwrap();
        let BootModel::Lognormal { shift_s, median_s, sigma, tail_probability, .. } = fit.model else { panic!() };
        assert!((fit.median_s - 45.0).abs() < 1.5, "{fit:?}");
        assert!((shift_s + median_s - 45.0).abs() < 1.5 && (0.3..0.6).contains(&sigma), "{fit:?}");
        assert!(tail_probability < 0.02, "{fit:?}");
    }

    #[test]
    fn too_few_or_equal_boots_are_no_trouble() {
        assert_eq!(boot(&[50.0; 4]), None);
        let BootModel::Lognormal { shift_s, median_s, .. } = boot(&[50.0; 9]).unwrap().model else { panic!() };
        assert!((shift_s + median_s - 50.0).abs() < 1e-6);
    }

    #[test]
    fn run_times_by_hand() {
        let ran = |ms: u64| TaskRecord { started_ms: Some(0), finished_ms: Some(ms), ..task("p", "t", 0) };
        let fit = runtime(&[ran(1000), ran(1000), ran(2000), ran(4000), ran(4000)]).unwrap();
        assert_eq!((fit.count, fit.mean_s, fit.median_s), (5, 2.4, 2.0));
        // logarithms −ln 2, −ln 2, 0, ln 2, ln 2 around ln 2
        assert!((fit.log_sigma - (0.8f64).sqrt() * 2f64.ln()).abs() < 1e-9);
    }

    fn tried(tick: u64, size: u16, worked: bool) -> Decision {
        let outcome = if worked {
            Outcome::Launched { instance_ids: vec!["i".into()] }
        } else {
            Outcome::NoCapacity { code: "InsufficientInstanceCapacity".into() }
        };
        let mut d = decision("p", tick, Action::Launch(size, 1));
        d.intent = Some(Intent {
            state: IntentState::Settled,
            generation: 1,
            claimed_ms: 0,
            plan: None,
            outcome: Some(outcome),
        });
        d
    }

    #[test]
    fn outages_by_hand() {
        let decisions =
            [tried(0, 0, true), tried(60, 0, false), tried(120, 1, true), tried(240, 0, false), tried(360, 0, true)];
        let window = Window { from_ms: 0, until_ms: 400_000 };
        let fit = failures(&decisions, window).unwrap();
        assert_eq!((fit.launches, fit.failed, fit.outages, fit.mean_down_s), (5, 2, 1, Some(300.0)));
        // three sizes for 400 s, less the one outage
        assert_eq!(fit.mean_up_s, Some(900.0));
        assert_eq!(failures(&[], window), None);
        assert_eq!(fit.launch_failures(), None, "one outage may be the only one in a year");
        // the only launch of the window's last minutes fails: that is no outage for a third of the time
        let only = failures(&[tried(390, 0, false)], window).unwrap();
        assert_eq!((only.failed, only.outages, only.mean_down_s, only.mean_up_s), (1, 0, None, None));
        // one that goes on is known until its last failure
        let open = failures(&[tried(0, 0, false), tried(100, 0, false)], window).unwrap();
        assert_eq!((open.outages, open.mean_down_s, open.mean_up_s), (0, Some(100.0), Some(1100.0)));
    }

    #[test]
    fn a_metric_that_is_two_minutes_late_is_found_out() {
        let machine = InstanceRecord { ready_ms: Some(0), ..instance("p", "i-1", 0, 0) };
        let config = pool_config("p");
        let busy = |tick: u64| (tick / 60) % 7 < 3;
        let runs = (0..60u64).filter(|k| busy(k * 60)).map(|k| TaskRecord {
            started_ms: Some(k * 60_000),
            finished_ms: Some((k + 1) * 60_000),
            cores: config.sizes[0].cores,
            instance_id: Some("i-1".into()),
            ..task("p", &format!("t{k}"), k * 60_000)
        });
        let saw = |k: u64| {
            let mut d = decision("p", k * 60, Action::Nothing);
            d.observation.cpu_util_avg = (k % 5 != 4).then(|| f64::from(u8::from(k >= 2 && busy((k - 2) * 60))));
            d
        };
        let recorded = Recorded {
            tasks: runs.collect(),
            instances: vec![machine],
            decisions: (0..60).map(saw).collect(),
            config,
            window: crate::Window { from_ms: 0, until_ms: 3_600_000 },
        };
        let fit = metric(&recorded).unwrap();
        assert_eq!(fit.delay, Some(DelayFit { delay_s: 120.0, error: 0.0 }));
        assert!((fit.gap_share - 0.2).abs() < 1e-9);
        let unused = |seen: Option<f64>| Recorded {
            tasks: Vec::new(),
            decisions: (0..60).map(|k| saw_at(k, seen)).collect(),
            ..recorded.clone()
        };
        let fit = metric(&unused(Some(0.0))).unwrap();
        assert_eq!((fit.delay, fit.gap_share), (None, 0.0), "a machine that nobody uses says nothing of delays");
        assert_eq!(metric(&unused(None)), Some(MetricFit { count: 0, delay: None, gap_share: 1.0 }));
        let gone = vec![InstanceRecord { terminated_ms: Some(1_800_000), ..recorded.instances[0].clone() }];
        let fit = metric(&Recorded { instances: gone, ..recorded }).unwrap();
        assert!((fit.gap_share - 0.2).abs() < 1e-9, "without a machine there is no metric to miss: {fit:?}");
    }

    fn saw_at(k: u64, seen: Option<f64>) -> Decision {
        let mut d = decision("p", k * 60, Action::Nothing);
        d.observation.cpu_util_avg = seen;
        d
    }

    #[test]
    fn a_twin_has_what_the_records_say_and_what_is_assumed_of_ec2_where_they_say_nothing() {
        let applied = |fit: &Fit| {
            let mut config = SimConfig::default();
            fit.apply(&mut config);
            (config.launch_failures, config.metric_delay, config.metric_gap_probability)
        };
        let none = Fit { boot: None, runtime: None, failures: None, metric: None };
        let assumed = Ec2Profile::default();
        let of_ec2 = (assumed.launch_failures, Some(assumed.metric_delay), assumed.metric_gap_probability);
        assert_eq!(applied(&none), of_ec2);
        let rare = FailureFit { launches: 9, failed: 0, outages: 0, mean_down_s: None, mean_up_s: None };
        assert_eq!(applied(&Fit { failures: Some(rare), ..none.clone() }), of_ec2);
        let failures =
            Some(FailureFit { failed: 2, outages: 2, mean_down_s: Some(300.0), mean_up_s: Some(900.0), ..rare });
        let unsure = MetricFit { count: 99, delay: None, gap_share: 0.125 };
        let (failures_of_ec2, delay_of_ec2, _) = of_ec2;
        let fit = Fit { metric: Some(unsure), ..none.clone() };
        assert_eq!(applied(&fit), (failures_of_ec2, delay_of_ec2, 0.125));
        let metric = Some(MetricFit { delay: Some(DelayFit { delay_s: 240.0, error: 0.01 }), ..unsure });
        let outages = LaunchFailures::Outages { mean_up_s: 900.0, mean_down_s: 300.0 };
        let late = TimeRange { low_ms: 240_000, high_ms: 240_000 };
        assert_eq!(applied(&Fit { failures, metric, ..none }), (outages, Some(late), 0.125));
    }
}
