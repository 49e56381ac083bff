//! The kinds of object we use, one file each. A new kind is one file: a struct and its [`Object`].

pub(crate) mod danm_endpoint;
pub(crate) mod danm_network;
pub(crate) mod event;
pub(crate) mod meta;
pub(crate) mod network_attachment;
pub(crate) mod pod;
pub(crate) mod status;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::meta::ObjectMeta;

/// How a kind of object is named in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version in that group: `v1`.
    pub version: &'static str,
    /// The kind as it stands in an object: `Pod`.
    pub kind: &'static str,
    /// The kind as it stands in a path: `pods`.
    pub plural: &'static str,
}

impl Kind {
    /// What stands in `apiVersion`: `v1`, `k8s.cni.cncf.io/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// An object of a certain kind.
///
/// A struct that is written back with [`crate::Api::replace`] has to keep what it does not know
/// (`#[serde(flatten)] rest: serde_json::Map<String, Value>`), or it takes it away.
pub trait Object: Serialize + DeserializeOwned {
    /// Which kind.
    const KIND: Kind;

    /// Name, namespace, version and so on.
    fn metadata(&self) -> &ObjectMeta;
}
