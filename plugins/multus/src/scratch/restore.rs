//! Configurations that versions 4.2.1 to 4.3.0 of the original have in their scratch files in two forms.
//!
//! Of a list that came from a file, their `Bytes` has lost all keys that are not of the specification: with it, a
//! plugin can't find its data store and the address of the pod is never given back. The whole of it is in
//! `CNINetworkConfigList`. What was put into `Bytes` for this pod has to be taken from there.

use cni::json::Value;
use serde::Deserialize;

use super::entry::decode;

/// A list, with the text of each plugin's configuration.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ConfigList {
    plugins: Vec<Plugin>,
    bytes: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Plugin {
    bytes: String,
}

/// The keys that are put in for one pod.
const FOR_THE_POD: [&str; 3] = ["deviceID", "pciBusID", "args"];

/// Of `args`, the members of `args.cni` are put in one by one.
const ARGS_DEPTH: u8 = 2;

impl ConfigList {
    /// Attachments by a single plugin have the key as well, with nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.plugins.is_empty()
    }

    /// The whole configuration: the list's own keys, each plugin's text, and of `stripped` what is the pod's.
    pub(super) fn restore(&self, stripped: &[u8]) -> Result<Vec<u8>, String> {
        let object = |bytes: &[u8]| match Value::parse(bytes) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err("CNINetworkConfigList is no configuration".to_owned()),
            Err(e) => Err(format!("CNINetworkConfigList: {e}")),
        };
        let mut list = object(&decode(&self.bytes)?)?;
        // Plugins of a folder beside the list stand only here, not in the list's text.
        let mut plugins = Vec::with_capacity(self.plugins.len());
        for plugin in &self.plugins {
            plugins.push(object(&decode(&plugin.bytes)?)?);
        }
        for (plugin, stripped) in plugins.iter_mut().zip(stripped_plugins(stripped)) {
            for (key, value) in stripped {
                if FOR_THE_POD.contains(&key.as_str()) {
                    put(plugin, key, value, ARGS_DEPTH);
                }
            }
        }
        let plugins = plugins.into_iter().map(Value::Object).collect();
        list.retain(|(key, _)| !key.eq_ignore_ascii_case("plugins"));
        list.push(("plugins".to_owned(), Value::Array(plugins)));
        serde_json::to_vec(&Value::Object(list)).map_err(|e| e.to_string())
    }
}

/// Sets a member; of two objects, down to a depth, the members of both stay.
fn put(members: &mut Vec<(String, Value)>, key: String, value: Value, depth: u8) {
    match (members.iter_mut().find(|(known, _)| *known == key), value) {
        (Some((_, Value::Object(old))), Value::Object(new)) if depth > 0 => {
            for (key, value) in new {
                put(old, key, value, depth - 1);
            }
        }
        (Some((_, old)), value) => *old = value,
        (None, value) => members.push((key, value)),
    }
}

fn stripped_plugins(stripped: &[u8]) -> Vec<Vec<(String, Value)>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct List {
        plugins: Vec<Value>,
    }
    let list: List = cni::json::from_slice(stripped).unwrap_or_default();
    let members = |plugin| match plugin {
        Value::Object(members) => members,
        _ => Vec::new(),
    };
    list.plugins.into_iter().map(members).collect()
}
