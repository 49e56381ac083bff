//! Family M, annotations: the two forms in which a pod says which networks it wants, and what it is told when it does so wrongly.

use crate::multus::{KINDS, NETWORKS, NEWEST, Node};
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
        node.refuses(&[INVALID_CONFIG], words)
            .map_err(|stop| stop.within(text))?;
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
pub(super) const FORMAT: &str =
    "failed to parse pod Network Attachment Selection Annotation JSON format";

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
        node.refuses(&[INVALID_CONFIG], &[FORMAT])?;
    }
    Ok(())
}

fn missing(t: &Trial, networks: &str, place: &str) -> Verdict {
    let node = node(t)?;
    node.annotate(networks)?;
    node.refuses(
        &[OWN],
        &[&format!(
            "cannot find a network-attachment-definition {place}"
        )],
    )
}
