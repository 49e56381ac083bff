//! Links: looking them up, making them on a master, taking them away.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage,
};
use nix::errno::Errno;
use nix::libc;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::attribute::{self, attributes};
use crate::socket::Request;
use crate::{Error, IpVlanFlag, IpVlanMode, Kind, MacVlanMode, Netns, Rtnl, default_link};

/// Length of `struct ifinfomsg`.
pub(crate) const HEADER: usize = 16;
/// Longest name of a link in bytes, `IFNAMSIZ` without the NUL. Alternative names are longer.
const NAME_MAX: usize = 15;

/// What is known about a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Number in its namespace.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: Vec<u8>,
    /// Whether it is switched on (`IFF_UP`).
    pub is_up: bool,
    /// Whether packets can leave (`IFF_LOWER_UP`).
    pub has_carrier: bool,
    /// `IFLA_INFO_KIND`, `macvlan` for example; empty for a link of hardware.
    pub kind: String,
    /// Number of the master in its namespace (`IFLA_LINK`), 0 if there is none.
    pub master: u32,
    /// Mode of a macvlan link.
    pub macvlan_mode: Option<MacVlanMode>,
    /// Mode of an ipvlan link.
    pub ipvlan_mode: Option<IpVlanMode>,
    /// Flag of an ipvlan link; `None` where the kernel is older than 4.15 and has none.
    pub ipvlan_flag: Option<IpVlanFlag>,
}

/// A link to be made on top of a master.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// Its name in the pod. Must have no `%`, which the kernel takes for a pattern.
    pub name: &'a str,
    /// Number of the master in the namespace of the socket.
    pub master: u32,
    /// Bytes; 0 takes the master's.
    pub mtu: u32,
    /// Hardware address; `None` is a random one.
    pub mac: Option<&'a [u8]>,
    /// Packets that may wait to be sent (`IFLA_TXQLEN`); `None` leaves it to the kernel.
    pub tx_queue_len: Option<u32>,
    /// What it is.
    pub kind: Kind,
}

impl Rtnl {
    /// Looks a link up by its name, which may be an alternative one. Not there: `Link not found` and `ENODEV`.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(by_name(name));
        self.get_link(message)
    }

    /// Looks a link up by its number. Not there: as [`Rtnl::link`].
    pub fn link_at(&mut self, index: u32) -> Result<Link, Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message)
    }

    /// The link that others are made on: the one called `name`, or that of the default route.
    pub fn master(&mut self, name: Option<&str>) -> Result<Link, Error> {
        let Some(name) = name else {
            return default_link();
        };
        self.link(name)
            .map_err(|e| e.context(format!("failed to lookup master {name:?}")))
    }

    /// Makes `child`, in the namespace `target` if one is given, and under its final name from the first moment:
    /// a process that is killed leaves nothing that DEL does not know.
    ///
    /// A link of that name in the target namespace stays untouched: `"eth0": file exists`.
    pub fn create(&mut self, child: &Child<'_>, target: Option<&Netns>) -> Result<(), Error> {
        let created = self.request(child.request(child.name, target));
        let created = match (created, target) {
            (Err(e), Some(target)) if e.is(Errno::EEXIST) => {
                self.create_beside_namesake(child, target, e)
            }
            (created, _) => created,
        };
        created.map_err(|e| match e.errno {
            Some(Errno::EEXIST) => e.context(format!("{:?}", child.name)),
            _ => e,
        })
    }

    /// Kernels before 6.14 look for the name among the links of the socket's namespace, although the link is made
    /// in another one: the host's eth0 stands in the way of the pod's. So it is made under a name that nobody
    /// else has, and renamed.
    fn create_beside_namesake(
        &mut self,
        child: &Child<'_>,
        target: &Netns,
        exists: Error,
    ) -> Result<(), Error> {
        let taken = |rtnl: &mut Rtnl| match rtnl.link(child.name) {
            Ok(_) => Ok(true),
            Err(e) if e.is(Errno::ENODEV) => Ok(false),
            Err(e) => Err(e),
        };
        if target.inside(|| taken(&mut Rtnl::open()?))? {
            return Err(exists);
        }
        self.create_and_rename(child, target)
    }

    pub(crate) fn create_and_rename(
        &mut self,
        child: &Child<'_>,
        target: &Netns,
    ) -> Result<(), Error> {
        let unfinished = unfinished_name(child.name);
        self.request(child.request(&unfinished, Some(target)))?;
        target.inside(|| {
            let mut rtnl = Rtnl::open()?;
            let renamed = rtnl.link(&unfinished).and_then(|link| {
                let rename = LinkUnspec::new_with_index(link.index).name(child.name);
                rtnl.request(set_link(rename.build()))
            });
            if renamed.is_err() {
                rtnl.request(delete_link(&unfinished))?;
            }
            renamed
        })
    }

    /// Deletes the link `name`, and what a killed [`Rtnl::create`] may have left of it. Not there is success.
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        let unfinished = unfinished_name(name);
        let refusals = self.batch(vec![delete_link(&unfinished), delete_link(name)]);
        match refusals.into_iter().find(|r| !r.error.is(Errno::ENODEV)) {
            Some(refusal) => Err(refusal.error.context(format!("failed to delete {name:?}"))),
            None => Ok(()),
        }
    }

    /// Switches the link on.
    pub fn set_up(&mut self, link: &Link) -> Result<(), Error> {
        self.request(up(link.index))
            .map_err(|e| e.context(format!("failed to set {:?} UP", link.name)))
    }

    fn get_link(&mut self, mut message: LinkMessage) -> Result<Link, Error> {
        // Counting up the statistics of a big network card is the most expensive part of the answer.
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.get(RouteNetlinkMessage::GetLink(message), Link::read)
            .map_err(|e| match e.errno {
                Some(Errno::ENODEV) => Error {
                    msg: "Link not found".into(),
                    ..e
                },
                _ => e,
            })
    }
}

impl Link {
    /// Reads an `RTM_NEWLINK`.
    fn read(payload: &[u8]) -> Option<Link> {
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Link {
            index: header.index,
            is_up: header.flags.contains(LinkFlags::Up),
            has_carrier: header.flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = attribute::string(value),
                libc::IFLA_MTU => link.mtu = attribute::u32(value),
                libc::IFLA_ADDRESS => link.mac = value.to_vec(),
                libc::IFLA_LINK => link.master = attribute::u32(value),
                libc::IFLA_LINKINFO => link.read_info(value),
                _ => {}
            }
        }
        Some(link)
    }
}

impl Child<'_> {
    fn request(&self, name: &str, target: Option<&Netns>) -> Request {
        let message = self.kind.request(self, name, target);
        Request {
            message: RouteNetlinkMessage::NewLink(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    pub(crate) fn finish<T>(
        &self,
        mut builder: LinkMessageBuilder<T>,
        target: Option<&Netns>,
    ) -> LinkMessage {
        if self.mtu > 0 {
            builder = builder.mtu(self.mtu);
        }
        if let Some(mac) = self.mac {
            builder = builder.address(mac.to_vec());
        }
        if let Some(packets) = self.tx_queue_len {
            builder = builder.txqueuelen(packets);
        }
        if let Some(target) = target {
            builder = builder.setns_by_fd(target.as_fd().as_raw_fd());
        }
        builder.build()
    }
}

pub(crate) fn up(index: u32) -> Request {
    set_link(LinkUnspec::new_with_index(index).up().build())
}

fn set_link(message: LinkMessage) -> Request {
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

fn delete_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(by_name(name));
    Request {
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
    }
}

fn by_name(name: &str) -> LinkAttribute {
    if name.len() <= NAME_MAX {
        return LinkAttribute::IfName(name.to_owned());
    }
    let value = [name.as_bytes(), b"\0"].concat();
    LinkAttribute::Other(DefaultNla::new(libc::IFLA_ALT_IFNAME, value))
}

/// What a link is called until it can have its name: the same for each try, so that DEL knows it. FNV-1a.
fn unfinished_name(name: &str) -> String {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("cni{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::{Bed, macvlan};

    #[test]
    fn older_kernels_get_it_done_in_two_steps() {
        let bed = Bed::new();
        let mut rtnl = Rtnl::open().unwrap();
        let child = macvlan("eth0", rtnl.link("m0").unwrap().index);
        rtnl.create_and_rename(&child, &bed.pod).unwrap();
        let first = bed.link("eth0").unwrap();
        assert_eq!(first.kind, "macvlan");
        let error = rtnl.create_and_rename(&child, &bed.pod).unwrap_err();
        assert!(error.is(Errno::EEXIST), "{error}");
        assert_eq!(bed.link("eth0").unwrap(), first);
        let unfinished = bed.link(&unfinished_name("eth0")).unwrap_err();
        assert!(unfinished.is(Errno::ENODEV), "{unfinished}");
    }

    #[test]
    fn what_a_killed_add_left_goes_with_the_link() {
        let bed = Bed::new();
        let mut rtnl = Rtnl::open().unwrap();
        let master = rtnl.link("m0").unwrap().index;
        let left = unfinished_name("eth0");
        for name in [&left, "eth0"] {
            rtnl.create(&macvlan(name, master), Some(&bed.pod)).unwrap();
        }
        bed.pod(|rtnl| rtnl.delete("eth0")).unwrap();
        for name in [&left, "eth0"] {
            assert!(bed.link(name).unwrap_err().is(Errno::ENODEV), "{name}");
        }
        assert!(left.len() <= NAME_MAX && left != unfinished_name("eth1"));
    }
}
