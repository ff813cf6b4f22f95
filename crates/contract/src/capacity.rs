//! Bounds that cannot be built with min above max, and counts of machines.

use serde::{Deserialize, Serialize};

/// How many machines of one size there may be, booting ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBounds", into = "RawBounds")]
pub struct Bounds {
    min: u32,
    max: Option<u32>,
}

/// The bounds as they stand in files.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBounds {
    min: u32,
    max: Option<u32>,
}

/// A minimum above its maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("min {min} is above max {max}; lower min or raise max")]
pub struct BoundsError {
    /// The minimum given.
    pub min: u32,
    /// The maximum given.
    pub max: u32,
}

impl Bounds {
    /// Bounds with `min` at most `max`; no maximum means any number.
    ///
    /// # Errors
    /// If `min` is above `max`.
    pub fn new(min: u32, max: Option<u32>) -> Result<Self, BoundsError> {
        match max {
            Some(max) if min > max => Err(BoundsError { min, max }),
            _ => Ok(Self { min, max }),
        }
    }

    /// The smallest number of machines kept.
    pub fn min(self) -> u32 {
        self.min
    }

    /// The largest number of machines, if there is one.
    pub fn max(self) -> Option<u32> {
        self.max
    }

    /// Whether `more` machines than `count` stay within the maximum.
    pub fn may_grow(self, count: u32, more: u32) -> bool {
        self.max.is_none_or(|max| count.saturating_add(more) <= max)
    }

    /// Whether `fewer` machines than `count` stay at or above the minimum.
    pub fn may_shrink(self, count: u32, fewer: u32) -> bool {
        count >= self.min.saturating_add(fewer)
    }
}

impl TryFrom<RawBounds> for Bounds {
    type Error = BoundsError;
    fn try_from(raw: RawBounds) -> Result<Self, BoundsError> {
        Self::new(raw.min, raw.max)
    }
}

impl From<Bounds> for RawBounds {
    fn from(b: Bounds) -> Self {
        Self { min: b.min, max: b.max }
    }
}

/// Machines of one size, by whether they take tasks yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// In service: the worker on it takes tasks.
    pub ready: u32,
    /// Launched (or asked for) and not in service yet.
    pub booting: u32,
}

impl Counts {
    /// Booting and ready machines together: what is billed and what the bounds count.
    pub fn total(self) -> u32 {
        self.ready.saturating_add(self.booting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_above_max_cannot_be_built_nor_read() {
        assert!(Bounds::new(3, Some(2)).is_err());
        let error = serde_json::from_str::<Bounds>(r#"{"min":3,"max":2}"#).unwrap_err();
        assert!(error.to_string().contains("min 3 is above max 2"), "{error}");
    }

    #[test]
    fn growing_and_shrinking_stop_at_the_bounds() {
        let b = Bounds::new(1, Some(2)).unwrap();
        assert!(b.may_grow(1, 1) && !b.may_grow(2, 1) && !b.may_grow(1, 2));
        assert!(b.may_shrink(2, 1) && !b.may_shrink(1, 1) && !b.may_shrink(2, 2));
        assert!(Bounds::new(0, None).unwrap().may_grow(u32::MAX - 1, 1));
    }
}
