//! What a clairvoyant would do: the cheapest action sequence that a local search finds when it may play the same episode
//! again and again. No policy knows that much; how far one is from it is what is left to learn.
//!
//! Simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983) over whole sequences, each evaluated exactly in the twin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{Action, actions_up_to};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use twin::{EnvSpec, Environment, TwinEnv};

/// Temperatures at the start and at the end, as shares of the start's cost.
const TEMPERATURES: (f64, f64) = (4e-3, 2e-6);
/// Evaluations between two looks at the clock.
const CHECK_EVERY: u64 = 64;
/// How far an action is moved at most, steps.
const MOVE_MAX: usize = 12;
/// Rounds in which the searches exchange what they have found.
const ROUNDS: u32 = 3;

/// A sequence of actions and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One action a step; nothing is done after the last.
    pub actions: Vec<Action>,
    /// Cost of the episode.
    pub usd: f64,
}

/// Searches for a cheap sequence for the episode of `seed`, from the sequences `starts` on, for about `budget`, on all of
/// rayon's threads; `progress` is told the best cost so far. Never worse than the best start that is played.
///
/// # Panics
/// Without a start: a bug of the caller.
pub fn search(
    spec: &Arc<EnvSpec>,
    seed: u64,
    starts: &[Vec<Action>],
    budget: Duration,
    progress: &mut dyn FnMut(f64),
) -> Plan {
    let mut judge = Judge::new(spec, seed);
    let plans = starts.iter().map(|actions| judge.plan(actions.clone()));
    let mut best = plans.min_by(|a, b| a.usd.total_cmp(&b.usd)).expect("a start is given");
    let threads = rayon::current_num_threads() as u64;
    for round in 0..ROUNDS {
        // later rounds begin cooler: they refine what the first has found
        let hot = TEMPERATURES.0 * (TEMPERATURES.1 / TEMPERATURES.0).powf(f64::from(round) / f64::from(ROUNDS));
        let span = Span { hot, cold: TEMPERATURES.1, budget: budget / ROUNDS };
        let found: Vec<Plan> = (0..threads)
            .into_par_iter()
            .map(|i| anneal(&mut Judge::new(spec, seed), best.clone(), &span, u64::from(round) * threads + i))
            .collect();
        best = found.into_iter().chain([best]).min_by(|a, b| a.usd.total_cmp(&b.usd)).expect("the last best");
        progress(best.usd);
    }
    trimmed(best)
}

fn trimmed(mut plan: Plan) -> Plan {
    while plan.actions.last() == Some(&Action::Nothing) {
        plan.actions.pop();
    }
    plan
}

/// One annealing: temperatures as shares of the cost, and its time.
struct Span {
    hot: f64,
    cold: f64,
    budget: Duration,
}

fn anneal(judge: &mut Judge, start: Plan, span: &Span, stream: u64) -> Plan {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    rng.set_stream(stream);
    let choices = actions_up_to(judge.env.sim().config().machines_per_action_max);
    let began = Instant::now();
    let (mut at, mut best) = (start.clone(), start);
    let (mut temperature, mut evaluations) = (span.hot * best.usd, 0u64);
    loop {
        if evaluations.is_multiple_of(CHECK_EVERY) {
            let share = began.elapsed().as_secs_f64() / span.budget.as_secs_f64().max(1e-9);
            if share >= 1.0 {
                return best;
            }
            temperature = best.usd * span.hot * (span.cold / span.hot).powf(share);
        }
        evaluations += 1;
        let mut actions = at.actions.clone();
        change(&mut actions, choices, &mut rng);
        // what costs more than this is not accepted at this temperature and draw, so that it need not be played out
        let limit = at.usd - temperature * (1.0 - rng.random::<f64>()).ln();
        let Some(usd) = judge.usd_below(&actions, limit) else { continue };
        at = Plan { actions, usd };
        if at.usd < best.usd {
            best = at.clone();
        }
    }
}

/// Changes a sequence a little.
fn change(actions: &mut [Action], choices: &[(Action, &str)], rng: &mut ChaCha8Rng) {
    let n = actions.len();
    let i = rng.random_range(0..n);
    let near = |rng: &mut ChaCha8Rng| (i + rng.random_range(1..=MOVE_MAX)).min(n - 1);
    match rng.random_range(0..10) {
        0..3 => actions[i] = choices[rng.random_range(0..choices.len())].0,
        3..7 => {
            let j = near(rng);
            actions.swap(i, j);
        }
        7..8 => {
            let j = near(rng);
            actions[i..=j].rotate_left(1);
        }
        8..9 => {
            let j = near(rng);
            actions[i..=j].rotate_right(1);
        }
        _ => {
            // another size of the same kind
            let size = rng.random_range(0..contract::SIZE_COUNT as u16);
            actions[i] = match actions[i] {
                Action::Nothing => Action::Nothing,
                Action::Launch(_, machines) => Action::Launch(size, machines),
                Action::Stop(_, machines) => Action::Stop(size, machines),
            };
        }
    }
}

/// Plays sequences.
struct Judge {
    env: TwinEnv,
    seed: u64,
}

impl Judge {
    fn new(spec: &Arc<EnvSpec>, seed: u64) -> Self {
        Self { env: TwinEnv::new(spec.clone()), seed }
    }

    /// A sequence as long as the episode that it leads to, with its cost.
    fn plan(&mut self, mut actions: Vec<Action>) -> Plan {
        let usd = self.usd_below(&actions, f64::INFINITY).expect("nothing is above infinity");
        actions.resize(self.env.sim().tally().steps as usize, Action::Nothing);
        Plan { actions, usd }
    }

    /// The cost of the episode; none if it is above `limit`.
    fn usd_below(&mut self, actions: &[Action], limit: f64) -> Option<f64> {
        self.env.reset(self.seed);
        let (mut usd, mut k) = (0.0, 0);
        while !self.env.is_over() {
            usd -= self.env.act(actions.get(k).copied().unwrap_or_default());
            k += 1;
            if usd > limit {
                return None;
            }
        }
        Some(usd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_never_worse_than_its_start_and_costs_what_it_says() {
        let spec = Arc::new(EnvSpec::published());
        let start = crate::play::episode(&crate::rules::Rule::Production { tasks_per_core: 1.5 }, &spec, 0).unwrap();
        let mut told = Vec::new();
        let plan =
            search(&spec, 0, &[start.actions, Vec::new()], Duration::from_millis(300), &mut |usd| told.push(usd));
        assert!(plan.usd < start.outcome.total_usd, "{} {}", plan.usd, start.outcome.total_usd);
        assert!(told.windows(2).all(|w| w[1] <= w[0]) && told.last() == Some(&plan.usd));
        let mut env = TwinEnv::new(spec);
        env.reset(0);
        let mut actions = plan.actions.iter();
        while !env.is_over() {
            env.step(actions.next().copied().unwrap_or_default());
        }
        assert!((env.outcome().total_usd - plan.usd).abs() < 1e-9);
    }
}
