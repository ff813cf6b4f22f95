//! The whole way from courses to a policy: clone the best rules, learn on, keep the best by evaluation.

use burn::tensor::Device;

use crate::course::{Course, Teachers, to_evaluate, to_learn};
use crate::ppo::cloning::clone_teacher;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::{Job, Start, Trained, Watcher, evaluation_seeds, train};
use crate::ppo::{Choice, TrainError, Weights, Worth, evaluate};

/// Trains on courses from `start`; fresh weights are first taught what the best rules do, for PPO from nothing tends to
/// settle on always launching.
///
/// # Errors
/// As for training.
pub fn learn(
    courses: &[Course],
    start: Start,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
    watch: &mut Watcher,
) -> Result<Trained, TrainError> {
    let config = &for_all(courses, config);
    let is_paired = is_paired(&start, config);
    let start = match start {
        Start::Fresh => Start::Taught(first_weights(courses, config, seed, device)?),
        start => start,
    };
    let advise = config.advice_coefficient > 0.0;
    let teachers = Teachers { advise, compete: is_paired, discount: config.gamma };
    let job = Job {
        envs: to_learn(courses, config.n_envs, teachers),
        evaluation: to_evaluate(courses, rayon::current_num_threads()),
        start,
        device: device.clone(),
    };
    train(job, config, seed, watch)
}

/// The settings with which every course is learned, and evaluated as often as the others.
fn for_all(courses: &[Course], config: &PpoConfig) -> PpoConfig {
    PpoConfig {
        n_envs: config.n_envs.next_multiple_of(courses.len()),
        evaluate_episodes: config.evaluate_episodes.next_multiple_of(courses.len() as u64),
        ..config.clone()
    }
}

/// How much less than the policy at hand a clone of the best rules must cost to be learned on from in its place: what a clone
/// has not learned yet, learning may still bring, but it takes long.
const CLONE_SAVES_MIN: f64 = 0.02;

/// What a policy's successor begins with: the policy, or a clone of the best rules where that one clearly costs less, or gets
/// done what the policy does not. A policy that is at a loss on a load may be far from any good one, and then learning on from
/// it finds nothing.
///
/// # Errors
/// As for training.
pub fn better_start(
    courses: &[Course],
    weights: Weights,
    config: &PpoConfig,
    seed: u64,
    device: &Device,
) -> Result<Start, TrainError> {
    weights.check(config)?;
    if config.cloning.steps == 0 {
        return Ok(Start::Weights(weights));
    }
    let config = &for_all(courses, config);
    let clone = first_weights(courses, config, seed, device)?;
    let [own, of_clone] = [&weights, &clone].map(|weights| worth(weights, courses, config));
    let (usd, clone_usd) = (-own.reward, -of_clone.reward);
    let saves = of_clone.finished == own.finished && clone_usd < (1.0 - CLONE_SAVES_MIN) * usd;
    let is_clone = of_clone.finished > own.finished || saves;
    if !is_clone {
        return Ok(Start::Weights(weights));
    }
    tracing::warn!(
        usd,
        clone_usd,
        finished = own.finished,
        clone_finished = of_clone.finished,
        "the policy costs more an episode than a clone of the tuned rules, or leaves more undone: the clone is learned on from"
    );
    Ok(Start::Taught(clone))
}

fn worth(weights: &Weights, courses: &[Course], config: &PpoConfig) -> Worth {
    let mut envs = to_evaluate(courses, rayon::current_num_threads());
    Worth::of(&evaluate(weights, &mut envs, &evaluation_seeds(config), Choice::Argmax))
}

/// What training from nothing begins with: a clone of the best rules, unless the settings want fresh weights.
fn first_weights(courses: &[Course], config: &PpoConfig, seed: u64, device: &Device) -> Result<Weights, TrainError> {
    let mut weights = Weights::fresh(config, seed);
    if config.cloning.steps > 0 {
        let envs = to_learn(courses, config.n_envs, Teachers { advise: true, ..Teachers::default() });
        weights = clone_teacher(envs, config, seed, device)?.0;
    }
    if config.paired_rewards {
        weights.foresee_gains();
    }
    Ok(weights)
}

/// Whether what is learned are gains over a teacher: who goes on from weights goes on with what their value foresees.
pub fn is_paired(start: &Start, config: &PpoConfig) -> bool {
    match start {
        Start::Fresh => config.paired_rewards,
        Start::Weights(weights) | Start::Taught(weights) => weights.paired,
        Start::Resume(state) => state.last.paired,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backtest::tune::Tuned;
    use twin::EnvSpec;

    use super::*;
    use crate::course::where_idling_is_cheapest;
    use crate::device::{DeviceChoice, select};
    use crate::ppo::CloningConfig;

    fn settings(cloning_steps: u64) -> PpoConfig {
        let cloning = CloningConfig { steps: cloning_steps, ..CloningConfig::default() };
        PpoConfig { lstm_cells: 16, n_envs: 8, evaluate_episodes: 4, cloning, ..PpoConfig::default() }
    }

    fn begin(weights: &Weights, cloning_steps: u64) -> Weights {
        let spec = Arc::new(EnvSpec::published());
        let tuned = Tuned { rule: "rule:backlog=0.65,1,2".parse().unwrap(), usd: 20.0 };
        let courses = [Course::with_rules("paper", spec.clone(), spec, vec![tuned]).unwrap()];
        let (config, device) = (settings(cloning_steps), select(DeviceChoice::Cpu).unwrap());
        match better_start(&courses, weights.clone(), &config, 1, &device).unwrap() {
            Start::Weights(weights) | Start::Taught(weights) => weights,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_policy_that_is_at_a_loss_gives_way_to_a_clone_of_the_rules_and_a_good_one_does_not() {
        let fresh = Weights::fresh(&settings(1), 3);
        let clone = begin(&fresh, 40_000);
        assert_ne!(clone.values, fresh.values);
        // of a teacher that was hardly listened to there is no good clone, and without cloning there is none
        for cloning_steps in [1, 0] {
            assert_eq!(begin(&clone, cloning_steps).values, clone.values);
        }
    }

    #[test]
    fn a_policy_that_leaves_work_undone_gives_way_however_little_it_costs() {
        let courses = [where_idling_is_cheapest(30, &["rule:queue=0.5,5".parse().unwrap()])];
        let mut idle = Weights::fresh(&settings(1), 3);
        idle.values.fill(0.0);
        let device = select(DeviceChoice::Cpu).unwrap();
        let start = better_start(&courses, idle.clone(), &settings(40_000), 1, &device).unwrap();
        let Start::Taught(clone) = start else { panic!("the clone") };
        let [idle, clone] = [&idle, &clone].map(|weights| worth(weights, &courses, &settings(1)));
        assert!(idle.finished < clone.finished && idle.reward > clone.reward, "{idle:?} {clone:?}");
    }
}
