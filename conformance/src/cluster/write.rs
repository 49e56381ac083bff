//! The rules of writing: names, preconditions, optimistic concurrency, what the subresource `status` may change.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::patch::{self, PatchError};
use super::path::Target;
use super::status::{self, Status};
use super::store::Store;

/// Annotations of one object together, in bytes.
const ANNOTATIONS: usize = 256 * 1024;
const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// POST: a new object. The target has no name; the object has one, or asks for one.
pub(super) fn create(
    store: &mut Store,
    target: &Target,
    mut object: Value,
) -> Result<Value, Status> {
    let name = match object["metadata"]["name"].as_str().unwrap_or_default() {
        "" => match object["metadata"]["generateName"]
            .as_str()
            .unwrap_or_default()
        {
            "" => {
                return Err(Status::invalid(
                    target,
                    "metadata.name: Required value: name or generateName is required",
                ));
            }
            prefix => format!("{prefix}{}", suffix(store.random())),
        },
        name => name.to_owned(),
    };
    let target = &Target {
        name,
        ..target.clone()
    };
    fits(target, &object)?;
    if store.find(target).is_some() {
        return Err(Status::already_exists(target));
    }
    if store.status_is_apart(target) {
        remove(&mut object, "status");
    }
    if target.group.is_empty() && target.resource == "pods" {
        object["status"] = serde_json::json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
    place(store, target, &mut object);
    Ok(store.commit(target, Some(object)).unwrap_or_default())
}

/// Puts an object down whatever was there: how a test sets its stage.
pub(super) fn place_as_is(
    store: &mut Store,
    target: &Target,
    mut object: Value,
) -> Result<Value, Status> {
    fits(target, &object)?;
    let before = store.find(target).cloned().unwrap_or_default();
    if object["metadata"]["uid"].is_null() && before["metadata"]["uid"].is_string() {
        object["metadata"]["uid"] = before["metadata"]["uid"].clone();
    }
    place(store, target, &mut object);
    Ok(store.commit(target, Some(object)).unwrap_or_default())
}

/// Fills in what the server says of a new object.
fn place(store: &Store, target: &Target, object: &mut Value) {
    object["apiVersion"] = target.api_version().into();
    let metadata = &mut object["metadata"];
    metadata["name"] = target.name.as_str().into();
    if !target.namespace.is_empty() {
        metadata["namespace"] = target.namespace.as_str().into();
    }
    if !metadata["uid"].is_string() {
        metadata["uid"] = uid(store.random(), store.random()).into();
    }
    if !metadata["creationTimestamp"].is_string() {
        metadata["creationTimestamp"] = now().into();
    }
}

/// PUT: a new state of an object, unless somebody else was faster.
pub(super) fn update(store: &mut Store, target: &Target, object: Value) -> Result<Value, Status> {
    let current = store
        .find(target)
        .ok_or_else(|| Status::not_found(target))?
        .clone();
    fits(target, &object)?;
    if target.is_custom() && revision(&object).is_empty() {
        return Err(Status::invalid(
            target,
            "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        ));
    }
    replace(store, target, &current, object)
}

/// PATCH: changes to an object. `media` is the content type.
pub(super) fn patch(
    store: &mut Store,
    target: &Target,
    media: &str,
    body: &[u8],
) -> Result<Value, Status> {
    let current = store
        .find(target)
        .ok_or_else(|| Status::not_found(target))?
        .clone();
    let patch: Value = serde_json::from_slice(body)
        .map_err(|error| Status::new(400, format!("error decoding patch: {error}")))?;
    let object = match media {
        "application/merge-patch+json" => {
            let mut object = current.clone();
            patch::merge(&mut object, &patch);
            object
        }
        "application/json-patch+json" => {
            patch::apply(&current, &patch).map_err(|error| match error {
                PatchError::Malformed(why) => Status::new(400, why),
                // Kubernetes says no more than this; the reason stays in its log.
                PatchError::Inapplicable(_) => Status {
                    details: Status::not_found(target).details,
                    ..Status::new(
                        422,
                        "the server rejected our request due to an error in our request",
                    )
                },
            })?
        }
        _ => {
            let accepted = "application/json-patch+json, application/merge-patch+json";
            return Err(Status::new(
                415,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {accepted}"
                ),
            ));
        }
    };
    fits(target, &object)?;
    replace(store, target, &current, object)
}

/// The new state of an object that is there.
fn replace(
    store: &mut Store,
    target: &Target,
    current: &Value,
    mut object: Value,
) -> Result<Value, Status> {
    let asked = revision(&object);
    if !asked.is_empty() && asked != revision(current) {
        return Err(Status::conflict(target, STALE));
    }
    let asked = object["metadata"]["uid"].as_str().unwrap_or_default();
    let uid = current["metadata"]["uid"].as_str().unwrap_or_default();
    if !asked.is_empty() && asked != uid {
        let why =
            format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}");
        return Err(Status::conflict(target, &why));
    }
    match target.subresource.as_str() {
        "" if store.status_is_apart(target) => keep(&mut object, current, "status"),
        "" => {}
        "status" => {
            let mut changed = current.clone();
            keep(&mut changed, &object, "status");
            // The status endpoint of the built-in kinds takes labels and annotations too; that of custom resources does not.
            if !target.is_custom() {
                keep(&mut changed["metadata"], &object["metadata"], "annotations");
                keep(&mut changed["metadata"], &object["metadata"], "labels");
            }
            object = changed;
        }
        other => return Err(Status::new(404, format!("there is no subresource {other}"))),
    }
    for fixed in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "resourceVersion",
    ] {
        keep(&mut object["metadata"], &current["metadata"], fixed);
    }
    keep(&mut object, current, "apiVersion");
    keep(&mut object, current, "kind");
    if object == *current {
        return Ok(object);
    }
    // The last finalizer of an object that is to go lets it go.
    let held = object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if object["metadata"]["deletionTimestamp"].is_string() && !held {
        store.commit(target, None);
        return Ok(object);
    }
    Ok(store.commit(target, Some(object)).unwrap_or_default())
}

/// DELETE, with the preconditions of its body.
pub(super) fn delete(store: &mut Store, target: &Target, options: &Value) -> Result<Value, Status> {
    let mut object = store.get(target)?;
    let wanted = &options["preconditions"];
    for (name, key) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
        let (wanted, found) = (&wanted[key], &object["metadata"][key]);
        if wanted.is_string() && wanted != found {
            let (wanted, found) = (
                wanted.as_str().unwrap_or_default(),
                found.as_str().unwrap_or_default(),
            );
            let why = format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {found}"
            );
            return Err(Status::conflict(target, &why));
        }
    }
    let finalizers = object["metadata"]["finalizers"].as_array();
    if finalizers.is_some_and(|list| !list.is_empty()) {
        if !object["metadata"]["deletionTimestamp"].is_string() {
            object["metadata"]["deletionTimestamp"] = now().into();
            return Ok(store.commit(target, Some(object)).unwrap_or_default());
        }
        return Ok(object);
    }
    store.commit(target, None);
    if target.is_custom() {
        return Ok(status::deleted(target, &object["metadata"]["uid"]));
    }
    Ok(object)
}

/// Whether the object is one, belongs where it is sent, and is well named.
fn fits(target: &Target, object: &Value) -> Result<(), Status> {
    if !object.is_object() || !object["metadata"].is_object() {
        return Err(Status::new(
            400,
            "the object provided is unrecognized: it has no metadata",
        ));
    }
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    if !matches!(text("name"), "") && text("name") != target.name {
        let why = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            text("name"),
            target.name
        );
        return Err(Status::new(400, why));
    }
    if !matches!(text("namespace"), "") && text("namespace") != target.namespace {
        return Err(Status::new(
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'));
    if object["apiVersion"].is_string() && group.map_or("", |(group, _)| group) != target.group {
        let why = format!(
            "the API version in the data does not match the expected API version ({})",
            target.api_version()
        );
        return Err(Status::new(400, why));
    }
    // Roles and bindings may be called what they like.
    if target.group != "rbac.authorization.k8s.io" && !is_subdomain(&target.name) {
        let why = format!(
            "metadata.name: Invalid value: \"{}\": lower case letters, digits, - and . only, at most 253 of them",
            target.name
        );
        return Err(Status::invalid(target, &why));
    }
    let annotations = object["metadata"]["annotations"].as_object();
    let bytes: usize = annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > ANNOTATIONS {
        let why =
            format!("metadata.annotations: Too long: may not be more than {ANNOTATIONS} bytes");
        return Err(Status::invalid(target, &why));
    }
    Ok(())
}

fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
}

/// Makes one member what it is in another object, also where it is missing there.
fn keep(object: &mut Value, from: &Value, member: &str) {
    match from.get(member) {
        Some(value) => object[member] = value.clone(),
        None => remove(object, member),
    }
}

fn remove(object: &mut Value, member: &str) {
    if let Some(members) = object.as_object_mut() {
        Map::remove(members, member);
    }
}

fn suffix(random: u64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut left = random;
    let mut letter = || {
        let index = left % LETTERS.len() as u64;
        left /= LETTERS.len() as u64;
        char::from(LETTERS[usize::try_from(index).unwrap_or(0)])
    };
    (0..5).map(|_| letter()).collect()
}

fn uid(high: u64, low: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// The time in the form of RFC 3339, to the second.
pub(super) fn now() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    timestamp(seconds)
}

/// Seconds since 1970 as date and time.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here: the odd day of a leap year is then the last of its year.
    let day = days + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(path: &str) -> Target {
        Target::parse(&format!("/api/v1/namespaces/default/pods{path}")).unwrap()
    }

    fn danmnet(path: &str) -> Target {
        Target::parse(&format!(
            "/apis/danm.k8s.io/v1/namespaces/default/danmnets{path}"
        ))
        .unwrap()
    }

    fn stocked() -> Store {
        let mut store = Store::new();
        create(
            &mut store,
            &pod(""),
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}}),
        )
        .unwrap();
        create(
            &mut store,
            &danmnet(""),
            json!({"metadata": {"name": "d"}, "spec": {"NetworkID": "x"}}),
        )
        .unwrap();
        store
    }

    #[test]
    fn names_are_given_and_taken() {
        let mut store = stocked();
        let again = create(&mut store, &pod(""), json!({"metadata": {"name": "p"}})).unwrap_err();
        assert_eq!((again.code, again.reason), (409, "AlreadyExists"));
        assert_eq!(again.message, "pods \"p\" already exists");
        let made = create(
            &mut store,
            &pod(""),
            json!({"metadata": {"generateName": "web-"}}),
        )
        .unwrap();
        let name = made["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert!(
            made["metadata"]["uid"].is_string()
                && made["metadata"]["creationTimestamp"].is_string()
        );
        for bad in [
            json!({"spec": {}}),
            json!({"metadata": {}}),
            json!({"metadata": {"name": "Pod"}}),
            json!({"metadata": {"name": "a..b"}}),
        ] {
            assert_eq!(
                create(&mut store, &pod(""), bad.clone()).unwrap_err().code,
                422,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_stale_update_is_a_conflict() {
        let mut store = stocked();
        let mut object = store.get(&danmnet("/d")).unwrap();
        object["spec"]["NetworkID"] = "y".into();
        let newer = update(&mut store, &danmnet("/d"), object.clone()).unwrap();
        assert_ne!(
            newer["metadata"]["resourceVersion"],
            object["metadata"]["resourceVersion"]
        );
        let stale = update(&mut store, &danmnet("/d"), object.clone()).unwrap_err();
        assert_eq!((stale.code, stale.reason), (409, "Conflict"));
        assert_eq!(stale.details["kind"], "danmnets");
        // A custom resource has to say which state it changes, a pod need not.
        remove(&mut object["metadata"], "resourceVersion");
        assert_eq!(
            update(&mut store, &danmnet("/d"), object).unwrap_err().code,
            422
        );
        update(&mut store, &pod("/p"), json!({"metadata": {"name": "p"}})).unwrap();
        assert_eq!(
            update(&mut store, &pod("/x"), json!({"metadata": {}}))
                .unwrap_err()
                .code,
            404
        );
    }

    #[test]
    fn an_update_without_a_change_keeps_the_revision() {
        let mut store = stocked();
        let object = store.get(&danmnet("/d")).unwrap();
        assert_eq!(
            update(&mut store, &danmnet("/d"), object.clone()).unwrap(),
            object
        );
    }

    #[test]
    fn status_has_an_endpoint_of_its_own() {
        let mut store = stocked();
        let body = br#"{"metadata":{"annotations":{"a":"1"}},"spec":{"nodeName":"other"},"status":{"podIP":"10.0.0.1"}}"#;
        let merge = "application/merge-patch+json";
        let patched = patch(&mut store, &pod("/p/status"), merge, body).unwrap();
        assert_eq!(patched["metadata"]["annotations"]["a"], "1");
        assert_eq!(patched["status"]["podIP"], "10.0.0.1");
        assert_eq!(patched["spec"]["nodeName"], "n");
        let patched = patch(
            &mut store,
            &pod("/p"),
            merge,
            br#"{"status":{"podIP":"10.0.0.2"}}"#,
        )
        .unwrap();
        assert_eq!(patched["status"]["podIP"], "10.0.0.1");
    }

    #[test]
    fn a_failed_test_is_invalid() {
        let mut store = stocked();
        let body = br#"[{"op":"test","path":"/spec/NetworkID","value":"no"}]"#;
        let refused = patch(
            &mut store,
            &danmnet("/d"),
            "application/json-patch+json",
            body,
        )
        .unwrap_err();
        assert_eq!((refused.code, refused.reason), (422, "Invalid"));
        let refused = patch(
            &mut store,
            &danmnet("/d"),
            "application/strategic-merge-patch+json",
            b"{}",
        )
        .unwrap_err();
        assert_eq!(refused.code, 415);
    }

    #[test]
    fn deletion_has_preconditions_and_finalizers() {
        let mut store = stocked();
        let wrong = json!({"preconditions": {"uid": "other"}});
        assert_eq!(
            delete(&mut store, &danmnet("/d"), &wrong).unwrap_err().code,
            409
        );
        let merge = "application/merge-patch+json";
        patch(
            &mut store,
            &danmnet("/d"),
            merge,
            br#"{"metadata":{"finalizers":["f"]}}"#,
        )
        .unwrap();
        let held = delete(&mut store, &danmnet("/d"), &Value::Null).unwrap();
        assert!(held["metadata"]["deletionTimestamp"].is_string());
        patch(
            &mut store,
            &danmnet("/d"),
            merge,
            br#"{"metadata":{"finalizers":null}}"#,
        )
        .unwrap();
        assert_eq!(
            delete(&mut store, &danmnet("/d"), &Value::Null)
                .unwrap_err()
                .code,
            404
        );
        assert_eq!(
            delete(&mut store, &pod("/p"), &Value::Null).unwrap()["metadata"]["name"],
            "p"
        );
    }

    #[test]
    fn annotations_have_a_limit() {
        let mut store = stocked();
        let body = json!({"metadata": {"annotations": {"a": "x".repeat(ANNOTATIONS)}}}).to_string();
        let refused = patch(
            &mut store,
            &pod("/p"),
            "application/merge-patch+json",
            body.as_bytes(),
        );
        assert_eq!(refused.unwrap_err().code, 422);
    }

    #[test]
    fn timestamps() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
