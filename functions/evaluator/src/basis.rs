//! What a decision is made on: what was measured, or in mode `observe` the shadow fleet; and the money.

use contract::action::SIZE_COUNT;
use contract::capacity::Bounds;
use contract::control::Mode;
use contract::money::{Cap, Spending};
use contract::observation::Observation;
use contract::pool::PoolConfig;
use contract::shadow::Shadow;
use controller::guard::Situation;
use controller::money::{self, NanoUsd, Room};
use controller::shadow::{self, Read};

use crate::collect::Collected;

/// All that the policy and the guard see.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The network's input is its encoding.
    pub observation: Observation,
    /// The shadow ledger before this tick's action, in mode `observe`.
    pub shadow: Option<Shadow>,
    draining: [u32; SIZE_COUNT],
    next_allowed_ms: u64,
    launches_left: Option<u32>,
    stops_left: Option<u32>,
    prices: [NanoUsd; SIZE_COUNT],
    /// What the money caps leave, and which of them says so.
    left: Option<(NanoUsd, Cap)>,
}

impl Basis {
    /// The basis of a tick. `policy` is the hash of the one in charge, if there is one.
    pub fn of(config: &PoolConfig, collected: &Collected, tick: u64, policy: Option<&str>) -> Self {
        match config.mode {
            Mode::Observe => Self::on_paper(config, collected, tick, policy),
            _ => Self::real(config, collected, tick),
        }
    }

    fn real(config: &PoolConfig, collected: &Collected, tick: u64) -> Self {
        let now_ms = tick * 1000;
        let left = money::left_to_tell(config, collected.rate, collected.spent, now_ms);
        Self {
            observation: collected.observation.clone(),
            shadow: None,
            draining: collected.draining,
            next_allowed_ms: collected.head.next_allowed_ms,
            launches_left: config.launches_per_hour_max.map(|max| max.saturating_sub(collected.launched_last_hour)),
            stops_left: config.stops_per_hour_max.map(|max| max.saturating_sub(collected.stopped_last_hour)),
            prices: money::prices(config),
            left: left
                .map(|left| left.min(money::left_after_refusals(&collected.past, config, now_ms).unwrap_or(left))),
        }
    }

    /// On paper only the cap of the hour holds: what the shadow would have spent in a day or a month that began before
    /// its ledger nobody knows.
    fn on_paper(config: &PoolConfig, collected: &Collected, tick: u64, policy: Option<&str>) -> Self {
        let Collected { observation: measured, head, arrivals_ms, .. } = collected;
        let arrivals_ms = arrivals_ms.as_deref();
        let read = Read { tick, config, measured, head, arrivals_ms, policy };
        let (shadow, observation) = shadow::at_tick(collected.past.first(), &read);
        let prices = money::prices(config);
        let below = |max: f64| Room::below(NanoUsd::of(max), &prices, &observation.fleet, &[]);
        Self {
            draining: [0; SIZE_COUNT],
            next_allowed_ms: shadow.head.next_allowed_ms,
            launches_left: shadow::launches_left(&shadow, config),
            stops_left: shadow::stops_left(&shadow, config),
            left: config.usd_per_hour_max.map(below).map(|room| (room.left, room.cap)),
            shadow: Some(shadow),
            observation,
            prices,
        }
    }

    /// What the money caps leave; none without caps.
    pub fn room(&self) -> Option<Room<'_>> {
        self.left.map(|(left, cap)| Room { prices: &self.prices, left, cap })
    }

    /// The pool's money for the record.
    pub fn spending(&self, collected: &Collected) -> Option<Spending> {
        self.room().map(|room| money::spending(&room, collected.rate, collected.spent))
    }

    /// What the guard looks at.
    pub fn situation<'a>(&'a self, config: &PoolConfig, bounds: &'a [Bounds; SIZE_COUNT], tick: u64) -> Situation<'a> {
        let o = &self.observation;
        Situation {
            mode: config.mode,
            fleet: &o.fleet,
            draining: &self.draining,
            bounds,
            no_capacity: &o.no_capacity,
            now_ms: tick * 1000,
            next_allowed_ms: self.next_allowed_ms,
            doubtful: o.is_doubtful(),
            machines_per_action_max: config.machines_per_action_max,
            launches_left: self.launches_left,
            stops_left: self.stops_left,
            money: self.room(),
        }
    }
}
