//! The subnet of a bitmap: which bit is which address, and how much of an IPv6 network has a bitmap.

use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv6Network};

use super::bitmap::CAPACITY;

/// Shortest prefix of an IPv6 pool beside which there is no IPv4 subnet: half of [`CAPACITY`], as the webhook has it.
const SHORTEST_POOL: u8 = 105;

/// A subnet, from its first address to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    net: IpNetwork,
}

impl Subnet {
    /// The subnet that `net` is an address of.
    pub(super) fn of(net: IpNetwork) -> Subnet {
        Subnet { net }
    }

    /// How many addresses it has; `None` when those are more than a bitmap can have.
    pub(super) fn size(self) -> Option<u64> {
        let width = if self.net.is_ipv4() { 32 } else { 128 };
        let size = 1_u64.checked_shl(width - u32::from(self.net.prefix()))?;
        (size <= CAPACITY).then_some(size)
    }

    /// The place of an address in the bitmap; `None` when it is outside of the subnet.
    pub(super) fn index(self, ip: IpAddr) -> Option<u64> {
        if !self.net.contains(ip) {
            return None;
        }
        u64::try_from(number(ip) - number(self.net.network())).ok()
    }

    /// The address of a place in the bitmap.
    pub(super) fn address(self, index: u64) -> IpAddr {
        let number = number(self.net.network()) + u128::from(index);
        match self.net {
            #[expect(clippy::cast_possible_truncation, reason = "as wide as the base")]
            IpNetwork::V4(_) => IpAddr::V4((number as u32).into()),
            IpNetwork::V6(_) => IpAddr::V6(number.into()),
        }
    }

    /// The first and the last address that pods get where the network has no pool: all but the two outermost.
    pub(super) fn inner(self) -> (IpAddr, IpAddr) {
        let last = self.size().unwrap_or(CAPACITY) - 1;
        (
            self.address(last.min(1)),
            self.address(last.saturating_sub(1)),
        )
    }
}

/// The part of `net6` that gets a bitmap when the network does not say: the first addresses, as many as there is room
/// for beside the IPv4 subnet `cidr`, by the rule of the webhook.
pub(super) fn default_pool(net6: Ipv6Network, cidr: Option<IpNetwork>) -> Option<Ipv6Network> {
    let taken = match cidr {
        Some(cidr) => Subnet::of(cidr).size()?,
        None => 0,
    };
    let fits = |prefix: &u8| 1_u64 << (128 - prefix) < CAPACITY - taken;
    let shortest = match cidr {
        None => SHORTEST_POOL,
        Some(_) => (SHORTEST_POOL..=128).find(fits).unwrap_or(128),
    };
    Ipv6Network::new(net6.network(), shortest.max(net6.prefix())).ok()
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::of(text.parse().unwrap())
    }

    #[test]
    fn places() {
        let net = subnet("10.2.157.9/27");
        assert_eq!(net.size(), Some(32));
        assert_eq!(net.index("10.2.157.0".parse().unwrap()), Some(0));
        assert_eq!(net.index("10.2.157.31".parse().unwrap()), Some(31));
        assert_eq!(net.index("10.2.157.32".parse().unwrap()), None);
        assert_eq!(net.index("fd00::1".parse().unwrap()), None);
        assert_eq!(net.address(12).to_string(), "10.2.157.12");
        assert_eq!(subnet("0.0.0.0/0").size(), None);
        assert_eq!(subnet("10.0.0.0/9").size(), Some(CAPACITY));
        assert_eq!(subnet("10.0.0.0/8").size(), None);
        assert_eq!(subnet("fd00::/105").size(), Some(CAPACITY));
        assert_eq!(subnet("fd00::/104").size(), None);
        assert_eq!(subnet("fd00::/1").size(), None);
        let (first, last) = subnet("fd00::/64").inner();
        assert_eq!(first.to_string(), "fd00::1");
        assert_eq!(
            last.to_string(),
            "fd00::7f:fffe",
            "no more than a bitmap has"
        );
    }

    #[test]
    fn the_pool_of_ipv6() {
        let pool = |net6: &str, cidr: Option<&str>| {
            let cidr = cidr.map(|cidr| cidr.parse().unwrap());
            default_pool(net6.parse().unwrap(), cidr)
                .unwrap()
                .to_string()
        };
        for (cidr, prefix) in [
            (None, 105),
            (Some("192.168.1.64/26"), 106),
            (Some("10.0.0.0/10"), 107),
            (Some("10.0.0.0/9"), 128),
        ] {
            let expected = format!("2a00:8a00:a000:1193::/{prefix}");
            assert_eq!(pool("2a00:8a00:a000:1193::/64", cidr), expected, "{cidr:?}");
        }
        assert_eq!(
            pool("2a00:8a00:a000:1193::/120", None),
            "2a00:8a00:a000:1193::/120"
        );
    }
}
