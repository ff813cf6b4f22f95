//! What an episode counts, and whether it goes on.

/// What happened so far in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps taken.
    pub steps: u64,
    /// Tasks done.
    pub completed: u32,
    /// Runs of tasks that the end of their machine cut short.
    pub interrupted: u64,
    /// Core-milliseconds of those runs.
    pub lost_core_ms: u64,
    /// Actions that were carried out.
    pub accepted_actions: u64,
    /// Actions that the guard refused.
    pub rejected_actions: u64,
    /// Machines that were launched.
    pub launches: u64,
    /// Machines that were stopped.
    pub stops: u64,
    /// Launches that failed for lack of capacity.
    pub failed_launches: u64,
    /// Machines that were taken away: spot interruptions.
    pub reclaimed: u64,
}

/// Whether and how an episode is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is more to come.
    Going,
    /// The last task is done: now is the makespan.
    Finished,
    /// It was cut off at the horizon (T6).
    Truncated,
}
