//! The whole way to an API server and back: kubeconfig, TLS, HTTP/1 and HTTP/2, every verb, every fault.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod faults;
mod pki;
mod server;
mod verbs;
