//! The long form of the annotation: one JSON object for each attachment.

use cni::json::Value;
use serde::Deserialize;

use super::{
    Bandwidth, Gateways, HardwareAddr, InterfaceName, IpRequest, PortMapping, Refusal, Selection,
    plain,
};

/// What the original says before any error in the JSON.
pub(super) const JSON: &str = "parsePodNetworkAnnotation: failed to parse pod Network Attachment Selection Annotation JSON format";

/// The keys as they are written. Others mean nothing to us; some plugins read the annotation for keys of their own.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Wire {
    name: String,
    namespace: String,
    interface: String,
    #[serde(rename = "interfaceRequest")]
    interface_request: String,
    ips: Vec<String>,
    mac: String,
    infiniband_guid: String,
    #[serde(rename = "portMappings")]
    port_mappings: Vec<PortMapping>,
    bandwidth: Option<Bandwidth>,
    cni_args: Value,
    default_route: Option<Vec<String>>,
    #[serde(rename = "deviceID")]
    device_id: String,
}

const KEYS: [&str; 13] = [
    "name",
    "namespace",
    "interface",
    "interfaceRequest",
    "ips",
    "mac",
    "infiniband-guid",
    "portMappings",
    "bandwidth",
    "cni-args",
    "default-route",
    "deviceID",
    // Of the specification; the plugins it is meant for read the annotation themselves.
    "ipam-claim-reference",
];

/// Keys that have, or never had, another name.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("gateway-request", "default-route"),
    ("ipRequest", "ips"),
    ("macRequest", "mac"),
    ("guid", "infiniband-guid"),
];

/// Reads one element of the array.
pub(super) fn read(
    annotation: &str,
    element: &Value,
    default_namespace: &str,
) -> Result<Selection, Refusal> {
    let Value::Object(members) = element else {
        let why = match element {
            Value::Null => "it is null",
            Value::String(_) => "it is a string; the form with names only has no brackets",
            _ => "it is no object",
        };
        let msg = format!("{JSON}: a network selection element has to be an object");
        return Err(Refusal::new(msg, why));
    };
    for (key, _) in members {
        if let Some(known) = meant(key) {
            log::warn!(
                "annotation {annotation}: the key {key:?} means nothing; {known:?} was meant?"
            );
        }
    }
    let wire: Wire = element
        .read()
        .map_err(|e| Refusal::new(format!("{JSON}: {e}"), "a value has the wrong type"))?;
    let mut selection = plain(&wire.namespace, &wire.name, default_namespace)?;
    let why = |key: &str| format!("{key} of \"{}/{}\"", selection.namespace, selection.name);
    let refuse = |key: &str, msg: String| Refusal::new(msg, why(key));

    let interface = match wire.interface.as_str() {
        "" => wire.interface_request.as_str(),
        interface => interface,
    };
    let interface = Some(interface).filter(|name| !name.is_empty());
    let interface = interface.map(InterfaceName::parse).transpose();
    let interface = interface.map_err(|e| refuse("interface", e.to_string()))?;
    let ips: Result<Vec<_>, _> = wire.ips.iter().map(|ip| IpRequest::parse(ip)).collect();
    let ips = ips.map_err(|msg| refuse("ips", msg))?;
    let address = |key: &str, words: &str, text: &str| {
        let address = Some(text).filter(|text| !text.is_empty());
        address.map(HardwareAddr::parse).transpose().map_err(|e| {
            refuse(
                key,
                format!("parsePodNetworkAnnotation: failed to {words}: {e}"),
            )
        })
    };
    let mac = address("mac", "mac", &wire.mac)?;
    let guid = "validate infiniband GUID";
    let infiniband_guid = address("infiniband-guid", guid, &wire.infiniband_guid)?;
    let default_route = wire.default_route.map(|list| Gateways::parse(&list));
    let default_route = default_route
        .transpose()
        .map_err(|msg| refuse("default-route", msg))?;
    let cni_args = match wire.cni_args {
        Value::Object(members) => last_of_each(members),
        Value::Null => Vec::new(),
        _ => return Err(refuse("cni-args", format!("{JSON}: cni-args is no object"))),
    };

    selection.interface = interface;
    selection.ips = ips;
    selection.mac = mac;
    selection.infiniband_guid = infiniband_guid;
    selection.port_mappings = wire.port_mappings;
    selection.bandwidth = wire.bandwidth;
    selection.cni_args = cni_args;
    selection.default_route = default_route;
    selection.device_id = Some(wire.device_id).filter(|id| !id.is_empty());
    Ok(selection)
}

/// The key that was meant by one that is no key.
fn meant(key: &str) -> Option<&'static str> {
    let renamed = OTHER_NAMES
        .iter()
        .find(|(old, _)| old.eq_ignore_ascii_case(key));
    match renamed {
        Some((_, new)) => Some(new),
        None => skel::nearly(key, KEYS.iter().copied()),
    }
}

/// Of a key that is there several times the last one counts, as everywhere.
fn last_of_each(members: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut once: Vec<(String, Value)> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match once.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => once.push((key, value)),
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_meant() {
        for (key, known) in [
            ("interfaces", "interface"),
            ("ip", "ips"),
            ("ipRequest", "ips"),
            ("portmapping", "portMappings"),
            ("default_route", "default-route"),
            ("gateway-request", "default-route"),
            ("cniArgs", "cni-args"),
        ] {
            assert_eq!(meant(key), Some(known), "{key}");
        }
        for key in [
            "Name",
            "NAMESPACE",
            "interfaceRequest",
            "ipam-claim-reference",
            "x",
        ] {
            assert_eq!(meant(key), None, "{key}");
        }
    }
}
