//! Addresses as text, by the rules of Go's `net` package that configurations were written against.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::{self, Deserialize, Deserializer};

/// Reads an IP address. No leading zeros, no zone; an IPv4 address written as `::ffff:1.2.3.4` is the IPv4 address.
pub fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| format!("invalid IP address: {text}"))
}

/// Reads `address/prefix length` and keeps the host bits. Net masks (`/255.0.0.0`) and bare addresses are refused.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, String> {
    let cidr = || {
        let (ip, len) = text.split_once('/')?;
        let plain = len.len() <= 3 && len.bytes().all(|b| b.is_ascii_digit());
        let no_leading_zero = len == "0" || !len.starts_with('0');
        let len: u8 = (plain && no_leading_zero).then(|| len.parse().ok())??;
        IpNetwork::new(ip.parse().ok()?, len).ok()
    };
    cidr().ok_or_else(|| format!("invalid CIDR address: {text}"))
}

/// Reads a hardware address of 6, 8 or 20 bytes: `aa:bb:..`, `aa-bb-..` or Cisco's `aabb.ccdd.eeff`.
pub fn parse_mac(text: &str) -> Result<Vec<u8>, String> {
    let bytes = || {
        let (separator, digits) = match text.as_bytes().get(2)? {
            b':' => (':', 2),
            b'-' => ('-', 2),
            _ => ('.', 4),
        };
        let mut bytes = Vec::with_capacity(6);
        for group in text.split(separator) {
            if group.len() != digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let number = u16::from_str_radix(group, 16).ok()?;
            let [high, low] = number.to_be_bytes();
            if digits == 4 {
                bytes.push(high);
            }
            bytes.push(low);
        }
        matches!(bytes.len(), 6 | 8 | 20).then_some(bytes)
    };
    bytes().ok_or_else(|| format!("address {text}: invalid MAC address"))
}

/// Prints a hardware address in lower case with colons; empty stays empty.
pub fn format_mac(mac: &[u8]) -> String {
    let groups: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    groups.join(":")
}

/// An IP address in a document, where `""` means "not set".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addr(pub Option<IpAddr>);

/// A CIDR address in a document, host bits kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNetwork);

impl<'de> Deserialize<'de> for Addr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Addr(None));
        }
        let ip = parse_ip(&text).map_err(de::Error::custom)?;
        Ok(Addr(Some(ip)))
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_cidr(&text).map(Cidr).map_err(de::Error::custom)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_addresses_follow_go() {
        let ip = |text| parse_ip(text).map(|ip| ip.to_string());
        assert_eq!(ip("10.1.2.3").unwrap(), "10.1.2.3");
        assert_eq!(ip("::ffff:10.1.2.3").unwrap(), "10.1.2.3");
        assert_eq!(ip("FD00:0:0::0:1").unwrap(), "fd00::1");
        for bad in [
            "",
            "10.1.2",
            "010.1.2.3",
            "fe80::1%eth0",
            "10.1.2.3/24",
            " 10.1.2.3",
        ] {
            assert_eq!(ip(bad).unwrap_err(), format!("invalid IP address: {bad}"));
        }
    }

    #[test]
    fn cidr_addresses_follow_go() {
        let cidr = |text| parse_cidr(text).map(|net| net.to_string());
        assert_eq!(cidr("10.1.2.3/24").unwrap(), "10.1.2.3/24");
        assert_eq!(cidr("fd00::5/64").unwrap(), "fd00::5/64");
        for bad in [
            "10.9.0.0",
            "10.9.0.0/",
            "10.9.0.0/33",
            "10.9.0.0/255.255.255.0",
            "10.9.0.0/+8",
            "10.9.0.0/08",
            "x/8",
            "fd00::/129",
            "10.9.0.0/024",
        ] {
            assert_eq!(
                cidr(bad).unwrap_err(),
                format!("invalid CIDR address: {bad}")
            );
        }
    }

    #[test]
    fn hardware_addresses_in_three_spellings() {
        let mac = |text| parse_mac(text).map(|mac| format_mac(&mac));
        for same in ["C2:B0:57:49:47:F1", "c2-b0-57-49-47-f1", "c2b0.5749.47f1"] {
            assert_eq!(mac(same).unwrap(), "c2:b0:57:49:47:f1");
        }
        assert_eq!(
            mac("02:00:5e:10:00:00:00:01").unwrap(),
            "02:00:5e:10:00:00:00:01"
        );
        for bad in [
            "",
            "zz",
            "c2:b0:57:49:47",
            "c2:b0-57:49:47:f1",
            "c2:b0:57:49:47:+1",
            "c2b05749",
        ] {
            assert_eq!(
                mac(bad).unwrap_err(),
                format!("address {bad}: invalid MAC address")
            );
        }
    }
}
