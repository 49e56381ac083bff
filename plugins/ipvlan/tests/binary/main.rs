//! The binary on the real kernel: the tests make a world, call the plugin as a runtime does, and look at what is there.
//!
//! Where this machine's kernel has no ipvlan, plain `cargo test` says which tests it skips, and `make test` runs
//! all of them in conformance/lab.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod verbs;
mod world;
