//! Lets connections from 127.0.0.1 leave the loopback interface towards a pod.

use std::fmt::Display;
use std::net::IpAddr;

use cni::Error;
use kernel::{fib, sysctl};
use nix::net::if_::if_indextoname;

/// Sets `route_localnet` on the link that leads to `address` (IPv4). Without a route there is nothing to set.
///
/// It is never reset: other pods behind the same link need it.
pub(crate) fn enable(address: IpAddr) -> Result<(), Error> {
    let failed = |e: &dyn Display| Error::plugin(format!("unable to enable route_localnet: {e}"));
    let Ok(Some(link)) = fib::way_to(address).map(|way| way.and_then(|way| way.link)) else {
        return Ok(());
    };
    let name = if_indextoname(link).map_err(|e| failed(&e))?;
    let key = format!("net/ipv4/conf/{}/route_localnet", name.to_string_lossy());
    match sysctl::read(&key).as_deref() {
        Ok("1") => Ok(()),
        _ => sysctl::write(&key, "1").map_err(|e| failed(&e)),
    }
}
