//! Pods, as far as networks are concerned.

use serde::{Deserialize, Serialize};

use super::meta::{ObjectMeta, null_is_empty};
use super::{Kind, Object};

/// A pod. It is read and patched, never replaced: what is not named here is not kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, uid, annotations.
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(deserialize_with = "null_is_empty")]
    pub spec: PodSpec,
    /// What has become of it.
    #[serde(deserialize_with = "null_is_empty")]
    pub status: PodStatus,
}

/// What a pod was asked to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node it runs on; empty while it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Whether it lives in the network namespace of its node.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
}

/// What has become of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
}

impl Object for Pod {
    const KIND: Kind = Kind {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
    };

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}
