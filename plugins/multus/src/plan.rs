//! From configuration, pod and annotations to the list of networks the pod is attached to, in order.

use std::collections::BTreeSet;
use std::path::Path;

use cni::json::{Object, Value};
use cni::{Error, Network, PluginConf};
use invoke::folder;
use k8s::{NetworkAttachmentDefinition, Pod};

use crate::annotation::{self, DEFAULT_NETWORK, NETWORKS, Selection};
use crate::attachment::Attachment;
use crate::cluster::{self, Cluster, Found, Reference};
use crate::conf::{self, Conf};
use crate::devices::{self, Devices, RESOURCE_NAME};
use crate::pod_args::PodArgs;

/// The annotation by which pods that don't come from the API server are known.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// All networks of a pod.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The default network first.
    pub(crate) attachments: Vec<Attachment>,
    /// `None` when there is no API server.
    pub(crate) pod: Option<Pod>,
}

/// What a plan is made from.
pub(crate) struct Planner<'a> {
    pub(crate) conf: &'a Conf,
    pub(crate) stdin: &'a [u8],
    pub(crate) args: &'a PodArgs,
    pub(crate) cluster: Option<&'a Cluster>,
    /// `CNI_IFNAME`.
    pub(crate) ifname: &'a str,
    /// For DEL: a network that can't be had is left out with a warning instead of failing the rest.
    pub(crate) is_lenient: bool,
}

impl Planner<'_> {
    /// Reads the pod and all its networks. Nothing is changed anywhere.
    ///
    /// Errors: code 11 when the API server or kubelet can't say now, 7 for what is asked for wrongly.
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        let Some(cluster) = self.cluster else {
            if let Some(name) = &self.conf.cluster_network {
                let why = "GetDefaultNetworks: must have either Kubernetes config or delegates";
                let hint = format!("clusterNetwork is {name:?}, and there is no kubeconfig");
                return Err(self.labelled(Error::config(why).details(hint)));
            }
            let mut attachments = self.of_node(None, &[])?;
            number(&mut attachments, self.ifname)?;
            return Ok(Plan {
                attachments,
                pod: None,
            });
        };
        if self.args.namespace.is_empty() || self.args.name.is_empty() {
            let why =
                "Multus: CNI_ARGS has no K8S_POD_NAMESPACE or no K8S_POD_NAME: which pod is it?";
            let error = Error::new(cni::Code::InvalidEnvironment, why);
            return Err(error.details("resource name may not be empty"));
        }
        let of_node = self.node_references();
        let (pod, found) =
            cluster.pod_and_networks(&self.args.namespace, &self.args.name, &of_node);
        let pod = self.labelled_result(pod.map_err(|e| missing_pod(&e)))?;
        self.judge_uid(&pod)?;
        let mut attachments = self.of_node(Some(&pod), &found)?;
        self.of_pod(cluster, &pod, &mut attachments)?;
        attachments.extend(self.auxiliary()?);
        number(&mut attachments, self.ifname)?;
        Ok(Plan {
            attachments,
            pod: Some(pod),
        })
    }

    /// The networks of the configuration alone, for what is about no pod. Those that can't be had are left out when
    /// this is lenient.
    pub(crate) fn of_configuration(&self) -> Result<Vec<Attachment>, Error> {
        let references = self.node_references();
        let found = self.cluster.map(|cluster| cluster.networks(&references));
        let mut attachments = self.of_node(None, &found.unwrap_or_default())?;
        number(&mut attachments, self.ifname)?;
        Ok(attachments)
    }

    /// The networks of the configuration that may be objects of the API server.
    fn node_references(&self) -> Vec<Reference> {
        let named = self.node_names().filter(|name| !name.contains('/'));
        let reference = |name: &str| (self.conf.multus_namespace.clone(), name.to_owned());
        named.map(reference).collect()
    }

    fn node_names(&self) -> impl Iterator<Item = &str> {
        let cluster_network = self.conf.cluster_network.as_deref();
        let others = cluster_network.map_or(&[][..], |_| self.conf.default_networks.as_slice());
        cluster_network
            .into_iter()
            .chain(others.iter().map(String::as_str))
    }

    /// The default network and those for every pod; `found` is what the API server has for the references.
    fn of_node(&self, pod: Option<&Pod>, found: &[Found]) -> Result<Vec<Attachment>, Error> {
        if self.conf.cluster_network.is_none() {
            let networks = conf::static_networks(self.stdin)?;
            let attachment = |network: Network| Attachment::of_node(&network.name.clone(), network);
            return Ok(networks.into_iter().map(attachment).collect());
        }
        let system = &self.conf.system_namespaces;
        let is_system = system.contains(&self.args.namespace);
        let mut found = found.iter();
        let mut attachments = Vec::new();
        for (index, name) in self.node_names().enumerate() {
            let object = match name.contains('/') {
                true => None,
                false => found.next(),
            };
            if index > 0 && is_system {
                continue;
            }
            match self.node_network(name, object, pod) {
                Ok(attachment) => attachments.push(attachment),
                Err(e) if self.is_lenient => log::warn!("{e}"),
                Err(e) => {
                    let namespace = &self.conf.multus_namespace;
                    return Err(self.labelled(e.context(format!(
                        "failed to get clusterNetwork/defaultNetworks: GetDefaultNetworks: failed to get clusterNetwork {name} in namespace {namespace}"
                    ))));
                }
            }
        }
        Ok(attachments)
    }

    /// An entry of `clusterNetwork` or `defaultNetworks`: a path, an object of the API server, or a file of `confDir`.
    fn node_network(
        &self,
        name: &str,
        object: Option<&Found>,
        pod: Option<&Pod>,
    ) -> Result<Attachment, Error> {
        let refuse = |network: Network| conf::refuse_recursion(&network).map(|()| network);
        let from_file = |network: Network| {
            refuse(network).map(|network| Attachment::of_node(&network.name.clone(), network))
        };
        if name.contains('/') {
            let path = Path::new(name);
            return match path.is_dir() {
                true => folder::first(path),
                false => folder::load(path),
            }
            .and_then(from_file);
        }
        match object {
            Some(Ok(definition)) => {
                let network = refuse(self.network_of(definition)?)?;
                let full = format!("{}/{name}", self.conf.multus_namespace);
                Ok(Attachment::of_node(&full, network))
            }
            // Asking again may bring the object, and another network must not take its place.
            Some(Err(e)) if e.is_temporary() => Err(cluster::error(e)),
            missing => {
                if let (Some(Err(e)), Some(cluster), Some(pod)) = (missing, self.cluster, pod) {
                    let namespace = &self.conf.multus_namespace;
                    cluster.report_missing(pod, &missing_network(namespace, name, e));
                }
                let network = folder::find(&self.conf.conf_dir, name);
                network.and_then(from_file).map_err(|e| match missing {
                    Some(Err(api)) => e.context(api),
                    _ => e,
                })
            }
        }
    }

    /// The networks that the pod asks for: the default network it wants instead, and its others.
    fn of_pod(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        attachments: &mut Vec<Attachment>,
    ) -> Result<(), Error> {
        let annotation = |key: &str| pod.metadata.annotations.get(key);
        let loading = |e: Error| self.labelled(e.context("error loading k8s delegates k8s args"));
        let default = annotation(DEFAULT_NETWORK)
            .map(|text| annotation::default_network(text, &self.conf.multus_namespace))
            .transpose()
            .map_err(loading)?;
        let networks = annotation(NETWORKS).map_or("", String::as_str);
        let networks = annotation::networks(networks, &self.args.namespace).map_err(loading)?;
        let selections: Vec<&Selection> = default.iter().chain(&networks).collect();
        annotation::one_gateway_per_family(selections.iter().copied()).map_err(loading)?;
        for (index, selection) in selections.iter().enumerate() {
            self.judge_namespace(selection, default.is_some() && index == 0)
                .map_err(loading)?;
        }
        let reference = |s: &&Selection| (s.namespace.clone(), s.name.clone());
        let references: Vec<Reference> = selections.iter().map(reference).collect();
        let found = cluster.networks(&references);
        let mut of_pod = Vec::new();
        let mut devices = None;
        for (selection, found) in selections.iter().zip(found) {
            let made = self.selected(cluster, pod, selection, found, &mut devices);
            match made {
                Ok(attachment) => of_pod.push(attachment),
                Err(e) if self.is_lenient => log::warn!("{e}"),
                Err(e) => return Err(loading(e)),
            }
        }
        if default.is_some() && !of_pod.is_empty() {
            let replaced = of_pod.remove(0);
            match attachments.first_mut() {
                Some(first) => *first = replaced,
                None => attachments.push(replaced),
            }
        }
        attachments.extend(of_pod);
        Ok(())
    }

    fn selected(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        selection: &Selection,
        found: Found,
        devices: &mut Option<Devices>,
    ) -> Result<Attachment, Error> {
        let Selection {
            namespace, name, ..
        } = selection;
        let definition = found.map_err(|e| {
            let missing = missing_network(namespace, name, &e);
            if e.is_not_found() {
                cluster.report_missing(pod, &missing);
            }
            let why = format!(
                "TryLoadPodDelegates: error in getting k8s network for pod: GetNetworkDelegates: failed getting the delegate: getKubernetesDelegate: {missing}"
            );
            Error { msg: why, ..cluster::error(&e) }
        })?;
        let network = self.network_of(&definition)?;
        conf::refuse_recursion(&network)?;
        let mut attachment = Attachment::of_pod(selection, network)?;
        let resource = definition.metadata.annotations.get(RESOURCE_NAME);
        if let Some(resource) = resource.filter(|resource| !resource.is_empty()) {
            resource.clone_into(&mut attachment.entry.resource_name);
            let known = match devices {
                Some(known) => known,
                none => none.insert(self.devices(cluster, pod)?),
            };
            match known.take(resource) {
                Ok(id) => attachment.set_device(resource, &id),
                Err(shortage) => attachment.shortage = Some(shortage.to_string()),
            }
        }
        Ok(attachment)
    }

    fn devices(&self, cluster: &Cluster, pod: &Pod) -> Result<Devices, Error> {
        let of = devices::Pod {
            namespace: &self.args.namespace,
            name: &self.args.name,
            uid: &pod.metadata.uid,
        };
        cluster.wait_for(Devices::of(of))
    }

    /// The configuration in an object, or, where it has none, that of the file with its name.
    fn network_of(&self, definition: &NetworkAttachmentDefinition) -> Result<Network, Error> {
        let name = &definition.metadata.name;
        let config = definition.spec.config.trim();
        if config.is_empty() {
            return folder::find(&self.conf.conf_dir, name)
                .map_err(|e| e.context("GetCNIConfig: err in GetCNIConfigFromFile"));
        }
        let read = || {
            let mut document = Object::parse(config.as_bytes())
                .map_err(|e| Error::config(format!("failed to unmarshal Spec.Config: {e}")))?;
            let own = document.value("name").unwrap_or_default();
            if matches!(&own, Value::Null) || own == Value::String(String::new()) {
                document.set("name", name);
            }
            conf::network(document.to_string().as_bytes())
        };
        read().map_err(|e| e.context("GetCNIConfig: err in getCNIConfigFromSpec"))
    }

    /// A chain of plugins that is run last for every pod: the files of a folder beside the cluster network. Where the
    /// folder has none there is no chain.
    fn auxiliary(&self) -> Result<Option<Attachment>, Error> {
        let Some(name) = &self.conf.auxiliary_chain else {
            return Ok(None);
        };
        let cluster_network = self.conf.cluster_network.as_deref().unwrap_or_default();
        if !cluster_network.contains('/') {
            let why = format!(
                "auxiliary chain used but ClusterNetwork must be a path, and it is not a path: {cluster_network}"
            );
            return Err(Error::config(why));
        }
        cni::names::network(name)?;
        let beside = Path::new(cluster_network)
            .parent()
            .unwrap_or(Path::new("/"));
        let plugins = folder::plugins(&beside.join(name))?;
        if plugins.is_empty() {
            return Ok(None);
        }
        let first = PluginConf::parse(br#"{"type":"passthru","name":"passthru-cni"}"#)?;
        let text = format!(r#"{{"name":"{name}","plugins":[{{"type":"passthru"}}]}}"#);
        let mut network = Network::parse_list(text.as_bytes())?;
        network.plugins = vec![first];
        network.set_cni_version(&self.cni_version());
        network.append(plugins);
        conf::refuse_recursion(&network)?;
        Ok(Some(Attachment::of_node(name, network)))
    }

    fn cni_version(&self) -> String {
        let document = Object::parse(self.stdin).unwrap_or_default();
        match document.value("cniVersion") {
            Ok(Value::String(version)) => version,
            _ => String::new(),
        }
    }

    /// A pod that was replaced by another one of its name is not the one the runtime means. The node's own pods have
    /// another uid at the API server than at the runtime.
    fn judge_uid(&self, pod: &Pod) -> Result<(), Error> {
        let (asked, found) = (&self.args.uid, &pod.metadata.uid);
        let source = pod.metadata.annotations.get(CONFIG_SOURCE);
        let is_static = source.is_some_and(|source| source != "api");
        if asked.is_empty() || asked == found || is_static {
            return Ok(());
        }
        let why = format!("expected pod UID {asked:?} but got {found:?} from Kube API");
        Err(self.labelled(Error::plugin(why)))
    }

    /// Errors, code 7: the pod may not use networks of that namespace.
    fn judge_namespace(&self, selection: &Selection, is_default: bool) -> Result<(), Error> {
        let (own, target) = (&self.args.namespace, &selection.namespace);
        let isolation = &self.conf.isolation;
        // The administrator's namespace is where default networks are looked for.
        let is_administrators = is_default && *target == self.conf.multus_namespace;
        if is_administrators || isolation.allows(own, target) {
            return Ok(());
        }
        Err(Error::config(format!(
            "GetNetworkDelegates: namespace isolation enabled, annotation violates permission, pod is in namespace {own} but refers to target namespace {target}"
        )))
    }

    fn labelled(&self, e: Error) -> Error {
        e.context(format!("Multus: {}", self.args.label()))
    }

    fn labelled_result<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|e| self.labelled(e))
    }
}

/// What error and event say of a network that the API server does not give.
fn missing_network(namespace: &str, name: &str, e: &k8s::Error) -> String {
    format!("cannot find a network-attachment-definition ({name}) in namespace ({namespace}): {e}")
}

/// A pod that is not there has no networks that could be known: to start it without them is no answer.
fn missing_pod(e: &k8s::Error) -> Error {
    let error = cluster::error(e).context("error waiting for pod");
    match e.is_not_found() {
        true => Error {
            code: cni::Code::TryAgainLater,
            ..error
        },
        false => error,
    }
}

/// Names the interfaces: the first has the runtime's, the n-th is `net<n>` unless the pod asks for another name. A
/// name that a pod asks for is nobody else's.
///
/// Errors, code 7: two are to have the same.
fn number(attachments: &mut [Attachment], ifname: &str) -> Result<(), Error> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (index, attachment) in attachments.iter_mut().enumerate() {
        attachment.is_default = index == 0;
        let requested = &attachment.entry.interface;
        let name = match (index, requested.as_str()) {
            (0, "") => ifname.to_owned(),
            _ => requested.clone(),
        };
        if !name.is_empty() && !taken.insert(name.clone()) {
            let why =
                format!("interface name {name} already exists: two networks of the pod ask for it");
            return Err(Error::config(why));
        }
        attachment.ifname = name;
    }
    for (index, attachment) in attachments.iter_mut().enumerate() {
        if attachment.ifname.is_empty() {
            let mut free = (index..)
                .map(|n| format!("net{n}"))
                .filter(|n| !taken.contains(n));
            attachment.ifname = free.next().unwrap_or_default();
            taken.insert(attachment.ifname.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(requested: &[&str]) -> Result<Vec<String>, Error> {
        let network = Network::parse(br#"{"name":"n","type":"t"}"#).unwrap();
        let one = |wish: &&str| {
            let mut attachment = Attachment::of_node("n", network.clone());
            (*wish).clone_into(&mut attachment.entry.interface);
            attachment
        };
        let mut all: Vec<Attachment> = requested.iter().map(one).collect();
        number(&mut all, "eth0")?;
        Ok(all.into_iter().map(|a| a.ifname).collect())
    }

    #[test]
    fn interfaces_are_counted_around_the_names_that_are_asked_for() {
        assert_eq!(names(&["", "", ""]).unwrap(), ["eth0", "net1", "net2"]);
        assert_eq!(
            names(&["", "net2", "", ""]).unwrap(),
            ["eth0", "net2", "net3", "net4"]
        );
        assert_eq!(
            names(&["eth7", "foo", ""]).unwrap(),
            ["eth7", "foo", "net2"]
        );
        assert!(names(&["", "eth0"]).is_err());
        assert!(names(&["", "a", "a"]).is_err());
    }
}
