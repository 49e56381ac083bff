//! The keys of a macvlan configuration; the rest of the plugin sees valid values only.

use cni::json::Value;
use cni::text::parse_mac;
use cni::{CniArgs, Code, Error};
use kernel::{Link, MacVlanMode};
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

/// Every key that a macvlan configuration may have.
const KNOWN: [&str; 17] = [
    "args",
    "bcqueuelen",
    "capabilities",
    "cniVersion",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "linkInContainer",
    "mac",
    "master",
    "mode",
    "mtu",
    "name",
    "prevResult",
    "runtimeConfig",
    "type",
];

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conf {
    /// Name of the master; `None` is the link of the default route.
    pub(crate) master: Option<String>,
    pub(crate) mode: MacVlanMode,
    /// Bytes, as written; see [`Conf::mtu_on`].
    pub(crate) mtu: i64,
    pub(crate) mac: Option<Vec<u8>>,
    /// The master is in the pod.
    pub(crate) link_in_container: bool,
    /// 0 leaves it to the kernel.
    pub(crate) bc_queue_len: u32,
}

impl Conf {
    /// Reads the configuration for a verb that has `CNI_ARGS`. Errors: code 7, and 4 for `CNI_ARGS`.
    pub(crate) fn read(call: &Call<Keys>) -> Result<Conf, Error> {
        warn_of_typing_errors(&call.stdin);
        Conf::with_args(&call.conf, &call.args)
    }

    /// As [`Conf::read`], for a verb without an attachment: `CNI_ARGS` are not looked at.
    pub(crate) fn without_args(keys: &Keys) -> Result<Conf, Error> {
        Conf::with_args(keys, "")
    }

    fn with_args(keys: &Keys, args: &str) -> Result<Conf, Error> {
        let args = CniArgs::parse(args, &["MAC"])?;
        Ok(Conf {
            master: Some(keys.master.clone()).filter(|name| !name.is_empty()),
            mode: mode(&keys.mode)?,
            mtu: keys.mtu,
            mac: mac(keys, args.get("MAC"))?,
            link_in_container: keys.link_in_container,
            bc_queue_len: keys.bc_queue_len,
        })
    }

    /// The MTU for a link on `master`, in bytes; 0 is the master's. Code 7 when it is more than that.
    pub(crate) fn mtu_on(&self, master: &Link) -> Result<u32, Error> {
        let (mtu, limit) = (self.mtu, master.mtu);
        let fits = u32::try_from(mtu).ok().filter(|mtu| *mtu <= limit);
        fits.ok_or_else(|| {
            let why = format!("invalid MTU {mtu}, must be [0, master MTU({limit})]");
            Error::config(why)
        })
    }
}

fn mode(text: &str) -> Result<MacVlanMode, Error> {
    if text.is_empty() {
        return Ok(MacVlanMode::Bridge);
    }
    let mut modes = MacVlanMode::ALL.into_iter();
    modes.find(|mode| mode.as_str() == text).ok_or_else(|| {
        let known = MacVlanMode::ALL.map(MacVlanMode::as_str).join(", ");
        Error::config(format!(
            "unknown macvlan mode: {text:?}, must be one of {known}"
        ))
    })
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

/// Unknown keys are allowed and mean nothing, so a typing error goes unnoticed until somebody misses its effect.
fn warn_of_typing_errors(stdin: &[u8]) {
    let Ok(Value::Object(members)) = Value::parse(stdin) else {
        return;
    };
    for (key, _) in &members {
        if let Some(meant) = meant(key) {
            log::warn!("the configuration's key {key:?} means nothing; {meant:?} was meant?");
        }
    }
}

/// The known key that `key` is almost, but not quite.
fn meant(key: &str) -> Option<&'static str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key)) {
        return None;
    }
    let key = plain(key);
    KNOWN
        .into_iter()
        .find(|known| one_edit_apart(key.as_bytes(), plain(known).as_bytes()))
}

/// Whether two words are the same, or but for one letter that is wrong, missing or too many, or two that changed places.
fn one_edit_apart(a: &[u8], b: &[u8]) -> bool {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        a.get(same..).unwrap_or_default(),
        b.get(same..).unwrap_or_default(),
    );
    match (a, b) {
        ([], []) => true,
        ([a0, a1, a @ ..], [b0, b1, b @ ..]) if a0 == b1 && a1 == b0 && a == b => true,
        _ => {
            let (a_tail, b_tail) = (a.get(1..), b.get(1..));
            a_tail == Some(b) || b_tail == Some(a) || (a_tail.is_some() && a_tail == b_tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str, args: &str) -> Result<Conf, Error> {
        let keys = Value::parse(text.as_bytes()).unwrap().read().unwrap();
        Conf::with_args(&keys, args)
    }

    #[test]
    fn nothing_is_required() {
        let expected = Conf {
            master: None,
            mode: MacVlanMode::Bridge,
            mtu: 0,
            mac: None,
            link_in_container: false,
            bc_queue_len: 0,
        };
        assert_eq!(conf("{}", "").unwrap(), expected);
        let nothing = r#"{"master":"","mode":"","mac":"","mtu":0,"runtimeConfig":null}"#;
        assert_eq!(conf(nothing, "MAC=").unwrap(), expected);
    }

    #[test]
    fn every_key() {
        let text = r#"{"MASTER":"m0","mode":"vepa","mtu":1400,"mac":"02-00-00-00-00-01",
            "linkInContainer":true,"bcQueueLen":7}"#;
        let expected = Conf {
            master: Some("m0".into()),
            mode: MacVlanMode::Vepa,
            mtu: 1400,
            mac: Some(vec![2, 0, 0, 0, 0, 1]),
            link_in_container: true,
            bc_queue_len: 7,
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

    #[test]
    fn the_mtu_is_at_most_the_masters() {
        let master = Link {
            mtu: 1500,
            ..Link::default()
        };
        let mtu = |mtu: i64| {
            conf(&format!(r#"{{"mtu":{mtu}}}"#), "")
                .unwrap()
                .mtu_on(&master)
        };
        assert_eq!((mtu(0).unwrap(), mtu(1500).unwrap()), (0, 1500));
        for bad in [-1, 1501, 5_000_000_000] {
            let error = mtu(bad).unwrap_err();
            let expected = format!("invalid MTU {bad}, must be [0, master MTU(1500)]");
            assert_eq!((error.code, error.msg), (Code::InvalidConfig, expected));
        }
    }

    #[test]
    fn almost_a_key() {
        for (key, known) in [
            ("mastre", "master"),
            ("modee", "mode"),
            ("mut", "mtu"),
            ("link_in_container", "linkInContainer"),
            ("bcqueuelem", "bcqueuelen"),
            ("MTUs", "mtu"),
        ] {
            assert_eq!(meant(key), Some(known), "{key}");
        }
        for key in [
            "MTU",
            "mac",
            "LinkInContainer",
            "vlan",
            "",
            "m",
            "maximum",
            "labels",
        ] {
            assert_eq!(meant(key), None, "{key}");
        }
    }
}
