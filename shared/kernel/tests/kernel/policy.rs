//! Addresses without duplicate address detection, policy routing, and segments of the host's network.

use cni::text::{parse_cidr, parse_ip};
use ipnetwork::IpNetwork;
use kernel::{Error, Rtnl, Rule};
use nix::errno::Errno;

use crate::bed::{Bed, run};
use crate::configure::route;

fn net(text: &str) -> IpNetwork {
    parse_cidr(text).unwrap()
}

#[test]
fn addresses_are_usable_at_once() {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    let addresses = [net("10.2.157.1/27"), net("fd00::1/64")];
    bed.pod(|rtnl| {
        let link = rtnl.link("net1")?;
        rtnl.assign(&link, &addresses)?;
        // A second time, as over what a delegate has made.
        rtnl.assign(&link, &addresses)
    })
    .unwrap();
    let shown = bed.in_pod("ip -o addr show net1");
    assert!(
        shown.contains("inet 10.2.157.1/27 brd 10.2.157.31 scope global net1"),
        "{shown}"
    );
    let v6 = shown
        .lines()
        .find(|line| line.contains("fd00::1/64"))
        .unwrap();
    assert!(v6.contains("nodad") && !v6.contains("tentative"), "{v6}");
    assert!(bed.link("net1").unwrap().is_up);
}

#[test]
fn an_address_that_is_refused_is_named() {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    let refused = bed.pod(|rtnl| {
        let mut link = rtnl.link("net1")?;
        link.index += 1000;
        rtnl.assign(&link, &[net("10.0.0.1/24")])
    });
    let error = refused.unwrap_err();
    assert!(
        error
            .msg
            .starts_with(r#"failed to add IP addr 10.0.0.1/24 to "net1""#),
        "{error}"
    );
}

#[test]
fn packets_from_an_address_take_routes_of_their_own() {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    let rules = [("10.2.157.1/27", 107), ("fd00::1/64", 1000)];
    let rules = rules.map(|(from, table)| Rule {
        from: net(from),
        table,
    });
    let mut private = route("10.9.0.0/16");
    private.gw = parse_ip("10.2.157.30").ok();
    private.table = Some(107);
    let routes = [private.clone(), private];
    let added = bed.pod(|rtnl| {
        let link = rtnl.link("net1")?;
        rtnl.assign(&link, &rules.map(|rule| rule.from))?;
        for rule in rules {
            rtnl.add_rule(rule)?;
        }
        let found = [rtnl.rules(false)?, rtnl.rules(true)?].concat();
        let network = |rule: Rule| Rule {
            from: IpNetwork::new(rule.from.network(), rule.from.prefix()).unwrap(),
            ..rule
        };
        assert_eq!(found, rules.map(network));
        Ok(rtnl.add_routes(&link, &routes))
    });
    let (place, error) = added.unwrap().unwrap_err();
    assert_eq!(
        (place, error.errno),
        (1, Some(Errno::EEXIST)),
        "the second one is the first one"
    );
    assert!(
        bed.in_pod("ip rule")
            .contains("32765:\tfrom 10.2.157.0/27 lookup 107")
    );
    assert!(
        bed.in_pod("ip -6 rule")
            .contains("from fd00::/64 lookup 1000")
    );
    let table = bed.in_pod("ip route show table 107");
    assert!(
        table.contains("10.9.0.0/16 via 10.2.157.30 dev net1"),
        "{table}"
    );
}

#[test]
fn a_vxlan_on_a_link_that_has_an_address() {
    let _bed = Bed::new();
    let mut rtnl = Rtnl::open().unwrap();
    let parent = rtnl.link("m0").unwrap();
    assert_eq!(
        rtnl.global_address(&parent).unwrap(),
        None,
        "fe80:: is only for the link"
    );
    run("ip addr add 192.0.2.1/24 dev m0");
    let local = rtnl.global_address(&parent).unwrap().unwrap();
    assert_eq!(local.to_string(), "192.0.2.1");
    rtnl.create_vxlan("vx_oam", &parent, 600, local).unwrap();
    let shown = run("ip -d link show vx_oam");
    for part in [
        "vxlan id 600",
        "group 239.0.2.88",
        "local 192.0.2.1",
        "dev m0",
        "dstport 4789",
        "l2miss",
        "l3miss",
        ",UP",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let again = rtnl
        .create_vxlan("vx_oam", &parent, 600, local)
        .unwrap_err();
    assert!(again.is(Errno::EEXIST), "{again}");
    let _: Error = again;
}
