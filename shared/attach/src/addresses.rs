//! Addresses by the IPAM plugin.

use std::time::Duration;

use cni::{Error, Success};
use invoke::Delegate;
use skel::{Call, Undo};

/// How long the IPAM plugin may take for one verb unless `timeouts.delegate` says otherwise: less than a caller waits for
/// us, so that its failure is told and undone.
const LIMIT: Duration = Duration::from_secs(60);

/// The IPAM plugin; without one the interface has no addresses of its own.
pub(crate) fn ipam<C>(call: &Call<C>) -> Result<Option<Delegate>, Error> {
    match call.net.ipam_kind.as_str() {
        "" => Ok(None),
        kind => {
            let limit = call.net.delegate_limit.unwrap_or(LIMIT);
            Delegate::find(kind, &call.path, limit).map(Some)
        }
    }
}

/// A DHCP client gives its lease back over the interface itself; all others have it from the host.
pub(crate) fn lease_needs_link<C>(call: &Call<C>) -> bool {
    call.net.ipam_kind == "dhcp"
}

/// Takes addresses for the interface.
pub(crate) fn lease<C>(ipam: Delegate, call: &Call<C>, undo: &mut Undo) -> Result<Success, Error> {
    let result = ipam.add_ipam(&call.stdin, &call.net.cni_version)?;
    let stdin = call.stdin.clone();
    let give_back = move || ipam.del(&stdin);
    let what = format!("give back the addresses of {}", call.ifname);
    match lease_needs_link(call) {
        true => undo.push(what, give_back),
        false => undo.push_last(what, give_back),
    }
    Ok(result)
}
