//! GC: what belongs to containers that the runtime does not know any more, in every network.

use std::collections::BTreeMap;

use cni::{Attachment as Valid, Error, Network};

use crate::attach::Room;
use crate::attachment::{Attachment, Container};
use crate::conf::Conf;
use crate::detach;
use crate::lock;

/// Detaches the containers that are not valid, and tells every network of the node which of its attachments are.
///
/// Goes on past failures. Errors: all that failed, with the first one's code.
pub(crate) fn gc(
    room: &Room<'_>,
    conf: &Conf,
    of_node: &[Attachment],
    valid: &[Valid],
) -> Result<(), Error> {
    let mut errors = Vec::new();
    let mut networks: BTreeMap<String, (Network, Vec<Valid>)> = BTreeMap::new();
    let mut is_partial = false;
    for id in containers(room)? {
        let of = of_container(room, &id, valid);
        match valid.iter().any(|v| v.container_id == id) {
            false => errors.extend(forget(&of, conf).err()),
            true => {
                let known = of.known();
                is_partial |= known.is_partial;
                for attachment in known.attachments {
                    let network = attachment.network;
                    let name = network.name.clone();
                    let (_, list) = networks
                        .entry(name)
                        .or_insert_with(|| (network, Vec::new()));
                    list.push(Valid {
                        container_id: id.clone(),
                        ifname: attachment.ifname,
                    });
                }
            }
        }
    }
    for attachment in of_node {
        let name = attachment.network.name.clone();
        let entry = networks.entry(name);
        let (network, list) = entry.or_insert_with(|| (attachment.network.clone(), Vec::new()));
        network.clone_from(&attachment.network);
        if attachment.is_default {
            // Pods from before multus have no record here, but the runtime knows them.
            let unknown = valid.iter().filter(|v| !list.contains(v));
            let unknown: Vec<Valid> = unknown.cloned().collect();
            list.extend(unknown);
        }
    }
    if is_partial {
        // Whose attachments these are is not known, so that they may be valid in any network.
        log::error!("the record of a valid container is damaged: no network is told what is stale");
    } else {
        for (network, list) in networks.values() {
            errors.extend(room.runtime.gc(network, list).err());
        }
    }
    Error::join(errors)
}

/// The containers that something is kept of.
fn containers(room: &Room<'_>) -> Result<Vec<String>, Error> {
    let mut ids = room.scratch.containers()?;
    let cached = room.runtime.cache.all()?;
    ids.extend(cached.into_iter().map(|c| c.parameters.container_id));
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn of_container<'a>(room: &Room<'a>, id: &'a str, valid: &'a [Valid]) -> Room<'a> {
    let listed = valid.iter().find(|v| v.container_id == id);
    Room {
        runtime: room.runtime.clone(),
        scratch: room.scratch.clone(),
        container: Container {
            id,
            ..room.container
        },
        // The runtime's name for the main interface, where the record does not say it.
        ifname: listed.map_or("eth0", |v| v.ifname.as_str()),
    }
}

fn forget(room: &Room<'_>, conf: &Conf) -> Result<(), Error> {
    let _lock = lock::take(&conf.cni_dir, room.container.id, conf.lock_limit)?;
    let known = room.known();
    detach::all(room, known.attachments)
}
