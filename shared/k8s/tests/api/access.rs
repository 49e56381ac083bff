//! Kubeconfigs and service accounts: what is taken, what is refused, and what a server makes of it.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s::{Access, Cause, Client, Error, Pod, Runtime};
use serde_json::{Value, json};

use crate::pki::Authority;
use crate::server::{Options, Reply, Scratch, Server};

const LIMIT: Duration = Duration::from_secs(5);

fn get(access: Access) -> Result<Pod, Error> {
    let pods = Client::new(access, LIMIT).namespaced::<Pod>("n");
    Runtime::new().unwrap().block_on(pods.get("p"))
}

fn pod() -> Reply {
    Reply::Json(200, json!({"metadata": {"name": "p"}}))
}

fn refused(cluster: Value, user: Value) -> String {
    let scratch = Scratch::new();
    scratch.write("empty", "");
    let path = scratch.kubeconfig(cluster, user);
    let error = Access::kubeconfig(&path).unwrap_err();
    assert!(matches!(error.cause, Cause::Access(_)), "{error:?}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("kubeconfig {}: ", path.display())),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    text
}

#[test]
fn yaml_as_kubectl_and_upstream_write_it() {
    let server = Server::new();
    server.replies([pod()]);
    let data = STANDARD.encode(server.authority.pem());
    let yaml = format!(
        "# Kubeconfig file for Multus CNI plugin.\napiVersion: v1\nkind: Config\nclusters:\n- name: local\n  cluster:\n    \
         server: https://{}\n    certificate-authority-data: {data}\nusers:\n- name: multus\n  user:\n    \
         token: \"secret-token\"\ncontexts:\n- name: multus-context\n  context:\n    cluster: local\n    user: multus\n\
         current-context: multus-context\npreferences: {{}}\n",
        server.address
    );
    let path = server.scratch.write("config", &yaml);
    get(Access::kubeconfig(&path).unwrap()).unwrap();
    assert_eq!(server.seen()[0].authorization, "Bearer secret-token");
}

#[test]
fn tls_is_always_verified() {
    let data = STANDARD.encode(Authority::new().pem());
    let server = "https://127.0.0.1:1";
    let insecure = json!({"server": server, "insecure-skip-tls-verify": true});
    let text = refused(insecure, json!({"token": "hunter2"}));
    assert!(
        text.contains("insecure-skip-tls-verify is refused")
            && text.contains("certificate-authority-data"),
        "{text}"
    );
    let text = refused(json!({"server": server}), json!({"token": "hunter2"}));
    assert!(text.contains("certificate-authority-data"), "{text}");
    let proxied =
        json!({"server": server, "certificate-authority-data": data, "proxy-url": "http://proxy"});
    assert!(refused(proxied, json!({})).contains("proxy-url"));
}

#[test]
fn what_we_can_not_do_is_refused_with_a_word_of_what_to_do() {
    let cluster = json!({"server": "https://127.0.0.1:1",
        "certificate-authority-data": STANDARD.encode(Authority::new().pem())});
    for (user, word) in [
        (json!({"exec": {"command": "aws"}}), "exec"),
        (json!({"auth-provider": {"name": "gcp"}}), "auth-provider"),
        (
            json!({"username": "admin", "password": "hunter2"}),
            "username",
        ),
        (json!({"token": "hunter2", "as": "root"}), "impersonation"),
        (
            json!({"token": "hunter2", "as-groups": ["system:masters"]}),
            "impersonation",
        ),
        (json!({"token": "hunter2\nX-Header: x"}), "token"),
        (json!({"tokenFile": "none"}), "none: No such file"),
        (json!({"tokenFile": "empty"}), "the token is empty"),
        (
            json!({"client-certificate": "none", "client-key": "none"}),
            "none: No such file",
        ),
        (json!({"client-certificate": "empty"}), "no client-key"),
        (json!({"client-key": "empty"}), "no client-certificate"),
        (
            json!({"client-certificate": "empty", "client-key": "empty"}),
            "no certificate",
        ),
        (json!({"client-certificate-data": "%"}), "no base64"),
    ] {
        let text = refused(cluster.clone(), user.clone());
        assert!(text.contains(word), "{user}: {text}");
    }
    for (cluster, word) in [
        (json!({}), "no server"),
        (json!({"server": "gopher://x"}), "gopher"),
        (
            json!({"server": "https://h", "certificate-authority": "none"}),
            "none: No such file",
        ),
        (
            json!({"server": "https://h", "certificate-authority": "empty"}),
            "no certificate",
        ),
        (
            json!({"server": "https://h", "certificate-authority-data": STANDARD.encode("x")}),
            "no certificate",
        ),
    ] {
        let text = refused(cluster.clone(), json!({"token": "hunter2"}));
        assert!(text.contains(word), "{cluster}: {text}");
    }
}

#[test]
fn names_lead_from_the_context_on_or_are_named() {
    let scratch = Scratch::new();
    for (config, word) in [
        ("", "empty"),
        ("]", ""),
        ("{", ""),
        ("[]", ""),
        ("clusters: null\n", "current-context"),
        ("current-context: x\n", "context \"x\""),
        (
            "current-context: x\ncontexts: [{name: x}]\n",
            "names no cluster",
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n",
            "cluster \"c\"",
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c}]\n",
            "user \"u\"",
        ),
    ] {
        let path = scratch.write("config", config);
        let text = Access::kubeconfig(&path).unwrap_err().to_string();
        assert!(text.contains(word), "{config:?}: {text}");
    }
    let text = Access::kubeconfig(&scratch.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("No such file"), "{text}");
}

#[test]
fn http_gets_no_credentials() {
    let server = Server::plain();
    server.replies([pod(), Reply::Json(401, json!({}))]);
    let cluster = json!({"server": format!("http://{}", server.address)});
    let path = server
        .scratch
        .kubeconfig(cluster, json!({"token": "hunter2"}));
    get(Access::kubeconfig(&path).unwrap()).unwrap();
    assert_eq!(server.seen()[0].authorization, "");
    let text = get(Access::kubeconfig(&path).unwrap())
        .unwrap_err()
        .to_string();
    assert!(text.contains("no credentials are sent over http"), "{text}");
}

#[test]
fn a_token_file_is_read_by_each_process_anew() {
    let server = Server::new();
    server.replies([pod(), pod(), pod()]);
    let path = server.kubeconfig(json!({"tokenFile": "token", "token": "fallback"}));
    for (content, sent) in [
        (Some("first\n"), "first"),
        (Some("second"), "second"),
        (None, "fallback"),
    ] {
        match content {
            Some(content) => drop(server.scratch.write("token", content)),
            None => std::fs::remove_file(server.scratch.path().join("token")).unwrap(),
        }
        get(Access::kubeconfig(&path).unwrap()).unwrap();
        assert_eq!(
            server.seen().last().unwrap().authorization,
            format!("Bearer {sent}")
        );
    }
}

#[test]
fn a_service_account_by_ipv4_and_ipv6() {
    for (address, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let server = Server::with(Options {
            address,
            ..Options::default()
        });
        server.replies([pod()]);
        server.scratch.write("token", "account-token");
        server.scratch.write("ca.crt", &server.authority.pem());
        let port = server.address.port();
        let access = Access::in_cluster(host, port, server.scratch.path()).unwrap();
        get(access).unwrap();
        assert_eq!(server.seen()[0].authorization, "Bearer account-token");
    }
    let text = Access::in_cluster("127.0.0.1", 1, Path::new("/nonexistent"))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("service account /nonexistent: /nonexistent/ca.crt: No such file"),
        "{text}"
    );
}

/// Each of the formats in which tools write keys.
const KEYS: [(&str, &str, &str); 4] = [
    (
        "RSA PKCS#1",
        include_str!("keys/rsa-pkcs1.pem"),
        include_str!("keys/rsa-pkcs8.pem"),
    ),
    (
        "RSA PKCS#8",
        include_str!("keys/rsa-pkcs8.pem"),
        include_str!("keys/rsa-pkcs8.pem"),
    ),
    (
        "EC SEC1",
        include_str!("keys/ec-sec1.pem"),
        include_str!("keys/ec-pkcs8.pem"),
    ),
    (
        "EC PKCS#8",
        include_str!("keys/ec-pkcs8.pem"),
        include_str!("keys/ec-pkcs8.pem"),
    ),
];

fn mutual() -> Server {
    Server::with(Options {
        client_certificates: true,
        ..Options::default()
    })
}

#[test]
fn client_certificates_with_keys_of_every_format() {
    for (format, key, pkcs8) in KEYS {
        let server = mutual();
        server.replies([pod(), pod()]);
        let certificate = server.authority.certify_key(pkcs8).certificate;
        server.scratch.write("client.crt", &certificate);
        server.scratch.write("client.key", key);
        let files = json!({"client-certificate": "client.crt", "client-key": "client.key"});
        let data = json!({"client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key)});
        for user in [files, data] {
            let path = server.kubeconfig(user);
            get(Access::kubeconfig(&path).unwrap()).unwrap_or_else(|e| panic!("{format}: {e}"));
        }
        assert_eq!(server.seen()[0].authorization, "");
    }
}

#[test]
fn a_client_certificate_that_is_missing_or_of_strangers_is_told() {
    let server = mutual();
    let path = server.kubeconfig(json!({"token": "hunter2"}));
    let error = get(Access::kubeconfig(&path).unwrap()).unwrap_err();
    assert!(matches!(error.cause, Cause::Tls(_)), "{error:?}");
    assert!(
        error.to_string().contains("asks for a client certificate"),
        "{error}"
    );
    let stranger = Authority::new().certify(&["client"]);
    server.scratch.write("client.crt", &stranger.certificate);
    server.scratch.write("client.key", &stranger.key);
    let path =
        server.kubeconfig(json!({"client-certificate": "client.crt", "client-key": "client.key"}));
    let error = get(Access::kubeconfig(&path).unwrap()).unwrap_err();
    assert!(error.to_string().contains("client.crt"), "{error}");
    let other = Authority::new().certify(&["client"]);
    server.scratch.write("client.key", &other.key);
    let error = Access::kubeconfig(&path).unwrap_err();
    assert!(
        error.to_string().contains("can't be used together"),
        "{error}"
    );
}

#[test]
fn tls_server_name_is_what_the_certificate_has_to_be_for() {
    let authority = Authority::new();
    let certified = Some(authority.certify(&["kubernetes.default.svc"]));
    let server = Server::of(
        authority,
        Options {
            certified,
            ..Options::default()
        },
    );
    server.replies([pod()]);
    let error = get(Access::kubeconfig(&server.kubeconfig(json!({}))).unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("kubernetes.default.svc") && text.contains("tls-server-name"),
        "{text}"
    );
    let cluster = json!({"server": format!("https://{}", server.address), "certificate-authority": "ca.crt",
        "tls-server-name": "kubernetes.default.svc"});
    let path = server.scratch.kubeconfig(cluster, json!({}));
    get(Access::kubeconfig(&path).unwrap()).unwrap();
}

#[test]
fn a_path_before_the_api_is_kept() {
    let server = Server::new();
    server.replies([pod()]);
    server.kubeconfig(json!({}));
    let cluster = json!({"server": format!("https://{}/k8s/clusters/c-1/", server.address), "certificate-authority": "ca.crt"});
    let path = server.scratch.kubeconfig(cluster, json!({}));
    get(Access::kubeconfig(&path).unwrap()).unwrap();
    assert_eq!(
        server.seen()[0].path,
        "/k8s/clusters/c-1/api/v1/namespaces/n/pods/p"
    );
}

#[test]
fn an_expired_token_is_told_with_its_file_and_time() {
    let server = Server::new();
    let unauthorized =
        json!({"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"});
    server.replies([
        Reply::Json(401, unauthorized.clone()),
        Reply::Json(401, unauthorized),
    ]);
    let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
    let token = server.scratch.write("token", &format!("e30.{claims}.c2ln"));
    let path = server.kubeconfig(json!({"tokenFile": "token"}));
    let error = get(Access::kubeconfig(&path).unwrap()).unwrap_err();
    assert_eq!(error.code(), Some(401));
    let text = error.to_string();
    assert!(
        text.contains(&format!(
            "{} expired at 2023-11-14T22:13:20Z",
            token.display()
        )),
        "{text}"
    );
    assert!(!text.contains(&claims), "{text}");
    server.scratch.write("token", "hunter2");
    let text = get(Access::kubeconfig(&path).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("is not accepted") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn nothing_secret_is_in_a_debug_text() {
    let server = Server::new();
    let path = server.kubeconfig(json!({"token": "hunter2"}));
    let access = Access::kubeconfig(&path).unwrap();
    let client = Client::new(access.clone(), LIMIT);
    assert!(
        !format!("{access:?}{client:?}{:?}", client.namespaced::<Pod>("n")).contains("hunter2")
    );
}
