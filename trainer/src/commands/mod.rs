//! What the command line does, one file a command.

pub mod backtest;
pub mod calibrate;
pub mod explain;
pub mod improve;
pub mod key;
pub mod learning;
pub mod parent;
pub mod pool;
pub mod rundir;
pub mod train;
pub mod twin_args;
pub mod window;
