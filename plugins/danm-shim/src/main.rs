//! danm
mod annotation;
mod ipam;
mod names;
mod network;
fn main() {}
