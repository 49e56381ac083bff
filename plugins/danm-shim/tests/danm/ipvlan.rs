//! Interfaces that the plugin makes itself, as the example shows them.

use std::io::Write;

use serde_json::{Value, json};

use crate::bed;
use crate::kills::killed_at_every_message;
use crate::world::World;

/// A world whose network `native` is of type ipvlan; `None`, said past the capture of a test's output, where the kernel
/// has no ipvlan.
fn world(test: &str) -> Option<World> {
    let world = World::new();
    let probe = "ip link add probe link m0 type ipvlan mode l2";
    if std::panic::catch_unwind(|| bed::run(probe)).is_err() {
        let reason = format!(
            "{test}: skipped, this kernel has no ipvlan; `make test` runs it in conformance/lab\n"
        );
        let _ = std::io::stderr().write_all(reason.as_bytes());
        return None;
    }
    bed::run("ip link del probe");
    world.object(
        "ClusterNetwork",
        "native",
        &json!({"NetworkID": "native", "NetworkType": "ipvlan",
        "Options": {"host_device": "m0", "container_prefix": "oampub", "rt_tables": 107,
            "cidr": "10.2.157.0/27", "alloc": "gBCAAQ=="}}),
    );
    world.pod("p", &json!([
        {"clusterNetwork": "native", "ip": "dynamic"},
        {"clusterNetwork": "native", "ip": "10.2.157.2", "proutes": {"10.9.0.0/16": "10.2.157.30"}},
    ]));
    Some(world)
}

#[test]
fn ipvlan_as_the_example_shows_it() {
    let Some(mut world) = world("ipvlan_as_the_example_shows_it") else {
        return;
    };
    let result = world.ok("ADD", "p");
    assert_eq!(result["ips"][1]["address"], "10.2.157.2/27");
    assert_eq!(world.alloc("native"), "4BCAAQ==");
    let links: Vec<Value> = serde_json::from_str(&world.bed.in_pod("ip -j addr")).unwrap();
    let addresses = |link: &Value| -> Vec<Value> {
        let all = link["addr_info"].as_array().unwrap().iter();
        all.map(|a| json!([a["local"], a["prefixlen"], a["broadcast"], a["scope"]]))
            .collect()
    };
    let names: Vec<&Value> = links.iter().map(|link| &link["ifname"]).collect();
    assert_eq!(names, ["lo", "eth0", "oampub1"]);
    assert_eq!(
        addresses(&links[1]),
        [json!(["10.2.157.1", 27, "10.2.157.31", "global"])]
    );
    assert_eq!(
        addresses(&links[2]),
        [json!(["10.2.157.2", 27, "10.2.157.31", "global"])]
    );
    let parent: Vec<Value> = serde_json::from_str(&bed::run("ip -j link show m0")).unwrap();
    for key in ["mtu", "address"] {
        assert_eq!(links[2][key], parent[0][key], "{key}");
    }
    assert!(
        world
            .bed
            .in_pod("ip rule")
            .contains("from 10.2.157.0/27 lookup 107")
    );
    assert!(
        world
            .bed
            .in_pod("ip route show table 107")
            .contains("10.9.0.0/16 via 10.2.157.30 dev oampub1")
    );
    world.conf["prevResult"] = result;
    world.ok("CHECK", "p");
    world.bed.in_pod("ip addr flush dev oampub1");
    assert!(world.error("CHECK", "p").contains("oampub1"));
    world.ok("DEL", "p");
    assert_eq!(world.alloc("native"), "gBCAAQ==");
    world.is_clean("gBCAAQ==");
}

#[test]
fn ipvlan_without_its_host_device() {
    let Some(world) = world("ipvlan_without_its_host_device") else {
        return;
    };
    bed::run("ip link del m0");
    let error = world.error("ADD", "p");
    assert!(error.contains("cannot find host device because"), "{error}");
    assert_eq!(world.alloc("native"), "gBCAAQ==");
    world.is_clean("gBCAAQ==");
}

#[test]
fn ipvlan_killed_at_every_message() {
    let name = "ipvlan_killed_at_every_message";
    if world(name).is_some() {
        killed_at_every_message(name, "ipvlan");
    }
}
