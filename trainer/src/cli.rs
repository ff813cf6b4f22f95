//! The command line: what there is to say, and how the programs' settings reach the commands.
//!
//! Exit codes: 0 done, 1 failed, 2 bad input (nothing was written).

use std::path::PathBuf;
use std::process::ExitCode;

use aws::s3::PolicyBucket;
use aws::settings::Settings;
use aws::tables::Tables;
use calibration::{Recorded, Window};
use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::control::Mode;
use controller::ports::{Control, Decisions, Instances, PolicyPublisher, Tasks};
use miette::{IntoDiagnostic, Report, WrapErr, miette};
use twinscaler::commands::backtest::BacktestArgs;
use twinscaler::commands::calibrate::CalibrateArgs;
use twinscaler::commands::{backtest, calibrate, improve, pool, train, window};
use twinscaler::device::{DeviceChoice, select};
use twinscaler::gate::GateConfig;
use twinscaler::load::{LoadName, load, of_pool};
use twinscaler::ppo::config::PpoConfig;
use twinscaler::promote::roll_back;
use twinscaler::simulate;

/// Manages a fleet of EC2 machines that work off a queue, with a policy trained in a digital twin of that fleet.
///
/// The commands that reach AWS read TASKS_TABLE, INSTANCES_TABLE, DECISIONS_TABLE, CONTROL_TABLE and POLICY_BUCKET from
/// the environment, as the stack's outputs name them; credentials and region come from the usual places.
#[derive(Parser)]
#[command(name = "twinscaler", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
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
    /// Train a policy from nothing on the published load
    Train {
        #[command(flatten)]
        learning: Learning,
        /// Directory for policy.onnx, manifest.json, checkpoint and report.html
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Retrain a pool's policy from its own history, and promote it if it wins
    Improve {
        /// The pool
        #[arg(long)]
        pool: String,
        /// End of the window, RFC 3339; now if not given
        #[arg(long, value_name = "TIME")]
        until: Option<jiff::Timestamp>,
        /// Length of the window, hours
        #[arg(long, default_value_t = 6.0)]
        window_h: f64,
        #[command(flatten)]
        learning: Learning,
        /// Print the judgement as JSON
        #[arg(long)]
        json: bool,
    },
    /// Create and look after pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Put a policy in charge of a pool without a comparison
    Promote {
        /// The pool
        #[arg(long)]
        pool: String,
        /// Directory of the policy
        #[arg(long, value_name = "DIR")]
        policy: PathBuf,
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

#[derive(Args)]
struct Learning {
    /// Environment steps; the settings' own number if not given
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Passes over each rollout; the settings' own number if not given
    #[arg(long, value_name = "E")]
    epochs: Option<usize>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Where the network is trained: auto, cpu or gpu
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Settings of PPO, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Learning {
    fn ppo(&self) -> Result<PpoConfig, Failure> {
        let mut config = match &self.config {
            None => PpoConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).into_diagnostic();
                let text = text.wrap_err_with(|| format!("read {}", path.display())).map_err(Failure::Input)?;
                PpoConfig::from_toml(&text).into_diagnostic().map_err(Failure::Input)?
            }
        };
        config.steps = self.steps.unwrap_or(config.steps);
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.check().into_diagnostic().map_err(Failure::Input)?;
        Ok(config)
    }
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
    match run(Cli::parse().command) {
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

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Simulate { scenario, policy, json } => {
            simulate::run(&scenario, policy.as_deref(), json).map_err(|error| failure(error.exit_code() == 2, error))
        }
        Command::Backtest(args) => {
            let name = args.load_name().map_err(|error| failure(true, error))?;
            if let LoadName::Pool { pool, window } = name {
                return block_on(reach(Command::Backtest(args), Some((pool, window))));
            }
            let load = load(&name, &args.load_options(), args.seeds).map_err(|error| failure(true, error))?;
            backtest::run(&args, load).map_err(|error| failure(error.is_input(), error))
        }
        Command::Calibrate(args) => match &args.from {
            Some(dir) => calibrate_on(&args, window::import(dir).map_err(|error| failure(true, error))?),
            None => {
                let of = pool_window(args.pool.as_deref().unwrap_or_default())?;
                block_on(reach(Command::Calibrate(args), Some(of)))
            }
        },
        Command::Train { learning, out } => {
            let device = select(learning.device)?;
            Ok(train::run(&learning.ppo()?, learning.seed, &device, &out)?)
        }
        other => block_on(reach(other, None)),
    }
}

fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// The commands that reach AWS.
async fn reach(command: Command, of: Option<(String, Window)>) -> Result<(), Failure> {
    let settings = Settings::read(|name| std::env::var(name).ok()).into_diagnostic().map_err(Failure::Input)?;
    let bucket = settings.bucket().into_diagnostic().map_err(Failure::Input)?.to_owned();
    let config = aws::config::load().await;
    let (tables, store) = (Tables::new(&config, settings.tables), PolicyBucket::new(&config, bucket));
    match command {
        Command::Improve { pool, until, window_h, learning, json } => {
            improve_pool(tables, store, &pool, last_hours(until, window_h)?, &learning, json).await
        }
        Command::Backtest(args) => {
            let load = of_pool(recorded(tables, store, of).await?, &args.load_options());
            let load = load.map_err(|error| failure(true, error))?;
            backtest::run(&args, load).map_err(|error| failure(error.is_input(), error))
        }
        Command::Calibrate(args) => calibrate_on(&args, recorded(tables, store, of).await?),
        Command::Pool(PoolCommand::Export { pool, out }) => {
            let recorded = recorded(tables, store, Some(pool_window(&pool)?)).await?;
            window::export(&recorded, &out)?;
            let (tasks, machines) = (recorded.tasks.len(), recorded.instances.len());
            println!("{tasks} tasks and {machines} machines written to {}", out.display());
            Ok(())
        }
        Command::Pool(PoolCommand::Create { config, policy }) => {
            let config = pool::read_config(&config).into_diagnostic().map_err(Failure::Input)?;
            let policy = policy.map(|dir| pool::read_policy(&dir)).transpose();
            let policy = policy.into_diagnostic().map_err(Failure::Input)?;
            Ok(pool::create(&tables.control, &store, &config, policy.as_ref()).await?)
        }
        Command::Pool(PoolCommand::Status { pool }) => {
            Ok(pool::status(&tables.control, &tables.decisions, &store, &pool).await?)
        }
        Command::Pool(PoolCommand::Mode { pool, mode }) => {
            Ok(pool::set_mode(&tables.control, &pool, mode.into()).await?)
        }
        Command::Promote { pool, policy } => {
            let policy = pool::read_policy(&policy).into_diagnostic().map_err(Failure::Input)?;
            Ok(pool::put_in_charge(&store, &pool, &policy).await?)
        }
        Command::Rollback { pool } => {
            let pointer = roll_back(&store, &pool).await?;
            println!("pool {pool}: policy {} is in charge again", pointer.sha256);
            Ok(())
        }
        Command::KillSwitch { state } => Ok(pool::switch(&tables.control, matches!(state, SwitchState::Engage)).await?),
        Command::Simulate { .. } | Command::Train { .. } => unreachable!("these reach nothing"),
    }
}

/// An error of the user's (exit code 2) or of the world.
fn failure(is_input: bool, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let report = Err::<(), _>(error).into_diagnostic().expect_err("it is an error");
    if is_input { Failure::Input(report) } else { Failure::Run(report) }
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

async fn recorded(tables: Tables, store: PolicyBucket, of: Option<(String, Window)>) -> Result<Recorded, Failure> {
    let (pool, window) = of.expect("these commands name a pool");
    Ok(window::read(&ports(tables, store), &pool, window).await?)
}

fn ports(
    tables: Tables,
    store: PolicyBucket,
) -> window::Ports<impl Tasks, impl Instances, impl Decisions, impl Control, impl PolicyPublisher> {
    window::Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        policies: store,
    }
}

fn last_hours(until: Option<jiff::Timestamp>, window_h: f64) -> Result<Window, Failure> {
    let until_ms = until.unwrap_or_else(jiff::Timestamp::now).as_millisecond();
    if !(window_h.is_finite() && window_h > 0.0) || until_ms < 0 {
        return Err(Failure::Input(miette!("--window-h must be a number above 0, and --until after 1970")));
    }
    let until_ms = until_ms.unsigned_abs();
    Ok(Window { from_ms: until_ms.saturating_sub((window_h * 3_600_000.0) as u64), until_ms })
}

async fn improve_pool(
    tables: Tables,
    store: PolicyBucket,
    pool: &str,
    window: Window,
    learning: &Learning,
    json: bool,
) -> Result<(), Failure> {
    let device = select(learning.device)?;
    let ports = ports(tables, store);
    let (ppo, gate) = (learning.ppo()?, GateConfig::default());
    let improved = improve::run(&ports, pool, window, (&ppo, &gate, learning.seed), &device).await?;
    if json {
        println!("{}", serde_json::to_string(&improved)?);
    } else {
        let verdict = if improved.judgement.promoted { "promoted" } else { "not promoted" };
        println!("candidate {} {verdict}: {}", improved.candidate, improved.judgement.because);
        let twin = improved.twin;
        println!("twin against reality over {} tasks: ${:.3} and ${:.3}", improved.tasks, twin.twin_usd, twin.real_usd);
    }
    Ok(())
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
