//! The mark that a node leaves in a network's annotations: which of its changes was the last one, and which of its
//! addresses have no DanmEp yet. Should the node be lost with all that it knows, the mark is what tells of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::ipam::{self, Addresses};

/// The domain of the annotations that marks are in.
const DOMAIN: &str = "danm-shim/";

/// Longer than an ADD takes from the address to the DanmEp.
const ADD: Duration = Duration::from_secs(600);

/// One mark. As text `CHANGE`, or `CHANGE SECONDS HOST ADDRESS...` with the time since 1970: short, because every node
/// has one in the same object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The change that it came with.
    pub(super) change: String,
    /// When that was, in seconds since 1970.
    pub(super) at: u64,
    /// The node, as DanmEps name it.
    pub(super) host: String,
    /// Addresses that the node has taken, and whose DanmEps it may not have made.
    pub(super) open: Vec<IpAddr>,
}

impl Mark {
    /// Whether it tells of addresses that `host` took so long ago that no ADD can be at work on them any more.
    pub(crate) fn is_left_by(&self, host: &str) -> bool {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        let age = now.checked_sub(Duration::from_secs(self.at));
        self.host == host && !self.open.is_empty() && age.is_some_and(|age| age >= ADD)
    }

    /// Its addresses, as they are given back.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Addresses> {
        self.open.iter().map(|ip| match ip {
            IpAddr::V4(ip) => Addresses {
                ip: ip.to_string(),
                ..Addresses::default()
            },
            IpAddr::V6(ip) => Addresses {
                ip6: ip.to_string(),
                ..Addresses::default()
            },
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.change)?;
        if self.open.is_empty() {
            return Ok(());
        }
        write!(f, " {} {}", self.at, self.host)?;
        self.open.iter().try_for_each(|ip| write!(f, " {ip}"))
    }
}

impl FromStr for Mark {
    /// It is somebody else's.
    type Err = ();

    fn from_str(text: &str) -> Result<Mark, ()> {
        let mut words = text.split(' ');
        let change = words.next().unwrap_or_default().to_owned();
        let Some(at) = words.next() else {
            return Ok(Mark {
                change,
                ..Mark::default()
            });
        };
        let open = |word: &str| word.parse().map_err(drop);
        Ok(Mark {
            change,
            at: at.parse().map_err(drop)?,
            host: words.next().ok_or(())?.to_owned(),
            open: words.map(open).collect::<Result<_, ()>>()?,
        })
    }
}

/// The annotation of the mark `name`.
pub(super) fn annotation(name: &str) -> String {
    format!("{DOMAIN}{name}")
}

/// All marks among annotations, by their names.
pub(crate) fn all(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, Mark)> {
    annotations.iter().filter_map(|(key, text)| {
        let name = key.strip_prefix(DOMAIN)?;
        Some((name, text.parse().ok()?))
    })
}

/// The addresses of one endpoint, as marks name them.
pub(super) fn open(addresses: &Addresses) -> impl Iterator<Item = IpAddr> {
    [&addresses.ip, &addresses.ip6]
        .into_iter()
        .filter_map(|address| ipam::host(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> Mark {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for text in [
            "1a2b3c4d",
            "1a2b3c4d 1795663241 worker-1 10.2.157.1",
            "1a2b3c4d 1795663241 worker-1.example 10.2.157.1 fd00::1",
        ] {
            assert_eq!(mark(text).to_string(), text);
        }
        for text in ["a x h 10.0.0.1", "a 1", "a 1 h 10.0.0", "a 1 h "] {
            assert_eq!(text.parse::<Mark>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_is_left_of_a_node() {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let old = format!("a {} h 10.0.0.1", now - 601);
        assert!(mark(&old).is_left_by("h"));
        assert!(!mark(&old).is_left_by("i"));
        assert!(!mark(&format!("a {} h 10.0.0.1", now - 60)).is_left_by("h"));
        // The clock was set back.
        assert!(!mark(&format!("a {} h 10.0.0.1", now + 900)).is_left_by("h"));
        assert!(!mark("a").is_left_by(""));
    }
}
