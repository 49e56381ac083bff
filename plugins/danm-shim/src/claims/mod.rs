//! The addresses that this node holds: taken from a network's bitmap and given back to it, each exactly once.
//!
//! A bit in the object says that an address is taken, not by whom. So this node keeps account of what it holds, one
//! document for each network, under a lock that also keeps its processes from racing each other. What is about to
//! be done is written down before the request is sent, and the request leaves a mark in an annotation of the
//! object, together with the change of the bitmap: whether a request was carried out whose sender was killed, or
//! whose answer was lost, can be told from the mark. A request holds for one version of the object only. As long as
//! the object still has that version, the request may be on its way and stays written down; of several such requests
//! the server carries out one at most. Once the version is another, what has left no mark never will.

pub(crate) mod mark;
mod operations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::slice;
use std::time::{SystemTime, UNIX_EPOCH};

use cni::Error;
use k8s::{DanmNetwork, DanmScope};
use kernel::sysctl;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, NetworkRef, Patched};
use crate::files::{self, Lock};
use crate::ipam::{self, Addresses, Changes};
use crate::record;
use crate::tries::Tries;
use mark::Mark;
use operations::operations;

/// What this node keeps account of, for one network.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ledger {
    /// Names the annotation for this node's marks.
    mark: String,
    /// By endpoint.
    held: BTreeMap<String, Held>,
    /// Changes that were about to be made, and whose end nobody has seen.
    pending: Vec<Pending>,
    /// When this node has learned of a change of its own for the last time, in microseconds since 1970.
    changed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Held {
    ip: String,
    ip6: String,
    /// The record that tells whether its DanmEp has been made; `None`: it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<PathBuf>,
}

impl Held {
    fn addresses(&self) -> Addresses {
        Addresses {
            ip: self.ip.clone(),
            ip6: self.ip6.clone(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    /// Names it in the mark that it leaves. Empty: it takes this node's mark away.
    id: String,
    /// The only version of the object that it can be made in.
    version: String,
    endpoint: String,
    /// What the endpoint holds when it has been carried out; `None` is nothing any more.
    then: Option<Held>,
}

/// Whom addresses are taken for.
pub(crate) struct Claimant<'a> {
    /// Name of the DanmEp that will have them.
    pub(crate) endpoint: &'a str,
    /// The record that says how far it is.
    pub(crate) record: &'a Path,
}

/// A network as it was read for another purpose.
pub(crate) struct Planned<'a> {
    pub(crate) object: &'a DanmNetwork,
    /// When the request for it was sent.
    pub(crate) at: SystemTime,
}

/// The account books of this node.
#[derive(Debug)]
pub(crate) struct Claims {
    folder: PathBuf,
}

/// One network's book, locked.
struct Book<'a> {
    cluster: &'a Cluster,
    network: &'a NetworkRef,
    path: PathBuf,
    ledger: Ledger,
    /// This node's mark in the object as it was read last.
    mark: Option<Mark>,
    /// A change that was refused, and the version it was for: somebody else's change is the reason, or the change itself.
    refused: Option<(String, k8s::Error)>,
    _lock: Lock,
}

impl Claims {
    /// Those below the folder of this node's state.
    pub(crate) fn new(state_dir: &Path) -> Claims {
        Claims {
            folder: state_dir.join("networks"),
        }
    }

    /// Takes addresses for an endpoint, which has none yet: those that `wanted` names, or what it says in other words.
    /// The first try is made with the object as it was `planned` with, unless this node has changed it since.
    pub(crate) fn take(
        &self,
        cluster: &Cluster,
        network: &NetworkRef,
        claimant: &Claimant,
        wanted: &Addresses,
        planned: &Planned,
    ) -> Result<Addresses, Error> {
        let mut book = self.open(cluster, network)?;
        let mut planned = book.is_as_planned(planned).then(|| planned.object.clone());
        let mut tries = Tries::default();
        loop {
            let is_planned = planned.is_some();
            let mut object = match planned.take() {
                Some(object) => object,
                None => book.read(tries.are_more())?.ok_or_else(|| {
                    Error::plugin(format!("network {} has been deleted", network.name))
                })?,
            };
            // An earlier try has come through in the meantime.
            if let Some(held) = book.ledger.held.get(claimant.endpoint) {
                return Ok(held.addresses());
            }
            let name = &network.name;
            let (got, changes) = match ipam::reserve(&mut object.spec.options, wanted) {
                Ok(reserved) => reserved,
                // Somebody may have given an address back since.
                Err(_) if is_planned => continue,
                Err(e) => {
                    return Err(Error::plugin(format!(
                        "IP address reservation failed for network:{name} with error:failed to allocate IP \
                         address for network:{name} with error:{e}"
                    )));
                }
            };
            let held = Held {
                ip: got.ip.clone(),
                ip6: got.ip6.clone(),
                record: Some(claimant.record.to_owned()),
            };
            if changes.is_empty() || book.change(&object, claimant.endpoint, Some(held), changes)? {
                return Ok(got);
            }
            tries.pause(&network.name)?;
        }
    }

    /// Gives back what an endpoint holds. `known` are addresses of an endpoint that is not in the books: they were
    /// taken by another plugin, or the books were lost.
    pub(crate) fn give(
        &self,
        cluster: &Cluster,
        network: &NetworkRef,
        endpoint: &str,
        known: Option<&Addresses>,
    ) -> Result<(), Error> {
        if known.is_none() && !self.path(network).exists() {
            return Ok(());
        }
        let mut book = self.open(cluster, network)?;
        let mut tries = Tries::default();
        loop {
            let is_held = book.ledger.held.contains_key(endpoint);
            if known.is_none() && !is_held && !book.is_pending(endpoint) {
                return Ok(());
            }
            let Some(mut object) = book.read(tries.are_more())? else {
                // With the network, its bitmap is gone.
                return book.forget(endpoint);
            };
            let held = book.ledger.held.get(endpoint).map(Held::addresses);
            let changes = match held.as_ref().or(known) {
                Some(addresses) => {
                    ipam::release(&mut object.spec.options, slice::from_ref(addresses))
                }
                None => Changes::default(),
            };
            // What may still be on its way is too late as soon as the object has another version.
            if changes.is_empty() && !book.is_pending(endpoint) {
                return book.forget(endpoint);
            }
            if book.change(&object, endpoint, None, changes)? {
                return Ok(());
            }
            tries.pause(&network.name)?;
        }
    }

    /// Strikes an endpoint out of the books: somebody else has given its addresses back.
    pub(crate) fn forget(
        &self,
        cluster: &Cluster,
        network: &NetworkRef,
        endpoint: &str,
    ) -> Result<(), Error> {
        if !self.path(network).exists() {
            return Ok(());
        }
        let mut book = self.open(cluster, network)?;
        book.forget(endpoint)
    }

    /// Gives back addresses of marks that this node has left in a network before it lost its books. `host` is its name
    /// in marks. An address that a DanmEp has, or that another node has taken by now, is not among them.
    pub(crate) fn give_lost(
        &self,
        cluster: &Cluster,
        network: &NetworkRef,
        host: &str,
    ) -> Result<(), Error> {
        let mut book = self.open(cluster, network)?;
        let mut tries = Tries::default();
        loop {
            let Some(mut object) = book.read(tries.are_more())? else {
                return Ok(());
            };
            let (lost, others): (Vec<_>, Vec<_>) = mark::all(&object.metadata.annotations)
                .filter(|(name, _)| *name != book.ledger.mark)
                .partition(|(_, mark)| mark.is_left_by(host));
            if lost.is_empty() {
                return Ok(());
            }
            // Later than the object: whose address is in the bitmap by then, and in no mark, has its DanmEp.
            let mut used = cluster
                .addresses_of(network)
                .map_err(|e| Error::plugin(e.to_string()))?;
            used.extend(book.ledger.held.values().map(Held::addresses));
            used.extend(others.iter().flat_map(|(_, mark)| mark.addresses()));
            let used: Vec<_> = used.iter().flat_map(mark::open).collect();
            let free: Vec<_> = lost
                .iter()
                .flat_map(|(_, mark)| mark.addresses())
                .filter(|addresses| mark::open(addresses).all(|ip| !used.contains(&ip)))
                .collect();
            log::warn!(
                "network {}: what this node took before it lost its state is given back: {free:?}",
                network.name
            );
            let marks: Vec<_> = lost
                .iter()
                .map(|(name, _)| (mark::annotation(name), None))
                .collect();
            let changes = ipam::release(&mut object.spec.options, &free);
            // That the marks are gone tells whether it was done; the next GC would find them.
            match cluster.patch_network(network, &operations(&object, &marks, changes)) {
                Patched::Done => return Ok(()),
                Patched::Refused(e) => return Err(update_failed(&e)),
                Patched::Unknown(e) => log::warn!("{e}; looking whether it was carried out"),
                Patched::Conflict(e) => {
                    book.refused = Some((object.metadata.resource_version.clone(), e));
                }
            }
            tries.pause(&network.name)?;
        }
    }

    /// The name of this node's marks in a network; `None` if it has left none there that it knows of.
    pub(crate) fn mark(&self, network: &NetworkRef) -> Result<Option<String>, Error> {
        let ledger: Option<Ledger> = files::read(&self.path(network))?;
        Ok(ledger.map(|ledger| ledger.mark))
    }

    /// Whether the books say that an endpoint has addresses of the bitmap.
    pub(crate) fn is_held(&self, network: &NetworkRef, endpoint: &str) -> Result<bool, Error> {
        let ledger: Option<Ledger> = files::read(&self.path(network))?;
        Ok(ledger.is_some_and(|ledger| ledger.held.contains_key(endpoint)))
    }

    /// The endpoints in the books, with their networks.
    pub(crate) fn all(&self) -> Result<Vec<(NetworkRef, String)>, Error> {
        let mut all = Vec::new();
        for path in files::list(&self.folder, "json")? {
            let Some(network) = network_of(&path) else {
                continue;
            };
            let Ledger { held, pending, .. } = files::read(&path)?.unwrap_or_default();
            let endpoints = held
                .into_keys()
                .chain(pending.into_iter().map(|p| p.endpoint));
            all.extend(endpoints.map(|endpoint| (network.clone(), endpoint)));
        }
        Ok(all)
    }

    fn open<'a>(&self, cluster: &'a Cluster, network: &'a NetworkRef) -> Result<Book<'a>, Error> {
        files::make_folder(&self.folder)?;
        let path = self.path(network);
        let lock = Lock::acquire(&path.with_extension("lock"))?;
        let mut ledger: Ledger = files::read(&path)?.unwrap_or_default();
        if ledger.mark.is_empty() {
            ledger.mark = short(&files::uuid()?);
        }
        Ok(Book {
            cluster,
            network,
            path,
            ledger,
            mark: None,
            refused: None,
            _lock: lock,
        })
    }

    /// Names of objects have no `:`.
    fn path(&self, network: &NetworkRef) -> PathBuf {
        let NetworkRef {
            scope,
            namespace,
            name,
        } = network;
        self.folder
            .join(format!("{}:{namespace}:{name}:.json", scope.as_str()))
    }
}

impl Book<'_> {
    /// Reads the network, and finds out what has become of changes whose end nobody has seen. `None`: it is not there.
    fn read(&mut self, is_again: bool) -> Result<Option<DanmNetwork>, Error> {
        let object = match self.cluster.network(self.network) {
            Ok(object) => object,
            Err(e) if e.is_absent() => return Ok(None),
            Err(e) if is_again => {
                let why = "After IP address reservation conflict, network cannot be read again!";
                return Err(Error::plugin(format!("{why}: {e}")));
            }
            Err(e) => return Err(Error::plugin(e.to_string())),
        };
        let version = &object.metadata.resource_version;
        if let Some((of, why)) = self.refused.take_if(|(of, _)| of == version) {
            log::debug!("network {} has version {of} still", self.network.name);
            return Err(update_failed(&why));
        }
        let own = mark::annotation(&self.ledger.mark);
        let text = object.metadata.annotations.get(&own);
        self.mark = text.and_then(|text| text.parse().ok());
        if !self.ledger.pending.is_empty() {
            let mut pending = self.ledger.pending.iter();
            if let Some(place) = pending.position(|pending| self.is_done(pending)) {
                let done = self.ledger.pending.remove(place);
                self.settle(done);
            }
            self.ledger
                .pending
                .retain(|pending| pending.version == *version);
            self.save()?;
        }
        Ok(Some(object))
    }

    /// Whether the object as it was planned with may be what the server has: this node has not changed it since, and
    /// nothing of its own is on its way.
    fn is_as_planned(&self, planned: &Planned) -> bool {
        self.ledger.pending.is_empty() && self.ledger.changed < micros(planned.at)
    }

    /// Whether the object that was read last shows a change.
    fn is_done(&self, pending: &Pending) -> bool {
        match &self.mark {
            Some(mark) => mark.change == pending.id,
            // It is taken away only where it was.
            None => pending.id.is_empty(),
        }
    }

    /// Whether a change for an endpoint may still be on its way.
    fn is_pending(&self, endpoint: &str) -> bool {
        let mut all = self.ledger.pending.iter();
        all.any(|pending| pending.endpoint == endpoint)
    }

    /// Makes a change of the bitmap. False: somebody else was faster, or it is not known yet who was.
    fn change(
        &mut self,
        object: &DanmNetwork,
        endpoint: &str,
        then: Option<Held>,
        changes: Changes,
    ) -> Result<bool, Error> {
        let mark = self.next_mark(endpoint, then.as_ref())?;
        let annotation = mark::annotation(&self.ledger.mark);
        let text = mark.as_ref().map(Mark::to_string);
        let operations = operations(object, &[(annotation, text)], changes);
        let pending = Pending {
            id: mark.map(|mark| mark.change).unwrap_or_default(),
            version: object.metadata.resource_version.clone(),
            endpoint: endpoint.to_owned(),
            then,
        };
        self.ledger.pending.push(pending.clone());
        self.save()?;
        match self.cluster.patch_network(self.network, &operations) {
            Patched::Done => {
                // All others were for the version that this one has replaced.
                self.ledger.pending.clear();
                self.settle(pending);
                self.save()?;
                Ok(true)
            }
            Patched::Unknown(e) => {
                log::warn!("{e}; looking whether it was carried out");
                self.read(true)?;
                Ok(self.is_done(&pending))
            }
            Patched::Conflict(e) => {
                self.ledger.pending.pop();
                self.save()?;
                self.refused = Some((pending.version, e));
                Ok(false)
            }
            Patched::Refused(e) => {
                self.ledger.pending.pop();
                self.save()?;
                Err(update_failed(&e))
            }
        }
    }

    /// The mark that goes with a change. `None`: this node holds nothing any more, and its mark goes.
    fn next_mark(&mut self, endpoint: &str, then: Option<&Held>) -> Result<Option<Mark>, Error> {
        let held = &mut self.ledger.held;
        let is_last = held.keys().all(|other| other == endpoint) && then.is_none();
        if is_last && self.mark.is_some() {
            return Ok(None);
        }
        let mut open = Vec::new();
        for (name, held) in held.iter_mut() {
            held.record.take_if(|path| record::is_made(path, name));
            if name != endpoint && held.record.is_some() {
                open.extend(mark::open(&held.addresses()));
            }
        }
        open.extend(then.map(Held::addresses).iter().flat_map(mark::open));
        Ok(Some(Mark {
            change: short(&files::uuid()?),
            at: UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
            host: sysctl::read("kernel/hostname")?,
            open,
        }))
    }

    fn settle(&mut self, done: Pending) {
        self.ledger.changed = micros(SystemTime::now());
        match done.then {
            Some(held) => self.ledger.held.insert(done.endpoint, held),
            None => self.ledger.held.remove(&done.endpoint),
        };
    }

    /// What has become of other endpoints' changes is still to be found out.
    fn forget(&mut self, endpoint: &str) -> Result<(), Error> {
        self.ledger.held.remove(endpoint);
        self.ledger
            .pending
            .retain(|pending| pending.endpoint != endpoint);
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        files::write(&self.path, &self.ledger)
    }
}

/// The network of a book, by the name that [`Claims::path`] gives it.
fn network_of(path: &Path) -> Option<NetworkRef> {
    let name = path.file_name()?.to_str()?;
    let [scope, namespace, name, _] = name.split(':').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some(NetworkRef {
        scope: DanmScope::parse(scope)?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn update_failed(why: &k8s::Error) -> Error {
    Error::plugin(format!("DanmNet update failed with error:{why}"))
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The first group of a UUID: enough to tell the changes of one node apart.
fn short(uuid: &str) -> String {
    uuid.split('-').next().unwrap_or_default().to_owned()
}
