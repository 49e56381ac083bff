//! Writing a result in exactly the keys of one version.
//!
//! Three shapes cover the seven versions: 0.1.0 and 0.2.0 have one object per address family, 0.3.0 to 0.4.0 have
//! `ips[].version` and always `dns`, 1.0.0 and 1.1.0 have neither. Key order is the originals': as declared up to
//! 0.4.0, alphabetical from 1.0.0 on.

use serde::Serialize;

use crate::{Dns, Error, Interface, Ip, Route, Success, Version, json};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Before030<'a> {
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Family {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<OldRoute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Before100<'a> {
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<OldInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<OldIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<OldRoute>,
    dns: &'a Dns,
}

#[derive(Serialize)]
struct OldInterface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
}

#[derive(Serialize)]
struct OldIp {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

#[derive(Serialize)]
struct OldRoute {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Since100<'a> {
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<&'a Dns>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<NewInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<NewIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<NewRoute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewInterface<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    mac: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    name: &'a str,
    #[serde(rename = "pciID", skip_serializing_if = "str::is_empty")]
    pci_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
}

#[derive(Serialize)]
struct NewIp {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
}

#[derive(Serialize)]
struct NewRoute {
    #[serde(skip_serializing_if = "is_zero")]
    advmss: u32,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(skip_serializing_if = "is_zero")]
    priority: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Success {
    /// The result as a document of one version: its keys and no others, indented by four spaces, no final newline.
    ///
    /// Error (code 999): 0.1.0 and 0.2.0 can only tell addresses, so a result without any can't be told.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        let cni_version = version.as_str();
        if version < Version::V0_3_0 {
            let (ip4, ip6) = (self.family(false), self.family(true));
            if ip4.is_none() && ip6.is_none() {
                return Err(Error::plugin("cannot convert: no valid IP addresses"));
            }
            return Ok(json::pretty(&Before030 {
                cni_version,
                ip4,
                ip6,
                dns: &self.dns,
            }));
        }
        if version < Version::V1_0_0 {
            return Ok(json::pretty(&Before100 {
                cni_version,
                interfaces: self.interfaces.iter().map(OldInterface::from).collect(),
                ips: self.ips.iter().map(OldIp::from).collect(),
                routes: self.routes.iter().map(OldRoute::from).collect(),
                dns: &self.dns,
            }));
        }
        Ok(json::pretty(&Since100 {
            cni_version,
            dns: (!self.dns.is_empty()).then_some(&self.dns),
            interfaces: self
                .interfaces
                .iter()
                .map(|i| NewInterface::of(i, version))
                .collect(),
            ips: self.ips.iter().map(NewIp::from).collect(),
            routes: self
                .routes
                .iter()
                .map(|r| NewRoute::of(r, version))
                .collect(),
        }))
    }

    /// The first address of a family and all routes of that family, as 0.1.0 and 0.2.0 have them.
    fn family(&self, v6: bool) -> Option<Family> {
        let ip = self.ips.iter().find(|ip| ip.address.is_ipv6() == v6)?;
        let routes = self.routes.iter().filter(|route| route.dst.is_ipv6() == v6);
        Some(Family {
            ip: ip.address.to_string(),
            gateway: ip.gateway.map(|gw| gw.to_string()),
            routes: routes.map(OldRoute::from).collect(),
        })
    }
}

impl<'a> From<&'a Interface> for OldInterface<'a> {
    fn from(interface: &'a Interface) -> Self {
        OldInterface {
            name: &interface.name,
            mac: &interface.mac,
            sandbox: &interface.sandbox,
        }
    }
}

impl<'a> NewInterface<'a> {
    fn of(interface: &'a Interface, version: Version) -> Self {
        let since_110 = version >= Version::V1_1_0;
        NewInterface {
            mac: &interface.mac,
            mtu: if since_110 { interface.mtu } else { 0 },
            name: &interface.name,
            pci_id: if since_110 { &interface.pci_id } else { "" },
            sandbox: &interface.sandbox,
            socket_path: if since_110 {
                &interface.socket_path
            } else {
                ""
            },
        }
    }
}

impl From<&Ip> for OldIp {
    fn from(ip: &Ip) -> Self {
        OldIp {
            version: if ip.address.is_ipv6() { "6" } else { "4" },
            interface: ip.interface,
            address: ip.address.to_string(),
            gateway: ip.gateway.map(|gw| gw.to_string()),
        }
    }
}

impl From<&Ip> for NewIp {
    fn from(ip: &Ip) -> Self {
        NewIp {
            address: ip.address.to_string(),
            gateway: ip.gateway.map(|gw| gw.to_string()),
            interface: ip.interface,
        }
    }
}

impl From<&Route> for OldRoute {
    fn from(route: &Route) -> Self {
        OldRoute {
            dst: route.dst.to_string(),
            gw: route.gw.map(|gw| gw.to_string()),
        }
    }
}

impl NewRoute {
    fn of(route: &Route, version: Version) -> Self {
        let OldRoute { dst, gw } = OldRoute::from(route);
        let mut new = NewRoute {
            advmss: 0,
            dst,
            gw,
            mtu: 0,
            priority: 0,
            scope: None,
            table: None,
        };
        if version >= Version::V1_1_0 {
            new.advmss = route.advmss;
            new.mtu = route.mtu;
            new.priority = route.priority;
            new.scope = route.scope;
            new.table = route.table;
        }
        new
    }
}
