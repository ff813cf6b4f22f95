//! Courses as environments: to learn in, with teachers beside the learner, and to be evaluated in.

use backtest::rules::Rule;
use contract::{Action, Mask, Observation};
use twin::TwinEnv;
use twin::env::{Environment, Seen, Step};

use super::{Course, Lot};

/// What teachers do beside one who learns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Teachers {
    /// They say what they would do.
    pub advise: bool,
    /// They play the same episode for themselves, and what they waste in the same step is taken off the rewards. What came by
    /// chance cancels then, and nothing else changes: the teacher does not know what the learner does (input-dependent
    /// baselines, Mao et al. 2019).
    pub compete: bool,
    /// The learner's discount a step, at least: what they waste later than its episode counts as it counts its own.
    pub discount: f64,
}

/// Environments to learn in. Each stays with one course, so that all get as many steps, however long their episodes are,
/// and what is to be foreseen varies as much in each: otherwise the value head sees only the one that varies most.
pub fn to_learn(courses: &[Course], n: usize, teachers: Teachers) -> Vec<Box<dyn Environment>> {
    let weights = weights(courses, |lot| lot.waste_deviation_usd);
    let of = |i: usize| {
        let place = i % courses.len();
        CoursesEnv::new(&courses[place..=place], &weights[place..=place], teachers)
    };
    (0..n).map(|i| Box::new(of(i)) as Box<dyn Environment>).collect()
}

/// Environments to evaluate in, all alike: seed s is an episode of course s mod n, and a percent of what its teacher pays
/// counts the same in each.
pub fn to_evaluate(courses: &[Course], n: usize) -> Vec<Box<dyn Environment>> {
    let weights = weights(courses, |lot| lot.usd);
    (0..n).map(|_| Box::new(CoursesEnv::new(courses, &weights, Teachers::default())) as Box<dyn Environment>).collect()
}

/// What a dollar counts in each lot of each course, so that none drowns the others; 1 in a lot that is as large as the mean
/// course.
fn weights(courses: &[Course], size: fn(&Lot) -> f64) -> Vec<Vec<f64>> {
    let mean_of = |course: &Course| course.lots.iter().map(size).sum::<f64>() / course.lots.len() as f64;
    let mean = courses.iter().map(mean_of).sum::<f64>() / courses.len() as f64;
    courses.iter().map(|course| course.lots.iter().map(|lot| mean / size(lot)).collect()).collect()
}

/// The rule, with what it remembers of the episode.
type Player = Box<dyn FnMut(&Observation, &Mask) -> Action + Send>;

/// A teacher that plays the same episode for itself.
struct Rival {
    env: TwinEnv,
    player: Player,
    work_usd: f64,
}

impl Rival {
    fn of(course: &Course) -> Self {
        let env = TwinEnv::new(course.spec.clone());
        Self { env, player: Box::new(course.teacher.rule.player()), work_usd: 0.0 }
    }

    fn reset(&mut self, seed: u64, teacher: Rule) {
        self.env.reset(seed);
        self.player = Box::new(teacher.player());
        self.work_usd = 0.0;
    }

    /// What it wastes in its next step, as a reward; nothing once its episode is over.
    fn step(&mut self) -> f64 {
        if self.env.is_over() {
            return 0.0;
        }
        let action = (self.player)(self.env.observation(), &self.env.mask());
        let reward = self.env.step(action).reward;
        let before = std::mem::replace(&mut self.work_usd, self.env.work_usd());
        reward + self.work_usd - before
    }

    /// What it still wastes once the learner is done, discounted from the learner's last step on.
    fn rest(&mut self, discount: f64) -> f64 {
        let (mut rest, mut counts) = (0.0, 1.0);
        while !self.env.is_over() {
            counts *= discount;
            rest += counts * self.step();
        }
        rest
    }
}

/// One of the courses.
struct Place {
    env: TwinEnv,
    rival: Option<Rival>,
    /// Its workloads, and what a dollar counts in each.
    lots: Vec<(Lot, f64)>,
}

/// An environment that takes turns with several courses, with teachers beside it if they are wanted.
struct CoursesEnv {
    places: Vec<Place>,
    at: usize,
    /// What a dollar counts in this episode, and its discount.
    weight: f64,
    discount: f64,
    player: Option<Player>,
    teachers: Teachers,
    advice: Option<Action>,
}

impl CoursesEnv {
    fn new(courses: &[Course], weights: &[Vec<f64>], teachers: Teachers) -> Self {
        let place = |(course, weights): (&Course, &Vec<f64>)| Place {
            env: TwinEnv::new(course.spec.clone()),
            rival: teachers.compete.then(|| Rival::of(course)),
            lots: course.lots.iter().copied().zip(weights.iter().copied()).collect(),
        };
        let places = courses.iter().zip(weights).map(place).collect();
        Self { places, at: 0, weight: 1.0, discount: 0.0, player: None, teachers, advice: None }
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
        let seed = seed / n;
        let seen = place.env.reset(seed);
        let (lot, weight) = place.lots[(seed % place.lots.len() as u64) as usize];
        if let Some(rival) = &mut place.rival {
            rival.reset(seed, lot.teacher);
        }
        (self.weight, self.discount) = (weight, lot.discount);
        self.player = self.teachers.advise.then(|| Box::new(lot.teacher.player()) as Player);
        self.watch(&seen);
        seen
    }

    fn step(&mut self, action: Action) -> Step {
        let place = &mut self.places[self.at];
        let step = place.env.step(action);
        let discount = self.discount.max(self.teachers.discount);
        let rest = |rival: &mut Rival| if step.done { rival.rest(discount) } else { 0.0 };
        let wasted_usd = place.rival.as_mut().map_or(0.0, |rival| rival.step() + rest(rival));
        let reward = (step.reward - wasted_usd) * self.weight;
        self.watch(&step.seen);
        Step { reward, ..step }
    }

    fn advice(&self) -> Option<Action> {
        self.advice
    }

    fn is_cut_off(&self) -> bool {
        self.places[self.at].env.is_cut_off()
    }

    fn work_usd(&self) -> f64 {
        self.places[self.at].env.work_usd() * self.weight
    }

    fn discount(&self) -> f64 {
        self.discount
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backtest::tune::Tuned;
    use std::sync::Arc;
    use twin::EnvSpec;

    /// A course whose teacher does nothing.
    fn course(name: &str, spec: Arc<EnvSpec>, usd: f64) -> Course {
        Course {
            name: name.into(),
            exact: spec.clone(),
            spec,
            rules: Vec::new(),
            teacher: Tuned { rule: Rule::Nothing, usd },
            lots: vec![Lot { teacher: Rule::Nothing, usd, discount: 0.9, waste_deviation_usd: usd / 200.0 }; 2],
        }
    }

    /// What a learner that does this is told, step by step, and what it wastes for itself: reward and growth of the work.
    fn played(compete: bool, discount: f64, action_at: impl Fn(usize) -> Action) -> Vec<f64> {
        let courses = [course("a", Arc::new(EnvSpec::published()), 10.0)];
        let mut env = to_learn(&courses, 1, Teachers { advise: false, compete, discount }).remove(0);
        env.reset(7);
        let (mut told, mut work_usd) = (Vec::new(), 0.0);
        loop {
            let step = env.step(action_at(told.len()));
            told.push(step.reward + env.work_usd() - work_usd);
            work_usd = env.work_usd();
            if step.done {
                return told;
            }
        }
    }

    #[test]
    fn who_does_what_its_rival_does_gains_and_loses_nothing() {
        let told = played(true, 0.93, |_| Action::Nothing);
        assert!(told.len() > 100 && told.iter().all(|x| x.abs() < 1e-9), "{told:?}");
        assert!(played(false, 0.93, |_| Action::Nothing).iter().any(|x| *x < -0.01));
    }

    #[test]
    fn a_rival_takes_what_it_wastes_off_each_reward_and_what_it_has_left_off_the_last() {
        let busy = |i: usize| if i < 30 { Action::Launch(2, 1) } else { Action::Nothing };
        // the learner's discount, and where that is less the lot's, which is 0.9
        for (discount, counts) in [(0.99, 0.99f64), (0.93, 0.93), (0.5, 0.9)] {
            let told = played(true, discount, busy);
            let (own, rivals) = (played(false, discount, busy), played(false, discount, |_| Action::Nothing));
            takes_off(&told, &own, &rivals, counts);
        }
    }

    fn takes_off(told: &[f64], own: &[f64], rivals: &[f64], discount: f64) {
        let n = own.len();
        assert!(n < rivals.len(), "more machines are done earlier: {n} {}", rivals.len());
        for i in 0..n - 1 {
            assert!((told[i] - (own[i] - rivals[i])).abs() < 1e-9, "{i}");
        }
        let left: f64 = rivals[n - 1..].iter().zip(0..).map(|(x, k)| x * discount.powi(k)).sum();
        assert!((told[n - 1] - (own[n - 1] - left)).abs() < 1e-9, "{} {} {left}", told[n - 1], own[n - 1]);
    }

    #[test]
    fn courses_take_turns_and_count_alike() {
        let dear = Arc::new(
            EnvSpec::published().configured(|c| c.types.iter_mut().for_each(|t| t.usd_per_hour *= 3.0)).unwrap(),
        );
        let courses = [course("a", Arc::new(EnvSpec::published()), 10.0), course("b", dear, 30.0)];
        let first_step = |env: &mut dyn Environment, seed: u64| {
            env.reset(seed);
            (env.step(Action::Launch(2, 1)).reward, env.work_usd())
        };
        let mut both = to_evaluate(&courses, 1).remove(0);
        let (a, b) = (first_step(both.as_mut(), 4), first_step(both.as_mut(), 5));
        let mut each = to_learn(&courses, 3, Teachers { advise: true, ..Teachers::default() });
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
