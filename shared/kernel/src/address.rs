//! Addresses of links.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use rtnetlink::AddressMessageBuilder;

use crate::attribute::{self, attributes};
use crate::socket::Request;
use crate::{Error, Link, Rtnl};

/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// An address that a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// Address and prefix length.
    pub(crate) net: IpNetwork,
    /// Duplicate address detection is not through (`IFA_F_TENTATIVE`).
    pub(crate) is_tentative: bool,
    /// Another host has it (`IFA_F_DADFAILED`).
    pub(crate) is_duplicate: bool,
    /// It is valid everywhere (`RT_SCOPE_UNIVERSE`).
    pub(crate) is_global: bool,
}

impl Rtnl {
    /// The addresses of a link, of both families.
    pub(crate) fn addresses(&mut self, link: &Link) -> Result<Vec<Address>, Error> {
        let mut all = self.addresses_of(link, AddressFamily::Inet)?;
        all.extend(self.addresses_of(link, AddressFamily::Inet6)?);
        Ok(all)
    }

    pub(crate) fn addresses_of(
        &mut self,
        link: &Link,
        family: AddressFamily,
    ) -> Result<Vec<Address>, Error> {
        let ask = || {
            let mut message = AddressMessage::default();
            message.header.family = family;
            message.header.index = link.index;
            RouteNetlinkMessage::GetAddress(message)
        };
        self.dump(ask, |payload| Address::read(payload, link.index))
    }
}

impl Address {
    /// Reads an `RTM_NEWADDR`, if it is about the link `index`.
    fn read(payload: &[u8], index: u32) -> Option<Address> {
        let header = AddressHeader::parse(payload).ok()?;
        if header.index != index {
            return None;
        }
        let mut flags = u32::from(header.flags.bits());
        let (mut address, mut local) = (None, None);
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                libc::IFA_ADDRESS => address = attribute::ip(value),
                libc::IFA_LOCAL => local = attribute::ip(value),
                libc::IFA_FLAGS => flags = attribute::u32(value),
                _ => {}
            }
        }
        let flags = AddressFlags::from_bits_retain(flags);
        Some(Address {
            // On a point-to-point link IFA_ADDRESS is the other end.
            net: IpNetwork::new(local.or(address)?, header.prefix_len).ok()?,
            is_tentative: flags.contains(AddressFlags::Tentative),
            is_duplicate: flags.contains(AddressFlags::Dadfailed),
            is_global: header.scope == AddressScope::Universe,
        })
    }
}

/// Gives a link an address, with the broadcast address of its subnet for IPv4.
pub(crate) fn add(index: u32, address: IpNetwork) -> Request {
    Request {
        message: RouteNetlinkMessage::NewAddress(message(index, address)),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// Like [`add`], but an IPv6 address is not looked for at others, and the link may have the address already.
pub(crate) fn put(index: u32, address: IpNetwork) -> Request {
    let mut message = message(index, address);
    if address.is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Permanent;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

fn message(index: u32, address: IpNetwork) -> AddressMessage {
    match address.ip() {
        IpAddr::V4(ip) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(ip, address.prefix())
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(ip, address.prefix())
            .build(),
    }
}
