//! The configuration of multus: the only file that knows its keys.

use std::path::PathBuf;
use std::time::Duration;

use cni::json::{Object, Value};
use cni::{Error, Network, Seconds};
use serde::Deserialize;

/// The keys that only multus has. Each is lenient; [`Conf`] has what they mean.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Keys {
    kubeconfig: String,
    cluster_network: String,
    default_networks: Vec<String>,
    conf_dir: String,
    /// What the original's installer writes where `confDir` is meant.
    cni_conf: String,
    cni_dir: String,
    bin_dir: String,
    readinessindicatorfile: String,
    namespace_isolation: bool,
    global_namespaces: Option<String>,
    system_namespaces: Option<Vec<String>>,
    multus_namespace: String,
    #[serde(rename = "auxiliaryCNIChainName")]
    auxiliary_chain: String,
    timeouts: Timeouts,
}

/// `timeouts`: how long each kind of waiting may take, in seconds. The original has none, or fixed ones.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Timeouts {
    api_server: Seconds,
    delegate: Seconds,
    lock: Seconds,
    readiness: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            api_server: Seconds::whole(10),
            delegate: Seconds::whole(90),
            lock: Seconds::whole(60),
            readiness: Seconds::whole(45),
        }
    }
}

/// What the configuration asks for, defaults filled in.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    /// `None`: the service account of a pod, if this runs in one; else no API server at all.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The default network by name or path; the static delegates are not used then.
    pub(crate) cluster_network: Option<String>,
    /// More networks for every pod that is in no system namespace. Only with a cluster network.
    pub(crate) default_networks: Vec<String>,
    /// Where networks are found as files.
    pub(crate) conf_dir: PathBuf,
    /// Where the state is kept.
    pub(crate) cni_dir: PathBuf,
    /// Where plugins are found before `CNI_PATH` is looked at.
    pub(crate) bin_dir: String,
    /// Nothing is attached before this file is there.
    pub(crate) readiness_file: Option<PathBuf>,
    pub(crate) isolation: Isolation,
    /// Namespaces whose pods get no `defaultNetworks`.
    pub(crate) system_namespaces: Vec<String>,
    /// Where networks without a namespace are looked for.
    pub(crate) multus_namespace: String,
    /// Name of a chain of plugins that is run last for every pod, from a folder beside the cluster network.
    pub(crate) auxiliary_chain: Option<String>,
    /// `runtimeConfig` as it came: the default network's, and no other's.
    pub(crate) runtime_config: Object,
    /// For one request to the API server with all its tries.
    pub(crate) api_limit: Duration,
    /// For one plugin and one verb.
    pub(crate) delegate_limit: Duration,
    /// For another call that works on the same container.
    pub(crate) lock_limit: Duration,
    /// For the readiness file.
    pub(crate) readiness_limit: Duration,
}

/// Which namespaces a pod may take networks from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Isolation {
    /// Whether a pod is kept to its own namespace.
    pub(crate) enabled: bool,
    /// Whose networks are everybody's all the same.
    pub(crate) exempt: Vec<String>,
}

impl Isolation {
    /// Whether a pod of one namespace may use a network of another.
    pub(crate) fn allows(&self, pod: &str, network: &str) -> bool {
        !self.enabled || pod == network || self.exempt.iter().any(|exempt| exempt == network)
    }
}

impl Conf {
    /// Errors, code 7: `runtimeConfig` is no object, a path is not absolute.
    pub(crate) fn read(keys: &Keys, stdin: &[u8]) -> Result<Conf, Error> {
        let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        let or = |text: &String, default: &str| given(text).unwrap_or_else(|| default.to_owned());
        let conf_dir = given(&keys.conf_dir).or_else(|| given(&keys.cni_conf));
        let conf = Conf {
            kubeconfig: given(&keys.kubeconfig).map(PathBuf::from),
            cluster_network: given(&keys.cluster_network),
            default_networks: keys.default_networks.clone(),
            conf_dir: conf_dir.map_or_else(|| "/etc/cni/multus/net.d".into(), PathBuf::from),
            cni_dir: or(&keys.cni_dir, "/var/lib/cni/multus").into(),
            bin_dir: or(&keys.bin_dir, "/opt/cni/bin"),
            readiness_file: given(&keys.readinessindicatorfile).map(PathBuf::from),
            isolation: Isolation {
                enabled: keys.namespace_isolation,
                exempt: exempt(keys.global_namespaces.as_deref()),
            },
            system_namespaces: match &keys.system_namespaces {
                Some(list) => list.clone(),
                None => vec!["kube-system".to_owned()],
            },
            multus_namespace: or(&keys.multus_namespace, "kube-system"),
            auxiliary_chain: given(&keys.auxiliary_chain),
            runtime_config: document(stdin)?
                .object("runtimeConfig")
                .map_err(|e| Error::config(format!("LoadNetConf: {e}")))?,
            api_limit: keys.timeouts.api_server.duration(),
            delegate_limit: keys.timeouts.delegate.duration(),
            lock_limit: keys.timeouts.lock.duration(),
            readiness_limit: keys.timeouts.readiness.duration(),
        };
        if !conf.cni_dir.is_absolute() {
            let dir = conf.cni_dir.display();
            return Err(Error::config(format!(
                "cniDir {dir} is not an absolute path"
            )));
        }
        Ok(conf)
    }

    /// The path that plugins are found on: `binDir`, then the runtime's.
    pub(crate) fn plugin_path(&self, cni_path: &str) -> String {
        match cni_path {
            "" => self.bin_dir.clone(),
            path => format!("{}:{path}", self.bin_dir),
        }
    }
}

/// `globalNamespaces` replaces the list, so `default` has to be in it to stay exempt.
fn exempt(global: Option<&str>) -> Vec<String> {
    let Some(global) = global else {
        return vec!["default".to_owned()];
    };
    let names = global.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The networks of `delegates`, the first of which is the default network. Their text is taken from the document
/// itself, so nothing in it changes.
///
/// Errors, code 7: there is none; one is no network.
pub(crate) fn static_networks(stdin: &[u8]) -> Result<Vec<Network>, Error> {
    let loading = |e: &dyn std::fmt::Display| {
        Error::config(format!("LoadNetConf: failed to load netconf: {e}"))
    };
    let delegates = document(stdin)?
        .array("delegates")
        .map_err(|e| loading(&e))?;
    if delegates.is_empty() {
        let why = "LoadNetConf: at least one delegate/clusterNetwork must be specified";
        return Err(Error::config(why));
    }
    let network = |(index, text): (usize, Box<_>)| {
        let text: Box<serde_json::value::RawValue> = text;
        network(text.get().as_bytes()).map_err(|e| {
            e.context(format!(
                "LoadNetConf: failed to load delegate {index} config"
            ))
        })
    };
    delegates.into_iter().enumerate().map(network).collect()
}

/// Reads the configuration of a network that was not written for us. Errors, code 7: as [`Network::parse`]; it
/// would call multus again.
pub(crate) fn network(text: &[u8]) -> Result<Network, Error> {
    let words = |e: Error| {
        match Object::parse(text) {
        Ok(document) => match (document.get("type"), document.value("plugins")) {
            (None, Ok(Value::Null)) => Error::config(
                "LoadDelegateNetConf: failed with: LoadDelegateNetConfList: delegate must have the 'type' or 'plugin' field",
            ),
            (None, _) if e.msg.contains("missing 'type'") => e.context(
                "LoadDelegateNetConf: failed with: LoadDelegateNetConfList: a plugin delegate must have the 'type' field",
            ),
            _ => e.context("LoadDelegateNetConf"),
        },
        Err(_) => e.context("LoadDelegateNetConf"),
    }
    };
    let network = Network::parse(text).map_err(words)?;
    refuse_recursion(&network)?;
    Ok(network)
}

/// Multus as its own delegate would start itself for ever. Errors, code 7.
pub(crate) fn refuse_recursion(network: &Network) -> Result<(), Error> {
    const OURSELVES: [&str; 3] = ["multus", "multus-shim", "multus-daemon"];
    let ours = |kind: &str| OURSELVES.contains(&kind);
    match network.plugins.iter().find(|plugin| ours(&plugin.kind)) {
        None => Ok(()),
        Some(plugin) => {
            let (name, kind) = (&network.name, &plugin.kind);
            let why = format!("network {name:?} has the plugin {kind:?}, which would call itself");
            Err(Error::config(why))
        }
    }
}

fn document(stdin: &[u8]) -> Result<Object, Error> {
    Object::parse(stdin).map_err(|e| {
        let why = format!("LoadNetConf: failed to load netconf: {e}");
        Error::new(cni::Code::Decoding, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Conf {
        let keys: Keys = cni::json::from_slice(text.as_bytes()).unwrap();
        Conf::read(&keys, text.as_bytes()).unwrap()
    }

    #[test]
    fn defaults_and_aliases() {
        let conf = conf("{}");
        assert_eq!(conf.cni_dir, PathBuf::from("/var/lib/cni/multus"));
        assert_eq!(conf.conf_dir, PathBuf::from("/etc/cni/multus/net.d"));
        assert_eq!(conf.system_namespaces, ["kube-system"]);
        assert_eq!(conf.isolation.exempt, ["default"]);
        assert_eq!(conf.readiness_limit, Duration::from_secs(45));
        assert_eq!(
            conf.plugin_path("/usr/lib/cni"),
            "/opt/cni/bin:/usr/lib/cni"
        );
        let other = self::conf(
            r#"{"cniConf":"/x","cniDir":"","globalNamespaces":" kube-system, foo ","systemNamespaces":[],
                "READINESSINDICATORFILE":"/run/ready","timeouts":{"delegate":0.5}}"#,
        );
        assert_eq!(other.conf_dir, PathBuf::from("/x"));
        assert_eq!(other.isolation.exempt, ["kube-system", "foo"]);
        assert!(other.system_namespaces.is_empty());
        assert_eq!(other.readiness_file, Some(PathBuf::from("/run/ready")));
        assert_eq!(other.delegate_limit, Duration::from_millis(500));
    }

    #[test]
    fn times_that_are_none() {
        for bad in ["0", "-1", "1e9", "\"5\""] {
            let text = format!(r#"{{"timeouts":{{"lock":{bad}}}}}"#);
            assert!(
                cni::json::from_slice::<Keys>(text.as_bytes()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn isolation() {
        let of = |enabled| Isolation {
            enabled,
            exempt: vec!["default".into()],
        };
        assert!(of(true).allows("a", "a") && of(true).allows("a", "default"));
        assert!(!of(true).allows("a", "b") && of(false).allows("a", "b"));
    }

    #[test]
    fn delegates_that_are_none_are_told_with_the_originals_words() {
        let msg = |text: &str| static_networks(text.as_bytes()).unwrap_err().msg;
        let loading = "LoadNetConf: failed to load delegate 0 config: ";
        for none in ["{}", r#"{"delegates":[]}"#, r#"{"delegates":null}"#] {
            assert_eq!(
                msg(none),
                "LoadNetConf: at least one delegate/clusterNetwork must be specified"
            );
        }
        let neither = msg(r#"{"delegates":[{"name":"x"}]}"#);
        assert_eq!(
            neither,
            format!(
                "{loading}LoadDelegateNetConf: failed with: LoadDelegateNetConfList: delegate must have the 'type' or 'plugin' field"
            )
        );
        let untyped = msg(r#"{"delegates":[{"name":"x","plugins":[{"Typ":"a"}]}]}"#);
        assert!(
            untyped.contains("a plugin delegate must have the 'type' field"),
            "{untyped}"
        );
        let empty = msg(r#"{"delegates":[{"name":"x","plugins":[]}]}"#);
        assert!(empty.contains("no plugins in list"), "{empty}");
        for bad in [r#"{"delegates":[null]}"#, r#"{"delegates":[[]]}"#] {
            assert!(msg(bad).starts_with(loading), "{bad}");
        }
        assert!(msg(r#"{"delegates":{}}"#).contains("delegates: invalid type"));
        let own = msg(r#"{"delegates":[{"name":"x","type":"multus"}]}"#);
        assert!(own.contains("would call itself"), "{own}");
    }
}
