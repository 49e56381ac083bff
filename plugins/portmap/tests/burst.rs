//! A busy node: 48 pods get their mappings, eight at a time, beside the Go plugin in the same run. The rates are printed
//! and not judged; what is judged is that nobody fails. Alone in its file, so that no other test runs at the same time.

#[cfg(test)]
mod lab;

use std::path::Path;

use lab::{Lab, REFERENCE};
use serde_json::{Value, json};

/// ADDs per second; none may fail.
fn rate(plugin: &Path) -> f64 {
    let lab = Lab::new();
    let confs: Vec<Value> = lab
        .confs("iptables", 49)
        .into_iter()
        .map(|mut conf| {
            conf["prevResult"]["ips"] = json!([{"address": "10.77.0.5/24", "interface": 0}]);
            conf
        })
        .collect();
    lab.burst(plugin, "ADD", 1, &confs[..1]);
    let (failed, time) = lab.burst(plugin, "ADD", 8, &confs[1..]);
    assert!(failed.is_empty(), "{failed:?}");
    48.0 / time.as_secs_f64()
}

#[test]
fn forty_eight_pods_at_once() {
    let ours = rate(Path::new(env!("CARGO_BIN_EXE_portmap")));
    println!("48 containers, 8 at once: {ours:.0} ADD/s");
    if Path::new(REFERENCE).exists() {
        let reference = rate(Path::new(REFERENCE));
        println!("the reference: {reference:.0} ADD/s");
    }
}
