//! Family M, devices: what kubelet gave to the pod reaches the network that names the resource, and what is known of a
//! device reaches the delegate and network-status.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::{Answer, Exchange};
use crate::ensure;
use crate::kubelet::{Kubelet, OfContainer};
use crate::multus::{DEFAULT_NETWORK, KINDS, LEVELS, NEWEST, Node, result};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::Verb;
use crate::spec::code::{OWN, TRY_AGAIN, UNDECODABLE};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M130",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A network that names a resource gets the next device that the pod has of it, as `deviceID` and `pciBusID` in the configuration of each of its plugins, on DEL too.",
        section: "multus: resourceName",
        cases: &[
            case("configuration", device_in_configuration),
            case("list", device_in_list),
            case("capability", device_by_capability),
            case("two resources", two_resources),
            case("default network", device_of_the_default_network),
            case("asked for", device_of_the_annotation),
        ],
    },
    Requirement {
        id: "M131",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Where the pod has no device left, the network is attached without one; if that fails, the error says why.",
        section: "multus: resourceName",
        cases: &[case("too few", too_few), case("none", no_device)],
    },
    Requirement {
        id: "M132",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "kubelet's socket is asked before its checkpoint file is read: for the devices and claims of this pod, not of one with the same name elsewhere.",
        section: "multus: resourceName",
        cases: &[
            case("socket", socket),
            case("claim", claim),
            case("before the file", socket_before_file),
        ],
    },
    Requirement {
        id: "M133",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "When kubelet can't say which devices the pod has, ADD is refused before any delegate runs, with code 11 where trying again helps.",
        section: "multus: resourceName",
        cases: &[
            case("refused", |t| {
                kubelet_fails(t, &[TRY_AGAIN], |kubelet| kubelet.refuse("14"))
            }),
            case("nobody listens", |t| {
                kubelet_fails(t, &[TRY_AGAIN], |kubelet| kubelet.leave_socket())
            }),
            case("no file", |t| kubelet_fails(t, &[TRY_AGAIN], |_| Ok(()))),
            case("file is no JSON", |t| {
                kubelet_fails(t, &[UNDECODABLE], |kubelet| kubelet.note_text("{"))
            }),
            case("file is empty", |t| {
                kubelet_fails(t, &[UNDECODABLE], |kubelet| kubelet.note_text(""))
            }),
            case("file is no checkpoint", |t| {
                kubelet_fails(t, &[UNDECODABLE], |kubelet| {
                    kubelet.note_text(r#"{"Data": 5}"#)
                })
            }),
            case("nobody asks", nobody_asks),
        ],
    },
    Requirement {
        id: "M134",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "What a device's plugin says of it lies where the delegate is told before its ADD, comes with network-status, and goes with DEL and with an ADD that fails.",
        section: "multus: device information",
        cases: &[
            case("copied", device_info_is_copied),
            case("before ADD", device_info_is_there_before),
            case("left over", device_info_left_over),
            case("failed ADD", device_info_of_failed_add),
        ],
    },
    Requirement {
        id: "M135",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate may write the device information itself; what is none is left out of network-status.",
        section: "multus: device information",
        cases: &[
            case("of the delegate", device_info_of_the_delegate),
            case("no object", device_info_that_is_none),
        ],
    },
];

const RESOURCE: &str = "vendor.com/net";
const IDS: [&str; 2] = ["0000:03:02.3", "0000:03:02.0"];

/// A NetworkAttachmentDefinition of this configuration that names a resource.
fn define(node: &Node, name: &str, resource: &str, config: &Value) -> Verdict {
    let object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {"k8s.v1.cni.cncf.io/resourceName": resource},
        },
        "spec": {"config": config.to_string()},
    });
    node.cluster.put(object).map(drop).map_err(fail)
}

fn config(t: &Trial, name: &str, spy: &str) -> Value {
    json!({
        "cniVersion": t.version.as_str(), "name": name, "type": spy,
        "capabilities": {"CNIDeviceInfoFile": true},
    })
}

/// Three networks of which the second and the third name a resource, and a kubelet that knows nothing.
fn with_resource<'t>(t: &'t Trial) -> Result<(Node<'t>, Kubelet), Stop> {
    let kubelet = Kubelet::new(t)?;
    let node = Node::three_networks(t)?;
    for letter in ["b", "c"] {
        let name = format!("net-{letter}");
        let config = config(t, &name, &format!("spy-{letter}"));
        define(&node, &name, RESOURCE, &config)?;
    }
    Ok((node, kubelet))
}

/// The same with two devices for the pod, and one for another pod, in the checkpoint file.
fn with_devices<'t>(t: &'t Trial) -> Result<(Node<'t>, Kubelet), Stop> {
    let (node, kubelet) = with_resource(t)?;
    let uid = uid(&node)?;
    kubelet.note(&[
        (
            "11111111-2222-4333-8444-555555555555",
            RESOURCE,
            &["0000:03:02.1"],
        ),
        (&uid, RESOURCE, &IDS),
    ])?;
    Ok((node, kubelet))
}

fn uid(node: &Node) -> Result<String, Stop> {
    let pod = node.pod()?;
    Ok(pod["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Requires the device in the configuration of the only call of this verb; "" for none.
fn expect_device(node: &Node, verb: Verb, spy: &str, id: &str) -> Verdict {
    let config = node.only_call(verb, spy)?.config();
    for key in ["deviceID", "pciBusID"] {
        let found = config[key].as_str().unwrap_or_default();
        ensure!(
            found == id,
            "{key} of {spy} is {found:?} on {verb}, expected {id:?}"
        );
    }
    Ok(())
}

fn device_in_configuration(t: &Trial) -> Verdict {
    let (mut node, _kubelet) = with_devices(t)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        expect_device(&node, verb, "spy-a", "")?;
        expect_device(&node, verb, "spy-b", IDS[1])?;
        expect_device(&node, verb, "spy-c", IDS[0])?;
    }
    node.nothing_remembered()
}

fn device_in_list(t: &Trial) -> Verdict {
    let (mut node, _kubelet) = with_devices(t)?;
    let plugins = json!([{"type": "spy-b", "own": 1}, {"type": "spy-c"}]);
    let list = json!({"cniVersion": t.version.as_str(), "name": "net-b", "plugins": plugins});
    define(&node, "net-b", RESOURCE, &list)?;
    node.annotate("net-b")?;
    node.add()?;
    for spy in ["spy-b", "spy-c"] {
        expect_device(&node, Verb::Add, spy, IDS[1])?;
    }
    ensure!(
        node.only_call(Verb::Add, "spy-b")?.config()["own"] == 1,
        "the plugin lost a key of its own"
    );
    node.del().map(drop)
}

/// The plugin was sent this device by its capability.
fn expect_capability(node: &Node, spy: &str, id: &Value) -> Verdict {
    let config = node.only_call(Verb::Add, spy)?.config();
    let sent = &config["runtimeConfig"];
    ensure!(sent["deviceID"] == *id, "runtimeConfig of {spy} is {sent}");
    Ok(())
}

fn device_by_capability(t: &Trial) -> Verdict {
    let (mut node, _kubelet) = with_devices(t)?;
    let mut capable = config(t, "net-b", "spy-b");
    capable["capabilities"] = json!({"deviceID": true});
    define(&node, "net-b", RESOURCE, &capable)?;
    node.add()?;
    expect_capability(&node, "spy-b", &json!(IDS[1]))?;
    expect_capability(&node, "spy-c", &Value::Null)?;
    node.del().map(drop)
}

fn two_resources(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_resource(t)?;
    define(
        &node,
        "net-c",
        "other.com/net",
        &config(t, "net-c", "spy-c"),
    )?;
    let uid = uid(&node)?;
    kubelet.note(&[
        (&uid, RESOURCE, &["dev-1"]),
        (&uid, "other.com/net", &["dev-2"]),
    ])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", "dev-1")?;
    expect_device(&node, Verb::Add, "spy-c", "dev-2")?;
    node.del().map(drop)
}

/// The default network that the pod wants instead takes its device from the same store: nobody gets one twice.
fn device_of_the_default_network(t: &Trial) -> Verdict {
    let (mut node, _kubelet) = with_devices(t)?;
    node.set_annotation(DEFAULT_NETWORK, "default/net-b")?;
    node.annotate("net-c")?;
    node.add()?;
    node.expect_calls(&["ADD spy-b eth0", "ADD spy-c net1"])?;
    expect_device(&node, Verb::Add, "spy-b", IDS[1])?;
    expect_device(&node, Verb::Add, "spy-c", IDS[0])?;
    node.del().map(drop)
}

/// A device that the annotation names is for runtimeConfig, and only where kubelet gave none.
fn device_of_the_annotation(t: &Trial) -> Verdict {
    let (mut node, _kubelet) = with_devices(t)?;
    node.spy("spy-d")?;
    for (network, spy) in [("net-b", "spy-b"), ("net-d", "spy-d")] {
        let mut capable = config(t, network, spy);
        capable["capabilities"] = json!({"deviceID": true});
        match network {
            "net-b" => define(&node, network, RESOURCE, &capable)?,
            _ => node.define(network, &capable)?,
        }
    }
    let networks =
        json!([{"name": "net-b", "deviceID": "dev-7"}, {"name": "net-d", "deviceID": "dev-8"}]);
    node.annotate(&networks.to_string())?;
    node.add()?;
    expect_capability(&node, "spy-b", &json!(IDS[1]))?;
    expect_capability(&node, "spy-d", &json!("dev-8"))?;
    node.del().map(drop)
}

fn too_few(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_resource(t)?;
    kubelet.note(&[(&uid(&node)?, RESOURCE, &IDS[..1])])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", IDS[0])?;
    expect_device(&node, Verb::Add, "spy-c", "")?;
    node.del()?;
    node.spied("spy-c")?
        .says(Verb::Add, Lines::error(123, "where is it?"))?;
    let refusal = node.ask(Verb::Add)?.refused(&[123])?;
    refusal.names("where is it?")?.names(RESOURCE).map(drop)
}

fn no_device(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_resource(t)?;
    kubelet.note(&[])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", "")?;
    node.del().map(drop)
}

fn socket(t: &Trial) -> Verdict {
    let (mut node, mut kubelet) = with_resource(t)?;
    let of = |pod, devices| OfContainer {
        pod,
        devices,
        claims: &[],
    };
    kubelet.serve(&[
        of("other/samplepod", &[(RESOURCE, &["dev-1"])]),
        of("default/otherpod", &[(RESOURCE, &["dev-2"])]),
        of(
            "default/samplepod",
            &[("other.com/net", &["dev-3"]), (RESOURCE, &IDS)],
        ),
    ])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", IDS[1])?;
    expect_device(&node, Verb::Add, "spy-c", IDS[0])?;
    node.del().map(drop)
}

fn claim(t: &Trial) -> Verdict {
    let (mut node, mut kubelet) = with_resource(t)?;
    define(&node, "net-c", "my-claim", &config(t, "net-c", "spy-c"))?;
    kubelet.serve(&[OfContainer {
        pod: "default/samplepod",
        devices: &[(RESOURCE, &["dev-1"])],
        claims: &[("my-claim", "vendor.com/net=dev-9")],
    }])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", "dev-1")?;
    expect_device(&node, Verb::Add, "spy-c", "dev-9")?;
    node.del().map(drop)
}

fn socket_before_file(t: &Trial) -> Verdict {
    let (mut node, mut kubelet) = with_devices(t)?;
    kubelet.serve(&[OfContainer {
        pod: "default/samplepod",
        devices: &[(RESOURCE, &["dev-1", "dev-2"])],
        claims: &[],
    }])?;
    node.add()?;
    expect_device(&node, Verb::Add, "spy-b", "dev-1")?;
    node.del().map(drop)
}

fn kubelet_fails(
    t: &Trial,
    codes: &[i64],
    prepare: impl FnOnce(&mut Kubelet) -> Verdict,
) -> Verdict {
    let (node, mut kubelet) = with_resource(t)?;
    prepare(&mut kubelet)?;
    let codes: Vec<_> = codes.iter().copied().chain([OWN]).collect();
    node.ask(Verb::Add)?.refused(&codes)?.names("kubelet")?;
    node.expect_calls(&[])?;
    node.nothing_remembered()?;
    node.del().map(drop)
}

/// Pods without such networks start on nodes where there is no kubelet to ask.
fn nobody_asks(t: &Trial) -> Verdict {
    let (mut node, mut kubelet) = with_resource(t)?;
    kubelet.refuse("14")?;
    node.annotate("")?;
    node.add()?;
    node.del().map(drop)
}

const INFO: &str = r#"{"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:03:02.0", "vhost-net": "/dev/vhost-net"}}"#;

/// The first network that names a resource has a device that its plugin has described.
fn with_info<'t>(t: &'t Trial) -> Result<(Node<'t>, Kubelet), Stop> {
    let (node, kubelet) = with_devices(t)?;
    kubelet.describe(RESOURCE, IDS[1], INFO)?;
    Ok((node, kubelet))
}

fn info_file(node: &Node, kubelet: &Kubelet) -> std::path::PathBuf {
    kubelet.device_info("default/net-b", &node.runtime.container, "net1")
}

fn device_info_is_copied(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_info(t)?;
    node.add()?;
    let file = info_file(&node, &kubelet);
    let told = node.only_call(Verb::Add, "spy-b")?.config();
    ensure!(
        told["runtimeConfig"]["CNIDeviceInfoFile"] == json!(file),
        "runtimeConfig is {}, the file {}",
        told["runtimeConfig"],
        file.display()
    );
    ensure!(
        fs::read_to_string(&file)? == INFO
            && fs::metadata(&file)?.permissions().mode() & 0o7777 == 0o444,
        "{} is another file",
        file.display()
    );
    let expected = r#"    "dns": {},
    "device-info": {
        "type": "pci",
        "version": "1.1.0",
        "pci": {
            "pci-address": "0000:03:02.0",
            "vhost-net": "/dev/vhost-net"
        }
    }
}"#;
    let text = node.status_text();
    ensure!(
        text.matches(expected).count() == 1 && text.matches("device-info").count() == 1,
        "network-status is {text}"
    );
    node.del()?;
    no_infos(&kubelet)
}

fn no_infos(kubelet: &Kubelet) -> Verdict {
    let left = kubelet.device_infos()?;
    ensure!(left.is_empty(), "device information is left: {left:?}");
    Ok(())
}

fn device_info_is_there_before(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_info(t)?;
    let mut lines = Lines::document(&result(t.version, "10.2.0.2/24", "10.2.0.1"));
    lines.hold = true;
    node.spied("spy-b")?.says(Verb::Add, lines)?;
    let gate = node.spied("spy-b")?.gate()?;
    let (call, running) = t.start(&node.runtime.call(Verb::Add))?;
    let spy = gate.arrival(Duration::from_secs(10))?;
    let is_there = info_file(&node, &kubelet).exists();
    drop(spy);
    let outcome = running.wait();
    Answer::judged(&t.record(Exchange { call, outcome }))?.success()?;
    ensure!(
        is_there,
        "there was no device information during the delegate's ADD"
    );
    node.del().map(drop)
}

/// What an ADD that was cut off has left is not what is true now.
fn device_info_left_over(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_info(t)?;
    let file = info_file(&node, &kubelet);
    fs::write(&file, r#"{"type": "old"}"#)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444))?;
    node.add()?;
    ensure!(
        fs::read_to_string(&file)? == INFO,
        "the file is the old one"
    );
    node.del()?;
    no_infos(&kubelet)
}

fn device_info_of_failed_add(t: &Trial) -> Verdict {
    let (mut node, kubelet) = with_info(t)?;
    node.spied("spy-c")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.ask(Verb::Add)?.refused(&[123])?;
    no_infos(&kubelet)?;
    node.nothing_remembered()
}

/// The delegate writes it during its ADD, to the file that it was told; here somebody does it a moment earlier.
fn device_info_of_the_delegate(t: &Trial) -> Verdict {
    let kubelet = Kubelet::new(t)?;
    let mut node = Node::three_networks(t)?;
    let info = json!({"type": "memif", "version": "1.1.0"});
    fs::write(info_file(&node, &kubelet), info.to_string())?;
    node.add()?;
    let status = node.status()?;
    ensure!(
        status[1]["device-info"] == info && status[2].get("device-info").is_none(),
        "network-status is {status}"
    );
    node.del()?;
    no_infos(&kubelet)
}

fn device_info_that_is_none(t: &Trial) -> Verdict {
    let kubelet = Kubelet::new(t)?;
    let mut node = Node::three_networks(t)?;
    let file = info_file(&node, &kubelet);
    for text in ["", "{", "[]", "null"] {
        fs::write(&file, text)?;
        node.add()?;
        let status = node.status_text();
        ensure!(
            !status.contains("device-info"),
            "with {text:?}, network-status is {status}"
        );
        node.del()?;
    }
    no_infos(&kubelet)
}
