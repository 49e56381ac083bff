//! The installer as a process, on a node that is a folder; and the manifests it is deployed with.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod configuration;
mod following;
mod manifests;
mod node;
mod plugins;
mod refusals;
