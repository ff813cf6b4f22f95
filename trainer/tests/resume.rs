//! `train --resume`: a run that was ended goes on where it was, and only with the options it had.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use contract::manifest::Manifest;
use twinscaler::commands::train::{TrainArgs, TrainCommandError, run};
use twinscaler::ppo::State;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: TrainArgs,
}

const SETTINGS: &str = "
n_envs = 4
rollout_steps = 64
sequence_steps = 32
lstm_cells = 8
evaluate_every_steps = 1024
evaluate_episodes = 2
[cloning]
steps = 512
";

fn train(dir: &Path, options: &[&str], is_stopped: bool) -> Result<(), TrainCommandError> {
    let settings = dir.join("small.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let (out, settings) = (dir.join("out"), settings.display().to_string());
    let fixed =
        ["train", "--workload", "paper", "--exact", "--steps", "4096", "--device", "cpu", "--config", &settings];
    let args = Cli::parse_from(fixed.iter().chain(&["--out", &out.display().to_string()]).chain(options)).args;
    let lessons = args.load_names().unwrap().iter().map(|name| args.lesson(name).unwrap()).collect();
    run(&args, lessons, &AtomicBool::new(is_stopped))
}

/// The steps that the run's lines are about.
fn steps(dir: &Path) -> Vec<u64> {
    let lines = std::fs::read_to_string(dir.join("out/progress.jsonl")).unwrap();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["global_step"].as_u64().unwrap();
    lines.lines().map(step).collect()
}

#[test]
fn a_run_that_was_ended_goes_on_where_it_was_with_the_options_it_had() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &[], true).unwrap();
    let state = State::from_bytes(&std::fs::read(dir.path().join("out/state")).unwrap()).unwrap();
    assert_eq!((state.steps, steps(dir.path())), (256, vec![256]), "one rollout of four environments");

    let other = train(dir.path(), &["--resume", "--seed", "2"], false).unwrap_err();
    assert!(other.is_input() && other.to_string().contains("its options are others (paper "), "{other}");

    train(dir.path(), &["--resume"], false).unwrap();
    let expected: Vec<u64> = (1..=16).map(|k| 256 * k).collect();
    assert_eq!(steps(dir.path()), expected, "its lines go on");
    let manifest = std::fs::read(dir.path().join("out/manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.lstm_cells, 8);

    // and a run that begins anew takes nothing of the old one
    train(dir.path(), &[], true).unwrap();
    assert_eq!(steps(dir.path()), [256]);
}

#[test]
fn there_must_be_a_run_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let error = train(dir.path(), &["--resume"], false).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("settings.toml"), "{error}");
}
