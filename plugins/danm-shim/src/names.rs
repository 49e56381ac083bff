//! What the interfaces of a pod are called.

use std::collections::BTreeSet;

use cni::{Error, names};

/// How names are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme<'a> {
    /// Name of the pod's first interface: `eth0`, which kubelet expects, or what the runtime asks for.
    pub(crate) first: &'a str,
    /// `namingScheme: legacy`: a prefix is the whole name.
    pub(crate) is_legacy: bool,
}

impl Scheme<'_> {
    /// The name of interface `number` on a network with this `container_prefix`, which may be empty.
    pub(crate) fn name(self, number: usize, prefix: &str) -> String {
        match (number, prefix) {
            (0, _) => self.first.to_owned(),
            (_, "") => format!("eth{number}"),
            _ if self.is_legacy => prefix.to_owned(),
            _ => format!("{prefix}{number}"),
        }
    }
}

/// Checks names before anything is made of them: valid for the kernel, and each there once.
pub(crate) fn check<'a>(all: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in all {
        names::ifname(name).map_err(|e| {
            Error::config(format!("the pod can't have an interface {name:?}: {}", e.msg))
                .details("the name is made of container_prefix of the network and the number of the interface")
        })?;
        if !seen.insert(name) {
            return Err(Error::config(format!(
                "two interfaces of the pod would be called {name:?}"
            ))
            .details("give the networks different values of container_prefix"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_original() {
        let default = Scheme {
            first: "eth0",
            is_legacy: false,
        };
        let legacy = Scheme {
            is_legacy: true,
            ..default
        };
        for (scheme, number, prefix, name) in [
            (default, 0, "", "eth0"),
            (default, 0, "oampub", "eth0"),
            (default, 1, "oampub", "oampub1"),
            (default, 2, "oampub", "oampub2"),
            (default, 3, "", "eth3"),
            (legacy, 0, "oampub", "eth0"),
            (legacy, 1, "oampub", "oampub"),
            (legacy, 1, "", "eth1"),
        ] {
            assert_eq!(scheme.name(number, prefix), name);
        }
    }

    #[test]
    fn names_that_can_not_be() {
        assert!(check(["eth0", "oampub1", "eth2"]).is_ok());
        let error = check(["eth0", "external", "external"]).unwrap_err();
        assert!(
            error.msg.contains("two interfaces") && error.msg.contains("external"),
            "{error}"
        );
        let error = check(["eth0", "a-much-too-long-prefix1"]).unwrap_err();
        assert!(error.msg.contains("a-much-too-long-prefix1"), "{error}");
    }
}
