//! The names of the operations that a test can make fail: EC2's own for the cloud, `Port.method` for the rest.

/// EC2's describe.
pub const DESCRIBE: &str = "DescribeInstances";
/// EC2's describe of one machine.
pub const POOL_OF: &str = "DescribeInstances.one";
/// EC2's describe of machines that may be terminated.
pub const TERMINATED: &str = "DescribeInstances.terminated";
/// EC2's launch.
pub const LAUNCH: &str = "RunInstances";
/// EC2's termination.
pub const TERMINATE: &str = "TerminateInstances";
/// Tasks that wait or run.
pub const TASKS_OPEN: &str = "Tasks.open";
/// Tasks by submission.
pub const TASKS_SUBMITTED: &str = "Tasks.submitted";
/// Times of submission.
pub const TASKS_ARRIVAL_TIMES: &str = "Tasks.arrival_times";
/// Write of a task.
pub const TASKS_PUT: &str = "Tasks.put";
/// Records of machines alive.
pub const INSTANCES_ALIVE: &str = "Instances.alive";
/// Records of machines by launch.
pub const INSTANCES_LAUNCHED: &str = "Instances.launched";
/// Records of machines by their end.
pub const INSTANCES_ENDED: &str = "Instances.ended";
/// Record of a new machine.
pub const INSTANCES_PUT_NEW: &str = "Instances.put_new";
/// Mark of a machine in service.
pub const INSTANCES_MARK_READY: &str = "Instances.mark_ready";
/// Mark of a machine that is to take no more tasks.
pub const INSTANCES_MARK_DRAINING: &str = "Instances.mark_draining";
/// A mark of being gone taken back.
pub const INSTANCES_REOPEN: &str = "Instances.reopen";
/// Mark of a machine gone.
pub const INSTANCES_MARK_TERMINATED: &str = "Instances.mark_terminated";
/// Write of a decision.
pub const DECISIONS_PUT_ONCE: &str = "Decisions.put_once";
/// Read of a decision.
pub const DECISIONS_GET: &str = "Decisions.get";
/// The last decisions.
pub const DECISIONS_BEFORE: &str = "Decisions.before";
/// Decisions by tick.
pub const DECISIONS_RANGE: &str = "Decisions.range";
/// The index of unsettled decisions.
pub const DECISIONS_UNSETTLED: &str = "Decisions.unsettled";
/// The claim.
pub const DECISIONS_CLAIM: &str = "Decisions.claim";
/// Plan and outcome.
pub const DECISIONS_PUT_INTENT: &str = "Decisions.put_intent";
/// Read of a pool's configuration.
pub const CONTROL_CONFIG: &str = "Control.config";
/// Write of a pool's configuration.
pub const CONTROL_PUT_CONFIG: &str = "Control.put_config";
/// Read of the head.
pub const CONTROL_HEAD: &str = "Control.head";
/// Read of the memory of missing capacity.
pub const CONTROL_NO_CAPACITY: &str = "Control.no_capacity";
/// Write of the memory of missing capacity.
pub const CONTROL_PUT_NO_CAPACITY: &str = "Control.put_no_capacity";
/// Read of what reconciliations have seen.
pub const CONTROL_SUSPECTS: &str = "Control.suspects";
/// Write of that.
pub const CONTROL_PUT_SUSPECTS: &str = "Control.put_suspects";
/// Read of the kill switch.
pub const CONTROL_KILL_SWITCH: &str = "Control.kill_switch";
/// Write of the kill switch.
pub const CONTROL_PUT_KILL_SWITCH: &str = "Control.put_kill_switch";
/// Taking or prolonging a lease.
pub const LEASES_TAKE: &str = "Leases.take";
/// Giving a lease back.
pub const LEASES_GIVE_BACK: &str = "Leases.give_back";
/// Write of a file of a training run.
pub const RUNS_PUT: &str = "Runs.put_run_file";
/// Read of a file of a training run.
pub const RUNS_GET: &str = "Runs.run_file";
/// Outside metrics.
pub const METRICS_SERIES: &str = "Metrics.series";
/// The pointer to the policy in charge.
pub const POLICIES_POINTER: &str = "PolicyStore.pointer";
/// A policy's manifest.
pub const POLICIES_MANIFEST: &str = "PolicyStore.manifest";
/// A policy's file.
pub const POLICIES_FILE: &str = "PolicyStore.file";
/// Write of a policy's file.
pub const POLICIES_PUT_FILE: &str = "PolicyPublisher.put_file";
/// Move of the pointer.
pub const POLICIES_MOVE_POINTER: &str = "PolicyPublisher.move_pointer";

/// All of them.
pub const ALL: [&str; 43] = [
    DESCRIBE,
    TERMINATED,
    LAUNCH,
    TERMINATE,
    TASKS_OPEN,
    TASKS_SUBMITTED,
    TASKS_ARRIVAL_TIMES,
    TASKS_PUT,
    INSTANCES_ALIVE,
    INSTANCES_LAUNCHED,
    INSTANCES_ENDED,
    INSTANCES_PUT_NEW,
    INSTANCES_MARK_READY,
    POOL_OF,
    INSTANCES_MARK_DRAINING,
    INSTANCES_REOPEN,
    INSTANCES_MARK_TERMINATED,
    DECISIONS_PUT_ONCE,
    DECISIONS_GET,
    DECISIONS_BEFORE,
    DECISIONS_RANGE,
    DECISIONS_UNSETTLED,
    DECISIONS_CLAIM,
    DECISIONS_PUT_INTENT,
    CONTROL_CONFIG,
    CONTROL_PUT_CONFIG,
    CONTROL_HEAD,
    CONTROL_NO_CAPACITY,
    CONTROL_PUT_NO_CAPACITY,
    CONTROL_SUSPECTS,
    CONTROL_PUT_SUSPECTS,
    CONTROL_KILL_SWITCH,
    CONTROL_PUT_KILL_SWITCH,
    LEASES_TAKE,
    LEASES_GIVE_BACK,
    RUNS_PUT,
    RUNS_GET,
    METRICS_SERIES,
    POLICIES_POINTER,
    POLICIES_MANIFEST,
    POLICIES_FILE,
    POLICIES_PUT_FILE,
    POLICIES_MOVE_POINTER,
];
