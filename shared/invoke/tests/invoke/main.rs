//! The crate seen from outside: plugins of every kind of behaviour, as scripts that run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bin;
mod cache;
mod delegates;
mod folder;
mod runtime;
