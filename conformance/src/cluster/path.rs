//! What a request is about: the path and query of a URL, taken apart.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Groups with a dot that are no custom resources.
const BUILT_IN_GROUPS: [&str; 9] = [
    "apiextensions.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
];

/// A resource, and one object of it when there is a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for the core.
    pub group: String,
    /// The version within the group, such as `v1`.
    pub version: String,
    /// Empty for resources of the whole cluster, and for lists over all namespaces.
    pub namespace: String,
    /// The plural, lower case: `pods`.
    pub resource: String,
    /// Empty for the whole collection.
    pub name: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
}

impl Target {
    /// Reads a path below `/api` or `/apis`; `None` when it names no resource.
    ///
    /// ```
    /// use cni_conformance::cluster::Target;
    ///
    /// let target = Target::parse("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/macvlan");
    /// let target = target.unwrap();
    /// assert_eq!((&*target.group, &*target.namespace, &*target.name), ("k8s.cni.cncf.io", "default", "macvlan"));
    /// ```
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<_> = path.strip_prefix('/')?.split('/').map(decode).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // A namespace is an object as well: what follows its name is a resource, unless it is one of the namespace's own parts.
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, "", ""),
            [resource, name] => (*resource, *name, ""),
            [resource, name, subresource] => (*resource, *name, *subresource),
            _ => return None,
        };
        let target = Self {
            group: group.into(),
            version: version.into(),
            namespace: namespace.into(),
            resource: resource.into(),
            name: name.into(),
            subresource: subresource.into(),
        };
        (!target.resource.is_empty()).then_some(target)
    }

    /// One object of this collection.
    pub(super) fn one(&self, object: &Value) -> Target {
        let text = |key: &str| {
            let text = object["metadata"][key].as_str();
            text.unwrap_or_default().to_owned()
        };
        Target {
            namespace: text("namespace"),
            name: text("name"),
            ..self.clone()
        }
    }

    /// The path of the object or collection, without subresource.
    pub fn path(&self) -> String {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if !self.namespace.is_empty() {
            path += &format!("/namespaces/{}", self.namespace);
        }
        path += &format!("/{}", self.resource);
        if !self.name.is_empty() {
            path += &format!("/{}", self.name);
        }
        path
    }

    /// The value of `apiVersion` in its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The resource with its group, as messages and roles write it: `danmnets.danm.k8s.io`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// How messages name the object: `pods "samplepod"`.
    pub fn title(&self) -> String {
        format!("{} \"{}\"", self.qualified(), self.name)
    }

    /// Whether objects of this group follow the rules of custom resources and not those of the built-in kinds.
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !BUILT_IN_GROUPS.contains(&self.group.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// The query of a URL, decoded.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Undoes percent-encoding; what is no encoding stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<[String; 4]> {
        let target = Target::parse(path)?;
        Some([
            target.namespace,
            target.resource,
            target.name,
            target.subresource,
        ])
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/api/v1/pods", ["", "pods", "", ""]),
            ("/api/v1/namespaces", ["", "namespaces", "", ""]),
            ("/api/v1/namespaces/a", ["", "namespaces", "a", ""]),
            (
                "/api/v1/namespaces/a/status",
                ["", "namespaces", "a", "status"],
            ),
            ("/api/v1/namespaces/a/pods", ["a", "pods", "", ""]),
            ("/api/v1/namespaces/a/pods/p", ["a", "pods", "p", ""]),
            (
                "/api/v1/namespaces/a/pods/p/status",
                ["a", "pods", "p", "status"],
            ),
            (
                "/apis/danm.k8s.io/v1/clusternetworks/c",
                ["", "clusternetworks", "c", ""],
            ),
            ("/api/v1/namespaces/a/pods/p%2Eq", ["a", "pods", "p.q", ""]),
        ] {
            assert_eq!(parts(path), Some(expected.map(str::to_owned)), "{path}");
        }
        for path in ["/", "/version", "/api", "/api/v1", "/apis/g/v1", "/api/v1/"] {
            assert_eq!(parts(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_comes_back() {
        for path in [
            "/api/v1/namespaces/a/pods/p",
            "/apis/danm.k8s.io/v1/clusternetworks/c",
            "/api/v1/pods",
        ] {
            assert_eq!(Target::parse(path).unwrap().path(), path);
        }
    }

    #[test]
    fn queries() {
        let found = query("labelSelector=a%3Db%2Cc&watch=true&limit");
        assert_eq!(found["labelSelector"], "a=b,c");
        assert_eq!(found["watch"], "true");
        assert_eq!(found["limit"], "");
    }
}
