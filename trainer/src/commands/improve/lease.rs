//! The lease that keeps two jobs from working on one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::control::Lease;
use controller::ports::Leases;
use tokio::task::JoinHandle;

use super::ImproveError;
use crate::commands::window::now_ms;

/// How long a lease outlives its holder.
const LEASE_MS: u64 = 5 * 60_000;
/// How often it is prolonged.
const PROLONG: Duration = Duration::from_secs(60);

/// A lease that is prolonged in the background until it is given back.
pub(super) struct Held<L> {
    leases: L,
    pool: String,
    owner: String,
    lost: Arc<AtomicBool>,
    prolonging: JoinHandle<()>,
}

fn lease(owner: &str) -> Lease {
    Lease { owner: owner.to_owned(), until_ms: now_ms() + LEASE_MS }
}

impl<L: Leases + Clone + 'static> Held<L> {
    /// Takes the pool's lease.
    pub async fn take(leases: L, pool: &str, owner: &str) -> Result<Self, ImproveError> {
        if let Some(held) = leases.take(pool, &lease(owner), now_ms()).await? {
            let until = jiff::Timestamp::from_millisecond(held.until_ms as i64)
                .map_or_else(|e| e.to_string(), |t| t.to_string());
            return Err(ImproveError::Held { owner: held.owner, until });
        }
        let lost = Arc::new(AtomicBool::new(false));
        let prolonging =
            tokio::spawn(prolong(leases.clone(), pool.to_owned(), owner.to_owned(), lost.clone(), PROLONG));
        Ok(Self { leases, pool: pool.to_owned(), owner: owner.to_owned(), lost, prolonging })
    }

    /// Whether the lease is somebody else's by now.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Makes sure, before something is changed, that the lease is still ours.
    pub async fn check(&self) -> Result<(), ImproveError> {
        let held = self.leases.take(&self.pool, &lease(&self.owner), now_ms()).await?;
        if held.is_some() || self.is_lost() { Err(ImproveError::LeaseLost) } else { Ok(()) }
    }

    /// Lets others work. Nothing depends on it: a lease that is not given back runs out.
    pub async fn give_back(self) {
        self.prolonging.abort();
        // a prolongation in flight must not take the lease again
        let _cancelled = self.prolonging.await;
        if let Err(error) = self.leases.give_back(&self.pool, &self.owner).await {
            tracing::warn!(%error, pool = self.pool, "the lease could not be given back; it runs out in five minutes");
        }
    }
}

/// An error is not a loss: the lease outlives some failed attempts, and the last word is [`Held::check`]'s.
async fn prolong<L: Leases>(leases: L, pool: String, owner: String, lost: Arc<AtomicBool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match leases.take(&pool, &lease(&owner), now_ms()).await {
            Ok(None) => {}
            Ok(Some(other)) => {
                tracing::error!(pool, owner = other.owner, "the lease was lost");
                lost.store(true, Ordering::Relaxed);
                return;
            }
            Err(error) => tracing::warn!(%error, pool, "the lease could not be prolonged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use controller::ports::Kind;
    use testkit::{World, fault, op};

    use super::*;

    async fn prolonged(world: &World, lost: &Arc<AtomicBool>) -> JoinHandle<()> {
        tokio::spawn(prolong(world.clone(), "p".into(), "ours".into(), lost.clone(), Duration::from_millis(1)))
    }

    #[tokio::test]
    async fn a_lease_that_somebody_else_has_taken_is_lost_and_one_that_cannot_be_reached_is_not() {
        let (world, lost) = (World::default(), Arc::new(AtomicBool::new(false)));
        world.take("p", &lease("ours"), 0).await.unwrap();
        world.fail_next(op::LEASES_TAKE, fault(op::LEASES_TAKE, "Cut", Kind::Unavailable));
        let before = world.count(op::LEASES_TAKE);
        let prolonging = prolonged(&world, &lost).await;
        while world.count(op::LEASES_TAKE) < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!lost.load(Ordering::Relaxed) && !prolonging.is_finished());
        // our own clock stood still for so long that it ran out
        let theirs = lease("theirs");
        assert_eq!(world.take("p", &theirs, theirs.until_ms + LEASE_MS).await.unwrap(), None);
        prolonging.await.unwrap();
        assert!(lost.load(Ordering::Relaxed));
    }
}
