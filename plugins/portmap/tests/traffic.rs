//! Packets go where the mappings say, by both backends.

#[cfg(test)]
mod lab;

use lab::{BACKENDS, Lab};
use serde_json::json;

#[test]
fn from_everywhere_to_the_pod() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        lab.pod.serve("pod", 80);
        let mappings = json!([
            {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
            {"hostPort": 8080, "containerPort": 80, "protocol": "UDP"},
            {"hostPort": 9090, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.2"},
        ]);
        let conf = lab.conf(backend, mappings, &["10.77.0.5/24", "fd00:77::5/64"]);
        assert_eq!(lab.client.ask_tcp("192.0.2.1:8080"), None);
        lab.call("ADD", "c1", &conf).expect_ok();

        let pod_sees = |who: &str| Some(format!("pod {who}"));
        let client = &lab.client;
        assert_eq!(
            client.ask_tcp("192.0.2.1:8080"),
            pod_sees("192.0.2.9"),
            "{backend}"
        );
        assert_eq!(
            client.ask_udp(0, "192.0.2.1:8080"),
            pod_sees("192.0.2.9"),
            "{backend}"
        );
        assert_eq!(
            client.ask_tcp("[2001:db8::1]:8080"),
            pod_sees("2001:db8::9"),
            "{backend}"
        );
        assert_eq!(
            client.ask_udp(0, "[2001:db8::1]:8080"),
            pod_sees("2001:db8::9"),
            "{backend}"
        );
        assert_eq!(
            client.ask_tcp("192.0.2.2:9090"),
            pod_sees("192.0.2.9"),
            "{backend}"
        );
        assert_eq!(
            client.ask_tcp("192.0.2.1:9090"),
            None,
            "{backend}: another address"
        );
        // Loopback and hairpin work because the source is rewritten.
        for by in [lab::Namespace::ask_tcp, |n: &lab::Namespace, a: &str| {
            n.ask_udp(0, a)
        }] {
            let host = |address: &str| by(&lab.host, address);
            assert!(
                host("127.0.0.1:8080").is_some_and(|a| a.starts_with("pod 10.77.0.1")),
                "{backend}"
            );
            assert!(
                host("192.0.2.1:8080").is_some_and(|a| a.starts_with("pod ")),
                "{backend}"
            );
            assert!(
                host("[2001:db8::1]:8080").is_some_and(|a| a.starts_with("pod ")),
                "{backend}"
            );
            let hairpin = by(&lab.pod, "192.0.2.1:8080");
            assert!(
                hairpin.is_some_and(|a| a.starts_with("pod 10.77.0.1")),
                "{backend}"
            );
        }
        lab.call("CHECK", "c1", &conf).expect_ok();
        lab.call("DEL", "c1", &conf).expect_ok();
        assert_eq!(lab.client.ask_tcp("192.0.2.1:8080"), None, "{backend}");
        lab.expect_nothing_left();
    }
}

#[test]
fn masq_all_hides_the_client_of_mapped_ports_only() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        lab.pod.serve("pod", 80);
        let mut conf = lab.conf(backend, lab::one_port(), &["10.77.0.5/24"]);
        conf["masqAll"] = json!(true);
        lab.call("ADD", "c1", &conf).expect_ok();
        lab.call("CHECK", "c1", &conf).expect_ok();
        let sees = |address: &str| lab.client.ask_tcp(address).unwrap();
        assert_eq!(sees("192.0.2.1:8080"), "pod 10.77.0.1", "{backend}");
        assert_eq!(
            sees("10.77.0.5:80"),
            "pod 192.0.2.9",
            "{backend}: straight to the pod"
        );
    }
}

#[test]
fn a_new_address_takes_over_at_once() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        lab.pod.serve("pod", 80);
        let old = lab.conf(backend, lab::one_port(), &["10.77.0.99/24"]);
        lab.call("ADD", "c1", &old).expect_ok();
        assert_eq!(
            lab.client.ask_tcp("192.0.2.1:8080"),
            None,
            "nobody has the old address"
        );
        let new = lab.conf(backend, lab::one_port(), &["10.77.0.6/24"]);
        lab.call("ADD", "c1", &new).expect_ok();
        assert!(lab.client.ask_tcp("192.0.2.1:8080").is_some(), "{backend}");
        assert!(!lab.rules().contains("10.77.0.99"), "{}", lab.rules());
        lab.call("CHECK", "c1", &new).expect_ok();
        let (_, msg) = lab.call("CHECK", "c1", &old).error();
        assert!(
            msg.contains("missing") || msg.contains("not found"),
            "{msg}"
        );
        lab.call("DEL", "c1", &new).expect_ok();
        lab.expect_nothing_left();
    }
}

#[test]
fn conditions_are_an_attachments_own() {
    let variants = [
        ("iptables", json!(["!", "-s", "192.0.2.9"])),
        ("iptables-legacy", json!(["!", "-s", "192.0.2.9"])),
        ("nftables", json!(["ip", "saddr", "!=", "192.0.2.9"])),
    ];
    for (backend, conditions) in variants {
        let lab = Lab::with(backend);
        lab.pod.serve("pod", 80);
        let mut closed = lab.conf(backend, lab::one_port(), &["10.77.0.5/24"]);
        closed["conditionsV4"] = conditions;
        let open = json!([{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}]);
        let open = lab.conf(backend, open, &["10.77.0.6/24"]);
        lab.call("ADD", "c1", &closed).expect_ok();
        lab.call("ADD", "c2", &open).expect_ok();
        lab.call("CHECK", "c1", &closed).expect_ok();
        assert_eq!(lab.client.ask_tcp("192.0.2.1:8080"), None, "{backend}");
        assert!(lab.host.ask_tcp("192.0.2.1:8080").is_some(), "{backend}");
        assert!(lab.client.ask_tcp("192.0.2.1:8081").is_some(), "{backend}");
    }
}

#[test]
fn udp_flows_follow_the_rules() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        lab.pod.serve("pod", 53);
        lab.host.serve("host", 53);
        let mappings = json!([{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"}]);
        let conf = lab.conf(backend, mappings, &["10.77.0.5/24"]);
        // The kernel tracks connections for as long as some rule translates addresses.
        let other = lab.conf(backend, lab::one_port(), &["10.77.0.6/24"]);
        lab.call("ADD", "c2", &other).expect_ok();

        let asks = |port: u16, address: &str| {
            let answer = lab.client.ask_udp(port, address).unwrap_or_default();
            answer.split(' ').next().unwrap_or_default().to_owned()
        };
        let flows = |filter: &str| {
            let filter = filter.to_owned();
            lab.host.run(move || {
                lab::connections(17)
                    .iter()
                    .filter(|c| c.contains(&filter))
                    .count()
            })
        };
        assert_eq!(asks(4001, "192.0.2.1:53"), "host", "{backend}: before");
        assert_eq!(asks(4002, "192.0.2.2:53"), "host");
        assert_eq!(
            asks(4003, "10.77.0.5:53"),
            "pod",
            "through the host, to the same port"
        );
        lab.call("ADD", "c1", &conf).expect_ok();
        assert_eq!(
            asks(4001, "192.0.2.1:53"),
            "pod",
            "{backend}: the same flow after ADD"
        );
        assert_eq!(
            flows("192.0.2.2:53"),
            1,
            "{backend}: a flow to another address stays"
        );
        assert_eq!(
            flows("10.77.0.5:53 from 10.77.0.5"),
            1,
            "{backend}: one that passes through stays"
        );
        lab.call("DEL", "c1", &conf).expect_ok();
        assert_eq!(
            asks(4001, "192.0.2.1:53"),
            "host",
            "{backend}: the same flow after DEL"
        );
        assert_eq!(flows("192.0.2.2:53"), 1);
        assert_eq!(
            flows("10.77.0.5:53 from 10.77.0.5"),
            1,
            "{backend}: it was not by our rule"
        );
        // For all addresses of the host: its own flows turn, and what only passes through stays.
        let mappings = json!([{"hostPort": 53, "containerPort": 53, "protocol": "udp"}]);
        let conf = lab.conf(backend, mappings, &["10.77.0.5/24"]);
        lab.client.ask_udp(4004, "10.77.0.6:53");
        lab.call("ADD", "c1", &conf).expect_ok();
        assert_eq!(asks(4002, "192.0.2.2:53"), "pod", "{backend}");
        assert_eq!(
            flows("10.77.0.6:53 from 10.77.0.6"),
            1,
            "{backend}: it passes through"
        );
    }
}
