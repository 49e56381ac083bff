//! Which addresses pods get, and what the bitmap says of them afterwards.

use std::collections::BTreeSet;
use std::io::Write as _;

use cni_conformance::cluster::{Cluster, ControlPlane};
use serde_json::{Value, json};

use crate::world::World;

/// The fresh bitmap of a /24.
const FRESH_24: &str = "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";

/// The two pods of the example, and back.
#[test]
fn the_bitmap_of_the_example() {
    let world = World::new();
    world.delegate("dry");
    for (pod, address, alloc) in [
        ("samplepod-danm", "10.2.157.1/27", "wBCAAQ=="),
        ("samplepod3", "10.2.157.2/27", "4BCAAQ=="),
    ] {
        world.simple_pod(pod, "oampub");
        assert_eq!(world.ok("ADD", pod)["ips"][0]["address"], address);
        assert_eq!(world.alloc("oampub"), alloc);
    }
    world.ok("DEL", "samplepod-danm");
    assert_eq!(world.alloc("oampub"), "oBCAAQ==");
    world.ok("DEL", "samplepod3");
    world.is_clean("gBCAAQ==");
}

/// Writes to networks per address.
fn writes(world: &World, addresses: usize) -> f64 {
    let requests = world.cluster.requests();
    let writes = requests
        .iter()
        .filter(|r| r.method != "GET" && r.path.contains("/clusternetworks/"));
    let writes = u32::try_from(writes.count()).unwrap();
    world.cluster.forget_requests();
    f64::from(writes) / f64::from(u32::try_from(addresses).unwrap())
}

/// 64 pods come at the same time on so many nodes, and go at the same time.
fn sixty_four_on(nodes: usize, world: &World) {
    world.delegate("dry");
    world.network("wide", json!({"host_device": "m0", "cidr": "10.3.0.0/24"}));
    let pods: Vec<String> = (0..64).map(|number| format!("p{number}")).collect();
    pods.iter().for_each(|pod| world.simple_pod(pod, "wide"));
    let all = |verb| {
        let running: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(number, pod)| world.start_on(number % nodes, verb, pod))
            .collect();
        let outputs = running
            .into_iter()
            .map(|child| child.wait_with_output().unwrap());
        let outputs: Vec<_> = outputs.collect();
        for output in &outputs {
            assert!(output.status.success(), "{output:?}");
        }
        outputs
    };
    let addresses: BTreeSet<String> = all("ADD")
        .iter()
        .map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap())
        .map(|result| result["ips"][0]["address"].as_str().unwrap().to_owned())
        .collect();
    let expected: BTreeSet<String> = (1..=64).map(|host| format!("10.3.0.{host}/24")).collect();
    assert_eq!(addresses, expected);
    let hosts = world
        .endpoints()
        .into_iter()
        .map(|e| e["spec"]["Host"].to_string());
    assert_eq!(hosts.collect::<BTreeSet<_>>().len(), nodes);
    let added = writes(world, 64);
    all("DEL");
    let deleted = writes(world, 64);
    assert!(
        added <= 3.0 && deleted <= 3.0,
        "{nodes} nodes: {added:.2} writes for an address, {deleted:.2} to give it back"
    );
    assert_eq!(world.alloc("wide"), FRESH_24);
    world.is_clean("gBCAAQ==");
}

#[test]
fn sixty_four_at_the_same_time_on_one_node() {
    sixty_four_on(1, &World::new());
}

#[test]
fn sixty_four_at_the_same_time_on_eight_nodes() {
    sixty_four_on(8, &World::new());
}

#[test]
fn sixty_four_on_eight_nodes_of_a_real_api_server() {
    match ControlPlane::from_environment().unwrap() {
        Some(real) => sixty_four_on(8, &World::with(|| Cluster::before(&real))),
        None => {
            let reason = "sixty_four_on_eight_nodes_of_a_real_api_server: skipped, KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver\n";
            std::io::stderr().write_all(reason.as_bytes()).unwrap();
        }
    }
}

/// The example's network has 28 addresses left: so many pods get one, each another.
#[test]
fn more_pods_than_addresses() {
    let world = World::new();
    world.delegate("dry");
    let pods: Vec<String> = (0..50).map(|number| format!("p{number}")).collect();
    pods.iter().for_each(|pod| world.simple_pod(pod, "oampub"));
    let running: Vec<_> = (0..)
        .zip(&pods)
        .map(|(number, pod)| world.start_on(number % 2, "ADD", pod))
        .collect();
    let mut addresses = BTreeSet::new();
    for child in running {
        let output = child.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        match output.status.success() {
            true => assert!(addresses.insert(answer["ips"][0]["address"].to_string())),
            false => {
                let error = answer["msg"].as_str().unwrap();
                assert!(error.contains("all addresses are reserved"), "{error}");
            }
        }
    }
    assert_eq!(addresses.len(), 28);
    assert_eq!(world.alloc("oampub"), "/////w==");
    for (number, pod) in (0..).zip(&pods) {
        let output = world
            .start_on(number % 2, "DEL", pod)
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    world.is_clean("gBCAAQ==");
}

#[test]
fn a_full_network_gives_nothing() {
    let world = World::new();
    world.network(
        "full",
        json!({"host_device": "m0", "cidr": "10.3.0.0/30", "alloc": "8A=="}),
    );
    world.simple_pod("p", "full");
    let error = world.error("ADD", "p");
    assert!(error.contains("all addresses are reserved"), "{error}");
    assert_eq!(world.alloc("full"), "8A==");
    world.is_clean("gBCAAQ==");
}
