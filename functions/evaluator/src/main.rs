//! Wires the evaluator to AWS.
fn main() {}
