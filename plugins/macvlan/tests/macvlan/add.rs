//! ADD: results in every version's shape, and nothing left when it fails.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bed::run;
use crate::plugin::{ADDRESS, IPAM, Plugin, conf, versioned};

#[test]
fn every_version_has_its_shape() {
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let plugin = Plugin::new().ipam(ADDRESS);
        let result = plugin.ok("ADD", &versioned(version, IPAM));
        let mac = cni::text::format_mac(&plugin.bed.link("net1").unwrap().mac);
        let interfaces = json!([{"name": "net1", "mac": mac, "sandbox": plugin.netns}]);
        let dns = json!({"nameservers": ["10.77.0.53"]});
        let routes = json!([{"dst": "0.0.0.0/0"}]);
        let ip = json!({"interface": 0, "address": "10.77.0.2/24", "gateway": "10.77.0.1"});
        let expected = match version {
            "0.1.0" | "0.2.0" => json!({
                "cniVersion": version,
                "ip4": {"ip": "10.77.0.2/24", "gateway": "10.77.0.1", "routes": routes},
                "dns": dns,
            }),
            "0.3.0" | "0.3.1" | "0.4.0" => {
                let mut ip = ip;
                ip["version"] = json!("4");
                json!({"cniVersion": version, "interfaces": interfaces, "ips": [ip], "routes": routes, "dns": dns})
            }
            _ => {
                json!({"cniVersion": version, "interfaces": interfaces, "ips": [ip], "routes": routes, "dns": dns})
            }
        };
        assert_eq!(result, expected);
        assert_eq!(plugin.calls(), ["ADD link"]);
    }
}

#[test]
fn the_interface_is_as_configured() {
    let plugin = Plugin::new().ipam(ADDRESS);
    let members = r#""mode":"vepa","MTU":1400,"bcqueuelen":77,"mac":"02:00:00:00:00:01","dns":{"domain":"d"},"#;
    let result = plugin.ok("ADD", &conf(&format!("{members}{IPAM}")));
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:01");
    assert_eq!(
        result["dns"],
        json!({"domain": "d"}),
        "the configuration's goes before IPAM's"
    );
    let shown = plugin.bed.in_pod("ip -d addr show net1");
    for text in [
        "mode vepa",
        "mtu 1400",
        "bcqueuelen 77",
        "10.77.0.2/24 brd 10.77.0.255",
        "UP,LOWER_UP",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(
        plugin.bed.in_pod("ip route show default"),
        "default via 10.77.0.1 dev net1 \n"
    );
    assert_eq!(
        plugin.bed.in_pod("sysctl -n net.ipv4.conf.net1.arp_notify"),
        "1\n"
    );
    assert!(
        plugin.ipam_stdin().contains(members),
        "IPAM gets the very bytes"
    );
}

#[test]
fn without_ipam_the_link_is_up_and_has_no_addresses() {
    for members in [
        "",
        r#""ipam":{}"#,
        r#""ipam":null"#,
        r#""ipam":{"type":""}"#,
    ] {
        let plugin = Plugin::new();
        let result = plugin.ok("ADD", &conf(members));
        assert_eq!(result.as_object().unwrap().len(), 2, "{result}");
        assert_eq!(result["interfaces"][0]["name"], "net1");
        assert!(plugin.bed.link("net1").unwrap().is_up);
        assert_eq!(
            plugin.bed.in_pod("sysctl -n net.ipv4.conf.net1.arp_notify"),
            "0\n"
        );
    }
    let plugin = Plugin::new();
    assert_eq!(plugin.ok("ADD", &versioned("0.3.1", ""))["dns"], json!({}));
}

#[test]
fn a_result_without_form_in_the_version_is_rolled_back() {
    let plugin = Plugin::new();
    let (_, msg) = plugin.error("ADD", &versioned("0.2.0", ""));
    assert_eq!(msg, "cannot convert: no valid IP addresses");
    assert!(!plugin.has_link());
}

#[test]
fn a_repeated_add_leaves_the_first_alone() {
    let plugin = Plugin::new().ipam(ADDRESS);
    plugin.ok("ADD", &conf(IPAM));
    let state = || {
        (
            plugin.bed.link("net1"),
            plugin.bed.in_pod("ip -4 -o addr show net1"),
        )
    };
    let first = state();
    let (code, msg) = plugin.error("ADD", &conf(IPAM));
    assert_eq!(
        (code, msg.as_str()),
        (999, r#"failed to create macvlan: "net1": file exists"#)
    );
    assert_eq!(state(), first);
    assert_eq!(plugin.calls(), ["ADD link"], "IPAM is not asked");
}

#[test]
fn what_fails_leaves_nothing() {
    let bad_route = ADDRESS.replace(
        r#""dst":"0.0.0.0/0""#,
        r#""dst":"0.0.0.0/0","gw":"1.2.3.4""#,
    );
    let exhausted = r#"echo '{"code":11,"msg":"try later","details":"d"}'; exit 1"#;
    for (script, code, text, calls) in [
        (exhausted, 11, "try later", &["ADD link", "DEL link"][..]),
        (
            "exit 3",
            999,
            "netplugin failed with no error message",
            &["ADD link", "DEL link"],
        ),
        (
            "echo '{}'",
            999,
            "IPAM plugin returned missing IP config",
            &["ADD link", "DEL link"],
        ),
        (
            &bad_route,
            999,
            "failed to add route '0.0.0.0/0 via 1.2.3.4 dev net1': network is unreachable",
            &["ADD link", "DEL nolink"],
        ),
    ] {
        let plugin = Plugin::new().ipam(script);
        let error = plugin.error("ADD", &conf(IPAM));
        assert!(error.0 == code && error.1.starts_with(text), "{error:?}");
        assert_eq!(plugin.calls(), calls);
        assert!(!plugin.has_link());
    }
}

#[test]
fn what_can_not_be_done_is_told_before_anything_is_done() {
    let not_there = r#""ipam":{"type":"nosuch"}"#;
    for (members, code, text) in [
        (
            r#""mode":"brigde""#,
            7,
            r#"unknown macvlan mode: "brigde", must be one of private, vepa, bridge, passthru"#,
        ),
        (
            r#""mtu":9000"#,
            7,
            "invalid MTU 9000, must be [0, master MTU(1500)]",
        ),
        (
            r#""mtu":-1"#,
            7,
            "invalid MTU -1, must be [0, master MTU(1500)]",
        ),
        (
            r#""mtu":20"#,
            999,
            "failed to create macvlan: invalid argument",
        ),
        (
            r#""mac":"zz""#,
            7,
            "invalid args zz for MAC addr: address zz: invalid MAC address",
        ),
        (
            r#""mac":"01:00:00:00:00:01""#,
            999,
            "failed to create macvlan: cannot assign requested address",
        ),
        (
            r#""mac":"02:00:00:00:00:00:00:01""#,
            999,
            "failed to create macvlan: invalid argument",
        ),
        (
            r#""master":"nosuch""#,
            999,
            r#"failed to lookup master "nosuch": Link not found"#,
        ),
        (r#""master":"""#, 999, "no default route interface found"),
        (
            r#""linkInContainer":true"#,
            999,
            r#"failed to lookup master "m0": Link not found"#,
        ),
        (r#""mtu":"1400""#, 6, "failed to load netconf"),
        (
            not_there,
            999,
            r#"failed to find plugin "nosuch" in path [/nowhere "#,
        ),
    ] {
        let plugin = Plugin::new().ipam(ADDRESS);
        let error = plugin.error("ADD", &conf(members));
        assert!(
            error.0 == code && error.1.starts_with(text),
            "{members}: {error:?}"
        );
        assert!(!plugin.has_link());
        assert!(plugin.calls().is_empty());
    }
}

#[test]
fn a_namespace_that_is_none() {
    let mut plugin = Plugin::new();
    for (netns, text) in [
        ("/nowhere", "no such file or directory"),
        ("/etc/passwd", "unknown FS magic"),
    ] {
        plugin.netns = netns.into();
        let (code, msg) = plugin.error("ADD", &conf(""));
        assert_eq!(code, 4);
        assert!(
            msg.starts_with("failed to open netns") && msg.contains(text),
            "{msg}"
        );
    }
}

#[test]
fn the_default_route_names_the_master() {
    let plugin = Plugin::new();
    run("ip addr add 10.0.0.2/24 dev m0");
    run("ip route add default via 10.0.0.1");
    plugin.ok("ADD", &conf(r#""master":"""#));
    assert_eq!(plugin.bed.link("net1").unwrap().kind, "macvlan");
}

#[test]
fn the_master_may_be_in_the_pod() {
    let plugin = Plugin::new().ipam(ADDRESS);
    for command in [
        "ip link add p0 type veth peer name p0peer",
        "ip link set p0 up",
        "ip link set p0peer up",
    ] {
        plugin.bed.in_pod(command);
    }
    let members = format!(r#""master":"p0","linkInContainer":true,{IPAM}"#);
    let result = plugin.ok("ADD", &conf(&members));
    assert_eq!(result["interfaces"][0]["sandbox"], plugin.netns.as_str());
    let master = plugin.bed.link("p0").unwrap().index;
    assert_eq!(plugin.bed.link("net1").unwrap().master, master);
    plugin.ok("CHECK", &plugin.with_prev(&conf(&members), &result));
    plugin.error("ADD", &conf(&members));
    plugin.ok("DEL", &conf(&members));
    assert!(!plugin.has_link());
    plugin.bed.in_pod("ip addr add 10.1.0.2/24 dev p0");
    plugin.bed.in_pod("ip route add default via 10.1.0.1");
    plugin.ok("ADD", &conf(&members.replace("p0", "")));
    assert_eq!(plugin.bed.link("net1").unwrap().master, master);
}

#[test]
fn the_arguments_of_the_runtime() {
    let mut plugin = Plugin::new();
    plugin.args = "IgnoreUnknown=1;K8S_POD_NAME=x;MAC=02:00:00:00:00:07".into();
    let result = plugin.ok("ADD", &conf(r#""mac":"02:00:00:00:00:01""#));
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:07");
    plugin.args = "K8S_POD_NAME=x".into();
    let (code, msg) = plugin.error("ADD", &conf(""));
    assert_eq!(
        (code, msg.as_str()),
        (4, r#"ARGS: unknown args ["K8S_POD_NAME=x"]"#)
    );
    plugin.ok("DEL", &conf(""));
    assert!(!plugin.has_link(), "DEL does not look at them");
}

#[test]
fn nobody_reads_the_result() {
    let plugin = Plugin::new().ipam(ADDRESS);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = plugin.start("ADD", &conf(IPAM), Stdio::from(writer));
    assert!(!child.wait_with_output().unwrap().status.success());
    assert!(!plugin.has_link());
    assert_eq!(plugin.calls(), ["ADD link", "DEL nolink"]);
}

#[test]
fn killed_while_ipam_works() {
    let plugin = Plugin::new().ipam("exec sleep 30");
    let mut child = plugin.start("ADD", &conf(IPAM), Stdio::null());
    let deadline = Instant::now() + Duration::from_secs(10);
    while plugin.calls().is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(5));
    }
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    child.wait().unwrap();
    let links = plugin.bed.in_pod("ip -o link");
    assert_eq!(
        links.lines().count(),
        2,
        "lo and net1, under its own name: {links}"
    );
    assert!(plugin.has_link());
    plugin.ok("DEL", &conf(IPAM));
    assert!(!plugin.has_link());
}

#[test]
fn an_ipam_plugin_that_hangs_is_ended() {
    let plugin = Plugin::new().ipam("sleep 1000");
    let conf = conf(&format!(r#"{IPAM},"timeouts":{{"delegate":0.5}}"#));
    let (code, msg) = plugin.error("ADD", &conf);
    assert_eq!(code, 11, "{msg}");
    assert!(
        msg.contains("/ipam ADD did not answer within 500ms"),
        "{msg}"
    );
    assert_eq!(plugin.calls(), ["ADD link", "DEL link"]);
    assert!(!plugin.has_link());
}

#[test]
fn typing_errors_are_pointed_out() {
    let plugin = Plugin::new();
    let answer = plugin.run("ADD", &conf(r#""mtus":1400,"vlan":5"#));
    assert!(
        answer.succeeded && answer.stderr.contains(r#""mtus""#),
        "{answer:?}"
    );
    assert!(!answer.stderr.contains("\"vlan\""), "{answer:?}");
}
