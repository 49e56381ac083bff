//! The API server fails at every request, in every way; then there is all of it or nothing.

use std::time::Duration;

use cni_conformance::cluster::{Effect, Fault};
use serde_json::json;

use crate::world::World;

const ALLOC: &str = "gBCAAQ==";

/// A pod with an interface of the bitmap and one whose delegate brings its own address. A request may take a second.
fn world() -> World {
    let mut world = World::new();
    world.delegate("dry");
    world.conf["apiTimeout"] = json!(1);
    world.static_network("foreign");
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "oampub", "ip": "dynamic"},
            {"clusterNetwork": "foreign", "ip": "dynamic"},
        ]),
    );
    world
}

/// Faults of one request, and whether the request may be carried out all the same.
fn faults() -> Vec<Effect> {
    let answers = [401, 403, 404, 409, 422, 429, 500, 503];
    let answers = answers.into_iter().map(|code| Effect::Answer(code, None));
    let others = [
        Effect::Delay(Duration::from_millis(1300)),
        Effect::Late(Duration::from_millis(1300)),
        Effect::Drop,
        Effect::DropApplied,
        Effect::DropMidway,
        Effect::Garbage("<html>gateway</html>".into()),
    ];
    answers.chain(others).collect()
}

/// The requests of an ADD and of a DEL that meet no fault.
fn requests(world: &World) -> (u32, u32) {
    world.cluster.forget_requests();
    world.ok("ADD", "p");
    let of_add = world.cluster.requests().len();
    world.ok("DEL", "p");
    let of_del = world.cluster.requests().len() - of_add;
    (
        u32::try_from(of_add).unwrap(),
        u32::try_from(of_del).unwrap(),
    )
}

#[test]
fn every_fault_at_every_request_of_add() {
    let world = world();
    let (count, _) = requests(&world);
    for effect in faults() {
        let mut failed = 0;
        for nth in 1..=count {
            let place = format!("{effect:?} at request {nth}");
            world
                .cluster
                .strike(Fault::on("", "", effect.clone()).nth(nth));
            let output = world.run("ADD", "p");
            // What is late comes in the meantime, and what it was for is taken back by the next call.
            if effect == Effect::Late(Duration::from_millis(1300)) {
                std::thread::sleep(Duration::from_millis(500));
                world.ok("DEL", "other");
            }
            world.cluster.heal();
            if output.status.success() {
                assert_eq!(world.endpoints().len(), 2, "{place}");
                assert_eq!(world.alloc("oampub"), "wBCAAQ==", "{place}");
            } else {
                failed += 1;
                assert_eq!(world.left(), Vec::<String>::new(), "{place}: {output:?}");
                assert_eq!(world.alloc("oampub"), ALLOC, "{place}: {output:?}");
            }
            world.ok("DEL", "p");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}: {output:?}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}: {output:?}");
        }
        // A server that asks for patience, or has not been reached, gets another try.
        if matches!(effect, Effect::Answer(429 | 503, _)) {
            assert_eq!(failed, 0, "{effect:?}");
        }
    }
    world.is_clean(ALLOC);
}

#[test]
fn every_fault_at_every_request_of_del() {
    let world = world();
    let (_, count) = requests(&world);
    for effect in faults() {
        for nth in 1..=count {
            let place = format!("{effect:?} at request {nth}");
            world.ok("ADD", "p");
            world
                .cluster
                .strike(Fault::on("", "", effect.clone()).nth(nth));
            world.ok("DEL", "p");
            world.cluster.heal();
            if effect == Effect::Late(Duration::from_millis(1300)) {
                std::thread::sleep(Duration::from_millis(500));
            }
            // The next one that comes by does what had to wait.
            world.ok("DEL", "other");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
        }
    }
    world.is_clean(ALLOC);
}

/// A change comes to the server after this node has looked whether it was carried out: it is too late then.
#[test]
fn a_change_that_arrives_late() {
    let world = world();
    world.simple_pod("q", "oampub");
    let late = Effect::Late(Duration::from_millis(1300));
    world
        .cluster
        .strike(Fault::on("PATCH", "/clusternetworks/oampub", late).nth(1));
    let added = world.ok("ADD", "q");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(added["ips"][0]["address"], "10.2.157.1/27");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    world.ok("DEL", "q");
    world.is_clean(ALLOC);
}

/// The same, and somebody else changes the object between: the address is taken once, in the object as it is now.
#[test]
fn a_change_that_arrives_after_another_writer() {
    let world = world();
    world.simple_pod("q", "oampub");
    let late = Effect::Late(Duration::from_millis(700));
    world
        .cluster
        .strike(Fault::on("PATCH", "/clusternetworks/oampub", late).nth(1));
    let child = world.start("ADD", "q", &world.bed.path);
    world.wait_for_request("PATCH", "/clusternetworks/oampub");
    // As the original does it: the whole object, with the first address taken.
    world.change("oampub", |network| {
        network["spec"]["Options"]["alloc"] = json!("wBCAAQ==");
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.2.157.2/27");
    assert_eq!(world.alloc("oampub"), "4BCAAQ==");
    world.ok("DEL", "q");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
}

/// Killed with the change on its way, which comes only after the DEL: the DEL has made it impossible.
#[test]
fn a_change_that_arrives_after_del() {
    let world = world();
    world.simple_pod("q", "oampub");
    let late = Effect::Late(Duration::from_secs(2));
    world
        .cluster
        .strike(Fault::on("PATCH", "/clusternetworks/oampub", late).nth(1));
    let mut child = world.start("ADD", "q", &world.bed.path);
    world.wait_for_request("PATCH", "/clusternetworks/oampub");
    child.kill().unwrap();
    child.wait().unwrap();
    world.ok("DEL", "q");
    assert_eq!(world.alloc("oampub"), ALLOC);
    std::thread::sleep(Duration::from_millis(2500));
    world.is_clean(ALLOC);
}

/// A change that the API server refuses for what it is, and not for its version, is not tried for ever.
#[test]
fn a_change_that_is_not_allowed() {
    let world = world();
    world.simple_pod("q", "oampub");
    let refused = Effect::Answer(422, None);
    world
        .cluster
        .strike(Fault::on("PATCH", "/clusternetworks/oampub", refused));
    let started = std::time::Instant::now();
    let error = world.error("ADD", "q");
    assert!(error.contains("DanmNet update failed"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    world.cluster.heal();
    world.is_clean(ALLOC);
}
