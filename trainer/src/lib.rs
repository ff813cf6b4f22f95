//! The twinscaler command: simulate, train, improve, promote.
//!
//! [`ppo`] learns, [`onnx`] and [`parity`] make the policy file, [`compare`] and [`gate`] judge it, [`promote`] puts it in
//! charge; [`report`] draws; [`commands`] is what the command line does.

pub mod commands;
pub mod compare;
pub mod device;
pub mod gate;
pub mod onnx;
pub mod parity;
pub mod ppo;
pub mod promote;
pub mod report;
pub mod simulate;
