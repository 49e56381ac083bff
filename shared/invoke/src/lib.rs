//! Calling CNI plugins, in the two ways the spec knows.
//!
//! A plugin that delegates (macvlan to its IPAM plugin) uses [`Delegate`]: the delegate gets this process's
//! environment with only `CNI_COMMAND` replaced, and the very bytes this plugin got on stdin.
//!
//! A plugin that is a runtime to others (multus) uses [`Runtime`]: each plugin of a [`cni::Network`] gets its own
//! request, in order on ADD and in reverse on DEL, and what an ADD yielded is kept in a [`ResultCache`].
//! [`folder`] finds networks in files.
//!
//! Plugins are started from the calling thread, so they run in that thread's network namespace: call this
//! from a thread that never leaves the host's. Nothing here is shared between threads but what the caller shares.

mod cache;
mod callers;
mod delegate;
pub mod folder;
mod process;
mod runtime;

pub use cache::{Cached, ResultCache};
pub use callers::{CALLERS, called_by};
pub use delegate::Delegate;
pub use runtime::{NotAdded, Parameters, Runtime};
