//! Comparing an interface with the result of the ADD that made it.
//!
//! Plugins later in the chain may have added addresses, routes and interfaces, moved routes to other tables or changed
//! the hardware address (and told so in the result). None of that is a fault.

use std::net::IpAddr;

use cni::text::{format_mac, parse_mac};
use cni::{Interface, Ip, Route, Success};
use nix::errno::Errno;

use crate::route::{Described, Entry, MAIN};
use crate::{Error, Link, Netns, Rtnl};

/// What a result says about the interface of one plugin.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    result: &'a Success,
    interface: &'a Interface,
    index: usize,
}

impl<'a> Expected<'a> {
    /// Finds `ifname` in the namespace `netns` among the interfaces of `result`. `path` is `CNI_NETNS`.
    pub fn find(
        result: &'a Success,
        ifname: &str,
        netns: &Netns,
        path: &str,
    ) -> Result<Expected<'a>, Error> {
        let named = |(_, interface): &(usize, &Interface)| interface.name == ifname;
        let here = |(_, interface): &(usize, &Interface)| {
            interface.sandbox == path || netns.is_at(&interface.sandbox)
        };
        let mut all = result.interfaces.iter().enumerate().filter(named);
        if let Some((index, interface)) = all.clone().find(here) {
            return Ok(Expected {
                result,
                interface,
                index,
            });
        }
        Err(Error::new(match all.next() {
            None => format!("container interface name missing in prevResult: {ifname}"),
            Some((_, other)) if other.sandbox.is_empty() => {
                format!("error: Container interface {ifname} should not be in host namespace")
            }
            Some((_, other)) => {
                let sandbox = &other.sandbox;
                format!("sandbox in prevResult {sandbox} doesn't match configured netns: {path}")
            }
        }))
    }

    /// Looks the link up: it is there, is of `kind` and up, and has the hardware address of the result.
    ///
    /// `rtnl` is in the pod's namespace, here and below.
    pub fn link(&self, rtnl: &mut Rtnl, kind: &str) -> Result<Link, Error> {
        let Interface { name, mac, .. } = self.interface;
        let link = rtnl.link(name).map_err(|e| match e.errno {
            Some(Errno::ENODEV) => Error {
                msg: format!("container Interface name in prevResult: {name} not found"),
                ..e
            },
            _ => e.context(format!("failed to lookup {name:?}")),
        })?;
        if link.kind != kind {
            let why = format!("error: Container interface {name} not of type {kind}");
            return Err(Error::new(why));
        }
        if !mac.is_empty() && parse_mac(mac).ok().as_ref() != Some(&link.mac) {
            let found = format_mac(&link.mac);
            let why = format!("interface {name} Mac {mac} doesn't match container Mac: {found}");
            return Err(Error::new(why));
        }
        if !link.is_up {
            return Err(Error::new(format!("interface {name} is down")));
        }
        Ok(link)
    }

    /// Compares the addresses and routes of the result with those that are there.
    pub fn addresses_and_routes(&self, rtnl: &mut Rtnl, link: &Link) -> Result<(), Error> {
        self.addresses(rtnl, link)?;
        let links = self.links(rtnl, link);
        for is_v6 in [false, true] {
            let of_family = |route: &&Route| route.dst.is_ipv6() == is_v6;
            let routes = self.result.routes.iter().filter(of_family);
            let subnets = self
                .subnets_with_gateway()
                .filter(|ip| ip.address.is_ipv6() == is_v6);
            if routes.clone().next().is_none() && subnets.clone().next().is_none() {
                continue;
            }
            let entries = rtnl.routes(is_v6)?;
            for ip in subnets {
                is_on_link(ip, &entries, link)?;
            }
            for route in routes {
                self.is_there(route, &entries, &links, link)?;
            }
        }
        Ok(())
    }

    /// The addresses that belong to this interface, not to another one of the chain.
    fn ips(&self) -> impl Iterator<Item = &'a Ip> + Clone {
        let index = self.index;
        let ips = self.result.ips.iter();
        ips.filter(move |ip| ip.interface == Some(index))
    }

    /// Addresses whose gateway is reached over their subnet, so not those that are alone in theirs.
    fn subnets_with_gateway(&self) -> impl Iterator<Item = &'a Ip> + Clone {
        let is_alone = |ip: &Ip| ip.address.prefix() == if ip.address.is_ipv4() { 32 } else { 128 };
        self.ips()
            .filter(move |ip| ip.gateway.is_some() && !is_alone(ip))
    }

    fn addresses(&self, rtnl: &mut Rtnl, link: &Link) -> Result<(), Error> {
        if self.ips().next().is_none() {
            return Ok(());
        }
        let (name, found) = (&link.name, rtnl.addresses(link)?);
        for ip in self.ips() {
            let address = ip.address;
            match found.iter().find(|found| found.net == address) {
                None => {
                    let why = format!("Failed to match addr {address} on interface {name}");
                    return Err(Error::new(why));
                }
                Some(found) if found.is_duplicate => {
                    let ip = address.ip();
                    let why = format!("link {name} has address {ip} in DADFAILED state");
                    return Err(Error::new(why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The links of the pod that the result names: routes may go over each of them.
    fn links(&self, rtnl: &mut Rtnl, link: &Link) -> Vec<u32> {
        let others = self.result.interfaces.iter().enumerate();
        let others =
            others.filter(|(index, other)| *index != self.index && !other.sandbox.is_empty());
        let mut links = vec![link.index];
        links.extend(others.filter_map(|(_, other)| Some(rtnl.link(&other.name).ok()?.index)));
        links
    }

    fn is_there(
        &self,
        route: &Route,
        entries: &[Entry],
        links: &[u32],
        link: &Link,
    ) -> Result<(), Error> {
        let table_of = |route: &Route| match route.table {
            Some(0) => Some(MAIN),
            table => table,
        };
        let is_claimed = |table| {
            self.result
                .routes
                .iter()
                .any(|r| table_of(r) == Some(table))
        };
        // A route without a table was made in main, but plugins like sbr move it to a table of the pod's own.
        let in_table = |entry: &Entry| match table_of(route) {
            Some(table) => entry.table == table,
            None => entry.table == MAIN || !is_claimed(entry.table),
        };
        let via = |entry: &Entry| {
            let mut hops = entry.hops.iter().filter(|hop| links.contains(&hop.link));
            hops.any(|hop| route.gw.is_none() || hop.gateway == route.gw)
        };
        let is_same = |entry: &&Entry| {
            let (prefix, network) = (route.dst.prefix(), route.dst.network());
            let has_scope = route.dst.is_ipv4().then_some(route.scope).flatten();
            (entry.dst.prefix(), entry.dst.ip()) == (prefix, network)
                && in_table(entry)
                && (route.priority == 0 || route.priority == entry.priority)
                && has_scope.is_none_or(|scope| scope == u32::from(entry.scope))
                && via(entry)
        };
        if entries.iter().any(|entry| is_same(&entry)) {
            return Ok(());
        }
        let (name, via) = (&link.name, route.gw);
        let expected = Described { route, via, name };
        let why = format!("Expected Route {expected} not found in routing table");
        Err(Error::new(why))
    }
}

/// Whether the gateway of `ip` can be reached: a route to their subnet goes over the link, in whatever table.
fn is_on_link(ip: &Ip, entries: &[Entry], link: &Link) -> Result<(), Error> {
    let over_link = |entry: &Entry| entry.hops.iter().any(|hop| hop.link == link.index);
    let (network, prefix): (IpAddr, u8) = (ip.address.network(), ip.address.prefix());
    let mut to_subnet = entries
        .iter()
        .filter(|entry| (entry.dst.ip(), entry.dst.prefix()) == (network, prefix));
    if to_subnet.any(over_link) {
        return Ok(());
    }
    let gateway = ip.gateway.map(|gateway| gateway.to_string());
    Err(Error::new(format!(
        "Failed to find Gateway {} for interface {}: no route to {network}/{prefix}",
        gateway.unwrap_or_default(),
        link.name
    )))
}
