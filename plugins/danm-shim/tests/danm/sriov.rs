//! Devices of a pod's own: which ones it gets, and what stands for one that a program drives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::bed;
use crate::world::{World, own_mounts};

const ALLOC: &str = "gBCAAQ==";

/// Asks for its address as every delegate does, keeps what it is sent, and makes no link: these are no real devices.
const SRIOV: &str = r#"
conf=$(cat)
printf %s "$conf" >"DIR/spy-$CNI_COMMAND-$CNI_IFNAME"
test "$CNI_COMMAND" = ADD || exit 0
case $conf in
*fakeipam*|*'"type":"danm"'*) printf %s "$conf" | DIR/danm;;
*) echo '{"cniVersion":"0.3.1"}';;
esac
"#;

/// A machine whose network card ens1f0 has four virtual functions. The last two are a program's.
fn card() {
    own_mounts();
    bed::run("mount -t tmpfs bus /sys/bus");
    let devices = Path::new("/sys/bus/pci/devices");
    fs::create_dir_all(devices.join("pf/net/ens1f0")).unwrap();
    for (number, driver) in ["iavf", "iavf", "vfio-pci", "vfio-pci"].iter().enumerate() {
        let device = devices.join(format!("0000:03:02.{number}"));
        fs::create_dir_all(&device).unwrap();
        symlink("../pf", device.join("physfn")).unwrap();
        symlink(Path::new("../drivers").join(driver), device.join("driver")).unwrap();
        let back = devices.join(format!("pf/virtfn{number}"));
        symlink(Path::new("..").join(device.file_name().unwrap()), back).unwrap();
    }
    bed::run("mount -t tmpfs lib /var/lib");
    fs::create_dir_all("/var/lib/kubelet/device-plugins").unwrap();
}

/// kubelet notes the devices of a pod.
fn gives(world: &World, pod: &str, devices: &[&str]) {
    let pod = world
        .cluster
        .get(&format!("/api/v1/namespaces/default/pods/{pod}"))
        .unwrap();
    let entry = json!({"PodUID": pod["metadata"]["uid"], "ContainerName": "c", "ResourceName": "nokia.k8s.io/sriov",
        "DeviceIDs": {"0": devices}});
    let text =
        json!({"Data": {"PodDeviceEntries": [entry], "RegisteredDevices": {}}, "Checksum": 1});
    let path = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint";
    fs::write(path, text.to_string()).unwrap();
}

fn world(options: Value) -> World {
    let world = World::new();
    card();
    world.script("sriov", SRIOV);
    let spec = json!({"NetworkID": "fast", "NetworkType": "sriov", "Options": options});
    world.object("ClusterNetwork", "fast", &spec);
    world
}

/// `dynamicSriovNoDeviceId`, `L3`, `L2` and `popDevice` of the original. One test: there is one file of kubelet's.
#[test]
fn devices_of_a_pod() {
    let world =
        world(json!({"device_pool": "nokia.k8s.io/sriov", "vlan": 500, "cidr": "192.168.1.64/26"}));
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "fast", "ip": "dynamic"},
            {"clusterNetwork": "fast", "ip": "none"},
        ]),
    );
    let error = world.error("ADD", "p");
    assert!(error.contains("kubelet"), "{error}");
    gives(&world, "p", &["0000:03:02.0"]);
    let error = world.error("ADD", "p");
    assert!(error.contains("nokia.k8s.io/sriov"), "{error}");
    world.is_clean(ALLOC);

    gives(&world, "p", &["0000:03:02.0", "0000:03:02.1"]);
    world.ok("ADD", "p");
    // The last one first.
    let ipam = json!({"type": "danm", "ips": [{"ipcidr": "192.168.1.65/26", "version": 4}]});
    for (ifname, device, ipam) in [
        ("eth0", "0000:03:02.1", ipam),
        ("eth1", "0000:03:02.0", json!({"type": ""})),
    ] {
        let expected = json!({"cniVersion": "0.3.1", "name": "fast", "type": "sriov", "dns": {}, "master": "ens1f0",
            "vlan": 500, "deviceID": device, "ipam": ipam});
        assert_eq!(world.sent("ADD", ifname), expected);
        let of_name = |e: &Value| e["spec"]["Interface"]["Name"] == ifname;
        let endpoint = world.endpoints().into_iter().find(of_name).unwrap();
        assert_eq!(endpoint["spec"]["Interface"]["DeviceID"], device);
    }
    world.ok("DEL", "p");
    assert_eq!(world.sent("DEL", "eth0"), world.sent("ADD", "eth0"));
    assert_eq!(world.alloc("fast"), "gAAAAAAAAAE=");
    world.is_clean(ALLOC);

    // A program's device: without a dummy in the kernel there is an error, and nothing is left.
    gives(&world, "p", &["0000:03:02.0", "0000:03:02.2"]);
    match std::panic::catch_unwind(|| bed::run("ip link add probe type dummy")) {
        Ok(_) => stand_ins(&world),
        Err(_) => {
            let error = world.error("ADD", "p");
            assert!(
                error.contains("failed to create dummy kernel interface for eth0"),
                "{error}"
            );
            assert_eq!(world.alloc("fast"), "gAAAAAAAAAE=");
            let reason = "devices_of_a_pod: no dummy in this kernel, that part is skipped; `make test` runs it in conformance/lab\n";
            let _ = std::io::stderr().write_all(reason.as_bytes());
        }
    }
    world.is_clean(ALLOC);
}

/// Dummies: on a VLAN under the interface's name, and without one.
fn stand_ins(world: &World) {
    world.ok("ADD", "p");
    let links: Vec<Value> = serde_json::from_str(&world.bed.in_pod("ip -d -j addr")).unwrap();
    let of_name = |name: &str| links.iter().find(|link| link["ifname"] == name);
    let eth0 = of_name("eth0").unwrap();
    assert_eq!(eth0["linkinfo"]["info_kind"], "vlan");
    assert_eq!(eth0["linkinfo"]["info_data"]["id"], 500);
    assert_eq!(eth0["ifalias"], "0000:03:02.2");
    let address = &eth0["addr_info"][0];
    assert_eq!(
        (&address["local"], &address["prefixlen"]),
        (&json!("192.168.1.65"), &json!(26))
    );
    let below = of_name(eth0["link"].as_str().unwrap()).unwrap();
    assert_eq!(below["linkinfo"]["info_kind"], "dummy");
    assert_eq!(of_name("eth1"), None);
    world.ok("DEL", "p");
    world.is_clean(ALLOC);

    let spec = json!({"NetworkID": "fast", "NetworkType": "sriov",
        "Options": {"device_pool": "nokia.k8s.io/sriov", "cidr": "192.168.1.64/26"}});
    world.object("ClusterNetwork", "fast", &spec);
    world.ok("ADD", "p");
    let links: Vec<Value> = serde_json::from_str(&world.bed.in_pod("ip -d -j addr")).unwrap();
    let eth0 = links.iter().find(|link| link["ifname"] == "eth0").unwrap();
    assert_eq!(eth0["linkinfo"]["info_kind"], "dummy");
    assert_eq!(eth0["ifalias"], "0000:03:02.2");
    assert_eq!(eth0["addr_info"][0]["local"], "192.168.1.65");
    world.ok("DEL", "p");
}
