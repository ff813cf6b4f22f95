//! The EC2 profile: what a real fleet does that the published system's simplifications leave out.

use contract::SIZE_COUNT;

use crate::boot::{BootModel, LaunchFailures};
use crate::config::SimConfig;
use crate::random::TimeRange;

/// EC2 bills an instance for at least a minute (AWS, "Amazon EC2 on-demand pricing": per second, 60 seconds minimum).
pub(crate) const EC2_MIN_BILLED_MS: u64 = 60_000;

const MINUTE_S: f64 = 60.0;
const HOUR_S: f64 = 3600.0;

/// How a fleet on EC2 behaves. Each default says where it comes from; a pool's own records replace what they can be
/// fitted to. [`Ec2Profile::apply`] puts it into settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Ec2Profile {
    /// Boot times. Default: [`BootModel::ec2`], 20 s + log-normal (median 25 s, sigma 0.45), 0.5 % of 180 to 900 s, a
    /// common shape of Linux machines from the launch request to the first task; an assumption until a pool has
    /// [`crate::spec::BOOTS_MIN`] boots of its own.
    pub boot: BootModel,
    /// Launches that fail for lack of capacity. Default: each machine type has capacity for 12 h and then lacks it for
    /// 20 min in the mean. This is an assumption: AWS publishes no such figure, it says to try again after a few
    /// minutes ("Insufficient instance capacity"), and outages of minutes to hours are what users report.
    pub launch_failures: LaunchFailures,
    /// Whether booting is billed. Default: no; the state `pending` is free (AWS, "Amazon EC2 instance state changes").
    pub bill_boot: bool,
    /// The shortest time that a machine is billed for, milliseconds. Default: 60 s, EC2's minimum.
    pub min_billed_ms: u64,
    /// Whether the run that an interrupted task lost counts as waiting. Default: yes, so that a run on a machine about
    /// to be stopped is no free pause of the wait (rule C2).
    pub charge_lost_run: bool,
    /// Age of the outside metrics. Default: 60 to 180 s, one period of a minute and up to two for their way through the
    /// monitoring system; an assumption.
    pub metric_delay: TimeRange,
    /// Share of ticks without outside metrics. Default: 2 %, an assumption: enough for a policy to meet them in every
    /// episode of an hour.
    pub metric_gap_probability: f64,
    /// How much longer a stopped machine is billed. Default: 15 to 60 s from the decision until the machine has left
    /// `running`: the call, the agent's sign-off and the shutdown of its services; an assumption on the safe side, for
    /// EC2 itself bills no `shutting-down`.
    pub stop_delay: TimeRange,
    /// Whether a stop lets running tasks end. Default: yes, termination drains.
    pub drain: bool,
    /// How often a machine of any type is taken away. Default: 0, on-demand.
    pub spot_interruptions_per_hour: f64,
}

impl Default for Ec2Profile {
    fn default() -> Self {
        Self {
            boot: BootModel::ec2(),
            launch_failures: LaunchFailures::Outages { mean_up_s: 12.0 * HOUR_S, mean_down_s: 20.0 * MINUTE_S },
            bill_boot: false,
            min_billed_ms: EC2_MIN_BILLED_MS,
            charge_lost_run: true,
            metric_delay: TimeRange { low_ms: 60_000, high_ms: 180_000 },
            metric_gap_probability: 0.02,
            stop_delay: TimeRange { low_ms: 15_000, high_ms: 60_000 },
            drain: true,
            spot_interruptions_per_hour: 0.0,
        }
    }
}

impl Ec2Profile {
    /// Makes `config` one of a fleet on EC2; machine types, prices, bounds, steps and rates stay. With the contract's
    /// number of types failed launches are remembered, as production's guard does.
    pub fn apply(&self, config: &mut SimConfig) {
        config.boot = self.boot.clone();
        config.launch_failures = self.launch_failures.clone();
        config.remember_no_capacity = config.types.len() == SIZE_COUNT;
        config.bill_boot = self.bill_boot;
        config.min_billed_ms = self.min_billed_ms;
        config.charge_lost_run = self.charge_lost_run;
        config.metric_delay = Some(self.metric_delay);
        config.metric_gap_probability = self.metric_gap_probability;
        config.stop_delay = Some(self.stop_delay);
        config.drain = self.drain;
        config.types.iter_mut().for_each(|t| t.spot_interruptions_per_hour = self.spot_interruptions_per_hour);
    }
}
