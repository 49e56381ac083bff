//! What is left of containers that are gone: records that wait for the API server, and DanmEps of this node.

use cni::{Attachment, Error};
use kernel::sysctl;

use crate::cluster::Cluster;
use crate::record::Record;
use crate::{Node, detach};

/// Takes down what the records of one network hold for attachments that are not valid, what earlier calls have left,
/// and the DanmEps of this node whose pods are gone. Goes on past failures.
pub(crate) fn gc(node: &Node, network: &str, valid: &[Attachment]) -> Result<(), Error> {
    let mut errors = Vec::new();
    for path in node.records.of(network)? {
        let is_valid = |record: &Record| {
            let same =
                |a: &Attachment| a.container_id == record.container_id && a.ifname == record.ifname;
            valid.iter().any(same)
        };
        match crate::files::read::<Record>(&path) {
            Ok(Some(record)) if !is_valid(&record) => errors.extend(detach::at(node, path).err()),
            Ok(_) => {}
            Err(e) => errors.push(e),
        }
    }
    leftovers(node);
    errors.extend(endpoints(node, valid).err());
    Error::join(errors)
}

/// Tries again what had to wait for the API server.
pub(crate) fn leftovers(node: &Node) {
    let all = node.records.all().unwrap_or_else(|e| {
        log::error!("{e}");
        Vec::new()
    });
    for (path, _) in all.into_iter().filter(|(_, record)| record.is_left) {
        if let Err(e) = detach::at(node, path) {
            log::error!("{e}");
        }
    }
}

/// DanmEps of this node that no record tells of and whose pods are gone, or are others by now.
fn endpoints(node: &Node, valid: &[Attachment]) -> Result<(), Error> {
    let cluster = Cluster::new(&node.settings)?;
    let host = sysctl::read("kernel/hostname")?;
    let all = cluster
        .endpoints(None)
        .map_err(|e| Error::plugin(e.to_string()))?;
    let recorded: Vec<String> = node
        .records
        .all()?
        .into_iter()
        .flat_map(|(_, record)| record.interfaces)
        .map(|part| part.endpoint)
        .collect();
    let mut errors = Vec::new();
    for endpoint in all.iter().filter(|endpoint| endpoint.spec.host == host) {
        let spec = &endpoint.spec;
        let is_valid = valid
            .iter()
            .any(|attachment| attachment.container_id == spec.cid);
        if is_valid || recorded.contains(&endpoint.metadata.name) {
            continue;
        }
        let is_gone = match cluster.pod(&endpoint.metadata.namespace, &spec.pod) {
            Ok(pod) => !spec.pod_uid.is_empty() && pod.metadata.uid != spec.pod_uid,
            Err(e) if e.is_not_found() => true,
            Err(e) => {
                errors.push(Error::plugin(e.to_string()));
                false
            }
        };
        if is_gone {
            errors.extend(detach::foreign(node, &cluster, endpoint).err());
        }
    }
    Error::join(errors)
}
