//! What an API server asks of a definition before it takes it, and that the files say the same where they must.

use std::fs;

use kube_cel::cel::Program;
use serde_json::{Value, json};

use crate::definition::{self, GROUPS, KINDS};

#[test]
fn each_defines_its_kind_in_its_group() {
    for group in GROUPS {
        for kind in KINDS {
            let definition = definition::read(group, kind);
            let plural = format!("{}s", kind.to_lowercase());
            assert_eq!(definition["apiVersion"], "apiextensions.k8s.io/v1");
            assert_eq!(definition["kind"], "CustomResourceDefinition");
            assert_eq!(definition["metadata"]["name"], format!("{plural}.{group}"));
            // Without it an API server refuses groups below k8s.io.
            let approval = &definition["metadata"]["annotations"]["api-approved.kubernetes.io"];
            assert_eq!(approval.is_string(), group.ends_with(".k8s.io"));
            let spec = &definition["spec"];
            let scope = match kind {
                "ClusterNetwork" | "TenantConfig" => "Cluster",
                _ => "Namespaced",
            };
            assert_eq!(
                (&spec["group"], &spec["scope"]),
                (&json!(group), &json!(scope))
            );
            let names = &spec["names"];
            assert_eq!(names["kind"], kind);
            assert_eq!(names["listKind"], format!("{kind}List"));
            assert_eq!(names["plural"], plural);
            assert_eq!(names["singular"], kind.to_lowercase());
            let [version]: &[Value; 1] =
                spec["versions"].as_array().unwrap()[..].try_into().unwrap();
            let said = json!([version["name"], version["served"], version["storage"]]);
            assert_eq!(said, json!(["v1", true, true]));
        }
    }
}

/// `sed` makes the one folder of the other.
#[test]
fn both_groups_define_the_same() {
    for kind in KINDS {
        let read = |group| fs::read_to_string(definition::path(group, kind)).unwrap();
        let is_approval = |line: &&str| {
            line.contains("annotations:")
                || line.contains("api-approved")
                || line.contains("The group is")
        };
        let text = read("danm.k8s.io");
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !is_approval(line))
            .map(|line| line.replace("danm.k8s.io", "danm.io"))
            .collect();
        assert_eq!(read("danm.io").lines().collect::<Vec<_>>(), lines, "{kind}");
    }
}

#[test]
fn networks_of_all_kinds_have_the_same_options() {
    let options = |kind: &str| {
        let definition = definition::read("danm.k8s.io", kind);
        definition::schema(definition)["properties"]["spec"]["properties"]["Options"].clone()
    };
    assert_eq!(options("DanmNet"), options("ClusterNetwork"));
    assert_eq!(options("TenantNetwork"), options("ClusterNetwork"));
}

#[test]
fn schemas_are_structural() {
    for kind in KINDS {
        let definition = definition::read("danm.k8s.io", kind);
        is_structural(definition::schema(definition), kind);
    }
}

/// Every place says its type; what `anyOf` says is about values only.
fn is_structural(schema: &Value, path: &str) {
    assert!(schema["type"].is_string(), "{path} has no type");
    assert!(
        schema.get("properties").is_none() || schema.get("additionalProperties").is_none(),
        "{path} has properties and additionalProperties"
    );
    for word in [
        "$ref",
        "uniqueItems",
        "definitions",
        "dependencies",
        "patternProperties",
        "default",
    ] {
        assert!(schema.get(word).is_none(), "{path} has {word}");
    }
    for branch in schema["anyOf"].as_array().into_iter().flatten() {
        for word in branch.as_object().unwrap().keys() {
            let words = ["format", "maxLength", "pattern"];
            assert!(words.contains(&word.as_str()), "{path}: {word} in anyOf");
        }
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        is_structural(member, &format!("{path}.{name}"));
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(word) {
            is_structural(inner, &format!("{path}.{word}"));
        }
    }
}

#[test]
fn rules_can_be_evaluated_at_a_known_cost() {
    for kind in KINDS {
        let definition = definition::read("danm.k8s.io", kind);
        let schema = definition::schema(definition);
        rules(schema, kind, &mut |rule, schema, path| {
            let text = rule["rule"].as_str().unwrap();
            let message = rule["message"].as_str();
            assert!(message.is_some_and(|m| !m.contains('\n')), "{path}: {text}");
            let program = Program::compile(text).unwrap();
            // `to` and `key` are bound by the rules themselves.
            for name in program.references().variables() {
                let known = ["self", "oldSelf", "key", "to"];
                assert!(known.contains(&name), "{path}: {name} in {text}");
            }
            is_limited(schema, text, path);
        });
    }
}

/// Calls `each` with every rule and the schema that it stands in.
fn rules(schema: &Value, path: &str, each: &mut impl FnMut(&Value, &Value, &str)) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        each(rule, schema, path);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        rules(member, &format!("{path}.{name}"), each);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(word) {
            rules(inner, &format!("{path}.{word}"), each);
        }
    }
}

/// Members that a rule names have an upper limit of size: an API server refuses rules whose cost it can't reckon.
fn is_limited(schema: &Value, rule: &str, path: &str) {
    let limit = |schema: &Value| match schema["type"].as_str().unwrap() {
        "string" => schema["maxLength"].as_i64(),
        "array" => schema["maxItems"].as_i64(),
        "object" if schema.get("additionalProperties").is_some() => {
            schema["maxProperties"].as_i64()
        }
        _ => Some(0),
    };
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if rule.contains(&format!("self.{name}")) {
            assert!(
                limit(member).is_some(),
                "{path}.{name} has no limit, and a rule reads it"
            );
            let inner = member.get("additionalProperties");
            assert!(
                inner.is_none_or(|inner| inner["maxLength"].is_i64()),
                "values of {path}.{name} have no limit, and a rule reads them"
            );
        }
    }
}
