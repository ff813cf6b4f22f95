//! The executor: claims a decision, plans, acts on EC2, settles; and reconciles on its own schedule.
//!
//! It reads neither policies nor metrics. `main.rs` wires the adapters; [`execute`] and [`reconcile`] are the logic.

pub mod event;
pub mod execute;
pub mod handle;
pub mod interruption;
pub mod metrics;
pub mod reconcile;

pub use execute::{Executor, Ports};
