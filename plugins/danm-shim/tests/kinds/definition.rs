//! One definition, read from its file, and what it says of an object.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cni_conformance::cluster::manifest;
use serde_json::Value;

use crate::value;

/// The groups, each with a folder of definitions.
pub(crate) const GROUPS: [&str; 2] = ["danm.io", "danm.k8s.io"];
/// The kinds, each with a file.
pub(crate) const KINDS: [&str; 5] = [
    "ClusterNetwork",
    "DanmEp",
    "DanmNet",
    "TenantConfig",
    "TenantNetwork",
];

/// The file of a definition.
pub(crate) fn path(group: &str, kind: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kubernetes/danm");
    folder.join(group).join(format!("{kind}.yaml"))
}

/// The objects of a file.
pub(crate) fn objects(path: &Path) -> Vec<Value> {
    manifest::read(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The definition of a kind.
pub(crate) fn read(group: &str, kind: &str) -> &'static Value {
    static ALL: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let files = GROUPS
            .iter()
            .flat_map(|group| KINDS.iter().map(|kind| path(group, kind)));
        files.flat_map(|path| objects(&path)).collect()
    });
    let is_it = |definition: &&Value| {
        let spec = &definition["spec"];
        spec["group"] == group && spec["names"]["kind"] == kind
    };
    let [definition] = ALL.iter().filter(is_it).collect::<Vec<_>>()[..] else {
        panic!("there is not one definition of {kind} in {group}");
    };
    definition
}

/// The schema of a definition.
pub(crate) fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// What an API server says against creating `object` or, with `old`, against making that one of it.
pub(crate) fn faults(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let definition = read("danm.k8s.io", kind);
    value::faults(schema(definition), object, old, "")
}

/// `object` is let through.
pub(crate) fn good(kind: &str, object: &Value) {
    assert_eq!(faults(kind, object, None), Vec::<String>::new(), "{object}");
}

/// `object` is refused, for this reason and no other one.
pub(crate) fn bad(kind: &str, object: &Value, reason: &str) {
    let faults = faults(kind, object, None);
    let all = faults.iter().all(|fault| fault.contains(reason));
    assert!(all && !faults.is_empty(), "{object}: {faults:?}");
}
