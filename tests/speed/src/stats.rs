//! Samples and how they are told.

use std::time::Instant;

/// Times of one thing, seconds.
pub struct Samples(Vec<f64>);

impl Samples {
    /// Of these; there must be some.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        assert!(!seconds.is_empty(), "something was measured");
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// Runs `what` so many times, each of them timed, after a tenth as many to warm up.
    pub fn take(n: usize, mut what: impl FnMut()) -> Self {
        (0..n.div_ceil(10)).for_each(|_| what());
        let timed = |_| {
            let begun = Instant::now();
            what();
            begun.elapsed().as_secs_f64()
        };
        Self::of((0..n).map(timed).collect())
    }

    /// The least: what it takes when nothing else runs.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The same, each divided by `n`.
    pub fn each_of(self, n: usize) -> Self {
        Self(self.0.into_iter().map(|seconds| seconds / n as f64).collect())
    }

    /// Prints a row: the least and the median.
    pub fn tell(&self, name: &str) {
        println!("{name:<58} {:>10} {:>10}", time(self.min()), time(self.median()));
    }
}

/// Seconds, as people read them.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Prints a table's head.
pub fn head(title: &str) {
    println!("\n{title:<58} {:>10} {:>10}", "least", "median");
}
