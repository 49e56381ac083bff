//! Family M, default network: the one that a pod wants in the place of everybody's.

use serde_json::json;

use super::multus_cluster_network::{define, list, single, with_default_networks, write};
use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::Verb;
use crate::spec::code::INVALID_CONFIG;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M106",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The default-network annotation puts one attachment in the place of the first network; its result is the runtime's, and the others stay.",
        section: "multus: v1.multus-cni.io/default-network",
        cases: &[
            case("for delegates", |t| replaces(t, "alt", None)),
            case("for clusterNetwork", replaces_cluster_network),
            case("long form", |t| replaces(t, r#"[{"name":"alt"}]"#, None)),
            case("namespace", |t| replaces(t, "default/net-b", None)),
            case("interface", |t| replaces(t, "alt@eth7", Some("eth7"))),
            case("file", default_network_from_a_file),
            case("requests", default_network_with_requests),
        ],
    },
    Requirement {
        id: "M107",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A default-network annotation that names no network, several, or one that can't be had, fails the ADD before anything is done.",
        section: "multus: v1.multus-cni.io/default-network",
        cases: &[
            case("number", not_one_default_network),
            case("item", bad_default_network),
            case("missing", missing_default_network),
            case("no file", default_network_without_file),
        ],
    },
];

/// Two static delegates, and two attachments of spy-b that a pod may want instead of the first.
fn with_alternatives<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    for spy in ["spy-b", "spy-c"] {
        node.spy(spy)?;
    }
    let first = node.runtime.config["delegates"][0].clone();
    let second = json!({"cniVersion": t.version.as_str(), "name": "net-c", "type": "spy-c"});
    node.runtime.config["delegates"] = json!([first, second]);
    define(&node, "alt", &single(t, "alt"))?;
    node.attach("net-b", "spy-b")?;
    Ok(node)
}

fn replaces(t: &Trial, wanted: &str, interface: Option<&str>) -> Verdict {
    let mut node = with_alternatives(t)?;
    node.set_annotation(DEFAULT_NETWORK, wanted)?;
    let result = node.add()?;
    ensure!(
        result["ips"][0]["address"] == "10.2.0.2/24",
        "the result is not that of the network that the pod wants: {result}"
    );
    node.del()?;
    let ifname = interface.unwrap_or("eth0");
    node.expect_calls(&[
        &format!("ADD spy-b {ifname}"),
        "ADD spy-c net1",
        "DEL spy-c net1",
        &format!("DEL spy-b {ifname}"),
    ])
}

fn replaces_cluster_network(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "default")?;
    define(
        &node,
        "alt",
        &json!({"cniVersion": t.version.as_str(), "type": "spy-a"}),
    )?;
    node.set_annotation(DEFAULT_NETWORK, "alt")?;
    node.attaches(&["spy-a eth0", "spy-c net1", "spy-d net2"])
}

fn default_network_from_a_file(t: &Trial) -> Verdict {
    let mut node = with_alternatives(t)?;
    node.define_text("kube-system", "alt", "")?;
    write(&node, "10.conflist", &list(t, "alt"))?;
    node.set_annotation(DEFAULT_NETWORK, "alt")?;
    node.attaches(&["spy-b eth0", "spy-c net1"])
}

/// What the pod asks of its default network is added to what the runtime says, and wins.
fn default_network_with_requests(t: &Trial) -> Verdict {
    let mut node = with_alternatives(t)?;
    let mut config = single(t, "alt");
    config["capabilities"] = json!({"mac": true, "ips": true, "portMappings": true});
    define(&node, "alt", &config)?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    node.runtime.config["runtimeConfig"] =
        json!({"portMappings": ports, "mac": "02:00:00:00:00:01"});
    node.set_annotation(
        DEFAULT_NETWORK,
        r#"[{"name":"alt","mac":"02:00:00:00:00:2a","ips":["10.2.0.9"],"cni-args":{"a":1}}]"#,
    )?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let config = node.only_call(verb, "spy-b")?.config();
        let expected =
            json!({"portMappings": ports, "mac": "02:00:00:00:00:2a", "ips": ["10.2.0.9"]});
        ensure!(
            config["runtimeConfig"] == expected && config["args"]["cni"]["a"] == 1,
            "{verb}: the default network was called with {config}"
        );
    }
    Ok(())
}

fn refused(t: &Trial, wanted: &[(&str, &str)]) -> Verdict {
    let node = with_alternatives(t)?;
    for (text, words) in wanted {
        node.set_annotation(DEFAULT_NETWORK, text)?;
        node.refuses(&[], &[words])
            .map_err(|stop| stop.within(text))?;
    }
    Ok(())
}

fn not_one_default_network(t: &Trial) -> Verdict {
    let several = "more than one default network is specified";
    refused(
        t,
        &[
            ("alt,alt", several),
            (r#"[{"name":"alt"},{"name":"alt"},{"name":"alt"}]"#, several),
            ("[]", "no default network is specified"),
            ("", "pod annotation does not have \"network\" as key"),
        ],
    )
}

fn bad_default_network(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("a/b/c", "failed at '/'"),
            ("[null]", "item 1 of 1"),
            ("[alt", DEFAULT_NETWORK),
            (
                r#"[{"name":"alt","mac":"zz"}]"#,
                "mac of \"kube-system/alt\"",
            ),
            ("alt@net1,", "item 2 of 2"),
        ],
    )
}

fn missing_default_network(t: &Trial) -> Verdict {
    refused(
        t,
        &[
            ("nosuch", "(nosuch) in namespace (kube-system)"),
            // It is there in the pod's namespace, which is not where a default network is looked for.
            ("net-b", "(net-b) in namespace (kube-system)"),
            ("default/alt", "(alt) in namespace (default)"),
        ],
    )
}

fn default_network_without_file(t: &Trial) -> Verdict {
    let mut node = with_alternatives(t)?;
    node.define_text("kube-system", "alt", "")?;
    node.set_annotation(DEFAULT_NETWORK, "alt")?;
    let folder = node.conf_dir.display().to_string();
    node.refuses(&[INVALID_CONFIG], &["kube-system/alt", &folder])?;
    node.runtime.config["confDir"] = "/no/such/folder".into();
    node.refuses(&[INVALID_CONFIG], &["kube-system/alt", "/no/such/folder"])
}
