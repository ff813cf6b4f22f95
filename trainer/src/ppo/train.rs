//! The training loop: rollout, advantages, update, evaluation.

use std::ops::ControlFlow;

use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use twin::env::Environment;

use super::TrainError;
use super::config::{PpoConfig, RewardScale};
use super::evaluate::{Choice, Worth, evaluate, mean_reward, mean_steps};
use super::gae;
use super::loss::Coefficients;
use super::lost::unless_lost;
use super::rollout::{Actor, Collector};
use super::state::State;
use super::track::Track;
use super::update::{Learner, Losses, Objective, Schedule};
use super::weights::Weights;

/// The first seed of evaluation episodes; training draws its seeds from a 64-bit generator and all but never meets them.
const EVALUATION_SEED: u64 = 0x0E7A_1000;

/// The seeds of the episodes that weights are compared by.
pub fn evaluation_seeds(config: &PpoConfig) -> Vec<u64> {
    (0..config.evaluate_episodes).map(|i| EVALUATION_SEED + i).collect()
}

/// What a training run works on.
pub struct Job {
    /// Environments that the policy learns in.
    pub envs: Vec<Box<dyn Environment>>,
    /// Environments that it is judged in; without any, the last weights are kept.
    pub evaluation: Vec<Box<dyn Environment>>,
    /// What to start from.
    pub start: Start,
    /// Where the network is computed.
    pub device: Device,
}

/// What a run starts from.
#[derive(Clone, Debug)]
pub enum Start {
    /// Fresh weights.
    Fresh,
    /// These weights, which learned elsewhere: the scale of their rewards is lowered if it is far too large here.
    Weights(Weights),
    /// Weights that were taught in these very environments.
    Taught(Weights),
    /// A run that was interrupted.
    Resume(Box<State>),
}

/// How far training is, after each update.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress {
    /// Environment steps done.
    pub steps: u64,
    /// Environment steps in all.
    pub steps_total: u64,
    /// Mean total reward of the training episodes that ended during this rollout, dollars.
    pub episode_reward: Option<f64>,
    /// Mean length of these episodes, steps.
    pub episode_steps: Option<f64>,
    /// Mean total reward at the evaluation after this update, if there was one, dollars.
    pub evaluation: Option<f64>,
    /// The best evaluation so far.
    pub best: Option<f64>,
    /// Adam's step size.
    pub learning_rate: f64,
    /// The share of the variance of the discounted rewards to come that the value head foresaw.
    pub explained_variance: f64,
    /// Losses of the last epoch.
    pub losses: Losses,
}

/// What training gives.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights with the best evaluation; the last ones if there was no evaluation.
    pub best: Weights,
    /// Their mean total reward.
    pub best_reward: Option<f64>,
    /// The last weights, to go on from.
    pub last: Weights,
    /// Environment steps that it has learned from, those before it was resumed among them.
    pub steps: u64,
    /// The progress of every update since the start, or since it was resumed.
    pub curve: Vec<Progress>,
}

/// A look at a run after an update, for those who want to keep it.
pub struct Snapshot<'a> {
    learner: &'a Learner,
    judge: &'a Judge,
    steps: u64,
}

impl Snapshot<'_> {
    /// The run as it is now, to go on from.
    pub fn state(&self) -> State {
        let (mean, square, updates) = self.learner.memory();
        State {
            steps: self.steps,
            last: self.learner.weights.clone(),
            best: self.judge.best.as_ref().map(|(worth, weights)| (worth.reward, weights.clone())),
            mean: mean.to_vec(),
            square: square.to_vec(),
            updates,
        }
    }
}

/// Is told of every update; may stop the run, which then ends as usual.
pub type Watcher<'a> = dyn FnMut(&Progress, &Snapshot) -> ControlFlow<()> + 'a;

/// Trains a policy with PPO. On the CPU the same arguments give the same weights, bit for bit, whatever the number of
/// threads; another kind of CPU may round differently.
///
/// # Errors
/// If the settings make no sense, there is no environment, a number stops being finite, or the GPU is gone.
pub fn train(job: Job, config: &PpoConfig, seed: u64, watch: &mut Watcher) -> Result<Trained, TrainError> {
    config.check()?;
    let device = job.device.clone();
    unless_lost(&device, || learn(job, config, seed, watch))
}

fn learn(job: Job, config: &PpoConfig, seed: u64, watch: &mut Watcher) -> Result<Trained, TrainError> {
    if job.envs.is_empty() {
        return Err(TrainError::NoEnvironment);
    }
    let (start, mut steps) = starting_state(&job, config, seed)?;
    let mut judge = Judge::new(job.evaluation, config);
    // what the best was worth when the run was ended says nothing where the records of a pool have changed since
    if let Some((_, best)) = &start.best {
        judge.look(best, steps)?;
    }
    // a run that goes on draws other episodes than those it began with
    let mut collector = Collector::new(job.envs, config, &start.last, config.mask_refused, seed ^ steps, &job.device);
    let mut learner = Learner::new(start, generator(seed ^ steps, 1), &job.device);
    judge.look(&learner.weights, steps)?;
    let (mut average, mut curve) = (None, Vec::new());
    let mut scaling = if matches!(job.start, Start::Weights(_)) { Scaling::Lowered } else { Scaling::IfMissing };
    while steps < config.steps {
        let how = schedule(config, steps as f64 / config.steps as f64);
        let learned = rollout_and_learn(&mut collector, &mut learner, config, &how, scaling)?;
        scaling = Scaling::Kept;
        steps += learned.steps;
        let averaged = follow(&mut average, &learner.weights, config.average_updates);
        let evaluation = judge.look_if_due(averaged, steps, steps >= config.steps)?;
        let outcomes = collector.take_finished();
        let now = Progress {
            steps,
            steps_total: config.steps,
            episode_reward: (!outcomes.is_empty()).then(|| mean_reward(&outcomes)),
            episode_steps: (!outcomes.is_empty()).then(|| mean_steps(&outcomes)),
            evaluation,
            best: judge.best_reward(),
            learning_rate: how.learning_rate,
            explained_variance: learned.explained_variance,
            losses: learned.losses,
        };
        curve.push(now);
        if watch(&now, &Snapshot { learner: &learner, judge: &judge, steps }).is_break() {
            judge.look(averaged, steps)?;
            break;
        }
    }
    let (best, best_reward) = judge.verdict(average.as_ref().unwrap_or(&learner.weights));
    Ok(Trained { best, best_reward, last: learner.weights, steps, curve })
}

/// The state that the run begins with: one to go on from, or given weights, or fresh ones.
fn starting_state(job: &Job, config: &PpoConfig, seed: u64) -> Result<(State, u64), TrainError> {
    let state = match &job.start {
        Start::Resume(state) => State::clone(state),
        Start::Weights(weights) | Start::Taught(weights) => State::of(weights.clone()),
        Start::Fresh => State::of(Weights::fresh(config, seed)),
    };
    state.last.check(config)?;
    if !state.last.is_finite() {
        return Err(TrainError::NotFinite { what: "a weight to start from", update: 0 });
    }
    let steps = state.steps;
    Ok((state, steps))
}

/// A source of random numbers of its own for each purpose.
pub(super) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // the environments have the streams from 0 up
    rng.set_stream(u64::MAX - stream);
    rng
}

/// What one rollout taught.
struct Learned {
    losses: Losses,
    steps: u64,
    explained_variance: f64,
}

fn rollout_and_learn(
    collector: &mut Collector,
    learner: &mut Learner,
    config: &PpoConfig,
    how: &Schedule,
    scaling: Scaling,
) -> Result<Learned, TrainError> {
    collector.collect(&learner.weights, Actor::Policy)?;
    let mut tracks = collector.tracks();
    set_reward_scale(&mut learner.weights, &mut tracks, config, scaling);
    estimate(&mut tracks, &learner.weights, config.gae_lambda);
    let explained_variance = explained_variance(&tracks);
    if config.normalise_advantages {
        gae::normalise(tracks.iter_mut().map(|track| track.advantages.as_mut_slice()));
    }
    let losses = learner.learn(&tracks, how)?;
    Ok(Learned { losses, steps: tracks.iter().map(|track| track.steps() as u64).sum(), explained_variance })
}

/// 1 − the variance of what the value head missed over that of what there was to foresee; 0 if there was nothing.
fn explained_variance(tracks: &[&mut Track]) -> f64 {
    let numbers = |of: fn(&Track) -> &Vec<f32>| tracks.iter().flat_map(move |track| of(track)).map(|&x| f64::from(x));
    let (_, missed) = gae::mean_and_deviation(numbers(|track| &track.advantages));
    let (_, whole) = gae::mean_and_deviation(numbers(|track| &track.returns));
    if whole > 0.0 { 1.0 - (missed / whole).powi(2) } else { 0.0 }
}

/// Moves the average towards the weights after an update by one part in `updates`; it begins with the first ones.
fn follow<'a>(average: &'a mut Option<Weights>, weights: &Weights, updates: usize) -> &'a Weights {
    let share = 1.0 / updates as f32;
    let average = average.get_or_insert_with(|| weights.clone());
    average.values.iter_mut().zip(&weights.values).for_each(|(mean, &now)| *mean = share * now + (1.0 - share) * *mean);
    average
}

fn schedule(config: &PpoConfig, done: f64) -> Schedule {
    let falling = |end: f64| 1.0 + (end - 1.0) * done;
    Schedule {
        objective: Objective::Ppo,
        by: Coefficients {
            clip: config.clip,
            value: config.value_coefficient,
            entropy: config.entropy_coefficient * falling(f64::from(config.entropy_end)) as f32,
            advice: config.advice_coefficient,
        },
        epochs: config.epochs,
        minibatch_sequences: config.minibatch_sequences,
        learning_rate: config.learning_rate * falling(config.learning_rate_end),
        grad_norm_max: config.grad_norm_max,
    }
}

/// Sets advantages and discounted rewards to come, in the scale of learning.
pub(super) fn estimate(tracks: &mut [&mut Track], weights: &Weights, lambda: f64) {
    tracks.iter_mut().for_each(|track| track.estimate(weights.reward_scale, lambda));
}

/// Whether the scale of the rewards is measured on a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    /// It stays as it is: this is not the first rollout.
    Kept,
    /// If the weights have none yet.
    IfMissing,
    /// If they have none, or one that is far too large here: the value's error would drown the rest. A smaller one does no harm.
    Lowered,
}

/// Sets the scale of the rewards as the settings say; the value head and what it said are converted.
pub(super) fn set_reward_scale(weights: &mut Weights, tracks: &mut [&mut Track], config: &PpoConfig, scaling: Scaling) {
    let before = weights.reward_scale;
    let scale = match (scaling, config.reward_scale) {
        (Scaling::Kept, _) => before,
        (_, RewardScale::Fixed(scale)) => scale as f32,
        (Scaling::IfMissing, RewardScale::Named(_)) if before != 1.0 => before,
        (Scaling::Lowered, RewardScale::Named(_)) if before != 1.0 => lowered(before, measured_scale(tracks)),
        (_, RewardScale::Named(_)) => measured_scale(tracks),
    };
    weights.set_reward_scale(scale);
    let factor = weights.reward_scale / before;
    tracks.iter_mut().flat_map(|track| &mut track.values).for_each(|value| *value *= factor);
}

/// How many times too large a scale may be.
const SCALE_OFF_MAX: f32 = 10.0;

fn lowered(scale: f32, measured: f32) -> f32 {
    if scale > SCALE_OFF_MAX * measured { measured } else { scale }
}

fn measured_scale(tracks: &[&mut Track]) -> f32 {
    let to_come: Vec<f64> = tracks.iter().flat_map(|track| track.rewards_to_come()).collect();
    let (_, deviation) = gae::mean_and_deviation(to_come.iter().copied());
    if deviation > 1e-9 { (1.0 / deviation) as f32 } else { 1.0 }
}

/// Evaluates now and then and remembers the best weights.
struct Judge {
    envs: Vec<Box<dyn Environment>>,
    seeds: Vec<u64>,
    every: u64,
    next: u64,
    best: Option<(Worth, Weights)>,
}

impl Judge {
    fn new(envs: Vec<Box<dyn Environment>>, config: &PpoConfig) -> Self {
        let seeds = evaluation_seeds(config);
        let every = config.evaluate_every_steps;
        Self { envs, seeds, every, next: every, best: None }
    }

    fn look_if_due(&mut self, weights: &Weights, steps: u64, last: bool) -> Result<Option<f64>, TrainError> {
        if steps < self.next && !last { Ok(None) } else { self.look(weights, steps) }
    }

    fn look(&mut self, weights: &Weights, steps: u64) -> Result<Option<f64>, TrainError> {
        if self.every == 0 || self.envs.is_empty() || self.seeds.is_empty() {
            return Ok(None);
        }
        let outcomes = evaluate(weights, &mut self.envs, &self.seeds, Choice::Argmax);
        // where episodes are long, as many steps are learned from as are evaluated on at least
        self.next = steps + self.every.max(outcomes.iter().map(|outcome| outcome.steps).sum());
        let worth = Worth::of(&outcomes);
        if !worth.reward.is_finite() {
            return Err(TrainError::NotFinite { what: "a reward of the evaluation", update: 0 });
        }
        if self.best.as_ref().is_none_or(|(best, _)| worth > *best) {
            self.best = Some((worth, weights.clone()));
        }
        Ok(Some(worth.reward))
    }

    fn best_reward(&self) -> Option<f64> {
        self.best.as_ref().map(|(worth, _)| worth.reward)
    }

    fn verdict(self, last: &Weights) -> (Weights, Option<f64>) {
        match self.best {
            Some((worth, weights)) => (weights, Some(worth.reward)),
            None => (last.clone(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_begins_with_the_first_weights_and_follows_by_one_part_in_its_updates() {
        let weights = |values: [f32; 2]| Weights { values: values.to_vec(), ..Weights::new(1, 0) };
        let mut average = None;
        assert_eq!(follow(&mut average, &weights([1.0, 4.0]), 4).values, [1.0, 4.0]);
        assert_eq!(follow(&mut average, &weights([5.0, 0.0]), 4).values, [2.0, 3.0]);
        assert_eq!(follow(&mut average, &weights([2.0, 7.0]), 4).values, [2.0, 4.0]);
        assert_eq!(follow(&mut average, &weights([9.0, 9.0]), 1).values, [9.0, 9.0]);
    }
}
