//! Caps at their exact boundaries, bills by hand, and the guarantee for all fleets and times.

use contract::Action;
use contract::capacity::Bounds;
use contract::control::Mode;
use contract::decision::Decision;
use proptest::prelude::*;

use super::*;
use crate::guard::{Refusal, Situation, permit};
use crate::plan::plan;
use crate::samples::{claimed, config, machine, record};

const HOUR_MS: u64 = 3_600_000;
/// Noon of 24 November 2026: half of the day, and 6.5 of the month's 30 days, are left.
const NOON_MS: u64 = 1_795_521_600_000;
const DAY_LEFT_H: f64 = 12.0;
const MONTH_LEFT_H: f64 = 6.5 * 24.0;

fn capped(hour: Option<f64>, day: Option<f64>, month: Option<f64>) -> PoolConfig {
    PoolConfig { usd_per_hour_max: hour, usd_per_day_max: day, usd_per_month_max: month, ..config() }
}

fn usd(usd: f64) -> NanoUsd {
    NanoUsd::of(usd)
}

fn spent_usd(today: f64, this_month: f64) -> Option<Spent> {
    Some(Spent { today: usd(today), this_month: usd(this_month) })
}

#[test]
fn noon_is_where_it_is_said_to_be() {
    let left_h = |p: Period| (p.until_ms - NOON_MS) as f64 / HOUR_MS as f64;
    assert_eq!((left_h(day(NOON_MS).unwrap()), left_h(month(NOON_MS).unwrap())), (DAY_LEFT_H, MONTH_LEFT_H));
}

#[test]
fn money_is_whole_and_rounds_against_us() {
    assert_eq!(usd(0.2) + usd(0.4) + usd(0.8), usd(1.4), "as floating point numbers it is above");
    assert_eq!((usd(-1.0), usd(f64::NAN), usd(f64::INFINITY).0), (NanoUsd(0), NanoUsd(0), u64::MAX));
    assert_eq!(
        (NanoUsd(1).for_ms(1), NanoUsd(1).for_ms(0), NanoUsd(7).for_ms(2 * HOUR_MS)),
        (NanoUsd(1), NanoUsd(0), NanoUsd(14))
    );
    assert_eq!((NanoUsd(1).per_hour_over(HOUR_MS), NanoUsd(1).per_hour_over(HOUR_MS + 1)), (NanoUsd(1), NanoUsd(0)));
    assert_eq!((NanoUsd(3).per_hour_over(0), NanoUsd(u64::MAX).times(2)), (NanoUsd(10_800_000), NanoUsd(u64::MAX)));
    assert_eq!(usd(1.25).usd(), 1.25);
}

#[test]
fn each_cap_leaves_what_it_has_and_the_tightest_decides() {
    let rate = usd(1.0);
    let spent = spent_usd(4.0, 100.0);
    let of = |hour, day, month| left(&capped(hour, day, month), rate, spent, NOON_MS);
    assert_eq!(of(None, None, None), None);
    assert_eq!(of(Some(1.8), None, None), Some((usd(0.8), Cap::Hour)));
    assert_eq!(of(Some(0.5), None, None), Some((usd(0.0), Cap::Hour)), "nothing is left, and nothing is owed");
    // 4 dollars spent, and 1.5 an hour for the twelve hours that are left: 22.
    assert_eq!(of(None, Some(22.0), None), Some((usd(0.5), Cap::Day)));
    assert_eq!(of(None, None, Some(100.0 + 1.25 * MONTH_LEFT_H)), Some((usd(0.25), Cap::Month)));
    assert_eq!(of(Some(1.8), Some(22.0), Some(1000.0)), Some((usd(0.5), Cap::Day)));
    assert_eq!(of(Some(1.3), Some(22.0), Some(1000.0)), Some((usd(0.3), Cap::Hour)));
    assert_eq!(of(Some(1.8), Some(22.0), Some(100.0)), Some((usd(0.0), Cap::Month)));
}

type Left = fn(&PoolConfig, NanoUsd, Option<Spent>, u64) -> Option<(NanoUsd, Cap)>;

#[test]
fn a_cap_that_lasts_is_named_where_it_leaves_no_room_whatever_the_hour_leaves() {
    let of = |hour, day: f64, month: f64| {
        let config = capped(Some(hour), Some(4.0 + day * DAY_LEFT_H), Some(100.0 + month * MONTH_LEFT_H));
        let of = |of: Left| of(&config, usd(1.0), spent_usd(4.0, 100.0), NOON_MS);
        (of(left_to_tell), of(left))
    };
    // the cheapest machine costs 0.2 an hour
    assert_eq!(of(1.0, 1.0, 9.0), (Some((usd(0.0), Cap::Day)), Some((usd(0.0), Cap::Hour))));
    assert_eq!(of(1.05, 1.15, 9.0), (Some((usd(0.15), Cap::Day)), Some((usd(0.05), Cap::Hour))));
    assert_eq!(of(1.05, 1.2, 9.0).0, Some((usd(0.05), Cap::Hour)), "below the day's there is room for it");
    assert_eq!(of(1.0, 1.15, 1.1).0, Some((usd(0.1), Cap::Month)), "the tightest of those that last");
    let unread = left_to_tell(&capped(Some(1.0), Some(50.0), None), usd(1.0), None, NOON_MS);
    assert_eq!(unread, Some((usd(0.0), Cap::Unknown)));
}

#[test]
fn what_was_spent_and_cannot_be_read_leaves_nothing_where_a_cap_needs_it() {
    let of = |hour, day, now_ms| left(&capped(hour, day, None), usd(1.0), None, now_ms);
    assert_eq!(of(None, Some(1000.0), NOON_MS), Some((usd(0.0), Cap::Unknown)));
    assert_eq!(of(Some(1.8), None, NOON_MS), Some((usd(0.8), Cap::Hour)));
    let beyond = left(&capped(None, None, Some(1e6)), usd(1.0), spent_usd(0.0, 0.0), u64::MAX);
    assert_eq!(beyond, Some((usd(0.0), Cap::Unknown)), "a time without a calendar");
}

#[test]
fn a_launch_fits_exactly_and_a_billionth_less_is_too_little() {
    let prices = prices(&config());
    let room = |left: NanoUsd| Room { prices: &prices, left, cap: Cap::Day };
    assert_eq!((room(usd(0.8)).refuses(2, 1), room(NanoUsd(799_999_999)).refuses(2, 1)), (None, Some(Cap::Day)));
    assert_eq!((room(usd(0.8)).refuses(0, 4), room(usd(0.8)).refuses(0, 5)), (None, Some(Cap::Day)));
    assert_eq!(room(usd(9.0)).refuses(3, 1), Some(Cap::Day), "what has no price does not fit");
    assert_eq!((room(usd(0.2)).is_full(), room(NanoUsd(199_999_999)).is_full()), (false, true));
}

#[test]
fn the_guard_refuses_launches_for_money_and_never_stops() {
    let fleet = [Counts { ready: 1, booting: 1 }, Counts { ready: 1, booting: 0 }, Counts { ready: 0, booting: 0 }];
    let (bounds, prices) = ([Bounds::new(0, Some(9)).unwrap(); 3], prices(&config()));
    let drained = |hour_max: f64, action: Action, draining: &[u32]| {
        let money = Some(Room::below(usd(hour_max), &prices, &fleet, draining));
        let s = Situation {
            mode: Mode::Active,
            fleet: &fleet,
            bounds: &bounds,
            no_capacity: &[false; 3],
            now_ms: 0,
            next_allowed_ms: 0,
            draining,
            machines_per_action_max: 4,
            doubtful: false,
            launches_left: None,
            stops_left: None,
            money,
        };
        permit(action, &s)
    };
    let with = |hour_max: f64, action: Action| drained(hour_max, action, &[]);
    // Two S and an M: 0.8 dollars an hour, booting ones included.
    assert_eq!(with(1.6, Action::Launch(2, 1)), Ok(()));
    assert_eq!(with(1.599_999_999, Action::Launch(2, 1)), Err(Refusal::Money(Cap::Hour)));
    assert_eq!(with(1.599_999_999, Action::Launch(1, 1)), Ok(()));
    assert_eq!((with(2.4, Action::Launch(2, 2)), with(2.399, Action::Launch(2, 2)).is_err()), (Ok(()), true));
    assert_eq!(drained(1.6, Action::Launch(2, 1), &[0, 1, 0]), Err(Refusal::Money(Cap::Hour)), "an M drains");
    assert_eq!(with(0.1, Action::Stop(0, 1)), Ok(()));
    assert_eq!(Refusal::Money(Cap::Hour).to_string(), "the money cap of the hour");
}

/// What a machine at one dollar an hour cost in the day and the month, in seconds of it.
fn cost_s(launched_ms: u64, ended_ms: Option<u64>) -> (f64, f64) {
    let of = InstanceRecord { usd_per_hour: 1.0, terminated_ms: ended_ms, ..record("i-1", 0, launched_ms) };
    let spent = spent_by([&of], NOON_MS).unwrap();
    (spent.today.usd() * 3600.0, spent.this_month.usd() * 3600.0)
}

#[test]
fn a_machine_costs_from_its_launch_to_its_end_within_the_period_and_a_minute_at_least() {
    let near = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-5 && (b - d).abs() < 1e-5;
    let midnight_ms = NOON_MS - 12 * HOUR_MS;
    let first_ms = month(NOON_MS).unwrap().from_ms;
    for (launched_ms, ended_ms, today_s, month_s) in [
        (NOON_MS - 5000, None, 5.0, 5.0),
        (NOON_MS - HOUR_MS, Some(NOON_MS - HOUR_MS + 90_000), 90.0, 90.0),
        (NOON_MS - HOUR_MS, Some(NOON_MS - HOUR_MS + 59_999), 60.0, 60.0),
        (midnight_ms - 30_000, Some(midnight_ms + 20_000), 30.0, 60.0),
        (midnight_ms - 60_000, Some(midnight_ms), 0.0, 60.0),
        (midnight_ms - HOUR_MS, None, 43_200.0, 46_800.0),
        (first_ms - 7 * HOUR_MS, Some(first_ms + 1000), 0.0, 1.0),
        (first_ms - 7 * HOUR_MS, Some(first_ms - HOUR_MS), 0.0, 0.0),
        (NOON_MS + 60_000, None, 0.0, 0.0),
    ] {
        let found = cost_s(launched_ms, ended_ms);
        assert!(near(found, (today_s, month_s)), "{launched_ms} {ended_ms:?}: {found:?}");
    }
}

#[test]
fn a_machine_in_several_reads_counts_once_and_for_the_longest() {
    let old = InstanceRecord { usd_per_hour: 1.0, ..record("i-1", 0, NOON_MS - 2 * HOUR_MS) };
    let ended = InstanceRecord { terminated_ms: Some(NOON_MS - HOUR_MS), ..old.clone() };
    let today = |records: &[&InstanceRecord]| spent_by(records.iter().copied(), NOON_MS).unwrap().today;
    assert_eq!(today(&[&ended, &ended]), usd(1.0));
    assert_eq!((today(&[&ended, &old]), today(&[&old, &ended])), (usd(2.0), usd(2.0)));
    let other = InstanceRecord { instance_id: "i-2".into(), ..ended.clone() };
    assert_eq!(today(&[&ended, &other]), usd(2.0));
}

#[test]
fn records_are_read_from_the_first_of_the_month_or_from_midnight() {
    let since = |day, month| spending_since_ms(&capped(Some(1.0), day, month), NOON_MS);
    assert_eq!(since(None, None), None);
    assert_eq!(since(Some(1.0), None), Some(NOON_MS - 12 * HOUR_MS));
    assert_eq!(since(None, Some(1.0)), since(Some(1.0), Some(1.0)));
    assert_eq!(since(None, Some(1.0)), Some(month(NOON_MS).unwrap().from_ms));
    assert_eq!(spending_since_ms(&capped(None, Some(1.0), None), u64::MAX), None);
}

/// The note on a launch of an M, 0.4 dollars an hour, at noon.
fn noted(
    config: &PoolConfig,
    records: &[InstanceRecord],
    cloud: &[CloudInstance],
    earlier: &[&Decision],
    ended: &[InstanceRecord],
) -> Option<Note> {
    let inventory = Inventory { stack: "s", now_ms: NOON_MS, records, cloud, tasks: &[], earlier, no_capacity: None };
    let launch = plan(Action::Launch(1, 1), NOON_MS / 1000, config, &inventory).unwrap();
    check(&launch, config, &inventory, Some(ended))
}

fn money(cap: Cap, left: f64) -> Option<Note> {
    Some(Note::Money { cap, left: usd(left), asked: usd(0.4) })
}

#[test]
fn the_check_counts_every_machine_that_may_exist_against_the_hour() {
    let records = [record("i-1", 0, 1), record("i-2", 0, 2)];
    let cloud: Vec<_> = records.iter().map(machine).collect();
    let hour = |max: f64| capped(Some(max), None, None);
    assert_eq!(noted(&hour(0.8), &records, &cloud, &[], &[]), None, "0.2 twice and 0.4");
    assert_eq!(noted(&hour(0.799_999_999), &records, &cloud, &[], &[]), money(Cap::Hour, 0.399_999_999));
    // Nothing but the records knows them: not visible yet.
    assert_eq!(noted(&hour(0.799_999_999), &records, &[], &[], &[]), money(Cap::Hour, 0.399_999_999));
    // Only EC2 knows an L, and one of no size, which may be an L.
    let large = CloudInstance { instance_id: "i-3".into(), size: Some(2), ..cloud[0].clone() };
    let nameless = CloudInstance { instance_id: "i-4".into(), size: None, ..cloud[0].clone() };
    for other in [large, nameless] {
        let cloud = [cloud.clone(), vec![other]].concat();
        assert_eq!(noted(&hour(1.6), &records, &cloud, &[], &[]), None);
        assert_eq!(noted(&hour(1.5), &records, &cloud, &[], &[]), money(Cap::Hour, 0.3));
    }
    // One that is gone from records and is shown as dead costs nothing.
    let ended = CloudInstance { instance_id: "i-5".into(), alive: false, ..cloud[0].clone() };
    let with_ended = [cloud.clone(), vec![ended]].concat();
    assert_eq!(noted(&hour(0.8), &records, &with_ended, &[], &[]), None);
    // A dead one costs nothing; a launch that may still be made does.
    let dead = [CloudInstance { alive: false, ..cloud[0].clone() }, cloud[1].clone()];
    assert_eq!(noted(&hour(0.6), &records, &dead, &[], &[]), None);
    let pending = claimed(NOON_MS / 1000 - 60, Action::Launch(2, 1), 1);
    assert_eq!(noted(&hour(1.5), &records, &cloud, &[&pending], &[]), money(Cap::Hour, 0.3));
    assert_eq!(noted(&config(), &records, &cloud, &[&pending], &[]), None, "no caps");
}

#[test]
fn the_check_counts_what_was_spent_and_what_runs_on_until_the_period_ends() {
    let running = InstanceRecord { usd_per_hour: 0.2, ..record("i-1", 0, NOON_MS - 2 * HOUR_MS) };
    let gone = InstanceRecord {
        usd_per_hour: 0.8,
        terminated_ms: Some(NOON_MS - HOUR_MS),
        ..record("i-2", 2, NOON_MS - 4 * HOUR_MS)
    };
    let (records, cloud) = ([running.clone()], [machine(&running)]);
    let day = |max: f64| capped(None, Some(max), None);
    // Spent: 0.2 for two hours, 0.8 for three. To come: 0.2 and 0.4 for twelve.
    let exactly = 0.4 + 2.4 + 0.6 * 12.0;
    let ended = [gone];
    assert_eq!(noted(&day(exactly), &records, &cloud, &[], &ended), None);
    let short = noted(&day(exactly - 1e-8), &records, &cloud, &[], &ended);
    assert_eq!(short, money(Cap::Day, 0.399_999_999));
    assert_eq!(noted(&day(exactly - 2.4), &records, &cloud, &[], &[]), None, "without the one that ended");
    let month = capped(None, None, Some(0.4 + 2.4 + 0.6 * MONTH_LEFT_H));
    assert_eq!(noted(&month, &records, &cloud, &[], &ended), None);
    assert_eq!(noted(&month, &records, &cloud, &[], &[ended[0].clone(), running]), None, "counted once");
    // A machine without a record costs since EC2 launched it, one that nothing shows for the eight minutes it may hide.
    let stray = CloudInstance { instance_id: "i-3".into(), ..machine(&record("i-3", 0, NOON_MS - HOUR_MS)) };
    let with_stray = [cloud[0].clone(), stray];
    let more = exactly + 0.2 * 13.0;
    assert_eq!(noted(&day(more), &records, &with_stray, &[], &ended), None);
    assert_eq!(noted(&day(more - 1e-8), &records, &with_stray, &[], &ended), money(Cap::Day, 0.399_999_999));
    let pending = claimed(NOON_MS / 1000 - 60, Action::Launch(0, 1), 1);
    let more = exactly + 0.2 * (12.0 + 480.0 / 3600.0);
    assert_eq!(noted(&day(more + 1e-8), &records, &cloud, &[&pending], &ended), None);
    assert_eq!(noted(&day(more - 1e-7), &records, &cloud, &[&pending], &ended), money(Cap::Day, 0.399_999_991));
}

#[test]
fn every_machine_of_a_plan_needs_its_money() {
    let none = Inventory {
        stack: "s",
        now_ms: NOON_MS,
        records: &[],
        cloud: &[],
        tasks: &[],
        earlier: &[],
        no_capacity: None,
    };
    let Ok(Plan::Launch(one)) = plan(Action::Launch(1, 1), NOON_MS / 1000, &config(), &none) else {
        panic!("a launch")
    };
    let three = Plan::Launch(LaunchPlan { count: 3, ..one });
    let of = |max: f64| check(&three, &capped(Some(max), None, None), &none, Some(&[]));
    let asked = usd(0.4).times(3);
    assert_eq!((of(1.2), of(1.1)), (None, Some(Note::Money { cap: Cap::Hour, left: usd(1.1), asked })));
}

/// A decision so many seconds before noon that was settled so.
fn settled(age_s: u64, action: Action, outcome: Outcome) -> Decision {
    let none = Inventory {
        stack: "s",
        now_ms: NOON_MS,
        records: &[],
        cloud: &[],
        tasks: &[],
        earlier: &[],
        no_capacity: None,
    };
    let mut decision = claimed(NOON_MS / 1000 - age_s, action, 1);
    let intent = decision.intent.as_mut().unwrap();
    intent.plan = plan(action, decision.tick, &config(), &none).ok();
    intent.outcome = Some(outcome);
    decision
}

#[test]
fn what_was_refused_for_money_is_not_asked_for_again_for_a_while() {
    let refused = |age_s: u64, size: u16, cap: Cap| {
        let because = format!("the plan was refused: {}", Note::Money { cap, left: usd(0.1), asked: usd(0.4) });
        settled(age_s, Action::Launch(size, 1), Outcome::Refused { because })
    };
    let left = |past: &[Decision]| left_after_refusals(past, &config(), NOON_MS);
    assert_eq!(left(&[refused(60, 2, Cap::Hour)]), Some((NanoUsd(799_999_999), Cap::Hour)));
    assert_eq!(left(&[refused(60, 2, Cap::Hour), refused(120, 1, Cap::Day)]), Some((NanoUsd(399_999_999), Cap::Day)));
    assert_eq!((left(&[refused(599, 0, Cap::Day)]).is_some(), left(&[refused(600, 0, Cap::Day)])), (true, None));
    let stop = settled(90, Action::Stop(0, 1), Outcome::Terminated { instance_ids: vec!["i-1".into()] });
    assert_eq!(left(&[stop.clone(), refused(120, 0, Cap::Hour)]), None, "there is room again");
    assert!(left(&[refused(60, 0, Cap::Hour), stop]).is_some());
    assert_eq!(left(&[refused(60, 0, Cap::Unknown)]), None, "it may be read in a moment");
    let other = Outcome::Refused { because: "cooldown".into() };
    assert_eq!(
        left(&[settled(60, Action::Launch(0, 1), other), claimed(NOON_MS / 1000, Action::Launch(0, 1), 1)]),
        None
    );
}

#[test]
fn a_stop_needs_no_money_and_a_note_says_what_is_missing() {
    let stop = Plan::Terminate { instance_ids: vec!["i-1".into()], size: 0, drain_until_ms: None };
    let none = Inventory {
        stack: "s",
        now_ms: NOON_MS,
        records: &[],
        cloud: &[],
        tasks: &[],
        earlier: &[],
        no_capacity: None,
    };
    assert_eq!(check(&stop, &capped(Some(0.0), None, None), &none, Some(&[])), None);
    let launch = plan(Action::Launch(1, 1), NOON_MS / 1000, &config(), &none).unwrap();
    let unread = |config: &PoolConfig| check(&launch, config, &none, None);
    assert_eq!(unread(&capped(None, Some(1e6), None)), money(Cap::Unknown, 0.0));
    assert_eq!((unread(&capped(Some(0.4), None, None)), unread(&config())), (None, None), "not needed");
    let note = money(Cap::Day, 0.25).unwrap().to_string();
    assert_eq!(note, "the money cap of the day leaves $0.250 an hour, and the launch adds $0.400");
}

#[test]
fn a_decisions_record_tells_the_money() {
    let prices = prices(&config());
    let room = Room { prices: &prices, left: usd(0.1), cap: Cap::Day };
    let told = spending(&room, usd(1.4), spent_usd(3.0, 40.0));
    let expected = Spending {
        usd_per_hour: 1.4,
        usd_today: Some(3.0),
        usd_this_month: Some(40.0),
        room_usd_per_hour: 0.1,
        cap: Cap::Day,
        is_full: true,
    };
    assert_eq!(told, expected);
    assert!(told.is_used_up() && !Spending { cap: Cap::Hour, ..told }.is_used_up());
    assert!(!Spending { is_full: false, ..told }.is_used_up());
}

proptest! {
    /// The guarantee: if nothing else is launched, whatever a permitted launch adds keeps the day below its cap even if
    /// every machine runs to the day's end, and no room is left unused that a machine would fit in exactly.
    #[test]
    fn a_launch_that_is_permitted_cannot_pass_the_cap_in_its_day(
        at_ms in 0u64..24 * HOUR_MS, ready in [0u32..9, 0u32..9, 0u32..9], spent_cents in 0u64..2000, cap_cents in 1u64..9000,
        size in 0usize..3,
    ) {
        let now_ms = NOON_MS - 12 * HOUR_MS + at_ms;
        let config = capped(None, Some(cap_cents as f64 / 100.0), None);
        let prices = prices(&config);
        let fleet = ready.map(|ready| Counts { ready, booting: 0 });
        let rate = rate_of(&prices, &fleet);
        let spent = spent_usd(spent_cents as f64 / 100.0, 0.0);
        let (left, cap) = left(&config, rate, spent, now_ms).unwrap();
        let allowed = Room { prices: &prices, left, cap }.refuses(size, 1).is_none();
        let rest_ms = 24 * HOUR_MS - at_ms;
        let total = u128::from(spent_cents) * 10_000_000 * MS_PER_HOUR
            + u128::from((rate + prices[size]).0) * u128::from(rest_ms);
        prop_assert_eq!(allowed, total <= u128::from(cap_cents) * 10_000_000 * MS_PER_HOUR);
    }
}
