//! The nftables backend: table, chains and rules of the original, each change one transaction of netlink.

mod conditions;
mod key;
mod rules;

use cni::{Attachment as Valid, Code, Error};
use kernel::nftables::{self as kernel_nft, Family, Rule, Transaction, userdata};

use crate::backend::{Backend, Failure, Held, refuse_conflicts, until_undisturbed};
use crate::conf::OnConflict;
use crate::decode::facts;
use crate::mapping::{Attachment, Forward, Job};
use key::{Owner, owner};
use rules::{MAPPING_CHAINS, MASQUERADING, TABLE};

/// Writes rules by netlink.
#[derive(Debug)]
pub(crate) struct Nftables;

impl Backend for Nftables {
    fn usable(&self, _: &[Family]) -> Result<(), String> {
        match kernel_nft::Nftables::open() {
            Ok(_) => Ok(()),
            Err(e) => Err(format!("the kernel offers no nftables: {e}")),
        }
    }

    fn add(&self, job: &Job) -> Result<(), Error> {
        // Compiled once, before anything is read: a condition that is not understood costs nothing.
        let wanted = all_wanted(job)?;
        until_undisturbed(|| add_once(job, &wanted)).map_err(|e| match e.code {
            Code::InvalidConfig => e,
            _ => e.context("unable to set up nftables rules for port mappings"),
        })
    }

    fn check(&self, job: &Job) -> Result<(), Error> {
        let wanted = all_wanted(job)?;
        until_undisturbed(|| {
            let mut nftables = kernel_nft::Nftables::open()?;
            for (family, wanted) in &wanted {
                let present = nftables.rules(*family, TABLE)?;
                check_family(job, *family, wanted, &present)?;
            }
            Ok(())
        })
    }

    fn remove(&self, attachment: &Attachment, removed: &mut Vec<Forward>) -> Result<(), Error> {
        remove_where(|rule| owner(rule, attachment) != Owner::Other)
            .map(|forwards| removed.extend(forwards))
            .map_err(|e| e.context("error deleting nftables rules"))
    }

    fn collect(
        &self,
        network: &str,
        valid: &[Valid],
        removed: &mut Vec<Forward>,
    ) -> Result<(), Error> {
        let keys = key::of_all(network, valid);
        remove_where(|rule| key::is_stale(rule, network, &keys))
            .map(|forwards| removed.extend(forwards))
            .map_err(|e| e.context("error deleting stale nftables rules"))
    }
}

type Wanted = Vec<(Family, Vec<rules::Wanted>)>;

fn all_wanted(job: &Job) -> Result<Wanted, Error> {
    let of = |address: &ipnetwork::IpNetwork| {
        let address = address.ip();
        Ok((Family::of(address), rules::wanted(job, address)?))
    };
    job.addresses.iter().map(of).collect()
}

/// One look at the rules and one transaction for all families.
fn add_once(job: &Job, wanted: &Wanted) -> Result<(), Failure> {
    let mut nftables = kernel_nft::Nftables::open()?;
    let generation = nftables.generation()?;
    let (mut changes, mut held) = (Transaction::default(), Vec::new());
    for (family, wanted) in wanted {
        let present = rules_for_add(&mut nftables, job, *family)?;
        let chains = nftables.chains(*family, TABLE)?;
        rules::add_shared(&mut changes, *family, job.settings.snat, &chains, &present);
        for rule in present
            .iter()
            .filter(|rule| is_replaced(rule, job, *family))
        {
            changes.delete_rule(*family, TABLE, rule);
        }
        let noted = key::userdata(&job.attachment);
        let at_front = job.settings.on_conflict == OnConflict::LastWins;
        // Rules put in front one by one come out in reverse.
        let ordered: Vec<&rules::Wanted> = match at_front {
            true => wanted.iter().rev().collect(),
            false => wanted.iter().collect(),
        };
        for rule in ordered {
            let place = (*family, TABLE, rule.chain);
            changes.add_rule(place, at_front, &rule.expressions, &noted);
        }
        held.extend(present.iter().filter_map(|rule| held_by(*family, rule)));
    }
    refuse_conflicts(job, &held)?;
    nftables.commit(&changes, generation)?;
    Ok(())
}

/// The rules that a set-up has to know. Two thirds of the table masquerade, and are of no interest unless the
/// attachment has been set up before.
fn rules_for_add(
    nftables: &mut kernel_nft::Nftables,
    job: &Job,
    family: Family,
) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for chain in MAPPING_CHAINS.into_iter().chain(rules::SHARED_CHAINS) {
        rules.extend(nftables.chain_rules(family, TABLE, chain)?);
    }
    let known = rules
        .iter()
        .any(|rule| owner(rule, &job.attachment) != Owner::Other);
    // Without a mapping in this family the rules that masquerade are all that there may be.
    if known || job.mappings(family).next().is_none() {
        rules.extend(nftables.chain_rules(family, TABLE, MASQUERADING)?);
    }
    Ok(rules)
}

/// Whether setting up this job takes the place of a rule: one of the same attachment, or one that the original
/// made for the same container and one of the same ports. The original notes no network, so that its other
/// rules may belong to another one.
fn is_replaced(rule: &Rule, job: &Job, family: Family) -> bool {
    match owner(rule, &job.attachment) {
        Owner::This => true,
        Owner::Other => false,
        Owner::ContainerOnly => facts(family, &rule.expressions)
            .forward()
            .is_some_and(|old| {
                let mut wanted = job
                    .addresses
                    .iter()
                    .flat_map(|address| job.forwards(address.ip()));
                wanted.any(|new| new.collides(&old))
            }),
    }
}

fn held_by(family: Family, rule: &Rule) -> Option<Held> {
    let facts = facts(family, &rule.expressions);
    Some(Held {
        forward: facts.forward()?,
        network: key::network(rule),
        container_id: userdata::comment(&rule.userdata)?,
        has_conditions: facts.has_more,
    })
}

fn check_family(
    job: &Job,
    family: Family,
    wanted: &[rules::Wanted],
    present: &[Rule],
) -> Result<(), Error> {
    let missing = |what: &str, chain: &str| {
        let family = crate::backend::family_name(family);
        Err(Error::plugin(format!(
            "missing {what} rules in {chain:?} chain of {family} table {TABLE}"
        )))
    };
    if let Some(chain) = rules::first_broken_shared_chain(present) {
        return missing("jump", chain);
    }
    let own: Vec<&Rule> = present
        .iter()
        .filter(|rule| owner(rule, &job.attachment) != Owner::Other)
        .collect();
    for rule in wanted {
        let found = own
            .iter()
            .any(|own| own.chain == rule.chain && own.expressions == rule.expressions);
        if !found {
            return missing("hostport", rule.chain);
        }
    }
    let stray = own.iter().find(|own| {
        let known = |rule: &rules::Wanted| rule.expressions == own.expressions;
        owner(own, &job.attachment) == Owner::This && !wanted.iter().any(known)
    });
    match stray {
        None => Ok(()),
        Some(rule) => Err(Error::plugin(format!(
            "chain {:?} of table {TABLE} has a rule of this attachment that is not asked for: handle {}",
            rule.chain, rule.handle
        ))),
    }
}

/// Removes rules in both families, in one transaction.
fn remove_where(is_meant: impl Fn(&Rule) -> bool) -> Result<Vec<Forward>, Error> {
    until_undisturbed(|| {
        let Some(mut nftables) = kernel_nft::Nftables::open_if_there()? else {
            return Ok(Vec::new());
        };
        let generation = nftables.generation()?;
        let (mut changes, mut removed) = (Transaction::default(), Vec::new());
        for family in Family::ALL {
            for rule in nftables.rules(family, TABLE)? {
                let chain = rule.chain.as_str();
                let known = MAPPING_CHAINS.contains(&chain) || chain == MASQUERADING;
                if known && is_meant(&rule) {
                    changes.delete_rule(family, TABLE, &rule);
                    removed.extend(facts(family, &rule.expressions).forward());
                }
            }
        }
        if !changes.is_empty() {
            nftables.commit(&changes, generation)?;
        }
        Ok(removed)
    })
}
