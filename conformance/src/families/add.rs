//! Family A: what ADD makes, what it reports, and what it leaves alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::attachment::Attachment;
use crate::ensure;
use crate::leases::leases;
use crate::pod::Link;
use crate::requirement::{Requirement, Stop, Verdict, case, fail, skip};
use crate::result::parse_cidr;
use crate::rules::rules;
use crate::spec::{Kind, Must, Should, V0_1_0, V0_2_0, V0_3_0, V0_4_0, V1_0_0, V1_1_0, Verb, code};
use crate::trial::Trial;

/// The requirements of this family.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "A1",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "ADD answers in exactly the shape of the version that was asked for: its keys, their types, and no newer ones.",
        section: "Success",
        cases: &[
            case("ADD-01", shape),
            case("ADD-27", shape_of_both_families),
            case("ADD-28", route_attributes),
        ],
    },
    Requirement {
        id: "A2",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "The interface CNI_IFNAME exists in CNI_NETNS, and the result has it with that sandbox and the kernel's hardware address.",
        section: "ADD",
        cases: &[case("ADD-03", interface_is_there)],
    },
    Requirement {
        id: "A3",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Every address of the result is configured on the interface that its index names, which is the one in the sandbox.",
        section: "Success",
        cases: &[
            case("ADD-04", addresses_are_there),
            case("ADD-26", addresses_of_both_families),
        ],
    },
    Requirement {
        id: "A4",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Every route of the result exists in the pod.",
        section: "Success",
        cases: &[case("ADD-05", routes_are_there)],
    },
    Requirement {
        id: "A5",
        levels: &[(V1_0_0..=V1_1_0, Must)],
        kinds: Kind::ATTACHING,
        sentence: "Where an interface of the requested name exists already, ADD is an error and leaves the interface and its lease alone.",
        section: "ADD",
        cases: &[
            case("ADD-06", second_add),
            case("ADD-07", foreign_interface),
        ],
    },
    Requirement {
        id: "A6",
        levels: &[(V0_4_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "Attachments are told apart by container id and interface name: one container can have two.",
        section: "Section 3, lifecycle and ordering",
        cases: &[case("ADD-08", two_interface_names)],
    },
    Requirement {
        id: "A7",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "The `dns` of the configuration appears in the result.",
        section: "Network configuration",
        cases: &[case("ADD-09", dns_is_reported)],
    },
    Requirement {
        id: "A8",
        levels: &[(V0_3_0..=V1_1_0, Must)],
        kinds: &[Kind::Ipam],
        sentence: "An IPAM plugin reports no interfaces and no interface index, and its result has a cniVersion.",
        section: "Delegated plugins (IPAM)",
        cases: &[case("ADD-10", abbreviated_result)],
    },
    Requirement {
        id: "A9",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "ADD on a pool without free addresses is an error, and nothing more is held than before.",
        section: "Error",
        cases: &[case("ADD-25", full_pool)],
    },
    Requirement {
        id: "A10",
        levels: &[(V0_1_0..=V0_4_0, Should)],
        kinds: Kind::ATTACHING,
        sentence: "A pod that has a default route already can be attached to another network that brings one.",
        section: "Well-known structures, routes",
        cases: &[case("second default route", second_default_route)],
    },
    Requirement {
        id: "A11",
        levels: &[(V0_1_0..=V0_2_0, Must)],
        kinds: Kind::LEASING,
        sentence: "A result of 0.1.0 and 0.2.0 has at least one of `ip4` and `ip6`; without any address ADD is an error.",
        section: "Result",
        cases: &[case("ADD-02", an_address), case("layer 2 only", no_address)],
    },
];

type Held = BTreeMap<PathBuf, Vec<u8>>;

/// Gives an attachment these range sets, where its IPAM plugin takes host-local's configuration.
pub(super) fn with_ranges(
    attachment: &mut Attachment<'_>,
    ranges: Value,
    routes: Value,
) -> Result<(), Stop> {
    let ipam = &mut attachment.maker()["ipam"];
    if ipam["ranges"].is_null() {
        return Err(skip(
            "the profile's configuration has no ipam.ranges to change",
        ));
    }
    ipam["ranges"] = ranges;
    ipam["routes"] = routes;
    Ok(())
}

/// An attachment to a dual-stack network. IPv6 has no gateway here, so that no ADD waits for address detection.
pub(super) fn dual_stack<'t>(trial: &'t Trial<'_>) -> Result<Attachment<'t>, Stop> {
    let mut attachment = trial.attachment()?;
    let ranges = json!([[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]]);
    with_ranges(
        &mut attachment,
        ranges,
        json!([{ "dst": "0.0.0.0/0" }, { "dst": "fd99::/64" }]),
    )?;
    Ok(attachment)
}

/// The interface in the pod, which must be there.
pub(super) fn link(attachment: &Attachment<'_>) -> Result<Link, Stop> {
    let found = attachment.pod.link(&attachment.ifname)?;
    found.ok_or_else(|| fail(format!("there is no {} in the pod", attachment.ifname)))
}

/// What the plugin holds for the attachment outside the pod: the leases of its network, or on the API server if that has
/// its networks, or for a plugin of a list the rules that name the pod's address or the container.
pub(super) fn held(attachment: &Attachment<'_>) -> Result<Held, Stop> {
    if let Some(held) = attachment.held_on_server()? {
        return Ok(held);
    }
    let Some(cable) = &attachment.cable else {
        return Ok(leases(&attachment.store()?)?);
    };
    let of_a_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let names_pod = |rule: &String| {
        let mut words = rule.split(|c| !of_a_word(c));
        words.any(|word| word == cable.address || word == attachment.container)
    };
    let rules = rules()?.into_iter().filter(names_pod);
    Ok(rules
        .map(|rule| (PathBuf::from(rule), Vec::new()))
        .collect())
}

/// Requires that the leases are the same as before.
pub(super) fn same_leases(attachment: &Attachment<'_>, before: &Held) -> Verdict {
    let now = held(attachment)?;
    let names = |held: &Held| {
        held.keys()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    ensure!(
        now == *before,
        "leases before: [{}], and now: [{}]",
        names(before),
        names(&now)
    );
    Ok(())
}

/// The addresses of a result of any version, as text.
pub(super) fn addresses(result: &Value) -> Vec<String> {
    let new = result["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|ip| &ip["address"]);
    let old = [&result["ip4"]["ip"], &result["ip6"]["ip"]];
    new.chain(old)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn shape(trial: &Trial<'_>) -> Verdict {
    trial.attachment()?.add().map(drop)
}

fn shape_of_both_families(trial: &Trial<'_>) -> Verdict {
    let result = dual_stack(trial)?.add()?;
    let found = addresses(&result);
    let has = |v6: bool| {
        found
            .iter()
            .filter_map(|text| parse_cidr(text))
            .any(|(ip, _)| ip.is_ipv6() == v6)
    };
    ensure!(
        has(false) && has(true),
        "both families were asked for, the result has {found:?}"
    );
    Ok(())
}

fn route_attributes(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let route = json!({ "dst": "10.99.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 50, "table": 100, "scope": 0 });
    with_ranges(
        &mut attachment,
        json!([[{ "subnet": "10.88.0.0/24" }]]),
        json!([route]),
    )?;
    attachment.add().map(drop)
}

fn interface_is_there(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let result = attachment.add()?;
    let link = link(&attachment)?;
    let reported = result["interfaces"].as_array().into_iter().flatten();
    let Some(own) = reported
        .into_iter()
        .find(|interface| interface["name"] == attachment.ifname.as_str())
    else {
        return Err(fail(format!(
            "the result does not have {}",
            attachment.ifname
        )));
    };
    let path = attachment.pod.path.to_string_lossy();
    ensure!(
        own["sandbox"] == *path,
        "sandbox is {}, CNI_NETNS was {path}",
        own["sandbox"]
    );
    let mac = own["mac"].as_str().unwrap_or_default();
    ensure!(
        mac.eq_ignore_ascii_case(&link.mac),
        "mac is {mac:?}, the kernel says {}",
        link.mac
    );
    ensure!(link.up, "{} is not up", link.name);
    Ok(())
}

fn addresses_are_there(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let result = attachment.add()?;
    compare_addresses(&attachment, &result)
}

fn addresses_of_both_families(trial: &Trial<'_>) -> Verdict {
    let mut attachment = dual_stack(trial)?;
    let result = attachment.add()?;
    compare_addresses(&attachment, &result)
}

fn compare_addresses(attachment: &Attachment<'_>, result: &Value) -> Verdict {
    let link = link(attachment)?;
    for ip in result["ips"].as_array().into_iter().flatten() {
        let index = ip["interface"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok());
        let interface = index.map_or(&Value::Null, |index| &result["interfaces"][index]);
        ensure!(
            interface["name"] == link.name.as_str(),
            "the index of {ip} does not name {}",
            link.name
        );
        let address = ip["address"].as_str().unwrap_or_default();
        ensure!(
            link.has(address),
            "{address} is not on {}, which has {:?}",
            link.name,
            link.addresses
        );
    }
    let wanted = addresses(result).len();
    ensure!(
        wanted == link.addresses.len(),
        "the result has {wanted} addresses, {} has {:?}",
        link.name,
        link.addresses
    );
    Ok(())
}

fn routes_are_there(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let result = attachment.add()?;
    let there = attachment.pod.state()?.routes;
    for route in result["routes"].as_array().into_iter().flatten() {
        let dst = route["dst"].as_str().unwrap_or_default();
        let gw: Option<IpAddr> = route["gw"].as_str().and_then(|gw| gw.parse().ok());
        let same = there
            .iter()
            .any(|found| found.destination == dst && (gw.is_none() || found.gateway == gw));
        ensure!(same, "the route {route} is not among {there:?}");
    }
    ensure!(
        result["routes"].is_array(),
        "the configuration asks for a route, the result has none"
    );
    Ok(())
}

fn second_add(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    attachment.add()?;
    let (link_before, held_before) = (link(&attachment)?, held(&attachment)?);
    let answer = attachment.ask(Verb::Add)?;
    // One that makes nothing itself may answer again what it has: nothing is made twice.
    if trial.kind() != Kind::Meta || !answer.succeeded() {
        answer.refused(&[])?;
    }
    ensure!(
        link(&attachment)? == link_before,
        "the interface changed from {link_before:?} to {:?}",
        link(&attachment)?
    );
    same_leases(&attachment, &held_before)
}

fn foreign_interface(trial: &Trial<'_>) -> Verdict {
    trial.needs_link_kind()?;
    let attachment = trial.attachment()?;
    attachment.pod.ip(&[
        "link",
        "add",
        &attachment.ifname,
        "type",
        "veth",
        "peer",
        "name",
        "other",
    ])?;
    let before = attachment.pod.state()?;
    attachment.ask(Verb::Add)?.refused(&[])?;
    let now = attachment.pod.state()?;
    ensure!(now == before, "the pod had {before:?} and now has {now:?}");
    same_leases(&attachment, &Held::new())
}

fn two_interface_names(trial: &Trial<'_>) -> Verdict {
    let mut one = trial.attachment()?;
    let first = addresses(&one.add()?);
    let mut two = one.sibling()?;
    two.container.clone_from(&one.container);
    two.ifname = "net2".into();
    let second = addresses(&two.add()?);
    ensure!(first != second, "both interfaces got {first:?}");
    two.del()?;
    let third = addresses(&one.sibling()?.add()?);
    ensure!(
        third != first,
        "DEL of net2 released {first:?}, which net1 holds"
    );
    Ok(())
}

fn dns_is_reported(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let dns = json!({ "nameservers": ["10.88.0.53"], "domain": "one.example", "search": ["two.example"], "options": ["ndots:2"] });
    attachment.maker()["dns"] = dns.clone();
    let result = attachment.add()?;
    ensure!(
        result["dns"] == dns,
        "dns of the result is {}",
        result["dns"]
    );
    Ok(())
}

fn abbreviated_result(trial: &Trial<'_>) -> Verdict {
    let result = trial.attachment()?.add()?;
    ensure!(
        result.get("interfaces").is_none(),
        "there are interfaces: {result}"
    );
    let mut ips = result["ips"].as_array().into_iter().flatten();
    ensure!(
        ips.all(|ip| ip.get("interface").is_none()),
        "an address has an interface index: {result}"
    );
    ensure!(
        result["cniVersion"] == trial.version.as_str(),
        "cniVersion is {}",
        result["cniVersion"]
    );
    Ok(())
}

fn full_pool(trial: &Trial<'_>) -> Verdict {
    let mut one = trial.attachment()?;
    let range =
        json!([[{ "subnet": "10.88.0.0/24", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.9" }]]);
    with_ranges(&mut one, range, json!([]))?;
    one.add()?;
    let before = held(&one)?;
    let two = one.sibling()?;
    two.ask(Verb::Add)?.refused(&[code::TRY_AGAIN, code::OWN])?;
    same_leases(&one, &before)?;
    let pod = two.pod.state()?;
    ensure!(
        pod.link(&two.ifname).is_none(),
        "the failed ADD left {:?}",
        pod.link(&two.ifname)
    );
    Ok(())
}

fn second_default_route(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let pod = &attachment.pod;
    pod.ip(&[
        "link", "add", "eth0", "type", "veth", "peer", "name", "peer0",
    ])?;
    for name in ["eth0", "peer0"] {
        pod.ip(&["link", "set", name, "up"])?;
    }
    pod.ip(&["address", "add", "10.77.0.5/24", "dev", "eth0"])?;
    pod.ip(&["route", "add", "default", "via", "10.77.0.1", "dev", "eth0"])?;
    attachment.add()?;
    let routes = attachment.pod.state()?.routes;
    let first =
        |route: &&crate::pod::Route| route.destination == "0.0.0.0/0" && route.link == "eth0";
    ensure!(
        routes.iter().any(|route| first(&route)),
        "the pod's own default route is gone: {routes:?}"
    );
    attachment.del()?;
    let routes = attachment.pod.state()?.routes;
    ensure!(
        routes.iter().any(|route| first(&route)),
        "DEL took the pod's own default route: {routes:?}"
    );
    Ok(())
}

fn an_address(trial: &Trial<'_>) -> Verdict {
    let result = trial.attachment()?.add()?;
    ensure!(
        !addresses(&result).is_empty(),
        "neither ip4 nor ip6 has an address: {result}"
    );
    Ok(())
}

fn no_address(trial: &Trial<'_>) -> Verdict {
    if !trial.kind().attaches() {
        return Err(skip(
            "only a plugin that makes interfaces can do without addresses",
        ));
    }
    trial.needs_link_kind()?;
    trial.needs_networks_in_config()?;
    let mut attachment = trial.attachment()?;
    if let Some(config) = attachment.maker().as_object_mut() {
        config.remove("ipam");
    }
    attachment.earlier = None;
    attachment.ask(Verb::Add)?.refused(&[])?;
    let pod = attachment.pod.state()?;
    ensure!(
        pod.link(&attachment.ifname).is_none(),
        "the failed ADD left {:?}",
        pod.link(&attachment.ifname)
    );
    Ok(())
}
