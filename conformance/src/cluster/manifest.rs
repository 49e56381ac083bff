//! Manifests: files of objects, YAML or JSON, and where in the API an object belongs.

use serde_json::Value;

use super::path::Target;

/// Kinds whose plural is not the lower-case kind with an s, or which belong to the whole cluster.
const KINDS: [(&str, &str, bool); 17] = [
    ("APIService", "apiservices", false),
    ("ClusterNetwork", "clusternetworks", false),
    ("ClusterRole", "clusterroles", false),
    ("ClusterRoleBinding", "clusterrolebindings", false),
    (
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    ("Endpoints", "endpoints", true),
    ("IPAMClaim", "ipamclaims", true),
    ("Ingress", "ingresses", true),
    ("IngressClass", "ingressclasses", false),
    (
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    ("Namespace", "namespaces", false),
    (
        "NetworkAttachmentDefinition",
        "network-attachment-definitions",
        true,
    ),
    ("NetworkPolicy", "networkpolicies", true),
    ("Node", "nodes", false),
    ("PersistentVolume", "persistentvolumes", false),
    ("TenantConfig", "tenantconfigs", false),
    (
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
];

/// The objects of a manifest in its order. Documents that hold nothing are passed over, lists are opened.
///
/// # Errors
/// What the YAML reader says.
pub fn read(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Array(items) => objects.extend(items),
            document if is_list(&document) => {
                objects.extend(document["items"].as_array().cloned().unwrap_or_default());
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn is_list(document: &Value) -> bool {
    let kind = document["kind"].as_str().unwrap_or_default();
    kind.ends_with("List") && document["items"].is_array()
}

/// Where an object belongs: by its `apiVersion`, `kind` and `metadata`. Objects of kinds with namespaces that name none are in
/// `default`, as with `kubectl apply`.
///
/// # Errors
/// A sentence saying what it lacks.
pub fn target_of(object: &Value) -> Result<Target, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, api_version) = (text(&object["kind"]), text(&object["apiVersion"]));
    let name = text(&object["metadata"]["name"]);
    if kind.is_empty() || api_version.is_empty() || name.is_empty() {
        return Err(format!(
            "an object needs apiVersion, kind and metadata.name, and has \"{api_version}\", \"{kind}\" and \"{name}\""
        ));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let (resource, namespaced) = resource_of(&kind);
    let namespace = match text(&object["metadata"]["namespace"]) {
        _ if !namespaced => String::new(),
        empty if empty.is_empty() => "default".into(),
        namespace => namespace,
    };
    Ok(Target {
        group: group.into(),
        version: version.into(),
        namespace,
        resource,
        name,
        subresource: String::new(),
    })
}

/// The plural of a kind, and whether its objects live in namespaces.
fn resource_of(kind: &str) -> (String, bool) {
    KINDS.iter().find(|(known, ..)| *known == kind).map_or_else(
        || (format!("{}s", kind.to_ascii_lowercase()), true),
        |(_, plural, namespaced)| ((*plural).to_owned(), *namespaced),
    )
}

/// The kind of a resource, for a list that has no item to tell it; a guess for what isn't known.
pub(super) fn kind_of(resource: &str) -> String {
    const COMMON: [(&str, &str); 8] = [
        ("configmaps", "ConfigMap"),
        ("daemonsets", "DaemonSet"),
        ("danmeps", "DanmEp"),
        ("danmnets", "DanmNet"),
        ("replicasets", "ReplicaSet"),
        ("serviceaccounts", "ServiceAccount"),
        ("statefulsets", "StatefulSet"),
        ("tenantnetworks", "TenantNetwork"),
    ];
    let known = KINDS.iter().map(|(kind, plural, _)| (*plural, *kind));
    known
        .chain(COMMON)
        .find(|(plural, _)| *plural == resource)
        .map_or_else(
            || {
                let single = resource.strip_suffix('s').unwrap_or(resource);
                let mut letters = single.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                first.into_iter().chain(letters).collect()
            },
            |(_, kind)| kind.to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
# a comment before
---
apiVersion: v1
kind: Pod
metadata:
  name: samplepod
  annotations:
    k8s.v1.cni.cncf.io/networks: macvlan-conf
---
apiVersion: \"k8s.cni.cncf.io/v1\"
kind: NetworkAttachmentDefinition
metadata: {name: macvlan-conf, namespace: kube-system}
spec:
  config: '{
      \"cniVersion\": \"0.3.0\",
      \"type\": \"macvlan\"
    }'
---
apiVersion: v1
kind: List
items:
- {apiVersion: danm.k8s.io/v1, kind: ClusterNetwork, metadata: {name: c}}
";

    #[test]
    fn objects_find_their_place() {
        let objects = read(MANIFEST).unwrap();
        let paths: Vec<_> = objects
            .iter()
            .map(|object| target_of(object).unwrap().path())
            .collect();
        assert_eq!(
            paths,
            [
                "/api/v1/namespaces/default/pods/samplepod",
                "/apis/k8s.cni.cncf.io/v1/namespaces/kube-system/network-attachment-definitions/macvlan-conf",
                "/apis/danm.k8s.io/v1/clusternetworks/c",
            ]
        );
        let config = objects[1]["spec"]["config"].as_str().unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(config).unwrap()["type"],
            "macvlan"
        );
    }

    #[test]
    fn json_is_yaml_too() {
        assert_eq!(read(r#"{"kind": "Pod"}"#).unwrap().len(), 1);
        assert!(target_of(&read("kind: Pod").unwrap()[0]).is_err());
        assert!(read("a: [").is_err());
    }

    #[test]
    fn kinds_of_empty_lists() {
        for (resource, kind) in [
            ("pods", "Pod"),
            ("danmnets", "DanmNet"),
            (
                "network-attachment-definitions",
                "NetworkAttachmentDefinition",
            ),
        ] {
            assert_eq!(kind_of(resource), kind);
        }
    }
}
