//! Holds the structure's invariants.
