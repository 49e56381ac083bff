//! Configurations: what is accepted, what is refused with which words, and the shape of results.

use crate::plugin::{Store, call};
use serde_json::{Value, json};

/// A fresh store each time: ADD under this `ipam`, then DEL must work whatever ADD said.
fn add(ipam: Value) -> Result<String, String> {
    attempt(|store| store.conf(ipam), "")
}

fn attempt(conf: impl FnOnce(&Store) -> Value, args: &str) -> Result<String, String> {
    let store = Store::new();
    let conf = conf(&store);
    let add = call("ADD", "c1", &conf).args(args);
    let answer = add.run();
    let outcome = match answer.status {
        Some(0) => Ok(add_addresses(&answer.stdout)),
        _ => Err(add.refused()),
    };
    assert_eq!(call("DEL", "c1", &conf).args(args).ok(), "");
    assert_eq!(
        store.addresses(),
        [""; 0],
        "DEL frees under every configuration"
    );
    outcome
}

fn add_addresses(stdout: &str) -> String {
    let result: Value = serde_json::from_str(stdout).unwrap();
    let texts = result["ips"].as_array().unwrap().iter().map(|ip| {
        let gateway = ip["gateway"].as_str().unwrap();
        format!("{} via {gateway}", ip["address"].as_str().unwrap())
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn refused(ipam: Value) -> String {
    add(ipam).unwrap_err()
}

fn given(ipam: Value) -> String {
    add(ipam).unwrap()
}

#[test]
fn result_shapes() {
    let store = Store::new();
    let mut conf =
        store.conf(json!({"subnet": "10.9.0.0/29", "routes": [{"dst": "0.0.0.0/0"}, null]}));
    let mut shape = |version: &str| {
        conf["cniVersion"] = version.into();
        let result = call("ADD", "c1", &conf).result();
        call("DEL", "c1", &conf).ok();
        std::fs::remove_file(store.file("last_reserved_ip.0")).unwrap();
        result
    };
    let old = |version: &str| {
        json!({"cniVersion": version, "dns": {},
               "ip4": {"ip": "10.9.0.2/29", "gateway": "10.9.0.1", "routes": [{"dst": "0.0.0.0/0"}]}})
    };
    assert_eq!(shape(""), old("0.1.0"));
    assert_eq!(shape("0.2.0"), old("0.2.0"));
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let ips = json!([{"version": "4", "address": "10.9.0.2/29", "gateway": "10.9.0.1"}]);
        let expected =
            json!({"cniVersion": version, "ips": ips, "routes": [{"dst": "0.0.0.0/0"}], "dns": {}});
        assert_eq!(shape(version), expected);
    }
    for version in ["1.0.0", "1.1.0"] {
        let ips = json!([{"address": "10.9.0.2/29", "gateway": "10.9.0.1"}]);
        let expected = json!({"cniVersion": version, "ips": ips, "routes": [{"dst": "0.0.0.0/0"}]});
        assert_eq!(shape(version), expected);
    }
}

#[test]
fn ranges_that_are_refused() {
    let store = Store::new();
    let mut conf = store.conf(json!({}));
    conf.as_object_mut().unwrap().remove("ipam");
    assert_eq!(
        call("ADD", "c1", &conf).refused(),
        "7 IPAM config missing 'ipam' key"
    );
    assert_eq!(refused(json!({})), "7 no IP ranges specified");
    assert_eq!(
        refused(json!({"rangeStart": "10.9.0.5"})),
        "7 no IP ranges specified"
    );
    assert_eq!(
        refused(json!({"subnet": "10.9.0.0"})),
        "7 invalid CIDR address: 10.9.0.0"
    );
    let start = |start: &str| refused(json!({"subnet": "10.9.0.0/24", "rangeStart": start}));
    assert_eq!(start("xx"), "7 invalid IP address: xx");
    assert_eq!(start("10.9.0.2/24"), "7 invalid IP address: 10.9.0.2/24");
    let not_nested = refused(json!({"ranges": [{"subnet": "10.9.0.0/24"}]}));
    assert!(
        not_nested.starts_with("6 failed to load netconf: ipam: ranges[0]: "),
        "{not_nested}"
    );

    let set = |text: Value| {
        let text = refused(text);
        text.strip_prefix("7 invalid range set 0: ")
            .unwrap_or(&text)
            .to_owned()
    };
    let one = |range: Value| set(json!({"ranges": [[range]]}));
    assert_eq!(
        one(json!({"subnet": "10.9.0.0/31"})),
        "Network 10.9.0.0/31 too small to allocate from"
    );
    assert_eq!(
        one(json!({"subnet": "10.9.0.1/32"})),
        "Network 10.9.0.1/32 too small to allocate from"
    );
    assert_eq!(
        one(json!({"subnet": "fd00::/127"})),
        "Network fd00::/127 too small to allocate from"
    );
    assert_eq!(
        one(json!({"subnet": "::ffff:10.9.0.0/120"})),
        "IPNet IP and Mask version mismatch"
    );
    assert_eq!(
        one(json!({"subnet": "10.9.0.1/24"})),
        "Network has host bits set. For a subnet mask of length 24 the network address is 10.9.0.0"
    );
    let bounds = |key: &str, ip: &str| one(json!({"subnet": "10.9.0.0/24", key: ip}));
    assert_eq!(
        bounds("rangeStart", "10.8.0.1"),
        "RangeStart 10.8.0.1 not in network 10.9.0.0/24"
    );
    assert_eq!(
        bounds("rangeEnd", "10.8.0.1"),
        "RangeEnd 10.8.0.1 not in network 10.9.0.0/24"
    );
    let turned =
        json!({"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.20", "rangeEnd": "10.9.0.10"});
    assert_eq!(
        one(turned),
        "RangeStart 10.9.0.20 not in network 10.9.0.0/24"
    );
    assert_eq!(
        one(json!({"rangeStart": "10.9.0.2"})),
        "IP <nil> not v4 nor v6"
    );
    assert_eq!(one(json!(null)), "IP <nil> not v4 nor v6");
    assert_eq!(set(json!({"ranges": [[]]})), "empty range set");
    assert_eq!(set(json!({"ranges": [null]})), "empty range set");
    let two = |a: &str, b: &str| json!([{"subnet": a}, {"subnet": b}]);
    assert_eq!(
        set(json!({"ranges": [two("10.9.0.0/24", "fd00::/64")]})),
        "mixed address families"
    );
    assert_eq!(
        set(json!({"ranges": [two("10.9.0.0/24", "10.9.0.0/25")]})),
        "subnets 10.9.0.1-10.9.0.254 and 10.9.0.1-10.9.0.126 overlap"
    );
    let overlap = json!({"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.9.0.0/25"}]]});
    assert_eq!(refused(overlap), "7 range set 0 overlaps with 1");
    assert_eq!(
        refused(json!({"subnet": "10.9.0.0/24", "resolvConf": "/nope"})),
        "5 open /nope: no such file or directory"
    );
}

#[test]
fn ranges_that_are_accepted() {
    let one = |range: Value| given(json!({"ranges": [[range]]}));
    let range = |key: &str, ip: &str| one(json!({"subnet": "10.9.0.0/24", key: ip}));
    assert_eq!(range("rangeStart", ""), "10.9.0.2/24 via 10.9.0.1");
    assert_eq!(range("gateway", "10.8.0.1"), "10.9.0.1/24 via 10.8.0.1");
    assert_eq!(range("gateway", "fd00::1"), "10.9.0.1/24 via fd00::1");
    assert_eq!(range("gateway", "10.9.0.254"), "10.9.0.1/24 via 10.9.0.254");
    assert_eq!(range("rangeStart", "10.9.0.0"), "10.9.0.0/24 via 10.9.0.1");
    assert_eq!(
        one(json!({"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.255", "rangeEnd": "10.9.0.255"})),
        "10.9.0.255/24 via 10.9.0.1"
    );
    assert_eq!(
        one(json!({"subnet": "10.9.0.0/30"})),
        "10.9.0.2/30 via 10.9.0.1"
    );
    assert_eq!(one(json!({"subnet": "0.0.0.0/0"})), "0.0.0.2/0 via 0.0.0.1");
    assert_eq!(
        one(json!({"subnet": "fd00::/126"})),
        "fd00::2/126 via fd00::1"
    );
    assert_eq!(
        one(json!({"SubNet": "FD00:0:0:1::/64"})),
        "fd00:0:0:1::2/64 via fd00:0:0:1::1"
    );
    let multi = json!({"ranges": [[{"subnet": "10.9.5.0/30"}, {"subnet": "10.9.6.0/30"}]]});
    assert_eq!(given(multi), "10.9.5.2/30 via 10.9.5.1");
    let both = json!({"subnet": "10.9.5.0/24", "ranges": [[{"subnet": "10.9.6.0/24"}]]});
    assert_eq!(
        given(both),
        "10.9.5.2/24 via 10.9.5.1, 10.9.6.2/24 via 10.9.6.1"
    );
    let two = json!({"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.9.1.0/24"}]]});
    let versioned = |version: &'static str| {
        let two = two.clone();
        let conf = move |store: &Store| {
            let mut conf = store.conf(two);
            conf["cniVersion"] = version.into();
            conf
        };
        attempt(conf, "")
    };
    assert_eq!(
        versioned("0.3.1").unwrap(),
        "10.9.0.2/24 via 10.9.0.1, 10.9.1.2/24 via 10.9.1.1"
    );
    assert_eq!(
        versioned("0.2.0").unwrap_err(),
        "7 CNI version 0.2.0 does not support more than 1 address per family"
    );
}

#[test]
fn ranges_that_the_runtime_sends_come_first() {
    let store = Store::new();
    let mut conf = store.subnet("10.9.5.0/24");
    conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.9.9.0/24"}]], "other": 1});
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.9.2/24 10.9.5.2/24");
    let files = "10.9.5.2=c1^~eth0 10.9.9.2=c1^~eth0 last_reserved_ip.0=10.9.9.2 last_reserved_ip.1=10.9.5.2";
    assert_eq!(store.listing(), files);
    conf["ipam"].as_object_mut().unwrap().remove("subnet");
    assert_eq!(call("ADD", "c2", &conf).ok(), "10.9.9.3/24");
}

#[test]
fn resolv_conf_goes_into_the_result() {
    let store = Store::new();
    let file = store.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 10.0.0.53\nsearch a b\n# end\n").unwrap();
    let conf = store.conf(json!({"subnet": "10.9.0.0/24", "resolvConf": file}));
    let result = call("ADD", "c1", &conf).result();
    assert_eq!(
        result["dns"],
        json!({"nameservers": ["10.0.0.53"], "search": ["a", "b"]})
    );
}

#[test]
fn null_lists_and_entries_are_absent() {
    let conf = |store: &Store| {
        let mut conf = store.conf(
            json!({"ranges": [[{"subnet": "10.9.0.0/24", "gateway": null}]], "routes": null}),
        );
        conf["runtimeConfig"] = json!({"ips": [null], "ipRanges": null});
        conf["args"] = json!({"cni": {"ips": [null]}, "x": null});
        conf
    };
    assert_eq!(attempt(conf, "").unwrap(), "10.9.0.2/24 via 10.9.0.1");
}

/// One ADD with addresses asked for at three places.
fn ask(args: &str, cni: &[&str], runtime: &[&str]) -> Result<String, String> {
    let conf = |store: &Store| {
        let mut conf = store.subnet("10.9.0.0/24");
        conf["args"] = json!({"cni": {"ips": cni}});
        conf["runtimeConfig"] = json!({"ips": runtime});
        conf
    };
    attempt(conf, args)
}

#[test]
fn requested_addresses() {
    let got = |ip: &str| Ok(format!("{ip}/24 via 10.9.0.1"));
    assert_eq!(ask("IP=10.9.0.77", &[], &[]), got("10.9.0.77"));
    assert_eq!(ask("IP=10.9.0.77/16", &[], &[]), got("10.9.0.77"));
    assert_eq!(ask("IP=", &[], &[]), got("10.9.0.2"));
    assert_eq!(ask("", &["10.9.0.78"], &[]), got("10.9.0.78"));
    assert_eq!(ask("", &["10.9.0.78/24"], &[]), got("10.9.0.78"));
    assert_eq!(ask("", &[], &["10.9.0.79"]), got("10.9.0.79"));
    assert_eq!(
        ask("IP=10.9.0.78", &["10.9.0.78"], &["10.9.0.78/8"]),
        got("10.9.0.78")
    );
    // The original tries both and fails; args stands for CNI_ARGS and wins.
    assert_eq!(ask("IP=10.9.0.77", &["10.9.0.78"], &[]), got("10.9.0.78"));
    let left = |ips: &str| Err(format!("999 failed to allocate all requested IPs: {ips}"));
    assert_eq!(
        ask("IP=10.9.0.77", &["10.9.0.78"], &["10.9.0.79"]),
        left("10.9.0.79")
    );
    assert_eq!(ask("IP=10.8.0.1", &[], &[]), left("10.8.0.1"));
    assert_eq!(
        ask("", &["10.9.0.255", "10.8.0.1"], &[]),
        left("10.9.0.255 10.8.0.1")
    );
    let gateway = "999 failed to allocate for range 0: requested ip 10.9.0.1 is subnet's gateway";
    assert_eq!(ask("IP=10.9.0.1", &[], &[]), Err(gateway.into()));
    let bad = r#"4 ARGS: error parsing value of pair "IP=foo": invalid IP address foo"#;
    assert_eq!(ask("IP=foo", &[], &[]), Err(bad.into()));
    let nil = "7 cannot understand ip: IP <nil> not v4 nor v6";
    assert_eq!(ask("", &[], &[""]), Err(nil.into()));
    assert_eq!(ask("", &[], &["x"]), Err("7 invalid IP address x".into()));
    let unknown = r#"4 ARGS: unknown args ["K8S_POD_NAME=x"]"#;
    assert_eq!(ask("K8S_POD_NAME=x", &[], &[]), Err(unknown.into()));
    assert_eq!(
        ask("IgnoreUnknown=1;K8S_POD_NAME=x", &[], &[]),
        got("10.9.0.2")
    );
    assert_eq!(
        ask("GATEWAY=10.9.0.1", &[], &[]),
        Err(r#"4 ARGS: unknown args ["GATEWAY=10.9.0.1"]"#.into())
    );
    assert_eq!(
        ask("IP=10.9.0.7;", &[], &[]),
        Err(r#"4 ARGS: invalid pair """#.into())
    );
}

#[test]
fn configurations_of_2020() {
    // A macvlan attachment with its range in ipam, as it is found in the field.
    let old = json!({"subnet": "10.168.1.0/24", "rangeStart": "10.168.1.200", "rangeEnd": "10.168.1.216",
                     "routes": [{"dst": "0.0.0.0/0"}], "gateway": "10.168.1.1"});
    let store = Store::new();
    let mut conf = store.conf(old);
    conf["cniVersion"] = "0.3.0".into();
    let ips = json!([{"version": "4", "address": "10.168.1.200/24", "gateway": "10.168.1.1"}]);
    let expected =
        json!({"cniVersion": "0.3.0", "ips": ips, "routes": [{"dst": "0.0.0.0/0"}], "dns": {}});
    assert_eq!(call("ADD", "c1", &conf).result(), expected);
    // An ipvlan one that says no version.
    let mut conf = store.subnet("10.1.2.0/24");
    conf.as_object_mut().unwrap().remove("cniVersion");
    let expected = json!({"cniVersion": "0.1.0", "ip4": {"ip": "10.1.2.2/24", "gateway": "10.1.2.1"}, "dns": {}});
    assert_eq!(call("ADD", "c2", &conf).result(), expected);
}
