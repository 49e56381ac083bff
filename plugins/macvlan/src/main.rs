//! macvlan: a CNI plugin that gives the pod an interface of its own on a link of the host, with its own MAC address.

mod conf;

use std::process::ExitCode;
use std::sync::Arc;

use cni::text::format_mac;
use cni::{Attachment, Code, Error, Interface, Success};
use invoke::Delegate;
use kernel::{Child, Expected, Kind, Link, Netns, Rtnl};
use skel::{Plugin, Undo};

use conf::{Conf, Keys};

type Call = skel::Call<Keys>;

struct Macvlan;

fn main() -> ExitCode {
    skel::run(Macvlan)
}

impl Plugin for Macvlan {
    type Conf = Keys;
    const NAME: &'static str = "macvlan";

    fn add(&self, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
        let conf = Conf::read(call)?;
        let ipam = ipam(call)?;
        let pod = Arc::new(open(&call.netns)?);
        create_link(&conf, &call.ifname, &pod)?;
        undo.push(format!("delete link {}", call.ifname), {
            let (pod, ifname) = (Arc::clone(&pod), call.ifname.clone());
            move || delete_link(&pod, &ifname)
        });
        let mut result = match ipam {
            Some(ipam) => lease(ipam, call, undo)?,
            None => Success::default(),
        };
        result.interfaces = vec![Interface {
            name: call.ifname.clone(),
            sandbox: call.netns.clone(),
            ..Interface::default()
        }];
        let link = pod.inside(|| configure(&call.ifname, &result))?;
        for interface in &mut result.interfaces {
            interface.mac = format_mac(&link.mac);
        }
        if !call.net.dns.is_empty() {
            result.dns = call.net.dns.clone();
        }
        Ok(result)
    }

    /// Asks for nothing but what is needed to take the attachment away: the master may be gone, and the
    /// configuration may have become invalid since ADD.
    fn del(&self, call: &Call) -> Result<(), Error> {
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

    fn check(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::read(call)?;
        let pod = open(&call.netns)?;
        if let Some(ipam) = ipam(call)? {
            ipam.check(&call.stdin)?;
        }
        let Some(result) = call.net.prev_result()? else {
            return Err(Error::config("required prevResult missing"));
        };
        let expected = Expected::find(&result, &call.ifname, &pod, &call.netns)?;
        // Which link the default route led to at the time of ADD is not known any more.
        let master = match &conf.master {
            Some(_) => Some(on_side_of_master(&conf, &pod, || master(&conf))?),
            None => None,
        };
        pod.inside(|| {
            let mut rtnl = Rtnl::open()?;
            let link = expected.link(&mut rtnl, Macvlan::NAME)?;
            compare(&conf, &link, master.as_ref())?;
            expected.addresses_and_routes(&mut rtnl, &link)?;
            Ok(())
        })
    }

    /// macvlan itself leaves nothing outside of the pod's namespace; its IPAM plugin may have.
    fn gc(&self, call: &Call, _valid: &[Attachment]) -> Result<(), Error> {
        match ipam(call)? {
            Some(ipam) => ipam.gc(&call.stdin),
            None => Ok(()),
        }
    }

    fn status(&self, call: &Call) -> Result<(), Error> {
        let conf = Conf::without_args(&call.conf)?;
        let not_available = |msg: String| Error::new(Code::NotAvailable, msg);
        if !conf.link_in_container {
            let master = master(&conf).map_err(|e| not_available(e.msg))?;
            conf.mtu_on(&master)?;
        }
        match ipam(call).map_err(|e| not_available(e.msg))? {
            Some(ipam) => ipam.status(&call.stdin),
            None => Ok(()),
        }
    }
}

/// The namespace of an attachment that has to have one. Code 4, because it is `CNI_NETNS` that leads nowhere.
fn open(netns: &str) -> Result<Netns, Error> {
    Netns::open(netns).map_err(|e| {
        Error::new(Code::InvalidEnvironment, e.to_string()).details(format!("CNI_NETNS={netns}"))
    })
}

/// The IPAM plugin; without one the interface has no addresses.
fn ipam(call: &Call) -> Result<Option<Delegate>, Error> {
    match call.net.ipam_kind.as_str() {
        "" => Ok(None),
        kind => Delegate::find(kind, &call.path).map(Some),
    }
}

/// A DHCP client gives its lease back over the interface itself; all others have it from the host.
fn lease_needs_link(call: &Call) -> bool {
    call.net.ipam_kind == "dhcp"
}

/// Takes addresses for the interface, the first and only one of the result.
fn lease(ipam: Delegate, call: &Call, undo: &mut Undo) -> Result<Success, Error> {
    let mut result = ipam.add_ipam(&call.stdin, &call.net.cni_version)?;
    let stdin = call.stdin.clone();
    let give_back = move || ipam.del(&stdin);
    let what = format!("give back the addresses of {}", call.ifname);
    match lease_needs_link(call) {
        true => undo.push(what, give_back),
        false => undo.push_last(what, give_back),
    }
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    Ok(result)
}

/// The link that the pod's traffic goes through, in the calling thread's namespace.
fn master(conf: &Conf) -> Result<Link, kernel::Error> {
    Rtnl::open()?.master(conf.master.as_deref())
}

/// Runs `work` where the master is.
fn on_side_of_master<T: Send, E: Send + From<kernel::Error>>(
    conf: &Conf,
    pod: &Netns,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    match conf.link_in_container {
        true => pod.inside(work),
        false => work(),
    }
}

/// Makes the link in the pod. A repeated ADD ends here, with the first one's interface as it was.
fn create_link(conf: &Conf, ifname: &str, pod: &Netns) -> Result<(), Error> {
    on_side_of_master(conf, pod, || {
        let mut rtnl = Rtnl::open()?;
        let master = rtnl.master(conf.master.as_deref())?;
        let child = Child {
            name: ifname,
            master: master.index,
            mtu: conf.mtu_on(&master)?,
            mac: conf.mac.as_deref(),
            kind: Kind::MacVlan {
                mode: conf.mode,
                bc_queue_len: conf.bc_queue_len,
            },
        };
        let target = (!conf.link_in_container).then_some(pod);
        let created = rtnl.create(&child, target);
        created.map_err(|e| {
            e.context(format!("failed to create macvlan {ifname:?}"))
                .into()
        })
    })
}

/// Gives the link its addresses and routes, in the calling thread's namespace; without addresses it is only switched on.
fn configure(ifname: &str, result: &Success) -> Result<Link, kernel::Error> {
    let mut rtnl = Rtnl::open()?;
    let link = rtnl
        .link(ifname)
        .map_err(|e| e.context(format!("failed to refetch macvlan {ifname:?}")))?;
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

/// Compares the link with the configuration.
fn compare(conf: &Conf, link: &Link, master: Option<&Link>) -> Result<(), Error> {
    let name = &link.name;
    if let Some(mode) = link.macvlan_mode.filter(|mode| *mode != conf.mode) {
        let (found, expected) = (mode.as_str(), conf.mode.as_str());
        return Err(Error::plugin(format!(
            "container macvlan mode {found} does not match expected value: {expected}"
        )));
    }
    if let Some(master) = master.filter(|master| master.index != link.master) {
        let why = format!("interface {name} is not on master {:?}", master.name);
        return Err(Error::plugin(why));
    }
    if conf.mtu != 0 && conf.mtu != i64::from(link.mtu) {
        let (found, expected) = (link.mtu, conf.mtu);
        let why = format!("interface {name} has MTU {found}, the configuration says {expected}");
        return Err(Error::plugin(why));
    }
    Ok(())
}
