//! Leases as files, the way host-local keeps them and every drop-in for it has to: one file for each address, named by it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The leases below a store: path and content of every file that is named by an IP address.
///
/// Empty for a plugin that keeps them elsewhere; what it still holds shows when its pool runs dry.
pub fn leases(store: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(leases(&path)?);
        } else if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.parse::<IpAddr>().is_ok())
        {
            let content = fs::read(&path)?;
            found.insert(path, content);
        }
    }
    Ok(found)
}
