//! The two patches that every resource takes: JSON merge patch (RFC 7396) and JSON patch (RFC 6902).

use serde_json::Value;

/// Why a patch could not be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PatchError {
    /// It is no patch.
    Malformed(String),
    /// It does not fit the object, or one of its tests failed.
    Inapplicable(String),
}

use PatchError::{Inapplicable, Malformed};

/// Applies a merge patch: objects are merged, `null` removes, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Applies a list of operations to a copy; the copy is returned when all of them succeeded.
pub(super) fn apply(target: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch
        .as_array()
        .ok_or_else(|| Malformed("a JSON patch is a list of operations".into()))?;
    let mut document = target.clone();
    for operation in operations {
        step(&mut document, operation)?;
    }
    Ok(document)
}

fn step(document: &mut Value, operation: &Value) -> Result<(), PatchError> {
    let text = |key: &str| {
        operation
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| Malformed(format!("an operation has no `{key}`")))
    };
    let value = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| Malformed("an operation has no `value`".into()))
    };
    let path = text("path")?;
    match text("op")? {
        "test" => {
            // A missing value equals null, as in the library that Kubernetes uses.
            let found = document.pointer(path).cloned().unwrap_or_default();
            if found == operation.get("value").cloned().unwrap_or_default() {
                Ok(())
            } else {
                Err(Inapplicable(format!("testing value {path} failed")))
            }
        }
        "add" => add(document, path, value()?),
        "remove" => remove(document, path).map(drop),
        "replace" => {
            remove(document, path)?;
            add(document, path, value()?)
        }
        "copy" => {
            let from = text("from")?;
            let found = document.pointer(from).cloned();
            add(document, path, found.ok_or_else(|| missing(from))?)
        }
        "move" => {
            let moved = remove(document, text("from")?)?;
            add(document, path, moved)
        }
        other => Err(Malformed(format!("there is no operation `{other}`"))),
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let Some((parent, key)) = split(path) else {
        *document = value;
        return Ok(());
    };
    match document.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.insert(key, value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let index = match key.as_str() {
                "-" => Some(list.len()),
                number => number.parse().ok().filter(|index| *index <= list.len()),
            };
            list.insert(index.ok_or_else(|| missing(path))?, value);
            Ok(())
        }
        _ => Err(missing(path)),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (parent, key) = split(path).ok_or_else(|| missing(path))?;
    let removed = match document.pointer_mut(parent) {
        Some(Value::Object(object)) => object.remove(&key),
        Some(Value::Array(list)) => key
            .parse()
            .ok()
            .filter(|index| *index < list.len())
            .map(|index: usize| list.remove(index)),
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

/// The pointer of the parent, and the last step with its escapes undone; `None` for the whole document.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((parent, key.replace("~1", "/").replace("~0", "~")))
}

fn missing(path: &str) -> PatchError {
    Inapplicable(format!("the path {path} does not exist"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_replaces_removes_and_descends() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 1});
        merge(
            &mut object,
            &json!({"a": {"b": null, "x": {"y": null}}, "d": [2], "f": "new"}),
        );
        assert_eq!(
            object,
            json!({"a": {"c": 2, "x": {}}, "d": [2], "e": 1, "f": "new"})
        );
    }

    #[test]
    fn operations() {
        let object = json!({"spec": {"alloc": "gAE=", "list": [1, 3]}, "a/b": 1});
        let patched = apply(
            &object,
            &json!([
                {"op": "test", "path": "/spec/alloc", "value": "gAE="},
                {"op": "replace", "path": "/spec/alloc", "value": "wAE="},
                {"op": "add", "path": "/spec/list/1", "value": 2},
                {"op": "add", "path": "/spec/list/-", "value": 4},
                {"op": "remove", "path": "/a~1b"},
                {"op": "copy", "from": "/spec/alloc", "path": "/copy"},
                {"op": "move", "from": "/copy", "path": "/moved"},
            ]),
        );
        assert_eq!(
            patched,
            Ok(json!({"spec": {"alloc": "wAE=", "list": [1, 2, 3, 4]}, "moved": "wAE="}))
        );
    }

    #[test]
    fn a_failed_test_changes_nothing() {
        let object = json!({"a": 1});
        let patch = json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": 1}]);
        assert!(matches!(apply(&object, &patch), Err(Inapplicable(_))));
    }

    #[test]
    fn what_is_no_patch() {
        for patch in [
            json!({}),
            json!([{"op": "add"}]),
            json!([{"op": "frob", "path": "/a"}]),
        ] {
            assert!(
                matches!(apply(&json!({}), &patch), Err(Malformed(_))),
                "{patch}"
            );
        }
        for patch in [
            json!([{"op": "remove", "path": "/a"}]),
            json!([{"op": "add", "path": "/a/b", "value": 1}]),
        ] {
            assert!(
                matches!(apply(&json!({}), &patch), Err(Inapplicable(_))),
                "{patch}"
            );
        }
    }
}
