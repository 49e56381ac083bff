//! The room's tests on the real kernel, each in namespaces of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod check;
mod configure;
mod default_route;
mod links;
mod policy;
