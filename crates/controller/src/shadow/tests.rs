//! The ledger by hand, tick by tick, and what holds for every load and every action.

use contract::capacity::Counts;
use contract::decision::Verdict;
use contract::observation::Work;
use proptest::prelude::*;

use super::*;
use crate::guard::{Situation, permit};
use crate::samples::{config, decided};
use contract::control::Mode;

const TICK: u64 = 6000;

/// One machine of each size, 14 cores, all measured, under so many tasks of one core that wait and run.
fn measured(waiting: u32, running: u32) -> Observation {
    Observation {
        fleet: [Counts { ready: 1, booting: 0 }; 3],
        cpu_util_avg: Some(0.5),
        cpu_util_p90: Some(0.75),
        mem_util_avg: Some(0.2),
        mem_util_p90: Some(0.4),
        wait_ratio_window: Some(0.1),
        wait_ratio_recent: Some(0.0),
        queue_depth: Some(waiting),
        running: Some(running),
        work: Some(Work { queue_cores: waiting, running_cores: running, running_age_s: 50.0, ..Work::default() }),
        oldest_wait_s: Some(if waiting > 0 { 30.0 } else { 0.0 }),
        arrivals: Some(0),
        since_arrival_s: Some(10.0),
        ..Observation::empty([2, 4, 8])
    }
}

/// A pool whose ledger is kept from tick to tick.
struct Books {
    config: PoolConfig,
    last: Option<Decision>,
    arrivals_ms: Vec<u64>,
    /// Cores that a task wants.
    task_cores: f64,
    policy: Option<&'static str>,
    head: Head,
}

impl Books {
    fn new() -> Self {
        let (config, head) = (config(), Head::default());
        Self { config, last: None, arrivals_ms: Vec::new(), task_cores: 1.0, policy: Some("a"), head }
    }

    /// What is seen at a tick, and the ledger, before any action.
    fn look(&self, tick: u64, measured: &Observation) -> (Shadow, Observation) {
        let scaled = |cores: u32| (f64::from(cores) * self.task_cores) as u32;
        let work = measured.work.map(|work| Work {
            queue_cores: scaled(work.queue_cores),
            running_cores: scaled(work.running_cores),
            ..work
        });
        let measured = &Observation { work, ..measured.clone() };
        let arrivals_ms = Some(self.arrivals_ms.as_slice());
        let Self { config, head, policy, .. } = self;
        let read = Read { tick, config, measured, head, arrivals_ms, policy: *policy };
        at_tick(self.last.as_ref(), &read)
    }

    fn tick(&mut self, tick: u64, measured: &Observation, action: Action) -> Decision {
        let (mut shadow, observation) = self.look(tick, measured);
        act(&mut shadow, action, tick, &self.config);
        let decision = Decision { action, observation, shadow: Some(shadow), verdict: Verdict::Hold, ..decided(tick) };
        self.last = Some(decision.clone());
        decision
    }
}

fn paper(decision: &Decision) -> &Shadow {
    decision.shadow.as_ref().expect("it observes")
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn it_begins_as_the_real_fleet_and_sees_what_was_measured() {
    let mut books = Books::new();
    books.head =
        Head { generation: 4, next_allowed_ms: 6_030_000, last_action: Action::Stop(1, 1), last_action_ms: 5_900_000 };
    let mut o = measured(3, 14);
    o.fleet[1].booting = 2;
    (o.last_action, o.since_action_s, o.cooldown_left_s) = (Action::Stop(1, 1), 100.0, 30.0);
    let (shadow, seen) = books.look(TICK, &o);
    assert_eq!(seen, o);
    assert_eq!((shadow.since, shadow.ticks, shadow.gaps), (TICK, 1, 0));
    assert_eq!(shadow.booting, [ShadowBoot { size: 1, ready_ms: TICK * 1000 + 71_000 }; 2]);
    assert_eq!((shadow.real, shadow.shadow), (Account::default(), Account::default()));
}

#[test]
fn a_stop_saves_the_machine_and_costs_what_then_waits_by_hand() {
    // S, M and L at 0.2, 0.4 and 0.8 dollars an hour, a waiting hour at 0.036; 14 tasks run on 14 cores.
    let mut books = Books::new();
    books.tick(TICK, &measured(0, 14), Action::Stop(1, 1));
    let d = books.tick(TICK + 60, &measured(0, 14), Action::Nothing);
    let (real, shadow) = (paper(&d).real, paper(&d).shadow);
    assert!(close(real.machines_usd, 1.4 / 60.0) && close(shadow.machines_usd, 1.0 / 60.0), "{real:?} {shadow:?}");
    // 10 cores are left for 14 tasks: four wait, for a minute.
    assert_eq!((d.observation.queue_depth, d.observation.running), (Some(4), Some(10)));
    assert!(close(real.waiting_usd, 0.0) && close(shadow.waiting_usd, 4.0 * 0.036 / 60.0));
    assert!(close(paper(&d).saved_usd(), (0.4 - 4.0 * 0.036) / 60.0));
    assert_eq!((d.observation.last_action, d.observation.since_action_s), (Action::Stop(1, 1), 60.0));
    assert_eq!(d.observation.fleet.map(|n| n.ready), [1, 0, 1]);
    assert_eq!(d.measured(), &measured(0, 14));
}

#[test]
fn what_fewer_cores_do_not_do_is_done_later_by_hand() {
    let mut books = Books::new();
    books.tick(TICK, &measured(0, 14), Action::Stop(1, 1));
    // Reality did 7 of 14 tasks with 14 cores; 10 cores did 5 of them, two are left over.
    let d = books.tick(TICK + 60, &measured(0, 7), Action::Nothing);
    assert!(close(paper(&d).tasks_behind, 2.0), "{:?}", paper(&d));
    assert_eq!((d.observation.queue_depth, d.observation.running), (Some(0), Some(9)));
    assert_eq!((paper(&d).pace.tasks, paper(&d).pace.core_s), (7.0, 840.0));
    // Reality did its other 7 with 7 cores. The shadow had 9 busy: those 7, and with two more cores for a minute, at
    // the pace of 7 tasks in 840 core-seconds, one task of the two that it was behind.
    let d = books.tick(TICK + 120, &measured(0, 0), Action::Nothing);
    assert!(close(paper(&d).tasks_behind, 1.0), "{:?}", paper(&d));
    assert_eq!((d.observation.queue_depth, d.observation.running), (Some(0), Some(1)));
    // Nothing is left in reality; the shadow goes on with its last task at the pace of 14 tasks in 1260 core-seconds.
    let d = books.tick(TICK + 180, &measured(0, 0), Action::Nothing);
    assert!(close(paper(&d).tasks_behind, 1.0 - 60.0 * 14.0 / 1260.0), "{:?}", paper(&d));
    let d = books.tick(TICK + 240, &measured(0, 0), Action::Nothing);
    // A third of a task keeps a third of a core busy: a fluid drains ever more slowly, and is seen as no task.
    assert!(close(paper(&d).tasks_behind, 1.0 / 3.0 - 20.0 * 14.0 / 1260.0), "{:?}", paper(&d));
    assert_eq!((d.observation.queue_depth, d.observation.running), (Some(0), Some(0)));
}

#[test]
fn tasks_of_several_cores_need_as_many_and_arrivals_are_those_since_the_last_tick_by_hand() {
    let mut books = Books { task_cores: 2.0, ..Books::new() };
    // One came at the last tick itself and was counted there, two since.
    books.arrivals_ms = [TICK * 1000, TICK * 1000 + 1, TICK * 1000 + 60_000].to_vec();
    books.tick(TICK, &measured(0, 6), Action::Stop(1, 1));
    let d = books.tick(TICK + 60, &measured(0, 4), Action::Nothing);
    // Reality had 8 tasks, 16 cores' worth on 14, and did 4; the shadow's 10 cores did 4 * 10 / 14 of them.
    assert!(close(paper(&d).tasks_behind, 4.0 * 4.0 / 14.0), "{:?}", paper(&d));
    assert_eq!((paper(&d).cores_per_task, paper(&d).pace.core_s), (2.0, 840.0));
    // 4 and 8/7 tasks of two cores are more than ten cores hold: one seventh of a task waits.
    assert!(close(paper(&d).shadow.waiting_usd, 0.036 / 7.0 / 60.0));
    books.task_cores = 4.0;
    let d = books.tick(TICK + 120, &measured(0, 4), Action::Nothing);
    assert_eq!(paper(&d).cores_per_task, 4.0);
}

#[test]
fn before_the_first_action_there_is_none_to_count_from() {
    let mut books = Books::new();
    books.tick(TICK, &measured(0, 0), Action::Nothing);
    assert_eq!(books.look(TICK + 60, &measured(0, 0)).1.since_action_s, 0.0);
}

#[test]
fn a_launch_boots_for_the_pools_boot_time_and_then_drains_the_queue() {
    let mut books = Books::new();
    books.tick(TICK, &measured(8, 14), Action::Launch(2, 1));
    let d = books.tick(TICK + 60, &measured(8, 14), Action::Nothing);
    assert_eq!(d.observation.fleet[2], Counts { ready: 1, booting: 1 });
    assert_eq!((d.observation.queue_depth, paper(&d).saved_usd()), (Some(8), 0.0), "booting is free");
    let d = books.tick(TICK + 71, &measured(8, 14), Action::Nothing);
    assert_eq!(d.observation.fleet[2], Counts { ready: 2, booting: 0 });
    let o = &d.observation;
    assert_eq!((o.queue_depth, o.running, o.oldest_wait_s), (Some(0), Some(22), Some(0.0)));
    assert!(close(paper(&d).shadow.machines_usd - paper(&d).real.machines_usd, 0.8 * 11.0 / 3600.0));
}

#[test]
fn a_stop_takes_the_youngest_that_boots_and_then_one_in_service() {
    let mut books = Books::new();
    books.tick(TICK, &measured(0, 0), Action::Launch(0, 1));
    books.tick(TICK + 60, &measured(0, 0), Action::Launch(0, 1));
    let d = books.tick(TICK + 61, &measured(0, 0), Action::Stop(0, 1));
    assert_eq!(paper(&d).booting, [ShadowBoot { size: 0, ready_ms: (TICK + 71) * 1000 }]);
    let d = books.tick(TICK + 62, &measured(0, 0), Action::Stop(0, 1));
    assert_eq!((paper(&d).booting.len(), paper(&d).ready), (0, [1, 1, 1]));
    let d = books.tick(TICK + 63, &measured(0, 0), Action::Stop(0, 1));
    assert_eq!(paper(&d).ready, [0, 1, 1]);
    let d = books.tick(TICK + 64, &measured(0, 0), Action::Stop(0, 1));
    assert_eq!(paper(&d).ready, [0, 1, 1], "there is no negative machine");
}

#[test]
fn the_cooldown_and_the_budget_are_the_shadows() {
    let mut books = Books::new();
    (books.config.cooldown_s, books.config.launches_per_hour_max) = (120, Some(2));
    let d = books.tick(TICK, &measured(0, 0), Action::Launch(0, 1));
    assert_eq!((paper(&d).head.generation, paper(&d).head.next_allowed_ms), (1, (TICK + 120) * 1000));
    let (shadow, seen) = books.look(TICK + 60, &measured(0, 0));
    assert_eq!((seen.cooldown_left_s, launches_left(&shadow, &books.config)), (60.0, Some(1)));
    let mut books = Books { last: Some(d), ..books };
    for tick in (TICK + 300..TICK + 3600).step_by(300) {
        books.tick(tick, &measured(0, 0), Action::Nothing);
    }
    let (shadow, _) = books.look(TICK + 3599, &measured(0, 0));
    assert_eq!(launches_left(&shadow, &books.config), Some(1));
    let (shadow, _) = books.look(TICK + 3600, &measured(0, 0));
    assert_eq!(launches_left(&shadow, &books.config), Some(2));
    assert_eq!(launches_left(&shadow, &config()), None);
}

#[test]
fn the_budget_of_stops_is_the_shadows() {
    let mut books = Books::new();
    (books.config.stops_per_hour_max, books.config.machines_per_action_max) = (Some(3), 2);
    books.tick(TICK, &measured(0, 0), Action::Stop(2, 2));
    for tick in (TICK + 300..TICK + 3600).step_by(300) {
        books.tick(tick, &measured(0, 0), Action::Nothing);
    }
    let left = |tick: u64| stops_left(&books.look(tick, &measured(0, 0)).0, &books.config);
    assert_eq!((left(TICK + 3599), left(TICK + 3600)), (Some(1), Some(3)));
    assert_eq!(stops_left(&books.look(TICK + 3599, &measured(0, 0)).0, &config()), None);
}

#[test]
fn another_policy_another_mode_or_a_long_gap_begin_a_new_ledger() {
    let longest = (SHADOW_GAP_TICKS_MAX + 1) * 60;
    let since = |change: fn(&mut Books), tick: u64| {
        let mut books = Books::new();
        books.tick(TICK, &measured(0, 14), Action::Stop(0, 1));
        change(&mut books);
        let (shadow, _) = books.look(tick, &measured(0, 14));
        (shadow.since, shadow.gaps)
    };
    assert_eq!(since(|_| (), TICK + 60), (TICK, 0));
    assert_eq!(since(|_| (), TICK + longest), (TICK, SHADOW_GAP_TICKS_MAX));
    assert_eq!(since(|_| (), TICK + longest + 60), (TICK + longest + 60, 0));
    assert_eq!(since(|b| b.policy = Some("b"), TICK + 60).0, TICK + 60);
    assert_eq!(since(|b| b.policy = None, TICK + 60).0, TICK, "it cannot be loaded just now");
    assert_eq!(since(|b| b.last.as_mut().unwrap().shadow = None, TICK + 60).0, TICK + 60, "another mode");
    let damaged = |b: &mut Books| b.last.as_mut().unwrap().shadow.as_mut().unwrap().cores_per_task = 0.0;
    assert_eq!(since(damaged, TICK + 60).0, TICK + 60);
    let spoiled = |b: &mut Books| b.last.as_mut().unwrap().shadow.as_mut().unwrap().real.machines_usd = f64::NAN;
    assert_eq!(since(spoiled, TICK + 60).0, TICK + 60);
    let other_sizes = |b: &mut Books| b.last.as_mut().unwrap().shadow.as_mut().unwrap().measured.cores = [1, 1, 1];
    assert_eq!(since(other_sizes, TICK + 60).0, TICK + 60);
    assert_eq!(since(|_| (), TICK).0, TICK, "a tick is not after itself");
}

#[test]
fn what_a_stop_would_do_to_the_shadow_is_by_its_own_machines() {
    let mut books = Books::new();
    let work = Work { stop_loss_core_s: [100.0, 0.0, 0.0], idle: [0, 1, 1], ..measured(0, 6).work.unwrap() };
    let o = Observation { work: Some(work), ..measured(0, 6) };
    books.tick(TICK, &o, Action::Stop(2, 1));
    let seen = books.look(TICK + 60, &o).1.work.unwrap();
    // 6 busy cores of 6 instead of 14: the L is gone, the M is idle no more, and its 4 cores have worked for 50 s
    assert_eq!((seen.idle, seen.stop_loss_core_s), ([0; 3], [100.0, 200.0, 0.0]));
    assert_eq!((seen.queue_cores, seen.running_cores, seen.running_age_s), (0, 6, 50.0));
}

#[test]
fn tasks_that_cannot_be_read_leave_the_queue_unknown_and_uncharged() {
    let mut books = Books::new();
    books.tick(TICK, &measured(0, 14), Action::Stop(1, 1));
    let dark = Observation { queue_depth: None, running: None, work: None, cpu_util_avg: None, ..measured(0, 14) };
    let d = books.tick(TICK + 60, &dark, Action::Nothing);
    assert_eq!((d.observation.queue_depth, d.observation.running, d.observation.cpu_util_avg), (None, None, None));
    assert_eq!(paper(&d).shadow.waiting_usd, 0.0);
    assert!(close(paper(&d).real.machines_usd, 1.4 / 60.0), "machines are known");
    let d = books.tick(TICK + 120, &measured(0, 7), Action::Nothing);
    assert_eq!(paper(&d).tasks_behind, 0.0, "nobody knows what was done in between");
}

#[test]
fn the_load_that_is_seen_moves_with_the_cores() {
    let mut books = Books::new();
    books.arrivals_ms = [5400, 5970, 5975, 5980, 5985, 5990].map(|s| s * 1000).to_vec();
    books.tick(TICK, &measured(0, 14), Action::Stop(1, 1));
    let o = books.tick(TICK + 60, &measured(0, 14), Action::Nothing).observation;
    // 14 tasks on 10 cores: full, and four wait, which are the youngest: the oldest of them came at 5975.
    assert_eq!((o.cpu_util_avg, o.cpu_util_p90), (Some(0.5), Some(0.75)), "both fleets are full");
    assert_eq!(o.oldest_wait_s, Some(85.0));
    assert!(close(o.wait_ratio_window.unwrap(), 0.1 + 4.0 / 6.0));
    assert_eq!(o.wait_ratio_recent, Some(0.0), "none came in the last tick");
    let o = books.tick(TICK + 120, &measured(0, 7), Action::Nothing).observation;
    // Reality has half of its cores busy; the shadow 9 of its 10, of which it is two tasks behind.
    assert!(close(o.cpu_util_avg.unwrap(), 0.9) && close(o.mem_util_avg.unwrap(), 0.2 * 1.8));
    assert_eq!((o.cpu_util_p90, o.mem_util_p90.map(|x| (x * 100.0).round())), (Some(1.0), Some(72.0)));
}

/// Loads and actions of a pool's ticks: waiting, running, arrivals, and the number of an action.
fn ticks() -> impl Strategy<Value = Vec<(u32, u32, u8, usize)>> {
    prop::collection::vec((0u32..40, 0u32..20, 0u8..20, 0..contract::ACTION_COUNT), 1..60)
}

fn arrive(books: &mut Books, tick: u64, n: u8) {
    books.arrivals_ms.extend((0..u64::from(n)).map(|i| tick * 1000 - 100 + i));
}

/// The action if the guard permits it on the shadow, else nothing.
fn permitted(books: &Books, shadow: &Shadow, tick: u64, action: usize) -> Action {
    let (fleet, bounds) = (shadow.fleet(), books.config.bounds());
    let situation = Situation {
        mode: Mode::Observe,
        fleet: &fleet,
        draining: &[],
        machines_per_action_max: 4,
        bounds: &bounds,
        no_capacity: &[false; 3],
        now_ms: tick * 1000,
        next_allowed_ms: shadow.head.next_allowed_ms,
        doubtful: false,
        launches_left: launches_left(shadow, &books.config),
        stops_left: stops_left(shadow, &books.config),
        money: None,
    };
    let action = Action::at(action);
    if permit(action, &situation).is_ok() { action } else { Action::Nothing }
}

proptest! {
    #[test]
    fn a_shadow_that_does_what_reality_does_saves_nothing_and_sees_the_same(ticks in ticks()) {
        let mut books = Books::new();
        books.config.boot_s = 90.0;
        // Reality's own ledger: counts, and when its launches are ready.
        let (mut ready, mut booting) = ([1u32; 3], Vec::<(u64, usize)>::new());
        for (i, (waiting, running, arrivals, action)) in ticks.into_iter().enumerate() {
            let tick = TICK + 60 * i as u64;
            booting.retain(|(at, size)| {
                let boots = *at > tick;
                ready[*size] += u32::from(!boots);
                boots
            });
            let mut o = measured(waiting, running);
            o.fleet = std::array::from_fn(|size| {
                let booting = booting.iter().filter(|(_, s)| *s == size).count() as u32;
                Counts { ready: ready[size], booting }
            });
            arrive(&mut books, tick, arrivals);
            let (shadow, seen) = books.look(tick, &o);
            let own = |o: &Observation| Observation { last_action: Action::Nothing, since_action_s: 0.0, ..o.clone() };
            prop_assert_eq!(own(&seen), own(&o));
            prop_assert_eq!((shadow.saved_usd(), shadow.tasks_behind), (0.0, 0.0));
            let action = permitted(&books, &shadow, tick, action);
            books.tick(tick, &o, action);
            match action {
                Action::Nothing => {}
                Action::Launch(size, n) => {
                    booting.extend(std::iter::repeat_n((tick + 90, usize::from(size)), usize::from(n)));
                }
                Action::Stop(size, n) => {
                    let size = usize::from(size);
                    for _ in 0..n {
                        match booting.iter().rposition(|(_, s)| *s == size) {
                            Some(youngest) => drop(booting.remove(youngest)),
                            None => ready[size] -= 1,
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_happens_the_shadow_is_within_its_bounds_and_its_books_are_sound(ticks in ticks()) {
        let mut books = Books::new();
        for (i, (waiting, running, arrivals, action)) in ticks.into_iter().enumerate() {
            let tick = TICK + 60 * i as u64;
            arrive(&mut books, tick, arrivals);
            let o = measured(waiting, running);
            let (shadow, _) = books.look(tick, &o);
            let action = permitted(&books, &shadow, tick, action);
            let d = books.tick(tick, &o, action);
            let shadow = paper(&d);
            for (counts, bounds) in shadow.fleet().iter().zip(books.config.bounds()) {
                prop_assert!(counts.total() >= bounds.min() && bounds.max().is_none_or(|max| counts.total() <= max));
            }
            let open = f64::from(waiting + running);
            prop_assert!(is_sound(shadow) && shadow.tasks_behind >= -open, "{shadow:?}");
            let seen = &d.observation;
            let shares = [seen.cpu_util_avg, seen.cpu_util_p90, seen.mem_util_avg, seen.wait_ratio_window];
            prop_assert!(shares.iter().all(|x| x.is_some_and(|x| (0.0..=1.0).contains(&x))), "{seen:?}");
            prop_assert!(seen.oldest_wait_s.unwrap() >= 0.0 && !seen.is_doubtful());
            let open = (open + shadow.tasks_behind).round();
            prop_assert_eq!(f64::from(seen.queue_depth.unwrap()) + f64::from(seen.running.unwrap()), open);
        }
    }

    #[test]
    fn more_machines_never_wait_longer(ticks in ticks(), size in 0u16..3) {
        let mut both = [Books::new(), Books::new()];
        let wanted = [Action::Launch(size, 1), Action::Nothing];
        for (i, (waiting, running, arrivals, _)) in ticks.into_iter().enumerate() {
            let tick = TICK + 60 * i as u64;
            let [larger, same] = std::array::from_fn(|k| {
                arrive(&mut both[k], tick, arrivals);
                let action = if i == 0 { wanted[k] } else { Action::Nothing };
                both[k].tick(tick, &measured(waiting, running), action)
            });
            prop_assert!(paper(&larger).shadow.waiting_usd <= paper(&same).shadow.waiting_usd + 1e-9);
            prop_assert!(paper(&larger).shadow.machines_usd >= paper(&same).shadow.machines_usd);
        }
    }
}
