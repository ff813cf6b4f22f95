//! Environments side by side: how many threads there are changes nothing.

use std::sync::Arc;

use contract::Action;
use rayon::prelude::*;
use twin::{Ec2Profile, EnvSpec, Environment, Outcome, TwinEnv};

/// Action `k` of the episode of `seed`, any of the seven.
fn action(seed: u64, k: u64) -> Action {
    let mixed = (seed * 1_000_003 + k).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Action::from(((mixed >> 33) % 7) as u16)
}

fn episode(env: &mut TwinEnv, seed: u64) -> (Outcome, Vec<u64>) {
    env.reset(seed);
    let mut rewards = Vec::new();
    while !env.is_over() {
        rewards.push(env.step(action(seed, rewards.len() as u64)).reward.to_bits());
    }
    (env.outcome(), rewards)
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let profile = Ec2Profile { spot_interruptions_per_hour: 0.2, ..Ec2Profile::default() };
    let spec = Arc::new(EnvSpec::published().configured(|config| profile.apply(config)).unwrap());
    let on = |threads: usize| -> Vec<(Outcome, Vec<u64>)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let new = || TwinEnv::new(spec.clone());
        pool.install(|| (0..64u64).into_par_iter().map_init(new, episode).collect())
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert!(one.iter().any(|(outcome, _)| outcome.interrupted > 0));
}
