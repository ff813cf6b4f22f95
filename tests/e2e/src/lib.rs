//! End-to-end tests and the demo over the local cloud.
