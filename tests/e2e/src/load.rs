//! The workload of the demo: batches shaped like the published training load.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::plant::PlantTask;

/// Minutes between two batches.
const BATCH_MINUTES: u64 = 8;
/// Tasks in the batches, in turn.
const BATCH_TASKS: [usize; 2] = [50, 100];
/// Run times, seconds: 360 give or take.
const RUNTIME_S: std::ops::Range<f64> = 300.0..420.0;
/// Memory of a task.
const MEMORY_MB: std::ops::Range<u64> = 500..3000;

/// `batches` batches of 50 and 100 one-core tasks, 8 minutes apart, the first at `start_ms`.
pub fn published_shape(batches: u64, start_ms: u64, seed: u64) -> Vec<PlantTask> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tasks = Vec::new();
    for batch in 0..batches {
        for _ in 0..BATCH_TASKS[(batch % 2) as usize] {
            tasks.push(PlantTask {
                task_id: format!("task-{:05}", tasks.len()),
                submit_ms: start_ms + batch * BATCH_MINUTES * 60_000 + rng.random_range(0..2_000),
                runtime_ms: (rng.random_range(RUNTIME_S) * 1000.0) as u64,
                cores: 1,
                memory_mb: rng.random_range(MEMORY_MB),
            });
        }
    }
    tasks
}
