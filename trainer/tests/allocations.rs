//! A rollout uses the memory of the one before: however many steps it has, it allocates a fixed small number of times.

use std::sync::Arc;

use burn::tensor::Device;
use twinscaler::compare::environments;
use twinscaler::course::published_twin;
use twinscaler::ppo::rollout::{Actor, Collector};
use twinscaler::ppo::{PpoConfig, Weights};

/// The list of the tracks, and what hands the groups to the threads.
const MOST: u64 = 8;

/// Allocations of one rollout after many.
fn of_a_rollout(rollout_steps: usize) -> u64 {
    let config = PpoConfig { rollout_steps, sequence_steps: 16, lstm_cells: 32, ..PpoConfig::default() };
    let (weights, twins) = (Weights::new(32, 1), environments(&Arc::new(published_twin()), 8));
    let mut collector = Collector::new(twins, &config, &weights, true, 1, &Device::flex());
    // until the twins have met all that happens in their episodes
    for _ in 0..16_384 / rollout_steps {
        collector.collect(&weights, Actor::Policy).unwrap();
        collector.take_finished();
    }
    allocation_counter::measure(|| collector.collect(&weights, Actor::Policy).unwrap()).count_total
}

#[test]
fn a_rollout_of_eight_times_the_steps_allocates_no_more() {
    // one thread alone, as allocations are counted by thread
    let thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (short, long) = thread.install(|| (of_a_rollout(64), of_a_rollout(512)));
    assert!(short > 0, "allocations are counted");
    assert!(short == long && long <= MOST, "{short} {long}");
}
