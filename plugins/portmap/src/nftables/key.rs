//! How a rule tells which attachment it belongs to.
//!
//! The original writes the container id as the rule's comment, removes what has this comment, and knows
//! neither network nor interface. Our rules have the same comment and two more entries in their user data,
//! which `nft` and the original pass over.

use cni::Attachment as Valid;
use kernel::nftables::{Rule, userdata};
use sha2::{Digest, Sha512};

use crate::mapping::Attachment;

/// Type of the entry with the name of the network.
const NETWORK: u8 = 0xc1;
/// Type of the entry with the digest of network, container and interface.
const ATTACHMENT: u8 = 0xc2;
/// The longest comment that `nft` reads back, in bytes.
const COMMENT_MAX: usize = 128;
/// The longest network name that is written out; user data is 256 bytes in all.
const NETWORK_MAX: usize = 64;

type Key = [u8; 16];

/// Whom a rule belongs to, seen from one attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This attachment.
    This,
    /// The same container, made by the original: of which network can't be told.
    ContainerOnly,
    /// Another attachment, or nobody we know.
    Other,
}

/// What is noted beside a rule of this attachment.
pub(super) fn userdata(attachment: &Attachment) -> Vec<u8> {
    let mut noted = Vec::new();
    let comment = userdata::c_string(&comment(&attachment.container_id));
    userdata::push(&mut noted, userdata::COMMENT, &comment);
    userdata::push(&mut noted, NETWORK, label(&attachment.network).as_bytes());
    let key = key(
        &attachment.network,
        &attachment.container_id,
        &attachment.ifname,
    );
    userdata::push(&mut noted, ATTACHMENT, &key);
    noted
}

/// Whom this rule belongs to.
pub(super) fn owner(rule: &Rule, attachment: &Attachment) -> Owner {
    let own = key(
        &attachment.network,
        &attachment.container_id,
        &attachment.ifname,
    );
    match userdata::get(&rule.userdata, ATTACHMENT) {
        Some(key) if key == own => Owner::This,
        Some(_) => Owner::Other,
        None => match userdata::comment(&rule.userdata) {
            Some(text) if text == attachment.container_id => Owner::ContainerOnly,
            _ => Owner::Other,
        },
    }
}

/// The keys of all attachments to a network that still exist.
pub(super) fn of_all(network: &str, valid: &[Valid]) -> Vec<Key> {
    valid
        .iter()
        .map(|v| key(network, &v.container_id, &v.ifname))
        .collect()
}

/// Whether a rule belongs to this network and to none of the attachments that have these keys. Rules of the
/// original are never stale: they do not say their network.
pub(super) fn is_stale(rule: &Rule, network: &str, valid: &[Key]) -> bool {
    let label = label(network);
    let of_network = userdata::get(&rule.userdata, NETWORK) == Some(label.as_bytes());
    let key = userdata::get(&rule.userdata, ATTACHMENT);
    of_network && key.is_some_and(|key| !valid.iter().any(|v| v == key))
}

/// The network a rule says it belongs to.
pub(super) fn network(rule: &Rule) -> Option<String> {
    let label = userdata::get(&rule.userdata, NETWORK)?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// The container id, or as much of it as fits.
fn comment(container_id: &str) -> String {
    if container_id.len() <= COMMENT_MAX {
        return container_id.to_owned();
    }
    // Container ids are ASCII (spec section 2), so that a cut falls between characters.
    let start = container_id.get(..COMMENT_MAX - 3).unwrap_or_default();
    format!("{start}...")
}

/// The name of a network, or a digest where it is too long.
fn label(network: &str) -> String {
    if network.len() <= NETWORK_MAX {
        return network.to_owned();
    }
    let digest = Sha512::digest(network);
    digest
        .iter()
        .take(NETWORK_MAX / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn key(network: &str, container_id: &str, ifname: &str) -> Key {
    // None of the three can contain a NUL.
    let digest = Sha512::digest(format!("{network}\0{container_id}\0{ifname}"));
    let mut key = Key::default();
    key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.into(),
            container_id: container_id.into(),
            ifname: ifname.into(),
        }
    }

    fn rule(userdata: Vec<u8>) -> Rule {
        Rule {
            chain: "hostports".into(),
            handle: 1,
            expressions: Vec::new(),
            userdata,
        }
    }

    #[test]
    fn a_rule_belongs_to_one_attachment() {
        let this = attachment("net", "c1", "eth0");
        let made = rule(userdata(&this));
        assert_eq!(userdata::comment(&made.userdata).as_deref(), Some("c1"));
        assert_eq!(owner(&made, &this), Owner::This);
        assert_eq!(network(&made).as_deref(), Some("net"));
        for other in [
            ("net2", "c1", "eth0"),
            ("net", "c2", "eth0"),
            ("net", "c1", "net1"),
        ] {
            assert_eq!(
                owner(&made, &attachment(other.0, other.1, other.2)),
                Owner::Other
            );
        }
        let mut plain = Vec::new();
        userdata::push(&mut plain, userdata::COMMENT, b"c1\0");
        assert_eq!(owner(&rule(plain.clone()), &this), Owner::ContainerOnly);
        assert_eq!(
            owner(&rule(plain), &attachment("net", "c", "eth0")),
            Owner::Other
        );
    }

    #[test]
    fn names_of_any_length_fit() {
        let (network, id) = ("n".repeat(300), "c".repeat(1000));
        let long = attachment(&network, &id, "eth0");
        let noted = userdata(&long);
        assert!(noted.len() <= 256);
        assert_eq!(userdata::comment(&noted).map(|c| c.len()), Some(128));
        assert_eq!(owner(&rule(noted.clone()), &long), Owner::This);
        let other = attachment(&network, &format!("{id}c"), "eth0");
        assert_eq!(
            owner(&rule(noted), &other),
            Owner::Other,
            "the same comment, another container"
        );
    }

    #[test]
    fn stale_is_what_is_of_this_network_and_not_valid() {
        let made = rule(userdata(&attachment("net", "c1", "eth0")));
        let valid = |id: &str, ifname: &str| Valid {
            container_id: id.into(),
            ifname: ifname.into(),
        };
        let stale =
            |network: &str, list: &[Valid]| is_stale(&made, network, &of_all(network, list));
        assert!(stale("net", &[]));
        assert!(stale("net", &[valid("c1", "net1"), valid("c2", "eth0")]));
        assert!(!stale("net", &[valid("c1", "eth0")]));
        assert!(!stale("other", &[]));
        let mut original = Vec::new();
        userdata::push(&mut original, userdata::COMMENT, b"c1\0");
        assert!(!is_stale(&rule(original), "net", &[]));
    }
}
