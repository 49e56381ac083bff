//! The plugin as a program: what a runtime, an administrator and other implementations see of it.
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod faults;
mod leases;
mod plugin;
mod ranges;
mod reboot;
mod sharing;
