//! What each verb answers, and what DanmEps say.

use serde_json::{Value, json};

use crate::world::World;

#[test]
fn the_danmep_of_an_interface() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    let result = world.ok("ADD", "p");
    assert_eq!(result["interfaces"][0]["name"], "eth0");
    assert_eq!(result["interfaces"][0]["sandbox"], world.bed.path.as_str());
    assert_eq!(world.links(), ["lo", "eth0"]);
    let endpoints = world.endpoints();
    let [endpoint] = endpoints.as_slice() else {
        panic!("{endpoints:?}")
    };
    assert_eq!(endpoint["metadata"]["labels"], json!({"app": "p"}));
    let spec = &endpoint["spec"];
    assert_eq!(spec["EndpointID"], endpoint["metadata"]["name"]);
    assert_eq!(
        spec["Interface"],
        json!({"Name": "eth0", "Address": "10.2.157.1/27", "AddressIPv6": "",
        "MacAddress": "", "proutes": null, "proutes6": null})
    );
    for (key, value) in [
        ("NetworkName", "oampub"),
        ("NetworkType", "macvlan"),
        ("Pod", "p"),
        ("CID", "c-p"),
        ("netns", world.bed.path.as_str()),
        ("apiType", "ClusterNetwork"),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
    world.ok("DEL", "p");
}

#[test]
fn several_interfaces_with_the_names_of_the_original() {
    let world = World::new();
    world.network("plain", json!({"host_device": "m0", "cidr": "10.4.0.0/24"}));
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "plain", "ip": "dynamic"},
            {"clusterNetwork": "oampub", "ip": "dynamic"},
            {"clusterNetwork": "plain", "ip": "10.4.0.9"},
        ]),
    );
    let result = world.ok("ADD", "p");
    let names: Vec<&Value> = result["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["name"])
        .collect();
    assert_eq!(names, ["eth0", "oampub1", "eth2"]);
    let ips: Vec<&Value> = result["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| &ip["address"])
        .collect();
    assert_eq!(ips, ["10.4.0.1/24", "10.2.157.1/27", "10.4.0.9/24"]);
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

/// A pod that asks for nothing is on the network `default`.
#[test]
fn the_default_network() {
    let world = World::new();
    world.pod("p", &json!([]));
    let error = world.error("ADD", "p");
    assert!(error.contains("no suitable default network"), "{error}");
    world.network(
        "default",
        json!({"host_device": "m0", "cidr": "10.5.0.0/24"}),
    );
    assert_eq!(world.ok("ADD", "p")["ips"][0]["address"], "10.5.0.1/24");
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

#[test]
fn the_same_add_twice_changes_nothing() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    let before = world.endpoints();
    assert!(world.error("ADD", "p").contains("attached already"));
    assert_eq!(
        (world.endpoints(), world.alloc("oampub")),
        (before, "wBCAAQ==".to_owned())
    );
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

#[test]
fn check_sees_what_is_missing() {
    let mut world = World::new();
    world.simple_pod("p", "oampub");
    let result = world.ok("ADD", "p");
    world.conf["prevResult"] = result;
    world.ok("CHECK", "p");
    let endpoint = world.endpoints()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    world.cluster.remove(&format!(
        "/apis/danm.k8s.io/v1/namespaces/default/danmeps/{endpoint}"
    ));
    assert!(world.error("CHECK", "p").contains("oampub"));
    // Whoever has deleted the DanmEp has given the address back: DEL does not do it again.
    world.ok("DEL", "p");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
}

#[test]
fn gc_takes_down_what_is_not_valid() {
    let mut world = World::new();
    for pod in ["p", "q"] {
        world.delegate("dry");
        world.simple_pod(pod, "oampub");
        world.ok("ADD", pod);
    }
    world.conf["cni.dev/valid-attachments"] = json!([{"containerID": "c-q", "ifname": "eth0"}]);
    world.ok("GC", "");
    assert_eq!(world.endpoints().len(), 1);
    assert_eq!(world.alloc("oampub"), "oBCAAQ==");
    world.ok("DEL", "q");
    world.is_clean("gBCAAQ==");
    assert_eq!(
        world.calls(),
        ["ADD eth0", "ADD eth0", "DEL eth0", "DEL eth0"]
    );
}

#[test]
fn status_asks_the_api_server() {
    let mut world = World::new();
    world.ok("STATUS", "");
    world.conf["kubeconfig"] = json!("/nowhere");
    world.error("STATUS", "");
}
