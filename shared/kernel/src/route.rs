//! Routes: adding them, listing them, and the way out of a host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::Route;
use ipnetwork::IpNetwork;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::libc;
use rtnetlink::RouteMessageBuilder;

use crate::attribute::{self, attributes};
use crate::socket::Request;
use crate::{Error, Link, Rtnl};

/// Number of the main routing table, `RT_TABLE_MAIN`.
pub(crate) const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// Length of `struct rtmsg`.
const HEADER: usize = 12;
/// Length of `struct rtnexthop`.
const HOP_HEADER: usize = 8;

/// A route of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Destination; the default route is `0.0.0.0/0` or `::/0`.
    pub(crate) dst: IpNetwork,
    /// Routing table.
    pub(crate) table: u32,
    /// Metric; IPv6 has 1024 where nobody said any.
    pub(crate) priority: u32,
    /// `RT_SCOPE_*`.
    pub(crate) scope: u8,
    /// Where packets go; more than one for a multipath route.
    pub(crate) hops: Vec<Hop>,
}

/// One way that a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Next router, if the destination is not on the link.
    pub(crate) gateway: Option<IpAddr>,
    /// Number of the link.
    pub(crate) link: u32,
}

/// The link of the first default route of the calling thread's namespace, IPv4 before IPv6: the master when the
/// configuration names none.
///
/// Not there: `no default route interface found`.
pub fn default_link() -> Result<Link, Error> {
    let hop = |payload: &[u8]| {
        let entry = Entry::read(payload)?;
        let is_default = entry.table == MAIN && entry.dst.prefix() == 0;
        entry.hops.first().filter(|_| is_default).copied()
    };
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        // Default routes come first, so a router's many routes are not waited for.
        match Rtnl::open()?.first(list(family, MAIN), hop) {
            Ok(Some(hop)) => return Rtnl::open()?.link_at(hop.link),
            Ok(None) => {}
            Err(e) if is_empty_table(&e) => {}
            Err(e) => return Err(e.context("failed to list the routes")),
        }
    }
    Err(Error::new("no default route interface found"))
}

impl Rtnl {
    /// The unicast routes of one family, of all tables.
    pub(crate) fn routes(&mut self, is_v6: bool) -> Result<Vec<Entry>, Error> {
        let family = match is_v6 {
            false => AddressFamily::Inet,
            true => AddressFamily::Inet6,
        };
        match self.dump(|| list(family, 0), Entry::read) {
            Err(e) if is_empty_table(&e) => Ok(Vec::new()),
            routes => routes.map_err(|e| e.context("failed to list the routes")),
        }
    }
}

/// Asks for the unicast routes of a table, 0 for those of all tables.
fn list(family: AddressFamily, table: u32) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.kind = RouteType::Unicast;
    message.header.table = u8::try_from(table).unwrap_or_default();
    RouteNetlinkMessage::GetRoute(message)
}

/// A table that never had a route does not exist; a kernel without IPv6 has no tables for it.
fn is_empty_table(e: &Error) -> bool {
    e.is(Errno::ENOENT) || e.is(Errno::EOPNOTSUPP)
}

impl Entry {
    /// Reads an `RTM_NEWROUTE`, if it is a unicast route that somebody made.
    fn read(payload: &[u8]) -> Option<Entry> {
        let header = RouteHeader::parse(payload).ok()?;
        if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let mut dst = match header.address_family {
            AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let (mut table, mut priority) = (u32::from(header.table), 0);
        let (mut gateway, mut link, mut hops) = (None, None, Vec::new());
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                libc::RTA_DST => dst = attribute::ip(value)?,
                libc::RTA_TABLE => table = attribute::u32(value),
                libc::RTA_PRIORITY => priority = attribute::u32(value),
                libc::RTA_GATEWAY => gateway = attribute::ip(value),
                libc::RTA_OIF => link = Some(attribute::u32(value)),
                libc::RTA_MULTIPATH => hops = Hop::read_all(value),
                _ => {}
            }
        }
        hops.extend(link.map(|link| Hop { gateway, link }));
        Some(Entry {
            dst: IpNetwork::new(dst, header.destination_prefix_length).ok()?,
            table,
            priority,
            scope: header.scope.into(),
            hops,
        })
    }
}

impl Hop {
    /// Reads the list of `struct rtnexthop` that `RTA_MULTIPATH` is.
    fn read_all(mut list: &[u8]) -> Vec<Hop> {
        let mut hops = Vec::new();
        while let Some(header) = list.first_chunk::<HOP_HEADER>() {
            let [l0, l1, _flags, _weight, index @ ..] = *header;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let Some(attributes) = list.get(HOP_HEADER..length) else {
                break;
            };
            hops.push(Hop {
                gateway: attribute::find(attributes, libc::RTA_GATEWAY).and_then(attribute::ip),
                link: u32::from_ne_bytes(index),
            });
            list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        hops
    }
}

/// Adds a route through the link `index`, to the gateway `via` if there is one.
///
/// `NLM_F_CREATE` alone: with `NLM_F_EXCL` the kernel would refuse a second default route, as it is the rule
/// for the second network of a pod. Like this the newer one goes in front.
pub(crate) fn add(index: u32, route: &Route, via: Option<IpAddr>) -> Result<Request, Error> {
    if via.is_some_and(|via| via.is_ipv4() != route.dst.is_ipv4()) {
        let why = "gateway, source, and destination ip are not the same IP family";
        return Err(Error::new(why));
    }
    let invalid = |e| Error::new(format!("{e}"));
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.dst.ip(), route.dst.prefix())
        .map_err(invalid)?
        .protocol(RouteProtocol::Boot)
        .output_interface(index);
    if let Some(via) = via {
        builder = builder.gateway(via).map_err(invalid)?;
    }
    if let Some(table) = route.table.filter(|table| *table > 0) {
        builder = builder.table_id(table);
    }
    if let Some(scope) = route.scope {
        let scope = u8::try_from(scope).map_err(|_| Error::new("scope is not 0 to 255"))?;
        builder = builder.scope(RouteScope::from(scope));
    }
    if route.priority > 0 {
        builder = builder.priority(route.priority);
    }
    let metrics = [
        (route.mtu > 0).then_some(RouteMetric::Mtu(route.mtu)),
        (route.advmss > 0).then_some(RouteMetric::Advmss(route.advmss)),
    ];
    let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
    let mut message = builder.build();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    Ok(Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE,
    })
}

/// A route in the words of `ip route`.
pub(crate) struct Described<'a> {
    pub(crate) route: &'a Route,
    pub(crate) via: Option<IpAddr>,
    pub(crate) name: &'a str,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.route;
        write!(f, "{}", route.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.name)?;
        for (word, number) in [
            ("table", route.table.filter(|table| *table > 0)),
            ("metric", (route.priority > 0).then_some(route.priority)),
            ("scope", route.scope),
        ] {
            if let Some(number) = number {
                write!(f, " {word} {number}")?;
            }
        }
        Ok(())
    }
}
