//! Where the default network comes from.

use serde_json::{Value, json};

use crate::world::{DEFAULT, NETWORKS, World};

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"main","type":"net2"}"#;
const LIST: &str = r#"{"cniVersion":"1.0.0","name":"main","plugins":[{"type":"net2"}]}"#;

fn with_cluster_network(name: &str) -> World {
    let mut world = World::new();
    world.conf.as_object_mut().unwrap().remove("delegates");
    world.conf["clusterNetwork"] = name.into();
    world
}

#[test]
fn an_object_a_file_or_a_folder() {
    let world = with_cluster_network("main");
    world.refused("failed to get clusterNetwork main in namespace kube-system");
    world.define("kube-system", "main", &serde_json::from_str(CONF).unwrap());
    world.ok("ADD");
    assert_eq!(world.status()[0]["name"], "kube-system/main");
    world.ok("DEL");

    let world = with_cluster_network("main");
    world.file("net.d/10.conflist", LIST);
    world.ok("ADD");
    assert_eq!(world.status()[0]["name"], "main");
    world.ok("DEL");

    for (path, text, asked) in [
        ("a/10.conf", CONF, "a/10.conf"),
        ("a/10.json", CONF, "a/10.json"),
        ("a/10.conflist", LIST, "a/10.conflist"),
        ("a/10.conflist", LIST, "a"),
    ] {
        let mut world = with_cluster_network("");
        world.file(path, text);
        world.conf["clusterNetwork"] = world.dir.join(asked).to_str().unwrap().into();
        world.ok("ADD");
        assert_eq!(world.calls(), ["ADD net2 eth0"], "{asked}");
        world.ok("DEL");
        assert_eq!(world.calls().len(), 2, "{asked}");
    }
}

#[test]
fn networks_for_every_pod_but_those_of_the_system() {
    let mut world = with_cluster_network("main");
    world.file("net.d/10.conf", CONF);
    world.file(
        "net.d/20.conf",
        r#"{"cniVersion":"1.0.0","name":"more","type":"net3"}"#,
    );
    world.conf["defaultNetworks"] = json!(["more"]);
    world.annotate(NETWORKS, "net2");
    world.ok("ADD");
    assert_eq!(
        world.calls(),
        ["ADD net2 eth0", "ADD net3 net1", "ADD net2 net2"]
    );
    world.ok("DEL");
    world.conf["systemNamespaces"] = json!(["default"]);
    world.ok("ADD");
    assert_eq!(
        world.calls().split_off(6),
        ["ADD net2 eth0", "ADD net2 net1"]
    );
    assert_ne!(
        world.status(),
        Value::Null,
        "pods of the system are told too"
    );
    world.ok("DEL");
}

#[test]
fn a_pod_may_want_another_one() {
    let world = World::new();
    world.define(
        "kube-system",
        "alt",
        &json!({"cniVersion": "1.0.0", "type": "net2"}),
    );
    world.annotate(DEFAULT, "alt");
    let result = world.ok("ADD");
    assert_eq!(world.calls(), ["ADD net2 eth0"]);
    assert_eq!(result["ips"][0]["address"], "10.2.0.2/24");
    assert_eq!(world.status()[0]["name"], "kube-system/alt");
    assert_eq!(world.status()[0]["default"], true);
    world.ok("DEL");
    for (text, words) in [
        ("alt,alt", "more than one default network is specified"),
        ("[]", "no default network is specified"),
        ("", "pod annotation does not have \"network\" as key"),
        (
            "nosuch",
            "cannot find a network-attachment-definition (nosuch)",
        ),
    ] {
        let world = World::new();
        world.annotate(DEFAULT, text);
        world.refused(words);
    }
}

#[test]
fn without_an_api_server_there_are_only_static_networks() {
    let mut world = with_cluster_network("main");
    world.conf.as_object_mut().unwrap().remove("kubeconfig");
    let (_, text) = world.error("ADD");
    assert!(
        text.contains("must have either Kubernetes config or delegates"),
        "{text}"
    );
    world.ok("DEL");
}
