//! What every plugin reads from its network configuration; its own keys are the plugin's affair.

use std::time::Duration;

use serde::Deserialize;

use crate::json::Value;
use crate::{Code, Dns, Error, Seconds, Success, names};

/// The keys of a network configuration that the spec defines for every plugin (section 1).
#[derive(Debug, Clone, Default)]
pub struct NetConf {
    /// As written; empty when absent.
    pub cni_version: String,
    /// Name of the network, a valid identifier.
    pub name: String,
    /// `type`: the plugin's own file name.
    pub kind: String,
    /// `ipam.type`; empty when no IPAM plugin is asked for.
    pub ipam_kind: String,
    /// `dns` of the configuration.
    pub dns: Dns,
    /// `cni.dev/valid-attachments` of GC. `None` when the runtime sent no list, which is not the same as an empty one.
    pub valid_attachments: Option<Vec<Attachment>>,
    /// `timeouts.delegate`: how long a plugin that this one calls may take for one verb. Our own key; the originals wait
    /// for ever.
    pub delegate_limit: Option<Duration>,
    prev_result: Option<Value>,
}

/// An attachment that still exists, as GC lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// `CNI_CONTAINERID` of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME` of its ADD.
    pub ifname: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    cni_version: String,
    name: String,
    r#type: String,
    ipam: Ipam,
    dns: Dns,
    timeouts: Timeouts,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
    // The name in the 1.1.0 text; runtimes send both.
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<Attachment>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Timeouts {
    delegate: Option<Seconds>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    r#type: String,
}

impl NetConf {
    /// Reads the common part of a configuration.
    ///
    /// Errors: code 6 when it is no object or a key has the wrong type, code 7 when the network's name is
    /// missing or invalid.
    pub fn read(document: &Value) -> Result<NetConf, Error> {
        if !matches!(document, Value::Object(_)) {
            let why = "error unmarshall network config: the configuration is not a JSON object";
            return Err(Error::new(Code::Decoding, why));
        }
        let wire: Wire = document.read().map_err(|e| {
            Error::new(
                Code::Decoding,
                format!("error unmarshall network config: {e}"),
            )
        })?;
        names::network(&wire.name)?;
        Ok(NetConf {
            cni_version: wire.cni_version,
            name: wire.name,
            kind: wire.r#type,
            ipam_kind: wire.ipam.r#type,
            dns: wire.dns,
            valid_attachments: wire.valid_attachments.or(wire.attachments),
            delegate_limit: wire.timeouts.delegate.map(Seconds::duration),
            prev_result: wire.prev_result,
        })
    }

    /// The result of the plugin before this one, or of the ADD that CHECK and DEL look back to.
    ///
    /// It is read on demand, because DEL must work when it can't be read. Errors: code 7.
    pub fn prev_result(&self) -> Result<Option<Success>, Error> {
        let Some(document) = &self.prev_result else {
            return Ok(None);
        };
        Success::read(document, &self.cni_version)
            .map(Some)
            .map_err(|e| Error::config(format!("could not parse prevResult: {e}")))
    }

    /// Whether the runtime sent a `prevResult` at all, readable or not.
    pub fn has_prev_result(&self) -> bool {
        self.prev_result.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NetConf, Error> {
        NetConf::read(&Value::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_common_keys() {
        let conf = read(
            r#"{"CNIVERSION":"0.3.1","name":"n","TYPE":"macvlan","ipam":{"Type":"host-local"},"dns":null}"#,
        );
        let conf = conf.unwrap();
        assert_eq!(
            (conf.cni_version.as_str(), conf.kind.as_str()),
            ("0.3.1", "macvlan")
        );
        assert_eq!(conf.ipam_kind, "host-local");
        assert!(conf.dns.is_empty() && conf.valid_attachments.is_none());
        assert_eq!(read(r#"{"name":"n","ipam":{}}"#).unwrap().ipam_kind, "");
        assert_eq!(read(r#"{"name":"n","ipam":null}"#).unwrap().ipam_kind, "");
    }

    #[test]
    fn an_absent_list_is_not_an_empty_list() {
        let list = |text| read(text).unwrap().valid_attachments;
        assert_eq!(list(r#"{"name":"n"}"#), None);
        assert_eq!(
            list(r#"{"name":"n","cni.dev/valid-attachments":null}"#),
            None
        );
        assert_eq!(
            list(r#"{"name":"n","cni.dev/valid-attachments":[]}"#),
            Some(vec![])
        );
        let one = Attachment {
            container_id: "c".into(),
            ifname: "eth0".into(),
        };
        let old = r#"{"name":"n","cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}]}"#;
        assert_eq!(list(old), Some(vec![one]));
    }

    #[test]
    fn the_limit_of_delegates() {
        let limit = |text| read(text).map(|conf| conf.delegate_limit);
        assert_eq!(limit(r#"{"name":"n","timeouts":null}"#).unwrap(), None);
        let half = limit(r#"{"name":"n","timeouts":{"delegate":0.5}}"#).unwrap();
        assert_eq!(half, Some(Duration::from_millis(500)));
        let never = limit(r#"{"name":"n","timeouts":{"delegate":0}}"#).unwrap_err();
        assert_eq!(never.code, Code::Decoding);
    }

    #[test]
    fn bad_documents() {
        let error = |text| read(text).unwrap_err();
        assert_eq!(error("null").code, Code::Decoding);
        assert_eq!(error("[]").code, Code::Decoding);
        assert_eq!(error(r#"{"name":5}"#).code, Code::Decoding);
        assert_eq!(error(r#"{"cniVersion":1,"name":"n"}"#).code, Code::Decoding);
        assert_eq!(error("{}").msg, "missing network name");
        let traversal = error(r#"{"name":"../x"}"#);
        assert_eq!(
            (traversal.code, traversal.details.as_str()),
            (Code::InvalidConfig, "../x")
        );
    }

    #[test]
    fn a_prev_result_of_any_family_is_read() {
        for prev in [
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}"#,
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}"#,
            r#"{"ips":[{"version":"4","address":"10.0.0.2/24","interface":null}]}"#,
        ] {
            let conf = read(&format!(
                r#"{{"cniVersion":"0.4.0","name":"n","prevResult":{prev}}}"#
            ))
            .unwrap();
            assert_eq!(conf.prev_result().unwrap().unwrap().ips.len(), 1, "{prev}");
        }
        let conf = read(r#"{"name":"n","prevResult":{"cniVersion":"9.9.9"}}"#).unwrap();
        let text = conf.prev_result().unwrap_err().msg;
        assert_eq!(
            text,
            r#"could not parse prevResult: unsupported CNI result version "9.9.9""#
        );
        assert!(
            read(r#"{"name":"n","prevResult":5}"#)
                .unwrap()
                .prev_result()
                .is_err()
        );
    }
}
