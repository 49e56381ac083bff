//! The keys of a macvlan configuration; the rest of the plugin sees valid values only.

use attach::Plan;
use cni::text::parse_mac;
use cni::{CniArgs, Code, Error};
use kernel::{Kind, MacVlanMode};
use serde::Deserialize;
use skel::Call;

/// The plugin's own keys, as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Keys {
    master: String,
    mode: String,
    mtu: i64,
    mac: String,
    link_in_container: bool,
    #[serde(rename = "bcqueuelen")]
    bc_queue_len: u32,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

/// Those of them that stand at the top of a configuration.
const KEYS: [&str; 6] = [
    "bcqueuelen",
    "linkInContainer",
    "mac",
    "master",
    "mode",
    "mtu",
];

/// Reads the configuration for a verb that has `CNI_ARGS`. Errors: code 7, and 4 for `CNI_ARGS`.
pub(crate) fn plan(call: &Call<Keys>) -> Result<Plan, Error> {
    skel::warn_of_typing_errors(&call.stdin, &KEYS);
    plan_with_args(&call.conf, &call.args)
}

/// As [`plan`], for a verb without an attachment: `CNI_ARGS` are not looked at.
pub(crate) fn plan_without_args(keys: &Keys) -> Result<Plan, Error> {
    plan_with_args(keys, "")
}

fn plan_with_args(keys: &Keys, args: &str) -> Result<Plan, Error> {
    let args = CniArgs::parse(args, &["MAC"])?;
    Ok(Plan {
        master: Some(keys.master.clone()).filter(|name| !name.is_empty()),
        link_in_container: keys.link_in_container,
        mtu: keys.mtu,
        mac: mac(keys, args.get("MAC"))?,
        kind: Kind::MacVlan {
            mode: mode(&keys.mode)?,
            bc_queue_len: keys.bc_queue_len,
        },
    })
}

fn mode(text: &str) -> Result<MacVlanMode, Error> {
    let mode = attach::one_of("macvlan mode", text, &MacVlanMode::ALL, MacVlanMode::as_str)?;
    Ok(mode.unwrap_or(MacVlanMode::Bridge))
}

/// What the runtime says goes before what the caller says, and that before the configuration.
fn mac(keys: &Keys, arg: Option<&str>) -> Result<Option<Vec<u8>>, Error> {
    let (text, code) = match (keys.runtime_config.mac.as_str(), arg) {
        ("", None) => (keys.mac.as_str(), Code::InvalidConfig),
        ("", Some(arg)) => (arg, Code::InvalidEnvironment),
        (runtime, _) => (runtime, Code::InvalidConfig),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |e| Error::new(code, format!("invalid args {text} for MAC addr: {e}"));
    parse_mac(text).map(Some).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use cni::json::Value;

    use super::*;

    fn conf(text: &str, args: &str) -> Result<Plan, Error> {
        let keys = Value::parse(text.as_bytes()).unwrap().read().unwrap();
        plan_with_args(&keys, args)
    }

    #[test]
    fn nothing_is_required() {
        let expected = Plan {
            master: None,
            link_in_container: false,
            mtu: 0,
            mac: None,
            kind: Kind::MacVlan {
                mode: MacVlanMode::Bridge,
                bc_queue_len: 0,
            },
        };
        assert_eq!(conf("{}", "").unwrap(), expected);
        let nothing = r#"{"master":"","mode":"","mac":"","mtu":0,"runtimeConfig":null}"#;
        assert_eq!(conf(nothing, "MAC=").unwrap(), expected);
    }

    #[test]
    fn every_key() {
        let text = r#"{"MASTER":"m0","mode":"vepa","mtu":1400,"mac":"02-00-00-00-00-01",
            "linkInContainer":true,"bcQueueLen":7}"#;
        let expected = Plan {
            master: Some("m0".into()),
            link_in_container: true,
            mtu: 1400,
            mac: Some(vec![2, 0, 0, 0, 0, 1]),
            kind: Kind::MacVlan {
                mode: MacVlanMode::Vepa,
                bc_queue_len: 7,
            },
        };
        assert_eq!(conf(text, "").unwrap(), expected);
    }

    #[test]
    fn the_runtimes_mac_goes_first() {
        let last_byte = |text, args| conf(text, args).unwrap().mac.unwrap()[5];
        let all = r#"{"mac":"02:00:00:00:00:01","runtimeConfig":{"mac":"02:00:00:00:00:03"}}"#;
        let own = r#"{"mac":"02:00:00:00:00:01","args":{"cni":{"mac":"02:00:00:00:00:04"}}}"#;
        assert_eq!(last_byte(all, "MAC=02:00:00:00:00:02"), 3);
        assert_eq!(last_byte(own, "MAC=02:00:00:00:00:02"), 2);
        assert_eq!(last_byte(own, "IgnoreUnknown=1;K8S_POD_NAME=x"), 1);
    }

    #[test]
    fn errors_say_what_the_originals_say() {
        let error = |text, args| conf(text, args).unwrap_err();
        let mode = error(r#"{"mode":"brigde"}"#, "");
        assert_eq!(
            mode.msg,
            r#"unknown macvlan mode: "brigde", must be one of private, vepa, bridge, passthru"#
        );
        assert_eq!(mode.code, Code::InvalidConfig);
        for text in [r#"{"mode":"Bridge"}"#, r#"{"mode":"source"}"#] {
            assert!(error(text, "").msg.starts_with("unknown macvlan mode"));
        }
        let mac = "invalid args zz for MAC addr: address zz: invalid MAC address";
        assert_eq!(error(r#"{"mac":"zz"}"#, "").msg, mac);
        let arg = error("{}", "MAC=zz");
        assert_eq!(
            (arg.code, arg.msg.as_str()),
            (Code::InvalidEnvironment, mac)
        );
        let unknown = error("{}", "K8S_POD_NAME=x").msg;
        assert_eq!(unknown, r#"ARGS: unknown args ["K8S_POD_NAME=x"]"#);
    }
}
