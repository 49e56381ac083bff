//! One attachment of a scratch file.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni::json::{Object, Value};
use serde::{Deserialize, Serialize};

use super::restore;

/// An attachment as a DEL needs it.
///
/// The last four fields are ours; the original passes over them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    /// `namespace/name` of a NetworkAttachmentDefinition, else the name in the configuration.
    pub(crate) name: String,
    /// The configuration, of one plugin or a list, as the delegate got it. A JSON object.
    pub(crate) bytes: Vec<u8>,
    /// What the pod asked for; empty for nothing.
    pub(crate) interface: String,
    pub(crate) mac: String,
    pub(crate) infiniband_guid: String,
    pub(crate) ips: Vec<String>,
    /// `default-route`; there but empty is a wish as well.
    pub(crate) default_route: Option<Vec<IpAddr>>,
    pub(crate) device_id: String,
    pub(crate) resource_name: String,
    /// The interface's name, as it was given to the delegate. Files of the original don't say it.
    pub(crate) ifname: Option<String>,
    /// `runtimeConfig.portMappings` and `runtimeConfig.bandwidth` that the pod asked for.
    pub(crate) port_mappings: Option<Value>,
    pub(crate) bandwidth: Option<Value>,
    /// Its DEL has succeeded, and that of another one has not.
    pub(crate) deleted: bool,
}

/// The keys, in the original's order.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Wire {
    #[serde(rename = "Conf", skip_deserializing)]
    conf: Facts,
    #[serde(rename = "ConfList", skip_deserializing)]
    conf_list: ListFacts,
    #[serde(rename = "CNINetworkConfigList", skip_serializing)]
    lossless: Option<restore::ConfigList>,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ifnameRequest", skip_serializing_if = "String::is_empty")]
    interface: String,
    #[serde(rename = "macRequest", skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(
        rename = "infinibandGUIDRequest",
        skip_serializing_if = "String::is_empty"
    )]
    infiniband_guid: String,
    #[serde(rename = "ipRequest", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
    #[serde(rename = "default-route", skip_serializing_if = "Option::is_none")]
    default_route: Option<Vec<IpAddr>>,
    #[serde(rename = "deviceID", skip_serializing_if = "String::is_empty")]
    device_id: String,
    #[serde(rename = "resourceName", skip_serializing_if = "String::is_empty")]
    resource_name: String,
    #[serde(rename = "Bytes")]
    bytes: String,
    #[serde(rename = "ifname", skip_serializing_if = "Option::is_none")]
    ifname: Option<String>,
    #[serde(
        rename = "portMappingsRequest",
        skip_serializing_if = "Option::is_none"
    )]
    port_mappings: Option<Value>,
    #[serde(rename = "bandwidthRequest", skip_serializing_if = "Option::is_none")]
    bandwidth: Option<Value>,
    #[serde(rename = "deleted", skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// What the original wants to know of a configuration without reading `Bytes`.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Facts {
    #[serde(skip_serializing_if = "String::is_empty")]
    cni_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Value>,
}

/// As [`Facts`], of a list: it takes an attachment for a list when there are plugins.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct ListFacts {
    #[serde(skip_serializing_if = "String::is_empty")]
    cni_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Facts>,
}

impl Entry {
    /// Reads one element of the array; the text says why it can't be used.
    pub(super) fn read(element: &Value) -> Result<Entry, String> {
        let Value::Object(_) = element else {
            return Err("it is no object".to_owned());
        };
        let wire: Wire = element.read().map_err(|e| e.to_string())?;
        let bytes = decode(&wire.bytes)?;
        let bytes = match &wire.lossless {
            Some(list) if !list.is_empty() => list.restore(&bytes)?,
            _ => bytes,
        };
        match Value::parse(&bytes) {
            Ok(Value::Object(_)) => {}
            Ok(_) => return Err("Bytes is no configuration".to_owned()),
            Err(_) if bytes.is_empty() => return Err("it has no Bytes".to_owned()),
            Err(e) => return Err(format!("Bytes is no configuration: {e}")),
        }
        Ok(Entry {
            name: wire.name,
            bytes,
            interface: wire.interface,
            mac: wire.mac,
            infiniband_guid: wire.infiniband_guid,
            ips: wire.ips,
            default_route: wire.default_route,
            device_id: wire.device_id,
            resource_name: wire.resource_name,
            ifname: wire.ifname,
            port_mappings: wire.port_mappings,
            bandwidth: wire.bandwidth,
            deleted: wire.deleted,
        })
    }

    /// Takes what the pod asked for from the arguments that its plugins were called with.
    pub(crate) fn take_requests(&mut self, arguments: &Object) {
        let text = |key| match arguments.value(key) {
            Ok(Value::String(text)) => text,
            _ => String::new(),
        };
        let value = |key| arguments.value(key).ok().filter(|v| *v != Value::Null);
        self.mac = text("mac");
        self.infiniband_guid = text("infinibandGUID");
        self.device_id = text("deviceID");
        self.port_mappings = value("portMappings");
        self.bandwidth = value("bandwidth");
        if let Some(Value::Array(ips)) = value("ips") {
            let texts = ips.into_iter().filter_map(|ip| match ip {
                Value::String(text) => Some(text),
                _ => None,
            });
            self.ips = texts.collect();
        }
    }

    fn wire(&self) -> Wire {
        let conf: Facts = cni::json::from_slice(&self.bytes).unwrap_or_default();
        let list = cni::json::from_slice(&self.bytes);
        Wire {
            conf_list: match conf.r#type.as_str() {
                "" => list.unwrap_or_default(),
                _ => ListFacts::default(),
            },
            conf,
            lossless: None,
            name: self.name.clone(),
            interface: self.interface.clone(),
            mac: self.mac.clone(),
            infiniband_guid: self.infiniband_guid.clone(),
            ips: self.ips.clone(),
            default_route: self.default_route.clone(),
            device_id: self.device_id.clone(),
            resource_name: self.resource_name.clone(),
            bytes: STANDARD.encode(&self.bytes),
            ifname: self.ifname.clone(),
            port_mappings: self.port_mappings.clone(),
            bandwidth: self.bandwidth.clone(),
            deleted: self.deleted,
        }
    }
}

/// The text of a scratch file.
#[expect(
    clippy::expect_used,
    reason = "structs with string keys, written to memory, can't fail"
)]
pub(super) fn to_json(entries: &[Entry]) -> String {
    let wires: Vec<Wire> = entries.iter().map(Entry::wire).collect();
    serde_json::to_string(&wires).expect("plain data")
}

/// Bytes as Go writes them.
pub(super) fn decode(base64: &str) -> Result<Vec<u8>, String> {
    let decoded = STANDARD.decode(base64);
    decoded.map_err(|e| format!("Bytes is no base64: {e}"))
}
