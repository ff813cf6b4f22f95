//! The state behind all fakes: what tests set up, look at, and make fail. It knows no port's rules.

use std::collections::btree_map::Values;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use contract::control::{Head, KillSwitch, Lease};
use contract::decision::Decision;
use contract::manifest::Pointer;
use contract::plan::LaunchPlan;
use contract::pool::{MetricSource, PoolConfig};
use contract::record::{InstanceRecord, NoCapacity, Suspects, TaskRecord};
use controller::ports::{Kind, Point, Port, PortError};

use crate::fate::{Director, Fate, Happened};
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
    /// Whether a person protected it from termination.
    pub protected: bool,
    /// What describe says about [`Machine::alive`] while it is behind; none if it is up to date.
    pub shown_alive: Option<bool>,
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
    /// Decisions that cannot be read, and whether they ask for something.
    pub(crate) unreadable: BTreeMap<(String, u64), bool>,
    pub(crate) configs: BTreeMap<String, PoolConfig>,
    pub(crate) heads: BTreeMap<String, Head>,
    pub(crate) no_capacity: BTreeMap<String, NoCapacity>,
    pub(crate) suspects: BTreeMap<String, Suspects>,
    pub(crate) kill_switch: KillSwitch,
    pub(crate) leases: BTreeMap<String, Lease>,
    pub(crate) run_files: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) metrics: Vec<(String, MetricSource, Point)>,
    pub(crate) files: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) pointers: BTreeMap<String, Pointer>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) launches: BTreeMap<String, (LaunchPlan, Vec<String>)>,
    pub(crate) sizes_without_capacity: BTreeSet<usize>,
    /// Type, or none for the template's own, and subnet.
    pub(crate) places_without_capacity: BTreeSet<(Option<String>, Option<String>)>,
    pub(crate) fewer_next: bool,
    pub(crate) hides_recorded_next: bool,
    pub(crate) alive_index_behind: bool,
    /// Records as the index of machines alive still shows them; none for one that it does not show yet.
    pub(crate) alive_index_old: BTreeMap<Key, Option<InstanceRecord>>,
    /// What the index of unsettled decisions still shows; none if it is up to date.
    pub(crate) unsettled_index_old: Option<BTreeSet<(String, u64)>>,
    pub(crate) happened: Vec<Happened>,
    faults: Faults,
    calls: Vec<&'static str>,
    director: Option<Box<dyn Director>>,
    stepping: bool,
}

/// What fails, and when.
#[derive(Default)]
struct Faults {
    before: HashMap<&'static str, VecDeque<PortError>>,
    after: HashMap<&'static str, VecDeque<PortError>>,
    down: BTreeMap<&'static str, Kind>,
    /// Operations that never answer, and how many calls of each still do.
    hanging: BTreeMap<&'static str, usize>,
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

    /// Whether this call never answers.
    fn hangs(&mut self, operation: &str) -> bool {
        let Some(left) = self.hanging.get_mut(operation) else { return false };
        let hangs = *left == 0;
        *left = left.saturating_sub(1);
        hangs
    }
}

impl State {
    /// Scripted faults first, then the director's, then the effect, then faults that hide the effect's success.
    fn answer<T>(&mut self, operation: &'static str, effect: impl Fn(&mut State) -> Port<T>) -> Port<T> {
        self.calls.push(operation);
        let answer = self.faults.before(operation).and_then(|()| self.directed(operation, effect));
        let answer = answer.and_then(|done| self.faults.after(operation).map(|()| done));
        let code = answer.as_ref().err().map(|e| e.code.clone());
        self.happened.push(Happened::Called { operation, code });
        answer
    }

    fn directed<T>(&mut self, operation: &'static str, effect: impl Fn(&mut State) -> Port<T>) -> Port<T> {
        match self.director.as_mut().map_or(Fate::Fine, |director| director.fate(operation)) {
            Fate::Fine => effect(self),
            Fate::Fails(error) => Err(error),
            Fate::Lost(error) => effect(self).and(Err(error)),
            // The SDK sends a transaction with a token of its own, by which the service knows the repetition.
            Fate::Repeated if operation == op::DECISIONS_CLAIM => effect(self),
            Fate::Repeated => effect(self).and_then(|_| effect(self)),
        }
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
    /// Whether this handle is that of people, workers and nature, whose calls never fail and are not counted.
    outside: bool,
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

    /// One call at a port. In a world that steps, its caller can be stopped for good before it and after it.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        effect: impl Fn(&mut State) -> Port<T> + Send,
    ) -> Port<T> {
        if self.outside {
            return effect(&mut self.lock());
        }
        self.pause().await;
        let hangs = self.lock().faults.hangs(operation);
        if hangs {
            std::future::pending::<()>().await;
        }
        let answer = self.lock().answer(operation, effect);
        self.pause().await;
        answer
    }

    /// Waits for one poll if the world steps.
    async fn pause(&self) {
        let mut waited = !self.lock().stepping;
        std::future::poll_fn(|_| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// The next call of `operation` fails and has no effect; several are taken in order.
    pub fn fail_next(&self, operation: &'static str, error: PortError) {
        self.lock().faults.before.entry(known(operation)).or_default().push_back(error);
    }

    /// The next call of `operation` that works has its effect and fails all the same: a time-out that had succeeded.
    pub fn fail_after(&self, operation: &'static str, error: PortError) {
        self.lock().faults.after.entry(known(operation)).or_default().push_back(error);
    }

    /// Every call of `operation` fails until [`World::bring_up`] or [`World::heal`].
    pub fn take_down(&self, operation: &'static str, kind: Kind) {
        self.lock().faults.down.insert(known(operation), kind);
    }

    /// After so many more calls no call of `operation` is ever answered, until [`World::bring_up`] or [`World::heal`].
    pub fn hang_after(&self, operation: &'static str, calls: usize) {
        self.lock().faults.hanging.insert(known(operation), calls);
    }

    /// Ends what [`World::take_down`] or [`World::hang_after`] began, for one operation.
    pub fn bring_up(&self, operation: &'static str) {
        let mut state = self.lock();
        state.faults.down.remove(known(operation));
        state.faults.hanging.remove(operation);
    }

    /// Ends all faults: scripted and directed ones, missing capacity, and indexes that are behind.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults = Faults::default();
        state.director = None;
        state.sizes_without_capacity.clear();
        state.places_without_capacity.clear();
        state.fewer_next = false;
        state.hides_recorded_next = false;
        state.alive_index_behind = false;
        state.alive_index_old.clear();
        state.unsettled_index_old = None;
    }

    /// From now on this director says what becomes of each call.
    pub fn direct(&self, director: impl Director + 'static) {
        self.lock().director = Some(Box::new(director));
    }

    /// From now on every call waits for one poll before its effect and one after it, so that whoever polls decides on
    /// the order of concurrent calls, and on who crashes where.
    pub fn step_by_step(&self) {
        self.lock().stepping = true;
    }

    /// A handle for people, workers and nature: its calls never fail, never wait and are not counted.
    pub fn outside(&self) -> Self {
        Self { outside: true, ..self.clone() }
    }

    /// What happened since the last time this was asked.
    pub fn take_happened(&self) -> Vec<Happened> {
        std::mem::take(&mut self.lock().happened)
    }

    /// The next launch that works makes one machine fewer than asked for.
    pub fn launch_fewer_next(&self) {
        self.lock().fewer_next = true;
    }

    /// The next describe of a pool that works shows none of the machines that are recorded as alive.
    pub fn hide_recorded_next(&self) {
        self.lock().hides_recorded_next = true;
    }

    /// Whether the index of machines alive stops showing changes; once it does not, it has caught up.
    pub fn set_alive_index_behind(&self, behind: bool) {
        let mut state = self.lock();
        state.alive_index_behind = behind;
        if !behind {
            state.alive_index_old.clear();
        }
    }

    /// Whether the index of unsettled decisions stops showing changes; once it does not, it has caught up.
    pub fn set_unsettled_index_behind(&self, behind: bool) {
        let mut state = self.lock();
        let shown = behind.then(|| state.shown_unsettled());
        state.unsettled_index_old = shown;
    }

    /// Looks at the machines of the fake EC2 without copying them.
    pub fn with_machines<R>(&self, look: impl FnOnce(&[Machine]) -> R) -> R {
        look(&self.lock().machines)
    }

    /// Changes a stored decision behind everybody's back: a poisoned history.
    pub fn change_decision(&self, pool: &str, tick: u64, change: impl FnOnce(&mut Decision)) {
        let mut state = self.lock();
        change(state.decisions.get_mut(&(pool.to_owned(), tick)).expect("that tick was decided before"));
    }

    /// Stores a decision in the form of another version: what `change` makes of its JSON. Whether this version can read
    /// that, which is returned, is for the reader of the record to say; one that cannot be read only stands in the log.
    pub fn rewrite_decision(&self, pool: &str, tick: u64, change: impl FnOnce(&mut serde_json::Value)) -> bool {
        let (key, mut state) = ((pool.to_owned(), tick), self.lock());
        let decision = state.decisions.remove(&key).expect("that tick was decided before");
        let mut json = serde_json::to_value(&decision).expect("a decision is plain data");
        change(&mut json);
        let asks = json["verdict"] == "act";
        match serde_json::from_value(json) {
            Ok(decision) => {
                state.decisions.insert(key, decision);
                true
            }
            Err(_) => {
                state.unreadable.insert(key, asks);
                false
            }
        }
    }

    /// Whether the index of unsettled decisions shows one that cannot be read.
    pub fn has_unreadable_unsettled(&self) -> bool {
        let state = self.lock();
        state.shown_unsettled().iter().any(|key| state.unreadable.contains_key(key))
    }

    /// From now on launches of a type (none for the templates' own) in a subnet fail with `InsufficientInstanceCapacity`.
    pub fn without_capacity_at(&self, instance_type: Option<&str>, subnet: Option<&str>) {
        let place = (instance_type.map(str::to_owned), subnet.map(str::to_owned));
        self.lock().places_without_capacity.insert(place);
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

    /// Looks at all decisions, by pool and tick, without copying them.
    pub fn with_decisions<R>(&self, look: impl FnOnce(Values<'_, (String, u64), Decision>) -> R) -> R {
        look(self.lock().decisions.values())
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
