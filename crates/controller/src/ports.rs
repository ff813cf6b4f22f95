//! The ports to the outside, each a page of interface, and the error taxonomy that their callers decide by.
//!
//! Adapters live in `aws`, fakes in `testkit`. Times are milliseconds since the epoch unless named otherwise.

use std::future::Future;

use contract::control::{Head, KillSwitch, Lease};
use contract::decision::{Decision, Intent};
use contract::manifest::Pointer;
use contract::plan::LaunchPlan;
use contract::pool::{MetricSource, PoolConfig};
use contract::record::{Drain, Ended, InstanceRecord, NoCapacity, Suspects, TaskRecord};

/// What kind of failure it was: all that a caller may decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A conditional write lost; somebody else was first.
    Conflict,
    /// It does not exist.
    NotFound,
    /// Credentials or policy forbid it.
    Denied,
    /// Too many calls.
    Throttled,
    /// EC2 has no capacity for the machine asked for, or a quota or subnet is exhausted.
    NoCapacity,
    /// The outside answered with something that cannot be understood, or refused the request as wrong.
    Invalid,
    /// A stored record that this version cannot read: another one wrote it.
    Unreadable,
    /// A time-out, a cut connection or an error on the other side; whether it took effect is unknown.
    Unavailable,
}

impl Kind {
    /// Its name, as a metric's dimension has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Conflict => "Conflict",
            Kind::NotFound => "NotFound",
            Kind::Denied => "Denied",
            Kind::Throttled => "Throttled",
            Kind::NoCapacity => "NoCapacity",
            Kind::Invalid => "Invalid",
            Kind::Unreadable => "Unreadable",
            Kind::Unavailable => "Unavailable",
        }
    }
}

/// A failure at a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {code}: {message}")]
pub struct PortError {
    /// The operation, as the service names it.
    pub operation: &'static str,
    /// The service's error code, or our word for it.
    pub code: String,
    /// For people.
    pub message: String,
    /// All that a caller may decide by.
    pub kind: Kind,
}

impl PortError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Unavailable)
    }

    /// An answer that cannot be understood.
    pub fn invalid(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, code: "Invalid".into(), message: message.into(), kind: Kind::Invalid }
    }

    /// A stored record of another version.
    pub fn unreadable(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, code: "Unreadable".into(), message: message.into(), kind: Kind::Unreadable }
    }

    /// Something that should be there and is not.
    pub fn not_found(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, code: "NotFound".into(), message: message.into(), kind: Kind::NotFound }
    }

    /// A conditional write that lost.
    pub fn conflict(operation: &'static str, message: impl Into<String>) -> Self {
        Self { operation, code: "Conflict".into(), message: message.into(), kind: Kind::Conflict }
    }
}

/// The result of a call at a port.
pub type Port<T> = Result<T, PortError>;

/// The task table, read for the queue and the history. Fresh: written by submitters and workers themselves.
pub trait Tasks: Send + Sync {
    /// Tasks that wait or run now, oldest first, at most [`contract::limits::QUEUE_ROWS_MAX`]; those that run are kept
    /// before those that wait, and more of them are an error. So are more than [`contract::limits::TASKS_UNREADABLE_MAX`]
    /// that wait, or run, and cannot be read; fewer are left out.
    fn open(&self, pool: &str) -> impl Future<Output = Port<Vec<TaskRecord>>> + Send;
    /// Tasks submitted in `[from_ms, to_ms)`, in order of submission.
    fn submitted(&self, pool: &str, from_ms: u64, to_ms: u64) -> impl Future<Output = Port<Vec<TaskRecord>>> + Send;
    /// Submission times of the tasks submitted in `(from_ms, to_ms]`, in order; more than
    /// [`contract::limits::ARRIVALS_MAX`] are an error.
    fn arrival_times(&self, pool: &str, from_ms: u64, to_ms: u64) -> impl Future<Output = Port<Vec<u64>>> + Send;
    /// Writes a task as it is now; replaces the record with the same id.
    fn put(&self, task: &TaskRecord) -> impl Future<Output = Port<()>> + Send;
}

/// The latest time that keys can hold: milliseconds in 13 digits.
pub const TIME_MS_MAX: u64 = 9_999_999_999_999;

/// The instance records: what the bill is computed from.
pub trait Instances: Send + Sync {
    /// Machines that were not terminated yet, by launch time. One whose record cannot be read is left out: EC2 shows it, and
    /// no record has it.
    fn alive(&self, pool: &str) -> impl Future<Output = Port<Vec<InstanceRecord>>> + Send;
    /// Machines launched in `[from_ms, to_ms)`, by launch time and a consistent read; more than
    /// [`contract::limits::LAUNCHES_MAX`] are an error.
    fn launched(&self, pool: &str, from_ms: u64, to_ms: u64) -> impl Future<Output = Port<Vec<InstanceRecord>>> + Send;
    /// Machines terminated in `[from_ms, to_ms]`, by that time; more than [`contract::limits::MONTH_MACHINES_MAX`] are an
    /// error.
    fn ended(&self, pool: &str, from_ms: u64, to_ms: u64) -> impl Future<Output = Port<Vec<InstanceRecord>>> + Send;
    /// Machines launched or terminated since `from_ms`: with those alive, all that cost anything since then. A machine
    /// may be among them twice. More than [`contract::limits::MONTH_MACHINES_MAX`] of either are an error.
    fn since(&self, pool: &str, from_ms: u64) -> impl Future<Output = Port<Vec<InstanceRecord>>> + Send {
        async move {
            let mut records = self.launched(pool, from_ms, TIME_MS_MAX).await?;
            records.extend(self.ended(pool, from_ms, TIME_MS_MAX).await?);
            Ok(records)
        }
    }
    /// Writes the record of a new machine, if there is none yet; a machine's launch is recorded once. A row that is no whole
    /// record becomes one, and keeps what its worker wrote.
    fn put_new(&self, record: &InstanceRecord) -> impl Future<Output = Port<()>> + Send;
    /// Marks a machine as taking tasks.
    fn mark_ready(&self, record: &InstanceRecord, ready_ms: u64) -> impl Future<Output = Port<()>> + Send;
    /// Tells a machine to take no more tasks; the first such mark stays, and one that is gone gets none.
    fn mark_draining(&self, record: &InstanceRecord, drain: Drain) -> impl Future<Output = Port<()>> + Send;
    /// Takes the marks of being gone and of draining back: EC2 reports the machine as alive, or does not let it go. No
    /// change to one without them.
    fn reopen(&self, record: &InstanceRecord) -> impl Future<Output = Port<()>> + Send;
    /// Marks a machine as gone, and why; the first mark stays.
    fn mark_terminated(
        &self,
        record: &InstanceRecord,
        terminated_ms: u64,
        ended: Ended,
    ) -> impl Future<Output = Port<()>> + Send;
}

/// What became of a decision that was to be written once.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It is new.
    New,
    /// The tick had been decided already; this is what stands.
    Existed(Box<Decision>),
    /// The tick had been decided already, by a version whose decision cannot be read.
    Unreadable,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The decision is ours to carry out, under this generation.
    Won(u64),
    /// It was claimed or settled before: a duplicate. This is the intent that stands.
    Duplicate(Box<Intent>),
    /// The fleet's cooldown is not over.
    Cooldown,
    /// Another claim moved the head at the same moment.
    Raced,
    /// The kill switch is engaged.
    Killed,
    /// The pool's mode does not carry the action out, or its configuration is gone.
    Mode,
}

/// The decision log.
pub trait Decisions: Send + Sync {
    /// Writes a decision, unless its tick has one.
    fn put_once(&self, decision: &Decision) -> impl Future<Output = Port<Written>> + Send;
    /// One decision, by a consistent read; [`Kind::Unreadable`] if another version wrote it and this one cannot read it.
    fn get(&self, pool: &str, tick: u64) -> impl Future<Output = Port<Option<Decision>>> + Send;
    /// The last `n` decisions before `tick`, newest first, by a consistent read. One that cannot be read (written by
    /// another version) is left out, and an older one is taken; at most [`contract::limits::UNREADABLE_MAX`] are passed.
    fn before(&self, pool: &str, tick: u64, n: usize) -> impl Future<Output = Port<Vec<Decision>>> + Send;
    /// Decisions with ticks in `[from, to)`, oldest first, by a consistent read; as [`Decisions::before`] otherwise.
    fn range(&self, pool: &str, from: u64, to: u64) -> impl Future<Output = Port<Vec<Decision>>> + Send;
    /// Decisions of any age that ask for something and are not settled, oldest first, at most
    /// [`contract::limits::UNSETTLED_MAX`]. They are found in an index that may be behind, so that one of the last minutes
    /// may be missing; each is then read consistently, and one that was settled meanwhile is left out. As
    /// [`Decisions::before`] otherwise.
    fn unsettled(&self, pool: &str) -> impl Future<Output = Port<Vec<Decision>>> + Send;
    /// Claims a decision in one transaction: intent absent → pending, `head` → its successor, kill switch and mode checked.
    fn claim(
        &self,
        decision: &Decision,
        head: &Head,
        next: &Head,
        now_ms: u64,
    ) -> impl Future<Output = Port<Claim>> + Send;
    /// Replaces the intent of a decision whose stored intent is pending under the same generation (or absent, for a
    /// refusal with generation 0). A settled one is never rewritten, and a stored plan is never replaced or dropped:
    /// that is a conflict. The same intent again is none, for a client that repeats a call cannot know whether it worked.
    fn put_intent(&self, pool: &str, tick: u64, intent: &Intent) -> impl Future<Output = Port<()>> + Send;
}

/// The control table: configuration, head, memory of missing capacity, suspects, kill switch.
pub trait Control: Send + Sync {
    /// The pool's configuration.
    fn config(&self, pool: &str) -> impl Future<Output = Port<PoolConfig>> + Send;
    /// Creates or replaces the configuration.
    fn put_config(&self, config: &PoolConfig) -> impl Future<Output = Port<()>> + Send;
    /// The head; the default one before the first claim. A consistent read.
    fn head(&self, pool: &str) -> impl Future<Output = Port<Head>> + Send;
    /// Memory of launches without capacity.
    fn no_capacity(&self, pool: &str) -> impl Future<Output = Port<NoCapacity>> + Send;
    /// Replaces that memory.
    fn put_no_capacity(&self, pool: &str, memory: &NoCapacity) -> impl Future<Output = Port<()>> + Send;
    /// What reconciliations have seen and do not act on at first sight. A consistent read.
    fn suspects(&self, pool: &str) -> impl Future<Output = Port<Suspects>> + Send;
    /// Replaces the stored ones of the version before; a conflict if they are of another version. The same again is none.
    fn put_suspects(&self, pool: &str, suspects: &Suspects) -> impl Future<Output = Port<()>> + Send;
    /// The kill switch of the stack. An absent item means that it is not engaged.
    fn kill_switch(&self) -> impl Future<Output = Port<KillSwitch>> + Send;
    /// Sets the kill switch.
    fn put_kill_switch(&self, switch: KillSwitch) -> impl Future<Output = Port<()>> + Send;
}

/// One number of an outside series, with its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The minute it stands for.
    pub at_ms: u64,
    /// As the service gave it; may be absurd.
    pub value: f64,
}

/// A source of outside metrics.
pub trait Metrics: Send + Sync {
    /// For each source, in order, its points in `(to_ms - window_ms, to_ms]`, in any order; none if that source failed and
    /// others did not. What becomes of the points is [`crate::series`]' business.
    fn series(
        &self,
        pool: &str,
        sources: &[MetricSource],
        window_ms: u64,
        to_ms: u64,
    ) -> impl Future<Output = Port<Vec<Option<Vec<Point>>>>> + Send;
}

/// The store of policies, as its readers see it.
pub trait PolicyStore: Send + Sync {
    /// The pointer to the policy in charge, with the tag that [`PolicyPublisher::move_pointer`] wants; none if the
    /// pool never had a policy.
    fn pointer(&self, pool: &str) -> impl Future<Output = Port<Option<(Pointer, String)>>> + Send;
    /// A policy's manifest, as its bytes: those are what is signed.
    fn manifest(&self, sha256: &str) -> impl Future<Output = Port<Vec<u8>>> + Send;
    /// A file of a policy (`policy.onnx`, `checkpoint`), refused above `bytes_max`.
    fn file(&self, sha256: &str, name: &str, bytes_max: usize) -> impl Future<Output = Port<Vec<u8>>> + Send;
}

/// The store of policies, as the promoter sees it.
pub trait PolicyPublisher: PolicyStore {
    /// Writes a file of a policy once; the same bytes again are no error, other bytes are a conflict.
    fn put_file(&self, sha256: &str, name: &str, bytes: Vec<u8>) -> impl Future<Output = Port<()>> + Send;
    /// Moves the pointer if it is still the one with `tag` (none: if there is none yet).
    fn move_pointer(&self, pool: &str, pointer: &Pointer, tag: Option<&str>) -> impl Future<Output = Port<()>> + Send;
}

/// Leases of improvement jobs: one at a time per pool.
pub trait Leases: Send + Sync {
    /// Takes the pool's lease, or prolongs it, unless somebody else holds it at `now_ms`; then that one is returned.
    fn take(&self, pool: &str, lease: &Lease, now_ms: u64) -> impl Future<Output = Port<Option<Lease>>> + Send;
    /// Gives the lease back, if it is still this owner's.
    fn give_back(&self, pool: &str, owner: &str) -> impl Future<Output = Port<()>> + Send;
}

/// What training runs keep that is not promoted: their state, and candidates.
pub trait Runs: Send + Sync {
    /// Writes a file of a run, in place of an older one. Names may have parts with `/` between them.
    fn put_run_file(&self, run: &str, name: &str, bytes: Vec<u8>) -> impl Future<Output = Port<()>> + Send;
    /// A file of a run, if there is one; refused above `bytes_max`.
    fn run_file(&self, run: &str, name: &str, bytes_max: usize) -> impl Future<Output = Port<Option<Vec<u8>>>> + Send;
}

/// A machine as EC2 reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudInstance {
    /// EC2's id.
    pub instance_id: String,
    /// Whether it is pending or running; anything else is on its way out.
    pub alive: bool,
    /// Index of its size, from its tags.
    pub size: Option<usize>,
    /// Tick of the decision in its tags.
    pub decision: Option<u64>,
    /// When EC2 launched it, by EC2's clock.
    pub launched_ms: u64,
}

/// EC2, as far as a fleet needs it.
pub trait Cloud: Send + Sync {
    /// The name of the stack: its machines, and no others, are ours.
    fn stack(&self) -> &str;
    /// All machines with our tags for this pool of this stack, all pages, terminated ones left out.
    fn describe(&self, pool: &str) -> impl Future<Output = Port<Vec<CloudInstance>>> + Send;
    /// The pool whose tags a machine carries; none if it is not there or not one of ours: of this stack.
    fn pool_of(&self, instance_id: &str) -> impl Future<Output = Port<Option<String>>> + Send;
    /// Of these machines, those that EC2 shows as terminated or on the way there, whatever their tags; not one that it has
    /// forgotten.
    fn terminated(&self, instance_ids: &[String]) -> impl Future<Output = Port<Vec<String>>> + Send;
    /// Launches what the plan says, or as many of it as EC2 has; the same plan again gives the same machines.
    fn launch(&self, plan: &LaunchPlan) -> impl Future<Output = Port<Vec<CloudInstance>>> + Send;
    /// Terminates exactly these machines.
    fn terminate(&self, instance_ids: &[String]) -> impl Future<Output = Port<()>> + Send;
}
