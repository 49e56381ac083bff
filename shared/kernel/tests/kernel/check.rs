//! CHECK's comparisons: what must be found, and what is no fault.

use cni::{Interface, Route, Success};
use kernel::{Error, Expected};

use crate::bed::{Bed, run};
use crate::configure::{result, route, set_up};

/// A pod that was set up with `result`.
struct Checked {
    bed: Bed,
    result: Success,
}

impl Checked {
    fn new(ips: &[&str], routes: &[Route]) -> Checked {
        Checked::on(Bed::new(), ips, routes)
    }

    fn on(bed: Bed, ips: &[&str], routes: &[Route]) -> Checked {
        bed.macvlan("net1").unwrap();
        let mut result = result(ips, routes);
        set_up(&bed, &result).unwrap();
        result.interfaces[0].sandbox = bed.path.clone();
        Checked { bed, result }
    }

    fn check(&self) -> Result<(), Error> {
        let Bed { pod, path, .. } = &self.bed;
        let expected = Expected::find(&self.result, "net1", pod, path)?;
        self.bed.pod(|rtnl| {
            let link = expected.link(rtnl, "macvlan")?;
            expected.addresses_and_routes(rtnl, &link)
        })
    }

    /// What is said after `command` was run in the pod.
    fn after(&self, command: &str) -> String {
        self.bed.in_pod(command);
        self.check().unwrap_err().msg
    }
}

fn usual() -> Checked {
    Checked::new(&["10.77.0.2/24 10.77.0.1"], &[route("0.0.0.0/0")])
}

#[test]
fn what_is_missing_is_found() {
    usual().check().unwrap();
    for (command, msg) in [
        (
            "ip link del net1",
            "container Interface name in prevResult: net1 not found",
        ),
        ("ip link set net1 down", "interface net1 is down"),
        (
            "ip addr del 10.77.0.2/24 dev net1",
            "Failed to match addr 10.77.0.2/24 on interface net1",
        ),
        (
            "ip route del default",
            "Expected Route 0.0.0.0/0 dev net1 not found in routing table",
        ),
        (
            "ip route del 10.77.0.0/24",
            "Failed to find Gateway 10.77.0.1 for interface net1: no route to 10.77.0.0/24",
        ),
    ] {
        assert_eq!(usual().after(command), msg, "{command}");
    }
}

#[test]
fn a_link_of_another_kind_or_address() {
    let mut checked = usual();
    checked.result.interfaces[0].mac = "02:00:00:00:00:01".into();
    let error = checked.check().unwrap_err().msg;
    let found = "interface net1 Mac 02:00:00:00:00:01 doesn't match container Mac: ";
    assert!(error.starts_with(found), "{error}");
    // The tuning plugin changes the link and the result.
    checked
        .bed
        .in_pod("ip link set net1 address 02:00:00:00:00:01");
    checked.check().unwrap();
    checked.bed.in_pod("ip link del net1");
    let error = checked.after("ip link add net1 type veth peer name net1peer");
    assert_eq!(error, "error: Container interface net1 not of type macvlan");
}

#[test]
fn addresses_alone_in_their_subnet() {
    Checked::new(&["10.77.0.9/32"], &[]).check().unwrap();
    Checked::new(&["10.77.0.9/32 10.77.0.1", "fd00::9/128"], &[])
        .check()
        .unwrap();
    Checked::new(&["10.77.0.8/31 10.77.0.9"], &[])
        .check()
        .unwrap();
    let checked = Checked::new(&["10.77.0.9/32"], &[]);
    assert!(
        checked
            .after("ip addr del 10.77.0.9/32 dev net1")
            .contains("10.77.0.9/32")
    );
}

#[test]
fn routes_are_compared_in_their_table() {
    let routes = [
        Route {
            table: Some(20),
            ..route("1.1.1.0/24")
        },
        Route {
            priority: 50,
            scope: Some(253),
            ..route("1.1.2.0/24")
        },
        Route {
            mtu: 1300,
            table: Some(0),
            ..route("1.1.3.0/24")
        },
    ];
    let new = || Checked::new(&["10.77.0.9/24"], &routes);
    new().check().unwrap();
    for (command, missing) in [
        (
            "ip route del 1.1.1.0/24 table 20",
            "1.1.1.0/24 dev net1 table 20",
        ),
        (
            "ip route change 1.1.2.0/24 dev net1 metric 50 scope global",
            "1.1.2.0/24 dev net1 metric 50 scope 253",
        ),
        (
            "ip route del 1.1.2.0/24",
            "1.1.2.0/24 dev net1 metric 50 scope 253",
        ),
        ("ip route del 1.1.3.0/24", "1.1.3.0/24 dev net1"),
    ] {
        let expected = format!("Expected Route {missing} not found in routing table");
        assert_eq!(new().after(command), expected, "{command}");
    }
    let again = new();
    again
        .bed
        .in_pod("ip route add 1.1.2.0/24 dev net1 metric 51 scope link");
    assert!(
        again
            .after("ip route del 1.1.2.0/24 metric 50")
            .contains("metric 50")
    );
    let moved = new();
    moved
        .bed
        .in_pod("ip route add 1.1.3.0/24 dev net1 table 99");
    let error = moved.after("ip route del 1.1.3.0/24");
    assert!(error.contains("1.1.3.0/24"), "main was asked for: {error}");
}

#[test]
fn what_later_plugins_do_is_no_fault() {
    let mut checked = usual();
    for command in [
        "ip addr add 10.99.0.1/24 dev net1",
        "ip route add 9.9.9.0/24 dev net1",
        // What the sbr plugin does.
        "ip route add 10.77.0.0/24 dev net1 table 100",
        "ip route add default via 10.77.0.1 dev net1 table 100",
        "ip route del default",
        "ip route del 10.77.0.0/24",
        "ip link add other type veth peer name otherpeer",
        "ip addr add 192.168.1.1/24 dev other",
        "ip link set other up",
        "ip route add 1.1.1.0/24 dev other",
    ] {
        checked.bed.in_pod(command);
    }
    checked.check().unwrap();
    let sandbox = checked.bed.path.clone();
    let other = result(&["192.168.1.1/24"], &[route("1.1.1.0/24")]);
    checked.result.ips.push(cni::Ip {
        interface: Some(1),
        ..other.ips[0].clone()
    });
    checked.result.routes.extend(other.routes);
    let unnamed = checked.check().unwrap_err().msg;
    assert!(
        unnamed.contains("1.1.1.0/24"),
        "not over a link of the result: {unnamed}"
    );
    checked.result.interfaces.push(Interface {
        name: "other".into(),
        sandbox,
        ..Interface::default()
    });
    checked.check().unwrap();
}

#[test]
fn a_gateway_counts_where_it_was_given() {
    let mut checked = usual();
    checked
        .bed
        .in_pod("ip route replace default via 10.77.0.99 dev net1");
    checked.check().unwrap();
    checked.result.routes[0].gw = checked.result.ips[0].gateway;
    let error = checked.check().unwrap_err().msg;
    assert!(error.contains("0.0.0.0/0 via 10.77.0.1"), "{error}");
}

#[test]
fn ipv6_with_several_next_hops() {
    let checked = Checked::new(&["fd00:77::2/64 fd00:77::1"], &[route("::/0")]);
    checked
        .bed
        .in_pod("ip -6 route append default via fd00:77::5 dev net1");
    checked.check().unwrap();
    let error = checked.after("ip -6 route del default");
    assert!(error.contains("::/0"), "{error}");
}

#[test]
fn a_cable_that_is_out_is_no_fault() {
    let ips = ["10.77.0.2/24 10.77.0.1", "fd00:77::2/64 fd00:77::1"];
    let routes = [route("0.0.0.0/0"), route("::/0")];
    let checked = Checked::new(&ips, &routes);
    run("ip link set m0peer down");
    checked.check().unwrap();
    let bed = Bed::new();
    run("ip link set m0peer down");
    Checked::on(bed, &ips, &routes).check().unwrap();
}

#[test]
fn the_namespace_is_compared_and_not_its_path() {
    let mut checked = usual();
    let pid = std::process::id();
    let other_path = checked
        .bed
        .path
        .replace(&format!("/proc/{pid}/"), "/proc/self/");
    checked.result.interfaces[0].sandbox = other_path;
    checked.check().unwrap();
    let msg = |checked: &Checked| checked.check().unwrap_err().msg;
    checked.result.interfaces[0].sandbox = "/proc/self/ns/net".into();
    assert!(
        msg(&checked).starts_with(
            "sandbox in prevResult /proc/self/ns/net doesn't match configured netns: "
        )
    );
    checked.result.interfaces[0].sandbox = String::new();
    let host = "error: Container interface net1 should not be in host namespace";
    assert_eq!(msg(&checked), host);
    checked.result.interfaces.clear();
    assert_eq!(
        msg(&checked),
        "container interface name missing in prevResult: net1"
    );
}
