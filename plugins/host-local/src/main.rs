//! The host-local IPAM plugin: addresses from ranges, reserved in files on this host.

mod allocate;
mod boot;
mod conf;
mod files;
mod hint;
mod index;
mod lease;
mod range;
mod resolv_conf;
mod store;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use cni::{Attachment, Code, Error, Success};
use skel::{Call, Plugin, Undo};

use crate::conf::{Conf, Request};
use crate::lease::Owner;
use crate::store::Pool;

struct HostLocal;

fn main() -> ExitCode {
    skel::run(HostLocal)
}

impl Plugin for HostLocal {
    type Conf = Conf;

    const NAME: &'static str = "host-local";

    fn add(&self, call: &Call<Conf>, undo: &mut Undo) -> Result<Success, Error> {
        let path = conf::pool(call)?;
        let request = Request::read(call)?;
        let owner = Owner::new(&call.container_id, &call.ifname);
        let mut pool = Pool::create(&path)?;

        let (last, now) = (pool.last_ranges(), request.fingerprint);
        if now != 0 && last.is_some_and(|last| last != now) {
            log::warn!(
                "network {:?} last handed out addresses of other ranges; configurations with one network name \
                 share the pool {}",
                call.net.name,
                path.display()
            );
        }

        let ips = allocate::allocate(&mut pool, &request.sets, &request.requested, &owner)?;
        let reserved = pool.keep(request.fingerprint);
        undo.push_last("release the addresses", move || {
            give_back(&path, &reserved, &owner)
        });
        Ok(Success {
            ips,
            routes: request.routes,
            dns: request.dns,
            ..Success::default()
        })
    }

    /// Needs neither ranges nor `CNI_ARGS`, and so does not look at them: addresses are freed by their owner's name.
    fn del(&self, call: &Call<Conf>) -> Result<(), Error> {
        let owner = Owner::new(&call.container_id, &call.ifname);
        let Some(mut pool) = Pool::open(&conf::pool(call)?)? else {
            return Ok(());
        };
        let (mut held, mut content) = (pool.held_by(&owner)?, owner.content());
        if held.is_empty() {
            (held, content) = (pool.held_by_container(&owner)?, owner.container_id());
        }
        let released = held.into_iter().map(|ip| pool.release(ip, content));
        Error::join(released.filter_map(Result::err).collect())
    }

    fn check(&self, call: &Call<Conf>) -> Result<(), Error> {
        Request::read(call)?;
        let owner = Owner::new(&call.container_id, &call.ifname);
        if let Some(mut pool) = Pool::open_read_only(&conf::pool(call)?)?
            && (!pool.held_by(&owner)?.is_empty() || !pool.held_by_container(&owner)?.is_empty())
        {
            return Ok(());
        }
        let why = "host-local: Failed to find address added by container";
        Err(Error::plugin(format!("{why} {}", call.container_id)))
    }

    fn gc(&self, call: &Call<Conf>, valid: &[Attachment]) -> Result<(), Error> {
        let Some(mut pool) = Pool::open(&conf::pool(call)?)? else {
            return Ok(());
        };
        let owners: Vec<Owner> = valid.iter().map(Owner::from).collect();
        let texts = owners.iter().flat_map(|o| [o.content(), o.container_id()]);
        let keep: HashSet<&[u8]> = texts.map(str::as_bytes).collect();
        Error::join(pool.scan(|content| keep.contains(content))?)
    }

    fn status(&self, call: &Call<Conf>) -> Result<(), Error> {
        let request = Request::read(call)?;
        let unavailable = |why: Error| Error::new(Code::NotAvailable, why.to_string());
        let path = conf::pool(call)?;
        let Some(pool) = Pool::open_read_only(&path).map_err(unavailable)? else {
            return files::check_can_make(&path).map_err(unavailable);
        };
        pool.check_writable().map_err(unavailable)?;
        let taken = pool.taken().map_err(unavailable)?;
        for set in &request.sets {
            let mut all = set.candidates(None);
            let has_room = all.any(|candidate| !taken.contains(&candidate.address))
                || pool
                    .could_reclaim(|ip| set.find(ip).is_some())
                    .map_err(unavailable)?;
            if !has_room {
                let why = format!("no IP addresses available in range set: {set}");
                return Err(Error::new(Code::NotAvailable, why));
            }
        }
        Ok(())
    }
}

/// Releases what an ADD reserved whose result nobody got. Anything else the owner holds stays.
fn give_back(path: &Path, reserved: &[IpAddr], owner: &Owner) -> Result<(), Error> {
    let Some(mut pool) = Pool::open(path)? else {
        return Ok(());
    };
    let held = pool.held_by(owner)?;
    let ours = held.into_iter().filter(|ip| reserved.contains(ip));
    let released = ours.map(|ip| pool.release(ip, owner.content()));
    let errors: Vec<Error> = released.filter_map(Result::err).collect();
    Error::join(errors)
}
