//! How much goes wrong: three profiles, and the chances that each is made of.

use std::fmt;
use std::str::FromStr;

/// How much goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// A quiet week: duplicates, short lags, nothing that fails.
    Calm,
    /// A bad day: single failures, a few crashes, short outages.
    Rough,
    /// Everything at once.
    Hell,
}

/// All profiles, mildest first.
pub const PROFILES: [Profile; 3] = [Profile::Calm, Profile::Rough, Profile::Hell];

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Calm => "calm",
            Profile::Rough => "rough",
            Profile::Hell => "hell",
        })
    }
}

impl FromStr for Profile {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = PROFILES.into_iter().find(|profile| profile.to_string() == name);
        found.ok_or_else(|| format!("no profile {name:?}; use calm, rough or hell"))
    }
}

/// Chances, each for one trial of its kind.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// A call fails without an effect; a call.
    pub fails: f64,
    /// A call has its effect and its answer is lost; a call.
    pub lost: f64,
    /// A call is repeated by the client's own retry after a lost answer; a call.
    pub repeated: f64,
    /// The function crashes; a poll, that is, before or after every call.
    pub crash: f64,
    /// A service goes down for some ticks; a tick.
    pub outage: f64,
    /// An event comes late, twice, not at all, or out of order; each an event.
    pub event: f64,
    /// Stale deliveries of the stream by up to seven more executors; a tick.
    pub crowd: f64,
    /// Somebody, or nature, changes a machine; a tick.
    pub machine: f64,
    /// Somebody or nature interferes in the middle of an invocation; a poll.
    pub meddle: f64,
    /// The outside metrics go wrong for some ticks; a tick.
    pub metrics: f64,
    /// A promotion, good or bad; a tick.
    pub promotion: f64,
    /// The kill switch or the mode is changed; a tick.
    pub operation: f64,
    /// A clock jumps, or the recurrent state is poisoned; each a tick.
    pub data: f64,
    /// EC2's describe is behind after a launch or a termination; a change.
    pub behind: f64,
    /// A new machine never becomes healthy; a launch.
    pub unhealthy: f64,
    /// All tasks are gone at once, and none come for a while; a tick.
    pub blackout: f64,
    /// The image that is launched from never starts its worker, for a while; a tick.
    pub bad_image: f64,
    /// A tick's evaluator is of another version; a decision.
    pub version: f64,
}

impl Profile {
    /// The profile's chances.
    pub fn rates(self) -> Rates {
        match self {
            Profile::Calm => Rates { event: 0.02, behind: 0.1, promotion: 0.01, version: 0.02, ..QUIET },
            Profile::Rough => Rates {
                fails: 0.006,
                lost: 0.003,
                repeated: 0.004,
                crash: 0.001,
                outage: 0.01,
                event: 0.05,
                crowd: 0.03,
                machine: 0.03,
                meddle: 0.000_3,
                metrics: 0.02,
                promotion: 0.03,
                operation: 0.01,
                data: 0.01,
                behind: 0.4,
                unhealthy: 0.03,
                blackout: 0.01,
                bad_image: 0.003,
                version: 0.03,
            },
            Profile::Hell => Rates {
                fails: 0.03,
                lost: 0.02,
                repeated: 0.02,
                crash: 0.012,
                outage: 0.04,
                event: 0.15,
                crowd: 0.15,
                machine: 0.12,
                meddle: 0.002,
                metrics: 0.08,
                promotion: 0.06,
                operation: 0.05,
                data: 0.05,
                behind: 0.8,
                unhealthy: 0.1,
                blackout: 0.02,
                bad_image: 0.006,
                version: 0.06,
            },
        }
    }
}

/// Nothing goes wrong: the chances once the faults have stopped.
pub const QUIET: Rates = Rates {
    fails: 0.0,
    lost: 0.0,
    repeated: 0.0,
    crash: 0.0,
    outage: 0.0,
    event: 0.0,
    crowd: 0.0,
    machine: 0.0,
    meddle: 0.0,
    metrics: 0.0,
    promotion: 0.0,
    operation: 0.0,
    data: 0.0,
    behind: 0.0,
    unhealthy: 0.0,
    blackout: 0.0,
    bad_image: 0.0,
    version: 0.0,
};
