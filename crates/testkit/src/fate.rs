//! What a simulation decides about each call, and what it learns of each effect.

use contract::decision::{Decision, Intent};
use contract::manifest::Pointer;
use contract::plan::LaunchPlan;
use controller::ports::PortError;

/// What becomes of one call at a port.
#[derive(Debug)]
pub enum Fate {
    /// It does what it does.
    Fine,
    /// It fails and has no effect.
    Fails(PortError),
    /// It has its effect, and its answer is lost.
    Lost(PortError),
    /// It has its effect, its answer is lost, and the client's own retry sends it again: the second answer counts.
    Repeated,
}

/// Says what becomes of each call; asked in the order of the calls.
pub trait Director: Send {
    /// The fate of one call of `operation`, a name of [`crate::op`].
    fn fate(&mut self, operation: &'static str) -> Fate;
}

/// Something that happened in the world through a port.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A call was answered; with the error's code if it failed.
    Called {
        /// A name of [`crate::op`].
        operation: &'static str,
        /// The error's code.
        code: Option<String>,
    },
    /// A decision was written.
    Decided(Box<Decision>),
    /// A claim was won.
    Claimed {
        /// The pool.
        pool: String,
        /// The decision.
        tick: u64,
        /// The new generation.
        generation: u64,
        /// The time by which the cooldown was judged.
        now_ms: u64,
        /// Whether the kill switch was engaged at that moment.
        killed: bool,
    },
    /// An intent was stored; with what stood there before.
    Stored {
        /// The pool.
        pool: String,
        /// The decision.
        tick: u64,
        /// What stood there.
        before: Option<Box<Intent>>,
        /// What stands there now.
        after: Box<Intent>,
    },
    /// Machines came into being through a launch. A repetition of the same token makes none and is not told.
    Launched {
        /// The plan.
        plan: Box<LaunchPlan>,
        /// EC2's ids.
        instance_ids: Vec<String>,
    },
    /// Somebody asked for these terminations, allowed or not.
    TerminationAsked(Vec<String>),
    /// This machine was terminated; it was alive before.
    Terminated(String),
    /// A pool's pointer was moved by compare-and-swap. The same move again is not told.
    PointerMoved {
        /// The pool.
        pool: String,
        /// What stood there.
        before: Option<Pointer>,
        /// What stands there now.
        after: Pointer,
    },
}
