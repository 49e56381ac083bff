//! Ranges of addresses: what a configuration may say, and in which order addresses are tried.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// A range as it is written: everything but the subnet may be left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) subnet: Option<IpNetwork>,
    pub(crate) start: Option<IpAddr>,
    pub(crate) end: Option<IpAddr>,
    pub(crate) gateway: Option<IpAddr>,
}

/// Addresses of one subnet, first to last, that may be handed out. `first <= last`, both inside the subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    family: Family,
    first: u128,
    last: u128,
    prefix: u8,
    gateway: IpAddr,
}

/// Ranges of one family that do not overlap. One ADD takes one address out of each set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range>);

/// An address that may be handed out, with what its range says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) gateway: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address with this number. Only numbers that came from addresses of this family are given here.
    fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
            Family::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl Range {
    /// Checks a range in the original's order and with its words, and fills in what is left out: the gateway
    /// is the first address, the range goes from there to the last one that is no broadcast address.
    ///
    /// A gateway that is written down need not be in the subnet, and need not be of its family.
    pub(crate) fn new(written: Written) -> Result<Range, String> {
        let Some(subnet) = written.subnet else {
            return Err("IP <nil> not v4 nor v6".into());
        };
        let family = Family::of(subnet.ip());
        let prefix = subnet.prefix();
        if prefix > family.bits() - 2 {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        if matches!(subnet.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return Err("IPNet IP and Mask version mismatch".into());
        }
        if subnet.ip() != subnet.network() {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {prefix} the network address is {}",
                subnet.network()
            ));
        }
        let network = number(subnet.network());
        let top = match subnet.broadcast() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) - 1,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let outside = |ip: &IpAddr| Family::of(*ip) != family || !subnet.contains(*ip);
        let above = |ip: &IpAddr, end: &IpAddr| Family::of(*ip) == Family::of(*end) && ip > end;
        // A start above the end gets the same words as one outside the subnet: people search for them.
        if let Some(start) = written.start
            && (outside(&start) || written.end.is_some_and(|end| above(&start, &end)))
        {
            return Err(format!("RangeStart {start} not in network {subnet}"));
        }
        let first = written.start.map_or(network + 1, number);
        if let Some(end) = written.end
            && (outside(&end) || number(end) < first)
        {
            return Err(format!("RangeEnd {end} not in network {subnet}"));
        }
        let last = written.end.map_or(top, number);
        if first > last {
            let start = family.address(first);
            return Err(format!("RangeStart {start} not in network {subnet}"));
        }
        Ok(Range {
            family,
            first,
            last,
            prefix,
            gateway: written
                .gateway
                .unwrap_or_else(|| family.address(network + 1)),
        })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family && (self.first..=self.last).contains(&number(ip))
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    fn candidate(&self, address: IpAddr) -> Candidate {
        Candidate {
            address,
            prefix: self.prefix,
            gateway: self.gateway,
        }
    }
}

impl RangeSet {
    /// Ranges that may stand in one set; the text says why they may not.
    pub(crate) fn new(ranges: Vec<Range>) -> Result<RangeSet, String> {
        let Some(first) = ranges.first() else {
            return Err("empty range set".into());
        };
        if ranges.iter().any(|range| range.family != first.family) {
            return Err("mixed address families".into());
        }
        for (i, a) in ranges.iter().enumerate() {
            if let Some(b) = ranges.iter().skip(i + 1).find(|b| a.overlaps(b)) {
                return Err(format!("subnets {a} and {b} overlap"));
            }
        }
        Ok(RangeSet(ranges))
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.0.iter().any(|range| range.family == Family::V6)
    }

    pub(crate) fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.overlaps(b)))
    }

    /// The address as this set would hand it out; `None` when no range of the set has it.
    pub(crate) fn find(&self, ip: IpAddr) -> Option<Candidate> {
        let range = self.0.iter().find(|range| range.contains(ip))?;
        Some(range.candidate(ip))
    }

    /// Every address of the set once, gateways left out, beginning behind `last_reserved` (round robin) and
    /// ending with it. Without it, or when it is in no range, beginning with the first address.
    ///
    /// Only the gateway of the address's own range is left out, as the original does.
    pub(crate) fn candidates(&self, last_reserved: Option<IpAddr>) -> Candidates<'_> {
        let position = last_reserved.and_then(|ip| {
            let range = self.0.iter().position(|range| range.contains(ip))?;
            Some((range, number(ip)))
        });
        let start = match position {
            Some(position) => self.after(position),
            None => (0, self.0.first().map_or(0, |range| range.first)),
        };
        Candidates {
            set: self,
            start,
            next: Some(start),
        }
    }

    /// The position after this one; the set is a ring.
    fn after(&self, (index, number): (usize, u128)) -> (usize, u128) {
        match self.0.get(index) {
            Some(range) if number < range.last => (index, number + 1),
            _ => {
                let index = (index + 1) % self.0.len();
                (index, self.0.get(index).map_or(0, |range| range.first))
            }
        }
    }
}

/// See [`RangeSet::candidates`]. Lazy: a range may have 2^128 addresses.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    set: &'a RangeSet,
    /// Range and address number where the walk began.
    start: (usize, u128),
    next: Option<(usize, u128)>,
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            let position = self.next?;
            let following = self.set.after(position);
            self.next = (following != self.start).then_some(following);
            let range = self.set.0.get(position.0)?;
            let address = range.family.address(position.1);
            if address != range.gateway {
                return Some(range.candidate(address));
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = [self.first, self.last].map(|n| self.family.address(n));
        write!(f, "{first}-{last}")
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(subnet: &str, start: &str, end: &str, gateway: &str) -> Written {
        let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Written {
            subnet: (!subnet.is_empty()).then(|| subnet.parse().unwrap()),
            start: ip(start),
            end: ip(end),
            gateway: ip(gateway),
        }
    }

    fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> Result<Range, String> {
        Range::new(written(subnet, start, end, gateway))
    }

    fn set(subnets: &[&str]) -> Result<RangeSet, String> {
        RangeSet::new(
            subnets
                .iter()
                .map(|s| range(s, "", "", "").unwrap())
                .collect(),
        )
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let text = |subnet| range(subnet, "", "", "").unwrap().to_string();
        assert_eq!(text("10.9.0.0/24"), "10.9.0.1-10.9.0.254");
        assert_eq!(text("10.9.0.0/30"), "10.9.0.1-10.9.0.2");
        assert_eq!(text("0.0.0.0/0"), "0.0.0.1-255.255.255.254");
        assert_eq!(text("fd00::/64"), "fd00::1-fd00::ffff:ffff:ffff:ffff");
        assert_eq!(text("::/0"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let explicit = range("10.9.0.0/24", "10.9.0.0", "10.9.0.255", "fd00::1").unwrap();
        assert_eq!(explicit.to_string(), "10.9.0.0-10.9.0.255");
        assert_eq!(explicit.gateway.to_string(), "fd00::1");
    }

    #[test]
    fn a_bad_range_is_refused_with_the_originals_words() {
        let refused = |subnet, start, end| range(subnet, start, end, "").unwrap_err();
        assert_eq!(refused("", "10.9.0.2", ""), "IP <nil> not v4 nor v6");
        for small in ["10.9.0.0/31", "10.9.0.1/32", "fd00::/127"] {
            let text = format!("Network {small} too small to allocate from");
            assert_eq!(refused(small, "", ""), text);
        }
        assert_eq!(
            refused("::ffff:10.9.0.0/120", "", ""),
            "IPNet IP and Mask version mismatch"
        );
        assert_eq!(
            refused("10.9.0.5/24", "", ""),
            "Network has host bits set. For a subnet mask of length 24 the network address is 10.9.0.0"
        );
        for (start, end, word) in [
            ("10.8.0.1", "", "RangeStart 10.8.0.1"),
            ("10.9.0.20", "10.9.0.10", "RangeStart 10.9.0.20"),
            ("10.9.0.20", "10.8.0.1", "RangeStart 10.9.0.20"),
            ("fd00::1", "", "RangeStart fd00::1"),
            ("", "10.8.0.1", "RangeEnd 10.8.0.1"),
            ("", "10.9.0.0", "RangeEnd 10.9.0.0"),
            ("10.9.0.20", "fd00::1", "RangeEnd fd00::1"),
            ("10.9.0.255", "", "RangeStart 10.9.0.255"),
        ] {
            let text = format!("{word} not in network 10.9.0.0/24");
            assert_eq!(refused("10.9.0.0/24", start, end), text);
        }
    }

    #[test]
    fn sets() {
        assert_eq!(set(&[]).unwrap_err(), "empty range set");
        assert_eq!(
            set(&["10.9.0.0/24", "fd00::/64"]).unwrap_err(),
            "mixed address families"
        );
        assert_eq!(
            set(&["10.9.0.0/24", "10.9.0.0/25"]).unwrap_err(),
            "subnets 10.9.0.1-10.9.0.254 and 10.9.0.1-10.9.0.126 overlap"
        );
        let two = set(&["10.9.0.0/30", "10.9.1.0/30"]).unwrap();
        assert_eq!(two.to_string(), "10.9.0.1-10.9.0.2,10.9.1.1-10.9.1.2");
        assert!(two.overlaps(&set(&["10.9.1.0/24"]).unwrap()));
        assert!(!two.overlaps(&set(&["fd00::/64"]).unwrap()));
    }

    #[test]
    fn the_widest_range_is_walked_lazily() {
        let all = RangeSet::new(vec![range("::/0", "::", "", "").unwrap()]).unwrap();
        let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok();
        let first: Vec<String> = all
            .candidates(top)
            .take(2)
            .map(|c| c.address.to_string())
            .collect();
        assert_eq!(first, ["::", "::2"], "around the end, past the gateway");
    }

    /// The order as one would write it without thinking of size: all addresses in a row, turned round.
    fn naive(set: &RangeSet, last_reserved: Option<IpAddr>) -> Vec<IpAddr> {
        let mut all: Vec<(IpAddr, IpAddr)> = Vec::new();
        for range in &set.0 {
            for n in range.first..=range.last {
                all.push((range.family.address(n), range.gateway));
            }
        }
        let place = all.iter().position(|(ip, _)| Some(*ip) == last_reserved);
        if let Some(place) = place {
            let turn = (place + 1) % all.len();
            all.rotate_left(turn);
        }
        let usable = all.into_iter().filter(|(ip, gateway)| ip != gateway);
        usable.map(|(ip, _)| ip).collect()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_naive_model(
            pieces in prop::collection::vec((0u32..200, 0u32..20, 0u32..24), 1..5),
            last in 0u32..1100,
            v6 in any::<bool>(),
        ) {
            let ranges = pieces.iter().enumerate().map(|(i, (start, length, gateway))| {
                let (subnet, base) = if v6 {
                    (format!("fd00::{i}:0/112"), 0)
                } else {
                    (format!("10.9.{i}.0/24"), 0x0a09_0000 + (i as u32) * 256)
                };
                let subnet: IpNetwork = subnet.parse().unwrap();
                let at = |n: u32| if v6 {
                    Family::V6.address(number(subnet.ip()) + u128::from(n))
                } else {
                    Family::V4.address(u128::from(base + n))
                };
                Range::new(Written {
                    subnet: Some(subnet),
                    start: Some(at(*start)),
                    end: Some(at(start + length)),
                    gateway: Some(at(start + gateway)),
                }).unwrap()
            });
            let set = RangeSet::new(ranges.collect()).unwrap();
            let all = naive(&set, None);
            let last = all.get(last as usize % (all.len() + 1)).copied();
            let walked: Vec<IpAddr> = set.candidates(last).map(|c| c.address).collect();
            prop_assert_eq!(walked, naive(&set, last));
        }
    }
}
