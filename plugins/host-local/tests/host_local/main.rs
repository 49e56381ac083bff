//! The plugin as a program: what a runtime, an administrator and other implementations see of it.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests start programs, say what they skip, and stop where something is not as expected"
)]

mod faults;
mod leases;
mod plugin;
mod ranges;
mod reboot;
mod sharing;
