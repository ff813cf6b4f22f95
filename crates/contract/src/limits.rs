//! Named bounds of every list, history and payload, each with its reason.

/// A policy is one LSTM of 128 cells (about 350 KB); anything far above is not one of ours.
pub const POLICY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A manifest is a page of JSON.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// A policy's signature is a line of JSON.
pub const SIGNATURE_BYTES_MAX: usize = 1024;
/// Public keys that an evaluator trusts: one, a second while the first is replaced, and room. Each costs a read.
pub const POLICY_KEYS_MAX: usize = 8;
/// Verified policies that a warm evaluator holds, and pools whose last good one it remembers: a stack serves few pools, each
/// with one policy, and a policy takes some megabytes of memory. One that is forgotten is read and verified again.
pub const POLICIES_HELD_MAX: usize = 16;
/// Refused policies that a warm evaluator remembers: one a minute for an hour. One that is forgotten is refused again.
pub const POLICIES_REFUSED_MAX: usize = 64;
/// Ticks a new policy is warmed up on: an hour at one tick a minute, several batches of the published load.
pub const WARM_UP_TICKS: usize = 60;
/// Ticks missing before a recurrent state is too old to go on from.
pub const LSTM_GAP_TICKS_MAX: u64 = 3;
/// Ticks missing before a shadow ledger begins anew: a quarter of an hour at one tick a minute. What either fleet would have
/// done in a longer gap nobody knows.
pub const SHADOW_GAP_TICKS_MAX: u64 = 15;
/// Seconds in which nothing is stopped after the load was gone at once: longer than most outages of a service, and no more
/// than ten minutes of idle machines if it was none.
pub const OUTAGE_HOLD_S: u64 = 600;
/// Tasks whose disappearance from one tick to the next is taken for an outage; fewer may well end in the same minute.
pub const OUTAGE_TASKS_MIN: u32 = 10;
/// Seconds after which a machine that does not take tasks is taken for broken: eight times the usual boot of 71 s.
pub const BOOT_DEADLINE_S: u64 = 600;
/// The same for pools whose machines boot slowly: so many times their own boot time.
pub const BOOT_TIMES_MAX: f64 = 5.0;
/// Share of unhealthy machines above which nothing is launched or stopped: then it is not the machines.
pub const UNHEALTHY_SHARE_MAX: f64 = 0.5;
/// Unhealthy machines below which there is no such hold: small fleets replace theirs.
pub const UNHEALTHY_MACHINES_MIN: u32 = 3;
/// Machines that one reconciliation ends at most without a decision: stuck ones and orphans. Whatever makes it believe that
/// many are, one a minute is slow enough for somebody to look.
pub const RECONCILER_ENDS_MAX: usize = 1;
/// Suspects of one pool that are remembered at a time: some 100 KB of an item's 400. Others have their turn after them.
pub const SUSPECTS_MAX: usize = 1000;
/// Shortest and longest time that a pool may leave orphans alone before they are terminated, seconds: ten minutes for somebody to
/// look, and a week.
pub const ORPHAN_GRACE_S_MIN: u64 = 600;
/// See [`ORPHAN_GRACE_S_MIN`].
pub const ORPHAN_GRACE_S_MAX: u64 = 7 * 86_400;
/// A page of waiting tasks that one tick reads at most; deeper queues are counted as this many ("at least").
pub const QUEUE_ROWS_MAX: usize = 50_000;
/// Task records of one read of the queue that may be unreadable: one submitter's mistakes. More, and what waits and runs
/// is unknown.
pub const TASKS_UNREADABLE_MAX: usize = 1000;
/// Submissions that one read of the last hour counts at most: 16 MB of times in the evaluator's 512. With more the arrivals
/// are missing at that tick: the rule decides, and nothing is stopped.
pub const ARRIVALS_MAX: usize = 1_000_000;
/// Seconds in which a launch that a plan's check refused for money is not asked for again: the check knows of machines that
/// no record shows, and they do not go in a minute.
pub const MONEY_MEMORY_S: u64 = 600;
/// Machines of one pool that ended in a month, and as many that were launched in it, for its money caps: a launch a minute
/// is 44 640. Both are 60 MB of records in the executor's 256. With more nothing is launched.
pub const MONTH_MACHINES_MAX: usize = 100_000;
/// Machines of one pool that one read of the launches returns at most: 100 MB of records in the evaluator's 512, and a launch
/// every two minutes for as long as histories go.
pub const LAUNCHES_MAX: usize = 300_000;
/// Machines of one pool that one describe returns at most, all pages together.
pub const MACHINES_MAX: usize = 10_000;
/// EC2's client tokens hold at most 64 ASCII characters.
pub const CLIENT_TOKEN_LEN_MAX: usize = 64;
/// Days a decision is kept before its table expires it.
pub const DECISION_DAYS: u64 = 90;
/// Seconds after which a claimed decision that was not settled is taken up by the reconciler.
pub const PENDING_S_MAX: u64 = 120;
/// Unsettled decisions that one reconciliation takes up, oldest first: an executor that was down for an hour leaves sixty.
pub const UNSETTLED_MAX: usize = 100;
/// Decisions of another version that a reader passes on its way to older ones: more than two versions work side by side for.
pub const UNREADABLE_MAX: usize = 60;
/// Ticks after which a decision is too late to be carried out: what it saw is no longer so.
pub const LATE_TICKS: u64 = 5;
/// Later than any tick, and still a time in milliseconds: asks for the youngest decision.
pub const TICK_MAX: u64 = u64::MAX / 1000;
/// Longest cooldown and longest tick that a configuration may ask for, seconds: a day and an hour.
pub const COOLDOWN_S_MAX: u64 = 86_400;
/// See [`COOLDOWN_S_MAX`].
pub const TICK_S_MAX: u64 = 3600;
/// Longest time that a stopped machine may be given for its tasks, seconds: a day.
pub const DRAIN_S_MAX: u64 = 86_400;
/// Seconds between the notice of a spot interruption and the interruption.
pub const SPOT_NOTICE_S: u64 = 120;
/// Cores of one machine: EC2's largest has 896.
pub const CORES_MAX: u32 = 1024;
/// First back-off after a launch without capacity, seconds; doubled each time.
pub const NO_CAPACITY_BACKOFF_S: u64 = 180;
/// Longest back-off after launches without capacity, seconds.
pub const NO_CAPACITY_BACKOFF_S_MAX: u64 = 1800;
/// Ticks whose window is read to compute the wait ratios of the recent past.
pub const WAIT_WINDOW_S: u64 = 3600;
/// Age at which an outside metric no longer describes the fleet, seconds; CloudWatch is 1–3 minutes late.
pub const METRIC_AGE_S_MAX: u64 = 240;
/// How far back outside metrics are read, seconds: far enough to tell a series that is late from one that is not there.
pub const METRIC_WINDOW_S: u64 = 900;
/// Minutes of one outside metric that become one value at most: with the age of the newest, within what is read.
pub const METRIC_MINUTES_MAX: u64 = 10;
/// Length of a pool's name; it is part of keys and tags.
pub const POOL_NAME_LEN_MAX: usize = 64;
/// Hours of submissions that one read of the history covers at most; longer than decisions are kept.
pub const HISTORY_HOURS_MAX: u64 = 24 * 400;
/// Rows that one read of a trainer's history returns at most; a longer one is an error, never a quiet cut. Functions read
/// under limits of their own.
pub const HISTORY_ROWS_MAX: usize = 5_000_000;
/// Attempts to write what a batch write left unprocessed; the SDK's own retries do not cover it.
pub const BATCH_ATTEMPTS_MAX: u32 = 8;
/// Bytes of one answer of Graphite: a handful of series over some minutes is a few kilobytes.
pub const GRAPHITE_BYTES_MAX: usize = 4 * 1024 * 1024;
