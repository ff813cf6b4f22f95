//! What a training run leaves in its directory when it is ended, killed, finished or mistaken, and how it goes on.

use std::path::Path;

use clap::Parser;
use contract::manifest::Manifest;
use twinscaler::commands::train::{TrainArgs, TrainCommandError, run};
use twinscaler::ppo::{State, Weights};
use twinscaler::stop::{Phase, Stop};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: TrainArgs,
}

const SETTINGS: &str = include_str!("worlds/small.toml");

fn train_by(settings: &str, dir: &Path, options: &[&str], stop: &Stop) -> Result<(), TrainCommandError> {
    let file = dir.join("small.toml");
    std::fs::write(&file, settings).unwrap();
    let (out, file) = (dir.join("out"), file.display().to_string());
    let fixed = ["train", "--workload", "paper", "--exact", "--steps", "4096", "--device", "cpu", "--config", &file];
    let args = Cli::parse_from(fixed.iter().chain(&["--out", &out.display().to_string()]).chain(options)).args;
    let lessons = args.load_names().unwrap().iter().map(|name| args.lesson(name).unwrap()).collect();
    run(&args, lessons, stop)
}

fn train(dir: &Path, options: &[&str]) -> Result<(), TrainCommandError> {
    train_by(SETTINGS, dir, options, &Stop::new(Phase::Preparing))
}

/// A run that Ctrl-C ends after its first update.
fn train_and_stop(dir: &Path, options: &[&str]) {
    let stop = Stop::new(Phase::Learning);
    stop.ask();
    train_by(SETTINGS, dir, options, &stop).unwrap();
}

fn lines(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("out/progress.jsonl")).unwrap()
}

/// The steps that the run's lines are about.
fn steps(dir: &Path) -> Vec<u64> {
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["global_step"].as_u64().unwrap();
    lines(dir).lines().map(step).collect()
}

fn manifest(dir: &Path) -> Manifest {
    serde_json::from_slice(&std::fs::read(dir.join("out/manifest.json")).unwrap()).unwrap()
}

/// The files of a directory with their bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let named = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
    };
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| named(entry.unwrap())).collect();
    files.sort();
    files
}

fn event_files(dir: &Path) -> usize {
    files(&dir.join("out")).iter().filter(|(name, _)| name.starts_with("events.out.tfevents.")).count()
}

fn every_256(last: u64) -> Vec<u64> {
    (1..=last / 256).map(|k| 256 * k).collect()
}

#[test]
fn a_run_goes_on_with_the_tasks_that_it_began_with_and_with_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.csv");
    let write = |runtime_s: u32| std::fs::write(&log, format!("submit_s,runtime_s\n0,{runtime_s}\n600,90\n")).unwrap();
    let options = |more: &[&'static str]| {
        let all = [&["--workload", log.to_str().unwrap()], more].concat();
        all.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>()
    };
    let (first, again) = (options(&[]), options(&["--resume"]));
    let [first, again] = [&first, &again].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
    write(60);
    train_and_stop(dir.path(), &first);
    write(61);
    let error = train(dir.path(), &again).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("or data are others"), "{error}");
    write(60);
    train(dir.path(), &again).unwrap();
    let twin: serde_json::Value = serde_json::from_str(&manifest(dir.path()).settings["twin"]).unwrap();
    assert_eq!((&twin["profile"], &twin["exact"]), (&"published".into(), &true.into()), "{twin}");
    assert_eq!(twin["data"].as_str().map(str::len), Some(12), "{twin}");
}

#[test]
fn a_run_that_was_ended_goes_on_where_it_was_with_the_options_it_had() {
    let dir = tempfile::tempdir().unwrap();
    train_and_stop(dir.path(), &[]);
    let state = State::from_bytes(&std::fs::read(dir.path().join("out/state")).unwrap()).unwrap();
    assert_eq!((state.steps, steps(dir.path())), (256, vec![256]), "one rollout of four environments");
    // the report and the manifest are about what was done, not about what was asked for
    assert_eq!(manifest(dir.path()).settings["steps_done"], "256");
    let report = || std::fs::read_to_string(dir.path().join("out/report.html")).unwrap();
    assert!(report().contains("Ended after 256 of 4,096 steps"));

    let other = train(dir.path(), &["--resume", "--seed", "2"]).unwrap_err();
    assert!(other.is_input() && other.to_string().contains("its options or data are others (paper "), "{other}");

    train(dir.path(), &["--resume"]).unwrap();
    assert_eq!(steps(dir.path()), every_256(4096), "its lines go on");
    let settings = manifest(dir.path()).settings;
    assert_eq!((settings["steps"].as_str(), settings["steps_done"].as_str()), ("4096", "4096"));
    // its curve is that of all its steps: an evaluation in each of the two processes' parts
    let report = report();
    assert!(report.contains("4,096 steps") && !report.contains("no curve yet") && !report.contains("Ended after"));
    let curve = report.split("<polyline points=\"").nth(2).unwrap().split('"').next().unwrap();
    let evaluations = lines(dir.path()).matches("charts/evaluation_return").count();
    assert_eq!(curve.split_whitespace().count(), evaluations, "{curve}");
}

#[test]
fn a_run_of_a_version_with_fewer_settings_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    train_and_stop(dir.path(), &[]);
    let path = dir.path().join("out/settings.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let with = |line: &str| std::fs::write(&path, settings.replace("gae_lambda = 0.95\n", line)).unwrap();
    with("gae_lambda = 0.5\n");
    let error = train(dir.path(), &["--resume"]).unwrap_err();
    assert!(error.to_string().contains("its options or data are others"), "{error}");
    with("");
    train(dir.path(), &["--resume"]).unwrap();
}

#[test]
fn a_run_that_is_finished_is_not_gone_on_with_and_makes_way_for_another() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &[]).unwrap();
    let (finished, events) = (files(&dir.path().join("out")), event_files(dir.path()));
    assert!(finished.iter().all(|(name, _)| name != "state"));
    let error = train(dir.path(), &["--resume"]).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("its run is finished"), "{error}");
    assert!(finished == files(&dir.path().join("out")), "its report and all else are as they were");

    train_and_stop(dir.path(), &["--seed", "2"]);
    assert_eq!(
        (steps(dir.path()), events, event_files(dir.path())),
        (vec![256], 1, 1),
        "nothing of the old run is left"
    );
}

#[test]
fn a_run_that_is_not_finished_is_not_destroyed_by_a_forgotten_resume_or_a_typing_error() {
    let dir = tempfile::tempdir().unwrap();
    train_and_stop(dir.path(), &[]);
    let before = files(&dir.path().join("out"));
    let error = train(dir.path(), &[]).unwrap_err();
    assert!(
        error.is_input() && error.to_string().contains("--resume") && error.to_string().contains("/state"),
        "{error}"
    );
    std::fs::remove_file(dir.path().join("out/state")).unwrap();
    let error = train(dir.path(), &["--machines-per-action", "3"]).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("machines_per_action"), "{error}");
    let left: Vec<_> = before.into_iter().filter(|(name, _)| name != "state").collect();
    assert!(left == files(&dir.path().join("out")), "nothing was written");
}

#[test]
fn what_a_killed_run_wrote_after_its_last_state_is_written_again_once() {
    let dir = tempfile::tempdir().unwrap();
    train_and_stop(dir.path(), &[]);
    // two more updates, the last of them cut off in mid-line
    let line = lines(dir.path());
    let torn = line.replace(":256,", ":512,") + &line.replace(":256,", ":768,")[..40];
    std::fs::write(dir.path().join("out/progress.jsonl"), line.clone() + &torn).unwrap();
    train(dir.path(), &["--resume"]).unwrap();
    assert_eq!(steps(dir.path()), every_256(4096));
    assert!(lines(dir.path()).starts_with(&line), "what came before the state is as it was");
    assert_eq!(event_files(dir.path()), 2, "one for each process");
}

#[test]
fn a_number_that_is_none_exports_nothing_and_says_whose_policy_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let exploding = format!("learning_rate = 1e30\n{SETTINGS}");
    let explode = || train_by(&exploding, dir.path(), &[], &Stop::new(Phase::Preparing)).unwrap_err();
    let error = explode();
    assert!(matches!(error, TrainCommandError::Train(_)) && !error.is_input(), "{error}");
    assert!(files(&dir.path().join("out")).iter().all(|(name, _)| name != "policy.onnx" && name != "manifest.json"));

    std::fs::remove_file(dir.path().join("out/state")).unwrap_or_default();
    train(dir.path(), &[]).unwrap();
    let policy = || std::fs::read(dir.path().join("out/policy.onnx")).unwrap();
    let before = policy();
    let error = explode();
    assert!(error.to_string().contains("policy.onnx is that of an earlier run"), "{error}");
    assert_eq!(policy(), before);
}

#[test]
fn what_no_policy_can_be_made_of_is_refused_before_it_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    for setting in ["memory = false", "lstm_layers = 2"] {
        let settings = format!("{setting}\n{SETTINGS}");
        let error = train_by(&settings, dir.path(), &[], &Stop::new(Phase::Preparing)).unwrap_err();
        let name = setting.split(' ').next().unwrap();
        assert!(
            error.is_input() && error.to_string().contains(name) && error.to_string().contains("quality"),
            "{error}"
        );
    }
    assert!(!dir.path().join("out").exists());
}

/// A trained policy in a directory of its own, and that directory's path.
fn policy(dir: &Path, name: &str, options: &[&str]) -> String {
    train(dir, options).unwrap();
    std::fs::rename(dir.join("out"), dir.join(name)).unwrap();
    dir.join(name).display().to_string()
}

/// The Euclidean distance of the weights that a run in `out` has after its first update from those of a policy.
fn distance(dir: &Path, policy: &str) -> f32 {
    let state = State::from_bytes(&std::fs::read(dir.join("out/state")).unwrap()).unwrap();
    let of = Weights::from_checkpoint(&std::fs::read(Path::new(policy).join("checkpoint")).unwrap()).unwrap();
    state.last.values.iter().zip(&of.values).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[test]
fn a_run_goes_on_from_another_policy_and_says_from_which() {
    let dir = tempfile::tempdir().unwrap();
    let parent = policy(dir.path(), "parent", &[]);
    train_and_stop(dir.path(), &["--seed", "2"]);
    let afresh = distance(dir.path(), &parent);
    assert_eq!(manifest(dir.path()).parent, None);
    std::fs::remove_dir_all(dir.path().join("out")).unwrap();

    train_and_stop(dir.path(), &["--seed", "2", "--from", &parent]);
    let further = distance(dir.path(), &parent);
    assert!(further > 0.0 && further < afresh / 4.0, "{further} {afresh}");
    let of: Manifest = serde_json::from_slice(&std::fs::read(format!("{parent}/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest(dir.path()).parent, Some(of.sha256));

    let error = train(dir.path(), &["--resume", "--seed", "2"]).unwrap_err();
    assert!(error.to_string().contains("its options or data are others"), "{error}");
    train(dir.path(), &["--resume", "--seed", "2", "--from", &parent]).unwrap();
    assert_eq!(steps(dir.path()), every_256(4096));
}

#[test]
fn what_a_run_cannot_go_on_from_is_named_before_anything_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (policy(dir.path(), "first", &[]), policy(dir.path(), "second", &["--seed", "2"]));
    let refused = |settings: &str, from: &str, why: &str| {
        let error = train_by(settings, dir.path(), &["--from", from], &Stop::new(Phase::Preparing)).unwrap_err();
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(error.is_input() && said.contains(from) && said.contains(why), "{said}");
    };
    refused(SETTINGS, &dir.path().join("none").display().to_string(), "needs the files that `train` leaves");
    refused(&SETTINGS.replace("lstm_cells = 8", "lstm_cells = 16"), &first, "its checkpoint cannot be used");
    std::fs::copy(format!("{second}/checkpoint"), format!("{first}/checkpoint")).unwrap();
    refused(SETTINGS, &first, "they compute different things");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn there_must_be_a_run_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let error = train(dir.path(), &["--resume"]).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("settings.toml"), "{error}");
    assert!(!dir.path().join("out").exists());
}
