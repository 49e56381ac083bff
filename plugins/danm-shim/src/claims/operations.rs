//! A change of a network as the operations of a JSON patch (RFC 6902).

use k8s::{DanmNetwork, DanmPool};
use serde_json::{Value, json};

use crate::ipam::Changes;

/// One test and what is to be: all of it or nothing. `annotations` are those that change; `None` is none any more.
pub(super) fn operations(
    object: &DanmNetwork,
    annotations: &[(String, Option<String>)],
    changes: Changes,
) -> Vec<Value> {
    let meta = &object.metadata;
    let version = &meta.resource_version;
    let mut all =
        vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
    if meta.annotations.is_empty() {
        all.push(add("/metadata/annotations", json!({})));
    }
    for (key, text) in annotations {
        let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
        all.push(match text {
            Some(text) => add(&path, json!(text)),
            None => json!({"op": "remove", "path": path}),
        });
    }
    let options = &object.spec.options;
    for (key, alloc) in [("alloc", changes.alloc), ("alloc6", changes.alloc6)] {
        all.extend(alloc.map(|alloc| add(&format!("/spec/Options/{key}"), Value::String(alloc))));
    }
    for (key, is_there, is_v6, pool) in [
        (
            "allocation_pool",
            options.allocation_pool.is_some(),
            false,
            changes.pool,
        ),
        (
            "allocation_pool_v6",
            options.allocation_pool_v6.is_some(),
            true,
            changes.pool6,
        ),
    ] {
        let Some(pool) = pool else { continue };
        let path = format!("/spec/Options/{key}");
        if !is_there {
            all.push(add(&path, json!({})));
        }
        let DanmPool {
            start,
            end,
            last_ip,
            cidr,
        } = pool;
        let mut members = vec![("start", start), ("end", end), ("lastIp", last_ip)];
        if is_v6 {
            members.push(("cidr", cidr));
        }
        all.extend(
            members
                .into_iter()
                .map(|(member, value)| add(&format!("{path}/{member}"), json!(value))),
        );
    }
    all
}

fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}
