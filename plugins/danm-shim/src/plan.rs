//! What the pod asks for: which interfaces, on which networks, by which names.

use std::time::SystemTime;

use cni::Error;
use k8s::{DanmNetwork, DanmScope, Pod};

use crate::annotation::{self, Request};
use crate::cluster::{Cluster, NetworkRef};
use crate::conf::PodArgs;
use crate::delegate;
use crate::device::Device;
use crate::ipam::Addresses;
use crate::names::{self, Scheme};
use crate::{Call, Node, files};

/// The network of pods that ask for none.
const DEFAULT: &str = "default";

/// One interface, as it is going to be.
pub(crate) struct Job {
    pub(crate) request: Request,
    /// Which object its network is.
    pub(crate) place: NetworkRef,
    pub(crate) network: DanmNetwork,
    /// When the network was asked for.
    pub(crate) read_at: SystemTime,
    pub(crate) ifname: String,
    /// Name of its DanmEp.
    pub(crate) endpoint: String,
    /// `apiType` of its DanmEp.
    pub(crate) api_type: &'static str,
    /// PCI address of the device that kubelet gave the pod for it.
    pub(crate) device: Option<String>,
    /// Its hardware address; empty if there is no device, or its card does not tell.
    pub(crate) mac: Vec<u8>,
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

/// Reads what the pod asks for and the networks, and names the interfaces. Nothing is made.
pub(crate) fn jobs(node: &Node, call: &Call, args: &PodArgs, pod: &Pod) -> Result<Vec<Job>, Error> {
    let (settings, cluster) = (&node.settings, node.cluster()?);
    let (requests, is_default) = requests(cluster, args, pod)?;
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
        let read_at = SystemTime::now();
        let network = network(cluster, args, number, &place)?;
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
            read_at,
            mac: device
                .as_deref()
                .map_or_else(Vec::new, |id| Device::new(id).mac()),
            device,
        });
    }
    names::check(jobs.iter().map(|job| job.ifname.as_str()))?;
    Ok(jobs)
}

/// Reads the network of interface `number`, which the pod's namespace must be allowed to use.
fn network(
    cluster: &Cluster,
    args: &PodArgs,
    number: usize,
    place: &NetworkRef,
) -> Result<DanmNetwork, Error> {
    let NetworkRef {
        scope,
        namespace,
        name,
    } = place;
    let pod = &args.name;
    let network = cluster.network(place).map_err(|e| {
        let kind = scope.as_str();
        let why = format!(
            "failed to get network object for Pod:{pod}'s connection no.:{number} due to:requested network:{name} of type:{kind} in namespace:{namespace} does not exist"
        );
        failed("", Error::plugin(why).details(e.to_string()))
    })?;
    let tenants = &network.spec.allowed_tenants;
    if tenants.is_empty() || tenants.contains(&args.namespace) {
        return Ok(network);
    }
    let own = &args.namespace;
    let why = format!(
        "Pod:{pod}'s namespace:{own} is not in the AllowedTenants whitelist of network:{name}"
    );
    Err(failed(name, Error::plugin(why)))
}

/// One line of the error of an ADD.
pub(crate) fn line(network: &str, why: &str) -> String {
    format!("CNI operation for network:{network} failed with:{why}")
}

/// The error of an ADD that came to nothing because of one network, whose name may not be known.
fn failed(network: &str, e: Error) -> Error {
    let msg = format!("CNI network could not be set up: {}", line(network, &e.msg));
    Error { msg, ..e }
}
