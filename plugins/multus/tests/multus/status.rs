//! What the pod and its users are told.

use cni_conformance::cluster::{Effect, Fault};
use serde_json::json;

use crate::world::{NETWORKS, World};

#[test]
fn every_network_is_in_the_status_and_has_an_event() {
    let world = World::new();
    world.annotate(NETWORKS, "net2");
    world.ok("ADD");
    assert_eq!(
        world.status(),
        json!([
            {"name": "net1", "interface": "eth0", "ips": ["10.1.0.2"], "mac": "02:00:00:00:00:01", "default": true,
             "dns": {}, "gateway": ["10.1.0.1"]},
            {"name": "default/net2", "interface": "net1", "ips": ["10.2.0.2"], "mac": "02:00:00:00:00:02",
             "dns": {}, "gateway": ["10.2.0.1"]}
        ])
    );
    let mut told: Vec<String> = world
        .cluster
        .list("/api/v1/events")
        .iter()
        .map(|event| format!("{}: {}", event["reason"], event["message"]))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#""AddedInterface": "Add eth0 [10.1.0.2/24] from net1""#,
            r#""AddedInterface": "Add net1 [10.2.0.2/24] from default/net2""#
        ]
    );
    world.ok("DEL");
}

#[test]
fn a_missing_network_is_reported_once() {
    let world = World::new();
    world.annotate(NETWORKS, "nosuch");
    world.error("ADD");
    let events = world.cluster.list("/api/v1/events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "NoNetworkFound");
    assert_eq!(events[0]["type"], "Warning");
}

#[test]
fn where_patching_is_not_allowed_the_status_is_replaced() {
    let world = World::new();
    world.annotate("mine", "stays");
    world
        .cluster
        .strike(Fault::on("PATCH", "", Effect::Answer(403, None)));
    world.ok("ADD");
    assert_eq!(world.status()[0]["interface"], "eth0");
    assert_eq!(world.pod()["metadata"]["annotations"]["mine"], "stays");
    world.ok("DEL");
}

#[test]
fn an_old_result_without_interfaces_is_completed() {
    let world = World::new();
    world.file("bin/net4", &format!(
        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\nCNI_COMMAND=ADD {}/bin/net3 > /dev/null\necho '{{\"ip4\":{{\"ip\":\"10.3.0.2/24\"}}}}'\n",
        world.dir.display()
    ));
    world.define("default", "old", &json!({"type": "net4"}));
    world.annotate(NETWORKS, "old");
    world.ok("ADD");
    let status = world.status();
    assert_eq!(status[1]["interface"], "net1", "{status}");
    assert_eq!(status[1]["ips"], json!(["10.3.0.2"]));
    assert_eq!(status[1]["mac"], "02:00:00:00:00:03");
}
