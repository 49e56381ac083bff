//! The expressions a rule is made of, as far as address translation needs them.

use std::net::IpAddr;

use super::Family;
use crate::wire::{self, Body, attribute};

/// One step of a rule. A step that does not hold ends the rule.
///
/// Registers are the kernel's `NFT_REG_1` to `NFT_REG_4`, 16 bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads bytes of the packet.
    #[expect(
        missing_docs,
        reason = "the place in the packet, bytes from the start of a header"
    )]
    Payload {
        header: Header,
        offset: u32,
        length: u32,
        register: u32,
    },
    /// Loads something known about the packet (`NFT_META_*`).
    #[expect(missing_docs, reason = "the key, and where it goes")]
    Meta { key: u32, register: u32 },
    /// Loads something known about its connection (`NFT_CT_*`).
    #[expect(missing_docs, reason = "the key, and where it goes")]
    Connection { key: u32, register: u32 },
    /// Asks the FIB: `flags` say with what (`NFTA_FIB_F_*`), `result` for what (`NFT_FIB_RESULT_*`).
    #[expect(missing_docs, reason = "the kernel's three parameters")]
    Fib {
        flags: u32,
        result: u32,
        register: u32,
    },
    /// Keeps the bits of a register that `mask` has.
    #[expect(missing_docs, reason = "the register, and the bits")]
    Mask { register: u32, mask: Vec<u8> },
    /// Holds when the comparison does.
    #[expect(missing_docs, reason = "register, operator, value")]
    Compare {
        register: u32,
        how: Comparison,
        with: Vec<u8>,
    },
    /// Holds when the register lies in a range, both ends included, or outside of it.
    #[expect(missing_docs, reason = "the register and the range")]
    Range {
        register: u32,
        outside: bool,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Puts a constant in a register.
    #[expect(missing_docs, reason = "register and constant")]
    Load { register: u32, data: Vec<u8> },
    /// Goes on in another chain and comes back.
    Jump(String),
    /// Any other verdict: its number (`NF_ACCEPT`, `NFT_RETURN`, ...).
    Verdict(i32),
    /// Translates an address.
    Nat(Nat),
    /// Translates the source to the address of the interface the packet leaves by.
    Masquerade,
    /// Counts; what it has counted is not read.
    Counter,
    /// A match of xtables, as iptables-nft leaves them in its rules.
    #[expect(missing_docs, reason = "the extension's name, revision and structure")]
    XtMatch {
        name: String,
        revision: u32,
        info: Vec<u8>,
    },
    /// A target of xtables.
    #[expect(missing_docs, reason = "the extension's name, revision and structure")]
    XtTarget {
        name: String,
        revision: u32,
        info: Vec<u8>,
    },
    /// Something else, by its name.
    Other(String),
}

/// Where the offset of a payload begins (`enum nft_payload_bases`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The header of IPv4 or IPv6.
    Network = 1,
    /// The header of TCP, UDP or SCTP.
    Transport = 2,
}

/// `enum nft_cmp_ops`. Numbers compare by size only in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal = 0,
    NotEqual = 1,
    Less = 2,
    LessOrEqual = 3,
    Greater = 4,
    GreaterOrEqual = 5,
}

/// A destination or source translation; address and port come from registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// `NFT_NAT_SNAT` (0) or `NFT_NAT_DNAT` (1).
    pub kind: u32,
    /// Family of the address (`NFPROTO_*`).
    pub family: u32,
    /// Register of the new address.
    pub address: u32,
    /// Register of the new port.
    pub port: u32,
}

/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: the flags of a translation with address and port.
const NAT_ADDRESS_AND_PORT: u32 = 3;
const NFT_JUMP: i32 = -3;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

impl Expression {
    /// `NFT_META_MARK`.
    pub const META_MARK: u32 = 3;
    /// `NFT_META_IIFNAME`.
    pub const META_IIFNAME: u32 = 6;
    /// `NFT_META_OIFNAME`.
    pub const META_OIFNAME: u32 = 7;
    /// `NFT_META_L4PROTO`.
    pub const META_L4PROTO: u32 = 16;
    /// `NFT_CT_STATUS`.
    pub const CT_STATUS: u32 = 2;
    /// `NFT_CT_MARK`.
    pub const CT_MARK: u32 = 3;
    /// `NFTA_FIB_F_SADDR`.
    pub const FIB_SOURCE: u32 = 1;
    /// `NFTA_FIB_F_DADDR`.
    pub const FIB_DESTINATION: u32 = 2;
    /// `NFT_FIB_RESULT_ADDRTYPE`.
    pub const FIB_ADDRESS_TYPE: u32 = 3;

    /// Loads an address.
    pub fn load_address(register: u32, address: IpAddr) -> Expression {
        Expression::Load {
            register,
            data: octets(address),
        }
    }

    /// `dnat to` what two registers hold.
    pub fn dnat(family: Family, address: u32, port: u32) -> Expression {
        Expression::Nat(Nat {
            kind: 1,
            family: family as u32,
            address,
            port,
        })
    }

    fn name(&self) -> &str {
        match self {
            Expression::Payload { .. } => "payload",
            Expression::Meta { .. } => "meta",
            Expression::Connection { .. } => "ct",
            Expression::Fib { .. } => "fib",
            Expression::Mask { .. } => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::Range { .. } => "range",
            Expression::Load { .. } | Expression::Jump(_) | Expression::Verdict(_) => "immediate",
            Expression::Nat(_) => "nat",
            Expression::Masquerade => "masq",
            Expression::Counter => "counter",
            Expression::XtMatch { .. } => "match",
            Expression::XtTarget { .. } => "target",
            Expression::Other(name) => name,
        }
    }

    /// Writes name and data (`NFTA_EXPR_*`).
    pub(super) fn write(&self, body: &mut Body<'_>) {
        body.string(1, self.name());
        body.nested(2, |body| self.write_data(body));
    }

    /// The attribute numbers are those of the `enum nft_*_attributes` named after the expression.
    fn write_data(&self, body: &mut Body<'_>) {
        match self {
            Expression::Payload {
                header,
                offset,
                length,
                register,
            } => {
                numbers(
                    body,
                    [
                        (1, *register),
                        (2, *header as u32),
                        (3, *offset),
                        (4, *length),
                    ],
                );
            }
            Expression::Meta { key, register } | Expression::Connection { key, register } => {
                numbers(body, [(1, *register), (2, *key)]);
            }
            Expression::Fib {
                flags,
                result,
                register,
            } => {
                numbers(body, [(1, *register), (2, *result), (3, *flags)]);
            }
            Expression::Mask { register, mask } => {
                numbers(
                    body,
                    [(1, *register), (2, *register), (3, mask.len() as u32)],
                );
                data(body, 4, mask);
                data(body, 5, &vec![0; mask.len()]);
            }
            Expression::Compare {
                register,
                how,
                with,
            } => {
                numbers(body, [(1, *register), (2, *how as u32)]);
                data(body, 3, with);
            }
            Expression::Range {
                register,
                outside,
                from,
                to,
            } => {
                numbers(body, [(1, *register), (2, u32::from(*outside))]);
                data(body, 3, from);
                data(body, 4, to);
            }
            Expression::Load {
                register,
                data: constant,
            } => {
                numbers(body, [(1, *register)]);
                data(body, 2, constant);
            }
            Expression::Jump(chain) => verdict(body, NFT_JUMP, Some(chain)),
            Expression::Verdict(code) => verdict(body, *code, None),
            Expression::Nat(nat) => numbers(
                body,
                [
                    (1, nat.kind),
                    (2, nat.family),
                    (3, nat.address),
                    (4, nat.address),
                    (5, nat.port),
                    (6, nat.port),
                    (7, NAT_ADDRESS_AND_PORT),
                ],
            ),
            Expression::XtMatch {
                name,
                revision,
                info,
            }
            | Expression::XtTarget {
                name,
                revision,
                info,
            } => {
                body.string(1, name);
                body.be32(2, *revision);
                body.bytes(3, info);
            }
            Expression::Masquerade | Expression::Counter | Expression::Other(_) => {}
        }
    }

    /// Reads name and data. What is not understood is [`Expression::Other`].
    pub(super) fn read(expression: &[u8]) -> Expression {
        let name = attribute(expression, 1).unwrap_or_default();
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let data = attribute(expression, 2).unwrap_or_default();
        Expression::read_data(name, data).unwrap_or_else(|| Expression::Other(wire::string(name)))
    }

    fn read_data(name: &[u8], from: &[u8]) -> Option<Expression> {
        let number = |kind| attribute(from, kind).and_then(wire::be32);
        let value = |kind| attribute(attribute(from, kind)?, DATA_VALUE).map(<[u8]>::to_vec);
        Some(match name {
            b"payload" => Expression::Payload {
                header: match number(2)? {
                    1 => Header::Network,
                    2 => Header::Transport,
                    _ => return None,
                },
                offset: number(3)?,
                length: number(4)?,
                register: number(1)?,
            },
            b"meta" => Expression::Meta {
                key: number(2)?,
                register: number(1)?,
            },
            b"ct" => Expression::Connection {
                key: number(2)?,
                register: number(1)?,
            },
            b"fib" => Expression::Fib {
                flags: number(3)?,
                result: number(2)?,
                register: number(1)?,
            },
            b"bitwise" => {
                let plain = number(1)? == number(2)? && value(5)?.iter().all(|b| *b == 0);
                plain.then_some(())?;
                Expression::Mask {
                    register: number(1)?,
                    mask: value(4)?,
                }
            }
            b"cmp" => Expression::Compare {
                register: number(1)?,
                how: Comparison::from_number(number(2)?)?,
                with: value(3)?,
            },
            b"range" => Expression::Range {
                register: number(1)?,
                outside: number(2)? == 1,
                from: value(3)?,
                to: value(4)?,
            },
            b"immediate" => match attribute(attribute(from, 2)?, DATA_VERDICT) {
                None => Expression::Load {
                    register: number(1)?,
                    data: value(2)?,
                },
                Some(verdict) => {
                    let code = attribute(verdict, 1).and_then(wire::be32)? as i32;
                    match attribute(verdict, 2) {
                        Some(chain) if code == NFT_JUMP => Expression::Jump(wire::string(chain)),
                        Some(_) => return None,
                        None => Expression::Verdict(code),
                    }
                }
            },
            b"nat" => Expression::Nat(Nat {
                kind: number(1)?,
                family: number(2)?,
                address: number(3)?,
                port: number(5)?,
            }),
            b"masq" if wire::attributes(from).next().is_none() => Expression::Masquerade,
            b"counter" => Expression::Counter,
            b"match" | b"target" => {
                let (extension, revision) = (wire::string(attribute(from, 1)?), number(2)?);
                let info = attribute(from, 3)?.to_vec();
                match name {
                    b"match" => Expression::XtMatch {
                        name: extension,
                        revision,
                        info,
                    },
                    _ => Expression::XtTarget {
                        name: extension,
                        revision,
                        info,
                    },
                }
            }
            _ => return None,
        })
    }
}

impl Comparison {
    fn from_number(number: u32) -> Option<Comparison> {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let all = [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];
        all.into_iter().find(|c| *c as u32 == number)
    }
}

fn numbers<const N: usize>(body: &mut Body<'_>, all: [(u16, u32); N]) {
    for (kind, number) in all {
        body.be32(kind, number);
    }
}

fn data(body: &mut Body<'_>, kind: u16, value: &[u8]) {
    body.nested(kind, |body| body.bytes(DATA_VALUE, value));
}

fn verdict(body: &mut Body<'_>, code: i32, chain: Option<&str>) {
    numbers(body, [(1, VERDICT_REGISTER)]);
    body.nested(2, |body| {
        body.nested(DATA_VERDICT, |body| {
            body.bytes(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                body.string(2, chain);
            }
        });
    });
}

/// The bytes of an address as they are in a packet.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The structures of the xtables extensions that port mappings are made of.
pub mod xt {
    use std::net::{IpAddr, SocketAddr};

    use super::super::Family;

    /// The text of a `comment` match (`struct xt_comment_info`).
    pub fn comment(info: &[u8]) -> String {
        crate::wire::string(info)
    }

    /// The destination ports of a `multiport` match, revision 1 (`struct xt_multiport_v1`): flags, count, fifteen
    /// ports in host byte order, range flags, inversion. `None` for ranges, inversion and source ports.
    pub fn destination_ports(info: &[u8]) -> Option<Vec<u16>> {
        const DESTINATION: u8 = 1; // XT_MULTIPORT_DESTINATION
        let (flags, count) = (*info.first()?, usize::from(*info.get(1)?));
        let ranges = info.get(32..47)?;
        let inverted = *info.get(47)?;
        if flags != DESTINATION || inverted != 0 || ranges.iter().any(|r| *r != 0) || count > 15 {
            return None;
        }
        let ports = info.get(2..2 + 2 * count)?.chunks_exact(2);
        ports
            .map(|p| Some(u16::from_ne_bytes(p.try_into().ok()?)))
            .collect()
    }

    /// The bits that a `MARK` target (`struct xt_mark_tginfo2`) sets, or that a `mark` match (`struct
    /// xt_mark_mtinfo1`) asks for. `None` when other bits are touched or the match is inverted.
    pub fn mark(info: &[u8]) -> Option<u32> {
        let number = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
        let (mark, mask) = (number(0)?, number(4)?);
        let inverted = info.get(8).is_some_and(|b| *b != 0);
        (mark == mask && !inverted).then_some(mark)
    }

    /// Where a `DNAT` target sends packets, revisions 1 and 2 (`struct nf_nat_range`, `nf_nat_range2`): flags,
    /// lowest address, highest address, lowest port. `None` for other forms.
    pub fn dnat_target(family: Family, revision: u32, info: &[u8]) -> Option<SocketAddr> {
        if !matches!(revision, 1 | 2) {
            return None;
        }
        let address = info.get(4..20)?;
        let address: IpAddr = match family {
            Family::Ip => <[u8; 4]>::try_from(address.get(..4)?).ok()?.into(),
            Family::Ip6 => <[u8; 16]>::try_from(address).ok()?.into(),
        };
        let port = u16::from_be_bytes(info.get(36..38)?.try_into().ok()?);
        Some(SocketAddr::new(address, port))
    }
}
