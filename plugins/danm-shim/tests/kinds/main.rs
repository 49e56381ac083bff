//! The definitions of DANM's kinds in packaging/kubernetes/danm: an API server takes them, and they let through what DANM's webhook
//! lets through and nothing else. Their rules are evaluated as an API server does it, by the kube project's evaluator of CEL.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod definition;
mod rule;
mod structure;
mod value;

mod networks;
mod tenants;
