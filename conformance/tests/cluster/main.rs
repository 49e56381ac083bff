//! The API server in memory, asked over the wire by a client that shares nothing with it but TLS and HTTP.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod client;

use std::time::{Duration, Instant};

use cni_conformance::cluster::{Cluster, Credential, Effect, Fault};
use serde_json::{Value, json};

use client::Client;

const PODS: &str = "/api/v1/namespaces/default/pods";
const NADS: &str = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
const SAMPLE: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: samplepod
  labels: {app: sample}
spec: {nodeName: node-1}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: macvlan-conf}
spec: {config: '{}'}
";

fn sample() -> (Cluster, Client) {
    let cluster = Cluster::start().unwrap();
    cluster.apply(SAMPLE).unwrap();
    let client = Client::with_token(&cluster, cluster.token());
    (cluster, client)
}

#[test]
fn objects_are_read_by_token_and_by_certificate_over_both_versions_of_http() {
    let (cluster, client) = sample();
    let identity = cluster.issue_certificate("system:multus").unwrap();
    let certified = Client::with_certificate(&cluster, &identity);
    for client in [
        client.clone(),
        certified.clone(),
        client.http2(),
        certified.http2(),
    ] {
        let (status, pod) = client.get(&format!("{PODS}/samplepod"));
        assert_eq!((status, &pod["kind"]), (200, &json!("Pod")));
    }
    let log = cluster.requests();
    let seen: Vec<_> = log
        .iter()
        .map(|request| (request.credential.clone(), request.http2))
        .collect();
    use Credential::{Certificate, Token};
    assert_eq!(
        seen,
        [
            (Token, false),
            (Certificate, false),
            (Token, true),
            (Certificate, true)
        ]
    );
    assert_eq!(log[0].permission().unwrap(), ("get", "pods".into()));
    assert!(log.iter().all(|request| request.status == Some(200)));
}

#[test]
fn strangers_are_refused() {
    let (cluster, client) = sample();
    let path = format!("{PODS}/samplepod");
    let stranger = Client::with_token(&cluster, "guess").get(&path);
    assert_eq!(
        (stranger.0, &stranger.1["reason"]),
        (401, &json!("Unauthorized"))
    );
    assert_eq!(Client::anonymous(&cluster).get(&path).0, 403);
    assert_eq!(Client::anonymous(&cluster).get("/version").0, 200);
    cluster.revoke_token(cluster.token());
    assert_eq!(client.get(&path).0, 401);
    let other = Cluster::start().unwrap();
    let foreign = other.issue_certificate("admin").unwrap();
    assert!(
        Client::with_certificate(&cluster, &foreign)
            .try_get(&path)
            .is_err()
    );
}

#[test]
fn an_object_lives_and_goes() {
    let (_cluster, client) = sample();
    let (status, made) = client.send(
        "POST",
        NADS,
        "application/json",
        &json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "big"}, "spec": {"config": "x".repeat(1_200_000)},
        }),
    );
    assert_eq!(status, 201);
    let path = format!("{NADS}/big");
    let mut changed = made.clone();
    changed["spec"]["config"] = "{}".into();
    assert_eq!(
        client.send("PUT", &path, "application/json", &changed).0,
        200
    );
    let (status, conflict) = client.send("PUT", &path, "application/json", &made);
    assert_eq!((status, &conflict["reason"]), (409, &json!("Conflict")));
    let test = json!([{"op": "test", "path": "/spec/config", "value": "no"}]);
    let (status, invalid) = client.send("PATCH", &path, "application/json-patch+json", &test);
    assert_eq!((status, &invalid["reason"]), (422, &json!("Invalid")));
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(
        client.send("DELETE", &path, "application/json", &wrong).0,
        409
    );
    assert_eq!(
        client
            .send("DELETE", &path, "application/json", &Value::Null)
            .0,
        200
    );
    let (status, gone) = client.get(&path);
    assert_eq!(status, 404);
    assert_eq!(
        gone["message"],
        "network-attachment-definitions.k8s.cni.cncf.io \"big\" not found"
    );
}

#[test]
fn lists_are_narrowed_and_paged() {
    let (cluster, client) = sample();
    for number in 0..5 {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}"), "namespace": "other"}});
        cluster.put(object).unwrap();
    }
    let names = |path: &str| -> Vec<String> {
        let list = client.get(path).1;
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1"),
        ["samplepod"]
    );
    assert_eq!(
        names("/api/v1/pods?labelSelector=app+in+(sample)"),
        ["samplepod"]
    );
    assert_eq!(names(&format!("{PODS}?limit=1")), ["samplepod"]);
    let path = "/api/v1/namespaces/other/pods?limit=2";
    let mut found = names(path);
    let mut token = client.get(path).1["metadata"]["continue"].clone();
    while let Some(text) = token.as_str() {
        let next = format!("{path}&continue={text}");
        found.extend(names(&next));
        token = client.get(&next).1["metadata"]["continue"].clone();
    }
    assert_eq!(found, ["p0", "p1", "p2", "p3", "p4"]);
    let list = client.get("/api/v1/namespaces/none/pods").1;
    assert_eq!(
        (&list["kind"], &list["items"]),
        (&json!("PodList"), &json!([]))
    );
}

#[test]
fn a_watch_tells_what_changes() {
    let (cluster, client) = sample();
    let revision = client.get("/api/v1/pods").1["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!(
        "/api/v1/pods?watch=true&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dnode-1&resourceVersion={revision}"
    );
    let watching = std::thread::spawn(move || client.lines(&path));
    while cluster
        .requests()
        .iter()
        .all(|request| !request.query.contains_key("watch"))
    {
        std::thread::yield_now();
    }
    let pod = |node: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q"}, "spec": {"nodeName": node}});
    cluster.put(pod("node-2")).unwrap();
    cluster.put(pod("node-1")).unwrap();
    cluster.put(pod("node-2")).unwrap();
    assert!(cluster.remove(&format!("{PODS}/samplepod")));
    let events: Vec<_> = watching
        .join()
        .unwrap()
        .iter()
        .map(|event| {
            format!("{} {}", event["type"], event["object"]["metadata"]["name"]).replace('"', "")
        })
        .collect();
    assert_eq!(events, ["ADDED q", "DELETED q", "DELETED samplepod"]);
}

#[test]
fn faults_strike_the_request_they_are_meant_for() {
    let (cluster, client) = sample();
    let path = format!("{PODS}/samplepod");
    cluster.strike(Fault::on("GET", "/pods/", Effect::Answer(429, Some(7))).nth(2));
    assert_eq!(client.get(&path).0, 200);
    let (status, refused) = client.get(&path);
    assert_eq!(
        (status, &refused["details"]["retryAfterSeconds"]),
        (429, &json!(7))
    );
    assert_eq!(client.get(&path).0, 200);
    cluster.heal();
    cluster.strike(Fault::on("", "", Effect::Delay(Duration::from_millis(300))).times(1));
    let started = Instant::now();
    assert_eq!(client.get(&path).0, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_held_request_is_carried_out_when_the_faults_are_taken_back() {
    let (cluster, client) = sample();
    let path = format!("{PODS}/samplepod");
    cluster.strike(Fault::on("DELETE", "", Effect::Held));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.send("DELETE", &path, "", &Value::Null));
        while cluster.requests().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(client.get(&path).0, 200);
        cluster.heal();
        assert!(cluster.get(&path).is_none());
        assert_eq!(waiting.join().unwrap().0, 200);
    });
}

#[test]
fn connections_are_dropped_before_and_after_the_work() {
    let (cluster, client) = sample();
    let path = format!("{PODS}/samplepod");
    let merge = "application/merge-patch+json";
    for client in [client.clone(), client.http2()] {
        let version = if client.is_http2() { "2" } else { "1" };
        for (effect, done) in [
            (Effect::Drop, false),
            (Effect::DropApplied, true),
            (Effect::DropMidway, true),
        ] {
            let mark = format!("{effect:?}-{version}");
            cluster.heal();
            cluster.strike(Fault::on("PATCH", "", effect));
            let patch = json!({"metadata": {"annotations": {"mark": mark}}});
            assert!(
                client.try_send("PATCH", &path, merge, &patch).is_err(),
                "{mark}"
            );
            let found = cluster.get(&path).unwrap()["metadata"]["annotations"]["mark"] == *mark;
            assert_eq!(found, done, "{mark}");
        }
    }
}
