//! The connections the kernel tracks: find those of a host port, forget them.
//!
//! Address translation is decided once per connection. A UDP or SCTP flow that began before a rule was there,
//! or that outlived it, keeps its old way for as long as packets come; it has to be forgotten by hand.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::nftables::Family;
use crate::wire::{Body, DUMP, Socket, attribute};

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const FILTER_ORIGINAL_FLAGS: u16 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`, from `net/netfilter/nf_internals.h`.
const FILTER_BY_PROTOCOL: u32 = 1 << 3;

/// One tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Where its first packet was sent to, before any translation.
    pub destination: SocketAddr,
    /// Who answers: the same address, or the one that the destination was translated to.
    pub answers_from: SocketAddr,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

/// A connection to the tracker of the calling thread's network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens the connection.
    pub fn open() -> io::Result<Conntrack> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Conntrack { socket })
    }

    /// The connections of one transport protocol (`IPPROTO_*`).
    pub fn connections(&mut self, family: Family, protocol: u8) -> io::Result<Vec<Connection>> {
        // Kernels before 5.8 ignore the filter and send everything; so the protocol is compared again below.
        let fill = |body: &mut Body<'_>| {
            body.nested(TUPLE_ORIGINAL, |body| {
                body.nested(TUPLE_PROTOCOL, |body| {
                    body.bytes(PROTOCOL_NUMBER, &[protocol])
                });
            });
            body.nested(FILTER, |body| {
                body.bytes(FILTER_ORIGINAL_FLAGS, &FILTER_BY_PROTOCOL.to_ne_bytes());
            });
        };
        let mut connections = Vec::new();
        self.socket
            .request((GET, DUMP), &header(family), fill, |body| {
                connections.extend(read(family, protocol, body.get(4..).unwrap_or_default()));
            })?;
        Ok(connections)
    }

    /// Forgets a connection. One that has ended by itself is success.
    pub fn forget(&mut self, family: Family, connection: &Connection) -> io::Result<()> {
        let fill = |body: &mut Body<'_>| {
            body.bytes(TUPLE_ORIGINAL, &connection.original);
            if let Some(id) = &connection.id {
                body.bytes(ID, id);
            }
            if let Some(zone) = &connection.zone {
                body.bytes(ZONE, zone);
            }
        };
        let answer = self
            .socket
            .request((DELETE, 0), &header(family), fill, |_| {});
        match answer {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// `struct nfgenmsg`.
fn header(family: Family) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

fn read(family: Family, protocol: u8, body: &[u8]) -> Option<Connection> {
    let original = attribute(body, TUPLE_ORIGINAL)?;
    let reply = attribute(body, TUPLE_REPLY)?;
    let number = attribute(attribute(original, TUPLE_PROTOCOL)?, PROTOCOL_NUMBER)?;
    (number == [protocol]).then_some(())?;
    Some(Connection {
        destination: end_of(original, address_kind(family) + 1, DESTINATION_PORT)?,
        answers_from: end_of(reply, address_kind(family), SOURCE_PORT)?,
        original: original.to_vec(),
        id: attribute(body, ID).map(<[u8]>::to_vec),
        zone: attribute(body, ZONE).map(<[u8]>::to_vec),
    })
}

/// `CTA_IP_V4_SRC` or `CTA_IP_V6_SRC`; the destination is the number after it.
fn address_kind(family: Family) -> u16 {
    match family {
        Family::Ip => 1,
        Family::Ip6 => 3,
    }
}

fn end_of(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddr> {
    let octets = attribute(attribute(tuple, TUPLE_IP)?, address)?;
    let address: IpAddr = match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok()?.into(),
        _ => <[u8; 16]>::try_from(octets).ok()?.into(),
    };
    let port = attribute(attribute(tuple, TUPLE_PROTOCOL)?, port)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_read() {
        let tuple = |from: [u8; 4], to: [u8; 4], ports: (u16, u16)| {
            Body::collect(|body| {
                body.nested(TUPLE_IP, |body| {
                    body.bytes(1, &from);
                    body.bytes(2, &to);
                });
                body.nested(TUPLE_PROTOCOL, |body| {
                    body.bytes(PROTOCOL_NUMBER, &[17]);
                    body.bytes(SOURCE_PORT, &ports.0.to_be_bytes());
                    body.bytes(DESTINATION_PORT, &ports.1.to_be_bytes());
                });
            })
        };
        let message = Body::collect(|body| {
            body.bytes(
                TUPLE_ORIGINAL,
                &tuple([10, 0, 0, 9], [10, 0, 0, 1], (999, 53)),
            );
            body.bytes(
                TUPLE_REPLY,
                &tuple([10, 77, 0, 5], [10, 0, 0, 9], (5353, 999)),
            );
        });
        let connection = read(Family::Ip, 17, &message).unwrap();
        assert_eq!(connection.destination, "10.0.0.1:53".parse().unwrap());
        assert_eq!(connection.answers_from, "10.77.0.5:5353".parse().unwrap());
        assert_eq!(read(Family::Ip, 6, &message), None, "another protocol");
        assert_eq!(read(Family::Ip, 17, &message[..20]), None, "cut off");
    }
}
