//! What the harness has to be told about a plugin: its kind and a configuration that works.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::spec::{Kind, Version};
use crate::stage::UPLINK;

const BUILT_IN: &[&str] = &[
    include_str!("../profiles/danm-shim.json"),
    include_str!("../profiles/host-local.json"),
    include_str!("../profiles/ipvlan-chained.json"),
    include_str!("../profiles/ipvlan-ipam.json"),
    include_str!("../profiles/macvlan.json"),
    include_str!("../profiles/multus.json"),
    include_str!("../profiles/portmap-iptables.json"),
    include_str!("../profiles/portmap-nftables.json"),
];

/// A profile, as its JSON file says it. Unknown keys are refused, so that a slip of the pen is not ignored.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name of the plugin's file.
    #[serde(rename = "type")]
    pub name: String,
    /// Tells profiles of one plugin apart where it has several ways of working, such as two backends.
    #[serde(default)]
    pub lane: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// A network configuration without `name` and `cniVersion`, which attaches a pod with one IPv4 address. Placeholders:
    /// `{{master}}` is a link of the host namespace, `{{store}}` a folder for the leases of this network,
    /// `{{name}}` the name of the network, `{{version}}` the version of the specification that is asked for, `{{bin}}` the
    /// folder where the plugin lies.
    pub config: Value,
    /// Further configurations by name: `l2` (no addresses, and nothing to be found on `CNI_PATH`), `small-pool` (two addresses
    /// to hand out, no more). What needs one that is not here is skipped.
    #[serde(default)]
    pub variants: BTreeMap<String, Value>,
    /// For a plugin that makes an interface: its addresses come in prevResult, from an earlier plugin of the list.
    #[serde(default)]
    pub chained: bool,
    /// Capabilities (`runtimeConfig`) the plugin serves, by the names of the conventions.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Plugins that must lie beside it because `config` names them.
    #[serde(default)]
    pub delegates: Vec<String>,
    /// The kind of link it makes; what needs one is skipped where the kernel can't.
    #[serde(default)]
    pub link_kind: Option<String>,
    /// For a plugin that needs an API server: what is on it, besides the pods. `kubeconfig` of the configuration leads there.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Links of the host namespace that may stay after the last DEL, such as the bridge of a bridge plugin.
    #[serde(default)]
    pub survivors: Vec<String>,
}

impl Profile {
    /// Reads one from JSON text; `origin` is for the message.
    pub fn parse(text: &str, origin: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("{origin}: not a profile: {error}"))
    }

    /// Reads one from a file.
    pub fn load(file: &Path) -> Result<Self, String> {
        let origin = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{origin}: {error}"))?;
        Self::parse(&text, &origin)
    }

    /// The profiles that come with this program.
    pub fn built_in() -> Result<Vec<Self>, String> {
        BUILT_IN
            .iter()
            .map(|text| Self::parse(text, "built-in profile"))
            .collect()
    }

    /// What reports call it: the plugin, and the way it works where there are several.
    pub fn title(&self) -> String {
        match &self.lane {
            Some(lane) => format!("{}-{lane}", self.name),
            None => self.name.clone(),
        }
    }

    /// The configuration with its placeholders filled in, or the variant of that name.
    pub fn config(
        &self,
        variant: Option<&str>,
        name: &str,
        store: &Path,
        bin: &Path,
        version: Version,
    ) -> Option<Value> {
        let (store, bin) = (store.to_string_lossy(), bin.to_string_lossy());
        let config = variant.map_or(Some(&self.config), |variant| self.variants.get(variant))?;
        Some(fill(
            config,
            &[
                ("{{master}}", UPLINK),
                ("{{store}}", &store),
                ("{{bin}}", &bin),
                ("{{name}}", name),
                ("{{version}}", version.as_str()),
            ],
        ))
    }
}

fn fill(value: &Value, words: &[(&str, &str)]) -> Value {
    match value {
        Value::String(text) => Value::String(
            words
                .iter()
                .fold(text.clone(), |text, (placeholder, word)| {
                    text.replace(placeholder, word)
                }),
        ),
        Value::Array(list) => list.iter().map(|value| fill(value, words)).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), fill(value, words)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn names(folder: &str, suffix: &str) -> BTreeSet<String> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries
            .filter_map(|name| name.strip_suffix(suffix).map(str::to_owned))
            .collect()
    }

    #[test]
    fn every_plugin_has_a_profile_and_every_profile_is_built_in() {
        let built_in: BTreeSet<_> = Profile::built_in()
            .unwrap()
            .into_iter()
            .map(|profile| profile.title())
            .collect();
        assert_eq!(
            built_in,
            names("profiles", ".json"),
            "files in profiles/ against the list of this module"
        );
        let types: BTreeSet<_> = Profile::built_in()
            .unwrap()
            .into_iter()
            .map(|profile| profile.name)
            .collect();
        let plugins = names("../plugins", "");
        assert!(
            plugins.is_subset(&types),
            "plugins without a profile: {:?}",
            plugins.difference(&types)
        );
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let profile = Profile::parse(
            r#"{"type": "x", "kind": "meta", "config": {"a": ["{{name}}-{{master}}-{{version}}", 1], "b": {"c": "{{store}}/x:{{bin}}"}}}"#,
            "test",
        );
        let config = profile
            .unwrap()
            .config(
                None,
                "net",
                Path::new("/s"),
                Path::new("/b"),
                crate::spec::V0_3_1,
            )
            .unwrap();
        assert_eq!(
            config,
            serde_json::json!({"a": ["net-uplink-0.3.1", 1], "b": {"c": "/s/x:/b"}})
        );
    }
}
