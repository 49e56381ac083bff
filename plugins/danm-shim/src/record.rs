//! What this node has made for a container, so that DEL needs nobody to tell it.
//!
//! One document for each attachment of a runtime, `<state>/containers/<network>/<container id>:<interface>.json`,
//! written before each step that it tells of.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use cni::{Error, Network};
use invoke::Parameters;
use k8s::DanmScope;
use serde::{Deserialize, Serialize};

use crate::cluster::NetworkRef;
use crate::conf::{self, Settings};
use crate::files::{self, Lock};
use crate::ipam::Addresses;

/// How long a request may be on its way: longer than API servers work on one.
const ON_ITS_WAY: Duration = Duration::from_secs(120);

/// One container's attachment: all interfaces of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) container_id: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
    pub(crate) netns: String,
    /// `CNI_ARGS`, for delegates.
    pub(crate) args: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
    pub(crate) interfaces: Vec<Part>,
    /// What may still come of earlier calls.
    pub(crate) strays: Vec<Stray>,
    /// The ADD has come to its end.
    pub(crate) is_complete: bool,
    /// A DEL has come, and what is left waits for the API server.
    pub(crate) is_left: bool,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Part {
    /// Name of the DanmEp.
    pub(crate) endpoint: String,
    /// `apiType`, namespace and name of the network.
    api_type: String,
    network_namespace: String,
    network: String,
    /// Name in the pod; empty until it is made.
    pub(crate) ifname: String,
    /// The delegate's configuration; empty for an interface that this plugin makes itself.
    pub(crate) config: String,
    /// The file of the delegate, where that is not the configuration's `type`.
    pub(crate) program: String,
    /// What kind of link it is, as the kernel names it; `None`: the kernel has none, or the ADD has not come to its end.
    pub(crate) link_kind: Option<String>,
    /// The link in the pod that stands for a device of a program; empty if there is none.
    pub(crate) stand_in: String,
    /// How far its DanmEp is.
    pub(crate) stage: Stage,
    /// When the request for it was sent, in seconds since 1970.
    pub(crate) requested: u64,
    pub(crate) ip: String,
    pub(crate) ip6: String,
}

/// A DanmEp that was asked for by an ADD which was cut off, and that was not there at its DEL. It may come yet, without
/// addresses that anybody holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stray {
    pub(crate) namespace: String,
    pub(crate) endpoint: String,
    /// When it was asked for, in seconds since 1970.
    requested: u64,
}

/// How far the DanmEp of an interface is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stage {
    /// It has not been asked for.
    #[default]
    Planned,
    /// The request has been sent. It may still be on its way.
    Requested,
    /// It has been made. When it is gone, whoever deleted it has given its addresses back.
    Made,
    /// We may have deleted it ourselves.
    Deleting,
    /// It is gone.
    Deleted,
}

impl Record {
    /// Whether it tells of nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.strays.is_empty()
    }

    /// What a delegate is told of its interface in a later verb.
    pub(crate) fn parameters(&self, ifname: &str, settings: &Settings) -> Parameters {
        Parameters {
            container_id: self.container_id.clone(),
            netns: self.netns.clone(),
            ifname: ifname.to_owned(),
            args: conf::pairs(&self.args),
            capability_args: settings.capability_args.clone(),
        }
    }

    /// Names of all its DanmEps.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &String> {
        let parts = self.interfaces.iter().map(|part| &part.endpoint);
        parts.chain(self.strays.iter().map(|stray| &stray.endpoint))
    }
}

impl Stray {
    pub(crate) fn new(namespace: &str, part: &Part) -> Stray {
        Stray {
            namespace: namespace.to_owned(),
            endpoint: part.endpoint.clone(),
            requested: part.requested,
        }
    }

    /// Whether it can still come. Not if the clock was set back.
    pub(crate) fn is_young(&self) -> bool {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        let age = now.checked_sub(Duration::from_secs(self.requested));
        age.is_some_and(|age| age < ON_ITS_WAY)
    }
}

impl Part {
    pub(crate) fn new(endpoint: String, network: NetworkRef) -> Part {
        Part {
            endpoint,
            api_type: network.scope.as_str().into(),
            network_namespace: network.namespace,
            network: network.name,
            ..Part::default()
        }
    }

    pub(crate) fn network(&self) -> NetworkRef {
        NetworkRef {
            scope: DanmScope::parse(&self.api_type).unwrap_or(DanmScope::DanmNet),
            namespace: self.network_namespace.clone(),
            name: self.network.clone(),
        }
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            ip: self.ip.clone(),
            ip6: self.ip6.clone(),
        }
    }

    /// The delegate's network; `None` for an interface that this plugin makes itself.
    pub(crate) fn delegate(&self) -> Result<Option<Network>, Error> {
        if self.config.is_empty() {
            return Ok(None);
        }
        let mut network = Network::parse(self.config.as_bytes())?;
        if let ([only], false) = (network.plugins.as_mut_slice(), self.program.is_empty()) {
            only.kind.clone_from(&self.program);
        }
        Ok(Some(network))
    }
}

/// Whether the record at `path` says that a DanmEp has been made. What can't be read says nothing.
pub(crate) fn is_made(path: &Path, endpoint: &str) -> bool {
    let record: Option<Record> = files::read(path).ok().flatten();
    let parts = record.map(|record| record.interfaces).unwrap_or_default();
    let mut parts = parts.iter().filter(|part| part.endpoint == endpoint);
    parts.any(|part| !matches!(part.stage, Stage::Planned | Stage::Requested))
}

/// The documents of this node.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: PathBuf,
}

/// A document, locked: no other process works for this container.
#[derive(Debug)]
pub(crate) struct Open {
    record: Mutex<Record>,
    /// The roll-back leaves what it tells of alone.
    is_abandoned: AtomicBool,
    path: PathBuf,
    lock: Lock,
}

impl Records {
    /// Those below the folder of this node's state.
    pub(crate) fn new(state_dir: &Path) -> Records {
        Records {
            folder: state_dir.join("containers"),
        }
    }

    /// Opens the document of an attachment, which may be empty. The lock is waited for.
    pub(crate) fn open(&self, network: &str, container: &str, ifname: &str) -> Result<Open, Error> {
        let folder = self.folder.join(network);
        files::make_folder(&folder)?;
        Records::open_at(folder.join(format!("{container}:{ifname}.json")))
    }

    /// Opens a document by its path, as [`Records::all`] gives it.
    pub(crate) fn open_at(path: PathBuf) -> Result<Open, Error> {
        let lock = Lock::acquire(&path.with_extension("lock"))?;
        let record = files::read(&path)?.unwrap_or_default();
        Ok(Open {
            record: Mutex::new(record),
            is_abandoned: AtomicBool::new(false),
            path,
            lock,
        })
    }

    /// Reads the document of an attachment without its lock.
    pub(crate) fn find(
        &self,
        network: &str,
        container: &str,
        ifname: &str,
    ) -> Result<Option<Record>, Error> {
        files::read(
            &self
                .folder
                .join(network)
                .join(format!("{container}:{ifname}.json")),
        )
    }

    /// The documents of one network.
    pub(crate) fn of(&self, network: &str) -> Result<Vec<PathBuf>, Error> {
        files::list(&self.folder.join(network), "json")
    }

    /// The documents of all networks, without their locks: they may change at any time.
    pub(crate) fn all(&self) -> Result<Vec<(PathBuf, Record)>, Error> {
        let mut all = Vec::new();
        for folder in files::folders(&self.folder)? {
            for path in files::list(&folder, "json")? {
                if let Some(record) = files::read(&path)? {
                    all.push((path, record));
                }
            }
        }
        Ok(all)
    }
}

impl Open {
    /// The document as it is.
    pub(crate) fn get(&self) -> Record {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the document, in memory and on disk.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        files::write(&self.path, &*record)
    }

    /// Changes what it says of one interface.
    pub(crate) fn part(&self, endpoint: &str, change: impl FnOnce(&mut Part)) -> Result<(), Error> {
        self.change(|record| {
            let mut parts = record.interfaces.iter_mut();
            if let Some(part) = parts.find(|part| part.endpoint == endpoint) {
                change(part);
            }
        })
    }

    /// Says that this call has no part in what the document tells of.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// Whether [`Open::abandon`] was called.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }

    /// Removes the document and ends the lock.
    pub(crate) fn remove(self) -> Result<(), Error> {
        files::remove(&self.path)?;
        self.lock.remove()
    }
}
