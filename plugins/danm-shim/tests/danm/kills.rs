//! SIGKILL at every request to the API server and at every message to the kernel; then DEL, or GC because the node was
//! lost: no address, no DanmEp and no interface is left.

use std::fs;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use cni_conformance::cluster::{Effect, Fault};
use serde_json::{Value, json};

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

/// Makes the marks in the network so old that no ADD can be at work any more.
fn age(world: &World) {
    if marks(world).is_empty() {
        return;
    }
    let old = UNIX_EPOCH.elapsed().unwrap().as_secs() - 3600;
    world.change("oampub", |network| {
        let annotations = network["metadata"]["annotations"].as_object_mut();
        for text in annotations.into_iter().flat_map(|all| all.values_mut()) {
            let words: Vec<_> = text.as_str().unwrap().split(' ').collect();
            if let [change, _, rest @ ..] = &words[..] {
                *text = json!(format!("{change} {old} {}", rest.join(" ")));
            }
        }
    });
}

/// The marks in the network `oampub`, by their names.
fn marks(world: &World) -> Vec<(String, Value)> {
    let path = "/apis/danm.k8s.io/v1/clusternetworks/oampub";
    let network = world.cluster.get(path).unwrap();
    let marks = network["metadata"]["annotations"].as_object().cloned();
    marks.into_iter().flatten().collect()
}

/// The node comes back without anything that it knew.
#[test]
fn killed_at_every_request_of_add_then_gc_without_state() {
    for fate in [Fate::Lost, Fate::Before, Fate::After] {
        let mut world = faults::world();
        for nth in 1.. {
            let is_sent = killed_at(&world, "ADD", nth, fate);
            if fate == Fate::Before || !is_sent {
                world.cluster.heal();
            }
            fs::remove_dir_all(world.dir.join("state")).unwrap();
            age(&world);
            lost(&mut world);
            if fate == Fate::After {
                world.cluster.heal();
                age(&world);
                lost(&mut world);
            }
            world.cluster.heal();
            let place = format!("ADD killed at request {nth}, {fate:?}");
            assert_eq!(world.left(), Vec::<String>::new(), "{place}");
            assert_eq!(world.alloc("oampub"), ALLOC, "{place}");
            // One that names a change and no address is left where GC has taken a DanmEp down.
            let told = marks(&world);
            assert!(
                told.iter().all(|(_, m)| m.as_str().unwrap().len() == 8),
                "{place}: {told:?}"
            );
            if !is_sent {
                assert!(nth > 5, "{nth} requests");
                break;
            }
        }
    }
}

/// What a mark tells of is given back only if nobody can have it.
#[test]
fn an_address_of_a_lost_node_that_is_in_use() {
    let mut world = faults::world();
    for pod in ["a", "b"] {
        world.simple_pod(pod, "oampub");
    }
    world.ok("ADD", "a");
    world.cluster.forget_requests();
    let lost_request = Effect::Delay(Duration::from_secs(3600));
    world
        .cluster
        .strike(Fault::on("POST", "/danmeps", lost_request));
    let mut child = world.start("ADD", "b", &world.bed.path);
    world.wait_for_request("POST", "/danmeps");
    child.kill().unwrap();
    child.wait().unwrap();
    world.cluster.heal();
    let all = marks(&world);
    let [(_, mark)] = &all[..] else {
        panic!("{all:?}");
    };
    // The DanmEp of `a` has been made.
    assert!(mark.as_str().unwrap().ends_with(" 10.2.157.2"), "{mark}");
    fs::rename(world.dir.join("state"), world.dir.join("state-1")).unwrap();
    world.conf["cni.dev/valid-attachments"] = json!([{"containerID": "c-a", "ifname": "eth0"}]);

    // An ADD may be at work.
    world.ok("GC", "");
    assert_eq!(
        (marks(&world), world.alloc("oampub")),
        (all.clone(), "4BCAAQ==".into())
    );
    age(&world);
    // It is another node's.
    let other = world.start_on(2, "GC", "").wait_with_output().unwrap();
    assert!(other.status.success(), "{other:?}");
    assert_eq!(world.alloc("oampub"), "4BCAAQ==");
    // Another node has it by now.
    let endpoint = &world.endpoints()[0];
    let mut meanwhile = endpoint.clone();
    meanwhile["metadata"] = json!({"name": "meanwhile", "namespace": "default"});
    meanwhile["spec"]["Host"] = json!("elsewhere");
    meanwhile["spec"]["Interface"]["Address"] = json!("10.2.157.2/27");
    world.cluster.put(meanwhile).unwrap();
    world.ok("GC", "");
    assert_eq!(world.alloc("oampub"), "4BCAAQ==");
    assert_eq!(marks(&world), []);
}

/// Of three addresses in a mark of this node one is in another node's mark, and one in a DanmEp by now.
#[test]
fn marks_of_a_node_that_was_lost() {
    let mut world = faults::world();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let lost = format!(
        "1a2b3c4d 1000000000 {} 10.2.157.1 10.2.157.2 10.2.157.3",
        host.trim()
    );
    let other = "5e6f7a8b 1000000000 elsewhere 10.2.157.2";
    world.change("oampub", |network| {
        network["metadata"]["annotations"] =
            json!({"danm-shim/aaaaaaaa": lost, "danm-shim/bbbbbbbb": other});
        network["spec"]["Options"]["alloc"] = json!("8BCAAQ==");
    });
    let endpoint = json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp",
        "metadata": {"name": "third", "namespace": "default"},
        "spec": {"NetworkName": "oampub", "apiType": "ClusterNetwork", "Host": "elsewhere",
            "Interface": {"Name": "eth0", "Address": "10.2.157.3/27"}}});
    world.cluster.put(endpoint).unwrap();
    world.conf["cni.dev/valid-attachments"] = json!([]);
    world.ok("GC", "");
    assert_eq!(world.alloc("oampub"), "sBCAAQ==");
    assert_eq!(
        marks(&world),
        [("danm-shim/bbbbbbbb".to_owned(), json!(other))]
    );
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
