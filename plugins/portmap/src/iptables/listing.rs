//! The nat table of one family as it is: from the kernel where it is nf_tables, else from `iptables-save`.

use std::io;

use cni::Error;
use kernel::nftables::{Family, Nftables, Rule};

use super::tool::Tool;
use super::{names, save};
use crate::backend::{Held, until_undisturbed};
use crate::decode::{Facts, facts};

/// The table that iptables-nft keeps its nat rules in.
pub(super) const TABLE: &str = "nat";

/// The chains of the table that everything of port mappings is entered from, and those that all share.
const OUTER_CHAINS: [&str; 7] = [
    "PREROUTING",
    "OUTPUT",
    "POSTROUTING",
    names::DNAT,
    names::OLD_SNAT,
    names::SETMARK,
    names::MASQ,
];

/// Which chains of attachments somebody wants to see the rules of, knowing those outside of them.
pub(super) type Inside<'a> = &'a dyn Fn(&Listing) -> Vec<String>;

/// What is in the table. From the kernel only the rules that were asked for: a busy host has thousands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listing {
    pub(super) family: Family,
    pub(super) chains: Vec<String>,
    pub(super) rules: Vec<Listed>,
}

/// One rule of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) chain: String,
    pub(super) facts: Facts,
    pub(super) source: Source,
}

/// How a rule can be named when it is to be removed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// By its handle.
    Kernel(Rule),
    /// By its text, all that follows `-A`.
    Text(String),
}

impl Listing {
    /// Reads the table that this tool writes.
    pub(super) fn read(tool: &Tool, inside: Inside<'_>) -> Result<Listing, Error> {
        if tool.writes_nf_tables() {
            let listing = until_undisturbed(|| {
                Ok(Listing::from_kernel(
                    &mut Nftables::open()?,
                    tool.family,
                    inside,
                )?)
            })?;
            if listing.is_understood() {
                return Ok(listing);
            }
        }
        let text = tool
            .save()
            .map_err(|e| Error::plugin(format!("unable to list table nat: {e}")))?;
        Ok(save::parse(tool.family, &text))
    }

    /// Reads the table of iptables-nft by netlink.
    pub(super) fn from_kernel(
        nftables: &mut Nftables,
        family: Family,
        inside: Inside<'_>,
    ) -> io::Result<Listing> {
        let chains = nftables.chains(family, TABLE)?;
        let mut listing = Listing {
            family,
            chains,
            rules: Vec::new(),
        };
        for chain in OUTER_CHAINS {
            listing.load(nftables, chain)?;
        }
        for chain in inside(&listing) {
            listing.load(nftables, &chain)?;
        }
        Ok(listing)
    }

    fn load(&mut self, nftables: &mut Nftables, chain: &str) -> io::Result<()> {
        if !self.has_chain(chain) {
            return Ok(());
        }
        let listed = |rule: Rule| Listed {
            chain: rule.chain.clone(),
            facts: facts(self.family, &rule.expressions),
            source: Source::Kernel(rule),
        };
        let rules = nftables.chain_rules(self.family, TABLE, chain)?;
        self.rules.extend(rules.into_iter().map(listed));
        Ok(())
    }

    /// Whether all rules of port mappings have a form that is known. A newer iptables may choose others, and then
    /// its own words are needed.
    fn is_understood(&self) -> bool {
        self.rules.iter().all(|rule| {
            let facts = &rule.facts;
            if rule.chain == names::DNAT {
                return facts.jump.is_some() && facts.comment.is_some() && !facts.ports.is_empty();
            }
            !rule.chain.starts_with(names::CHAIN_PREFIX)
                || facts.jump.is_some()
                || facts.forward().is_some()
        })
    }

    pub(super) fn has_chain(&self, chain: &str) -> bool {
        self.chains.iter().any(|name| name == chain)
    }

    /// Whether `from` has a jump to `to`.
    pub(super) fn jumps(&self, from: &str, to: &str) -> bool {
        self.entries(to).any(|rule| rule.chain == from)
    }

    /// Whether all that a chain does is to set, or to ask for, this mark.
    pub(super) fn is_for_mark(&self, chain: &str, mark: u32) -> bool {
        let mut rules = self.rules.iter().filter(|rule| rule.chain == chain);
        rules
            .next()
            .is_some_and(|rule| rule.facts.mark == Some(mark))
            && rules.next().is_none()
    }

    /// The rules that jump to a chain.
    pub(super) fn entries<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a Listed> {
        self.rules
            .iter()
            .filter(move |rule| rule.facts.jump.as_deref() == Some(chain))
    }

    /// The chains that are entered by packets to one of these ports.
    pub(super) fn chains_for_ports(&self, ports: &[u16]) -> Vec<String> {
        let of_port = |rule: &&Listed| rule.facts.ports.iter().any(|port| ports.contains(port));
        let entries = self.rules.iter().filter(|rule| rule.chain == names::DNAT);
        sorted(
            entries
                .filter(of_port)
                .filter_map(|rule| rule.facts.jump.clone())
                .collect(),
        )
    }

    /// How many rules a chain has.
    pub(super) fn rules_in(&self, chain: &str) -> usize {
        self.rules.iter().filter(|rule| rule.chain == chain).count()
    }

    /// How many rules jump to a chain.
    pub(super) fn rules_to(&self, chain: &str) -> usize {
        self.entries(chain).count()
    }

    /// The chains of all attachments to a network.
    pub(super) fn chains_of_network(&self, network: &str) -> Vec<String> {
        let start = names::comment_start(network);
        let of_network = |rule: &&Listed| {
            rule.chain == names::DNAT
                && rule
                    .facts
                    .comment
                    .as_ref()
                    .is_some_and(|comment| comment.starts_with(&start))
        };
        let entries = self.rules.iter().filter(of_network);
        sorted(entries.filter_map(|rule| rule.facts.jump.clone()).collect())
    }

    /// The mappings that lead to other chains than `own`.
    pub(super) fn held(&self, own: &str) -> Vec<Held> {
        let entry_of = |chain: &str| {
            let mut entries = self.entries(chain).filter(|rule| rule.chain == names::DNAT);
            let entry = entries.next()?;
            Some((entry.facts.comment.clone()?, entry.facts.has_more))
        };
        let others = self
            .rules
            .iter()
            .filter(|rule| rule.chain != own && rule.chain.starts_with(names::CHAIN_PREFIX));
        let held = others.filter_map(|rule| {
            let forward = rule.facts.forward()?;
            let (comment, has_conditions) = entry_of(&rule.chain)?;
            let (network, container_id) = names::read_comment(&comment)?;
            Some(Held {
                forward,
                network: Some(network.to_owned()),
                container_id: container_id.to_owned(),
                has_conditions,
            })
        });
        held.collect()
    }
}

/// Each name once.
fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}
