//! The values of a request: each type holds only what can be asked for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::text::{parse_cidr, parse_ip, parse_mac};
use cni::{Error, names};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

/// What the original says about a second gateway of one family.
pub(super) const ECMP: &str = "multus does not support ECMP for default-route";

/// A text that was checked and is passed on as it was written.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub(crate) struct $name(String);

        impl $name {
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// A name that the kernel takes for a new interface.
    InterfaceName
);
checked_text!(
    /// A hardware address of 6, 8 or 20 bytes, in any spelling that [`parse_mac`] reads.
    HardwareAddr
);
checked_text!(
    /// An address with or without a prefix length.
    IpRequest
);

impl InterfaceName {
    /// Errors: code 4, and which rule of the kernel's it is.
    pub(crate) fn parse(text: &str) -> Result<InterfaceName, Error> {
        let error = |e: Error| Error {
            details: format!("interface name {text:?}"),
            ..e
        };
        names::ifname(text).map_err(error)?;
        Ok(InterfaceName(text.to_owned()))
    }
}

impl HardwareAddr {
    pub(super) fn parse(text: &str) -> Result<HardwareAddr, String> {
        parse_mac(text).map(|_| HardwareAddr(text.to_owned()))
    }
}

impl IpRequest {
    pub(super) fn parse(text: &str) -> Result<IpRequest, String> {
        match text.contains('/') {
            true => parse_cidr(text)
                .map(|_| ())
                .map_err(|e| format!("failed to parse CIDR {text:?}: {e}")),
            false => parse_ip(text)
                .map(|_| ())
                .map_err(|_| format!("failed to parse IP address {text:?}")),
        }?;
        Ok(IpRequest(text.to_owned()))
    }
}

/// The gateways of `default-route`, one at most for each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gateways {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Gateways {
    /// The text says what is wrong with the list.
    pub(super) fn parse(list: &[String]) -> Result<Gateways, String> {
        let mut gateways = Gateways::default();
        for text in list {
            let second =
                match parse_ip(text).map_err(|e| format!("{}: {e}", super::element::JSON))? {
                    IpAddr::V4(gw) => gateways.v4.replace(gw).is_some(),
                    IpAddr::V6(gw) => gateways.v6.replace(gw).is_some(),
                };
            if second {
                return Err(ECMP.to_owned());
            }
        }
        Ok(gateways)
    }

    /// All there are, IPv4 first.
    pub(crate) fn iter(self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// A port of the host that leads to a port of the attachment; written as `runtimeConfig.portMappings` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortMapping {
    host_port: u16,
    container_port: u16,
    /// As it was written: `tcp`, `udp` or `sctp` in any case; empty means TCP.
    #[serde(skip_serializing_if = "String::is_empty")]
    protocol: String,
    #[serde(rename = "hostIP", skip_serializing_if = "String::is_empty")]
    host_ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireMapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

impl<'de> Deserialize<'de> for PortMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireMapping::deserialize(deserializer)?;
        let port = |key: &str, number: i64| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(de::Error::custom(format!(
                "{key} {number} is not in 1 to 65535"
            ))),
        };
        let known = ["", "tcp", "udp", "sctp"];
        if !known.iter().any(|p| p.eq_ignore_ascii_case(&wire.protocol)) {
            let protocol = wire.protocol;
            let why = format!("protocol {protocol:?} is none of tcp, udp, sctp");
            return Err(de::Error::custom(why));
        }
        if !wire.host_ip.is_empty() {
            parse_ip(&wire.host_ip).map_err(|e| de::Error::custom(format!("hostIP: {e}")))?;
        }
        Ok(PortMapping {
            host_port: port("hostPort", wire.host_port)?,
            container_port: port("containerPort", wire.container_port)?,
            protocol: wire.protocol,
            host_ip: wire.host_ip,
        })
    }
}

/// Limits in bits per second and bits; 0 is no limit. Written as `runtimeConfig.bandwidth` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireBandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireBandwidth::deserialize(deserializer)?;
        let sides = [
            ("ingress", wire.ingress_rate, wire.ingress_burst),
            ("egress", wire.egress_rate, wire.egress_burst),
        ];
        for (side, rate, burst) in sides {
            if rate == 0 && burst > 0 {
                let why = format!("{side}Burst has no meaning without {side}Rate");
                return Err(de::Error::custom(why));
            }
        }
        Ok(Bandwidth {
            ingress_rate: wire.ingress_rate,
            ingress_burst: wire.ingress_burst,
            egress_rate: wire.egress_rate,
            egress_burst: wire.egress_burst,
        })
    }
}

/// A DNS label (RFC 1123), what namespaces are named by: at most 63 of a-z, 0-9 and, not at the ends, `-`.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_dashed(text)
}

/// A DNS subdomain: such names with dots between them, at most 253 bytes.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dashed)
}

fn is_dashed(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| plain(b) || b == b'-')
        && text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
}
