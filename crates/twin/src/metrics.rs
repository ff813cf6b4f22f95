//! The outside metrics as a monitoring system delivers them: some time after the fact, and not always.

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::config::SimConfig;
use crate::random::{METRIC_DELAY_STREAM, METRIC_GAP_STREAM, TimeRange, stream};

/// The outside metrics of one tick, which are late and missing together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Metrics {
    pub cpu_avg: f64,
    pub cpu_p90: f64,
    pub mem_avg: f64,
    pub mem_p90: f64,
}

/// Delays metrics and drops some.
#[derive(Clone, Debug)]
pub(crate) struct LateMetrics {
    delay: TimeRange,
    gap_probability: f64,
    step_ms: u64,
    /// Those of the last ticks, the latest at the back, as far back as a delay may reach.
    past: VecDeque<Metrics>,
    delay_rng: ChaCha8Rng,
    gap_rng: ChaCha8Rng,
}

impl LateMetrics {
    /// None if metrics are always there and fresh.
    pub fn new(config: &SimConfig) -> Option<Self> {
        if config.metric_delay.is_none() && config.metric_gap_probability == 0.0 {
            return None;
        }
        Some(Self {
            delay: config.metric_delay.unwrap_or(TimeRange { low_ms: 0, high_ms: 0 }),
            gap_probability: config.metric_gap_probability,
            step_ms: config.step_ms,
            past: VecDeque::new(),
            delay_rng: stream(0, METRIC_DELAY_STREAM),
            gap_rng: stream(0, METRIC_GAP_STREAM),
        })
    }

    /// Starts an episode.
    pub fn reset(&mut self, seed: u64) {
        self.past.clear();
        self.delay_rng = stream(seed, METRIC_DELAY_STREAM);
        self.gap_rng = stream(seed, METRIC_GAP_STREAM);
    }

    /// Takes the metrics of this tick and gives those that are known by now: of a whole number of ticks ago, or the
    /// oldest there are; none in a gap.
    pub fn pass(&mut self, fresh: Metrics) -> Option<Metrics> {
        self.past.push_back(fresh);
        if self.past.len() as u64 > self.ticks(self.delay.high_ms) + 1 {
            self.past.pop_front();
        }
        let delay_ms = self.delay.draw_ms(&mut self.delay_rng);
        let latest = self.past.len() - 1;
        let known = self.past[latest - self.ticks(delay_ms).min(latest as u64) as usize];
        let is_missing = self.gap_rng.random::<f64>() < self.gap_probability;
        (!is_missing).then_some(known)
    }

    /// Whole ticks next to a time, half rounded up.
    fn ticks(&self, ms: u64) -> u64 {
        (ms + self.step_ms / 2) / self.step_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(low_ms: u64, high_ms: u64, gap_probability: f64) -> LateMetrics {
        let metric_delay = Some(TimeRange { low_ms, high_ms });
        let config = SimConfig { metric_delay, metric_gap_probability: gap_probability, ..SimConfig::default() };
        LateMetrics::new(&config).expect("late")
    }

    /// What is shown of metrics that are the number of their tick.
    fn shown(late: &mut LateMetrics, seed: u64, ticks: u32) -> Vec<Option<f64>> {
        late.reset(seed);
        let tick = |k| Metrics { cpu_avg: f64::from(k), cpu_p90: 0.0, mem_avg: 0.0, mem_p90: 0.0 };
        (0..ticks).map(|k| late.pass(tick(k)).map(|m| m.cpu_avg)).collect()
    }

    #[test]
    fn a_delay_is_whole_ticks_and_at_first_the_oldest_is_shown() {
        let two = [0.0, 0.0, 0.0, 1.0, 2.0].map(Some);
        assert_eq!(shown(&mut late(90_000, 90_000, 0.0), 1, 5), two, "a tick and a half are rounded up");
        assert_eq!(shown(&mut late(149_999, 149_999, 0.0), 1, 5), two);
        assert_eq!(shown(&mut late(29_999, 29_999, 0.0), 1, 3), [0.0, 1.0, 2.0].map(Some));
    }

    #[test]
    fn delays_vary_within_their_range_and_gaps_are_as_frequent_as_asked() {
        let mut late = late(60_000, 180_000, 0.02);
        let seen = shown(&mut late, 5, 20_000);
        let ages: Vec<f64> = (3..).zip(&seen[3..]).filter_map(|(k, shown)| Some(f64::from(k) - (*shown)?)).collect();
        assert!((19_500..19_700).contains(&ages.len()), "2 % of gaps: {}", ages.len());
        let of = |age: f64| ages.iter().filter(|a| **a == age).count() as f64 / ages.len() as f64;
        assert!((of(1.0) - 0.25).abs() < 0.02 && (of(2.0) - 0.5).abs() < 0.02 && (of(3.0) - 0.25).abs() < 0.02);
        assert_eq!(seen, shown(&mut late, 5, 20_000));
        assert_ne!(seen, shown(&mut late, 6, 20_000));
    }

    #[test]
    fn without_delay_and_gaps_there_is_nothing_to_do() {
        assert!(LateMetrics::new(&SimConfig::default()).is_none());
    }
}
