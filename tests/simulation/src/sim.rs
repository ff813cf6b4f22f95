//! One run: a pool's minutes, the invocations that they bring, and who goes on or crashes when. All from one seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use contract::action::Action;
use contract::capacity::Bounds;
use contract::decision::{Decider, Decision, Verdict};
use contract::limits::DECISION_DAYS;
use contract::pool::{Aggregation, Alternate, MetricSource, PoolConfig};
use controller::ports::Decisions;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use testkit::builders::{TICK, decision, pool_config};
use testkit::fate::Happened;
use testkit::{World, op};

use crate::SECRET;
use crate::check::{Checked, Checker, Scene, at_rest, ensure, every_minute};
use crate::faults::Faults;
use crate::invocation::{Answer, Evaluating, For, Invocation, evaluator, executor, interrupted, scheduled, streamed};
use crate::journal::Journal;
use crate::meddling::Meddling;
use crate::neighbour::Neighbour;
use crate::plant::{Disasters, Plant};
use crate::profile::{Profile, QUIET, Rates};
use crate::seen::{Event, Seen};
use crate::{has_limits, now, telling, versions};

/// Minutes with faults.
const FAULTY_MINUTES: u64 = 110;
/// Minutes after them in which everything must be well again: the longest back-off after missing capacity is 30. A budget of
/// launches is an hour's, and a few machines below a money cap work off for longer what had piled up.
const HEALING_MINUTES: u64 = 60;
const HEALING_MINUTES_WITH_LIMITS: u64 = 110;
/// Polls of one minute that no honest run reaches.
const POLLS_MAX: u32 = 50_000;
/// Records of one batch of the stream.
const BATCH_MAX: usize = 10;
/// Deliveries of one record before the stream gives it up.
const ATTEMPTS_MAX: u32 = 6;
/// Warm containers of the evaluator.
const CONTAINERS: usize = 2;
/// The pool's name.
const POOL: &str = "sim";

/// The stream of decisions that ask for something, in the order of their writes.
#[derive(Default)]
struct Stream {
    ticks: Vec<u64>,
    next: usize,
    busy: bool,
    attempts: u32,
}

/// One run.
pub struct Sim {
    rng: ChaCha8Rng,
    rates: Rates,
    world: World,
    config: PoolConfig,
    journal: Journal,
    seen: Arc<Mutex<Seen>>,
    plant: Plant,
    meddling: Meddling,
    neighbour: Neighbour,
    checker: Checker,
    containers: [Option<Arc<Evaluating>>; CONTAINERS],
    running: Vec<Invocation>,
    stream: Stream,
    late: Vec<(u64, u64)>,
    reconcile_minutes: u64,
    minute: u64,
    moment: u64,
    next_id: u64,
    last_policy: Option<String>,
}

fn config(rng: &mut ChaCha8Rng) -> PoolConfig {
    let mut config = pool_config(POOL);
    for (size, max) in [4, 3, 2].into_iter().enumerate() {
        config.sizes[size].bounds = Bounds::new(rng.random_range(0..2), Some(max)).expect("1 is not above 2");
    }
    config.cooldown_s = [0, 0, 120, 180][rng.random_range(0..4)];
    config.launches_per_hour_max = [None, None, Some(5), Some(12)][rng.random_range(0..4)];
    config.machines_per_action_max = [1, 2, 4][rng.random_range(0..3)];
    let alternate = |name: &str, usd_per_hour| Alternate { instance_type: name.into(), usd_per_hour };
    if rng.random_bool(0.5) {
        config.sizes[0].alternates = vec![alternate("m6a.large", 0.25), alternate("m5.large", 0.3)];
        config.sizes[2].alternates = vec![alternate("m6a.2xlarge", 0.85)];
    }
    config.drain_s = [None, None, Some(180), Some(1200), Some(4500)][rng.random_range(0..5)];
    config.subnets = (0..rng.random_range(0..3)).map(|i| format!("subnet-{i}")).collect();
    // A secret where people put them: it must never leave the configuration.
    let url = format!("https://reader:{SECRET}@graphite.example");
    let aggregation = Aggregation::Mean { minutes: 3 };
    config.metrics.insert("cpu_util_avg".into(), MetricSource::Graphite { url, target: "cpu".into(), aggregation });
    config
}

/// Money caps, budgets of stops and an end of orphans for some of the seeds, with a randomness of their own, so that they
/// change no other chance. Each cap leaves room for the smallest fleet, and little more: a day has 24 hours, and the run begins
/// in a month's last 16 days.
fn with_caps(config: PoolConfig, seed: u64) -> PoolConfig {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6d6f_6e65_7900);
    PoolConfig {
        usd_per_hour_max: [None, None, Some(1.6), Some(2.4)][rng.random_range(0..4)],
        usd_per_day_max: [None, None, None, Some(40.0)][rng.random_range(0..4)],
        usd_per_month_max: [None, None, None, Some(620.0)][rng.random_range(0..4)],
        stops_per_hour_max: [None, None, None, Some(1), Some(2), Some(4)][rng.random_range(0..6)],
        orphans_end_after_s: [None, Some(600), Some(1200)][rng.random_range(0..3)],
        ..config
    }
}

/// Decisions whose time is over and that the table has not forgotten yet: one that was carried out, and one that asks for
/// a machine and that nobody settled.
fn expired(world: &World) {
    let tick = TICK - (DECISION_DAYS + 2) * 86_400;
    let outside = world.outside();
    for decision in [decision(POOL, tick, Action::Nothing), decision(POOL, tick + 60, Action::Launch(0, 1))] {
        let expires_at = decision.tick + DECISION_DAYS * 86_400;
        now(outside.put_once(&Decision { expires_at, ..decision })).expect("the outside's calls never fail");
    }
    world.take_happened();
}

impl Sim {
    /// A run of a profile and a seed, before its first minute.
    pub fn new(profile: Profile, seed: u64, journal: Journal) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((profile as u64) << 56));
        let mut fork = || ChaCha8Rng::seed_from_u64(rng.random());
        let (faults, plant, meddling, mut setup, disasters) = (fork(), fork(), fork(), fork(), fork());
        let config = with_caps(config(&mut setup), seed);
        let world = World::with_pool(&config);
        let (rates, seen) = (profile.rates(), Arc::<Mutex<Seen>>::default());
        world.direct(Faults::new(faults, rates, seen.clone()));
        world.step_by_step();
        let mut meddling = Meddling::new(meddling, rates, POOL);
        if setup.random_bool(0.7) {
            meddling.promotions.begin_with(&world, &crate::policies::GOOD[0]);
        }
        if seed.is_multiple_of(2) {
            expired(&world);
        }
        journal.watch_for(SECRET);
        let caps = [config.usd_per_hour_max, config.usd_per_day_max, config.usd_per_month_max];
        journal.line(format!("profile {profile} seed {seed}: {:?} caps {caps:?}", config.bounds()));
        Self {
            reconcile_minutes: [1, 5][setup.random_range(0..2)],
            plant: Plant::new(plant, POOL, rates.unhealthy, Disasters::new(disasters, rates)),
            neighbour: Neighbour::new(seed, rates),
            checker: Checker::default(),
            containers: [const { None }; CONTAINERS],
            running: Vec::new(),
            stream: Stream::default(),
            late: Vec::new(),
            minute: TICK / 60,
            moment: 0,
            next_id: 0,
            last_policy: None,
            meddling,
            rng,
            rates,
            world,
            config,
            journal,
            seen,
        }
    }

    /// What happened in it that must happen somewhere.
    pub fn seen(&self) -> Seen {
        self.noted().clone()
    }

    fn noted(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole run. If something does not hold, the log ends with all machines and records.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run(&mut self) -> Checked {
        self.minutes().inspect_err(|_| telling::still(&self.world).into_iter().for_each(|line| self.journal.line(line)))
    }

    fn minutes(&mut self) -> Checked {
        for _ in 0..FAULTY_MINUTES {
            self.one_minute()?;
        }
        self.heal();
        let healed_tick = self.minute * 60;
        for _ in 0..if has_limits(&self.config) { HEALING_MINUTES_WITH_LIMITS } else { HEALING_MINUTES } {
            self.one_minute()?;
        }
        at_rest(self.scene(self.moment), healed_tick)
    }

    fn scene(&self, begun: u64) -> Scene<'_> {
        let now_ms = self.minute * 60_000;
        Scene { world: &self.world, config: &self.config, meddling: &self.meddling, now_ms, begun }
    }

    fn happens(&mut self, chance: f64) -> bool {
        self.rng.random_bool(chance)
    }

    fn heal(&mut self) {
        self.journal.line("-- the faults stop --");
        self.rates = QUIET;
        self.world.heal();
        self.plant.heal(&self.world, &self.meddling.retagged);
        self.neighbour.heal();
        self.meddling.heal(&self.world, &self.config, &mut self.plant, self.minute);
    }

    fn one_minute(&mut self) -> Checked {
        self.minute += 1;
        let now_ms = self.minute * 60_000;
        self.world.set_now_ms(now_ms.saturating_add_signed(self.meddling.skew_ms));
        self.journal.line(format!("minute {} tick {}", self.minute - TICK / 60, self.minute * 60));
        self.outside();
        self.schedule();
        self.interleave()?;
        every_minute(self.scene(self.moment))?;
        let mut checker = std::mem::take(&mut self.checker);
        checker.look_for_orphans(self.scene(self.moment));
        self.checker = checker;
        let leaked = self.journal.leaked();
        ensure(leaked.is_none(), "I14", || format!("a log line holds the secret: {leaked:?}"))
    }

    /// What people, nature and workers do in this minute.
    fn outside(&mut self) {
        self.meddling.quiet = self.running.is_empty();
        let seen = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for done in self.meddling.minute(&self.world, &self.config, &mut self.plant, self.minute, seen) {
            self.journal.line(format!("  {done}"));
        }
        if let Some(done) = self.neighbour.launches(&self.world, POOL, self.minute, seen) {
            self.journal.line(format!("  {done}"));
        }
        let announced = self.neighbour.notice(seen).map(|id| (id, self.minute));
        self.meddling.notices.extend(announced);
        self.plant.minute(&self.world, &self.config, self.minute * 60_000, self.minute - TICK / 60, seen);
    }

    /// The minute's events: the tick, or none, or two, or late ones; a reconciliation; a crowd of stale deliveries.
    fn schedule(&mut self) {
        let tick = self.minute * 60;
        match self.rng.random::<f64>() / self.rates.event.max(f64::MIN_POSITIVE) {
            x if x < 0.3 => {
                self.noted().note(Event::DuplicateTick);
                self.evaluate(tick);
                self.evaluate(tick);
            }
            x if x < 0.5 => self.noted().note(Event::MissingTick),
            x if x < 0.8 => self.late.push((self.minute + self.rng.random_range(1..4), tick)),
            x if x < 0.85 => {
                self.noted().note(Event::FutureTick);
                let ahead = self.rng.random_range(1..10);
                self.evaluate(tick + 60 * ahead);
            }
            x if x < 1.0 => {
                self.invoke(|id, begun, world| {
                    Invocation::of_tick(id, begun, 0, evaluator(world), json!({"pool": "No Pool"}))
                });
                self.evaluate(tick);
            }
            _ => self.evaluate(tick),
        }
        let minute = self.minute;
        for (_, tick) in self.late.extract_if(.., |(due, _)| *due <= minute).collect::<Vec<_>>() {
            self.noted().note(Event::LateTick);
            self.evaluate(tick);
        }
        for i in self.meddling.promotions.due(minute) {
            let job = self.meddling.promotions.jobs[i].clone();
            self.invoke(|id, begun, world| {
                Invocation::of_promoter(id, begun, For::Promotion(i), world.clone(), POOL, job)
            });
        }
        for (id, minute) in std::mem::take(&mut self.meddling.notices) {
            self.execute(For::Notice, interrupted(&id, minute * 60));
        }
        let missing = self.happens(self.rates.event / 4.0);
        if self.minute.is_multiple_of(self.reconcile_minutes) && !missing {
            let twice = 1 + u32::from(self.happens(self.rates.event));
            for _ in 0..twice {
                self.execute(For::Reconciliation, scheduled(POOL, tick));
            }
        }
        if self.happens(self.rates.crowd) {
            self.crowd();
        }
    }

    fn invoke(&mut self, invocation: impl FnOnce(u64, u64, &World) -> Invocation) {
        self.next_id += 1;
        self.running.push(invocation(self.next_id, self.moment, &self.world));
    }

    fn evaluate(&mut self, tick: u64) {
        let container = self.rng.random_range(0..CONTAINERS);
        let cold = self.containers[container].is_none();
        let warm = self.containers[container].get_or_insert_with(|| evaluator(&self.world)).clone();
        let event = scheduled(POOL, tick);
        self.invoke(|id, begun, _| Invocation::of_tick(id, begun, container, warm, event).cold(cold));
    }

    fn execute(&mut self, purpose: For, event: serde_json::Value) {
        self.invoke(|id, begun, world| Invocation::of_executor(id, begun, purpose, executor(world), event));
    }

    /// Two to eight executors at once, on what the stream has delivered before, in any order, and on forgeries.
    fn crowd(&mut self) {
        let n = self.rng.random_range(1..8);
        self.noted().note_if(n >= 4, Event::Crowd);
        for _ in 0..n {
            let len = self.stream.ticks.len();
            let from = len.saturating_sub(self.rng.random_range(1..6));
            let mut batch: Vec<(usize, u64)> = (from..len).map(|i| (i, self.stream.ticks[i])).collect();
            if self.rng.random_bool(0.3) {
                self.noted().note_if(batch.len() > 1, Event::ReorderedBatch);
                batch.reverse();
            }
            if self.rng.random_bool(0.2) {
                batch.push((len, self.minute * 60 + 7));
            }
            let event = match self.rng.random_bool(0.05) {
                true => json!({"Records": [{"dynamodb": {"Keys": {}}}]}),
                false => streamed(POOL, &batch),
            };
            self.execute(For::Stale, event);
        }
    }

    /// The stream's own delivery, in order, one batch at a time.
    fn deliver(&mut self) {
        let stream = &mut self.stream;
        if stream.busy || stream.next == stream.ticks.len() {
            return;
        }
        if stream.attempts >= ATTEMPTS_MAX || self.rng.random_bool(self.rates.event / 10.0) {
            stream.next += 1;
            stream.attempts = 0;
            return self.noted().note(Event::LostRecord);
        }
        let from = stream.next;
        let to = stream.ticks.len().min(from + BATCH_MAX);
        let batch: Vec<(usize, u64)> = (from..to).map(|i| (i, stream.ticks[i])).collect();
        stream.busy = true;
        let redelivered = stream.attempts > 0;
        stream.attempts += 1;
        self.noted().note_if(redelivered, Event::RedeliveredBatch);
        self.execute(For::Stream(to), streamed(POOL, &batch));
    }

    /// Lets all invocations of this minute go on, call by call, in an order of chance.
    fn interleave(&mut self) -> Checked {
        // In some minutes the stream is late.
        let stalled = self.happens(self.rates.event);
        for polls in 0.. {
            ensure(polls < POLLS_MAX, "I13", || "a minute never ends".into())?;
            if !stalled {
                self.deliver();
            }
            let awake: Vec<usize> =
                (0..self.running.len()).filter(|i| self.running[*i].asleep_until <= self.minute).collect();
            let Some(pick) = (!awake.is_empty()).then(|| awake[self.rng.random_range(0..awake.len())]) else { break };
            self.step(pick)?;
        }
        Ok(())
    }

    /// One invocation goes on to its next call, falls asleep for the rest of the minute, or crashes.
    fn step(&mut self, i: usize) -> Checked {
        self.moment += 1;
        self.meddle();
        if self.happens(self.rates.crash) {
            self.crash(i);
            return Ok(());
        }
        if self.happens(self.rates.event / 100.0) && self.running[i].asleep_until == 0 {
            self.running[i].asleep_until = self.minute + 1;
        }
        let answer = self.running[i].poll();
        self.learn(i)?;
        if let Poll::Ready(answer) = answer {
            let invocation = self.running.remove(i);
            if let Answer::Reconciled(Ok(done)) = &answer {
                self.checker.reconciled(self.scene(invocation.begun), done.orphans)?;
            }
            self.answered(invocation, answer);
        }
        Ok(())
    }

    fn meddle(&mut self) {
        let seen = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ms = self.minute * 60_000;
        if let Some(done) = self.meddling.in_the_middle(&self.world, &self.config, at_ms, seen) {
            self.journal.line(format!("  {done}"));
        }
        self.meddling.moment = self.moment;
    }

    fn crash(&mut self, i: usize) {
        let invocation = self.running.remove(i);
        let event = invocation.crash();
        self.journal.line(format!("  #{} crashes: {}", invocation.id, event.text()));
        self.noted().note(event);
        match invocation.purpose {
            For::Tick(container) => self.containers[container] = None,
            For::Stream(_) => self.stream.busy = false,
            For::Promotion(i) => self.meddling.promotions.again(i, self.minute + 1),
            For::Stale | For::Reconciliation | For::Notice => {}
        }
    }

    /// Takes in what the last poll did: log, checks, the stream, and what describe shows of it.
    fn learn(&mut self, i: usize) -> Checked {
        for happened in self.world.take_happened() {
            self.journal.line(telling::line(self.running[i].id, &happened));
            self.running[i].saw(&happened);
            let begun = self.running[i].begun;
            telling::note(&happened, &mut self.noted());
            let store = [op::POLICIES_POINTER, op::POLICIES_MANIFEST, op::POLICIES_FILE];
            let store_fails =
                matches!(&happened, Happened::Called { operation, code: Some(_) } if store.contains(operation));
            self.noted().note_if(store_fails && self.running[i].cold, Event::StoreDownAtColdStart);
            // The checker is taken out for a moment: the scene borrows the rest.
            let mut checker = std::mem::take(&mut self.checker);
            let checked = checker.on(self.scene(begun), &happened);
            self.checker = checker;
            checked?;
            self.after(&happened);
        }
        Ok(())
    }

    fn after(&mut self, happened: &Happened) {
        let now_ms = self.minute * 60_000;
        let seen = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match happened {
            Happened::Launched { instance_ids, .. } => {
                for id in instance_ids {
                    self.meddling.launched(&self.world, id, now_ms, seen);
                }
                if self.rng.random_bool(self.rates.fails) {
                    self.world.launch_fewer_next();
                    seen.note(Event::FewerMachines);
                }
            }
            Happened::PointerMoved { after, .. } => self.meddling.promotions.moved(after),
            Happened::Stored { tick, .. } => {
                seen.note_if(tick + DECISION_DAYS * 86_400 < self.minute * 60, Event::ExpiredRow);
            }
            Happened::Terminated(id) => self.meddling.terminated(&self.world, id, now_ms, seen),
            Happened::Decided(decision) => {
                if decision.verdict == Verdict::Act {
                    self.stream.ticks.push(decision.tick);
                }
                if let Decider::Policy { sha256 } = &decision.decider {
                    let last = self.last_policy.replace(sha256.clone());
                    seen.note_if(last.is_some_and(|last| last != *sha256), Event::Promoted);
                }
                if self.rng.random_bool(self.rates.version) {
                    let version = versions::store(&mut self.rng, &self.world, decision);
                    self.journal.line(format!("  {}: {}", decision.tick, version.text()));
                    seen.note(version);
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, invocation: Invocation, answer: Answer) {
        self.journal.line(telling::answer(invocation.id, &answer));
        telling::note_answer(&answer, &mut self.noted());
        let beside = matches!(answer, Answer::Reconciled(Ok(_))) && self.world.has_unreadable_unsettled();
        self.noted().note_if(beside, Event::UnreadableUnsettled);
        if let (For::Promotion(i), Answer::Promoted(done)) = (invocation.purpose, &answer) {
            let seen = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            self.meddling.promotions.ended(i, done, self.minute, seen);
        }
        if let (For::Stream(to), Answer::Batch(batch)) = (invocation.purpose, &answer) {
            let failed = batch.failures.first().and_then(|f| f.sequence_number.parse().ok());
            let next = failed.unwrap_or(to);
            if next > self.stream.next {
                (self.stream.next, self.stream.attempts) = (next, 0);
            }
            self.stream.busy = false;
        }
    }
}
