//! Policy routing: rules that send packets from an address to a table of their own.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::attribute::{self, attributes};
use crate::socket::Request;
use crate::{Error, Rtnl};

/// Length of `struct fib_rule_hdr`.
const HEADER: usize = 12;
// linux/fib_rules.h
const FRA_SRC: u16 = 2;
const FRA_TABLE: u16 = 15;

/// `ip rule add from FROM lookup TABLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Source addresses of the packets; host bits don't count.
    pub from: IpNetwork,
    /// Where their routes are looked up.
    pub table: u32,
}

impl Rtnl {
    /// Adds a rule in front of those that were made without a priority before: 32765, 32764 and so on.
    ///
    /// The kernel takes the same rule a second time, as that one has another priority.
    pub fn add_rule(&mut self, rule: Rule) -> Result<(), Error> {
        let Rule { from, table } = rule;
        let mut message = RuleMessage::default();
        message.header = RuleHeader {
            family: family(from.is_ipv6()),
            src_len: from.prefix(),
            table: u8::try_from(table).unwrap_or_default(),
            action: RuleAction::ToTable,
            ..RuleHeader::default()
        };
        message.attributes = vec![
            RuleAttribute::Source(from.network()),
            RuleAttribute::Table(table),
            RuleAttribute::Protocol(RouteProtocol::Boot),
        ];
        let request = Request {
            message: RouteNetlinkMessage::NewRule(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        };
        self.request(request)
            .map_err(|e| e.context(format!("failed to add rule from {from} lookup {table}")))
    }

    /// The rules of one family that look at the source address only.
    pub fn rules(&mut self, is_v6: bool) -> Result<Vec<Rule>, Error> {
        let ask = || {
            let mut message = RuleMessage::default();
            message.header.family = family(is_v6);
            RouteNetlinkMessage::GetRule(message)
        };
        self.dump(ask, read)
            .map_err(|e| e.context("failed to list the rules"))
    }
}

fn family(is_v6: bool) -> AddressFamily {
    match is_v6 {
        false => AddressFamily::Inet,
        true => AddressFamily::Inet6,
    }
}

/// Reads an `RTM_NEWRULE`, if it is a rule for a source address.
fn read(payload: &[u8]) -> Option<Rule> {
    let header = RuleHeader::parse(payload).ok()?;
    let (mut from, mut table): (Option<IpAddr>, _) = (None, u32::from(header.table));
    for (kind, value) in attributes(payload.get(HEADER..)?) {
        match kind {
            FRA_SRC => from = attribute::ip(value),
            FRA_TABLE => table = attribute::u32(value),
            _ => {}
        }
    }
    Some(Rule {
        from: IpNetwork::new(from?, header.src_len).ok()?,
        table,
    })
}
