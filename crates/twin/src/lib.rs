//! The digital twin: an exact discrete-event simulator of a fleet and its queue.
pub mod env;
