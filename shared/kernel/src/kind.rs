//! The kinds of links that are made on top of a master, and what the kernel says of a link's kind.

use netlink_packet_route::link::{
    InfoMacVlan, IpVlanFlags as IpVlanWireFlags, IpVlanMode as IpVlanWireMode, LinkMessage,
    MacVlanMode as MacVlanWire,
};
use nix::libc;
use rtnetlink::{LinkIpVlan, LinkMacVlan};

use crate::{Child, Link, Netns, attribute};

// linux/if_link.h
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// A kind of link with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A macvlan link.
    MacVlan {
        /// How it sees the other links of the master.
        mode: MacVlanMode,
        /// Broadcast packets that may wait (`IFLA_MACVLAN_BC_QUEUE_LEN`); 0 leaves it to the kernel.
        bc_queue_len: u32,
    },
    /// An ipvlan link. It has the master's hardware address. Mode and flag are the master's: those of the link
    /// made last go for all of its ipvlan links.
    IpVlan {
        /// Where packets are looked at.
        mode: IpVlanMode,
        /// How it sees the other links of the master.
        flag: IpVlanFlag,
    },
}

/// How the macvlan links of one master see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacVlanMode {
    /// Not at all.
    Private,
    /// Through the switch outside.
    Vepa,
    /// Directly.
    Bridge,
    /// There is only one, and it has the master to itself.
    Passthru,
}

/// Where an ipvlan master looks at packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVlanMode {
    /// It switches: the links answer for their addresses (ARP, neighbour discovery).
    L2,
    /// It routes in the master's namespace: no broadcast, no multicast, no ARP.
    L3,
    /// As L3, and the netfilter hooks of the master's namespace see the packets.
    L3s,
}

/// How the ipvlan links of one master see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVlanFlag {
    /// Directly; the kernel has no flag for it.
    Bridge,
    /// Not at all (`IPVLAN_F_PRIVATE`).
    Private,
    /// Through the switch outside (`IPVLAN_F_VEPA`).
    Vepa,
}

impl Kind {
    /// The kernel's name of the kind, `IFLA_INFO_KIND`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::MacVlan { .. } => "macvlan",
            Kind::IpVlan { .. } => "ipvlan",
        }
    }

    /// What of a link of this kind is not as it is here: `mode bridge does not match expected value: vepa`.
    ///
    /// What the kernel does not tell is no difference.
    pub fn difference(&self, link: &Link) -> Option<String> {
        let macvlan_mode = link.macvlan_mode.map(MacVlanMode::as_str);
        let ipvlan_mode = link.ipvlan_mode.map(IpVlanMode::as_str);
        let ipvlan_flag = link.ipvlan_flag.map(IpVlanFlag::as_str);
        let settings = match self {
            Kind::MacVlan { mode, .. } => vec![("mode", macvlan_mode, mode.as_str())],
            Kind::IpVlan { mode, flag } => vec![
                ("mode", ipvlan_mode, mode.as_str()),
                ("flag", ipvlan_flag, flag.as_str()),
            ],
        };
        settings.into_iter().find_map(|(what, found, expected)| {
            let found = found.filter(|found| *found != expected)?;
            let kind = self.name();
            Some(format!(
                "{kind} {what} {found} does not match expected value: {expected}"
            ))
        })
    }

    /// The request that makes `child`, which is of this kind.
    pub(crate) fn request(
        self,
        child: &Child<'_>,
        name: &str,
        target: Option<&Netns>,
    ) -> LinkMessage {
        match self {
            Kind::MacVlan { mode, bc_queue_len } => {
                let mut builder = LinkMacVlan::new(name, child.master, mode.for_netlink());
                if bc_queue_len > 0 {
                    builder = builder.append_info_data(InfoMacVlan::BcQueueLen(bc_queue_len));
                }
                child.finish(builder, target)
            }
            Kind::IpVlan { mode, flag } => {
                let builder = LinkIpVlan::new(name, child.master, mode.for_netlink());
                child.finish(builder.flag(flag.for_netlink()), target)
            }
        }
    }
}

impl MacVlanMode {
    /// Every mode, in the kernel's order.
    pub const ALL: [MacVlanMode; 4] = [
        MacVlanMode::Private,
        MacVlanMode::Vepa,
        MacVlanMode::Bridge,
        MacVlanMode::Passthru,
    ];

    /// The mode as it is written in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            MacVlanMode::Private => "private",
            MacVlanMode::Vepa => "vepa",
            MacVlanMode::Bridge => "bridge",
            MacVlanMode::Passthru => "passthru",
        }
    }

    fn for_netlink(self) -> MacVlanWire {
        match self {
            MacVlanMode::Private => MacVlanWire::Private,
            MacVlanMode::Vepa => MacVlanWire::Vepa,
            MacVlanMode::Bridge => MacVlanWire::Bridge,
            MacVlanMode::Passthru => MacVlanWire::Passthrough,
        }
    }
}

impl IpVlanMode {
    /// Every mode, in the kernel's order.
    pub const ALL: [IpVlanMode; 3] = [IpVlanMode::L2, IpVlanMode::L3, IpVlanMode::L3s];

    /// The mode as it is written in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            IpVlanMode::L2 => "l2",
            IpVlanMode::L3 => "l3",
            IpVlanMode::L3s => "l3s",
        }
    }

    fn for_netlink(self) -> IpVlanWireMode {
        match self {
            IpVlanMode::L2 => IpVlanWireMode::L2,
            IpVlanMode::L3 => IpVlanWireMode::L3,
            IpVlanMode::L3s => IpVlanWireMode::L3S,
        }
    }
}

impl IpVlanFlag {
    /// Every flag, in the kernel's order.
    pub const ALL: [IpVlanFlag; 3] = [IpVlanFlag::Bridge, IpVlanFlag::Private, IpVlanFlag::Vepa];

    /// The flag as `ip link` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            IpVlanFlag::Bridge => "bridge",
            IpVlanFlag::Private => "private",
            IpVlanFlag::Vepa => "vepa",
        }
    }

    fn for_netlink(self) -> IpVlanWireFlags {
        match self {
            IpVlanFlag::Bridge => IpVlanWireFlags::empty(),
            IpVlanFlag::Private => IpVlanWireFlags::Private,
            IpVlanFlag::Vepa => IpVlanWireFlags::Vepa,
        }
    }
}

impl Link {
    /// Reads an `IFLA_LINKINFO`.
    pub(crate) fn read_info(&mut self, info: &[u8]) {
        let find = |kind| attribute::find(info, kind).unwrap_or_default();
        self.kind = attribute::string(find(libc::IFLA_INFO_KIND));
        let data = find(libc::IFLA_INFO_DATA);
        let number = |kind| attribute::find(data, kind);
        match self.kind.as_str() {
            "macvlan" => {
                let mode = number(IFLA_MACVLAN_MODE).map(attribute::u32);
                let mut modes = MacVlanMode::ALL.into_iter();
                self.macvlan_mode = modes.find(|m| Some(u32::from(m.for_netlink())) == mode);
            }
            "ipvlan" => {
                let mode = number(IFLA_IPVLAN_MODE).map(attribute::u16);
                let mut modes = IpVlanMode::ALL.into_iter();
                self.ipvlan_mode = modes.find(|m| Some(u16::from(m.for_netlink())) == mode);
                let flag = number(IFLA_IPVLAN_FLAGS).map(attribute::u16);
                let mut flags = IpVlanFlag::ALL.into_iter();
                self.ipvlan_flag = flags.find(|f| Some(f.for_netlink().bits()) == flag);
            }
            _ => {}
        }
    }
}
