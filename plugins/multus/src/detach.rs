//! DEL: everything that an ADD of this container may have made, from whatever is still known of it.

use std::collections::BTreeSet;

use cni::{Error, Network};

use crate::attach::Room;
use crate::attachment::Attachment;
use crate::devices::device_info;
use crate::scratch::Entry;

/// What is known of a container's attachments.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// In the order of ADD.
    pub(crate) attachments: Vec<Attachment>,
    /// Whether there may be more that is not known.
    pub(crate) is_partial: bool,
}

impl Room<'_> {
    /// What the scratch file says and, where it is lost or damaged, what the cache of results says.
    pub(crate) fn known(&self) -> Known {
        let mut known = Known::default();
        match self.scratch.read(self.container.id) {
            Ok(Some(found)) => {
                for (index, entry) in found.entries {
                    match Attachment::recorded(index, entry, self.ifname) {
                        Ok(attachment) => known.attachments.push(attachment),
                        Err(e) => {
                            log::error!("{e}");
                            known.is_partial = true;
                        }
                    }
                }
                for damage in &found.damage {
                    let id = self.container.id;
                    log::error!(
                        "the scratch file of container {id} is damaged: {damage}; its networks are looked for elsewhere"
                    );
                }
                known.is_partial |= !found.damage.is_empty();
            }
            Ok(None) => known.is_partial = true,
            Err(e) => {
                log::error!("{e}");
                known.is_partial = true;
            }
        }
        if known.is_partial {
            self.add_cached(&mut known);
        }
        known
    }

    /// The results of a container's attachments have their configurations with them.
    fn add_cached(&self, known: &mut Known) {
        let all = self.runtime.cache.all().unwrap_or_else(|e| {
            log::error!("{e}");
            Vec::new()
        });
        let ours = all
            .into_iter()
            .filter(|c| c.parameters.container_id == self.container.id);
        for cached in ours {
            let ifname = cached.parameters.ifname.clone();
            let Ok(network) = Network::parse(&cached.config) else {
                continue;
            };
            if known.attachments.iter().any(|a| a.ifname == ifname) {
                continue;
            }
            log::warn!(
                "network {:?} on {ifname} is known from its result",
                cached.network
            );
            let mut attachment = Attachment::of_node(&cached.network, network);
            attachment
                .entry
                .take_requests(&cached.parameters.capability_args);
            attachment.is_default = ifname == self.ifname;
            attachment.ifname = ifname;
            known.attachments.push(attachment);
        }
        known.attachments.sort_by_key(|a| !a.is_default);
    }
}

impl Known {
    /// Adds what may have been attached, but for the interfaces that are known already.
    pub(crate) fn add(&mut self, others: Vec<Attachment>) {
        let names: BTreeSet<String> = self.attachments.iter().map(|a| a.ifname.clone()).collect();
        let new = others
            .into_iter()
            .filter(|other| !names.contains(&other.ifname));
        self.attachments.extend(new.map(|other| Attachment {
            is_guess: true,
            ..other
        }));
    }
}

/// Detaches from all, the last one first, and goes on past failures. What has failed is kept, so that the next DEL
/// repeats only that; when nothing failed, nothing is kept.
///
/// Errors: all that failed, with the first one's code.
pub(crate) fn all(room: &Room<'_>, attachments: Vec<Attachment>) -> Result<(), Error> {
    let id = room.container.id;
    let mut records: Vec<Entry> = attachments.iter().map(Attachment::record).collect();
    let mut errors = Vec::new();
    let places = records.iter_mut().zip(&attachments).rev();
    for (record, attachment) in places.filter(|(record, _)| !record.deleted) {
        match one(room, attachment) {
            Ok(()) => record.deleted = true,
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() {
        errors.extend(room.scratch.remove(id).err());
        return Error::join(errors);
    }
    // A guess is made anew by the next DEL.
    let on_record = records.into_iter().zip(&attachments);
    let kept: Vec<Entry> = on_record
        .filter(|(_, a)| !a.is_guess)
        .map(|(r, _)| r)
        .collect();
    if !kept.is_empty()
        && let Err(e) = room.scratch.write(id, &kept)
    {
        // The next DEL starts from what was written before, and repeats some.
        log::error!("{e}");
    }
    Error::join(errors)
}

fn one(room: &Room<'_>, attachment: &Attachment) -> Result<(), Error> {
    let network = &attachment.network;
    let of = attachment.parameters(&room.container, false);
    let args = room.container.args;
    log::info!(
        "Del: {}:{}:{}:{}:{}",
        args.namespace,
        args.name,
        args.uid,
        network.name,
        attachment.ifname
    );
    if attachment.is_guess
        && let Err(e) = room.runtime.judge(network)
    {
        log::warn!("network {:?} can't have been attached: {e}", network.name);
        return Ok(());
    }
    room.runtime.del(network, &of).map_err(|e| {
        let step = match (network.is_list, network.plugins.first()) {
            (false, Some(plugin)) => format!(
                "DelegateDel: error invoking DelegateDel - {:?}: error in getting result from DelNetwork",
                plugin.kind
            ),
            _ => format!(
                "DelegateDel: error invoking ConflistDel - {:?}: conflistDel: error in getting result from DelNetworkList",
                network.name
            ),
        };
        let (name, ifname) = (&network.name, &attachment.ifname);
        e.context(format!("network {name:?} on {ifname}: {step}"))
    })?;
    match attachment.device_info(room.container.id) {
        Some(file) => device_info::remove(&file),
        None => Ok(()),
    }
}
