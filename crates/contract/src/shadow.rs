//! The shadow ledger of a pool that only observes: the fleet that would be there had every decision been carried out, and
//! what that fleet and the real one cost since the ledger began.
//!
//! Plain data; `controller::shadow` keeps it, and `docs/reference/shadow.md` says how and how far it is to be believed.

use serde::{Deserialize, Serialize};

use crate::action::SIZE_COUNT;
use crate::capacity::Counts;
use crate::control::Head;
use crate::observation::Observation;

/// Dollars of one fleet since the ledger began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Of its machines.
    pub machines_usd: f64,
    /// Of the tasks that waited for it.
    pub waiting_usd: f64,
}

impl Account {
    /// Both together.
    pub fn total_usd(&self) -> f64 {
        self.machines_usd + self.waiting_usd
    }
}

/// A machine of the shadow fleet that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowBoot {
    /// Index of its size in the pool's list.
    pub size: usize,
    /// When it takes tasks, milliseconds since the epoch.
    pub ready_ms: u64,
}

/// How fast tasks were seen to be done: the ratio of the two is the rate of one busy core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Tasks done in reality since the ledger began.
    pub tasks: f64,
    /// Core-seconds that they took, by the model.
    pub core_s: f64,
}

impl Pace {
    /// Tasks that a busy core does in a second; 0 while none was seen to be done.
    pub fn tasks_per_core_s(&self) -> f64 {
        if self.core_s > 0.0 { self.tasks / self.core_s } else { 0.0 }
    }
}

/// The ledger after one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// The tick that it began with: there the shadow was the real fleet.
    pub since: u64,
    /// Ticks counted, the first one included.
    pub ticks: u64,
    /// Ticks in between that have no decision; the time was counted all the same.
    pub gaps: u64,
    /// The policy in charge, by its hash; none if there was none. Another one begins a new ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Machines of the shadow fleet that take tasks, by size, after this tick's action.
    pub ready: [u32; SIZE_COUNT],
    /// Those that boot.
    #[serde(default)]
    pub booting: Vec<ShadowBoot>,
    /// What the fleet's head would be: last action and cooldown.
    pub head: Head,
    /// Times of the launches of the last hour, milliseconds since the epoch; kept if the pool limits them.
    #[serde(default)]
    pub launches_ms: Vec<u64>,
    /// The same of its stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops_ms: Vec<u64>,
    /// Tasks that reality has done and the shadow has not; negative if the shadow is ahead.
    pub tasks_behind: f64,
    /// Cores that one task wants, in the mean of those that were last there.
    pub cores_per_task: f64,
    /// How fast tasks are done.
    pub pace: Pace,
    /// What the real fleet cost.
    pub real: Account,
    /// What the shadow fleet would have cost.
    pub shadow: Account,
    /// What was really measured at this tick; the decision's own observation is the shadow's.
    pub measured: Observation,
}

impl Shadow {
    /// Machines of the shadow fleet by size.
    pub fn fleet(&self) -> [Counts; SIZE_COUNT] {
        let booting = |size: usize| self.booting.iter().filter(|boot| boot.size == size).count() as u32;
        std::array::from_fn(|size| Counts { ready: self.ready[size], booting: booting(size) })
    }

    /// Dollars that would have been saved since the ledger began; negative if the shadow is dearer.
    pub fn saved_usd(&self) -> f64 {
        self.real.total_usd() - self.shadow.total_usd()
    }

    /// The estimate in a sentence; `tick` is the decision's.
    pub fn summary(&self, tick: u64) -> String {
        let hours = tick.saturating_sub(self.since) as f64 / 3600.0;
        let machines = self.real.machines_usd - self.shadow.machines_usd;
        let waiting = self.real.waiting_usd - self.shadow.waiting_usd;
        format!(
            "would have saved {} of {} over {hours:.1} h: machines {}, waiting {} (an estimate)",
            usd(self.saved_usd()),
            usd(self.real.total_usd()),
            usd(machines),
            usd(waiting)
        )
    }
}

/// Dollars with the sign before them; what rounds to nothing has none.
fn usd(usd: f64) -> String {
    let text = format!("{:.2}", usd.abs());
    let sign = if usd < 0.0 && text != "0.00" { "-" } else { "" };
    format!("{sign}${text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow() -> Shadow {
        Shadow {
            since: 3600,
            ticks: 121,
            gaps: 0,
            policy: None,
            ready: [1, 0, 2],
            booting: vec![ShadowBoot { size: 1, ready_ms: 5 }, ShadowBoot { size: 2, ready_ms: 6 }],
            head: Head::default(),
            launches_ms: Vec::new(),
            stops_ms: Vec::new(),
            tasks_behind: 0.0,
            cores_per_task: 1.0,
            pace: Pace::default(),
            real: Account { machines_usd: 7.0, waiting_usd: 0.5 },
            shadow: Account { machines_usd: 5.5, waiting_usd: 0.8 },
            measured: Observation::empty([2, 4, 8]),
        }
    }

    #[test]
    fn the_fleet_counts_what_is_ready_and_what_boots() {
        let of = |ready, booting| Counts { ready, booting };
        assert_eq!(shadow().fleet(), [of(1, 0), of(0, 1), of(2, 1)]);
    }

    #[test]
    fn the_summary_says_what_was_saved_of_what_and_in_what() {
        let expected = "would have saved $1.20 of $7.50 over 2.0 h: machines $1.50, waiting -$0.30 (an estimate)";
        assert_eq!(shadow().summary(3600 + 7200), expected);
        assert!((shadow().saved_usd() - 1.2).abs() < 1e-12);
        assert_eq!([usd(-0.004), usd(-0.006), usd(0.0)], ["$0.00", "-$0.01", "$0.00"]);
    }

    #[test]
    fn a_ledger_comes_back_whole_and_a_pace_of_nothing_is_nothing() {
        let json = serde_json::to_string(&shadow()).unwrap();
        assert_eq!(serde_json::from_str::<Shadow>(&json).unwrap(), shadow());
        assert_eq!(Pace::default().tasks_per_core_s(), 0.0);
        assert_eq!(Pace { tasks: 3.0, core_s: 60.0 }.tasks_per_core_s(), 0.05);
    }
}
