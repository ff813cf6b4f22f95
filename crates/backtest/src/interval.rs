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
    match *values {
        [] => None,
        [mean] => Some(Interval { mean, low: mean, high: mean }),
        _ => {
            let (mean, error, student) = mean_and_error(values);
            let half = student.inverse_cdf(0.975) * error;
            Some(Interval { mean, low: mean - half, high: mean + half })
        }
    }
}

/// The mean of two values or more, its standard error, and the distribution of their ratio.
fn mean_and_error(values: &[f64]) -> (f64, f64, StudentsT) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let student = StudentsT::new(0.0, 1.0, n - 1.0).expect("one degree of freedom or more");
    (mean, (variance / n).sqrt(), student)
}

/// One-sided p-value of Student's t test (Student 1908) that the mean these values are drawn around is above 0; none of
/// fewer than two. Values that are all the same have no spread: 0 if they are above 0, else 1.
pub fn t_above_0(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mean, error, student) = mean_and_error(values);
    Some(match error {
        0.0 if mean > 0.0 => 0.0,
        0.0 => 1.0,
        _ => student.sf(mean / error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_t_test_by_hand() {
        // mean 4, s = 2: t = 4 / (2 / √3) = 3.4641 with 2 degrees of freedom, for which p = 1/2 − t / (2 √(2 + t²))
        let p = 0.5 - 3.4641 / (2.0 * (2.0 + 12.0_f64).sqrt());
        assert!((t_above_0(&[2.0, 4.0, 6.0]).unwrap() - p).abs() < 1e-5, "{p}");
        assert!((t_above_0(&[-2.0, -4.0, -6.0]).unwrap() - (1.0 - p)).abs() < 1e-5);
        assert_eq!((t_above_0(&[1.0]), t_above_0(&[])), (None, None));
        assert_eq!((t_above_0(&[3.0, 3.0]), t_above_0(&[0.0, 0.0])), (Some(0.0), Some(1.0)));
    }

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
