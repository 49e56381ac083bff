//! What the cases of family M work with: a node with an API server, a pod, attachments, and spies as the delegates of multus.
//!
//! ```no_run
//! # use cni_conformance::{multus::Node, requirement::Verdict, trial::Trial};
//! fn in_the_order_of_the_annotation(trial: &Trial<'_>) -> Verdict {
//!     let mut node = Node::new(trial)?;
//!     node.spy("spy-b")?;
//!     node.attach("net-b", "spy-b")?;
//!     node.annotate("net-b")?;
//!     node.add()?;
//!     node.expect_calls(&["ADD spy-a eth0", "ADD spy-b net1"])
//! }
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::attachment::Attachment;
use crate::cluster::Cluster;
use crate::ensure;
use crate::requirement::{Stop, Verdict, fail};
use crate::spec::{Kind, Level, Must, V0_3_0, V0_3_1, V1_0_0, V1_1_0, Verb, Version};
use crate::spy::{self, Lines, Spy, Witness};
use crate::trial::Trial;

/// Family M is put to plugins that call others.
pub const KINDS: &[Kind] = &[Kind::Meta];
/// The version that most installations configure, and the newest: what is asked here does not depend on those between.
pub const LEVELS: &[(std::ops::RangeInclusive<Version>, Level)] =
    &[(V0_3_1..=V0_3_1, Must), (V1_1_0..=V1_1_0, Must)];
/// For what begins with 1.1.0, and for what is costly and the same in every version.
pub const NEWEST: &[(std::ops::RangeInclusive<Version>, Level)] = &[(V1_1_0..=V1_1_0, Must)];

/// The annotation that selects networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces the default network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// The annotation that multus writes.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The pod's name.
pub const POD: &str = "samplepod";
/// Where the pod is found when it is in `default`.
pub const POD_PATH: &str = "/api/v1/namespaces/default/pods/samplepod";

/// One node, one pod on it, and the network configuration of multus. Everything may be changed before the next call.
#[derive(Debug)]
pub struct Node<'t> {
    /// The API server.
    pub cluster: Cluster,
    /// The pod as the runtime sees it; `config` is the configuration of multus.
    pub runtime: Attachment<'t>,
    /// `binDir`: the folder of the spies.
    pub bin_dir: PathBuf,
    /// `cniDir`: where multus keeps what it must remember.
    pub cni_dir: PathBuf,
    /// `confDir`: configurations for attachments without one.
    pub conf_dir: PathBuf,
    /// The kubeconfig file.
    pub kubeconfig: PathBuf,
    /// The delegates, by their `type`.
    pub spies: BTreeMap<String, Spy>,
    pod_path: String,
    trial: &'t Trial<'t>,
}

impl<'t> Node<'t> {
    /// A node whose default network is made by `spy-a`, with a pod in `default` that selects no others.
    pub fn new(trial: &'t Trial<'t>) -> Result<Self, Stop> {
        Self::in_namespace(trial, "default")
    }

    /// The same with the pod in any namespace.
    pub fn in_namespace(trial: &'t Trial<'t>, namespace: &str) -> Result<Self, Stop> {
        let cluster = trial.stage.cluster().map_err(fail)?;
        let folder = trial.stage.folder(&format!("nodes/{}", trial.serial()))?;
        let [bin_dir, cni_dir, conf_dir] = ["bin", "state", "net.d"].map(|name| folder.join(name));
        // cniDir is left to multus to make.
        fs::create_dir(&bin_dir)?;
        fs::create_dir(&conf_dir)?;
        let kubeconfig = folder.join("kubeconfig");
        cluster
            .write_kubeconfig(&kubeconfig, &cluster.token_user())
            .map_err(fail)?;
        let config = json!({
            "cniVersion": trial.version.as_str(),
            "name": "multus-cni-network",
            "type": "multus",
            "kubeconfig": kubeconfig,
            "binDir": bin_dir,
            "cniDir": cni_dir,
            "confDir": conf_dir,
            "delegates": [{"cniVersion": trial.version.as_str(), "name": "net-a", "type": "spy-a"}],
        });
        let mut runtime = Attachment::with_config(trial, config)?;
        runtime.ifname = "eth0".into();
        let mut node = Self {
            cluster,
            runtime,
            bin_dir,
            cni_dir,
            conf_dir,
            kubeconfig,
            spies: BTreeMap::new(),
            pod_path: format!("/api/v1/namespaces/{namespace}/pods/{POD}"),
            trial,
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": namespace}, "spec": {"nodeName": "node-1"}});
        let pod = node.cluster.put(pod).map_err(fail)?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        node.runtime.args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={POD};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={uid}",
            node.runtime.container
        );
        node.spy("spy-a")?;
        Ok(node)
    }

    /// Puts a spy of this `type` into `binDir`. Its ADD answers one interface with one address, 10.N.0.2/24 with N counted
    /// from 1 in the order of the spies.
    pub fn spy(&mut self, name: &str) -> Result<&mut Spy, Stop> {
        let mut spy = Spy::hire_in(self.trial.stage, self.bin_dir.clone(), name)?;
        let number = self.spies.len() + 1;
        let result = result(
            self.trial.version,
            &format!("10.{number}.0.2/24"),
            &format!("10.{number}.0.1"),
        );
        spy.says(Verb::Add, Lines::document(&result))?;
        self.spies.insert(name.to_owned(), spy);
        self.spied(name)
    }

    /// A spy that is there already.
    pub fn spied(&mut self, name: &str) -> Result<&mut Spy, Stop> {
        self.spies
            .get_mut(name)
            .ok_or_else(|| fail(format!("there is no spy {name}")))
    }

    /// A NetworkAttachmentDefinition in `default` whose configuration calls this spy.
    pub fn attach(&self, name: &str, spy: &str) -> Verdict {
        self.define(
            name,
            &json!({"cniVersion": self.trial.version.as_str(), "name": name, "type": spy}),
        )
    }

    /// A NetworkAttachmentDefinition in `default` with this configuration.
    pub fn define(&self, name: &str, config: &Value) -> Verdict {
        self.define_text("default", name, &config.to_string())
    }

    /// The same in any namespace, and with a text that may be no JSON.
    pub fn define_text(&self, namespace: &str, name: &str, config: &str) -> Verdict {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"config": config},
        });
        self.cluster.put(object).map(drop).map_err(fail)
    }

    /// Three networks: spy-a, spy-b and spy-c as eth0, net1 and net2.
    pub fn three_networks(trial: &'t Trial<'t>) -> Result<Self, Stop> {
        let mut node = Self::new(trial)?;
        for letter in ["b", "c"] {
            let spy = format!("spy-{letter}");
            node.spy(&spy)?;
            node.attach(&format!("net-{letter}"), &spy)?;
        }
        node.annotate("net-b,net-c")?;
        Ok(node)
    }

    /// Sets the annotation that selects networks.
    pub fn annotate(&self, networks: &str) -> Verdict {
        self.set_annotation(NETWORKS, networks)
    }

    /// Sets any annotation of the pod.
    pub fn set_annotation(&self, key: &str, value: &str) -> Verdict {
        self.change_pod(|pod| pod["metadata"]["annotations"][key] = value.into())
    }

    /// The pod as the server has it.
    pub fn pod(&self) -> Result<Value, Stop> {
        let pod = self.cluster.get(&self.pod_path);
        pod.ok_or_else(|| fail("the pod is gone"))
    }

    /// Changes the pod behind the server's back.
    pub fn change_pod(&self, change: impl FnOnce(&mut Value)) -> Verdict {
        let mut pod = self.pod()?;
        change(&mut pod);
        self.cluster.put(pod).map(drop).map_err(fail)
    }

    /// The text of the network-status annotation; empty when there is none.
    pub fn status_text(&self) -> String {
        let pod = self.cluster.get(&self.pod_path).unwrap_or_default();
        let text = pod["metadata"]["annotations"][STATUS].as_str();
        text.unwrap_or_default().to_owned()
    }

    /// The network-status annotation, which must be JSON; null when there is none.
    pub fn status(&self) -> Result<Value, Stop> {
        match self.status_text().as_str() {
            "" => Ok(Value::Null),
            text => serde_json::from_str(text)
                .map_err(|error| fail(format!("network-status is no JSON ({error}): {text}"))),
        }
    }

    /// The messages of the events about the pod, by reason, in order.
    pub fn events(&self, reason: &str) -> Vec<String> {
        let events = self.cluster.list("/api/v1/events");
        let chosen = events.iter().filter(|event| event["reason"] == reason);
        chosen
            .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Makes the call that a runtime would make.
    pub fn ask(&self, verb: Verb) -> Result<Answer, Stop> {
        self.runtime.ask(verb)
    }

    /// ADD, which must succeed.
    pub fn add(&mut self) -> Result<Value, Stop> {
        self.runtime.add()
    }

    /// DEL, which must succeed.
    pub fn del(&self) -> Result<Answer, Stop> {
        self.runtime.del()
    }

    /// ADD, which must attach exactly these networks (`spy-b net1`), in this order, and DEL.
    pub fn attaches(&mut self, networks: &[&str]) -> Verdict {
        self.forget_calls()?;
        self.add()?;
        let calls: Vec<_> = networks.iter().map(|one| format!("ADD {one}")).collect();
        let calls: Vec<_> = calls.iter().map(String::as_str).collect();
        self.expect_calls(&calls)?;
        self.del().map(drop)
    }

    /// ADD, which must be refused with all these words before anything is done: no delegate runs, nothing is remembered, and
    /// the status says what it said.
    pub fn refuses(&self, codes: &[i64], words: &[&str]) -> Verdict {
        self.forget_calls()?;
        let before = self.status()?;
        let refusal = self.ask(Verb::Add)?.refused(codes)?;
        for word in words {
            refusal.names(word)?;
        }
        self.expect_calls(&[])?;
        self.nothing_remembered()?;
        let status = self.status()?;
        ensure!(
            status == before,
            "network-status was written for an ADD that was refused: {status}"
        );
        Ok(())
    }

    /// The file with the memory of this container.
    pub fn scratch_file(&self) -> PathBuf {
        self.cni_dir.join(&self.runtime.container)
    }

    /// The calls of all delegates so far, in order.
    pub fn journal(&self) -> Result<Vec<Witness>, Stop> {
        spy::journal(&self.bin_dir)
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) -> Verdict {
        spy::forget_journal(&self.bin_dir)
    }

    /// The calls so far as lines `ADD spy-a eth0`.
    pub fn calls(&self) -> Result<Vec<String>, Stop> {
        let line = |call: &Witness| {
            let line = format!(
                "{} {} {}",
                call.var("CNI_COMMAND"),
                call.name,
                call.var("CNI_IFNAME")
            );
            line.trim_end().to_owned()
        };
        Ok(self.journal()?.iter().map(line).collect())
    }

    /// Requires that exactly these calls were made, in this order; VERSION apart, which delegates may be asked at any time.
    pub fn expect_calls(&self, expected: &[&str]) -> Verdict {
        let calls: Vec<_> = self
            .calls()?
            .into_iter()
            .filter(|call| !call.starts_with("VERSION"))
            .collect();
        ensure!(
            calls == expected,
            "the delegates were called {calls:?}, expected {expected:?}"
        );
        Ok(())
    }

    /// The only call of this verb to this spy since the calls were last forgotten.
    pub fn only_call(&self, verb: Verb, spy: &str) -> Result<Witness, Stop> {
        let mut calls: Vec<_> = self
            .journal()?
            .into_iter()
            .filter(|call| call.is(verb) && call.name == spy)
            .collect();
        ensure!(
            calls.len() == 1,
            "{spy} was called {} times with {verb}",
            calls.len()
        );
        Ok(calls.remove(0))
    }

    /// Requires that nothing is remembered of any container: no scratch file, no cached result, nothing half written.
    pub fn nothing_remembered(&self) -> Verdict {
        let left = files_below(&self.cni_dir)?;
        ensure!(left.is_empty(), "left in cniDir: {left:?}");
        Ok(())
    }

    /// Requires that every ADD that a delegate saw was followed by a DEL with the same container and interface.
    pub fn everything_deleted(&self) -> Verdict {
        let mut open = BTreeMap::new();
        for call in self.journal()? {
            let attachment = format!(
                "{} {} {}",
                call.name,
                call.var("CNI_CONTAINERID"),
                call.var("CNI_IFNAME")
            );
            if call.is(Verb::Add) {
                *open.entry(attachment).or_insert(0) = 1;
            } else if call.is(Verb::Del) {
                open.insert(attachment, 0);
            }
        }
        open.retain(|_, left| *left > 0);
        ensure!(
            open.is_empty(),
            "added and never deleted: {:?}",
            open.keys()
        );
        Ok(())
    }
}

/// What a delegate answers to ADD: one interface in the pod, one address with its gateway, in the shape of this version.
/// `{{ifname}}` and `{{netns}}` are filled in by the spy.
pub fn result(version: Version, address: &str, gateway: &str) -> Value {
    if version < V0_3_0 {
        return json!({"cniVersion": version.as_str(), "ip4": {"ip": address, "gateway": gateway}, "dns": {}});
    }
    let mut ip = json!({"interface": 0, "address": address, "gateway": gateway});
    let mut result = json!({
        "cniVersion": version.as_str(),
        "interfaces": [{"name": "{{ifname}}", "mac": "02:00:00:00:00:01", "sandbox": "{{netns}}"}],
        "dns": {},
    });
    if version < V1_0_0 {
        ip["version"] = "4".into();
    }
    result["ips"] = json!([ip]);
    result
}

/// A result as 1.1.0 has it, written down for this version.
pub fn in_version(version: Version, mut result: Value) -> Value {
    result["cniVersion"] = version.as_str().into();
    for ip in result["ips"].as_array_mut().into_iter().flatten() {
        let is_v6 = ip["address"].as_str().is_some_and(|ip| ip.contains(':'));
        if version < V1_0_0 {
            ip["version"] = if is_v6 { "6" } else { "4" }.into();
        }
    }
    result
}

/// The files in a folder and in those below it; none where there is no such folder.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Stop> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
