//! The rules that a learned policy has to beat, each with settings that [`crate::tune`] searches.
//!
//! All of them see what the policy sees (the contract's observation and mask) and do at most one action a tick.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use contract::{Action, Mask, Observation, SIZE_COUNT, STEPS};
use controller::rule::{decide, towards};

/// A rule with its settings. Written `rule:NAME` or `rule:NAME=A,B,…`; settings left out have their defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Never does anything.
    Nothing,
    /// Holds a fleet of these numbers of machines. In a back-test it is there from the start.
    Static([u32; SIZE_COUNT]),
    /// Step scaling: launches a size while more than `queue_above` tasks wait; stops one while nothing waits and the
    /// mean utilisation is below `util_below`.
    Threshold {
        /// Index of the size.
        size: u16,
        /// Tasks.
        queue_above: f64,
        /// Share of busy cores, mean over machines.
        util_below: f64,
    },
    /// Target tracking on CPU utilisation as EC2 Auto Scaling does it: an alarm above the target after `out_ticks`,
    /// one below 0.9 of it after `in_ticks`; wants `ready cores × utilisation / target` cores.
    Cpu {
        /// Utilisation to keep.
        target: f64,
        /// Ticks in a row above the target before it launches; EC2 Auto Scaling waits 3 minutes.
        out_ticks: u32,
        /// Ticks in a row below before it stops; EC2 Auto Scaling waits 15 minutes.
        in_ticks: u32,
    },
    /// The same on the backlog, tasks waiting per core in service, with scale-in protection: it never wants fewer cores
    /// than tasks run.
    Backlog {
        /// Tasks waiting per core to keep.
        target: f64,
        /// As for [`Rule::Cpu`].
        out_ticks: u32,
        /// As for [`Rule::Cpu`].
        in_ticks: u32,
    },
    /// Queue-proportional as KEDA does it: wants `(waiting + running) / tasks_per_core` cores, at once; scales in to the
    /// largest number wanted in the last `hold_ticks` (the stabilisation window of Kubernetes' autoscaler).
    Queue {
        /// Tasks that one core is given.
        tasks_per_core: f64,
        /// Ticks.
        hold_ticks: u32,
    },
    /// A fixed number of cores while there is work, shrinking to what runs when nothing has arrived for `quiet_s`.
    Plateau {
        /// Cores.
        cores: u32,
        /// Seconds.
        quiet_s: f64,
    },
    /// The rule that production falls back on ([`controller::rule::decide`]).
    Production {
        /// Tasks that one core is given.
        tasks_per_core: f64,
    },
}

/// Names and settings, for help and errors.
pub const FORMS: &str = "rule:nothing, rule:static=S,M,L, rule:threshold=SIZE,QUEUE,UTIL, rule:cpu=TARGET,OUT,IN, \
     rule:backlog=TARGET,OUT,IN, rule:queue=TASKS_PER_CORE,HOLD, rule:plateau=CORES,QUIET_S, \
     rule:production=TASKS_PER_CORE";

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the rule {text:?}: {problem}; there are {FORMS}")]
pub struct RuleError {
    text: String,
    problem: String,
}

/// The families of rules: a rule without its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// [`Rule::Nothing`].
    Nothing,
    /// [`Rule::Static`].
    Static,
    /// [`Rule::Threshold`].
    Threshold,
    /// [`Rule::Cpu`].
    Cpu,
    /// [`Rule::Backlog`].
    Backlog,
    /// [`Rule::Queue`].
    Queue,
    /// [`Rule::Plateau`].
    Plateau,
    /// [`Rule::Production`].
    Production,
}

impl Family {
    /// All of them, in the order of tables.
    pub const ALL: [Family; 8] = [
        Family::Nothing,
        Family::Static,
        Family::Threshold,
        Family::Cpu,
        Family::Backlog,
        Family::Queue,
        Family::Plateau,
        Family::Production,
    ];

    /// Its name after `rule:`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Nothing => "nothing",
            Family::Static => "static",
            Family::Threshold => "threshold",
            Family::Cpu => "cpu",
            Family::Backlog => "backlog",
            Family::Queue => "queue",
            Family::Plateau => "plateau",
            Family::Production => "production",
        }
    }

    /// The settings that a rule of this family has if none are given.
    pub fn defaults(self) -> &'static [f64] {
        match self {
            Family::Nothing => &[],
            Family::Static => &[1.0, 1.0, 7.0],
            Family::Threshold => &[2.0, 0.0, 0.8],
            Family::Cpu => &[0.9, 3.0, 15.0],
            Family::Backlog => &[1.5, 3.0, 15.0],
            Family::Queue => &[1.5, 0.0],
            Family::Plateau => &[58.0, 600.0],
            Family::Production => &[1.5],
        }
    }

    /// The rule with these settings.
    ///
    /// # Errors
    /// A fragment that says which setting cannot be.
    pub fn rule(self, settings: &[f64]) -> Result<Rule, String> {
        if settings.len() > self.defaults().len() {
            return Err(format!("{} takes at most {} settings", self.name(), self.defaults().len()));
        }
        let at = |i: usize| settings.get(i).copied().unwrap_or_else(|| self.defaults()[i]);
        let count = |i: usize| whole(at(i), i);
        Ok(match self {
            Family::Nothing => Rule::Nothing,
            Family::Static => Rule::Static([count(0)?, count(1)?, count(2)?]),
            Family::Threshold => Rule::Threshold {
                size: size(count(0)?)?,
                queue_above: at_least_0(at(1))?,
                util_below: at_least_0(at(2))?,
            },
            Family::Cpu => Rule::Cpu { target: above_0(at(0))?, out_ticks: count(1)?, in_ticks: count(2)? },
            Family::Backlog => Rule::Backlog { target: above_0(at(0))?, out_ticks: count(1)?, in_ticks: count(2)? },
            Family::Queue => Rule::Queue { tasks_per_core: above_0(at(0))?, hold_ticks: count(1)? },
            Family::Plateau => Rule::Plateau { cores: count(0)?, quiet_s: at_least_0(at(1))? },
            Family::Production => Rule::Production { tasks_per_core: above_0(at(0))? },
        })
    }
}

fn whole(x: f64, i: usize) -> Result<u32, String> {
    let fits = x >= 0.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0;
    if fits { Ok(x as u32) } else { Err(format!("setting {} is {x} and must be a whole number", i + 1)) }
}

fn size(i: u32) -> Result<u16, String> {
    if (i as usize) < SIZE_COUNT {
        Ok(i as u16)
    } else {
        Err(format!("size {i} is not one of 0 to {}", SIZE_COUNT - 1))
    }
}

fn above_0(x: f64) -> Result<f64, String> {
    if x.is_finite() && x > 0.0 { Ok(x) } else { Err(format!("{x} must be a number above 0")) }
}

fn at_least_0(x: f64) -> Result<f64, String> {
    if x.is_finite() && x >= 0.0 { Ok(x) } else { Err(format!("{x} must be a number at or above 0")) }
}

impl FromStr for Rule {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let fail = |problem: String| RuleError { text: text.to_owned(), problem };
        let plain = text.strip_prefix("rule:").unwrap_or(text);
        let (name, settings) = plain.split_once('=').unwrap_or((plain, ""));
        let family = Family::ALL.into_iter().find(|f| f.name() == name);
        let family = family.ok_or_else(|| fail(format!("{name:?} is no rule")))?;
        let settings = settings.split(',').filter(|s| !s.trim().is_empty());
        let settings: Result<Vec<f64>, _> = settings.map(|s| s.trim().parse::<f64>()).collect();
        let settings = settings.map_err(|_| fail("settings are numbers with commas between them".into()))?;
        family.rule(&settings).map_err(fail)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Nothing => write!(f, "rule:nothing"),
            Rule::Static([s, m, l]) => write!(f, "rule:static={s},{m},{l}"),
            Rule::Threshold { size, queue_above, util_below } => {
                write!(f, "rule:threshold={size},{queue_above},{util_below}")
            }
            Rule::Cpu { target, out_ticks, in_ticks } => write!(f, "rule:cpu={target},{out_ticks},{in_ticks}"),
            Rule::Backlog { target, out_ticks, in_ticks } => {
                write!(f, "rule:backlog={target},{out_ticks},{in_ticks}")
            }
            Rule::Queue { tasks_per_core, hold_ticks } => write!(f, "rule:queue={tasks_per_core},{hold_ticks}"),
            Rule::Plateau { cores, quiet_s } => write!(f, "rule:plateau={cores},{quiet_s}"),
            Rule::Production { tasks_per_core } => write!(f, "rule:production={tasks_per_core}"),
        }
    }
}

impl Rule {
    /// The fleet that is there from the start of a back-test, if the rule brings its own.
    pub fn initial(&self) -> Option<[u32; SIZE_COUNT]> {
        match self {
            Rule::Static(fleet) => Some(*fleet),
            _ => None,
        }
    }

    /// The rule, ready to play one episode.
    pub fn player(self) -> impl FnMut(&Observation, &Mask) -> Action {
        let mut memory = Memory::default();
        move |observation, mask| self.act(observation, mask, &mut memory)
    }

    /// Without a queue depth nothing is known, and nothing is done.
    fn act(&self, o: &Observation, mask: &Mask, memory: &mut Memory) -> Action {
        let (Some(queue), Some(running)) = (o.queue_depth.map(f64::from), o.running.map(f64::from)) else {
            return Action::Nothing;
        };
        match *self {
            Rule::Nothing => Action::Nothing,
            Rule::Static(fleet) => hold(o, fleet, mask),
            Rule::Threshold { size, queue_above, util_below } => {
                if queue > queue_above {
                    return allowed(Action::Launch(size, 1), mask);
                }
                let is_idle = queue == 0.0 && o.cpu_util_avg.is_some_and(|util| util < util_below);
                if is_idle { allowed(Action::Stop(size, 1), mask) } else { Action::Nothing }
            }
            Rule::Cpu { target, out_ticks, in_ticks } => {
                let Some(util) = o.cpu_util_avg else { return Action::Nothing };
                memory.track(o, util / target, 0.0, (out_ticks, in_ticks), mask)
            }
            Rule::Backlog { target, out_ticks, in_ticks } => {
                let per_core = queue / f64::from(o.ready_cores().max(1));
                memory.track(o, per_core / target, running, (out_ticks, in_ticks), mask)
            }
            Rule::Queue { tasks_per_core, hold_ticks } => {
                towards(o, memory.held((queue + running) / tasks_per_core, hold_ticks, o), mask)
            }
            Rule::Plateau { cores, quiet_s } => {
                let is_quiet = queue == 0.0 && o.since_arrival_s.is_some_and(|s| s >= quiet_s);
                towards(o, if is_quiet { running.min(f64::from(cores)) } else { f64::from(cores) }, mask)
            }
            Rule::Production { tasks_per_core } => decide(o, tasks_per_core, mask),
        }
    }
}

/// What rules remember of the episode.
#[derive(Clone, Debug, Default)]
struct Memory {
    ticks_above: u32,
    ticks_below: u32,
    wanted: VecDeque<f64>,
}

/// Below this share of the target, target tracking scales in.
const SCALE_IN_SHARE: f64 = 0.9;

impl Memory {
    /// Target tracking: `ratio` is the metric over its target; `protected` cores are never scaled in.
    fn track(
        &mut self,
        o: &Observation,
        ratio: f64,
        protected: f64,
        (out_ticks, in_ticks): (u32, u32),
        mask: &Mask,
    ) -> Action {
        self.ticks_above = if ratio > 1.0 { self.ticks_above + 1 } else { 0 };
        self.ticks_below = if ratio < SCALE_IN_SHARE { self.ticks_below + 1 } else { 0 };
        let wanted = (f64::from(o.ready_cores()) * ratio).max(protected);
        let billed = f64::from(o.billed_cores());
        let scales_out = self.ticks_above > 0 && self.ticks_above >= out_ticks && wanted > billed;
        let scales_in = self.ticks_below > 0 && self.ticks_below >= in_ticks && wanted < billed;
        if scales_out || scales_in { towards(o, wanted, mask) } else { Action::Nothing }
    }

    /// The number of cores to go to: `wanted`, or what is there, but no less than was wanted a short while ago.
    fn held(&mut self, wanted: f64, hold_ticks: u32, o: &Observation) -> f64 {
        self.wanted.push_back(wanted);
        while self.wanted.len() > hold_ticks as usize + 1 {
            self.wanted.pop_front();
        }
        let most = self.wanted.iter().copied().fold(wanted, f64::max);
        most.min(f64::from(o.billed_cores()).max(wanted))
    }
}

fn allowed(action: Action, mask: &Mask) -> Action {
    if action.is_allowed(mask) { action } else { Action::Nothing }
}

/// Launches what is missing, largest size first; stops what is too many, smallest first; in the largest steps allowed.
fn hold(o: &Observation, fleet: [u32; SIZE_COUNT], mask: &Mask) -> Action {
    let steps = |machines: u32| STEPS.into_iter().rev().filter(move |n| u32::from(*n) <= machines);
    let missing = |i: usize| steps(fleet[i].saturating_sub(o.fleet[i].total()));
    let surplus = |i: usize| steps(o.fleet[i].total().saturating_sub(fleet[i]));
    let launches = (0..SIZE_COUNT).rev().flat_map(|i| missing(i).map(move |n| Action::Launch(i as u16, n)));
    let stops = (0..SIZE_COUNT).flat_map(|i| surplus(i).map(move |n| Action::Stop(i as u16, n)));
    launches.chain(stops).find(|action| action.is_allowed(mask)).unwrap_or(Action::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capacity::Counts;

    /// The actions that move one machine.
    fn one() -> Mask {
        std::array::from_fn(|i| i < contract::actions_up_to(1).len())
    }

    fn observation(queue: u32, running: u32, large: u32) -> Observation {
        let one = Counts { ready: 1, booting: 0 };
        Observation {
            queue_depth: Some(queue),
            running: Some(running),
            cpu_util_avg: Some(f64::from(running) / f64::from(6 + 8 * large)),
            since_arrival_s: Some(120.0),
            fleet: [one, one, Counts { ready: large, booting: 0 }],
            ..Observation::empty([2, 4, 8])
        }
    }

    #[test]
    fn every_rule_reads_what_it_prints() {
        for family in Family::ALL {
            let rule = family.rule(family.defaults()).unwrap();
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
            assert_eq!(format!("rule:{}", family.name()).parse::<Rule>().unwrap(), rule);
        }
    }

    #[test]
    fn a_rule_that_cannot_be_is_named_with_the_mend() {
        for text in
            ["rule:magic", "rule:cpu=x", "rule:static=1,2,-3", "rule:queue=0", "rule:threshold=3", "rule:cpu=1,1,1,1"]
        {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("rule:plateau"), "{error}");
        }
    }

    #[test]
    fn target_tracking_waits_its_minutes_and_counts_what_boots() {
        let mut play = Rule::Cpu { target: 0.5, out_ticks: 3, in_ticks: 2 }.player();
        let busy = observation(9, 14, 1);
        assert_eq!([0; 3].map(|_| play(&busy, &one())), [Action::Nothing, Action::Nothing, Action::Launch(2, 1)]);
        // 14 cores ready at full load over 0.5: 28 are wanted, and 30 are billed
        let mut booting = busy.clone();
        booting.fleet[2].booting = 2;
        assert_eq!(play(&booting, &one()), Action::Nothing);
        let calm = observation(0, 2, 2);
        assert_eq!([0; 2].map(|_| play(&calm, &one())), [Action::Nothing, Action::Stop(2, 1)]);
    }

    #[test]
    fn the_queue_rule_holds_what_was_wanted_but_launches_nothing_for_it() {
        let mut play = Rule::Queue { tasks_per_core: 1.0, hold_ticks: 2 }.player();
        assert_eq!(play(&observation(8, 22, 3), &one()), Action::Nothing);
        assert_eq!(play(&observation(0, 10, 3), &one()), Action::Nothing);
        assert_eq!(play(&observation(0, 10, 2), &one()), Action::Nothing);
        assert_eq!(play(&observation(0, 10, 2), &one()), Action::Stop(2, 1));
    }

    #[test]
    fn with_larger_steps_rules_go_where_they_want_at_once() {
        let all = [true; contract::ACTION_COUNT];
        let mut plateau = Rule::Plateau { cores: 30, quiet_s: 120.0 }.player();
        assert_eq!(plateau(&observation(5, 22, 1), &all), Action::Launch(2, 2));
        assert_eq!(plateau(&observation(0, 3, 4), &all), Action::Stop(2, 4));
        let mut hold = Rule::Static([1, 1, 4]).player();
        assert_eq!(hold(&observation(0, 0, 1), &all), Action::Launch(2, 2), "three are missing");
        assert_eq!(hold(&observation(0, 0, 9), &all), Action::Stop(2, 4));
    }

    #[test]
    fn a_plateau_shrinks_to_what_runs_once_it_is_quiet() {
        let mut play = Rule::Plateau { cores: 30, quiet_s: 120.0 }.player();
        assert_eq!(play(&observation(5, 22, 2), &one()), Action::Launch(2, 1));
        assert_eq!(play(&observation(0, 3, 2), &one()), Action::Stop(2, 1));
        let mut later = Rule::Plateau { cores: 22, quiet_s: 121.0 }.player();
        assert_eq!(later(&observation(0, 3, 2), &one()), Action::Nothing);
    }

    #[test]
    fn thresholds_and_a_static_fleet_do_what_they_say() {
        let mut play = Rule::Threshold { size: 1, queue_above: 4.0, util_below: 0.5 }.player();
        assert_eq!(play(&observation(5, 14, 1), &one()), Action::Launch(1, 1));
        assert_eq!(play(&observation(1, 2, 1), &one()), Action::Nothing);
        assert_eq!(play(&observation(0, 2, 1), &one()), Action::Stop(1, 1));
        let mut fixed = Rule::Static([1, 1, 2]).player();
        assert_eq!(fixed(&observation(0, 0, 1), &one()), Action::Launch(2, 1));
        assert_eq!(fixed(&observation(0, 0, 3), &one()), Action::Stop(2, 1));
        assert_eq!(fixed(&observation(0, 0, 2), &one()), Action::Nothing);
    }
}
