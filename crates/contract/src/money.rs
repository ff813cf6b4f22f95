//! What a pool with money caps has spent and may still spend, as a decision's record tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which cap leaves least room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cap {
    /// Dollars an hour of all machines together.
    Hour,
    /// Dollars of a day of UTC.
    Day,
    /// Dollars of a month of UTC.
    Month,
    /// What was spent cannot be read: then nothing is launched.
    Unknown,
}

impl Cap {
    /// All of them.
    pub const ALL: [Self; 4] = [Cap::Hour, Cap::Day, Cap::Month, Cap::Unknown];

    /// The cap that a text speaks of, such as why a plan was refused.
    pub fn named_in(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cap| text.contains(&cap.to_string()))
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cap::Hour => "the money cap of the hour",
            Cap::Day => "the money cap of the day",
            Cap::Month => "the money cap of the month",
            Cap::Unknown => "spending that cannot be read",
        })
    }
}

/// The money of a pool with caps at one tick, dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// What an hour of all machines costs, booting ones included.
    pub usd_per_hour: f64,
    /// Spent since midnight UTC, if there is a cap of the day or the month and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_today: Option<f64>,
    /// Spent since the first of the month, UTC, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_this_month: Option<f64>,
    /// What an hour of the machines that may be added costs at most.
    pub room_usd_per_hour: f64,
    /// Which cap says so.
    pub cap: Cap,
    /// Whether there is no room for even the cheapest machine.
    pub is_full: bool,
}

impl Spending {
    /// Whether a cap of the day or the month, or that it is unknown, forbids every launch: what an alarm watches. A full
    /// hour cap is what it is for.
    pub fn is_used_up(&self) -> bool {
        self.is_full && self.cap != Cap::Hour
    }
}
