//! Links of the host that cut a segment out of another one's network: VLAN and VXLAN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use rtnetlink::{LinkVlan, LinkVxlan};

use crate::socket::Request;
use crate::{Error, Link, Rtnl};

/// UDP port of VXLAN at IANA; the kernel's own default is older.
const VXLAN_PORT: u16 = 4789;

impl Rtnl {
    /// Makes the VLAN `id` (1 to 4094) on `parent` and switches it on.
    pub fn create_vlan(&mut self, name: &str, parent: &Link, id: u16) -> Result<(), Error> {
        let message = LinkVlan::new(name, parent.index, id).up().build();
        self.create_segment(name, message)
    }

    /// Makes the VXLAN `vni` (1 to 2^24 - 2) on `parent` and switches it on. It floods to the multicast group
    /// 239.0.0.0 + VNI, or ff02:: + VNI where `local` is an IPv6 address, and learns where its hosts are.
    pub fn create_vxlan(
        &mut self,
        name: &str,
        parent: &Link,
        vni: u32,
        local: IpAddr,
    ) -> Result<(), Error> {
        let vxlan = LinkVxlan::new(name, vni)
            .dev(parent.index)
            .port(VXLAN_PORT)
            .learning(true)
            .l2miss(true)
            .l3miss(true);
        let vxlan = match local {
            IpAddr::V4(local) => {
                let group = Ipv4Addr::new(239, 0, 0, 0).to_bits() + vni;
                vxlan.group(group.into()).local(local)
            }
            IpAddr::V6(local) => {
                let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0).to_bits() + u128::from(vni);
                vxlan.group6(group.into()).local6(local)
            }
        };
        self.create_segment(name, vxlan.up().build())
    }

    /// The address that others reach `link` by: its first one that is not only for its own network, IPv4 first.
    pub fn global_address(&mut self, link: &Link) -> Result<Option<IpAddr>, Error> {
        let addresses = self.addresses(link)?;
        let global = addresses.iter().find(|address| address.is_global);
        Ok(global.map(|address| address.net.ip()))
    }

    fn create_segment(&mut self, name: &str, message: LinkMessage) -> Result<(), Error> {
        let request = Request {
            message: RouteNetlinkMessage::NewLink(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        };
        self.request(request)
            .map_err(|e| e.context(format!("failed to create {name:?}")))
    }
}
