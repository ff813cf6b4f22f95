//! What the production guard needs to know of the past: the cooldown, the last action, failed launches, the budgets; and the
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

/// One hour, over which launches and stops are counted for their budgets.
const BUDGET_WINDOW_MS: u64 = 3_600_000;

/// A budget of machines launched or stopped in any hour, and the times of those of the last hour, if there is a budget.
#[derive(Clone, Debug)]
struct Budget {
    max: Option<u32>,
    times_ms: VecDeque<u64>,
}

impl Budget {
    fn of(max: Option<u32>) -> Self {
        Self { max, times_ms: VecDeque::new() }
    }

    fn pass_to(&mut self, now_ms: u64) {
        while self.times_ms.front().is_some_and(|at_ms| at_ms + BUDGET_WINDOW_MS <= now_ms) {
            self.times_ms.pop_front();
        }
    }

    fn count(&mut self, machines: u16, now_ms: u64) {
        if self.max.is_some() {
            self.times_ms.extend(std::iter::repeat_n(now_ms, usize::from(machines)));
        }
    }

    fn left(&self) -> Option<u32> {
        self.max.map(|max| max.saturating_sub(self.times_ms.len() as u32))
    }
}

/// The guard's memory in one episode.
#[derive(Clone, Debug)]
pub(crate) struct Rails {
    bounds: Vec<Bounds>,
    cooldown_ms: u64,
    machines_per_action_max: u16,
    launches: Budget,
    stops: Budget,
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
}

impl Rails {
    pub fn new(config: &SimConfig) -> Self {
        Self {
            bounds: config.types.iter().map(|t| t.bounds).collect(),
            cooldown_ms: config.cooldown_ms,
            machines_per_action_max: config.machines_per_action_max,
            launches: Budget::of(config.launches_per_hour_max),
            stops: Budget::of(config.stops_per_hour_max),
            prices: config.types.iter().map(|t| NanoUsd::of(t.usd_per_hour)).collect(),
            usd_per_hour_max: config.usd_per_hour_max.map(NanoUsd::of),
            remembers_no_capacity: config.remember_no_capacity,
            next_allowed_ms: 0,
            last_action: None,
            no_capacity: vec![BackOff::default(); config.types.len()],
            no_capacity_flags: vec![false; config.types.len()],
            doubtful: false,
        }
    }

    pub fn reset(&mut self) {
        self.next_allowed_ms = 0;
        self.last_action = None;
        self.no_capacity.fill(BackOff::default());
        self.no_capacity_flags.fill(false);
        self.doubtful = false;
        self.launches.times_ms.clear();
        self.stops.times_ms.clear();
    }

    /// Brings the memory up to a time; what lies too far back is forgotten.
    pub fn pass_to(&mut self, now_ms: u64) {
        if self.remembers_no_capacity {
            for (flag, back_off) in self.no_capacity_flags.iter_mut().zip(&self.no_capacity) {
                *flag = back_off.until_ms > now_ms;
            }
        }
        self.launches.pass_to(now_ms);
        self.stops.pass_to(now_ms);
    }

    /// An action was carried out: the cooldown starts (V5).
    pub fn accepted(&mut self, action: Action, now_ms: u64) {
        self.last_action = Some((action, now_ms));
        self.next_allowed_ms = now_ms + self.cooldown_ms;
        match action {
            Action::Nothing => {}
            Action::Stop(_, machines) => self.stops.count(machines, now_ms),
            Action::Launch(size, machines) => {
                self.launches.count(machines, now_ms);
                if self.remembers_no_capacity {
                    self.no_capacity[usize::from(size)] = BackOff::default();
                }
            }
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
            launches_left: self.launches.left(),
            stops_left: self.stops.left(),
            money: self.usd_per_hour_max.map(|max| self.room(max, fleet)),
        }
    }
}
