//! One case put to one plugin at one version: the calls it makes are recorded here, and everything it needs begins here.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::answer::{Answer, Exchange, Refusal};
use crate::attachment::Attachment;
use crate::call::Call;
use crate::cluster::Cluster;
use crate::pod::Pod;
use crate::process;
use crate::profile::Profile;
use crate::requirement::{Stop, fail, skip};
use crate::spec::{Kind, V1_0_0, Version, code};
use crate::stage::Stage;

/// A plugin under test.
#[derive(Debug)]
pub struct Plugin {
    /// What is known about it beforehand.
    pub profile: Profile,
    /// Its file.
    pub file: PathBuf,
    /// The folder it lies in, for `CNI_PATH`.
    pub bin_dir: PathBuf,
    /// What it answers to VERSION, as texts; `None` when that answer is no use.
    pub claims: Option<Vec<String>>,
}

impl Plugin {
    /// Whether it says that it speaks `version`. One that says nothing readable is taken to mean all.
    pub fn claims(&self, version: Version) -> bool {
        self.claims
            .as_ref()
            .is_none_or(|claims| claims.iter().any(|claim| claim == version.as_str()))
    }
}

/// What a case works with.
#[derive(Debug)]
pub struct Trial<'run> {
    /// Where everything happens.
    pub stage: &'run Stage,
    /// Who is asked.
    pub plugin: &'run Plugin,
    /// The version of the specification that is asked for.
    pub version: Version,
    cluster: OnceLock<Cluster>,
    exchanges: Mutex<Vec<Arc<Exchange>>>,
    notes: Mutex<Vec<String>>,
}

impl<'run> Trial<'run> {
    /// A trial in which nothing has happened yet.
    pub fn new(stage: &'run Stage, plugin: &'run Plugin, version: Version) -> Self {
        Self {
            stage,
            plugin,
            version,
            cluster: OnceLock::new(),
            exchanges: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// The kind of the plugin.
    pub fn kind(&self) -> Kind {
        self.plugin.profile.kind
    }

    /// A number that no other call of this run gets, for names.
    pub fn serial(&self) -> u32 {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        SERIAL.fetch_add(1, Ordering::Relaxed)
    }

    /// A fresh pod.
    pub fn pod(&self) -> Result<Pod<'run>, Stop> {
        Ok(Pod::new(self.stage)?)
    }

    /// A fresh pod, container id, interface name and network, with a store of its own: everything an ADD needs.
    pub fn attachment(&self) -> Result<Attachment<'_>, Stop> {
        Attachment::new(self)
    }

    /// The same on a network of this variant of the profile; skips the case where the profile has none.
    pub fn attachment_to(&self, variant: &str) -> Result<Attachment<'_>, Stop> {
        Attachment::with_config(self, self.network(Some(variant))?)
    }

    /// The configuration of a new network, as a runtime would send it.
    pub fn network(&self, variant: Option<&str>) -> Result<Value, Stop> {
        let name = format!("net{}", self.serial());
        let store = self.stage.folder(&format!("stores/{name}"))?;
        let profile = &self.plugin.profile;
        let bin = &self.plugin.bin_dir;
        let Some(mut config) = profile.config(variant, &name, &store, bin, self.version) else {
            let variant = variant.unwrap_or_default();
            return Err(skip(format!(
                "the profile of {} has no variant `{variant}`",
                profile.name
            )));
        };
        config["name"] = name.as_str().into();
        config["cniVersion"] = self.version.as_str().into();
        if let Some(cluster) = self.cluster()? {
            // Beside the store, which cases take away.
            let kubeconfig = self.stage.folder("access")?.join(&name);
            cluster
                .write_kubeconfig(&kubeconfig, &cluster.token_user())
                .map_err(fail)?;
            config["kubeconfig"] = json!(kubeconfig);
        }
        Ok(config)
    }

    /// Puts the pod of a container on the API server, if the plugin needs one, and returns the `CNI_ARGS` that name it.
    pub fn announce(&self, container: &str) -> Result<String, Stop> {
        let Some(cluster) = self.cluster()? else {
            return Ok(String::new());
        };
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": container}, "spec": {}});
        cluster.put(pod).map_err(fail)?;
        Ok(format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_INFRA_CONTAINER_ID={container}"
        ))
    }

    /// Skips the case where what it would change of a network is on an API server.
    pub fn needs_networks_in_config(&self) -> Result<(), Stop> {
        match self.plugin.profile.objects.is_empty() {
            true => Ok(()),
            false => Err(skip(
                "the networks of this plugin are on an API server, and not in its configuration",
            )),
        }
    }

    /// The API server with the objects of the profile; `None` where the plugin needs none.
    pub(crate) fn cluster(&self) -> Result<Option<&Cluster>, Stop> {
        let objects = &self.plugin.profile.objects;
        if objects.is_empty() || self.cluster.get().is_some() {
            return Ok(self.cluster.get());
        }
        let cluster = self.stage.cluster().map_err(fail)?;
        for object in objects {
            cluster.put(object.clone()).map_err(fail)?;
        }
        Ok(Some(self.cluster.get_or_init(|| cluster)))
    }

    /// Skips the case where the kernel lacks what the plugin makes; for cases that can't go through `Attachment::add`.
    pub fn needs_link_kind(&self) -> Result<(), Stop> {
        self.plugin
            .profile
            .link_kind
            .as_ref()
            .map_or(Ok(()), |kind| self.stage.has_link_kind(kind).map_err(skip))
    }

    /// Calls the plugin and checks what must hold for every answer.
    pub fn run(&self, call: &Call) -> Result<Answer, Stop> {
        Answer::judged(&self.run_unjudged(call)?)
    }

    /// Makes a call that must be refused with one of these codes. The texts before 1.0.0 don't have codes 4 to 7, so there a
    /// code of the plugin's own will do as well.
    pub fn refused(&self, call: &Call, codes: &[i64]) -> Result<Refusal, Stop> {
        // An empty list stands for any code already.
        let own = (self.version < V1_0_0 && !codes.is_empty()).then_some(code::OWN);
        let codes: Vec<_> = codes.iter().copied().chain(own).collect();
        self.run(call)?.refused(&codes)
    }

    /// Calls the plugin and looks at nothing; for cases about the answers that are no answers.
    pub fn run_unjudged(&self, call: &Call) -> Result<Arc<Exchange>, Stop> {
        let invocation = call.invocation(&self.plugin.file);
        let outcome = process::run(&invocation)?;
        Ok(self.record(Exchange {
            call: invocation,
            outcome,
        }))
    }

    /// Starts the plugin and goes on beside it; hand the end of it to [`Trial::record`].
    pub fn start(&self, call: &Call) -> Result<(process::Invocation, process::Running), Stop> {
        let invocation = call.invocation(&self.plugin.file);
        let running = process::start(&invocation)?;
        Ok((invocation, running))
    }

    /// Keeps a call for the report.
    pub fn record(&self, exchange: Exchange) -> Arc<Exchange> {
        let exchange = Arc::new(exchange);
        locked(&self.exchanges).push(Arc::clone(&exchange));
        exchange
    }

    /// Writes down what was seen, without judging.
    pub fn note(&self, text: impl Into<String>) {
        locked(&self.notes).push(text.into());
    }

    /// The calls so far, and the notes.
    pub fn into_records(self) -> (Vec<Arc<Exchange>>, Vec<String>) {
        (
            self.exchanges
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            self.notes
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// Trouble of the stage itself: told like a failure, because what it was to show was not shown.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        fail(format!("the harness could not go on: {error}"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
