//! Finds the settings of a rule that are cheapest on a load: a grid over all of them, then smaller and smaller steps
//! around the best (a pattern search after Hooke and Jeeves 1961).

use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use twin::{EnvSpec, Workload};

use crate::play::mean_usd_below;
use crate::rules::{Family, Rule};

/// How often the steps of the pattern search are halved.
const HALVINGS: u32 = 4;
/// Points of the grid that the pattern search starts from.
const STARTS: usize = 3;
/// Grid points that cost more than this many times the best are given up.
const HOPELESS: f64 = 2.0;
/// Moves at one step size at most.
const MOVES_MAX: u32 = 5;
/// Points of a grid of cores.
const CORE_POINTS: usize = 24;

/// A rule with the best settings found, and what it costs an episode on the seeds that it was tuned on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The rule.
    pub rule: Rule,
    /// Mean cost of an episode; infinite if no setting got all tasks done.
    pub usd: f64,
}

/// One setting: the values that the grid tries, and whether only whole numbers make sense.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    grid: Vec<f64>,
    whole: bool,
}

impl Axis {
    fn real(grid: &[f64]) -> Self {
        Self { grid: grid.to_vec(), whole: false }
    }

    fn whole(grid: &[f64]) -> Self {
        Self { grid: grid.to_vec(), whole: true }
    }

    /// The distance from a grid value to its nearest neighbour.
    fn step(&self, at: f64) -> f64 {
        let others = self.grid.iter().filter(|x| **x != at).map(|x| (x - at).abs());
        others.fold(f64::INFINITY, f64::min)
    }
}

/// The best settings of a family on the episodes of `seeds`.
pub fn tune(family: Family, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Tuned {
    if family == Family::Static {
        return tune_static(spec, seeds);
    }
    let axes = axes(family, spec);
    let cost = |at: &Vec<f64>, limit: f64| family.rule(at).map_or(f64::INFINITY, |rule| usd(rule, spec, seeds, limit));
    let (settings, usd) = search(&axes, &cost);
    Tuned { rule: family.rule(&settings).expect("only valid settings cost less than infinity"), usd }
}

/// A few settings, far apart, of each family that looks at the load and knows no number of cores: what to try on a load
/// that is not worth a search of its own.
pub fn far_apart() -> Vec<Rule> {
    let per_core = Axis::real(&[0.1, 0.2, 0.4, 0.6, 0.9, 1.2, 1.8, 2.5, 3.2, 4.5]);
    let threshold =
        [Axis::whole(&[0.0, 2.0]), Axis::real(&[4.0, 10.0, 25.0]), Axis::real(&[0.7, 0.8, 0.9, 0.97])].to_vec();
    let backlog = vec![per_core.clone(), Axis::whole(&[1.0]), Axis::whole(&[1.0, 6.0])];
    let queue = vec![per_core.clone(), Axis::whole(&[2.0, 5.0])];
    let families = [
        (Family::Threshold, threshold),
        (Family::Backlog, backlog),
        (Family::Queue, queue),
        (Family::Production, vec![per_core]),
    ];
    let rules = families.iter().flat_map(|(family, axes)| grid(axes).into_iter().map(|at| family.rule(&at)));
    rules.map(|rule| rule.expect("settings that make sense")).collect()
}

/// The best of all families: `rule:tuned`.
pub fn tune_all(spec: &Arc<EnvSpec>, seeds: &[u64]) -> Tuned {
    let all = Family::ALL.into_iter().map(|family| tune(family, spec, seeds));
    all.min_by(|a, b| a.usd.total_cmp(&b.usd)).expect("there are families")
}

/// Mean cost of an episode, infinite above `limit`. A setting that leaves tasks undone, or a fleet that cannot be, is no
/// solution at any price.
fn usd(rule: Rule, spec: &Arc<EnvSpec>, seeds: &[u64], limit: f64) -> f64 {
    mean_usd_below(&rule, spec, seeds, limit).ok().flatten().unwrap_or(f64::INFINITY)
}

fn axes(family: Family, spec: &EnvSpec) -> Vec<Axis> {
    let out_ticks = Axis::whole(&[1.0, 2.0, 3.0]);
    let in_ticks = Axis::whole(&[1.0, 2.0, 3.0, 6.0, 10.0, 15.0]);
    let per_core =
        Axis::real(&[0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0]);
    match family {
        Family::Nothing | Family::Static => Vec::new(),
        Family::Threshold => vec![
            Axis::whole(&[0.0, 1.0, 2.0]),
            Axis::real(&[0.0, 5.0, 10.0, 20.0, 40.0]),
            Axis::real(&[0.3, 0.5, 0.7, 0.8, 0.9, 1.0]),
        ],
        Family::Cpu => vec![Axis::real(&[0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99]), out_ticks, in_ticks],
        Family::Backlog => vec![per_core, out_ticks, in_ticks],
        Family::Queue => vec![per_core, Axis::whole(&[0.0, 2.0, 5.0, 10.0])],
        Family::Plateau => {
            vec![Axis::whole(&cores(spec)), Axis::real(&[60.0, 300.0, 480.0, 600.0, 900.0, 1800.0, 3000.0])]
        }
        Family::Production => vec![per_core],
    }
}

fn grid(axes: &[Axis]) -> Vec<Vec<f64>> {
    axes.iter().fold(vec![Vec::new()], |points, axis| {
        let with = |point: &Vec<f64>, x: &f64| point.iter().copied().chain([*x]).collect();
        points.iter().flat_map(|point| axis.grid.iter().map(move |x| with(point, x))).collect()
    })
}

/// The grid, then a pattern search from each of its best points. Points that cost more than [`HOPELESS`] times the best
/// are played no further than that.
fn search(axes: &[Axis], cost: &(impl Fn(&Vec<f64>, f64) -> f64 + Sync)) -> (Vec<f64>, f64) {
    let least = Mutex::new(f64::INFINITY);
    let played = |point: &Vec<f64>, _: f64| {
        let limit = HOPELESS * *least.lock().expect("nobody panics with it");
        let usd = cost(point, limit);
        let mut least = least.lock().expect("nobody panics with it");
        *least = least.min(usd);
        usd
    };
    let mut starts = ranked(grid(axes), &played, f64::INFINITY);
    // what was played to its end although it is hopeless depends on the threads' pace, and must not count
    let limit = HOPELESS * starts[0].1;
    starts.retain(|start| start.1 <= limit);
    let ends = starts.into_iter().take(STARTS).map(|start| pattern_search(axes, start, cost));
    ends.min_by(|a, b| a.1.total_cmp(&b.1)).expect("the best point is no dearer than itself")
}

/// Points with their costs, the cheapest first, equal ones in their order.
fn ranked(points: Vec<Vec<f64>>, cost: &(impl Fn(&Vec<f64>, f64) -> f64 + Sync), limit: f64) -> Vec<(Vec<f64>, f64)> {
    let mut ranked: Vec<_> = points.into_par_iter().map(|point| (cost(&point, limit), point)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.into_iter().map(|(usd, point)| (point, usd)).collect()
}

fn pattern_search(
    axes: &[Axis],
    start: (Vec<f64>, f64),
    cost: &(impl Fn(&Vec<f64>, f64) -> f64 + Sync),
) -> (Vec<f64>, f64) {
    let mut steps: Vec<f64> = axes.iter().zip(&start.0).map(|(axis, x)| axis.step(*x)).collect();
    let mut best = start;
    for _ in 0..HALVINGS {
        steps.iter_mut().for_each(|step| *step /= 2.0);
        for _ in 0..MOVES_MAX {
            let around = ranked(neighbours(axes, &best.0, &steps), cost, best.1).into_iter().next();
            let Some(next) = around.filter(|next| next.1 < best.1) else { break };
            best = next;
        }
    }
    best
}

fn neighbours(axes: &[Axis], at: &[f64], steps: &[f64]) -> Vec<Vec<f64>> {
    let mut around = Vec::new();
    for (i, axis) in axes.iter().enumerate() {
        for sign in [-1.0, 1.0] {
            let step = if axis.whole { steps[i].ceil() } else { steps[i] };
            // settings that people can read: four digits are more than a rule can feel
            let x = ((at[i] + sign * step) * 1e4).round() / 1e4;
            if step.is_finite() && x >= 0.0 {
                around.push(at.iter().enumerate().map(|(j, old)| if j == i { x } else { *old }).collect());
            }
        }
    }
    around
}

/// The cheapest static fleet: as many of the largest machines as fit beside the minimum of the others.
fn tune_static(spec: &Arc<EnvSpec>, seeds: &[u64]) -> Tuned {
    let fleets = |cores: &Vec<f64>| fleet_of(spec, cores[0] as u32).map(Rule::Static);
    let cost = |cores: &Vec<f64>, limit: f64| fleets(cores).map_or(f64::INFINITY, |rule| usd(rule, spec, seeds, limit));
    let axes = [Axis::whole(&cores(spec))];
    let (best, usd) = search(&axes, &cost);
    Tuned { rule: fleets(&best).unwrap_or(Rule::Static(kept(spec))), usd }
}

fn kept(spec: &EnvSpec) -> [u32; contract::SIZE_COUNT] {
    std::array::from_fn(|i| spec.config().types[i].bounds.min())
}

/// A fleet of `cores` cores within the bounds, or of the most cores below that the greedy choice finds.
fn fleet_of(spec: &EnvSpec, cores: u32) -> Option<[u32; contract::SIZE_COUNT]> {
    let types = &spec.config().types;
    let mut fleet = kept(spec);
    let mut left = cores.checked_sub(fleet.iter().zip(types).map(|(n, t)| n * t.cores).sum())?;
    let mut order: [usize; contract::SIZE_COUNT] = std::array::from_fn(|i| i);
    order.sort_by_key(|i| std::cmp::Reverse(types[*i].cores));
    for i in order {
        let room = types[i].bounds.max().map_or(u32::MAX, |max| max - fleet[i]);
        let more = (left / types[i].cores).min(room);
        fleet[i] += more;
        left -= more * types[i].cores;
    }
    Some(fleet)
}

/// Numbers of cores from the kept ones to the most that could ever be busy at once, evenly by ratio.
fn cores(spec: &EnvSpec) -> Vec<f64> {
    let kept: u32 = kept(spec).iter().zip(&spec.config().types).map(|(n, t)| n * t.cores).sum();
    let low = f64::from(kept.max(1));
    let high = spec.workloads().iter().map(|w| busy_cores_max(w)).max().unwrap_or(1);
    let ratio = (high as f64 / low).max(1.0);
    let mut grid: Vec<f64> =
        (0..CORE_POINTS).map(|i| (low * ratio.powf(i as f64 / (CORE_POINTS - 1) as f64)).round()).collect();
    grid.dedup();
    grid
}

/// The most cores that are busy at once if no task ever waits.
fn busy_cores_max(workload: &Workload) -> u64 {
    let mut changes: Vec<(u64, i64)> = Vec::with_capacity(2 * workload.jobs().len());
    for job in workload.jobs() {
        changes.push((job.submit_ms, i64::from(job.cores)));
        changes.push((job.submit_ms + job.runtime_ms, -i64::from(job.cores)));
    }
    // at one time the ends come first, as in rule T2
    changes.sort_unstable();
    let busy = changes.iter().scan(0i64, |busy, (_, change)| {
        *busy += change;
        Some(*busy)
    });
    busy.max().unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin::Job;

    #[test]
    fn the_most_busy_cores_by_hand() {
        let job = |submit_ms, runtime_ms, cores| Job { id: 0, submit_ms, runtime_ms, cores, memory_mb: 0 };
        let load = Workload::new(vec![job(0, 10, 2), job(5, 10, 3), job(10, 5, 4)]);
        assert_eq!(busy_cores_max(&load), 7);
    }

    #[test]
    fn a_pattern_search_finds_the_lowest_point_between_grid_values() {
        let axes = [Axis::real(&[0.0, 4.0, 8.0]), Axis::whole(&[0.0, 10.0])];
        let cost = |x: &Vec<f64>, _: f64| (x[0] - 5.3).powi(2) + (x[1] - 7.0).powi(2);
        let (best, _) = search(&axes, &cost);
        assert!((best[0] - 5.3).abs() <= 0.25 && best[1] == 7.0, "{best:?}");
    }

    #[test]
    fn rules_far_apart_all_differ() {
        let rules = far_apart();
        assert_eq!(rules.len(), 2 * 3 * 4 + 10 * 2 + 10 * 2 + 10);
        assert!(rules.iter().enumerate().all(|(i, rule)| !rules[..i].contains(rule)));
    }

    /// twin.md's table: tuned rules are at least as good as its rows, in the order nothing to plateau; the published
    /// load's other order has its own column.
    #[test]
    fn tuned_rules_are_at_least_as_good_as_the_published_ones() {
        let rows = [
            (Family::Nothing, [247.53, 260.73]),
            (Family::Static, [22.55, 26.24]),
            (Family::Cpu, [31.82, 29.69]),
            (Family::Threshold, [22.77, 22.09]),
            (Family::Backlog, [20.25, 19.64]),
            (Family::Queue, [20.21, 19.75]),
            (Family::Plateau, [20.19, 29.85]),
        ];
        let spec = Arc::new(EnvSpec::published());
        for (family, table) in rows {
            for (order, published) in table.into_iter().enumerate() {
                let tuned = tune(family, &spec, &[order as u64]);
                assert!(tuned.usd <= published + 0.005, "{}: {} in order {order}", tuned.rule, tuned.usd);
            }
        }
    }
}
