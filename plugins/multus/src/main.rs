//! multus: a CNI plugin that attaches a pod to several networks, by calling the plugin of each.

mod annotation;
mod devices;
mod log_file;
mod network_status;
mod scratch;

fn main() {}
