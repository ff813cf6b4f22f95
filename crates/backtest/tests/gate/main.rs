//! The promotion gate: planted candidates get the right verdict, and luck alone is promoted no more often than alpha.

mod false_promotions;
mod planted;
mod refusals;
mod twin;
mod verdicts;
