//! Connections that go a way which is not the way of the rules any more.
//!
//! TCP ends by itself: the other side answers with a reset. UDP has no end, and SCTP tries for minutes.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use kernel::conntrack::{Connection, Conntrack};
use kernel::fib;
use kernel::nftables::Family;

use crate::mapping::{Forward, Protocol};

/// After rules were added: forgets the connections to these host ports that do not go to their targets.
///
/// A failure is told in the log. The rules are there, and in time connections end by themselves.
pub(crate) fn forget_others(forwards: &[Forward]) {
    let mut local = HashMap::new();
    each(forwards, |forward, connection| {
        if connection.answers_from == forward.target {
            return false;
        }
        // Without a host address the rule is for this host's own; a flow that passes through is not meant.
        let to = connection.destination.ip();
        forward.only_on.is_some() || *local.entry(to).or_insert_with(|| is_local(to))
    });
}

/// After rules were removed: forgets the connections from these host ports to their targets.
pub(crate) fn forget_own(forwards: &[Forward]) {
    each(forwards, |forward, connection| {
        connection.answers_from == forward.target
    });
}

fn is_local(address: IpAddr) -> bool {
    fib::way_to(address).is_ok_and(|way| way.is_some_and(|way| way.is_local))
}

fn each(forwards: &[Forward], mut is_stale: impl FnMut(&Forward, &Connection) -> bool) {
    for family in Family::ALL {
        for protocol in [Protocol::Udp, Protocol::Sctp] {
            let of_kind: Vec<&Forward> = forwards
                .iter()
                .filter(|f| f.protocol == protocol && Family::of(f.target.ip()) == family)
                .collect();
            if of_kind.is_empty() {
                continue;
            }
            let forgotten = forget(family, protocol, |connection| {
                let mut matching = of_kind.iter().filter(|forward| meets(forward, connection));
                matching.any(|forward| is_stale(forward, connection))
            });
            if let Err(e) = forgotten {
                let protocol = protocol.name();
                log::warn!("failed to delete stale {protocol} conntrack entries: {e}");
            }
        }
    }
}

fn meets(forward: &Forward, connection: &Connection) -> bool {
    connection.destination.port() == forward.host_port
        && forward
            .only_on
            .is_none_or(|ip| ip == connection.destination.ip())
}

fn forget(
    family: Family,
    protocol: Protocol,
    mut is_meant: impl FnMut(&Connection) -> bool,
) -> io::Result<()> {
    let mut conntrack = Conntrack::open()?;
    for connection in conntrack.connections(family, protocol.number())? {
        if is_meant(&connection) {
            conntrack.forget(family, &connection)?;
        }
    }
    Ok(())
}
