//! The result of ADD: one inner shape, the newest, read from and written to every version's own shape.

mod read;
mod write;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// What a successful ADD achieved (spec section 5, "Success"), in the newest shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Success {
    /// Interfaces made by the plugin, in the pod and on the host. IPAM plugins have none.
    pub interfaces: Vec<Interface>,
    /// Addresses assigned.
    pub ips: Vec<Ip>,
    /// Routes created.
    pub routes: Vec<Route>,
    /// Name resolution for the pod.
    pub dns: Dns,
}

/// One interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// Name in its namespace.
    pub name: String,
    /// Hardware address as text; empty where there is none.
    pub mac: String,
    /// Bytes; 0 is not known. Since 1.1.0.
    pub mtu: u32,
    /// `CNI_NETNS` as it was given; empty on the host.
    pub sandbox: String,
    /// Absolute path of a vhost-user socket. Since 1.1.0.
    pub socket_path: String,
    /// PCI address of a network function. Since 1.1.0.
    #[serde(rename = "pciID")]
    pub pci_id: String,
}

/// One address of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// Address and prefix length, host bits kept: `10.1.2.5/24`.
    pub address: IpNetwork,
    /// Default gateway of the address's subnet.
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`. IPAM plugins give none.
    pub interface: Option<usize>,
}

/// One route of a result or a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; without it the gateway of the first address of the same family is used.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes, 0 is unset (`RTAX_MTU`). Since 1.1.0.
    pub mtu: u32,
    /// Largest TCP segment to announce in bytes, 0 is unset (`RTAX_ADVMSS`). Since 1.1.0.
    pub advmss: u32,
    /// Metric, 0 is unset (`RTA_PRIORITY`). Since 1.1.0.
    pub priority: u32,
    /// Routing table; `None` and 0 are the main table (`RTA_TABLE`). Since 1.1.0.
    pub table: Option<u32>,
    /// `RT_SCOPE_*`; `None` is universe. Since 1.1.0.
    pub scope: Option<u32>,
}

/// Name resolution. Written the same in all versions, without what is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, as text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain for short names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}
