//! Whether an object fits a schema and its rules, by the words that the definitions use; a word that is not known here is an error.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kube_cel::cel::Value as Cel;
use serde_json::Value;

use crate::rule;

/// All that does not fit, with its path.
///
/// With `old`, `value` replaces it: rules that compare the two are asked as well.
pub(crate) fn faults(
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    path: &str,
) -> Vec<String> {
    if value.is_null() && schema["nullable"] == true {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (word, wanted) in schema.as_object().unwrap() {
        let mut check = |fits: bool| {
            if !fits {
                faults.push(format!("{path}: {value} does not fit {word}: {wanted}"));
            }
        };
        let number = || wanted.as_i64().unwrap();
        let size = |limit: i64| match value {
            Value::String(text) => i64::try_from(text.chars().count()).unwrap() <= limit,
            Value::Array(items) => i64::try_from(items.len()).unwrap() <= limit,
            Value::Object(members) => i64::try_from(members.len()).unwrap() <= limit,
            _ => true,
        };
        match word.as_str() {
            // Members that are not known are not looked at in any case.
            "description" | "nullable" | "x-kubernetes-preserve-unknown-fields" => {}
            "x-kubernetes-validations" => {
                let rules = wanted.as_array().unwrap().iter();
                let broken = rules.filter(|rule| !rule::is_kept(rule, value, old));
                faults.extend(broken.map(|rule| format!("{path}: {}", rule["message"])));
            }
            "type" => check(is_of(value, wanted.as_str().unwrap())),
            "enum" => check(wanted.as_array().unwrap().contains(value)),
            "minimum" => check(value.as_i64().is_none_or(|n| n >= number())),
            "maximum" => check(value.as_i64().is_none_or(|n| n <= number())),
            "minLength" => check(!value.is_string() || !size(number() - 1)),
            "maxLength" | "maxItems" | "maxProperties" => check(size(number())),
            "pattern" => check(value.as_str().is_none_or(|text| matches(text, wanted))),
            "format" => check(value.as_str().is_none_or(|text| has_format(text, wanted))),
            "anyOf" => {
                let mut schemas = wanted.as_array().unwrap().iter();
                check(schemas.any(|schema| self::faults(schema, value, None, path).is_empty()));
            }
            "required" => {
                let mut names = wanted.as_array().unwrap().iter();
                let is_there = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                check(!value.is_object() || names.all(is_there));
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        let old = old.and_then(|old| old.get(name));
                        faults.extend(self::faults(schema, member, old, &format!("{path}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    faults.extend(self::faults(
                        wanted,
                        member,
                        None,
                        &format!("{path}.{name}"),
                    ));
                }
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults.extend(self::faults(
                        wanted,
                        item,
                        None,
                        &format!("{path}[{place}]"),
                    ));
                }
            }
            other => panic!("{path}: the word {other} is not known here"),
        }
    }
    faults
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        other => panic!("the type {other} is not known here"),
    }
}

/// Regular expressions of CEL are those of Go, as those of schemas are.
fn matches(text: &str, pattern: &Value) -> bool {
    let pattern = rule::value(pattern);
    let variables = [("text", text.to_owned().into()), ("pattern", pattern)];
    rule::evaluate("text.matches(pattern)", variables).unwrap() == Cel::Bool(true)
}

fn has_format(text: &str, format: &Value) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    match format.as_str().unwrap() {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.contains('/') && text.parse::<IpNetwork>().is_ok(),
        "byte" => {
            let digits = text.trim_end_matches('=');
            !text.is_empty()
                && text.len().is_multiple_of(4)
                && text.len() - digits.len() <= 2
                && digits.chars().all(base64)
        }
        "int32" => true,
        other => panic!("the format {other} is not known here"),
    }
}
