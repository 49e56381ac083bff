//! The networks of DANM: DanmNet, TenantNetwork and ClusterNetwork, which have one `spec`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Kind;
use super::meta::{ObjectMeta, null_is_empty};

/// The API groups that DANM's objects have been in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DanmGroup {
    /// `danm.k8s.io`, up to 4.3.
    #[default]
    K8s,
    /// `danm.io`, since.
    Io,
}

impl DanmGroup {
    /// Both, the older one first.
    pub const ALL: [DanmGroup; 2] = [DanmGroup::K8s, DanmGroup::Io];

    /// The group as it stands in `apiVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            DanmGroup::K8s => "danm.k8s.io",
            DanmGroup::Io => "danm.io",
        }
    }
}

/// The three kinds of network, by who may use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DanmScope {
    /// `DanmNet`: the pods of its namespace.
    DanmNet,
    /// `TenantNetwork`: the pods of its namespace, on devices that the administrator has chosen.
    TenantNetwork,
    /// `ClusterNetwork`: the pods of all namespaces, or of those in `AllowedTenants`.
    ClusterNetwork,
}

impl DanmScope {
    /// All, in the order in which a pod's default network is looked for.
    pub const ALL: [DanmScope; 3] = [
        DanmScope::DanmNet,
        DanmScope::TenantNetwork,
        DanmScope::ClusterNetwork,
    ];

    /// The kind as it stands in objects, in `apiType` of a DanmEp for example.
    pub fn as_str(self) -> &'static str {
        match self {
            DanmScope::DanmNet => "DanmNet",
            DanmScope::TenantNetwork => "TenantNetwork",
            DanmScope::ClusterNetwork => "ClusterNetwork",
        }
    }

    /// Reads `apiType`. Empty is a DanmNet, as all its readers take it.
    pub fn parse(api_type: &str) -> Option<DanmScope> {
        match api_type {
            "" => Some(DanmScope::DanmNet),
            _ => DanmScope::ALL
                .into_iter()
                .find(|scope| scope.as_str() == api_type),
        }
    }

    /// Whether its objects are in namespaces.
    pub fn is_namespaced(self) -> bool {
        self != DanmScope::ClusterNetwork
    }

    /// The kind as it stands in requests.
    pub fn kind(self, group: DanmGroup) -> Kind {
        Kind {
            group: group.as_str(),
            version: "v1",
            kind: self.as_str(),
            plural: match self {
                DanmScope::DanmNet => "danmnets",
                DanmScope::TenantNetwork => "tenantnetworks",
                DanmScope::ClusterNetwork => "clusternetworks",
            },
        }
    }
}

/// A network. It is read and patched, never replaced: what is not named here is not kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DanmNetwork {
    /// Name, namespace, version.
    pub metadata: ObjectMeta,
    /// What it is.
    #[serde(deserialize_with = "null_is_empty")]
    pub spec: DanmNetworkSpec,
}

/// What a network is. The keys are written as here, in both letter cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DanmNetworkSpec {
    /// Names the configuration file of a delegate, and the VLAN and VXLAN links of hosts.
    #[serde(rename = "NetworkID", deserialize_with = "null_is_empty")]
    pub network_id: String,
    /// `ipvlan` (also when empty), `macvlan`, `sriov`, or the `type` of any other plugin.
    #[serde(deserialize_with = "null_is_empty")]
    pub network_type: String,
    /// Namespaces whose pods may use it; empty for all.
    #[serde(deserialize_with = "null_is_empty")]
    pub allowed_tenants: Vec<String>,
    /// The rest.
    #[serde(deserialize_with = "null_is_empty")]
    pub options: DanmOptions,
}

/// Devices, addresses and routes of a network. Empty and 0 are not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DanmOptions {
    /// The link of the host that pods' interfaces are made on.
    #[serde(deserialize_with = "null_is_empty")]
    pub host_device: String,
    /// The resource of the device plugin that pods' devices are of.
    #[serde(deserialize_with = "null_is_empty")]
    pub device_pool: String,
    /// VXLAN network identifier.
    #[serde(deserialize_with = "null_is_empty")]
    pub vxlan: u32,
    /// VLAN identifier.
    #[serde(deserialize_with = "null_is_empty")]
    pub vlan: u32,
    /// Beginning of interface names.
    #[serde(deserialize_with = "null_is_empty")]
    pub container_prefix: String,
    /// Routing table of policy routes.
    #[serde(deserialize_with = "null_is_empty")]
    pub rt_tables: u32,
    /// IPv4 subnet.
    #[serde(deserialize_with = "null_is_empty")]
    pub cidr: String,
    /// IPv4 routes, destination to gateway.
    #[serde(deserialize_with = "null_is_empty")]
    pub routes: BTreeMap<String, String>,
    /// Which addresses of `cidr` are taken, a bitmap in base64.
    #[serde(deserialize_with = "null_is_empty")]
    pub alloc: String,
    /// Which addresses pods get that ask for none in particular.
    pub allocation_pool: Option<DanmPool>,
    /// IPv6 subnet.
    #[serde(deserialize_with = "null_is_empty")]
    pub net6: String,
    /// IPv6 routes, destination to gateway.
    #[serde(deserialize_with = "null_is_empty")]
    pub routes6: BTreeMap<String, String>,
    /// Which addresses of `allocation_pool_v6.cidr` are taken.
    #[serde(deserialize_with = "null_is_empty")]
    pub alloc6: String,
    /// As `allocation_pool`.
    pub allocation_pool_v6: Option<DanmPool>,
}

/// A range of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DanmPool {
    /// The first address.
    #[serde(deserialize_with = "null_is_empty")]
    pub start: String,
    /// The last address.
    #[serde(deserialize_with = "null_is_empty")]
    pub end: String,
    /// The one that was given last, with its prefix length.
    #[serde(rename = "lastIp", deserialize_with = "null_is_empty")]
    pub last_ip: String,
    /// IPv6 only: the part of `net6` that has a bitmap.
    #[serde(deserialize_with = "null_is_empty")]
    pub cidr: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_and_what_people_write() {
        let text = r#"{"metadata":{"name":"oampub"},"spec":{"NetworkID":"oampub","AllowedTenants":null,
            "Options":{"rt_tables":107,"routes":null,"new":1,"allocation_pool_v6":{"start":"","end":"","lastIp":"","cidr":""},
            "allocation_pool":{"start":"10.2.157.1","end":"10.2.157.30","lastIp":""},"cidr":"10.2.157.0/27"}}}"#;
        let network: DanmNetwork = serde_json::from_str(text).unwrap();
        let options = &network.spec.options;
        assert_eq!(
            (network.spec.network_id.as_str(), options.rt_tables),
            ("oampub", 107)
        );
        assert_eq!(
            options.allocation_pool.as_ref().unwrap().start,
            "10.2.157.1"
        );
        assert_eq!(options.allocation_pool_v6, Some(DanmPool::default()));
        let bare: DanmNetwork = serde_json::from_str(r#"{"spec":{"Options":null}}"#).unwrap();
        assert_eq!(bare, DanmNetwork::default());
        // The letter case of the keys is the webhook's and counts.
        let other: DanmNetwork = serde_json::from_str(r#"{"spec":{"networkID":"x"}}"#).unwrap();
        assert_eq!(other, DanmNetwork::default());
    }
}
