//! DanmEps: one for each interface that a pod has on a network of DANM.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::danm_network::DanmGroup;
use super::meta::{ObjectMeta, null_is_empty};
use super::{Kind, Object};

/// An interface of a pod. It is made, patched and deleted, never replaced: what is not named here is not kept.
///
/// Its labels are the pod's: services select by them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DanmEp {
    /// Name and namespace; the name is `spec.EndpointID`.
    pub metadata: ObjectMeta,
    /// What it is.
    #[serde(deserialize_with = "null_is_empty")]
    pub spec: DanmEpSpec,
}

/// What an interface is. The keys are written as here, in both letter cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DanmEpSpec {
    /// Name of the network object.
    pub network_name: String,
    /// Its `NetworkType`.
    pub network_type: String,
    /// A UUID.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The interface.
    #[serde(deserialize_with = "null_is_empty")]
    pub interface: DanmEpInterface,
    /// The host, by the name it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Name of the pod, which is in the namespace of this object.
    pub pod: String,
    /// Its uid.
    #[serde(rename = "PodUID", skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// The sandbox's container id, as Kubernetes knows it.
    #[serde(rename = "CID", skip_serializing_if = "String::is_empty")]
    pub cid: String,
    /// Path of the pod's network namespace on the host.
    #[serde(rename = "netns", skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// Kind of the network object.
    #[serde(rename = "apiType")]
    pub api_type: String,
}

/// The interface in the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DanmEpInterface {
    /// Its name.
    pub name: String,
    /// IPv4 with prefix length; empty, `none`, or `dynamic` until a delegate has answered.
    pub address: String,
    /// IPv6, likewise.
    #[serde(rename = "AddressIPv6")]
    pub address_ipv6: String,
    /// Hardware address, for devices only.
    pub mac_address: String,
    /// Policy routes, destination to gateway.
    #[serde(rename = "proutes")]
    pub proutes: Option<BTreeMap<String, String>>,
    /// As `proutes`.
    #[serde(rename = "proutes6")]
    pub proutes6: Option<BTreeMap<String, String>>,
    /// The device.
    #[serde(rename = "DeviceID", skip_serializing_if = "String::is_empty")]
    pub device_id: String,
}

impl DanmEp {
    /// The kind as it stands in requests.
    pub fn kind(group: DanmGroup) -> Kind {
        Kind {
            group: group.as_str(),
            ..DanmEp::KIND
        }
    }
}

impl Object for DanmEp {
    const KIND: Kind = Kind {
        group: "danm.k8s.io",
        version: "v1",
        kind: "DanmEp",
        plural: "danmeps",
    };

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}
