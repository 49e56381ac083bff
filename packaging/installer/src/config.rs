//! The configuration that puts multus in front of the primary one. The order of its keys is that of upstream.

use std::collections::BTreeMap;
use std::path::Path;

use cni::Version;
use cni::json::{Object, pretty};
use serde::Serialize;

use crate::flags::Flags;
use crate::primary::Primary;

/// The two names that the file has, by version; there is never more than one of them.
pub(crate) const NAMES: [&str; 2] = ["00-multus.conf", "00-multus.conflist"];

/// A network without `--override-network-name` is called this.
const NETWORK: &str = "multus-cni-network";

/// A configuration to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// One of [`NAMES`].
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// From version 1.0.0 on a configuration is a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    cni_version: &'a str,
    name: &'a str,
    plugins: [Plugin<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Single<'a> {
    cni_version: &'a str,
    name: &'a str,
    #[serde(flatten)]
    plugin: Plugin<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    capabilities: &'a BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    namespace_isolation: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    global_namespaces: &'a str,
    #[serde(skip_serializing_if = "Clone::clone")]
    log_to_stderr: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    log_level: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    log_file: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    bin_dir: &'a str,
    conf_dir: &'a str,
    #[serde(
        rename = "readinessindicatorfile",
        skip_serializing_if = "str::is_empty"
    )]
    readiness_indicator_file: &'a str,
    kubeconfig: &'a str,
    delegates: [&'a Object; 1],
}

/// The configuration for a primary one.
pub(crate) fn generate(flags: &Flags, primary: &Primary) -> Config {
    let conf_dir = on_host(&flags.multus_cni_conf_dir);
    let plugin = Plugin {
        r#type: "multus",
        capabilities: &primary.capabilities,
        namespace_isolation: flags.namespace_isolation,
        global_namespaces: &flags.global_namespaces,
        log_to_stderr: flags.multus_log_to_stderr,
        log_level: &flags.multus_log_level,
        log_file: &flags.multus_log_file,
        bin_dir: &flags.additional_bin_dir,
        conf_dir: &conf_dir,
        readiness_indicator_file: &flags.readiness_indicator_file,
        kubeconfig: &flags.multus_kubeconfig_file_host,
        delegates: [&primary.document],
    };
    let cni_version = primary.version.as_str();
    let name = match flags.override_network_name {
        true => primary.name.as_str(),
        false => NETWORK,
    };
    let [single, list] = NAMES;
    let (file, mut text) = if primary.version >= Version::V1_0_0 {
        let plugins = [plugin];
        (
            list,
            pretty(&List {
                cni_version,
                name,
                plugins,
            }),
        )
    } else {
        (
            single,
            pretty(&Single {
                cni_version,
                name,
                plugin,
            }),
        )
    };
    text.push('\n');
    Config { name: file, text }
}

/// A path in this container as the host knows it: the host's folders are mounted below `/host`.
fn on_host(path: &Path) -> String {
    let path = match path.strip_prefix("/host") {
        Ok(rest) => Path::new("/").join(rest),
        Err(_) => path.to_owned(),
    };
    path.to_string_lossy().into_owned()
}
