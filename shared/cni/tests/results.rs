//! Every version's shape of one attachment, to the key, and what happens on the way between versions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cni::json::Value;
use cni::{Code, Error, Route, Success, Verb, Version};

/// A dual-stack attachment that uses every key of 1.1.0.
const FULL: &str = r#"{
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "00:11:22:33:44:55"},
        {"name": "net1", "mac": "08:00:27:b0:4c:0e", "mtu": 1500, "sandbox": "/run/netns/blue",
         "socketPath": "/run/vhost.sock", "pciID": "0000:04:00.5"}
    ],
    "ips": [
        {"interface": 1, "address": "10.168.1.200/24", "gateway": "10.168.1.1"},
        {"interface": 1, "address": "10.168.2.200/24"},
        {"interface": 1, "address": "2001:db8::2/64", "gateway": "2001:db8::1"}
    ],
    "routes": [
        {"dst": "::/0"},
        {"dst": "0.0.0.0/0", "gw": "10.168.1.1", "mtu": 1400, "advmss": 1360, "priority": 50, "table": 100, "scope": 0}
    ],
    "dns": {"nameservers": ["10.168.1.1"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:2"]}
}"#;

const DNS: &str = r#""dns":{"nameservers":["10.168.1.1"],"domain":"a.example","search":["b.example"],"options":["ndots:2"]}"#;

fn full() -> Success {
    Success::parse(FULL.as_bytes(), "").unwrap()
}

fn compact(document: &str) -> String {
    serde_json::from_str::<serde_json::Value>(document).unwrap();
    document
        .lines()
        .map(str::trim_start)
        .collect::<String>()
        .replace("\": ", "\":")
}

#[test]
fn up_to_0_2_0_there_is_one_object_per_family() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let expected = format!(
            concat!(
                r#"{{"cniVersion":"{}","ip4":{{"ip":"10.168.1.200/24","gateway":"10.168.1.1","#,
                r#""routes":[{{"dst":"0.0.0.0/0","gw":"10.168.1.1"}}]}},"#,
                r#""ip6":{{"ip":"2001:db8::2/64","gateway":"2001:db8::1","routes":[{{"dst":"::/0"}}]}},{}}}"#,
            ),
            version, DNS
        );
        assert_eq!(compact(&full().to_json(version).unwrap()), expected);
    }
}

#[test]
fn from_0_3_0_to_0_4_0_addresses_say_their_family_and_nothing_newer_leaks_in() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let expected = format!(
            concat!(
                r#"{{"cniVersion":"{}","interfaces":[{{"name":"cni0","mac":"00:11:22:33:44:55"}},"#,
                r#"{{"name":"net1","mac":"08:00:27:b0:4c:0e","sandbox":"/run/netns/blue"}}],"#,
                r#""ips":[{{"version":"4","interface":1,"address":"10.168.1.200/24","gateway":"10.168.1.1"}},"#,
                r#"{{"version":"4","interface":1,"address":"10.168.2.200/24"}},"#,
                r#"{{"version":"6","interface":1,"address":"2001:db8::2/64","gateway":"2001:db8::1"}}],"#,
                r#""routes":[{{"dst":"::/0"}},{{"dst":"0.0.0.0/0","gw":"10.168.1.1"}}],{}}}"#,
            ),
            version, DNS
        );
        assert_eq!(compact(&full().to_json(version).unwrap()), expected);
    }
}

#[test]
fn what_1_1_0_added_is_not_in_1_0_0() {
    let expected = concat!(
        r#"{"cniVersion":"1.0.0",DNS,"interfaces":[{"mac":"00:11:22:33:44:55","name":"cni0"},"#,
        r#"{"mac":"08:00:27:b0:4c:0e","name":"net1","sandbox":"/run/netns/blue"}],"#,
        r#""ips":[{"address":"10.168.1.200/24","gateway":"10.168.1.1","interface":1},"#,
        r#"{"address":"10.168.2.200/24","interface":1},"#,
        r#"{"address":"2001:db8::2/64","gateway":"2001:db8::1","interface":1}],"#,
        r#""routes":[{"dst":"::/0"},{"dst":"0.0.0.0/0","gw":"10.168.1.1"}]}"#,
    );
    assert_eq!(
        compact(&full().to_json(Version::V1_0_0).unwrap()),
        expected.replace("DNS", DNS)
    );
}

#[test]
fn the_newest_version_tells_everything() {
    let document = full().to_json(Version::V1_1_0).unwrap();
    assert!(
        document.starts_with("{\n    \"cniVersion\": \"1.1.0\",\n"),
        "indented by four spaces"
    );
    assert!(!document.ends_with('\n'));
    let text = compact(&document);
    assert!(text.contains(
        r#"{"mac":"08:00:27:b0:4c:0e","mtu":1500,"name":"net1","pciID":"0000:04:00.5","sandbox":"/run/netns/blue","socketPath":"/run/vhost.sock"}"#
    ));
    assert!(text.contains(
        r#"{"advmss":1360,"dst":"0.0.0.0/0","gw":"10.168.1.1","mtu":1400,"priority":50,"scope":0,"table":100}"#
    ));
    assert_eq!(Success::parse(document.as_bytes(), "").unwrap(), full());
}

#[test]
fn dns_is_always_there_up_to_0_4_0_and_never_empty_after() {
    let mut result = full();
    result.dns = Default::default();
    for version in Version::ALL {
        let has_dns = compact(&result.to_json(version).unwrap()).contains(r#""dns":{}"#);
        assert_eq!(has_dns, version < Version::V1_0_0, "{version}");
    }
}

#[test]
fn a_result_without_addresses_has_no_form_before_0_3_0() {
    let result = Success::default();
    for version in Version::ALL {
        match result.to_json(version) {
            Ok(document) => assert!(version >= Version::V0_3_0, "{document}"),
            Err(e) => {
                assert!(version < Version::V0_3_0);
                assert_eq!(
                    (e.code, e.msg.as_str()),
                    (Code::Plugin, "cannot convert: no valid IP addresses")
                );
            }
        }
    }
}

#[test]
fn every_version_reads_what_it_wrote() {
    for version in Version::ALL {
        let written = full().to_json(version).unwrap();
        let read = Success::parse(written.as_bytes(), "").unwrap();
        assert_eq!(read.to_json(version).unwrap(), written);
        assert_eq!(read.dns, full().dns);
    }
}

#[test]
fn routes_without_a_family_object_are_dropped_going_down() {
    let mut result = full();
    result.ips.retain(|ip| ip.address.is_ipv4());
    let old = result.to_json(Version::V0_2_0).unwrap();
    assert!(!old.contains("::/0"), "{old}");
}

#[test]
fn a_document_without_version_has_the_configurations() {
    let families = br#"{"ip4":{"ip":"10.0.0.2/8"}}"#;
    assert_eq!(Success::parse(families, "").unwrap().ips.len(), 1);
    assert_eq!(Success::parse(families, "0.3.1").unwrap().ips.len(), 0);
    assert_eq!(
        Success::parse(b"null", "1.0.0").unwrap(),
        Success::default()
    );
}

#[test]
fn unreadable_results_say_what_is_wrong() {
    let text = |document: &str| Success::parse(document.as_bytes(), "1.0.0").unwrap_err();
    assert_eq!(
        text(r#"{"cniVersion":"9.9.9"}"#),
        r#"unsupported CNI result version "9.9.9""#
    );
    assert!(text("").contains("EOF"));
    assert!(
        text(r#"{"ips":[{"address":"10.0.0.2"}]}"#)
            .starts_with("ips[0].address: invalid CIDR address: 10.0.0.2")
    );
    assert!(text(r#"{"ips":[{}]}"#).contains("missing field `address`"));
    assert!(text(r#"{"ips":[null]}"#).starts_with("ips[0]"));
    assert!(
        text(r#"{"ips":[{"address":"10.0.0.2/8","interface":-1}]}"#)
            .starts_with("ips[0].interface")
    );
    assert!(text(r#"{"routes":[{"dst":"x"}]}"#).starts_with("routes[0].dst"));
}

#[test]
fn a_route_of_a_configuration_has_all_keys() {
    let document = Value::parse(br#"{"DST":"10.0.0.0/8","gw":"","Table":0,"scope":null}"#).unwrap();
    let route: Route = document.read().unwrap();
    assert_eq!((route.gw, route.table, route.scope), (None, Some(0), None));
}

#[test]
fn an_error_has_the_four_keys_of_the_spec() {
    let error = Error::new(Code::InvalidConfig, "invalid \"name\"").details("a/b");
    assert_eq!(
        compact(&error.to_json("0.3.1")),
        r#"{"cniVersion":"0.3.1","code":7,"msg":"invalid \"name\"","details":"a/b"}"#
    );
    assert!(!Error::plugin("x").to_json("1.0.0").contains("details"));
    let foreign = Error::parse(br#"{"Code":11,"msg":"later"}"#).unwrap();
    assert_eq!((foreign.code.number(), foreign.msg.as_str()), (11, "later"));
    assert!(Error::parse(b"boom").is_err());
}

#[test]
fn each_verb_has_its_first_version() {
    let code = |verb, version: &str| {
        Version::for_verb(verb, version).map_err(|e| (e.code.number(), e.msg))
    };
    assert_eq!(code(Verb::Add, "").unwrap(), Version::V0_1_0);
    assert_eq!(code(Verb::Check, "0.4.0").unwrap(), Version::V0_4_0);
    assert_eq!(
        code(Verb::Check, "0.3.1").unwrap_err(),
        (1, "config version does not allow CHECK".into())
    );
    assert_eq!(
        code(Verb::Gc, "1.0.0").unwrap_err(),
        (1, "config version does not allow GC".into())
    );
    assert_eq!(
        code(Verb::Status, "1.2.0").unwrap_err(),
        (1, "plugin version does not allow STATUS".into())
    );
    for near_miss in ["1.0", "1.0.1", "v1.0.0", "0.0.9", "9.9.9", " 1.0.0", "x"] {
        assert_eq!(
            code(Verb::Add, near_miss).unwrap_err(),
            (1, "incompatible CNI versions".into())
        );
        assert_eq!(code(Verb::Del, near_miss).unwrap_err().0, 1);
    }
    assert_eq!(code(Verb::Check, "1.0.1").unwrap_err().0, 1);
    assert_eq!(code(Verb::Check, "x").unwrap_err().0, 6);
    let error = Version::for_verb(Verb::Add, "1.2.0").unwrap_err();
    assert_eq!(
        error.details,
        r#"config is "1.2.0", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#
    );
}
