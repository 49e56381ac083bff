//! The original's own cases as a table, the example network, and a naive model.

use std::collections::BTreeSet;
use std::slice;

use proptest::prelude::*;

use super::*;

const CIDR: &str = "192.168.1.64/26";
const NET6: &str = "2a00:8a00:a000:1193::/64";
const EMPTY_26: &str = "gAAAAAAAAAE=";
const FULL_30: &str = "8A==";

fn l2() -> DanmOptions {
    DanmOptions::default()
}

fn v4() -> DanmOptions {
    DanmOptions {
        cidr: CIDR.into(),
        alloc: EMPTY_26.into(),
        allocation_pool: Some(DanmPool {
            start: "192.168.1.65".into(),
            end: "192.168.1.126".into(),
            ..DanmPool::default()
        }),
        ..DanmOptions::default()
    }
}

fn dual() -> DanmOptions {
    DanmOptions {
        net6: NET6.into(),
        ..v4()
    }
}

fn full() -> DanmOptions {
    DanmOptions {
        cidr: "192.168.1.0/30".into(),
        alloc: FULL_30.into(),
        ..DanmOptions::default()
    }
}

fn pool(start: &str, end: &str, last_ip: &str) -> DanmOptions {
    let pool = DanmPool {
        start: start.into(),
        end: end.into(),
        last_ip: last_ip.into(),
        ..DanmPool::default()
    };
    DanmOptions {
        allocation_pool: Some(pool),
        ..v4()
    }
}

fn wanted(ip: &str, ip6: &str) -> Addresses {
    Addresses {
        ip: ip.into(),
        ip6: ip6.into(),
    }
}

/// Reserves and writes the changes into the network, as a server would.
fn reserve_in(options: &mut DanmOptions, ip: &str, ip6: &str) -> Result<(String, String), String> {
    let (got, changes) = reserve(&mut options.clone(), &wanted(ip, ip6))?;
    apply(options, changes);
    Ok((got.ip, got.ip6))
}

fn apply(options: &mut DanmOptions, changes: Changes) {
    options.alloc = changes.alloc.unwrap_or(std::mem::take(&mut options.alloc));
    options.alloc6 = changes
        .alloc6
        .unwrap_or(std::mem::take(&mut options.alloc6));
    options.allocation_pool = changes.pool.or(options.allocation_pool.take());
    options.allocation_pool_v6 = changes.pool6.or(options.allocation_pool_v6.take());
}

#[test]
fn reservations_of_the_original() {
    for (case, options, ip, ip6, expected) in [
        ("noIpsRequested", l2(), "", "", ("", "")),
        ("noneDualStack", l2(), "none", "none", ("none", "none")),
        (
            "dynamicIPv4Success",
            v4(),
            "dynamic",
            "",
            ("192.168.1.65/26", ""),
        ),
        (
            "staticSuccessLastIPv4",
            v4(),
            "192.168.1.126/26",
            "",
            ("192.168.1.126/26", ""),
        ),
        (
            "staticWithoutMask",
            v4(),
            "192.168.1.126",
            "",
            ("192.168.1.126/26", ""),
        ),
        (
            "staticWithOtherMask",
            v4(),
            "192.168.1.126/24",
            "",
            ("192.168.1.126/26", ""),
        ),
        (
            "dynamicIPv6Success",
            dual(),
            "",
            "dynamic",
            ("", "2a00:8a00:a000:1193::1/64"),
        ),
        (
            "staticIPv6Success",
            dual(),
            "",
            "2a00:8a00:a000:1193::3e:1010",
            ("", "2a00:8a00:a000:1193::3e:1010/64"),
        ),
        (
            "staticDualStackSuccess",
            dual(),
            "192.168.1.115",
            "2a00:8a00:a000:1193::3e:2002",
            ("192.168.1.115/26", "2a00:8a00:a000:1193::3e:2002/64"),
        ),
        (
            "dyanmicV4FromAllocationPool",
            pool("192.168.1.70", "192.168.1.80", ""),
            "dynamic",
            "",
            ("192.168.1.70/26", ""),
        ),
        (
            "dyanmicV4FromAllocationPoolWithLastIpSet",
            pool("192.168.1.70", "192.168.1.80", "192.168.1.80"),
            "dynamic",
            "",
            ("192.168.1.70/26", ""),
        ),
    ] {
        let mut options = options;
        let (got, changes) = reserve(&mut options, &wanted(ip, ip6)).expect(case);
        assert_eq!((got.ip.as_str(), got.ip6.as_str()), expected, "{case}");
        let nothing_taken = ["", "none"].contains(&ip) && ["", "none"].contains(&ip6);
        assert_eq!(
            changes.is_empty(),
            nothing_taken,
            "{case}: one write, or none"
        );
    }
    let mut small = DanmOptions {
        net6: "2a00:8a00:a000:1193::/120".into(),
        ..l2()
    };
    let got = reserve_in(&mut small, "", "dynamic").unwrap();
    assert_eq!(
        got.1, "2a00:8a00:a000:1193::1/120",
        "dynamicIPv6SmallCidrSizeSuccess"
    );
}

#[test]
fn refusals_of_the_original() {
    let is_static = "static IP allocation failed, requested ";
    for (case, options, ip, ip6, why) in [
        ("dynamicErrorIPv4", l2(), "dynamic", "", L2.to_owned()),
        ("dynamicErrorIPv6", l2(), "", "dynamic", L2.to_owned()),
        (
            "dynamicErrorBoth",
            v4(),
            "dynamic",
            "dynamic",
            L2.to_owned(),
        ),
        (
            "dynamicIPv4Exhausted",
            full(),
            "dynamic",
            "",
            EXHAUSTED.to_owned(),
        ),
        (
            "staticInvalidIPv4",
            v4(),
            "hululululu",
            "",
            format!("{is_static}static IP:hululululu is not a valid IP"),
        ),
        (
            "staticAlreadyUsedIPv4",
            full(),
            "192.168.1.2/30",
            "",
            format!("{is_static}IP address:192.168.1.2/30 is already in use"),
        ),
        (
            "staticFailAfterLastIPv4",
            v4(),
            "192.168.1.127/26",
            "",
            format!("{is_static}IP address:192.168.1.127/26 is already in use"),
        ),
        (
            "staticFailBeforeFirstIPv4",
            v4(),
            "192.168.1.64/26",
            "",
            format!("{is_static}IP address:192.168.1.64/26 is already in use"),
        ),
        (
            "staticIPv6OutsideOfAllocCidr",
            dual(),
            "",
            "2a00:8a00:a000:2193::3e:1010",
            format!(
                "{is_static}static IP:2a00:8a00:a000:2193::3e:1010 is outside the network's CIDR:{NET6}"
            ),
        ),
        (
            "staticOtherFamily",
            v4(),
            "2a00::1",
            "",
            format!("{is_static}static IP:2a00::1 is outside the network's CIDR:{CIDR}"),
        ),
    ] {
        assert_eq!(
            reserve(&mut options.clone(), &wanted(ip, ip6)),
            Err(why),
            "{case}"
        );
    }
}

#[test]
fn both_families_in_one_write() {
    let mut options = dual();
    assert_eq!(
        reserve_in(&mut options, "", "dynamic").unwrap().1,
        "2a00:8a00:a000:1193::1/64"
    );
    let pool6 = options.allocation_pool_v6.clone().unwrap();
    assert_eq!(pool6.cidr, "2a00:8a00:a000:1193::/106");
    assert_eq!(pool6.start, "2a00:8a00:a000:1193::1");
    assert_eq!(pool6.end, "2a00:8a00:a000:1193::3f:fffe");
    assert_eq!(pool6.last_ip, "2a00:8a00:a000:1193::1/64");
    assert_eq!(options.alloc6.len(), 699_052);
    reserve_in(&mut options, "", "2a00:8a00:a000:1193::3e:1010").unwrap();
    let got = reserve_in(&mut options, "dynamic", "dynamic").unwrap();
    assert_eq!(
        got,
        ("192.168.1.65/26".into(), "2a00:8a00:a000:1193::2/64".into())
    );
    assert_eq!(
        options.allocation_pool.clone().unwrap().last_ip,
        "192.168.1.65/26"
    );
    // What has no bit is granted, and nothing is written.
    let mut outside = options.clone();
    let (got, changes) = reserve(&mut outside, &wanted("", "2a00:8a00:a000:1193:1::5")).unwrap();
    assert_eq!(got.ip6, "2a00:8a00:a000:1193:1::5/64");
    assert!(changes.is_empty());
    // Both are given back in one write.
    let both = wanted("192.168.1.65/26", "2a00:8a00:a000:1193::2/64");
    assert!(is_reserved(&mut options.clone(), &both));
    let changes = release(&mut options.clone(), slice::from_ref(&both));
    assert!(changes.alloc.is_some() && changes.alloc6.is_some());
    apply(&mut options, changes);
    assert!(!is_reserved(&mut options.clone(), &both));
    assert_eq!(options.alloc, EMPTY_26);
}

#[test]
fn releases_of_the_original() {
    let writes = |options: DanmOptions, ip: &str, ip6: &str| {
        !release(&mut options.clone(), &[wanted(ip, ip6)]).is_empty()
    };
    assert!(writes(full(), "192.168.1.2/30", ""), "successfulFree");
    assert!(!writes(full(), "192.168.1.10/30", ""), "outOfRange");
    assert!(!writes(full(), "hululululu", ""), "invalidIp");
    assert!(!writes(l2(), "192.168.1.2/30", ""), "l2");
    assert!(!writes(v4(), "192.168.1.70/26", ""), "nothing to free");
    assert!(!writes(v4(), "none", "none"));
    let mut options = dual();
    reserve_in(&mut options, "", "dynamic").unwrap();
    assert!(
        writes(options, "", "2a00:8a00:a000:1193::1/106"),
        "ipv6SuccesfulFree"
    );
}

#[test]
fn the_example_network() {
    let mut options = DanmOptions {
        cidr: "10.2.157.0/27".into(),
        alloc: "gBCAAQ==".into(),
        allocation_pool: Some(DanmPool {
            start: "10.2.157.1".into(),
            end: "10.2.157.30".into(),
            ..DanmPool::default()
        }),
        ..DanmOptions::default()
    };
    let mut series = Vec::new();
    for last in (1..=10).chain(12..=15).chain(17..=30) {
        let got = reserve_in(&mut options, "dynamic", "").unwrap();
        assert_eq!(got.0, format!("10.2.157.{last}/27"));
        series.push(options.alloc.clone());
    }
    assert_eq!(series[..2], ["wBCAAQ==", "4BCAAQ=="]);
    assert_eq!(
        reserve_in(&mut options, "dynamic", ""),
        Err(EXHAUSTED.into()),
        "28 addresses"
    );
}

/// Where no webhook has made it, the bitmap is made with the first address.
#[test]
fn a_network_without_a_bitmap() {
    let mut options = DanmOptions {
        cidr: "10.2.157.0/27".into(),
        net6: "fd00::/120".into(),
        routes: [("10.0.0.0/8".into(), "10.2.157.1".into())].into(),
        routes6: [("fd01::/16".into(), "fd00::1".into())].into(),
        ..DanmOptions::default()
    };
    let got = reserve_in(&mut options, "dynamic", "dynamic").unwrap();
    assert_eq!(
        got,
        ("10.2.157.2/27".into(), "fd00::2/120".into()),
        "gateways are taken"
    );
    let pool = options.allocation_pool.clone().unwrap();
    assert_eq!(
        (pool.start.as_str(), pool.end.as_str()),
        ("10.2.157.1", "10.2.157.30")
    );
    assert_eq!(pool.last_ip, "10.2.157.2/27");
    assert_eq!(options.alloc, "4AAAAQ==");
    assert!(release(&mut l2(), &[wanted("10.2.157.1/27", "")]).is_empty());
}

#[test]
fn networks_that_can_not_be_right() {
    let error =
        |options: DanmOptions| reserve(&mut options.clone(), &wanted("dynamic", "")).unwrap_err();
    let broken = |alloc: &str| DanmOptions {
        alloc: alloc.into(),
        ..v4()
    };
    assert!(error(broken("???")).contains("not valid base64"));
    assert!(error(broken("gQ==")).contains("too short"));
    assert_eq!(
        error(DanmOptions {
            cidr: "192.168.1.64".into(),
            ..v4()
        }),
        "Invalid CIDR: 192.168.1.64"
    );
    let wide = DanmOptions {
        cidr: "10.0.0.0/8".into(),
        alloc: String::new(),
        ..v4()
    };
    assert!(error(wide).contains("too many addresses"));
    assert!(error(pool("10.9.9.9", "192.168.1.80", "")).contains("10.9.9.9"));
    assert!(error(pool("192.168.1.80", "192.168.1.70", "")).contains("all addresses are reserved"));
    for prefix in [31, 32] {
        let tiny = DanmOptions {
            cidr: format!("10.0.0.0/{prefix}"),
            ..DanmOptions::default()
        };
        assert_eq!(
            error(tiny),
            EXHAUSTED,
            "/{prefix} has no address between its first and its last"
        );
    }
}

proptest! {
    /// Against a set of numbers: what is taken, in which order, and what is written.
    #[test]
    fn like_a_set(
        prefix in 24_u8..31,
        (low, high) in (0_u64..80, 0_u64..80),
        steps in prop::collection::vec((0_u8..3, 0_u64..70), 1..120),
    ) {
        let size = 1_u64 << (32 - prefix);
        let address = |bit: u64| format!("10.7.0.{bit}");
        let (low, high) = (low % size, high % size);
        let pool = DanmPool { start: address(low), end: address(high), ..DanmPool::default() };
        let mut options = DanmOptions {
            cidr: format!("10.7.0.0/{prefix}"),
            allocation_pool: Some(pool),
            ..DanmOptions::default()
        };
        let mut taken = BTreeSet::from([0, size - 1]);
        for (step, bit) in steps {
            match step {
                0 => {
                    let expected = (low..=high).find(|bit| !taken.contains(bit));
                    let got = reserve_in(&mut options, "dynamic", "").ok().map(|got| got.0);
                    prop_assert_eq!(got, expected.map(|bit| format!("{}/{prefix}", address(bit))));
                    taken.extend(expected);
                }
                1 => {
                    let got = reserve_in(&mut options, &address(bit), "");
                    prop_assert_eq!(got.is_ok(), bit < size && taken.insert(bit));
                }
                _ => {
                    let changes = release(&mut options.clone(), &[wanted(&address(bit), "")]);
                    let was_taken = !options.alloc.is_empty() && taken.remove(&bit);
                    prop_assert_eq!(!changes.is_empty(), was_taken && bit < size);
                    apply(&mut options, changes);
                    if options.alloc.is_empty() {
                        taken = BTreeSet::from([0, size - 1]);
                    }
                }
            }
        }
    }
}
