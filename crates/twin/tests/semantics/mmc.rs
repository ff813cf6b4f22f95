//! An M/M/c queue in the twin waits as long as the closed form says.
//!
//! Erlang C: A. K. Erlang (1917); L. Kleinrock, "Queueing Systems, Volume I: Theory" (Wiley 1975), section 3.5.

use std::sync::Arc;

use contract::Action;
use contract::capacity::Bounds;
use twin::sim::{Phase, Sim};
use twin::workload::poisson;
use twin::{MachineType, SimConfig, Workload};

const RUNTIME_S_MEAN: f64 = 60.0;
/// Tasks of one run, on average.
const TASKS: f64 = 500_000.0;
/// Runs.
const SEEDS: u64 = 10;

/// The probability that a task has to wait with `c` servers at a load of `rho` each:
/// `C = a^c / c! / ((1 - rho) Σ_{k<c} a^k / k! + a^c / c!)` with `a = c rho`.
fn erlang_c(c: u32, rho: f64) -> f64 {
    let a = f64::from(c) * rho;
    let mut term = 1.0;
    let mut sum = 0.0;
    for k in 0..c {
        sum += term;
        term *= a / f64::from(k + 1);
    }
    term / ((1.0 - rho) * sum + term)
}

/// Mean wait, `C / (c mu - lambda)`, seconds.
fn wait_s_mean(c: u32, rho: f64) -> f64 {
    erlang_c(c, rho) * RUNTIME_S_MEAN / (f64::from(c) * (1.0 - rho))
}

/// `c` machines of one core, there from the start, that never change.
fn fleet(c: u32) -> SimConfig {
    let bounds = Bounds::new(c, Some(c)).unwrap();
    let kind = MachineType {
        name: "one".into(),
        cores: 1,
        memory_mb: None,
        usd_per_hour: 0.1,
        initial: c,
        bounds,
        spot_interruptions_per_hour: 0.0,
    };
    SimConfig { types: vec![kind], step_ms: 3_600_000, max_steps: u64::MAX, ..SimConfig::default() }
}

/// Waits of a simulated run, milliseconds.
fn waits_ms(c: u32, rho: f64, seed: u64) -> Vec<u64> {
    let rate_per_hour = f64::from(c) * rho * 3600.0 / RUNTIME_S_MEAN;
    let jobs = poisson(rate_per_hour, TASKS / rate_per_hour, RUNTIME_S_MEAN, seed);
    let mut sim = Sim::new(Arc::new(fleet(c)));
    sim.reset(Arc::new(Workload::new(jobs)), seed);
    while sim.phase() == Phase::Going {
        sim.step(Action::Nothing);
    }
    assert_eq!(sim.phase(), Phase::Finished);
    sim.waits_ms().to_vec()
}

#[test]
fn erlang_c_is_right_where_it_can_be_worked_out_by_hand() {
    // one server: rho; two: 2 rho² / (1 + rho)
    assert!((erlang_c(1, 0.7) - 0.7).abs() < 1e-12);
    assert!((erlang_c(2, 0.6) - 0.72 / 1.6).abs() < 1e-12);
}

#[test]
fn waits_are_those_of_the_closed_form() {
    for (c, rho) in [(1, 0.6), (4, 0.6), (4, 0.85), (16, 0.85)] {
        let waits: Vec<u64> = (0..SEEDS).flat_map(|seed| waits_ms(c, rho, seed)).collect();
        let n = waits.len() as f64;
        let mean_s = waits.iter().sum::<u64>() as f64 / n / 1000.0;
        let expected_s = wait_s_mean(c, rho);
        println!("c {c} rho {rho}: {mean_s:.3} s simulated, {expected_s:.3} s expected");
        assert!((mean_s / expected_s - 1.0).abs() < 0.02, "c {c} rho {rho}: {mean_s} s, not {expected_s} s");
        let waiting = waits.iter().filter(|ms| **ms > 0).count() as f64 / n;
        assert!((waiting / erlang_c(c, rho) - 1.0).abs() < 0.01, "c {c} rho {rho}: {waiting} wait");
    }
}
