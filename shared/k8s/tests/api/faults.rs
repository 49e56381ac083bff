//! Everything that can go wrong on the way, at every kind of request.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use k8s::{Access, Cause, Client, Error, Event, Pod, Preconditions, Runtime};
use serde_json::{Value, json};

use crate::pki::Authority;
use crate::server::{Options, Reply, Scratch, Server, loopback_up};

const LIMIT: Duration = Duration::from_secs(5);

fn pod() -> Value {
    json!({"metadata": {"name": "p", "resourceVersion": "1"}})
}

fn ok() -> Reply {
    Reply::Json(200, pod())
}

fn failure(code: u16, reason: &str) -> Reply {
    Reply::Json(
        code,
        json!({"kind": "Status", "code": code, "reason": reason, "message": "the message"}),
    )
}

fn get(client: &Client) -> Result<Pod, Error> {
    Runtime::new()
        .unwrap()
        .block_on(client.namespaced::<Pod>("n").get("p"))
}

/// A server of each protocol.
fn servers() -> [Server; 2] {
    [Server::new(), Server::http1()]
}

#[test]
fn an_answer_that_is_final_is_not_asked_for_again() {
    for (code, reason) in [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (409, "Conflict"),
        (422, "Invalid"),
    ] {
        let server = Server::new();
        server.replies([failure(code, reason), ok()]);
        let error = get(&server.client(LIMIT)).unwrap_err();
        let text = format!(
            "GET pods n/p at https://{}: {code} {reason}: the message",
            server.address
        );
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(
            (error.code(), error.is_temporary(), error.maybe_applied),
            (Some(code), false, false)
        );
        assert_eq!(server.seen().len(), 1, "{code}");
    }
}

#[test]
fn an_answer_that_passes_is_asked_for_again() {
    for (code, reason) in [
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (502, ""),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ] {
        let server = Server::new();
        server.replies([failure(code, reason), failure(code, reason), ok()]);
        get(&server.client(LIMIT)).unwrap();
        assert_eq!(server.seen().len(), 3, "{code}");
        assert!(server.seen().iter().all(|seen| seen.connection == 1));
    }
}

#[test]
fn trying_again_ends_with_the_time() {
    let server = Server::new();
    server.replies((0..100).map(|_| failure(503, "ServiceUnavailable")));
    let start = Instant::now();
    let error = get(&server.client(Duration::from_millis(400))).unwrap_err();
    assert_eq!(error.code(), Some(503));
    assert!(error.is_temporary());
    assert!(
        start.elapsed() < Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
    assert!(server.seen().len() > 2);
}

#[test]
fn retry_after_is_honoured_within_the_time_there_is() {
    let server = Server::new();
    let busy = |seconds| {
        Reply::With(
            429,
            ("retry-after", seconds),
            json!({"reason": "TooManyRequests", "message": "m"}),
        )
    };
    server.replies([busy("1"), ok(), busy("60")]);
    let start = Instant::now();
    get(&server.client(LIMIT)).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let start = Instant::now();
    let error = get(&server.client(LIMIT)).unwrap_err();
    assert_eq!(error.code(), Some(429));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "there is no point in waiting"
    );
}

#[test]
fn a_delay_beyond_the_limit_is_a_timeout() {
    for server in servers() {
        server.replies([Reply::Late(Duration::from_secs(3), pod())]);
        let start = Instant::now();
        let error = get(&server.client(Duration::from_millis(200))).unwrap_err();
        assert!(matches!(error.cause, Cause::Timeout(_)), "{error:?}");
        assert!(error.to_string().contains("no answer in"), "{error}");
        assert!(!error.maybe_applied && error.is_temporary());
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_timeout_tells_what_was_before() {
    let server = Server::new();
    server.replies([
        failure(503, "ServiceUnavailable"),
        Reply::Late(Duration::from_secs(3), pod()),
    ]);
    let error = get(&server.client(Duration::from_millis(400))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("before that: 503 ServiceUnavailable"),
        "{error}"
    );
}

#[test]
fn a_server_that_never_says_hello_is_a_timeout() {
    loopback_up();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scratch = Scratch::new();
    scratch.write("ca.crt", &Authority::new().pem());
    let address = silent.local_addr().unwrap();
    let cluster =
        json!({"server": format!("https://{address}"), "certificate-authority": "ca.crt"});
    let path = scratch.kubeconfig(cluster, json!({}));
    let client = Client::new(
        Access::kubeconfig(&path).unwrap(),
        Duration::from_millis(200),
    );
    let error = get(&client).unwrap_err();
    assert!(error.to_string().contains("no connection in"), "{error}");
}

#[test]
fn several_requests_can_have_one_limit() {
    let server = Server::new();
    server.replies([ok(), Reply::Late(Duration::from_secs(3), pod())]);
    let client = server
        .client(LIMIT)
        .in_all_within(Duration::from_millis(300));
    get(&client).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    assert!(matches!(get(&client).unwrap_err().cause, Cause::Timeout(_)));
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[test]
fn what_is_cut_is_asked_for_again() {
    for cut in [
        || Reply::CutBeforeHeaders,
        || Reply::CutAfterHeaders,
        || Reply::CutInBody,
    ] {
        for server in servers() {
            server.replies([cut(), ok()]);
            get(&server.client(LIMIT)).unwrap();
            assert_eq!(server.seen().len(), 2);
            server.replies((0..100).map(|_| cut()));
            let error = get(&server.client(Duration::from_millis(150))).unwrap_err();
            assert!(error.is_temporary() && !error.maybe_applied, "{error:?}");
        }
    }
}

#[test]
fn a_connection_closed_while_nobody_looked_costs_nothing() {
    let server = Server::http1();
    let event = json!({"metadata": {"name": "e"}});
    server.replies([Reply::AndClose(pod()), Reply::Json(201, event)]);
    let client = server.client(LIMIT);
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(client.namespaced::<Pod>("n").get("p"))
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    // Without a name it is not sent twice, so it has to get a connection that is open.
    runtime
        .block_on(client.namespaced::<Event>("n").create(&Event::default()))
        .unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_server_that_is_gone_is_told() {
    let server = Server::new();
    server.replies([ok()]);
    let client = server.client(LIMIT);
    let runtime = Runtime::new().unwrap();
    let pods = client.namespaced::<Pod>("n");
    runtime.block_on(pods.get("p")).unwrap();
    drop(server);
    let error = runtime
        .block_on(
            client
                .within(Duration::from_millis(200))
                .namespaced::<Pod>("n")
                .get("p"),
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Connect(_)), "{error:?}");
}

#[test]
fn an_answer_without_end_is_left() {
    for server in servers() {
        server.replies([Reply::Huge(40 << 20)]);
        let error = get(&server.client(LIMIT)).unwrap_err();
        assert!(error.to_string().contains("larger than 32 MB"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn an_answer_that_is_no_object_is_told() {
    let server = Server::new();
    server.replies([
        Reply::Text(200, "<html>"),
        Reply::Text(404, "<html>\n  <b>proxy\u{7}</b>"),
        Reply::Json(200, json!([])),
    ]);
    let client = server.client(LIMIT);
    let error = get(&client).unwrap_err();
    assert!(matches!(error.cause, Cause::Decoding(_)), "{error:?}");
    assert!(
        get(&client)
            .unwrap_err()
            .to_string()
            .ends_with("404 Not Found: <html> <b>proxy</b>")
    );
    assert!(matches!(
        get(&client).unwrap_err().cause,
        Cause::Decoding(_)
    ));
}

#[test]
fn nobody_there_is_told_after_the_time() {
    loopback_up();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let scratch = Scratch::new();
    scratch.write("ca.crt", &Authority::new().pem());
    let cluster = json!({"server": format!("https://{free}"), "certificate-authority": "ca.crt"});
    let path = scratch.kubeconfig(cluster, json!({"token": "hunter2"}));
    let client = Client::new(
        Access::kubeconfig(&path).unwrap(),
        Duration::from_millis(200),
    );
    let start = Instant::now();
    let error = get(&client).unwrap_err();
    assert!(matches!(error.cause, Cause::Connect(_)), "{error:?}");
    assert!(
        start.elapsed() > Duration::from_millis(50),
        "it was tried again"
    );
    let text = error.to_string();
    assert!(
        text.contains("refused") && text.contains(&path.display().to_string()),
        "{text}"
    );
}

/// A server with a certificate that is wrong, and what is said about it.
fn tls_error(certified: impl Fn(&Authority) -> crate::pki::Certified) -> String {
    let authority = Authority::new();
    let certified = Some(certified(&authority));
    let server = Server::of(
        authority,
        Options {
            certified,
            ..Options::default()
        },
    );
    let start = Instant::now();
    let error = get(&server.client(LIMIT)).unwrap_err();
    assert!(matches!(error.cause, Cause::Tls(_)), "{error:?}");
    assert!(!error.is_temporary());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "no second try helps"
    );
    assert!(server.seen().is_empty());
    error.to_string()
}

#[test]
fn a_certificate_that_is_wrong_is_told() {
    let text = tls_error(|_| Authority::new().certify(&["127.0.0.1"]));
    assert!(
        text.contains("is not signed by the authority of") && text.contains("ca.crt"),
        "{text}"
    );
    let text = tls_error(|authority| authority.certify_expired(&["127.0.0.1"]));
    assert!(text.contains("expired at 2021-02-03T00:00:00Z"), "{text}");
    let text = tls_error(|authority| authority.certify(&["kubernetes", "10.96.0.1"]));
    assert!(
        text.contains("is not for \"127.0.0.1\"") && text.contains("10.96.0.1"),
        "{text}"
    );
}

#[test]
fn a_server_without_tls_is_told() {
    let server = Server::plain();
    let error = get(&server.client(LIMIT)).unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

/// What each request that writes does after a try that may have been carried out.
#[test]
fn what_may_have_been_carried_out_is_repeated_only_where_that_is_safe() {
    let passing: [fn() -> Reply; 3] = [
        || failure(500, "InternalError"),
        || Reply::CutBeforeHeaders,
        || Reply::CutInBody,
    ];
    let pod: Pod = serde_json::from_value(pod()).unwrap();
    let named = Event::about_pod(&pod, "multus", k8s::EventType::Normal, "R", "m");
    let runtime = Runtime::new().unwrap();
    for fault in passing {
        let server = Server::new();
        let client = server.client(LIMIT);
        let (pods, events) = (
            client.namespaced::<Pod>("n"),
            client.namespaced::<Event>("n"),
        );
        // Again.
        server.replies([fault(), ok(), fault(), ok(), fault(), ok(), fault(), ok()]);
        runtime.block_on(pods.replace(&pod)).unwrap();
        runtime.block_on(pods.merge_patch("p", &json!({}))).unwrap();
        runtime.block_on(events.create(&named)).unwrap();
        runtime
            .block_on(pods.delete("p", &Preconditions::default()))
            .unwrap();
        assert_eq!(server.seen().len(), 8);
        // Not again.
        server.replies([fault()]);
        let error = runtime.block_on(pods.json_patch("p", &[])).unwrap_err();
        assert!(error.maybe_applied, "{error:?}");
        server.replies([fault()]);
        let error = runtime
            .block_on(events.create(&Event::default()))
            .unwrap_err();
        assert!(error.maybe_applied, "{error:?}");
        assert_eq!(server.seen().len(), 10);
        // The first try was carried out.
        server.replies([
            fault(),
            failure(409, "AlreadyExists"),
            fault(),
            failure(404, "NotFound"),
        ]);
        let error = runtime.block_on(events.create(&named)).unwrap_err();
        assert!(
            error.is_already_exists() && error.maybe_applied,
            "{error:?}"
        );
        runtime
            .block_on(pods.delete("p", &Preconditions::default()))
            .unwrap();
    }
}

#[test]
fn what_was_turned_away_is_repeated_always() {
    let server = Server::new();
    server.replies([
        failure(429, "TooManyRequests"),
        ok(),
        failure(429, "TooManyRequests"),
        ok(),
    ]);
    let client = server.client(LIMIT);
    let runtime = Runtime::new().unwrap();
    runtime
        .block_on(client.namespaced::<Pod>("n").json_patch("p", &[]))
        .unwrap();
    runtime
        .block_on(client.namespaced::<Event>("n").create(&Event::default()))
        .unwrap();
}

#[test]
fn a_conflict_passes_where_nothing_is_demanded() {
    let server = Server::new();
    let pods = server.client(LIMIT).namespaced::<Pod>("n");
    let runtime = Runtime::new().unwrap();
    server.replies([failure(409, "Conflict"), ok()]);
    runtime
        .block_on(pods.merge_patch("p", &json!({"metadata": {"annotations": {"a": "b"}}})))
        .unwrap();
    server.replies([failure(409, "Conflict")]);
    let demanding = json!({"metadata": {"resourceVersion": "1"}});
    let error = runtime
        .block_on(pods.merge_patch("p", &demanding))
        .unwrap_err();
    assert!(
        error.is_conflict() && !error.is_already_exists(),
        "{error:?}"
    );
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_late_answer_to_a_write_may_have_been_carried_out() {
    let server = Server::new();
    server.replies([Reply::Late(Duration::from_secs(3), pod())]);
    let pods = server
        .client(Duration::from_millis(200))
        .namespaced::<Pod>("n");
    let error = Runtime::new()
        .unwrap()
        .block_on(pods.merge_patch("p", &json!({})))
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::Timeout(_)) && error.maybe_applied,
        "{error:?}"
    );
}
