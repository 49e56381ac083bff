//! `default-route`, in the kernel and in everything that is told of it.

use serde_json::json;

use crate::world::World;

fn defaults(world: &World) -> Vec<String> {
    let text = world.bed.in_pod("ip route show default");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_gateway_is_the_pods_only_default_route() {
    let world = World::new();
    world.select(&json!([{"name": "net2", "default-route": ["10.2.0.9"]}, {"name": "net3"}]));
    let result = world.ok("ADD");
    assert_eq!(defaults(&world), ["default via 10.2.0.9 dev net1"]);
    assert!(result.get("routes").is_none(), "{result}");
    let status = world.status();
    assert!(status[0].get("gateway").is_none(), "{status}");
    assert_eq!(status[1]["gateway"], json!(["10.2.0.9"]));
    assert!(status[2].get("gateway").is_none(), "{status}");
    world.ok("DEL");
    let prev = &world.stdin("DEL", "net1")["prevResult"];
    assert_eq!(
        prev["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.2.0.9"}])
    );
}

#[test]
fn an_empty_list_keeps_the_networks_own_route() {
    let world = World::new();
    world.select(&json!([{"name": "net2", "default-route": []}]));
    world.ok("ADD");
    assert_eq!(defaults(&world), ["default via 10.2.0.1 dev net1"]);
    world.ok("DEL");
}

#[test]
fn nobody_asks_and_nothing_is_touched() {
    let world = World::new();
    world.select(&json!([{"name": "net2"}]));
    world.ok("ADD");
    assert_eq!(defaults(&world).len(), 2);
    world.ok("DEL");
}

#[test]
fn a_gateway_out_of_reach_takes_everything_back() {
    let world = World::new();
    world.select(&json!([{"name": "net2", "default-route": ["192.0.2.1"]}]));
    let (_, text) = world.error("ADD");
    assert!(text.contains("error setting default gateway"), "{text}");
    assert!(world.links().is_empty());
    world.ok("DEL");
}
