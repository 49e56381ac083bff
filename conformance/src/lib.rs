//! Runs CNI plugins as black boxes against the CNI specification. A plugin is a file that runs; nothing else is known about it
//! but its profile.

pub mod answer;
pub mod api_server;
pub mod attachment;
pub mod cable;
pub mod call;
pub mod cli;
pub mod cluster;
pub mod document;
pub mod families;
pub mod known;
pub mod kubelet;
pub mod leases;
pub mod multus;
pub mod mutate;
pub mod pod;
pub mod process;
pub mod profile;
pub mod report;
pub mod requirement;
pub mod result;
pub mod rules;
pub mod run;
pub mod spec;
pub mod spy;
pub mod stage;
pub mod trial;
