//! Which addresses pods get, and what the bitmap says of them afterwards.

use std::collections::BTreeSet;

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

#[test]
fn sixty_four_at_the_same_time() {
    let world = World::new();
    world.delegate("dry");
    world.network("wide", json!({"host_device": "m0", "cidr": "10.3.0.0/24"}));
    let pods: Vec<String> = (0..64).map(|number| format!("p{number}")).collect();
    pods.iter().for_each(|pod| world.simple_pod(pod, "wide"));
    let all = |verb| {
        let running: Vec<_> = pods
            .iter()
            .map(|pod| world.start(verb, pod, &world.bed.path))
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
    assert_eq!(world.endpoints().len(), 64);
    all("DEL");
    assert_eq!(world.alloc("wide"), FRESH_24);
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
