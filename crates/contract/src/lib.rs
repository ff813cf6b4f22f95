//! The language that both loops share: observation, actions, reward, limits, records, decision, policy manifest.
//!
//! No IO, no clock, no randomness: plain data, its validation, and the one encoding of it for the network.

pub mod action;
pub mod calendar;
pub mod capacity;
pub mod control;
pub mod decision;
pub mod event;
pub mod limits;
pub mod manifest;
pub mod money;
pub mod observation;
mod padded;
pub mod plan;
pub mod pool;
pub mod record;
pub mod reward;
pub mod schema;
pub mod shadow;

pub use action::{ACTION_COUNT, ACTIONS, Action, Mask, SIZE_COUNT, STEPS, actions_up_to};
pub use observation::{FEATURE_COUNT, Features, Observation};
pub use schema::schema_hash;
