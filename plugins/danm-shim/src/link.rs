//! Interfaces in the kernel: ipvlan links of our own, and what every interface of DANM gets besides.

use std::collections::BTreeMap;

use cni::{Error, Route};
use ipnetwork::IpNetwork;
use k8s::DanmNetwork;
use kernel::{
    Child, IpVlanFlag, IpVlanMode, Kind, Link, Netns, Rtnl, Rule, announce_addresses, sysctl,
};

use crate::delegate::host_device;
use crate::ipam::Addresses;

/// The kind of the links that this plugin makes itself.
pub(crate) const IPVLAN: Kind = Kind::IpVlan {
    mode: IpVlanMode::L2,
    flag: IpVlanFlag::Bridge,
};

/// What an interface gets besides being made.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) ifname: &'a str,
    pub(crate) network: &'a DanmNetwork,
    pub(crate) addresses: &'a Addresses,
    pub(crate) proutes: &'a BTreeMap<String, String>,
    pub(crate) proutes6: &'a BTreeMap<String, String>,
    /// Another plugin has made it, if it is there at all, and given it its addresses.
    pub(crate) is_delegated: bool,
}

/// Where IPv6 was off in a pod: names of interfaces, `default` for those to come, and `all`.
#[derive(Debug)]
pub(crate) struct WithoutIpv6(Vec<String>);

/// Gives the pod `::1`, which local connections go to: its loopback interface has it as soon as IPv6 is on. `None`:
/// it was on, or the kernel has none.
pub(crate) fn enable_ipv6(pod: &Netns) -> Result<Option<WithoutIpv6>, Error> {
    pod.inside(|| {
        match sysctl::read(&disable_ipv6("all")) {
            Ok(value) if value == "0" => return Ok(None),
            Ok(_) => {}
            Err(e) => {
                log::warn!("the kernel has no IPv6: {e}");
                return Ok(None);
            }
        }
        let is_off = |name: &String| sysctl::read(&disable_ipv6(name)).is_ok_and(|v| v != "0");
        let off = sysctl::names("net/ipv6/conf")?.into_iter().filter(is_off);
        let off = WithoutIpv6(off.collect());
        sysctl::write(&disable_ipv6("all"), "0")?;
        Ok(Some(off))
    })
}

impl WithoutIpv6 {
    /// Switches it off again. `all` speaks for every interface: it is left alone where one has IPv6 that had it before.
    pub(crate) fn restore(&self, pod: &Netns) -> Result<(), Error> {
        pod.inside(|| {
            let there = sysctl::names("net/ipv6/conf")?;
            let was_on = there.iter().any(|name| !self.0.contains(name));
            let names = self.0.iter().filter(|name| there.contains(name));
            for name in names.filter(|name| !(was_on && *name == "all")) {
                sysctl::write(&disable_ipv6(name), "1")?;
            }
            Ok(())
        })
    }
}

fn disable_ipv6(name: &str) -> String {
    format!("net/ipv6/conf/{name}/disable_ipv6")
}

/// Makes the network's VLAN or VXLAN link on the host, if it has one that is missing.
pub(crate) fn create_host_device(network: &DanmNetwork) -> Result<(), Error> {
    let options = &network.spec.options;
    let name = host_device(network);
    if name == options.host_device {
        return Ok(());
    }
    let mut rtnl = Rtnl::open()?;
    if rtnl.link(&name).is_ok() {
        return Ok(());
    }
    let parent = rtnl.link(&options.host_device).map_err(|e| {
        e.context(format!(
            "cannot find host device {:?} of {name:?}",
            options.host_device
        ))
    })?;
    let made = match options.vxlan {
        0 => {
            let id = u16::try_from(options.vlan).unwrap_or(u16::MAX);
            rtnl.create_vlan(&name, &parent, id)
        }
        vni => {
            let device = &parent.name;
            let local = rtnl.global_address(&parent)?.ok_or_else(|| {
                Error::plugin(format!(
                    "VxLAN interface cannot be set-up on top of a host interface:{device}, which does not have an IP"
                ))
            })?;
            rtnl.create_vxlan(&name, &parent, vni, local)
        }
    };
    match made {
        // Somebody else has made it in the meantime.
        Err(_) if rtnl.link(&name).is_ok() => Ok(()),
        made => Ok(made?),
    }
}

/// Makes an ipvlan link in the pod, under its own name from the first moment: a process that is killed leaves
/// nothing that DEL does not know. It is not up yet.
pub(crate) fn create_ipvlan(network: &DanmNetwork, ifname: &str, pod: &Netns) -> Result<(), Error> {
    let failed = |e: kernel::Error| e.context("IPVLAN interface could not be created due to error");
    let device = host_device(network);
    let mut rtnl = Rtnl::open()?;
    let parent = rtnl.link(&device).map_err(|e| {
        let msg = format!(
            "IPVLAN interface could not be created due to error:cannot find host device because:{}",
            e.msg
        );
        Error::plugin(msg).details(format!(
            "host device {device:?} of network {}",
            network.metadata.name
        ))
    })?;
    let child = Child {
        name: ifname,
        master: parent.index,
        mtu: 0,
        mac: None,
        tx_queue_len: Some(0),
        kind: IPVLAN,
    };
    Ok(rtnl.create(&child, Some(pod)).map_err(failed)?)
}

/// Makes a link in the pod that stands for a device whose driver is a program's: so its name, hardware address and
/// addresses can be seen, and by its alias which device it is. `below` is the dummy, which has the name itself where
/// the network is no VLAN.
pub(crate) fn create_stand_in(
    pod: &Netns,
    (below, ifname): (&str, &str),
    vlan: u32,
    mac: &[u8],
    device: &str,
) -> Result<(), Error> {
    let made = pod.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let mut link = rtnl.create_dummy(below, mac)?;
        if below != ifname {
            rtnl.set_up(&link)?;
            let vlan = u16::try_from(vlan).unwrap_or(u16::MAX);
            rtnl.create_vlan(ifname, &link, vlan)?;
            link = rtnl.link(ifname)?;
        }
        rtnl.set_alias(&link, device)
    });
    made.map_err(|e: kernel::Error| {
        let why = format!("failed to create dummy kernel interface for {ifname} because");
        Error::from(e.context(why))
    })
}

impl Finish<'_> {
    /// Sets the interface's sysctls, gives it addresses if nobody else has, switches it on, and makes the routes of
    /// the network and of the pod. A delegate may make no link at all: then there is nothing to do.
    pub(crate) fn run(&self, pod: &Netns) -> Result<Option<Link>, Error> {
        pod.inside(|| {
            let mut rtnl = Rtnl::open()?;
            let link = match rtnl.link(self.ifname) {
                Ok(link) => link,
                Err(e) if self.is_delegated => {
                    log::info!("{} is not in the pod: {e}", self.ifname);
                    return Ok(None);
                }
                Err(e) => return Err(e.into()),
            };
            self.sysctls()?;
            if self.is_delegated {
                // Its delegate may have left IPv6 addresses tentative.
                let v6: Vec<IpNetwork> = net(&self.addresses.ip6).into_iter().collect();
                if !v6.is_empty() {
                    rtnl.assign(&link, &v6)?;
                }
            } else {
                announce_addresses(&link);
                rtnl.assign(&link, &self.nets())?;
            }
            self.routes(&mut rtnl, &link)?;
            Ok(Some(rtnl.link(self.ifname)?))
        })
    }

    fn nets(&self) -> Vec<IpNetwork> {
        [&self.addresses.ip, &self.addresses.ip6]
            .into_iter()
            .filter_map(|a| net(a))
            .collect()
    }

    /// Without an IPv6 address there is no IPv6 on the interface, not even fe80::; `none` is enough to have it.
    fn sysctls(&self) -> Result<(), Error> {
        let settings: &[(&str, &str)] = match self.addresses.ip6.is_empty() {
            true => &[("disable_ipv6", "1")],
            false => &[
                ("disable_ipv6", "0"),
                ("autoconf", "0"),
                ("accept_ra", "0"),
                ("ndisc_notify", "1"),
            ],
        };
        for (setting, value) in settings {
            let key = format!("net/ipv6/conf/{}/{setting}", self.ifname);
            match sysctl::read(&key) {
                Ok(found) if found == *value => {}
                Ok(_) => sysctl::write(&key, value).map_err(|e| self.failed(&e.msg))?,
                // Without IPv6 in the kernel it is off.
                Err(_) if self.addresses.ip6.is_empty() => {}
                Err(e) => return Err(self.failed(&e.msg)),
            }
        }
        Ok(())
    }

    fn routes(&self, rtnl: &mut Rtnl, link: &Link) -> Result<(), Error> {
        let options = &self.network.spec.options;
        for (address, routes, proutes) in [
            (&self.addresses.ip, &options.routes, self.proutes),
            (&self.addresses.ip6, &options.routes6, self.proutes6),
        ] {
            let Some(address) = net(address) else {
                continue;
            };
            self.add(rtnl, link, &list(routes, address.is_ipv6(), None))?;
            if options.rt_tables != 0 && !proutes.is_empty() {
                let table = options.rt_tables;
                let rule = Rule {
                    from: address,
                    table,
                };
                rtnl.add_rule(rule).map_err(|e| self.failed(&e.msg))?;
                self.add(rtnl, link, &list(proutes, address.is_ipv6(), Some(table)))?;
            }
        }
        Ok(())
    }

    fn add(&self, rtnl: &mut Rtnl, link: &Link, routes: &[Route]) -> Result<(), Error> {
        rtnl.add_routes(link, routes).map_err(|(place, e)| {
            let (dst, gw) = match routes.get(place) {
                Some(route) => (route.dst.to_string(), route.gw),
                None => (String::new(), None),
            };
            let gw = gw.map(|gw| gw.to_string()).unwrap_or_default();
            self.failed(&format!(
                "Adding IP route with destination:{dst} and gateway:{gw} failed with error:{e}"
            ))
        })
    }

    fn failed(&self, why: &str) -> Error {
        Error::plugin(format!(
            "Post-processing failed for interface:{} because:{why}",
            self.ifname
        ))
    }
}

/// What CHECK expects of an interface: its routes in the main table, and those of its own table.
pub(crate) fn expected_routes(
    network: &DanmNetwork,
    addresses: &Addresses,
    proutes: [&BTreeMap<String, String>; 2],
) -> (Vec<Route>, Vec<Rule>) {
    let options = &network.spec.options;
    let (mut all, mut rules) = (Vec::new(), Vec::new());
    let families = [
        (&addresses.ip, &options.routes),
        (&addresses.ip6, &options.routes6),
    ];
    for ((address, routes), proutes) in families.into_iter().zip(proutes) {
        let Some(address) = net(address) else {
            continue;
        };
        all.extend(list(routes, address.is_ipv6(), None));
        if options.rt_tables != 0 && !proutes.is_empty() {
            let table = options.rt_tables;
            rules.push(Rule {
                from: address,
                table,
            });
            all.extend(list(proutes, address.is_ipv6(), Some(table)));
        }
    }
    (all, rules)
}

/// Routes as the kernel takes them. What can't be read is passed over, as the original does.
fn list(routes: &BTreeMap<String, String>, is_v6: bool, table: Option<u32>) -> Vec<Route> {
    let read = |(dst, gw): (&String, &String)| {
        let route = Route {
            dst: net(dst)?,
            gw: Some(cni::text::parse_ip(gw).ok()?),
            mtu: 0,
            advmss: 0,
            priority: 0,
            table,
            scope: None,
        };
        (route.dst.is_ipv6() == is_v6).then_some(route)
    };
    let readable = routes.iter().map(|pair| {
        let route = read(pair);
        if route.is_none() {
            log::warn!(
                "the route {} via {} is passed over: it can't be read",
                pair.0,
                pair.1
            );
        }
        route
    });
    readable.flatten().collect()
}

/// An address with its prefix length; `None` for `none` and the like.
pub(crate) fn net(address: &str) -> Option<IpNetwork> {
    cni::text::parse_cidr(address).ok()
}

/// Deletes a link in a namespace that may be gone.
pub(crate) fn delete(netns: &str, ifname: &str) -> Result<(), Error> {
    if netns.is_empty() || ifname.is_empty() {
        return Ok(());
    }
    match Netns::open(netns) {
        Ok(pod) => pod.inside(|| Ok(Rtnl::open()?.delete(ifname)?)),
        Err(e) if e.is_gone() => Ok(()),
        Err(e) => Err(Error::plugin(e.to_string())),
    }
}
