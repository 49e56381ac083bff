//! What each verb sends and what it makes of the answer.

use std::time::Duration;

use k8s::{
    Cause, Error, Event, EventType, Kind, ListOptions, NetworkAttachmentDefinition, Pod,
    Preconditions, Runtime, together,
};
use serde_json::{Value, json};

use crate::server::{Reply, Seen, Server};

const LIMIT: Duration = Duration::from_secs(5);

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": "u",
        "annotations": {"a": "b"}, "managedFields": [1]},
        "spec": {"nodeName": "node1", "containers": []}, "status": {"phase": "Running"}})
}

fn status(code: u16, reason: &str) -> Reply {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m"});
    Reply::Json(code, body)
}

/// The only request there was.
fn only(server: &Server) -> Seen {
    let [seen] = server.seen().try_into().unwrap();
    seen
}

#[test]
fn get_reads_an_object_over_either_protocol() {
    for (server, http2) in [(Server::new(), true), (Server::http1(), false)] {
        server.replies([Reply::Json(200, pod("p"))]);
        let pods = server.client(LIMIT).namespaced::<Pod>("n");
        let pod = Runtime::new().unwrap().block_on(pods.get("p")).unwrap();
        assert_eq!(pod.metadata.annotations["a"], "b");
        assert_eq!(
            (pod.spec.node_name.as_str(), pod.status.phase.as_str()),
            ("node1", "Running")
        );
        assert!(pod.metadata.rest.contains_key("managedFields"));
        let seen = only(&server);
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("GET", "/api/v1/namespaces/n/pods/p")
        );
        assert_eq!(
            (seen.authorization.as_str(), seen.http2),
            ("Bearer secret-token", http2)
        );
    }
}

#[test]
fn null_is_empty() {
    let server = Server::new();
    let bare =
        json!({"metadata": {"name": "x", "annotations": null, "labels": null}, "spec": null});
    server.replies([Reply::Json(200, bare.clone()), Reply::Json(200, bare)]);
    let client = server.client(LIMIT);
    let runtime = Runtime::new().unwrap();
    let network = runtime
        .block_on(
            client
                .namespaced::<NetworkAttachmentDefinition>("n")
                .get("x"),
        )
        .unwrap();
    assert_eq!(network.spec.config, "");
    let pod = runtime
        .block_on(client.namespaced::<Pod>("n").get("x"))
        .unwrap();
    assert!(pod.metadata.annotations.is_empty() && !pod.spec.host_network);
    assert_eq!(
        server.seen()[0].path,
        "/apis/k8s.cni.cncf.io/v1/namespaces/n/network-attachment-definitions/x"
    );
}

#[test]
fn independent_requests_run_at_the_same_time_over_one_connection() {
    let server = Server::new();
    let late = || Reply::Late(Duration::from_millis(300), pod("p"));
    server.replies((0..5).map(|_| late()));
    let pods = server.client(LIMIT).namespaced::<Pod>("n");
    let start = std::time::Instant::now();
    let runtime = Runtime::new().unwrap();
    let all = runtime.block_on(together(
        ["a", "b", "c", "d", "e"].map(|name| pods.get(name)),
    ));
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.connection == 1 && seen.http2)
    );
}

#[test]
fn http1_makes_as_many_connections_as_there_are_requests_at_a_time_and_keeps_them() {
    let server = Server::http1();
    server.replies((0..4).map(|_| Reply::Late(Duration::from_millis(100), pod("p"))));
    let pods = server.client(LIMIT).namespaced::<Pod>("n");
    let runtime = Runtime::new().unwrap();
    for _ in 0..2 {
        let both = runtime.block_on(together(["a", "b"].map(|name| pods.get(name))));
        assert!(both.iter().all(Result::is_ok), "{both:?}");
    }
    assert_eq!(
        server.seen().iter().map(|seen| seen.connection).max(),
        Some(2)
    );
}

#[test]
fn list_selects_and_turns_pages() {
    let server = Server::new();
    let page = |next: &str, name: &str| {
        Reply::Json(
            200,
            json!({"metadata": {"continue": next, "resourceVersion": "7"}, "items": [pod(name)]}),
        )
    };
    server.replies([
        page("more", "a"),
        page("", "b"),
        Reply::Json(200, json!({"items": null})),
    ]);
    let client = server.client(LIMIT);
    let options = ListOptions {
        label_selector: "app=web".into(),
        field_selector: "spec.nodeName=node1".into(),
        limit: 1,
        ..ListOptions::default()
    };
    let runtime = Runtime::new().unwrap();
    let all = runtime
        .block_on(client.cluster_wide::<Pod>().list_all(&options))
        .unwrap();
    let names: Vec<_> = all.iter().map(|pod| pod.metadata.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let first = "/api/v1/pods?labelSelector=app%3Dweb&fieldSelector=spec.nodeName%3Dnode1&limit=1";
    assert_eq!(server.seen()[0].path, first);
    assert_eq!(server.seen()[1].path, format!("{first}&continue=more"));
    let none = runtime.block_on(client.namespaced::<Pod>("n").list(&ListOptions::default()));
    assert!(none.unwrap().items.is_empty());
}

#[test]
fn create_says_what_it_is() {
    let server = Server::new();
    server.replies([Reply::Json(201, json!({"metadata": {"name": "p.1"}}))]);
    let pod: Pod = serde_json::from_value(pod("p")).unwrap();
    let event = Event::about_pod(
        &pod,
        "multus",
        EventType::Normal,
        "AddedInterface",
        "Add eth0",
    );
    let events = server.client(LIMIT).namespaced::<Event>("n");
    Runtime::new()
        .unwrap()
        .block_on(events.create(&event))
        .unwrap();
    let seen = only(&server);
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/api/v1/namespaces/n/events")
    );
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(
        (&body["apiVersion"], &body["kind"]),
        (&json!("v1"), &json!("Event"))
    );
    assert_eq!(
        (&body["reason"], &body["involvedObject"]["uid"]),
        (&json!("AddedInterface"), &json!("u"))
    );
}

#[test]
fn replace_keeps_what_we_do_not_know_and_needs_a_version() {
    let network = |version: &str| {
        json!({"metadata": {"name": "x", "resourceVersion": version, "finalizers": ["f"]},
            "spec": {"config": "{}", "later": 1}, "status": {"s": 1}})
    };
    let server = Server::new();
    server.replies([
        Reply::Json(200, network("5")),
        Reply::Json(200, network("6")),
    ]);
    let networks = server
        .client(LIMIT)
        .namespaced::<NetworkAttachmentDefinition>("n");
    let runtime = Runtime::new().unwrap();
    let mut read = runtime.block_on(networks.get("x")).unwrap();
    let written = runtime.block_on(networks.replace(&read)).unwrap();
    assert_eq!(written.metadata.resource_version, "6");
    let put = &server.seen()[1];
    assert_eq!(put.method, "PUT");
    let body: Value = serde_json::from_str(&put.body).unwrap();
    assert_eq!(body["metadata"], network("5")["metadata"]);
    assert_eq!(
        (&body["spec"], &body["status"]),
        (&network("5")["spec"], &network("5")["status"])
    );
    read.metadata.resource_version.clear();
    let error = runtime.block_on(networks.replace(&read)).unwrap_err();
    assert!(matches!(error.cause, Cause::Request(_)), "{error}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn patches_have_their_types_and_a_part_of_their_own() {
    let server = Server::new();
    server.replies([Reply::Json(200, pod("p")), Reply::Json(200, pod("p"))]);
    let pods = server.client(LIMIT).namespaced::<Pod>("n");
    let runtime = Runtime::new().unwrap();
    let patch = json!({"metadata": {"annotations": {"k": "v"}}});
    runtime
        .block_on(pods.clone().status().merge_patch("p", &patch))
        .unwrap();
    let operation = json!({"op": "add", "path": "/metadata/labels/a", "value": "b"});
    runtime
        .block_on(pods.json_patch("p", &[operation]))
        .unwrap();
    let [merge, json] = server.seen().try_into().unwrap();
    assert_eq!(merge.path, "/api/v1/namespaces/n/pods/p/status");
    assert_eq!(merge.content_type, "application/merge-patch+json");
    assert_eq!(merge.body, patch.to_string());
    assert_eq!(json.path, "/api/v1/namespaces/n/pods/p");
    assert_eq!(json.content_type, "application/json-patch+json");
    assert_eq!(
        json.body,
        r#"[{"op":"add","path":"/metadata/labels/a","value":"b"}]"#
    );
}

#[test]
fn delete_carries_its_conditions() {
    let server = Server::new();
    server.replies([
        Reply::Json(200, json!({"kind": "Status"})),
        status(404, "NotFound"),
    ]);
    let pods = server.client(LIMIT).namespaced::<Pod>("n");
    let runtime = Runtime::new().unwrap();
    let this_one = Preconditions {
        uid: "u".into(),
        ..Preconditions::default()
    };
    runtime.block_on(pods.delete("p", &this_one)).unwrap();
    let gone = runtime
        .block_on(pods.delete("p", &Preconditions::default()))
        .unwrap_err();
    assert!(gone.is_not_found());
    let [first, second] = server.seen().try_into().unwrap();
    assert!(
        first.body.contains(r#""preconditions":{"uid":"u"}"#),
        "{}",
        first.body
    );
    assert!(!second.body.contains("preconditions"), "{}", second.body);
}

#[test]
fn any_kind_as_a_value() {
    let server = Server::new();
    server.replies([Reply::Json(200, json!({"x": 1}))]);
    let kind = Kind {
        group: "danm.k8s.io",
        version: "v1",
        kind: "ClusterNetwork",
        plural: "clusternetworks",
    };
    let values = server.client(LIMIT).values(kind, None);
    let value = Runtime::new()
        .unwrap()
        .block_on(values.get("default"))
        .unwrap();
    assert_eq!(value["x"], 1);
    assert_eq!(
        only(&server).path,
        "/apis/danm.k8s.io/v1/clusternetworks/default"
    );
}

#[test]
fn a_name_that_is_none_is_not_sent() {
    let server = Server::new();
    let client = server.client(LIMIT);
    let runtime = Runtime::new().unwrap();
    for (namespace, name) in [
        ("n", ""),
        ("n", "../../secrets/s"),
        ("", "p"),
        ("n", ".."),
        ("a/b", "p"),
    ] {
        let error = runtime
            .block_on(client.namespaced::<Pod>(namespace).get(name))
            .unwrap_err();
        assert!(matches!(error.cause, Cause::Request(_)), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn update_starts_again_when_somebody_was_faster() {
    let network = |version: &str| {
        let object = json!({"metadata": {"name": "x", "resourceVersion": version}, "spec": {"config": version}});
        Reply::Json(200, object)
    };
    let server = Server::new();
    server.replies([
        network("1"),
        status(409, "Conflict"),
        network("2"),
        network("3"),
    ]);
    let networks = server
        .client(LIMIT)
        .namespaced::<NetworkAttachmentDefinition>("n");
    let changed = networks.update("x", |object| {
        object.spec.config.push('!');
        Ok::<(), Error>(())
    });
    let changed = Runtime::new().unwrap().block_on(changed).unwrap();
    assert_eq!(changed.metadata.resource_version, "3");
    assert!(
        server.seen()[3].body.contains(r#""config":"2!""#),
        "{}",
        server.seen()[3].body
    );
}

#[test]
fn update_ends_with_the_error_of_its_change_or_with_its_time() {
    let server = Server::new();
    let object = || {
        Reply::Json(
            200,
            json!({"metadata": {"name": "x", "resourceVersion": "1"}}),
        )
    };
    server.replies([object()]);
    let runtime = Runtime::new().unwrap();
    let networks = server
        .client(LIMIT)
        .namespaced::<NetworkAttachmentDefinition>("n");
    #[derive(Debug)]
    struct Full;
    impl From<Error> for Full {
        fn from(e: Error) -> Full {
            panic!("{e}")
        }
    }
    runtime
        .block_on(networks.update("x", |_| Err(Full)))
        .unwrap_err();
    server.replies((0..100).flat_map(|_| [object(), status(409, "Conflict")]));
    let networks = server
        .client(Duration::from_millis(400))
        .namespaced::<NetworkAttachmentDefinition>("n");
    let start = std::time::Instant::now();
    let error: Error = runtime
        .block_on(networks.update("x", |_| Ok(())))
        .unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}
