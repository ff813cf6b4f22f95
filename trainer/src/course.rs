//! What a policy learns in: one or more loads, each with the rule that is best for it.

mod env;

use std::sync::Arc;

use backtest::play::{mean_usd_below, outcomes};
use backtest::rules::Rule;
use backtest::tune::{Tuned, far_apart};
use rayon::prelude::*;
use twin::env::Environment;
use twin::{BootModel, EnvSpec, TwinEnv};

use crate::compare::{best_of, tuned_rules};
use crate::ppo::gae::{advantages, mean_and_deviation};
pub use env::{Teachers, to_evaluate, to_learn};

/// Seeds that rules are tuned on at most.
const TUNE_SEEDS: [u64; 4] = [1, 2, 3, 4];
/// Ticks of episodes that rules are tuned on: more than four days of minutes say nothing new, and cost as much again.
const TUNE_TICKS: u64 = 4 * 24 * 60;

/// The seeds that rules are tuned on: all, but fewer where one episode is longer than a day. Each workload has its turn.
fn tune_seeds(spec: &EnvSpec) -> &'static [u64] {
    let longest_ms = spec.workloads().iter().map(|w| w.last_submit_ms()).max().unwrap_or(0);
    let ticks = (longest_ms / spec.config().step_ms).max(1);
    let n = TUNE_TICKS.div_ceil(ticks).max(spec.workloads().len() as u64);
    &TUNE_SEEDS[..TUNE_SEEDS.len().min(n as usize)]
}

/// The published load with drawn boots, both orders of batches.
pub fn published_twin() -> EnvSpec {
    with_drawn_boots(&EnvSpec::published())
}

/// The same with boots drawn from 45 to 97 s: the published system has boots of a fixed length, and a policy that has to be
/// good on real ones learns from drawn ones.
pub fn with_drawn_boots(spec: &EnvSpec) -> EnvSpec {
    let boot = BootModel::Uniform { low_s: 45.0, high_s: 97.0, seed: 0 };
    spec.configured(|config| config.boot = boot).expect("a valid boot time")
}

/// One load to learn from.
#[derive(Clone, Debug)]
pub struct Course {
    /// What it is called.
    pub name: String,
    /// The twin.
    pub spec: Arc<EnvSpec>,
    /// The best rule of each family, tuned on it.
    pub rules: Vec<Tuned>,
    /// The best of them.
    pub teacher: Tuned,
    /// Where the comparison takes place: the load as it is, without perturbation.
    pub exact: Arc<EnvSpec>,
    /// Its workloads, in their order.
    pub lots: Vec<Lot>,
}

/// What is known of one workload of a course. Loads of one kind may still differ by orders of magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lot {
    /// The rule that teaches what to do with it.
    pub teacher: Rule,
    /// What an episode costs its teacher.
    pub usd: f64,
    /// The discount a step: what an action did is felt for about as long as tasks run, for a machine that is taken for them is
    /// kept until they end.
    pub discount: f64,
    /// The standard deviation of the waste to come, discounted, under its teacher; at least what one machine too many costs.
    pub waste_deviation_usd: f64,
}

/// The discount of [`Lot::waste_deviation_usd`] at least: that of learning.
const WASTE_DISCOUNT: f64 = 0.93;
/// Steps that learning looks ahead at most: what is to come in more than three hours has too many causes to learn from.
const HORIZON_STEPS_MAX: f64 = 200.0;

/// The lot of one workload. A few workloads have all been tuned on; of many, each gets the cheapest rule at hand.
fn lot(spec: &Arc<EnvSpec>, workload: u64, rules: &[Tuned], teacher: &Tuned) -> Lot {
    let n = spec.workloads().len();
    let (teacher, seeds) = if n <= TUNE_SEEDS.len() {
        (teacher.rule, tune_seeds(spec).iter().copied().filter(|seed| seed % n as u64 == workload).collect())
    } else {
        let at_hand = rules.iter().map(|tuned| tuned.rule).chain(far_apart());
        (cheapest(at_hand, spec, &[workload]).unwrap_or(teacher.rule), vec![workload])
    };
    let played = outcomes(&teacher, spec, &seeds).expect("a rule never fails");
    let usd = played.iter().map(|o| o.total_usd).sum::<f64>() / played.len() as f64;
    let discount = 1.0 - 1.0 / run_steps(spec, workload as usize).clamp(1.0, HORIZON_STEPS_MAX);
    let waste_deviation_usd = waste_deviation_usd(spec, &teacher, &seeds, discount.max(WASTE_DISCOUNT));
    Lot { teacher, usd, discount, waste_deviation_usd }
}

/// The rule that costs least on average of these episodes; none if no rule gets them done.
pub fn cheapest(rules: impl Iterator<Item = Rule>, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Option<Rule> {
    let none = (None, f64::INFINITY);
    let (rule, _) = rules.fold(none, |(best, least_usd), rule| {
        match mean_usd_below(&rule, spec, seeds, least_usd).expect("a rule never fails") {
            Some(usd) if usd < least_usd => (Some(rule), usd),
            _ => (best, least_usd),
        }
    });
    rule
}

/// Steps that tasks run for in the mean, each weighted by its work.
fn run_steps(spec: &EnvSpec, workload: usize) -> f64 {
    let jobs = spec.workloads()[workload].jobs();
    let of =
        |power: i32| jobs.iter().map(|job| f64::from(job.cores) * (job.runtime_ms as f64).powi(power)).sum::<f64>();
    of(2) / of(1) / spec.config().step_ms as f64
}

/// At least what the largest machine costs for as long as the discount looks ahead: on a load that is small beside that, the
/// teacher wastes hardly anything, and one mistake of the student would outweigh all others.
fn waste_deviation_usd(spec: &Arc<EnvSpec>, teacher: &Rule, seeds: &[u64], discount: f64) -> f64 {
    let (_, deviation) = mean_and_deviation(waste_to_come_usd(spec, teacher, seeds, discount).into_iter());
    let usd_per_hour = spec.config().types.iter().map(|t| t.usd_per_hour).fold(0.0, f64::max);
    deviation.max(usd_per_hour * spec.config().step_ms as f64 / 3_600_000.0 / (1.0 - discount))
}

fn waste_to_come_usd(spec: &Arc<EnvSpec>, teacher: &Rule, seeds: &[u64], discount: f64) -> Vec<f64> {
    let mut env = TwinEnv::new(spec.clone());
    let to_come = seeds.iter().flat_map(|seed| {
        let (mut rewards, mut worked, mut player) = (Vec::new(), 0.0, teacher.player());
        env.reset(*seed);
        while !env.is_over() {
            let action = player(env.observation(), &env.mask());
            let reward = env.step(action).reward;
            rewards.push(reward + env.work_usd() - worked);
            worked = env.work_usd();
        }
        let n = rewards.len();
        advantages(&rewards, &vec![0.0; n + 1], &vec![discount; n], 1.0)
    });
    to_come.collect()
}

/// A load that nothing can be learned from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("learn from {0}: no rule gets all its tasks done before an episode ends; give it more machines or less to do")]
pub struct CourseError(String);

impl Course {
    /// A load with its teacher tuned. Learning happens in `spec`, and `exact` is what counts in the end.
    ///
    /// # Errors
    /// If no rule gets the load done.
    pub fn new(name: &str, spec: Arc<EnvSpec>, exact: Arc<EnvSpec>) -> Result<Self, CourseError> {
        let rules = tuned_rules(name, &spec, tune_seeds(&spec));
        Self::with_rules(name, spec, exact, rules)
    }

    /// The same with the rules that were found for it before.
    ///
    /// # Errors
    /// If none of them gets the load done.
    pub fn with_rules(
        name: &str,
        spec: Arc<EnvSpec>,
        exact: Arc<EnvSpec>,
        rules: Vec<Tuned>,
    ) -> Result<Self, CourseError> {
        let teacher = best_of(&rules);
        if !teacher.usd.is_finite() {
            return Err(CourseError(name.to_owned()));
        }
        tracing::info!(course = name, rule = %teacher.rule, usd = teacher.usd, "the teacher");
        let workloads = 0..spec.workloads().len() as u64;
        let lots = workloads.into_par_iter().map(|workload| lot(&spec, workload, &rules, &teacher)).collect();
        Ok(Self { name: name.to_owned(), spec, rules, teacher, exact, lots })
    }
}

/// So many one-minute tasks, one a minute, no machine at the start, and waiting that costs nothing: who does nothing pays nothing,
/// and the episode is cut off. The rules are taken to cost a dollar.
#[cfg(test)]
pub(crate) fn where_idling_is_cheapest(tasks: i64, rules: &[Rule]) -> Course {
    use twin::{Job, SimConfig, Workload};
    let job = |id| Job { id, submit_ms: 60_000 * id as u64, runtime_ms: 60_000, cores: 1, memory_mb: 0 };
    let mut config = SimConfig { max_steps: 60, queue_usd_per_task_hour: 0.0, ..SimConfig::default() };
    config.types.iter_mut().for_each(|kind| kind.initial = 0);
    let workload = Arc::new(Workload::new((0..tasks).map(job).collect()));
    let spec = Arc::new(EnvSpec::new(config, vec![workload]).unwrap());
    let rules = rules.iter().map(|rule| Tuned { rule: *rule, usd: 1.0 }).collect();
    Course::with_rules("where idling is cheapest", spec.clone(), spec, rules).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin::{Job, SimConfig, Workload};

    #[test]
    fn a_long_load_is_tuned_on_fewer_episodes_and_each_workload_has_its_turn() {
        let lasting = |days: &[f64]| {
            let submit_ms = |days: f64| (days * 86_400_000.0) as u64;
            let job = |days: f64| Job { id: 1, submit_ms: submit_ms(days), runtime_ms: 1, cores: 1, memory_mb: 0 };
            let workloads = days.iter().map(|days| Arc::new(Workload::new(vec![job(*days)]))).collect();
            tune_seeds(&EnvSpec::new(SimConfig::default(), workloads).unwrap()).len()
        };
        assert_eq!((lasting(&[1.0]), lasting(&[1.5]), lasting(&[45.0]), lasting(&[0.1])), (4, 3, 1, 4));
        assert_eq!((lasting(&[45.0; 2]), lasting(&[45.0; 9])), (2, 4));
    }

    /// One-core tasks of a run time, evenly over four hours.
    fn evenly(tasks: u64, runtime_s: u64) -> Arc<Workload> {
        let submit_ms = |i: u64| i * 4 * 3_600_000 / tasks;
        let job =
            |i| Job { id: i as i64, submit_ms: submit_ms(i), runtime_ms: 1000 * runtime_s, cores: 1, memory_mb: 0 };
        Arc::new(Workload::new((0..tasks).map(job).collect()))
    }

    #[test]
    fn each_of_many_workloads_has_the_teacher_that_is_best_for_it_and_a_horizon_of_its_tasks() {
        let workloads = vec![evenly(2000, 60), evenly(40, 3600), evenly(2, 60), evenly(1000, 30), evenly(12, 20_000)];
        let spec = Arc::new(EnvSpec::new(SimConfig::default(), workloads).unwrap().with_time_enough());
        let course = Course::new("many", spec.clone(), spec.clone()).unwrap();
        let usd = |rule: &Rule, workload: u64| outcomes(rule, &spec, &[workload]).unwrap()[0].total_usd;
        for (i, lot) in course.lots.iter().enumerate() {
            assert_eq!(lot.usd, usd(&lot.teacher, i as u64));
            assert!(course.rules.iter().all(|rule| lot.usd <= usd(&rule.rule, i as u64)), "{i}: {lot:?}");
        }
        let discounts: Vec<f64> = course.lots.iter().map(|lot| lot.discount).collect();
        assert_eq!(discounts, [0.0, 1.0 - 1.0 / 60.0, 0.0, 0.0, 1.0 - 1.0 / 200.0]);
        // two short tasks waste nothing, but a machine too many would cost its price for a quarter of an hour
        let one_too_many = course.spec.config().types[2].usd_per_hour / 60.0 / 0.07;
        assert!((course.lots[2].waste_deviation_usd - one_too_many).abs() < 1e-9, "{:?}", course.lots[2]);
        let mut learner = to_learn(std::slice::from_ref(&course), 1, Teachers::default()).remove(0);
        let mut discount_of = |seed: u64| {
            learner.reset(seed);
            learner.discount()
        };
        assert_eq!((discount_of(0), discount_of(6)), (0.0, 1.0 - 1.0 / 60.0));
    }
}
