//! One invocation of a function: a future that is polled from call to call, and can be dropped between any two.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use contract::decision::IntentState;
use contract::event::Tick;
use contract::manifest::Pointer;
use controller::ports::Port;
use evaluator::handler::{self, Evaluator};
use executor::event::{BatchAnswer, Event as Invoked};
use executor::execute::Ports;
use executor::{Executor, reconcile::Reconciled};
use serde_json::{Value, json};
use testkit::fate::Happened;
use testkit::{World, op};

use crate::policies::TRUSTED;
use crate::promotions::Job;
use crate::seen::Event;

/// The evaluator as it runs here.
pub type Evaluating = Evaluator<World, World, World, World, World, World>;
/// The executor as it runs here.
pub type Executing = Executor<World, World, World, World, World>;

/// A new evaluator: a cold start.
pub fn evaluator(world: &World) -> Arc<Evaluating> {
    let evaluator = Evaluator::new(handler::Ports {
        tasks: world.clone(),
        instances: world.clone(),
        decisions: world.clone(),
        control: world.clone(),
        metrics: world.clone(),
        policies: world.clone(),
    });
    Arc::new(evaluator.trusting(Some(TRUSTED.clone())))
}

/// A new executor.
pub fn executor(world: &World) -> Executing {
    Executor::new(Ports {
        tasks: world.clone(),
        instances: world.clone(),
        decisions: world.clone(),
        control: world.clone(),
        cloud: world.clone(),
    })
}

/// What an invocation answered.
#[derive(Debug)]
pub enum Answer {
    /// The evaluator.
    Evaluated(Port<()>),
    /// The executor, to a batch of the stream.
    Batch(BatchAnswer),
    /// The executor, on its schedule.
    Reconciled(Port<Reconciled>),
    /// The executor, on a notice of an interruption: the pool, if the machine is one of ours.
    Interrupted(Port<Option<String>>),
    /// A promoter: the pointer that it leaves; none if there was nothing to go back from any more.
    Promoted(Port<Option<Pointer>>),
    /// The event was refused.
    Refused(String),
}

/// What an invocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A tick, in this container.
    Tick(usize),
    /// The stream's own delivery of what lies before this position.
    Stream(usize),
    /// A delivery of what was delivered before.
    Stale,
    /// A reconciliation.
    Reconciliation,
    /// A notice of an interruption.
    Notice,
    /// A promotion or a roll-back, by its place among [`crate::promotions::Promotions::jobs`].
    Promotion(usize),
}

/// How far an executor is with a decision, for the name of its crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    Claimed,
    Planned,
    Launched,
    Terminated,
    Recorded,
    PointerMoved,
}

/// One running invocation.
pub struct Invocation {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub purpose: For,
    /// The moment at which it began.
    pub begun: u64,
    /// Whether its process is new.
    pub cold: bool,
    /// It does not go on before this minute.
    pub asleep_until: u64,
    progress: Progress,
    future: Pin<Box<dyn Future<Output = Answer>>>,
}

impl Invocation {
    fn new(id: u64, purpose: For, begun: u64, future: impl Future<Output = Answer> + 'static) -> Self {
        Self { id, purpose, begun, cold: false, asleep_until: 0, progress: Progress::Nothing, future: Box::pin(future) }
    }

    /// The same, and whether its process is new.
    pub fn cold(self, cold: bool) -> Self {
        Self { cold, ..self }
    }

    /// The evaluator on the schedule's event, in a container.
    pub fn of_tick(id: u64, begun: u64, container: usize, evaluator: Arc<Evaluating>, event: Value) -> Self {
        Self::new(id, For::Tick(container), begun, async move {
            match Tick::from_event(event) {
                Ok(tick) => Answer::Evaluated(evaluator.tick(&tick).await.map(drop)),
                Err(error) => Answer::Refused(error),
            }
        })
    }

    /// The executor on an event.
    pub fn of_executor(id: u64, begun: u64, purpose: For, executor: Executing, event: Value) -> Self {
        Self::new(id, purpose, begun, async move {
            match Invoked::from_json(event) {
                Ok(Invoked::Stream(records)) => Answer::Batch(executor.batch(records, |_, _| ()).await),
                Ok(Invoked::Schedule(tick)) => {
                    Answer::Reconciled(executor.reconcile(&tick).await.map_err(|unfinished| unfinished.error))
                }
                Ok(Invoked::Interruption(notice)) => Answer::Interrupted(executor.interrupted(&notice).await),
                Err(error) => Answer::Refused(error),
            }
        })
    }

    /// A promoter.
    pub fn of_promoter(id: u64, begun: u64, purpose: For, world: World, pool: &str, job: Job) -> Self {
        let pool = pool.to_owned();
        Self::new(id, purpose, begun, async move { Answer::Promoted(job.done(&world, &pool).await) })
    }

    /// Goes on to the next call, or to the end.
    pub fn poll(&mut self) -> Poll<Answer> {
        self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Remembers how far it is.
    pub fn saw(&mut self, happened: &Happened) {
        self.progress = match happened {
            Happened::Claimed { .. } => Progress::Claimed,
            Happened::Stored { after, .. } if after.state == IntentState::Settled => Progress::Nothing,
            Happened::Stored { .. } => Progress::Planned,
            Happened::Launched { .. } => Progress::Launched,
            Happened::Terminated(_) => Progress::Terminated,
            Happened::PointerMoved { .. } => Progress::PointerMoved,
            Happened::Called { operation: op::INSTANCES_PUT_NEW | op::INSTANCES_MARK_TERMINATED, code: None }
                if matches!(self.progress, Progress::Launched | Progress::Terminated) =>
            {
                Progress::Recorded
            }
            _ => self.progress,
        };
    }

    /// What its crash at this moment is called.
    pub fn crash(&self) -> Event {
        match (self.purpose, self.progress) {
            (For::Tick(_), _) => Event::CrashInEvaluator,
            (For::Reconciliation, _) => Event::CrashInReconciler,
            (For::Notice, _) => Event::CrashOnNotice,
            (For::Promotion(_), Progress::PointerMoved) => Event::CrashAfterPointer,
            (For::Promotion(_), _) => Event::CrashBeforePointer,
            (_, Progress::Nothing) => Event::CrashBeforeClaim,
            (_, Progress::Claimed) => Event::CrashAfterClaim,
            (_, Progress::Planned) => Event::CrashAfterPlan,
            (_, Progress::Launched) => Event::CrashAfterLaunch,
            (_, Progress::Terminated) => Event::CrashAfterTermination,
            (_, Progress::Recorded | Progress::PointerMoved) => Event::CrashBeforeSettling,
        }
    }
}

/// The schedule's event for a tick, in seconds.
pub fn scheduled(pool: &str, tick: u64) -> Value {
    let at = jiff::Timestamp::from_second(tick as i64).expect("a time of this century");
    json!({"pool": pool, "scheduled_time": at.to_string()})
}

/// EventBridge's notice that a machine is taken back.
pub fn interrupted(id: &str, at_s: u64) -> Value {
    let at = jiff::Timestamp::from_second(at_s as i64).expect("a time of this century");
    json!({"detail-type": executor::interruption::DETAIL_TYPE, "source": "aws.ec2", "time": at.to_string(),
        "detail": {"instance-id": id, "instance-action": "terminate"}})
}

/// The stream's event for these ticks; the sequence numbers are the positions in the stream.
pub fn streamed(pool: &str, ticks: &[(usize, u64)]) -> Value {
    let record = |(position, tick): &(usize, u64)| {
        json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": position.to_string(),
            "Keys": {"pool": {"S": pool}, "tick": {"N": tick.to_string()}}}})
    };
    json!({"Records": ticks.iter().map(record).collect::<Vec<_>>()})
}
