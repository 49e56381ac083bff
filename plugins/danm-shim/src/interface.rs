//! The interfaces of a pod, each with its addresses, its DanmEp and its link.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::UNIX_EPOCH;

use cni::text::format_mac;
use cni::{Error, Network, Success};
use k8s::{DanmEp, DanmEpInterface, DanmEpSpec, ObjectMeta, Pod};
use kernel::Netns;

use crate::claims::{Claimant, Planned};
use crate::cluster::Cluster;
use crate::conf::PodArgs;
use crate::delegate::{self, Delegation};
use crate::device::Device;
use crate::ipam::{Addresses, NONE};
use crate::link::{self, Finish};
use crate::plan::{self, Job};
use crate::record::{Open, Stage};
use crate::result::Outcome;
use crate::{Call, Node};

/// What all interfaces of the pod are made with.
pub(crate) struct Work<'a> {
    pub(crate) node: &'a Node,
    pub(crate) call: &'a Call,
    pub(crate) args: &'a PodArgs,
    pub(crate) cluster: &'a Cluster,
    pub(crate) pod: &'a Pod,
    pub(crate) netns: &'a Netns,
    pub(crate) record: &'a Open,
    /// Name of this node, as DanmEps have it.
    pub(crate) host: String,
}

impl Work<'_> {
    /// Makes the interfaces, as many at a time as the configuration allows. All are tried to their end, so that the
    /// error tells everything that is wrong.
    pub(crate) fn all(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Error> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(jobs.len()));
        thread::scope(|scope| {
            let worker = || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = self.one(job);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((job.ifname.as_str(), job.place.name.as_str(), outcome));
                }
            };
            // This thread is one of them.
            for _ in 1..self.node.settings.parallel.min(jobs.len()) {
                scope.spawn(worker);
            }
            worker();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(ifname, ..)| jobs.iter().position(|job| job.ifname == *ifname));
        let (mut outcomes, mut errors) = (Vec::new(), Vec::new());
        for (_, network, outcome) in done {
            match outcome {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => errors.push((network, e)),
            }
        }
        match errors.first() {
            None => Ok(outcomes),
            Some((_, first)) => {
                let code = first.code;
                let details = first.details.clone();
                let lines: Vec<String> =
                    errors.iter().map(|(n, e)| plan::line(n, &e.msg)).collect();
                let msg = format!("CNI network could not be set up: {}", lines.join("\n"));
                Err(Error::new(code, msg).details(details))
            }
        }
    }

    fn one(&self, job: &Job) -> Result<Outcome, Error> {
        let mut addresses = job.request.addresses.clone();
        let uses_bitmap = delegate::uses_bitmap(&job.network, &addresses);
        if uses_bitmap {
            let claims = &self.node.claims;
            let claimant = Claimant {
                endpoint: &job.endpoint,
                record: self.record.path(),
            };
            let planned = Planned {
                object: &job.network,
                at: job.read_at,
            };
            addresses = claims.take(self.cluster, &job.place, &claimant, &addresses, &planned)?;
            self.note(job, &addresses)?;
        }
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        self.record.part(&job.endpoint, |part| {
            part.stage = Stage::Requested;
            part.requested = now;
        })?;
        let created = self
            .cluster
            .create_endpoint(&self.endpoint(job, &addresses));
        self.record.part(&job.endpoint, |part| {
            part.stage = match &created {
                Ok(()) => Stage::Made,
                Err(e) if e.maybe_applied => Stage::Requested,
                Err(_) => Stage::Planned,
            }
        })?;
        created.map_err(|e| {
            Error::plugin(format!(
                "DanmEp object could not be PUT to K8s due to error:{e}"
            ))
        })?;
        let delegated = match delegate::is_needed(&delegate::network_type(&job.network)) {
            true => {
                let reserved = if uses_bitmap {
                    addresses.clone()
                } else {
                    Addresses::default()
                };
                let result = self.delegate(job, &reserved)?;
                self.adopt(job, &mut addresses, &result)?;
                Some(result)
            }
            false => {
                if self.node.settings.creates_host_devices {
                    link::create_host_device(&job.network)?;
                }
                self.record
                    .part(&job.endpoint, |part| part.ifname.clone_from(&job.ifname))?;
                link::create_ipvlan(&job.network, &job.ifname, self.netns)?;
                None
            }
        };
        let stands_in = self.stand_in(job)?;
        let finish = Finish {
            ifname: &job.ifname,
            network: &job.network,
            addresses: &addresses,
            proutes: &job.request.proutes,
            proutes6: &job.request.proutes6,
            is_delegated: delegated.is_some() && !stands_in,
        };
        let link = finish.run(self.netns)?;
        let proutes = [&job.request.proutes, &job.request.proutes6];
        let (mut routes, _) = link::expected_routes(&job.network, &addresses, proutes);
        routes.retain(|route| route.table.is_none());
        Ok(Outcome {
            ifname: job.ifname.clone(),
            delegated,
            addresses,
            link,
            routes,
        })
    }

    /// Makes a link where the device is a program's, and the kernel has none of it. False: it has.
    fn stand_in(&self, job: &Job) -> Result<bool, Error> {
        let Some(device) = &job.device else {
            return Ok(false);
        };
        if !Device::new(device).is_in_user_space() {
            return Ok(false);
        }
        let vlan = job.network.spec.options.vlan;
        // As long as a name may be, less one.
        let below = match vlan {
            0 => &job.ifname,
            _ => job.endpoint.get(..14).unwrap_or_default(),
        };
        self.record
            .part(&job.endpoint, |part| part.stand_in = below.to_owned())?;
        link::create_stand_in(self.netns, (below, &job.ifname), vlan, &job.mac, device)?;
        Ok(true)
    }

    fn delegate(&self, job: &Job, reserved: &Addresses) -> Result<Success, Error> {
        let settings = &self.node.settings;
        let failed = |e: Error| e.context("CNI delegation failed due to error");
        if settings.creates_host_devices {
            link::create_host_device(&job.network)?;
        }
        let delegation = Delegation {
            network: &job.network,
            reserved,
            device: job.device.as_deref(),
            cni_dir: &settings.cni_dir,
            // The runtime has found this very plugin under that name.
            fake_ipam: &self.call.net.kind,
            completes: settings.completes_delegates,
        };
        let mut network: Network = delegation.build().map_err(failed)?;
        let config = String::from_utf8_lossy(&network.to_bytes()).into_owned();
        // The original runs the file that is called like the network's type, whatever the configuration says.
        let kind = &job.network.spec.network_type;
        let mut program = String::new();
        if let ([only], false) = (network.plugins.as_mut_slice(), network.is_list)
            && !only.kind.eq_ignore_ascii_case(kind)
        {
            only.kind.clone_from(kind);
            program.clone_from(kind);
        }
        let failed_to_add = |e: Error| {
            failed(e.context(format!(
                "Error delegating ADD to CNI plugin:{kind} because:OS exec call failed"
            )))
        };
        // What can't be run has nothing to take back.
        self.node.runtime.judge(&network).map_err(failed_to_add)?;
        self.record.part(&job.endpoint, |part| {
            part.ifname.clone_from(&job.ifname);
            part.config = config;
            part.program = program;
        })?;
        let of = self.record.get().parameters(&job.ifname, settings);
        let added = self.node.runtime.add(&network, &of);
        added.map_err(|e| failed_to_add(e.error))
    }

    /// Takes over the addresses that a delegate has given.
    fn adopt(&self, job: &Job, addresses: &mut Addresses, result: &Success) -> Result<(), Error> {
        let before = addresses.clone();
        for ip in &result.ips {
            let place = match ip.address.is_ipv4() {
                true => &mut addresses.ip,
                false => &mut addresses.ip6,
            };
            *place = ip.address.to_string();
        }
        if *addresses == before || before.ip == NONE || before.ip6 == NONE {
            return Ok(());
        }
        self.note(job, addresses)?;
        let namespace = &self.args.namespace;
        self.cluster
            .set_addresses(namespace, &job.endpoint, addresses)
            .map_err(|e| {
                Error::plugin(format!(
                    "DanmEp {} could not be told its addresses: {e}",
                    job.endpoint
                ))
            })
    }

    fn note(&self, job: &Job, addresses: &Addresses) -> Result<(), Error> {
        self.record.part(&job.endpoint, |part| {
            part.ip.clone_from(&addresses.ip);
            part.ip6.clone_from(&addresses.ip6);
        })
    }

    fn endpoint(&self, job: &Job, addresses: &Addresses) -> DanmEp {
        let some = |routes: &std::collections::BTreeMap<String, String>| {
            Some(routes.clone()).filter(|routes| !routes.is_empty())
        };
        DanmEp {
            metadata: ObjectMeta {
                name: job.endpoint.clone(),
                namespace: self.args.namespace.clone(),
                labels: self.pod.metadata.labels.clone(),
                ..ObjectMeta::default()
            },
            spec: DanmEpSpec {
                network_name: job.place.name.clone(),
                network_type: match job.network.spec.network_type.as_str() {
                    "" => "ipvlan".into(),
                    kind => kind.to_owned(),
                },
                endpoint_id: job.endpoint.clone(),
                interface: DanmEpInterface {
                    name: job.ifname.clone(),
                    address: addresses.ip.clone(),
                    address_ipv6: addresses.ip6.clone(),
                    mac_address: format_mac(&job.mac),
                    proutes: some(&job.request.proutes),
                    proutes6: some(&job.request.proutes6),
                    device_id: job.device.clone().unwrap_or_default(),
                },
                host: self.host.clone(),
                pod: self.args.name.clone(),
                pod_uid: self.pod.metadata.uid.clone(),
                cid: self.args.cid.clone(),
                netns: self.call.netns.clone(),
                api_type: job.api_type.to_owned(),
            },
        }
    }
}
