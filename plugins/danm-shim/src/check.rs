//! CHECK: compares what an ADD has made with what is there, in the kernel and on the API server.

use std::collections::BTreeMap;

use cni::{Error, Interface, Ip, Route, Success, Version};
use invoke::Parameters;
use k8s::DanmNetwork;
use kernel::{Expected, Netns, Rtnl};

use crate::cluster::Cluster;
use crate::ipam;
use crate::link::{self, net};
use crate::record::{Part, Record};
use crate::{Call, Node, open_netns};

/// Compares, interface by interface, up to the first difference. Changes nothing.
pub(crate) fn run(node: &Node, call: &Call) -> Result<(), Error> {
    let netns = open_netns(&call.netns)?;
    let id = &call.container_id;
    let record = node
        .records
        .find(&call.net.name, id, &call.ifname)?
        .unwrap_or_default();
    if !record.is_complete {
        return Err(Error::plugin(format!(
            "no ADD of container {id} is on record"
        )));
    }
    let cluster = node.cluster()?;
    for part in &record.interfaces {
        let place = part.network();
        one(node, call, cluster, &record, part, &netns).map_err(|e| {
            e.context(format!(
                "interface {} of network {}",
                part.ifname, place.name
            ))
        })?;
    }
    Ok(())
}

fn one(
    node: &Node,
    call: &Call,
    cluster: &Cluster,
    record: &Record,
    part: &Part,
    netns: &Netns,
) -> Result<(), Error> {
    let asked = |e: k8s::Error| Error::plugin(e.to_string());
    let endpoint = cluster
        .endpoint(&record.namespace, &part.endpoint)
        .map_err(asked)?
        .spec;
    let found = (
        &endpoint.interface.address,
        &endpoint.interface.address_ipv6,
    );
    if found != (&part.ip, &part.ip6) && !(part.ip.is_empty() && part.ip6.is_empty()) {
        let (ip, ip6) = found;
        let why = format!(
            "its DanmEp has the addresses {ip:?} and {ip6:?}, not {:?} and {:?}",
            part.ip, part.ip6
        );
        return Err(Error::plugin(why));
    }
    let mut network = cluster.network(&part.network()).map_err(asked)?;
    if node.claims.is_held(&part.network(), &part.endpoint)?
        && !ipam::is_reserved(&mut network.spec.options, &part.addresses())
    {
        return Err(Error::plugin(
            "the network's bitmap does not say that its addresses are taken",
        ));
    }
    let empty = BTreeMap::new();
    let proutes = [&endpoint.interface.proutes, &endpoint.interface.proutes6]
        .map(|routes| routes.as_ref().unwrap_or(&empty));
    if let Some(kind) = &part.link_kind {
        in_pod(node, call, part, (&network, proutes), (netns, kind))?;
    }
    match part.delegate()? {
        Some(delegate)
            if Version::parse(&delegate.cni_version).is_some_and(|v| v >= Version::V0_4_0) =>
        {
            let of = Parameters {
                netns: call.netns.clone(),
                ..record.parameters(&part.ifname, &node.settings)
            };
            node.runtime.check(&delegate, &of)
        }
        _ => Ok(()),
    }
}

/// The interface with its addresses, routes and rules, whoever has made it. A result that tells everything is what
/// counts; one in the original's manner does not say where its interfaces are, so the record counts.
fn in_pod(
    node: &Node,
    call: &Call,
    part: &Part,
    (network, proutes): (&DanmNetwork, [&BTreeMap<String, String>; 2]),
    (netns, kind): (&Netns, &str),
) -> Result<(), Error> {
    let addresses = part.addresses();
    let (routes, rules) = link::expected_routes(network, &addresses, proutes);
    let prev = match node.settings.tells_all {
        true => call.net.prev_result()?,
        false => None,
    };
    let made = prev.unwrap_or_else(|| recorded(part, routes, &call.netns));
    let expected = Expected::find(&made, &part.ifname, netns, &call.netns)?;
    netns.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let link = expected.link(&mut rtnl, kind)?;
        expected.addresses_and_routes(&mut rtnl, &link)?;
        for rule in rules {
            let same = |found: &kernel::Rule| {
                found.table == rule.table
                    && (found.from.network(), found.from.prefix())
                        == (rule.from.network(), rule.from.prefix())
            };
            if !rtnl.rules(rule.from.is_ipv6())?.iter().any(same) {
                let kernel::Rule { from, table } = rule;
                return Err(Error::plugin(format!(
                    "there is no rule from {from} lookup {table}"
                )));
            }
        }
        Ok(())
    })
}

/// What the record says in the form of a result.
fn recorded(part: &Part, routes: Vec<Route>, netns: &str) -> Success {
    let nets = [&part.ip, &part.ip6].into_iter().filter_map(|a| net(a));
    let ip = |address| Ip {
        address,
        gateway: None,
        interface: Some(0),
    };
    Success {
        interfaces: vec![Interface {
            name: part.ifname.clone(),
            sandbox: netns.to_owned(),
            ..Interface::default()
        }],
        ips: nets.map(ip).collect(),
        routes,
        ..Success::default()
    }
}
