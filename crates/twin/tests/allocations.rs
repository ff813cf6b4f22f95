//! An environment that is used again allocates nothing: neither at a reset nor in a step.

use std::sync::Arc;

use contract::Action;
use twin::{Ec2Profile, EnvSpec, Environment, Perturbation, TwinEnv};

/// Resets and steps through the episodes of some seeds under actions that follow from the seed.
fn run_episodes(env: &mut TwinEnv) -> u64 {
    let mut steps = 0u64;
    for seed in 0..24u64 {
        env.reset(seed);
        let mut dice = seed;
        while !env.is_over() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            env.step(Action::from(((dice >> 33) % 7) as u16));
            steps += 1;
        }
    }
    steps
}

/// Allocations of the second time, when all buffers have grown.
fn allocations_when_used_again(spec: EnvSpec) -> u64 {
    let mut env = TwinEnv::new(Arc::new(spec));
    let first = allocation_counter::measure(|| assert!(run_episodes(&mut env) > 1000));
    assert!(first.count_total > 0, "allocations are counted");
    allocation_counter::measure(|| assert!(run_episodes(&mut env) > 1000)).count_total
}

fn ec2() -> EnvSpec {
    let profile = Ec2Profile { spot_interruptions_per_hour: 0.5, ..Ec2Profile::default() };
    EnvSpec::published().configured(|config| profile.apply(config)).unwrap()
}

fn perturbation() -> Perturbation {
    Perturbation::ALL_KINDS
}

#[test]
fn the_published_environment_allocates_nothing() {
    assert_eq!(allocations_when_used_again(EnvSpec::published()), 0);
}

#[test]
fn the_perturbed_environment_allocates_nothing() {
    assert_eq!(allocations_when_used_again(EnvSpec::published().perturbed(perturbation())), 0);
}

#[test]
fn the_ec2_profile_allocates_nothing() {
    assert_eq!(allocations_when_used_again(ec2()), 0);
    assert_eq!(allocations_when_used_again(ec2().perturbed(perturbation())), 0);
}
