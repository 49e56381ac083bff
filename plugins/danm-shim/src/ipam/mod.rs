//! Which addresses a network gives: first fit on its bitmap, static, or none; without any I/O.
//!
//! What comes out is the list of changes of the object. The object itself is the only store.

mod bitmap;
mod subnet;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use bitmap::Bitmap;
use k8s::{DanmOptions, DanmPool};
use subnet::{Subnet, default_pool};

/// What a pod asks for or has: an address of each family in the words of annotation and DanmEp. Empty is nothing,
/// `none` is an interface without addresses of the family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// IPv4, `10.2.157.1/27`.
    pub(crate) ip: String,
    /// IPv6, with the prefix length of `net6`.
    pub(crate) ip6: String,
}

/// Members of `spec.DanmOptions` that change, with their new values; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) alloc: Option<String>,
    pub(crate) pool: Option<DanmPool>,
    pub(crate) alloc6: Option<String>,
    pub(crate) pool6: Option<DanmPool>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// `ip` and `ip6` of an annotation.
const DYNAMIC: &str = "dynamic";
/// As [`DYNAMIC`].
pub(crate) const NONE: &str = "none";

/// Takes the addresses that `wanted` asks for. Both or none: the changes are those of both.
///
/// The text says why not, in the original's words.
pub(crate) fn reserve(
    options: &mut DanmOptions,
    wanted: &Addresses,
) -> Result<(Addresses, Changes), String> {
    let mut changes = Changes::default();
    let mut got = wanted.clone();
    if is_wanted(&wanted.ip) {
        let mut family = Family::v4(options)?.ok_or(L2)?;
        got.ip = family.take(&wanted.ip)?;
        (changes.alloc, changes.pool) = family.changes();
    }
    if is_wanted(&wanted.ip6) {
        let mut family = Family::v6(options)?.ok_or(L2)?;
        got.ip6 = family.take(&wanted.ip6)?;
        (changes.alloc6, changes.pool6) = family.changes();
    }
    Ok((got, changes))
}

/// Gives addresses back: each only if it lies in the subnet of the bitmap and is taken there.
pub(crate) fn release(options: &mut DanmOptions, addresses: &[Addresses]) -> Changes {
    let give_back = |family: Result<Option<Family>, String>, own: fn(&Addresses) -> &String| {
        let mut family = family.ok()??;
        let mut is_changed = false;
        for ip in addresses.iter().filter_map(|all| host(own(all))) {
            let bit = family.subnet.index(ip);
            let is_taken = |bit: &u64| *bit < family.bitmap.bits() && family.bitmap.is_set(*bit);
            if let Some(bit) = bit.filter(is_taken) {
                family.bitmap.clear(bit);
                is_changed = true;
            }
        }
        is_changed.then(|| family.bitmap.into_text())
    };
    let mut changes = Changes::default();
    if !options.alloc.is_empty() {
        changes.alloc = give_back(Family::v4(options), |all| &all.ip);
    }
    if !options.alloc6.is_empty() {
        changes.alloc6 = give_back(Family::v6(options), |all| &all.ip6);
    }
    changes
}

/// Whether the network's bitmap says that the addresses are taken. Addresses without a bit are not looked at.
pub(crate) fn is_reserved(options: &mut DanmOptions, addresses: &Addresses) -> bool {
    let is_free = |family: Result<Option<Family>, String>, address: &str| {
        let family = family.ok().flatten();
        let place = family.and_then(|family| {
            let bit = family.subnet.index(host(address)?)?;
            Some(family.bitmap.is_set(bit))
        });
        place == Some(false)
    };
    !is_free(Family::v4(options), &addresses.ip) && !is_free(Family::v6(options), &addresses.ip6)
}

/// Whether `address` lies where the network's own addresses are, so that it is DANM's to give back.
pub(crate) fn is_own(options: &DanmOptions, address: &str) -> bool {
    let net = [&options.cidr, &options.net6];
    let mut nets = net.into_iter().filter_map(|net| parse_net(net).ok());
    host(address).is_some_and(|ip| nets.any(|net| net.contains(ip)))
}

/// Whether an address has to be found for the request.
fn is_wanted(request: &str) -> bool {
    !request.is_empty() && request != NONE
}

/// The address without its prefix length.
pub(crate) fn host(address: &str) -> Option<IpAddr> {
    let (ip, _) = address.split_once('/').unwrap_or((address, ""));
    cni::text::parse_ip(ip).ok()
}

fn parse_net(text: &str) -> Result<IpNetwork, String> {
    cni::text::parse_cidr(text).map_err(|_| format!("Invalid CIDR: {text}"))
}

const L2: &str = "IP address cannot be allocated for an L2 network!";
const EXHAUSTED: &str = "IP address cannot be dynamically allocated, all addresses are reserved!";

/// One address family of a network.
struct Family {
    /// What the pod is told: its prefix length goes on the address.
    net: IpNetwork,
    /// What the bitmap covers.
    subnet: Subnet,
    /// The pool as it is in the object or, if it is not there, as it is to be.
    pool: DanmPool,
    bitmap: Bitmap,
    /// The bitmap says something new.
    is_changed: bool,
    /// The pool does.
    is_new: bool,
}

impl Family {
    /// IPv4; `None` where the network has none.
    ///
    /// The bitmap moves out of `options`: it is the one big thing there.
    fn v4(options: &mut DanmOptions) -> Result<Option<Family>, String> {
        if options.cidr.is_empty() {
            return Ok(None);
        }
        let net = parse_net(&options.cidr)?;
        let pool = options.allocation_pool.clone();
        let alloc = std::mem::take(&mut options.alloc);
        Family::new(net, net, alloc, pool, &options.routes).map(Some)
    }

    /// IPv6. The part of the network that has a bitmap is chosen here, if the webhook has not.
    fn v6(options: &mut DanmOptions) -> Result<Option<Family>, String> {
        if options.net6.is_empty() {
            return Ok(None);
        }
        let net = parse_net(&options.net6)?;
        let mut pool = options.allocation_pool_v6.clone();
        let given = pool.as_ref().map_or("", |pool| pool.cidr.as_str());
        let covered = match (given, net) {
            ("", IpNetwork::V6(net6)) => {
                let cidr = parse_net(&options.cidr).ok();
                default_pool(net6, cidr).map(IpNetwork::V6)
            }
            _ => Some(parse_net(given)?),
        };
        let covered = covered.ok_or_else(|| format!("Invalid CIDR: {}", options.cidr))?;
        if given.is_empty() {
            let cidr = covered.to_string();
            pool = Some(DanmPool {
                cidr,
                ..DanmPool::default()
            });
        }
        let alloc = std::mem::take(&mut options.alloc6);
        Family::new(net, covered, alloc, pool, &options.routes6).map(Some)
    }

    fn new(
        net: IpNetwork,
        covered: IpNetwork,
        alloc: String,
        pool: Option<DanmPool>,
        routes: &BTreeMap<String, String>,
    ) -> Result<Family, String> {
        let subnet = Subnet::of(covered);
        let is_new = alloc.is_empty();
        let bitmap = match is_new {
            true => {
                let size = subnet.size();
                let size = size.ok_or_else(|| format!("{covered} has too many addresses"))?;
                let mut bitmap = Bitmap::fresh(size);
                let gateways = routes.values().filter_map(|gateway| host(gateway));
                let taken = gateways.filter_map(|gateway| subnet.index(gateway));
                taken.for_each(|bit| bitmap.set(bit));
                bitmap
            }
            false => Bitmap::parse(alloc)
                .map_err(|_| format!("the allocation bitmap of {covered} is not valid base64"))?,
        };
        // A hand-written bitmap may cover less than its subnet.
        let last = subnet.size().map_or(u64::MAX, |size| size - 1);
        if last >= bitmap.bits() {
            let bits = bitmap.bits();
            return Err(format!(
                "the allocation bitmap of {covered} is too short: {bits} bits"
            ));
        }
        let mut pool = pool.unwrap_or_default();
        if is_new {
            let (start, end) = subnet.inner();
            for (place, default) in [(&mut pool.start, start), (&mut pool.end, end)] {
                if place.is_empty() {
                    *place = default.to_string();
                }
            }
        }
        Ok(Family {
            net,
            subnet,
            pool,
            bitmap,
            is_changed: is_new,
            is_new,
        })
    }

    /// Takes one address and returns it with its prefix length.
    fn take(&mut self, request: &str) -> Result<String, String> {
        let ip = match request {
            DYNAMIC => self.take_first()?,
            _ => self.take_static(request)?,
        };
        let address = format!("{ip}/{}", self.net.prefix());
        if request == DYNAMIC {
            self.pool.last_ip.clone_from(&address);
            self.is_new = true;
        }
        Ok(address)
    }

    /// The first free address of the pool. `lastIp` is for people: the original writes it in a form that it can't
    /// read, so every search begins at the start.
    fn take_first(&mut self) -> Result<IpAddr, String> {
        let (first, last) = self.subnet.inner();
        let place = |text: &str, default: IpAddr| {
            let ip = if text.is_empty() {
                Some(default)
            } else {
                host(text)
            };
            ip.and_then(|ip| self.subnet.index(ip)).ok_or_else(|| {
                format!(
                    "the allocation pool's {text} is not an address of {}",
                    self.net
                )
            })
        };
        let range = place(&self.pool.start, first)?..=place(&self.pool.end, last)?;
        let bit = self.bitmap.first_clear(range).ok_or(EXHAUSTED)?;
        self.set(bit);
        Ok(self.subnet.address(bit))
    }

    /// The address that was asked for, in the pool or not. An IPv6 address outside of the bitmap has no bit: it is
    /// granted, and nobody keeps account of it.
    fn take_static(&mut self, request: &str) -> Result<IpAddr, String> {
        let failed = |what: String| format!("static IP allocation failed, requested {what}");
        let ip = host(request)
            .ok_or_else(|| failed(format!("static IP:{request} is not a valid IP")))?;
        if !self.net.contains(ip) {
            let cidr = self.net;
            return Err(failed(format!(
                "static IP:{request} is outside the network's CIDR:{cidr}"
            )));
        }
        if let Some(bit) = self.subnet.index(ip) {
            if self.bitmap.is_set(bit) {
                return Err(failed(format!("IP address:{request} is already in use")));
            }
            self.set(bit);
        }
        Ok(ip)
    }

    fn set(&mut self, bit: u64) {
        self.bitmap.set(bit);
        self.is_changed = true;
    }

    /// The bitmap and the pool, as far as they say something new.
    fn changes(self) -> (Option<String>, Option<DanmPool>) {
        let alloc = self.is_changed.then(|| self.bitmap.into_text());
        (alloc, self.is_new.then_some(self.pool))
    }
}
