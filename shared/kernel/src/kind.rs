//! The kinds of links that are made on top of a master, and what the kernel says of a link's kind.

use netlink_packet_route::link::{InfoMacVlan, LinkMessage, MacVlanMode as MacVlanWire};
use nix::libc;
use rtnetlink::LinkMacVlan;

use crate::{Child, Link, Netns, attribute};

// linux/if_link.h
const IFLA_MACVLAN_MODE: u16 = 1;

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

impl Kind {
    /// The kernel's name of the kind, `IFLA_INFO_KIND`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::MacVlan { .. } => "macvlan",
        }
    }

    /// What of a link of this kind is not as it is here: `mode bridge does not match expected value: vepa`.
    ///
    /// What the kernel does not tell is no difference.
    pub fn difference(&self, link: &Link) -> Option<String> {
        let settings = match self {
            Kind::MacVlan { mode, .. } => [(
                "mode",
                link.macvlan_mode.map(MacVlanMode::as_str),
                mode.as_str(),
            )],
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

impl Link {
    /// Reads an `IFLA_LINKINFO`.
    pub(crate) fn read_info(&mut self, info: &[u8]) {
        let find = |kind| attribute::find(info, kind).unwrap_or_default();
        self.kind = attribute::string(find(libc::IFLA_INFO_KIND));
        let data = find(libc::IFLA_INFO_DATA);
        if self.kind == "macvlan" {
            let mode = attribute::find(data, IFLA_MACVLAN_MODE).map(attribute::u32);
            self.macvlan_mode = MacVlanMode::ALL
                .into_iter()
                .find(|known| Some(u32::from(known.for_netlink())) == mode);
        }
    }
}
