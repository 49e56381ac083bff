//! The keys of a configuration and the pairs of `CNI_ARGS`; the rest of the plugin sees valid values only.

use std::path::PathBuf;
use std::time::Duration;

use cni::json::Object;
use cni::{CniArgs, Code, Error, Seconds, Version};
use k8s::DanmGroup;
use serde::Deserialize;
use skel::Call;

/// The plugin's own keys, as they are written. Those of the original first.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Keys {
    kubeconfig: String,
    cni_dir: String,
    naming_scheme: String,
    api_group: String,
    result: String,
    honor_if_name: bool,
    create_host_devices: bool,
    complete_delegates: bool,
    state_dir: String,
    parallel: usize,
    timeouts: Timeouts,
}

/// `timeouts`, in seconds. That of `delegate` is every configuration's.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Timeouts {
    api_server: Seconds,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            api_server: Seconds::whole(10),
        }
    }
}

/// For each verb of each delegate, if the configuration does not say.
const DELEGATE_LIMIT: Duration = Duration::from_secs(30);

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            kubeconfig: String::new(),
            cni_dir: "/etc/cni/net.d".into(),
            naming_scheme: String::new(),
            api_group: String::new(),
            result: String::new(),
            honor_if_name: false,
            create_host_devices: false,
            complete_delegates: false,
            state_dir: "/var/lib/cni/danm-shim".into(),
            parallel: 8,
            timeouts: Timeouts::default(),
        }
    }
}

/// Their names in a configuration, and those that the original has and ignores.
const KEYS: [&str; 14] = [
    "apiGroup",
    "cniDir",
    "completeDelegates",
    "createHostDevices",
    "honorIfName",
    "kubeconfig",
    "master",
    "namingScheme",
    "parallel",
    "result",
    "stateDir",
    "timeouts",
    "vlan",
    "vxlan",
];

/// What the configuration says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Access to the API server; `None` is the service account of the pod this runs in.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where the configurations of delegates are.
    pub(crate) cni_dir: PathBuf,
    /// A `container_prefix` is a whole name.
    pub(crate) is_legacy: bool,
    /// The group of DANM's objects.
    pub(crate) group: DanmGroup,
    /// The result tells namespaces, hardware addresses and which address is on which interface.
    pub(crate) tells_all: bool,
    /// The first interface is called what the runtime asks for, and not `eth0`.
    pub(crate) honors_ifname: bool,
    /// VLAN and VXLAN links that are missing on the host are made.
    pub(crate) creates_host_devices: bool,
    /// Configurations of delegates get the `name` and `cniVersion` that they lack.
    pub(crate) completes_delegates: bool,
    /// Where this node keeps account.
    pub(crate) state_dir: PathBuf,
    /// The most interfaces of a pod that are worked on at the same time.
    pub(crate) parallel: usize,
    /// For each request to the API server.
    pub(crate) api_limit: Duration,
    /// For each verb of each delegate.
    pub(crate) delegate_limit: Duration,
    /// `runtimeConfig`, for delegates that declare capabilities.
    pub(crate) capability_args: Object,
}

impl Settings {
    /// Reads the configuration. Errors: code 7.
    pub(crate) fn read(call: &Call<Keys>) -> Result<Settings, Error> {
        skel::warn_of_typing_errors(&call.stdin, &KEYS);
        let keys = &call.conf;
        let group = DanmGroup::ALL
            .into_iter()
            .find(|group| keys.api_group.is_empty() || group.as_str() == keys.api_group);
        let group = group.ok_or_else(|| {
            unknown(
                "apiGroup",
                &keys.api_group,
                &DanmGroup::ALL.map(DanmGroup::as_str),
            )
        })?;
        // 4.3.0 knows no version after 0.3.1, so nobody relies on its kind of result there.
        let tells_all = match keys.result.as_str() {
            "" => call.version >= Version::V0_4_0,
            "spec" => true,
            "compatible" => false,
            other => return Err(unknown("result", other, &["compatible", "spec"])),
        };
        if keys.parallel == 0 {
            return Err(Error::config("parallel is 0, must be at least 1"));
        }
        let document = Object::parse(&call.stdin);
        let capability_args = document.and_then(|d| d.object("runtimeConfig"));
        Ok(Settings {
            kubeconfig: Some(&keys.kubeconfig)
                .filter(|p| !p.is_empty())
                .map(PathBuf::from),
            cni_dir: PathBuf::from(&keys.cni_dir),
            is_legacy: keys.naming_scheme == "legacy",
            group,
            tells_all,
            honors_ifname: keys.honor_if_name,
            creates_host_devices: keys.create_host_devices,
            completes_delegates: keys.complete_delegates,
            state_dir: PathBuf::from(&keys.state_dir),
            parallel: keys.parallel,
            api_limit: keys.timeouts.api_server.duration(),
            delegate_limit: call.net.delegate_limit.unwrap_or(DELEGATE_LIMIT),
            capability_args: capability_args.unwrap_or_default(),
        })
    }
}

fn unknown(key: &str, found: &str, words: &[&str]) -> Error {
    let words = words.join(", ");
    Error::config(format!("unknown {key}: {found:?}, must be one of {words}"))
}

/// The pod, as `CNI_ARGS` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodArgs {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `K8S_POD_INFRA_CONTAINER_ID`, what DanmEps call `CID`.
    pub(crate) cid: String,
}

impl PodArgs {
    /// Reads `CNI_ARGS`. Errors, code 4: it can't be read, or does not say which pod.
    pub(crate) fn read(call: &Call<Keys>) -> Result<PodArgs, Error> {
        let known = [
            "IP",
            "K8S_POD_INFRA_CONTAINER_ID",
            "K8S_POD_NAME",
            "K8S_POD_NAMESPACE",
            "K8S_POD_UID",
        ];
        let args = CniArgs::parse(&call.args, &known)?;
        let get = |key| {
            args.get(key).map(str::to_owned).ok_or_else(|| {
                let why = format!("CNI_ARGS has no {key}: the pod to attach is not known");
                Error::new(Code::InvalidEnvironment, why).details("CNI_ARGS")
            })
        };
        Ok(PodArgs {
            namespace: get("K8S_POD_NAMESPACE")?,
            name: get("K8S_POD_NAME")?,
            cid: get("K8S_POD_INFRA_CONTAINER_ID").unwrap_or_else(|_| call.container_id.clone()),
        })
    }
}

/// The pairs of `CNI_ARGS` as they came, for delegates.
pub(crate) fn pairs(args: &str) -> Vec<(String, String)> {
    let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
