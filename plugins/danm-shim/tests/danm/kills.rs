//! SIGKILL at every request to the API server and at every message to the kernel; then DEL, or GC because the node was
//! lost: no address, no DanmEp and no interface is left.

use std::fs;
use std::io::Write;
use std::time::Duration;

use cni_conformance::cluster::{Effect, Fault};
use serde_json::json;

use crate::faults;
use crate::tracer::End;
use crate::world::World;

const ALLOC: &str = "gBCAAQ==";

/// What becomes of the request that the killed process was waiting for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// The server has never carried it out.
    Lost,
    /// It is carried out before the next call.
    Before,
    /// It is carried out after the next call.
    After,
}

/// Starts a verb for the pod `p`, and kills it when it has sent its nth request. False: it makes fewer.
fn killed_at(world: &World, verb: &str, nth: usize, fate: Fate) -> bool {
    let effect = match fate {
        Fate::Lost => Effect::Delay(Duration::from_secs(3600)),
        Fate::Before | Fate::After => Effect::Held,
    };
    let place = u32::try_from(nth).unwrap();
    world.cluster.forget_requests();
    world.cluster.strike(Fault::on("", "", effect).nth(place));
    let mut child = world.start(verb, "p", &world.bed.path);
    let is_sent = world.wait_for_requests(nth, &mut child);
    // One that makes fewer has ended.
    child.kill().unwrap();
    child.wait().unwrap();
    is_sent
}

/// The pod is gone, and the node comes back and asks for GC.
fn lost(world: &mut World) {
    let path = "/api/v1/namespaces/default/pods/p";
    let mut pod = world.cluster.get(path).unwrap();
    world.cluster.remove(path);
    world.conf["cni.dev/valid-attachments"] = json!([]);
    world.ok("GC", "");
    pod["metadata"] = json!({"name": "p", "annotations": pod["metadata"]["annotations"]});
    world.cluster.put(pod).unwrap();
}

fn killed_at_every_request(verb: &str, then: &str) {
    for fate in [Fate::Lost, Fate::Before, Fate::After] {
        let mut world = faults::world();
        let mut kills = 0;
        for nth in 1.. {
            if verb != "ADD" {
                world.ok("ADD", "p");
            }
            let is_sent = killed_at(&world, verb, nth, fate);
            if fate == Fate::Before || !is_sent {
                world.cluster.heal();
            }
            match then {
                "GC" => lost(&mut world),
                _ => drop(world.ok(then, "p")),
            }
            world.cluster.heal();
            // What came too late is taken back by the next call.
            world.ok("DEL", "other");
            let place = format!("{verb} killed at request {nth}, {fate:?}, then {then}");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
            if !is_sent {
                break;
            }
            kills += 1;
            // What may come yet would be asked for in each round to come.
            fs::remove_dir_all(world.dir.join("state/containers")).unwrap();
        }
        assert!(kills > 4, "{verb}, {fate:?}: {kills} requests");
        world.is_clean(ALLOC);
    }
}

#[test]
fn killed_at_every_request_of_add_then_del() {
    killed_at_every_request("ADD", "DEL");
}

#[test]
fn killed_at_every_request_of_add_then_gc() {
    killed_at_every_request("ADD", "GC");
}

#[test]
fn killed_at_every_request_of_del_then_del() {
    killed_at_every_request("DEL", "DEL");
}

#[test]
fn killed_at_every_request_of_del_then_gc() {
    killed_at_every_request("DEL", "GC");
}

/// The address is taken, the DanmEp is not there yet, and the record of the container is lost: the books know it still.
#[test]
fn gc_of_an_address_without_a_record() {
    let mut world = faults::world();
    world.simple_pod("p", "oampub");
    let lost = Effect::Delay(Duration::from_secs(3600));
    world.cluster.strike(Fault::on("POST", "/danmeps", lost));
    let mut child = world.start("ADD", "p", &world.bed.path);
    world.wait_for_request("POST", "/danmeps");
    child.kill().unwrap();
    child.wait().unwrap();
    world.cluster.heal();
    fs::remove_dir_all(world.dir.join("state/containers")).unwrap();
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    world.simple_pod("q", "oampub");
    world.ok("ADD", "q");
    world.conf["cni.dev/valid-attachments"] = json!([{"containerID": "c-q", "ifname": "eth0"}]);
    world.ok("GC", "");
    assert_eq!(world.alloc("oampub"), "oBCAAQ==");
    world.ok("DEL", "q");
    world.is_clean(ALLOC);
}

/// An interface of both families with routes and policy routes, made by a delegate or by the plugin itself.
fn world_with_routes(kind: &str) -> World {
    let mut world = World::new();
    // Then it always sends the same messages in the same order.
    world.conf["parallel"] = json!(1);
    let spec = json!({"NetworkID": "routed", "NetworkType": kind, "Options": {"host_device": "m0", "rt_tables": 107,
        "cidr": "10.2.157.0/27", "net6": "fd00::/120", "alloc": ALLOC,
        "routes": {"10.20.0.0/24": "10.2.157.30"}, "routes6": {"fd05::/48": "fd00::2"}}});
    world.object("ClusterNetwork", "routed", &spec);
    world.pod("p", &json!([
        {"clusterNetwork": "routed", "ip": "dynamic", "ip6": "dynamic", "proutes": {"10.9.0.0/16": "10.2.157.30"}},
        {"clusterNetwork": "routed", "ip": "10.2.157.9"},
    ]));
    world
}

/// Kills ADD and DEL at every message that they send to the kernel.
pub(crate) fn killed_at_every_message(test: &str, kind: &str) {
    let world = world_with_routes(kind);
    // The delegate deletes its link itself.
    let verbs = match kind {
        "ipvlan" => [("ADD", 10), ("DEL", 2)],
        _ => [("ADD", 10), ("DEL", 0)],
    };
    for (verb, least) in verbs {
        let mut kills = 0;
        for nth in 1.. {
            if verb == "DEL" {
                world.ok("ADD", "p");
            }
            let end = match world.run_killed(verb, "p", nth) {
                Ok(end) => end,
                Err(e) => {
                    let reason =
                        format!("{test}: skipped, this kernel does not let it trace: {e}\n");
                    return drop(std::io::stderr().write_all(reason.as_bytes()));
                }
            };
            world.ok("DEL", "p");
            world.ok("DEL", "other");
            let place = format!("{verb} at message {nth}: {end:?}");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("routed"), ALLOC, "{place}");
            if end != End::Killed {
                assert_eq!(end, End::Exited(0), "{verb}");
                break;
            }
            kills += 1;
        }
        assert!(kills >= least, "{verb}: {kills} messages");
    }
    world.is_clean(ALLOC);
}

#[test]
fn killed_at_every_message_of_an_interface_by_a_delegate() {
    let name = "killed_at_every_message_of_an_interface_by_a_delegate";
    killed_at_every_message(name, "macvlan");
}
