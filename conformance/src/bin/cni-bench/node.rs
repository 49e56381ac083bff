//! A node of a cluster: a side with an API server, for plugins that ask Kubernetes what networks a pod has and have other plugins
//! attach it.

use std::io;
use std::path::{Path, PathBuf};

use cni_conformance::call::Call;
use cni_conformance::cluster::Cluster;
use cni_conformance::multus::{NETWORKS, STATUS};
use cni_conformance::pod::inside;
use cni_conformance::spec::Verb;
use serde_json::{Value, json};

use crate::side::Side;

/// How a plugin of this kind is told what a pod has. A network is a CNI configuration.
pub(crate) struct Profile {
    pub(crate) plugin: &'static str,
    /// Its configuration on this node, where every pod has the first network.
    config: fn(&Node<'_, '_>) -> Value,
    /// A network as an object of the API server.
    network: fn(&Value) -> Value,
    /// A pod of this name that asks for these networks.
    pod: fn(&str, &[Value]) -> Value,
    /// The addresses that a pod has been told.
    addresses: fn(&Value) -> Vec<String>,
}

/// The plugins that are measured.
pub(crate) const PROFILES: [Profile; 1] = [Profile {
    plugin: "multus",
    config: |node| {
        json!({
            "cniVersion": "1.0.0",
            "name": "multus-cni-network",
            "type": "multus",
            "kubeconfig": node.kubeconfig,
            "binDir": node.bin_dir,
            "cniDir": node.state,
            "delegates": [node.networks[0]],
        })
    },
    network: |config| {
        json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": config["name"]},
            "spec": {"config": config.to_string()},
        })
    },
    pod: |name, networks| {
        let names = networks
            .iter()
            .filter_map(|network| network["name"].as_str());
        let names = names.collect::<Vec<_>>().join(",");
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": {NETWORKS: names}},
        })
    },
    addresses: |pod| {
        let status = pod["metadata"]["annotations"][STATUS].as_str();
        let status: Value = serde_json::from_str(status.unwrap_or_default()).unwrap_or_default();
        let networks = status.as_array().into_iter().flatten();
        let addresses = networks.filter_map(|network| network["ips"].as_array());
        addresses.flatten().map(Value::to_string).collect()
    },
}];

/// The networks that a pod has.
pub(crate) const COUNT: usize = 3;

/// See above.
pub(crate) struct Node<'a, 's> {
    pub(crate) side: &'a Side<'s>,
    pub(crate) plugin: PathBuf,
    /// Where the plugin keeps what it must remember.
    pub(crate) state: PathBuf,
    /// Where it finds the others.
    pub(crate) bin_dir: PathBuf,
    pub(crate) networks: [Value; COUNT],
    profile: &'a Profile,
    cluster: Cluster,
    kubeconfig: PathBuf,
}

impl<'a, 's> Node<'a, 's> {
    /// Starts the API server, which has the networks but no pods. `None` where the side has no such plugin.
    pub(crate) fn new(
        side: &'a Side<'s>,
        profile: &'a Profile,
        bin_dir: PathBuf,
        networks: [Value; COUNT],
    ) -> io::Result<Option<Self>> {
        let Some(plugin) = side.plugin(profile.plugin) else {
            return Ok(None);
        };
        let cluster = inside(&side.host.path, || {
            Cluster::start().map_err(io::Error::other)
        })?;
        let node = Self {
            side,
            plugin,
            state: side.store.join(profile.plugin),
            bin_dir,
            networks,
            profile,
            kubeconfig: side.store.join("kubeconfig"),
            cluster,
        };
        let user = node.cluster.token_user();
        let written = node.cluster.write_kubeconfig(&node.kubeconfig, &user);
        written.map_err(io::Error::other)?;
        for network in &node.networks[1..] {
            node.put((profile.network)(network))?;
        }
        Ok(Some(node))
    }

    /// Makes a pod that asks for all the networks.
    pub(crate) fn add_pod(&self, name: &str) -> io::Result<()> {
        self.put((self.profile.pod)(name, &self.networks[1..]))
    }

    fn put(&self, object: Value) -> io::Result<()> {
        self.cluster.put(object).map(drop).map_err(io::Error::other)
    }

    /// A call of the plugin for this pod.
    pub(crate) fn call(&self, verb: Verb, pod: &str, sandbox: &Path) -> Call {
        self.call_with(verb, &(self.profile.config)(self), pod, sandbox)
    }

    /// A call with this configuration for this pod.
    pub(crate) fn call_with(&self, verb: Verb, config: &Value, pod: &str, sandbox: &Path) -> Call {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}");
        let call = self.side.call(verb, config, pod);
        call.with("CNI_NETNS", sandbox).with("CNI_ARGS", args)
    }

    /// The addresses that a pod has been told.
    pub(crate) fn addresses(&self, pod: &str) -> Vec<String> {
        let path = format!("/api/v1/namespaces/default/pods/{pod}");
        let pod = self.cluster.get(&path).unwrap_or_default();
        (self.profile.addresses)(&pod)
    }
}
