//! One ADD's addresses: one out of each range set.

use std::collections::HashSet;
use std::net::IpAddr;

use cni::{Error, Ip};
use ipnetwork::IpNetwork;

use crate::lease::Owner;
use crate::range::{Candidate, RangeSet};
use crate::store::Pool;

/// Addresses that are tried by making their file. So many in a row that are taken mean a dense pool, where
/// reading the directory once is cheaper than asking the file system for every address.
const TRIES: usize = 16;

/// Reserves an address in every set: one that was asked for if the set has it, else the next one that is free.
///
/// All or nothing: on an error the pool, when it is dropped, gives back what this call reserved.
pub(crate) fn allocate(
    pool: &mut Pool,
    sets: &[RangeSet],
    requested: &[IpAddr],
    owner: &Owner,
) -> Result<Vec<Ip>, Error> {
    let mut requested = requested.to_vec();
    let mut ips = Vec::with_capacity(sets.len());
    for (i, set) in sets.iter().enumerate() {
        let wish = requested.iter().position(|ip| set.find(*ip).is_some());
        let wish = wish.and_then(|at| set.find(requested.remove(at)));
        let reserved = match wish {
            Some(wish) => reserve_requested(pool, i, set, wish, owner),
            None => reserve_next(pool, i, set, owner),
        };
        let given = reserved.map_err(|e| e.context(format!("failed to allocate for range {i}")))?;
        ips.push(Ip {
            address: IpNetwork::new(given.address, given.prefix)
                .map_err(|e| Error::config(e.to_string()))?,
            gateway: Some(given.gateway),
            interface: None,
        });
    }
    if requested.is_empty() {
        return Ok(ips);
    }
    let left: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
    let why = format!("failed to allocate all requested IPs: {}", left.join(" "));
    Err(Error::plugin(why))
}

/// Reserves the address that was asked for. Not looked at is whether the container has one already.
fn reserve_requested(
    pool: &mut Pool,
    index: usize,
    set: &RangeSet,
    wish: Candidate,
    owner: &Owner,
) -> Result<Candidate, Error> {
    let ip = wish.address;
    if ip == wish.gateway {
        return Err(Error::plugin(format!(
            "requested ip {ip} is subnet's gateway"
        )));
    }
    let hint = pool.hint(index);
    let reserved = pool.reserve(ip, owner)?
        || (pool.reclaim(|other| other == ip)? && pool.reserve(ip, owner)?);
    if !reserved {
        return Err(Error::plugin(format!(
            "requested IP address {ip} is not available in range set {set}"
        )));
    }
    pool.set_hint(hint, ip);
    Ok(wish)
}

/// Reserves the next free address, round robin.
fn reserve_next(
    pool: &mut Pool,
    index: usize,
    set: &RangeSet,
    owner: &Owner,
) -> Result<Candidate, Error> {
    let mut has = pool.held_by(owner)?;
    has.extend(pool.held_by_container(owner)?);
    if let Some(ip) = has.into_iter().find(|ip| set.find(*ip).is_some()) {
        return Err(Error::plugin(format!(
            "{ip} has been allocated to {}, duplicate allocation is not allowed",
            owner.container_id()
        )));
    }
    let hint = pool.hint(index);
    let mut given = try_all(pool, set, hint.address, owner)?;
    if given.is_none() && pool.reclaim(|ip| set.find(ip).is_some())? {
        given = try_all(pool, set, hint.address, owner)?;
    }
    let Some(given) = given else {
        let why = format!("no IP addresses available in range set: {set}");
        return Err(Error::plugin(why));
    };
    pool.set_hint(hint, given.address);
    Ok(given)
}

/// Reserves the first candidate that is free; `None` when none is.
fn try_all(
    pool: &mut Pool,
    set: &RangeSet,
    last_reserved: Option<IpAddr>,
    owner: &Owner,
) -> Result<Option<Candidate>, Error> {
    let mut taken: Option<HashSet<IpAddr>> = None;
    for (tried, candidate) in set.candidates(last_reserved).enumerate() {
        if tried == TRIES {
            taken = Some(pool.taken()?);
        }
        let free = taken
            .as_ref()
            .is_none_or(|taken| !taken.contains(&candidate.address));
        if free && pool.reserve(candidate.address, owner)? {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}
