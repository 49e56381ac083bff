//! Namespaces and links, on the real kernel.

use std::fs;

use crate::bed::{Bed, macvlan, run};
use kernel::{Kind, MacVlanMode, Netns, NotOpened, Rtnl, default_link};
use nix::errno::Errno;

fn own_namespace() -> std::path::PathBuf {
    fs::read_link("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn work_is_done_inside_and_the_caller_stays_outside() {
    let bed = Bed::new();
    let host = own_namespace();
    let inside = bed.pod.inside(|| Ok::<_, kernel::Error>(own_namespace()));
    assert_ne!(inside.unwrap(), host);
    let refused = bed.pod.inside(|| Err::<(), _>(kernel::Error::new("no")));
    assert_eq!(refused.unwrap_err().msg, "no");
    assert_eq!(own_namespace(), host);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bed.pod
            .inside(|| -> Result<(), kernel::Error> { panic!("a bug") })
    }));
    assert!(panic.is_err(), "a panic goes on in the caller");
    assert_eq!(own_namespace(), host);
}

#[test]
fn a_path_is_a_namespace_or_it_is_gone() {
    let bed = Bed::new();
    assert!(bed.pod.is_at(&bed.path));
    assert!(!bed.pod.is_at("/proc/thread-self/ns/net"));
    assert!(!bed.pod.is_at("/nowhere"));
    for gone in ["/nowhere", "/etc/passwd", "/etc", "/etc/passwd/x"] {
        let error = Netns::open(gone).unwrap_err();
        assert!(error.is_gone(), "{error}");
        assert!(error.to_string().contains(gone), "{error}");
    }
    let file = Netns::open("/etc/passwd").unwrap_err();
    assert!(matches!(file, NotOpened::NotANamespace { .. }));
    assert!(file.to_string().contains("unknown FS magic"), "{file}");
    let too_long = Netns::open(&"x".repeat(5000)).unwrap_err();
    assert!(!too_long.is_gone(), "{too_long}");
    // A namespace, but of mounts.
    let mounts = Netns::open("/proc/self/ns/mnt").unwrap();
    let error = mounts.inside(|| Ok::<_, kernel::Error>(())).unwrap_err();
    assert!(error.is(Errno::EINVAL), "{error}");
}

#[test]
fn a_link_is_made_in_the_pod_as_it_was_asked_for() {
    let bed = Bed::new();
    let mut rtnl = Rtnl::open().unwrap();
    let master = rtnl.link("m0").unwrap();
    assert_eq!(
        (master.mtu, master.is_up, master.has_carrier),
        (1500, true, true)
    );
    let mut child = macvlan("net1", master.index);
    child.mtu = 1400;
    child.mac = Some(&[2, 0, 0, 0, 0, 1]);
    child.kind = Kind::MacVlan {
        mode: MacVlanMode::Vepa,
        bc_queue_len: 77,
    };
    rtnl.create(&child, Some(&bed.pod)).unwrap();
    let link = bed.link("net1").unwrap();
    assert_eq!(
        (link.name.as_str(), link.kind.as_str()),
        ("net1", "macvlan")
    );
    assert_eq!(
        (link.mtu, link.mac.as_slice()),
        (1400, &[2, 0, 0, 0, 0, 1][..])
    );
    assert_eq!((link.master, link.is_up), (master.index, false));
    assert_eq!(link.macvlan_mode, Some(MacVlanMode::Vepa));
    let shown = bed.in_pod("ip -d link show net1");
    assert!(
        shown.contains("mode vepa") && shown.contains("bcqueuelen 77"),
        "{shown}"
    );
    assert!(
        rtnl.link("net1").unwrap_err().is(Errno::ENODEV),
        "nothing on the host"
    );
}

#[test]
fn every_mode() {
    let bed = Bed::new();
    let mut rtnl = Rtnl::open().unwrap();
    let master = rtnl.link("m0").unwrap().index;
    for mode in MacVlanMode::ALL {
        let mut child = macvlan("net1", master);
        child.kind = Kind::MacVlan {
            mode,
            bc_queue_len: 0,
        };
        rtnl.create(&child, Some(&bed.pod)).unwrap();
        assert_eq!(bed.link("net1").unwrap().macvlan_mode, Some(mode));
        let shown = bed.in_pod("ip -d link show net1");
        assert!(
            shown.contains(&format!("mode {}", mode.as_str())),
            "{shown}"
        );
        bed.pod(|rtnl| rtnl.delete("net1")).unwrap();
    }
}

#[test]
fn a_link_of_the_same_name_stays_as_it_is() {
    let bed = Bed::new();
    bed.macvlan("eth0").unwrap();
    let first = bed.link("eth0").unwrap();
    let error = bed.macvlan("eth0").unwrap_err();
    assert!(error.is(Errno::EEXIST), "{error}");
    assert_eq!(error.msg, r#""eth0": file exists"#);
    assert_eq!(bed.link("eth0").unwrap(), first);
}

#[test]
fn the_hosts_link_of_the_same_name_is_not_in_the_way() {
    let bed = Bed::new();
    run("ip link add eth0 type veth peer name eth0peer");
    let mut rtnl = Rtnl::open().unwrap();
    let hosts = rtnl.link("eth0").unwrap();
    bed.macvlan("eth0").unwrap();
    assert_eq!(bed.link("eth0").unwrap().kind, "macvlan");
    assert_eq!(rtnl.link("eth0").unwrap(), hosts, "untouched");
    assert!(bed.macvlan("eth0").unwrap_err().is(Errno::EEXIST));
}

#[test]
fn what_the_kernel_refuses_is_told_with_its_reason() {
    let bed = Bed::new();
    let mut rtnl = Rtnl::open().unwrap();
    let master = rtnl.link("m0").unwrap().index;
    let mut tiny = macvlan("net1", master);
    tiny.mtu = 20;
    let error = rtnl.create(&tiny, Some(&bed.pod)).unwrap_err();
    assert_eq!(error.msg, "invalid argument: mtu less than device minimum");
    let mut multicast = macvlan("net1", master);
    multicast.mac = Some(&[1, 0, 0, 0, 0, 1]);
    let error = rtnl.create(&multicast, Some(&bed.pod)).unwrap_err();
    assert_eq!(error.msg, "cannot assign requested address");
    let nowhere = macvlan("net1", 4711);
    let error = rtnl.create(&nowhere, Some(&bed.pod)).unwrap_err();
    assert!(error.is(Errno::ENODEV), "{error}");
    assert!(bed.link("net1").unwrap_err().is(Errno::ENODEV));
}

#[test]
fn deleting_what_is_not_there_is_success() {
    let bed = Bed::new();
    bed.macvlan("net1").unwrap();
    bed.pod(|rtnl| rtnl.delete("net1")).unwrap();
    assert_eq!(bed.link("net1").unwrap_err().msg, "Link not found");
    bed.pod(|rtnl| rtnl.delete("net1")).unwrap();
    let error = bed.pod(|rtnl| rtnl.delete("lo")).unwrap_err();
    assert!(
        error.msg.starts_with(r#"failed to delete "lo": "#),
        "{error}"
    );
}

#[test]
fn links_have_alternative_names_and_numbers() {
    let _bed = Bed::new();
    run("ip link property add dev m0 altname a-name-of-more-than-15-bytes");
    let mut rtnl = Rtnl::open().unwrap();
    let link = rtnl.link("m0").unwrap();
    assert_eq!(rtnl.link("a-name-of-more-than-15-bytes").unwrap(), link);
    assert_eq!(rtnl.link_at(link.index).unwrap(), link);
    assert_eq!(rtnl.link_at(4711).unwrap_err().msg, "Link not found");
    let missing = rtnl.master(Some("nosuch")).unwrap_err();
    assert_eq!(
        missing.msg,
        r#"failed to lookup master "nosuch": Link not found"#
    );
    run("ip link set m0peer down");
    assert!(!rtnl.link("m0").unwrap().has_carrier);
}

#[test]
fn the_default_route_leads_to_the_master() {
    let _bed = Bed::new();
    let none = "no default route interface found";
    assert_eq!(default_link().unwrap_err().msg, none);
    run("ip addr add 10.0.0.2/24 dev m0");
    run("ip route add default via 10.0.0.1 dev m0 table 99");
    run("ip route add 0.0.0.0/1 via 10.0.0.1 dev m0");
    run("ip route add unreachable default metric 5");
    assert_eq!(default_link().unwrap_err().msg, none, "none of these");
    run("ip -6 addr add fd00::2/64 dev m0peer nodad");
    run("ip -6 route add default via fd00::1 dev m0peer");
    assert_eq!(default_link().unwrap().name, "m0peer", "IPv6 alone");
    run("ip route add default nexthop via 10.0.0.1 dev m0 nexthop via 10.0.0.3 dev m0");
    let master = Rtnl::open().unwrap().master(None).unwrap();
    assert_eq!(master.name, "m0", "IPv4 first, and multipath");
}
