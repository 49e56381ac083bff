//! ADD: every interface that the pod asks for, several at a time, or none of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::UNIX_EPOCH;

use cni::text::format_mac;
use cni::{Code, Error, Network, Success};
use k8s::{DanmEp, DanmEpInterface, DanmEpSpec, DanmNetwork, DanmScope, ObjectMeta, Pod};
use kernel::{Netns, Rtnl, sysctl};
use skel::Undo;

use crate::annotation::{self, Request};
use crate::cluster::{Cluster, NetworkRef};
use crate::conf::PodArgs;
use crate::delegate::{self, Delegation};
use crate::device::Device;
use crate::ipam::{Addresses, NONE};
use crate::link::{self, Finish, WithoutIpv6};
use crate::names::{self, Scheme};
use crate::record::{Open, Part, Record, Stage};
use crate::result::{self, Outcome};
use crate::{Call, Node, OWN_TYPES, detach, files, open_netns};

/// The network of pods that ask for none.
const DEFAULT: &str = "default";

/// One interface, as it is going to be.
struct Job {
    request: Request,
    place: NetworkRef,
    network: DanmNetwork,
    ifname: String,
    /// Name of its DanmEp.
    endpoint: String,
    /// `apiType` of its DanmEp.
    api_type: &'static str,
    device: Option<String>,
    /// Its hardware address; empty if there is no device, or its card does not tell.
    mac: Vec<u8>,
}

/// What all interfaces of the pod are made with.
struct Work<'a> {
    node: &'a Node,
    call: &'a Call,
    args: &'a PodArgs,
    cluster: &'a Cluster,
    pod: &'a Pod,
    netns: &'a Netns,
    record: &'a Open,
    host: String,
}

/// Attaches the pod.
pub(crate) fn run(
    node: &Arc<Node>,
    call: &Call,
    args: &PodArgs,
    undo: &mut Undo,
) -> Result<Success, Error> {
    // Delegates ask for their addresses under this name, in DEL too.
    if !OWN_TYPES.contains(&call.net.kind.as_str()) {
        let types = OWN_TYPES.join(" or ");
        let why = format!("type is {:?}, must be {types}", call.net.kind);
        return Err(Error::config(why));
    }
    let netns = Arc::new(open_netns(&call.netns)?);
    let cluster = node.cluster()?;
    let record = Arc::new(
        node.records
            .open(&call.net.name, &call.container_id, &call.ifname)?,
    );
    // Registered first, so that the roll-back ends with it. The lock is held until then.
    let (taken, held) = (Arc::clone(node), Arc::clone(&record));
    let without_ipv6 = Arc::new(OnceLock::<WithoutIpv6>::new());
    let (off, within) = (Arc::clone(&without_ipv6), Arc::clone(&netns));
    undo.push("take the interfaces back", move || {
        // The request that the ADD has failed at may have been the only one without an answer.
        if let Some(cluster) = taken.cluster.get() {
            cluster.try_anew();
        }
        let done = detach::all(&taken, &held);
        if let Some(off) = off.get() {
            off.restore(&within)?;
        }
        match (done, Arc::into_inner(held)) {
            (Ok(true), Some(record)) => record.remove(),
            (done, _) => done.map(drop),
        }
    });
    clear_earlier(node, &netns, &record)?;

    let pod = cluster.pod(&args.namespace, &args.name).map_err(|e| {
        Error::plugin(format!(
            "pod {}/{} can't be read: {e}",
            args.namespace, args.name
        ))
    })?;
    let (requests, is_default) = requests(cluster, args, &pod)?;
    let jobs = plan(node, call, args, cluster, &pod, requests, is_default)?;
    names::check(jobs.iter().map(|job| job.ifname.as_str()))?;
    are_free(&netns, &jobs)?;
    clear_pod(node, call, cluster, args, &pod)?;
    if let Some(off) = link::enable_ipv6(&netns)? {
        let _ = without_ipv6.set(off);
    }

    record.change(|record| {
        *record = Record {
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone(),
            args: call.args.clone(),
            namespace: args.namespace.clone(),
            pod: args.name.clone(),
            pod_uid: pod.metadata.uid.clone(),
            interfaces: jobs
                .iter()
                .map(|j| Part::new(j.endpoint.clone(), j.place.clone()))
                .collect(),
            strays: std::mem::take(&mut record.strays),
            ..Record::default()
        };
    })?;
    let work = Work {
        node,
        call,
        args,
        cluster,
        pod: &pod,
        netns: &netns,
        record: &record,
        host: sysctl::read("kernel/hostname")?,
    };
    let outcomes = work.all(&jobs)?;
    record.change(|record| {
        for (part, outcome) in record.interfaces.iter_mut().zip(&outcomes) {
            let kind = outcome.link.as_ref().map(|link| link.kind.clone());
            part.link_kind = kind;
        }
        record.is_complete = true;
    })?;
    Ok(match node.settings.tells_all {
        true => result::complete(outcomes, &call.netns, &call.net.dns),
        false => result::compatible(outcomes, &args.cid),
    })
}

/// Takes back what an ADD has left that was cut off. Error: an ADD has come to its end, and its interfaces are in use.
fn clear_earlier(node: &Node, netns: &Netns, record: &Open) -> Result<(), Error> {
    let earlier = record.get();
    if earlier.is_empty() {
        return Ok(());
    }
    let names = earlier.interfaces.iter().map(|part| part.ifname.as_str());
    if let (true, Some(name)) = (earlier.is_complete, first_link(netns, names)?) {
        let why = format!("the container is attached already: interface {name} is there");
        // The roll-back of this call must not take down what is in use.
        record.abandon();
        return Err(
            Error::plugin(why).details("nothing was changed; DEL has to come before another ADD")
        );
    }
    log::warn!("an earlier ADD of this container is taken back first");
    let is_done = detach::all(node, record)?;
    let Record {
        strays, interfaces, ..
    } = record.get();
    // Those are in nobody's way.
    if is_done || interfaces.iter().all(|part| part.stage == Stage::Deleted) {
        return record.change(|record| {
            *record = Record {
                strays,
                ..Record::default()
            }
        });
    }
    Err(Error::new(
        Code::TryAgainLater,
        "what an earlier ADD of this container has left could not be taken back yet",
    ))
}

/// What the pod asks for; and whether that is the default network, because it asks for nothing.
fn requests(cluster: &Cluster, args: &PodArgs, pod: &Pod) -> Result<(Vec<Request>, bool), Error> {
    let requests =
        annotation::read(&args.name, &pod.metadata.annotations).map_err(Error::plugin)?;
    if !requests.is_empty() {
        return Ok((requests, false));
    }
    for scope in DanmScope::ALL {
        match cluster.network(&NetworkRef::of_pod(scope, &args.namespace, DEFAULT)) {
            Ok(_) => {
                let addresses = Addresses {
                    ip: "dynamic".into(),
                    ip6: String::new(),
                };
                let request = Request {
                    scope,
                    network: DEFAULT.into(),
                    addresses,
                    proutes: Default::default(),
                    proutes6: Default::default(),
                };
                return Ok((vec![request], true));
            }
            Err(e) if e.is_not_found() => {}
            Err(e) => log::warn!("no default network of kind {}: {e}", scope.as_str()),
        }
    }
    Err(Error::plugin(
        "there are no network connections defined, and there is no suitable default network configured in the cluster",
    ))
}

/// Reads the networks and names the interfaces.
fn plan(
    node: &Node,
    call: &Call,
    args: &PodArgs,
    cluster: &Cluster,
    pod: &Pod,
    requests: Vec<Request>,
    is_default: bool,
) -> Result<Vec<Job>, Error> {
    let settings = &node.settings;
    let scheme = Scheme {
        first: if settings.honors_ifname {
            &call.ifname
        } else {
            "eth0"
        },
        is_legacy: settings.is_legacy,
    };
    let mut devices = None;
    let mut jobs = Vec::with_capacity(requests.len());
    for (number, request) in requests.into_iter().enumerate() {
        let place = NetworkRef::of_pod(request.scope, &args.namespace, &request.network);
        let network = cluster.network(&place).map_err(|e| {
            let NetworkRef { scope, namespace, name } = &place;
            let why = format!(
                "failed to get network object for Pod:{}'s connection no.:{number} due to:requested network:{name} of type:{} in namespace:{namespace} does not exist",
                args.name,
                scope.as_str()
            );
            failed("", Error::plugin(why).details(e.to_string()))
        })?;
        let tenants = &network.spec.allowed_tenants;
        if !tenants.is_empty() && !tenants.contains(&args.namespace) {
            let why = format!(
                "Pod:{}'s namespace:{} is not in the AllowedTenants whitelist of network:{}",
                args.name, args.namespace, place.name
            );
            return Err(failed(&place.name, Error::plugin(why)));
        }
        let device = match delegate::needs_device(&delegate::network_type(&network)) {
            false => None,
            true => {
                let left = match devices.take() {
                    Some(left) => devices.insert(left),
                    None => devices.insert(cluster.devices(args, pod)?),
                };
                let device = left.take_last(&network.spec.options.device_pool);
                Some(device.map_err(|e| failed(&place.name, Error::plugin(e.to_string())))?)
            }
        };
        jobs.push(Job {
            ifname: scheme.name(number, &network.spec.options.container_prefix),
            endpoint: files::uuid()?,
            api_type: match request.scope {
                DanmScope::DanmNet if is_default => "",
                scope => scope.as_str(),
            },
            request,
            place,
            network,
            mac: device
                .as_deref()
                .map_or_else(Vec::new, |id| Device::new(id).mac()),
            device,
        });
    }
    Ok(jobs)
}

/// Refuses names that are taken, before anything is made.
fn are_free(netns: &Netns, jobs: &[Job]) -> Result<(), Error> {
    match first_link(netns, jobs.iter().map(|job| job.ifname.as_str()))? {
        None => Ok(()),
        Some(name) => {
            let why = format!("the pod has an interface {name} already");
            Err(Error::plugin(why).details(
                "danm names its first interface eth0, whatever CNI_IFNAME is: it has to be the first to attach the pod, or have honorIfName",
            ))
        }
    }
}

fn first_link<'a>(
    netns: &Netns,
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<String>, Error> {
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    netns.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let there = names.into_iter().find(|name| rtnl.link(name).is_ok());
        Ok(there.map(str::to_owned))
    })
}

/// Removes what another sandbox of the same pod has left: kubelet may ask for a second one without DEL of the first.
fn clear_pod(
    node: &Node,
    call: &Call,
    cluster: &Cluster,
    args: &PodArgs,
    pod: &Pod,
) -> Result<(), Error> {
    let uid = &pod.metadata.uid;
    let listed = |e: k8s::Error| Error::plugin(format!("the DanmEps can't be listed: {e}"));
    let endpoints = cluster.endpoints(Some(&args.namespace)).map_err(listed)?;
    let is_own = |e: &DanmEp| e.spec.pod == args.name && e.spec.pod_uid == *uid;
    let own: Vec<DanmEp> = endpoints.into_iter().filter(is_own).collect();
    if own.is_empty() {
        return Ok(());
    }
    for (path, record) in node.records.all()? {
        if record.pod_uid == *uid && record.container_id != call.container_id {
            detach::at(node, path)?;
        }
    }
    let records = node.records.all()?;
    let is_known = |name: &String| {
        records
            .iter()
            .any(|(_, r)| r.endpoints().any(|e| e == name))
    };
    let unknown: Vec<&DanmEp> = own.iter().filter(|e| !is_known(&e.metadata.name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let all = cluster.endpoints(None).map_err(listed)?;
    for endpoint in unknown {
        detach::foreign(node, cluster, endpoint, &all)?;
    }
    Ok(())
}

impl Work<'_> {
    /// Makes the interfaces, as many at a time as the configuration allows. All are tried to their end, so that the
    /// error tells everything that is wrong.
    fn all(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Error> {
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
                let lines: Vec<String> = errors.iter().map(|(n, e)| line(n, &e.msg)).collect();
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
            let taken = claims.take(self.cluster, &job.place, &job.endpoint, &addresses);
            addresses = taken.map_err(|e| match e.code {
                Code::Other(_) => Error {
                    code: Code::Plugin,
                    ..e
                },
                _ => e,
            })?;
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

fn line(network: &str, why: &str) -> String {
    format!("CNI operation for network:{network} failed with:{why}")
}

fn failed(network: &str, e: Error) -> Error {
    let msg = format!("CNI network could not be set up: {}", line(network, &e.msg));
    Error { msg, ..e }
}
