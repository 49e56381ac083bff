//! NetworkAttachmentDefinitions, the networks that pods ask for by annotation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::meta::{ObjectMeta, null_is_empty};
use super::{Kind, Object};

/// A network that pods can be attached to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachmentDefinition {
    /// Name, namespace, annotations.
    pub metadata: ObjectMeta,
    /// How to attach to it.
    #[serde(deserialize_with = "null_is_empty")]
    pub spec: NetworkAttachmentSpec,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How to attach to a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachmentSpec {
    /// A CNI configuration or list of plugins, as JSON text; empty when nodes have it as a file.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub config: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Object for NetworkAttachmentDefinition {
    const KIND: Kind = Kind {
        group: "k8s.cni.cncf.io",
        version: "v1",
        kind: "NetworkAttachmentDefinition",
        plural: "network-attachment-definitions",
    };

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}
