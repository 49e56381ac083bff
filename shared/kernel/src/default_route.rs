//! The way out of a pod that is on several networks: which of them it takes.

use std::net::IpAddr;

use cni::Route;
use ipnetwork::IpNetwork;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
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

    /// Removes the ways of a family's default routes in the main table that lead through other links than `name`.
    pub fn keep_default_route(&mut self, name: &str, is_v6: bool) -> Result<(), Error> {
        let link = self.link(name)?.index;
        let mut requests = Vec::new();
        for mut entry in self.default_routes(is_v6)? {
            let (own, others): (Vec<Hop>, Vec<Hop>) =
                entry.hops.iter().partition(|hop| hop.link == link);
            if others.is_empty() {
                continue;
            }
            // Default routes of two networks are one route to IPv6, whose ways can go one by one; those of IPv4 go
            // together.
            if is_v6 && !own.is_empty() {
                entry.hops = others;
                requests.push(delete(&entry));
                continue;
            }
            requests.push(delete(&entry));
            if !own.is_empty() {
                entry.hops = own;
                requests.push(restore(&entry));
            }
        }
        self.apply(requests)
    }

    fn remove_default_routes(
        &mut self,
        is_v6: bool,
        stays: impl Fn(&[Hop]) -> bool,
    ) -> Result<(), Error> {
        let defaults = self.default_routes(is_v6)?;
        let others = defaults.iter().filter(|entry| !stays(&entry.hops));
        let requests = others.map(delete).collect();
        self.apply(requests)
    }

    /// Those of the main table.
    fn default_routes(&mut self, is_v6: bool) -> Result<Vec<Entry>, Error> {
        let mut routes = self.routes(is_v6)?;
        routes.retain(|route| route.table == MAIN && route.dst.prefix() == 0);
        Ok(routes)
    }

    /// A route that went by itself is no failure.
    fn apply(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        let refusals = self.batch(requests);
        match refusals.into_iter().find(|r| !r.error.is(Errno::ESRCH)) {
            Some(refusal) => Err(refusal.error.context("failed to remove a default route")),
            None => Ok(()),
        }
    }
}

/// Asks to delete a route, by all that tells it from others to the same destination.
fn delete(entry: &Entry) -> Request {
    let mut message = message(entry);
    message.header.kind = RouteType::Unspec;
    // "Nowhere" stands for any scope here.
    message.header.scope = RouteScope::NoWhere;
    Request {
        message: RouteNetlinkMessage::DelRoute(message),
        flags: 0,
    }
}

/// Asks to make a default route as it was, with the ways that are left.
fn restore(entry: &Entry) -> Request {
    let mut message = message(entry);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::from(entry.scope);
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE,
    }
}

fn message(entry: &Entry) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match entry.dst.is_ipv6() {
        false => AddressFamily::Inet,
        true => AddressFamily::Inet6,
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
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
    message
}
