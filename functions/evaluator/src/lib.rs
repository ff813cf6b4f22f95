//! The evaluator: once a tick it collects, observes, infers, guards, and writes one decision.
//!
//! It never changes EC2 and writes nothing but decisions. `main.rs` wires the adapters; [`handler`] is the whole logic.

pub mod basis;
pub mod collect;
pub mod config;
pub mod deadline;
pub mod handler;
pub mod invocation;
pub mod ladder;
pub mod metrics;
pub mod policies;
pub mod recent;
pub mod signed;
