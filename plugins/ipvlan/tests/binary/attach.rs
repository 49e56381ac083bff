//! ADD and DEL of real links.

use crate::world::World;
use serde_json::{Value, json};

const SEED: &str = include_str!("../../../../docs/examples/ipvlan.yaml");

/// `spec.config` of the seed's attachment, as it stands, with the IPAM plugin of these tests.
fn seed_conf() -> String {
    let (_, config) = SEED.split_once("config: '").unwrap();
    let (config, _) = config.rsplit_once('\'').unwrap();
    config.replace("host-local", "ipam")
}

/// A configuration with these keys beside `cniVersion`, `name` and `type`.
fn conf(version: &str, keys: &Value) -> String {
    let mut conf = json!({"cniVersion": version, "name": "n", "type": "ipvlan"});
    let keys = keys.as_object().unwrap().clone();
    conf.as_object_mut().unwrap().extend(keys);
    conf.to_string()
}

fn with_ipam(keys: &Value) -> String {
    let mut keys = keys.clone();
    keys["ipam"] = json!({"type": "ipam"});
    conf("1.1.0", &keys)
}

#[test]
fn the_attachment_of_the_seed() {
    let Some(world) = World::with_ipvlan("seed") else {
        return;
    };
    world.run("host", "ip link set enp0s3 mtu 1400");
    let result = world.call("ADD", &seed_conf()).ok();
    let ip4 = json!({"ip": "10.1.2.2/24", "gateway": "10.1.2.1"});
    assert_eq!(
        result,
        json!({"cniVersion": "0.1.0", "ip4": ip4, "dns": {}})
    );

    let link = world.link("pod", "net1");
    assert_eq!(link["linkinfo"]["info_kind"], "ipvlan");
    assert_eq!(link["linkinfo"]["info_data"]["mode"], "l2");
    assert_eq!(link["address"], world.link("host", "enp0s3")["address"]);
    assert_eq!(link["mtu"], 1400);
    let flags = link["flags"].as_array().unwrap();
    assert!(flags.contains(&json!("UP")), "{link}");
    let address = &link["addr_info"][0];
    assert_eq!(
        (
            &address["local"],
            &address["prefixlen"],
            &address["broadcast"],
            &address["scope"]
        ),
        (
            &json!("10.1.2.2"),
            &json!(24),
            &json!("10.1.2.255"),
            &json!("global")
        )
    );
    // So that the neighbours hear of the address.
    for sysctl in ["ipv4/conf/net1/arp_notify", "ipv6/conf/net1/ndisc_notify"] {
        assert_eq!(
            world.run("pod", &format!("cat /proc/sys/net/{sysctl}")),
            "1\n"
        );
    }
    world.run("pod", "ping -c 1 -W 2 -I net1 10.1.2.1");

    world.call("DEL", &seed_conf()).ok();
    assert!(world.pod_is_empty());
    world.call("DEL", &seed_conf()).ok();
    assert_eq!(world.ipam_calls(), ["ADD", "DEL", "DEL"]);
}

#[test]
fn results_in_the_shape_of_the_version() {
    let Some(world) = World::with_ipvlan("shapes") else {
        return;
    };
    let add = |version| {
        let conf = conf(
            version,
            &json!({"master": "enp0s3", "ipam": {"type": "ipam"}}),
        );
        let result = world.call("ADD", &conf).ok();
        world.call("DEL", &conf).ok();
        result
    };
    let mac = world.link("host", "enp0s3")["address"].clone();
    let sandbox = world.netns("pod");
    let interface = json!({"name": "net1", "mac": mac, "sandbox": sandbox});
    let ip = json!({"address": "10.1.2.2/24", "gateway": "10.1.2.1", "interface": 0});
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let mut ip = ip.clone();
        ip["version"] = json!("4");
        let shape =
            json!({"cniVersion": version, "interfaces": [interface], "ips": [ip], "dns": {}});
        assert_eq!(add(version), shape);
    }
    let shape = json!({"cniVersion": "1.0.0", "interfaces": [interface], "ips": [ip]});
    assert_eq!(add("1.0.0"), shape);
    assert_eq!(add("1.1.0")["ips"], json!([ip]));
}

#[test]
fn modes_and_flags() {
    let Some(world) = World::with_ipvlan("modes") else {
        return;
    };
    for (mode, flag, made) in [
        ("", "", ("l2", "bridge")),
        ("l2", "private", ("l2", "private")),
        ("l3", "bridge", ("l3", "bridge")),
        ("l3s", "vepa", ("l3s", "vepa")),
    ] {
        let conf = with_ipam(&json!({"master": "enp0s3", "mode": mode, "flag": flag}));
        world.call("ADD", &conf).ok();
        let link = world.link("pod", "net1");
        let data = &link["linkinfo"]["info_data"];
        assert_eq!(data["mode"], made.0);
        // `ip` prints the flag as a key without a value.
        assert!(data.get(made.1).is_some(), "{data}");
        world.call("DEL", &conf).ok();
    }
}

#[test]
fn mtu() {
    let Some(world) = World::with_ipvlan("mtu") else {
        return;
    };
    let mtu = |mtu: u32| with_ipam(&json!({"master": "enp0s3", "mtu": mtu}));
    world.call("ADD", &mtu(1280)).ok();
    assert_eq!(world.link("pod", "net1")["mtu"], 1280);
    world.call("DEL", &mtu(1280)).ok();

    // The kernel takes it; what is larger than 1500 does not get past the parent.
    let answer = world.call("ADD", &mtu(9000));
    assert!(
        answer.stderr.contains("9000") && answer.stderr.contains("1500"),
        "{}",
        answer.stderr
    );
    answer.ok();
    world.call("DEL", &mtu(9000)).ok();

    let answer = world.call("ADD", &mtu(20));
    let refused = "failed to create ipvlan: invalid argument";
    assert!(
        answer.error().1.starts_with(refused),
        "{:?}",
        answer.error()
    );
    assert!(world.pod_is_empty());
}

#[test]
fn without_a_master_the_default_route_tells_it() {
    let Some(world) = World::with_ipvlan("default") else {
        return;
    };
    let conf = with_ipam(&json!({}));
    let answer = world.call("ADD", &conf);
    assert!(
        answer.error().1.contains("no default route"),
        "{:?}",
        answer.error()
    );

    world.run("host", "ip -6 route add default dev enp0s3");
    world.call("ADD", &conf).ok();
    world.call("DEL", &conf).ok();

    world.run(
        "host",
        "ip link add v4 type veth peer name v4p && ip link set v4 mtu 1300 up",
    );
    world.run(
        "host",
        "ip address add 10.5.0.1/24 dev v4 && ip route add default via 10.5.0.2",
    );
    world.call("ADD", &conf).ok();
    assert_eq!(world.link("pod", "net1")["mtu"], 1300);
}

#[test]
fn a_master_in_the_pod() {
    let Some(world) = World::with_ipvlan("inpod") else {
        return;
    };
    world.run(
        "pod",
        "ip link add parent type veth peer name port && ip link set parent up",
    );
    let conf = with_ipam(&json!({"master": "parent", "linkInContainer": true}));
    world.call("ADD", &conf).ok();
    let link = world.link("pod", "net1");
    assert_eq!(link["address"], world.link("pod", "parent")["address"]);
    assert_eq!(link["link"], "parent");
    world.call("DEL", &conf).ok();
    assert!(!world.succeeds("pod", "ip link show net1"));

    let absent = with_ipam(&json!({"master": "enp0s3", "linkInContainer": true}));
    assert!(world.call("ADD", &absent).error().1.contains("enp0s3"));
}

#[test]
fn in_a_chain_the_addresses_are_those_of_the_result_before() {
    let Some(world) = World::with_ipvlan("chain") else {
        return;
    };
    let prev = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "enp0s3"}],
        "ips": [{"address": "10.1.2.7/24", "gateway": "10.1.2.1"}, {"address": "fd01::7/64"}],
        "routes": [{"dst": "10.9.0.0/16"}],
        "dns": {"domain": "before"},
    });
    let chained = conf("1.0.0", &json!({"prevResult": prev}));
    let result = world.call("ADD", &chained).ok();
    assert_eq!(result["interfaces"][0]["name"], "net1");
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(
        result["ips"],
        json!([
            {"address": "10.1.2.7/24", "gateway": "10.1.2.1", "interface": 0},
            {"address": "fd01::7/64", "interface": 0},
        ])
    );
    assert_eq!(result["routes"], prev["routes"]);
    assert_eq!(result["dns"], prev["dns"]);
    let routes = world.run("pod", "ip route show 10.9.0.0/16");
    assert!(routes.contains("via 10.1.2.1 dev net1"), "{routes}");
    assert!(world.ipam_calls().is_empty());

    // The runtime's CHECK and DEL carry the result of the whole chain.
    let after = conf("1.0.0", &json!({"master": "enp0s3", "prevResult": result}));
    world.call("CHECK", &after).ok();
    world.call("DEL", &after).ok();
    assert!(world.pod_is_empty());

    // Its own IPAM plugin goes before the addresses of the chain.
    let both = with_ipam(&json!({"prevResult": prev}));
    let result = world.call("ADD", &both).ok();
    assert_eq!(result["ips"][0]["address"], "10.1.2.2/24");
}

#[test]
fn a_chain_with_two_interfaces_names_no_master() {
    let world = World::new("twoprev");
    let prev = json!({"interfaces": [{"name": "a"}, {"name": "b"}]});
    let answer = world.call("ADD", &conf("1.0.0", &json!({"prevResult": prev})));
    let text = "chained master failure. PrevResult lacks a single named interface";
    assert!(answer.error().1.starts_with(text), "{:?}", answer.error());
}

#[test]
fn without_addresses_there_is_a_link_all_the_same() {
    let Some(world) = World::with_ipvlan("l2only") else {
        return;
    };
    let bare = conf("1.0.0", &json!({"master": "enp0s3"}));
    let result = world.call("ADD", &bare).ok();
    assert_eq!(result["interfaces"][0]["name"], "net1");
    assert_eq!(result["ips"], Value::Null);
    let flags = world.link("pod", "net1")["flags"].clone();
    assert!(flags.as_array().unwrap().contains(&json!("UP")));
    let after = conf("1.0.0", &json!({"master": "enp0s3", "prevResult": result}));
    world.call("CHECK", &after).ok();
    world.call("DEL", &bare).ok();
    assert!(world.pod_is_empty());
}

#[test]
fn a_failed_add_leaves_nothing() {
    let Some(world) = World::with_ipvlan("undo") else {
        return;
    };
    let conf_here = with_ipam(&json!({"master": "enp0s3"}));
    let failing = [
        r#"echo '{"code":11,"msg":"try later"}'; exit 1"#,
        r#"echo '{"cniVersion":"1.1.0"}'"#,
        r#"echo '{"ips":[{"address":"10.1.2.2/24"}],"routes":[{"dst":"10.9.0.0/16","gw":"192.0.2.1"}]}'"#,
    ];
    for on_add in failing {
        world.ipam(on_add, "");
        let before = world.ipam_calls().len();
        assert!(!world.call("ADD", &conf_here).success, "{on_add}");
        assert!(world.pod_is_empty(), "{on_add}");
        assert_eq!(world.ipam_calls()[before..], ["ADD", "DEL"], "{on_add}");
    }
    // The roll-back gives the address back after the link is gone, so that nobody else gets an address that is in use.
    let netns = world.netns("pod");
    let note = format!("nsenter --net={netns} ip -o link >{netns}.at-release");
    world.ipam(failing[2], &note);
    assert!(!world.call("ADD", &conf_here).success);
    let seen = std::fs::read_to_string(format!("{netns}.at-release")).unwrap();
    assert!(!seen.contains("net1"), "{seen}");

    // No version before 0.3.0 can express a result without an address.
    let bare = conf("0.2.0", &json!({"master": "enp0s3"}));
    assert!(
        world
            .call("ADD", &bare)
            .error()
            .1
            .contains("no valid IP addresses")
    );
    assert!(world.pod_is_empty());
}

#[test]
fn a_second_add_leaves_the_first_as_it_is() {
    let Some(world) = World::with_ipvlan("twice") else {
        return;
    };
    let conf = with_ipam(&json!({"master": "enp0s3"}));
    world.call("ADD", &conf).ok();
    let first = world.link("pod", "net1");
    let answer = world.call("ADD", &conf);
    assert!(
        answer.error().1.contains("file exists"),
        "{:?}",
        answer.error()
    );
    assert_eq!(world.link("pod", "net1"), first);
    assert_eq!(world.run("pod", "ip -o link").lines().count(), 2);
    assert_eq!(world.ipam_calls(), ["ADD"]);
}

#[test]
fn a_parent_of_macvlan_links_takes_none_of_ipvlan() {
    let Some(world) = World::with_ipvlan("busy") else {
        return;
    };
    world.run("host", "ip link add link enp0s3 name mv0 type macvlan");
    let answer = world.call("ADD", &with_ipam(&json!({"master": "enp0s3"})));
    let (_, msg) = answer.error();
    assert!(
        msg.starts_with("failed to create ipvlan: device or resource busy"),
        "{msg}"
    );
    let details = answer.document["details"].as_str().unwrap();
    assert!(
        details.contains("enp0s3") && details.contains("macvlan"),
        "{details}"
    );
    assert!(world.pod_is_empty());
}

#[test]
fn pods_reach_each_other_unless_they_are_private() {
    let Some(mut world) = World::with_ipvlan("packets") else {
        return;
    };
    world.namespace("pod2");
    for (mode, flag, reachable) in [
        ("l2", "bridge", true),
        ("l3", "bridge", true),
        ("l3s", "bridge", true),
        ("l2", "private", false),
    ] {
        let conf = with_ipam(&json!({"master": "enp0s3", "mode": mode, "flag": flag}));
        for (pod, host_part) in [("pod", 2), ("pod2", 3)] {
            world.ipam(
                &format!(
                    r#"echo '{{"ips":[{{"address":"10.1.2.{host_part}/24"}},{{"address":"fd01::{host_part}/64"}}]}}'"#
                ),
                "",
            );
            world.call_for(pod, "ADD", &conf).ok();
            // Duplicate address detection.
            world.run(pod, "for i in $(seq 50); do ip -6 address show dev net1 tentative | grep -q . || exit 0; sleep 0.1; done; exit 1");
        }
        for other in ["10.1.2.3", "fd01::3"] {
            let answered = world.succeeds("pod", &format!("ping -c 1 -W 2 {other}"));
            assert_eq!(answered, reachable, "{mode} {flag} {other}");
        }
        for pod in ["pod", "pod2"] {
            world.call_for(pod, "DEL", &conf).ok();
        }
    }
}
