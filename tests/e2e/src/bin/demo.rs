//! `make demo`: the whole system on one machine, from an empty cloud to a retrained policy.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use contract::decision::{Outcome, Verdict};
use e2e::load::published_shape;
use e2e::run::Run;
use e2e::stack::{Stack, rfc3339, target_dir, workspace};
use e2e::summary::Records;
use e2e::{Error, plant::PlantTask};

/// Shows the whole system at work on local parts: the emulated cloud, both functions, a plant, and a retraining.
#[derive(Parser)]
struct Options {
    /// Batches of tasks, 50 and 100 in turn, 8 minutes of the run's time apart
    #[arg(long, default_value_t = 21)]
    batches: u64,
    /// Environment steps of the retraining
    #[arg(long, default_value_t = 250_000)]
    steps: u64,
    /// Seconds after an action in which no other is accepted
    #[arg(long, default_value_t = 90)]
    cooldown_s: u64,
    /// Least real time of a tick, milliseconds: at full speed Graphite's writer is minutes of the run's time behind
    #[arg(long, default_value_t = 350)]
    tick_ms: u64,
    /// Seed of the plant and of the training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where report.html and the logs go
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Minutes that a run may take beyond its last batch.
const TAIL_MINUTES: u64 = 90;
/// Minutes by which a run's times lie in the past at its end.
const PAST_MINUTES: u64 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let done = tokio::select! {
        done = demo(Options::parse()) => done,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("interrupted; the local cloud is stopped");
            return ExitCode::from(130);
        }
    };
    match done {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            broken.iter().for_each(|what| eprintln!("demo: {what}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The whole demonstration; gives what is not as it must be at its end.
async fn demo(options: Options) -> Result<Vec<String>, Error> {
    let began = Instant::now();
    let out = options.out.clone().unwrap_or_else(|| target_dir().join("demo"));
    std::fs::create_dir_all(&out).map_err(Error::io(format!("create {}", out.display())))?;
    say("building the functions and starting the local cloud: ministack, moto behind the EC2 gate, Graphite");
    let stack = Stack::start("demo", Some(out.join("logs"))).await?;
    let config = stack.pool_config(options.cooldown_s);
    say(&format!("stack deployed; logs in {}", out.join("logs").display()));
    stack.create_pool(&config, &workspace().join("policies/initial")).await?;
    say("pool created with the shipped policy");

    let start_s = start_s(options.batches);
    let load = published_shape(options.batches, (start_s + 120) * 1000, options.seed);
    let submitted = load.len();
    let records = run(&stack, &config, &options, start_s, load).await?;

    let (text, page) = records.report(&config)?;
    let file = out.join("report.html");
    std::fs::write(&file, page).map_err(Error::io(format!("write {}", file.display())))?;
    println!("\n{text}");
    let broken = records.broken(&stack, submitted).await?;
    println!("{}", verified(&stack).await?);
    say(&format!("report: {} ({:.0} s in all)", file.display(), began.elapsed().as_secs_f64()));
    stack.cloud.stop();
    Ok(broken)
}

/// The full minute at which the run begins, far enough in the past for all of it to be past.
fn start_s(batches: u64) -> u64 {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    (now_s / 60 - (8 * batches + TAIL_MINUTES + PAST_MINUTES)) * 60
}

/// Runs the pool until the load is done, with one retraining on the way.
async fn run(
    stack: &Stack,
    config: &contract::pool::PoolConfig,
    options: &Options,
    start_s: u64,
    load: Vec<PlantTask>,
) -> Result<Records, Error> {
    say(&format!("{} tasks in {} batches; every line is one action or event", load.len(), options.batches));
    let mut run = Run::new(stack, config.clone(), options.seed, start_s, load);
    let improve_at = start_s + (options.batches * 8 * 60) / 2;
    let latest = start_s + (options.batches * 8 + TAIL_MINUTES) * 60;
    while run.plant.unfinished() > 0 && run.next_tick() < latest {
        if run.next_tick() == improve_at {
            improve(stack, options, improve_at).await?;
        }
        let (decision, _) = tokio::try_join!(run.minute(), at_least(options.tick_ms))?;
        if decision.verdict == Verdict::Act {
            narrate(&decision, start_s);
        }
    }
    // the last completions of the plant's minute are written by the next one
    run.minute().await?;
    Records::read(stack, start_s, run.next_tick()).await
}

async fn at_least(ms: u64) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(())
}

/// What the run's own records say of themselves: every decision replayed, every promise that records can show.
async fn verified(stack: &Stack) -> Result<String, Error> {
    say("replaying every decision and auditing the records (twinscaler explain --verify)");
    let said = stack.command(&["explain", "--pool", "demo@24h", "--verify"]).await?;
    let from = said.find(" decisions: ").and_then(|at| said[..at].rfind('\n'));
    Ok(from.map_or(said.as_str(), |from| &said[from + 1..]).trim_end().to_owned())
}

async fn improve(stack: &Stack, options: &Options, now_s: u64) -> Result<(), Error> {
    say("retraining on the pool's own history (twinscaler improve), time stands still meanwhile");
    let (steps, seed) = (options.steps.to_string(), options.seed.to_string());
    let until = rfc3339(now_s);
    let gate = concat!(env!("CARGO_MANIFEST_DIR"), "/one-window.toml");
    let arguments = ["improve", "--pool", "demo", "--until", &until, "--steps", &steps, "--seed", &seed];
    let began = Instant::now();
    let said = stack.command(&[&arguments[..], &["--gate-config", gate]].concat()).await?;
    say(&format!("{} ({:.0} s)", said.trim(), began.elapsed().as_secs_f64()));
    Ok(())
}

fn narrate(d: &contract::decision::Decision, start_s: u64) {
    let outcome = match d.intent.as_ref().and_then(|i| i.outcome.as_ref()) {
        Some(
            Outcome::Launched { instance_ids }
            | Outcome::Terminated { instance_ids }
            | Outcome::Draining { instance_ids, .. },
        ) => instance_ids.join(" "),
        Some(other) => format!("{other:?}"),
        None => "not settled".into(),
    };
    let name = d.policy_name();
    let (minute, queue) = ((d.tick - start_s) / 60, d.observation.queue_depth.unwrap_or(0));
    let cores = d.observation.billed_cores();
    println!(
        "  min {minute:>3}  {cores:>3} cores  {queue:>3} waiting  {:<8} by {:<14} {outcome}",
        d.action.to_string(),
        short(&name)
    );
}

fn short(policy: &str) -> &str {
    if policy.starts_with("rule:") { policy } else { &policy[..12] }
}

fn say(what: &str) {
    println!("· {what}");
}
