//! The configuration: the only file that knows its keys.
//!
//! It is read in two depths, because DEL has to free addresses even under a configuration that ADD would refuse:
//! DEL needs to know where the pool is ([`pool`]), ADD everything ([`Request::read`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::json::Value;
use cni::{CniArgs, Code, Dns, Error, Route, Version, text};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skel::Call;

use crate::index;
use crate::range::{Range, RangeSet, Written};
use crate::resolv_conf;

const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// The parts of the configuration that are this plugin's affair, not looked into yet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Conf {
    ipam: Value,
    runtime_config: Value,
    args: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DataDir {
    data_dir: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    // The range of one's own that `ipam` may be, from before there were `ranges`.
    subnet: String,
    range_start: String,
    range_end: String,
    gateway: String,
    ranges: Vec<Option<Vec<Option<WireRange>>>>,
    routes: Vec<Option<Route>>,
    resolv_conf: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireRange {
    subnet: String,
    range_start: String,
    range_end: String,
    gateway: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Vec<Option<Vec<Option<WireRange>>>>,
    ips: Vec<Option<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: ArgsCni,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArgsCni {
    ips: Vec<Option<String>>,
}

/// What an ADD is asked for; every range in it is valid.
#[derive(Debug)]
pub(crate) struct Request {
    /// One address is taken from each.
    pub(crate) sets: Vec<RangeSet>,
    /// Addresses that were asked for, each once, in the order of asking.
    pub(crate) requested: Vec<IpAddr>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
    /// Hash of the sets that stand in the configuration itself; 0 when all came with the request (`ipRanges`),
    /// where being different every time is in order.
    pub(crate) fingerprint: u64,
}

/// The directory of the network's pool. Code 6 when `dataDir` is no text.
pub(crate) fn pool(call: &Call<Conf>) -> Result<PathBuf, Error> {
    let DataDir { data_dir } = read("ipam", &call.conf.ipam)?;
    let root = match data_dir.as_str() {
        "" => DEFAULT_DATA_DIR,
        given => given,
    };
    Ok(Path::new(root).join(&call.net.name))
}

impl Request {
    /// Reads all of the configuration. Code 7 for what it says, 6 for how, 4 for `CNI_ARGS`, 5 for `resolvConf`.
    pub(crate) fn read(call: &Call<Conf>) -> Result<Request, Error> {
        if call.conf.ipam == Value::Null {
            return Err(Error::config("IPAM config missing 'ipam' key"));
        }
        let ipam: Ipam = read("ipam", &call.conf.ipam)?;
        let runtime: RuntimeConfig = read("runtimeConfig", &call.conf.runtime_config)?;
        let args: Args = read("args", &call.conf.args)?;
        let requested = requested(&call.args, args.cni.ips, runtime.ips)?;
        let own = WireRange {
            subnet: ipam.subnet,
            range_start: ipam.range_start,
            range_end: ipam.range_end,
            gateway: ipam.gateway,
        };
        let own = (!own.subnet.is_empty()).then(|| Some(vec![Some(own)]));
        let from_request = runtime.ip_ranges.len();
        let all = runtime.ip_ranges.into_iter().chain(own).chain(ipam.ranges);
        let sets = sets(all.collect(), call.version)?;
        let configured: Vec<String> = sets
            .iter()
            .skip(from_request)
            .map(RangeSet::to_string)
            .collect();
        Ok(Request {
            fingerprint: match configured.is_empty() {
                true => 0,
                false => index::hash(configured.join(";").as_bytes()),
            },
            sets,
            requested,
            routes: ipam.routes.into_iter().flatten().collect(),
            dns: resolv_conf::read(&ipam.resolv_conf)?,
        })
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, Error> {
    value.read().map_err(|e| {
        let why = format!("failed to load netconf: {key}: {e}");
        Error::new(Code::Decoding, why)
    })
}

/// The addresses asked for. `args` in the configuration stands for what `CNI_ARGS` said before it was
/// deprecated, so `IP` of `CNI_ARGS` counts only without it (CONVENTIONS.md); `runtimeConfig` adds to either.
fn requested(
    cni_args: &str,
    args: Vec<Option<String>>,
    runtime: Vec<Option<String>>,
) -> Result<Vec<IpAddr>, Error> {
    let cni_args = CniArgs::parse(cni_args, &["IP"])?;
    let args: Vec<String> = args.into_iter().flatten().collect();
    let mut all = Vec::new();
    if let (Some(text), true) = (cni_args.get("IP"), args.is_empty()) {
        let ip = address(text).map_err(|e| {
            let why = format!("ARGS: error parsing value of pair \"IP={text}\": {e}");
            Error::new(Code::InvalidEnvironment, why).details("CNI_ARGS")
        })?;
        all.push(ip);
    }
    for text in args.into_iter().chain(runtime.into_iter().flatten()) {
        let ip = address(&text).map_err(Error::config)?;
        if !all.contains(&ip) {
            all.push(ip);
        }
    }
    Ok(all)
}

/// An address, alone or with a prefix length that says nothing: the range's counts.
fn address(text: &str) -> Result<IpAddr, String> {
    if text.is_empty() {
        return Err("cannot understand ip: IP <nil> not v4 nor v6".into());
    }
    let ip = match text.contains('/') {
        true => text::parse_cidr(text).map(|cidr| cidr.ip().to_canonical()),
        false => text::parse_ip(text),
    };
    ip.map_err(|_| format!("invalid IP address {text}"))
}

fn sets(
    written: Vec<Option<Vec<Option<WireRange>>>>,
    version: Version,
) -> Result<Vec<RangeSet>, Error> {
    if written.is_empty() {
        return Err(Error::config("no IP ranges specified"));
    }
    let mut sets: Vec<RangeSet> = Vec::with_capacity(written.len());
    for (i, ranges) in written.into_iter().enumerate() {
        let ranges = ranges.unwrap_or_default().into_iter();
        let ranges: Result<Vec<Written>, Error> = ranges
            .map(|range| range.unwrap_or_default().parse())
            .collect();
        let ranges: Result<Vec<Range>, String> = ranges?.into_iter().map(Range::new).collect();
        let set = ranges.and_then(RangeSet::new);
        sets.push(set.map_err(|e| Error::config(format!("invalid range set {i}: {e}")))?);
    }
    let v6 = sets.iter().filter(|set| set.is_v6()).count();
    if version < Version::V0_3_0 && (v6 > 1 || sets.len() - v6 > 1) {
        return Err(Error::config(format!(
            "CNI version {version} does not support more than 1 address per family"
        )));
    }
    for (i, a) in sets.iter().enumerate() {
        let later = sets.iter().enumerate().skip(i + 1);
        if let Some((k, _)) = later.into_iter().find(|(_, b)| a.overlaps(b)) {
            return Err(Error::config(format!("range set {i} overlaps with {k}")));
        }
    }
    Ok(sets)
}

impl WireRange {
    /// From text to addresses; an empty text is one that was not written.
    fn parse(self) -> Result<Written, Error> {
        let ip = |text: &str| match text {
            "" => Ok(None),
            text => text::parse_ip(text).map(Some).map_err(Error::config),
        };
        let subnet = match self.subnet.as_str() {
            "" => None,
            text => Some(text::parse_cidr(text).map_err(Error::config)?),
        };
        Ok(Written {
            subnet,
            start: ip(&self.range_start)?,
            end: ip(&self.range_end)?,
            gateway: ip(&self.gateway)?,
        })
    }
}
