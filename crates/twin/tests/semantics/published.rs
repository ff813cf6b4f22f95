//! The published training load gives the published figures to the cent.

use std::sync::Arc;

use contract::{Action, Mask, Observation};
use controller::rule;
use twin::{EnvSpec, Environment, Outcome, TwinEnv};

/// Plays one episode; crate `backtest`, which does so for everybody else, stands on this one.
fn run_policy(env: &mut TwinEnv, seed: u64, policy: &mut dyn FnMut(&Observation, &Mask) -> Action) -> Outcome {
    env.reset(seed);
    while !env.is_over() {
        let action = policy(env.observation(), &env.mask());
        env.step(action);
    }
    env.outcome()
}

fn nothing(_: &Observation, _: &Mask) -> Action {
    Action::Nothing
}

/// Dollars to the cent.
fn cents(usd: f64) -> String {
    format!("{usd:.2}")
}

/// One episode of a fleet that is there from the start and never changes.
fn static_fleet(fleet: [u32; 3], seed: u64) -> Outcome {
    let spec = EnvSpec::published().with_initial(fleet).unwrap();
    run_policy(&mut TwinEnv::new(Arc::new(spec)), seed, &mut nothing)
}

#[test]
fn doing_nothing_costs_what_is_published() {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
    for (seed, total) in [(0, "247.53"), (1, "260.73")] {
        let outcome = run_policy(&mut env, seed, &mut nothing);
        assert_eq!(cents(outcome.total_usd), total);
        assert_eq!(outcome.completed, 1551);
    }
}

/// The published figures are for fleets of one S, one M and any number of L.
#[test]
fn the_best_static_fleet_is_the_published_one() {
    for (seed, fleet, total) in [(0, [1, 1, 7], "22.55"), (1, [1, 1, 8], "26.24")] {
        let outcomes = (1..13).map(|l| ([1, 1, l], static_fleet([1, 1, l], seed).total_usd));
        let (best, usd) = outcomes.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!((best, cents(usd).as_str()), (fleet, total));
    }
}

#[test]
fn the_split_of_a_static_fleet_into_sizes_does_not_matter_to_one_core_tasks() {
    let a = static_fleet([1, 1, 7], 0);
    let b = static_fleet([3, 14, 0], 0);
    assert_eq!((a.queue_usd, a.makespan_s), (b.queue_usd, b.makespan_s));
    assert!((a.total_usd - b.total_usd).abs() < 1e-9);
}

#[test]
fn the_production_rule_beats_the_best_static_fleet() {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published()));
    for (seed, published) in [(0, 22.55), (1, 26.24)] {
        let outcome = run_policy(&mut env, seed, &mut |o, mask| rule::decide(o, 1.5, mask));
        assert!(outcome.total_usd < published, "{}", outcome.total_usd);
        println!("production rule, order {seed}: {:.2}", outcome.total_usd);
    }
}
