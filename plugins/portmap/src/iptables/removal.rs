//! Taking chains away, wherever they are: nf_tables by netlink, the legacy tables by their tools.

use std::fs;
use std::io;

use cni::Error;
use kernel::nftables::{Family, Nftables, Transaction};

use super::listing::{Inside, Listing, Source, TABLE};
use super::script::Script;
use super::tool::Tool;
use super::{ATTEMPTS, lock, save};
use crate::backend::{family_name, until_undisturbed};
use crate::mapping::Forward;

/// Removes the chains that `which` names, with their entries, from all tables of both families. It goes on past
/// failures and reports them at the end.
pub(super) fn everywhere(which: Inside<'_>, removed: &mut Vec<Forward>) -> Result<(), Error> {
    let mut errors = Vec::new();
    for family in Family::ALL {
        for outcome in [from_nf_tables(family, which), from_legacy(family, which)] {
            match outcome {
                Ok(forwards) => removed.extend(forwards),
                Err(e) => {
                    errors.push(
                        e.context(format!("could not teardown {} dnat", family_name(family))),
                    );
                }
            }
        }
    }
    Error::join(errors)
}

/// The chains that are both named and there, and the forwards in them.
fn meant(listing: &Listing, which: Inside<'_>) -> (Vec<String>, Vec<Forward>) {
    let mut chains = which(listing);
    chains.retain(|chain| listing.has_chain(chain));
    let inside = listing
        .rules
        .iter()
        .filter(|rule| chains.contains(&rule.chain));
    let forwards = inside.filter_map(|rule| rule.facts.forward()).collect();
    (chains, forwards)
}

fn from_nf_tables(family: Family, which: Inside<'_>) -> Result<Vec<Forward>, Error> {
    until_undisturbed(|| {
        let Some(mut nftables) = Nftables::open_if_there()? else {
            return Ok(Vec::new());
        };
        let generation = nftables.generation()?;
        let listing = Listing::from_kernel(&mut nftables, family, which)?;
        let (chains, forwards) = meant(&listing, which);
        let mut changes = Transaction::default();
        for chain in &chains {
            delete_entries(&mut changes, &listing, chain);
        }
        for chain in &chains {
            changes.flush_chain(family, TABLE, chain);
            changes.delete_chain(family, TABLE, chain);
        }
        if !changes.is_empty() {
            nftables.commit(&changes, generation)?;
        }
        Ok(forwards)
    })
}

/// Removes the entries of a chain that a new set-up has taken the place of. In a listing that is text the script
/// has done it.
pub(super) fn drop_replaced(before: &Listing, chain: &str) -> Result<(), Error> {
    let mut changes = Transaction::default();
    delete_entries(&mut changes, before, chain);
    if changes.is_empty() {
        return Ok(());
    }
    until_undisturbed(|| {
        let mut nftables = Nftables::open()?;
        let generation = nftables.generation()?;
        match nftables.commit(&changes, generation) {
            // Somebody else has removed them: a DEL that came in between.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    })
}

fn delete_entries(changes: &mut Transaction, listing: &Listing, chain: &str) {
    for rule in listing.entries(chain) {
        if let Source::Kernel(rule) = &rule.source {
            changes.delete_rule(listing.family, TABLE, rule);
        }
    }
}

fn from_legacy(family: Family, which: Inside<'_>) -> Result<Vec<Forward>, Error> {
    if !legacy_table_exists(family) {
        return Ok(Vec::new());
    }
    let Some(tool) = Tool::find_legacy(family) else {
        // Nobody can do anything about it, and a DEL that fails is repeated for ever.
        log::warn!(
            "{} rules of iptables-legacy can't be looked at: no tool in PATH",
            family_name(family)
        );
        return Ok(Vec::new());
    };
    let _lock = lock::take()?;
    let mut attempt = 1;
    loop {
        let failed = |e| Error::plugin(format!("{e}"));
        let listing = save::parse(family, &tool.save().map_err(failed)?);
        let (chains, forwards) = meant(&listing, which);
        if chains.is_empty() {
            return Ok(forwards);
        }
        match tool.restore(&Script::removal(&listing, &chains).to_string()) {
            Ok(()) => return Ok(forwards),
            Err(e) if attempt < ATTEMPTS && e.is_about_rules() => attempt += 1,
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Whether the legacy nat table has been made in this network namespace; looking at it with the tool makes it.
pub(super) fn legacy_table_exists(family: Family) -> bool {
    let names = match family {
        Family::Ip => "/proc/net/ip_tables_names",
        Family::Ip6 => "/proc/net/ip6_tables_names",
    };
    fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == TABLE))
}
