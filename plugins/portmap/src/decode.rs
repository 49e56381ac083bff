//! Reads the sense of a rule out of its expressions, whoever wrote it: `nft`, iptables-nft or this plugin.

use std::net::{IpAddr, SocketAddr};

use kernel::nftables::{Comparison, Expression, Family, Header, xt};

use crate::mapping::{Forward, Protocol};

/// What a rule says, as far as port mappings are concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) protocol: Option<Protocol>,
    /// The destination ports it asks for.
    pub(crate) ports: Vec<u16>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) target: Option<SocketAddr>,
    /// The chain it jumps to.
    pub(crate) jump: Option<String>,
    /// The comment as an xtables match; nft's own comments are in the user data.
    pub(crate) comment: Option<String>,
    /// The packet mark that it sets or asks for.
    pub(crate) mark: Option<u32>,
    /// It asks for something more.
    pub(crate) has_more: bool,
}

impl Facts {
    /// The one forward it makes, if that is what it does.
    pub(crate) fn forward(&self) -> Option<Forward> {
        let [host_port] = *self.ports.as_slice() else {
            return None;
        };
        Some(Forward {
            protocol: self.protocol?,
            host_port,
            only_on: self.destination,
            target: self.target?,
        })
    }
}

/// What a register holds while the rule is read.
#[derive(Clone, PartialEq)]
enum Loaded {
    Nothing,
    Protocol,
    Destination,
    DestinationPort,
    Constant(Vec<u8>),
    Mark,
    /// These bits of the mark.
    MarkBits(Vec<u8>),
    Unknown,
}

/// Reads a rule of this family.
pub(crate) fn facts(family: Family, expressions: &[Expression]) -> Facts {
    let mut facts = Facts::default();
    let mut registers: Vec<(u32, Loaded)> = Vec::new();
    for expression in expressions {
        read(family, expression, &mut registers, &mut facts);
    }
    facts
}

fn read(
    family: Family,
    expression: &Expression,
    registers: &mut Vec<(u32, Loaded)>,
    facts: &mut Facts,
) {
    let held = |registers: &[(u32, Loaded)], wanted: u32| {
        let last = registers
            .iter()
            .rev()
            .find(|(register, _)| *register == wanted);
        last.map_or(Loaded::Nothing, |(_, loaded)| loaded.clone())
    };
    match expression {
        Expression::Payload {
            header,
            offset,
            length,
            register,
        } => {
            registers.push((*register, field(family, *header, *offset, *length)));
        }
        Expression::Meta { key, register } => {
            let loaded = match *key {
                Expression::META_L4PROTO => Loaded::Protocol,
                Expression::META_MARK => Loaded::Mark,
                _ => Loaded::Unknown,
            };
            registers.push((*register, loaded));
        }
        Expression::Load { register, data } => {
            registers.push((*register, Loaded::Constant(data.clone())));
        }
        Expression::Mask { register, mask } if held(registers, *register) == Loaded::Mark => {
            registers.push((*register, Loaded::MarkBits(mask.clone())));
        }
        Expression::Compare {
            register,
            how: Comparison::Equal,
            with,
        } => {
            compare(&held(registers, *register), with, facts);
        }
        Expression::Nat(nat) if nat.kind == 1 => {
            let address = held(registers, nat.address);
            let port = held(registers, nat.port);
            if let (Loaded::Constant(address), Loaded::Constant(port)) = (address, port) {
                facts.target = socket_address(&address, &port);
            }
        }
        Expression::Jump(chain) => facts.jump = Some(chain.clone()),
        Expression::Counter | Expression::Masquerade => {}
        Expression::XtMatch {
            name,
            revision,
            info,
        } => match (name.as_str(), revision) {
            ("comment", _) => facts.comment = Some(xt::comment(info)),
            ("multiport", 1) => match xt::destination_ports(info) {
                Some(ports) => facts.ports = ports,
                None => facts.has_more = true,
            },
            ("mark", 1) => facts.mark = xt::mark(info),
            _ => facts.has_more = true,
        },
        Expression::XtTarget {
            name,
            revision,
            info,
        } => match (name.as_str(), revision) {
            ("DNAT", _) => facts.target = xt::dnat_target(family, *revision, info),
            ("MARK", 2) => facts.mark = xt::mark(info),
            ("MASQUERADE", _) => {}
            _ => facts.has_more = true,
        },
        _ => facts.has_more = true,
    }
}

fn compare(what: &Loaded, with: &[u8], facts: &mut Facts) {
    match what {
        Loaded::Protocol => {
            facts.protocol = Protocol::ALL.into_iter().find(|p| with == [p.number()]);
            facts.has_more |= facts.protocol.is_none();
        }
        Loaded::Destination => facts.destination = address(with),
        Loaded::DestinationPort => facts.ports = port(with).into_iter().collect(),
        Loaded::MarkBits(mask) if mask == with => {
            facts.mark = with.try_into().ok().map(u32::from_ne_bytes);
        }
        _ => facts.has_more = true,
    }
}

/// The field of a packet at this place. A part of an address (a prefix of whole bytes) is none of them.
fn field(family: Family, header: Header, offset: u32, length: u32) -> Loaded {
    match (header, family, offset, length) {
        (Header::Network, Family::Ip, 9, 1) | (Header::Network, Family::Ip6, 6, 1) => {
            Loaded::Protocol
        }
        (Header::Network, Family::Ip, 16, 4) | (Header::Network, Family::Ip6, 24, 16) => {
            Loaded::Destination
        }
        (Header::Transport, _, 2, 2) => Loaded::DestinationPort,
        _ => Loaded::Unknown,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(octets).ok()?.into()),
        _ => None,
    }
}

fn port(octets: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(..2)?.try_into().ok()?))
}

fn socket_address(octets: &[u8], port_octets: &[u8]) -> Option<SocketAddr> {
    Some(SocketAddr::new(address(octets)?, port(port_octets)?))
}
