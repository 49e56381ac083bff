//! The documents that are no results: error objects and answers to VERSION.

use serde_json::Value;

use crate::spec::code;

/// Everything that is wrong with an error object apart from a missing `cniVersion`: unknown keys, wrong types, undefined codes.
pub fn check_error(error: &Value) -> Vec<String> {
    let Some(object) = error.as_object() else {
        return vec!["the error is not an object".into()];
    };
    let mut complaints: Vec<_> = object
        .keys()
        .filter(|key| !["cniVersion", "code", "msg", "details"].contains(&key.as_str()))
        .map(|key| format!("an error object has no key `{key}`"))
        .collect();
    match object.get("code").and_then(Value::as_i64) {
        None => complaints.push("`code` is not an integer".into()),
        Some(number) if !code::is_defined(number) => {
            complaints.push(format!(
                "code {number} is reserved and has no meaning; plugins' own codes start at 100"
            ));
        }
        Some(_) => {}
    }
    if object
        .get("msg")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        complaints.push("`msg` is not a text".into());
    }
    if object
        .get("details")
        .is_some_and(|details| !details.is_string())
    {
        complaints.push("`details` is not a text".into());
    }
    complaints
}

/// What a plugin says it speaks: the answer to VERSION, or the complaints about it.
pub fn read_versions(answer: &Value) -> Result<Vec<String>, Vec<String>> {
    let mut complaints = Vec::new();
    if !answer.get("cniVersion").is_some_and(Value::is_string) {
        complaints.push("`cniVersion` is not a text".into());
    }
    let list = answer.get("supportedVersions").and_then(Value::as_array);
    let versions: Option<Vec<_>> =
        list.and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
    match &versions {
        None => complaints.push("`supportedVersions` is not a list of texts".into()),
        Some(list) if list.is_empty() => complaints.push("`supportedVersions` is empty".into()),
        Some(list) => complaints.extend(
            list.iter()
                .filter(|v| !is_dotted(v))
                .map(|v| format!("\"{v}\" is no version x.y.z")),
        ),
    }
    if complaints.is_empty() {
        Ok(versions.unwrap_or_default())
    } else {
        Err(complaints)
    }
}

fn is_dotted(version: &str) -> bool {
    let parts: Vec<_> = version.split('.').collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn error_objects_are_closed() {
        assert!(
            check_error(&json!({"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "x"}))
                .is_empty()
        );
        for error in [
            json!({"code": 8, "msg": "no"}),
            json!({"code": 0, "msg": "no"}),
            json!({"code": "7", "msg": "no"}),
            json!({"code": 7, "msg": ""}),
            json!({"code": 7, "msg": "no", "detail": "x"}),
            json!({"code": 7, "msg": "no", "details": 1}),
        ] {
            assert_eq!(check_error(&error).len(), 1, "{error}");
        }
    }

    #[test]
    fn version_answers() {
        assert_eq!(
            read_versions(&json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1"]})).unwrap(),
            ["0.3.1"]
        );
        for answer in [
            json!({"supportedVersions": ["0.3.1"]}),
            json!({"cniVersion": "1.0.0"}),
            json!({"cniVersion": "1.0.0", "supportedVersions": []}),
            json!({"cniVersion": "1.0.0", "supportedVersions": ["1.0"]}),
            json!({"cniVersion": "1.0.0", "supportedVersions": [1]}),
        ] {
            assert_eq!(read_versions(&answer).unwrap_err().len(), 1, "{answer}");
        }
    }
}
