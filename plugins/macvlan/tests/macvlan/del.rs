//! DEL and GC: everything that can be done is done.

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::bed::run;
use crate::plugin::{ADDRESS, IPAM, Plugin, conf, versioned};

#[test]
fn the_address_is_free_when_the_link_is_gone() {
    let plugin = Plugin::new().ipam(ADDRESS);
    plugin.ok("ADD", &conf(IPAM));
    plugin.ok("DEL", &conf(IPAM));
    plugin.ok("DEL", &conf(IPAM));
    assert!(!plugin.has_link());
    assert_eq!(plugin.calls(), ["ADD link", "DEL nolink", "DEL nolink"]);
}

#[test]
fn a_dhcp_lease_is_given_back_over_the_link() {
    let plugin = Plugin::new().script("dhcp", ADDRESS);
    let dhcp = conf(r#""ipam":{"type":"dhcp"}"#);
    plugin.ok("ADD", &dhcp);
    plugin.ok("DEL", &dhcp);
    assert_eq!(plugin.calls(), ["ADD link", "DEL link"]);
    assert!(!plugin.has_link());
}

#[test]
fn nothing_that_only_add_needs_is_asked_for() {
    let plugin = Plugin::new().ipam(ADDRESS);
    plugin.ok("ADD", &conf(IPAM));
    run("ip link del m0");
    let members =
        format!(r#""mode":"brigde","mtu":-9,"mac":"zz","master":"gone","prevResult":5,{IPAM}"#);
    plugin.ok("DEL", &versioned("0.3.1", &members));
    assert_eq!(plugin.calls(), ["ADD link", "DEL nolink"]);
}

#[test]
fn a_namespace_that_is_gone_is_no_failure() {
    let mut plugin = Plugin::new().ipam(ADDRESS);
    for netns in ["", "/nowhere", "/etc/passwd"] {
        plugin.netns = netns.into();
        plugin.ok("DEL", &conf(IPAM));
    }
    assert_eq!(
        plugin.calls().len(),
        3,
        "the lease is given back all the same"
    );
}

#[test]
fn every_failure_is_told_and_stops_nothing() {
    let plugin = Plugin::new()
        .ipam(ADDRESS)
        .failing("DEL", r#"{"code":11,"msg":"try later","details":"d"}"#);
    plugin.ok("ADD", &conf(IPAM));
    let (code, msg) = plugin.error("DEL", &conf(IPAM));
    assert!(code == 11 && msg.contains("try later"), "{code} {msg}");
    assert!(!plugin.has_link());
    let (_, msg) = plugin.error("DEL", &conf(r#""ipam":{"type":"nosuch"}"#));
    assert!(msg.contains(r#"failed to find plugin "nosuch""#), "{msg}");
    let mut plugin = plugin;
    let mounts = File::open("/proc/self/ns/mnt").unwrap();
    plugin.netns = format!("/proc/{}/fd/{}", std::process::id(), mounts.as_raw_fd());
    let (_, msg) = plugin.error("DEL", &conf(IPAM));
    assert!(
        msg.contains("namespace") && msg.contains("try later"),
        "{msg}"
    );
}

#[test]
fn a_missing_ipam_plugin_does_not_keep_the_link() {
    let plugin = Plugin::new();
    plugin.ok("ADD", &conf(""));
    let (_, msg) = plugin.error("DEL", &conf(r#""ipam":{"type":"nosuch"}"#));
    assert!(
        msg.starts_with(r#"failed to find plugin "nosuch" in path"#),
        "{msg}"
    );
    assert!(!plugin.has_link());
}

#[test]
fn gc_is_for_ipam() {
    let plugin = Plugin::new().ipam(ADDRESS);
    let attachments = r#""cni.dev/valid-attachments":[{"containerID":"c1","ifname":"net1"}]"#;
    plugin.ok("GC", &conf(&format!("{attachments},{IPAM}")));
    assert_eq!(plugin.calls().len(), 1);
    assert!(plugin.calls()[0].starts_with("GC"));
    assert!(plugin.ipam_stdin().contains(attachments));
    plugin.ok("GC", &conf(attachments));
    assert_eq!(plugin.calls().len(), 1, "no IPAM, nothing to do");
}
