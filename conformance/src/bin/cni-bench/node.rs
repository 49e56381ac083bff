//! A node of a cluster: a side with an API server, for plugins that ask Kubernetes what networks a pod has and have other plugins
//! attach it.

use std::io;
use std::path::{Path, PathBuf};

use cni_conformance::call::Call;
use cni_conformance::cluster::Cluster;
use cni_conformance::multus::{NETWORKS, STATUS, result};
use cni_conformance::pod::inside;
use cni_conformance::spec::{V0_3_1, V1_0_0, Verb, Version};
use serde_json::{Value, json};

use crate::side::{MASTER, Side};

/// How a plugin of this kind is told what a pod has. A network is a CNI configuration.
pub(crate) struct Profile {
    pub(crate) plugin: &'static str,
    /// The plugin and what it has to do, as it is written in the table.
    pub(crate) what: &'static str,
    /// What its folders are called.
    pub(crate) folder: &'static str,
    /// The `type` of each network of a pod when delegates do nothing.
    pub(crate) delegates: &'static [&'static str],
    /// The version that it speaks with its delegates.
    pub(crate) version: Version,
    /// What the delegate of the network with this number answers to ADD.
    pub(crate) answer: fn(usize) -> Value,
    /// Its configuration on this node.
    config: fn(&Node<'_, '_>) -> Value,
    /// The networks as objects of the API server.
    objects: fn(&[Value]) -> Vec<Value>,
    /// The annotation of a pod that has these networks.
    annotation: fn(&[Value]) -> (&'static str, String),
}

/// With a default network for every pod and two that it asks for.
pub(crate) const MULTUS: Profile = Profile {
    plugin: "multus",
    what: "multus, 3 networks",
    folder: "multus",
    delegates: &["spy-a", "spy-b", "spy-c"],
    version: V1_0_0,
    answer: |n| result(V1_0_0, &format!("10.{n}.0.2/24"), &format!("10.{n}.0.1")),
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
    objects: |networks| {
        let attachment = |config: &Value| {
            json!({
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": config["name"]},
                "spec": {"config": config.to_string()},
            })
        };
        networks[1..].iter().map(attachment).collect()
    },
    annotation: |networks| {
        let names = networks[1..].iter().filter_map(|n| n["name"].as_str());
        (NETWORKS, names.collect::<Vec<_>>().join(","))
    },
};

/// Without addresses, and with those of a small and of a large network: the differences are what addresses cost.
pub(crate) const DANM: [Profile; 3] = [
    Profile {
        what: "danm-shim, 2 interfaces, no address",
        folder: "danm-none",
        objects: |networks| of_danm(networks, "/27"),
        annotation: |networks| asked_of_danm(networks, "none"),
        ..DANM_SHIM
    },
    Profile {
        what: "danm-shim, 2 interfaces of /27",
        folder: "danm-27",
        objects: |networks| of_danm(networks, "/27"),
        ..DANM_SHIM
    },
    Profile {
        what: "danm-shim, 2 interfaces of /12",
        folder: "danm-12",
        objects: |networks| of_danm(networks, "/12"),
        ..DANM_SHIM
    },
];

const DANM_SHIM: Profile = Profile {
    plugin: "danm-shim",
    what: "",
    folder: "",
    delegates: &["macvlan", "macvlan"],
    version: V0_3_1,
    // No addresses: those that danm-shim has taken stay as they are.
    answer: |_| json!({"cniVersion": "0.3.1"}),
    config: |node| {
        json!({
            "cniVersion": "0.3.1",
            "name": "danm",
            "type": "danm-shim",
            "kubeconfig": node.kubeconfig,
            "stateDir": node.state,
        })
    },
    objects: |_| Vec::new(),
    annotation: |networks| asked_of_danm(networks, "dynamic"),
};

/// The annotation of a pod that asks for an interface of each network.
fn asked_of_danm(networks: &[Value], ip: &str) -> (&'static str, String) {
    let interface = |network: &Value| json!({"clusterNetwork": network["name"], "ip": ip});
    let interfaces: Value = networks.iter().map(interface).collect();
    ("danm.k8s.io/interfaces", interfaces.to_string())
}

/// Networks of DANM, each with so many addresses.
fn of_danm(networks: &[Value], length: &str) -> Vec<Value> {
    let network = |(number, config): (usize, &Value)| {
        json!({
            "apiVersion": "danm.k8s.io/v1",
            "kind": "ClusterNetwork",
            "metadata": {"name": config["name"]},
            "spec": {
                "NetworkID": config["name"],
                "NetworkType": config["type"],
                "Options": {"host_device": MASTER, "cidr": format!("10.{}.0.0{length}", 16 * number)},
            },
        })
    };
    (1..).zip(networks).map(network).collect()
}

/// See above.
pub(crate) struct Node<'a, 's> {
    pub(crate) side: &'a Side<'s>,
    pub(crate) plugin: PathBuf,
    /// Where the plugin keeps what it must remember.
    pub(crate) state: PathBuf,
    /// Where it finds the others.
    pub(crate) bin_dir: PathBuf,
    pub(crate) networks: Vec<Value>,
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
        networks: Vec<Value>,
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
            state: side.store.join(profile.folder),
            bin_dir,
            networks,
            profile,
            kubeconfig: side.store.join("kubeconfig"),
            cluster,
        };
        let user = node.cluster.token_user();
        let written = node.cluster.write_kubeconfig(&node.kubeconfig, &user);
        written.map_err(io::Error::other)?;
        for object in (profile.objects)(&node.networks) {
            node.put(object)?;
        }
        Ok(Some(node))
    }

    /// Makes a pod that has all the networks.
    pub(crate) fn add_pod(&self, name: &str) -> io::Result<()> {
        let (key, text) = (self.profile.annotation)(&self.networks);
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": {key: text}},
        }))
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
        call.with("CNI_NETNS", sandbox)
            .with("CNI_PATH", &self.bin_dir)
            .with("CNI_ARGS", args)
    }

    /// The addresses that a pod has been told by `network-status`.
    pub(crate) fn addresses(&self, pod: &str) -> Vec<String> {
        let path = format!("/api/v1/namespaces/default/pods/{pod}");
        let pod = self.cluster.get(&path).unwrap_or_default();
        let status = pod["metadata"]["annotations"][STATUS].as_str();
        let status: Value = serde_json::from_str(status.unwrap_or_default()).unwrap_or_default();
        let networks = status.as_array().into_iter().flatten();
        let addresses = networks.filter_map(|network| network["ips"].as_array());
        addresses.flatten().map(Value::to_string).collect()
    }
}
