//! CHECK: the attachment as ADD left it passes, anything else is told.

use serde_json::{Value, json};

use crate::bed::run;
use crate::plugin::{ADDRESS, IPAM, Plugin, conf, versioned};

fn added() -> (Plugin, Value) {
    let plugin = Plugin::new().ipam(ADDRESS);
    let result = plugin.ok("ADD", &conf(IPAM));
    (plugin, result)
}

#[test]
fn what_add_made_passes() {
    let (plugin, result) = added();
    plugin.ok("CHECK", &plugin.with_prev(&conf(IPAM), &result));
    assert_eq!(plugin.calls(), ["ADD link", "CHECK link"]);
    let members = format!(r#""master":"","mtu":1500,{IPAM}"#);
    plugin.ok("CHECK", &plugin.with_prev(&conf(&members), &result));
    let plugin = Plugin::new();
    let result = plugin.ok("ADD", &versioned("0.4.0", ""));
    plugin.ok("CHECK", &plugin.with_prev(&versioned("0.4.0", ""), &result));
}

#[test]
fn what_differs_from_the_configuration() {
    for (members, text) in [
        (
            r#""mode":"vepa""#,
            "container macvlan mode bridge does not match expected value: vepa",
        ),
        (r#""mode":"xx""#, r#"unknown macvlan mode: "xx""#),
        (
            r#""mtu":1400"#,
            "interface net1 has MTU 1500, the configuration says 1400",
        ),
        (
            r#""master":"m0peer""#,
            r#"interface net1 is not on master "m0peer""#,
        ),
        (
            r#""master":"gone""#,
            r#"failed to lookup master "gone": Link not found"#,
        ),
    ] {
        let (plugin, result) = added();
        let members = format!("{members},{IPAM}");
        let (_, msg) = plugin.error("CHECK", &plugin.with_prev(&conf(&members), &result));
        assert!(msg.starts_with(text), "{msg}");
    }
}

#[test]
fn what_differs_from_the_result() {
    for (command, text) in [
        (
            "ip link del net1",
            "container Interface name in prevResult: net1 not found",
        ),
        (
            "ip link set net1 address 02:00:00:00:00:09",
            "interface net1 Mac ",
        ),
        (
            "ip addr flush dev net1",
            "Failed to match addr 10.77.0.2/24 on interface net1",
        ),
        (
            "ip route del default",
            "Expected Route 0.0.0.0/0 dev net1 not found in routing table",
        ),
        ("ip link set net1 down", "interface net1 is down"),
    ] {
        let (plugin, result) = added();
        plugin.bed.in_pod(command);
        let (code, msg) = plugin.error("CHECK", &plugin.with_prev(&conf(IPAM), &result));
        assert!(code == 999 && msg.starts_with(text), "{command}: {msg}");
    }
}

#[test]
fn requests_that_can_not_be_answered() {
    let (mut plugin, result) = added();
    let (code, msg) = plugin.error("CHECK", &conf(IPAM));
    assert_eq!((code, msg.as_str()), (7, "required prevResult missing"));
    let empty = json!({"cniVersion": "1.1.0"});
    let (_, msg) = plugin.error("CHECK", &plugin.with_prev(&conf(IPAM), &empty));
    assert_eq!(msg, "container interface name missing in prevResult: net1");
    plugin.netns = "/nowhere".into();
    let (code, _) = plugin.error("CHECK", &plugin.with_prev(&conf(IPAM), &result));
    assert_eq!(code, 4);
}

#[test]
fn ipam_has_its_say() {
    let plugin = Plugin::new()
        .ipam(ADDRESS)
        .failing("CHECK", r#"{"code":999,"msg":"not reserved"}"#);
    let result = plugin.ok("ADD", &conf(IPAM));
    let (_, msg) = plugin.error("CHECK", &plugin.with_prev(&conf(IPAM), &result));
    assert_eq!(msg, "not reserved");
}

#[test]
fn a_master_that_was_replaced() {
    let (plugin, result) = added();
    run("ip link add m1 type veth peer name m1peer");
    run("ip link set m0 down");
    run("ip link set m0 name old");
    run("ip link set m1 name m0");
    let (_, msg) = plugin.error("CHECK", &plugin.with_prev(&conf(IPAM), &result));
    assert_eq!(msg, r#"interface net1 is not on master "m0""#);
}
