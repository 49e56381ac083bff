//! ADD: every network of the pod in order, or none of them.

use std::cell::Cell;
use std::rc::Rc;

use cni::text::format_mac;
use cni::{Error, Interface, Success};
use invoke::Runtime;
use k8s::{Event, EventType, Pod};
use kernel::{Netns, Rtnl};
use nix::errno::Errno;
use skel::Undo;

use crate::attachment::{Attachment, Container};
use crate::cluster::Cluster;
use crate::default_route;
use crate::detach;
use crate::devices::device_info;
use crate::network_status::{self, Attached};
use crate::plan::Plan;
use crate::scratch::Scratch;

/// What the verbs work with.
pub(crate) struct Room<'a> {
    pub(crate) runtime: Runtime,
    pub(crate) scratch: Scratch,
    pub(crate) container: Container<'a>,
    /// `CNI_IFNAME`.
    pub(crate) ifname: &'a str,
}

/// What an earlier ADD of this container has left.
enum Earlier {
    Nothing,
    /// The same networks, all in place.
    Everything(Vec<Success>),
}

impl Room<'_> {
    /// Attaches the pod to all networks of the plan and tells it so. The result is the default network's.
    ///
    /// Repeated for a container that is attached already, it answers as the first time and touches nothing.
    pub(crate) fn add(
        &self,
        plan: &Plan,
        cluster: Option<&Cluster>,
        undo: &mut Undo,
    ) -> Result<Success, Error> {
        let attachments = &plan.attachments;
        for attachment in attachments {
            self.runtime
                .judge(&attachment.network)
                .map_err(|e| self.failed(attachment, e))?;
            cni::names::ifname(&attachment.ifname)?;
        }
        let pod = self.open_netns()?;
        let (mut results, is_new) = match self.earlier(attachments, &pod)? {
            Earlier::Everything(results) => (results, false),
            Earlier::Nothing => (self.attach(attachments, undo)?, true),
        };
        name_interfaces(attachments, &mut results, &pod, self.container.netns)?;
        if default_route::apply(attachments, &mut results, &pod)? {
            for (attachment, result) in attachments.iter().zip(&results) {
                let of = attachment.parameters(&self.container, true);
                self.runtime.cache.write(&attachment.network, &of, result)?;
            }
        }
        if let (Some(cluster), Some(pod)) = (cluster, &plan.pod) {
            self.publish(cluster, pod, attachments, &results, is_new)
                .map_err(|e| e.context(self.container.args.label()))?;
        }
        results
            .into_iter()
            .next()
            .ok_or_else(|| Error::config("there is no default network"))
    }

    fn attach(&self, attachments: &[Attachment], undo: &mut Undo) -> Result<Vec<Success>, Error> {
        let id = self.container.id;
        let records: Vec<_> = attachments.iter().map(Attachment::record).collect();
        self.scratch.write(id, &records)?;
        // What a roll-back can't take back is left to the DEL that follows, which needs the file.
        let is_clean = Rc::new(Cell::new(true));
        let (scratch, container_id, clean) =
            (self.scratch.clone(), id.to_owned(), is_clean.clone());
        undo.push("forget the container", move || match clean.get() {
            true => scratch.remove(&container_id),
            false => Ok(()),
        });
        let mut results = Vec::with_capacity(attachments.len());
        for attachment in attachments {
            let of = attachment.parameters(&self.container, true);
            let info = attachment.device_info(id);
            let (resource, device) = (&attachment.entry.resource_name, &attachment.entry.device_id);
            if let (Some(info), false) = (&info, resource.is_empty() || device.is_empty()) {
                let file = info.clone();
                undo.push("remove the device info", move || device_info::remove(&file));
                device_info::copy(device_info::FOLDER.as_ref(), resource, device, info)?;
            }
            let added = self.runtime.add(&attachment.network, &of);
            let result = added.map_err(|e| {
                is_clean.set(is_clean.get() && e.taken_back);
                self.failed(attachment, e.error)
            })?;
            let (runtime, network, clean) = (
                self.runtime.clone(),
                attachment.network.clone(),
                is_clean.clone(),
            );
            let del = attachment.parameters(&self.container, false);
            undo.push(
                format!("DEL of network {:?}", attachment.entry.name),
                move || {
                    let done = runtime.del(&network, &del);
                    clean.set(clean.get() && done.is_ok());
                    done
                },
            );
            self.log("Add", attachment, &result);
            results.push(result);
        }
        Ok(results)
    }

    /// Finds out what is left of an earlier ADD, and removes it if nothing of it is in use.
    ///
    /// Errors: another set of networks is in place, or only some; or a foreign interface is in the way. Nothing is
    /// touched then.
    fn earlier(&self, attachments: &[Attachment], pod: &Netns) -> Result<Earlier, Error> {
        let recorded = self.scratch.read(self.container.id)?;
        let entries = recorded.map(|found| found.entries).unwrap_or_default();
        let known: Vec<Attachment> = entries
            .into_iter()
            .filter_map(|(index, entry)| Attachment::recorded(index, entry, self.ifname).ok())
            .collect();
        let names = attachments.iter().chain(&known).map(|a| a.ifname.as_str());
        let present = present(pod, names)?;
        let Some(first) = present.first() else {
            if !known.is_empty() {
                log::warn!("an earlier ADD of this container was cut off: it is taken back first");
                detach::all(self, known)?;
            }
            return Ok(Earlier::Nothing);
        };
        let same = known.len() == attachments.len()
            && known.iter().zip(attachments).all(|(a, b)| a.is_same(b));
        if same && let Some(results) = self.results_in_place(attachments, &present) {
            return Ok(Earlier::Everything(results));
        }
        let why = match known.as_slice() {
            [] => format!("validateIfName: interface name {first} already exists"),
            _ => format!(
                "interface {first} is in place from an earlier ADD, and the networks are not the same or not complete"
            ),
        };
        let error = Error::plugin(why).context(self.container.args.label());
        Err(error.details("nothing was changed; DEL has to come before another ADD"))
    }

    /// The results of all, if each is known and its interface is there.
    fn results_in_place(
        &self,
        attachments: &[Attachment],
        present: &[String],
    ) -> Option<Vec<Success>> {
        let result = |attachment: &Attachment| {
            let of = attachment.parameters(&self.container, true);
            let network = &attachment.network;
            let cached = self.runtime.cache.read(&network.name, &of).ok()??;
            let result = cached.result(&network.cni_version).ok()?;
            let mut made = result.interfaces.iter().filter(|i| !i.sandbox.is_empty());
            let is_there = made.all(|i| i.name != attachment.ifname || present.contains(&i.name));
            is_there.then_some(result)
        };
        attachments.iter().map(result).collect()
    }

    fn open_netns(&self) -> Result<Netns, Error> {
        let path = self.container.netns;
        Netns::open(path).map_err(|e| {
            let why = format!("validateIfName: no net namespace {path} found: {e}");
            Error::new(cni::Code::InvalidEnvironment, why).context(self.container.args.label())
        })
    }

    fn publish(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        attachments: &[Attachment],
        results: &[Success],
        is_new: bool,
    ) -> Result<(), Error> {
        let infos: Vec<_> = attachments
            .iter()
            .map(|a| device_info::read(&a.device_info(self.container.id)?))
            .collect();
        let attached: Vec<Attached<'_>> = attachments
            .iter()
            .zip(results)
            .zip(&infos)
            .map(|((attachment, result), info)| Attached {
                name: &attachment.entry.name,
                is_default: attachment.is_default,
                ifname: &attachment.ifname,
                result,
                device_info: info.as_ref(),
            })
            .collect();
        let events: Vec<Event> = match is_new {
            false => Vec::new(),
            true => attachments
                .iter()
                .zip(results)
                .filter(|(_, result)| !result.interfaces.is_empty() || !result.ips.is_empty())
                .map(|(attachment, result)| added_event(pod, attachment, result))
                .collect(),
        };
        cluster.publish(pod, Some(&network_status::text(&attached)), &events)
    }

    /// A failure of one network, in words that say which: code and details are the plugin's.
    fn failed(&self, attachment: &Attachment, e: Error) -> Error {
        let name = &attachment.network.name;
        let label = self.container.args.label();
        let label = label.trim_end_matches(']');
        let e = e.context(format!(
            "{label}:{name}]: error adding container to network {name:?}"
        ));
        match (&attachment.shortage, e.details.is_empty()) {
            (None, _) => e,
            (Some(shortage), true) => e.details(shortage.as_str()),
            (Some(shortage), false) => {
                let details = format!("{}; {shortage}", e.details);
                e.details(details)
            }
        }
    }

    /// One line for each attachment, for who looks into the log later. Configurations may hold secrets and are not
    /// in it.
    fn log(&self, verb: &str, attachment: &Attachment, result: &Success) {
        let args = self.container.args;
        let uid = match args.uid.as_str() {
            "" => "unknownUID",
            uid => uid,
        };
        let result = result.to_json(cni::Version::NEWEST).unwrap_or_default();
        let line: Vec<&str> = result.split_whitespace().collect();
        log::info!(
            "{verb}: {}:{}:{uid}:{}({}):{} {}",
            args.namespace,
            args.name,
            attachment.entry.name,
            attachment.network.name,
            attachment.ifname,
            line.join(" ")
        );
    }
}

fn added_event(pod: &Pod, attachment: &Attachment, result: &Success) -> Event {
    let addresses: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
    let (ifname, name) = (&attachment.ifname, &attachment.entry.name);
    let from = match name.as_str() {
        "" => String::new(),
        name => format!(" from {name}"),
    };
    let message = format!("Add {ifname} [{}]{from}", addresses.join(" "));
    Event::about_pod(pod, "multus", EventType::Normal, "AddedInterface", &message)
}

/// Results of the first versions, and of plugins that say little, name no interface. The runtime and the pod's status
/// need it: it is the one that the delegate was told to make.
fn name_interfaces(
    attachments: &[Attachment],
    results: &mut [Success],
    pod: &Netns,
    netns: &str,
) -> Result<(), Error> {
    for (attachment, result) in attachments.iter().zip(results) {
        if result.interfaces.iter().any(|i| !i.sandbox.is_empty()) {
            continue;
        }
        let name = attachment.ifname.as_str();
        let link = pod.inside(|| match Rtnl::open()?.link(name) {
            Err(e) if e.is(Errno::ENODEV) => Ok(None),
            link => link.map(Some),
        });
        let link = link.map_err(|e: kernel::Error| Error::from(e))?;
        if link.is_none() && !attachment.is_default {
            continue;
        }
        let link = link.unwrap_or_default();
        let index = result.interfaces.len();
        result.interfaces.push(Interface {
            name: name.to_owned(),
            mac: format_mac(&link.mac),
            mtu: link.mtu,
            sandbox: netns.to_owned(),
            ..Interface::default()
        });
        for ip in &mut result.ips {
            ip.interface = ip.interface.or(Some(index));
        }
    }
    Ok(())
}

/// Which of the names have a link in the pod.
fn present<'a>(pod: &Netns, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Error> {
    let names: Vec<&str> = names.collect();
    pod.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let mut present = Vec::new();
        for name in names {
            match rtnl.link(name) {
                Ok(_) => present.push(name.to_owned()),
                Err(e) if e.is(Errno::ENODEV) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(present)
    })
    .map_err(Error::from)
}
