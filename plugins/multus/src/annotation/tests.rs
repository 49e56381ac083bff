//! Both forms of the annotations, row by row.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Vec<Selection> {
    networks(text, "pod-ns").unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn error(text: &str) -> Error {
    match networks(text, "pod-ns") {
        Ok(selections) => panic!("{text}: {selections:?}"),
        Err(error) => error,
    }
}

/// One element of the JSON form, with these members beside its name.
fn element(members: &str) -> String {
    format!(r#"[{{"name":"n",{members}}}]"#)
}

fn one(members: &str) -> Selection {
    read(&element(members)).remove(0)
}

/// Namespace, name and interface of a selection.
type Item = (&'static str, &'static str, Option<&'static str>);

#[test]
fn the_short_form() {
    let rows: [(&str, &[Item]); 9] = [
        ("", &[]),
        ("net1", &[("pod-ns", "net1", None)]),
        ("default/net1", &[("default", "net1", None)]),
        (
            "net1@my_interface",
            &[("pod-ns", "net1", Some("my_interface"))],
        ),
        (
            "default/net1@my_interface",
            &[("default", "net1", Some("my_interface"))],
        ),
        (
            " a , b/c @ Eth.1 ",
            &[("pod-ns", "a", None), ("b", "c", Some("Eth.1"))],
        ),
        ("net1@", &[("pod-ns", "net1", None)]),
        ("/net1", &[("pod-ns", "net1", None)]),
        ("null", &[("pod-ns", "null", None)]),
    ];
    for (text, expected) in rows {
        let found = read(text);
        let found: Vec<_> = found
            .iter()
            .map(|s| {
                let interface = s.interface.as_ref().map(InterfaceName::as_str);
                (s.namespace.as_str(), s.name.as_str(), interface)
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(read("a,a").len(), 2, "a network may be asked for twice");
}

#[test]
fn the_short_form_refused_in_the_originals_words() {
    let object = "parsePodNetworkAnnotation: parsePodNetworkObjectName: ";
    let mismatch = "Failed to parse: one or more items did not match comma-delimited format (must consist of \
                    lower case alphanumeric characters). Must start and end with an alphanumeric character), \
                    mismatch @ ";
    let interface = "Failed to parse interface name: must be less than 15 chars and not contain '/' or spaces. \
                     interface name ";
    for (text, expected) in [
        (
            "root@someIP/root@someOtherIP/root@thirdIP",
            "Invalid network object (failed at '/')".into(),
        ),
        (
            "root@someIP/root@someOtherIP@garbagevalue",
            "Invalid network object (failed at '@')".into(),
        ),
        (
            "root@someIP/root@someOtherIP",
            format!("{mismatch}'root@someIP'"),
        ),
        ("N1", format!("{mismatch}'N1'")),
        ("-a", format!("{mismatch}'-a'")),
        ("a.b", format!("{mismatch}'a.b'")),
        ("a,b_c/d", format!("{mismatch}'b_c'")),
        (
            "default/net1@myIfc Name",
            format!("{interface}'myIfc Name'"),
        ),
        (
            "default/net1@very_long_interface_name",
            format!("{interface}'very_long_interface_name'"),
        ),
        ("net1@..", format!("{interface}'..'")),
        ("net1@a:b", format!("{interface}'a:b'")),
        ("net1@eth%d", format!("{interface}'eth%d'")),
    ] {
        let error = error(text);
        assert_eq!(error.msg, format!("{object}{expected}"), "{text}");
        assert_eq!(error.code, cni::Code::InvalidConfig);
        assert!(error.details.contains(NETWORKS), "{text}: {error}");
    }
    assert!(error("a,b_c").details.contains("item 2 of 2"));
}

#[test]
fn an_item_has_to_name_a_network() {
    let nameless = "cannot find a network-attachment-definition () in namespace (pod-ns): resource name may not be empty";
    for text in [
        "[{}]",
        "net1,",
        ",net1",
        " ",
        "@eth1",
        r#"[{"name":"a"},{"name":""}]"#,
    ] {
        assert_eq!(error(text).msg, nameless, "{text}");
    }
    for (text, object) in [
        (
            r#"[{"name":"../secrets"}]"#,
            "(../secrets) in namespace (pod-ns)",
        ),
        (r#"[{"name":"a/b"}]"#, "(a/b) in namespace (pod-ns)"),
        (r#"[{"name":"A"}]"#, "(A) in namespace (pod-ns)"),
        (r#"[{"name":"a?x"}]"#, "(a?x) in namespace (pod-ns)"),
        (
            r#"[{"name":"a","namespace":"b.c"}]"#,
            "(a) in namespace (b.c)",
        ),
        (
            r#"[{"name":"a","namespace":".."}]"#,
            "(a) in namespace (..)",
        ),
    ] {
        assert!(error(text).msg.contains(object), "{text}: {}", error(text));
    }
}

#[test]
fn every_key_of_the_long_form() {
    let text = r#"[{"name":"net.1","namespace":"ns","interface":"lan0","ips":["10.1.2.3/24","fd00::1"],
        "mac":"C2:B0:57:49:47:F1","infiniband-guid":"c2:11:22:33:44:55:66:77",
        "portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"TCP"},{"hostPort":1,"containerPort":65535,"hostIP":"::1"}],
        "bandwidth":{"ingressRate":2048,"ingressBurst":1600},
        "cni-args":{"a":"b","c":[1],"a":{"d":2}},"default-route":["10.1.2.1","fd00::fe"],"deviceID":"0000:03:02.0",
        "ipam-claim-reference":"x","unknown":7}]"#;
    let [found] = <[Selection; 1]>::try_from(read(text)).unwrap();
    assert_eq!(
        (found.namespace.as_str(), found.name.as_str()),
        ("ns", "net.1")
    );
    assert_eq!(found.interface.as_ref().unwrap().as_str(), "lan0");
    let ips: Vec<_> = found.ips.iter().map(IpRequest::as_str).collect();
    assert_eq!(ips, ["10.1.2.3/24", "fd00::1"]);
    assert_eq!(found.mac.unwrap().as_str(), "C2:B0:57:49:47:F1");
    assert_eq!(
        found.infiniband_guid.unwrap().as_str(),
        "c2:11:22:33:44:55:66:77"
    );
    assert_eq!(
        serde_json::to_string(&found.port_mappings).unwrap(),
        r#"[{"hostPort":8080,"containerPort":80,"protocol":"TCP"},{"hostPort":1,"containerPort":65535,"hostIP":"::1"}]"#
    );
    assert_eq!(
        serde_json::to_string(&found.bandwidth).unwrap(),
        r#"{"ingressRate":2048,"ingressBurst":1600,"egressRate":0,"egressBurst":0}"#
    );
    let args: Vec<_> = found
        .cni_args
        .iter()
        .map(|(k, v)| format!("{k}={}", serde_json::to_string(v).unwrap()))
        .collect();
    assert_eq!(args, [r#"a={"d":2}"#, "c=[1]"]);
    let gateways: Vec<_> = found
        .default_route
        .unwrap()
        .iter()
        .map(|ip| ip.to_string())
        .collect();
    assert_eq!(gateways, ["10.1.2.1", "fd00::fe"]);
    assert_eq!(found.device_id.as_deref(), Some("0000:03:02.0"));
}

#[test]
fn keys_are_read_as_go_reads_them() {
    assert_eq!(read(r#"[{"NAME":"n","Namespace":"x"}]"#)[0].namespace, "x");
    let plain =
        one(r#""mac":null,"ips":null,"cni-args":null,"default-route":null,"portMappings":null"#);
    assert_eq!(plain, read("n")[0]);
    let empty =
        one(r#""mac":"","ips":[],"cni-args":{},"interface":"","deviceID":"","namespace":"""#);
    assert_eq!(empty, read("n")[0]);
    let old = |members| one(members).interface.unwrap().to_string();
    assert_eq!(old(r#""interfaceRequest":"a""#), "a");
    assert_eq!(old(r#""interfaceRequest":"a","interface":"b""#), "b");
    assert_eq!(
        one(r#""default-route":[]"#).default_route,
        Some(Gateways::default())
    );
    assert!(read("[]").is_empty());
}

#[test]
fn the_long_form_refused() {
    let json = element::JSON;
    for (members, expected) in [
        (r#""mac":"zz""#, "parsePodNetworkAnnotation: failed to mac: address zz: invalid MAC address".to_owned()),
        (r#""infiniband-guid":"1""#, "parsePodNetworkAnnotation: failed to validate infiniband GUID: address 1: invalid MAC address".into()),
        (r#""ips":["10.1.2.3/99"]"#, r#"failed to parse CIDR "10.1.2.3/99": invalid CIDR address: 10.1.2.3/99"#.into()),
        (r#""ips":["10.1.2"]"#, r#"failed to parse IP address "10.1.2""#.into()),
        (r#""ips":[""]"#, r#"failed to parse IP address """#.into()),
        (r#""default-route":["x"]"#, format!("{json}: invalid IP address: x")),
        (r#""default-route":["10.0.0.1","10.0.0.2"]"#, request::ECMP.into()),
        (r#""interface":"0123456789abcdef""#, r#"interface name is too long; interface name "0123456789abcdef""#.into()),
        (r#""interfaceRequest":"a/b""#, r#"interface name contains / or : or whitespace characters; interface name "a/b""#.into()),
        (r#""cni-args":[]"#, format!("{json}: cni-args is no object")),
        (r#""cni-args":"x""#, format!("{json}: cni-args is no object")),
    ] {
        let error = error(&element(members));
        assert_eq!(error.msg, expected, "{members}");
        assert!(error.details.contains("item 1 of 1"), "{members}: {error}");
    }
    for (members, place) in [
        (r#""ips":"10.1.2.3""#, "ips: "),
        (
            r#""portMappings":[{"hostPort":1,"containerPort":1},{"hostPort":70000,"containerPort":1}]"#,
            "portMappings[1]: hostPort 70000",
        ),
        (
            r#""portMappings":[{"hostPort":1}]"#,
            "portMappings[0]: containerPort 0",
        ),
        (
            r#""portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]"#,
            r#"portMappings[0]: protocol "icmp""#,
        ),
        (
            r#""portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]"#,
            "portMappings[0]: hostIP: invalid",
        ),
        (r#""portMappings":[null]"#, "portMappings[0]: "),
        (r#""bandwidth":{"egressBurst":1}"#, "bandwidth: egressBurst"),
        (r#""bandwidth":{"egressRate":-1}"#, "bandwidth.egressRate: "),
        (r#""name":5"#, "name: "),
        (r#""deviceID":5"#, "deviceID: "),
    ] {
        let msg = error(&element(members)).msg;
        assert!(
            msg.starts_with(&format!("{json}: {place}")),
            "{members}: {msg}"
        );
    }
}

#[test]
fn documents_that_are_no_list_of_objects() {
    for text in [
        "[adsfasdfasdfasf]",
        "[null]",
        r#"[{"name":"a"},null]"#,
        r#"["net1"]"#,
        "[[]]",
        "[5]",
        "{}",
        r#"{"name":"net1"}"#,
        r#""net1""#,
        r#"net1,"net2""#,
        "[",
        "[]]",
        r#"[{"name":"a"}"#,
    ] {
        let error = error(text);
        assert!(error.msg.starts_with(element::JSON), "{text}: {error}");
        assert!(error.details.contains(NETWORKS), "{text}: {error}");
    }
    assert!(
        error(r#"[{"name":"a"},null]"#)
            .details
            .contains("item 2 of 2: it is null")
    );
}

#[test]
fn what_can_not_be_had_twice() {
    let twice =
        error(r#"[{"name":"a","interface":"x"},{"name":"b"},{"name":"c","interfaceRequest":"x"}]"#);
    assert_eq!(twice.msg, "interface name x already exists");
    assert!(twice.details.contains("items 1 and 3"), "{twice}");
    assert!(networks("a@x,b@y", "ns").is_ok());

    let route = |a: &str, b: &str| {
        format!(r#"[{{"name":"a","default-route":[{a}]}},{{"name":"b","default-route":[{b}]}}]"#)
    };
    for (a, b) in [
        (r#""10.0.0.1""#, r#""fd00::1""#),
        ("", ""),
        (r#""10.0.0.1","fd00::1""#, ""),
    ] {
        assert!(networks(&route(a, b), "ns").is_ok(), "{a} {b}");
    }
    let ecmp = error(&route(r#""10.0.0.1""#, r#""fd00::1","10.0.0.2""#));
    assert_eq!(ecmp.msg, "multus does not support ECMP for default-route");
    assert!(ecmp.details.contains("pod-ns/b"), "{ecmp}");
}

#[test]
fn the_default_network_is_one() {
    let alternative = default_network("default/alt@eth7", "kube-system").unwrap();
    assert_eq!(
        (alternative.namespace.as_str(), alternative.name.as_str()),
        ("default", "alt")
    );
    assert_eq!(
        default_network(r#"[{"name":"a"}]"#, "kube-system")
            .unwrap()
            .namespace,
        "kube-system"
    );
    for (text, expected) in [
        (
            "",
            r#"tryLoadK8sPodDefaultNetwork: failed to parse CRD object: parsePodNetworkAnnotation: pod annotation does not have "network" as key"#,
        ),
        (
            "[]",
            "tryLoadK8sPodDefaultNetwork: no default network is specified",
        ),
        (
            "a,b",
            "tryLoadK8sPodDefaultNetwork: more than one default network is specified: a,b",
        ),
    ] {
        let error = default_network(text, "kube-system").unwrap_err();
        assert_eq!(error.msg, expected, "{text}");
        assert!(error.details.contains(DEFAULT_NETWORK), "{error}");
    }
    let null = default_network("[null]", "kube-system").unwrap_err();
    assert!(
        null.msg
            .starts_with("tryLoadK8sPodDefaultNetwork: failed to parse CRD object: "),
        "{null}"
    );
}

proptest! {
    /// Whatever a user writes is read or refused, and what is read can be named in a path.
    #[test]
    fn no_text_does_harm(text in r#"[a-z/@,.\[\]{}":\\ -]{0,24}"#) {
        for selection in networks(&text, "ns").unwrap_or_default() {
            prop_assert!(request::is_subdomain(&selection.name));
            prop_assert!(request::is_label(&selection.namespace));
            if let Some(interface) = selection.interface {
                prop_assert!(cni::names::ifname(interface.as_str()).is_ok());
            }
        }
        let _ = default_network(&text, "ns");
    }
}
