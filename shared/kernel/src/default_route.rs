//! The way out of a pod that is on several networks: which of them it takes.

use std::net::IpAddr;

use cni::Route;
use ipnetwork::IpNetwork;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::route::{self, Entry, Hop, MAIN};
use crate::socket::Request;
use crate::{Error, Rtnl};

impl Rtnl {
    /// Makes the default route of the gateway's family lead to `gateway` through the link `name`. All others of that
    /// family in the main table are removed before, whichever link they lead through.
    pub fn replace_default_route(&mut self, name: &str, gateway: IpAddr) -> Result<(), Error> {
        let link = self.link(name)?.index;
        let all = match gateway {
            IpAddr::V4(_) => IpNetwork::new([0, 0, 0, 0].into(), 0),
            IpAddr::V6(_) => IpNetwork::new([0_u16; 8].into(), 0),
        };
        let all = all.map_err(|e| Error::new(e.to_string()))?;
        let route = Route {
            dst: all,
            gw: Some(gateway),
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        };
        // First the others: IPv6 would make one route with several ways of the old one and the new one.
        let new = Hop {
            gateway: Some(gateway),
            link,
        };
        self.remove_default_routes(gateway.is_ipv6(), |hops| *hops == [new])?;
        let added = route::add(link, &route, Some(gateway)).and_then(|r| self.request(r));
        match added {
            Err(e) if !e.is(Errno::EEXIST) => {
                let what = format!("default via {gateway} dev {name}");
                Err(e.context(format!("failed to add route '{what}'")))
            }
            _ => Ok(()),
        }
    }

    /// Removes the default routes of a family in the main table that lead through other links than `name`.
    pub fn keep_default_route(&mut self, name: &str, is_v6: bool) -> Result<(), Error> {
        let link = self.link(name)?.index;
        self.remove_default_routes(is_v6, |hops| hops.iter().all(|hop| hop.link == link))
    }

    fn remove_default_routes(
        &mut self,
        is_v6: bool,
        stays: impl Fn(&[Hop]) -> bool,
    ) -> Result<(), Error> {
        let routes = self.routes(is_v6)?.into_iter();
        let defaults = routes.filter(|r| r.table == MAIN && r.dst.prefix() == 0);
        let requests: Vec<Request> = defaults.filter(|r| !stays(&r.hops)).map(delete).collect();
        let refusals = self.batch(requests);
        match refusals.into_iter().find(|r| !r.error.is(Errno::ESRCH)) {
            Some(refusal) => Err(refusal.error.context("failed to remove a default route")),
            None => Ok(()),
        }
    }
}

/// Asks to delete a route, by all that tells it from others to the same destination.
fn delete(entry: Entry) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = match entry.dst.is_ipv6() {
        false => AddressFamily::Inet,
        true => AddressFamily::Inet6,
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unspec;
    // "Nowhere" stands for any scope here.
    message.header.scope = RouteScope::NoWhere;
    let gateway = |hop: &Hop| {
        hop.gateway.map(|gateway| match gateway {
            IpAddr::V4(ip) => RouteAttribute::Gateway(RouteAddress::Inet(ip)),
            IpAddr::V6(ip) => RouteAttribute::Gateway(RouteAddress::Inet6(ip)),
        })
    };
    match entry.hops.as_slice() {
        [hop] => {
            message.attributes.push(RouteAttribute::Oif(hop.link));
            message.attributes.extend(gateway(hop));
        }
        hops => {
            let next = |hop: &Hop| {
                let mut next = RouteNextHop::default();
                next.interface_index = hop.link;
                next.attributes.extend(gateway(hop));
                next
            };
            let hops = hops.iter().map(next).collect();
            message.attributes.push(RouteAttribute::MultiPath(hops));
        }
    }
    if entry.priority > 0 {
        let priority = RouteAttribute::Priority(entry.priority);
        message.attributes.push(priority);
    }
    Request {
        message: RouteNetlinkMessage::DelRoute(message),
        flags: 0,
    }
}
