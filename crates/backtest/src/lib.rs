//! Compares policies in the twin: every policy plays the same episodes, and is measured against what no policy can beat.
//!
//! [`rules`] are the baselines and [`tune`] finds their best settings for a load, [`play`] runs any policy over seeds,
//! [`interval`] says how sure the means are, [`gate`] whether a policy may replace another (by [`rank`] and
//! [`bootstrap`]), [`plan`] is what a clairvoyant would do and [`bound`] what nobody can do better. It knows nothing of networks, files or AWS.

pub mod bootstrap;
pub mod bound;
pub mod gate;
pub mod interval;
mod lp;
pub mod plan;
pub mod play;
pub mod rank;
pub mod rules;
pub mod tune;
