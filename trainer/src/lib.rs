//! The twinscaler command: simulate, backtest, calibrate, train, improve, promote.
//!
//! [`ppo`] learns, in [`course`]s, all the way with [`mod@learn`], followed by [`watch`] and ended by [`stop`]; [`onnx`] and [`parity`] make the policy
//! file; [`compare`] plays; [`promote`] puts a policy in charge of a [`store`]'s pool; [`load`] and [`contender`] are loads and
//! policies by name; [`report`] draws; [`commands`] is what the command line does.

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
pub mod stop;
pub mod store;
pub mod watch;
