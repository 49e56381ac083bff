//! Giving an interface its addresses and routes: what every interface plugin does with the answer of IPAM.

use std::net::IpAddr;

use cni::{Ip, Route, Success};

use crate::dad::Dad;
use crate::route::Described;
use crate::socket::Request;
use crate::{Error, Link, Rtnl, address, link, route, sysctl};

/// Makes the kernel announce the addresses of `link` when it goes up: gratuitous ARP, unsolicited neighbour
/// advertisements. To be called before [`configure`].
///
/// A packet socket could do the same, but closing one takes 10 ms. A `/proc` that is read-only costs the
/// announcement and not the pod, so failures are only logged.
pub fn announce_addresses(link: &Link) {
    let name = &link.name;
    for key in [
        format!("net/ipv4/conf/{name}/arp_notify"),
        format!("net/ipv6/conf/{name}/ndisc_notify"),
    ] {
        if let Err(e) = sysctl::write(&key, "1") {
            log::info!("addresses of {name} are not announced: {e}");
        }
    }
}

/// Gives `link` the addresses that `result` has for it, switches it on, waits for duplicate address detection if
/// there is an IPv6 gateway, and adds the routes. `rtnl` and the calling thread are in the link's namespace.
///
/// Addresses are there before the link is up: only those are announced. Nothing is undone on failure, that is
/// done by deleting the link.
pub fn configure(rtnl: &mut Rtnl, link: &Link, result: &Success) -> Result<(), Error> {
    let ips = own_ips(link, result)?;
    if ips.iter().any(|ip| ip.address.is_ipv6()) {
        enable_ipv6(&link.name)?;
    }
    let addresses = ips.iter().map(|ip| Step::Address(ip));
    let mut steps: Vec<Step<'_>> = addresses.chain([Step::Up]).collect();
    let routes = result.routes.iter().map(|route| Step::Route {
        route,
        via: route.gw.or_else(|| gateway(&ips, route.dst.is_ipv6())),
    });
    if gateway(&ips, true).is_some() {
        let dad = Dad::subscribe()?;
        take(rtnl, link, &steps)?;
        dad.settle(rtnl, link)
            .map_err(|e| e.context(format!("failed to settle addresses for {:?}", link.name)))?;
        steps.clear();
    }
    steps.extend(routes);
    take(rtnl, link, &steps)
}

/// The addresses of `result` that are for `link`.
fn own_ips<'a>(link: &Link, result: &'a Success) -> Result<Vec<&'a Ip>, Error> {
    if result.interfaces.is_empty() {
        return Err(Error::new("no interfaces to configure"));
    }
    let of_some_interface = result.ips.iter().filter_map(|ip| Some((ip, ip.interface?)));
    of_some_interface
        .map(|(ip, index)| match result.interfaces.get(index) {
            Some(interface) if interface.name == link.name => Ok(ip),
            _ => {
                let step = Step::Address(ip).failed(&link.name);
                Err(Error::new("invalid interface index").context(step))
            }
        })
        .collect()
}

/// The first gateway of a family.
fn gateway(ips: &[&Ip], is_v6: bool) -> Option<IpAddr> {
    let mut gateways = ips.iter().filter_map(|ip| ip.gateway);
    gateways.find(|gateway| gateway.is_ipv6() == is_v6)
}

/// IPv6 may be switched off for new interfaces; an address of it means that it is wanted on this one, and on the
/// loopback interface, which local connections go through.
fn enable_ipv6(name: &str) -> Result<(), Error> {
    for name in ["lo", name] {
        let key = format!("net/ipv6/conf/{name}/disable_ipv6");
        match sysctl::read(&key).as_deref() {
            Ok("0") => {}
            Ok(_) => sysctl::write(&key, "0")
                .map_err(|e| e.context(format!("failed to enable IPv6 for interface {name:?}")))?,
            // A kernel without IPv6; adding the address will say so.
            Err(e) => log::warn!("{e}"),
        }
    }
    // Otherwise a link that goes down and up again would have lost its addresses.
    let key = format!("net/ipv6/conf/{name}/keep_addr_on_down");
    sysctl::write(&key, "1").map_err(|e| {
        e.context(format!(
            "failed to enable keep_addr_on_down for interface {name:?}"
        ))
    })
}

/// One change of an interface.
enum Step<'a> {
    Address(&'a Ip),
    Up,
    Route {
        route: &'a Route,
        via: Option<IpAddr>,
    },
}

/// Takes all steps with one call of the kernel. The error is that of the first one that failed.
fn take(rtnl: &mut Rtnl, link: &Link, steps: &[Step<'_>]) -> Result<(), Error> {
    let requests: Result<Vec<Request>, Error> = steps
        .iter()
        .map(|step| {
            let request = match step {
                Step::Address(ip) => Ok(address::add(link.index, ip.address)),
                Step::Up => Ok(link::up(link.index)),
                Step::Route { route, via } => route::add(link.index, route, *via),
            };
            request.map_err(|e| e.context(step.failed(&link.name)))
        })
        .collect();
    let refusal = rtnl.batch(requests?).into_iter().next();
    match refusal {
        None => Ok(()),
        Some(refusal) => match steps.get(refusal.index) {
            Some(step) => Err(refusal.error.context(step.failed(&link.name))),
            None => Err(refusal.error),
        },
    }
}

impl Step<'_> {
    /// What the original plugins say when this step fails.
    fn failed(&self, name: &str) -> String {
        match self {
            Step::Address(ip) => format!("failed to add IP addr {} to {name:?}", ip.address),
            Step::Up => format!("failed to set {name:?} UP"),
            Step::Route { route, via } => {
                format!(
                    "failed to add route '{}'",
                    Described {
                        route,
                        via: *via,
                        name
                    }
                )
            }
        }
    }
}
