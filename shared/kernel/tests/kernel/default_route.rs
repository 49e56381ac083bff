//! One default route for a pod on several networks.

use std::net::IpAddr;

use kernel::Rtnl;

use crate::bed::Bed;

fn bed() -> Bed {
    let bed = Bed::new();
    for (name, net) in [("eth0", 1), ("net1", 2)] {
        bed.in_pod(&format!("ip link add {name} type veth peer name {name}p"));
        bed.in_pod(&format!("ip link set {name}p up"));
        bed.in_pod(&format!("ip link set {name} up"));
        bed.in_pod(&format!("ip addr add 10.0.{net}.2/24 dev {name}"));
        bed.in_pod(&format!("ip addr add fd0{net}::2/64 dev {name} nodad"));
    }
    bed.in_pod("ip route add default via 10.0.1.1 dev eth0");
    bed.in_pod("ip -6 route add default via fd01::1 dev eth0");
    bed
}

fn defaults(bed: &Bed) -> Vec<String> {
    let text = bed.in_pod("ip route show default") + &bed.in_pod("ip -6 route show default");
    let hop = |line: &str| {
        line.split_whitespace()
            .take(5)
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(hop).collect()
}

fn replace(bed: &Bed, name: &str, gateway: &str) -> Result<(), kernel::Error> {
    let gateway: IpAddr = gateway.parse().unwrap();
    bed.pod(|rtnl: &mut Rtnl| rtnl.replace_default_route(name, gateway))
}

#[test]
fn a_gateway_takes_the_place_of_all_defaults_of_its_family() {
    let bed = bed();
    bed.in_pod("ip route add default via 10.0.2.9 dev net1 metric 50");
    bed.in_pod("ip route append default via 10.0.1.7 dev eth0");
    replace(&bed, "net1", "10.0.2.1").unwrap();
    replace(&bed, "net1", "10.0.2.1").unwrap();
    assert_eq!(
        defaults(&bed),
        [
            "default via 10.0.2.1 dev net1",
            "default via fd01::1 dev eth0"
        ]
    );
    replace(&bed, "net1", "fd02::1").unwrap();
    assert_eq!(
        defaults(&bed),
        [
            "default via 10.0.2.1 dev net1",
            "default via fd02::1 dev net1"
        ]
    );
}

#[test]
fn a_route_with_several_ways_goes_too() {
    let bed = bed();
    bed.in_pod(
        "ip route replace default nexthop via 10.0.1.1 dev eth0 nexthop via 10.0.2.9 dev net1",
    );
    replace(&bed, "net1", "10.0.2.1").unwrap();
    assert_eq!(
        defaults(&bed).first().unwrap(),
        "default via 10.0.2.1 dev net1"
    );
}

#[test]
fn a_networks_own_default_is_kept() {
    let bed = bed();
    bed.in_pod("ip route append default via 10.0.2.1 dev net1");
    bed.pod(|rtnl| rtnl.keep_default_route("net1", false))
        .unwrap();
    assert_eq!(
        defaults(&bed),
        [
            "default via 10.0.2.1 dev net1",
            "default via fd01::1 dev eth0"
        ]
    );
}

/// Two networks with a default route each: IPv6 makes one route of them, and IPv4 if somebody asks for it.
#[test]
fn of_a_route_with_several_ways_the_networks_own_is_kept() {
    let bed = bed();
    bed.in_pod("ip -6 route append default via fd02::1 dev net1");
    bed.in_pod(
        "ip route replace default metric 7 nexthop via 10.0.1.1 dev eth0 nexthop via 10.0.2.9 dev net1",
    );
    for is_v6 in [false, true] {
        bed.pod(|rtnl| rtnl.keep_default_route("net1", is_v6))
            .unwrap();
    }
    assert_eq!(
        defaults(&bed),
        [
            "default via 10.0.2.9 dev net1",
            "default via fd02::1 dev net1"
        ]
    );
    assert!(bed.in_pod("ip route show default").contains("metric 7"));
}

#[test]
fn a_gateway_out_of_reach_is_told() {
    let bed = bed();
    let error = replace(&bed, "net1", "192.0.2.1").unwrap_err();
    assert!(error.msg.starts_with("failed to add route"), "{error}");
    let before = defaults(&bed);
    assert!(replace(&bed, "gone", "10.0.2.1").is_err());
    assert_eq!(defaults(&bed), before);
}
