//! Days and months of UTC, which money is counted by.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A day or a month, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first instant.
    pub from_ms: u64,
    /// The first instant after it.
    pub until_ms: u64,
}

/// The day of UTC that `now_ms` lies in; none outside of the years that the calendar knows (1970 to 9999).
pub fn day(now_ms: u64) -> Option<Period> {
    let date = date(now_ms)?;
    period(date, date.tomorrow().ok()?)
}

/// The month of UTC that `now_ms` lies in; none outside of the years that the calendar knows.
pub fn month(now_ms: u64) -> Option<Period> {
    let first = date(now_ms)?.first_of_month();
    period(first, first.checked_add(1.month()).ok()?)
}

fn date(now_ms: u64) -> Option<jiff::civil::Date> {
    let at = Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
    Some(TimeZone::UTC.to_datetime(at).date())
}

fn period(from: jiff::civil::Date, until: jiff::civil::Date) -> Option<Period> {
    let ms = |date: jiff::civil::Date| {
        let at = TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok()?;
        u64::try_from(at.as_millisecond()).ok()
    };
    Some(Period { from_ms: ms(from)?, until_ms: ms(until)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: u64 = 86_400_000;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    fn period(from: &str, until: &str) -> Option<Period> {
        Some(Period { from_ms: at(from), until_ms: at(until) })
    }

    #[test]
    fn days_and_months_by_hand() {
        let midnight = period("2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z");
        for now in ["2026-11-24T00:00:00Z", "2026-11-24T15:13:47.001Z", "2026-11-24T23:59:59.999Z"] {
            assert_eq!(day(at(now)), midnight, "{now}");
            assert_eq!(month(at(now)), period("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
        }
        assert_eq!(month(at("2024-02-29T12:00:00Z")), period("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"));
        assert_eq!(month(at("2026-12-31T23:59:59Z")), period("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
        assert_eq!((day(u64::MAX), month(u64::MAX)), (None, None));
    }

    proptest! {
        #[test]
        fn periods_follow_one_another_and_hold_their_times(now_ms in 0u64..250_000_000_000_000) {
            let (day, month) = (day(now_ms).unwrap(), month(now_ms).unwrap());
            prop_assert_eq!(day.from_ms, now_ms / DAY_MS * DAY_MS);
            prop_assert_eq!(day.until_ms, day.from_ms + DAY_MS);
            prop_assert!(month.from_ms <= day.from_ms && day.until_ms <= month.until_ms);
            prop_assert!((28..=31).contains(&((month.until_ms - month.from_ms) / DAY_MS)));
            prop_assert_eq!(super::month(month.until_ms).unwrap().from_ms, month.until_ms);
        }
    }
}
