//! The built plugin, run as a runtime runs it: a host and a pod of the test's own, an API server in memory, and scripts
//! as delegates.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the tests of the kernel room use all of it")]
#[path = "../../../../shared/kernel/tests/kernel/bed.rs"]
mod bed;
mod world;

mod access;
mod addresses;
mod delegates;
mod failure;
mod faults;
mod ipvlan;
mod kills;
mod sriov;
mod tracer;
mod verbs;
