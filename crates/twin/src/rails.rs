//! What the production guard needs to know of the past: the cooldown, the last action, failed launches, the budget; and the
//! cap on dollars an hour. Those of a day and a month are not simulated: an episode has no calendar, and is shorter.

use std::collections::VecDeque;

use contract::Action;
use contract::capacity::Bounds;
use contract::control::Mode;
use contract::record::BackOff;
use controller::guard::Situation;
use controller::money::{NanoUsd, Room};

use crate::config::SimConfig;
use crate::fleet::Fleet;

/// One hour, over which launches are counted for their budget.
const LAUNCH_WINDOW_MS: u64 = 3_600_000;

/// The guard's memory in one episode.
#[derive(Clone, Debug)]
pub(crate) struct Rails {
    bounds: Vec<Bounds>,
    cooldown_ms: u64,
    machines_per_action_max: u16,
    launches_per_hour_max: Option<u32>,
    prices: Vec<NanoUsd>,
    usd_per_hour_max: Option<NanoUsd>,
    remembers_no_capacity: bool,
    next_allowed_ms: u64,
    last_action: Option<(Action, u64)>,
    /// By type, which is had in one place.
    no_capacity: Vec<BackOff>,
    no_capacity_flags: Vec<bool>,
    /// Whether the last observation was doubtful.
    doubtful: bool,
    /// Times of the launches of the last hour, if there is a budget.
    launch_times_ms: VecDeque<u64>,
}

impl Rails {
    pub fn new(config: &SimConfig) -> Self {
        Self {
            bounds: config.types.iter().map(|t| t.bounds).collect(),
            cooldown_ms: config.cooldown_ms,
            machines_per_action_max: config.machines_per_action_max,
            launches_per_hour_max: config.launches_per_hour_max,
            prices: config.types.iter().map(|t| NanoUsd::of(t.usd_per_hour)).collect(),
            usd_per_hour_max: config.usd_per_hour_max.map(NanoUsd::of),
            remembers_no_capacity: config.remember_no_capacity,
            next_allowed_ms: 0,
            last_action: None,
            no_capacity: vec![BackOff::default(); config.types.len()],
            no_capacity_flags: vec![false; config.types.len()],
            doubtful: false,
            launch_times_ms: VecDeque::new(),
        }
    }

    pub fn reset(&mut self) {
        self.next_allowed_ms = 0;
        self.last_action = None;
        self.no_capacity.fill(BackOff::default());
        self.no_capacity_flags.fill(false);
        self.doubtful = false;
        self.launch_times_ms.clear();
    }

    /// Brings the memory up to a time; what lies too far back is forgotten.
    pub fn pass_to(&mut self, now_ms: u64) {
        if self.remembers_no_capacity {
            for (flag, back_off) in self.no_capacity_flags.iter_mut().zip(&self.no_capacity) {
                *flag = back_off.until_ms > now_ms;
            }
        }
        while self.launch_times_ms.front().is_some_and(|at_ms| at_ms + LAUNCH_WINDOW_MS <= now_ms) {
            self.launch_times_ms.pop_front();
        }
    }

    /// An action was carried out: the cooldown starts (V5).
    pub fn accepted(&mut self, action: Action, now_ms: u64) {
        self.last_action = Some((action, now_ms));
        self.next_allowed_ms = now_ms + self.cooldown_ms;
        let Action::Launch(size, machines) = action else { return };
        if self.launches_per_hour_max.is_some() {
            self.launch_times_ms.extend(std::iter::repeat_n(now_ms, usize::from(machines)));
        }
        if self.remembers_no_capacity {
            self.no_capacity[usize::from(size)] = BackOff::default();
        }
    }

    /// A launch failed for lack of capacity: no cooldown starts (V6). With the memory of production the size is left alone
    /// for a while, and the cooldown has begun with the claim, as it does there.
    pub fn failed(&mut self, action: Action, size: usize, now_ms: u64) {
        if self.remembers_no_capacity {
            self.last_action = Some((action, now_ms));
            self.next_allowed_ms = now_ms + self.cooldown_ms;
            self.no_capacity[size] = self.no_capacity[size].failed(now_ms);
        }
    }

    /// Whether data are missing, so that nothing may be stopped until they are there again.
    pub fn set_doubtful(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
    }

    /// The last action that was carried out, if any, and when.
    pub fn last_action(&self) -> Option<(Action, u64)> {
        self.last_action
    }

    /// What the cap on dollars an hour leaves, beside the machines that drain and are paid for.
    fn room(&self, max: NanoUsd, fleet: &Fleet) -> Room<'_> {
        Room::below(max, &self.prices, fleet.counts(), fleet.draining())
    }

    /// What the guard looks at.
    pub fn situation<'a>(&'a self, fleet: &'a Fleet, now_ms: u64) -> Situation<'a> {
        let used = self.launch_times_ms.len() as u32;
        Situation {
            mode: Mode::Active,
            fleet: fleet.counts(),
            draining: fleet.draining(),
            bounds: &self.bounds,
            no_capacity: &self.no_capacity_flags,
            now_ms,
            next_allowed_ms: self.next_allowed_ms,
            doubtful: self.doubtful,
            machines_per_action_max: self.machines_per_action_max,
            launches_left: self.launches_per_hour_max.map(|max| max.saturating_sub(used)),
            money: self.usd_per_hour_max.map(|max| self.room(max, fleet)),
        }
    }
}
