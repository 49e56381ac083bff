//! Family M, network-status: the annotation that tells users and programs how a pod is attached, to the character.

use serde_json::{Value, json};

use crate::cluster::{Effect, Fault};
use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node, STATUS, in_version};
use crate::requirement::{Requirement, Verdict, case, fail};
use crate::spec::Verb;
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M110",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "network-status has an object for each interface in the pod, with the original's keys in its order, its indentation and its escapes.",
        section: "multus: network-status",
        cases: &[
            case("one interface", one_interface),
            case("several networks", several_networks),
            case("dns and gateway", dns_and_gateway),
        ],
    },
    Requirement {
        id: "M111",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "The MTU that a delegate tells is in network-status.",
        section: "multus: network-status",
        cases: &[case("mtu", mtu)],
    },
    Requirement {
        id: "M112",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Where a delegate makes several interfaces, each has its own addresses, and `default` stands at the one with the gateway.",
        section: "multus: network-status",
        cases: &[
            case("several interfaces", several_interfaces),
            case("default of several", default_of_several),
        ],
    },
    Requirement {
        id: "M113",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A network whose delegate names no interface of the pod is in network-status all the same, with its addresses.",
        section: "multus: network-status",
        cases: &[
            case("no interfaces", no_interfaces),
            case("interfaces of the host", interfaces_of_the_host),
            case("nothing", nothing),
        ],
    },
    Requirement {
        id: "M114",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A gateway in network-status is an address: that of the default route, or its family's first, or none.",
        section: "multus: network-status",
        cases: &[
            case("of the address", gateway_of_the_address),
            case("none", no_gateway),
        ],
    },
    Requirement {
        id: "M115",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The status is one merge patch of this annotation, for the pod with this UID; where the role does not allow it, the pod's status is replaced.",
        section: "multus: network-status",
        cases: &[
            case("patch", one_patch),
            case("replaced", replaced),
            case("pod gone", pod_gone),
        ],
    },
];

fn expect_text(node: &Node, expected: &str) -> Verdict {
    let text = node.status_text();
    ensure!(
        text == expected,
        "network-status is\n{text}\nand should be\n{expected}"
    );
    Ok(())
}

/// Has `spy-b` answer this ADD result, in the version that is asked for, and attaches the pod to it as net1.
fn with_second<'t>(t: &'t Trial, result: Value) -> Result<Node<'t>, crate::requirement::Stop> {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?
        .says(Verb::Add, Lines::document(&in_version(t.version, result)))?;
    node.attach("net-b", "spy-b")?;
    node.annotate("net-b")?;
    Ok(node)
}

/// The object of net1 after an ADD with that result.
fn second_status(t: &Trial, result: Value) -> Result<Value, crate::requirement::Stop> {
    let mut node = with_second(t, result)?;
    node.add()?;
    let status = node.status()?;
    node.del()?;
    let networks = status.as_array().map_or(0, Vec::len);
    ensure!(
        networks == 2,
        "network-status has {networks} objects: {status}"
    );
    Ok(status[1].clone())
}

const FIRST: &str = r#"{
    "name": "net-a",
    "interface": "eth0",
    "ips": [
        "10.1.0.2"
    ],
    "mac": "02:00:00:00:00:01",
    "default": true,
    "dns": {}
}"#;

fn one_interface(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.add()?;
    expect_text(&node, &format!("[{FIRST}]"))?;
    node.del().map(drop)
}

fn several_networks(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    let other = |name: &str, ifname: &str, ip: &str| {
        let text = FIRST.replace("net-a", name).replace("eth0", ifname);
        let text = text.replace("10.1.0.2", ip);
        text.replace("    \"default\": true,\n", "")
    };
    let expected = [
        FIRST.to_owned(),
        other("default/net-b", "net1", "10.2.0.2"),
        other("default/net-c", "net2", "10.3.0.2"),
    ];
    expect_text(&node, &format!("[{}]", expected.join(",")))?;
    node.del().map(drop)
}

fn dns_and_gateway(t: &Trial) -> Verdict {
    let result = json!({
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "{{netns}}"}],
        "ips": [
            {"interface": 0, "address": "10.2.0.2/24", "gateway": "10.2.0.1"},
            {"interface": 0, "address": "fd00:2::2/64", "gateway": "fd00:2::1"},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.2.0.9"},
            {"dst": "10.0.0.0/8", "gw": "10.2.0.8"},
            {"dst": "::/0", "gw": "fd00:2::9"},
        ],
        "dns": {
            "nameservers": ["10.2.0.53"],
            "domain": "a<b>",
            "search": ["x&y"],
            "options": ["ndots:5"],
        },
    });
    let mut node = with_second(t, result)?;
    node.add()?;
    let second = r#"{
    "name": "default/net-b",
    "interface": "net1",
    "ips": [
        "10.2.0.2",
        "fd00:2::2"
    ],
    "mac": "02:00:00:00:00:02",
    "dns": {
        "nameservers": [
            "10.2.0.53"
        ],
        "domain": "a\u003cb\u003e",
        "search": [
            "x\u0026y"
        ],
        "options": [
            "ndots:5"
        ]
    },
    "gateway": [
        "10.2.0.9",
        "fd00:2::9"
    ]
}"#;
    expect_text(&node, &format!("[{FIRST},{second}]"))?;
    node.del().map(drop)
}

fn mtu(t: &Trial) -> Verdict {
    let result = json!({
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:02", "mtu": 1410, "sandbox": "{{netns}}"}],
    });
    let mut node = with_second(t, result)?;
    node.add()?;
    let second = r#"{
    "name": "default/net-b",
    "interface": "net1",
    "mac": "02:00:00:00:00:02",
    "mtu": 1410,
    "dns": {}
}"#;
    expect_text(&node, &format!("[{FIRST},{second}]"))?;
    node.del().map(drop)
}

/// A bridge with two ends in the pod, and addresses of everybody.
fn two_ends(first: &str, second: &str) -> Value {
    let mac = |last: u8| format!("02:00:00:00:00:{last:02}");
    json!({
        "interfaces": [
            {"name": "br0", "mac": mac(10)},
            {"name": first, "mac": mac(11), "sandbox": "{{netns}}"},
            {"name": second, "mac": mac(12), "sandbox": "{{netns}}"},
        ],
        "ips": [
            {"interface": 0, "address": "10.2.0.1/24"},
            {"interface": 1, "address": "10.2.0.2/24"},
            {"interface": 2, "address": "10.2.0.3/24", "gateway": "10.2.0.1"},
            {"interface": 1, "address": "fd00:2::2/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.2.0.1"}],
    })
}

fn several_interfaces(t: &Trial) -> Verdict {
    let mut node = with_second(t, two_ends("net1", "net1-b"))?;
    node.add()?;
    let status = node.status()?;
    let expected = json!([
        {"name": "default/net-b", "interface": "net1", "ips": ["10.2.0.2", "fd00:2::2"],
         "mac": "02:00:00:00:00:11", "dns": {}, "gateway": ["10.2.0.1"]},
        {"name": "default/net-b", "interface": "net1-b", "ips": ["10.2.0.3"],
         "mac": "02:00:00:00:00:12", "dns": {}, "gateway": ["10.2.0.1"]},
    ]);
    let found = json!([status[1], status[2]]);
    ensure!(
        found == expected && status[3].is_null(),
        "network-status is {status}"
    );
    node.del().map(drop)
}

fn default_of_several(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let result = in_version(t.version, two_ends("eth0", "eth0-b"));
    node.spied("spy-a")?
        .says(Verb::Add, Lines::document(&result))?;
    node.add()?;
    let status = node.status()?;
    let of = |key: &str| json!([status[0][key], status[1][key]]);
    ensure!(
        of("interface") == json!(["eth0", "eth0-b"]) && of("default") == json!([null, true]),
        "network-status is {status}"
    );
    node.del().map(drop)
}

fn no_interfaces(t: &Trial) -> Verdict {
    let result = json!({"ips": [{"address": "10.2.0.2/24"}, {"address": "10.2.0.3/24"}]});
    let status = second_status(t, result)?;
    let expected = json!({"name": "default/net-b", "ips": ["10.2.0.2", "10.2.0.3"], "dns": {}});
    ensure!(status == expected, "the object is {status}");
    Ok(())
}

fn interfaces_of_the_host(t: &Trial) -> Verdict {
    let result = json!({
        "interfaces": [{"name": "cali1", "mac": "ee:ee:ee:ee:ee:ee"}],
        "ips": [{"interface": 0, "address": "10.2.0.2/32"}],
    });
    let status = second_status(t, result)?;
    let expected = json!({"name": "default/net-b", "ips": ["10.2.0.2"], "dns": {}});
    ensure!(status == expected, "the object is {status}");
    Ok(())
}

/// Not even the default network names anything: its interface is the one that the runtime asked for.
fn nothing(t: &Trial) -> Verdict {
    let mut node = with_second(t, json!({}))?;
    node.spied("spy-a")?.says(
        Verb::Add,
        Lines::document(&in_version(t.version, json!({}))),
    )?;
    node.add()?;
    let first = r#"{
    "name": "net-a",
    "interface": "eth0",
    "default": true,
    "dns": {}
}"#;
    let second = r#"{
    "name": "default/net-b",
    "dns": {}
}"#;
    expect_text(&node, &format!("[{first},{second}]"))?;
    node.del().map(drop)
}

fn gateway_of_the_address(t: &Trial) -> Verdict {
    let result = json!({
        "interfaces": [{"name": "net1", "sandbox": "{{netns}}"}],
        "ips": [
            {"interface": 0, "address": "fd00:2::2/64", "gateway": "fd00:2::1"},
            {"interface": 0, "address": "10.2.0.2/24", "gateway": "10.2.0.1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "10.2.0.1"}],
    });
    let status = second_status(t, result)?;
    ensure!(
        status["gateway"] == json!(["10.2.0.1"]),
        "the object is {status}"
    );
    Ok(())
}

fn no_gateway(t: &Trial) -> Verdict {
    let result = json!({
        "interfaces": [{"name": "net1", "sandbox": "{{netns}}"}],
        "ips": [{"interface": 0, "address": "10.2.0.2/24"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let status = second_status(t, result)?;
    ensure!(status.get("gateway").is_none(), "the object is {status}");
    Ok(())
}

const STATUS_PATH: &str = "/api/v1/namespaces/default/pods/samplepod/status";

fn one_patch(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.set_annotation("mine", "stays")?;
    node.cluster.forget_requests();
    node.add()?;
    let requests = node.cluster.requests();
    let mut writes = requests
        .iter()
        .filter(|request| request.path == STATUS_PATH);
    let (Some(patch), None) = (writes.next(), writes.next()) else {
        return Err(fail("the status of the pod was not written exactly once"));
    };
    let uid = &node.pod()?["metadata"]["uid"];
    let expected = json!({"metadata": {"uid": uid, "annotations": {STATUS: node.status_text()}}});
    ensure!(
        patch.method == "PATCH" && patch.json() == expected,
        "{} {} with {}",
        patch.method,
        patch.path,
        patch.json()
    );
    ensure!(
        patch.content_type == "application/merge-patch+json",
        "a patch of {}",
        patch.content_type
    );
    let mine = &node.pod()?["metadata"]["annotations"]["mine"];
    ensure!(mine == "stays", "another annotation was lost");
    node.del().map(drop)
}

/// The role that the original asks for lets update, and not patch.
fn replaced(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.set_annotation("mine", "stays")?;
    node.cluster
        .strike(Fault::on("PATCH", "", Effect::Answer(403, None)));
    node.add()?;
    expect_text(&node, &format!("[{FIRST}]"))?;
    let pod = node.pod()?;
    ensure!(
        pod["metadata"]["annotations"]["mine"] == "stays" && pod["spec"]["nodeName"] == "node-1",
        "the pod has lost something: {pod}"
    );
    node.del().map(drop)
}

/// A pod that is deleted while it starts needs no status, and its DEL is on the way.
fn pod_gone(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.cluster
        .strike(Fault::on("PATCH", "", Effect::Answer(404, None)));
    node.add()?;
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}
