//! Family M, `default-route`: the real macvlan and host-local beside multus make the pod's interfaces and routes, so that
//! the kernel's table is looked at, and with it everything that tells of it.

use std::fs;

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::result::check_result;
use crate::spec::{Kind, V0_2_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0, Verb, Version};
use crate::spy::Lines;
use crate::stage::UPLINK;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M120",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The gateway that `default-route` names is the pod's only default route of its family: in the kernel, in the results that are kept and printed, and in network-status.",
        section: "multus: default-route",
        cases: &[
            case("IPv4", v4_gateway),
            case("both families", both_gateways),
            case("default network", gateway_of_the_default_network),
        ],
    },
    Requirement {
        id: "M121",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "An empty `default-route` leaves the network its own default routes and takes those of the others; without any, nothing is touched.",
        section: "multus: default-route",
        cases: &[
            case("empty", empty_list),
            case("nobody asks", nobody_asks),
            case("nothing to keep", nothing_to_keep),
        ],
    },
    Requirement {
        id: "M122",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Two gateways of one family are refused before anything is done; one of each family may be on different networks.",
        section: "multus: default-route",
        cases: &[
            case("two networks", two_networks),
            case("one network", two_on_one_network),
            case("one of each", one_of_each_family),
        ],
    },
    Requirement {
        id: "M123",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A gateway that can't be reached fails the ADD, and all of it is undone: links, addresses, what is remembered.",
        section: "multus: default-route",
        cases: &[case("unreachable", unreachable)],
    },
    Requirement {
        id: "M124",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Default routes are moved in results of every version, which keep their shape.",
        section: "multus: default-route",
        cases: &[
            case("0.2.0", |t| of_version(t, V0_2_0)),
            case("0.3.1", |t| of_version(t, V0_3_1)),
            case("0.4.0", |t| of_version(t, V0_4_0)),
            case("1.0.0", |t| of_version(t, V1_0_0)),
            case("1.1.0", |t| of_version(t, V1_1_0)),
        ],
    },
    Requirement {
        id: "M125",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A result whose routes can't be read is an error that names the network, and is undone.",
        section: "multus: default-route",
        cases: &[
            case("no list", |t| malformed(t, json!({"routes": {}}))),
            case("text", |t| malformed(t, json!({"routes": ["0.0.0.0/0"]}))),
            case("number", |t| malformed(t, json!({"routes": [{"dst": 5}]}))),
            case("no dst", |t| {
                malformed(t, json!({"routes": [{"gw": "10.2.0.1"}]}))
            }),
            case("no prefix", |t| {
                malformed(t, json!({"routes": [{"dst": "nowhere"}]}))
            }),
            case("long prefix", |t| {
                malformed(t, json!({"routes": [{"dst": "0.0.0.0/33"}]}))
            }),
            case("gateway", |t| {
                malformed(t, json!({"routes": [{"dst": "0.0.0.0/0", "gw": "nobody"}]}))
            }),
            case("version", |t| malformed(t, json!({"cniVersion": "0.x"}))),
            case("type of version", |t| {
                malformed(t, json!({"cniVersion": 1}))
            }),
        ],
    },
];

/// A default network and two others, made by macvlan: eth0, net1 and net2 with the addresses 10.N.0.2 and fd00:N::2 and
/// default routes by 10.N.0.1 and fd00:N::1, N counted from 1.
fn routed<'t>(t: &'t Trial, version: Version) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    // Nobody else has these addresses, and to make sure takes the kernel seconds for each network.
    node.runtime.pod.inside(|| {
        let mut scopes = ["all", "default"].into_iter();
        scopes.try_for_each(|scope| {
            fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")
        })
    })?;
    node.runtime.config["name"] = format!("multus-{}", t.serial()).into();
    let leases = node.runtime.store()?;
    let network = |number: u8, name: &str| {
        let v4 = |end: &str| format!("10.{number}.0.{end}");
        let v6 = |end: &str| format!("fd00:{number}::{end}");
        json!({
            "cniVersion": version.as_str(),
            "name": name,
            "type": "macvlan",
            "master": UPLINK,
            "ipam": {
                "type": "host-local",
                "dataDir": leases,
                "ranges": [
                    [{"subnet": v4("0/24"), "gateway": v4("1")}],
                    [{"subnet": v6("/64"), "gateway": v6("1")}],
                ],
                "routes": [{"dst": "0.0.0.0/0", "gw": v4("1")}, {"dst": "::/0", "gw": v6("1")}],
            },
        })
    };
    node.runtime.config["delegates"] = json!([network(1, "net-a")]);
    node.define("net-b", &network(2, "net-b"))?;
    node.define("net-c", &network(3, "net-c"))?;
    Ok(node)
}

/// Selects the networks of this list and attaches the pod to them.
fn added<'t>(t: &'t Trial, networks: &Value) -> Result<(Node<'t>, Value), Stop> {
    let mut node = routed(t, t.version)?;
    node.annotate(&networks.to_string())?;
    let result = node.add()?;
    Ok((node, result))
}

/// Requires these default routes in the pod, as `GATEWAY dev LINK` in the order of the text.
fn expect_kernel(node: &Node, expected: &[&str]) -> Verdict {
    let is_default = |destination: &str| ["0.0.0.0/0", "::/0"].contains(&destination);
    let mut found = Vec::new();
    for route in node.runtime.pod.state()?.routes {
        if is_default(&route.destination) {
            let gateway = route.gateway.map_or_else(String::new, |ip| ip.to_string());
            found.push(format!("{gateway} dev {}", route.link));
        }
    }
    found.sort();
    ensure!(
        found == expected,
        "the pod's default routes are {found:?}, expected {expected:?}"
    );
    Ok(())
}

/// The gateways of the default routes of a result, in the order of the text.
fn gateways(result: &Value) -> Vec<&str> {
    let lists = [
        &result["routes"],
        &result["ip4"]["routes"],
        &result["ip6"]["routes"],
    ];
    let routes = lists.into_iter().filter_map(Value::as_array).flatten();
    let default = routes.filter(|route| route["dst"] == "0.0.0.0/0" || route["dst"] == "::/0");
    let mut gateways: Vec<_> = default.filter_map(|route| route["gw"].as_str()).collect();
    gateways.sort_unstable();
    gateways
}

/// The result that multus keeps of a network: what CHECK and DEL give to its delegate.
fn kept(node: &Node, network: &str, ifname: &str) -> Result<Value, Stop> {
    let file = format!("results/{network}-{}-{ifname}", node.runtime.container);
    let text = fs::read(node.cni_dir.join(&file))?;
    let document: Value =
        serde_json::from_slice(&text).map_err(|error| fail(format!("{file}: {error}")))?;
    Ok(document["result"].clone())
}

/// Requires these gateways, in the order of the text, in what is kept and told of eth0, net1 and net2 in turn.
fn expect_told(node: &Node, expected: &[&[&str]]) -> Verdict {
    let status = node.status()?;
    let names = [("net-a", "eth0"), ("net-b", "net1"), ("net-c", "net2")];
    for (index, ((network, ifname), expected)) in names.into_iter().zip(expected).enumerate() {
        let kept = kept(node, network, ifname)?;
        ensure!(
            gateways(&kept) == *expected,
            "the kept result of {network} is {kept}, expected the gateways {expected:?}"
        );
        let told = status[index]["gateway"].as_array().into_iter().flatten();
        let mut told: Vec<_> = told.filter_map(Value::as_str).collect();
        told.sort_unstable();
        ensure!(
            told == *expected,
            "network-status has the gateways {told:?} of {network}, expected {expected:?}"
        );
    }
    Ok(())
}

/// DEL, and nothing is left in the pod and on record.
fn gone(node: &Node) -> Verdict {
    node.del()?;
    node.runtime.untouched()?;
    node.nothing_remembered()
}

fn v4_gateway(t: &Trial) -> Verdict {
    let networks = json!([{"name": "net-b"}, {"name": "net-c", "default-route": ["10.3.0.9"]}]);
    let (node, result) = added(t, &networks)?;
    expect_kernel(
        &node,
        &[
            "10.3.0.9 dev net2",
            "fd00:1::1 dev eth0",
            "fd00:2::1 dev net1",
            "fd00:3::1 dev net2",
        ],
    )?;
    expect_told(
        &node,
        &[&["fd00:1::1"], &["fd00:2::1"], &["10.3.0.9", "fd00:3::1"]],
    )?;
    ensure!(
        gateways(&result) == ["fd00:1::1"],
        "the IPv4 default route that eth0 has lost is in the result: {result}"
    );
    gone(&node)
}

fn both_gateways(t: &Trial) -> Verdict {
    let gateways = ["10.3.0.9", "fd00:3::9"];
    let networks = json!([{"name": "net-b"}, {"name": "net-c", "default-route": gateways}]);
    let (node, result) = added(t, &networks)?;
    expect_kernel(&node, &["10.3.0.9 dev net2", "fd00:3::9 dev net2"])?;
    expect_told(&node, &[&[], &[], &gateways])?;
    ensure!(
        self::gateways(&result).is_empty(),
        "the default routes that eth0 has lost are in the result: {result}"
    );
    gone(&node)
}

fn gateway_of_the_default_network(t: &Trial) -> Verdict {
    let mut node = routed(t, t.version)?;
    let default = json!([{"name": "net-b", "namespace": "default", "default-route": ["10.2.0.9", "fd00:2::9"]}]);
    node.set_annotation(DEFAULT_NETWORK, &default.to_string())?;
    node.annotate("net-c")?;
    let result = node.add()?;
    expect_kernel(&node, &["10.2.0.9 dev eth0", "fd00:2::9 dev eth0"])?;
    ensure!(
        gateways(&result) == ["10.2.0.9", "fd00:2::9"],
        "the result has not the routes of the kernel: {result}"
    );
    gone(&node)
}

fn empty_list(t: &Trial) -> Verdict {
    let networks = json!([{"name": "net-b", "default-route": []}, {"name": "net-c"}]);
    let (node, _) = added(t, &networks)?;
    expect_kernel(&node, &["10.2.0.1 dev net1", "fd00:2::1 dev net1"])?;
    expect_told(&node, &[&[], &["10.2.0.1", "fd00:2::1"], &[]])?;
    gone(&node)
}

fn nobody_asks(t: &Trial) -> Verdict {
    let (node, result) = added(t, &json!([{"name": "net-b"}]))?;
    expect_kernel(
        &node,
        &[
            "10.1.0.1 dev eth0",
            "10.2.0.1 dev net1",
            "fd00:1::1 dev eth0",
            "fd00:2::1 dev net1",
        ],
    )?;
    expect_told(
        &node,
        &[&["10.1.0.1", "fd00:1::1"], &["10.2.0.1", "fd00:2::1"]],
    )?;
    ensure!(
        gateways(&result) == ["10.1.0.1", "fd00:1::1"],
        "the result has lost routes: {result}"
    );
    gone(&node)
}

/// The network that is to keep its default route has none: the pod does not lose the one that it has.
fn nothing_to_keep(t: &Trial) -> Verdict {
    let mut node = routed(t, t.version)?;
    node.define(
        "net-d",
        &json!({"cniVersion": t.version.as_str(), "name": "net-d", "type": "macvlan", "master": UPLINK}),
    )?;
    node.annotate(&json!([{"name": "net-d", "default-route": []}]).to_string())?;
    node.add()?;
    expect_kernel(&node, &["10.1.0.1 dev eth0", "fd00:1::1 dev eth0"])?;
    gone(&node)
}

fn refused(t: &Trial, networks: &Value, words: &str) -> Verdict {
    let node = routed(t, t.version)?;
    node.annotate(&networks.to_string())?;
    t.needs_link_kind()?;
    node.ask(Verb::Add)?.refused(&[])?.names(words)?;
    node.runtime.untouched()?;
    node.nothing_remembered()?;
    ensure!(node.status()?.is_null(), "there is a network-status");
    node.del().map(drop)
}

const ECMP: &str = "multus does not support ECMP for default-route";

fn two_networks(t: &Trial) -> Verdict {
    let both = |one: &str, other: &str| json!([{"name": "net-b", "default-route": [one]}, {"name": "net-c", "default-route": [other]}]);
    refused(t, &both("10.2.0.9", "10.3.0.9"), ECMP)?;
    refused(t, &both("fd00:2::9", "fd00:3::9"), ECMP)
}

fn two_on_one_network(t: &Trial) -> Verdict {
    let networks = json!([{"name": "net-b", "default-route": ["10.2.0.9", "10.2.0.10"]}]);
    refused(t, &networks, ECMP)
}

fn one_of_each_family(t: &Trial) -> Verdict {
    let networks = json!([
        {"name": "net-b", "default-route": ["10.2.0.9"]},
        {"name": "net-c", "default-route": ["fd00:3::9"]},
    ]);
    let (node, _) = added(t, &networks)?;
    expect_kernel(&node, &["10.2.0.9 dev net1", "fd00:3::9 dev net2"])?;
    expect_told(&node, &[&[], &["10.2.0.9"], &["fd00:3::9"]])?;
    gone(&node)
}

fn unreachable(t: &Trial) -> Verdict {
    for gateway in ["192.0.2.1", "2001:db8::1"] {
        let networks = json!([{"name": "net-b"}, {"name": "net-c", "default-route": [gateway]}]);
        refused(t, &networks, "error setting default gateway")?;
    }
    Ok(())
}

fn of_version(t: &Trial, version: Version) -> Verdict {
    let mut node = routed(t, version)?;
    let gateways = ["10.3.0.9", "fd00:3::9"];
    let networks = json!([{"name": "net-b"}, {"name": "net-c", "default-route": gateways}]);
    node.annotate(&networks.to_string())?;
    node.add()?;
    expect_kernel(&node, &["10.3.0.9 dev net2", "fd00:3::9 dev net2"])?;
    expect_told(&node, &[&[], &[], &gateways])?;
    for (network, ifname) in [("net-a", "eth0"), ("net-b", "net1"), ("net-c", "net2")] {
        let kept = kept(&node, network, ifname)?;
        let complaints = check_result(version, Kind::Interface, &kept);
        ensure!(
            complaints.is_empty(),
            "the kept result of {network} is {kept}: {}",
            complaints.join("; ")
        );
    }
    gone(&node)
}

fn malformed(t: &Trial, mut result: Value) -> Verdict {
    let mut node = Node::three_networks(t)?;
    if result["cniVersion"].is_null() {
        result["cniVersion"] = t.version.as_str().into();
    }
    node.spied("spy-b")?
        .says(Verb::Add, Lines::document(&result))?;
    node.annotate(r#"[{"name": "net-b", "default-route": ["10.2.0.9"]}, {"name": "net-c"}]"#)?;
    node.ask(Verb::Add)?.refused(&[])?.names("net-b")?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])?;
    node.nothing_remembered()
}
