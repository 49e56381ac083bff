//! A network as a runtime has it: an ordered list of plugins, and the request that each of them is sent.
//!
//! A file or a Kubernetes object holds either a list (`plugins`) or the configuration of one plugin (`type`); the
//! latter is a list of one. The text stays as it was written: a plugin finds its own keys unchanged.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Object, ReadError, Value};
use crate::{Error, Version};

/// A network configuration: name, version and plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// `name`; empty where one plugin's configuration has none. A runtime refuses it then.
    pub name: String,
    /// `cniVersion` as written, or the newest known of `cniVersions`; empty when absent.
    pub cni_version: String,
    /// In the order of ADD. Not empty.
    pub plugins: Vec<PluginConf>,
    /// Whether it was written as a list.
    pub is_list: bool,
    /// `disableCheck`: CHECK is not to be called.
    pub disable_check: bool,
    /// `disableGC`: GC is not to be called.
    pub disable_gc: bool,
    document: Object,
}

/// The configuration of one plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// `type`: the plugin's file name.
    pub kind: String,
    /// `name` as written; the network's is sent instead.
    pub name: String,
    /// The capabilities that are declared `true`.
    pub capabilities: Vec<String>,
    document: Object,
}

/// A truth value, which lists in the field also write as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flag(bool);

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListWire {
    name: String,
    cni_version: String,
    cni_versions: Vec<String>,
    disable_check: Flag,
    #[serde(rename = "disableGC")]
    disable_gc: Flag,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PluginWire {
    r#type: String,
    name: String,
    capabilities: Option<Value>,
}

impl Network {
    /// Reads a list or one plugin's configuration; what has a `type` is the latter.
    ///
    /// Errors, code 7: no object, neither `type` nor `plugins`, and as [`Network::parse_list`].
    pub fn parse(text: &[u8]) -> Result<Network, Error> {
        let document = Object::parse(text).map_err(|e| no_configuration(&e))?;
        let wire = read_plugin(&document).map_err(|e| no_configuration(&e))?;
        if !wire.r#type.is_empty() {
            return Network::single(document);
        }
        if document.get("plugins").is_none() {
            return Err(Error::config(
                "error parsing configuration: neither 'type' nor 'plugins' is there",
            ));
        }
        Network::list(document)
    }

    /// Reads one plugin's configuration. Errors, code 7: no object, no `type`.
    pub fn parse_single(text: &[u8]) -> Result<Network, Error> {
        Network::single(Object::parse(text).map_err(|e| no_configuration(&e))?)
    }

    /// Reads a list. Errors, code 7: no object, no `name`, no `plugins`, an empty list, a plugin without `type`.
    pub fn parse_list(text: &[u8]) -> Result<Network, Error> {
        Network::list(Object::parse(text).map_err(|e| no_list(&e))?)
    }

    fn single(document: Object) -> Result<Network, Error> {
        let plugin = PluginConf::read(document.clone())?;
        let wire = read_list(&document).map_err(|e| no_configuration(&e))?;
        Ok(Network {
            name: wire.name,
            cni_version: wire.cni_version,
            plugins: vec![plugin],
            is_list: false,
            disable_check: wire.disable_check.0,
            disable_gc: wire.disable_gc.0,
            document,
        })
    }

    fn list(document: Object) -> Result<Network, Error> {
        let wire = read_list(&document).map_err(|e| no_list(&e))?;
        if wire.name.is_empty() {
            return Err(no_list(&"no name"));
        }
        if document.get("plugins").is_none() {
            return Err(no_list(&"no 'plugins' key"));
        }
        let items = document.array("plugins").map_err(|e| no_list(&e))?;
        if items.is_empty() {
            return Err(no_list(&"no plugins in list"));
        }
        let plugin = |(index, text): (usize, Box<RawValue>)| {
            PluginConf::parse(text.get().as_bytes())
                .map_err(|e| e.context(format!("failed to parse plugin config {index}")))
        };
        let plugins = items.into_iter().enumerate().map(plugin);
        Ok(Network {
            plugins: plugins
                .collect::<Result<_, Error>>()
                .map_err(|e| no_list(&e))?,
            cni_version: wire.version(),
            name: wire.name,
            is_list: true,
            disable_check: wire.disable_check.0,
            disable_gc: wire.disable_gc.0,
            document,
        })
    }

    /// The configuration as text.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.document.to_string().into_bytes()
    }

    /// Gives the network a name.
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.edit("name", &name);
        if let (false, [own]) = (self.is_list, self.plugins.as_mut_slice()) {
            name.clone_into(&mut own.name);
        }
    }

    /// Gives the network a version, which is sent to all its plugins.
    pub fn set_cni_version(&mut self, version: &str) {
        version.clone_into(&mut self.cni_version);
        self.document.remove("cniVersions");
        self.edit("cniVersion", &version);
    }

    /// Adds plugins at the end of a list.
    pub fn append(&mut self, plugins: Vec<PluginConf>) {
        self.plugins.extend(plugins);
        self.rewrite_plugins();
    }

    /// Changes the text of every plugin, as `edit` says.
    ///
    /// Errors: what `edit` answered; nothing is changed then.
    pub fn edit_plugins<E>(
        &mut self,
        mut edit: impl FnMut(&mut Object) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut documents: Vec<Object> = self.plugins.iter().map(|p| p.document.clone()).collect();
        for document in &mut documents {
            edit(document)?;
        }
        for (plugin, document) in self.plugins.iter_mut().zip(documents) {
            plugin.document = document;
        }
        self.rewrite_plugins();
        Ok(())
    }

    /// Whether a plugin declares the capability.
    pub fn has_capability(&self, capability: &str) -> bool {
        let declares = |plugin: &PluginConf| plugin.capabilities.iter().any(|c| c == capability);
        self.plugins.iter().any(declares)
    }

    /// A member of the document as text; `None` when it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.document.get(key)
    }

    /// In one plugin's configuration the network's keys and the plugin's are the same.
    fn edit(&mut self, key: &str, value: &&str) {
        self.document.set(key, value);
        if !self.is_list {
            for plugin in &mut self.plugins {
                plugin.document.set(key, value);
            }
        }
    }

    fn rewrite_plugins(&mut self) {
        let documents: Vec<&Object> = self.plugins.iter().map(|p| &p.document).collect();
        match (self.is_list, documents.as_slice()) {
            (false, [own]) => self.document = (*own).clone(),
            _ => self.document.set("plugins", &documents),
        }
    }
}

impl ListWire {
    /// `cniVersions` lists what the network can be served in; the newest that is known wins.
    fn version(&self) -> String {
        let listed = self.cni_versions.iter().chain([&self.cni_version]);
        let known = listed.filter(|text| !text.is_empty());
        let newest = known.filter_map(|text| Version::parse(text)).max();
        match newest {
            Some(version) if !self.cni_versions.is_empty() => version.to_string(),
            _ => self.cni_version.clone(),
        }
    }
}

impl PluginConf {
    /// Reads one plugin's configuration. Errors, code 7: no object, no `type`.
    pub fn parse(text: &[u8]) -> Result<PluginConf, Error> {
        PluginConf::read(Object::parse(text).map_err(|e| no_configuration(&e))?)
    }

    fn read(document: Object) -> Result<PluginConf, Error> {
        let wire = read_plugin(&document).map_err(|e| no_configuration(&e))?;
        if wire.r#type.is_empty() {
            return Err(no_configuration(&"missing 'type'"));
        }
        let declared = match wire.capabilities {
            Some(Value::Object(members)) => members,
            None => Vec::new(),
            Some(_) => return Err(no_configuration(&"capabilities: expected an object")),
        };
        let capabilities = declared
            .into_iter()
            .filter(|(_, v)| *v == Value::Bool(true));
        Ok(PluginConf {
            kind: wire.r#type,
            name: wire.name,
            capabilities: capabilities.map(|(name, _)| name).collect(),
            document,
        })
    }

    /// What the plugin is sent: its own text with the network's `name` and `cniVersion`, and with the members of
    /// `with` (`prevResult` for example).
    pub fn request(&self, network: &Network, with: &Object) -> Vec<u8> {
        let mut document = self.document.clone();
        document.set("name", &network.name);
        document.set("cniVersion", &network.cni_version);
        // What the text says of itself is no result of a plugin.
        document.remove("prevResult");
        for (key, text) in with.members() {
            if let Ok(value) = RawValue::from_string(text.to_owned()) {
                document.set(key, &value);
            }
        }
        document.to_string().into_bytes()
    }

    /// The members of `arguments` whose keys this plugin has declared as capabilities: its `runtimeConfig`.
    pub fn runtime_config(&self, arguments: &Object) -> Object {
        let mut config = Object::default();
        for (key, text) in arguments.members() {
            if self.capabilities.iter().any(|declared| declared == key)
                && let Ok(value) = RawValue::from_string(text.to_owned())
            {
                config.set(key, &value);
            }
        }
        config
    }

    /// A member of the plugin's text; `None` when it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.document.get(key)
    }
}

/// As error messages name a plugin: `type="portmap"`, and its name where it has one.
impl fmt::Display for PluginConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type={:?}", self.kind)?;
        if !self.name.is_empty() {
            write!(f, " name={:?}", self.name)?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Flag(false)),
            Value::Bool(flag) => Ok(Flag(flag)),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Flag(true)),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Flag(false)),
            _ => Err(serde::de::Error::custom("expected true or false")),
        }
    }
}

/// The keys of a list that a runtime looks at.
const LIST_KEYS: [&str; 5] = [
    "name",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
];

/// The keys of a plugin that a runtime looks at.
const PLUGIN_KEYS: [&str; 3] = ["type", "name", "capabilities"];

fn read_list(document: &Object) -> Result<ListWire, ReadError> {
    document.pick(&LIST_KEYS)?.read()
}

fn read_plugin(document: &Object) -> Result<PluginWire, ReadError> {
    document.pick(&PLUGIN_KEYS)?.read()
}

fn no_configuration(why: &dyn fmt::Display) -> Error {
    Error::config(format!("error parsing configuration: {why}"))
}

fn no_list(why: &dyn fmt::Display) -> Error {
    Error::config(format!("error parsing configuration list: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text.as_bytes()).unwrap()
    }

    fn request(network: &Network, index: usize, with: &str) -> String {
        let with = Object::parse(with.as_bytes()).unwrap();
        String::from_utf8(network.plugins[index].request(network, &with)).unwrap()
    }

    #[test]
    fn one_plugin_is_a_list_of_one() {
        let net = network(r#"{"cniVersion":"0.3.1","name":"n","type":"macvlan","big":1e400}"#);
        assert_eq!((net.name.as_str(), net.is_list), ("n", false));
        assert_eq!(net.plugins[0].kind, "macvlan");
        assert_eq!(
            request(&net, 0, r#"{"prevResult":{"ips":[]}}"#),
            r#"{"cniVersion":"0.3.1","name":"n","type":"macvlan","big":1e400,"prevResult":{"ips":[]}}"#
        );
    }

    #[test]
    fn a_list_gives_name_and_version_to_its_plugins() {
        let net = network(
            r#"{"name":"l","cniVersion":"1.0.0","disableCheck":"true","plugins":[
                {"type":"a","name":"own","cniVersion":"0.1.0"},
                {"type":"b","capabilities":{"mac":true,"ips":false}}]}"#,
        );
        assert!(net.is_list && net.disable_check && !net.disable_gc);
        assert_eq!(
            request(&net, 0, "{}"),
            r#"{"type":"a","name":"l","cniVersion":"1.0.0"}"#
        );
        assert_eq!(net.plugins[0].to_string(), r#"type="a" name="own""#);
        assert!(net.has_capability("mac") && !net.has_capability("ips"));
        let arguments = Object::parse(br#"{"mac":"m","ips":["i"],"x":1}"#).unwrap();
        let config = net.plugins[1].runtime_config(&arguments);
        assert_eq!(config.to_string(), r#"{"mac":"m"}"#);
    }

    #[test]
    fn the_newest_listed_version_that_is_known_wins() {
        let version = |text: &str| network(text).cni_version;
        let list = r#"{"name":"l","cniVersion":"0.4.0","cniVersions":["1.0.0","7.0.0"],"plugins":[{"type":"a"}]}"#;
        assert_eq!(version(list), "1.0.0");
        assert_eq!(version(r#"{"name":"l","plugins":[{"type":"a"}]}"#), "");
        assert_eq!(
            version(r#"{"name":"l","cniVersion":"9","plugins":[{"type":"a"}]}"#),
            "9"
        );
    }

    #[test]
    fn what_is_no_network_is_told_with_the_originals_words() {
        let msg = |text: &str| Network::parse(text.as_bytes()).unwrap_err().msg;
        let list = |text: &str| Network::parse_list(text.as_bytes()).unwrap_err().msg;
        let prefix = "error parsing configuration list: ";
        assert!(msg("{}").contains("neither 'type' nor 'plugins'"));
        assert_eq!(
            msg(r#"{"plugins":[{"type":"a"}]}"#),
            format!("{prefix}no name")
        );
        assert_eq!(
            msg(r#"{"name":"n","plugins":[]}"#),
            format!("{prefix}no plugins in list")
        );
        assert_eq!(list(r#"{"name":"n"}"#), format!("{prefix}no 'plugins' key"));
        assert!(list(r#"{"name":"n","plugins":{}}"#).starts_with(prefix));
        assert_eq!(
            msg(r#"{"name":"n","plugins":[{"type":"a"},{}]}"#),
            format!(
                "{prefix}failed to parse plugin config 1: error parsing configuration: missing 'type'"
            )
        );
        for bad in [
            "",
            "null",
            "[]",
            r#"{"type":5}"#,
            r#"{"type":"a","capabilities":[]}"#,
        ] {
            assert!(
                msg(bad).starts_with("error parsing configuration: "),
                "{bad}"
            );
        }
    }

    #[test]
    fn edits_reach_the_text() {
        let mut net = network(r#"{"type":"a","k":1.0}"#);
        net.set_name("n");
        net.edit_plugins(|document| {
            document.set("deviceID", &"0000:03:02.0");
            Ok::<(), Error>(())
        })
        .unwrap();
        let text = String::from_utf8(net.to_bytes()).unwrap();
        assert_eq!(
            text,
            r#"{"type":"a","k":1.0,"name":"n","deviceID":"0000:03:02.0"}"#
        );
        assert_eq!(Network::parse(text.as_bytes()).unwrap(), net);
        let mut list = network(r#"{"name":"l","plugins":[{"type":"a"}]}"#);
        list.append(vec![
            PluginConf::parse(br#"{"type":"b","x":2.50}"#).unwrap(),
        ]);
        let text = String::from_utf8(list.to_bytes()).unwrap();
        assert_eq!(
            text,
            r#"{"name":"l","plugins":[{"type":"a"},{"type":"b","x":2.50}]}"#
        );
    }
}
