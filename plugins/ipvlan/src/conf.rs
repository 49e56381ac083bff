//! The keys of an ipvlan configuration; the rest of the plugin sees valid values only.

use attach::{Plan, one_of};
use cni::{Error, Success};
use kernel::{IpVlanFlag, IpVlanMode, Kind};
use serde::Deserialize;
use skel::Call;

/// The plugin's own keys, as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Keys {
    master: String,
    mode: String,
    flag: String,
    mtu: i64,
    link_in_container: bool,
}

/// Their names in a configuration.
const KEYS: [&str; 5] = ["flag", "linkInContainer", "master", "mode", "mtu"];

/// Reads the configuration. Errors: code 7.
pub(crate) fn plan(call: &Call<Keys>) -> Result<Plan, Error> {
    skel::warn_of_typing_errors(&call.stdin, &KEYS);
    let keys = &call.conf;
    let mode = one_of(
        "ipvlan mode",
        &keys.mode,
        &IpVlanMode::ALL,
        IpVlanMode::as_str,
    )?;
    let flag = one_of(
        "ipvlan flag",
        &keys.flag,
        &IpVlanFlag::ALL,
        IpVlanFlag::as_str,
    )?;
    Ok(Plan {
        master: Some(keys.master.clone()).filter(|name| !name.is_empty()),
        link_in_container: keys.link_in_container,
        mtu: keys.mtu,
        mac: None,
        kind: Kind::IpVlan {
            mode: mode.unwrap_or(IpVlanMode::L2),
            flag: flag.unwrap_or(IpVlanFlag::Bridge),
        },
    })
}

/// The master in a chain: the one interface that the plugins before have made. Code 7.
pub(crate) fn chained_master(before: &Success) -> Result<String, Error> {
    match before.interfaces.as_slice() {
        [only] if !only.name.is_empty() => Ok(only.name.clone()),
        others => {
            let why = "chained master failure. PrevResult lacks a single named interface";
            let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
            let details = format!(
                "interfaces of prevResult: {names:?}; name the one to use with the key \"master\""
            );
            Err(Error::config(why).details(details))
        }
    }
}
