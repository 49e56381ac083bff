//! Reading netlink attributes out of an answer, one by one.

use std::net::IpAddr;

use netlink_packet_core::NlasIterator;

/// Length of a netlink attribute's own header, `struct nlattr`.
const HEADER: usize = 4;

/// The attributes of a message in order: number (without its flag bits) and value.
///
/// What is malformed ends the list; the kernel does not send that.
pub(crate) fn attributes(buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(buffer).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(HEADER..length)?))
    })
}

/// The value of the attribute `kind`, if it is there.
pub(crate) fn find(buffer: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(buffer).find_map(|(k, value)| (k == kind).then_some(value))
}

/// A `NLA_U16`; 0 when it is too short to be one.
pub(crate) fn u16(value: &[u8]) -> u16 {
    let bytes = value.first_chunk();
    bytes.map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// A `NLA_U32`; 0 when it is too short to be one.
pub(crate) fn u32(value: &[u8]) -> u32 {
    let bytes = value.first_chunk();
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A C string, without its NUL.
pub(crate) fn string(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// An IP address of either family, told by its length.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?));
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_ends_the_list() {
        // IFLA_IFNAME "lo", padded; IFLA_MTU 1500 with the NESTED flag; an attribute that claims more than is there.
        let mut bytes = vec![7, 0, 3, 0, b'l', b'o', 0, 0];
        bytes.extend([8, 0, 4, 0x80, 0xdc, 5, 0, 0]);
        bytes.extend([20, 0, 5, 0, 1]);
        let all: Vec<(u16, &[u8])> = attributes(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(find(&bytes, 3).map(string).as_deref(), Some("lo"));
        assert_eq!(find(&bytes, 4).map(u32), Some(1500));
        assert_eq!(find(&bytes, 5), None);
    }

    #[test]
    fn values_of_a_wrong_length_are_none() {
        assert_eq!(u32(&[1, 2]), 0);
        assert_eq!(ip(&[10, 0, 0, 1]).unwrap().to_string(), "10.0.0.1");
        assert_eq!(ip(&[0; 16]).unwrap().to_string(), "::");
        assert_eq!(ip(&[1, 2, 3]), None);
    }
}
