//! The pure core of the control loop: guard, rule, plan, check, reconcile, and the ports to the outside.
//!
//! No IO, no clock, no randomness: time is an argument. The twin runs the same guard as the cloud.

pub mod audit;
pub mod check;
pub mod earlier;
pub mod emf;
pub mod guard;
pub mod health;
pub mod money;
pub mod offering;
pub mod outage;
pub mod plan;
pub mod ports;
pub mod reason;
pub mod reconcile;
pub mod rule;
#[cfg(test)]
mod samples;
pub mod series;
pub mod shadow;
