//! Events: what happened to an object, for people who run `kubectl describe`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::pod::Pod;
use super::{Kind, Object};
use crate::clock::rfc3339;

/// The longest message that the API takes everywhere, in bytes.
const LONGEST_MESSAGE: usize = 1024;

/// How much of a pod's name goes into that of an event, which has an end of its own and 253 bytes in all.
const LONGEST_NAME: usize = 230;

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Event {
    /// Name and namespace; the namespace is that of the object it happened to.
    pub metadata: ObjectMeta,
    /// What it happened to.
    pub involved_object: ObjectReference,
    /// One word for programs: `AddedInterface`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who saw it.
    pub source: EventSource,
    /// Who saw it, for newer readers.
    pub reporting_component: String,
    /// On which node.
    pub reporting_instance: String,
    /// When.
    pub first_timestamp: String,
    /// When last.
    pub last_timestamp: String,
    /// How often.
    pub count: u32,
}

/// Whether an event is a trouble.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum EventType {
    #[default]
    Normal,
    Warning,
}

/// The object an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the words of the API")]
pub struct ObjectReference {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// Who saw an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventSource {
    /// The program.
    pub component: String,
    /// The node.
    pub host: String,
}

impl Event {
    /// An event of this moment about a pod, seen by `component` on the pod's node.
    ///
    /// It has a name of its own, so that sending it twice by mistake makes one event and not two.
    pub fn about_pod(
        pod: &Pod,
        component: &str,
        event_type: EventType,
        reason: &str,
        message: &str,
    ) -> Event {
        let now = SystemTime::now();
        let nanoseconds = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let meta = &pod.metadata;
        Event {
            metadata: ObjectMeta {
                name: format!("{}.{nanoseconds:x}", shortened(&meta.name, LONGEST_NAME)),
                namespace: meta.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Pod::KIND.api_version(),
                kind: Pod::KIND.kind.to_owned(),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
            },
            reason: reason.to_owned(),
            message: shortened(message, LONGEST_MESSAGE).to_owned(),
            event_type,
            source: EventSource {
                component: component.to_owned(),
                host: pod.spec.node_name.clone(),
            },
            reporting_component: component.to_owned(),
            reporting_instance: pod.spec.node_name.clone(),
            first_timestamp: rfc3339(now),
            last_timestamp: rfc3339(now),
            count: 1,
        }
    }
}

/// The beginning of a text, at most so many bytes.
fn shortened(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest))
        .unwrap_or_default()
}

impl Object for Event {
    const KIND: Kind = Kind {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
    };

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_pod_and_is_not_too_long() {
        let mut pod = Pod::default();
        pod.metadata.name = "p".into();
        pod.metadata.namespace = "n".into();
        pod.metadata.uid = "u".into();
        pod.spec.node_name = "node1".into();
        let long = "ü".repeat(2000);
        let event = Event::about_pod(&pod, "multus", EventType::Warning, "NoNetworkFound", &long);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["involvedObject"]["uid"], "u");
        assert_eq!(json["involvedObject"]["kind"], "Pod");
        assert_eq!(json["type"], "Warning");
        assert_eq!(json["source"]["host"], "node1");
        assert!(json["metadata"]["name"].as_str().unwrap().starts_with("p."));
        assert_eq!(event.message, "ü".repeat(512));
    }
}
