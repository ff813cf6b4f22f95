//! The guard rails: which actions are allowed now, and why the others are not. Cloud and twin call the same code.
//!
//! It knows counts, bounds and times; it does not know EC2, metrics or the policy.

use std::fmt;

use contract::capacity::{Bounds, Counts};
use contract::control::Mode;
use contract::money::Cap;
use contract::{ACTION_COUNT, Action, Mask, SIZE_COUNT};

use crate::money::Room;

/// Everything that the guard looks at. Slices have one entry a machine type; the twin may have any number of them.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What the pool may do. The kill switch is no rail: the evaluator holds, and the claim's transaction fails.
    pub mode: Mode,
    /// Machines by type.
    pub fleet: &'a [Counts],
    /// Machines by type that drain: they count against the maximum for as long as they exist, and not for the minimum.
    /// None are given where nothing drains.
    pub draining: &'a [u32],
    /// Bounds by type.
    pub bounds: &'a [Bounds],
    /// Types that are not tried for lack of capacity.
    pub no_capacity: &'a [bool],
    /// Now, milliseconds.
    pub now_ms: u64,
    /// No action before this time, milliseconds.
    pub next_allowed_ms: u64,
    /// Whether data are missing, so that nothing may be stopped.
    pub doubtful: bool,
    /// Machines that one action may move at most.
    pub machines_per_action_max: u16,
    /// Launches still allowed in this hour; none means no limit.
    pub launches_left: Option<u32>,
    /// Stops still allowed in this hour; none means no limit.
    pub stops_left: Option<u32>,
    /// What the money caps leave; none without caps.
    pub money: Option<Room<'a>>,
}

/// Why an action is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// The pool has no such machine type.
    UnknownType,
    /// The pool does not act.
    Mode,
    /// The last action is too recent.
    Cooldown,
    /// More machines at once than one action may move.
    Step,
    /// There would be more machines of the type than there may be.
    AtMax,
    /// There would be fewer machines of the type than there must be.
    AtMin,
    /// EC2 had no capacity for the type a short while ago.
    NoCapacity,
    /// The budget has fewer launches left.
    Budget,
    /// The budget has fewer stops left.
    StopBudget,
    /// Data are missing or doubtful: nothing is stopped.
    Doubtful,
    /// A money cap leaves no room for the launch.
    Money(Cap),
    /// What is left of a budget or below a cap is needed to bring other types back to their minimum.
    KeptForMin,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Money(cap) => return cap.fmt(f),
            Refusal::UnknownType => "unknown type",
            Refusal::Mode => "mode",
            Refusal::Cooldown => "cooldown",
            Refusal::Step => "too many at once",
            Refusal::AtMax => "at max",
            Refusal::AtMin => "at min",
            Refusal::NoCapacity => "no capacity",
            Refusal::Budget => "launch budget",
            Refusal::StopBudget => "stop budget",
            Refusal::Doubtful => "doubtful data",
            Refusal::KeptForMin => "kept for another size's minimum",
        })
    }
}

/// Whether `action` is allowed now.
///
/// # Errors
/// The first reason against it: mode, cooldown, bounds, then what is particular to launches and stops.
pub fn permit(action: Action, s: &Situation<'_>) -> Result<(), Refusal> {
    let Some(size) = action.size() else { return Ok(()) };
    let (Some(counts), Some(bounds)) = (s.fleet.get(size), s.bounds.get(size)) else {
        return Err(Refusal::UnknownType);
    };
    let draining = s.draining.get(size).copied().unwrap_or_default();
    let (launches, machines) = (matches!(action, Action::Launch(..)), action.machines());
    refuse_if(s.mode == Mode::Off || (launches && s.mode == Mode::Drain), Refusal::Mode)?;
    refuse_if(s.now_ms < s.next_allowed_ms, Refusal::Cooldown)?;
    refuse_if(machines == 0 || machines > u32::from(s.machines_per_action_max), Refusal::Step)?;
    if launches {
        refuse_if(!bounds.may_grow(counts.total().saturating_add(draining), machines), Refusal::AtMax)?;
        refuse_if(s.no_capacity.get(size).copied().unwrap_or(false), Refusal::NoCapacity)?;
        refuse_if(s.launches_left.is_some_and(|left| left < machines), Refusal::Budget)?;
        s.money.and_then(|room| room.refuses(size, machines)).map_or(Ok(()), |cap| Err(Refusal::Money(cap)))?;
        refuse_if(takes_what_is_owed(size, machines, s), Refusal::KeptForMin)
    } else {
        refuse_if(!bounds.may_shrink(counts.total(), machines), Refusal::AtMin)?;
        refuse_if(s.stops_left.is_some_and(|left| left < machines), Refusal::StopBudget)?;
        refuse_if(s.doubtful, Refusal::Doubtful)
    }
}

fn refuse_if(condition: bool, refusal: Refusal) -> Result<(), Refusal> {
    if condition { Err(refusal) } else { Ok(()) }
}

/// Whether a launch beyond the minimum of its own type uses up launches or money that other types need for theirs. The
/// minimum is a promise: what the policy would rather have must not put it off for ever.
fn takes_what_is_owed(size: usize, machines: u32, s: &Situation<'_>) -> bool {
    let has_limits = s.launches_left.is_some() || s.money.is_some();
    if !has_limits || s.fleet[size].total().saturating_add(machines) <= s.bounds[size].min() {
        return false;
    }
    let owed = || (0..s.fleet.len()).filter(|other| *other != size).map(|other| (other, owed(other, s)));
    let launches: u32 = owed().map(|(_, n)| n).sum();
    let is_over = |room: Room<'_>| !room.has_for(owed().chain([(size, machines)]));
    s.launches_left.is_some_and(|left| left < machines.saturating_add(launches)) || s.money.is_some_and(is_over)
}

/// Machines of a type that are missing to its minimum and that may be launched now.
fn owed(size: usize, s: &Situation<'_>) -> u32 {
    let (counts, bounds) = (s.fleet[size], s.bounds[size]);
    let draining = s.draining.get(size).copied().unwrap_or_default();
    let missing = bounds.min().saturating_sub(counts.total());
    let may_be_had = !s.no_capacity.get(size).copied().unwrap_or(false)
        && bounds.may_grow(counts.total().saturating_add(draining), missing);
    if may_be_had { missing } else { 0 }
}

/// The verdict on each of the policy's actions, by action number.
pub fn verdicts(s: &Situation<'_>) -> [Result<(), Refusal>; ACTION_COUNT] {
    std::array::from_fn(|i| permit(Action::at(i), s))
}

/// The mask of allowed actions, an input of the network.
pub fn mask(s: &Situation<'_>) -> Mask {
    debug_assert_eq!(s.fleet.len(), SIZE_COUNT, "the policy's mask is for the contract's sizes");
    verdicts(s).map(|verdict| verdict.is_ok())
}

/// Which booting or ready machine a stop takes: what V2 of the twin calls the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopCandidate {
    /// Core-milliseconds of work that would be lost.
    pub lost_core_ms: u64,
    /// Tasks that run on it.
    pub running: u32,
    /// Whether it is in service; a booting machine goes first.
    pub ready: bool,
    /// Order of launch; the youngest goes first.
    pub launch_order: u64,
}

/// The order in which machines are stopped, smallest first: idle before busy; least work lost; fewest running tasks;
/// booting before ready; youngest.
pub fn stop_order(c: &StopCandidate) -> impl Ord + use<> {
    (c.running > 0, c.lost_core_ms, c.running, c.ready, std::cmp::Reverse(c.launch_order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::NanoUsd;
    use proptest::prelude::*;

    fn bounds(min: u32, max: u32) -> [Bounds; 3] {
        [Bounds::new(min, Some(max)).unwrap(); 3]
    }

    fn situation<'a>(fleet: &'a [Counts; 3], bounds: &'a [Bounds; 3]) -> Situation<'a> {
        Situation {
            mode: Mode::Active,
            fleet,
            draining: &[],
            bounds,
            no_capacity: &[false; 3],
            now_ms: 1000,
            next_allowed_ms: 0,
            doubtful: false,
            machines_per_action_max: 1,
            launches_left: None,
            stops_left: None,
            money: None,
        }
    }

    #[test]
    fn each_rail_refuses_what_it_is_for() {
        let b = bounds(1, 3);
        let fleet = [Counts { ready: 1, booting: 0 }, Counts { ready: 2, booting: 1 }, Counts { ready: 2, booting: 0 }];
        let s = situation(&fleet, &b);
        assert_eq!(permit(Action::Stop(0, 1), &s), Err(Refusal::AtMin));
        assert_eq!(permit(Action::Launch(1, 1), &s), Err(Refusal::AtMax));
        assert_eq!(permit(Action::Launch(2, 1), &s), Ok(()));
        assert_eq!(permit(Action::Launch(3, 1), &s), Err(Refusal::UnknownType));
        let late = Situation { next_allowed_ms: 1001, ..s };
        assert_eq!(permit(Action::Launch(2, 1), &late), Err(Refusal::Cooldown));
        assert_eq!(permit(Action::Launch(2, 1), &Situation { next_allowed_ms: 1000, ..s }), Ok(()));
        let dry = Situation { no_capacity: &[false, false, true], ..s };
        assert_eq!(permit(Action::Launch(2, 1), &dry), Err(Refusal::NoCapacity));
        assert_eq!(permit(Action::Launch(2, 1), &Situation { launches_left: Some(0), ..s }), Err(Refusal::Budget));
        assert_eq!(permit(Action::Stop(2, 1), &Situation { doubtful: true, ..s }), Err(Refusal::Doubtful));
        let stopped = Situation { stops_left: Some(0), ..s };
        assert_eq!(permit(Action::Stop(2, 1), &stopped), Err(Refusal::StopBudget));
        assert_eq!(permit(Action::Launch(2, 1), &stopped), Ok(()), "launches have a budget of their own");
        let drain = Situation { mode: Mode::Drain, ..s };
        assert_eq!(permit(Action::Launch(2, 1), &drain), Err(Refusal::Mode));
        assert_eq!(permit(Action::Stop(2, 1), &drain), Ok(()));
    }

    /// Three types with a minimum of 1: two S, one M and no L.
    const WITHOUT_L: [Counts; 3] =
        [Counts { ready: 1, booting: 1 }, Counts { ready: 1, booting: 0 }, Counts { ready: 0, booting: 0 }];

    #[test]
    fn the_last_launches_are_kept_for_a_missing_minimum() {
        let b = bounds(1, 3);
        let s = Situation { machines_per_action_max: 4, ..situation(&WITHOUT_L, &b) };
        let refused = |action, left| permit(action, &Situation { launches_left: Some(left), ..s }).err();
        assert_eq!(refused(Action::Launch(0, 1), 1), Some(Refusal::KeptForMin));
        assert_eq!(refused(Action::Launch(0, 1), 2), None);
        assert_eq!(refused(Action::Launch(1, 2), 2), Some(Refusal::KeptForMin));
        assert_eq!(refused(Action::Launch(2, 1), 1), None, "that is what they are kept for");
        assert_eq!(refused(Action::Stop(0, 1), 0), None);
        assert_eq!(permit(Action::Launch(0, 1), &s), Ok(()), "nothing runs short");
        let last = Situation { launches_left: Some(1), ..s };
        let no_l = Situation { no_capacity: &[false, false, true], ..last };
        assert_eq!(permit(Action::Launch(0, 1), &no_l), Ok(()), "no L is to be had");
        let draining = Situation { draining: &[0, 0, 3], ..last };
        assert_eq!(permit(Action::Launch(0, 1), &draining), Ok(()), "three L still drain");
    }

    #[test]
    fn the_last_money_is_kept_for_a_missing_minimum() {
        let (b, prices) = (bounds(1, 3), [0.2, 0.4, 0.8].map(NanoUsd::of));
        let s = Situation { machines_per_action_max: 4, ..situation(&WITHOUT_L, &b) };
        let refused = |action, left: f64| {
            let room = Room { prices: &prices, left: NanoUsd::of(left), cap: Cap::Hour };
            permit(action, &Situation { money: Some(room), ..s }).err()
        };
        assert_eq!(refused(Action::Launch(0, 1), 0.999), Some(Refusal::KeptForMin));
        assert_eq!(refused(Action::Launch(0, 1), 1.0), None);
        assert_eq!(refused(Action::Launch(2, 1), 0.8), None);
        assert_eq!(refused(Action::Launch(2, 2), 1.6), None, "no other type misses any");
        assert_eq!(refused(Action::Launch(0, 1), 0.1), Some(Refusal::Money(Cap::Hour)));
    }

    #[test]
    fn two_types_below_their_minimum_do_not_wait_for_each_other() {
        let b = bounds(1, 3);
        let fleet = [Counts { ready: 1, booting: 0 }, Counts::default(), Counts::default()];
        let s = Situation { launches_left: Some(1), machines_per_action_max: 4, ..situation(&fleet, &b) };
        assert_eq!([1, 2].map(|size| permit(Action::Launch(size, 1), &s)), [Ok(()); 2]);
        let two = Situation { launches_left: Some(2), ..s };
        assert_eq!(
            permit(Action::Launch(1, 2), &two),
            Err(Refusal::KeptForMin),
            "the second one is beyond its minimum"
        );
    }

    #[test]
    fn the_stop_order_is_the_one_of_the_twin() {
        let idle_old = StopCandidate { lost_core_ms: 0, running: 0, ready: true, launch_order: 1 };
        let idle_young = StopCandidate { launch_order: 5, ..idle_old };
        let booting = StopCandidate { ready: false, launch_order: 2, ..idle_old };
        let just_started = StopCandidate { running: 1, ..idle_old };
        let deep = StopCandidate { running: 1, lost_core_ms: 900, launch_order: 9, ..idle_old };
        let mut all = [deep, just_started, idle_old, idle_young, booting];
        all.sort_by_key(stop_order);
        assert_eq!(all, [booting, idle_young, idle_old, just_started, deep]);
    }

    #[test]
    fn an_idle_machine_goes_before_a_busy_one_whatever_each_would_lose() {
        let idle = StopCandidate { lost_core_ms: 7, running: 0, ready: true, launch_order: 1 };
        let busy = StopCandidate { lost_core_ms: 0, running: 1, ready: false, launch_order: 9 };
        assert!(stop_order(&idle) < stop_order(&busy));
    }

    #[test]
    fn the_verdicts_are_those_on_each_action_in_order_and_say_why() {
        let b = bounds(1, 2);
        let fleet = [Counts { ready: 1, booting: 0 }, Counts { ready: 1, booting: 1 }, Counts { ready: 2, booting: 0 }];
        let s = Situation { doubtful: true, no_capacity: &[true, false, false], ..situation(&fleet, &b) };
        let refusals: Vec<String> =
            verdicts(&s).iter().map(|v| v.err().map(|r| r.to_string()).unwrap_or_default()).collect();
        assert_eq!(refusals[..7], ["", "no capacity", "at min", "at max", "doubtful data", "at max", "doubtful data"]);
        assert!(refusals[7..].iter().all(|r| r == "too many at once"), "{refusals:?}");
        assert_eq!(mask(&s), std::array::from_fn(|i| i == 0));
        let texts = [Refusal::UnknownType, Refusal::Mode, Refusal::Cooldown, Refusal::Budget, Refusal::StopBudget];
        let texts = texts.map(|r| r.to_string());
        assert_eq!(texts, ["unknown type", "mode", "cooldown", "launch budget", "stop budget"]);
    }

    #[test]
    fn several_machines_need_room_for_all_of_them() {
        let b = bounds(1, 5);
        let fleet = [Counts { ready: 2, booting: 1 }, Counts { ready: 3, booting: 0 }, Counts { ready: 1, booting: 0 }];
        let s = Situation { machines_per_action_max: 4, ..situation(&fleet, &b) };
        assert_eq!(permit(Action::Launch(0, 2), &s), Ok(()));
        assert_eq!(permit(Action::Launch(0, 3), &s), Err(Refusal::AtMax));
        assert_eq!(permit(Action::Launch(2, 4), &s), Ok(()));
        assert_eq!(permit(Action::Stop(1, 2), &s), Ok(()));
        assert_eq!(permit(Action::Stop(1, 3), &s), Err(Refusal::AtMin));
        assert_eq!(permit(Action::Launch(2, 5), &s), Err(Refusal::Step));
        assert_eq!(permit(Action::Launch(2, 0), &s), Err(Refusal::Step));
        let draining = Situation { draining: &[0, 0, 2], ..s };
        assert_eq!(permit(Action::Launch(2, 2), &draining), Ok(()));
        assert_eq!(permit(Action::Launch(2, 4), &draining), Err(Refusal::AtMax), "two drain");
        let few = Situation { launches_left: Some(2), ..s };
        assert_eq!(permit(Action::Launch(2, 2), &few), Ok(()));
        assert_eq!(permit(Action::Launch(2, 4), &few), Err(Refusal::Budget));
        let few = Situation { stops_left: Some(1), ..s };
        assert_eq!(permit(Action::Stop(1, 1), &few), Ok(()));
        assert_eq!(permit(Action::Stop(1, 2), &few), Err(Refusal::StopBudget));
        let small = Situation { machines_per_action_max: 1, ..s };
        assert_eq!(permit(Action::Stop(1, 2), &small), Err(Refusal::Step));
        let all = mask(&s);
        assert!(Action::Launch(2, 4).is_allowed(&all) && !Action::Launch(0, 4).is_allowed(&all));
    }

    fn any_counts() -> impl Strategy<Value = Counts> {
        (0u32..6, 0u32..6).prop_map(|(ready, booting)| Counts { ready, booting })
    }

    proptest! {
        #[test]
        fn no_permitted_action_leaves_the_bounds(
            fleet in [any_counts(), any_counts(), any_counts()], lo in 0u32..4, span in 0u32..4, a in 0..ACTION_COUNT,
            doubtful: bool, next in 0u64..3000, most in prop::sample::select(&contract::STEPS),
        ) {
            let b = bounds(lo, lo + span);
            let s = Situation {
                doubtful, next_allowed_ms: next, machines_per_action_max: most, ..situation(&fleet, &b)
            };
            let action = Action::at(a);
            if permit(action, &s).is_ok() {
                match action {
                    Action::Nothing => {}
                    Action::Launch(i, n) => prop_assert!(fleet[i as usize].total() + u32::from(n) <= lo + span),
                    Action::Stop(i, n) => {
                        prop_assert!(fleet[i as usize].total() >= lo + u32::from(n) && !doubtful);
                    }
                }
                prop_assert!(action.machines() <= u32::from(most));
                prop_assert!(action == Action::Nothing || next <= s.now_ms);
            }
        }

        #[test]
        fn doing_nothing_is_always_allowed(fleet in [any_counts(), any_counts(), any_counts()], next: u64) {
            let b = bounds(0, 0);
            let s = Situation { mode: Mode::Off, next_allowed_ms: next, ..situation(&fleet, &b) };
            prop_assert!(mask(&s)[0]);
        }
    }
}
