//! The words of the specification: its versions, verbs, and how strongly it asks for something.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

pub use Level::{Must, Obs, Should};
pub use Version::{V0_1_0, V0_2_0, V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0};

/// A released version of the CNI specification, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the versions")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every released version, oldest first.
    pub const ALL: [Self; 7] = [V0_1_0, V0_2_0, V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0];

    /// As written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            V0_1_0 => "0.1.0",
            V0_2_0 => "0.2.0",
            V0_3_0 => "0.3.0",
            V0_3_1 => "0.3.1",
            V0_4_0 => "0.4.0",
            V1_0_0 => "1.0.0",
            V1_1_0 => "1.1.0",
        }
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or(())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A value of `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the verbs")]
pub enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    /// As written in `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The first version of the specification that has this verb.
    pub const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del => V0_1_0,
            Self::Version => V0_2_0,
            Self::Check => V0_4_0,
            Self::Gc | Self::Status => V1_1_0,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How strongly the specification asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A plugin that does not is wrong.
    Must,
    /// A plugin needs a reason not to.
    Should,
    /// The specification leaves it open; what the plugin does is written down and never fails.
    Obs,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Must => "MUST",
            Should => "SHOULD",
            Obs => "OBS",
        })
    }
}

/// What a plugin is for, which decides what can be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Makes an interface in the pod: macvlan, ipvlan, bridge.
    Interface,
    /// Hands out addresses to the plugin that calls it: host-local, static.
    Ipam,
    /// Changes what an earlier plugin of the list made: portmap, tuning.
    Chained,
    /// Calls other plugins and makes nothing itself: multus.
    Meta,
}

impl Kind {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::Interface, Self::Ipam, Self::Chained, Self::Meta];
    /// Those after whose ADD the pod has a new interface, whoever made it.
    pub const ATTACHING: &[Self] = &[Self::Interface, Self::Meta];
    /// Those after whose ADD an address is taken from a pool.
    pub const LEASING: &[Self] = &[Self::Interface, Self::Ipam, Self::Meta];

    /// Whether the pod has a new interface after ADD.
    pub fn attaches(self) -> bool {
        Self::ATTACHING.contains(&self)
    }

    /// As written in a profile.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Ipam => "ipam",
            Self::Chained => "chained",
            Self::Meta => "meta",
        }
    }
}

/// What error codes mean (section "Error" of the specification). Codes 4 to 7 came with the text of 1.0.0,
/// but plugins built on libcni have used them for every version since 2020, so they are accepted throughout.
pub mod code {
    /// The plugin does not speak the requested version.
    pub const INCOMPATIBLE_VERSION: i64 = 1;
    /// A field of the configuration is not supported; the message holds its key and value.
    pub const UNSUPPORTED_FIELD: i64 = 2;
    /// The container is unknown or gone.
    pub const UNKNOWN_CONTAINER: i64 = 3;
    /// An environment variable is missing or wrong; the message holds its name.
    pub const INVALID_ENVIRONMENT: i64 = 4;
    /// Reading stdin failed.
    pub const IO: i64 = 5;
    /// stdin could not be decoded.
    pub const UNDECODABLE: i64 = 6;
    /// The configuration was decoded and makes no sense.
    pub const INVALID_CONFIG: i64 = 7;
    /// A passing condition; the runtime should try again.
    pub const TRY_AGAIN: i64 = 11;
    /// STATUS: the plugin cannot serve ADD.
    pub const NOT_AVAILABLE: i64 = 50;
    /// STATUS: as 50, and pods already attached may have lost their network.
    pub const NOT_AVAILABLE_LIMITED: i64 = 51;
    /// In a list of accepted codes: any of the plugin's own, 100 and above.
    pub const OWN: i64 = 100;

    /// Whether `code` is one that the specification defines or leaves to plugins.
    pub const fn is_defined(code: i64) -> bool {
        matches!(code, 1..=7 | 11 | 50 | 51 | 100..)
    }
}
