//! The names and comments that the original gives its chains and rules.

use sha2::{Digest, Sha512};

use crate::mapping::Attachment;

pub(super) const DNAT: &str = "CNI-HOSTPORT-DNAT";
pub(super) const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
pub(super) const MASQ: &str = "CNI-HOSTPORT-MASQ";
/// What the chains of versions of the original before 0.8 for the way back are entered from.
pub(super) const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";
/// What the chain of an attachment begins with.
pub(super) const CHAIN_PREFIX: &str = "CNI-DN-";

/// The longest name of a chain that iptables takes.
const CHAIN_MAX: usize = 28;
/// The longest comment that iptables takes.
const COMMENT_MAX: usize = 255;

/// The chain of an attachment. The interface is not in it.
pub(super) fn chain(attachment: &Attachment) -> String {
    hashed(CHAIN_PREFIX, attachment)
}

/// The chain that versions of the original before 0.8 had for the way back.
pub(super) fn old_chain(attachment: &Attachment) -> String {
    hashed("CNI-SN-", attachment)
}

fn hashed(prefix: &str, attachment: &Attachment) -> String {
    let digest = Sha512::digest(format!("{}{}", attachment.network, attachment.container_id));
    let mut name = prefix.to_owned();
    name.extend(digest.iter().map(|byte| format!("{byte:02x}")));
    name.truncate(CHAIN_MAX);
    name
}

/// The comment of the rules that enter the chain of an attachment.
pub(super) fn comment(network: &str, container_id: &str) -> String {
    let mut comment = format!("{}{container_id}\"", comment_start(network));
    if comment.len() > COMMENT_MAX {
        // Names are ASCII (spec sections 1 and 2), so that the cut falls between characters.
        // The original adds three dots and iptables drops the third.
        comment.truncate(COMMENT_MAX - 2);
        comment.push_str("..");
    }
    comment
}

/// What the comments of a network's rules begin with.
pub(super) fn comment_start(network: &str) -> String {
    format!("dnat name: \"{network}\" id: \"")
}

/// Network and container id of a comment; the id may have been cut.
pub(super) fn read_comment(comment: &str) -> Option<(&str, &str)> {
    let (network, id) = comment
        .strip_prefix("dnat name: \"")?
        .split_once("\" id: \"")?;
    Some((network, id.trim_end_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(network: &str, container_id: &str) -> Attachment {
        Attachment {
            network: network.into(),
            container_id: container_id.into(),
            ifname: "eth0".into(),
        }
    }

    #[test]
    fn the_chain_names_of_the_original() {
        assert_eq!(
            chain(&attachment("net1", "c1")),
            "CNI-DN-c2d892b58e87e28a12fe6"
        );
        assert_eq!(
            chain(&attachment("test", "1234")),
            "CNI-DN-2bbe0c48b91a7d1b8a675"
        );
    }

    #[test]
    fn comments_there_and_back() {
        let short = comment("net1", "c1");
        assert_eq!(short, r#"dnat name: "net1" id: "c1""#);
        assert_eq!(read_comment(&short), Some(("net1", "c1")));
        let long = comment("net1", &"c".repeat(300));
        assert!(
            long.ends_with("c..") && long.len() == 255,
            "as the kernel has it: {}",
            long.len()
        );
        assert_eq!(read_comment("CNI portfwd masquerade mark"), None);
    }
}
