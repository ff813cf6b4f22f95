//! The environment that a policy learns in: reset, step, and what a step returns.

use std::sync::Arc;

use contract::capacity::Counts;
use contract::observation::encode;
use contract::{Action, Features, Mask, Observation, SIZE_COUNT};
use controller::guard;

use crate::job::Workload;
use crate::observe::Observer;
use crate::sim::{Phase, Sim};
use crate::spec::EnvSpec;
use crate::summary::Outcome;
use crate::units::{s_from_ms, usd};

/// What the agent sees after a reset or a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The network's input, from `contract::observation::encode`.
    pub features: Features,
    /// The actions that the guard allows now.
    pub mask: Mask,
}

/// What one step gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the agent sees next; after `done`, the last state of the episode.
    pub seen: Seen,
    /// Minus the dollars of this step.
    pub reward: f64,
    /// Whether the episode is over.
    pub done: bool,
}

/// An episodic environment with the contract's observation and actions. Deterministic: the same seed and the same
/// actions give the same episode.
pub trait Environment: Send {
    /// Starts an episode whose random draws (boots, order of batches, perturbations) come from `seed`.
    fn reset(&mut self, seed: u64) -> Seen;
    /// Carries `action` out (a refused one does nothing) and lets one tick pass.
    fn step(&mut self, action: Action) -> Step;
    /// What a teacher would do now, where there is one.
    fn advice(&self) -> Option<Action> {
        None
    }
    /// What the useful work of this episode so far costs at least, on the cheapest cores, dollars. No action changes what
    /// it comes to in the end, so that rewards plus its growth are the dollars wasted: on idle cores, boots, waiting and
    /// lost runs.
    fn work_usd(&self) -> f64 {
        0.0
    }
    /// Whether the episode was cut off with work left undone, whose cost no reward has then.
    fn is_cut_off(&self) -> bool {
        false
    }
    /// The discount a step that fits the time for which what an action did is felt in this episode; 0 if that is not known.
    fn discount(&self) -> f64 {
        0.0
    }
}

/// The twin as an environment: the engine, seen through the contract's observation and the production guard.
///
/// Reusable: a reset keeps all memory, and nothing is allocated once the buffers have grown.
#[derive(Clone, Debug)]
pub struct TwinEnv {
    spec: Arc<EnvSpec>,
    sim: Sim,
    /// Memory for perturbed jobs.
    spare: Option<Arc<Workload>>,
    observer: Observer,
    trace: Option<Vec<TracePoint>>,
}

/// The fleet and the queue at one tick, for charts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracePoint {
    /// The time since the episode's start.
    pub t_s: f64,
    /// Machines by type.
    pub fleet: [Counts; SIZE_COUNT],
    /// Tasks waiting.
    pub queue: u32,
    /// Tasks running.
    pub running: u32,
}

impl TwinEnv {
    /// An environment; reset it first.
    pub fn new(spec: Arc<EnvSpec>) -> Self {
        let sim = Sim::new(spec.config().clone());
        let observer = Observer::new(spec.config(), spec.cores());
        Self { spec, sim, spare: None, observer, trace: None }
    }

    /// The same, and every tick of an episode is kept for [`TwinEnv::trace`].
    pub fn with_trace(self) -> Self {
        Self { trace: Some(Vec::new()), ..self }
    }

    /// What a rule or an explanation looks at: the observation behind the features last returned.
    pub fn observation(&self) -> &Observation {
        self.observer.observation()
    }

    /// The actions that the guard allows now.
    pub fn mask(&self) -> Mask {
        guard::mask(&self.sim.situation())
    }

    /// The episode so far in dollars, waits and counts.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(&self.sim)
    }

    /// One point for the start and each step, if the environment was made [`TwinEnv::with_trace`].
    pub fn trace(&self) -> &[TracePoint] {
        self.trace.as_deref().unwrap_or(&[])
    }

    /// What is simulated.
    pub fn spec(&self) -> &Arc<EnvSpec> {
        &self.spec
    }

    /// The engine, for everything else that one may want to know.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// As [`Environment::step`], for those who do not look: nothing is observed. Returns the reward.
    pub fn act(&mut self, action: Action) -> f64 {
        self.sim.step(action)
    }

    /// Whether the episode is over.
    pub fn is_over(&self) -> bool {
        self.sim.phase() != Phase::Going
    }

    fn see(&mut self) -> Seen {
        self.observer.observe(&self.sim);
        if self.spec.config().metric_gap_probability > 0.0 {
            self.sim.set_doubtful(self.observer.observation().is_doubtful());
        }
        if let Some(trace) = &mut self.trace {
            trace.push(TracePoint {
                t_s: s_from_ms(self.sim.now_ms()),
                fleet: self.observer.observation().fleet,
                queue: self.sim.queue_depth(),
                running: self.sim.running_tasks(),
            });
        }
        Seen { features: encode(self.observer.observation()), mask: self.mask() }
    }
}

impl Environment for TwinEnv {
    fn reset(&mut self, seed: u64) -> Seen {
        let last = self.sim.take_workload();
        if Arc::strong_count(&last) == 1 {
            self.spare = Some(last);
        }
        let jobs = self.spec.jobs_of(seed, self.spare.take());
        self.sim.reset_varied(jobs, seed, self.spec.variation_of(seed));
        self.observer.reset(seed);
        if let Some(trace) = &mut self.trace {
            trace.clear();
        }
        self.see()
    }

    fn step(&mut self, action: Action) -> Step {
        let reward = self.sim.step(action);
        Step { seen: self.see(), reward, done: self.is_over() }
    }

    fn is_cut_off(&self) -> bool {
        self.sim.phase() == Phase::Truncated
    }

    fn work_usd(&self) -> f64 {
        let useful_ms = self.sim.busy_core_ms() - self.sim.tally().lost_core_ms;
        usd(useful_ms, self.spec.cheapest_core_usd_per_hour())
    }
}
