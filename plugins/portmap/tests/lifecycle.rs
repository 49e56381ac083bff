//! What runtimes do to a plugin: many at once, in any order, with half of the configuration, and with SIGKILL.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the plugin to kill it"
)]

#[cfg(test)]
mod lab;

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lab::{BACKENDS, Lab, one_port, run};
use serde_json::{Value, json};

/// Rules that exist once, however many attachments there are.
fn shared(rules: &str) -> Vec<&str> {
    let jump = |line: &&str| {
        line.starts_with("-A PREROUTING")
            || line.starts_with("-A OUTPUT")
            || line.starts_with("-A POSTROUTING")
            || line.starts_with("-A CNI-HOSTPORT-MASQ")
            || line.starts_with("-A CNI-HOSTPORT-SETMARK")
            || line.contains("jump")
    };
    rules.lines().map(str::trim).filter(jump).collect()
}

#[test]
fn many_first_containers_at_once() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let confs = lab.confs(backend, 32);
        let (failed, _) = lab.burst(&lab.plugin, "ADD", 8, &confs);
        assert!(failed.is_empty(), "{failed:?}");
        let rules = lab.rules();
        // Two families, with five shared iptables rules or four jumps of nftables each.
        let expected = if backend == "nftables" { 8 } else { 10 };
        assert_eq!(shared(&rules).len(), expected, "{rules}");
        for (n, conf) in confs.iter().enumerate() {
            lab.call("CHECK", &format!("c{n}"), conf).expect_ok();
        }
        let (failed, _) = lab.burst(&lab.plugin, "DEL", 8, &confs);
        assert!(failed.is_empty(), "{failed:?}");
        lab.expect_nothing_left();
    }
}

#[test]
fn one_of_many_gets_the_port() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let mut confs = lab.confs(backend, 8);
        for (n, conf) in confs.iter_mut().enumerate() {
            conf["runtimeConfig"] = json!({"portMappings": one_port()});
            conf["prevResult"]["ips"] =
                json!([{"address": format!("10.77.0.{}/24", 10 + n), "interface": 0}]);
        }
        let (failed, _) = lab.burst(&lab.plugin, "ADD", 8, &confs);
        assert_eq!(failed.len(), 7, "{backend}: {failed:?}");
        assert!(
            failed.iter().all(|answer| answer.contains("\"code\": 7")),
            "{failed:?}"
        );
    }
}

#[test]
fn a_held_port_is_refused_by_name() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let first = lab.conf(backend, one_port(), &["10.77.0.5/24"]);
        let mut second = lab.conf(backend, one_port(), &["10.77.0.6/24"]);
        second["name"] = json!("net2");
        lab.call("ADD", "c1", &first).expect_ok();
        let before = lab.rules();
        let (code, msg) = lab.call("ADD", "c2", &second).error();
        assert_eq!(code, 7);
        for part in ["8080/tcp", "\"c1\"", "\"net1\"", "10.77.0.5:80"] {
            assert!(msg.contains(part), "{part} is not in {msg}");
        }
        assert_eq!(lab.rules(), before, "{backend}: nothing has changed");
        // The order of the two in the chain decides.
        for (wish, winner) in [("first-wins", "10.77.0.5"), ("last-wins", "10.77.0.6")] {
            second["hostPortConflict"] = json!(wish);
            lab.call("ADD", "c2", &second).expect_ok();
            let rules = lab.rules();
            let entry =
                |line: &&str| line.contains("dnat to") || line.starts_with("-A CNI-HOSTPORT-DNAT");
            let first = rules.lines().find(entry).unwrap().to_owned();
            let is_second = first.contains("10.77.0.6") || first.contains("net2");
            assert_eq!(
                is_second,
                winner == "10.77.0.6",
                "{backend} {wish}: {rules}"
            );
            lab.call("CHECK", "c2", &second).expect_ok();
        }
        lab.call("DEL", "c1", &first).expect_ok();
        lab.call("DEL", "c2", &second).expect_ok();
        lab.expect_nothing_left();
    }
}

#[test]
fn del_needs_no_configuration_no_tools_and_no_memory_of_the_backend() {
    // The legacy tables can't be reached without their tools.
    for backend in ["iptables", "nftables"] {
        let mut lab = Lab::new();
        let conf = lab.conf(backend, one_port(), &["10.77.0.5/24", "fd00:77::5/64"]);
        let bare = json!({"cniVersion": "1.0.0", "name": "net1", "type": "portmap"});
        let mut broken = conf.clone();
        broken["prevResult"] = json!({"cniVersion": "9.9.9"});
        let mut other = conf.clone();
        other["backend"] = json!(if backend == "iptables" {
            "nftables"
        } else {
            "iptables"
        });
        let with_tools = lab.path.clone();
        for (del, path) in [
            (&bare, with_tools.as_str()),
            (&broken, ""),
            (&other, ""),
            (&bare, ""),
        ] {
            lab.path = with_tools.clone();
            lab.call("ADD", "c1", &conf).expect_ok();
            lab.path = path.to_owned();
            lab.call("DEL", "c1", del).expect_ok();
            lab.expect_nothing_left();
            lab.call("DEL", "c1", del).expect_ok();
        }
    }
}

#[test]
fn without_ports_nothing_is_looked_at() {
    let mut lab = Lab::new();
    lab.path = String::new();
    for mappings in [json!([]), Value::Null] {
        let mut conf = lab.conf("iptables", mappings, &["10.77.0.5/24"]);
        conf.as_object_mut().unwrap().remove("backend");
        let result = lab.call("ADD", "c1", &conf).expect_ok();
        assert_eq!(result["ips"][0]["address"], "10.77.0.5/24");
        lab.call("CHECK", "c1", &conf).expect_ok();
    }
    assert_eq!(lab.rules(), "");
}

#[test]
fn the_backend_that_nobody_chose() {
    let mut lab = Lab::new();
    let mut conf = lab.conf("iptables", one_port(), &["10.77.0.5/24"]);
    conf.as_object_mut().unwrap().remove("backend");
    lab.call("ADD", "c1", &conf).expect_ok();
    assert!(
        lab.rules().contains("-A CNI-HOSTPORT-DNAT"),
        "iptables where it is"
    );
    lab.call("DEL", "c1", &conf).expect_ok();
    // nftables by netlink, so that no `nft` is needed either.
    let with_tools = std::mem::take(&mut lab.path);
    lab.call("ADD", "c1", &conf).expect_ok();
    assert!(lab.rules().contains("dnat to 10.77.0.5:80"));
    lab.call("CHECK", "c1", &conf).expect_ok();
    let without_tools = std::mem::replace(&mut lab.path, with_tools);
    lab.call("CHECK", "c1", &conf).expect_ok();
    lab.path = without_tools;
    lab.call("DEL", "c1", &conf).expect_ok();
    assert!(!lab.call("CHECK", "c1", &conf).ok);
    conf["backend"] = json!("iptables");
    let (code, msg) = lab.call("ADD", "c1", &conf).error();
    assert_eq!(code, 999);
    assert_eq!(
        msg,
        "failed to open iptables: exec: \"iptables\": executable file not found in $PATH"
    );
    conf["conditionsV4"] = json!(["ip", "ttl", "5"]);
    conf["backend"] = json!("nftables");
    assert_eq!(lab.call("ADD", "c1", &conf).error().0, 7);
    lab.expect_nothing_left();
}

#[test]
fn status_tells_whether_a_mapping_could_be_made() {
    let mut lab = Lab::new();
    let mut conf = json!({"cniVersion": "1.1.0", "name": "net1", "type": "portmap",
        "backend": "iptables", "capabilities": {"portMappings": true}});
    lab.call("STATUS", "", &conf).expect_ok();
    lab.path = String::new();
    assert_eq!(lab.call("STATUS", "", &conf).error().0, 50);
    conf["capabilities"] = json!({});
    lab.call("STATUS", "", &conf).expect_ok();
    conf["backend"] = json!("foo");
    let (code, msg) = lab.call("STATUS", "", &conf).error();
    assert_eq!((code, msg.as_str()), (7, "unrecognized backend \"foo\""));
}

#[test]
fn a_request_that_is_none() {
    let lab = Lab::new();
    let mut conf = lab.conf("nftables", one_port(), &["10.77.0.5/24"]);
    conf.as_object_mut().unwrap().remove("prevResult");
    let (code, msg) = lab.call("ADD", "c1", &conf).error();
    assert_eq!(
        (code, msg.as_str()),
        (7, "must be called as chained plugin")
    );
    assert_eq!(lab.call("CHECK", "c1", &conf).error().0, 7);
    let zero = json!([{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}]);
    let (code, msg) = lab
        .call("ADD", "c1", &lab.conf("nftables", zero, &["10.77.0.5/24"]))
        .error();
    assert_eq!(
        (code, msg.as_str()),
        (7, "failed to parse config: Invalid host port number: 0")
    );
    // The result in the version that was asked for.
    let mut old = lab.conf("nftables", one_port(), &["10.77.0.5/24"]);
    old["cniVersion"] = json!("0.3.1");
    old["prevResult"]["cniVersion"] = json!("0.3.1");
    old["prevResult"]["ips"][0]["version"] = json!("4");
    let result = lab.call("ADD", "c1", &old).expect_ok();
    assert_eq!(result["cniVersion"], "0.3.1");
    assert_eq!(result["ips"][0]["version"], "4");
    lab.call("DEL", "c1", &old).expect_ok();
    lab.expect_nothing_left();
}

#[test]
fn a_result_that_nobody_reads_is_undone() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let conf = lab.conf(backend, one_port(), &["10.77.0.5/24"]).to_string();
        let (plugin, path) = (lab.plugin.clone(), lab.path.clone());
        lab.host.run(move || {
            let mut child = Command::new(plugin)
                .env("PATH", path)
                .env("CNI_COMMAND", "ADD")
                .env("CNI_CONTAINERID", "c1")
                .env("CNI_NETNS", "/nowhere")
                .env("CNI_IFNAME", "eth0")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            child
                .stdin
                .take()
                .unwrap()
                .write_all(conf.as_bytes())
                .unwrap();
            assert!(!child.wait().unwrap().success());
        });
        lab.expect_nothing_left();
    }
}

#[test]
fn killed_at_any_moment_and_deleted() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let conf = lab.conf(backend, one_port(), &["10.77.0.5/24", "fd00:77::5/64"]);
        for step in 0..24 {
            let text = conf.to_string();
            let (plugin, path) = (lab.plugin.clone(), lab.path.clone());
            lab.host.run(move || {
                let mut child = Command::new(plugin)
                    .env("PATH", path)
                    .env("CNI_COMMAND", "ADD")
                    .env("CNI_CONTAINERID", "c1")
                    .env("CNI_NETNS", "/nowhere")
                    .env("CNI_IFNAME", "eth0")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                child
                    .stdin
                    .take()
                    .unwrap()
                    .write_all(text.as_bytes())
                    .unwrap();
                thread::sleep(Duration::from_micros(400 * step));
                // It may have come to its end.
                let _ = child.kill();
                child.wait().unwrap();
            });
            lab.call("DEL", "c1", &conf).expect_ok();
            lab.expect_nothing_left();
        }
        lab.call("ADD", "c1", &conf).expect_ok();
        lab.call("CHECK", "c1", &conf).expect_ok();
    }
}

#[test]
fn two_dels_at_once() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let conf = lab.conf(backend, one_port(), &["10.77.0.5/24"]);
        for _ in 0..8 {
            lab.call("ADD", "c0", &conf).expect_ok();
            let text = conf.to_string();
            let (plugin, path) = (lab.plugin.clone(), lab.path.clone());
            lab.host.run(move || {
                thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| run(&plugin, &path, "DEL", "c0", &text).expect_ok());
                    }
                });
            });
            lab.expect_nothing_left();
        }
    }
}
