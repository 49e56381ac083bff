//! Reading and writing sysctls of the calling thread's network namespace.

use std::fs;
use std::io;

use crate::Error;

/// Reads `/proc/sys/<key>` without white space around it. `key` is separated by `/`, because interface names
/// may have dots: `net/ipv6/conf/eth0.100/disable_ipv6`.
pub fn read(key: &str) -> Result<String, Error> {
    let text = fs::read_to_string(format!("/proc/sys/{key}"))
        .map_err(|e| Error::from(e).context(format!("failed to read sysctl {key}")))?;
    Ok(text.trim().to_owned())
}

/// The names in the folder `/proc/sys/<key>`, such as the interfaces of `net/ipv6/conf`.
pub fn names(key: &str) -> Result<Vec<String>, Error> {
    let failed = |e| Error::from(e).context(format!("failed to list sysctls {key}"));
    let entries = fs::read_dir(format!("/proc/sys/{key}")).map_err(failed)?;
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<Result<_, _>>().map_err(failed)
}

/// Writes `/proc/sys/<key>`.
pub fn write(key: &str, value: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/sys/{key}"))
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|e| Error::from(e).context(format!("failed to write sysctl {key}={value}")))
}
