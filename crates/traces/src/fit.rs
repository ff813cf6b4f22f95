//! Tasks that are wider than the largest machine: split into parts that fit, or refused.

use twin::{Job, MachineType};

use crate::error::TraceError;
use crate::limits::JOBS_MAX;

/// What becomes of tasks that no machine type holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// They become several tasks of the same submission and run time. The parts are independent: they may run one after
    /// another, which the whole could not.
    Split,
    /// They are an error.
    Refuse,
}

/// Jobs that all fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitted {
    /// The jobs, in the order of service and numbered from 0 in that order.
    pub jobs: Vec<Job>,
    /// Tasks that were split.
    pub split: usize,
    /// Jobs that they became.
    pub pieces: usize,
}

/// Makes every job fit on some machine type. Cores are shared out as evenly as possible and memory in proportion to
/// them, so that the sums of cores and of memory stay what they are.
///
/// # Errors
/// [`TraceError::TooWide`] where wide tasks are refused, [`TraceError::Unsplittable`] for tasks whose memory is too much
/// even for their number of machines, [`TraceError::TooManyJobs`] if the parts are too many.
pub fn fit(mut jobs: Vec<Job>, types: &[MachineType], width: Width) -> Result<Fitted, TraceError> {
    jobs.sort_by_key(|job| (job.submit_ms, job.id));
    let is_wide = |job: &&Job| !types.iter().any(|kind| kind.holds(job));
    let count = jobs.iter().filter(is_wide).count();
    if let (Width::Refuse, Some(job)) = (width, jobs.iter().find(is_wide)) {
        return Err(TraceError::TooWide { count, id: job.id, cores: job.cores, memory_mb: job.memory_mb });
    }
    let mut stuck = jobs.iter().filter(|job| widest_cores(job, types) == 0);
    if let Some(job) = stuck.next() {
        let count = 1 + stuck.count();
        return Err(TraceError::Unsplittable { count, id: job.id, cores: job.cores, memory_mb: job.memory_mb });
    }
    let mut fitted = Fitted::default();
    for job in &jobs {
        fitted.add(job, types)?;
    }
    Ok(fitted)
}

impl Fitted {
    fn add(&mut self, job: &Job, types: &[MachineType]) -> Result<(), TraceError> {
        let n = job.cores.max(1).div_ceil(widest_cores(job, types));
        if self.jobs.len() + n as usize > JOBS_MAX {
            return Err(TraceError::TooManyJobs { max: JOBS_MAX });
        }
        if n > 1 {
            self.split += 1;
            self.pieces += n as usize;
        }
        for piece in pieces(job, n) {
            debug_assert!(types.iter().any(|kind| kind.holds(&piece)), "{piece:?} of {job:?} fits");
            self.jobs.push(Job { id: self.jobs.len() as i64, ..piece });
        }
        Ok(())
    }
}

/// The most cores of `job`, with their share of its memory, that some machine type holds; 0 if none holds even one.
///
/// A part of `q` of `c` cores has at most `ceil(m q / c)` of the memory `m`, which is at most `M` if and only if
/// `q <= M c / m`.
fn widest_cores(job: &Job, types: &[MachineType]) -> u32 {
    let cores = job.cores.max(1);
    let by_memory = |kind: &MachineType| match kind.memory_mb {
        Some(limit) if job.memory_mb > 0 => u128::from(limit) * u128::from(cores) / u128::from(job.memory_mb),
        _ => u128::MAX,
    };
    let widest = types.iter().map(|kind| by_memory(kind).min(u128::from(kind.cores.min(cores))));
    widest.max().map_or(0, |q| q as u32)
}

/// `job` in `n` parts. The first `cores % n` have one core more than the others; memory is cut where the cores are.
fn pieces(job: &Job, n: u32) -> impl Iterator<Item = Job> {
    let job = *job;
    let cut = move |i: u32| i * (job.cores / n) + i.min(job.cores % n);
    let memory_before = move |cores: u32| {
        let part = u128::from(job.memory_mb) * u128::from(cores) / u128::from(job.cores.max(1));
        part as u64
    };
    (0..n).map(move |i| {
        let (from, to) = (cut(i), cut(i + 1));
        let memory_mb = if n == 1 { job.memory_mb } else { memory_before(to) - memory_before(from) };
        Job { cores: to - from, memory_mb, ..job }
    })
}

#[cfg(test)]
mod tests {
    use contract::capacity::Bounds;
    use proptest::prelude::*;

    use super::*;

    fn kind(cores: u32, memory_mb: Option<u64>) -> MachineType {
        let bounds = Bounds::new(0, None).unwrap();
        MachineType {
            name: format!("T{cores}"),
            cores,
            memory_mb,
            usd_per_hour: 0.1,
            initial: 0,
            bounds,
            spot_interruptions_per_hour: 0.0,
        }
    }

    fn job(id: i64, cores: u32, memory_mb: u64) -> Job {
        Job { id, submit_ms: 5, runtime_ms: 7, cores, memory_mb }
    }

    fn sizes(fitted: &Fitted) -> Vec<(i64, u32, u64)> {
        fitted.jobs.iter().map(|j| (j.id, j.cores, j.memory_mb)).collect()
    }

    #[test]
    fn cores_are_shared_out_evenly_and_memory_with_them() {
        let fitted = fit(vec![job(9, 10, 1000), job(3, 2, 8)], &[kind(4, None)], Width::Split).unwrap();
        assert_eq!(sizes(&fitted), [(0, 2, 8), (1, 4, 400), (2, 3, 300), (3, 3, 300)]);
        assert_eq!((fitted.split, fitted.pieces), (1, 3));
        assert!(fitted.jobs.iter().all(|j| (j.submit_ms, j.runtime_ms) == (5, 7)));
    }

    #[test]
    fn memory_alone_can_be_too_much() {
        let types = [kind(8, Some(100)), kind(2, Some(250))];
        let fitted = fit(vec![job(0, 4, 400)], &types, Width::Split).unwrap();
        assert_eq!(sizes(&fitted), [(0, 2, 200), (1, 2, 200)]);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let fitted = fit(vec![job(4, 8, 100), job(5, 1, 0)], &[kind(8, Some(100))], Width::Refuse).unwrap();
        assert_eq!(sizes(&fitted), [(0, 8, 100), (1, 1, 0)]);
        assert_eq!((fitted.split, fitted.pieces), (0, 0));
    }

    #[test]
    fn wide_tasks_are_refused_with_their_number_and_the_mend() {
        let jobs = vec![job(1, 1, 0), job(2, 9, 0), job(3, 1, 101)];
        let error = fit(jobs, &[kind(8, Some(100))], Width::Refuse).unwrap_err().to_string();
        for part in ["place 2 tasks", "task 2 with 9 cores", "--wide split", "larger machine type"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_split_is_refused_too() {
        let error = fit(vec![job(1, 2, 201)], &[kind(8, Some(100))], Width::Split).unwrap_err();
        assert!(matches!(error, TraceError::Unsplittable { count: 1, id: 1, .. }), "{error}");
        assert!(fit(vec![job(1, 1, 0)], &[], Width::Split).is_err());
    }

    fn kinds() -> impl Strategy<Value = Vec<MachineType>> {
        let memory = prop_oneof![Just(None), (1u64..5000).prop_map(Some)];
        prop::collection::vec((1u32..70, memory).prop_map(|(cores, memory)| kind(cores, memory)), 1..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn splitting_neither_makes_nor_loses_work(
            kinds in kinds(),
            jobs in prop::collection::vec((0u64..9, 1u64..1000, 1u32..5000, 0u64..20_000), 1..8),
        ) {
            let jobs: Vec<Job> = jobs.into_iter().enumerate().map(|(id, (submit_ms, runtime_ms, cores, memory_mb))| {
                Job { id: id as i64, submit_ms, runtime_ms, cores, memory_mb }
            }).collect();
            let total = |jobs: &[Job]| -> (u64, u64) {
                jobs.iter().fold((0, 0), |(w, m), j| (w + u64::from(j.cores) * j.runtime_ms, m + j.memory_mb))
            };
            let wide = jobs.iter().filter(|j| !kinds.iter().any(|k| k.holds(j))).count();
            match fit(jobs.clone(), &kinds, Width::Split) {
                Ok(fitted) => {
                    prop_assert_eq!(total(&fitted.jobs), total(&jobs));
                    prop_assert!(fitted.jobs.iter().all(|j| j.cores > 0 && kinds.iter().any(|k| k.holds(j))));
                    prop_assert_eq!(fitted.split, wide);
                    prop_assert_eq!(fitted.jobs.len(), jobs.len() - wide + fitted.pieces);
                    prop_assert!(fitted.jobs.iter().enumerate().all(|(i, j)| j.id == i as i64));
                }
                // one core's share of the memory is more than any machine has
                Err(_) => {
                    let has_room = |share_mb| kinds.iter().any(|k| k.memory_mb.is_none_or(|mb| mb >= share_mb));
                    let stuck = jobs.iter().any(|j| !has_room(j.memory_mb.div_ceil(u64::from(j.cores))));
                    prop_assert!(stuck);
                }
            }
        }
    }
}
