//! The input of `iptables-restore`: one transaction on the nat table.

use std::fmt;
use std::net::SocketAddr;

use ipnetwork::IpNetwork;
use kernel::nftables::Family;

use super::listing::{Listing, Source};
use super::names;
use crate::conf::{Mark, OnConflict, Settings};
use crate::mapping::{Job, Mapping, Protocol};

/// The most ports of one `multiport` match.
const PORTS_MAX: usize = 15;

/// Commands that happen together or not at all.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Script {
    lines: Vec<String>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "*nat")?;
        self.lines
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "COMMIT")
    }
}

/// A rule of ours: its chain, and its words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) chain: String,
    words: Vec<String>,
}

impl Rule {
    fn new<'a>(chain: &str, words: impl IntoIterator<Item = &'a str>) -> Rule {
        let words = words.into_iter().map(str::to_owned).collect();
        Rule {
            chain: chain.to_owned(),
            words,
        }
    }

    fn line(&self, command: &str) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quote(word)).collect();
        format!("{command} {} {}", self.chain, words.join(" "))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] in chain {}", self.words.join(" "), self.chain)
    }
}

impl Script {
    /// Declares a chain: creates it, or empties the one that is there.
    fn declare(&mut self, chain: &str) {
        self.lines.push(format!(":{chain} - [0:0]"));
    }

    fn push(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn append(&mut self, rule: &Rule) {
        self.push(rule.line("-A"));
    }

    /// Asks whether all these rules are there. Changes nothing.
    pub(super) fn check(rules: &[Rule]) -> Script {
        Script {
            lines: rules.iter().map(|rule| rule.line("-C")).collect(),
        }
    }

    /// Removes chains that may have rules and entries. Only for listings that are text.
    pub(super) fn removal(listing: &Listing, chains: &[String]) -> Script {
        let mut script = Script::default();
        for chain in chains {
            script.remove_entries(listing, chain);
        }
        for chain in chains {
            script.push(format!("-F {chain}"));
            script.push(format!("-X {chain}"));
        }
        script
    }

    fn remove_entries(&mut self, listing: &Listing, chain: &str) {
        for rule in listing.entries(chain) {
            if let Source::Text(text) = &rule.source {
                self.push(format!("-D {text}"));
            }
        }
    }
}

/// The jumps from the built-in chains that a configuration needs.
pub(super) fn jumps(settings: &Settings) -> Vec<(&'static str, &'static str)> {
    let mut jumps = vec![("PREROUTING", names::DNAT), ("OUTPUT", names::DNAT)];
    if own_mark(settings).is_some() {
        jumps.push(("POSTROUTING", names::MASQ));
    }
    jumps
}

fn own_mark(settings: &Settings) -> Option<u32> {
    match settings.mark {
        Mark::Bit(bit) if settings.snat => Some(bit),
        _ => None,
    }
}

/// Sets up the mappings to one address, in place of what the attachment has in this listing.
///
/// What is shared is written only where it is missing. The chain that all mappings are entered from is created
/// with `-N`, which fails when somebody else has created it since: so no jump is ever written twice.
pub(super) fn set_up(job: &Job, address: IpNetwork, listing: &Listing) -> Script {
    let mut script = Script::default();
    let chain = super::names::chain(&job.attachment);
    if let Some(bit) = own_mark(&job.settings) {
        let mark = format!("0x{bit:x}/0x{bit:x}");
        for (chain, words) in [
            (
                names::SETMARK,
                "-m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark",
            ),
            (names::MASQ, "-j MASQUERADE -m mark --mark"),
        ] {
            if !listing.is_for_mark(chain, bit) {
                script.declare(chain);
                script.push(format!("-A {chain} {words} {mark}"));
            }
        }
        if !listing.jumps("POSTROUTING", names::MASQ) {
            script.push(format!(
                "-I POSTROUTING 1 -m comment --comment \"CNI portfwd requiring masquerade\" -j {}",
                names::MASQ
            ));
        }
    }
    if !listing.has_chain(names::DNAT) {
        script.push(format!("-N {}", names::DNAT));
    }
    for built_in in ["PREROUTING", "OUTPUT"] {
        if !listing.jumps(built_in, names::DNAT) {
            let dnat = names::DNAT;
            script.push(format!(
                "-A {built_in} -m addrtype --dst-type LOCAL -j {dnat}"
            ));
        }
    }
    script.declare(&chain);
    script.remove_entries(listing, &chain);
    for rule in own_rules(job, address) {
        if rule.chain == names::DNAT && job.settings.on_conflict == OnConflict::LastWins {
            script.push(rule.line("-I"));
        } else {
            script.append(&rule);
        }
    }
    script
}

/// The rules of the attachment's own chain, and those that enter it.
pub(super) fn own_rules(job: &Job, address: IpNetwork) -> Vec<Rule> {
    let family = Family::of(address.ip());
    let chain = names::chain(&job.attachment);
    let mut rules: Vec<Rule> = job
        .mappings(family)
        .flat_map(|m| mapping_rules(job, m, address, &chain))
        .collect();
    let comment = names::comment(&job.attachment.network, &job.attachment.container_id);
    for protocol in Protocol::ALL {
        // The original lists the ports of all mappings here, also of those for the other family.
        let of_protocol = job
            .settings
            .mappings
            .iter()
            .filter(|m| m.protocol == protocol);
        let ports: Vec<String> = of_protocol.map(|m| m.host_port.to_string()).collect();
        for ports in ports.chunks(PORTS_MAX) {
            let ports = ports.join(",");
            let start = ["-m", "comment", "--comment", &comment, "-m", "multiport"];
            let what = ["-p", protocol.name(), "--destination-ports", &ports];
            let conditions = job.settings.conditions(family).iter().map(String::as_str);
            let words = start
                .into_iter()
                .chain(what)
                .chain(conditions)
                .chain(["-j", &chain]);
            rules.push(Rule::new(names::DNAT, words));
        }
    }
    rules
}

/// Which packets are marked for masquerading, and where all of them go.
fn mapping_rules(job: &Job, mapping: &Mapping, address: IpNetwork, chain: &str) -> Vec<Rule> {
    let settings = &job.settings;
    let port = mapping.host_port.to_string();
    let only_on = mapping.only_on().map(|ip| ip.to_string());
    let mut packets = vec!["-p", mapping.protocol.name(), "--dport", &port];
    if let Some(ip) = &only_on {
        packets.extend(["-d", ip]);
    }
    let with = |more: [&str; 4]| Rule::new(chain, packets.iter().copied().chain(more));
    let mark = match &settings.mark {
        Mark::Bit(_) => names::SETMARK,
        Mark::ExternalChain(chain) => chain,
    };
    let everything = match address {
        IpNetwork::V4(_) => "0.0.0.0/0",
        IpNetwork::V6(_) => "::/0",
    };
    let pods = address.to_string();
    let mut rules = Vec::new();
    if settings.snat {
        let from = if settings.masq_all { everything } else { &pods };
        rules.push(with(["-s", from, "-j", mark]));
        if address.is_ipv4() && !settings.masq_all {
            rules.push(with(["-s", "127.0.0.1", "-j", mark]));
        }
    }
    let target = SocketAddr::new(address.ip(), mapping.container_port).to_string();
    rules.push(with(["-j", "DNAT", "--to-destination", &target]));
    rules
}

/// A word as the tool reads it back.
fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,=[]!+%@".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Attachment;

    fn job(conf: &str) -> Job {
        let conf: crate::conf::Conf = cni::json::from_slice(conf.as_bytes()).unwrap();
        Job {
            attachment: Attachment {
                network: "net1".into(),
                container_id: "c1".into(),
                ifname: "eth0".into(),
            },
            settings: conf.settings().unwrap(),
            addresses: vec![
                "10.77.0.5/24".parse().unwrap(),
                "fd00::5/64".parse().unwrap(),
            ],
        }
    }

    fn empty(family: Family) -> Listing {
        super::super::save::parse(family, "")
    }

    const ONE_PORT: &str = r#"{"runtimeConfig":{"portMappings":
        [{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}}"#;

    #[test]
    fn the_first_container() {
        let job = job(ONE_PORT);
        let script = set_up(&job, job.addresses[0], &empty(Family::Ip)).to_string();
        let expected = r#"*nat
:CNI-HOSTPORT-SETMARK - [0:0]
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
:CNI-HOSTPORT-MASQ - [0:0]
-A CNI-HOSTPORT-MASQ -j MASQUERADE -m mark --mark 0x2000/0x2000
-I POSTROUTING 1 -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-N CNI-HOSTPORT-DNAT
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
:CNI-DN-c2d892b58e87e28a12fe6 - [0:0]
-A CNI-DN-c2d892b58e87e28a12fe6 -p tcp --dport 8080 -s 10.77.0.5/24 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-c2d892b58e87e28a12fe6 -p tcp --dport 8080 -s 127.0.0.1 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-c2d892b58e87e28a12fe6 -p tcp --dport 8080 -j DNAT --to-destination 10.77.0.5:80
-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \"net1\" id: \"c1\"" -m multiport -p tcp --destination-ports 8080 -j CNI-DN-c2d892b58e87e28a12fe6
COMMIT
"#;
        assert_eq!(script, expected);
    }

    #[test]
    fn ipv6_has_no_localhost_and_brackets() {
        let job = job(ONE_PORT);
        let rules = own_rules(&job, job.addresses[1]);
        assert_eq!(rules.len(), 3);
        assert!(
            rules[1]
                .line("-A")
                .ends_with("--to-destination [fd00::5]:80")
        );
    }

    #[test]
    fn ports_by_fifteen_and_protocol() {
        let entry = |protocol: &str, n: usize| {
            format!(
                r#"{{"hostPort":{},"containerPort":1,"protocol":"{protocol}"}}"#,
                1000 + n
            )
        };
        let mut entries: Vec<String> = (0..16).map(|n| entry("tcp", n)).collect();
        entries.push(entry("sctp", 0));
        let text = format!(
            r#"{{"snat":false,"runtimeConfig":{{"portMappings":[{}]}}}}"#,
            entries.join(",")
        );
        let job = job(&text);
        let rules = own_rules(&job, job.addresses[0]);
        let entries: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.chain == names::DNAT)
            .collect();
        assert_eq!((rules.len() - entries.len(), entries.len()), (17, 3));
        assert!(
            entries[0]
                .line("-A")
                .contains("-p sctp --destination-ports 1000 ")
        );
        assert!(
            entries[2]
                .line("-A")
                .contains("-p tcp --destination-ports 1015 ")
        );
        let script = set_up(&job, job.addresses[0], &empty(Family::Ip)).to_string();
        assert!(!script.contains("SETMARK") && !script.contains("MASQ"));
    }

    #[test]
    fn masq_all_conditions_and_an_external_chain() {
        let job = job(
            r#"{"masqAll":true,"externalSetMarkChain":"KUBE-MARK-MASQ","conditionsV4":["!","-d","192.0.2.0/24","a b"],
                "runtimeConfig":{"portMappings":[{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"10.0.0.1"}]}}"#,
        );
        let rules: Vec<String> = own_rules(&job, job.addresses[0])
            .iter()
            .map(|rule| rule.line("-A"))
            .collect();
        assert_eq!(rules.len(), 3);
        assert!(rules[0].ends_with("-p udp --dport 53 -d 10.0.0.1 -s 0.0.0.0/0 -j KUBE-MARK-MASQ"));
        assert!(
            rules[2].contains(r#"! -d 192.0.2.0/24 "a b" -j CNI-DN-"#),
            "{}",
            rules[2]
        );
        let v6 = own_rules(&job, job.addresses[1]);
        assert_eq!(
            v6.len(),
            1,
            "a mapping of the other family is entered and does nothing"
        );
    }
}
