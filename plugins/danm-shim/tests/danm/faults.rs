//! The API server fails at every request, in every way; then there is all of it or nothing.

use std::time::Duration;

use cni_conformance::cluster::{Effect, Fault};
use serde_json::json;

use crate::world::World;

const ALLOC: &str = "gBCAAQ==";

/// A pod with an interface of the bitmap and one whose delegate brings its own address.
pub(crate) fn world() -> World {
    let world = World::new();
    world.delegate("dry");
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

/// Faults of one request, and whether its sender has to lose patience first.
fn faults() -> Vec<(Effect, bool)> {
    let answers = [401, 403, 404, 409, 422, 429, 500, 503];
    let answers = answers.into_iter().map(|code| Effect::Answer(code, None));
    let others = [
        Effect::Drop,
        Effect::DropApplied,
        Effect::DropMidway,
        Effect::Garbage("<html>gateway</html>".into()),
    ];
    let prompt = answers.chain(others).map(|effect| (effect, false));
    // The one is never carried out, the other after the call has ended.
    let slow = [Effect::Delay(Duration::from_secs(3600)), Effect::Held];
    prompt.chain(slow.map(|effect| (effect, true))).collect()
}

/// Runs a verb, whose nth request is struck. The faults are taken back then.
fn run_struck(
    world: &mut World,
    verb: &str,
    nth: u32,
    (effect, is_slow): &(Effect, bool),
) -> std::process::Output {
    if *is_slow {
        world.conf["timeouts"] = json!({"apiServer": 0.5});
    }
    let fault = Fault::on("", "", effect.clone()).nth(nth);
    world.cluster.strike(fault);
    let output = world.run(verb, "p");
    world.cluster.heal();
    world.conf["timeouts"] = json!({});
    output
}

/// How many requests a verb makes that meets no fault.
fn requests(world: &World, verb: &str) -> u32 {
    world.cluster.forget_requests();
    world.ok(verb, "p");
    u32::try_from(world.cluster.requests().len()).unwrap()
}

#[test]
fn every_fault_at_every_request_of_add() {
    let mut world = world();
    let count = requests(&world, "ADD");
    world.ok("DEL", "p");
    for fault in faults() {
        let mut failed = 0;
        for nth in 1..=count {
            let output = run_struck(&mut world, "ADD", nth, &fault);
            let place = format!("{:?} at request {nth}: {output:?}", fault.0);
            if fault.0 == Effect::Held {
                // What came too late is taken back by the next call.
                world.ok("DEL", "other");
            }
            if output.status.success() {
                assert_eq!(world.endpoints().len(), 2, "{place}");
                assert_eq!(world.alloc("oampub"), "wBCAAQ==", "{place}");
            } else {
                failed += 1;
                assert_eq!(world.left(), Vec::<String>::new(), "{place}");
                assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
            }
            world.ok("DEL", "p");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
        }
        // A server that asks for patience, or has not been reached, gets another try.
        if matches!(fault.0, Effect::Answer(429 | 503, _)) {
            assert_eq!(failed, 0, "{fault:?}");
        }
    }
    world.is_clean(ALLOC);
}

/// A DEL or GC with a fault, and one more without: there is nothing.
fn every_fault_at_every_request_of(verb: &str) {
    let mut world = world();
    world.conf["cni.dev/valid-attachments"] = json!([]);
    world.ok("ADD", "p");
    let count = requests(&world, verb);
    for fault in faults() {
        for nth in 1..=count {
            let place = format!("{:?} at request {nth}", fault.0);
            world.ok("ADD", "p");
            let output = run_struck(&mut world, verb, nth, &fault);
            assert!(
                verb == "GC" || output.status.success(),
                "{place}: {output:?}"
            );
            // The next one that comes by does what had to wait.
            let next = if verb == "GC" { "p" } else { "other" };
            world.ok(verb, next);
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
        }
    }
    world.is_clean(ALLOC);
}

#[test]
fn every_fault_at_every_request_of_del() {
    every_fault_at_every_request_of("DEL");
}

#[test]
fn every_fault_at_every_request_of_gc() {
    every_fault_at_every_request_of("GC");
}

/// CHECK and STATUS say that they can't tell, or find out all the same, and change nothing.
#[test]
fn every_fault_at_every_request_of_check_and_status() {
    let mut world = world();
    world.conf["prevResult"] = world.ok("ADD", "p");
    let before = (world.endpoints(), world.alloc("oampub"));
    for verb in ["CHECK", "STATUS"] {
        let count = requests(&world, verb);
        for fault in faults() {
            for nth in 1..=count {
                let output = run_struck(&mut world, verb, nth, &fault);
                if matches!(fault.0, Effect::Answer(401 | 403 | 404, _)) && verb == "CHECK" {
                    assert!(!output.status.success(), "{fault:?} at request {nth}");
                }
                assert_eq!((world.endpoints(), world.alloc("oampub")), before);
            }
        }
    }
    world.ok("DEL", "p");
    world.is_clean(ALLOC);
}

/// A change comes to the server after this node has looked whether it was carried out: it is too late then.
#[test]
fn a_change_that_arrives_late() {
    let mut world = world();
    world.simple_pod("q", "oampub");
    world.conf["timeouts"] = json!({"apiServer": 1});
    let held = Fault::on("PATCH", "/clusternetworks/oampub", Effect::Held).nth(1);
    world.cluster.strike(held);
    let added = world.ok("ADD", "q");
    world.cluster.heal();
    assert_eq!(added["ips"][0]["address"], "10.2.157.1/27");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    world.ok("DEL", "q");
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
    let error = world.error("ADD", "q");
    assert!(error.contains("DanmNet update failed"), "{error}");
    let requests = world.cluster.requests();
    assert_eq!(requests.iter().filter(|r| r.method == "PATCH").count(), 1);
    world.cluster.heal();
    world.is_clean(ALLOC);
}
