//! What a pod asks for in its annotation, and what it gets.

use serde_json::{Value, json};

use crate::world::{NETWORKS, World};

#[test]
fn the_pod_has_an_interface_in_each_network_and_loses_them() {
    let world = World::new();
    world.annotate(NETWORKS, "net2, default/net3@foo");
    let result = world.ok("ADD");
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    assert_eq!(world.links(), ["eth0", "foo", "net1"]);
    let name = &world.stdin("ADD", "net1")["name"];
    assert_eq!(name, "net2", "the definition's name is put in");
    world.ok("DEL");
    assert_eq!(
        world.calls(),
        [
            "ADD net1 eth0",
            "ADD net2 net1",
            "ADD net3 foo",
            "DEL net3 foo",
            "DEL net2 net1",
            "DEL net1 eth0"
        ]
    );
    assert!(world.links().is_empty());
    let left: Vec<_> = std::fs::read_dir(world.dir.join("state/results"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_repeated_add_touches_nothing_and_answers_the_same() {
    let world = World::new();
    world.annotate(NETWORKS, "net2");
    let first = world.ok("ADD");
    let before = world.bed.in_pod("ip -o addr show");
    assert_eq!(world.ok("ADD"), first);
    assert_eq!(world.calls().len(), 2, "no plugin was called again");
    assert_eq!(world.bed.in_pod("ip -o addr show"), before);
    // Another set of networks is another pod's affair.
    world.annotate(NETWORKS, "net3");
    let (_, text) = world.error("ADD");
    assert!(text.contains("in place from an earlier ADD"), "{text}");
    assert_eq!(world.links(), ["eth0", "net1"]);
    world.ok("DEL");
    assert!(world.links().is_empty());
}

#[test]
fn a_foreign_interface_is_left_alone() {
    let world = World::new();
    world
        .bed
        .in_pod("ip link add net1 type veth peer name pnet1");
    world.annotate(NETWORKS, "net2");
    world.refused("interface name net1 already exists");
    assert_eq!(world.links(), ["net1"]);
}

#[test]
fn annotations_that_can_not_be_served_are_refused_before_anything_is_done() {
    for (networks, words) in [
        (
            "nosuch",
            "cannot find a network-attachment-definition (nosuch) in namespace (default)",
        ),
        ("net2,", "resource name may not be empty"),
        ("a/b/c", "failed at '/'"),
        ("[null]", "item 1 of 1"),
        (
            "[adsf",
            "failed to parse pod Network Attachment Selection Annotation JSON format",
        ),
        (
            r#"[{"name":"net2","mac":"zz"}]"#,
            "failed to mac: address zz: invalid MAC address",
        ),
        (
            r#"[{"name":"net2","mac":"02:00:00:00:00:07"}]"#,
            "\"default/net2\" for mac,",
        ),
        (r#"[{"name":"net2","ips":["10.2.0.9"]}]"#, "for ips,"),
        (
            r#"[{"name":"net2","portMappings":[{"hostPort":1,"containerPort":1}]}]"#,
            "for portMappings,",
        ),
        (
            r#"[{"name":"net2","interface":"eth0"}]"#,
            "interface name eth0 already exists",
        ),
        (
            r#"[{"name":"net2","default-route":["10.2.0.1"]},{"name":"net3","default-route":["10.3.0.1"]}]"#,
            "multus does not support ECMP for default-route",
        ),
    ] {
        let world = World::new();
        world.annotate(NETWORKS, networks);
        world.refused(words);
        world.ok("DEL");
    }
}

#[test]
fn definitions_that_can_not_be_used_are_refused() {
    for (config, words) in [
        (json!({"type": "../../bin/sh"}), "invalid plugin name"),
        (
            json!({"type": "nosuch"}),
            "failed to find plugin \"nosuch\"",
        ),
        (json!({"type": "multus"}), "would call itself"),
        (json!({"plugins": []}), "no plugins in list"),
        (
            json!({"plugins": [{}]}),
            "a plugin delegate must have the 'type' field",
        ),
        (
            json!({"name": "x"}),
            "delegate must have the 'type' or 'plugin' field",
        ),
        (json!([]), "failed to unmarshal Spec.Config"),
        (
            json!({"name": "../x", "type": "net2"}),
            "invalid characters found in network name",
        ),
        (
            json!({"type": "net2", "cniVersion": "9.9.9"}),
            "incompatible CNI versions",
        ),
    ] {
        let world = World::new();
        world.define("default", "odd", &config);
        world.annotate(NETWORKS, "odd");
        world.refused(words);
    }
}

#[test]
fn a_definition_without_configuration_is_a_file() {
    let world = World::new();
    let object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                        "metadata": {"name": "on-disk", "namespace": "default"}});
    world.cluster.put(object).unwrap();
    world.annotate(NETWORKS, "on-disk");
    world.refused("no networks found in");
    world.file(
        "net.d/10.conf",
        r#"{"cniVersion":"1.0.0","name":"on-disk","type":"net2","big":12345678901234567890123}"#,
    );
    world.ok("ADD");
    let text = std::fs::read_to_string(world.dir.join("ADD.net1")).unwrap();
    assert!(text.contains("12345678901234567890123"), "{text}");
    world.ok("DEL");
}

#[test]
fn isolation_keeps_a_pod_in_its_namespace() {
    let world = World::new();
    world.define(
        "other",
        "theirs",
        &json!({"cniVersion": "1.0.0", "type": "net2"}),
    );
    world.annotate(NETWORKS, "other/theirs");
    let mut isolated = world;
    isolated.conf["namespaceIsolation"] = true.into();
    isolated.refused("pod is in namespace default but refers to target namespace other");
    isolated.annotate(crate::world::DEFAULT, "other/theirs");
    isolated.annotate(NETWORKS, "");
    isolated.refused("refers to target namespace other");
    isolated.conf["globalNamespaces"] = "default, other".into();
    isolated.ok("ADD");
    isolated.ok("DEL");
}

#[test]
fn what_the_pod_asks_for_reaches_the_plugin_that_can_do_it() {
    let world = World::new();
    let capable = json!({"cniVersion": "1.0.0", "type": "net2",
        "capabilities": {"mac": true, "ips": true, "bandwidth": true}, "args": {"cni": {"a": 1}}});
    world.define("default", "capable", &capable);
    world.select(
        &json!([{"name": "capable", "mac": "02:00:00:00:00:07", "ips": ["10.2.0.9/24"],
        "bandwidth": {"ingressRate": 1000}, "cni-args": {"a": 2, "b": "c"}}]),
    );
    world.ok("ADD");
    let add = world.stdin("ADD", "net1");
    assert_eq!(
        add["runtimeConfig"],
        json!({"mac": "02:00:00:00:00:07", "ips": ["10.2.0.9/24"],
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}})
    );
    assert_eq!(add["args"], json!({"cni": {"a": 2, "b": "c"}}));
    world.annotate(NETWORKS, "");
    world.ok("DEL");
    let del = world.stdin("DEL", "net1");
    assert_eq!(del["runtimeConfig"], add["runtimeConfig"], "DEL as ADD");
    assert_eq!(del["prevResult"]["ips"][0]["address"], "10.2.0.2/24");
}

#[test]
fn a_failure_takes_back_what_was_done_and_leaves_nothing() {
    let world = World::new();
    world.annotate(NETWORKS, "net2,net3");
    world.file(
        "fail.ADD.net3",
        r#"{"code":123,"msg":"full","details":"d"}"#,
    );
    let (code, text) = world.error("ADD");
    assert_eq!(code, 123);
    assert!(
        text.contains("error adding container to network \"net3\": full | d"),
        "{text}"
    );
    assert!(world.links().is_empty());
    assert_eq!(world.status(), Value::Null);
    let mut calls = world.calls();
    assert_eq!(
        calls.split_off(3),
        ["DEL net3 net2", "DEL net2 net1", "DEL net1 eth0"]
    );
    let state = std::fs::read_dir(world.dir.join("state")).unwrap();
    let left: Vec<_> = state
        .map(|e| e.unwrap().file_name())
        .filter(|n| n != "results")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
