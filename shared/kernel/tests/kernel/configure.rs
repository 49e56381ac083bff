//! Addresses, routes, sysctls and duplicate address detection, on the real kernel.

use std::time::{Duration, Instant};

use cni::text::{format_mac, parse_cidr, parse_ip};
use cni::{Interface, Ip, Route, Success};
use kernel::{Error, announce_addresses, configure};
use nix::errno::Errno;

use crate::bed::{Bed, run};

/// A result for net1: addresses as `address` or `address gateway`.
pub(crate) fn result(ips: &[&str], routes: &[Route]) -> Success {
    let ip = |text: &&str| {
        let (address, gateway) = text.split_once(' ').unwrap_or((text, ""));
        Ip {
            address: parse_cidr(address).unwrap(),
            gateway: parse_ip(gateway).ok(),
            interface: Some(0),
        }
    };
    Success {
        interfaces: vec![Interface {
            name: "net1".into(),
            ..Interface::default()
        }],
        ips: ips.iter().map(ip).collect(),
        routes: routes.to_vec(),
        ..Success::default()
    }
}

pub(crate) fn route(dst: &str) -> Route {
    Route {
        dst: parse_cidr(dst).unwrap(),
        gw: None,
        mtu: 0,
        advmss: 0,
        priority: 0,
        table: None,
        scope: None,
    }
}

fn via(dst: &str, gw: &str) -> Route {
    Route {
        gw: Some(parse_ip(gw).unwrap()),
        ..route(dst)
    }
}

pub(crate) fn set_up(bed: &Bed, result: &Success) -> Result<(), Error> {
    bed.pod(|rtnl| {
        let link = rtnl.link("net1")?;
        announce_addresses(&link);
        configure(rtnl, &link, result)
    })
}

fn configured(ips: &[&str], routes: &[Route]) -> (Bed, Result<(), Error>) {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    let outcome = set_up(&bed, &result(ips, routes));
    (bed, outcome)
}

#[test]
fn addresses_routes_and_announcements() {
    let (bed, outcome) = configured(&["10.77.0.2/24 10.77.0.1"], &[route("0.0.0.0/0")]);
    outcome.unwrap();
    let address = bed.in_pod("ip -4 -o addr show net1");
    assert!(
        address.contains("10.77.0.2/24 brd 10.77.0.255 scope global net1"),
        "{address}"
    );
    let routes = bed.in_pod("ip route show");
    assert_eq!(
        routes.lines().next(),
        Some("default via 10.77.0.1 dev net1 "),
        "{routes}"
    );
    assert!(bed.link("net1").unwrap().is_up);
    for key in [
        "net.ipv4.conf.net1.arp_notify",
        "net.ipv6.conf.net1.ndisc_notify",
    ] {
        assert_eq!(bed.in_pod(&format!("sysctl -n {key}")), "1\n");
    }
    let keep = bed.in_pod("sysctl -n net.ipv6.conf.net1.keep_addr_on_down");
    assert_eq!(keep, "0\n", "there is no IPv6 address");
}

#[test]
fn neighbours_hear_of_the_address_at_once() {
    let bed = Bed::new();
    run("ip addr add 10.77.0.1/24 dev m0peer");
    run("sysctl -w net.ipv4.conf.m0peer.arp_accept=1");
    bed.macvlan("net1").unwrap();
    assert_eq!(run("ip neigh show 10.77.0.2"), "");
    set_up(&bed, &result(&["10.77.0.2/24"], &[])).unwrap();
    let mac = format_mac(&bed.link("net1").unwrap().mac);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !run("ip neigh show 10.77.0.2").contains(&mac) {
        assert!(Instant::now() < deadline, "no gratuitous ARP was heard");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_default_route_goes_in_front() {
    let (bed, outcome) = configured(&["10.77.0.2/24 10.77.0.1"], &[route("0.0.0.0/0")]);
    outcome.unwrap();
    bed.macvlan("net2").unwrap();
    let mut second = result(&["10.78.0.2/24 10.78.0.1"], &[route("0.0.0.0/0")]);
    second.interfaces[0].name = "net2".into();
    bed.pod(|rtnl| {
        let link = rtnl.link("net2")?;
        configure(rtnl, &link, &second)
    })
    .unwrap();
    let routes = bed.in_pod("ip route show default");
    let expected = "default via 10.78.0.1 dev net2 \ndefault via 10.77.0.1 dev net1 \n";
    assert_eq!(routes, expected);
}

#[test]
fn every_field_of_a_route_is_programmed() {
    let everything = Route {
        mtu: 1300,
        advmss: 1200,
        priority: 50,
        table: Some(1000),
        ..via("1.1.3.0/24", "10.77.0.99")
    };
    let routes = [
        everything,
        Route {
            table: Some(20),
            ..route("1.1.4.0/24")
        },
        Route {
            table: Some(0),
            ..route("1.1.5.0/24")
        },
        Route {
            scope: Some(253),
            ..via("1.1.6.0/24", "10.77.0.99")
        },
    ];
    let (bed, outcome) = configured(&["10.77.0.9/24"], &routes[..3]);
    outcome.unwrap();
    assert_eq!(
        bed.in_pod("ip route show table 1000").trim(),
        "1.1.3.0/24 via 10.77.0.99 dev net1 metric 50 mtu 1300 advmss 1200"
    );
    assert_eq!(
        bed.in_pod("ip -d route show table 20").trim(),
        "unicast 1.1.4.0/24 dev net1 proto boot scope global"
    );
    assert_eq!(
        bed.in_pod("ip route show 1.1.5.0/24").trim(),
        "1.1.5.0/24 dev net1"
    );
    let on_link = Route {
        gw: None,
        ..routes[3].clone()
    };
    let only_route = Success {
        ips: vec![],
        ..result(&[], &[on_link])
    };
    set_up(&bed, &only_route).unwrap();
    assert_eq!(
        bed.in_pod("ip route show 1.1.6.0/24").trim(),
        "1.1.6.0/24 dev net1 scope link"
    );
}

#[test]
fn the_first_step_that_fails_is_named() {
    let msg = |ips: &[&str], routes: &[Route]| configured(ips, routes).1.unwrap_err();
    let gateway = msg(&["10.77.0.2/24"], &[via("0.0.0.0/0", "1.2.3.4")]);
    assert_eq!(
        gateway.msg,
        "failed to add route '0.0.0.0/0 via 1.2.3.4 dev net1': network is unreachable: Nexthop has invalid gateway"
    );
    let twice = msg(
        &["10.77.0.2/24 10.77.0.1"],
        &[route("1.1.1.0/24"), route("1.1.1.0/24")],
    );
    assert!(
        twice
            .msg
            .starts_with("failed to add route '1.1.1.0/24 via 10.77.0.1"),
        "{twice}"
    );
    assert!(twice.is(Errno::EEXIST), "{twice}");
    let address = msg(&["10.77.0.2/24", "10.77.0.2/24"], &[]);
    assert!(
        address
            .msg
            .starts_with(r#"failed to add IP addr 10.77.0.2/24 to "net1": file exists"#),
        "{address}"
    );
    let families = msg(&["10.77.0.2/24"], &[via("fd01::/64", "10.77.0.1")]);
    assert!(
        families.msg.ends_with("not the same IP family"),
        "{families}"
    );
}

#[test]
fn addresses_belong_to_interfaces() {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    let mut other = result(&["10.77.0.2/24", "10.77.0.3/24"], &[]);
    other.ips[0].interface = None;
    set_up(&bed, &other).unwrap();
    let addresses = bed.in_pod("ip -4 -o addr show net1");
    assert!(!addresses.contains("10.77.0.2/24") && addresses.contains("10.77.0.3/24"));
    other.ips[0].interface = Some(1);
    let error = set_up(&bed, &other).unwrap_err();
    let expected = r#"failed to add IP addr 10.77.0.2/24 to "net1": invalid interface index"#;
    assert_eq!(error.msg, expected);
    other.interfaces.clear();
    assert_eq!(
        set_up(&bed, &other).unwrap_err().msg,
        "no interfaces to configure"
    );
}

#[test]
fn ipv6_is_switched_on_and_waited_for() {
    let bed = Bed::new();
    bed.in_pod("sysctl -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1");
    bed.macvlan("net1").unwrap();
    let started = Instant::now();
    let dual = result(
        &["10.77.0.2/24 10.77.0.1", "fd00:77::2/64 fd00:77::1"],
        &[route("::/0"), route("0.0.0.0/0")],
    );
    set_up(&bed, &dual).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    let addresses = bed.in_pod("ip -6 -o addr show net1");
    assert!(
        addresses.contains("fd00:77::2/64 scope global"),
        "{addresses}"
    );
    assert!(!addresses.contains("tentative"), "{addresses}");
    let routes = bed.in_pod("ip -6 route show default");
    assert!(
        routes.starts_with("default via fd00:77::1 dev net1"),
        "{routes}"
    );
    for key in ["lo.disable_ipv6", "net1.disable_ipv6"] {
        assert_eq!(bed.in_pod(&format!("sysctl -n net.ipv6.conf.{key}")), "0\n");
    }
    let keep = bed.in_pod("sysctl -n net.ipv6.conf.net1.keep_addr_on_down");
    assert_eq!(keep, "1\n");
}

#[test]
fn without_gateway_or_carrier_nothing_is_waited_for() {
    let started = Instant::now();
    let (bed, outcome) = configured(&["fd00:77::2/64"], &[route("fd00:88::/64")]);
    outcome.unwrap();
    assert!(bed.in_pod("ip -6 -o addr show net1").contains("tentative"));
    let bed = Bed::new();
    run("ip link set m0peer down");
    bed.macvlan("net1").unwrap();
    set_up(
        &bed,
        &result(&["fd00:77::2/64 fd00:77::1"], &[route("::/0")]),
    )
    .unwrap();
    assert!(bed.in_pod("ip -6 -o addr show net1").contains("tentative"));
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn an_address_that_another_host_has() {
    let bed = Bed::new();
    run("ip -6 addr add fd00:77::2/64 dev m0peer nodad");
    bed.macvlan("net1").unwrap();
    let error = set_up(&bed, &result(&["fd00:77::2/64 fd00:77::1"], &[])).unwrap_err();
    assert_eq!(
        error.msg,
        r#"failed to settle addresses for "net1": link net1 has address fd00:77::2 in DADFAILED state"#
    );
}

#[test]
fn a_detection_that_takes_too_long() {
    let bed = Bed::new();
    bed.in_pod("sysctl -w net.ipv6.conf.default.dad_transmits=30");
    bed.macvlan("net1").unwrap();
    let started = Instant::now();
    let error = set_up(&bed, &result(&["fd00:77::2/64 fd00:77::1"], &[])).unwrap_err();
    assert_eq!(
        error.msg,
        r#"failed to settle addresses for "net1": link net1 still has tentative addresses after 5 seconds"#
    );
    let took = started.elapsed();
    assert!((5..7).contains(&took.as_secs()), "{took:?}");
}
