//! From the raw points of an outside series to the one value of a tick, or the reason why there is none.
//!
//! What is late, missing, not a number or absurd is marked as such; it never becomes a zero, and is never left out of a
//! mean as if it had not been there.

use std::fmt;

use contract::limits::METRIC_AGE_S_MAX;
use contract::pool::Aggregation;

use crate::ports::Point;

/// What a series says about a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// A share between 0 and 1.
    pub value: f64,
    /// Age of the newest point, seconds.
    pub age_s: u64,
}

/// Why a series says nothing about a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The newest point is too old to describe the fleet.
    Late,
    /// A point is no finite number.
    NotFinite,
    /// A point is no share between 0 and 1.
    Absurd,
    /// The source answered, and has no point.
    NoPoint,
    /// The source did not answer, or not so that it can be understood.
    SourceFailed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Late => "late",
            Cause::NotFinite => "not finite",
            Cause::Absurd => "absurd",
            Cause::NoPoint => "no point",
            Cause::SourceFailed => "source failed",
        })
    }
}

/// The value of a series at `now_ms`. Points after that are not there yet.
///
/// # Errors
/// Why there is none.
pub fn reading(points: &[Point], aggregation: Aggregation, now_ms: u64) -> Result<Reading, Cause> {
    let known = points.iter().filter(|p| p.at_ms <= now_ms);
    let newest = known.clone().max_by_key(|p| p.at_ms).ok_or(Cause::NoPoint)?;
    let age_s = (now_ms - newest.at_ms).div_ceil(1000);
    if age_s > METRIC_AGE_S_MAX {
        return Err(Cause::Late);
    }
    let value = match aggregation {
        Aggregation::Last => share(newest)?,
        Aggregation::Mean { minutes } => {
            let shares = known.filter(inside(newest, minutes)).map(share).collect::<Result<Vec<f64>, Cause>>()?;
            shares.iter().sum::<f64>() / shares.len() as f64
        }
        Aggregation::Max { minutes } => known
            .filter(inside(newest, minutes))
            .map(share)
            .try_fold(0.0, |max: f64, share| Ok::<f64, Cause>(max.max(share?)))?,
    };
    assert!((0.0..=1.0).contains(&value), "{aggregation:?} of shares is {value}");
    Ok(Reading { value, age_s })
}

/// Whether a point lies in the minutes up to the newest one, that one included.
fn inside(newest: &Point, minutes: u64) -> impl Fn(&&Point) -> bool + use<> {
    let newest_ms = newest.at_ms;
    move |p| newest_ms - p.at_ms < minutes.max(1) * 60_000
}

fn share(point: &Point) -> Result<f64, Cause> {
    match point.value {
        value if !value.is_finite() => Err(Cause::NotFinite),
        value if !(0.0..=1.0).contains(&value) => Err(Cause::Absurd),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: u64 = 10_000_000;
    const MEAN: Aggregation = Aggregation::Mean { minutes: 3 };
    const MAX: Aggregation = Aggregation::Max { minutes: 3 };

    /// Points of these ages in seconds.
    fn points<const N: usize>(points: [(u64, f64); N]) -> [Point; N] {
        points.map(|(age_s, value)| Point { at_ms: NOW_MS - age_s * 1000, value })
    }

    fn read(points: &[Point], aggregation: Aggregation) -> Result<(f64, u64), Cause> {
        reading(points, aggregation, NOW_MS).map(|reading| (reading.value, reading.age_s))
    }

    #[test]
    fn the_minutes_up_to_the_newest_point_become_one_value_whatever_their_order() {
        let series = points([(120, 0.5), (60, 0.25), (239, 0.75), (240, 1.0)]);
        assert_eq!(read(&series, Aggregation::Last), Ok((0.25, 60)));
        assert_eq!(read(&series, MEAN), Ok((0.5, 60)));
        assert_eq!(read(&series, MAX), Ok((0.75, 60)));
        // a series with a point every ten seconds becomes the value of its last minute
        let fine = points([(5, 0.5), (15, 1.0), (64, 0.0), (65, 0.9)]);
        assert_eq!(read(&fine, Aggregation::Mean { minutes: 1 }), Ok((0.5, 5)));
    }

    #[test]
    fn each_cause_is_told_apart() {
        for aggregation in [Aggregation::Last, MEAN, MAX] {
            assert_eq!(read(&[], aggregation), Err(Cause::NoPoint));
            assert_eq!(read(&points([(METRIC_AGE_S_MAX, 0.5)]), aggregation), Ok((0.5, METRIC_AGE_S_MAX)));
            assert_eq!(read(&points([(METRIC_AGE_S_MAX + 1, 0.5)]), aggregation), Err(Cause::Late));
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(read(&points([(60, value)]), aggregation), Err(Cause::NotFinite));
            }
            for value in [-0.1, 1.1, 55.0] {
                assert_eq!(read(&points([(60, value)]), aggregation), Err(Cause::Absurd));
            }
        }
    }

    #[test]
    fn each_cause_has_a_word_that_people_read() {
        let causes = [Cause::Late, Cause::NotFinite, Cause::Absurd, Cause::NoPoint, Cause::SourceFailed];
        let words = causes.map(|cause| cause.to_string());
        assert_eq!(words, ["late", "not finite", "absurd", "no point", "source failed"]);
    }

    #[test]
    fn a_bad_point_counts_where_it_is_looked_at_and_nowhere_else() {
        for (value, cause) in [(f64::NAN, Cause::NotFinite), (7.0, Cause::Absurd)] {
            let series = points([(60, 0.5), (120, value), (300, f64::NAN)]);
            assert_eq!(read(&series, Aggregation::Last), Ok((0.5, 60)));
            assert_eq!((read(&series, MEAN), read(&series, MAX)), (Err(cause), Err(cause)));
        }
    }

    #[test]
    fn a_point_of_the_future_is_not_there_yet() {
        let ahead = Point { at_ms: NOW_MS + 1, value: 0.5 };
        assert_eq!(read(&[ahead], MEAN), Err(Cause::NoPoint));
        assert_eq!(read(&[ahead, points([(60, 0.25)])[0]], MEAN), Ok((0.25, 60)));
    }

    proptest! {
        #[test]
        fn a_value_lies_between_the_smallest_and_the_largest_point(
            values in prop::collection::vec((0u64..900, 0.0f64..=1.0), 1..20), minutes in 1u64..12,
        ) {
            let series: Vec<Point> =
                values.iter().map(|(age_s, value)| Point { at_ms: NOW_MS - age_s * 1000, value: *value }).collect();
            let least = values.iter().map(|(_, value)| *value).fold(1.0, f64::min);
            let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            for aggregation in [Aggregation::Last, Aggregation::Mean { minutes }, Aggregation::Max { minutes }] {
                if let Ok((value, _)) = read(&series, aggregation) {
                    prop_assert!((least - 1e-12..=most + 1e-12).contains(&value));
                }
            }
        }
    }
}
