//! Others write to the same network: what is tried again, what is not, and what the bitmap says at the end.

use cni_conformance::cluster::{Effect, Fault};
use serde_json::{Value, json};

use crate::world::World;

const ALLOC: &str = "gBCAAQ==";
const NETWORK: &str = "/clusternetworks/oampub";

/// A pod that wants an address of `oampub`.
fn world() -> World {
    let world = World::new();
    world.delegate("dry");
    world.simple_pod("p", "oampub");
    world
}

/// Runs a verb; between its read of the network and its write, another client sets the bitmap.
fn run_against(world: &World, verb: &str, alloc: &str) -> Value {
    world.cluster.forget_requests();
    let held = Fault::on("PATCH", NETWORK, Effect::Held).nth(1);
    world.cluster.strike(held);
    let child = world.start(verb, "p", &world.bed.path);
    world.wait_for_request("PATCH", NETWORK);
    world.change("oampub", |network| {
        network["spec"]["Options"]["alloc"] = json!(alloc);
    });
    world.cluster.heal();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn writes(world: &World) -> usize {
    let requests = world.cluster.requests();
    let writes = requests.iter().filter(|r| r.method == "PATCH");
    writes.filter(|r| r.path.contains(NETWORK)).count()
}

/// `resolvedConflictDuringUpdate` and the same of `Free`: one more write.
#[test]
fn another_pod_of_another_node_gets_an_address_meanwhile() {
    let world = world();
    let result = run_against(&world, "ADD", "wBCAAQ==");
    assert_eq!(result["ips"][0]["address"], "10.2.157.2/27");
    assert_eq!(
        (world.alloc("oampub"), writes(&world)),
        ("4BCAAQ==".into(), 2)
    );
    // .3 is taken while .2 is given back.
    run_against(&world, "DEL", "8BCAAQ==");
    assert_eq!(
        (world.alloc("oampub"), writes(&world)),
        ("0BCAAQ==".into(), 2)
    );
}

/// The bitmap that the second try comes to is the one that the first try was made for: it has to be written all the same.
#[test]
fn an_address_is_given_back_meanwhile() {
    let world = world();
    world.change("oampub", |network| {
        network["spec"]["Options"]["alloc"] = json!("8BCAAQ==");
    });
    let result = run_against(&world, "ADD", "4BCAAQ==");
    assert_eq!(result["ips"][0]["address"], "10.2.157.3/27");
    assert_eq!(
        (world.alloc("oampub"), writes(&world)),
        ("8BCAAQ==".into(), 2)
    );
}

/// `unresolvedConflictAfterUpdate`.
#[test]
fn the_network_can_not_be_read_again() {
    let world = world();
    let conflict = Fault::on("PATCH", NETWORK, Effect::Answer(409, None));
    world.cluster.strike(conflict);
    // It is read for the plan, which the first try is made with.
    let forbidden = Fault::on("GET", NETWORK, Effect::Answer(403, None)).nth(2);
    world.cluster.strike(forbidden);
    let error = world.error("ADD", "p");
    let words = "After IP address reservation conflict, network cannot be read again!";
    assert!(error.contains(words), "{error}");
    assert_eq!(writes(&world), 1);
    world.cluster.heal();
    world.ok("DEL", "p");
    world.is_clean(ALLOC);
}

/// `errorUpdate`.
#[test]
fn the_network_can_not_be_written() {
    let world = world();
    let forbidden = Fault::on("PATCH", NETWORK, Effect::Answer(403, None));
    world.cluster.strike(forbidden);
    let error = world.error("ADD", "p");
    assert!(
        error.contains("DanmNet update failed with error:"),
        "{error}"
    );
    assert_eq!(writes(&world), 1);
    world.is_clean(ALLOC);
}

/// The plan's object is a moment old: what it refuses is asked for again, and what it allows may be too late.
#[test]
fn the_plan_is_overtaken() {
    let world = world();
    world.change("oampub", |network| {
        network["spec"]["Options"]["alloc"] = json!("/////w==");
    });
    let held = Fault::on("GET", "/danmeps", Effect::Held).nth(1);
    world.cluster.strike(held);
    let child = world.start("ADD", "p", &world.bed.path);
    world.wait_for_request("GET", "/danmeps");
    world.change("oampub", |network| {
        network["spec"]["Options"]["alloc"] = json!("////+w==");
    });
    world.cluster.heal();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (world.alloc("oampub"), writes(&world)),
        ("/////w==".into(), 1)
    );
    world.ok("DEL", "p");
    assert_eq!(world.alloc("oampub"), "////+w==");
}

/// A pod with two interfaces on one network: the second one's plan is overtaken by the first one's address.
#[test]
fn two_addresses_of_one_network() {
    let world = world();
    let interface = json!({"clusterNetwork": "oampub", "ip": "dynamic"});
    world.pod("p", &json!([interface, interface]));
    world.ok("ADD", "p");
    assert_eq!(
        (world.alloc("oampub"), writes(&world)),
        ("4BCAAQ==".into(), 2)
    );
    world.ok("DEL", "p");
    world.is_clean(ALLOC);
}
