//! `twinscaler train`: a policy from nothing or from another one, on one or more loads, into a directory.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backtest::play::{Contender, PlayError, Standing, outcomes, standing};
use calibration::fit::Fit;
use clap::Args;
use contract::schema::sha256_hex;
use indicatif::HumanCount;
use serde::Serialize;
use traces::Width;
use twin::profile::Ec2Profile;
use twin::{EnvSpec, Job, ScenarioError, Workload};

use crate::commands::backtest::{self as tables, BoundsLine};
use crate::commands::learning::{Learning, SettingsError};
use crate::commands::parent::{Parent, ParentError};
use crate::commands::rundir::RunDir;
use crate::commands::twin_args::TwinArgs;
use crate::compare::fleet_chart;
use crate::contender::Learned;
use crate::course::{Course, CourseError, with_drawn_boots};
use crate::device::{DeviceError, described, select};
use crate::learn::{is_paired, learn};
use crate::load::{Generator, Load, LoadError, LoadName, LoadOptions, PERTURBATION, load};
use crate::parity::Origin;
use crate::ppo::config::PpoConfig;
use crate::ppo::train::{Start, Trained};
use crate::promote::Bundle;
use crate::report::{self, Line};
use crate::stop::{Phase, Stop};
use crate::watch::{Log, Point};
use crate::{parity, ppo};

/// Seeds of the final comparison; apart from those of training and of its own evaluations.
const HELD_OUT_SEEDS: Range<u64> = 9_000_000..9_000_032;
/// Seeds that episodes of generated loads are drawn with, to learn from: the more, the more they differ.
const fn learned_draws(generator: Generator) -> Range<u64> {
    match generator {
        Generator::Varied => 0..192,
        _ => 0..64,
    }
}
/// The same, to be compared on.
const HELD_OUT_DRAWS: Range<u64> = 1000..1032;
/// The policy's file.
const POLICY: &str = "policy.onnx";
/// Different workloads of a load that bounds are computed for at most.
const BOUNDS_MAX: usize = 4;

/// What to train on, and how.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// The loads to learn from, as for backtest; several are learned together
    #[arg(long = "workload", value_name = "LOAD", default_value = "paper:both", num_args = 1..)]
    pub workloads: Vec<String>,
    /// Learn from the loads exactly as they are; without it, episodes depart from them at random, so that the policy
    /// does not learn them by heart
    #[arg(long)]
    pub exact: bool,
    /// Machines that one action may move at most: 1, 2 or 4, in place of what the twin's settings say. With several, each
    /// load is learned with each
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub machines_per_action: Vec<u16>,
    /// Learn each load also with all that a real fleet on EC2 does
    #[arg(long)]
    pub also_ec2: bool,
    /// How to learn
    #[command(flatten)]
    pub learning: Learning,
    #[command(flatten)]
    twin: TwinArgs,
    /// Go on from the policy in this directory, in place of a clone of the best rules
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Directory for policy.onnx, manifest.json, checkpoint, report.html, and the run's curves and state
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in that directory
    #[arg(long)]
    pub resume: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
}

impl TrainArgs {
    /// The loads that are asked for.
    ///
    /// # Errors
    /// If there is none of a name.
    pub fn load_names(&self) -> Result<Vec<LoadName>, LoadError> {
        self.workloads.iter().map(|name| name.parse()).collect()
    }

    /// What the loads are played with: exactly; learning perturbs them by itself.
    pub fn load_options(&self) -> LoadOptions {
        self.twin.load_options()
    }

    /// The policy to go on from, if one is asked for.
    fn parent(&self, config: &PpoConfig) -> Result<Option<Parent>, TrainCommandError> {
        let Some(dir) = &self.from else { return Ok(None) };
        let failed = |source| TrainCommandError::Parent { dir: dir.display().to_string(), source };
        Parent::read(dir, config).map(Some).map_err(failed)
    }

    /// A load that needs no table, to learn from and to be compared on.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lesson(&self, name: &LoadName) -> Result<Lesson, LoadError> {
        let options = self.load_options();
        let LoadName::Generated(generator) = name else { return Ok(load(name, &options, 0..1)?.into()) };
        let lesson = Lesson::from(load(name, &options, learned_draws(*generator))?);
        Ok(Lesson { held_out: Some(load(name, &options, HELD_OUT_DRAWS)?.spec), ..lesson })
    }
}

/// A load to learn from, and the one to be compared on where that is another.
pub struct Lesson {
    load: Load,
    held_out: Option<Arc<EnvSpec>>,
}

/// What differs between the twins that a load is learned in.
#[derive(Clone, Copy, Debug, Default)]
struct Twin {
    machines_per_action: Option<u16>,
    /// Whether EC2's profile comes on top of the options.
    is_ec2: bool,
}

impl Twin {
    /// All that are asked for.
    fn all(args: &TrainArgs) -> Vec<Self> {
        let given = args.machines_per_action.iter().map(|n| Some(*n));
        let machines: Vec<Option<u16>> = if args.machines_per_action.is_empty() { vec![None] } else { given.collect() };
        let profiles = if args.also_ec2 { &[false, true][..] } else { &[false][..] };
        let of = |is_ec2: bool| machines.iter().map(move |n| Self { machines_per_action: *n, is_ec2 });
        profiles.iter().flat_map(|is_ec2| of(*is_ec2)).collect()
    }

    /// The load's name in this twin.
    fn name(&self, load: &str) -> String {
        let machines = self.machines_per_action.filter(|n| *n > 1);
        let machines = machines.map(|n| format!(", up to {n} machines an action")).unwrap_or_default();
        format!("{load}{}{machines}", if self.is_ec2 { " on EC2" } else { "" })
    }
}

impl Lesson {
    /// Its settings, and a hash of each workload's tasks.
    fn data(&self) -> String {
        let numbers = |j: &Job| [j.id as u64, j.submit_ms, j.runtime_ms, u64::from(j.cores), j.memory_mb];
        let hash = |workload: &Arc<Workload>| {
            let bytes: Vec<u8> = workload.jobs().iter().flat_map(numbers).flat_map(u64::to_le_bytes).collect();
            sha256_hex(&bytes)
        };
        let spec = &self.load.spec;
        format!("{:?} {}", spec.config(), spec.workloads().iter().map(hash).collect::<Vec<_>>().join(" "))
    }

    /// The same in another twin.
    fn in_twin(&self, twin: &Twin) -> Result<Self, ScenarioError> {
        let changed = |spec: &Arc<EnvSpec>| {
            let changed = spec.configured(|config| {
                if twin.is_ec2 {
                    Ec2Profile::default().apply(config);
                }
                config.machines_per_action_max = twin.machines_per_action.unwrap_or(config.machines_per_action_max);
            });
            changed.map(Arc::new)
        };
        let load = Load { spec: changed(&self.load.spec)?, ..self.load.clone() };
        Ok(Self { load, held_out: self.held_out.as_ref().map(changed).transpose()? })
    }
}

impl From<Load> for Lesson {
    fn from(load: Load) -> Self {
        Self { load, held_out: None }
    }
}

/// Why training gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrainCommandError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A load cannot be played so.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Nothing can be learned from a load.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] ppo::TrainError),
    /// The policy file does not do what the weights do.
    #[error(transparent)]
    Parity(#[from] parity::ParityError),
    /// The comparison.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// Something in the directory could not be written or read.
    #[error("use the directory {dir}")]
    Files {
        /// Which.
        dir: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Training failed where another policy is.
    #[error("train a policy; {policy} is that of an earlier run")]
    Beside {
        /// Its path.
        policy: String,
        /// What failed.
        source: ppo::TrainError,
    },
    /// There is no policy to go on from.
    #[error("go on from the policy in {dir}")]
    Parent {
        /// Where.
        dir: String,
        /// What is wrong.
        source: ParentError,
    },
    /// A new run would take the place of one that is not finished.
    #[error(
        "train into {dir}: it holds the state of a run that is not finished; go on with that one by --resume, or remove \
         {dir}/state to give it up, or use another --out"
    )]
    Unfinished {
        /// Where.
        dir: String,
    },
    /// There is no run to go on with.
    #[error("resume {dir}: {problem}")]
    Resume {
        /// Where.
        dir: String,
        /// What is missing or different.
        problem: String,
    },
}

impl TrainCommandError {
    /// Whether the user has to change something: exit code 2.
    pub fn is_input(&self) -> bool {
        let of_directory = matches!(self, Self::Resume { .. } | Self::Unfinished { .. } | Self::Parent { .. });
        of_directory || matches!(self, Self::Settings(_) | Self::Device(_) | Self::Course(_) | Self::Scenario(_))
    }
}

/// The comparison on one load, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The load.
    pub workload: String,
    /// What nobody can beat.
    pub bounds: BoundsLine,
    /// The policy first, then the tuned rules.
    pub results: Vec<Standing>,
}

/// A load as it is learned from: the published one with drawn boots.
fn as_learned(name: &str, spec: Arc<EnvSpec>, options: &LoadOptions) -> Arc<EnvSpec> {
    let is_published = matches!(name.parse(), Ok(LoadName::Paper(_))) && options.config.is_none() && !options.is_ec2;
    if is_published { Arc::new(with_drawn_boots(&spec)) } else { spec }
}

/// The courses of a lesson: one for each twin.
fn courses(args: &TrainArgs, name: &str, lesson: &Lesson) -> Result<Vec<Course>, TrainCommandError> {
    lesson.load.notes.iter().for_each(|note| eprintln!("{name}: {note}"));
    let of = |twin: Twin| Ok(course(args, &twin.name(name), &lesson.in_twin(&twin)?, twin.is_ec2)?);
    Twin::all(args).into_iter().map(of).collect()
}

/// The course of a lesson: what is learned from departs from it at random, unless it is to be learned as it is.
fn course(args: &TrainArgs, name: &str, lesson: &Lesson, is_ec2: bool) -> Result<Course, CourseError> {
    eprintln!("{name}: tuning the rules");
    let options = LoadOptions { is_ec2: is_ec2 || args.load_options().is_ec2, ..args.load_options() };
    let exact = as_learned(&lesson.load.name, lesson.load.spec.clone(), &options);
    let spec = if args.exact { exact.clone() } else { Arc::new(EnvSpec::clone(&exact).perturbed(PERTURBATION)) };
    Course::new(name, spec, lesson.held_out.clone().unwrap_or(exact))
}

/// Trains and writes the policy with its report. `stop` ends the run early, which then writes what it has.
///
/// # Errors
/// If training fails, or nothing can be written. Nothing is written before the first update.
pub fn run(args: &TrainArgs, lessons: Vec<Lesson>, stop: &Stop) -> Result<(), TrainCommandError> {
    let (config, device) = (args.learning.settings()?, select(args.learning.device)?);
    let parent = args.parent(&config)?;
    let loads = Loads::of(args, &lessons);
    let dir = RunDir::new(&args.out, &about(args, &loads, parent.as_ref()), &config);
    let start = if args.resume {
        dir.resume()?
    } else {
        dir.begin()?;
        start(parent.as_ref())
    };
    eprintln!("training on {}", described(&device));
    let courses = all_courses(args, lessons)?;
    let log = Log::files(config.steps, &args.out, args.resume).map_err(|e| files(&args.out, e))?;
    let log = log.keeping(|bytes| dir.keep(&bytes));
    let stopped = || {
        stop.enter(Phase::Learning);
        stop.is_asked()
    };
    let trained = watched(&courses, start, (&config, args.learning.seed), &device, log, &stopped)
        .map_err(|error| error.at(&args.out))?;
    stop.enter(Phase::Comparing);
    let compared = courses.iter().map(|course| compare(&trained, course)).collect::<Result<Vec<_>, _>>()?;
    let bundle = bundle(args, &config, &trained, (&loads, &courses, parent), &compared)?;
    stop.enter(Phase::Writing);
    bundle.write(&args.out).map_err(|e| files(&args.out, e))?;
    if trained.steps >= config.steps {
        dir.finish().map_err(|e| files(&args.out, e))?;
    }
    say(args, &bundle, &compared);
    Ok(())
}

/// What a new run starts from.
fn start(parent: Option<&Parent>) -> Start {
    parent.map_or(Start::Fresh, |parent| Start::Weights(parent.weights.clone()))
}

fn all_courses(args: &TrainArgs, lessons: Vec<Lesson>) -> Result<Vec<Course>, TrainCommandError> {
    let of = |(name, lesson): (&String, Lesson)| courses(args, name, &lesson);
    let all = args.workloads.iter().zip(lessons).map(of).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// What a run learns from, in words.
struct Loads {
    /// The loads, a window of a pool with its beginning and end.
    names: String,
    /// A hash of tasks and settings that come from files. Of a pool the window says enough: what was running at its end has ended since.
    data: Option<String>,
    /// What the records of pools say of their twins, by the loads' names.
    fits: BTreeMap<String, Fit>,
}

impl Loads {
    fn of(args: &TrainArgs, lessons: &[Lesson]) -> Self {
        let names = lessons.iter().map(|lesson| lesson.load.name.as_str()).collect::<Vec<_>>().join(" ");
        let has_settings = args.load_options().config.is_some();
        let is_given = |name: &String| match name.parse() {
            Ok(LoadName::File(_)) => true,
            Ok(LoadName::Pool { .. }) => false,
            _ => has_settings,
        };
        let given = args.workloads.iter().zip(lessons).filter(|(name, _)| is_given(name));
        let data: String = given.map(|(_, lesson)| lesson.data()).collect();
        let fits = lessons.iter().filter_map(|lesson| Some((lesson.load.name.clone(), lesson.load.fit.clone()?)));
        let data = (!data.is_empty()).then(|| sha256_hex(data.as_bytes())[..12].to_owned());
        Self { names, data, fits: fits.collect() }
    }
}

/// What a run depends on besides its settings.
fn about(args: &TrainArgs, loads: &Loads, parent: Option<&Parent>) -> String {
    let from = parent.map(|parent| format!(" from {}", parent.sha256)).unwrap_or_default();
    let data = loads.data.as_ref().map(|data| format!(" data {data}")).unwrap_or_default();
    format!(
        "{} machines per action {:?} also ec2 {} {:?} seed {} exact {}{data}{from}",
        loads.names,
        args.machines_per_action,
        args.also_ec2,
        args.load_options(),
        args.learning.seed,
        args.exact
    )
}

/// The twins that a policy learned in, as the manifest keeps them: the options, and what a pool's own records say on top.
fn twins(args: &TrainArgs, loads: &Loads) -> String {
    let options = args.load_options();
    let mut twins = serde_json::json!({
        "profile": if options.is_ec2 { "ec2" } else { "published" },
        "also_ec2": args.also_ec2,
        "machines_per_action": args.machines_per_action,
        "exact": args.exact,
        "wide": if options.wide == Width::Split { "split" } else { "refuse" },
        "settings": options.config,
        "data": loads.data,
    });
    if !loads.fits.is_empty() {
        twins["pools"] = serde_json::to_value(&loads.fits).expect("plain data");
    }
    twins.to_string()
}

fn files(dir: &Path, source: std::io::Error) -> TrainCommandError {
    TrainCommandError::Files { dir: dir.display().to_string(), source }
}

/// Training, or the log that could not be written.
#[derive(Debug)]
pub enum Watched {
    /// Training failed.
    Train(ppo::TrainError),
    /// The log failed.
    Log(std::io::Error),
}

impl Watched {
    fn at(self, dir: &Path) -> TrainCommandError {
        match self {
            Self::Train(source) if dir.join(POLICY).exists() => {
                TrainCommandError::Beside { policy: dir.join(POLICY).display().to_string(), source }
            }
            Self::Train(error) => error.into(),
            Self::Log(source) => files(dir, source),
        }
    }
}

/// Learns with a log.
///
/// # Errors
/// If training fails, or the log cannot be written.
pub fn watched(
    courses: &[Course],
    start: Start,
    (config, seed): (&PpoConfig, u64),
    device: &burn::tensor::Device,
    log: Log<'_>,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Trained, Watched> {
    let (mut failed, mut log) = (None, log.over(workloads(courses), is_paired(&start, config)));
    let trained = learn(courses, start, config, seed, device, &mut |progress, snapshot| {
        let is_stopped = stopped();
        failed = log.update(progress, snapshot, is_stopped).err();
        let goes_on = failed.is_none() && !is_stopped;
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    log.end();
    match failed {
        Some(error) => Err(Watched::Log(error)),
        None => trained.map_err(Watched::Train),
    }
}

/// How many workloads are learned together.
fn workloads(courses: &[Course]) -> usize {
    courses.iter().map(|course| course.lots.len()).sum()
}

/// The policy and the rules on the same episodes of a load as it is.
fn compare(trained: &Trained, course: &Course) -> Result<Compared, TrainCommandError> {
    let seeds: Vec<u64> = HELD_OUT_SEEDS.collect();
    let learned = Learned { name: "policy".into(), weights: &trained.best };
    let mut contenders: Vec<&dyn Contender> = vec![&learned];
    contenders.extend(course.rules.iter().map(|tuned| &tuned.rule as &dyn Contender));
    let played = contenders.iter().map(|c| outcomes(*c, &course.exact, &seeds)).collect::<Result<Vec<_>, _>>()?;
    let first: Vec<f64> = played[0].iter().map(|o| o.total_usd).collect();
    let results = contenders.iter().zip(&played).map(|(c, played)| standing(c.name(), played, &first)).collect();
    // the bound of one day takes seconds; those of many days would take longer than the training
    let is_quick = course.exact.workloads().len() <= BOUNDS_MAX;
    let bounds = if is_quick { tables::mean_bounds(&course.exact, &seeds) } else { BoundsLine::default() };
    Ok(Compared { workload: course.name.clone(), bounds, results })
}

/// The training settings as the manifest keeps them.
pub fn settings(config: &PpoConfig, seed: u64, workload: &str) -> BTreeMap<String, String> {
    let json = serde_json::to_value(config).expect("settings are plain data");
    let flat = json.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string()));
    flat.chain([("seed".into(), seed.to_string()), ("workload".into(), workload.to_owned())]).collect()
}

fn bundle(
    args: &TrainArgs,
    config: &PpoConfig,
    trained: &Trained,
    (loads, courses, parent): (&Loads, &[Course], Option<Parent>),
    compared: &[Compared],
) -> Result<Bundle, TrainCommandError> {
    let evaluation = compared.iter().flat_map(|c| {
        let best_rule = c.results[1..].iter().map(|s| s.total_usd.mean).fold(f64::INFINITY, f64::min);
        [
            (format!("{}/policy_usd", c.workload), c.results[0].total_usd.mean),
            (format!("{}/rule_usd", c.workload), best_rule),
        ]
    });
    let mut settings = settings(config, args.learning.seed, &loads.names);
    settings.insert("twin".into(), twins(args, loads));
    // fewer than its steps where it was ended
    settings.insert("steps_done".into(), trained.steps.to_string());
    let machines_per_action_max = courses.iter().map(|c| c.spec.config().machines_per_action_max).max().unwrap_or(1);
    let parent = parent.map(|parent| parent.sha256);
    let origin = Origin { settings, evaluation: evaluation.collect(), parent, machines_per_action_max };
    let (onnx, manifest) = parity::package(&trained.best, origin)?;
    let report = page(args, config, trained, courses, compared)?.into_bytes();
    Ok(Bundle { onnx, manifest, checkpoint: trained.best.to_checkpoint(), report })
}

fn page(
    args: &TrainArgs,
    config: &PpoConfig,
    trained: &Trained,
    courses: &[Course],
    compared: &[Compared],
) -> Result<String, TrainCommandError> {
    let points = Point::all(&args.out).map_err(|e| files(&args.out, e))?;
    let mut body = format!(
        "<p>{}, seed {}. On each load all play the same {} held-out episodes.</p><h2>Learning</h2>{}",
        steps(trained.steps, config.steps),
        args.learning.seed,
        HELD_OUT_SEEDS.end - HELD_OUT_SEEDS.start,
        curves(&points, workloads(courses) > 1, trained.last.paired)
    );
    for (course, compared) in courses.iter().zip(compared) {
        let bounds = tables::bound_lines(&compared.bounds);
        let marks: Vec<Line> = bounds.iter().map(|(label, usd)| Line { label: (*label).into(), usd: *usd }).collect();
        body += &format!("<h2>{}</h2>", report::escape(&course.name));
        body += &report::money_chart(&compared.results, &marks);
        body += &report::table(&tables::HEAD, &tables::rows(&compared.results));
        bounds.iter().for_each(|(label, usd)| body += &format!("<p>{label}: ${usd:.3}</p>"));
        let learned = Learned { name: "the policy".into(), weights: &trained.best };
        for contender in [&learned as &dyn Contender, &course.teacher.rule] {
            let chart = fleet_chart(contender, &course.exact, HELD_OUT_SEEDS.start)?;
            body += &format!("<h3>One episode of {}</h3>{chart}", report::escape(&contender.name()));
        }
    }
    Ok(report::page("twinscaler: a trained policy", &body))
}

fn steps(done: u64, of: u64) -> String {
    if done >= of {
        format!("{} steps", HumanCount(done))
    } else {
        format!("Ended after {} of {} steps", HumanCount(done), HumanCount(of))
    }
}

/// The cost of an episode while it was learned. Of several workloads only the evaluations are comparable: which episodes end
/// during a rollout is a matter of chance, and their dollars are scaled to what is at stake. What is learned from rewards less
/// a teacher's is no cost.
fn curves(curve: &[Point], is_scaled: bool, is_paired: bool) -> String {
    let points = |of: fn(&Point) -> Option<f64>| {
        curve.iter().filter_map(|p| Some((p.steps as f64, -of(p)?))).collect::<Vec<_>>()
    };
    let evaluated = report::Curve { name: "evaluated, most probable action", points: points(|p| p.evaluation) };
    if is_scaled {
        return report::curve_chart(
            "scaled dollars an episode, mean over the workloads",
            "environment steps",
            &[evaluated],
        );
    }
    let sampled = report::Curve { name: "while learning", points: points(|p| p.episode_reward) };
    let curves = if is_paired { vec![evaluated] } else { vec![sampled, evaluated] };
    report::curve_chart("dollars an episode", "environment steps", &curves)
}

fn say(args: &TrainArgs, bundle: &Bundle, compared: &[Compared]) {
    if args.json {
        let json = serde_json::json!({ "policy": bundle.manifest.sha256, "comparison": compared });
        println!("{json}");
        return;
    }
    for c in compared {
        println!("\n{}\n{}", c.workload, report::text_table(&tables::HEAD, &tables::rows(&c.results)));
        for (label, usd) in tables::bound_lines(&c.bounds) {
            let gap = c.results[0].total_usd.mean / usd - 1.0;
            println!("{label}: ${usd:.3}, the policy is {:.1} % above", 100.0 * gap);
        }
    }
    println!("policy {} written to {}", bundle.manifest.sha256, args.out.display());
}
