//! The built plugin, run as a runtime runs it: on a host and a pod of the test's own, with scripts as IPAM plugins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the tests of the kernel room use all of it")]
#[path = "../../../../shared/kernel/tests/kernel/bed.rs"]
mod bed;
mod plugin;

mod add;
mod check;
mod del;
mod status;
