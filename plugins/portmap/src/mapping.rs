//! What is to be mapped where, and who it belongs to.

use std::net::{IpAddr, SocketAddr};

use cni::Success;
use ipnetwork::IpNetwork;
use kernel::nftables::Family;

use crate::conf::Settings;

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

impl Protocol {
    /// In alphabetical order, the order of the original's rules.
    pub(crate) const ALL: [Protocol; 3] = [Protocol::Sctp, Protocol::Tcp, Protocol::Udp];

    /// Reads a name in any case.
    pub(crate) fn parse(name: &str) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Sctp => "sctp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// `IPPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Sctp => 132,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

/// One entry of `portMappings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) protocol: Protocol,
    pub(crate) host_port: u16,
    /// As configured; an unspecified address (`0.0.0.0`, `::`) means all of its family.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) container_port: u16,
}

impl Mapping {
    /// Whether the mapping is for packets of this family.
    pub(crate) fn is_for(&self, family: Family) -> bool {
        self.host_ip.is_none_or(|ip| Family::of(ip) == family)
    }

    /// The one address of the host it is for; `None` means all of them.
    pub(crate) fn only_on(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// The same as a rule to `address` would show it.
    pub(crate) fn forward_to(&self, address: IpAddr) -> Forward {
        Forward {
            protocol: self.protocol,
            host_port: self.host_port,
            only_on: self.only_on(),
            target: SocketAddr::new(address, self.container_port),
        }
    }
}

/// What a rule in the kernel does: packets to a host port go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) protocol: Protocol,
    pub(crate) host_port: u16,
    pub(crate) only_on: Option<IpAddr>,
    pub(crate) target: SocketAddr,
}

impl Forward {
    /// Whether some packet would meet both. `only_on` of one family never meets a target of the other, and
    /// "all addresses" meets every single one, as the scheduler of Kubernetes sees it too.
    pub(crate) fn collides(&self, other: &Forward) -> bool {
        let same_address = match (self.only_on, other.only_on) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        let family = |forward: &Forward| Family::of(forward.target.ip());
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && family(self) == family(other)
            && same_address
    }
}

/// Whose rules they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) container_id: String,
    pub(crate) ifname: String,
}

/// Everything a backend needs to know to set up an attachment.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) attachment: Attachment,
    pub(crate) settings: Settings,
    /// The pod's address in each family that it has one in.
    pub(crate) addresses: Vec<IpNetwork>,
}

impl Job {
    /// The mappings of a family.
    pub(crate) fn mappings(&self, family: Family) -> impl Iterator<Item = &Mapping> {
        self.settings
            .mappings
            .iter()
            .filter(move |m| m.is_for(family))
    }

    /// The forwards that are wanted to this address.
    pub(crate) fn forwards(&self, address: IpAddr) -> impl Iterator<Item = Forward> {
        self.mappings(Family::of(address))
            .map(move |m| m.forward_to(address))
    }
}

/// The first IPv4 and the first IPv6 address of the attached interface.
///
/// An address without an interface index counts, as IPAM plugins give none; so does one whose index leads
/// nowhere. One whose index leads to another interface, or to one on the host, does not.
pub(crate) fn container_addresses(result: &Success, ifname: &str) -> Vec<IpNetwork> {
    let on_interface = |index: Option<usize>| {
        index
            .and_then(|i| result.interfaces.get(i))
            .is_none_or(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    };
    let first = |family| {
        let mut of_family = result
            .ips
            .iter()
            .filter(|ip| Family::of(ip.address.ip()) == family);
        of_family
            .find(|ip| on_interface(ip.interface))
            .map(|ip| ip.address)
    };
    Family::ALL.into_iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni::{Interface, Ip};

    fn forward(only_on: Option<&str>, target: &str) -> Forward {
        Forward {
            protocol: Protocol::Tcp,
            host_port: 80,
            only_on: only_on.map(|ip| ip.parse().unwrap()),
            target: target.parse().unwrap(),
        }
    }

    #[test]
    fn collisions() {
        let all = forward(None, "10.0.0.2:80");
        let one = forward(Some("192.0.2.1"), "10.0.0.3:80");
        let other = forward(Some("192.0.2.2"), "10.0.0.4:80");
        assert!(all.collides(&one) && one.collides(&all) && one.collides(&one));
        assert!(!one.collides(&other));
        assert!(!all.collides(&forward(None, "[fd00::2]:80")));
        assert!(!all.collides(&Forward {
            protocol: Protocol::Udp,
            ..all
        }));
        assert!(!all.collides(&Forward {
            host_port: 81,
            ..all
        }));
    }

    #[test]
    fn which_addresses_are_the_containers() {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.into(),
            sandbox: sandbox.into(),
            ..Interface::default()
        };
        let ip = |address: &str, interface| Ip {
            address: address.parse().unwrap(),
            gateway: None,
            interface,
        };
        let mut result = Success {
            interfaces: vec![
                interface("eth0", ""),
                interface("eth0", "/ns"),
                interface("net1", "/ns"),
            ],
            ips: vec![
                ip("10.0.0.1/24", Some(0)),
                ip("10.0.0.2/24", Some(2)),
                ip("10.0.0.3/24", Some(1)),
                ip("10.0.0.4/24", Some(1)),
                ip("fd00::4/64", Some(9)),
            ],
            ..Success::default()
        };
        let texts = |result: &Success| {
            let found = container_addresses(result, "eth0");
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(&result), ["10.0.0.3/24", "fd00::4/64"]);
        result.ips = vec![ip("fd00::5/64", None)];
        assert_eq!(texts(&result), ["fd00::5/64"]);
        result.ips.clear();
        assert!(texts(&result).is_empty());
    }
}
