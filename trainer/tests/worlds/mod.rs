//! Tiny environments whose best policy is known.
#![allow(dead_code)]

use contract::{Action, FEATURE_COUNT, actions_up_to};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twin::env::{Environment, Seen, Step};

/// Several environments of one kind.
pub fn many(env: &impl Fn() -> Box<dyn Environment>, n: usize) -> Vec<Box<dyn Environment>> {
    (0..n).map(|_| env()).collect()
}

fn seen(at: usize, value: f32) -> Seen {
    let mut features = [0.0; FEATURE_COUNT];
    features[at] = value;
    // the actions of one machine
    let one = actions_up_to(1).len();
    Seen { features, mask: std::array::from_fn(|i| i < one) }
}

/// Shows a number from 0 to 2; the action with that number earns 1.
pub struct Echo {
    rng: ChaCha8Rng,
    shown: usize,
    left: usize,
}

impl Echo {
    const STEPS: usize = 20;
    /// Reward of the best policy.
    pub const BEST: f64 = Self::STEPS as f64;

    pub fn boxed() -> Box<dyn Environment> {
        Box::new(Self { rng: ChaCha8Rng::seed_from_u64(0), shown: 0, left: 0 })
    }

    fn show(&mut self) -> Seen {
        self.shown = self.rng.random_range(0..3);
        seen(self.shown, 1.0)
    }
}

impl Environment for Echo {
    fn reset(&mut self, seed: u64) -> Seen {
        self.rng = ChaCha8Rng::seed_from_u64(seed);
        self.left = Self::STEPS;
        self.show()
    }

    fn step(&mut self, action: Action) -> Step {
        let reward = f64::from(u8::from(action.index() == Some(self.shown)));
        self.left -= 1;
        Step { seen: self.show(), reward, done: self.left == 0 }
    }

    fn advice(&self) -> Option<Action> {
        Some(Action::at(self.shown))
    }
}

/// Another world in which everything is worth a thousand times as much.
pub struct Dear(Box<dyn Environment>);

impl Dear {
    pub fn boxed() -> Box<dyn Environment> {
        Box::new(Self(Echo::boxed()))
    }
}

impl Environment for Dear {
    fn reset(&mut self, seed: u64) -> Seen {
        self.0.reset(seed)
    }

    fn step(&mut self, action: Action) -> Step {
        let step = self.0.step(action);
        Step { reward: 1000.0 * step.reward, ..step }
    }
}

/// Shows a cue at the start and asks for it five steps later: launch S for the one, stop S for the other.
#[derive(Default)]
pub struct Recall {
    cue: bool,
    at: usize,
}

impl Recall {
    const LAST: usize = 5;

    pub fn boxed() -> Box<dyn Environment> {
        Box::new(Self::default())
    }

    /// One episode of a single action.
    pub fn play(&mut self, seed: u64, action: Action) -> f64 {
        self.reset(seed);
        std::iter::from_fn(|| Some(self.step(action))).take(Self::LAST + 1).map(|step| step.reward).sum()
    }
}

impl Environment for Recall {
    fn reset(&mut self, seed: u64) -> Seen {
        self.cue = ChaCha8Rng::seed_from_u64(seed).random();
        self.at = 0;
        seen(0, if self.cue { 1.0 } else { -1.0 })
    }

    fn step(&mut self, action: Action) -> Step {
        let done = self.at == Self::LAST;
        let right = action.index() == Some(1 + usize::from(self.cue));
        let reward = match (done, right) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => -1.0,
        };
        self.at += 1;
        Step { seen: seen(1, self.at as f32 / Self::LAST as f32), reward, done }
    }
}

/// Earns NaN in its third step.
pub struct Broken(u32);

impl Broken {
    pub fn boxed() -> Box<dyn Environment> {
        Box::new(Self(0))
    }
}

impl Environment for Broken {
    fn reset(&mut self, _: u64) -> Seen {
        self.0 = 0;
        seen(0, 1.0)
    }

    fn step(&mut self, _: Action) -> Step {
        self.0 += 1;
        Step { seen: seen(0, 1.0), reward: if self.0 == 3 { f64::NAN } else { 0.0 }, done: self.0 == 9 }
    }
}
