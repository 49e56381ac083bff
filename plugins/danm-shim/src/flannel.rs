//! The reservations that flannel leaves behind: its DEL finds them by its own note of the container, which may be gone.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use cni::Error;

use crate::files;
use crate::ipam::{self, Addresses};

/// Where the host-local of flannel's bridge keeps its reservations, in a folder for each network.
const RESERVATIONS: &str = "/var/lib/cni/networks";
/// How long another process may hold that folder.
const LIMIT: Duration = Duration::from_secs(5);

/// Whether a network's delegate is flannel.
pub(crate) fn is_flannel(kind: &str) -> bool {
    kind == "flannel"
}

/// Removes what is reserved for a container on flannel's bridge, which `FLANNEL_BRIDGE` names and is `cbr0` otherwise.
pub(crate) fn release(container: &str, addresses: &Addresses) -> Result<(), Error> {
    let named = skel::variable("FLANNEL_BRIDGE");
    let bridge = if named.is_empty() { "cbr0" } else { &named };
    release_in(&Path::new(RESERVATIONS).join(bridge), container, addresses)
}

/// A reservation is a file with the address as its name and the container's id in its first line. Another container's
/// stays: the address has been given away again.
fn release_in(folder: &Path, container: &str, addresses: &Addresses) -> Result<(), Error> {
    // The lock that host-local takes. Where it has never been there are no reservations.
    let Ok(lock) = File::open(folder.join("lock")) else {
        return Ok(());
    };
    let taken = skel::Lock::Exclusive.take(&lock, LIMIT);
    if !taken.is_ok_and(|taken| taken) {
        let folder = folder.display();
        return Err(Error::plugin(format!("{folder} is locked for {LIMIT:?}")));
    }
    let hosts = [&addresses.ip, &addresses.ip6].map(|address| ipam::host(address));
    for ip in hosts.into_iter().flatten() {
        let path = folder.join(ip.to_string());
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.lines().next() == Some(container) {
            files::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reservations_of_the_container_go() {
        let folder = std::env::temp_dir().join(format!("danm-shim-flannel-{}", std::process::id()));
        let addresses = Addresses {
            ip: "10.244.1.10/24".into(),
            ip6: "fd00::a/64".into(),
        };
        release_in(&folder, "c1", &addresses).unwrap();
        files::make_folder(&folder).unwrap();
        for (name, text) in [
            ("lock", ""),
            ("10.244.1.10", "c1\r\neth0"),
            ("10.244.1.11", "c1\r\neth0"),
            ("fd00::a", "c2\r\neth0"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        release_in(&folder, "c1", &addresses).unwrap();
        let left = ["10.244.1.10", "10.244.1.11", "fd00::a"].map(|name| folder.join(name).exists());
        assert_eq!(left, [false, true, true]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
