//! Label and field selectors of LIST and WATCH.

use std::collections::BTreeMap;

use serde_json::Value;

use super::status::Status;

/// What a list is narrowed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Label>,
    /// JSON pointer, wanted value, and whether it must be equal or must not.
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug)]
enum Label {
    In(String, Vec<String>),
    /// Also true where the label is missing.
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// The fields that a real server takes for every resource, for pods and for events.
const FIELDS: [&str; 11] = [
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "type",
];

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` of a query.
    pub(super) fn parse(query: &BTreeMap<String, String>) -> Result<Self, Status> {
        let text = |key: &str| query.get(key).map(String::as_str).unwrap_or_default();
        let labels = split(text("labelSelector")).map(label).collect();
        let fields = split(text("fieldSelector"))
            .map(field)
            .collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether an object is among the chosen.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let fits = |label: &Label| match label {
            Label::In(key, values) => labels[key]
                .as_str()
                .is_some_and(|found| values.iter().any(|value| value == found)),
            Label::NotIn(key, values) => labels[key]
                .as_str()
                .is_none_or(|found| values.iter().all(|value| value != found)),
            Label::Exists(key) => labels[key].is_string(),
            Label::Missing(key) => !labels[key].is_string(),
        };
        self.labels.iter().all(fits)
            && self.fields.iter().all(|(pointer, wanted, equal)| {
                let found = object.pointer(pointer).and_then(Value::as_str);
                (found.unwrap_or_default() == wanted) == *equal
            })
    }
}

/// Splits at the commas that are not inside a set.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn label(text: &str) -> Label {
    let one = |value: &str| vec![value.trim().to_owned()];
    let key = |key: &str| key.trim().to_owned();
    if let Some((left, right)) = text.split_once("!=") {
        return Label::NotIn(key(left), one(right));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Label::In(key(left), one(right));
    }
    let set = |values: &str| {
        let values = values.trim().trim_start_matches('(').trim_end_matches(')');
        values.split(',').map(|v| v.trim().to_owned()).collect()
    };
    if let Some((left, right)) = text.split_once(" notin ") {
        return Label::NotIn(key(left), set(right));
    }
    if let Some((left, right)) = text.split_once(" in ") {
        return Label::In(key(left), set(right));
    }
    match text.strip_prefix('!') {
        Some(name) => Label::Missing(key(name)),
        None => Label::Exists(key(text)),
    }
}

fn field(text: &str) -> Result<(String, String, bool), Status> {
    let (name, value, equal) = if let Some((name, value)) = text.split_once("!=") {
        (name, value, false)
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (name, value, true)
    } else {
        return Err(Status::new(
            400,
            format!("invalid selector: '{text}'; can't understand it"),
        ));
    };
    if !FIELDS.contains(&name) {
        return Err(Status::new(
            400,
            format!("field label not supported: {name}"),
        ));
    }
    let pointer = format!("/{}", name.replace('.', "/"));
    Ok((pointer, value.to_owned(), equal))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(key: &str, text: &str) -> bool {
        let object = json!({
            "metadata": {"name": "p", "labels": {"app": "web", "tier": "front"}},
            "spec": {"nodeName": "node-1"},
        });
        let query = BTreeMap::from([(key.to_owned(), text.to_owned())]);
        Selector::parse(&query).unwrap().matches(&object)
    }

    #[test]
    fn labels() {
        for text in [
            "",
            "app",
            "app=web",
            "app==web,tier!=back",
            "app in (web, db)",
            "app notin (db),!x",
            "x!=1",
        ] {
            assert!(matches("labelSelector", text), "{text}");
        }
        for text in [
            "x",
            "app=db",
            "!app",
            "app notin (web,db)",
            "app in (db),tier",
        ] {
            assert!(!matches("labelSelector", text), "{text}");
        }
    }

    #[test]
    fn fields() {
        assert!(matches(
            "fieldSelector",
            "spec.nodeName=node-1,metadata.name!=q"
        ));
        assert!(!matches("fieldSelector", "spec.nodeName=node-2"));
        let query = BTreeMap::from([("fieldSelector".to_owned(), "spec.x=1".to_owned())]);
        assert_eq!(Selector::parse(&query).unwrap_err().code, 400);
    }
}
