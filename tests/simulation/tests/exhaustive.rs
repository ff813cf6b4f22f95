//! No sampled luck: for one launch, one stop and one drain, a crash before and after every single call of the first minute,
//! together with every single fault of every single call of it; and over the whole run, in which what was interrupted is
//! resumed and the drain ends, every crash alone, every fault alone, and one in so many pairs of a fault or a crash with a
//! later crash. Each time everything must be settled, once, within the bounds, a while later. The same for a promotion and
//! a roll-back, which must be there once the promoter has been run again.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use contract::action::Action;
use contract::capacity::Bounds;
use contract::decision::{IntentState, Outcome, Verdict};
use contract::manifest::Pointer;
use contract::pool::{OUTSIDE_METRICS, PoolConfig};
use contract::record::TaskRecord;
use controller::ports::{Instances, Kind, Point, PolicyStore, Tasks};
use simulation::invocation::{Answer, For, Invocation, evaluator, executor, scheduled, streamed};
use simulation::policies::{GOOD, verified};
use simulation::promotions::Job;
use simulation::{now, timer};
use testkit::builders::{TICK, pool_config, task};
use testkit::fate::{Director, Fate, Happened};
use testkit::{World, fault, op};

const POOL: &str = "p";
/// Minutes after which everything must be settled: late after five, and the reconciler comes every minute.
const MINUTES: u64 = 12;

/// What one call suffers. Every kind of failure that the handlers tell apart, before the effect and behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Suffers {
    Fails(Kind),
    Lost,
    Repeated,
}

const ALL: [Suffers; 8] = [
    Suffers::Fails(Kind::Throttled),
    Suffers::Fails(Kind::Unavailable),
    Suffers::Fails(Kind::Denied),
    Suffers::Fails(Kind::Invalid),
    Suffers::Fails(Kind::NotFound),
    Suffers::Fails(Kind::NoCapacity),
    Suffers::Lost,
    Suffers::Repeated,
];

/// One run: what its `call`-th call suffers, and before which poll its process crashes; it may crash once more later.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Case {
    fault: Option<(usize, Suffers)>,
    crash: Option<usize>,
    again: Option<usize>,
}

/// Of the pairs beyond the first minute one in so many is run: all of them would take an hour. A prime number, so that no
/// kind of call is left out.
const ONE_IN: usize = 61;

/// How long a run is.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    polls: usize,
    calls: usize,
}

/// Lets the `n`-th call suffer, and counts.
struct Nth {
    calls: Arc<Mutex<usize>>,
    fault: Option<(usize, Suffers)>,
}

impl Director for Nth {
    fn fate(&mut self, operation: &'static str) -> Fate {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        let error = |kind| fault(operation, &format!("{kind:?}"), kind);
        match self.fault.filter(|(n, _)| *n == *calls) {
            None => Fate::Fine,
            // Only a launch can meet this.
            Some((_, Suffers::Fails(Kind::NoCapacity))) if operation != op::LAUNCH => Fate::Fine,
            Some((_, Suffers::Fails(kind))) => Fate::Fails(error(kind)),
            Some((_, Suffers::Lost)) => Fate::Lost(error(Kind::Unavailable)),
            Some((_, Suffers::Repeated)) => Fate::Repeated,
        }
    }
}

/// What a case is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scenario {
    /// Tasks wait, and one small machine is launched.
    Launch,
    /// Nothing is to be done, and one of two small machines is stopped.
    Stop,
    /// Each of two small machines has one task without an end, and one has three minutes to work it off.
    Drain,
}

fn config(scenario: Scenario) -> PoolConfig {
    let drain_s = (scenario == Scenario::Drain).then_some(180);
    let mut config = PoolConfig { cooldown_s: 120, drain_s, ..pool_config(POOL) };
    let small = if scenario == Scenario::Launch { Bounds::new(0, Some(1)) } else { Bounds::new(1, Some(3)) };
    config.sizes[0].bounds = small.unwrap();
    for size in 1..3 {
        config.sizes[size].bounds = Bounds::new(0, Some(0)).unwrap();
    }
    config
}

fn world(scenario: Scenario) -> World {
    let config = config(scenario);
    let world = World::with_pool(&config);
    let outside = world.outside();
    world.set_now_ms(TICK * 1000);
    match scenario {
        Scenario::Launch => {
            for i in 0..4 {
                now(outside.put(&task(POOL, &format!("t-{i}"), (TICK - 90) * 1000))).unwrap();
            }
        }
        Scenario::Stop | Scenario::Drain => {
            for tick in [TICK - 3600, TICK - 3000] {
                let id = outside.add_machine(testkit::builders::tags(POOL, tick, 0));
                let record = contract::record::InstanceRecord {
                    decision: Some(tick),
                    ..testkit::builders::instance(POOL, &id, 0, tick * 1000)
                };
                now(outside.put_new(&record)).unwrap();
                now(outside.mark_ready(&record, (tick + 60) * 1000)).unwrap();
                if scenario == Scenario::Drain {
                    let started_ms = Some((tick + 60) * 1000);
                    let task = task(POOL, &id, tick * 1000);
                    now(outside.put(&TaskRecord { started_ms, instance_id: Some(id), ..task })).unwrap();
                }
            }
        }
    }
    world
}

/// The running case: its world, its count of polls, and what happened.
struct Running {
    world: World,
    case: Case,
    polls: usize,
    crashed: bool,
    happened: Vec<Happened>,
}

impl Running {
    fn new(scenario: Scenario, case: Case, calls: &Arc<Mutex<usize>>) -> Self {
        let world = world(scenario);
        world.step_by_step();
        world.direct(Nth { calls: calls.clone(), fault: case.fault });
        Self { world, case, polls: 0, crashed: false, happened: Vec::new() }
    }

    /// Runs an invocation to its end; none if it crashed.
    fn finish(&mut self, mut invocation: Invocation) -> Option<Answer> {
        loop {
            self.polls += 1;
            if [self.case.crash, self.case.again].contains(&Some(self.polls)) {
                self.crashed = true;
                return None;
            }
            let answer = invocation.poll();
            self.happened.extend(self.world.take_happened());
            if let Poll::Ready(answer) = answer {
                return Some(answer);
            }
        }
    }

    /// One minute: the tick, if it is the first one or it did not get through; the stream; the reconciler.
    fn minute(&mut self, minute: u64, config: &PoolConfig) {
        let tick = TICK + 60 * minute;
        self.world.set_now_ms(tick * 1000);
        for name in OUTSIDE_METRICS {
            self.world.add_point(POOL, &config.metrics[name], Point { at_ms: (tick - 60) * 1000, value: 0.0 });
        }
        if self.acts().is_empty() {
            let invocation = Invocation::of_tick(1, 0, 0, evaluator(&self.world), scheduled(POOL, tick));
            self.finish(invocation);
        }
        for (position, tick) in self.acts().into_iter().enumerate() {
            let event = streamed(POOL, &[(position, tick)]);
            let invocation = Invocation::of_executor(2, 0, For::Stale, executor(&self.world), event);
            self.finish(invocation);
        }
        let event = scheduled(POOL, tick);
        let invocation = Invocation::of_executor(3, 0, For::Reconciliation, executor(&self.world), event);
        self.finish(invocation);
    }

    /// Ticks that asked for something.
    fn acts(&self) -> Vec<u64> {
        self.world.decisions().iter().filter(|d| d.verdict == Verdict::Act).map(|d| d.tick).collect()
    }
}

/// Runs a case and checks what must hold; the lengths of its first minute and of the whole.
fn hold(scenario: Scenario, case: Case) -> [Length; 2] {
    let calls = Arc::default();
    let config = config(scenario);
    let mut running = Running::new(scenario, case, &calls);
    running.minute(0, &config);
    let first = Length { polls: running.polls, calls: *calls.lock().unwrap() };
    for minute in 1..=MINUTES {
        running.minute(minute, &config);
    }
    check(scenario, case, &running);
    [first, Length { polls: running.polls, calls: *calls.lock().unwrap() }]
}

fn check(scenario: Scenario, case: Case, running: &Running) {
    let (world, at) = (&running.world, format!("{scenario:?} {case:?}"));
    let decisions = world.decisions();
    assert_eq!(running.acts().len(), 1, "{at}: one decision in the end");
    for d in decisions.iter().filter(|d| d.verdict == Verdict::Act) {
        let expected = if scenario == Scenario::Launch { Action::Launch(0, 1) } else { Action::Stop(0, 1) };
        assert_eq!(d.action, expected, "{at}");
        let intent = d.intent.as_ref().unwrap_or_else(|| panic!("{at}: never claimed nor released"));
        assert_eq!(intent.state, IntentState::Settled, "{at}: {intent:?}");
        true_outcome(world, intent.outcome.as_ref().unwrap(), &at);
    }
    let alive: Vec<String> = world.machines().into_iter().filter(|m| m.alive).map(|m| m.instance_id).collect();
    let records = world.instances().into_iter().filter(|r| r.terminated_ms.is_none()).map(|r| r.instance_id);
    assert_eq!(alive, records.collect::<Vec<_>>(), "{at}: records and machines agree");
    let launched = running.happened.iter().filter(|h| matches!(h, Happened::Launched { .. })).count();
    let terminated = running.happened.iter().filter(|h| matches!(h, Happened::Terminated(_))).count();
    match scenario {
        Scenario::Launch => assert!(launched <= 1 && terminated == 0 && alive.len() == launched, "{at}"),
        Scenario::Stop | Scenario::Drain => {
            assert!(terminated <= 1 && launched == 0 && alive.len() == 2 - terminated, "{at}")
        }
    }
    if case == Case::default() {
        assert_eq!(launched + terminated, 1, "{at}: nothing stood in the way");
    }
}

/// What an outcome says is so.
fn true_outcome(world: &World, outcome: &Outcome, at: &str) {
    let machines = world.machines();
    let alive = |id: &String| machines.iter().any(|m| m.instance_id == *id && m.alive);
    match outcome {
        Outcome::Launched { instance_ids } => assert!(instance_ids.iter().all(alive), "{at}: {outcome:?}"),
        Outcome::Terminated { instance_ids } => assert!(!instance_ids.iter().any(alive), "{at}: {outcome:?}"),
        Outcome::Draining { instance_ids, .. } => {
            let drains = |id: &String| world.instances().iter().any(|r| r.instance_id == *id && r.drain.is_some());
            // EC2 may not have let it go: then it works again
            assert!(!instance_ids.iter().any(|id| alive(id) && drains(id)), "{at}: {outcome:?}");
        }
        Outcome::NoCapacity { .. } | Outcome::Refused { .. } | Outcome::Nothing { .. } => {
            let launched = machines.iter().any(|m| m.client_token.is_some());
            assert!(!launched, "{at}: {outcome:?}, and a machine was launched");
        }
        Outcome::Failed { .. } => {}
    }
}

/// Every crash point with every fault of every call in the first minute; over the whole run, each alone and some pairs.
fn exhaust(scenario: Scenario) {
    let timer = timer();
    let _timer = timer.enter();
    let [first, whole] = hold(scenario, Case::default());
    assert!(first.polls > 30 && first.calls > 20, "{first:?}: too few to be the whole protocol");
    assert!(whole.polls > 2 * first.polls, "{whole:?}: too few to be the whole run");
    let (mut cases, mut pairs) = (0, 0);
    for case in alone(whole) {
        // what failed or crashed takes longer, and that is where it is resumed
        let [_, longer] = hold(scenario, case);
        cases += 1;
        let begun = case.crash.unwrap_or(1);
        for crash in (begun..=longer.polls).filter(|crash| Some(*crash) != case.crash) {
            pairs += 1;
            if pairs % ONE_IN == 0 || (is_early(case, first) && crash <= first.polls) {
                hold(scenario, crashing(case, crash));
                cases += 1;
            }
        }
    }
    println!("{scenario:?}: {first:?} of {whole:?}, {cases} cases");
    assert!(cases > first.calls * ALL.len() * first.polls, "{cases} cases");
}

/// Every fault and every crash of the whole run.
fn alone(whole: Length) -> impl Iterator<Item = Case> {
    let faults =
        (1..=whole.calls).flat_map(|n| ALL.map(|suffers| Case { fault: Some((n, suffers)), ..Case::default() }));
    let crashes = (1..=whole.polls).map(|poll| Case { crash: Some(poll), ..Case::default() });
    faults.chain(crashes)
}

/// The same with one more crash.
fn crashing(case: Case, poll: usize) -> Case {
    match case.crash {
        None => Case { crash: Some(poll), ..case },
        Some(_) => Case { again: Some(poll), ..case },
    }
}

/// Whether a case's fault is in the first minute.
fn is_early(case: Case, first: Length) -> bool {
    case.fault.is_some_and(|(n, _)| n <= first.calls)
}

/// A promoter's run with a fault and a crash, and another one after it.
struct Promoting {
    world: World,
    job: Job,
    /// What stands before the job, and what must stand after it.
    stands: [Pointer; 2],
}

impl Promoting {
    fn new(job: Job) -> Self {
        let world = World::with_pool(&pool_config(POOL));
        for package in &GOOD[..2] {
            now(Job::Promote(package).done(&world.outside(), POOL)).unwrap();
        }
        let before = now(world.outside().pointer(POOL)).unwrap().unwrap().0;
        let sha256 = match &job {
            Job::Promote(package) => package.sha256.clone(),
            Job::RollBack(_) => GOOD[0].sha256.clone(),
        };
        let after = Pointer { sha256, previous: Some(before.sha256.clone()), serial: 3, ..before };
        world.step_by_step();
        Self { world, job, stands: [before, after] }
    }

    /// Runs the promoter to its end; none if it crashed. Whenever somebody looks, the pointer is the old one or the new
    /// one, and all files of that policy are there.
    fn run(&self, crash: Option<usize>, polls: &mut usize) -> Option<Answer> {
        let mut run = Invocation::of_promoter(1, 0, For::Promotion(0), self.world.clone(), POOL, self.job.clone());
        let at = format!("{:?}", self.job);
        loop {
            *polls += 1;
            if crash == Some(*polls) {
                return None;
            }
            let answer = run.poll();
            let outside = self.world.outside();
            let pointer = now(outside.pointer(POOL)).unwrap().unwrap().0;
            assert!(self.stands.contains(&pointer), "{at}: {pointer:?}");
            for (name, bytes) in verified(&pointer.sha256).unwrap().files() {
                assert_eq!(now(outside.file(&pointer.sha256, &name, 1 << 20)).unwrap(), bytes, "{at}: {name}");
            }
            if let Poll::Ready(answer) = answer {
                return Some(answer);
            }
        }
    }
}

/// Runs a case: the first run as it goes, and then another one without faults; the polls and calls of the first.
fn promote(job: Job, case: Case) -> (usize, usize) {
    let (calls, promoting) = (Arc::<Mutex<usize>>::default(), Promoting::new(job));
    promoting.world.direct(Nth { calls: calls.clone(), fault: case.fault });
    let mut polls = 0;
    let first = promoting.run(case.crash, &mut polls);
    let first_calls = *calls.lock().unwrap();
    if case == Case::default() {
        assert!(matches!(first, Some(Answer::Promoted(Ok(Some(_))))), "nothing stood in the way: {first:?}");
    }
    promoting.world.heal();
    let second = promoting.run(None, &mut 0);
    assert!(matches!(second, Some(Answer::Promoted(Ok(_)))), "{:?} {case:?}: {second:?}", promoting.job);
    let stands = now(promoting.world.outside().pointer(POOL)).unwrap().unwrap().0;
    assert_eq!(stands, promoting.stands[1], "{:?} {case:?}", promoting.job);
    (polls, first_calls)
}

#[test]
fn a_promotion_and_a_roll_back_survive_every_crash_with_every_fault() {
    for job in [Job::Promote(&GOOD[2]), Job::RollBack(GOOD[1].sha256.clone())] {
        let (polls, calls) = promote(job.clone(), Case::default());
        assert!(polls > 5 && calls > 2, "{polls} polls, {calls} calls: too few to be all of it");
        for fault in (1..=calls).flat_map(|n| ALL.map(|suffers| Some((n, suffers)))).chain([None]) {
            for crash in (1..=polls).map(Some).chain([None]) {
                promote(job.clone(), Case { fault, crash, again: None });
            }
        }
    }
}

#[test]
fn a_launch_survives_every_crash_with_every_fault() {
    exhaust(Scenario::Launch);
}

#[test]
fn a_drain_survives_every_crash_with_every_fault() {
    exhaust(Scenario::Drain);
}

#[test]
fn a_stop_survives_every_crash_with_every_fault() {
    exhaust(Scenario::Stop);
}
