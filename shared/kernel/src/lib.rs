//! The kernel: network namespaces, links, addresses, routes, sysctls. The only door to netlink and nix.
//!
//! A plugin talks to the kernel through an [`Rtnl`] socket, which belongs to the namespace it was opened in.
//! [`Netns::inside`] runs a closure in the pod's namespace; the main thread stays on the host for ever, because
//! delegates are started from it.
//!
//! Requests are built with rtnetlink's builders. Answers are read attribute by attribute, only those that are
//! needed: a newer kernel may say things that no parser of today knows, and that must not fail a pod.
//!
//! Netfilter has sockets of its own: [`nftables`] and [`conntrack`]; [`fib`] asks one question and needs no builder.

mod address;
mod assign;
mod attribute;
mod check;
mod configure;
pub mod conntrack;
mod dad;
mod default_route;
mod error;
pub mod fib;
mod function;
mod kind;
mod link;
mod netns;
pub mod nftables;
mod route;
mod rule;
mod segment;
mod socket;
pub mod sysctl;
mod wire;

pub use check::Expected;
pub use configure::{announce_addresses, configure};
pub use error::Error;
pub use kind::{IpVlanFlag, IpVlanMode, Kind, MacVlanMode};
pub use link::{Child, Link};
pub use netns::{Netns, NotOpened};
pub use route::default_link;
pub use rule::Rule;
pub use socket::Rtnl;

#[cfg(test)]
extern crate self as kernel;

#[cfg(test)]
#[expect(dead_code, reason = "the tests in tests/kernel use all of it")]
#[path = "../tests/kernel/bed.rs"]
mod bed;
