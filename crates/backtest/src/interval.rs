//! Means and how sure they are.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The mean of the sample.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean of `values` with its 95 % interval by Student's t (Student 1908); of a single value the interval is that
/// value, for one value says nothing about its spread. None of nothing.
pub fn interval_95(values: &[f64]) -> Option<Interval> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    match values.len() {
        0 => None,
        1 => Some(Interval { mean, low: mean, high: mean }),
        _ => {
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let t = StudentsT::new(0.0, 1.0, n - 1.0).expect("one degree of freedom or more").inverse_cdf(0.975);
            let half = t * (variance / n).sqrt();
            Some(Interval { mean, low: mean - half, high: mean + half })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_by_hand() {
        // mean 4, s = 2, and t(0.975, 2) = 4.3027: half = 4.3027 × 2 / √3
        let i = interval_95(&[2.0, 4.0, 6.0]).unwrap();
        assert!((i.mean - 4.0).abs() < 1e-12 && (i.high - 4.0 - 4.968_3).abs() < 1e-3, "{i:?}");
        assert!((i.mean - i.low - (i.high - i.mean)).abs() < 1e-12);
    }

    #[test]
    fn one_value_is_its_own_interval_and_none_is_none() {
        assert_eq!(interval_95(&[3.0]), Some(Interval { mean: 3.0, low: 3.0, high: 3.0 }));
        assert_eq!(interval_95(&[]), None);
    }
}
