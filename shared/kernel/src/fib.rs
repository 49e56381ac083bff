//! One question to the routing tables: which way would a packet to this address take?

use std::io;
use std::net::IpAddr;

use crate::wire::{Socket, attribute};

/// The kernel's answer for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The address is one of this host's own (`RTN_LOCAL`).
    pub is_local: bool,
    /// Index of the link the packet leaves by.
    pub link: Option<u32>,
}

const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTN_LOCAL: u8 = 2;
/// Where `rtm_type` is in `struct rtmsg`, and how long that is.
const RTM_TYPE: usize = 7;
const RTMSG: usize = 12;

/// Asks for the way to `address` from the calling thread's network namespace. `None` when there is no route.
pub fn way_to(address: IpAddr) -> io::Result<Option<Way>> {
    let octets = crate::nftables::octets(address);
    let (family, bits) = match address {
        IpAddr::V4(_) => (nix::libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (nix::libc::AF_INET6 as u8, 128),
    };
    let mut header = [0; RTMSG];
    header[0] = family;
    header[1] = bits;
    let mut socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE)?;
    let mut way = None;
    let answer = socket.request(
        (RTM_GETROUTE, 0),
        &header,
        |body| body.bytes(RTA_DST, &octets),
        |body| way = Some(read(body)),
    );
    match answer.map_err(|e| (e.raw_os_error(), e)) {
        Err((Some(nix::libc::ENETUNREACH | nix::libc::EHOSTUNREACH), _)) => Ok(None),
        Err((_, e)) => Err(e),
        Ok(()) => Ok(way),
    }
}

fn read(body: &[u8]) -> Way {
    let attributes = body.get(RTMSG..).unwrap_or_default();
    let link = attribute(attributes, RTA_OIF).and_then(|index| index.try_into().ok());
    Way {
        is_local: body.get(RTM_TYPE) == Some(&RTN_LOCAL),
        link: link.map(u32::from_ne_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_route_and_a_local_one() {
        // A fresh namespace: loopback is down, and its address is not there until it is up.
        assert_eq!(way_to("192.0.2.1".parse().unwrap()).unwrap(), None);
        assert_eq!(way_to("2001:db8::1".parse().unwrap()).unwrap(), None);
    }
}
