//! Time in integer milliseconds, and the only places where it becomes seconds, hours and dollars (rule T1).

/// Milliseconds of an hour.
pub const MS_PER_HOUR: f64 = 3_600_000.0;

/// Milliseconds of `seconds`, half rounded up: `floor(s * 1000 + 0.5)`. Negative seconds count as 0.
pub fn ms_from_s(seconds: f64) -> u64 {
    debug_assert!(seconds.is_finite(), "checked where it was read");
    (seconds * 1000.0 + 0.5).floor() as u64
}

/// Seconds of `ms`.
pub fn s_from_ms(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Hours of `ms`.
pub fn hours(ms: u64) -> f64 {
    ms as f64 / MS_PER_HOUR
}

/// Dollars of `ms` at a rate of `usd_per_hour`.
pub fn usd(ms: u64, usd_per_hour: f64) -> f64 {
    hours(ms) * usd_per_hour
}

/// A count that is integrated over time, in constant time for each change: `∫ count dt`, in count-milliseconds.
///
/// With `offset = -Σ(entries × time) + Σ(exits × time)` the integral at `t` is `offset + count × t`. The offset wraps;
/// the value is exact as long as the true one fits 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Integral {
    count: u64,
    offset: u64,
}

impl Integral {
    /// `n` more from the time `at_ms` on.
    pub fn enter(&mut self, n: u64, at_ms: u64) {
        self.count += n;
        self.offset = self.offset.wrapping_sub(n.wrapping_mul(at_ms));
    }

    /// `n` fewer from the time `at_ms` on.
    pub fn leave(&mut self, n: u64, at_ms: u64) {
        debug_assert!(n <= self.count, "{n} leave of {}", self.count);
        self.count -= n;
        self.offset = self.offset.wrapping_add(n.wrapping_mul(at_ms));
    }

    /// Adds to the integral itself.
    pub fn add(&mut self, amount: u64) {
        self.offset = self.offset.wrapping_add(amount);
    }

    /// The count now.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The integral from the start to `now_ms`.
    pub fn value(&self, now_ms: u64) -> u64 {
        self.offset.wrapping_add(self.count.wrapping_mul(now_ms))
    }
}

/// The nearest-rank percentile of ascending `sorted`: index `ceil(q n) - 1`; 0 of nothing. `percent` is in 1..=100.
pub fn nearest_rank(sorted: &[u64], percent: u64) -> u64 {
    debug_assert!((1..=100).contains(&percent));
    match sorted.len() as u64 {
        0 => 0,
        n => sorted[((percent * n).div_ceil(100) - 1) as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_half_up() {
        assert_eq!(ms_from_s(0.0004), 0);
        assert_eq!(ms_from_s(0.0005), 1);
        assert_eq!(ms_from_s(1.0015), 1002);
        assert_eq!(ms_from_s(360.0), 360_000);
    }

    #[test]
    fn an_integral_by_hand() {
        let mut x = Integral::default();
        x.enter(3, 100);
        x.leave(2, 150);
        x.add(7);
        assert_eq!(x.value(250), 3 * 50 + 100 + 7);
        assert_eq!(x.count(), 1);
    }

    #[test]
    fn percentiles_by_hand() {
        let ten: Vec<u64> = (1..=10).collect();
        assert_eq!(nearest_rank(&ten, 90), 9);
        assert_eq!(nearest_rank(&ten, 50), 5);
        assert_eq!(nearest_rank(&ten[..1], 95), 1);
        assert_eq!(nearest_rank(&[], 50), 0);
    }
}
