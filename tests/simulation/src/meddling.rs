//! What people and nature do behind the controller's back: to machines, to the policy store, to the switches, to whole
//! services. It remembers what it changed, so that the checks know what the controller could not know.

use std::collections::{BTreeMap, BTreeSet};

use contract::control::{KillSwitch, Mode};
use contract::plan::{TAG_DECISION, TAG_MANAGED, TAG_MANAGED_VALUE, TAG_SIZE, TAG_STACK};
use contract::pool::PoolConfig;
use controller::ports::{Control, Kind};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::builders::{STACK, tags};
use testkit::{Machine, World, op};

use crate::now;
use crate::plant::{Broken, Plant, is_ours, true_size};
use crate::profile::Rates;
use crate::promotions::Promotions;
use crate::seen::{Event, Seen};

/// Services that go down as a whole.
const SERVICES: [&[&str]; 6] = [
    &[op::DESCRIBE, op::POOL_OF, op::TERMINATED, op::LAUNCH, op::TERMINATE],
    &[
        op::DECISIONS_GET,
        op::DECISIONS_BEFORE,
        op::DECISIONS_PUT_ONCE,
        op::DECISIONS_CLAIM,
        op::DECISIONS_PUT_INTENT,
        op::DECISIONS_RANGE,
        op::DECISIONS_UNSETTLED,
    ],
    &[
        op::CONTROL_CONFIG,
        op::CONTROL_HEAD,
        op::CONTROL_KILL_SWITCH,
        op::CONTROL_NO_CAPACITY,
        op::CONTROL_PUT_NO_CAPACITY,
        op::CONTROL_SUSPECTS,
        op::CONTROL_PUT_SUSPECTS,
    ],
    &[
        op::INSTANCES_ALIVE,
        op::INSTANCES_LAUNCHED,
        op::INSTANCES_ENDED,
        op::INSTANCES_PUT_NEW,
        op::INSTANCES_MARK_DRAINING,
        op::INSTANCES_REOPEN,
        op::INSTANCES_MARK_TERMINATED,
    ],
    &[op::POLICIES_POINTER, op::POLICIES_MANIFEST, op::POLICIES_FILE, op::POLICIES_PUT_FILE, op::POLICIES_MOVE_POINTER],
    &[op::METRICS_SERIES, op::TASKS_OPEN, op::TASKS_ARRIVAL_TIMES],
];

/// Until when something lasts that was done to a machine's appearance, milliseconds.
#[derive(Clone, Copy, Debug)]
enum Lag {
    New(u64),
    Dead(u64),
}

/// People and nature.
pub struct Meddling {
    rng: ChaCha8Rng,
    rates: Rates,
    pool: String,
    lags: BTreeMap<String, Lag>,
    down: Vec<(u64, &'static str)>,
    stopped: Vec<String>,
    untagged: Vec<String>,
    mode_until: Option<u64>,
    switch_until: Option<u64>,
    metrics_until: u64,
    skew_until: u64,
    index_until: u64,
    /// When a machine last stopped being an alive one of ours without our doing, milliseconds.
    pub left: BTreeMap<String, u64>,
    /// When a machine last became an alive one of ours without our doing, milliseconds.
    pub joined: BTreeMap<String, u64>,
    /// Machines whose size tag a person changed: what they are is for their record to say, if there is one.
    pub retagged: BTreeSet<String>,
    /// The pool's promotions.
    pub promotions: Promotions,
    /// When a machine stopped being one of ours, as a moment of the simulation.
    pub left_at: BTreeMap<String, u64>,
    /// When a describe was made to show nothing, milliseconds.
    pub emptied_ms: Vec<u64>,
    /// The mode that the pool was put in, and the moment.
    pub mode: Option<(Mode, u64)>,
    /// The simulation's moment.
    pub moment: u64,
    /// Notices of interruptions to be delivered: the machine, and the minute.
    pub notices: Vec<(String, u64)>,
    /// Machines that EC2 takes back, and the minute.
    doomed: Vec<(u64, String)>,
    /// Whether no invocation is under way.
    pub quiet: bool,
    /// How far EC2's clock is off, milliseconds.
    pub skew_ms: i64,
}

impl Meddling {
    /// People and nature with their own randomness.
    pub fn new(rng: ChaCha8Rng, rates: Rates, pool: &str) -> Self {
        Self {
            rng,
            rates,
            pool: pool.to_owned(),
            lags: BTreeMap::new(),
            down: Vec::new(),
            notices: Vec::new(),
            doomed: Vec::new(),
            stopped: Vec::new(),
            untagged: Vec::new(),
            mode_until: None,
            switch_until: None,
            metrics_until: 0,
            skew_until: 0,
            index_until: 0,
            left: BTreeMap::new(),
            joined: BTreeMap::new(),
            retagged: BTreeSet::new(),
            promotions: Promotions::new(pool),
            left_at: BTreeMap::new(),
            emptied_ms: Vec::new(),
            mode: None,
            moment: 0,
            quiet: true,
            skew_ms: 0,
        }
    }

    /// One minute's interference; what it did, in words.
    pub fn minute(
        &mut self,
        world: &World,
        config: &PoolConfig,
        plant: &mut Plant,
        minute: u64,
        seen: &mut Seen,
    ) -> Vec<String> {
        let mut done = Vec::new();
        self.expire(world, config, plant, minute);
        for (_, id) in self.doomed.extract_if(.., |(at, _)| *at <= minute).collect::<Vec<_>>() {
            if world.with_machines(|all| all.iter().any(|m| m.instance_id == id && m.alive)) {
                done.push(self.lose(world, &id, minute * 60_000, seen));
            }
        }
        if self.happens(self.rates.machine) {
            done.push(self.machine(world, config, minute * 60_000, seen));
        }
        if self.happens(self.rates.outage) {
            done.push(self.outage(world, minute, seen));
        }
        if self.happens(self.rates.operation) {
            done.push(self.operation(world, config, minute, seen));
        }
        if self.happens(self.rates.metrics) && plant.broken.is_none() {
            done.push(self.metrics(plant, minute));
        }
        if self.happens(self.rates.promotion) {
            done.push(self.promotions.any(&mut self.rng, world, minute));
        }
        if self.happens(self.rates.data) {
            done.push(self.clocks(plant, minute, seen));
        }
        // While an evaluator sleeps, it may hold the state as it was: then nobody could say what it went on from.
        if self.happens(self.rates.data) && self.quiet {
            done.push(self.poison(world, seen));
        }
        if self.happens(self.rates.data) {
            self.index_until = minute + self.rng.random_range(1..3);
            done.push(self.index(world, seen));
        }
        done
    }

    fn happens(&mut self, chance: f64) -> bool {
        self.rng.random_bool(chance)
    }

    /// Ends what has lasted long enough.
    fn expire(&mut self, world: &World, config: &PoolConfig, plant: &mut Plant, minute: u64) {
        self.show(world, minute * 60_000);
        for (_, operation) in self.down.extract_if(.., |(until, _)| *until <= minute) {
            world.bring_up(operation);
        }
        self.promotions.arrive(world, minute);
        let outside = world.outside();
        if self.mode_until.take_if(|until| *until <= minute).is_some() {
            self.mode = None;
            now(outside.put_config(config)).expect("the outside's calls never fail");
        }
        if self.switch_until.take_if(|until| *until <= minute).is_some() {
            now(outside.put_kill_switch(KillSwitch { engaged: false })).expect("the outside's calls never fail");
        }
        if self.metrics_until <= minute {
            plant.broken = None;
        }
        if self.skew_until <= minute {
            (plant.skew_ms, self.skew_ms) = (0, 0);
        }
        if self.index_until <= minute {
            world.set_alive_index_behind(false);
            world.set_unsettled_index_behind(false);
        }
    }

    /// Describe catches up.
    fn show(&mut self, world: &World, at_ms: u64) {
        self.lags.retain(|id, lag| {
            let (Lag::New(until) | Lag::Dead(until)) = *lag;
            if until <= at_ms {
                world.change_machine(id, |m| {
                    m.visible = matches!(lag, Lag::New(_)) && (m.alive || m.visible);
                    m.shown_alive = None;
                });
            }
            until > at_ms
        });
    }

    /// A launch of ours made this machine; describe may not show it yet.
    pub fn launched(&mut self, world: &World, id: &str, at_ms: u64, seen: &mut Seen) {
        if self.happens(self.rates.behind) {
            seen.note(Event::DescribeBehindNew);
            self.lags.insert(id.to_owned(), Lag::New(at_ms + 60_000 * self.rng.random_range(1..3)));
            world.change_machine(id, |m| m.visible = false);
        }
    }

    /// A machine was terminated, by us or by nature; describe may still show it.
    pub fn terminated(&mut self, world: &World, id: &str, at_ms: u64, seen: &mut Seen) {
        let behind = self.happens(self.rates.behind);
        self.lags.remove(id);
        if behind {
            seen.note(Event::DescribeBehindDead);
            self.lags.insert(id.to_owned(), Lag::Dead(at_ms + 60_000 * self.rng.random_range(1..3)));
        }
        world.change_machine(id, |m| {
            (m.alive, m.visible, m.shown_alive) = (false, behind, behind.then_some(true));
        });
    }

    fn alive(&mut self, world: &World) -> Option<Machine> {
        let ours: Vec<Machine> =
            world.with_machines(|all| all.iter().filter(|m| m.alive && is_ours(m, &self.pool)).cloned().collect());
        (!ours.is_empty()).then(|| ours[self.rng.random_range(0..ours.len())].clone())
    }

    /// Somebody or nature changes a machine; what it did, in words.
    pub fn machine(&mut self, world: &World, config: &PoolConfig, at_ms: u64, seen: &mut Seen) -> String {
        let what = self.rng.random_range(0..12);
        let Some(Machine { instance_id: id, client_token, .. }) = self.alive(world) else {
            return self.by_hand(world, config, at_ms, seen);
        };
        match what {
            0 => self.lose(world, &id, at_ms, seen),
            1 => {
                seen.note(Event::SpotNotice);
                self.notices.push((id.clone(), at_ms / 60_000));
                self.doomed.push((at_ms / 60_000 + 2, id.clone()));
                format!("EC2 announces that it takes {id} back")
            }
            2 => {
                seen.note(Event::ZoneLoss);
                while let Some(machine) = self.alive(world).filter(|_| self.rng.random_bool(0.7)) {
                    self.lose(world, &machine.instance_id, at_ms, seen);
                }
                "a zone is lost".into()
            }
            3 => {
                seen.note(Event::StoppedByHuman);
                self.left.insert(id.clone(), at_ms);
                self.stopped.push(id.clone());
                self.lags.remove(&id);
                world.change_machine(&id, |m| (m.alive, m.visible, m.shown_alive) = (false, true, None));
                format!("a person stops {id}")
            }
            4 => self.start_again(world, at_ms, seen),
            5 => {
                seen.note(Event::Retagged);
                self.left.insert(id.clone(), at_ms);
                self.left_at.insert(id.clone(), self.moment);
                self.untagged.push(id.clone());
                let tag = [TAG_MANAGED, TAG_STACK][(at_ms / 60_000 % 2) as usize];
                world.change_machine(&id, |m| drop(m.tags.remove(tag)));
                format!("a person takes {id}'s tag {tag} away")
            }
            6 => self.tag_again(world, at_ms),
            // One without a record would be adopted as what its tag says, and nobody could know better.
            7 if client_token.is_some() && world.instances().iter().any(|r| r.instance_id == id) => {
                seen.note(Event::SizeRetagged);
                self.retagged.insert(id.clone());
                let size = self.rng.random_range(0..5).to_string();
                let text = format!("a person tags {id} as size {size}");
                world.change_machine(&id, |m| drop(m.tags.insert(TAG_SIZE.into(), size)));
                text
            }
            8 | 9 => {
                world.change_machine(&id, |m| m.protected = true);
                format!("a person protects {id}")
            }
            _ => self.by_hand(world, config, at_ms, seen),
        }
    }

    fn lose(&mut self, world: &World, id: &str, at_ms: u64, seen: &mut Seen) -> String {
        seen.note(Event::SpotLoss);
        self.left.insert(id.to_owned(), at_ms);
        self.terminated(world, id, at_ms, seen);
        format!("{id} is lost")
    }

    fn start_again(&mut self, world: &World, at_ms: u64, seen: &mut Seen) -> String {
        let Some(id) = self.stopped.pop() else { return "nobody starts anything".into() };
        let stopped = world.with_machines(|all| all.iter().any(|m| m.instance_id == id && !m.alive && m.visible));
        if !stopped {
            return format!("{id} is not there any more to be started");
        }
        seen.note(Event::StartedByHuman);
        self.joined.insert(id.clone(), at_ms);
        world.change_machine(&id, |m| m.alive = true);
        format!("a person starts {id} again")
    }

    fn tag_again(&mut self, world: &World, at_ms: u64) -> String {
        let Some(id) = self.untagged.pop() else { return "nobody tags anything".into() };
        self.joined.insert(id.clone(), at_ms);
        let tags = [(TAG_MANAGED, TAG_MANAGED_VALUE), (TAG_STACK, STACK)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        world.change_machine(&id, |m| m.tags.extend(tags));
        format!("a person gives {id} its tags back")
    }

    fn by_hand(&mut self, world: &World, config: &PoolConfig, at_ms: u64, seen: &mut Seen) -> String {
        let mut tags = tags(&config.pool, at_ms / 1000, self.rng.random_range(0..4));
        tags.remove(TAG_DECISION);
        match self.rng.random_range(0..10) {
            0..3 => tags.clear(),
            // of a moment that is no tick, so that no decision explains it
            3..6 => drop(tags.insert(TAG_DECISION.into(), (at_ms / 1000 + 7).to_string())),
            _ => {}
        }
        seen.note_if(!tags.is_empty(), Event::LaunchedByHand);
        let id = world.add_machine(tags);
        self.joined.insert(id.clone(), at_ms);
        format!("a person launches {id}")
    }

    fn outage(&mut self, world: &World, minute: u64, seen: &mut Seen) -> String {
        seen.note(Event::Outage);
        let service = SERVICES[self.rng.random_range(0..SERVICES.len())];
        let kind = [Kind::Unavailable, Kind::Throttled, Kind::Denied][self.rng.random_range(0..3)];
        let until = minute + self.rng.random_range(1..6);
        for operation in service {
            world.take_down(operation, kind);
            self.down.push((until, operation));
        }
        format!("{} and its like are down: {kind:?}", service[0])
    }

    fn operation(&mut self, world: &World, config: &PoolConfig, minute: u64, seen: &mut Seen) -> String {
        let until = minute + self.rng.random_range(1..8);
        match self.rng.random_range(0..4) {
            0 | 1 => self.flip(world, until),
            2 => {
                seen.note(Event::BadConfig);
                world.take_down(op::CONTROL_CONFIG, Kind::Invalid);
                self.down.push((until, op::CONTROL_CONFIG));
                "the configuration is broken".into()
            }
            _ => self.set_mode(world, config, until),
        }
    }

    fn set_mode(&mut self, world: &World, config: &PoolConfig, until: u64) -> String {
        let mode = [Mode::Off, Mode::Observe, Mode::Drain][self.rng.random_range(0..3)];
        self.mode_until = Some(until);
        self.mode = Some((mode, self.moment));
        now(world.outside().put_config(&PoolConfig { mode, ..config.clone() })).expect("never fails");
        format!("mode {mode:?}")
    }

    fn flip(&mut self, world: &World, until: u64) -> String {
        self.switch_until = Some(until);
        now(world.outside().put_kill_switch(KillSwitch { engaged: true })).expect("the outside's calls never fail");
        "the kill switch is engaged".into()
    }

    /// Interference in the middle of an invocation.
    pub fn in_the_middle(&mut self, world: &World, config: &PoolConfig, at_ms: u64, seen: &mut Seen) -> Option<String> {
        if !self.happens(self.rates.meddle) {
            return None;
        }
        Some(match self.rng.random_range(0..6) {
            0 => self.flip(world, at_ms / 60_000 + 2),
            4 => self.set_mode(world, config, at_ms / 60_000 + 2),
            5 => {
                seen.note(Event::DescribeEmpty);
                self.emptied_ms.push(at_ms);
                world.hide_recorded_next();
                "the next describe shows no recorded machine".into()
            }
            1 => {
                if self.rng.random_bool(0.5) {
                    world.without_capacity(self.rng.random_range(0..3));
                    return Some("EC2 has no capacity for a size".into());
                }
                let subnet = format!("subnet-{}", self.rng.random_range(0..2));
                world.without_capacity_at(None, config.subnets.first().map(|_| subnet.as_str()));
                "EC2 has none of the templates' types in a subnet".into()
            }
            _ => self.machine(world, config, at_ms, seen),
        })
    }

    fn metrics(&mut self, plant: &mut Plant, minute: u64) -> String {
        self.metrics_until = minute + self.rng.random_range(1..10);
        let broken = match self.rng.random_range(0..8) {
            0 | 1 => Broken::Missing,
            2 | 3 => Broken::Stale,
            i => Broken::Value([f64::NAN, f64::INFINITY, -0.25, 55.0][i - 4]),
        };
        plant.broken = Some(broken);
        format!("metrics: {broken:?}")
    }

    fn clocks(&mut self, plant: &mut Plant, minute: u64, seen: &mut Seen) -> String {
        seen.note(Event::ClockSkew);
        self.skew_until = minute + self.rng.random_range(1..20);
        self.skew_ms = self.rng.random_range(-600_000..600_000);
        plant.skew_ms = -self.skew_ms;
        format!("clocks jump: EC2's by {} ms, the submitters' the other way", self.skew_ms)
    }

    fn index(&mut self, world: &World, seen: &mut Seen) -> String {
        if self.rng.random_bool(0.5) {
            world.set_alive_index_behind(true);
            seen.note(Event::IndexBehind);
            return "the index of machines alive is behind".into();
        }
        world.set_unsettled_index_behind(true);
        seen.note(Event::UnsettledIndexBehind);
        "the index of unsettled decisions is behind".into()
    }

    fn poison(&mut self, world: &World, seen: &mut Seen) -> String {
        let last = world.with_decisions(|all| all.last().cloned()).filter(|d| d.lstm.is_some());
        let Some(last) = last else { return "no poison".into() };
        seen.note(Event::PoisonedState);
        let shorten = self.rng.random_bool(0.5);
        world.change_decision(&last.pool, last.tick, |d| {
            let Some(state) = &mut d.lstm else { return };
            if shorten { state.h.truncate(1) } else { state.c.fill(f32::MAX) }
        });
        format!("the state in the decision of {} is poisoned", last.tick)
    }

    /// Faults stop: what people and nature did ends, but machines that are gone stay so, and so do bad promotions.
    pub fn heal(&mut self, world: &World, config: &PoolConfig, plant: &mut Plant, minute: u64) {
        self.rates = crate::profile::QUIET;
        for until in [&mut self.metrics_until, &mut self.skew_until, &mut self.index_until] {
            *until = minute;
        }
        self.mode_until = Some(minute);
        self.switch_until = Some(minute);
        self.down.clear();
        self.promotions.heal(world);
        self.expire(world, config, plant, minute);
        for machine in world.machines() {
            let is_orphan = is_ours(&machine, &self.pool) && true_size(&machine, config).is_none();
            world.change_machine(&machine.instance_id, |m| {
                m.protected = false;
                // what is reported as an orphan costs money, and somebody ends it
                (m.alive, m.visible) = (m.alive && !is_orphan, m.visible && !is_orphan);
            });
        }
    }
}
