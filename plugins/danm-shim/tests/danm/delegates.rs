//! Interfaces that other plugins make: by a file of the operator's, or by a configuration that is made for them.

use std::fs;

use serde_json::{Value, json};

use crate::world::World;

const ALLOC: &str = "gBCAAQ==";

fn spied(options: &Value, wanted: &Value) -> World {
    let world = World::new();
    world.static_network("net");
    let spec = json!({"NetworkID": "net", "NetworkType": "spy", "Options": options});
    world.object("ClusterNetwork", "net", &spec);
    let mut interface = wanted.clone();
    interface["clusterNetwork"] = json!("net");
    world.pod("p", &json!([interface]));
    world
}

/// `staticCniSuccess`, `bridgeL3OriginalNoCidr`, `bridgeL3OriginalNoIp` and `bridgeWithExternalIpam` of the original: the
/// file is passed on as it is, in DEL too, where the network has no subnet, and where the pod asks for no address of it.
#[test]
fn a_file_is_passed_on() {
    for (options, wanted) in [
        (json!({}), json!({"ip": "dynamic"})),
        (json!({"cidr": "192.168.1.64/26"}), json!({})),
    ] {
        file_is_passed_on(&spied(&options, &wanted));
    }
}

fn file_is_passed_on(world: &World) {
    let result = world.ok("ADD", "p");
    assert_eq!(result["ips"][0]["address"], "10.77.0.5/24");
    let sent = world.sent("ADD", "eth0");
    assert_eq!(sent["ipam"], json!({"type": "host-local"}));
    assert_eq!(sent["key"], json!([1]));
    let endpoint = &world.endpoints()[0]["spec"];
    assert_eq!(endpoint["Interface"]["Address"], "10.77.0.5/24");
    assert_eq!(endpoint["NetworkType"], "spy");
    world.ok("DEL", "p");
    assert_eq!(
        world.sent("DEL", "eth0")["ipam"],
        json!({"type": "host-local"})
    );
    world.is_clean(ALLOC);
}

/// `bridgeWithV4Overwrite`, `DelegateInterfaceDelete bridgeWithDanmIpam`: addresses of the bitmap take the place of `ipam`.
#[test]
fn addresses_of_the_bitmap_replace_the_ipam_of_a_file() {
    let options = json!({"cidr": "192.168.1.64/26"});
    let world = spied(&options, &json!({"ip": "dynamic"}));
    fs::write(
        world.dir.join("spy-result"),
        r#"{"cniVersion":"1.1.0","ips":[{"address":"192.168.1.65/26"}]}"#,
    )
    .unwrap();
    let result = world.ok("ADD", "p");
    assert_eq!(result["ips"][0]["address"], "192.168.1.65/26");
    let ipam = json!({"type": "danm", "ips": [{"ipcidr": "192.168.1.65/26", "version": 4}]});
    for verb in ["ADD", "DEL"] {
        if verb == "DEL" {
            world.ok("DEL", "p");
        }
        let sent = world.sent(verb, "eth0");
        assert_eq!(
            (&sent["ipam"], &sent["key"]),
            (&ipam, &json!([1])),
            "{verb}"
        );
    }
    assert_eq!(world.alloc("net"), "gAAAAAAAAAE=");
    world.is_clean(ALLOC);
}

/// `staticCniNoConfig` and `staticCniNoBinary`.
#[test]
fn what_a_delegate_lacks() {
    let world = spied(&json!({}), &json!({}));
    fs::remove_file(world.dir.join("net.conf")).unwrap();
    let error = world.error("ADD", "p");
    let words = "Could not load CNI config file: net.conf for plugin:spy from directory:";
    assert!(error.contains(words), "{error}");
    world.is_clean(ALLOC);
    world.static_network("net");
    fs::remove_file(world.dir.join("spy")).unwrap();
    let error = world.error("ADD", "p");
    assert!(
        error.contains("CNI delegation failed") && error.contains("spy"),
        "{error}"
    );
    assert_eq!(world.endpoints(), Vec::<Value>::new());
}

/// Chained plugins get the result of the one before and what the runtime offers; DEL runs backwards.
#[test]
fn a_list_of_plugins() {
    let mut world = spied(&json!({}), &json!({}));
    fs::remove_file(world.dir.join("net.conf")).unwrap();
    world.script(
        "second",
        r#"
cat >"DIR/second-$CNI_COMMAND"
echo "second $CNI_COMMAND $CNI_IFNAME" >>DIR/calls
test "$CNI_COMMAND" != ADD || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.77.0.6/24"}]}'
"#,
    );
    let list = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
        {"type": "spy"},
        {"type": "second", "capabilities": {"portMappings": true}},
    ]});
    fs::write(world.dir.join("net.conflist"), list.to_string()).unwrap();
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    world.conf["runtimeConfig"] = json!({"portMappings": ports, "bandwidth": {"ingressRate": 1}});
    let output = world.run("ADD", "p");
    let sent: Value =
        serde_json::from_slice(&fs::read(world.dir.join("second-ADD")).unwrap()).unwrap();
    assert_eq!(sent["prevResult"]["ips"][0]["address"], "10.77.0.5/24");
    assert_eq!(sent["runtimeConfig"], json!({"portMappings": ports}));
    assert!(output.status.success(), "{output:?}");
    let endpoint = &world.endpoints()[0]["spec"]["Interface"];
    assert_eq!(endpoint["Address"], "10.77.0.6/24");
    world.ok("DEL", "p");
    assert_eq!(
        world.calls(),
        ["ADD eth0", "second ADD eth0", "second DEL eth0", "DEL eth0"]
    );
    world.is_clean(ALLOC);
}

/// `dynamicMacvlanIpv4`: what is made for macvlan.
#[test]
fn the_configuration_for_macvlan() {
    let world = World::new();
    world.script(
        "macvlan",
        r#"
cat >"DIR/spy-$CNI_COMMAND-$CNI_IFNAME"
echo '{"cniVersion":"0.2.0","ip4":{"ip":"192.168.1.65/26"}}'
"#,
    );
    world.network(
        "net",
        json!({"host_device": "ens1f0", "container_prefix": "ens", "cidr": "192.168.1.64/26"}),
    );
    world.network("vlan", json!({"host_device": "ens1f0", "vlan": 50}));
    world.network("vxlan", json!({"host_device": "ens1f0", "vxlan": 600}));
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "net", "ip": "dynamic"},
            {"clusterNetwork": "vlan"},
            {"clusterNetwork": "vxlan", "ip": "none"},
        ]),
    );
    world.ok("ADD", "p");
    let sent = world.sent("ADD", "eth0");
    let expected = json!({"cniVersion": "0.3.1", "name": "net", "type": "macvlan", "dns": {}, "master": "ens1f0",
        "mode": "bridge", "mtu": 1500,
        "ipam": {"type": "danm", "ips": [{"ipcidr": "192.168.1.65/26", "version": 4}]}});
    assert_eq!(sent, expected);
    // `dynamicMacvlanIpv4Type020Result`: an answer of 0.2.0 counts.
    let of_net = world
        .endpoints()
        .into_iter()
        .find(|e| e["spec"]["NetworkName"] == "net");
    assert_eq!(
        of_net.unwrap()["spec"]["Interface"]["Address"],
        "192.168.1.65/26"
    );
    for (ifname, master) in [("eth1", "vlan.50"), ("eth2", "vx_vxlan")] {
        let sent = world.sent("ADD", ifname);
        assert_eq!(
            (&sent["master"], &sent["ipam"]),
            (&json!(master), &json!({"type": ""}))
        );
    }
    world.ok("DEL", "p");
    assert_eq!(world.sent("DEL", "eth0"), expected);
    world.is_clean(ALLOC);
}

#[test]
fn both_families_from_the_bitmaps() {
    let world = World::new();
    let net6 = "2a00:8a00:a000:1193::/64";
    world.network(
        "dual",
        json!({"host_device": "m0", "cidr": "192.168.1.64/26", "net6": net6,
            "routes": {"10.20.0.0/24": "192.168.1.126"},
            "routes6": {"fd05::/48": "2a00:8a00:a000:1193::2"}}),
    );
    world.pod(
        "p",
        &json!([{"clusterNetwork": "dual", "ip": "dynamic", "ip6": "dynamic"}]),
    );
    world.cluster.forget_requests();
    let result = world.ok("ADD", "p");
    let addresses: Vec<_> = result["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| &ip["address"])
        .collect();
    assert_eq!(addresses, ["192.168.1.65/26", "2a00:8a00:a000:1193::1/64"]);
    let writes = |world: &World| {
        let requests = world.cluster.requests();
        requests.iter().filter(|r| r.method == "PATCH").count()
    };
    assert_eq!(writes(&world), 1);
    let shown = world.bed.in_pod("ip -o addr show eth0");
    assert!(
        shown.contains("192.168.1.65/26") && shown.contains("1193::1/64"),
        "{shown}"
    );
    assert!(shown.contains("1193::1/64 scope global nodad"), "{shown}");
    assert!(
        world
            .bed
            .in_pod("ip route")
            .contains("10.20.0.0/24 via 192.168.1.126 dev eth0")
    );
    assert!(
        world
            .bed
            .in_pod("ip -6 route")
            .contains("fd05::/48 via 2a00:8a00:a000:1193::2 dev eth0")
    );
    let routes: Vec<_> = result["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["dst"])
        .collect();
    assert_eq!(routes, ["10.20.0.0/24", "fd05::/48"]);
    assert_ne!(world.alloc6("dual"), world.fresh6());
    world.ok("DEL", "p");
    // Both in one write.
    assert_eq!(writes(&world), 2);
    assert_eq!(world.alloc6("dual"), world.fresh6());
    world.is_clean(ALLOC);
}

/// An interface of layer 2: `none` gives IPv6 to the link and addresses to nobody.
#[test]
fn no_addresses_at_all() {
    let world = World::new();
    world.network("l2", json!({"host_device": "m0"}));
    for (ip6, has_ipv6) in [("none", "0"), ("", "1")] {
        world.pod(
            "p",
            &json!([{"clusterNetwork": "l2", "ip": "none", "ip6": ip6}]),
        );
        let result = world.ok("ADD", "p");
        assert_eq!(result["ips"], Value::Null, "{result}");
        let key = world
            .bed
            .in_pod("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
        assert_eq!(key.trim(), has_ipv6);
        world.ok("DEL", "p");
    }
    world.is_clean(ALLOC);
}

/// GC reaches the delegates, and knows pods that the original has attached.
#[test]
fn delegates_are_told_what_is_valid() {
    let mut world = spied(&json!({}), &json!({}));
    for pod in ["p", "q"] {
        world.pod(pod, &json!([{"clusterNetwork": "net"}]));
        world.ok("ADD", pod);
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let foreign = json!({"apiVersion": "danm.k8s.io/v1", "kind": "DanmEp",
        "metadata": {"name": "e", "namespace": "default"},
        "spec": {"NetworkName": "net", "NetworkType": "spy", "Interface": {"Name": "eth0"},
            "Host": hostname.trim(), "Pod": "old", "CID": "c-old", "apiType": "ClusterNetwork"}});
    world.cluster.put(foreign).unwrap();
    world.conf["cni.dev/valid-attachments"] = json!([
        {"containerID": "c-q", "ifname": "eth0"},
        {"containerID": "c-old", "ifname": "eth0"},
    ]);
    world.ok("GC", "");
    let told = world.sent("GC", "");
    let valid = told["cni.dev/valid-attachments"].as_array().unwrap();
    let valid: Vec<&Value> = valid.iter().map(|a| &a["containerID"]).collect();
    assert_eq!(valid, ["c-q", "c-old"]);
    world.ok("DEL", "q");
}
