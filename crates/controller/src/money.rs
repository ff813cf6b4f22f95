//! Money caps: dollars an hour, a day and a month that launches never lead above.
//!
//! Nothing stops a machine because of a cap. So a launch is only allowed if every machine that is there or on its way, the
//! new ones included, may run until the period ends without passing the cap: spent so far, plus the rate after the launch
//! times the rest of the period. What was launched in another period runs on, counts, and takes the room of new launches.
//! `docs/reference/money.md` has the definition for people.
//!
//! Sums are whole billionths of a dollar: what is exactly at a cap is allowed, and rounding never decides.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Sum;
use std::ops::Add;

use contract::action::SIZE_COUNT;
use contract::calendar::{Period, day, month};
use contract::capacity::Counts;
use contract::decision::{Decision, Outcome};
use contract::limits::{LATE_TICKS, MONEY_MEMORY_S};
use contract::money::{Cap, Spending};
use contract::plan::{LaunchPlan, Plan};
use contract::pool::PoolConfig;
use contract::record::InstanceRecord;

use crate::check::Note;
use crate::earlier::{UNSEEN_S_MAX, unseen_launches};
use crate::plan::Inventory;
use crate::ports::CloudInstance;

const MS_PER_HOUR: u128 = 3_600_000;
/// EC2 bills an instance for at least a minute (AWS, "Amazon EC2 on-demand pricing"), as the twin does.
const BILLED_MS_MIN: u64 = 60_000;

/// Billionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NanoUsd(u64);

impl NanoUsd {
    /// The nearest to so many dollars; negative ones and what is not a number are 0.
    pub fn of(usd: f64) -> Self {
        Self((usd * 1e9).round() as u64)
    }

    /// Dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// So many times as much.
    pub fn times(self, n: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(n)))
    }

    fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The cost of `ms` at this much an hour, rounded up.
    fn for_ms(self, ms: u64) -> Self {
        saturated((u128::from(self.0) * u128::from(ms)).div_ceil(MS_PER_HOUR))
    }

    /// This much spread over `ms`, an hour, rounded down.
    fn per_hour_over(self, ms: u64) -> Self {
        saturated(u128::from(self.0) * MS_PER_HOUR / u128::from(ms.max(1)))
    }
}

fn saturated(nano: u128) -> NanoUsd {
    NanoUsd(u64::try_from(nano).unwrap_or(u64::MAX))
}

impl Add for NanoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What the guard knows of money: prices an hour by machine type, and how much an hour may be added.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// Prices by machine type.
    pub prices: &'a [NanoUsd],
    /// What may be added.
    pub left: NanoUsd,
    /// The cap that says so.
    pub cap: Cap,
}

impl<'a> Room<'a> {
    /// The room below a cap on the rate alone, as the twin has it.
    pub fn below(hour_max: NanoUsd, prices: &'a [NanoUsd], fleet: &[Counts], draining: &[u32]) -> Self {
        let drains: NanoUsd = prices.iter().zip(draining).map(|(price, n)| price.times(*n)).sum();
        Self { prices, left: hour_max.minus(rate_of(prices, fleet) + drains), cap: Cap::Hour }
    }

    /// The cap that `n` machines of a type do not fit below, if so.
    pub fn refuses(&self, size: usize, n: u32) -> Option<Cap> {
        let fits = self.prices.get(size).is_some_and(|price| price.times(n) <= self.left);
        (!fits).then_some(self.cap)
    }

    /// Whether all of these fit together: so many machines of each type.
    pub fn has_for(&self, machines: impl IntoIterator<Item = (usize, u32)>) -> bool {
        let price = |size: usize| self.prices.get(size).copied().unwrap_or_default();
        machines.into_iter().map(|(size, n)| price(size).times(n)).sum::<NanoUsd>() <= self.left
    }

    /// Whether no machine of any type fits.
    pub fn is_full(&self) -> bool {
        (0..self.prices.len()).all(|size| self.refuses(size, 1).is_some())
    }
}

/// What an hour of a fleet costs.
pub fn rate_of(prices: &[NanoUsd], fleet: &[Counts]) -> NanoUsd {
    prices.iter().zip(fleet).map(|(price, counts)| price.times(counts.total())).sum()
}

/// Prices an hour by size.
pub fn prices(config: &PoolConfig) -> [NanoUsd; SIZE_COUNT] {
    std::array::from_fn(|size| NanoUsd::of(config.sizes[size].usd_per_hour))
}

/// Dollars spent in this day and this month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Since midnight UTC.
    pub today: NanoUsd,
    /// Since the first of the month, UTC.
    pub this_month: NanoUsd,
}

/// Whether the pool has caps that need to know what was spent.
pub fn counts_spending(config: &PoolConfig) -> bool {
    config.usd_per_day_max.is_some() || config.usd_per_month_max.is_some()
}

/// The time of the records that [`Spent`] is counted from: those of machines that ended or were launched since.
pub fn spending_since_ms(config: &PoolConfig, now_ms: u64) -> Option<u64> {
    let period = if config.usd_per_month_max.is_some() { month(now_ms) } else { day(now_ms) };
    period.filter(|_| counts_spending(config)).map(|period| period.from_ms)
}

/// One machine as the bill sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bill {
    usd_per_hour: NanoUsd,
    from_ms: u64,
    /// None while it runs.
    ended_ms: Option<u64>,
}

impl Bill {
    fn of(record: &InstanceRecord) -> Self {
        let (from_ms, ended_ms) = (record.launched_ms, record.terminated_ms);
        Self { usd_per_hour: NanoUsd::of(record.usd_per_hour), from_ms, ended_ms }
    }

    /// Its cost in a period until now. A machine counts from its launch: when EC2 began to bill it, between the launch and
    /// the first task, no record says. One that has ended counts for a minute at least.
    fn cost(&self, period: Period, now_ms: u64) -> NanoUsd {
        let ended_ms = self.ended_ms.map_or(now_ms, |at_ms| at_ms.max(self.from_ms.saturating_add(BILLED_MS_MIN)));
        let until_ms = ended_ms.min(period.until_ms);
        self.usd_per_hour.for_ms(until_ms.saturating_sub(self.from_ms.max(period.from_ms)))
    }
}

/// What these machines cost in this day and month; none if the time is not one of the calendar.
fn spent(bills: &[Bill], now_ms: u64) -> Option<Spent> {
    let (day, month) = (day(now_ms)?, month(now_ms)?);
    let of = |period: Period| bills.iter().map(|bill| bill.cost(period, now_ms)).sum();
    Some(Spent { today: of(day), this_month: of(month) })
}

/// What the machines of these records have cost. The same machine may be in several of them, as reads of different age
/// show it: the dearest counts.
pub fn spent_by<'a>(records: impl IntoIterator<Item = &'a InstanceRecord>, now_ms: u64) -> Option<Spent> {
    spent(&bills(records), now_ms)
}

/// One bill a machine, of the record in which it runs longest.
fn bills<'a>(records: impl IntoIterator<Item = &'a InstanceRecord>) -> Vec<Bill> {
    let mut bills: BTreeMap<(u64, &str), Bill> = BTreeMap::new();
    for record in records {
        let longest = bills.entry((record.launched_ms, &record.instance_id)).or_insert_with(|| Bill::of(record));
        longest.ended_ms = longest.ended_ms.zip(record.terminated_ms).map(|(a, b)| a.max(b));
    }
    bills.into_values().collect()
}

/// How much an hour may be added to `rate`, and the cap that says so; none without caps. `spent` is none if it could not be
/// read: then nothing may be added where a cap needs it.
pub fn left(config: &PoolConfig, rate: NanoUsd, spent: Option<Spent>, now_ms: u64) -> Option<(NanoUsd, Cap)> {
    caps(config, rate, spent, now_ms).min()
}

/// The same as it is told to people. Where the cap of the day or the month leaves no room for any machine it is that one, with what
/// it leaves: that the hour's, which passes by itself, leaves even less says nothing then.
pub fn left_to_tell(config: &PoolConfig, rate: NanoUsd, spent: Option<Spent>, now_ms: u64) -> Option<(NanoUsd, Cap)> {
    let cheapest = prices(config).into_iter().min().unwrap_or_default();
    let lasting = caps(config, rate, spent, now_ms).filter(|(left, cap)| *left < cheapest && *cap != Cap::Hour).min();
    lasting.or_else(|| left(config, rate, spent, now_ms))
}

/// What each cap leaves.
fn caps(config: &PoolConfig, rate: NanoUsd, spent: Option<Spent>, now_ms: u64) -> impl Iterator<Item = (NanoUsd, Cap)> {
    let hour = config.usd_per_hour_max.map(|max| (NanoUsd::of(max).minus(rate), Cap::Hour));
    let of = |max: Option<f64>, cap: Cap, spent: Option<NanoUsd>, period: Option<Period>| {
        max.map(|max| match (spent, period) {
            (Some(spent), Some(period)) => {
                let spread = NanoUsd::of(max).minus(spent).per_hour_over(period.until_ms - now_ms);
                (spread.minus(rate), cap)
            }
            _ => (NanoUsd::default(), Cap::Unknown),
        })
    };
    let today = of(config.usd_per_day_max, Cap::Day, spent.map(|s| s.today), day(now_ms));
    let this_month = of(config.usd_per_month_max, Cap::Month, spent.map(|s| s.this_month), month(now_ms));
    [hour, today, this_month].into_iter().flatten()
}

/// What may be added at most after launches that the check refused for money a short while ago, by the log; `past` is
/// newest first. The check counts machines that the evaluator cannot see (orphans, for one), so that it would otherwise ask
/// for the same again and again. A stop since then makes room, and ends the memory.
pub fn left_after_refusals<'a>(
    past: impl IntoIterator<Item = &'a Decision>,
    config: &PoolConfig,
    now_ms: u64,
) -> Option<(NanoUsd, Cap)> {
    let young = |d: &&Decision| d.tick.saturating_add(MONEY_MEMORY_S).saturating_mul(1000) > now_ms;
    let ended = |d: &&Decision| !matches!(outcome(d), Some(Outcome::Terminated { .. }));
    past.into_iter().take_while(young).take_while(ended).filter_map(|d| refused(d, config)).min()
}

fn outcome(decision: &Decision) -> Option<&Outcome> {
    decision.intent.as_ref()?.outcome.as_ref()
}

/// A billionth less than what a launch asked for that was refused for money.
fn refused(decision: &Decision, config: &PoolConfig) -> Option<(NanoUsd, Cap)> {
    let Some(Outcome::Refused { because }) = outcome(decision) else { return None };
    let cap = Cap::named_in(because).filter(|cap| *cap != Cap::Unknown)?;
    let Some(Plan::Launch(launch)) = &decision.intent.as_ref()?.plan else { return None };
    let asked = price_of_launch(launch, config)?;
    Some((asked.minus(NanoUsd(1)), cap))
}

/// The money of a pool with caps, for the decision's record.
pub fn spending(room: &Room<'_>, rate: NanoUsd, spent: Option<Spent>) -> Spending {
    Spending {
        usd_per_hour: rate.usd(),
        usd_today: spent.map(|s| s.today.usd()),
        usd_this_month: spent.map(|s| s.this_month.usd()),
        room_usd_per_hour: room.left.usd(),
        cap: room.cap,
        is_full: room.is_full(),
    }
}

/// What is wrong with a plan for the pool's money caps. `ended` are the records of [`spending_since_ms`]; none if they
/// cannot be read.
pub fn check(
    plan: &Plan,
    config: &PoolConfig,
    inventory: &Inventory<'_>,
    ended: Option<&[InstanceRecord]>,
) -> Option<Note> {
    let Plan::Launch(launch) = plan else { return None };
    let rate = rate(config, inventory);
    let spent = ended.and_then(|ended| spent_by_now(config, inventory, ended));
    let (left, cap) = left(config, rate, spent, inventory.now_ms)?;
    let asked = price_of_launch(launch, config)?;
    (asked > left).then_some(Note::Money { cap, left, asked })
}

/// What an hour of the machines of a launch costs.
fn price_of_launch(launch: &LaunchPlan, config: &PoolConfig) -> Option<NanoUsd> {
    let size = config.sizes.get(launch.size)?;
    Some(NanoUsd::of(size.price_of(launch.instance_type.as_deref())).times(launch.count))
}

/// Prices an hour by size at most: of the dearest type that may stand in.
fn dearest(config: &PoolConfig) -> [NanoUsd; SIZE_COUNT] {
    std::array::from_fn(|size| NanoUsd::of(config.sizes[size].usd_per_hour_at_most()))
}

/// What an hour of all machines costs that may exist: recorded and not known to be dead, alive in EC2 without a record, or
/// launched by an earlier claim and not visible yet; as the check of the maximum counts them.
fn rate(config: &PoolConfig, inventory: &Inventory<'_>) -> NanoUsd {
    let dead: BTreeSet<&str> = inventory.cloud.iter().filter(|m| !m.alive).map(|m| m.instance_id.as_str()).collect();
    let recorded = inventory.records.iter().filter(|r| !dead.contains(r.instance_id.as_str()));
    let recorded: NanoUsd = recorded.map(|r| NanoUsd::of(r.usd_per_hour)).sum();
    let others: NanoUsd = unrecorded(inventory).map(|m| price_of(config, m)).sum();
    recorded + others + unseen(config, inventory)
}

/// Machines of ours that run and have no record yet.
fn unrecorded<'a>(inventory: &Inventory<'a>) -> impl Iterator<Item = &'a CloudInstance> {
    let recorded: BTreeSet<&str> = inventory.records.iter().map(|r| r.instance_id.as_str()).collect();
    inventory.cloud.iter().filter(move |m| m.alive && !recorded.contains(m.instance_id.as_str()))
}

/// The price of a machine by its tag; one whose size nobody knows is taken for the dearest.
fn price_of(config: &PoolConfig, machine: &CloudInstance) -> NanoUsd {
    let prices = dearest(config);
    let by_tag = machine.size.and_then(|size| prices.get(size));
    by_tag.or(prices.iter().max()).copied().unwrap_or_default()
}

/// What an hour of the machines costs that only earlier claims know of.
fn unseen(config: &PoolConfig, inventory: &Inventory<'_>) -> NanoUsd {
    let of_size = |(size, price): (usize, NanoUsd)| price.times(unseen_launches(size, config, inventory));
    dearest(config).into_iter().enumerate().map(of_size).sum()
}

/// What was spent, with the machines that have no record: from their launch by EC2's clock, and for those that nothing
/// shows, for as long as nothing need show them.
fn spent_by_now(config: &PoolConfig, inventory: &Inventory<'_>, ended: &[InstanceRecord]) -> Option<Spent> {
    let now_ms = inventory.now_ms;
    let mut bills = bills(inventory.records.iter().chain(ended));
    let bill = |usd_per_hour, from_ms| Bill { usd_per_hour, from_ms, ended_ms: None };
    bills.extend(unrecorded(inventory).map(|m| bill(price_of(config, m), m.launched_ms)));
    let hidden_ms = (LATE_TICKS * config.tick_s + UNSEEN_S_MAX) * 1000;
    bills.push(bill(unseen(config, inventory), now_ms.saturating_sub(hidden_ms)));
    spent(&bills, now_ms)
}

#[cfg(test)]
mod tests;
