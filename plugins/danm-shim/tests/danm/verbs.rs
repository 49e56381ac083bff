//! What each verb answers, and what DanmEps say.

use serde_json::{Value, json};

use crate::world::{World, own_mounts};

#[test]
fn the_danmep_of_an_interface() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    let result = world.ok("ADD", "p");
    assert_eq!(result["interfaces"][0]["name"], "eth0");
    assert_eq!(result["interfaces"][0]["sandbox"], world.bed.path.as_str());
    assert_eq!(world.links(), ["lo", "eth0"]);
    let endpoints = world.endpoints();
    let [endpoint] = endpoints.as_slice() else {
        panic!("{endpoints:?}")
    };
    assert_eq!(endpoint["metadata"]["labels"], json!({"app": "p"}));
    let spec = &endpoint["spec"];
    assert_eq!(spec["EndpointID"], endpoint["metadata"]["name"]);
    assert_eq!(
        spec["Interface"],
        json!({"Name": "eth0", "Address": "10.2.157.1/27", "AddressIPv6": "",
        "MacAddress": "", "proutes": null, "proutes6": null})
    );
    for (key, value) in [
        ("NetworkName", "oampub"),
        ("NetworkType", "macvlan"),
        ("Pod", "p"),
        ("CID", "c-p"),
        ("netns", world.bed.path.as_str()),
        ("apiType", "ClusterNetwork"),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
    world.ok("DEL", "p");
}

#[test]
fn several_interfaces_with_the_names_of_the_original() {
    let world = World::new();
    world.network("plain", json!({"host_device": "m0", "cidr": "10.4.0.0/24"}));
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "plain", "ip": "dynamic"},
            {"clusterNetwork": "oampub", "ip": "dynamic"},
            {"clusterNetwork": "plain", "ip": "10.4.0.9"},
        ]),
    );
    let result = world.ok("ADD", "p");
    let names: Vec<&Value> = result["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["name"])
        .collect();
    assert_eq!(names, ["eth0", "oampub1", "eth2"]);
    let ips: Vec<&Value> = result["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| &ip["address"])
        .collect();
    assert_eq!(ips, ["10.4.0.1/24", "10.2.157.1/27", "10.4.0.9/24"]);
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

/// A pod that asks for nothing is on the network `default`.
#[test]
fn the_default_network() {
    let world = World::new();
    world.pod("p", &json!([]));
    let error = world.error("ADD", "p");
    assert!(error.contains("no suitable default network"), "{error}");
    world.network(
        "default",
        json!({"host_device": "m0", "cidr": "10.5.0.0/24"}),
    );
    assert_eq!(world.ok("ADD", "p")["ips"][0]["address"], "10.5.0.1/24");
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

#[test]
fn the_same_add_twice_changes_nothing() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    let before = world.endpoints();
    assert!(world.error("ADD", "p").contains("attached already"));
    assert_eq!(
        (world.endpoints(), world.alloc("oampub")),
        (before, "wBCAAQ==".to_owned())
    );
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

#[test]
fn check_sees_what_is_missing() {
    let mut world = World::new();
    world.simple_pod("p", "oampub");
    let result = world.ok("ADD", "p");
    world.conf["prevResult"] = result;
    world.ok("CHECK", "p");
    let endpoint = world.endpoints()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    world.cluster.remove(&format!(
        "/apis/danm.k8s.io/v1/namespaces/default/danmeps/{endpoint}"
    ));
    assert!(world.error("CHECK", "p").contains("oampub"));
    // Whoever has deleted the DanmEp has given the address back: DEL does not do it again.
    world.ok("DEL", "p");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
}

#[test]
fn gc_takes_down_what_is_not_valid() {
    let mut world = World::new();
    for pod in ["p", "q"] {
        world.delegate("dry");
        world.simple_pod(pod, "oampub");
        world.ok("ADD", pod);
    }
    world.conf["cni.dev/valid-attachments"] = json!([{"containerID": "c-q", "ifname": "eth0"}]);
    world.ok("GC", "");
    assert_eq!(world.endpoints().len(), 1);
    assert_eq!(world.alloc("oampub"), "oBCAAQ==");
    world.ok("DEL", "q");
    world.is_clean("gBCAAQ==");
    assert_eq!(
        world.calls(),
        ["ADD eth0", "ADD eth0", "DEL eth0", "DEL eth0"]
    );
}

#[test]
fn status_asks_the_api_server() {
    let mut world = World::new();
    world.ok("STATUS", "");
    world.conf["kubeconfig"] = json!("/nowhere");
    world.error("STATUS", "");
}

/// Of 0.3.1 as the original answers, and in the words of the specification if the configuration says so.
#[test]
fn two_manners_of_a_result() {
    let mut world = World::new();
    world.static_network("net");
    world.pod("p", &json!([{"clusterNetwork": "net"}]));
    std::fs::write(
        world.dir.join("spy-result"),
        r#"{"cniVersion":"0.2.0","ip4":{"ip":"192.168.102.141/32"}}"#,
    )
    .unwrap();
    world.conf["cniVersion"] = json!("0.3.1");
    for manner in ["", "compatible", "spec"] {
        world.conf["result"] = json!(manner);
        let result = world.ok("ADD", "p");
        assert_eq!(result["cniVersion"], "0.3.1");
        let ips = json!([{"version": "4", "address": "192.168.102.141/32"}]);
        assert_eq!(
            (&result["ips"], &result["dns"]),
            (&ips, &json!({})),
            "{manner}"
        );
        world.ok("DEL", "p");
    }
    world.conf["result"] = json!("neither");
    assert!(world.error("ADD", "p").contains("compatible, spec"));
    world.is_clean("gBCAAQ==");
}

/// `namingScheme: legacy`; the other API group with its annotation; a percent sign in a delegate's words.
#[test]
fn other_ways_of_saying_it() {
    let mut world = World::new();
    world.delegate("dry");
    world.static_network("net");
    world.conf["namingScheme"] = json!("legacy");
    world.conf["apiGroup"] = json!("danm.io");
    for (kind, name, spec) in [
        (
            "DanmNet",
            "here",
            json!({"NetworkID": "net", "NetworkType": "spy"}),
        ),
        (
            "TenantNetwork",
            "there",
            json!({"NetworkID": "net", "NetworkType": "spy",
            "Options": {"container_prefix": "external"}}),
        ),
    ] {
        let object = json!({"apiVersion": "danm.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        world.cluster.put(object).unwrap();
    }
    let interfaces = json!([{"network": "here"}, {"tenantNetwork": "there"}, {"network": "here"}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p",
        "annotations": {"danm.io/interfaces": interfaces.to_string()}}, "spec": {}});
    world.cluster.put(pod).unwrap();
    world.ok("ADD", "p");
    let endpoints = world
        .cluster
        .list("/apis/danm.io/v1/namespaces/default/danmeps");
    let mut names: Vec<String> = endpoints
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["spec"]["apiType"], e["spec"]["Interface"]["Name"]
            )
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            r#""DanmNet" "eth0""#,
            r#""DanmNet" "eth2""#,
            r#""TenantNetwork" "external""#
        ]
    );
    world.ok("DEL", "p");
    assert!(world.cluster.list("/apis/danm.io/v1/danmeps").is_empty());
    world.delegate("spy-fail");
    assert!(world.error("ADD", "p").contains("no 100%s of it"));
    world.is_clean("gBCAAQ==");
}

/// The network `default` is looked for as DanmNet, TenantNetwork and ClusterNetwork, in this order.
#[test]
fn which_network_is_the_default() {
    let world = World::new();
    world.static_network("net");
    let spec = json!({"NetworkID": "net", "NetworkType": "spy"});
    world.pod("p", &json!(null));
    for (kind, plural, api_type) in [
        ("ClusterNetwork", "clusternetworks", "ClusterNetwork"),
        ("TenantNetwork", "tenantnetworks", "TenantNetwork"),
        ("DanmNet", "danmnets", ""),
    ] {
        let mut metadata = json!({"name": "default"});
        if plural != "clusternetworks" {
            metadata["namespace"] = json!("default");
        }
        let object = json!({"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
        world.cluster.put(object).unwrap();
        world.ok("ADD", "p");
        assert_eq!(
            world.endpoints()[0]["spec"]["apiType"],
            api_type,
            "{plural}"
        );
        world.ok("DEL", "p");
    }
    world.is_clean("gBCAAQ==");
}

/// Pods and the token of a service account, as in a DaemonSet that runs the plugin.
#[test]
fn access_of_the_pod_it_runs_in() {
    let mut world = World::new();
    world.simple_pod("p", "oampub");
    world.delegate("dry");
    world.conf["kubeconfig"] = json!("");
    assert!(world.error("ADD", "p").contains("kubeconfig"));
    own_mounts();
    crate::bed::run("mount -t tmpfs account /run");
    let folder = std::path::Path::new("/run/secrets/kubernetes.io/serviceaccount");
    std::fs::create_dir_all(folder).unwrap();
    world
        .cluster
        .write_service_account(folder, "kube-system")
        .unwrap();
    let address = world.cluster.address();
    world.variables = vec![
        ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
    ];
    world.ok("ADD", "p");
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

/// `all.disable_ipv6` is what gives the pod `::1`; a failed ADD leaves it as it was.
#[test]
fn ipv6_of_the_pod() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.bed.in_pod("ip link set lo up");
    let key = |name| format!("net/ipv6/conf/{name}/disable_ipv6");
    let states = || {
        let read = || ["all", "default", "lo"].map(|name| kernel::sysctl::read(&key(name)));
        let values = world.bed.pod.inside(|| Ok::<_, kernel::Error>(read()));
        values.unwrap().map(|value| value.unwrap()).concat()
    };
    let off = || kernel::sysctl::write(&key("all"), "1");
    world.bed.pod.inside(off).unwrap();
    assert_eq!(states(), "111");
    world.delegate("fail");
    world.error("ADD", "p");
    assert_eq!(states(), "111");
    std::fs::remove_file(world.dir.join("fail")).unwrap();
    world.ok("ADD", "p");
    assert_eq!(states(), "000");
    assert!(world.bed.in_pod("ip -6 addr show lo").contains("::1/128"));
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}

/// A node comes back without its state, and its pods are gone: GC finds what they had.
#[test]
fn gc_of_a_node_that_was_lost() {
    let mut world = World::new();
    world.delegate("dry");
    world.network("wide", json!({"host_device": "m0", "cidr": "10.3.0.0/24"}));
    for (pod, network) in [("p", "oampub"), ("q", "wide"), ("r", "oampub")] {
        world.simple_pod(pod, network);
        world.ok("ADD", pod);
    }
    std::fs::remove_dir_all(world.dir.join("state")).unwrap();
    for pod in ["p", "q"] {
        world
            .cluster
            .remove(&format!("/api/v1/namespaces/default/pods/{pod}"));
    }
    world.conf["cni.dev/valid-attachments"] = json!([]);
    world.ok("GC", "");
    let left: Vec<Value> = world
        .endpoints()
        .iter()
        .map(|e| e["spec"]["Pod"].clone())
        .collect();
    assert_eq!(left, ["r"]);
    assert_eq!(world.alloc("oampub"), "oBCAAQ==");
    assert_eq!(
        world.alloc("wide"),
        "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
    );
    world.ok("DEL", "r");
    world.is_clean("gBCAAQ==");
}

/// What the original has made is taken down by the words of its DanmEps.
#[test]
fn del_of_what_the_original_has_made() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    std::fs::remove_dir_all(world.dir.join("state")).unwrap();
    world.ok("DEL", "p");
    assert_eq!(world.left(), Vec::<String>::new());
    world.is_clean("gBCAAQ==");
}

/// DEL of a container whose network object has been deleted.
#[test]
fn del_without_network() {
    let world = World::new();
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    world
        .cluster
        .remove("/apis/danm.k8s.io/v1/clusternetworks/oampub");
    world.ok("DEL", "p");
    assert_eq!(world.left(), Vec::<String>::new());
}

/// A second sandbox of the pod comes without DEL of the first: what that one had is given back.
#[test]
fn a_second_sandbox_of_a_pod() {
    let world = World::new();
    world.delegate("dry");
    world.simple_pod("p", "oampub");
    world.ok("ADD", "p");
    let output = world.run_for("second", "ADD", "p");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(world.alloc("oampub"), "wBCAAQ==");
    assert_eq!(world.endpoints().len(), 1);
    assert_eq!(world.endpoints()[0]["spec"]["CID"], "second");
    let output = world.run_for("second", "DEL", "p");
    assert!(output.status.success(), "{output:?}");
    world.ok("DEL", "p");
    world.is_clean("gBCAAQ==");
}
