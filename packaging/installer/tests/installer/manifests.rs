//! The manifests parse, fit together, and grant what multus asks for and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cni_conformance::cluster::{Cluster, manifest};
use k8s::{Access, Client, Event, EventType, NetworkAttachmentDefinition, Object, Pod, Runtime};
use serde_json::{Value, json};

use crate::node::{Node, installer};

fn objects() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/multus.yaml");
    manifest::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn of(kind: &str) -> Value {
    let [object]: [Value; 1] = {
        let mut all = objects();
        all.retain(|object| object["kind"] == kind);
        all.try_into().unwrap()
    };
    object
}

fn strings(value: &Value) -> Vec<String> {
    let text = |item: &Value| item.as_str().unwrap().to_owned();
    value.as_array().unwrap().iter().map(text).collect()
}

#[test]
fn the_kind_is_the_one_that_is_asked_for() {
    let definition = of("CustomResourceDefinition");
    let kind = NetworkAttachmentDefinition::KIND;
    assert_eq!(definition["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(
        definition["metadata"]["name"],
        format!("{}.{}", kind.plural, kind.group)
    );
    let spec = &definition["spec"];
    assert_eq!(
        (&spec["group"], &spec["scope"]),
        (&json!(kind.group), &json!("Namespaced"))
    );
    assert_eq!(
        (&spec["names"]["kind"], &spec["names"]["plural"]),
        (&json!(kind.kind), &json!(kind.plural))
    );
    assert_eq!(
        strings(&spec["names"]["shortNames"]),
        ["net-attach-def", "nad"]
    );
    assert_eq!(spec["versions"][0]["name"], kind.version);
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["config"]["type"],
        "string"
    );
}

/// Every request of an ADD, made to a server that notes which right each of them needs.
#[test]
fn the_role_grants_the_requests_of_an_add_and_no_others() {
    let cluster = Cluster::start().unwrap();
    cluster
        .apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\n\
             apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: net}\n",
        )
        .unwrap();
    let node = Node::empty();
    cluster
        .write_kubeconfig(&node.path("kubeconfig"), &cluster.token_user())
        .unwrap();
    let access = Access::kubeconfig(&node.path("kubeconfig")).unwrap();
    let client = Client::new(access, Duration::from_secs(10));
    Runtime::new().unwrap().block_on(async {
        let pods = client.namespaced::<Pod>("default");
        let pod = pods.get("p").await.unwrap();
        client
            .namespaced::<NetworkAttachmentDefinition>("default")
            .get("net")
            .await
            .unwrap();
        let patch =
            json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"}}});
        pods.status().merge_patch("p", &patch).await.unwrap();
        let event = Event::about_pod(
            &pod,
            "multus",
            EventType::Normal,
            "AddedInterface",
            "Add eth0",
        );
        client
            .namespaced::<Event>("default")
            .create(&event)
            .await
            .unwrap();
    });
    let asked: BTreeSet<(String, String, String)> = cluster
        .requests()
        .iter()
        .map(|request| {
            let (verb, resource) = request.permission().unwrap();
            (request.target().unwrap().group, resource, verb.to_owned())
        })
        .collect();
    let mut granted = BTreeSet::new();
    for rule in of("ClusterRole")["rules"].as_array().unwrap() {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    granted.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    assert_eq!(granted, asked);
}

#[test]
fn the_role_is_bound_to_the_account_of_the_pods() {
    let (account, binding, set) = (
        of("ServiceAccount"),
        of("ClusterRoleBinding"),
        of("DaemonSet"),
    );
    assert_eq!(
        binding["roleRef"]["name"],
        of("ClusterRole")["metadata"]["name"]
    );
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(
        binding["subjects"][0]["namespace"],
        account["metadata"]["namespace"]
    );
    assert_eq!(
        set["metadata"]["namespace"],
        account["metadata"]["namespace"]
    );
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(
        set["spec"]["selector"]["matchLabels"],
        set["spec"]["template"]["metadata"]["labels"]
    );
}

#[test]
fn the_pods_run_the_installer_with_flags_it_knows_and_the_folders_it_uses() {
    let set = of("DaemonSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let container = &pod["containers"][0];
    let image = concat!("cni-plugins-rs:", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        container["image"], image,
        "{image} is what make image builds"
    );
    assert_eq!(strings(&container["command"]), ["multus-installer"]);
    assert!(container["resources"]["limits"]["memory"].is_string());
    let arguments = strings(&container["args"]);
    let known = installer().args(&arguments).arg("--help").output().unwrap();
    assert!(
        known.status.success(),
        "{}",
        String::from_utf8_lossy(&known.stderr)
    );
    for mount in container["volumeMounts"].as_array().unwrap() {
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == mount["name"])
            .unwrap();
        let host = volume["hostPath"]["path"].as_str().unwrap();
        assert_eq!(mount["mountPath"], format!("/host{host}"));
    }
}
