//! Holds nothing but the tests of the structure.
