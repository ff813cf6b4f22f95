//! When spot machines are taken away: each that becomes ready draws an exponential life.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand_chacha::ChaCha8Rng;

use crate::config::MachineType;
use crate::random::{LIFE_STREAM, exponential_ms, stream};

const S_PER_HOUR: f64 = 3600.0;

/// The ends of lives to come. Without spot machines it does nothing at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    /// There if any machine type is interrupted.
    rng: Option<ChaCha8Rng>,
    ends: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Lives {
    /// Starts an episode.
    pub fn reset(&mut self, types: &[MachineType], seed: u64) {
        self.ends.clear();
        let any_spot = types.iter().any(|t| t.spot_interruptions_per_hour > 0.0);
        self.rng = any_spot.then(|| stream(seed, LIFE_STREAM));
    }

    /// A machine becomes ready. One that is on demand draws nothing.
    pub fn begin(&mut self, id: u32, kind: &MachineType, now_ms: u64) {
        let per_hour = kind.spot_interruptions_per_hour;
        if let Some(rng) = self.rng.as_mut().filter(|_| per_hour > 0.0) {
            self.ends.push(Reverse((now_ms + exponential_ms(S_PER_HOUR / per_hour, rng), id)));
        }
    }

    /// When the next life ends, and whose; the machine may be gone by then.
    pub fn next(&self) -> Option<(u64, u32)> {
        self.ends.peek().map(|Reverse(end)| *end)
    }

    /// Forgets [`Lives::next`].
    pub fn skip(&mut self) {
        self.ends.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::published_types;

    fn lives_ms(per_hour: f64, seed: u64) -> Vec<u64> {
        let mut types = published_types();
        types[1].spot_interruptions_per_hour = per_hour;
        let mut lives = Lives::default();
        lives.reset(&types, seed);
        let drawn = (0..10_000).map(|id| {
            lives.begin(id, &types[0], 50);
            lives.begin(id, &types[1], 50);
            let (at_ms, of) = lives.next().expect("a life");
            assert_eq!(of, id);
            lives.skip();
            assert_eq!(lives.next(), None, "a machine on demand has no end");
            at_ms - 50
        });
        drawn.collect()
    }

    #[test]
    fn lives_are_exponential_with_the_asked_rate_and_follow_the_seed() {
        let lives = lives_ms(0.5, 3);
        let mean_ms = lives.iter().sum::<u64>() as f64 / 10_000.0;
        assert!((mean_ms / 7_200_000.0 - 1.0).abs() < 0.03, "{mean_ms}");
        let short = lives.iter().filter(|ms| **ms < 720_000).count();
        assert!((870..1040).contains(&short), "1 - exp(-0.1) is 9.5 %, not {short} in 10 000");
        assert_eq!(lives, lives_ms(0.5, 3));
        assert_ne!(lives, lives_ms(0.5, 4));
    }
}
