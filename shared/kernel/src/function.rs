//! Virtual functions of network cards: what the card tells of them, and a link that stands for one the kernel does not have.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::LinkDummy;

use crate::attribute::attributes;
use crate::link::HEADER;
use crate::socket::Request;
use crate::{Error, Link, Rtnl};

// linux/if_link.h
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;

/// Length of an Ethernet hardware address.
const MAC: usize = 6;

impl Rtnl {
    /// The hardware address of virtual function `number` of the card whose link is `card`; empty if it has none.
    pub fn mac_of_function(&mut self, card: &str, number: u32) -> Result<Vec<u8>, Error> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(card.to_owned()),
            LinkAttribute::ExtMask(vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats]),
        ];
        let read = |payload: &[u8]| Some(mac_of(payload.get(HEADER..)?, number));
        self.get(RouteNetlinkMessage::GetLink(message), read)
    }

    /// Makes a link that has a name and addresses and sends nothing. `mac` may be empty: then it is a random one.
    pub fn create_dummy(&mut self, name: &str, mac: &[u8]) -> Result<Link, Error> {
        let mut message = LinkDummy::new(name).build();
        if !mac.is_empty() {
            message
                .attributes
                .push(LinkAttribute::Address(mac.to_vec()));
        }
        self.request(Request {
            message: RouteNetlinkMessage::NewLink(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        })
        .map_err(|e| e.context(format!("failed to create {name:?}")))?;
        self.link(name)
    }

    /// Gives a link a text for people (`IFLA_IFALIAS`).
    pub fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.request(Request {
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
        })
        .map_err(|e| e.context(format!("failed to set the alias of {:?}", link.name)))
    }
}

/// Finds a function's address in the attributes of its card's link. `struct ifla_vf_mac` is a number of 32 bits and 32
/// bytes of address.
fn mac_of(card: &[u8], number: u32) -> Vec<u8> {
    let of_kind = |wanted: u16| move |(kind, value): (u16, _)| (kind == wanted).then_some(value);
    let lists = attributes(card).filter_map(of_kind(IFLA_VFINFO_LIST));
    let functions = lists.flat_map(|list| attributes(list).filter_map(of_kind(IFLA_VF_INFO)));
    let mut macs = functions.flat_map(|f| attributes(f).filter_map(of_kind(IFLA_VF_MAC)));
    let mac = macs.find_map(|mac: &[u8]| {
        let (found, address) = mac.split_first_chunk()?;
        (u32::from_ne_bytes(*found) == number).then_some(address.get(..MAC)?)
    });
    let mac = mac.filter(|mac| mac.iter().any(|byte| *byte != 0));
    mac.unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn addresses_of_functions() {
        let function = |number: u32, mac: [u8; MAC]| {
            let mut value = [&number.to_ne_bytes()[..], &mac].concat();
            value.resize(36, 0);
            attribute(IFLA_VF_INFO, &attribute(IFLA_VF_MAC, &value))
        };
        let list = [function(0, [0; MAC]), function(1, [2, 0, 0, 0, 0, 1])].concat();
        let card = [
            attribute(3, b"ens1f0\0"),
            attribute(IFLA_VFINFO_LIST, &list),
        ]
        .concat();
        assert_eq!(mac_of(&card, 1), [2, 0, 0, 0, 0, 1]);
        for absent in [0, 2] {
            assert!(mac_of(&card, absent).is_empty(), "{absent}");
        }
        assert!(mac_of(&card[..card.len() - 40], 1).is_empty());
        assert!(mac_of(b"", 0).is_empty());
    }
}
