//! One result out of those of all interfaces, the pod's first interface at its head.

use cni::text::format_mac;
use cni::{Dns, Interface, Ip, Route, Success};
use kernel::Link;

use crate::ipam::Addresses;
use crate::link::net;

/// What an interface has come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) ifname: String,
    /// What a delegate answered; `None` for an interface that this plugin made itself.
    pub(crate) delegated: Option<Success>,
    pub(crate) addresses: Addresses,
    /// The link in the pod, if there is one.
    pub(crate) link: Option<Link>,
    /// The routes of the network that were made.
    pub(crate) routes: Vec<Route>,
}

/// What the original answers: interfaces without hardware address and in a `sandbox` that is the container's id,
/// addresses without interface, a delegate's numbers of interfaces as they came.
pub(crate) fn compatible(outcomes: Vec<Outcome>, cid: &str) -> Success {
    let mut all = Success::default();
    for outcome in outcomes {
        let one = outcome.delegated.unwrap_or_else(|| Success {
            interfaces: vec![Interface {
                name: outcome.ifname,
                sandbox: cid.to_owned(),
                ..Interface::default()
            }],
            ips: ips(&outcome.addresses, None),
            ..Success::default()
        });
        all.interfaces.extend(one.interfaces);
        all.ips.extend(one.ips);
        all.routes.extend(one.routes);
    }
    all
}

/// What the specification asks for: every interface in the pod with its hardware address and its namespace, every
/// address with the number of its interface in this result, every route of the main table. What the
/// configuration says of `dns` counts for more than what a delegate says.
pub(crate) fn complete(outcomes: Vec<Outcome>, netns: &str, dns: &Dns) -> Success {
    let mut all = Success::default();
    for outcome in outcomes {
        let first = all.interfaces.len();
        let mac = outcome
            .link
            .as_ref()
            .map(|link| format_mac(&link.mac))
            .unwrap_or_default();
        let own = Interface {
            name: outcome.ifname.clone(),
            mac,
            sandbox: netns.to_owned(),
            ..Interface::default()
        };
        let mut one = outcome.delegated.unwrap_or_else(|| Success {
            ips: ips(&outcome.addresses, None),
            ..Success::default()
        });
        let is_own = |i: &Interface| i.name == outcome.ifname && !i.sandbox.is_empty();
        // Results of 0.2.0 tell no interfaces.
        let place = one.interfaces.iter().position(is_own);
        let place = place.or_else(|| {
            outcome.link.as_ref()?;
            one.interfaces.push(own);
            Some(one.interfaces.len() - 1)
        });
        for ip in &mut one.ips {
            let known = ip.interface.filter(|place| *place < one.interfaces.len());
            ip.interface = known.or(place).map(|place| first + place);
        }
        all.interfaces.extend(one.interfaces);
        all.ips.extend(one.ips);
        all.routes.extend(one.routes);
        all.routes.extend(outcome.routes);
        if all.dns.is_empty() {
            all.dns = one.dns;
        }
    }
    if !dns.is_empty() {
        all.dns.clone_from(dns);
    }
    all
}

fn ips(addresses: &Addresses, interface: Option<usize>) -> Vec<Ip> {
    let nets = [&addresses.ip, &addresses.ip6]
        .into_iter()
        .filter_map(|address| net(address));
    nets.map(|address| Ip {
        address,
        gateway: None,
        interface,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use cni::Version;

    use super::*;

    fn example() -> Vec<Outcome> {
        let calico = br#"{"cniVersion":"0.2.0","ip4":{"ip":"192.168.102.141/32"}}"#;
        let link = |mac: u8| {
            Some(Link {
                mac: vec![2, 0, 0, 0, 0, mac],
                ..Link::default()
            })
        };
        vec![
            Outcome {
                ifname: "eth0".into(),
                delegated: Some(Success::parse(calico, "").unwrap()),
                link: link(1),
                ..Outcome::default()
            },
            Outcome {
                ifname: "oampub1".into(),
                delegated: None,
                addresses: Addresses {
                    ip: "10.2.157.1/27".into(),
                    ip6: String::new(),
                },
                link: link(2),
                routes: Vec::new(),
            },
        ]
    }

    /// `TestMergeCniResults` of the original, with the example pod.
    #[test]
    fn as_the_original() {
        let text = compatible(example(), "cid")
            .to_json(Version::V0_3_1)
            .unwrap();
        let compact: String = text.split_whitespace().collect();
        assert_eq!(
            compact,
            r#"{"cniVersion":"0.3.1","interfaces":[{"name":"oampub1","sandbox":"cid"}],"ips":[{"version":"4","address":"192.168.102.141/32"},{"version":"4","address":"10.2.157.1/27"}],"dns":{}}"#
        );
    }

    #[test]
    fn as_the_specification() {
        let mut outcomes = example();
        let bridge = br#"{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":"veth1"},{"name":"br2","sandbox":"/ns"}],
            "ips":[{"address":"10.7.0.2/24","interface":2}],"dns":{"domain":"d"}}"#;
        outcomes.push(Outcome {
            ifname: "br2".into(),
            delegated: Some(Success::parse(bridge, "").unwrap()),
            ..Outcome::default()
        });
        let result = complete(outcomes, "/ns", &Dns::default());
        let interfaces: Vec<_> = result
            .interfaces
            .iter()
            .map(|i| (i.name.as_str(), i.sandbox.as_str(), i.mac.as_str()))
            .collect();
        assert_eq!(
            interfaces,
            [
                ("eth0", "/ns", "02:00:00:00:00:01"),
                ("oampub1", "/ns", "02:00:00:00:00:02"),
                ("br0", "", ""),
                ("veth1", "", ""),
                ("br2", "/ns", ""),
            ]
        );
        let ips: Vec<_> = result.ips.iter().map(|ip| ip.interface).collect();
        assert_eq!(ips, [Some(0), Some(1), Some(4)]);
        assert_eq!(result.dns.domain, "d");
    }
}
