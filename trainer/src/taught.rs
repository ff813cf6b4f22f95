//! A twin with a rule that says what it would do, to learn from.

use std::sync::Arc;

use backtest::rules::Rule;
use contract::{Action, Mask, Observation};
use twin::env::{Environment, Seen, Step};
use twin::{EnvSpec, TwinEnv};

/// The rule, with what it remembers of the episode.
type Player = Box<dyn FnMut(&Observation, &Mask) -> Action + Send>;

/// A twin and a teacher that watches it.
pub struct TaughtEnv {
    env: TwinEnv,
    rule: Rule,
    player: Player,
    advice: Action,
}

impl TaughtEnv {
    /// Over this specification, with this teacher.
    pub fn new(spec: Arc<EnvSpec>, rule: Rule) -> Self {
        Self { env: TwinEnv::new(spec), rule, player: Box::new(rule.player()), advice: Action::Nothing }
    }

    fn watch(&mut self, seen: &Seen) {
        self.advice = (self.player)(self.env.observation(), &seen.mask);
    }
}

impl Environment for TaughtEnv {
    fn reset(&mut self, seed: u64) -> Seen {
        self.player = Box::new(self.rule.player());
        let seen = self.env.reset(seed);
        self.watch(&seen);
        seen
    }

    fn step(&mut self, action: Action) -> Step {
        let step = self.env.step(action);
        self.watch(&step.seen);
        step
    }

    fn advice(&self) -> Option<Action> {
        Some(self.advice)
    }

    fn work_usd(&self) -> f64 {
        self.env.work_usd()
    }
}
