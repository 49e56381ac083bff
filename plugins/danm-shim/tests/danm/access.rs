//! The account in packaging/kubernetes/danm/access.yaml has the rights that the verbs need, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cni_conformance::cluster::manifest;
use serde_json::{Value, json};

use crate::world::World;

/// A group, a resource and a verb.
type Right = (String, String, String);

#[test]
fn the_role_grants_what_the_verbs_ask_for() {
    let mut world = World::new();
    world.delegate("dry");
    let options = json!({"host_device": "m0", "cidr": "10.3.0.0/24"});
    let spec = json!({"NetworkID": "net", "NetworkType": "macvlan", "Options": options});
    for kind in ["DanmNet", "TenantNetwork"] {
        let metadata = json!({"name": "net", "namespace": "default"});
        let object = json!({"apiVersion": "danm.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec});
        world.cluster.put(object).unwrap();
    }
    // Its address is written into the DanmEp afterwards.
    world.static_network("own");
    world.pod(
        "p",
        &json!([
            {"clusterNetwork": "oampub", "ip": "dynamic"},
            {"network": "net", "ip": "dynamic"},
            {"tenantNetwork": "net", "ip": "dynamic"},
            {"clusterNetwork": "own", "ip": "dynamic"},
        ]),
    );
    let result = world.ok("ADD", "p");
    world.ok("STATUS", "");
    let mut conf = world.conf.clone();
    conf["prevResult"] = result;
    let before = std::mem::replace(&mut world.conf, conf);
    world.ok("CHECK", "p");
    world.conf = before;
    world.ok("DEL", "p");
    world.conf["cni.dev/valid-attachments"] = json!([]);
    world.ok("GC", "");

    let right = |request: &cni_conformance::cluster::Request| -> Right {
        let (verb, resource) = request.permission().unwrap();
        (request.target().unwrap().group, resource, verb.to_owned())
    };
    let mut asked: BTreeSet<Right> = world.cluster.requests().iter().map(right).collect();
    // The other group has the same kinds.
    let same = asked.clone().into_iter();
    let of_danm = same.filter(|(group, ..)| group == "danm.k8s.io");
    asked.extend(of_danm.map(|(_, resource, verb)| ("danm.io".to_owned(), resource, verb)));
    assert_eq!(granted(), asked);
}

#[test]
fn the_role_is_bound_to_the_account_of_the_token() {
    let account = of("ServiceAccount")["metadata"].clone();
    let (binding, secret) = (of("ClusterRoleBinding"), of("Secret"));
    assert_eq!(
        binding["roleRef"]["name"],
        of("ClusterRole")["metadata"]["name"]
    );
    let subject = &binding["subjects"][0];
    assert_eq!(
        (&subject["name"], &subject["namespace"]),
        (&account["name"], &account["namespace"])
    );
    assert_eq!(secret["type"], "kubernetes.io/service-account-token");
    let metadata = &secret["metadata"];
    assert_eq!(metadata["namespace"], account["namespace"]);
    let named = &metadata["annotations"]["kubernetes.io/service-account.name"];
    assert_eq!(*named, account["name"]);
}

fn granted() -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in of("ClusterRole")["rules"].as_array().unwrap() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

fn strings(value: &Value) -> Vec<String> {
    let text = |item: &Value| item.as_str().unwrap().to_owned();
    value.as_array().unwrap().iter().map(text).collect()
}

/// The only object of this kind.
fn of(kind: &str) -> Value {
    let path = "../../packaging/kubernetes/danm/access.yaml";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut all = manifest::read(&text).unwrap();
    all.retain(|object| object["kind"] == kind);
    let [object]: [Value; 1] = all.try_into().unwrap();
    object
}
