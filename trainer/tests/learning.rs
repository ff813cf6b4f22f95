//! What PPO must be able to learn, and what must stop it.

mod worlds;

use std::ops::ControlFlow;

use burn::tensor::Device;
use contract::Action;
use twin::env::Environment;
use twinscaler::ppo::loss::Coefficients;
use twinscaler::ppo::rollout::{Actor, Collector};
use twinscaler::ppo::track::Track;
use twinscaler::ppo::update::{Minibatch, Objective, loss_and_gradient};
use twinscaler::ppo::{
    Choice, CloningConfig, EpisodeOutcome, Job, PpoConfig, Start, Tape, TrainError, Trained, Weights, clone_teacher,
    evaluate, mean_reward, train,
};
use worlds::{Broken, Dear, Echo, Recall, many};

fn small() -> PpoConfig {
    PpoConfig {
        steps: 24_576,
        n_envs: 16,
        rollout_steps: 16,
        sequence_steps: 16,
        minibatch_sequences: 4,
        lstm_cells: 16,
        gae_lambda: 0.97,
        learning_rate: 5e-3,
        entropy_coefficient: 0.01,
        grad_norm_max: 0.5,
        evaluate_every_steps: 4096,
        ..PpoConfig::default()
    }
}

fn learn(env: impl Fn() -> Box<dyn Environment>, config: &PpoConfig, seed: u64) -> Result<Trained, TrainError> {
    let job =
        Job { envs: many(&env, config.n_envs), evaluation: many(&env, 1), start: Start::Fresh, device: Device::flex() };
    train(job, config, seed, &mut |_, _| ControlFlow::Continue(()))
}

fn score(weights: &Weights, env: impl Fn() -> Box<dyn Environment>, choice: Choice) -> f64 {
    let seeds: Vec<u64> = (0..64).collect();
    mean_reward(&evaluate(weights, &mut many(&env, 1), &seeds, choice))
}

#[test]
fn echo_is_learned() {
    let before = score(&Weights::new(16, 1), Echo::boxed, Choice::Argmax);
    let trained = learn(Echo::boxed, &small(), 1).unwrap();
    let after = score(&trained.best, Echo::boxed, Choice::Argmax);
    assert!(before < 0.6 * Echo::BEST && after > 0.98 * Echo::BEST, "{before} {after}");
    assert!(score(&trained.last, Echo::boxed, Choice::Sample) > 0.8 * Echo::BEST);
}

#[test]
fn recall_is_learned_with_the_state_that_the_lstm_carries_and_not_without() {
    // without memory the two cues look alike when it counts, so that every answer is right half of the time
    for constant in [Action::Launch(0, 1), Action::Stop(0, 1)] {
        let total: f64 = (0..64).map(|seed| Recall::default().play(seed, constant)).sum();
        assert!((total / 64.0).abs() < 0.3, "{total}");
    }
    let after = |memory: bool| {
        let trained = learn(Recall::boxed, &PpoConfig { steps: 40_000, memory, ..small() }, 3).unwrap();
        score(&trained.best, Recall::boxed, Choice::Argmax)
    };
    let (with, without) = (after(true), after(false));
    assert!(with > 0.95 && without < 0.3, "{with} {without}");
}

#[test]
fn a_network_without_memory_says_the_same_to_the_same_whatever_was_before() {
    let mut weights = Weights::fresh(&PpoConfig { memory: false, ..small() }, 3);
    let head = weights.values.len() - 17 * 8;
    weights.values[head..].iter_mut().for_each(|w| *w *= 50.0);
    let config = PpoConfig { memory: false, ..small() };
    let mut collector = Collector::new(many(&Recall::boxed, 16), &config, &weights, true, 1, &Device::flex());
    collector.collect(&weights, Actor::Policy).unwrap();
    // the last step of an episode looks the same in all of them
    let values = |track: &Track| {
        let last = (0..track.steps()).filter(|&t| track.discounts[t] == 0.0);
        last.map(|t| track.values[t]).collect::<Vec<_>>()
    };
    let values: Vec<f32> = collector.tracks().iter().flat_map(|track| values(track)).collect();
    assert!(values.len() > 16 && values.iter().all(|v| *v == values[0]), "{values:?}");
}

#[test]
fn weights_of_another_network_are_not_learned_on_from() {
    let job = Job {
        envs: many(&Echo::boxed, 16),
        evaluation: vec![],
        start: Start::Weights(Weights::new(8, 1)),
        device: Device::flex(),
    };
    let error = train(job, &small(), 1, &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("lstm_cells = 8 and the settings say 16"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_weights_whatever_the_number_of_threads() {
    let config = PpoConfig { steps: 2048, ..small() };
    let hash = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| learn(Recall::boxed, &config, seed).unwrap().last.sha256())
    };
    assert_eq!(hash(1, 5), hash(2, 5));
    assert_ne!(hash(1, 5), hash(1, 6));
}

#[test]
fn a_rollout_that_is_replayed_in_sequences_gives_the_same_probabilities_and_values() {
    let two = PpoConfig { lstm_layers: 2, ..small() };
    for config in [small(), PpoConfig { memory: false, ..small() }, two] {
        replayed(&config);
    }
}

fn replayed(config: &PpoConfig) {
    let device = Device::flex();
    let mut weights = Weights::fresh(config, 3);
    let head = weights.values.len() - 17 * 8;
    weights.values[head..].iter_mut().for_each(|w| *w *= 50.0);
    let mut collector = Collector::new(many(&Recall::boxed, 16), config, &weights, true, 1, &device);
    for _ in 0..2 {
        collector.collect(&weights, Actor::Policy).unwrap();
        let tracks = collector.tracks();
        let starts = tracks.iter().flat_map(|track| &track.keep).filter(|&&keep| keep == 0.0).count();
        assert!(starts > 16, "episodes start within");
        let mut sequences: Vec<_> =
            (0..16).rev().flat_map(|i| (0..tracks[i].sequences()).map(move |k| (i, k))).collect();
        sequences.reverse();
        for track in tracks {
            let n = track.steps();
            (track.advantages, track.returns) = (vec![0.0; n], track.values[..n].to_vec());
        }
        let minibatch = Minibatch::pick(&collector.tracks(), &sequences);
        let by = Coefficients { clip: 0.2, value: 1.0, entropy: 0.0, advice: 0.0 };
        let (losses, _) = loss_and_gradient(&weights, &minibatch, Objective::Ppo, by, &device, &mut Tape::default());
        assert!(losses.kl.abs() < 1e-8 && losses.value < 1e-8, "{losses:?}");
    }
}

#[test]
fn a_reward_that_is_not_a_number_stops_training() {
    let error = learn(Broken::boxed, &small(), 1).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { what: "a reward of the evaluation", .. }), "{error}");
    let blind = PpoConfig { evaluate_every_steps: 0, ..small() };
    let error = learn(Broken::boxed, &blind, 1).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { what: "a reward", .. }), "{error}");
}

#[test]
fn a_learning_rate_that_explodes_stops_training() {
    let config = PpoConfig { learning_rate: 1e30, evaluate_every_steps: 0, ..small() };
    let error = learn(Echo::boxed, &config, 1).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
}

#[test]
fn the_best_weights_are_kept_and_training_goes_on_from_the_last() {
    let first = learn(Echo::boxed, &PpoConfig { steps: 12_288, ..small() }, 1).unwrap();
    let best = first.curve.iter().filter_map(|p| p.evaluation).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(first.best_reward, Some(best));
    // training that makes things worse must not replace the start
    let config = PpoConfig { learning_rate: 0.5, steps: 4096, ..small() };
    let job = Job {
        envs: many(&Echo::boxed, 16),
        evaluation: many(&Echo::boxed, 1),
        start: Start::Weights(first.best.clone()),
        device: Device::flex(),
    };
    let second = train(job, &config, 2, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert!(second.best_reward.unwrap() >= best);
}

/// Learns in a world that is a thousand times as dear as the one whose rewards the start's scale is right for.
fn learn_dearly(start: Start, config: &PpoConfig) -> Trained {
    let (envs, evaluation) = (many(&Dear::boxed, 16), many(&Dear::boxed, 1));
    let job = Job { envs, evaluation, start, device: Device::flex() };
    train(job, config, 1, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn weights_from_elsewhere_learn_whatever_a_reward_is_worth_here() {
    let given = Weights { reward_scale: 0.5, ..Weights::new(16, 1) };
    let learned = |start: Start| score(&learn_dearly(start, &small()).last, Echo::boxed, Choice::Sample);
    let (anew, as_before) = (learned(Start::Weights(given.clone())), learned(Start::Taught(given)));
    assert!(anew > 0.95 * Echo::BEST && as_before < 0.8 * Echo::BEST, "{anew} {as_before}");
}

#[test]
fn weights_from_elsewhere_come_back_as_they_were_if_nothing_is_better() {
    let given = Weights { reward_scale: 0.5, ..Weights::new(16, 1) };
    let config = PpoConfig { learning_rate: 1e-9, steps: 512, ..small() };
    let trained = learn_dearly(Start::Weights(given.clone()), &config);
    assert!(trained.last.reward_scale < 0.01, "{}", trained.last.reward_scale);
    assert_eq!(trained.best, given);
}

#[test]
fn as_many_steps_are_learned_from_as_are_evaluated_on() {
    // an episode of Echo has 20 steps, so that an evaluation of 64 takes 1280: five updates of 256
    let evaluated = |evaluate_every_steps: u64| {
        let config = PpoConfig { steps: 3072, evaluate_episodes: 64, evaluate_every_steps, ..small() };
        let trained = learn(Echo::boxed, &config, 1).unwrap();
        let looks = trained.curve.iter().filter(|p| p.evaluation.is_some());
        looks.map(|p| p.steps).collect::<Vec<_>>()
    };
    assert_eq!(evaluated(1), [1280, 2560, 3072]);
    assert_eq!(evaluated(2048), [2048, 3072]);
}

#[test]
fn a_stopped_run_returns_what_it_has() {
    let job = Job { envs: many(&Echo::boxed, 16), evaluation: vec![], start: Start::Fresh, device: Device::flex() };
    let trained = train(job, &small(), 1, &mut |p, _| {
        if p.steps >= 512 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(trained.curve.len(), 2);
    assert_eq!(trained.best, trained.last);
}

#[test]
fn a_clone_does_what_its_teacher_does_with_one_lstm_and_with_two() {
    for lstm_layers in [1, 2] {
        let cloning = CloningConfig { steps: 16_384, learning_rate: 2e-2, ..CloningConfig::default() };
        let config = PpoConfig { lstm_layers, cloning, ..small() };
        let envs = many(&Echo::boxed, 16);
        let (weights, losses) = clone_teacher(envs, &config, 1, &Device::flex()).unwrap();
        let (first, last) = (losses[0].policy, losses.last().unwrap().policy);
        assert!(weights.layers == lstm_layers && last < 0.5 * first, "{lstm_layers}: {first} {last}");
        let after = score(&weights, Echo::boxed, Choice::Argmax);
        assert!(after > 0.95 * Echo::BEST, "{lstm_layers}: {after}");
    }
}

#[test]
fn environments_take_turns_and_the_outcomes_are_in_the_order_of_the_seeds() {
    let play = |n: usize| evaluate(&Weights::new(4, 1), &mut many(&Echo::boxed, n), &[7, 8, 9], Choice::Sample);
    let two = play(2);
    assert_eq!(two.iter().map(|o| (o.env, o.seed)).collect::<Vec<_>>(), [(0, 7), (1, 8), (0, 9)]);
    let rewards = |outcomes: Vec<EpisodeOutcome>| outcomes.iter().map(|o| o.reward).collect::<Vec<_>>();
    assert_eq!(rewards(two), rewards(play(1)));
}
