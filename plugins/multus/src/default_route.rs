//! `default-route`: which of a pod's networks the rest of the world is reached by.
//!
//! Each family is for itself. Where a network is given a gateway of a family, that is the pod's only default route of
//! the family. Where one is given an empty list, its own default routes stay, and those of the others go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{Error, Route, Success};
use ipnetwork::IpNetwork;
use kernel::{Netns, Rtnl};

use crate::annotation::Gateways;
use crate::attachment::Attachment;

/// Whose default route one family has.
#[derive(Debug, PartialEq)]
struct Choice {
    /// Place of the network.
    owner: usize,
    /// `None`: its own stays.
    gateway: Option<IpAddr>,
    is_v6: bool,
}

/// Makes the pod's default routes those that were asked for, in the kernel and in the results. Whether anything was
/// asked for.
///
/// Errors: the kernel refused, because a gateway can't be reached for example.
pub(crate) fn apply(
    attachments: &[Attachment],
    results: &mut [Success],
    pod: &Netns,
) -> Result<bool, Error> {
    let wishes: Vec<Option<Gateways>> = attachments.iter().map(|a| a.default_route).collect();
    let choices = choices(&wishes, results);
    for choice in &choices {
        let name = attachments
            .get(choice.owner)
            .map_or("", |a| a.ifname.as_str());
        let family = if choice.is_v6 { "IPv6" } else { "IPv4" };
        pod.inside(|| {
            let mut rtnl = Rtnl::open()?;
            match choice.gateway {
                Some(gateway) => rtnl.replace_default_route(name, gateway),
                None => rtnl.keep_default_route(name, choice.is_v6),
            }
        })
        .map_err(|e: kernel::Error| {
            Error::from(e).context(format!(
                "error setting default gateway: {family} by {name:?}"
            ))
        })?;
        rewrite(choice, results);
    }
    Ok(!choices.is_empty())
}

fn choices(wishes: &[Option<Gateways>], results: &[Success]) -> Vec<Choice> {
    let family = |is_v6: bool| {
        let gateway = |gateways: &Gateways| match is_v6 {
            false => gateways.v4.map(IpAddr::V4),
            true => gateways.v6.map(IpAddr::V6),
        };
        let asked = |(owner, wish): (usize, &Option<Gateways>)| {
            let gateway = gateway(wish.as_ref()?)?;
            Some((owner, Some(gateway)))
        };
        let own = |(owner, wish): (usize, &Option<Gateways>)| {
            let is_empty = wish.is_some_and(|gateways| gateways == Gateways::default());
            let has_own = results
                .get(owner)?
                .routes
                .iter()
                .any(|r| is_default(r, is_v6));
            (is_empty && has_own).then_some((owner, None))
        };
        let numbered = || wishes.iter().enumerate();
        let (owner, gateway) = numbered()
            .find_map(asked)
            .or_else(|| numbered().find_map(own))?;
        Some(Choice {
            owner,
            gateway,
            is_v6,
        })
    };
    [false, true].into_iter().filter_map(family).collect()
}

/// The results say what the kernel has.
fn rewrite(choice: &Choice, results: &mut [Success]) {
    for (index, result) in results.iter_mut().enumerate() {
        let keeps_own = index == choice.owner && choice.gateway.is_none();
        if !keeps_own {
            result
                .routes
                .retain(|route| !is_default(route, choice.is_v6));
        }
        if let (true, Some(gateway)) = (index == choice.owner, choice.gateway) {
            result.routes.extend(default_via(gateway));
        }
    }
}

fn is_default(route: &Route, is_v6: bool) -> bool {
    route.dst.prefix() == 0 && route.dst.is_ipv6() == is_v6
}

fn default_via(gateway: IpAddr) -> Option<Route> {
    let everything = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Some(Route {
        dst: IpNetwork::new(everything, 0).ok()?,
        gw: Some(gateway),
        mtu: 0,
        advmss: 0,
        priority: 0,
        table: None,
        scope: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(routes: &str) -> Success {
        Success::parse(format!(r#"{{"routes":[{routes}]}}"#).as_bytes(), "1.0.0").unwrap()
    }

    fn gateways(v4: &str, v6: &str) -> Option<Gateways> {
        Some(Gateways {
            v4: v4.parse().ok(),
            v6: v6.parse().ok(),
        })
    }

    const BOTH: &str =
        r#"{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"::/0"},{"dst":"10.9.0.0/16"}"#;

    fn after(wishes: &[Option<Gateways>], results: &[&str]) -> Vec<Vec<String>> {
        let mut results: Vec<Success> = results.iter().map(|r| result(r)).collect();
        for choice in choices(wishes, &results) {
            rewrite(&choice, &mut results);
        }
        let text = |route: &Route| match route.gw {
            Some(gw) => format!("{} via {gw}", route.dst),
            None => route.dst.to_string(),
        };
        results
            .iter()
            .map(|r| r.routes.iter().map(text).collect())
            .collect()
    }

    #[test]
    fn a_gateway_is_the_only_one_of_its_family() {
        let found = after(&[None, gateways("10.1.0.1", "")], &[BOTH, BOTH]);
        assert_eq!(found[0], ["::/0", "10.9.0.0/16"]);
        assert_eq!(found[1], ["::/0", "10.9.0.0/16", "0.0.0.0/0 via 10.1.0.1"]);
        let found = after(&[None, gateways("10.1.0.1", "fd00::1")], &[BOTH, ""]);
        assert_eq!(found[0], ["10.9.0.0/16"]);
        assert_eq!(found[1], ["0.0.0.0/0 via 10.1.0.1", "::/0 via fd00::1"]);
    }

    #[test]
    fn an_empty_list_keeps_the_networks_own() {
        let own = r#"{"dst":"0.0.0.0/0","gw":"10.1.0.9"}"#;
        let found = after(&[None, gateways("", "")], &[BOTH, own]);
        assert_eq!(found[0], ["::/0", "10.9.0.0/16"], "IPv6 has no other way");
        assert_eq!(found[1], ["0.0.0.0/0 via 10.1.0.9"]);
        assert_eq!(
            after(&[None, None], &[BOTH, own])[0].len(),
            3,
            "nobody asked"
        );
    }
}
