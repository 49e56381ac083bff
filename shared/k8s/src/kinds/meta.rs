//! What objects of all kinds have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// `metadata` of an object. Members that are not named here are kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// The name, unique in its namespace; empty only for an object that the server shall name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The namespace; empty for kinds that have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Tells two objects of one name apart that were there one after the other.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Changes with each write; sent back, it makes a write fail when somebody else was faster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Labels, which selectors select by.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Those that this object goes away with.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub owner_references: Vec<OwnerReference>,
    /// When deletion was asked for, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An object of any kind without all the rest. See [`crate::Api::metadata_only`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PartialObjectMetadata {
    /// What is left of it. An answer that has none is no object.
    pub metadata: ObjectMeta,
}

/// An object that another one belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// `v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// Its name; it is in the same namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is the one that manages the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether it stays until the object is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// One page of objects.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct List<T> {
    /// What the page says about itself.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub items: Vec<T>,
}

/// What a page of objects says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    /// The state of the server that the page shows.
    pub resource_version: String,
    /// What to ask for the next page with; empty on the last one.
    #[serde(rename = "continue")]
    pub next: String,
}

/// Go writes an empty list or map as `null`.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
