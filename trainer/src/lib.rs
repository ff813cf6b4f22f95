//! The twinscaler command: simulate, backtest, calibrate, train, improve, promote.
//!
//! [`ppo`] learns, [`onnx`] and [`parity`] make the policy file, [`compare`] and [`gate`] judge it, [`promote`] puts it in
//! charge; [`load`] and [`contender`] are loads and policies by
//! name; [`report`] draws; [`commands`] is what the command line does.

pub mod commands;
pub mod compare;
pub mod contender;
pub mod course;
pub mod device;
pub mod learn;
pub mod load;
pub mod onnx;
pub mod parity;
pub mod ppo;
pub mod promote;
pub mod report;
pub mod simulate;
pub mod store;
pub mod watch;
