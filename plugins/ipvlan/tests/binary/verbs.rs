//! DEL, CHECK, GC, STATUS and what is refused before any work.

use crate::world::World;
use serde_json::{Value, json};

/// A configuration of version 1.1.0 with IPAM and these keys.
fn conf(keys: &Value) -> String {
    let mut conf =
        json!({"cniVersion": "1.1.0", "name": "n", "type": "ipvlan", "ipam": {"type": "ipam"}});
    let keys = keys.as_object().unwrap().clone();
    conf.as_object_mut().unwrap().extend(keys);
    conf.to_string()
}

#[test]
fn del_works_with_whatever_is_left() {
    let world = World::new("del");
    let two = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "a"}, {"name": "b"}]});
    let of_another_time = json!({"cniVersion": "9.9.9"});
    let pod = world.netns("pod");
    for (keys, netns) in [
        (json!({}), pod.as_str()),
        (json!({"master": "gone"}), "/nowhere/pod"),
        (json!({"prevResult": two}), ""),
        (json!({"prevResult": of_another_time}), pod.as_str()),
        (
            json!({"mode": "L2", "flag": "x", "mtu": 100_000}),
            pod.as_str(),
        ),
        (json!({"linkInContainer": true}), pod.as_str()),
    ] {
        let before = world.ipam_calls().len();
        let answer = world.call_with("DEL", "c", netns, &conf(&keys));
        assert_eq!(answer.ok(), Value::Null, "{keys} {netns}");
        assert_eq!(world.ipam_calls()[before..], ["DEL"], "{keys} {netns}");
    }
}

#[test]
fn del_removes_the_link_when_the_address_can_not_be_given_back() {
    let Some(world) = World::with_ipvlan("delipam") else {
        return;
    };
    let conf = conf(&json!({"master": "enp0s3"}));
    world.call("ADD", &conf).ok();
    world.ipam("", r#"echo '{"code":11,"msg":"store is locked"}'; exit 1"#);
    let answer = world.call("DEL", &conf);
    assert_eq!(answer.error().0, 11);
    assert!(answer.error().1.contains("store is locked"));
    assert!(world.pod_is_empty());
}

#[test]
fn check_sees_what_is_not_as_it_was() {
    let Some(world) = World::with_ipvlan("check") else {
        return;
    };
    let lease =
        r#"{"ips":[{"address":"10.1.2.2/24"}],"routes":[{"dst":"10.9.0.0/16","gw":"10.1.2.1"}]}"#;
    world.ipam(&format!("echo '{lease}'"), "");
    let conf = |keys: Value| {
        let mut all = json!({"master": "enp0s3"});
        all.as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        conf(&all)
    };
    let result = world.call("ADD", &conf(json!({}))).ok();
    let check = |keys: Value| {
        let mut all = json!({"prevResult": result});
        all.as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        world.call("CHECK", &conf(all))
    };
    check(json!({})).ok();
    assert_eq!(world.ipam_calls(), ["ADD", "CHECK"]);
    assert_eq!(
        world.call("CHECK", &conf(json!({}))).error().0,
        7,
        "no prevResult"
    );

    let fails = |keys: Value, words: &str| {
        let answer = check(keys);
        let (_, msg) = answer.error();
        assert!(msg.contains(words), "{msg:?} does not say {words:?}");
    };
    fails(
        json!({"mode": "l3"}),
        "mode l2 does not match expected value: l3",
    );
    fails(
        json!({"flag": "private"}),
        "flag bridge does not match expected value: private",
    );
    fails(json!({"master": "nosuch"}), "nosuch");

    world.run("pod", "ip route del 10.9.0.0/16");
    fails(json!({}), "10.9.0.0/16");
    world.run("pod", "ip route add 10.9.0.0/16 via 10.1.2.1");
    check(json!({})).ok();

    world.run("pod", "ip address add 10.1.2.3/24 dev net1");
    check(json!({})).ok();
    world.run("pod", "ip address flush dev net1");
    fails(json!({}), "10.1.2.2");

    world.run("pod", "ip link del net1");
    fails(json!({}), "net1");
    world.run(
        "pod",
        "ip link add net1 type veth peer name other && ip link set net1 up",
    );
    fails(json!({}), "not of type ipvlan");
}

#[test]
fn status_and_gc_ask_the_ipam_plugin_too() {
    let world = World::new("forward");
    world
        .call("STATUS", &conf(&json!({"master": "enp0s3"})))
        .ok();
    let valid = json!({"master": "enp0s3", "cni.dev/valid-attachments": []});
    world.call("GC", &conf(&valid)).ok();
    assert_eq!(world.ipam_calls(), ["STATUS", "GC"]);

    world.ipam("", r#"echo '{"code":50,"msg":"pool is full"}'; exit 1"#);
    let answer = world.call("STATUS", &conf(&json!({"master": "enp0s3"})));
    assert_eq!(answer.error(), (50, "pool is full"));
}

#[test]
fn status_knows_a_master_that_is_missing() {
    let world = World::new("nomaster");
    let answer = world.call("STATUS", &conf(&json!({"master": "nosuch"})));
    let (code, msg) = answer.error();
    assert_eq!(code, 50);
    assert!(msg.contains("nosuch"), "{msg}");
    // Without IPAM it is in a chain, and the plugin before it may make the master.
    let chained = conf(&json!({"master": "nosuch", "ipam": null}));
    world.call("STATUS", &chained).ok();
    world.call("STATUS", &conf(&json!({}))).ok();
}

#[test]
fn what_is_no_mode_and_no_flag_is_refused_before_any_work() {
    let world = World::new("refused");
    for (keys, words) in [
        (json!({"mode": "L2"}), r#"unknown ipvlan mode: "L2""#),
        (
            json!({"flag": "Private"}),
            r#"unknown ipvlan flag: "Private""#,
        ),
    ] {
        for verb in ["ADD", "STATUS"] {
            let answer = world.call(verb, &conf(&keys));
            let (_, msg) = answer.error();
            assert!(msg.starts_with(words), "{msg}");
        }
    }
    let answer = world.call("ADD", &conf(&json!({"master": "nosuch"})));
    assert!(answer.error().1.contains("nosuch"), "{:?}", answer.error());
    assert!(world.pod_is_empty());
    assert_eq!(world.ipam_calls(), [""; 0]);
}
