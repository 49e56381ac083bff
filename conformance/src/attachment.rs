//! One pod on one network, seen from the runtime: what libcni keeps between ADD and DEL.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::cable::{self, Cable};
use crate::call::Call;
use crate::ensure;
use crate::pod::Pod;
use crate::requirement::{Stop, Verdict};
use crate::spec::{Kind, V0_4_0, Verb};
use crate::trial::Trial;

/// The folders where programs are on most machines: runtimes pass their own PATH on, and some plugins call `iptables` or `nft`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// `CNI_IFNAME`, where a case does not say another.
const IFNAME: &str = "net1";

/// What a runtime knows about one attachment. Every field may be changed before the next call.
#[derive(Debug)]
pub struct Attachment<'t> {
    trial: &'t Trial<'t>,
    /// The pod; its path is `CNI_NETNS`.
    pub pod: Pod<'t>,
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_PATH`, in order.
    pub path: Vec<PathBuf>,
    /// `CNI_ARGS`
    pub args: String,
    /// The configuration without `prevResult`, which is added where a runtime has to.
    pub config: Value,
    /// The result of the last ADD.
    pub result: Option<Value>,
    /// What earlier plugins of the list answered: prevResult of ADD.
    pub earlier: Option<Value>,
    /// What they made, for a plugin that works on it.
    pub cable: Option<Cable>,
}

impl<'t> Attachment<'t> {
    /// A pod that is not attached yet, on a network of its own.
    pub fn new(trial: &'t Trial<'t>) -> Result<Self, Stop> {
        Self::with_config(trial, trial.network(None)?)
    }

    /// Another pod on the same network.
    pub fn sibling(&self) -> Result<Self, Stop> {
        Self::with_config(self.trial, self.config.clone())
    }

    /// A pod that is not attached yet, to the network of this configuration.
    pub fn with_config(trial: &'t Trial<'t>, mut config: Value) -> Result<Self, Stop> {
        let pod = trial.pod()?;
        let (mut cable, mut earlier) = (None, None);
        if trial.plugin.profile.chained {
            earlier = Some(cable::addresses_only(trial));
        }
        if trial.kind() == Kind::Chained {
            let (laid, result) = Cable::lay(trial, &pod, IFNAME)?;
            (cable, earlier) = (Some(laid), Some(result));
            // A host port is one container's: every attachment has its own.
            let mappings = config["runtimeConfig"]["portMappings"].as_array_mut();
            for mapping in mappings.into_iter().flatten() {
                mapping["hostPort"] = (20_000 + trial.serial() % 40_000).into();
            }
        }
        let container = format!("cid-{}", trial.serial());
        Ok(Self {
            trial,
            pod,
            args: trial.announce(&container)?,
            container,
            ifname: IFNAME.into(),
            path: vec![trial.plugin.bin_dir.clone()],
            config,
            result: None,
            earlier,
            cable,
        })
    }

    /// The name of the network.
    pub fn network(&self) -> &str {
        self.config["name"].as_str().unwrap_or_default()
    }

    /// The configuration of the plugin that makes the interface: a plugin that has others do it names it first of its delegates.
    pub fn maker(&mut self) -> &mut Value {
        if self.config["delegates"][0].is_object() {
            &mut self.config["delegates"][0]
        } else {
            &mut self.config
        }
    }

    /// What is held on the API server, if the plugin has its networks there: the DanmEps of the container, and, once there
    /// are no DanmEps at all, every network whose bitmap is not as it was.
    pub(crate) fn held_on_server(&self) -> Result<Option<BTreeMap<PathBuf, Vec<u8>>>, Stop> {
        let Some(cluster) = self.trial.cluster()? else {
            return Ok(None);
        };
        let endpoints = cluster.list("/apis/danm.k8s.io/v1/danmeps");
        let own = endpoints
            .iter()
            .filter(|e| e["spec"]["CID"] == *self.container);
        let own = own.map(|endpoint| {
            let name = endpoint["metadata"]["name"].as_str().unwrap_or_default();
            (
                PathBuf::from(name),
                endpoint["spec"].to_string().into_bytes(),
            )
        });
        let mut held: BTreeMap<_, _> = own.collect();
        let networks = self.trial.plugin.profile.objects.iter();
        for network in networks.filter(|o| o["kind"] == "ClusterNetwork" && endpoints.is_empty()) {
            let name = network["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("/apis/danm.k8s.io/v1/clusternetworks/{name}");
            let alloc = |network: &Value| network["spec"]["Options"]["alloc"].to_string();
            let now = alloc(&cluster.get(&path).unwrap_or_default());
            if now != alloc(network) {
                held.insert(path.into(), now.into_bytes());
            }
        }
        Ok(Some(held))
    }

    /// The folder of this network's leases: what `{{store}}` stands for in the profile.
    pub fn store(&self) -> Result<PathBuf, Stop> {
        Ok(self
            .trial
            .stage
            .folder(&format!("stores/{}", self.network()))?)
    }

    /// The files of the store that name this container: its leases, however the plugin writes them.
    pub fn leases(&self) -> Result<Vec<PathBuf>, Stop> {
        let mut leases = Vec::new();
        let mut folders = vec![self.store()?];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if String::from_utf8_lossy(&fs::read(&path)?)
                    .lines()
                    .any(|line| line == self.container)
                {
                    leases.push(path);
                }
            }
        }
        leases.sort();
        Ok(leases)
    }

    /// Requires that the pod is as it was before the first call and that nothing is held for it.
    pub fn untouched(&self) -> Verdict {
        let now = self.pod.state()?;
        let changed = match &self.cable {
            Some(cable) => now != cable.pod,
            None => now.links.iter().any(|link| link.name != "lo"),
        };
        ensure!(
            !changed,
            "the call was refused, but the pod has changed: {:?}",
            now.links
        );
        let leases = self.leases()?;
        ensure!(
            leases.is_empty(),
            "the call was refused, but there are {leases:?}"
        );
        Ok(())
    }

    /// What a runtime would send for this verb now. GC and STATUS are about the network, and know no pod.
    pub fn call(&self, verb: Verb) -> Call {
        let path = std::env::join_paths(&self.path).unwrap_or_else(|_| OsString::new());
        let call = Call::bare(verb)
            .with("PATH", PATH)
            .with("CNI_PATH", path)
            .config(&self.config);
        let call = match verb {
            Verb::Add | Verb::Del | Verb::Check => call
                .with("CNI_CONTAINERID", &self.container)
                .with("CNI_NETNS", &self.pod.path)
                .with("CNI_IFNAME", &self.ifname)
                .with("CNI_ARGS", &self.args),
            // What libcni does with variables that have no meaning here.
            Verb::Gc | Verb::Status => call
                .with("CNI_CONTAINERID", "")
                .with("CNI_NETNS", "")
                .with("CNI_IFNAME", "")
                .with("CNI_ARGS", ""),
            Verb::Version => call,
        };
        let had_result = matches!(verb, Verb::Check | Verb::Del) && self.trial.version >= V0_4_0;
        let call = match &self.earlier {
            Some(earlier) if verb == Verb::Add => {
                call.edit(|config| config["prevResult"] = earlier.clone())
            }
            _ => call,
        };
        match &self.result {
            Some(result) if had_result => call.edit(|config| config["prevResult"] = result.clone()),
            _ => call,
        }
    }

    /// Makes the call that a runtime would make, and hands back whatever the plugin answers.
    pub fn ask(&self, verb: Verb) -> Result<Answer, Stop> {
        self.trial.run(&self.call(verb))
    }

    /// ADD, which must succeed with a result in the shape of the version; keeps it for CHECK and DEL.
    pub fn add(&mut self) -> Result<Value, Stop> {
        let call = self.call(Verb::Add);
        self.add_by(&call)
    }

    /// The same with a call of one's own.
    pub fn add_by(&mut self, call: &Call) -> Result<Value, Stop> {
        self.trial.needs_link_kind()?;
        let result = self
            .trial
            .run(call)?
            .result(self.trial.version, self.trial.kind())?;
        self.result = Some(result.clone());
        Ok(result)
    }

    /// DEL, which must succeed.
    pub fn del(&self) -> Result<Answer, Stop> {
        let answer = self.ask(Verb::Del)?;
        answer.success()?;
        Ok(answer)
    }

    /// CHECK, which must succeed.
    pub fn check(&self) -> Result<Answer, Stop> {
        let answer = self.ask(Verb::Check)?;
        answer.success()?;
        Ok(answer)
    }

    /// One element of the lists that GC is told.
    pub fn as_valid(&self) -> Value {
        json!({ "containerID": self.container, "ifname": self.ifname })
    }

    /// The call of GC for this network, which still knows the attachments of `valid`. Both spellings of the key are sent,
    /// as libcni does: the text of 1.1.0 says `cni.dev/attachments`, every implementation `cni.dev/valid-attachments`.
    pub fn gc(&self, valid: &[&Self]) -> Call {
        let valid: Value = valid
            .iter()
            .map(|attachment| attachment.as_valid())
            .collect();
        self.call(Verb::Gc).edit(|config| {
            config["cni.dev/valid-attachments"] = valid.clone();
            config["cni.dev/attachments"] = valid;
        })
    }
}
