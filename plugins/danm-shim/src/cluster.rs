//! The API server as this plugin uses it: a pod, networks, DanmEps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cni::{Code, Error};
use k8s::{
    Access, Client, DanmEp, DanmEpInterface, DanmGroup, DanmNetwork, DanmScope, ListOptions,
    ObjectMeta, PartialObjectMetadata, Pod, Preconditions, Runtime, SERVICE_ACCOUNT,
};
use kubelet::Devices;
use serde_json::{Value, json};

use crate::conf::{PodArgs, Settings};
use crate::ipam::Addresses;

/// Which network object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NetworkRef {
    pub(crate) scope: DanmScope,
    /// Empty for a ClusterNetwork.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl NetworkRef {
    /// The network that a pod of `namespace` means by `name`.
    pub(crate) fn of_pod(scope: DanmScope, namespace: &str, name: &str) -> NetworkRef {
        let namespace = if scope.is_namespaced() { namespace } else { "" };
        NetworkRef {
            scope,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The network that a DanmEp is of; `None` if its kind is unknown.
    pub(crate) fn of_endpoint(endpoint: &DanmEp) -> Option<NetworkRef> {
        let scope = DanmScope::parse(&endpoint.spec.api_type)?;
        let namespace = &endpoint.metadata.namespace;
        let name = &endpoint.spec.network_name;
        Some(NetworkRef::of_pod(scope, namespace, name))
    }

    fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }
}

/// The API server. Requests may be made from several threads at once; each waits for its answer.
#[derive(Debug)]
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    group: DanmGroup,
    is_away: AtomicBool,
}

/// How a patch of a network ended.
#[derive(Debug)]
pub(crate) enum Patched {
    Done,
    /// Nothing has changed. Somebody else was faster, or the change is not allowed: both have one answer.
    Conflict(k8s::Error),
    /// Nobody knows: the answer was lost.
    Unknown(k8s::Error),
    /// It was refused: nothing has changed.
    Refused(k8s::Error),
}

impl Cluster {
    /// Reads the access. Nothing is asked yet.
    pub(crate) fn new(settings: &Settings) -> Result<Cluster, Error> {
        let access = match &settings.kubeconfig {
            Some(path) => Access::kubeconfig(path),
            None => {
                let host = skel::variable("KUBERNETES_SERVICE_HOST");
                let port = skel::variable("KUBERNETES_SERVICE_PORT").parse();
                let (false, Ok(port)) = (host.is_empty(), port) else {
                    return Err(Error::config(
                        "the API server is not known: the key kubeconfig is missing, and this runs in no pod, whose environment tells it",
                    ));
                };
                Access::in_cluster(&host, port, Path::new(SERVICE_ACCOUNT))
            }
        };
        let access = access.map_err(|e| Error::plugin(e.to_string()))?;
        let runtime = Runtime::new()
            .map_err(|e| Error::new(Code::Io, format!("no runtime for requests: {e}")))?;
        Ok(Cluster {
            runtime,
            client: Client::new(access, settings.api_limit),
            group: settings.group,
            is_away: AtomicBool::new(false),
        })
    }

    /// Whether the last request was left without an answer, or with one that says that the server can't answer now.
    pub(crate) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Forgets what became of the last request.
    pub(crate) fn try_anew(&self) {
        self.is_away.store(false, Ordering::Relaxed);
    }

    fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, k8s::Error>>,
    ) -> Result<T, k8s::Error> {
        let answer = self.runtime.block_on(request);
        let is_away = answer.as_ref().err().is_some_and(k8s::Error::is_temporary);
        self.is_away.store(is_away, Ordering::Relaxed);
        answer
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Result<Pod, k8s::Error> {
        self.ask(self.client.namespaced::<Pod>(namespace).get(name))
    }

    /// The devices that kubelet has given to a pod.
    pub(crate) fn devices(&self, args: &PodArgs, pod: &Pod) -> Result<Devices, Error> {
        self.runtime.block_on(Devices::of(kubelet::Pod {
            namespace: &args.namespace,
            name: &args.name,
            uid: &pod.metadata.uid,
        }))
    }

    pub(crate) fn network(&self, network: &NetworkRef) -> Result<DanmNetwork, k8s::Error> {
        let kind = network.scope.kind(self.group);
        let api = self.client.of_kind(kind, network.namespace());
        self.ask(api.get(&network.name))
    }

    /// The networks of all kinds that the server knows, without their bitmaps.
    pub(crate) fn networks(&self) -> Result<Vec<(NetworkRef, ObjectMeta)>, k8s::Error> {
        let mut all = Vec::new();
        for scope in DanmScope::ALL {
            let api = self
                .client
                .of_kind::<DanmNetwork>(scope.kind(self.group), None);
            let objects = match self.ask(api.metadata_only().list_all(&pages())) {
                Err(e) if e.is_not_found() => continue,
                listed => listed?,
            };
            all.extend(
                objects
                    .into_iter()
                    .map(|PartialObjectMetadata { metadata }| {
                        let place = NetworkRef::of_pod(scope, &metadata.namespace, &metadata.name);
                        (place, metadata)
                    }),
            );
        }
        Ok(all)
    }

    /// The addresses that the DanmEps of a network have.
    pub(crate) fn addresses_of(&self, network: &NetworkRef) -> Result<Vec<Addresses>, k8s::Error> {
        let mut all = self.endpoints(network.namespace())?;
        all.retain(|endpoint| NetworkRef::of_endpoint(endpoint).as_ref() == Some(network));
        let interfaces = all.into_iter().map(|endpoint| endpoint.spec.interface);
        let addresses = |interface: DanmEpInterface| Addresses {
            ip: interface.address,
            ip6: interface.address_ipv6,
        };
        Ok(interfaces.map(addresses).collect())
    }

    /// Changes a network; one of the operations tests its version.
    pub(crate) fn patch_network(&self, network: &NetworkRef, operations: &[Value]) -> Patched {
        let kind = network.scope.kind(self.group);
        let api = self
            .client
            .of_kind::<DanmNetwork>(kind, network.namespace());
        // A bitmap may have a megabyte, and the server has it from here.
        match self.ask(api.metadata_only().json_patch(&network.name, operations)) {
            Ok(_) => Patched::Done,
            Err(e) if e.maybe_applied => Patched::Unknown(e),
            // A test that failed is answered 422.
            Err(e) if e.is_conflict() || e.code() == Some(422) => Patched::Conflict(e),
            Err(e) => Patched::Refused(e),
        }
    }

    pub(crate) fn create_endpoint(&self, endpoint: &DanmEp) -> Result<(), k8s::Error> {
        let namespace = Some(endpoint.metadata.namespace.as_str());
        let api = self
            .client
            .of_kind::<DanmEp>(DanmEp::kind(self.group), namespace);
        match self.ask(api.create(endpoint)) {
            // It is the one made by an earlier try: nobody else has its name.
            Err(e) if !e.is_already_exists() => Err(e),
            _ => Ok(()),
        }
    }

    pub(crate) fn endpoint(&self, namespace: &str, name: &str) -> Result<DanmEp, k8s::Error> {
        let api = self
            .client
            .of_kind(DanmEp::kind(self.group), Some(namespace));
        self.ask(api.get(name))
    }

    /// Writes the addresses that a delegate has given.
    pub(crate) fn set_addresses(
        &self,
        namespace: &str,
        name: &str,
        addresses: &Addresses,
    ) -> Result<(), k8s::Error> {
        let api = self
            .client
            .of_kind::<DanmEp>(DanmEp::kind(self.group), Some(namespace))
            .metadata_only();
        let Addresses { ip, ip6 } = addresses;
        let patch = json!({"spec": {"Interface": {"Address": ip, "AddressIPv6": ip6}}});
        self.ask(api.merge_patch(name, &patch)).map(drop)
    }

    pub(crate) fn delete_endpoint(&self, namespace: &str, name: &str) -> Result<(), k8s::Error> {
        let api = self
            .client
            .of_kind::<DanmEp>(DanmEp::kind(self.group), Some(namespace));
        self.ask(api.delete(name, &Preconditions::default()))
    }

    /// The DanmEps of one namespace, or (`None`) of all.
    pub(crate) fn endpoints(&self, namespace: Option<&str>) -> Result<Vec<DanmEp>, k8s::Error> {
        let api = self.client.of_kind(DanmEp::kind(self.group), namespace);
        self.ask(api.list_all(&pages()))
    }

    /// Whether the server knows networks and DanmEps: asks for one of each.
    pub(crate) fn probe(&self) -> Result<(), k8s::Error> {
        let options = ListOptions {
            limit: 1,
            ..ListOptions::default()
        };
        let kinds = DanmScope::ALL.map(|scope| scope.kind(self.group));
        let requests = kinds
            .into_iter()
            .chain([DanmEp::kind(self.group)])
            .map(|kind| {
                let api = self.client.of_kind::<Value>(kind, None);
                let options = options.clone();
                async move { api.list(&options).await.map(drop) }
            });
        let mut answers = self.runtime.block_on(k8s::together(requests));
        let endpoints = answers.pop().unwrap_or(Ok(()));
        // One kind of network is enough: production clusters have no DanmNets, lightweight ones nothing else.
        let known = answers.iter().any(Result::is_ok);
        match answers.into_iter().find_map(Result::err) {
            Some(e) if !known => Err(e),
            _ => endpoints,
        }
    }
}

/// All objects, in pages of a size that a server has at hand.
fn pages() -> ListOptions {
    ListOptions {
        limit: 500,
        ..ListOptions::default()
    }
}
