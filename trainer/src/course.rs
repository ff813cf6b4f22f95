//! What a policy learns in: one or more loads, each with the rule that is best for it.

use std::sync::Arc;

use backtest::play::outcomes;
use backtest::rules::Rule;
use backtest::tune::Tuned;
use contract::{Action, Mask, Observation};
use twin::env::{Environment, Seen, Step};
use twin::{BootModel, EnvSpec, TwinEnv};

use crate::compare::{best_of, tuned_rules};

/// Seeds that rules are tuned on.
pub const TUNE_SEEDS: [u64; 4] = [1, 2, 3, 4];

/// The published load with boots drawn from 45 to 97 s, both orders of batches.
pub fn published_twin() -> EnvSpec {
    let boot = BootModel::Uniform { low_s: 45.0, high_s: 97.0, seed: 0 };
    EnvSpec::published().configured(|config| config.boot = boot).expect("a valid boot time")
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
}

/// Share of the teacher's cost that is at stake at least, so that a load without anything to decide counts no more than that.
const AT_STAKE_MIN: f64 = 0.02;

fn at_stake_usd(spec: &Arc<EnvSpec>, teacher: &Tuned) -> f64 {
    let played = outcomes(&teacher.rule, spec, &TUNE_SEEDS).expect("a rule never fails");
    let hours = played.iter().map(|o| o.hours).sum::<f64>() / played.len() as f64;
    let usd_per_hour: f64 = spec.config().types.iter().map(|t| f64::from(t.bounds.min()) * t.usd_per_hour).sum();
    (teacher.usd - hours * usd_per_hour).max(AT_STAKE_MIN * teacher.usd)
}

impl Course {
    /// A load with its teacher tuned. Learning happens in `spec`, and `exact` is what counts in the end.
    pub fn new(name: &str, spec: Arc<EnvSpec>, exact: Arc<EnvSpec>) -> Self {
        let rules = tuned_rules(&spec, &TUNE_SEEDS);
        let teacher = best_of(&rules);
        tracing::info!(course = name, rule = %teacher.rule, usd = teacher.usd, "the teacher");
        let at_stake_usd = at_stake_usd(&spec, &teacher);
        Self { name: name.to_owned(), spec, rules, teacher, exact, at_stake_usd }
    }
}

/// Environments over these courses; seed s is an episode of course s mod n.
pub fn environments(courses: &[Course], n: usize, are_taught: bool) -> Vec<Box<dyn Environment>> {
    (0..n).map(|_| Box::new(CoursesEnv::new(courses, are_taught)) as Box<dyn Environment>).collect()
}

/// The rule, with what it remembers of the episode.
type Player = Box<dyn FnMut(&Observation, &Mask) -> Action + Send>;

/// One of the courses.
struct Place {
    env: TwinEnv,
    rule: Rule,
    /// What a dollar counts here: the same is at stake in all courses, so that none drowns the others.
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
    fn new(courses: &[Course], is_taught: bool) -> Self {
        let mean_usd = courses.iter().map(|c| c.at_stake_usd).sum::<f64>() / courses.len() as f64;
        let place = |course: &Course| Place {
            env: TwinEnv::new(course.spec.clone()),
            rule: course.teacher.rule,
            weight: mean_usd / course.at_stake_usd,
        };
        Self { places: courses.iter().map(place).collect(), at: 0, player: None, is_taught, advice: None }
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
        };
        let courses = [course("a", Arc::new(EnvSpec::published()), 10.0), course("b", dear, 30.0)];
        let mut env = environments(&courses, 1, true).remove(0);
        let mut first_step = |seed: u64| {
            env.reset(seed);
            let advice = env.advice();
            (env.step(Action::Launch(2)).reward, env.work_usd(), advice)
        };
        let (a, b) = (first_step(4), first_step(5));
        assert_eq!(a.2, Some(Action::Nothing));
        // waiting costs the same in both, machines three times as much: with weights 2 and 2/3 that is the same
        assert!(a.0 < 0.0 && b.0 < 0.0 && a.0 < b.0, "{a:?} {b:?}");
        assert!((a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
    }
}
