//! The state behind all fakes: what tests set up, look at, and make fail. It knows no port's rules.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::control::{Head, KillSwitch, Lease};
use contract::decision::Decision;
use contract::manifest::Pointer;
use contract::plan::LaunchPlan;
use contract::pool::{MetricSource, PoolConfig};
use contract::record::{InstanceRecord, NoCapacity, TaskRecord};
use controller::ports::{Kind, Point, Port, PortError};

use crate::op;

/// A machine in the fake EC2.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// EC2's id.
    pub instance_id: String,
    /// All its tags.
    pub tags: BTreeMap<String, String>,
    /// Pending or running.
    pub alive: bool,
    /// Whether describe knows it; false plays EC2's eventual consistency.
    pub visible: bool,
    /// When it was launched, by the world's clock, milliseconds since the epoch.
    pub launched_ms: u64,
    /// The launch template's name.
    pub launch_template: String,
    /// The token of its launch.
    pub client_token: Option<String>,
}

/// Pool, time in the sort key, id: how the real tables order tasks and machines.
pub(crate) type Key = (String, u64, String);

/// Everything in the world, behind one lock.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) now_ms: u64,
    pub(crate) tasks: BTreeMap<Key, TaskRecord>,
    pub(crate) instances: BTreeMap<Key, InstanceRecord>,
    pub(crate) decisions: BTreeMap<(String, u64), Decision>,
    pub(crate) configs: BTreeMap<String, PoolConfig>,
    pub(crate) heads: BTreeMap<String, Head>,
    pub(crate) no_capacity: BTreeMap<String, NoCapacity>,
    pub(crate) kill_switch: KillSwitch,
    pub(crate) leases: BTreeMap<String, Lease>,
    pub(crate) run_files: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) metrics: Vec<(String, MetricSource, Point)>,
    pub(crate) files: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) pointers: BTreeMap<String, Pointer>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) launches: BTreeMap<String, (LaunchPlan, Vec<String>)>,
    pub(crate) sizes_without_capacity: BTreeSet<usize>,
    faults: Faults,
    calls: Vec<&'static str>,
}

/// What fails, and when.
#[derive(Default)]
struct Faults {
    before: HashMap<&'static str, VecDeque<PortError>>,
    after: HashMap<&'static str, VecDeque<PortError>>,
    down: BTreeMap<&'static str, Kind>,
}

impl Faults {
    fn take(queues: &mut HashMap<&'static str, VecDeque<PortError>>, operation: &str) -> Option<PortError> {
        queues.get_mut(operation)?.pop_front()
    }

    fn before(&mut self, operation: &'static str) -> Port<()> {
        if let Some(kind) = self.down.get(operation) {
            return Err(fault(operation, "Down", *kind));
        }
        Self::take(&mut self.before, operation).map_or(Ok(()), Err)
    }

    fn after(&mut self, operation: &str) -> Port<()> {
        Self::take(&mut self.after, operation).map_or(Ok(()), Err)
    }
}

/// A fault to script, with a service's error code.
pub fn fault(operation: &'static str, code: &str, kind: Kind) -> PortError {
    PortError { operation, code: code.to_owned(), message: "scripted by the test".to_owned(), kind }
}

/// One in-memory world; clones are handles of the same one.
#[derive(Clone, Default)]
pub struct World {
    state: Arc<Mutex<State>>,
}

impl World {
    /// An empty world at time 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// A world with one configured pool.
    pub fn with_pool(config: &PoolConfig) -> Self {
        let world = Self::new();
        world.lock().configs.insert(config.pool.clone(), config.clone());
        world
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call at a port: scripted faults first, then the effect, then faults that hide the effect's success.
    pub(crate) fn call<T>(&self, operation: &'static str, effect: impl FnOnce(&mut State) -> Port<T>) -> Port<T> {
        let mut state = self.lock();
        state.calls.push(operation);
        state.faults.before(operation)?;
        let done = effect(&mut state)?;
        state.faults.after(operation)?;
        Ok(done)
    }

    /// The next call of `operation` fails and has no effect; several are taken in order.
    pub fn fail_next(&self, operation: &'static str, error: PortError) {
        self.lock().faults.before.entry(known(operation)).or_default().push_back(error);
    }

    /// The next call of `operation` that works has its effect and fails all the same: a time-out that had succeeded.
    pub fn fail_after(&self, operation: &'static str, error: PortError) {
        self.lock().faults.after.entry(known(operation)).or_default().push_back(error);
    }

    /// Every call of `operation` fails until [`World::heal`].
    pub fn take_down(&self, operation: &'static str, kind: Kind) {
        self.lock().faults.down.insert(known(operation), kind);
    }

    /// Ends all faults, missing capacity included.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults = Faults::default();
        state.sizes_without_capacity.clear();
    }

    /// From now on launches of a size fail with `InsufficientInstanceCapacity`.
    pub fn without_capacity(&self, size: usize) {
        self.lock().sizes_without_capacity.insert(size);
    }

    /// Sets the clock that stamps launches in EC2.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.lock().now_ms = now_ms;
    }

    /// Names of all calls so far, failed ones included.
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock().calls.clone()
    }

    /// How often `operation` was called, failed calls included.
    pub fn count(&self, operation: &'static str) -> usize {
        let operation = known(operation);
        self.lock().calls.iter().filter(|call| **call == operation).count()
    }

    /// All decisions, by pool and tick.
    pub fn decisions(&self) -> Vec<Decision> {
        self.lock().decisions.values().cloned().collect()
    }

    /// All tasks, by pool and submission.
    pub fn tasks(&self) -> Vec<TaskRecord> {
        self.lock().tasks.values().cloned().collect()
    }

    /// All records of machines, by pool and launch.
    pub fn instances(&self) -> Vec<InstanceRecord> {
        self.lock().instances.values().cloned().collect()
    }

    /// All machines of the fake EC2, in order of launch, terminated and foreign ones included.
    pub fn machines(&self) -> Vec<Machine> {
        self.lock().machines.clone()
    }

    /// Adds a point to a pool's outside series.
    pub fn add_point(&self, pool: &str, source: &MetricSource, point: Point) {
        self.lock().metrics.push((pool.to_owned(), source.clone(), point));
    }

    /// Puts an object into the bucket as it is, over whatever is there: corruption, or a forged file.
    pub fn overwrite_file(&self, sha256: &str, name: &str, bytes: Vec<u8>) {
        self.lock().files.insert((sha256.to_owned(), name.to_owned()), bytes);
    }

    /// Sets a pool's pointer as it is, past the compare-and-swap.
    pub fn overwrite_pointer(&self, pool: &str, pointer: Pointer) {
        self.lock().pointers.insert(pool.to_owned(), pointer);
    }
}

fn known(operation: &'static str) -> &'static str {
    assert!(op::ALL.contains(&operation), "no operation {operation:?}; the names are in testkit::op");
    operation
}
