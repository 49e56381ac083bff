//! Family M, annotations: how a pod says which networks it wants, and what it is told when it says it wrongly.

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, NETWORKS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::code::{INVALID_CONFIG, OWN};
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M80",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "The short form is a list of [namespace/]name[@interface]; white space around items and parts means nothing.",
        section: "multus: annotations",
        cases: &[
            case("items", short_items),
            case("empty", empty),
            case("a network named null", network_named_null),
        ],
    },
    Requirement {
        id: "M81",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "An item of the short form that is none fails the ADD before anything is done; the error says which one it is and what is wrong with it.",
        section: "multus: annotations",
        cases: &[
            case("separators", short_separators),
            case("names", short_names),
            case("interfaces", short_interfaces),
            case("empty items", short_empty_items),
        ],
    },
    Requirement {
        id: "M82",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "The long form is a JSON array of objects; keys that mean nothing are passed over, and an empty array is no network.",
        section: "multus: annotations",
        cases: &[
            case("objects", long_objects),
            case("empty", |t| select(t, "[ ]", &["spy-a eth0"])),
            case("name with a dot", name_with_a_dot),
        ],
    },
    Requirement {
        id: "M83",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "What has one of [, { and \" in it and is no JSON array of objects fails the ADD; the error says so, or which item it is.",
        section: "multus: annotations",
        cases: &[
            case("no array", long_no_array),
            case("items", long_items),
            case("nested without end", nested),
        ],
    },
    Requirement {
        id: "M84",
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
        id: "M85",
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
        id: "M86",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A network that isn't there fails the ADD; the error names it and the namespace where it was looked for.",
        section: "multus: annotations",
        cases: &[
            case("in the pod's namespace", |t| {
                missing(t, "nosuch", "(nosuch) in namespace (default)")
            }),
            case("in another namespace", |t| {
                missing(t, "net-b,other/net-b", "(net-b) in namespace (other)")
            }),
            case("long form", |t| {
                let text = r#"[{"name":"net-b","namespace":"other"}]"#;
                missing(t, text, "(net-b) in namespace (other)")
            }),
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

fn select(t: &Trial, networks: &str, attached: &[&str]) -> Verdict {
    let mut node = node(t)?;
    node.annotate(networks)?;
    node.attaches(attached)
}

/// Each annotation is refused as a wrong configuration, with all its words.
fn refused(t: &Trial, annotations: &[(&str, &[&str])]) -> Verdict {
    let node = node(t)?;
    for (text, words) in annotations {
        node.annotate(text)?;
        says(&node, words).map_err(|stop| stop.within(text))?;
    }
    Ok(())
}

fn says(node: &Node, words: &[&str]) -> Verdict {
    let refusal = node.refuses(&[INVALID_CONFIG])?;
    for word in words {
        refusal.names(word)?;
    }
    Ok(())
}

fn short_items(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    for (text, networks) in [
        ("net-b", &["spy-b net1"][..]),
        ("default/net-b", &["spy-b net1"]),
        ("net-b@my_interface", &["spy-b my_interface"]),
        ("default/net-b@my_interface", &["spy-b my_interface"]),
        ("net-b@Fifteen.Letters", &["spy-b Fifteen.Letters"]),
        ("net-b@", &["spy-b net1"]),
        ("net-c,net-b", &["spy-c net1", "spy-b net2"]),
        (
            " net-b ,\tdefault / net-c @ foo\n",
            &["spy-b net1", "spy-c foo"],
        ),
    ] {
        node.annotate(text)?;
        let networks: Vec<_> = ["spy-a eth0"].iter().chain(networks).copied().collect();
        node.attaches(&networks)
            .map_err(|stop| stop.within(format!("{text:?}")))?;
    }
    Ok(())
}

fn empty(t: &Trial) -> Verdict {
    select(t, "", &["spy-a eth0"])
}

/// Without one of `[{"` it is the short form, in which `null` is a name like any other.
fn network_named_null(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    node.attach("null", "spy-b")?;
    node.annotate("null")?;
    node.attaches(&["spy-a eth0", "spy-b net1"])
}

fn short_separators(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("a/b/c", &["failed at '/'", "item 1 of 1"]),
            ("net-b,a@b@c", &["failed at '@'", "item 2 of 2"]),
            (
                "root@someIP/root@someOtherIP/root@thirdIP",
                &["failed at '/'"],
            ),
            (
                "root@someIP/root@someOtherIP@garbagevalue",
                &["failed at '@'"],
            ),
            // The namespace is split off first, so this is one with an @ in it.
            (
                "root@someIP/root@someOtherIP",
                &["mismatch @ 'root@someIP'"],
            ),
        ],
    )
}

fn short_names(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("Net-b", &["mismatch @ 'Net-b'", "item 1 of 1"]),
            ("net-b,net_c", &["mismatch @ 'net_c'", "item 2 of 2"]),
            ("-net", &["mismatch @ '-net'"]),
            ("net-", &["mismatch @ 'net-'"]),
            ("net b", &["mismatch @ 'net b'"]),
            ("De/net-b", &["mismatch @ 'De'"]),
            // An object may have this name, but the original knows no dots in this form.
            ("net.b", &["mismatch @ 'net.b'", "JSON"]),
        ],
    )
}

fn short_interfaces(t: &Trial) -> Verdict {
    let words = "Failed to parse interface name";
    refused(
        t,
        &[
            (
                "default/net1@myIfc Name",
                &[words, "'myIfc Name'", "item 1 of 1"],
            ),
            (
                "default/net1@very_long_interface_name",
                &[words, "'very_long_interface_name'"],
            ),
            ("net-b,net-c@sixteen__letters", &[words, "item 2 of 2"]),
            ("net-b@a:b", &[words, "'a:b'"]),
            ("net-b@..", &[words, "'..'"]),
        ],
    )
}

fn short_empty_items(t: &Trial) -> Verdict {
    let words = "resource name may not be empty";
    refused(
        t,
        &[
            ("net-b,", &[words, "item 2 of 2"]),
            (",net-b", &[words, "item 1 of 2"]),
            ("net-b,,net-c", &[words, "item 2 of 3"]),
            (" ", &[words, "item 1 of 1"]),
            ("default/", &[words]),
            ("@net1", &[words]),
        ],
    )
}

fn long_objects(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    for (text, networks) in [
        (
            r#"[{"name":"net-b"},{"name":"net-c","namespace":"default"}]"#,
            &["spy-b net1", "spy-c net2"][..],
        ),
        (
            r#"[{"name":"net-b","interface":"Foo_1"}]"#,
            &["spy-b Foo_1"],
        ),
        (
            r#"[{"name":"net-b","interfaceRequest":"old"}]"#,
            &["spy-b old"],
        ),
        (
            r#"[{"name":"net-b","interface":"new","interfaceRequest":"old"}]"#,
            &["spy-b new"],
        ),
        (r#"[{"NAME":"net-b"}]"#, &["spy-b net1"]),
        (
            r#"[{"name":"net-b","gateway-request":["10.0.0.1"],"ipam-claim-reference":"claim","vendor":{}}]"#,
            &["spy-b net1"],
        ),
        (
            r#"[{"name":"net-b","interface":"","ips":null,"mac":"","cni-args":null,"bandwidth":null,"default-route":null}]"#,
            &["spy-b net1"],
        ),
    ] {
        node.annotate(text)?;
        let networks: Vec<_> = ["spy-a eth0"].iter().chain(networks).copied().collect();
        node.attaches(&networks).map_err(|stop| stop.within(text))?;
    }
    Ok(())
}

fn name_with_a_dot(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    node.attach("net.b", "spy-b")?;
    node.annotate(r#"[{"name":"net.b"}]"#)?;
    node.attaches(&["spy-a eth0", "spy-b net1"])
}

/// What the original says of anything that is no JSON of this form.
const FORMAT: &str = "failed to parse pod Network Attachment Selection Annotation JSON format";

fn long_no_array(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("[adsfasdfasdfasf]", &[FORMAT, NETWORKS]),
            (r#"[{"name":"net-b"}"#, &[FORMAT]),
            (r#"[{"name":"net-b"}] x"#, &[FORMAT]),
            (r#"{"name":"net-b"}"#, &[FORMAT, "array"]),
            (r#""net-b""#, &[FORMAT, "array"]),
            (r#"net-b,"net-c""#, &[FORMAT]),
        ],
    )
}

fn long_items(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("[null]", &[FORMAT, "item 1 of 1", "null"]),
            (r#"[{"name":"net-b"},null]"#, &[FORMAT, "item 2 of 2"]),
            (r#"["net-b"]"#, &[FORMAT, "item 1 of 1", "string"]),
            ("[[]]", &[FORMAT, "item 1 of 1"]),
            ("[{}]", &["resource name may not be empty", "item 1 of 1"]),
            (r#"[{"name":7}]"#, &[FORMAT, "item 1 of 1"]),
            (
                r#"[{"name":"net-b"},{"name":"net-c","namespace":[]}]"#,
                &[FORMAT, "item 2 of 2"],
            ),
        ],
    )
}

fn nested(t: &Trial) -> Verdict {
    let arrays = "[".repeat(100_000);
    let args = format!(
        r#"[{{"name":"net-b","cni-args":{}"#,
        r#"{"a":"#.repeat(50_000)
    );
    let node = node(t)?;
    for text in [arrays, args] {
        node.annotate(&text)?;
        says(&node, &[FORMAT])?;
    }
    Ok(())
}

/// Puts each of these requests to the second of two networks.
fn wishes_refused(t: &Trial, wishes: &[(Value, &[&str])]) -> Verdict {
    let node = node(t)?;
    for (wish, words) in wishes {
        let mut second = wish.clone();
        second["name"] = "net-c".into();
        node.annotate(&json!([{"name": "net-b"}, second]).to_string())?;
        says(&node, words)
            .and_then(|()| says(&node, &["item 2 of 2", NETWORKS]))
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
    says(&node, &[ecmp, "default/net-c"])?;
    // The default network's request counts as well.
    node.define_text("kube-system", "net-b", r#"{"type":"spy-b"}"#)?;
    node.set_annotation(
        DEFAULT_NETWORK,
        r#"[{"name":"net-b","default-route":["10.2.0.1"]}]"#,
    )?;
    node.annotate(r#"[{"name":"net-c","default-route":["10.3.0.1"]}]"#)?;
    says(&node, &[ecmp, "default/net-c"])
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
        says(&node, &["cannot find a network-attachment-definition"])
            .map_err(|stop| stop.within(&element))?;
        let asked: Vec<_> = node.cluster.requests();
        ensure!(
            asked.len() == 1,
            "with {element}, the API server was asked for more than the pod: {asked:?}"
        );
    }
    Ok(())
}

fn missing(t: &Trial, networks: &str, place: &str) -> Verdict {
    let node = node(t)?;
    node.annotate(networks)?;
    node.refuses(&[OWN])?.names(&format!(
        "cannot find a network-attachment-definition {place}"
    ))?;
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
    says(
        &node,
        &["interface name foo already exists", "items 1 and 3"],
    )
}

fn taken(t: &Trial, networks: &str, interface: &str) -> Verdict {
    let node = node(t)?;
    node.annotate(networks)?;
    says(
        &node,
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
    node.refuses(&[])?
        .names("interface name net2 already exists")?;
    node.del()?;
    ensure!(
        pod.link("net2")?.is_some(),
        "a link that multus did not make is gone"
    );
    Ok(())
}
