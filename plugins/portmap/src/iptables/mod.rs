//! The iptables backend: chains and rules of the original, written by one `iptables-restore` per family.
//!
//! Reading and removing take no process where the rules are those of iptables-nft, because these are rules
//! of nf_tables like any other: they are read, and removed, by netlink. So a host whose iptables package is
//! gone can still be cleaned. The rules of iptables-legacy need the legacy tools for everything.

mod listing;
mod lock;
mod names;
mod removal;
mod save;
mod script;
mod tool;

use cni::{Attachment as Valid, Error};
use ipnetwork::IpNetwork;
use kernel::nftables::Family;

use crate::backend::{Backend, Held, family_name, refuse_conflicts};
use crate::mapping::{Attachment, Forward, Job};
use listing::Listing;
use tool::Tool;

/// Writes rules by the iptables tools found in `PATH`.
#[derive(Debug)]
pub(crate) struct Iptables;

/// How often a script is written anew because the original changed the table after it was read.
const ATTEMPTS: usize = 5;

impl Backend for Iptables {
    fn usable(&self, families: &[Family]) -> Result<(), String> {
        families
            .iter()
            .try_for_each(|family| Tool::find(*family)?.works())
    }

    fn add(&self, job: &Job) -> Result<(), Error> {
        let _lock = lock::take()?;
        let mut prepared = Vec::new();
        for address in &job.addresses {
            let tool = find(Family::of(address.ip()))?;
            let listing = read(&tool, job)?;
            prepared.push((*address, tool, listing));
        }
        let chain = names::chain(&job.attachment);
        let listings = prepared.iter().map(|(.., listing)| listing);
        let held: Vec<Held> = listings.flat_map(|listing| listing.held(&chain)).collect();
        refuse_conflicts(job, &held)?;
        for (address, tool, listing) in prepared {
            let replaced = set_up(job, address, &tool, listing)?;
            removal::drop_replaced(&replaced, &chain)?;
        }
        Ok(())
    }

    fn check(&self, job: &Job) -> Result<(), Error> {
        for address in &job.addresses {
            let family = Family::of(address.ip());
            check_family(job, *address)
                .map_err(|e| e.context(format!("could not check {} dnat", family_name(family))))?;
        }
        Ok(())
    }

    fn remove(&self, attachment: &Attachment, removed: &mut Vec<Forward>) -> Result<(), Error> {
        let chains = [names::chain(attachment), names::old_chain(attachment)];
        removal::everywhere(&|_: &Listing| chains.to_vec(), removed)
    }

    fn collect(
        &self,
        network: &str,
        valid: &[Valid],
        removed: &mut Vec<Forward>,
    ) -> Result<(), Error> {
        let attachment = |v: &Valid| Attachment {
            network: network.to_owned(),
            container_id: v.container_id.clone(),
            ifname: v.ifname.clone(),
        };
        let valid: Vec<String> = valid.iter().map(|v| names::chain(&attachment(v))).collect();
        let stale = |listing: &Listing| {
            let mut stale = listing.chains_of_network(network);
            stale.retain(|chain| !valid.contains(chain));
            stale
        };
        removal::everywhere(&stale, removed)
    }
}

fn find(family: Family) -> Result<Tool, Error> {
    Tool::find(family)
        .map_err(|e| Error::plugin(format!("failed to open {}: {e}", tool::name(family))))
}

/// What a set-up has to know: who else wants the same ports.
fn read(tool: &Tool, job: &Job) -> Result<Listing, Error> {
    let ports: Vec<u16> = job.settings.mappings.iter().map(|m| m.host_port).collect();
    Listing::read(tool, &|listing: &Listing| listing.chains_for_ports(&ports))
}

/// Writes the rules to one address. Returns the listing that they were written for.
fn set_up(
    job: &Job,
    address: IpNetwork,
    tool: &Tool,
    mut listing: Listing,
) -> Result<Listing, Error> {
    for _ in 1..ATTEMPTS {
        let script = script::set_up(job, address, &listing).to_string();
        let Err(failure) = tool.restore(&script) else {
            return Ok(listing);
        };
        let now = match failure.is_about_rules() {
            true => read(tool, job)?,
            false => return Err(set_up_failed(failure)),
        };
        if now == listing {
            return Err(set_up_failed(failure));
        }
        // The original has created a chain meanwhile, or removed a rule.
        listing = now;
    }
    let script = script::set_up(job, address, &listing).to_string();
    tool.restore(&script).map_err(set_up_failed)?;
    Ok(listing)
}

fn set_up_failed(failure: tool::Failure) -> Error {
    Error::plugin(format!("unable to setup DNAT: {failure}"))
}

/// The chain of the attachment has the wanted rules, all of them and no other, and is entered as it has to be.
fn check_family(job: &Job, address: IpNetwork) -> Result<(), Error> {
    let tool = find(Family::of(address.ip()))?;
    let chain = names::chain(&job.attachment);
    let listing = Listing::read(&tool, &|_: &Listing| vec![chain.clone()])?;
    if !listing.has_chain(&chain) {
        let why = format!("chain {chain} not found in iptables table nat");
        return Err(Error::plugin(why));
    }
    for (built_in, shared) in script::jumps(&job.settings) {
        if !listing.jumps(built_in, shared) {
            let why = format!("rule [-j {shared}] in chain {built_in} not found in table nat");
            return Err(Error::plugin(why));
        }
    }
    let wanted = script::own_rules(job, address);
    // The tool compares each rule, because only the tool knows all the ways to spell one.
    let check = script::Script::check(&wanted);
    if let Err(failure) = tool.restore(&check.to_string()) {
        let line = failure.line().and_then(|line| line.checked_sub(2)); // after the line of the table
        return Err(Error::plugin(
            match line.and_then(|line| wanted.get(line)) {
                Some(rule) => format!("rule {rule} not found in table nat"),
                None => failure.to_string(),
            },
        ));
    }
    let count = |listed: usize, wanted: usize, what: &str| match listed == wanted {
        true => Ok(()),
        false => Err(Error::plugin(format!(
            "{what} has {listed} rules and should have {wanted}"
        ))),
    };
    let inside = wanted.iter().filter(|rule| rule.chain == chain).count();
    count(listing.rules_in(&chain), inside, &format!("chain {chain}"))?;
    let entries = wanted.len() - inside;
    count(
        listing.rules_to(&chain),
        entries,
        &format!("entry to chain {chain}"),
    )
}
