//! The table `cni_hostport`: what all attachments share in it, and the rules of one.

use std::net::{IpAddr, Ipv4Addr};

use cni::Error;
use kernel::nftables::{Comparison, Expression, Family, Header, Hook, Rule, Transaction};

use super::conditions;
use crate::mapping::{Job, Mapping};

pub(super) const TABLE: &str = "cni_hostport";
pub(super) const MASQUERADING: &str = "masquerading";
/// The chains that mappings may be in; the second is of older versions of the original.
pub(super) const MAPPING_CHAINS: [&str; 2] = [HOSTPORTS, HOSTIP_HOSTPORTS];

/// The chains that have the same rules for everybody.
pub(super) const SHARED_CHAINS: [&str; 3] = [ALL, PREROUTING, OUTPUT];

const HOSTPORTS: &str = "hostports";
const HOSTIP_HOSTPORTS: &str = "hostip_hostports";
const ALL: &str = "hostports_all";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
/// `dstnat`, which `nft` does not accept by name for the output hook.
const DESTINATION_PRIORITY: i32 = -100;
/// `srcnat`.
const SOURCE_PRIORITY: i32 = 100;
/// `RTN_LOCAL`, an address type of the FIB.
const RTN_LOCAL: u32 = 2;
/// `IPS_DST_NAT`, a bit of a connection's status.
const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// A rule that an attachment is to have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) chain: &'static str,
    pub(super) expressions: Vec<Expression>,
}

/// The rules of a job for its address in one family. Errors: code 7 for conditions that are not understood.
pub(super) fn wanted(job: &Job, address: IpAddr) -> Result<Vec<Wanted>, Error> {
    let family = Family::of(address);
    let conditions = conditions::compile(family, job.settings.conditions(family))?;
    let mut rules = Vec::new();
    for mapping in job.mappings(family) {
        for condition in &conditions {
            let expressions = [condition.clone(), forward(family, mapping, address)].concat();
            rules.push(Wanted {
                chain: HOSTPORTS,
                expressions,
            });
        }
    }
    if job.settings.snat {
        let masquerade = |mut expressions: Vec<Expression>| {
            expressions.push(Expression::Masquerade);
            Wanted {
                chain: MASQUERADING,
                expressions,
            }
        };
        if job.settings.masq_all {
            rules.push(masquerade([translated(), destination(address)].concat()));
        } else {
            rules.push(masquerade([source(address), destination(address)].concat()));
            if family == Family::Ip {
                let localhost = source(Ipv4Addr::LOCALHOST.into());
                rules.push(masquerade([localhost, destination(address)].concat()));
            }
        }
    }
    Ok(rules)
}

/// Creates what the attachments share where it is not as it has to be. It is left alone when it is: the kernel
/// waits for a grace period after each rule that goes.
pub(super) fn add_shared(
    changes: &mut Transaction,
    family: Family,
    snat: bool,
    chains: &[String],
    present: &[Rule],
) {
    let has = |name: &str| chains.iter().any(|chain| chain == name);
    let masquerades = !snat || has(MASQUERADING);
    let complete = MAPPING_CHAINS.iter().all(|chain| has(chain));
    if complete && masquerades && first_broken_shared_chain(present).is_none() {
        return;
    }
    changes.add_table(family, TABLE, "CNI portmap plugin");
    for chain in [HOSTPORTS, HOSTIP_HOSTPORTS, ALL] {
        changes.add_chain(family, TABLE, chain);
    }
    let hooks = [(PREROUTING, Hook::Prerouting), (OUTPUT, Hook::Output)];
    for (chain, hook) in hooks {
        changes.add_nat_chain(family, TABLE, chain, (hook, DESTINATION_PRIORITY));
    }
    if snat {
        let hook = (Hook::Postrouting, SOURCE_PRIORITY);
        changes.add_nat_chain(family, TABLE, MASQUERADING, hook);
    }
    for (chain, rules) in shared() {
        changes.flush_chain(family, TABLE, chain);
        for rule in rules {
            changes.add_rule((family, TABLE, chain), false, &rule, &[]);
        }
    }
}

/// A shared chain whose rules are not those that mappings need.
pub(super) fn first_broken_shared_chain(present: &[Rule]) -> Option<&'static str> {
    let broken = |(chain, rules): &(&str, Vec<Vec<Expression>>)| {
        let found = present.iter().filter(|rule| rule.chain == *chain);
        !found.map(|rule| &rule.expressions).eq(rules)
    };
    shared().into_iter().find(broken).map(|(chain, _)| chain)
}

fn shared() -> [(&'static str, Vec<Vec<Expression>>); 3] {
    let jump = |chain: &str| Expression::Jump(chain.into());
    let to_this_host = vec![
        Expression::Fib {
            flags: Expression::FIB_DESTINATION,
            result: Expression::FIB_ADDRESS_TYPE,
            register: 1,
        },
        equal(&RTN_LOCAL.to_ne_bytes()),
        jump(ALL),
    ];
    [
        (
            ALL,
            vec![vec![jump(HOSTIP_HOSTPORTS)], vec![jump(HOSTPORTS)]],
        ),
        (PREROUTING, vec![to_this_host.clone()]),
        (OUTPUT, vec![to_this_host]),
    ]
}

/// `[daddr <hostIP>] <protocol> dport <port> dnat to <address>:<port>`
fn forward(family: Family, mapping: &Mapping, address: IpAddr) -> Vec<Expression> {
    let mut rule = mapping.only_on().map(destination).unwrap_or_default();
    rule.extend([
        Expression::Meta {
            key: Expression::META_L4PROTO,
            register: 1,
        },
        equal(&[mapping.protocol.number()]),
        Expression::Payload {
            header: Header::Transport,
            offset: 2,
            length: 2,
            register: 1,
        },
        equal(&mapping.host_port.to_be_bytes()),
        Expression::load_address(1, address),
        Expression::Load {
            register: 2,
            data: mapping.container_port.to_be_bytes().to_vec(),
        },
        Expression::dnat(family, 1, 2),
    ]);
    rule
}

fn source(address: IpAddr) -> Vec<Expression> {
    match address {
        IpAddr::V4(v4) => vec![network_field(12, 4), equal(&v4.octets())],
        IpAddr::V6(v6) => vec![network_field(8, 16), equal(&v6.octets())],
    }
}

fn destination(address: IpAddr) -> Vec<Expression> {
    match address {
        IpAddr::V4(v4) => vec![network_field(16, 4), equal(&v4.octets())],
        IpAddr::V6(v6) => vec![network_field(24, 16), equal(&v6.octets())],
    }
}

/// `ct status dnat`: what comes straight to the pod keeps its source.
fn translated() -> Vec<Expression> {
    vec![
        Expression::Connection {
            key: Expression::CT_STATUS,
            register: 1,
        },
        Expression::Mask {
            register: 1,
            mask: DESTINATION_TRANSLATED.to_ne_bytes().to_vec(),
        },
        Expression::Compare {
            register: 1,
            how: Comparison::NotEqual,
            with: vec![0; 4],
        },
    ]
}

fn network_field(offset: u32, length: u32) -> Expression {
    Expression::Payload {
        header: Header::Network,
        offset,
        length,
        register: 1,
    }
}

fn equal(value: &[u8]) -> Expression {
    Expression::Compare {
        register: 1,
        how: Comparison::Equal,
        with: value.to_vec(),
    }
}
