//! Reading and writing sysctls of the calling thread's network namespace.

use std::fs;

use crate::Error;

/// Reads `/proc/sys/<key>` without white space around it. `key` is separated by `/`, because interface names
/// may have dots: `net/ipv6/conf/eth0.100/disable_ipv6`.
pub fn read(key: &str) -> Result<String, Error> {
    let text = fs::read_to_string(format!("/proc/sys/{key}"))
        .map_err(|e| Error::from(e).context(format!("failed to read sysctl {key}")))?;
    Ok(text.trim().to_owned())
}

/// Writes `/proc/sys/<key>`.
pub fn write(key: &str, value: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/sys/{key}"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|e| Error::from(e).context(format!("failed to write sysctl {key}={value}")))
}
