//! What a policy learns in: one or more loads, each with the rule that is best for it.

use std::sync::Arc;

use backtest::play::outcomes;
use backtest::rules::Rule;
use backtest::tune::Tuned;
use contract::{Action, Mask, Observation};
use twin::env::{Environment, Seen, Step};
use twin::{BootModel, EnvSpec, TwinEnv};

use crate::compare::{best_of, tuned_rules};
use crate::ppo::gae::{advantages, mean_and_deviation};

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
    /// The best of them, which teaches.
    pub teacher: Tuned,
    /// Where the comparison takes place: the load as it is, without perturbation.
    pub exact: Arc<EnvSpec>,
    /// What an episode costs its teacher beyond the rent of the smallest fleet that is allowed: what there is to decide.
    pub at_stake_usd: f64,
    /// The standard deviation of the waste to come, discounted, under its teacher.
    pub waste_deviation_usd: f64,
}

/// The discount of [`Course::waste_deviation_usd`]: about that of learning.
const WASTE_DISCOUNT: f64 = 0.95;

/// Share of the teacher's cost that is at stake at least, so that a load without anything to decide counts no more than that.
const AT_STAKE_MIN: f64 = 0.02;

fn at_stake_usd(spec: &Arc<EnvSpec>, teacher: &Tuned) -> f64 {
    let played = outcomes(&teacher.rule, spec, tune_seeds(spec)).expect("a rule never fails");
    let hours = played.iter().map(|o| o.hours).sum::<f64>() / played.len() as f64;
    let usd_per_hour: f64 = spec.config().types.iter().map(|t| f64::from(t.bounds.min()) * t.usd_per_hour).sum();
    (teacher.usd - hours * usd_per_hour).max(AT_STAKE_MIN * teacher.usd)
}

fn waste_deviation_usd(spec: &Arc<EnvSpec>, teacher: &Tuned) -> f64 {
    let mut env = TwinEnv::new(spec.clone());
    let to_come = tune_seeds(spec).iter().flat_map(|seed| {
        let (mut rewards, mut worked, mut player) = (Vec::new(), 0.0, teacher.rule.player());
        env.reset(*seed);
        while !env.is_over() {
            let action = player(env.observation(), &env.mask());
            let reward = env.step(action).reward;
            rewards.push(reward + env.work_usd() - worked);
            worked = env.work_usd();
        }
        let n = rewards.len();
        advantages(&rewards, &vec![0.0; n + 1], &vec![false; n], WASTE_DISCOUNT, 1.0)
    });
    let to_come: Vec<f64> = to_come.collect();
    let (_, deviation) = mean_and_deviation(to_come.iter().copied());
    // a load that never wastes anything has nothing to foresee
    deviation.max(1e-6)
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
        let teacher = best_of(&rules);
        if !teacher.usd.is_finite() {
            return Err(CourseError(name.to_owned()));
        }
        tracing::info!(course = name, rule = %teacher.rule, usd = teacher.usd, "the teacher");
        let at_stake_usd = at_stake_usd(&spec, &teacher);
        let waste_deviation_usd = waste_deviation_usd(&spec, &teacher);
        Ok(Self { name: name.to_owned(), spec, rules, teacher, exact, at_stake_usd, waste_deviation_usd })
    }
}

/// Environments to learn in. Each stays with one course, so that all get as many steps, however long their episodes are,
/// and what is to be foreseen varies as much in each: otherwise the value head sees only the one that varies most.
pub fn to_learn(courses: &[Course], n: usize, are_taught: bool) -> Vec<Box<dyn Environment>> {
    let weights = weights(courses, |course| course.waste_deviation_usd);
    let of = |i: usize| {
        let place = i % courses.len();
        CoursesEnv::new(&courses[place..=place], &weights[place..=place], are_taught)
    };
    (0..n).map(|i| Box::new(of(i)) as Box<dyn Environment>).collect()
}

/// Environments to evaluate in, all alike: seed s is an episode of course s mod n, and the same is at stake in an episode of
/// each.
pub fn to_evaluate(courses: &[Course], n: usize) -> Vec<Box<dyn Environment>> {
    let weights = weights(courses, |course| course.at_stake_usd);
    (0..n).map(|_| Box::new(CoursesEnv::new(courses, &weights, false)) as Box<dyn Environment>).collect()
}

/// What a dollar counts in each course, so that none drowns the others; 1 in a course that is as large as their mean.
fn weights(courses: &[Course], size: fn(&Course) -> f64) -> Vec<f64> {
    let mean = courses.iter().map(size).sum::<f64>() / courses.len() as f64;
    courses.iter().map(|course| mean / size(course)).collect()
}

/// The rule, with what it remembers of the episode.
type Player = Box<dyn FnMut(&Observation, &Mask) -> Action + Send>;

/// One of the courses.
struct Place {
    env: TwinEnv,
    rule: Rule,
    /// What a dollar counts here.
    weight: f64,
}

/// An environment that takes turns with several courses, with a teacher that watches if it is wanted.
struct CoursesEnv {
    places: Vec<Place>,
    at: usize,
    player: Option<Player>,
    is_taught: bool,
    advice: Option<Action>,
}

impl CoursesEnv {
    fn new(courses: &[Course], weights: &[f64], is_taught: bool) -> Self {
        let place = |(course, weight): (&Course, &f64)| Place {
            env: TwinEnv::new(course.spec.clone()),
            rule: course.teacher.rule,
            weight: *weight,
        };
        let places = courses.iter().zip(weights).map(place).collect();
        Self { places, at: 0, player: None, is_taught, advice: None }
    }

    fn watch(&mut self, seen: &Seen) {
        let observation = self.places[self.at].env.observation();
        self.advice = self.player.as_mut().map(|player| player(observation, &seen.mask));
    }
}

impl Environment for CoursesEnv {
    fn reset(&mut self, seed: u64) -> Seen {
        let n = self.places.len() as u64;
        self.at = (seed % n) as usize;
        let place = &mut self.places[self.at];
        let seen = place.env.reset(seed / n);
        self.player = self.is_taught.then(|| Box::new(place.rule.player()) as Player);
        self.watch(&seen);
        seen
    }

    fn step(&mut self, action: Action) -> Step {
        let place = &mut self.places[self.at];
        let step = place.env.step(action);
        let reward = step.reward * place.weight;
        self.watch(&step.seen);
        Step { reward, ..step }
    }

    fn advice(&self) -> Option<Action> {
        self.advice
    }

    fn work_usd(&self) -> f64 {
        let place = &self.places[self.at];
        place.env.work_usd() * place.weight
    }
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

    #[test]
    fn courses_take_turns_and_count_alike() {
        let dear = Arc::new(
            EnvSpec::published().configured(|c| c.types.iter_mut().for_each(|t| t.usd_per_hour *= 3.0)).unwrap(),
        );
        let course = |name: &str, spec: Arc<EnvSpec>, usd: f64| Course {
            name: name.into(),
            exact: spec.clone(),
            spec,
            rules: Vec::new(),
            teacher: Tuned { rule: Rule::Nothing, usd },
            at_stake_usd: usd,
            waste_deviation_usd: usd / 200.0,
        };
        let courses = [course("a", Arc::new(EnvSpec::published()), 10.0), course("b", dear, 30.0)];
        let first_step = |env: &mut dyn Environment, seed: u64| {
            env.reset(seed);
            (env.step(Action::Launch(2, 1)).reward, env.work_usd())
        };
        let mut both = to_evaluate(&courses, 1).remove(0);
        let (a, b) = (first_step(both.as_mut(), 4), first_step(both.as_mut(), 5));
        let mut each = to_learn(&courses, 3, true);
        each[0].reset(2);
        assert_eq!(each[0].advice(), Some(Action::Nothing));
        for (i, alike) in [(0, a), (1, b), (2, a)] {
            let found = first_step(each[i].as_mut(), 2);
            assert!((found.0 - alike.0).abs() < 1e-12 && (found.1 - alike.1).abs() < 1e-12, "{found:?} {alike:?}");
        }
        // waiting costs the same in both, machines three times as much: with weights 2 and 2/3 that is the same
        assert!(a.0 < 0.0 && b.0 < 0.0 && a.0 < b.0, "{a:?} {b:?}");
        assert!((a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
    }
}
