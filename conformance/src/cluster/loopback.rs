//! The loopback interface, without which nobody reaches a server in a private network namespace.

use std::process::Command;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Sees to it that `lo` is up in the namespace of this thread. Where it is up already, as on any machine, nothing is touched.
pub(super) fn raise() -> Result<(), String> {
    if is_up()? {
        return Ok(());
    }
    let said = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .output();
    if said.as_ref().is_ok_and(|output| output.status.success()) && is_up()? {
        return Ok(());
    }
    let why = said.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    );
    Err(format!(
        "the interface lo is down in this network namespace, and `ip link set lo up` did not help: {why}"
    ))
}

fn is_up() -> Result<bool, String> {
    let mut interfaces =
        getifaddrs().map_err(|errno| format!("the interfaces can't be listed: {errno}"))?;
    Ok(interfaces.any(|interface| {
        interface.interface_name == "lo" && interface.flags.contains(InterfaceFlags::IFF_UP)
    }))
}
