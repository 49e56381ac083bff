//! The plugin as a program: real links in a pod of the test's own, and an API server in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "not every test of it is for us")]
#[path = "../../../../shared/kernel/tests/kernel/bed.rs"]
mod bed;
mod default_network;
mod recursion;
mod selection;
mod status;
mod world;
