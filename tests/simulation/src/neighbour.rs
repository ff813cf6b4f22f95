//! Another stack of the same account and region that has a pool of the same name and ticks in the same minutes. Its
//! machines carry our tags but for the stack's; nobody stops them, and what they do is no business of ours.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testkit::World;

use crate::profile::Rates;
use crate::seen::{Event, Seen};

/// The other stack's name.
const STACK: &str = "blue";

/// The other stack, with a randomness of its own, so that it changes no other chance.
pub struct Neighbour {
    rng: ChaCha8Rng,
    rate: f64,
    machines: Vec<String>,
}

impl Neighbour {
    /// The neighbour of a seed's run.
    pub fn new(seed: u64, rates: Rates) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed ^ 0x626c_7565), rate: rates.machine, machines: Vec::new() }
    }

    /// It launches a machine, for the decision of the same tick as ours, in some minutes.
    pub fn launches(&mut self, world: &World, pool: &str, minute: u64, seen: &mut Seen) -> Option<String> {
        if !self.rng.random_bool(self.rate) {
            return None;
        }
        let id = world.add_machine(controller::plan::tags(STACK, pool, minute * 60, self.rng.random_range(0..3)));
        seen.note(Event::OtherStack);
        self.machines.push(id.clone());
        Some(format!("another stack launches {id}"))
    }

    /// EC2 announces in some minutes that it takes one of its machines back, and does not: every stack of the account gets
    /// the notice.
    pub fn notice(&mut self, seen: &mut Seen) -> Option<String> {
        if self.machines.is_empty() || !self.rng.random_bool(self.rate) {
            return None;
        }
        seen.note(Event::OtherStacksNotice);
        Some(self.machines[self.rng.random_range(0..self.machines.len())].clone())
    }

    /// The faults stop: what it has launched stays.
    pub fn heal(&mut self) {
        self.rate = 0.0;
    }
}
