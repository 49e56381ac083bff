//! What is left of containers that are gone: records that wait for the API server, and DanmEps of this node.

use std::collections::{BTreeMap, BTreeSet};

use cni::{Attachment, Error, Network};
use k8s::DanmEp;
use kernel::sysctl;

use crate::claims::mark::{self, Mark};
use crate::cluster::NetworkRef;
use crate::record::{Part, Record};
use crate::{Node, detach, files};

/// Takes down what the records of one network hold for attachments that are not valid, what earlier calls have left,
/// and the DanmEps of this node whose pods are gone; then tells the delegates what is valid. Goes on past failures.
pub(crate) fn gc(node: &Node, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let mut errors = Vec::new();
    // Before anything is taken down: networks that no valid attachment has are told as well.
    let delegates = delegates(node)?;
    // Before the records are read: an ADD that goes on meanwhile writes its record first.
    let claimed = node.claims.all()?;
    for path in node.records.of(network)? {
        let is_valid = |record: &Record| {
            let same =
                |a: &Attachment| a.container_id == record.container_id && a.ifname == record.ifname;
            valid.iter().any(same)
        };
        match files::read::<Record>(&path) {
            Ok(Some(record)) if !is_valid(&record) => errors.extend(detach::at(node, path).err()),
            Ok(_) => {}
            Err(e) => errors.push(e),
        }
    }
    leftovers(node);
    errors.extend(lost(node).err());
    match endpoints(node, valid) {
        Ok(live) => {
            errors.extend(claims(node, claimed, &live).err());
            errors.extend(forward(node, &delegates, &live).err());
        }
        // Without them it is not known which attachments the delegates have of pods that the original has attached.
        Err(e) => errors.push(e),
    }
    Error::join(errors)
}

/// Gives back addresses of endpoints that have neither a record any more nor a DanmEp.
fn claims(node: &Node, claimed: Vec<(NetworkRef, String)>, live: &[DanmEp]) -> Result<(), Error> {
    let known = known(node)?;
    let is_live = |name: &String| live.iter().any(|e| e.metadata.name == *name);
    let mut stale = claimed;
    stale.retain(|(_, endpoint)| !known.contains(endpoint) && !is_live(endpoint));
    let given = stale
        .iter()
        .map(|(network, endpoint)| node.claims.give(node.cluster()?, network, endpoint, None));
    Error::join(given.filter_map(Result::err).collect())
}

/// Gives back the addresses that this node took before it lost its books, and that no DanmEp has come of.
fn lost(node: &Node) -> Result<(), Error> {
    let cluster = node.cluster()?;
    let host = sysctl::read("kernel/hostname")?;
    let mut errors = Vec::new();
    let networks = cluster.networks();
    for (network, meta) in networks.map_err(|e| Error::plugin(e.to_string()))? {
        let own = node.claims.mark(&network)?;
        let is_lost =
            |(name, mark): (&str, Mark)| Some(name) != own.as_deref() && mark.is_left_by(&host);
        if mark::all(&meta.annotations).any(is_lost) {
            errors.extend(node.claims.give_lost(cluster, &network, &host).err());
        }
    }
    Error::join(errors)
}

/// Names of the DanmEps that records tell of.
fn known(node: &Node) -> Result<BTreeSet<String>, Error> {
    let records = node.records.all()?;
    let names = records.iter().flat_map(|(_, record)| record.endpoints());
    Ok(names.cloned().collect())
}

/// The networks of delegates that the records tell of, each in the form that was used last.
fn delegates(node: &Node) -> Result<Vec<Network>, Error> {
    let mut all = BTreeMap::new();
    for (_, record) in node.records.all()? {
        for part in &record.interfaces {
            if let Some(network) = part.delegate()? {
                all.insert(network.name.clone(), network);
            }
        }
    }
    Ok(all.into_values().collect())
}

/// Tells delegates which attachments are valid: those on record by now, and those of live DanmEps without a record.
/// A delegate is told all of them, because a DanmEp does not say which of them its network's are.
fn forward(node: &Node, delegates: &[Network], live: &[DanmEp]) -> Result<(), Error> {
    let mut valid = Vec::new();
    for (_, record) in node.records.all()? {
        for part in &record.interfaces {
            let Part { ifname, .. } = part;
            valid.push(attachment(&record.container_id, ifname));
        }
    }
    for endpoint in live {
        let spec = &endpoint.spec;
        valid.push(attachment(&spec.cid, &spec.interface.name));
    }
    let told = delegates
        .iter()
        .map(|network| node.runtime.gc(network, &valid));
    Error::join(told.filter_map(Result::err).collect())
}

fn attachment(container: &str, ifname: &str) -> Attachment {
    Attachment {
        container_id: container.to_owned(),
        ifname: ifname.to_owned(),
    }
}

/// Tries again what had to wait for the API server, unless it is away now.
pub(crate) fn leftovers(node: &Node) {
    let all = node.records.all().unwrap_or_else(|e| {
        log::error!("{e}");
        Vec::new()
    });
    for (path, _) in all.into_iter().filter(|(_, record)| record.is_left) {
        if node.is_alone() {
            break;
        }
        if let Err(e) = detach::at(node, path) {
            log::error!("{e}");
        }
    }
}

/// Takes down DanmEps of this node that no record tells of and whose pods are gone, or are others by now. Returns those
/// of the others that have no record.
fn endpoints(node: &Node, valid: &[Attachment]) -> Result<Vec<DanmEp>, Error> {
    let cluster = node.cluster()?;
    let host = sysctl::read("kernel/hostname")?;
    let all = cluster
        .endpoints(None)
        .map_err(|e| Error::plugin(e.to_string()))?;
    let known = known(node)?;
    let (mut errors, mut live) = (Vec::new(), Vec::new());
    for endpoint in all.iter().filter(|endpoint| endpoint.spec.host == host) {
        let spec = &endpoint.spec;
        if known.contains(&endpoint.metadata.name) {
            continue;
        }
        if valid.iter().any(|a| a.container_id == spec.cid) {
            live.push(endpoint.clone());
            continue;
        }
        let is_gone = match cluster.pod(&endpoint.metadata.namespace, &spec.pod) {
            Ok(pod) => !spec.pod_uid.is_empty() && pod.metadata.uid != spec.pod_uid,
            Err(e) if e.is_absent() => true,
            Err(e) => {
                errors.push(Error::plugin(e.to_string()));
                false
            }
        };
        match is_gone {
            true => errors.extend(detach::foreign(node, cluster, endpoint, &all).err()),
            false => live.push(endpoint.clone()),
        }
    }
    Error::join(errors)?;
    Ok(live)
}
