//! The rules themselves: the original's layout, whose they are, and who can remove them.

#[cfg(test)]
mod lab;

use std::path::Path;

use lab::{BACKENDS, Lab, REFERENCE, call_in, one_port};
use serde_json::{Value, json};

/// What the original writes for one port, in the order of `iptables-save`.
const IPTABLES: &str = r#"-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-DN-c2d892b58e87e28a12fe6 -s 10.77.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-c2d892b58e87e28a12fe6 -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-c2d892b58e87e28a12fe6 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.77.0.5:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"net1\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-c2d892b58e87e28a12fe6
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
"#;

/// What `nft` prints after the original has written one port with a host address and one without.
const NFTABLES: &str = r#"table ip cni_hostport {
	comment "CNI portmap plugin"
	chain hostports {
		tcp dport 8080 dnat to 10.77.0.5:80 comment "c1"
		ip daddr 10.77.0.1 sctp dport 9 dnat to 10.77.0.5:19 comment "c1"
	}

	chain hostip_hostports {
	}

	chain hostports_all {
		jump hostip_hostports
		jump hostports
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostports_all
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports_all
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.77.0.5 ip daddr 10.77.0.5 masquerade comment "c1"
		ip saddr 127.0.0.1 ip daddr 10.77.0.5 masquerade comment "c1"
	}
}
table ip6 cni_hostport {
	comment "CNI portmap plugin"
	chain hostports {
		tcp dport 8080 dnat to [fd00:77::5]:80 comment "c1"
	}

	chain hostip_hostports {
	}

	chain hostports_all {
		jump hostip_hostports
		jump hostports
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostports_all
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports_all
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		ip6 saddr fd00:77::5 ip6 daddr fd00:77::5 masquerade comment "c1"
	}
}
"#;

#[test]
fn the_iptables_rules_of_the_original() {
    for variant in ["nft", "legacy"] {
        let lab = Lab::with(&format!("iptables-{variant}"));
        let conf = lab.conf("iptables", one_port(), &["10.77.0.5/24"]);
        for _ in 0..2 {
            lab.call("ADD", "c1", &conf).expect_ok();
            assert_eq!(lab.rules(), IPTABLES, "{variant}");
        }
        assert_eq!(
            lab.host.sh("cat /proc/sys/net/ipv4/conf/h0/route_localnet"),
            "1\n"
        );
        lab.call("CHECK", "c1", &conf).expect_ok();
        let more = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8081, "containerPort": 81, "protocol": "tcp"},
        ]);
        let (code, msg) = lab
            .call(
                "CHECK",
                "c1",
                &lab.conf("iptables", more, &["10.77.0.5/24"]),
            )
            .error();
        assert_eq!(code, 999);
        assert!(
            msg.starts_with("could not check ipv4 dnat: rule ["),
            "{msg}"
        );
        let (_, msg) = lab.call("CHECK", "c2", &conf).error();
        assert_eq!(
            msg,
            "could not check ipv4 dnat: chain CNI-DN-74f9b05a6a8182c73e61f not found in iptables table nat"
        );
        lab.host.sh(&format!(
            "iptables-{variant} -t nat -A CNI-DN-c2d892b58e87e28a12fe6 -p tcp -j RETURN"
        ));
        assert!(
            !lab.call("CHECK", "c1", &conf).ok,
            "{variant}: a rule too many"
        );
        lab.call("DEL", "c1", &conf).expect_ok();
        lab.expect_nothing_left();
        lab.call("DEL", "c1", &conf).expect_ok();
    }
}

#[test]
fn the_nftables_rules_of_the_original() {
    let lab = Lab::new();
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 9, "containerPort": 19, "protocol": "sctp", "hostIP": "10.77.0.1"},
    ]);
    let conf = lab.conf("nftables", mappings, &["10.77.0.5/24", "fd00:77::5/64"]);
    for _ in 0..2 {
        lab.call("ADD", "c1", &conf).expect_ok();
        assert_eq!(lab.rules(), NFTABLES);
    }
    lab.call("CHECK", "c1", &conf).expect_ok();
    // What nft prints it can read back: the notes beside the comments are lost, and DEL works all the same.
    lab.host.sh("nft list ruleset > /tmp/portmap-test-$$; nft flush ruleset; nft -f /tmp/portmap-test-$$; rm /tmp/portmap-test-$$");
    assert_eq!(lab.rules(), NFTABLES);
    lab.call("CHECK", "c1", &conf).expect_ok();
    lab.call("DEL", "c1", &conf).expect_ok();
    lab.expect_nothing_left();
}

/// The original removes each rule whose comment is the container id; so must anybody be able to.
#[test]
fn our_nftables_rules_can_be_found_by_their_comment() {
    let lab = Lab::new();
    let conf = lab.conf("nftables", one_port(), &["10.77.0.5/24"]);
    let id = "c".repeat(128);
    lab.call("ADD", &id, &conf).expect_ok();
    let listing: Value =
        serde_json::from_str(&lab.host.sh("nft -j list table ip cni_hostport")).unwrap();
    let entries = listing["nftables"].as_array().unwrap();
    let with_id: Vec<String> = entries
        .iter()
        .filter(|entry| entry["rule"]["comment"] == id.as_str())
        .map(|entry| {
            let rule = &entry["rule"];
            format!(
                "nft delete rule ip cni_hostport {} handle {}",
                rule["chain"], rule["handle"]
            )
        })
        .collect();
    assert_eq!(with_id.len(), 3);
    lab.host.sh(&with_id.join("\n"));
    lab.expect_nothing_left();
    // An id that is longer than a comment may be.
    let long = "c".repeat(900);
    lab.call("ADD", &long, &conf).expect_ok();
    lab.call("CHECK", &long, &conf).expect_ok();
    lab.call("DEL", &long[..899], &conf).expect_ok();
    lab.call("CHECK", &long, &conf).expect_ok();
    lab.call("DEL", &long, &conf).expect_ok();
    lab.expect_nothing_left();
}

#[test]
fn either_implementation_removes_what_the_other_made() {
    if !Path::new(REFERENCE).exists() {
        println!("SKIPPED: {REFERENCE} is not installed");
        return;
    }
    for variant in ["nft", "legacy"] {
        let lab = Lab::with(&format!("iptables-{variant}"));
        let mappings = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
        ]);
        let mut conf = lab.conf("iptables", mappings, &["10.77.0.5/24", "fd00:77::5/64"]);
        conf.as_object_mut().unwrap().remove("backend");
        let reference = |verb: &str| {
            call_in(
                &lab.host,
                Path::new(REFERENCE),
                &lab.path,
                verb,
                "c1",
                &conf,
            )
            .expect_ok()
        };
        lab.call("ADD", "c1", &conf).expect_ok();
        let ours = lab.rules();
        // Its CHECK looks for IPv4 rules in IPv6 tables (before 1.5), so only ADD and DEL are compared.
        reference("DEL");
        lab.expect_nothing_left();
        reference("ADD");
        assert_eq!(
            lab.rules(),
            ours,
            "{variant}: after the reference's first ADD on our shared chains"
        );
        lab.call("CHECK", "c1", &conf).expect_ok();
        lab.call("ADD", "c1", &conf).expect_ok();
        assert_eq!(lab.rules(), ours, "{variant}: in place of the reference's");
        reference("DEL");
        reference("ADD");
        lab.call("DEL", "c1", &conf).expect_ok();
        lab.expect_nothing_left();
    }
}

#[test]
fn rules_of_one_network_are_not_anothers() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let one = lab.conf(backend, one_port(), &["10.77.0.5/24"]);
        let other_port = json!([{"hostPort": 9090, "containerPort": 80, "protocol": "tcp"}]);
        let mut two = lab.conf(backend, other_port, &["10.77.0.6/24"]);
        two["name"] = json!("net2");
        lab.call("ADD", "c1", &one).expect_ok();
        lab.call("ADD", "c1", &two).expect_ok();
        lab.call("DEL", "c1", &one).expect_ok();
        assert!(!lab.call("CHECK", "c1", &one).ok, "{backend}");
        lab.call("CHECK", "c1", &two).expect_ok();
        lab.call("DEL", "c1", &two).expect_ok();
        lab.expect_nothing_left();
    }
}

#[test]
fn gc_takes_what_is_not_valid_any_more() {
    for backend in BACKENDS {
        let lab = Lab::with(backend);
        let conf = |port: u16, network: &str| {
            let mapping = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
            let mut conf = lab.conf(backend, mapping, &["10.77.0.5/24", "fd00:77::5/64"]);
            conf["cniVersion"] = json!("1.1.0");
            conf["name"] = json!(network);
            conf
        };
        lab.call("ADD", "c1", &conf(1, "net1")).expect_ok();
        lab.call("ADD", "c2", &conf(2, "net1")).expect_ok();
        lab.call("ADD", "c3", &conf(3, "net2")).expect_ok();
        let mut request = json!({"cniVersion": "1.1.0", "name": "net1", "type": "portmap"});
        lab.call("GC", "", &request).expect_ok();
        lab.call("CHECK", "c2", &conf(2, "net1")).expect_ok();
        request["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
        lab.call("GC", "", &request).expect_ok();
        lab.call("CHECK", "c1", &conf(1, "net1")).expect_ok();
        assert!(
            !lab.call("CHECK", "c2", &conf(2, "net1")).ok,
            "{backend}: stale"
        );
        lab.call("CHECK", "c3", &conf(3, "net2")).expect_ok();
        request["cni.dev/valid-attachments"] = json!([]);
        lab.call("GC", "", &request).expect_ok();
        lab.call("CHECK", "c3", &conf(3, "net2")).expect_ok();
        lab.call("DEL", "c3", &conf(3, "net2")).expect_ok();
        lab.expect_nothing_left();
    }
}
