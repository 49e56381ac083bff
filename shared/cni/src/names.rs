//! Which container ids, interface names and network names may be used.

use crate::{Code, Error};

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`: what container ids and network names are made of. Both become file names.
pub fn is_identifier(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.bytes().all(allowed)
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Checks `CNI_CONTAINERID` (spec section 2). Code 4.
pub fn container_id(id: &str) -> Result<(), Error> {
    if is_identifier(id) {
        return Ok(());
    }
    let error = Error::new(
        Code::InvalidEnvironment,
        "invalid characters in containerID",
    );
    Err(error.details(format!("CNI_CONTAINERID={id}")))
}

/// Checks `CNI_IFNAME` by the kernel's rules for a new device (`dev_valid_name`, `IFNAMSIZ`). Code 4.
///
/// `%` is refused as well: the kernel reads `eth%d` as a pattern and would make another interface than
/// the one that was asked for.
pub fn ifname(name: &str) -> Result<(), Error> {
    let refuse = |why: &str| {
        Err(Error::new(Code::InvalidEnvironment, why).details(format!("CNI_IFNAME={name}")))
    };
    match name {
        "" => refuse("interface name is empty"),
        "." | ".." => refuse("interface name is . or .."),
        _ if name.len() > 15 => refuse("interface name is too long"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) => {
            refuse("interface name contains / or : or whitespace characters")
        }
        _ if name.contains('%') => {
            refuse("interface name contains %, which the kernel would replace")
        }
        _ => Ok(()),
    }
}

/// Checks the `name` of a network configuration (spec section 1). Code 7.
pub fn network(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::config("missing network name"));
    }
    if is_identifier(name) {
        return Ok(());
    }
    Err(Error::config("invalid characters found in network name").details(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "9", "cnitool-77", "A.b_c-d", &"x".repeat(300)] {
            assert!(
                container_id(good).is_ok() && network(good).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "", "-a", ".", "..", "_a", "a/b", "../x", "a b", "ä", "a\0", "a\n", "a:b",
        ] {
            assert!(
                container_id(bad).is_err() && network(bad).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "a", "123456789012345", "-x", "é", "net1.100"] {
            assert!(ifname(good).is_ok(), "{good}");
        }
        let msg = |name: &str| ifname(name).unwrap_err().msg;
        assert_eq!(msg("1234567890123456"), "interface name is too long");
        assert_eq!(msg("éééééééé"), "interface name is too long", "16 bytes");
        assert_eq!(msg(".."), "interface name is . or ..");
        for bad in ["a/b", "a:b", "a b", "a\u{2003}b", "a\n"] {
            assert_eq!(
                msg(bad),
                "interface name contains / or : or whitespace characters"
            );
        }
        assert!(msg("eth%d").contains('%'));
    }
}
