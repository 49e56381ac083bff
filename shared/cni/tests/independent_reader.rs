//! Another implementation reads what we write: the published crate `cni-plugin`.
//!
//! It can't carry a plugin (see the README), but the shapes it knows, 0.4.0 and 1.0.0, it reads strictly.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cni::{Code, Dns, Error, Interface, Ip, Route, Success, Version};
use cni_plugin::reply::{ErrorReply, SuccessReply};

fn attachment() -> Success {
    Success {
        interfaces: vec![Interface {
            name: "net1".into(),
            mac: "08:00:27:b0:4c:0e".into(),
            sandbox: "/run/netns/blue".into(),
            mtu: 1500,
            ..Interface::default()
        }],
        ips: ["10.168.1.200/24", "2001:db8::2/64"]
            .map(|address| Ip {
                address: address.parse().unwrap(),
                gateway: None,
                interface: Some(0),
            })
            .into(),
        routes: vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: Some("10.168.1.1".parse().unwrap()),
            mtu: 1400,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
        }],
        dns: Dns {
            nameservers: vec!["10.168.1.1".into()],
            ..Dns::default()
        },
    }
}

#[test]
fn results_of_0_4_0_and_1_0_0() {
    for version in [Version::V0_4_0, Version::V1_0_0] {
        let document = attachment().to_json(version).unwrap();
        let read: SuccessReply = serde_json::from_str(&document).unwrap();
        assert_eq!(read.cni_version.to_string(), version.as_str());
        assert_eq!(read.interfaces.len(), 1);
        let addresses: Vec<String> = read.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(addresses, ["10.168.1.200/24", "2001:db8::2/64"]);
        assert_eq!(read.ips[0].interface, Some(0));
        assert_eq!(read.routes[0].gw.unwrap().to_string(), "10.168.1.1");
        assert_eq!(read.dns.nameservers[0].to_string(), "10.168.1.1");
    }
}

#[test]
fn errors() {
    // It wants `details`, which the spec leaves optional.
    let error = Error::new(Code::InvalidConfig, "missing network name").details("name");
    let document = error.to_json("1.0.0");
    let read: ErrorReply<'static> =
        serde_json::from_str(Box::leak(document.into_boxed_str())).unwrap();
    assert_eq!((read.code, read.msg), (7, "missing network name"));
}
