//! The kernel's netlink interfaces, as far as plugins need them.

pub mod conntrack;
pub mod fib;
pub mod nftables;
mod wire;
