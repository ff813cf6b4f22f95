//! In-memory fakes of every port, and builders, for tests of the handlers. Never published.
//!
//! One [`World`] implements all ports over one locked state, with the conditional semantics of the real adapters:
//! decisions written once, claims in one transaction, settled intents never rewritten, launches idempotent by token,
//! the policy pointer moved by compare-and-swap. Clones are handles of the same world.
//!
//! - [`world`]: the state, its inspection, scripted faults
//! - [`fate`]: what a simulation decides about each call, and what it learns of each effect
//! - [`op`]: the names of the operations that can be made to fail
//! - `tables`, `cloud`, `outside`: the ports themselves
//! - [`logs`]: what a test's code logs
//! - [`builders`]: records that are valid until a test changes them

pub mod builders;
mod cloud;
pub mod fate;
pub mod logs;
pub mod op;
mod outside;
mod tables;
mod training;
pub mod world;

pub use world::{Machine, World, fault};
