//! The addresses that this node holds: taken from a network's bitmap and given back to it, each exactly once.
//!
//! A bit in the object says that an address is taken, not by whom. So this node keeps account of what it holds, one
//! document for each network, under a lock that also keeps its processes from racing each other. What is about to
//! be done is written down before the request is sent, and the request leaves a mark in an annotation of the
//! object, together with the change of the bitmap: whether a request was carried out whose sender was killed, or
//! whose answer was lost, can be told from the mark. A request holds for one version of the object only. As long as
//! the object still has that version, the request may be on its way and stays written down; of several such requests
//! the server carries out one at most. Once the version is another, what has left no mark never will.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cni::Error;
use k8s::{DanmNetwork, DanmPool, DanmScope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NetworkRef, Patched};
use crate::files::{self, Lock};
use crate::ipam::{self, Addresses, Changes};
use crate::tries::Tries;

/// The domain of the annotations that marks are in.
const MARKS: &str = "danm-shim";

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
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Held {
    ip: String,
    ip6: String,
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
    /// The mark that it leaves.
    id: String,
    /// The only version of the object that it can be made in.
    version: String,
    endpoint: String,
    /// What the endpoint holds when it has been carried out; `None` is nothing any more.
    then: Option<Held>,
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
    mark: Option<String>,
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
    pub(crate) fn take(
        &self,
        cluster: &Cluster,
        network: &NetworkRef,
        endpoint: &str,
        wanted: &Addresses,
    ) -> Result<Addresses, Error> {
        let mut book = self.open(cluster, network)?;
        let mut tries = Tries::default();
        loop {
            let mut object = book.read(tries.are_more())?.ok_or_else(|| {
                Error::plugin(format!("network {} has been deleted", network.name))
            })?;
            // An earlier try has come through in the meantime.
            if let Some(held) = book.ledger.held.get(endpoint) {
                return Ok(held.addresses());
            }
            let name = &network.name;
            let (got, changes) = ipam::reserve(&mut object.spec.options, wanted).map_err(|e| {
                Error::plugin(format!(
                    "IP address reservation failed for network:{name} with error:failed to allocate IP \
                     address for network:{name} with error:{e}"
                ))
            })?;
            let held = Held {
                ip: got.ip.clone(),
                ip6: got.ip6.clone(),
            };
            if changes.is_empty() || book.change(&object, endpoint, Some(held), changes)? {
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
                Some(addresses) => ipam::release(&mut object.spec.options, addresses),
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
        self.mark = object.metadata.annotations.get(&self.annotation()).cloned();
        if !self.ledger.pending.is_empty() {
            let mark = self.mark.as_deref();
            let is_done = |pending: &Pending| mark == Some(&pending.id);
            if let Some(place) = self.ledger.pending.iter().position(is_done) {
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
        let id = short(&files::uuid()?);
        let operations = self.operations(object, &id, changes);
        let pending = Pending {
            id,
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
                Ok(self.mark == Some(pending.id))
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

    /// One test and what is to be: all of it or nothing.
    fn operations(&self, object: &DanmNetwork, id: &str, changes: Changes) -> Vec<Value> {
        let meta = &object.metadata;
        let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        let version = &meta.resource_version;
        let mut all =
            vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        if meta.annotations.is_empty() {
            all.push(add("/metadata/annotations", json!({})));
        }
        let annotation = self.annotation().replace('/', "~1");
        all.push(add(
            &format!("/metadata/annotations/{annotation}"),
            json!(id),
        ));
        let options = &object.spec.options;
        for (key, alloc) in [("alloc", changes.alloc), ("alloc6", changes.alloc6)] {
            all.extend(
                alloc.map(|alloc| add(&format!("/spec/Options/{key}"), Value::String(alloc))),
            );
        }
        for (key, is_there, is_v6, pool) in [
            (
                "allocation_pool",
                options.allocation_pool.is_some(),
                false,
                changes.pool,
            ),
            (
                "allocation_pool_v6",
                options.allocation_pool_v6.is_some(),
                true,
                changes.pool6,
            ),
        ] {
            let Some(pool) = pool else { continue };
            let path = format!("/spec/Options/{key}");
            if !is_there {
                all.push(add(&path, json!({})));
            }
            let DanmPool {
                start,
                end,
                last_ip,
                cidr,
            } = pool;
            let mut members = vec![("start", start), ("end", end), ("lastIp", last_ip)];
            if is_v6 {
                members.push(("cidr", cidr));
            }
            all.extend(
                members
                    .into_iter()
                    .map(|(member, value)| add(&format!("{path}/{member}"), json!(value))),
            );
        }
        all
    }

    fn annotation(&self) -> String {
        format!("{MARKS}/{}", self.ledger.mark)
    }

    fn settle(&mut self, done: Pending) {
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

/// The first group of a UUID: enough to tell the changes of one node apart.
fn short(uuid: &str) -> String {
    uuid.split('-').next().unwrap_or_default().to_owned()
}
