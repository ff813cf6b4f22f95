//! Plays policies over seeds, all of them the same ones (common random numbers), and sums up what came of it.

use std::sync::Arc;

use contract::{Action, Mask, Observation, SIZE_COUNT};
use rayon::prelude::*;
use serde::Serialize;
use twin::sim::Phase;
use twin::summary::published_usd;
use twin::{EnvSpec, Environment, Outcome, ScenarioError, TracePoint, TwinEnv};

use crate::interval::{Interval, interval_95};
use crate::rules::Rule;

/// Chooses an action from what is known and what is allowed, keeping state from tick to tick; an error is a fragment
/// that says what the policy could not do.
pub type Player<'a> = Box<dyn FnMut(&Observation, &Mask) -> Result<Action, String> + 'a>;

/// Somebody who takes part in a comparison.
pub trait Contender: Sync {
    /// Its name in tables.
    fn name(&self) -> String;
    /// The fleet that is there from the start, if it brings its own.
    fn initial(&self) -> Option<[u32; SIZE_COUNT]> {
        None
    }
    /// It, at the start of an episode.
    fn player(&self) -> Player<'_>;
}

impl Contender for Rule {
    fn name(&self) -> String {
        self.to_string()
    }
    fn initial(&self) -> Option<[u32; SIZE_COUNT]> {
        Rule::initial(self)
    }
    fn player(&self) -> Player<'_> {
        let mut play = Rule::player(*self);
        Box::new(move |observation, mask| Ok(play(observation, mask)))
    }
}

/// Why a comparison ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlayError {
    /// The fleet that a contender brings cannot be.
    #[error(transparent)]
    Fleet(#[from] ScenarioError),
    /// A policy failed in mid-episode.
    #[error("play {policy}: {problem}")]
    Policy {
        /// Which.
        policy: String,
        /// What it said.
        problem: String,
    },
}

/// Percentiles of the waits, seconds; means over episodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Waits {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// One policy's line of a comparison: means over its episodes, money with 95 % intervals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Who.
    pub policy: String,
    /// Machines and waiting.
    pub total_usd: Interval,
    /// Machines.
    pub vm_usd: Interval,
    /// Waiting.
    pub queue_usd: Interval,
    /// What it saves an episode against the first policy of the list, paired by seed.
    pub saving_usd: Interval,
    /// Machines by the formula of the published evaluation: core-minutes / 60 × $0.043.
    pub published_usd: f64,
    /// Waits.
    pub wait_s: Waits,
    /// Useful share of the billed core-hours.
    pub packing: f64,
    /// Core-hours of interrupted runs.
    pub lost_core_hours: f64,
    /// Launches and stops an hour.
    pub actions_per_hour: f64,
    /// Launches.
    pub launches: f64,
    /// Runs cut short by a stop.
    pub interrupted: f64,
    /// Actions that the guard refused.
    pub rejected_actions: f64,
    /// When the last task was done; none if an episode was cut off.
    pub makespan_s: Option<f64>,
    /// Episodes cut off at their last step, whose cost is that of the part that was played.
    pub truncated: usize,
}

/// One episode, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// What it came to.
    pub outcome: Outcome,
    /// The action chosen at each step, refused ones included.
    pub actions: Vec<Action>,
    /// Fleet and queue at the start and after each step.
    pub trace: Vec<TracePoint>,
}

/// What a contender starts from: `spec`, or the same with the fleet that it brings.
///
/// # Errors
/// If its fleet cannot be.
pub fn spec_of(contender: &dyn Contender, spec: &Arc<EnvSpec>) -> Result<Arc<EnvSpec>, PlayError> {
    Ok(match contender.initial() {
        Some(fleet) => Arc::new(spec.with_initial(fleet)?),
        None => spec.clone(),
    })
}

/// Plays one episode with everything that can be known of it.
///
/// # Errors
/// If the contender's fleet cannot be, or the policy fails.
pub fn episode(contender: &dyn Contender, spec: &Arc<EnvSpec>, seed: u64) -> Result<Episode, PlayError> {
    let mut env = TwinEnv::new(spec_of(contender, spec)?).with_trace();
    let actions = run(contender, &mut env, seed)?;
    Ok(Episode { outcome: env.outcome(), actions, trace: env.trace().to_vec() })
}

fn run(contender: &dyn Contender, env: &mut TwinEnv, seed: u64) -> Result<Vec<Action>, PlayError> {
    Ok(run_below(contender, env, seed, f64::INFINITY)?.0)
}

/// Plays until the episode is over or has cost more than `limit_usd`; the actions, and what it cost.
fn run_below(
    contender: &dyn Contender,
    env: &mut TwinEnv,
    seed: u64,
    limit_usd: f64,
) -> Result<(Vec<Action>, f64), PlayError> {
    env.reset(seed);
    let (mut player, mut actions, mut usd) = (contender.player(), Vec::new(), 0.0);
    while !env.is_over() && usd <= limit_usd {
        let action = player(env.observation(), &env.mask())
            .map_err(|problem| PlayError::Policy { policy: contender.name(), problem })?;
        usd -= env.step(action).reward;
        actions.push(action);
    }
    Ok((actions, usd))
}

/// The outcomes of all seeds, in their order, played in parallel.
///
/// # Errors
/// As for [`episode`].
pub fn outcomes(contender: &dyn Contender, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Result<Vec<Outcome>, PlayError> {
    let spec = spec_of(contender, spec)?;
    let play = |env: &mut TwinEnv, seed: &u64| run(contender, env, *seed).map(|_| env.outcome());
    seeds.par_iter().map_init(|| TwinEnv::new(spec.clone()), play).collect()
}

/// The mean total of all seeds, played one after the other; none as soon as it is sure to be above `limit_usd`, or if an
/// episode was cut off, whose cost says nothing.
///
/// # Errors
/// As for [`episode`].
pub fn mean_usd_below(
    contender: &dyn Contender,
    spec: &Arc<EnvSpec>,
    seeds: &[u64],
    limit_usd: f64,
) -> Result<Option<f64>, PlayError> {
    let mut env = TwinEnv::new(spec_of(contender, spec)?);
    let (limit_usd, mut usd) = (limit_usd * seeds.len() as f64, 0.0);
    for seed in seeds {
        usd += run_below(contender, &mut env, *seed, limit_usd - usd)?.1;
        if usd > limit_usd || env.sim().phase() == Phase::Truncated {
            return Ok(None);
        }
    }
    Ok(Some(usd / seeds.len() as f64))
}

/// Sums up the outcomes of one policy; `first_usd` are the totals of the policy that savings are counted against.
///
/// # Panics
/// Without outcomes, or with another number of `first_usd`: a bug of the caller.
pub fn standing(policy: String, outcomes: &[Outcome], first_usd: &[f64]) -> Standing {
    assert_eq!(outcomes.len(), first_usd.len(), "the same seeds are played by all");
    let of = |get: fn(&Outcome) -> f64| -> Vec<f64> { outcomes.iter().map(get).collect() };
    let money = |get: fn(&Outcome) -> f64| interval_95(&of(get)).expect("at least one episode");
    let mean = |get: fn(&Outcome) -> f64| of(get).iter().sum::<f64>() / outcomes.len() as f64;
    let savings: Vec<f64> = outcomes.iter().zip(first_usd).map(|(o, first)| first - o.total_usd).collect();
    let makespans: Option<Vec<f64>> = outcomes.iter().map(|o| o.makespan_s).collect();
    Standing {
        policy,
        total_usd: money(|o| o.total_usd),
        vm_usd: money(|o| o.vm_usd),
        queue_usd: money(|o| o.queue_usd),
        saving_usd: interval_95(&savings).expect("at least one episode"),
        published_usd: mean(|o| published_usd(o.core_hours * 60.0)),
        wait_s: Waits { p50: mean(|o| o.wait_s_p50), p95: mean(|o| o.wait_s_p95), p99: mean(|o| o.wait_s_p99) },
        packing: mean(|o| o.packing),
        lost_core_hours: mean(|o| o.lost_core_hours),
        actions_per_hour: mean(|o| o.accepted_actions as f64 / o.hours.max(1e-9)),
        launches: mean(|o| o.launches as f64),
        interrupted: mean(|o| o.interrupted as f64),
        rejected_actions: mean(|o| o.rejected_actions as f64),
        makespan_s: makespans.map(|all| all.iter().sum::<f64>() / all.len() as f64),
        truncated: outcomes.iter().filter(|o| o.truncated).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_contenders_play_the_same_episodes_and_a_static_fleet_is_there_from_the_start() {
        let spec = Arc::new(EnvSpec::published());
        let (nothing, fleet) = (Rule::Nothing, Rule::Static([1, 1, 7]));
        let first = outcomes(&nothing, &spec, &[0]).unwrap();
        let other = outcomes(&fleet, &spec, &[0]).unwrap();
        let usd: Vec<f64> = first.iter().map(|o| o.total_usd).collect();
        let lines = [standing(nothing.name(), &first, &usd), standing(fleet.name(), &other, &usd)];
        let cents = |usd: f64| (usd * 100.0).round() / 100.0;
        assert_eq!((cents(lines[0].total_usd.mean), cents(lines[1].total_usd.mean)), (247.53, 22.55));
        assert!((lines[1].saving_usd.mean - (247.53 - 22.55)).abs() < 0.01);
        assert_eq!(lines[1].launches, 0.0);
    }

    #[test]
    fn an_episode_can_be_replayed_from_its_actions() {
        let spec = Arc::new(EnvSpec::published());
        let played = episode(&Rule::Production { tasks_per_core: 1.5 }, &spec, 1).unwrap();
        let mut env = TwinEnv::new(spec);
        env.reset(1);
        played.actions.iter().for_each(|action| {
            env.step(*action);
        });
        assert_eq!(env.outcome(), played.outcome);
        assert_eq!(played.trace.len(), played.actions.len() + 1);
    }
}
