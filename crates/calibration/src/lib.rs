//! Measures the twin against reality.
//!
//! [`recorded`] is what the tables hold of a window and the twin of it, [`fit`] the distributions that the records show,
//! [`replay`] does in the twin what was really done, and [`quantity`] compares the two, quantity by quantity.

pub mod fit;
pub mod quantity;
pub mod recorded;
pub mod replay;

pub use recorded::{Recorded, Window};
pub use replay::{TwinError, real_usd, twin_error};
