//! How good training is on the published load, over seeds, beside the tuned rules:
//! `cargo bench -p twinscaler --profile dev --bench quality -- --seeds 10 --steps 250000 FILE.toml …`.
//!
//! Boots are drawn from 45 to 97 s, one machine a minute. Every policy plays the same 64 held-out episodes, 32 of each order
//! of batches; costs are dollars an episode.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use backtest::interval::interval_95;
use backtest::play::{Contender, outcomes};
use burn::tensor::Device;
use clap::Parser;
use twinscaler::contender::Learned;
use twinscaler::course::{Course, published_twin};
use twinscaler::learn::learn;
use twinscaler::ppo::{PpoConfig, Start, Trained, Weights};

/// Measures training over seeds.
#[derive(Parser)]
struct Arguments {
    /// How many training seeds
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Environment steps; the settings' own number if not given
    #[arg(long)]
    steps: Option<u64>,
    /// Settings; the default ones if none are given
    files: Vec<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

const HELD_OUT: std::ops::Range<u64> = 9_000_000..9_000_064;

/// Mean dollars of the alternating order and of the one with the 100-second tasks first.
fn by_order(contender: &dyn Contender, course: &Course) -> [f64; 2] {
    let seeds: Vec<u64> = HELD_OUT.collect();
    let played = outcomes(contender, &course.exact, &seeds).expect("rules and weights never fail");
    std::array::from_fn(|order| {
        let usd: Vec<f64> = played.iter().skip(order).step_by(2).map(|o| o.total_usd).collect();
        usd.iter().sum::<f64>() / usd.len() as f64
    })
}

fn of_weights(weights: &Weights, course: &Course) -> [f64; 2] {
    by_order(&Learned { name: String::new(), weights }, course)
}

fn trained(course: &Course, config: &PpoConfig, seed: u64) -> Trained {
    let courses = std::slice::from_ref(course);
    learn(courses, Start::Fresh, config, seed, &Device::flex(), &mut |_, _| ControlFlow::Continue(()))
        .expect("training succeeds")
}

fn main() {
    let arguments = Arguments::parse();
    let spec = Arc::new(published_twin());
    let course = Course::new("paper:both", spec.clone(), spec).expect("rules get it done");
    for tuned in &course.rules {
        let [alternating, first] = by_order(&tuned.rule, &course);
        println!("{:<28} {alternating:7.3} {first:7.3}", tuned.rule.to_string());
    }
    let files: Vec<Option<PathBuf>> =
        if arguments.files.is_empty() { vec![None] } else { arguments.files.iter().cloned().map(Some).collect() };
    for file in files {
        let name = file.as_ref().map_or("default".into(), |f| f.display().to_string());
        let text = file.map_or(String::new(), |f| std::fs::read_to_string(f).expect("settings to read"));
        let mut config = PpoConfig::from_toml(&text).expect("valid settings");
        config.steps = arguments.steps.unwrap_or(config.steps);
        measure(&name, &course, &config, arguments.first..arguments.first + arguments.seeds);
    }
}

fn measure(name: &str, course: &Course, config: &PpoConfig, seeds: std::ops::Range<u64>) {
    let (began, mut all) = (Instant::now(), Vec::new());
    for seed in seeds {
        let trained = trained(course, config, seed);
        let (best, last) = (of_weights(&trained.best, course), of_weights(&trained.last, course));
        println!("{name} seed {seed}: best {:.3} {:.3}, last {:.3} {:.3}", best[0], best[1], last[0], last[1]);
        all.push(best);
    }
    let of = |order: usize| {
        let usd: Vec<f64> = all.iter().map(|usd| usd[order]).collect();
        let worst = usd.iter().copied().fold(0.0, f64::max);
        let interval = interval_95(&usd).expect("at least one seed");
        format!("{:.3} [{:.3}, {:.3}] worst {worst:.3}", interval.mean, interval.low, interval.high)
    };
    let n = all.len();
    let each_s = began.elapsed().as_secs_f64() / n as f64;
    println!("{name}, {} steps, {n} seeds: {} and {}; {each_s:.1} s each", config.steps, of(0), of(1));
}
