//! How fast a busy node gets its mappings, beside the Go plugin in the same run. Alone in its file, so that no
//! other test runs at the same time.

#[cfg(test)]
mod lab;

use std::path::Path;

use lab::{Lab, REFERENCE};
use serde_json::{Value, json};

#[test]
fn add_is_five_times_as_fast_as_the_reference() {
    if !Path::new(REFERENCE).exists() {
        println!("SKIPPED: {REFERENCE} is not installed");
        return;
    }
    let rate = |plugin: &Path| {
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
    };
    let ours = Path::new(env!("CARGO_BIN_EXE_portmap"));
    // A machine has its moments: the best of three, in turns.
    let (mut best, mut reference) = (0.0_f64, 0.0_f64);
    for _ in 0..3 {
        best = best.max(rate(ours));
        reference = reference.max(rate(Path::new(REFERENCE)));
    }
    println!("48 containers, 8 at once: {best:.0} ADD/s, the reference {reference:.0} ADD/s");
    assert!(
        best > reference * 5.0,
        "{best:.0} ADD/s against {reference:.0}"
    );
}
