//! Attaching a pod by a link on a master: what macvlan and ipvlan do alike, verb by verb.
//!
//! A plugin reads its keys into a [`Plan`]; from there on the two differ in nothing but the kind of the link.

mod addresses;
mod plan;

use std::sync::Arc;

use cni::text::format_mac;
use cni::{Code, Error, Interface, Success};
use kernel::{Expected, Link, Netns, Rtnl};
use skel::{Call, Undo};

use addresses::{ipam, lease, lease_needs_link};
pub use plan::{Plan, one_of};

/// Makes the link and gives it the addresses of the IPAM plugin, or those of `before` when none is configured.
///
/// The interface is the only one of the result, and all addresses are its own.
pub fn add<C>(
    call: &Call<C>,
    undo: &mut Undo,
    plan: &Plan,
    before: Success,
) -> Result<Success, Error> {
    let (ipam, ifname) = (ipam(call)?, call.ifname.as_str());
    let pod = Arc::new(open(&call.netns)?);
    plan.create_link(ifname, &pod)?;
    undo.push(format!("delete link {ifname}"), {
        let (pod, ifname) = (Arc::clone(&pod), ifname.to_owned());
        move || delete_link(&pod, &ifname)
    });
    let mut result = match ipam {
        Some(ipam) => lease(ipam, call, undo)?,
        None => before,
    };
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    result.interfaces = vec![Interface {
        name: ifname.to_owned(),
        sandbox: call.netns.clone(),
        ..Interface::default()
    }];
    let link = pod.inside(|| configure(ifname, &result))?;
    for interface in &mut result.interfaces {
        interface.mac = format_mac(&link.mac);
    }
    if !call.net.dns.is_empty() {
        result.dns = call.net.dns.clone();
    }
    Ok(result)
}

/// Takes the link and the addresses away.
///
/// Asks for nothing but what is needed for that: the master may be gone, and the configuration may have become
/// invalid since ADD.
pub fn del<C>(call: &Call<C>) -> Result<(), Error> {
    let mut errors = Vec::new();
    let mut note = |outcome: Result<(), Error>| errors.extend(outcome.err());
    let link = || match Netns::open(&call.netns) {
        _ if call.netns.is_empty() => Ok(()),
        Ok(pod) => delete_link(&pod, &call.ifname),
        Err(e) if e.is_gone() => Ok(()),
        Err(e) => Err(Error::plugin(e.to_string())),
    };
    let address = || match ipam(call)? {
        Some(ipam) => ipam.del(&call.stdin),
        None => Ok(()),
    };
    // An address is free when nobody answers for it any more.
    if lease_needs_link(call) {
        note(address());
        note(link());
    } else {
        note(link());
        note(address());
    }
    Error::join(errors)
}

/// Compares the interface with `plan` and with `prevResult`.
pub fn check<C>(call: &Call<C>, plan: &Plan) -> Result<(), Error> {
    let pod = open(&call.netns)?;
    if let Some(ipam) = ipam(call)? {
        ipam.check(&call.stdin)?;
    }
    let Some(result) = call.net.prev_result()? else {
        return Err(Error::config("required prevResult missing"));
    };
    let expected = Expected::find(&result, &call.ifname, &pod, &call.netns)?;
    // Which link the default route led to at the time of ADD is not known any more.
    let master = match &plan.master {
        Some(_) => Some(plan.on_side_of_master(&pod, || plan.find_master())?),
        None => None,
    };
    pod.inside(|| {
        let mut rtnl = Rtnl::open()?;
        let link = expected.link(&mut rtnl, plan.kind.name())?;
        plan.compare(&link, master.as_ref())?;
        expected.addresses_and_routes(&mut rtnl, &link)?;
        Ok(())
    })
}

/// Hands GC on. Nothing outside of a pod's namespace belongs to the interface itself; the IPAM plugin may have leases.
pub fn gc<C>(call: &Call<C>) -> Result<(), Error> {
    match ipam(call)? {
        Some(ipam) => ipam.gc(&call.stdin),
        None => Ok(()),
    }
}

/// Whether `plan` could be carried out now, as far as that is known without a pod: code 50 if not.
pub fn status<C>(call: &Call<C>, plan: &Plan) -> Result<(), Error> {
    let not_available = |msg: String| Error::new(Code::NotAvailable, msg);
    if !plan.link_in_container {
        let master = plan.find_master().map_err(|e| not_available(e.msg))?;
        plan.mtu_on(&master)?;
    }
    status_of_ipam(call)
}

/// The part of [`status`] that is left when the master is not known before ADD.
pub fn status_of_ipam<C>(call: &Call<C>) -> Result<(), Error> {
    match ipam(call).map_err(|e| Error::new(Code::NotAvailable, e.msg))? {
        Some(ipam) => ipam.status(&call.stdin),
        None => Ok(()),
    }
}

/// The namespace of an attachment that has to have one. Code 4, because it is `CNI_NETNS` that leads nowhere.
fn open(netns: &str) -> Result<Netns, Error> {
    Netns::open(netns).map_err(|e| {
        Error::new(Code::InvalidEnvironment, e.to_string()).details(format!("CNI_NETNS={netns}"))
    })
}

/// Gives the link its addresses and routes, in the calling thread's namespace; without addresses it is only switched on.
fn configure(ifname: &str, result: &Success) -> Result<Link, kernel::Error> {
    let mut rtnl = Rtnl::open()?;
    let link = rtnl
        .link(ifname)
        .map_err(|e| e.context(format!("failed to refetch {ifname:?}")))?;
    if result.ips.is_empty() {
        rtnl.set_up(&link)?;
    } else {
        kernel::announce_addresses(&link);
        kernel::configure(&mut rtnl, &link, result)?;
    }
    Ok(link)
}

fn delete_link(pod: &Netns, ifname: &str) -> Result<(), Error> {
    pod.inside(|| Ok(Rtnl::open()?.delete(ifname)?))
}
