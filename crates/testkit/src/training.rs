//! The ports of the improvement job: leases, and what runs keep.

use contract::control::Lease;
use controller::ports::{Leases, Port, PortError, Runs};

use crate::World;
use crate::op;

impl Leases for World {
    async fn take(&self, pool: &str, lease: &Lease, now_ms: u64) -> Port<Option<Lease>> {
        self.call(op::LEASES_TAKE, |s| {
            let held = s.leases.get(pool).filter(|held| held.owner != lease.owner && held.until_ms > now_ms).cloned();
            if held.is_none() {
                s.leases.insert(pool.to_owned(), lease.clone());
            }
            Ok(held)
        })
        .await
    }

    async fn give_back(&self, pool: &str, owner: &str) -> Port<()> {
        self.call(op::LEASES_GIVE_BACK, |s| {
            if s.leases.get(pool).is_some_and(|held| held.owner == owner) {
                s.leases.remove(pool);
            }
            Ok(())
        })
        .await
    }
}

impl Runs for World {
    async fn put_run_file(&self, run: &str, name: &str, bytes: Vec<u8>) -> Port<()> {
        self.call(op::RUNS_PUT, |s| {
            s.run_files.insert((run.to_owned(), name.to_owned()), bytes.clone());
            Ok(())
        })
        .await
    }

    async fn run_file(&self, run: &str, name: &str, bytes_max: usize) -> Port<Option<Vec<u8>>> {
        self.call(op::RUNS_GET, |s| match s.run_files.get(&(run.to_owned(), name.to_owned())) {
            Some(bytes) if bytes.len() > bytes_max => Err(PortError::invalid(op::RUNS_GET, "too large")),
            bytes => Ok(bytes.cloned()),
        })
        .await
    }
}

impl World {
    /// The names of a run's files.
    pub fn run_files(&self, run: &str) -> Vec<String> {
        self.lock().run_files.keys().filter(|(of, _)| of == run).map(|(_, name)| name.clone()).collect()
    }
}
