//! Networks in files: the `.conf`, `.json` and `.conflist` files of a folder, in the order of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni::{Error, Network, PluginConf, names};

/// The endings of files that hold one plugin's configuration.
const SINGLE: [&str; 2] = ["conf", "json"];
/// The ending of files that hold a list.
const LIST: &str = "conflist";
/// The largest file that is read, in bytes. A configuration is a few kilobytes.
const SIZE_LIMIT: u64 = 16 << 20;

/// The configuration files of a folder in the order of their names. A folder that is not there has none.
///
/// Errors, code 5: it can't be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let ours = |path: &PathBuf| {
        let ending = path.extension().unwrap_or_default();
        (ending == LIST || SINGLE.iter().any(|single| ending == *single)) && path.is_file()
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(folder, &e)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|e| unreadable(folder, &e))?;
    paths.retain(ours);
    paths.sort();
    Ok(paths)
}

/// Reads one file: `.conflist` is a list, with the plugins of its folder (see [`with_folder`]); anything else is
/// one plugin's configuration.
///
/// Errors: code 5 when it can't be read, code 7 when it is no configuration.
pub fn load(path: &Path) -> Result<Network, Error> {
    let text = read(path)?;
    let loading = |e: Error| e.context(format!("error loading {}", path.display()));
    if path.extension().is_some_and(|ending| ending == LIST) {
        let network = Network::parse_list(&text).map_err(loading)?;
        return with_folder(network, path.parent().unwrap_or(Path::new("."))).map_err(loading);
    }
    Network::parse_single(&text).map_err(|e| {
        let hint = "no 'type'; perhaps this is supposed to be a .conflist?";
        match Network::parse_list(&text) {
            Ok(_) => loading(Error::config(format!(
                "error parsing configuration: {hint}"
            ))),
            Err(_) => loading(e),
        }
    })
}

/// The network called `name` in a folder: the first file of that name wins.
///
/// A file that is no configuration is passed over with a warning, so that it takes nothing from the others.
/// Errors, code 7: no file has the name; the text lists what was passed over.
pub fn find(folder: &Path, name: &str) -> Result<Network, Error> {
    let paths = files(folder)?;
    if paths.is_empty() {
        let why = format!("no networks found in {}", folder.display());
        return Err(Error::config(why));
    }
    let mut broken = Vec::new();
    for path in &paths {
        match load(path) {
            Ok(network) if network.name == name => return Ok(network),
            Ok(_) => {}
            Err(e) => {
                log::warn!("{e}");
                broken.push(e.to_string());
            }
        }
    }
    let why = format!(
        "no network available in the name {name} in cni dir {}",
        folder.display()
    );
    Err(match broken.as_slice() {
        [] => Error::config(why),
        _ => Error::config(format!("{why}; not usable: {}", broken.join("; "))),
    })
}

/// The network of the first file of a folder. Errors, code 7: there is none, or it is no configuration.
pub fn first(folder: &Path) -> Result<Network, Error> {
    match files(folder)?.first() {
        Some(path) => load(path),
        None => Err(Error::config(format!(
            "no networks found in {}",
            folder.display()
        ))),
    }
}

/// Adds the plugins of `<folder>/<name of the list>/*.conf` to a list, in the order of the files' names, as
/// libcni does for lists in files. `loadOnlyInlinedPlugins: true` in the list says not to.
///
/// Errors: a name that is none (it becomes a path), a file that can't be read or is no plugin's configuration.
pub fn with_folder(mut network: Network, folder: &Path) -> Result<Network, Error> {
    if network.get("loadOnlyInlinedPlugins") == Some("true") {
        return Ok(network);
    }
    names::network(&network.name)?;
    let plugins = plugins(&folder.join(&network.name))?;
    if !plugins.is_empty() {
        network.append(plugins);
    }
    Ok(network)
}

/// The plugins of a folder's `.conf` files in the order of their names. A folder that is not there has none.
///
/// Errors: code 5 when one can't be read, code 7 when it is no plugin's configuration.
pub fn plugins(folder: &Path) -> Result<Vec<PluginConf>, Error> {
    let all = files(folder)?.into_iter();
    let paths = all.filter(|path| path.extension().is_some_and(|ending| ending == "conf"));
    let plugin = |path: PathBuf| {
        PluginConf::parse(&read(&path)?)
            .map_err(|e| e.context(format!("error loading {}", path.display())))
    };
    paths.map(plugin).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let size = fs::metadata(path).map_err(|e| unreadable(path, &e))?.len();
    if size > SIZE_LIMIT {
        let why = format!(
            "{}: {size} bytes are too many for a configuration",
            path.display()
        );
        return Err(Error::config(why));
    }
    fs::read(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, e: &io::Error) -> Error {
    let why = format!("error reading {}: {e}", path.display());
    Error::new(cni::Code::Io, why)
}
