//! nftables over netlink: read the rules of a table, change them in one transaction.

mod expression;

use std::io;
use std::net::IpAddr;

use crate::wire::{self, APPEND, Body, CREATE, DUMP, Messages, Socket, attributes};

pub(crate) use expression::octets;
pub use expression::{Comparison, Expression, Header, Nat, xt};

/// An address family with tables of its own (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `NFPROTO_IPV4`.
    Ip = 2,
    /// `NFPROTO_IPV6`.
    Ip6 = 10,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Family; 2] = [Family::Ip, Family::Ip6];

    /// The family an address belongs to.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ip,
            IpAddr::V6(_) => Family::Ip6,
        }
    }
}

/// Where a base chain sees packets (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `NF_INET_PRE_ROUTING`.
    Prerouting = 0,
    /// `NF_INET_LOCAL_OUT`.
    Output = 3,
    /// `NF_INET_POST_ROUTING`.
    Postrouting = 4,
}

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Name of its chain.
    pub chain: String,
    /// The kernel's number for it, unique in the table.
    pub handle: u64,
    /// What it does, in order.
    pub expressions: Vec<Expression>,
    /// What its maker noted, see [`userdata`]; empty when nothing.
    pub userdata: Vec<u8>,
}

// Subsystem and messages: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENERATION: u16 = 1; // NFNL_BATCH_GENID
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const GETGEN: u16 = 16;

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const GENERATION_ID: u16 = 1;
const LIST_ELEMENT: u16 = 1;

fn message(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}

/// `struct nfgenmsg`: family, `NFNETLINK_V0`, resource id.
fn header(family: Family) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

/// A connection to the nftables of the calling thread's network namespace.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens the connection. It fails with what the kernel answers when it has no nftables.
    pub fn open() -> io::Result<Nftables> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        let mut nftables = Nftables { socket };
        nftables.generation()?;
        Ok(nftables)
    }

    /// As [`Nftables::open`]; `None` when the kernel has no nftables, and so no rules in them.
    pub fn open_if_there() -> io::Result<Option<Nftables>> {
        use nix::libc::{EAFNOSUPPORT, EINVAL, EOPNOTSUPP, EPROTONOSUPPORT};
        match Nftables::open().map_err(|e| (e.raw_os_error(), e)) {
            Ok(nftables) => Ok(Some(nftables)),
            Err((Some(EAFNOSUPPORT | EINVAL | EOPNOTSUPP | EPROTONOSUPPORT), _)) => Ok(None),
            Err((_, e)) => Err(e),
        }
    }

    /// The number of the current rule set: each commit, by whomever, makes a new one.
    pub fn generation(&mut self) -> io::Result<u32> {
        let mut number = None;
        self.socket.request(
            (message(GETGEN), 0),
            &header(Family::Ip),
            |_| {},
            |body| {
                let attributes = body.get(4..).unwrap_or_default();
                number = wire::attribute(attributes, GENERATION_ID).and_then(wire::be32);
            },
        )?;
        number.ok_or_else(|| io::Error::other("the kernel did not tell its generation of rules"))
    }

    /// All rules of a table, chain by chain, in order. A table that is not there has none.
    ///
    /// Errors: `Interrupted` when the rules changed meanwhile; read again.
    pub fn rules(&mut self, family: Family, table: &str) -> io::Result<Vec<Rule>> {
        self.list(family, table, None)
    }

    /// The rules of one chain; none when there is no such chain. Errors: as [`Nftables::rules`].
    pub fn chain_rules(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
    ) -> io::Result<Vec<Rule>> {
        self.list(family, table, Some(chain))
    }

    fn list(&mut self, family: Family, table: &str, chain: Option<&str>) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        let fill = |body: &mut Body<'_>| {
            body.string(RULE_TABLE, table);
            if let Some(chain) = chain {
                body.string(RULE_CHAIN, chain);
            }
        };
        let answer = self
            .socket
            .request((message(GETRULE), DUMP), &header(family), fill, |body| {
                let rule = read_rule(body.get(4..).unwrap_or_default(), table);
                // Kernels that do not know the filters send all of the family.
                rules.extend(rule.filter(|rule| chain.is_none_or(|chain| rule.chain == chain)));
            });
        match answer {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map(|()| rules),
        }
    }

    /// The names of a table's chains. A table that is not there has none.
    ///
    /// Errors: as [`Nftables::rules`].
    pub fn chains(&mut self, family: Family, table: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.socket.request(
            (message(GETCHAIN), DUMP),
            &header(family),
            |_| {},
            |body| {
                let body = body.get(4..).unwrap_or_default();
                let of_table = wire::attribute(body, CHAIN_TABLE).map(wire::string);
                if of_table.as_deref() == Some(table) {
                    names.extend(wire::attribute(body, CHAIN_NAME).map(wire::string));
                }
            },
        )?;
        Ok(names)
    }

    /// Makes all changes or none, provided that the rule set is still the one of `generation`.
    ///
    /// Errors: `Interrupted` when it is not (`ERESTART`): look again and try again.
    pub fn commit(&mut self, changes: &Transaction, generation: u32) -> io::Result<()> {
        let mut messages = Messages::default();
        let border = [0, 0, 0, NFNL_SUBSYS_NFTABLES as u8];
        let begin = (BATCH_BEGIN, 0, self.socket.next_sequence());
        messages.push(begin, &border, |body| {
            body.be32(BATCH_GENERATION, generation)
        });
        for change in &changes.0 {
            let sequence = self.socket.next_sequence();
            change.write(&mut messages, sequence);
        }
        messages.push((BATCH_END, 0, self.socket.next_sequence()), &border, |_| {});
        self.socket
            .batch(&messages)
            .map_err(|e| match e.raw_os_error() {
                Some(ERESTART | nix::libc::EINTR) => io::ErrorKind::Interrupted.into(),
                _ => e,
            })
    }
}

/// The kernel's own number; no C library gives it a name.
const ERESTART: i32 = 85;

/// Changes that happen together.
#[derive(Debug, Default, Clone)]
pub struct Transaction(Vec<Change>);

#[derive(Debug, Clone)]
struct Change {
    kind: u16,
    flags: u16,
    family: Family,
    body: Vec<u8>,
}

impl Change {
    fn write(&self, messages: &mut Messages, sequence: u32) {
        let mut header = header(self.family).to_vec();
        header.extend(&self.body);
        // Without NLM_F_ACK: the kernel tells of each failure in any case, and a success for each of a thousand rules
        // would not fit in the socket.
        messages.push((message(self.kind), self.flags, sequence), &header, |_| {});
    }
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, family: Family, kind: u16, flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let body = Body::collect(fill);
        self.0.push(Change {
            kind,
            flags,
            family,
            body,
        });
    }

    /// Creates a table with a comment, or leaves the one that is there.
    pub fn add_table(&mut self, family: Family, table: &str, comment: &str) {
        self.push(family, NEWTABLE, CREATE, |body| {
            body.string(TABLE_NAME, table);
            let mut noted = Vec::new();
            userdata::push(&mut noted, userdata::COMMENT, &userdata::c_string(comment));
            body.bytes(TABLE_USERDATA, &noted);
        });
    }

    /// Creates a chain, or leaves the one that is there.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &str) {
        self.push(family, NEWCHAIN, CREATE, |body| {
            body.string(CHAIN_TABLE, table);
            body.string(CHAIN_NAME, chain);
        });
    }

    /// Creates a chain of type `nat` that packets enter at `hook`, or leaves the one that is there.
    pub fn add_nat_chain(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        (hook, priority): (Hook, i32),
    ) {
        self.push(family, NEWCHAIN, CREATE, |body| {
            body.string(CHAIN_TABLE, table);
            body.string(CHAIN_NAME, chain);
            body.nested(CHAIN_HOOK, |body| {
                body.be32(HOOK_NUMBER, hook as u32);
                body.bytes(HOOK_PRIORITY, &priority.to_be_bytes());
            });
            body.string(CHAIN_TYPE, "nat");
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) {
        self.push(family, DELRULE, 0, |body| {
            body.string(RULE_TABLE, table);
            body.string(RULE_CHAIN, chain);
        });
    }

    /// Removes an empty chain that no rule jumps to.
    pub fn delete_chain(&mut self, family: Family, table: &str, chain: &str) {
        self.push(family, DELCHAIN, 0, |body| {
            body.string(CHAIN_TABLE, table);
            body.string(CHAIN_NAME, chain);
        });
    }

    /// Adds a rule at the end of its chain, or at its front.
    pub fn add_rule(
        &mut self,
        (family, table, chain): (Family, &str, &str),
        at_front: bool,
        expressions: &[Expression],
        userdata: &[u8],
    ) {
        let flags = if at_front { CREATE } else { CREATE | APPEND };
        self.push(family, NEWRULE, flags, |body| {
            body.string(RULE_TABLE, table);
            body.string(RULE_CHAIN, chain);
            body.nested(RULE_EXPRESSIONS, |body| {
                for expression in expressions {
                    body.nested(LIST_ELEMENT, |body| expression.write(body));
                }
            });
            if !userdata.is_empty() {
                body.bytes(RULE_USERDATA, userdata);
            }
        });
    }

    /// Removes one rule.
    pub fn delete_rule(&mut self, family: Family, table: &str, rule: &Rule) {
        self.push(family, DELRULE, 0, |body| {
            body.string(RULE_TABLE, table);
            body.string(RULE_CHAIN, &rule.chain);
            body.be64(RULE_HANDLE, rule.handle);
        });
    }
}

fn read_rule(body: &[u8], table: &str) -> Option<Rule> {
    let mut rule = Rule {
        chain: String::new(),
        handle: 0,
        expressions: Vec::new(),
        userdata: Vec::new(),
    };
    for (kind, value) in attributes(body) {
        match kind {
            RULE_TABLE if wire::string(value) != table => return None,
            RULE_CHAIN => rule.chain = wire::string(value),
            RULE_HANDLE => rule.handle = wire::be64(value)?,
            RULE_EXPRESSIONS => {
                rule.expressions = attributes(value)
                    .map(|(_, expression)| Expression::read(expression))
                    .collect();
            }
            RULE_USERDATA => rule.userdata = value.to_vec(),
            _ => {}
        }
    }
    Some(rule)
}

/// What the makers of rules note beside them: entries of type, length and value, one byte each for the first
/// two. The kernel keeps 256 bytes per rule and does not look at them.
pub mod userdata {
    /// The type `nft` reads and prints as the comment: a C string of at most 128 characters.
    pub const COMMENT: u8 = 0;

    /// Appends an entry. Values longer than 255 bytes are cut.
    pub fn push(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        to.extend([kind, length]);
        to.extend(value.iter().take(usize::from(length)));
    }

    /// The value of the first entry of this type.
    pub fn get(mut data: &[u8], kind: u8) -> Option<&[u8]> {
        loop {
            let [found, length, rest @ ..] = data else {
                return None;
            };
            let value = rest.get(..usize::from(*length))?;
            if *found == kind {
                return Some(value);
            }
            data = rest.get(value.len()..)?;
        }
    }

    /// The comment as text.
    pub fn comment(data: &[u8]) -> Option<String> {
        get(data, COMMENT).map(crate::wire::string)
    }

    /// The bytes of a C string.
    pub fn c_string(text: &str) -> Vec<u8> {
        [text.as_bytes(), &[0]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_beside_a_comment() {
        let mut noted = Vec::new();
        userdata::push(&mut noted, userdata::COMMENT, &userdata::c_string("c1"));
        userdata::push(&mut noted, 200, b"key");
        assert_eq!(noted, b"\x00\x03c1\x00\xc8\x03key");
        assert_eq!(userdata::comment(&noted).as_deref(), Some("c1"));
        assert_eq!(userdata::get(&noted, 200), Some(&b"key"[..]));
        assert_eq!(userdata::get(&noted, 201), None);
        assert_eq!(userdata::get(&[0, 9, 1], 0), None, "shorter than it says");
    }

    #[test]
    fn what_is_committed_is_what_is_read() {
        let mut nftables = Nftables::open().unwrap();
        let expressions = vec![
            Expression::Payload {
                header: Header::Network,
                offset: 16,
                length: 4,
                register: 1,
            },
            Expression::Compare {
                register: 1,
                how: Comparison::NotEqual,
                with: vec![10, 0, 0, 1],
            },
            Expression::Meta {
                key: Expression::META_L4PROTO,
                register: 1,
            },
            Expression::Compare {
                register: 1,
                how: Comparison::Equal,
                with: vec![17],
            },
            Expression::Masquerade,
        ];
        let mut noted = Vec::new();
        userdata::push(&mut noted, userdata::COMMENT, b"who\0");
        let mut changes = Transaction::default();
        changes.add_table(Family::Ip, "t", "a test");
        changes.add_nat_chain(Family::Ip, "t", "c", (Hook::Postrouting, 100));
        changes.add_rule((Family::Ip, "t", "c"), false, &expressions, &noted);
        let before = nftables.generation().unwrap();
        nftables.commit(&changes, before).unwrap();
        let rules = nftables.rules(Family::Ip, "t").unwrap();
        let [rule] = rules.as_slice() else {
            panic!("{rules:?}")
        };
        assert_eq!(
            (rule.chain.as_str(), &rule.expressions),
            ("c", &expressions)
        );
        assert_eq!(rule.userdata, noted);
        assert_eq!(nftables.chains(Family::Ip, "t").unwrap(), ["c"]);
        assert!(nftables.chains(Family::Ip, "other").unwrap().is_empty());
        assert!(nftables.rules(Family::Ip6, "t").unwrap().is_empty());

        let mut removal = Transaction::default();
        removal.delete_rule(Family::Ip, "t", rule);
        let stale = nftables.commit(&removal, before).unwrap_err();
        assert_eq!(stale.kind(), io::ErrorKind::Interrupted, "{stale}");
        let now = nftables.generation().unwrap();
        nftables.commit(&removal, now).unwrap();
        assert!(nftables.rules(Family::Ip, "t").unwrap().is_empty());
        let now = nftables.generation().unwrap();
        let gone = nftables.commit(&removal, now).unwrap_err();
        assert_eq!(
            gone.kind(),
            io::ErrorKind::NotFound,
            "all or nothing: {gone}"
        );
    }
}
