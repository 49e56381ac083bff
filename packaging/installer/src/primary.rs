//! The primary configuration: the network that every pod has and that multus is put in front of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cni::json::{Object, Value};
use cni::{Network, Version};

use crate::files;
use crate::flags::Flags;
use crate::say;

/// The name of our own configurations begins like this, and so do those of upstream.
const OWN: &str = "00-multus";

/// A primary configuration that can be delegated to.
#[derive(Debug)]
pub(crate) struct Primary {
    /// Where it was found.
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) version: Version,
    /// What the runtime is asked for on its behalf, in the order of names.
    pub(crate) capabilities: BTreeMap<String, bool>,
    /// As it was written, but for a version that was forced.
    pub(crate) document: Object,
}

/// Finds the primary configuration; `None` while there is none. One that is there and can't be used is an error.
pub(crate) fn find(flags: &Flags) -> Result<Option<Primary>, String> {
    let folder = &flags.multus_autoconfig_dir;
    if let Some(name) = &flags.multus_master_cni_file_name {
        let there = [folder.join(name), folder.join(format!("{name}.old"))];
        let renamed = flags.rename_conf_file;
        let there = there
            .into_iter()
            .take(1 + usize::from(renamed))
            .find(|p| p.is_file());
        let Some(path) = there else {
            return Ok(None);
        };
        let network = parse(&path)?;
        if let Some(kind) = multus_in(&network) {
            return Err(format!(
                "{}: it is one of {kind} itself, which would call itself",
                path.display()
            ));
        }
        return read(flags, path, &network).map(Some);
    }
    for path in candidates(folder, flags.rename_conf_file)? {
        let network = parse(&path)?;
        if let Some(kind) = multus_in(&network) {
            say(&format!(
                "{}: it is one of {kind} itself, left out",
                path.display()
            ));
            continue;
        }
        return read(flags, path, &network).map(Some);
    }
    Ok(None)
}

/// The configurations of a folder in the order in which a runtime takes them, without our own. Behind them those
/// that were renamed by an earlier run.
fn candidates(folder: &Path, renamed: bool) -> Result<Vec<PathBuf>, String> {
    let all = files::list(folder)?;
    let name = |path: &PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let ends = |endings: &'static [&str]| {
        let named = move |path: &&PathBuf| {
            let name = name(path);
            !name.starts_with(OWN) && endings.iter().any(|ending| name.ends_with(ending))
        };
        all.iter().filter(named).cloned()
    };
    let old: &[&str] = if renamed {
        &[".conf.old", ".conflist.old"]
    } else {
        &[]
    };
    Ok(ends(&[".conf", ".conflist"]).chain(ends(old)).collect())
}

fn parse(path: &Path) -> Result<Network, String> {
    Network::parse(&files::read(path)?).map_err(|e| format!("{}: {e}", path.display()))
}

/// The multus that a network has among its plugins: it would call itself without end.
fn multus_in(network: &Network) -> Option<&str> {
    let kinds = network.plugins.iter().map(|plugin| plugin.kind.as_str());
    kinds
        .into_iter()
        .find(|kind| ["multus", "multus-shim"].contains(kind))
}

fn read(flags: &Flags, path: PathBuf, network: &Network) -> Result<Primary, String> {
    let fail = |why: String| Err(format!("{}: {why}", path.display()));
    let mut document =
        Object::parse(&network.to_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
    if network.name.is_empty() {
        return fail("it has no name, so no runtime can use it".to_owned());
    }
    let written = network.cni_version.as_str();
    let version = match flags.cni_version {
        Some(wanted) if flags.force_cni_version => {
            document.set("cniVersion", &wanted.as_str());
            wanted
        }
        _ if written.is_empty() => return fail("it has no cniVersion".to_owned()),
        Some(wanted) if wanted.as_str() != written => {
            return fail(format!(
                "its cniVersion is {written:?} and --cni-version is \"{wanted}\"; leave the flag out or make them equal"
            ));
        }
        _ => match Version::parse(written) {
            Some(version) => version,
            None => return fail(format!("multus knows no cniVersion {written:?}")),
        },
    };
    let capabilities = capabilities(&document).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Primary {
        name: network.name.clone(),
        version,
        capabilities,
        document,
        path,
    })
}

/// The capabilities of all plugins together; the last one wins.
fn capabilities(document: &Object) -> Result<BTreeMap<String, bool>, String> {
    let mut all = BTreeMap::new();
    let plugins = match document.get("plugins") {
        None => vec![document.clone()],
        Some(_) => {
            let items = document.array("plugins").map_err(|e| e.to_string())?;
            let item = |text: &serde_json::value::RawValue| Object::parse(text.get().as_bytes());
            let read: Result<Vec<Object>, _> = items.iter().map(|text| item(text)).collect();
            read.map_err(|e| e.to_string())?
        }
    };
    for plugin in plugins {
        match plugin.value("capabilities").map_err(|e| e.to_string())? {
            Value::Null => {}
            Value::Object(members) => {
                for (name, value) in members {
                    let Value::Bool(on) = value else {
                        return Err(format!("capability {name:?} is neither true nor false"));
                    };
                    all.insert(name, on);
                }
            }
            _ => return Err("capabilities is no object".to_owned()),
        }
    }
    Ok(all)
}
