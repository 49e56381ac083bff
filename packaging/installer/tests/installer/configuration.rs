//! What is generated from which primary configuration and flags.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::node::{CALICO, Node};

#[test]
fn a_list_with_its_capabilities_and_all_flags() {
    let node = Node::new();
    let running = node.install(&[
        "--cni-version=0.3.1",
        "--namespace-isolation",
        "--global-namespaces",
        "default,kube-system",
        "--multus-log-to-stderr=false",
        "--multus-log-level=Debug",
        "--multus-log-file=/var/log/multus.log",
        "--additional-bin-dir=/opt/more",
        "--readiness-indicator-file=/run/ready",
        "--multus-kubeconfig-file-host=/etc/k",
        "--override-network-name",
    ]);
    let conf_dir = node.path("multus-net.d");
    let expected = format!(
        r#"{{
    "cniVersion": "0.3.1",
    "name": "k8s-pod-network",
    "type": "multus",
    "capabilities": {{
        "bandwidth": true,
        "portMappings": true
    }},
    "namespaceIsolation": true,
    "globalNamespaces": "default,kube-system",
    "logToStderr": false,
    "logLevel": "debug",
    "logFile": "/var/log/multus.log",
    "binDir": "/opt/more",
    "confDir": "{}",
    "readinessindicatorfile": "/run/ready",
    "kubeconfig": "/etc/k",
    "delegates": [
        {{
            "cniVersion": "0.3.1",
            "name": "k8s-pod-network",
            "plugins": [{{"type":"calico","mtu":1410,"capabilities":{{"bandwidth":true}}}},{{"type":"portmap","snat":true,"capabilities":{{"portMappings":true}}}}]
        }}
    ]
}}
"#,
        conf_dir.display()
    );
    assert_eq!(node.read("net.d/00-multus.conf"), expected);
    assert_eq!(node.mode("net.d/00-multus.conf"), 0o600);
    assert!(conf_dir.is_dir(), "confDir is made");
    assert!(!node.is_there("net.d/00-multus.conflist"));
    drop(running);
}

#[test]
fn without_flags_there_is_not_more_than_needed() {
    let node = Node::empty();
    node.write(
        "net.d/10-one.conf",
        r#"{"cniVersion":"0.4.0","name":"one","type":"bridge","n":1.50e400,"capabilities":{"mac":true,"ips":false}}"#,
    );
    let _running = node.install(&[]);
    let expected = format!(
        r#"{{
    "cniVersion": "0.4.0",
    "name": "multus-cni-network",
    "type": "multus",
    "capabilities": {{
        "ips": false,
        "mac": true
    }},
    "confDir": "{}",
    "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
    "delegates": [
        {{
            "cniVersion": "0.4.0",
            "name": "one",
            "type": "bridge",
            "n": 1.50e400,
            "capabilities": {{"mac":true,"ips":false}}
        }}
    ]
}}
"#,
        node.path("multus-net.d").display()
    );
    assert_eq!(
        node.read("net.d/00-multus.conf"),
        expected,
        "every byte of the delegate stays"
    );
}

#[test]
fn from_version_1_0_0_on_it_is_a_list() {
    for version in ["1.0.0", "1.1.0"] {
        let node = Node::empty();
        node.write("net.d/10-one.conflist", &CALICO.replace("0.3.1", version));
        // The one of a time when the version was lower.
        node.write("net.d/00-multus.conf", "{}");
        let _running = node.install(&[
            "--namespace-isolation",
            "--global-namespaces=default",
            "--multus-log-to-stderr=false",
            "--multus-log-level=error",
            "--multus-log-file=/var/log/multus.log",
            "--additional-bin-dir=/opt/more",
            "--readiness-indicator-file=/run/ready",
        ]);
        let expected = format!(
            r#"{{
    "cniVersion": "{version}",
    "name": "multus-cni-network",
    "plugins": [
        {{
            "type": "multus",
            "capabilities": {{
                "bandwidth": true,
                "portMappings": true
            }},
            "namespaceIsolation": true,
            "globalNamespaces": "default",
            "logToStderr": false,
            "logLevel": "error",
            "logFile": "/var/log/multus.log",
            "binDir": "/opt/more",
            "confDir": "{}",
            "readinessindicatorfile": "/run/ready",
            "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
            "delegates": [
                {{
                    "cniVersion": "{version}",
                    "name": "k8s-pod-network",
                    "plugins": [{{"type":"calico","mtu":1410,"capabilities":{{"bandwidth":true}}}},{{"type":"portmap","snat":true,"capabilities":{{"portMappings":true}}}}]
                }}
            ]
        }}
    ]
}}
"#,
            node.path("multus-net.d").display()
        );
        assert_eq!(node.read("net.d/00-multus.conflist"), expected);
        assert_eq!(node.mode("net.d/00-multus.conflist"), 0o600);
        crate::node::until(
            || !node.is_there("net.d/00-multus.conf"),
            || "two configurations".into(),
        );
    }
}

#[test]
fn the_first_one_is_taken_or_the_one_that_is_named() {
    let conf =
        |name: &str| json!({"cniVersion": "0.3.1", "name": name, "type": "bridge"}).to_string();
    let node = Node::empty();
    node.write("net.d/20-b.conf", &conf("b"));
    node.write("net.d/10-a.conf", &conf("a"));
    node.write("net.d/05-c.json", &conf("json"));
    node.write("net.d/.01-hidden.conf", &conf("hidden"));
    let running = node.install(&[]);
    assert_eq!(node.conf()["delegates"][0]["name"], "a");
    running.end(Signal::SIGTERM);
    let running = node.start(&["--multus-master-cni-file-name=20-b.conf"]);
    running.says("written");
    assert_eq!(node.conf()["delegates"][0]["name"], "b");
}

#[test]
fn a_version_can_be_forced() {
    let node = Node::new();
    let _running = node.install(&["--cni-version=0.4.0", "--force-cni-version"]);
    let conf = node.conf();
    assert_eq!(
        (&conf["cniVersion"], &conf["delegates"][0]["cniVersion"]),
        (&json!("0.4.0"), &json!("0.4.0"))
    );
}

#[test]
fn it_never_calls_itself() {
    let node = Node::new();
    let multus = r#"{"cniVersion":"0.3.1","name":"m","type":"multus","delegates":[]}"#;
    node.write("net.d/00-multus-old.conf", multus);
    node.write("net.d/01-other-name.conf", multus);
    node.write(
        "net.d/02-shim.conflist",
        r#"{"cniVersion":"0.3.1","name":"m","plugins":[{"type":"bridge"},{"type":"multus-shim"}]}"#,
    );
    let running = node.start(&[]);
    running.says("net.d/00-multus.conf: written");
    assert_eq!(node.conf()["delegates"][0]["name"], "k8s-pod-network");
    let log = running.log();
    assert!(
        log.contains("01-other-name.conf: it is one of multus itself") && log.contains("02-shim"),
        "{log}"
    );
}

#[test]
fn a_configuration_of_ones_own_is_copied() {
    let node = Node::new();
    let own = r#"{"cniVersion":"0.3.1","name":"own","type":"multus","delegates":[{"type":"bridge","name":"b"}]}"#;
    let file = node.write("image/70-multus.conf", own);
    let running = node.start(&[
        "--multus-conf-file",
        file.to_str().unwrap(),
        "--skip-multus-binary-copy",
    ]);
    running.says("70-multus.conf: written");
    assert_eq!(node.read("net.d/70-multus.conf"), own);
    node.write("image/70-multus.conf", "{");
    running.says("70-multus.conf: ");
    node.write("image/70-multus.conf", &own.replace("own", "new"));
    running.says_times("70-multus.conf: written", 2);
    assert!(node.read("net.d/70-multus.conf").contains("new"));
    assert!(!node.is_there("net.d/00-multus.conf") && !node.is_there("bin/multus"));
    assert_eq!(running.end(Signal::SIGTERM).code, Some(0));
    assert!(node.is_there("net.d/70-multus.conf"));
}

/// The API server has an IPv6 address here.
#[test]
fn the_kubeconfig_is_this_text() {
    let node = Node::new();
    let _running = node.install(&[]);
    assert_eq!(node.mode("net.d/multus.d/multus.kubeconfig"), 0o600);
    assert_eq!(
        node.read("net.d/multus.d/multus.kubeconfig"),
        "# Written by multus-installer, and again whenever the service account changes.
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: https://[fd00::1]:443
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
users:
- name: multus
  user:
    token: \"first-token\"
contexts:
- name: multus-context
  context:
    cluster: local
    user: multus
current-context: multus-context
"
    );
}
