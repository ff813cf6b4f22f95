//! Jobs in the order in which they are served, with what the scheduler needs to handle alike ones together.

/// One task: what it needs, when it is submitted, how long it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Orders jobs that are submitted at the same time.
    pub id: i64,
    /// When it is submitted.
    pub submit_ms: u64,
    /// How long it runs, uninterrupted; at least 1.
    pub runtime_ms: u64,
    /// Cores that it occupies.
    pub cores: u32,
    /// Memory that it occupies.
    pub memory_mb: u64,
}

impl Job {
    fn is_like(&self, other: &Job) -> bool {
        (self.runtime_ms, self.cores, self.memory_mb) == (other.runtime_ms, other.cores, other.memory_mb)
    }
}

/// Consecutive places in the order of service: `first..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ranks {
    pub first: u32,
    pub end: u32,
}

impl Ranks {
    pub fn len(self) -> u32 {
        self.end - self.first
    }

    pub fn indices(self) -> std::ops::Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// Jobs that are submitted at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub at_ms: u64,
    /// Every rank below has been submitted by then.
    pub end: u32,
}

/// A list of jobs, sorted by (submit, id); a job's place in it is its rank. Shared by any number of environments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    jobs: Vec<Job>,
    /// For each rank, the end of the run of jobs from it on that need the same.
    alike_until: Vec<u32>,
    arrivals: Vec<Arrival>,
    needs_memory: bool,
}

impl Workload {
    /// Sorts `jobs` into the order of service. Of equal (submit, id) the earlier in the list goes first.
    pub fn new(jobs: Vec<Job>) -> Self {
        let mut workload = Self { jobs, ..Self::default() };
        workload.jobs.sort_by_key(|job| (job.submit_ms, job.id));
        workload.index();
        workload
    }

    /// The jobs, in the order of service.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The work of all jobs, core-milliseconds.
    pub fn core_ms(&self) -> u64 {
        self.jobs.iter().map(|job| u64::from(job.cores) * job.runtime_ms).sum()
    }

    /// When the last job is submitted; 0 without jobs.
    pub fn last_submit_ms(&self) -> u64 {
        self.jobs.last().map_or(0, |job| job.submit_ms)
    }

    /// Becomes a copy of `base` with its jobs changed by `change`, in the memory that it already has.
    pub(crate) fn rewrite_from(&mut self, base: &Workload, change: impl FnOnce(&mut Vec<Job>)) {
        self.jobs.clone_from(&base.jobs);
        change(&mut self.jobs);
        self.jobs.sort_unstable_by_key(|job| (job.submit_ms, job.id));
        self.index();
    }

    pub(crate) fn job(&self, rank: u32) -> &Job {
        &self.jobs[rank as usize]
    }

    pub(crate) fn len(&self) -> u32 {
        self.jobs.len() as u32
    }

    pub(crate) fn alike_until(&self, rank: u32) -> u32 {
        self.alike_until[rank as usize]
    }

    /// Whether any job needs memory, so that it has to be looked at.
    pub(crate) fn needs_memory(&self) -> bool {
        self.needs_memory
    }

    pub(crate) fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    fn index(&mut self) {
        assert!(self.jobs.len() < u32::MAX as usize, "ranks are 32-bit");
        self.needs_memory = self.jobs.iter().any(|job| job.memory_mb > 0);
        self.alike_until.clear();
        self.alike_until.resize(self.jobs.len(), 0);
        self.arrivals.clear();
        for i in (0..self.jobs.len()).rev() {
            let like_next = self.jobs.get(i + 1).is_some_and(|next| next.is_like(&self.jobs[i]));
            self.alike_until[i] = if like_next { self.alike_until[i + 1] } else { i as u32 + 1 };
        }
        for (i, job) in self.jobs.iter().enumerate() {
            let end = i as u32 + 1;
            match self.arrivals.last_mut() {
                Some(last) if last.at_ms == job.submit_ms => last.end = end,
                _ => self.arrivals.push(Arrival { at_ms: job.submit_ms, end }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: i64, submit_ms: u64, runtime_ms: u64) -> Job {
        Job { id, submit_ms, runtime_ms, cores: 1, memory_mb: 0 }
    }

    #[test]
    fn jobs_are_ordered_and_alike_ones_and_arrivals_are_grouped() {
        let w = Workload::new(vec![job(1, 5, 9), job(0, 5, 9), job(7, 0, 9), job(3, 8, 4)]);
        assert_eq!(w.jobs().iter().map(|j| j.id).collect::<Vec<_>>(), [7, 0, 1, 3]);
        assert_eq!(w.alike_until, [3, 3, 3, 4]);
        assert_eq!(w.arrivals.iter().map(|a| (a.at_ms, a.end)).collect::<Vec<_>>(), [(0, 1), (5, 3), (8, 4)]);
    }

    #[test]
    fn a_rewritten_copy_is_sorted_again() {
        let base = Workload::new(vec![job(0, 0, 5), job(1, 10, 5)]);
        let mut copy = Workload::default();
        copy.rewrite_from(&base, |jobs| jobs.iter_mut().for_each(|job| job.submit_ms = 10 - job.submit_ms));
        assert_eq!(copy.jobs().iter().map(|j| j.id).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(copy.arrivals.len(), 2);
    }
}
