//! Taking down: what the record of a container says, what only the API server can undo as soon as it answers.

use std::path::PathBuf;

use cni::Error;
use invoke::Parameters;
use k8s::{DanmEp, DanmScope};

use crate::cluster::{Cluster, NetworkRef};
use crate::conf::{self, PodArgs};
use crate::ipam::{self, Addresses};
use crate::record::{Open, Part, Record, Records, Stage, Stray};
use crate::{Call, Node, flannel, link};

/// DEL of a container. Errors: a delegate or the kernel has failed; the container's addresses are kept back then too.
pub(crate) fn container(node: &Node, call: &Call) -> Result<(), Error> {
    let record = node
        .records
        .open(&call.net.name, &call.container_id, &call.ifname)?;
    if record.get().is_empty() {
        unrecorded(node, call);
        return record.remove();
    }
    match all(node, &record)? {
        true => record.remove(),
        false => {
            log::warn!(
                "what the API server has to take back waits for the next call of this plugin"
            );
            Ok(())
        }
    }
}

/// Takes down what a file tells of.
pub(crate) fn at(node: &Node, path: PathBuf) -> Result<(), Error> {
    let record = Records::open_at(path)?;
    match all(node, &record)? {
        true => record.remove(),
        false => Ok(()),
    }
}

/// Takes down what a record tells of, the last interface first, and goes on past failures. True: nothing is left.
/// False: the API server did not answer, and its part is left to a later call.
///
/// Errors: all that failed in the kernel and in delegates, with the first one's code.
pub(crate) fn all(node: &Node, record: &Open) -> Result<bool, Error> {
    let now = record.get();
    if now.is_empty() || record.is_abandoned() {
        return Ok(!record.is_abandoned());
    }
    let (mut errors, mut is_done) = (Vec::new(), true);
    let parts = now.interfaces.iter().rev();
    for part in parts.filter(|part| part.stage != Stage::Deleted) {
        if let Err(e) = interface(node, &now, part) {
            // Its addresses may be in use still.
            errors.push(e);
            continue;
        }
        // All that can be done without the API server is done before a runtime loses its patience.
        if node.is_alone() {
            is_done = false;
            continue;
        }
        let done = node
            .cluster()
            .and_then(|cluster| objects(node, record, &now, part, cluster));
        if let Err(e) = done {
            log::warn!(
                "DanmEp {} of {}/{}: {e}",
                part.endpoint,
                now.namespace,
                now.pod
            );
            is_done = false;
        }
    }
    for stray in record.get().strays {
        if node.is_alone() {
            is_done = false;
            break;
        }
        let was_there = node
            .cluster()
            .and_then(|cluster| delete(cluster, &stray.namespace, &stray.endpoint));
        match was_there {
            // It will not come any more.
            Ok(false) if !stray.is_young() => {}
            Ok(true) => {}
            Ok(false) | Err(_) => {
                is_done = false;
                continue;
            }
        }
        record.change(|record| record.strays.retain(|other| *other != stray))?;
    }
    if !is_done && errors.is_empty() {
        record.change(|record| record.is_left = true)?;
    }
    Error::join(errors)?;
    Ok(is_done)
}

/// The interface itself. One that is gone is success.
fn interface(node: &Node, record: &Record, part: &Part) -> Result<(), Error> {
    let context = |e: Error| {
        e.context(format!(
            "interface {} of network {}",
            part.ifname,
            part.network().name
        ))
    };
    match part.delegate()? {
        None => link::delete(&record.netns, &part.ifname).map_err(context),
        Some(network) => {
            link::delete(&record.netns, &part.stand_in).map_err(context)?;
            let of = record.parameters(&part.ifname, &node.settings);
            node.runtime.del(&network, &of).map_err(context)?;
            if network
                .plugins
                .iter()
                .any(|plugin| flannel::is_flannel(&plugin.kind))
            {
                flannel::release(&record.container_id, &part.addresses()).map_err(context)?;
            }
            Ok(())
        }
    }
}

/// Its addresses, then its DanmEp.
fn objects(
    node: &Node,
    record: &Open,
    of: &Record,
    part: &Part,
    cluster: &Cluster,
) -> Result<(), Error> {
    let (endpoint, network) = (&part.endpoint, part.network());
    if part.stage == Stage::Made {
        match cluster.endpoint(&of.namespace, endpoint) {
            Ok(_) => record.part(endpoint, |part| part.stage = Stage::Deleting)?,
            // Who deletes a DanmEp gives its addresses back: they may be another pod's by now.
            Err(e) if e.is_absent() => {
                log::warn!(
                    "DanmEp {}/{endpoint} has been deleted by somebody else",
                    of.namespace
                );
                node.claims.forget(cluster, &network, endpoint)?;
                return record.part(endpoint, |part| part.stage = Stage::Deleted);
            }
            Err(e) => return Err(Error::plugin(e.to_string())),
        }
    }
    node.claims.give(cluster, &network, endpoint, None)?;
    if part.stage != Stage::Planned {
        let was_there = delete(cluster, &of.namespace, endpoint)?;
        let stray = Stray::new(&of.namespace, part);
        if !was_there && part.stage == Stage::Requested && stray.is_young() {
            record.change(|record| record.strays.push(stray))?;
        }
    }
    record.part(endpoint, |part| part.stage = Stage::Deleted)
}

/// Whether it was there.
fn delete(cluster: &Cluster, namespace: &str, endpoint: &str) -> Result<bool, Error> {
    match cluster.delete_endpoint(namespace, endpoint) {
        Ok(()) => Ok(true),
        Err(e) if e.is_absent() => Ok(false),
        Err(e) => Err(Error::plugin(e.to_string())),
    }
}

/// A DanmEp that this node has no record of: another plugin has made it, or the records were lost, or it came into
/// being after a DEL, because the ADD was killed with the request on its way. Its addresses are given back and it is
/// deleted. `all` are the DanmEps of the cluster: an address that another one has is not this one's any more.
pub(crate) fn foreign(
    node: &Node,
    cluster: &Cluster,
    endpoint: &DanmEp,
    all: &[DanmEp],
) -> Result<(), Error> {
    let (namespace, name) = (&endpoint.metadata.namespace, &endpoint.metadata.name);
    let spec = &endpoint.spec;
    let network = NetworkRef::of_endpoint(endpoint).ok_or_else(|| {
        Error::plugin(format!(
            "DanmEp {namespace}/{name} has the unknown apiType {:?}",
            spec.api_type
        ))
    })?;
    let others = all.iter().filter(|other| other.metadata.name != *name);
    let others: Vec<&DanmEp> = others
        .filter(|other| NetworkRef::of_endpoint(other).as_ref() == Some(&network))
        .collect();
    let own = |address: fn(&DanmEp) -> &String| {
        let is_taken = others
            .iter()
            .any(|other| address(other) == address(endpoint));
        match is_taken {
            true => String::new(),
            false => address(endpoint).clone(),
        }
    };
    let addresses = Addresses {
        ip: own(|e| &e.spec.interface.address),
        ip6: own(|e| &e.spec.interface.address_ipv6),
    };
    node.claims
        .give(cluster, &network, name, Some(&addresses))?;
    delete(cluster, namespace, name).map(drop)
}

/// DEL of a container without record: the DanmEps say what the original has made for it. Nothing stops it: there may
/// be nothing, and the API server may be gone for good.
fn unrecorded(node: &Node, call: &Call) {
    let found = PodArgs::read(call).and_then(|args| {
        let cluster = node.cluster()?;
        let all = cluster.endpoints(Some(&args.namespace));
        let mut own = all.map_err(|e| Error::plugin(e.to_string()))?;
        own.retain(|endpoint| endpoint.spec.cid == args.cid);
        let all = match own.is_empty() {
            true => Ok(Vec::new()),
            false => cluster.endpoints(None),
        };
        Ok((cluster, own, all.map_err(|e| Error::plugin(e.to_string()))?))
    });
    let (cluster, endpoints, all) = match found {
        Ok(found) => found,
        Err(e) => {
            return log::warn!(
                "nothing is on record of the container, and no DanmEps are known: {e}"
            );
        }
    };
    for endpoint in &endpoints {
        let name = &endpoint.metadata.name;
        let done = adopted_interface(node, call, cluster, endpoint)
            .and_then(|()| foreign(node, cluster, endpoint, &all));
        match done {
            Ok(()) => log::info!("DanmEp {name}, which is on no record, is taken down"),
            Err(e) => log::error!("DanmEp {name}, which is on no record: {e}"),
        }
    }
}

/// The interface of a DanmEp that the original has made.
fn adopted_interface(
    node: &Node,
    call: &Call,
    cluster: &Cluster,
    endpoint: &DanmEp,
) -> Result<(), Error> {
    let spec = &endpoint.spec;
    let ifname = &spec.interface.name;
    if spec.network_type.eq_ignore_ascii_case("ipvlan") || spec.network_type.is_empty() {
        return link::delete(&spec.netns, ifname);
    }
    let scope = DanmScope::parse(&spec.api_type).unwrap_or(DanmScope::DanmNet);
    let place = NetworkRef::of_pod(scope, &endpoint.metadata.namespace, &spec.network_name);
    let network = match cluster.network(&place) {
        Ok(network) => network,
        Err(e) if e.is_absent() => return link::delete(&spec.netns, ifname),
        Err(e) => return Err(Error::plugin(e.to_string())),
    };
    let own = |address: &String| match ipam::is_own(&network.spec.options, address) {
        true => address.clone(),
        false => String::new(),
    };
    let reserved = Addresses {
        ip: own(&spec.interface.address),
        ip6: own(&spec.interface.address_ipv6),
    };
    let delegation = crate::delegate::Delegation {
        network: &network,
        reserved: &reserved,
        device: Some(spec.interface.device_id.as_str()).filter(|id| !id.is_empty()),
        cni_dir: &node.settings.cni_dir,
        fake_ipam: &call.net.kind,
        completes: node.settings.completes_delegates,
    };
    let of = Parameters {
        container_id: call.container_id.clone(),
        netns: spec.netns.clone(),
        ifname: ifname.clone(),
        args: conf::pairs(&call.args),
        capability_args: node.settings.capability_args.clone(),
    };
    node.runtime.del(&delegation.build()?, &of)
}
