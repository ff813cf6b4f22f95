//! Wires the executor to AWS.
fn main() {}
