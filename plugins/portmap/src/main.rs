//! CNI plugin `portmap`: ports of the host that lead to ports of the pod.
//!
//! It is chained behind the plugin that makes the interface. The rules are those of the original, by chain,
//! name and comment, so that either implementation can remove what the other has made.
//!
//! Besides the original's keys there is `hostPortConflict`, for a host port that another container holds:
//! `refuse` (the default), `first-wins` (as with the original) or `last-wins`.

mod backend;
mod conf;
mod decode;
mod iptables;
mod localnet;
mod mapping;
mod nftables;
mod stale;

use std::process::ExitCode;

use cni::{Code, Error, Success};
use kernel::nftables::Family;
use skel::{Call, Plugin, Undo};

use conf::Conf;
use mapping::{Attachment, Forward, Job};

struct Portmap;

fn main() -> ExitCode {
    skel::run(Portmap)
}

impl Plugin for Portmap {
    type Conf = Conf;
    const NAME: &'static str = "portmap";

    fn add(&self, call: &Call<Conf>, undo: &mut Undo) -> Result<Success, Error> {
        let settings = call
            .conf
            .settings()
            .map_err(|e| e.context("failed to parse config"))?;
        let parsed = call
            .net
            .prev_result()
            .map_err(|e| e.context("failed to parse config"))?;
        let result = parsed.ok_or_else(|| Error::config("must be called as chained plugin"))?;
        let Some(job) = job(call, settings, &result) else {
            return Ok(result);
        };
        let backend = backend::choose(&job.settings, &families(&job))
            .map_err(|e| e.context("failed to parse config"))?;
        // Registered before the step: a dual-stack set-up may fail between its families.
        let attachment = job.attachment.clone();
        undo.push("remove the port mappings", move || {
            backend.remove(&attachment, &mut Vec::new())
        });
        backend.add(&job)?;
        let forwards: Vec<Forward> = job
            .addresses
            .iter()
            .flat_map(|address| job.forwards(address.ip()))
            .collect();
        stale::forget_others(&forwards);
        let v4 = job.addresses.iter().find(|address| address.is_ipv4());
        if let Some(address) = v4.filter(|_| job.settings.snat) {
            localnet::enable(address.ip())?;
        }
        Ok(result)
    }

    /// Needs neither `prevResult` nor `runtimeConfig`: the rules say whose they are, and what they do.
    fn del(&self, call: &Call<Conf>) -> Result<(), Error> {
        let attachment = attachment(call);
        let mut removed = Vec::new();
        let removals = backend::ALL.map(|backend| backend.remove(&attachment, &mut removed));
        finish(&removed, removals)
    }

    fn check(&self, call: &Call<Conf>) -> Result<(), Error> {
        let settings = call.conf.settings()?;
        let Some(result) = call.net.prev_result()? else {
            return Err(Error::config("Required prevResult missing"));
        };
        let Some(job) = job(call, settings, &result) else {
            return Ok(());
        };
        let verdict = backend::choose(&job.settings, &families(&job))?.check(&job);
        // When nobody chose, ADD may have seen another host: iptables can be installed, and removed, since.
        let elsewhere = || {
            backend::ALL
                .iter()
                .any(|backend| backend.check(&job).is_ok())
        };
        match job.settings.backend {
            None if verdict.is_err() && elsewhere() => Ok(()),
            _ => verdict,
        }
    }

    fn gc(&self, call: &Call<Conf>, valid: &[cni::Attachment]) -> Result<(), Error> {
        let (network, mut removed) = (&call.net.name, Vec::new());
        let removals = backend::ALL.map(|backend| backend.collect(network, valid, &mut removed));
        finish(&removed, removals)
    }

    fn status(&self, call: &Call<Conf>) -> Result<(), Error> {
        let settings = call.conf.settings()?;
        if !call.conf.has_capability() {
            return Ok(());
        }
        let backend = backend::choose(&settings, &[Family::Ip])?;
        backend.usable(&[Family::Ip]).map_err(|e| {
            Error::new(
                Code::NotAvailable,
                format!("no backend for port mappings works: {e}"),
            )
        })
    }
}

fn attachment(call: &Call<Conf>) -> Attachment {
    Attachment {
        network: call.net.name.clone(),
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
    }
}

/// What is to be set up; `None` when there are no ports, or no address that they could lead to.
fn job(call: &Call<Conf>, settings: conf::Settings, result: &Success) -> Option<Job> {
    let job = Job {
        attachment: attachment(call),
        addresses: mapping::container_addresses(result, &call.ifname),
        settings,
    };
    for mapping in &job.settings.mappings {
        if !families(&job)
            .into_iter()
            .any(|family| mapping.is_for(family))
        {
            let (port, protocol) = (mapping.host_port, mapping.protocol.name());
            log::warn!(
                "host port {port}/{protocol} leads nowhere: the pod has no address of its family"
            );
        }
    }
    (!job.settings.mappings.is_empty() && !job.addresses.is_empty()).then_some(job)
}

fn families(job: &Job) -> Vec<Family> {
    job.addresses
        .iter()
        .map(|address| Family::of(address.ip()))
        .collect()
}

/// Forgets the connections of what was removed, and joins what failed.
fn finish<const N: usize>(
    removed: &[Forward],
    removals: [Result<(), Error>; N],
) -> Result<(), Error> {
    stale::forget_own(removed);
    Error::join(removals.into_iter().filter_map(Result::err).collect())
}
