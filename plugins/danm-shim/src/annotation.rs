//! The pod's annotation: which interfaces it asks for.

use std::collections::BTreeMap;

use cni::json::Value;
use k8s::DanmScope;
use serde::Deserialize;

use crate::ipam::Addresses;

/// The ends of the annotation's key, one for each API group. A key that contains one of them counts.
const KEYS: [&str; 2] = ["danm.k8s.io/interfaces", "danm.io/interfaces"];

/// One interface that a pod asks for. Its place in the list is its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) scope: DanmScope,
    /// Name of the network object.
    pub(crate) network: String,
    pub(crate) addresses: Addresses,
    /// Policy routes: destination to gateway.
    pub(crate) proutes: BTreeMap<String, String>,
    pub(crate) proutes6: BTreeMap<String, String>,
}

/// Reads the annotation. None is there, or it asks for nothing: an empty list.
///
/// The text says what is wrong, in the original's words.
pub(crate) fn read(
    pod: &str,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Request>, String> {
    let Some((key, text)) = find(annotations) else {
        return Ok(Vec::new());
    };
    let failed = |why: String| format!("DANM annotation cannot be parsed: {why}");
    let entries = entries(text).map_err(|why| {
        failed(format!(
            "Can't create network interfaces for Pod: {pod} due to badly formatted {key} definition in Pod annotation:{why}"
        ))
    })?;
    let requests = entries.into_iter().enumerate().map(|(number, entry)| {
        entry.request().map_err(|references| {
            failed(format!(
                "DANM annotation is invalid for Pod: {pod}, because:network connection no.:{number} contains invalid number of network references:{references}"
            ))
        })
    });
    requests.collect()
}

/// The annotation. A key that is exactly right comes before one that only contains the right words.
fn find(annotations: &BTreeMap<String, String>) -> Option<(&'static str, &str)> {
    let exact = |key: &'static str| Some((key, annotations.get(key)?.as_str()));
    let similar = |key: &'static str| {
        let (_, text) = annotations.iter().find(|(found, _)| found.contains(key))?;
        Some((key, text.as_str()))
    };
    let exactly = KEYS.into_iter().find_map(exact);
    exactly.or_else(|| KEYS.into_iter().find_map(similar))
}

/// One element of the list, as it is written.
#[derive(Debug, Default)]
struct Entry {
    network: String,
    tenant_network: String,
    cluster_network: String,
    ip: String,
    ip6: String,
    proutes: BTreeMap<String, String>,
    proutes6: BTreeMap<String, String>,
}

/// The first JSON value of the text, which is a list or null. What comes after it is not looked at.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let list = match Value::deserialize(&mut reader) {
        Ok(list) => list,
        Err(_) if text.trim().is_empty() => return Err("EOF".into()),
        Err(e) if e.is_eof() => return Err("unexpected EOF".into()),
        Err(e) => return Err(e.to_string()),
    };
    match list {
        Value::Null => Ok(Vec::new()),
        Value::Array(entries) => entries.into_iter().map(Entry::read).collect(),
        other => Err(wrong_type(&other, "", "[]datastructs.Interface")),
    }
}

impl Entry {
    /// Reads an element. Keys count in any case, and of several spellings the last one; unknown ones are refused.
    fn read(element: Value) -> Result<Entry, String> {
        let members = match element {
            Value::Object(members) => members,
            Value::Null => Vec::new(),
            other => return Err(wrong_type(&other, "", "datastructs.Interface")),
        };
        let mut entry = Entry::default();
        for (key, value) in members {
            let lower = key.to_lowercase();
            match lower.as_str() {
                "network" => text(&mut entry.network, "network", value)?,
                "tenantnetwork" => text(&mut entry.tenant_network, "tenantNetwork", value)?,
                "clusternetwork" => text(&mut entry.cluster_network, "clusterNetwork", value)?,
                "ip" => text(&mut entry.ip, "ip", value)?,
                "ip6" => text(&mut entry.ip6, "ip6", value)?,
                "proutes" => routes(&mut entry.proutes, "proutes", value)?,
                "proutes6" => routes(&mut entry.proutes6, "proutes6", value)?,
                _ => return Err(format!("json: unknown field {key:?}")),
            }
        }
        Ok(entry)
    }

    /// The request, or how many networks the element names when that is not one.
    fn request(self) -> Result<Request, usize> {
        let named = [
            (DanmScope::DanmNet, self.network),
            (DanmScope::TenantNetwork, self.tenant_network),
            (DanmScope::ClusterNetwork, self.cluster_network),
        ];
        let mut named: Vec<_> = named
            .into_iter()
            .filter(|(_, name)| !name.is_empty())
            .collect();
        let references = named.len();
        match (named.pop(), references) {
            (Some((scope, network)), 1) => Ok(Request {
                scope,
                network,
                addresses: Addresses {
                    ip: self.ip,
                    ip6: self.ip6,
                },
                proutes: self.proutes,
                proutes6: self.proutes6,
            }),
            _ => Err(references),
        }
    }
}

/// Takes a text; null leaves what is there.
fn text(place: &mut String, key: &str, value: Value) -> Result<(), String> {
    match value {
        Value::String(text) => *place = text,
        Value::Null => {}
        other => return Err(wrong_type(&other, key, "string")),
    }
    Ok(())
}

/// Takes a map of texts; null leaves what is there.
fn routes(place: &mut BTreeMap<String, String>, key: &str, value: Value) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            for (destination, value) in members {
                let mut gateway = String::new();
                text(&mut gateway, key, value)?;
                place.insert(destination, gateway);
            }
        }
        Value::Null => {}
        other => return Err(wrong_type(&other, key, "map[string]string")),
    }
    Ok(())
}

/// The words of Go's JSON reader.
fn wrong_type(found: &Value, key: &str, expected: &str) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Integer(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match key {
        "" => format!("json: cannot unmarshal {found} into Go value of type {expected}"),
        _ => format!(
            "json: cannot unmarshal {found} into Go struct field Interface.{key} of type {expected}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Request>, String> {
        let annotations = [("danm.k8s.io/interfaces".to_owned(), text.to_owned())];
        read("p", &annotations.into())
    }

    fn error(text: &str) -> String {
        read_text(text).unwrap_err()
    }

    #[test]
    fn the_example_pod() {
        let text = r#"
          [
            {"clusterNetwork": "default", "ip": "dynamic" },
            {"clusterNetwork": "oampub", "ip":"dynamic"}
          ]
        "#;
        let requests = read_text(text).unwrap();
        let networks: Vec<_> = requests
            .iter()
            .map(|r| (r.scope, r.network.as_str()))
            .collect();
        let cluster = DanmScope::ClusterNetwork;
        assert_eq!(networks, [(cluster, "default"), (cluster, "oampub")]);
        assert!(
            requests
                .iter()
                .all(|r| r.addresses.ip == "dynamic" && r.addresses.ip6.is_empty())
        );
    }

    #[test]
    fn keys_in_any_case_and_text_behind_the_list() {
        let text = r#"[{"NETWORK":"a","Ip":"none","IP6":"dynamic","ProUtes":{"10.0.0.0/8":"10.1.1.1"},
                       "tenantNetwork":null,"proutes6":null}] and more"#;
        let requests = read_text(text).unwrap();
        let [request] = requests.as_slice() else {
            panic!("{requests:?}")
        };
        assert_eq!(
            (request.scope, request.network.as_str()),
            (DanmScope::DanmNet, "a")
        );
        assert_eq!(request.addresses.ip, "none");
        assert_eq!(request.addresses.ip6, "dynamic");
        assert_eq!(request.proutes["10.0.0.0/8"], "10.1.1.1");
        let last_wins = read_text(r#"[{"network":"a","Network":"b"}]"#).unwrap();
        assert_eq!(last_wins[0].network, "b");
    }

    #[test]
    fn nothing_asked_for() {
        assert_eq!(read_text("null"), Ok(vec![]));
        assert_eq!(read_text("[]"), Ok(vec![]));
        assert_eq!(read("p", &BTreeMap::new()), Ok(vec![]));
    }

    #[test]
    fn which_annotation() {
        let networks = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, name)| (key.to_string(), format!(r#"[{{"network":"{name}"}}]"#)));
            let requests = read("p", &pairs.collect()).unwrap();
            requests.into_iter().map(|r| r.network).collect::<Vec<_>>()
        };
        assert_eq!(networks(&[("danm.io/interfaces", "new")]), ["new"]);
        assert_eq!(networks(&[("x.danm.k8s.io/interfaces-2", "odd")]), ["odd"]);
        let both = [
            ("danm.io/interfaces", "new"),
            ("danm.k8s.io/interfaces", "old"),
        ];
        assert_eq!(networks(&both), ["old"]);
        let exact = [
            ("a-danm.k8s.io/interfaces", "odd"),
            ("danm.io/interfaces", "new"),
        ];
        assert_eq!(networks(&exact), ["new"]);
        assert!(networks(&[("danm.k8s.io/interface", "none")]).is_empty());
    }

    #[test]
    fn errors_in_the_originals_words() {
        let bad = "DANM annotation cannot be parsed: Can't create network interfaces for Pod: p due to \
                   badly formatted danm.k8s.io/interfaces definition in Pod annotation:";
        assert_eq!(error(""), format!("{bad}EOF"));
        assert_eq!(error("  "), format!("{bad}EOF"));
        assert_eq!(error("[{"), format!("{bad}unexpected EOF"));
        for (text, why) in [
            (
                r#"[{"network":"a","foo":1}]"#,
                r#"json: unknown field "foo""#,
            ),
            (
                r#"[{"network":"a","Device":"0000:01:00.0"}]"#,
                r#"json: unknown field "Device""#,
            ),
            (
                r#"[{"network":5}]"#,
                "json: cannot unmarshal number into Go struct field Interface.network of type string",
            ),
            (
                r#"{"network":"a"}"#,
                "json: cannot unmarshal object into Go value of type []datastructs.Interface",
            ),
            (
                r#"["a"]"#,
                "json: cannot unmarshal string into Go value of type datastructs.Interface",
            ),
        ] {
            assert_eq!(error(text), format!("{bad}{why}"), "{text}");
        }
        assert!(error("[nonsense]").starts_with(bad));
        let number = |i: usize, k: usize| {
            format!(
                "DANM annotation cannot be parsed: DANM annotation is invalid for Pod: p, because:\
                 network connection no.:{i} contains invalid number of network references:{k}"
            )
        };
        assert_eq!(error(r#"[{"network":"a"},{"ip":"dynamic"}]"#), number(1, 0));
        assert_eq!(
            error(r#"[{"network":"a","clusterNetwork":"b"}]"#),
            number(0, 2)
        );
        assert_eq!(error("[null]"), number(0, 0));
    }
}
