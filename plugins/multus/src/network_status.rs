//! The annotation that tells users and programs how a pod is attached: its networks with interfaces and addresses.
//!
//! Programs compare and parse this text, so order, omissions, indentation and escapes are the original's (4.x).
//! Different on purpose: a delegate that names no interface of the pod is there with its addresses, an address
//! is never left out because its interface is not known, and a default route without a gateway of its own shows
//! the gateway of its family's first address, or none, where the original writes `<nil>`.

use cni::json::{Value, pretty};
use cni::{Dns, Interface, Ip, Success};
use serde::Serialize;

/// The annotation's key.
pub(crate) const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// One attachment of the pod, as it stands at the end of ADD.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    /// `namespace/name` of the NetworkAttachmentDefinition, else the name in the configuration.
    pub(crate) name: &'a str,
    /// Whether it is the pod's default network.
    pub(crate) is_default: bool,
    /// The interface's name as it was given to the delegate.
    pub(crate) ifname: &'a str,
    /// What the delegate answered; with the routes as they are after `default-route` was applied.
    pub(crate) result: &'a Success,
    /// What is known of the device behind it.
    pub(crate) device_info: Option<&'a Value>,
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    interface: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    dns: &'a Dns,
    #[serde(rename = "device-info", skip_serializing_if = "Option::is_none")]
    device_info: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gateway: &'a [String],
}

/// The text of the annotation: one object for each interface in the pod, and for a delegate that names none.
pub(crate) fn text(attachments: &[Attached<'_>]) -> String {
    let objects: Vec<String> = attachments.iter().flat_map(objects).collect();
    escape(&format!("[{}]", objects.join(",")))
}

fn objects(attached: &Attached<'_>) -> Vec<String> {
    let result = attached.result;
    let gateway = default_gateways(result);
    let in_pod = |interface: &&Interface| !interface.sandbox.is_empty();
    let mut statuses: Vec<Status<'_>> = result
        .interfaces
        .iter()
        .filter(in_pod)
        .map(|interface| status(attached, Some(interface), &gateway))
        .collect();
    if statuses.is_empty() {
        statuses.push(status(attached, None, &gateway));
    }
    let mut default = None;
    for ip in &result.ips {
        if let Some(owner) = owner(ip, attached) {
            if ip.gateway.is_some() {
                default = default.or(Some(owner));
            }
            if let Some(status) = statuses.get_mut(owner) {
                status.ips.push(ip.address.ip().to_string());
            }
        }
    }
    if let Some(status) = statuses.get_mut(default.unwrap_or(0)) {
        status.default = attached.is_default;
    }
    statuses.iter().map(pretty).collect()
}

fn status<'a>(
    attached: &Attached<'a>,
    interface: Option<&'a Interface>,
    gateway: &'a [String],
) -> Status<'a> {
    Status {
        name: attached.name,
        interface: interface.map_or("", |i| &i.name),
        ips: Vec::new(),
        mac: interface.map_or("", |i| &i.mac),
        mtu: interface.map_or(0, |i| i.mtu),
        default: false,
        dns: &attached.result.dns,
        device_info: attached.device_info,
        gateway,
    }
}

/// Which of the interfaces in the pod has an address; `None` when it is one of the host's.
///
/// Where the result doesn't say it, it is the interface that was asked for, or the first.
fn owner(ip: &Ip, attached: &Attached<'_>) -> Option<usize> {
    let interfaces = &attached.result.interfaces;
    let in_pod = |interface: &&Interface| !interface.sandbox.is_empty();
    let asked_for = || {
        let mut in_pod = interfaces.iter().filter(in_pod);
        in_pod.position(|interface| interface.name == attached.ifname)
    };
    match ip
        .interface
        .and_then(|index| Some((index, interfaces.get(index)?)))
    {
        Some((index, interface)) if in_pod(&interface) => {
            Some(interfaces.iter().take(index).filter(in_pod).count())
        }
        // The host's only where it says which are the pod's: a delegate may name nothing but its end on the host.
        Some(_) if interfaces.iter().any(|i| in_pod(&i)) => None,
        _ => Some(asked_for().unwrap_or(0)),
    }
}

/// The gateways of the default routes, each once.
fn default_gateways(result: &Success) -> Vec<String> {
    let mut gateways = Vec::new();
    for route in result.routes.iter().filter(|r| r.dst.prefix() == 0) {
        let of_first_address = || {
            let family = |ip: &&Ip| ip.address.is_ipv4() == route.dst.is_ipv4();
            let mut ips = result.ips.iter().filter(family);
            ips.find_map(|ip| ip.gateway)
        };
        if let Some(gateway) = route.gw.or_else(of_first_address) {
            let text = gateway.to_string();
            if !gateways.contains(&text) {
                gateways.push(text);
            }
        }
    }
    gateways
}

/// Go writes these so that a document may stand in HTML. In JSON they only occur within strings.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => text.push(c),
        }
    }
    text
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(json: &str) -> Success {
        Success::parse(json.as_bytes(), "1.1.0").unwrap()
    }

    fn attached<'a>(name: &'a str, result: &'a Success) -> Attached<'a> {
        Attached {
            name,
            is_default: false,
            ifname: "net1",
            result,
            device_info: None,
        }
    }

    /// The text without the white space between its parts.
    fn compact(attached: &Attached<'_>) -> String {
        let value = Value::parse(text(std::slice::from_ref(attached)).as_bytes()).unwrap();
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn the_text_is_the_originals() {
        let calico = result(
            r#"{"interfaces":[{"name":"cali1"}],"ips":[{"address":"10.244.1.5/32"}],"dns":{}}"#,
        );
        let macvlan = result(
            r#"{"interfaces":[{"name":"net1","mac":"02:00:00:00:00:01","mtu":1500,"sandbox":"/run/netns/p"}],
            "ips":[{"address":"10.1.2.3/16","gateway":"10.1.0.1","interface":0},{"address":"fd00::3/64"}],
            "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"10.0.0.0/8"}],
            "dns":{"nameservers":["10.1.0.53"],"domain":"a<b","search":["x"],"options":["ndots:5"]}}"#,
        );
        let device = Value::parse(
            br#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:03:02.0"}}"#,
        );
        let device = device.unwrap();
        let first = Attached {
            is_default: true,
            ifname: "eth0",
            ..attached("k8s-pod-network", &calico)
        };
        let second = Attached {
            device_info: Some(&device),
            ..attached("default/macvlan", &macvlan)
        };
        let expected = r#"[{
    "name": "k8s-pod-network",
    "ips": [
        "10.244.1.5"
    ],
    "default": true,
    "dns": {}
},{
    "name": "default/macvlan",
    "interface": "net1",
    "ips": [
        "10.1.2.3",
        "fd00::3"
    ],
    "mac": "02:00:00:00:00:01",
    "mtu": 1500,
    "dns": {
        "nameservers": [
            "10.1.0.53"
        ],
        "domain": "a\u003cb",
        "search": [
            "x"
        ],
        "options": [
            "ndots:5"
        ]
    },
    "device-info": {
        "type": "pci",
        "version": "1.1.0",
        "pci": {
            "pci-address": "0000:03:02.0"
        }
    },
    "gateway": [
        "10.1.0.1"
    ]
}]"#;
        assert_eq!(text(&[first, second]), expected);
    }

    #[test]
    fn each_interface_in_the_pod_has_its_addresses() {
        let several = result(
            r#"{"interfaces":[{"name":"br0"},{"name":"net1","sandbox":"/p"},{"name":"net1-b","sandbox":"/p"}],
            "ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","interface":2,"gateway":"10.0.0.1"},
                   {"address":"10.0.0.3/24","interface":1},{"address":"10.0.0.4/24"},{"address":"10.0.0.5/24","interface":9}]}"#,
        );
        let found = compact(&Attached {
            is_default: true,
            ..attached("n", &several)
        });
        assert_eq!(
            found,
            r#"[{"name":"n","interface":"net1","ips":["10.0.0.3","10.0.0.4","10.0.0.5"],"dns":{}},{"name":"n","interface":"net1-b","ips":["10.0.0.2"],"default":true,"dns":{}}]"#
        );
        let second = compact(&Attached {
            ifname: "net1-b",
            ..attached("n", &several)
        });
        assert!(
            second.contains(r#""ips":["10.0.0.2","10.0.0.4","10.0.0.5"]"#),
            "{second}"
        );
    }

    #[test]
    fn a_delegate_without_an_interface_in_the_pod_is_not_left_out() {
        for (json, ips) in [
            ("{}", ""),
            (
                r#"{"ips":[{"address":"10.0.0.2/24"}]}"#,
                r#""ips":["10.0.0.2"],"#,
            ),
            (
                r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}"#,
                r#""ips":["10.0.0.2"],"#,
            ),
            (
                r#"{"interfaces":[{"name":"a"},{"name":"b"}],"ips":[{"address":"10.0.0.2/24","interface":1}]}"#,
                r#""ips":["10.0.0.2"],"#,
            ),
        ] {
            let result = result(json);
            let expected = format!(r#"[{{"name":"n",{ips}"dns":{{}}}}]"#);
            assert_eq!(compact(&attached("n", &result)), expected, "{json}");
        }
        assert_eq!(text(&[]), "[]");
    }

    #[test]
    fn gateways_are_addresses() {
        for (json, gateways) in [
            (r#"{"routes":[{"dst":"0.0.0.0/0"}]}"#, ""),
            (r#"{"routes":[{"dst":"10.0.0.0/8","gw":"10.0.0.1"}]}"#, ""),
            (
                r#"{"ips":[{"address":"fd00::2/64","gateway":"fd00::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}"#,
                r#","gateway":["fd00::1"]"#,
            ),
            (
                r#"{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"0.0.0.0/0","gw":"10.0.0.1"}]}"#,
                r#","gateway":["10.0.0.1"]"#,
            ),
        ] {
            let result = result(json);
            let found = compact(&attached("n", &result));
            assert!(
                found.ends_with(&format!(r#""dns":{{}}{gateways}}}]"#)),
                "{json}: {found}"
            );
            assert!(!found.contains("nil"), "{found}");
        }
    }
}
