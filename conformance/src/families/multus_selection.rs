//! Family M, selections: what a pod may ask of a network, the values, the names and the interfaces.

use serde_json::{Value, json};

use super::multus_annotation::FORMAT;
use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, NETWORKS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::code::INVALID_CONFIG;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M85",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A value that can't be asked for fails the ADD; the error names the key, the item and the network.",
        section: "multus: annotations",
        cases: &[
            case("addresses", bad_addresses),
            case("ports and rates", bad_ports_and_rates),
            case("interface", bad_interfaces),
            case("other keys", bad_other_keys),
            case("default-route", bad_default_routes),
        ],
    },
    Requirement {
        id: "M86",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "The name of a network becomes part of a request: one that would lead elsewhere is refused, and the API server is not asked for it.",
        section: "multus: annotations",
        cases: &[
            case("networks", |t| leads_elsewhere(t, NETWORKS)),
            case("default network", |t| leads_elsewhere(t, DEFAULT_NETWORK)),
        ],
    },
    Requirement {
        id: "M87",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Interfaces are net1, net2 and so on in the order of the networks; a name that the pod asks for is that network's alone.",
        section: "multus: interface names",
        cases: &[
            case("numbers", numbers),
            case("asked for twice", asked_for_twice),
            case("the default network's", |t| taken(t, "net-b@eth0", "eth0")),
            case("there already", there_already),
        ],
    },
];

/// Networks net-b and net-c of spy-b and spy-c, and a pod whose annotation each case writes.
fn node<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    Node::three_networks(t)
}

/// Puts each of these requests to the second of two networks.
fn wishes_refused(t: &Trial, wishes: &[(Value, &[&str])]) -> Verdict {
    let node = node(t)?;
    for (wish, words) in wishes {
        let mut second = wish.clone();
        second["name"] = "net-c".into();
        node.annotate(&json!([{"name": "net-b"}, second]).to_string())?;
        let words = [words, &["item 2 of 2", NETWORKS][..]].concat();
        node.refuses(&[INVALID_CONFIG], &words)
            .map_err(|stop| stop.within(wish))?;
    }
    Ok(())
}

fn bad_addresses(t: &Trial) -> Verdict {
    wishes_refused(
        t,
        &[
            (
                json!({"ips": ["10.0.0.300"]}),
                &[
                    "failed to parse IP address \"10.0.0.300\"",
                    "ips",
                    "default/net-c",
                ],
            ),
            (
                json!({"ips": ["10.0.0.5/24", "10.0.0.5/33"]}),
                &["failed to parse CIDR \"10.0.0.5/33\"", "ips"],
            ),
            (json!({"ips": "10.0.0.5"}), &[FORMAT, "ips"]),
            (
                json!({"mac": "zz"}),
                &[
                    "failed to mac: address zz: invalid MAC address",
                    "default/net-c",
                ],
            ),
            (json!({"mac": "02:00:00:00:00"}), &["failed to mac"]),
            (
                json!({"infiniband-guid": "0"}),
                &["failed to validate infiniband GUID", "default/net-c"],
            ),
        ],
    )
}

fn bad_ports_and_rates(t: &Trial) -> Verdict {
    let ports = |host: i64, container: i64, protocol: &str| json!({"portMappings": [{"hostPort": host, "containerPort": container, "protocol": protocol}]});
    wishes_refused(
        t,
        &[
            (ports(0, 80, "tcp"), &["hostPort 0"]),
            (ports(65_536, 80, "tcp"), &["hostPort 65536"]),
            (ports(80, -1, "tcp"), &["containerPort -1"]),
            (ports(80, 80, "icmp"), &["protocol \"icmp\""]),
            (
                json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "here"}]}),
                &["hostIP"],
            ),
            (json!({"portMappings": {}}), &["portMappings"]),
            (
                json!({"bandwidth": {"ingressBurst": 1000}}),
                &["ingressBurst", "ingressRate"],
            ),
            (
                json!({"bandwidth": {"egressBurst": 1000, "ingressRate": 5}}),
                &["egressBurst", "egressRate"],
            ),
            (json!({"bandwidth": {"egressRate": -1}}), &["egressRate"]),
        ],
    )
}

fn bad_interfaces(t: &Trial) -> Verdict {
    let interface = |name: &str| json!({ "interface": name });
    let words: &[&str] = &["interface", "default/net-c"];
    wishes_refused(
        t,
        &[
            (interface("sixteen__letters"), words),
            (interface("a/b"), words),
            (interface("a:b"), words),
            (interface("a b"), words),
            (interface("."), words),
            (json!({"interfaceRequest": "sixteen__letters"}), words),
        ],
    )
}

fn bad_other_keys(t: &Trial) -> Verdict {
    wishes_refused(
        t,
        &[
            (json!({"cni-args": ["a"]}), &["cni-args"]),
            (json!({"cni-args": "a=b"}), &["cni-args"]),
            (json!({"deviceID": 3}), &["deviceID"]),
        ],
    )
}

fn bad_default_routes(t: &Trial) -> Verdict {
    let ecmp = "multus does not support ECMP for default-route";
    wishes_refused(
        t,
        &[
            (
                json!({"default-route": ["10.0.0.x"]}),
                &["invalid IP address: 10.0.0.x", "default-route"],
            ),
            (json!({"default-route": "10.0.0.1"}), &["default-route"]),
            (
                json!({"default-route": ["10.0.0.1", "10.0.0.2"]}),
                &[ecmp, "default-route"],
            ),
        ],
    )?;
    let node = node(t)?;
    node.annotate(r#"[{"name":"net-b","default-route":["10.2.0.1"]},{"name":"net-c","default-route":["10.3.0.1"]}]"#)?;
    node.refuses(&[INVALID_CONFIG], &[ecmp, "default/net-c"])?;
    // The default network's request counts as well.
    node.define_text("kube-system", "net-b", r#"{"type":"spy-b"}"#)?;
    node.set_annotation(
        DEFAULT_NETWORK,
        r#"[{"name":"net-b","default-route":["10.2.0.1"]}]"#,
    )?;
    node.annotate(r#"[{"name":"net-c","default-route":["10.3.0.1"]}]"#)?;
    node.refuses(&[INVALID_CONFIG], &[ecmp, "default/net-c"])
}

fn leads_elsewhere(t: &Trial, annotation: &str) -> Verdict {
    let node = node(t)?;
    for element in [
        json!({"name": "../pods/samplepod"}),
        json!({"name": "x/../net-b"}),
        json!({"name": "."}),
        json!({"name": ".."}),
        json!({"name": "net-b?watch=1"}),
        json!({"name": "net-b#x"}),
        json!({"name": "net-b%2f"}),
        json!({"name": "net-b\r\nHost: x"}),
        json!({"name": "a".repeat(254)}),
        json!({"name": "net-b", "namespace": "../kube-system"}),
        json!({"name": "net-b", "namespace": "default/pods"}),
        json!({"name": "net-b", "namespace": "a".repeat(64)}),
    ] {
        node.cluster.forget_requests();
        node.set_annotation(annotation, &json!([element]).to_string())?;
        node.refuses(
            &[INVALID_CONFIG],
            &["cannot find a network-attachment-definition"],
        )
        .map_err(|stop| stop.within(&element))?;
        let asked: Vec<_> = node.cluster.requests();
        ensure!(
            asked.len() == 1,
            "with {element}, the API server was asked for more than the pod: {asked:?}"
        );
    }
    Ok(())
}

/// Names that are asked for don't move the others, except that nobody else gets them.
fn numbers(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    for (text, networks) in [
        ("net-b@foo,net-c", ["spy-b foo", "spy-c net2"]),
        ("net-b,net-c@foo", ["spy-b net1", "spy-c foo"]),
        ("net-b@net2,net-c", ["spy-b net2", "spy-c net3"]),
        ("net-b,net-c@net1", ["spy-b net2", "spy-c net1"]),
    ] {
        node.annotate(text)?;
        node.attaches(&["spy-a eth0", networks[0], networks[1]])
            .map_err(|stop| stop.within(text))?;
    }
    Ok(())
}

fn asked_for_twice(t: &Trial) -> Verdict {
    let node = node(t)?;
    node.annotate("net-b@foo,net-c,net-b@foo")?;
    node.refuses(
        &[INVALID_CONFIG],
        &["interface name foo already exists", "items 1 and 3"],
    )
}

fn taken(t: &Trial, networks: &str, interface: &str) -> Verdict {
    let node = node(t)?;
    node.annotate(networks)?;
    node.refuses(
        &[INVALID_CONFIG],
        &[&format!("interface name {interface} already exists")],
    )
}

/// A link of somebody else's is in the pod: it is neither used nor deleted.
fn there_already(t: &Trial) -> Verdict {
    let node = node(t)?;
    let pod = &node.runtime.pod;
    pod.ip(&[
        "link", "add", "net2", "type", "veth", "peer", "name", "other",
    ])?;
    node.refuses(&[], &["interface name net2 already exists"])?;
    node.del()?;
    ensure!(
        pod.link("net2")?.is_some(),
        "a link that multus did not make is gone"
    );
    Ok(())
}
