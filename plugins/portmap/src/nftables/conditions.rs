//! Conditions as `nft` spells them, compiled to the expressions that hold when they do.
//!
//! In the original they go into the rule that all attachments share; here each attachment's own rules have them.
//! Understood are the matches that make sense for a mapping: addresses, ports, protocol, interfaces, marks and
//! address types, with `!=`, ranges, prefixes, wildcards and sets in braces.

use std::net::IpAddr;

use cni::Error;
use kernel::nftables::{Comparison, Expression, Family, Header};

use crate::mapping::Protocol;

/// The most rules that one mapping may become through sets in braces.
const MAX_ALTERNATIVES: usize = 64;

/// Compiles conditions. The packet has to meet all expressions of one of the alternatives; without conditions
/// that is one alternative without expressions. A set in braces becomes an alternative per element.
///
/// Errors: code 7, naming the part that is not understood.
pub(super) fn compile(
    family: Family,
    conditions: &[String],
) -> Result<Vec<Vec<Expression>>, Error> {
    let text = conditions.join(" ");
    let mut parser = Parser {
        tokens: tokens(&text),
        at: 0,
        family,
    };
    let mut alternatives = vec![Vec::new()];
    while parser.peek().is_some() {
        let start = parser.at;
        let Some(one_of) = parser.condition() else {
            let rest = parser.tokens.get(start..).unwrap_or_default().join(" ");
            return Err(Error::config(format!(
                "the condition {rest:?} is not understood; the nftables backend knows ip/ip6 saddr/daddr, \
                 tcp/udp/sctp/th sport/dport, meta l4proto, iifname, oifname, meta mark, ct mark and \
                 fib saddr/daddr type"
            )));
        };
        let combined = alternatives.iter().flat_map(|before: &Vec<Expression>| {
            one_of
                .iter()
                .map(move |then| [before.clone(), then.clone()].concat())
        });
        alternatives = combined.collect();
        if alternatives.len() > MAX_ALTERNATIVES {
            let why = format!("the conditions have more than {MAX_ALTERNATIVES} combinations");
            return Err(Error::config(why));
        }
    }
    Ok(alternatives)
}

fn tokens(text: &str) -> Vec<String> {
    let mut spaced = text.to_owned();
    for sign in ["{", "}", ",", "!=", "==", "&"] {
        spaced = spaced.replace(sign, &format!(" {sign} "));
    }
    spaced
        .split_whitespace()
        .map(|token| token.trim_matches('"').to_owned())
        .collect()
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    family: Family,
}

/// A value or a range of values.
struct Element {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    /// Bits to compare; `None` means all.
    mask: Option<Vec<u8>>,
}

impl Element {
    fn value(value: Vec<u8>) -> Option<Element> {
        Some(Element {
            from: value,
            to: None,
            mask: None,
        })
    }
}

type Alternatives = Vec<Vec<Expression>>;

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn accept(&mut self, any: &[&str]) -> bool {
        let found = self.peek().is_some_and(|token| any.contains(&token));
        self.at += usize::from(found);
        found
    }

    fn condition(&mut self) -> Option<Alternatives> {
        self.accept(&["meta"]);
        match self.next()?.as_str() {
            "ip" => self.address(Family::Ip),
            "ip6" => self.address(Family::Ip6),
            "l4proto" => self.compared(vec![meta(Expression::META_L4PROTO)], protocol),
            "iifname" | "iif" => self.compared(vec![meta(Expression::META_IIFNAME)], interface),
            "oifname" | "oif" => self.compared(vec![meta(Expression::META_OIFNAME)], interface),
            "mark" => self.mark(meta(Expression::META_MARK)),
            "ct" if self.accept(&["mark"]) => self.mark(Expression::Connection {
                key: Expression::CT_MARK,
                register: 1,
            }),
            "fib" => self.address_type(),
            "th" => self.port(Vec::new()),
            name => {
                let number = Protocol::parse(name)?.number();
                self.port(vec![
                    meta(Expression::META_L4PROTO),
                    is(Comparison::Equal, vec![number]),
                ])
            }
        }
    }

    fn address(&mut self, family: Family) -> Option<Alternatives> {
        (family == self.family).then_some(())?;
        let length = if family == Family::Ip { 4 } else { 16 };
        let offset = match (self.next()?.as_str(), family) {
            ("saddr", Family::Ip) => 12,
            ("daddr", Family::Ip) => 16,
            ("saddr", Family::Ip6) => 8,
            ("daddr", Family::Ip6) => 24,
            _ => return None,
        };
        let load = Expression::Payload {
            header: Header::Network,
            offset,
            length,
            register: 1,
        };
        self.compared(vec![load], |text| address(family, text))
    }

    fn port(&mut self, mut before: Vec<Expression>) -> Option<Alternatives> {
        let offset = match self.next()?.as_str() {
            "sport" => 0,
            "dport" => 2,
            _ => return None,
        };
        before.push(Expression::Payload {
            header: Header::Transport,
            offset,
            length: 2,
            register: 1,
        });
        self.compared(before, |text| {
            let port = |text: &str| text.parse::<u16>().ok().map(|p| p.to_be_bytes().to_vec());
            let (from, to) = split(text);
            Some(Element {
                from: port(from)?,
                to: to.map(port).map_or(Some(None), |t| t.map(Some))?,
                mask: None,
            })
        })
    }

    fn mark(&mut self, load: Expression) -> Option<Alternatives> {
        let mut before = vec![load];
        if self.accept(&["and", "&"]) {
            let mask = number(&self.next()?)?.to_vec();
            before.push(Expression::Mask { register: 1, mask });
        }
        self.compared(before, |text| Element::value(number(text)?.to_vec()))
    }

    fn address_type(&mut self) -> Option<Alternatives> {
        let flags = match self.next()?.as_str() {
            "saddr" => Expression::FIB_SOURCE,
            "daddr" => Expression::FIB_DESTINATION,
            _ => return None,
        };
        self.accept(&["type"]).then_some(())?;
        let ask = Expression::Fib {
            flags,
            result: Expression::FIB_ADDRESS_TYPE,
            register: 1,
        };
        self.compared(vec![ask], |text| {
            // RTN_* of linux/rtnetlink.h.
            let names = [
                "unspec",
                "unicast",
                "local",
                "broadcast",
                "anycast",
                "multicast",
            ];
            let number = names.iter().position(|name| *name == text)? as u32;
            Element::value(number.to_ne_bytes().to_vec())
        })
    }

    /// `[==|!=] value` or `[==|!=] { value, ... }` on what `before` leaves in the register.
    fn compared(
        &mut self,
        before: Vec<Expression>,
        read: impl Fn(&str) -> Option<Element>,
    ) -> Option<Alternatives> {
        let differs = self.accept(&["!=", "ne"]);
        if !differs {
            self.accept(&["==", "eq"]);
        }
        let mut elements = Vec::new();
        if self.accept(&["{"]) {
            while !self.accept(&["}"]) {
                elements.push(read(&self.next()?)?);
                self.accept(&[","]);
            }
        } else {
            elements.push(read(&self.next()?)?);
        }
        let steps = elements
            .iter()
            .map(|element| [before.clone(), compare(element, differs)].concat());
        // Not to be in a set is not to be any of its elements: one after the other in the same rule.
        Some(match differs {
            true => vec![steps.flatten().collect()],
            false => steps.collect(),
        })
    }
}

fn compare(element: &Element, differs: bool) -> Vec<Expression> {
    let how = if differs {
        Comparison::NotEqual
    } else {
        Comparison::Equal
    };
    match (&element.to, &element.mask) {
        (Some(to), _) if differs => vec![Expression::Range {
            register: 1,
            outside: true,
            from: element.from.clone(),
            to: to.clone(),
        }],
        (Some(to), _) => vec![
            is(Comparison::GreaterOrEqual, element.from.clone()),
            is(Comparison::LessOrEqual, to.clone()),
        ],
        (None, Some(mask)) => vec![
            Expression::Mask {
                register: 1,
                mask: mask.clone(),
            },
            is(how, element.from.clone()),
        ],
        (None, None) => vec![is(how, element.from.clone())],
    }
}

fn meta(key: u32) -> Expression {
    Expression::Meta { key, register: 1 }
}

fn is(how: Comparison, with: Vec<u8>) -> Expression {
    Expression::Compare {
        register: 1,
        how,
        with,
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('-')
        .map_or((text, None), |(from, to)| (from, Some(to)))
}

fn address(family: Family, text: &str) -> Option<Element> {
    let octets = |text: &str| {
        let ip: IpAddr = text.parse().ok()?;
        (Family::of(ip) == family).then(|| match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        })
    };
    if let Some((ip, prefix)) = text.split_once('/') {
        let (ip, prefix) = (octets(ip)?, prefix.parse::<usize>().ok()?);
        (prefix <= ip.len() * 8).then_some(())?;
        let bits = |byte: usize| prefix.saturating_sub(byte * 8).min(8);
        let mask: Vec<u8> = (0..ip.len())
            .map(|byte| !(0xff_u16 >> bits(byte)) as u8)
            .collect();
        let network = ip.iter().zip(&mask).map(|(ip, mask)| ip & mask).collect();
        return Some(Element {
            from: network,
            to: None,
            mask: Some(mask),
        });
    }
    match split(text) {
        (from, Some(to)) => Some(Element {
            from: octets(from)?,
            to: Some(octets(to)?),
            mask: None,
        }),
        (ip, None) => Element::value(octets(ip)?),
    }
}

fn protocol(text: &str) -> Option<Element> {
    let number = Protocol::parse(text)
        .map(Protocol::number)
        .or_else(|| text.parse().ok())?;
    Element::value(vec![number])
}

/// An interface name fills its field (`IFNAMSIZ`) with zeros; one that ends in `*` is compared up to there.
fn interface(text: &str) -> Option<Element> {
    if let Some(start) = text.strip_suffix('*') {
        (!start.is_empty() && start.len() < 16).then_some(())?;
        return Element::value(start.as_bytes().to_vec());
    }
    (!text.is_empty() && text.len() < 16).then_some(())?;
    let mut name = text.as_bytes().to_vec();
    name.resize(16, 0);
    Element::value(name)
}

fn number(text: &str) -> Option<[u8; 4]> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.ok()?.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(text: &str) -> Alternatives {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        compile(Family::Ip, &words).unwrap()
    }

    #[test]
    fn no_condition_is_met_by_all() {
        assert_eq!(compile(Family::Ip, &[]).unwrap(), [Vec::new()]);
    }

    #[test]
    fn a_prefix_is_a_mask_and_a_comparison() {
        let load = Expression::Payload {
            header: Header::Network,
            offset: 12,
            length: 4,
            register: 1,
        };
        let mask = Expression::Mask {
            register: 1,
            mask: vec![255, 240, 0, 0],
        };
        let found = compiled("ip saddr != 10.17.0.0/12");
        assert_eq!(
            found,
            [vec![
                load,
                mask,
                is(Comparison::NotEqual, vec![10, 16, 0, 0])
            ]]
        );
    }

    #[test]
    fn sets_are_alternatives_and_multiply() {
        assert_eq!(
            compiled("ip saddr {10.0.0.1, 10.0.0.2} tcp sport { 1-9,20 }").len(),
            4
        );
        let [none_of] = compiled("ip daddr != { 10.0.0.1, 10.0.0.2 }")
            .try_into()
            .unwrap();
        assert_eq!(none_of.len(), 4);
        let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let set = format!("tcp sport {{ {} }}", many.join(","));
        let error = compile(Family::Ip, &[set]).unwrap_err();
        assert_eq!(error.code, cni::Code::InvalidConfig);
    }

    #[test]
    fn the_other_matches() {
        let marked = compiled("meta mark and 0x10 == 0x10 ct mark 5");
        assert_eq!(marked[0].len(), 3 + 2);
        assert_eq!(
            compiled("iifname \"eth*\"")[0][1],
            is(Comparison::Equal, b"eth".to_vec())
        );
        let fib = compiled("fib saddr type != local");
        assert_eq!(
            fib[0][1],
            is(Comparison::NotEqual, 2_u32.to_ne_bytes().to_vec())
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for bad in [
            "ip ttl 5",
            "ip6 saddr fd00::1",
            "ip saddr 10.0.0.0/33",
            "tcp dport {1",
            "frobnicate",
        ] {
            let error = compile(Family::Ip, &[bad.to_owned()]).unwrap_err();
            assert_eq!(error.code, cni::Code::InvalidConfig, "{bad}");
            assert!(error.msg.contains("is not understood"), "{}", error.msg);
        }
    }
}
