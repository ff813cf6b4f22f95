//! The command line: what there is to say, and how the programs' settings reach the commands.
//!
//! Exit codes: 0 done, or trained as far as it was let; 1 failed; 2 bad input (nothing was written); 130 ended at once by a
//! second signal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use aws::s3::PolicyBucket;
use aws::settings::{Settings, bucket};
use aws::tables::Tables;
use calibration::{Recorded, Window};
use clap::{Parser, Subcommand, ValueEnum};
use contract::control::Mode;
use controller::ports::{Control, Decisions, Instances, Leases, Tasks};
use miette::{IntoDiagnostic, Report, miette};
use twinscaler::commands::backtest::BacktestArgs;
use twinscaler::commands::calibrate::CalibrateArgs;
use twinscaler::commands::explain::{self, ExplainArgs};
use twinscaler::commands::improve::ImproveArgs;
use twinscaler::commands::key::{KeyCommand, KeyError, SigningArgs};
use twinscaler::commands::train::{Lesson, TrainArgs};
use twinscaler::commands::{backtest, calibrate, improve, key, pool, train, window};
use twinscaler::device::{described, select};
use twinscaler::load::{LoadName, load, of_pool};
use twinscaler::promote::roll_back;
use twinscaler::simulate;
use twinscaler::stop::{Answer, Phase, Stop};
use twinscaler::store::Store;

/// Manages a fleet of EC2 machines that work off a queue, with a policy trained in a digital twin of that fleet.
///
/// The commands that reach AWS read TASKS_TABLE, INSTANCES_TABLE, DECISIONS_TABLE, CONTROL_TABLE and POLICY_BUCKET from
/// the environment, as the stack's outputs name them; credentials and region come from the usual places.
#[derive(Parser)]
#[command(name = "twinscaler", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where policies are kept, instead of POLICY_BUCKET: s3://BUCKET, or a directory
    #[arg(long, global = true, value_name = "DIR|s3://BUCKET")]
    store: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario in the twin
    Simulate {
        /// The scenario, JSON; - reads standard input
        #[arg(long, value_name = "FILE|-")]
        scenario: String,
        /// A policy file or a rule that takes the place of the scenario's actions
        #[arg(long, value_name = "FILE.onnx|rule:NAME")]
        policy: Option<String>,
        /// Print the whole result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare policies and rules on the same episodes of a load
    #[command(after_help = backtest::rules_help())]
    Backtest(BacktestArgs),
    /// Fit the twin to a pool's records, and measure it against them
    Calibrate(CalibrateArgs),
    /// Train a policy on loads, from nothing or from another policy
    Train(TrainArgs),
    /// Retrain a pool's policy from its own history, and promote it if it wins
    Improve(ImproveArgs),
    /// Say why a pool did what it did, and whether its records keep the promises
    Explain(ExplainArgs),
    /// Create and look after pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Make keys that policies are signed with, and sign policies that are there
    #[command(subcommand)]
    Key(KeyCommand),
    /// Put a policy in charge of a pool without a comparison
    Promote {
        /// The pool
        #[arg(long)]
        pool: String,
        /// Directory of the policy
        #[arg(long, value_name = "DIR")]
        policy: PathBuf,
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Put the previous policy back in charge of a pool
    Rollback {
        /// The pool
        #[arg(long)]
        pool: String,
    },
    /// Stop all pools from acting, or let them again
    KillSwitch {
        /// What to do
        state: SwitchState,
    },
}

#[derive(Subcommand)]
enum PoolCommand {
    /// Create a pool or change its configuration
    Create {
        /// The pool's configuration, JSON
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Directory of the policy that a new pool starts with
        #[arg(long, value_name = "DIR")]
        policy: Option<PathBuf>,
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// Write a window of a pool's records into a directory, JSON Lines
    Export {
        /// The pool and the time, for example demo@6h
        #[arg(long, value_name = "NAME@WINDOW")]
        pool: String,
        /// The directory
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show how a pool stands, as JSON
    Status {
        /// The pool
        #[arg(long)]
        pool: String,
    },
    /// Change what a pool's control loop may do
    Mode {
        /// The pool
        #[arg(long)]
        pool: String,
        /// off: decide nothing; observe: decide and record; active: act; drain: only stop machines
        mode: ModeName,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Off,
    Observe,
    Active,
    Drain,
}

#[derive(Clone, Copy, ValueEnum)]
enum SwitchState {
    Engage,
    Release,
}

/// Whose fault it is, which is the exit code.
enum Failure {
    /// The user's: exit code 2.
    Input(Report),
    /// The world's: exit code 1.
    Run(Report),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Run(Err::<(), E>(error).into_diagnostic().expect_err("it is an error"))
    }
}

/// Parses, runs, prints an error, and gives the exit code.
pub fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    match run(cli.command, cli.store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(report)) => complain(&report, 2),
        Err(Failure::Run(report)) => complain(&report, 1),
    }
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into())
}

fn complain(report: &Report, code: u8) -> ExitCode {
    eprintln!("{report:?}");
    ExitCode::from(code)
}

fn run(command: Command, place: Option<String>) -> Result<(), Failure> {
    match command {
        Command::Simulate { scenario, policy, json } => {
            simulate::run(&scenario, policy.as_deref(), json).map_err(|error| failure(error.exit_code() == 2, error))
        }
        Command::Backtest(args) => {
            let name = args.load_name().map_err(|error| failure(true, error))?;
            if let LoadName::Pool { pool, window } = name {
                return block_on(reach(Command::Backtest(args), Some((pool, window)), place));
            }
            let load = load(&name, &args.load_options(), 0..args.seeds).map_err(|error| failure(true, error))?;
            backtest::run(&args, load).map_err(|error| failure(error.is_input(), error))
        }
        Command::Calibrate(args) => match &args.from {
            Some(dir) => calibrate_on(&args, window::import(dir).map_err(|error| failure(true, error))?),
            None => {
                let of = pool_window(args.pool.as_deref().unwrap_or_default())?;
                block_on(reach(Command::Calibrate(args), Some(of), place))
            }
        },
        Command::Train(args) => {
            let names = args.load_names().map_err(|error| failure(true, error))?;
            if names.iter().any(|name| matches!(name, LoadName::Pool { .. })) {
                return block_on(reach(Command::Train(args), None, place));
            }
            let loads = names.iter().map(|name| args.lesson(name)).collect::<Result<Vec<_>, _>>();
            let loads = loads.map_err(|error| failure(true, error))?;
            train_on(&args, loads)
        }
        Command::Key(KeyCommand::New { out }) => key::new(&out).map_err(|error| failure(true, error)),
        other => block_on(reach(other, None, place)),
    }
}

fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where policies are kept.
fn store(place: Option<&str>, config: &aws::SdkConfig) -> Result<Store, Failure> {
    if let Some(place) = place {
        return Store::at(place, config).map_err(|error| failure(true, error));
    }
    Ok(Store::Bucket(PolicyBucket::new(config, bucket(env).into_diagnostic().map_err(Failure::Input)?)))
}

/// The same for a command that needs nothing else. Who looks for a region and credentials without need, waits for them and warns
/// where there are none.
async fn store_alone(place: Option<&str>) -> Result<Store, Failure> {
    let config = match place.is_some_and(Store::is_dir) {
        true => aws::SdkConfig::builder().build(),
        false => aws::config::load().await,
    };
    store(place, &config)
}

/// The commands that reach AWS. Those that are about policies alone need no tables.
async fn reach(command: Command, of: Option<(String, Window)>, place: Option<String>) -> Result<(), Failure> {
    let place = place.as_deref();
    match command {
        Command::Promote { pool, policy, signing } => {
            let key = signing.key().map_err(|error| failure(true, error))?;
            let policy = pool::read_policy(&policy).into_diagnostic().map_err(Failure::Input)?;
            Ok(pool::put_in_charge(&store_alone(place).await?, &pool, &policy, key.as_ref()).await?)
        }
        Command::Key(KeyCommand::Sign { pool, signing }) => {
            let key = signing.key().and_then(|key| key.ok_or(KeyError::NotGiven));
            let key = key.map_err(|error| failure(true, error))?;
            Ok(key::sign(&store_alone(place).await?, &pool, &key).await?)
        }
        Command::Rollback { pool } => {
            let pointer = roll_back(&store_alone(place).await?, &pool).await?;
            println!("pool {pool}: policy {} is in charge again", pointer.sha256);
            Ok(())
        }
        other => {
            let settings = Settings::read(env).into_diagnostic().map_err(Failure::Input)?;
            let config = aws::config::load().await;
            reach_tables(other, of, store(place, &config)?, Tables::new(&config, settings.tables)).await
        }
    }
}

/// The commands that read or write tables.
async fn reach_tables(
    command: Command,
    of: Option<(String, Window)>,
    store: Store,
    tables: Tables,
) -> Result<(), Failure> {
    match command {
        Command::Improve(args) => improve_pool(tables, store, &args).await,
        Command::Backtest(args) => {
            let load = of_pool(recorded(tables, store, of).await?, &args.load_options());
            let load = load.map_err(|error| failure(true, error))?;
            backtest::run(&args, load).map_err(|error| failure(error.is_input(), error))
        }
        Command::Train(args) => {
            let mut loads = Vec::new();
            for name in args.load_names().map_err(|error| failure(true, error))? {
                let load = match name {
                    LoadName::Pool { pool, window } => {
                        let ports = ports(tables.clone(), store.clone());
                        let recorded = window::read(&ports, &pool, window).await?;
                        of_pool(recorded, &args.load_options()).map(Lesson::from)
                    }
                    other => args.lesson(&other),
                };
                loads.push(load.map_err(|error| failure(true, error))?);
            }
            tokio::task::block_in_place(|| train_on(&args, loads))
        }
        Command::Calibrate(args) => calibrate_on(&args, recorded(tables, store, of).await?),
        Command::Pool(PoolCommand::Export { pool, out }) => {
            let recorded = recorded(tables, store, Some(pool_window(&pool)?)).await?;
            window::export(&recorded, &out)?;
            let (tasks, machines) = (recorded.tasks.len(), recorded.instances.len());
            println!("{tasks} tasks and {machines} machines written to {}", out.display());
            Ok(())
        }
        Command::Pool(PoolCommand::Create { config, policy, signing }) => {
            let key = signing.key().map_err(|error| failure(true, error))?;
            let config = pool::read_config(&config).into_diagnostic().map_err(Failure::Input)?;
            let policy = policy.map(|dir| pool::read_policy(&dir)).transpose();
            let policy = policy.into_diagnostic().map_err(Failure::Input)?;
            Ok(pool::create(&tables.control, &store, &config, policy.as_ref(), key.as_ref()).await?)
        }
        Command::Pool(PoolCommand::Status { pool }) => {
            let keys = key::trusted().map_err(|error| failure(true, error))?;
            Ok(pool::status(&tables.control, &tables.decisions, &store, &pool, keys.as_ref()).await?)
        }
        Command::Pool(PoolCommand::Mode { pool, mode }) => {
            Ok(pool::set_mode(&tables.control, &pool, mode.into()).await?)
        }
        Command::KillSwitch { state } => Ok(pool::switch(&tables.control, matches!(state, SwitchState::Engage)).await?),
        Command::Explain(args) => {
            let asked = args.asked().map_err(|error| failure(true, error))?;
            let keys = key::trusted().map_err(|error| failure(true, error))?;
            let said = explain::run(&ports(tables, store), &args, asked, keys.as_ref()).await?;
            println!("{}", said.text);
            if said.is_right { Ok(()) } else { Err(Failure::Run(miette!("the records do not keep the promises"))) }
        }
        Command::Simulate { .. } | Command::Key(_) | Command::Promote { .. } | Command::Rollback { .. } => {
            unreachable!("they reach no table")
        }
    }
}

/// An error of the user's (exit code 2) or of the world.
fn failure(is_input: bool, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let report = Err::<(), _>(error).into_diagnostic().expect_err("it is an error");
    if is_input { Failure::Input(report) } else { Failure::Run(report) }
}

fn train_on(args: &TrainArgs, loads: Vec<Lesson>) -> Result<(), Failure> {
    train::run(args, loads, interrupted(Phase::Preparing)?).map_err(|error| failure(error.is_input(), error))
}

/// Asked to stop by Ctrl-C; the run begins in this phase.
fn interrupted(phase: Phase) -> Result<&'static Stop, Failure> {
    static STOP: OnceLock<Stop> = OnceLock::new();
    let stop = STOP.get_or_init(|| Stop::new(phase));
    ctrlc::set_handler(|| match stop.ask() {
        Answer::Soon(words) => eprintln!("\n{words}"),
        Answer::Now(words) => {
            eprintln!("\n{words}");
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}

fn calibrate_on(args: &CalibrateArgs, recorded: Recorded) -> Result<(), Failure> {
    calibrate::run(args, recorded).map_err(|error| failure(!error.is_verdict(), error))
}

/// `NAME@WINDOW`, as in the names of loads.
fn pool_window(text: &str) -> Result<(String, Window), Failure> {
    match format!("pool:{text}").parse() {
        Ok(LoadName::Pool { pool, window }) => Ok((pool, window)),
        _ => Err(Failure::Input(miette!("--pool takes NAME@WINDOW, for example demo@6h, and not {text:?}"))),
    }
}

async fn recorded(tables: Tables, store: Store, of: Option<(String, Window)>) -> Result<Recorded, Failure> {
    let (pool, window) = of.expect("these commands name a pool");
    Ok(window::read(&ports(tables, store), &pool, window).await?)
}

fn ports(
    tables: Tables,
    store: Store,
) -> window::Ports<impl Tasks, impl Instances, impl Decisions, impl Control + Leases + Clone + 'static, Store> {
    window::Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        policies: store,
    }
}

async fn improve_pool(tables: Tables, store: Store, args: &ImproveArgs) -> Result<(), Failure> {
    let request = args.request().map_err(|error| failure(true, error))?;
    let device = select(args.learning.device).map_err(|error| failure(true, error))?;
    let ports = ports(tables, store);
    eprintln!("training on {}", described(&device));
    eprintln!("run {}; if it is interrupted, --until {} goes on with it", request.run(), request.until());
    let stop = interrupted(Phase::Learning)?.asked();
    args.stop_with_parent(stop);
    if let Some(index) = args.index {
        return Ok(improve::train_one(&ports, &request, index, &device, stop).await?);
    }
    tokio::task::block_in_place(|| args.train_in_processes(&request, stop))?;
    let said = improve::run(&ports, &request, &job_name(), &device, stop).await?;
    if args.json {
        println!("{said}");
        return Ok(());
    }
    let (judgement, twin) = (&said["judgement"], &said["twin"]);
    let verdict = match (judgement["promoted"] == true, said["in_charge"] == true) {
        (true, true) => "promoted",
        (true, false) => "not in charge, as another policy is by now, though it was to be promoted",
        (false, _) => "not promoted",
    };
    println!("candidate {} {verdict}: {}", plain(&said["candidate"]), plain(&judgement["because"]));
    let usd = |name: &str| twin[name].as_f64().unwrap_or_default();
    println!("twin against reality over {} tasks: ${:.3} and ${:.3}", said["tasks"], usd("twin_usd"), usd("real_usd"));
    println!("report: {} in the store", plain(&said["report"]));
    Ok(())
}

fn plain(text: &serde_json::Value) -> &str {
    text.as_str().unwrap_or_default()
}

/// Who holds the lease: the batch job, whose next attempt goes on at once, or this process.
fn job_name() -> String {
    let process = || format!("process {} of {}", std::process::id(), jiff::Timestamp::now());
    std::env::var("AWS_BATCH_JOB_ID").unwrap_or_else(|_| process())
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Off => Mode::Off,
            ModeName::Observe => Mode::Observe,
            ModeName::Active => Mode::Active,
            ModeName::Drain => Mode::Drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_of_every_command_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_candidates_process_may_be_told_again_what_this_one_was_told() {
        let ours = ["twinscaler", "improve", "--pool", "p", "--population", "3", "--processes", "2"];
        let again = ["--index", "1", "--until", "2026-01-31T00:00:00Z", "--processes", "1", "--is-child"];
        let until = ["--until", "2026-01-30T00:00:00Z"];
        let cli = Cli::try_parse_from(ours.iter().chain(&until).chain(&again)).unwrap();
        let Command::Improve(args) = cli.command else { panic!("improve") };
        assert_eq!((args.index, args.request().unwrap().until().to_string()), (Some(1), "2026-01-31T00:00:00Z".into()));
    }
}
