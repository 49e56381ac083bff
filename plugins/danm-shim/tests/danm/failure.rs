//! What fails leaves nothing behind, and DEL comes to its end whatever is missing.

use std::collections::BTreeSet;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni_conformance::cluster::{Effect, Fault};
use serde_json::json;

use crate::world::World;

const ALLOC: &str = "gBCAAQ==";

#[test]
fn a_failing_delegate_is_rolled_back() {
    let world = World::new();
    world.delegate("fail");
    world.simple_pod("p", "oampub");
    let error = world.error("ADD", "p");
    assert!(error.starts_with("CNI network could not be set up: CNI operation for network:oampub failed with:CNI delegation failed"), "{error}");
    world.is_clean(ALLOC);
}

/// One of three networks is missing at the last moment: the others are taken back.
#[test]
fn one_interface_of_several_fails() {
    let world = World::new();
    world.network("l2", json!({"host_device": "m0"}));
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "oampub", "ip": "dynamic"},
            {"clusterNetwork": "oampub", "ip": "10.2.157.7"},
            {"clusterNetwork": "l2", "ip": "dynamic"},
        ]),
    );
    let error = world.error("ADD", "p");
    assert!(
        error.contains("network:l2") && error.contains("L2 network"),
        "{error}"
    );
    world.is_clean(ALLOC);
}

/// The interface goes at once, the rest as soon as the API server answers again.
#[test]
fn del_without_api_server() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    world
        .cluster
        .strike(Fault::on("", "", Effect::Answer(403, None)));
    world.ok("DEL", "p");
    assert_eq!(world.links(), ["lo"]);
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    world.cluster.heal();
    // Another container's DEL comes by.
    world.ok("DEL", "other");
    world.is_clean(ALLOC);
}

/// A server that does not answer is waited for once, and not for each interface and each container that waits.
#[test]
fn del_waits_once() {
    let mut world = World::new();
    world.pod(
        "p",
        &json!([{"clusterNetwork": "oampub", "ip": "dynamic"}, {"clusterNetwork": "oampub", "ip": "dynamic"}]),
    );
    world.ok("ADD", "p");
    world.conf["timeouts"] = json!({"apiServer": 1});
    world
        .cluster
        .strike(Fault::on("", "", Effect::Answer(503, None)));
    for _ in 0..2 {
        world.cluster.forget_requests();
        world.ok("DEL", "p");
        let paths: BTreeSet<String> = world
            .cluster
            .requests()
            .into_iter()
            .map(|r| r.path)
            .collect();
        assert_eq!(paths.len(), 1, "{paths:?}");
        assert_eq!(world.links(), ["lo"]);
    }
    world.cluster.heal();
    world.ok("DEL", "other");
    world.is_clean(ALLOC);
}

/// The pod, the network's configuration and the namespace are gone.
#[test]
fn del_when_everything_else_is_gone() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    world.cluster.remove("/api/v1/namespaces/default/pods/p");
    let child = world.start("DEL", "p", "/run/netns/there-is-none");
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(world.alloc("oampub"), ALLOC);
    assert!(world.endpoints().is_empty());
}

#[test]
fn killed_while_the_delegate_works() {
    let world = World::new();
    world.delegate("sleep");
    world.simple_pod("p", "oampub");
    let mut child = world.start("ADD", "p", &world.bed.path);
    let end = Instant::now() + Duration::from_secs(60);
    while world.links().len() < 2 {
        assert!(Instant::now() < end, "the delegate was not called");
        sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    fs::remove_file(world.dir.join("sleep")).unwrap();
    world.ok("DEL", "p");
    world.is_clean(ALLOC);
}

#[test]
fn tenants_that_are_not_allowed() {
    let world = World::new();
    world.object(
        "ClusterNetwork",
        "closed",
        &json!({"NetworkID": "closed", "NetworkType": "macvlan",
        "AllowedTenants": ["kube-system"], "Options": {"cidr": "10.9.0.0/24"}}),
    );
    world.simple_pod("p", "closed");
    let error = world.error("ADD", "p");
    assert!(
        error.contains(
            "Pod:p's namespace:default is not in the AllowedTenants whitelist of network:closed"
        ),
        "{error}"
    );
    world.is_clean(ALLOC);
}

/// `AggregatedResult Timeout` of the original: a delegate that does not come to its end is ended.
#[test]
fn a_delegate_that_takes_too_long() {
    let mut world = World::new();
    world.conf["timeouts"] = json!({"delegate": 2});
    world.delegate("sleep");
    world.simple_pod("p", "oampub");
    world.error("ADD", "p");
    world.is_clean(ALLOC);
}
