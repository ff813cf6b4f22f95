//! Domain randomisation: each sigma changes what it is for and nothing else, and follows the seed.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::Action;
use twin::boot::LaunchFailures;
use twin::{BootModel, EnvSpec, Environment, Job, Perturbation, SimConfig, TwinEnv, Workload};

const NONE: Perturbation = Perturbation::NONE;

fn jobs(perturbation: Perturbation, seed: u64) -> Vec<Job> {
    let mut env = TwinEnv::new(Arc::new(EnvSpec::published().perturbed(perturbation)));
    env.reset(seed);
    env.sim().workload().jobs().to_vec()
}

fn mean_and_sd(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn the_default_changes_nothing() {
    assert_eq!(NONE, Perturbation::default());
    for (seed, workload) in [0, 1].into_iter().zip(EnvSpec::published().workloads()) {
        assert_eq!(jobs(NONE, seed), workload.jobs());
    }
}

#[test]
fn run_times_and_arrivals_are_drawn_as_they_always_were() {
    let drawn = jobs(Perturbation { runtime_log_sigma: 0.2, arrival_jitter_s: 45.0, ..NONE }, 4);
    let of = |i: usize| (drawn[i].submit_ms, drawn[i].runtime_ms);
    // from the version before tasks, boots, load and outages were perturbed too
    assert_eq!([of(0), of(50), of(1550)], [(0, 314_401), (505_324, 314_401), (11_389_379, 314_401)]);
}

#[test]
fn each_task_has_a_factor_of_its_own_around_one() {
    let drawn = jobs(Perturbation { task_log_sigma: 0.3, ..NONE }, 2);
    let (mean, sd) = mean_and_sd(drawn.iter().map(|job| (job.runtime_ms as f64 / 360_000.0).ln()));
    assert!(mean.abs() < 0.03 && (sd - 0.3).abs() < 0.03, "{mean} and {sd}");
    let submits = |jobs: &[Job]| jobs.iter().map(|job| job.submit_ms).collect::<Vec<_>>();
    let moved = Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 30.0, ..NONE };
    let both = jobs(Perturbation { task_log_sigma: 0.3, ..moved }, 2);
    assert_eq!(submits(&both), submits(&jobs(moved, 2)));
}

#[test]
fn the_number_of_tasks_varies_by_its_sigma() {
    let sizes =
        (0..400).map(|seed| jobs(Perturbation { load_log_sigma: 0.25, ..NONE }, 2 * seed).len() as f64 / 1551.0);
    let (mean, sd) = mean_and_sd(sizes.map(f64::ln));
    assert!(mean.abs() < 0.04 && (sd - 0.25).abs() < 0.03, "{mean} and {sd}");
}

#[test]
fn fewer_tasks_are_a_choice_and_more_are_repeats_under_new_ids() {
    let base = jobs(NONE, 0);
    let (mut fewer, mut more) = (0, 0);
    for seed in (0..20).map(|k| 2 * k) {
        let drawn = jobs(Perturbation { load_log_sigma: 0.3, ..NONE }, seed);
        let ids: BTreeSet<i64> = drawn.iter().map(|job| job.id).collect();
        assert_eq!(ids.len(), drawn.len(), "ids differ");
        if drawn.len() < base.len() {
            fewer += 1;
            assert!(drawn.iter().all(|job| base.contains(job)));
        } else {
            more += 1;
            assert!(base.iter().all(|job| drawn.contains(job)));
            let new = drawn.iter().filter(|job| job.id >= 1551);
            new.for_each(|job| assert!(base.iter().any(|b| b.submit_ms.abs_diff(job.submit_ms) <= 2000), "{job:?}"));
        }
    }
    assert!(fewer > 3 && more > 3, "{fewer} and {more}");
}

#[test]
fn a_task_is_always_left() {
    let one = Workload::new(vec![Job { id: 3, submit_ms: 0, runtime_ms: 1000, cores: 1, memory_mb: 0 }]);
    let spec = EnvSpec::new(SimConfig::default(), vec![Arc::new(one)]).unwrap();
    let mut env = TwinEnv::new(Arc::new(spec.perturbed(Perturbation { load_log_sigma: 1.5, ..NONE })));
    let sizes = (0..40).map(|seed| {
        env.reset(seed);
        env.sim().workload().jobs().len()
    });
    let sizes: Vec<usize> = sizes.collect();
    // a third of the factors is below a half and would round to none
    assert_eq!(sizes.iter().min(), Some(&1));
    assert!(sizes.iter().any(|n| *n > 2), "{sizes:?}");
}

#[test]
fn all_boots_of_an_episode_are_longer_or_shorter_together() {
    let ready_after = |perturbation: Perturbation, seed: u64| {
        let spec = EnvSpec::published().configured(|config| config.boot = BootModel::Fixed { seconds: 600.0 });
        let mut env = TwinEnv::new(Arc::new(spec.unwrap().perturbed(perturbation)));
        env.reset(seed);
        env.step(Action::Launch(0, 1));
        let mut steps = 1;
        while env.sim().counts()[0].booting > 0 {
            env.step(Action::Nothing);
            steps += 1;
        }
        steps
    };
    assert_eq!(ready_after(NONE, 4), 10);
    let minutes: Vec<i32> =
        (0..40).map(|seed| ready_after(Perturbation { boot_log_sigma: 0.3, ..NONE }, seed)).collect();
    let shorter = minutes.iter().filter(|n| **n < 10).count();
    assert!((10..30).contains(&shorter) && minutes.iter().any(|n| *n > 12), "{minutes:?}");
}

#[test]
fn outages_vary_from_episode_to_episode() {
    let failed = |sigma: f64| {
        let spec = EnvSpec::published().configured(|config| {
            config.launch_failures = LaunchFailures::Outages { mean_up_s: 600.0, mean_down_s: 600.0 };
        });
        let perturbation = Perturbation { outage_log_sigma: sigma, ..NONE };
        let mut env = TwinEnv::new(Arc::new(spec.unwrap().perturbed(perturbation)));
        let shares = (0..100).map(|seed| {
            env.reset(seed);
            (0..100).for_each(|_| {
                env.step(Action::Launch(0, 1));
            });
            env.outcome().failed_launches as f64 / 100.0
        });
        mean_and_sd(shares)
    };
    let ((_, plain), (_, varied)) = (failed(0.0), failed(1.5));
    assert!(varied > 1.5 * plain, "{plain} and {varied}");
}
