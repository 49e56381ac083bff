//! What each ADD yielded, in files: `<dir>/results/<network>-<container id>-<interface>`, as libcni keeps it.
//!
//! DEL and CHECK give it to the plugins as `prevResult`, and it holds all that is needed to take an attachment
//! down when nothing else is known of it any more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni::json::{self, Object};
use cni::{Code, Error, Network, Success, Version};
use serde::{Deserialize, Serialize};

use crate::Parameters;

/// `kind` of the files that libcni has written since 0.8.
const KIND: &str = "cniCacheV1";

/// The folders that results are kept in.
#[derive(Debug, Clone)]
pub struct ResultCache {
    /// The first one is written to, all are read and removed from.
    folders: Vec<PathBuf>,
}

/// What is known of one attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cached {
    /// Name of the network.
    pub network: String,
    /// What its plugins were called with.
    pub parameters: Parameters,
    /// The network's configuration as it was then; empty in files from before libcni 0.8, which only hold the result.
    pub config: Vec<u8>,
    /// The result as it was written.
    result: Object,
}

/// Reads both spellings of arguments: a pair is a list of two.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    netns: String,
    cni_args: Vec<(String, String)>,
}

/// The keys in the order that libcni writes them in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireOut<'a> {
    kind: &'a str,
    container_id: &'a str,
    config: String,
    if_name: &'a str,
    network_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    netns: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cni_args: &'a [(String, String)],
    #[serde(skip_serializing_if = "Object::is_empty")]
    capability_args: &'a Object,
    #[serde(skip_serializing_if = "Object::is_empty")]
    result: &'a Object,
}

impl ResultCache {
    /// The results in `<dir>/results`. libcni's own place is `/var/lib/cni`.
    pub fn new(dir: impl AsRef<Path>) -> ResultCache {
        ResultCache {
            folders: vec![dir.as_ref().join("results")],
        }
    }

    /// Looks for what is not there in `<dir>/results` as well.
    pub fn or(mut self, dir: impl AsRef<Path>) -> ResultCache {
        self.folders.push(dir.as_ref().join("results"));
        self
    }

    /// Reads what is known of an attachment; `None` if nothing is.
    ///
    /// Errors: code 5 when the file can't be read, code 6 when it is damaged.
    pub fn read(&self, network: &str, of: &Parameters) -> Result<Option<Cached>, Error> {
        for path in self.paths(network, of)? {
            match fs::read(&path) {
                Ok(text) => {
                    let mut cached = Cached::parse(&text).map_err(|e| damaged(&path, &e))?;
                    if cached.network.is_empty() {
                        network.clone_into(&mut cached.network);
                        cached.parameters = of.clone();
                    }
                    return Ok(Some(cached));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed("read", &path, &e)),
            }
        }
        Ok(None)
    }

    /// Writes what an ADD yielded, in one step: nobody ever reads half of it.
    ///
    /// Errors, code 5: it can't be written.
    pub fn write(&self, network: &Network, of: &Parameters, result: &Success) -> Result<(), Error> {
        let [folder, ..] = self.folders.as_slice() else {
            return Ok(());
        };
        let entry = Cached {
            network: network.name.clone(),
            parameters: of.clone(),
            config: network.to_bytes(),
            result: written(result, &network.cni_version),
        };
        let name = file_name(&network.name, of)?;
        let target = folder.join(&name);
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o700);
        let write = || {
            make.create(folder)?;
            // libcni passes over what it can't read in its folder, and a killed writer's file goes with the next one.
            let new = unfinished(&target);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file: File = options.open(&new)?;
            file.write_all(entry.to_json().as_bytes())?;
            fs::rename(&new, &target)
        };
        write().map_err(|e: io::Error| failed("write", &target, &e))
    }

    /// Forgets an attachment, and what a killed writer has left of it. Not there is success.
    ///
    /// Errors, code 5: it can't be removed.
    pub fn remove(&self, network: &str, of: &Parameters) -> Result<(), Error> {
        for path in self.paths(network, of)? {
            for path in [unfinished(&path), path] {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("remove", &path, &e));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Everything that is known in the first folder, damaged files left out. A folder that is not there has nothing.
    ///
    /// Errors, code 5: the folder can't be read.
    pub fn all(&self) -> Result<Vec<Cached>, Error> {
        let [folder, ..] = self.folders.as_slice() else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("read", folder, &e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| failed("read", folder, &e))?.path();
            let Ok(text) = fs::read(&path) else { continue };
            match Cached::parse(&text) {
                // Only these say whose they are.
                Ok(cached) if !cached.network.is_empty() => all.push(cached),
                Ok(_) => {}
                Err(e) => log::warn!("{}", damaged(&path, &e)),
            }
        }
        Ok(all)
    }

    fn paths(&self, network: &str, of: &Parameters) -> Result<Vec<PathBuf>, Error> {
        let name = file_name(network, of)?;
        Ok(self
            .folders
            .iter()
            .map(|folder| folder.join(&name))
            .collect())
    }
}

/// What a file is called while it is written.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Names become a path, so they are judged first. Errors: code 4 and 7.
fn file_name(network: &str, of: &Parameters) -> Result<String, Error> {
    cni::names::network(network)?;
    of.check()?;
    Ok(format!("{network}-{}-{}", of.container_id, of.ifname))
}

impl Cached {
    /// The result, in the inner shape. `conf_version` is the version of a result that does not say one.
    ///
    /// The text says what is wrong with it.
    pub fn result(&self, conf_version: &str) -> Result<Success, String> {
        Success::parse(self.result.to_string().as_bytes(), conf_version)
    }

    /// Reads the text of a file. One without `kind` is a bare result.
    fn parse(text: &[u8]) -> Result<Cached, String> {
        let document = Object::parse(text).map_err(|e| e.to_string())?;
        if document.get("kind").is_none() {
            return Ok(Cached {
                result: document,
                ..Cached::default()
            });
        }
        let wire: Wire = json::from_slice(text).map_err(|e| e.to_string())?;
        if wire.kind != KIND {
            return Err(format!("kind {:?} is not known", wire.kind));
        }
        let config = STANDARD.decode(&wire.config);
        let object = |key| {
            document
                .object(key)
                .map_err(|e: json::ReadError| e.to_string())
        };
        Ok(Cached {
            network: wire.network_name,
            parameters: Parameters {
                container_id: wire.container_id,
                netns: wire.netns,
                ifname: wire.if_name,
                args: wire.cni_args,
                capability_args: object("capabilityArgs")?,
            },
            config: config.map_err(|e| format!("config: {e}"))?,
            result: object("result")?,
        })
    }

    fn to_json(&self) -> String {
        let of = &self.parameters;
        let wire = WireOut {
            kind: KIND,
            container_id: &of.container_id,
            config: STANDARD.encode(&self.config),
            if_name: &of.ifname,
            network_name: &self.network,
            netns: &of.netns,
            cni_args: &of.args,
            capability_args: &of.capability_args,
            result: &self.result,
        };
        json::compact(&wire)
    }
}

/// A result in the shape of a version. 0.1.0 and 0.2.0 have no words for one without addresses.
pub(crate) fn written(result: &Success, cni_version: &str) -> Object {
    let version = Version::parse(cni_version).unwrap_or(Version::NEWEST);
    let text = result.to_json(version);
    let document = text
        .ok()
        .and_then(|text| Object::parse(text.as_bytes()).ok());
    document.unwrap_or_else(|| {
        let mut empty = Object::default();
        empty.set("cniVersion", &version.as_str());
        empty
    })
}

fn damaged(path: &Path, why: &str) -> Error {
    let why = format!("{} is damaged: {why}", path.display());
    Error::new(Code::Decoding, why)
}

fn failed(what: &str, path: &Path, e: &io::Error) -> Error {
    let why = format!("failed to {what} {}: {e}", path.display());
    Error::new(Code::Io, why)
}
