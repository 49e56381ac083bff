//! What is wrong is told, ends it with status 1, and changes nothing.

use crate::node::{Node, installer};

/// The installer refuses, says this, and leaves everything as it was.
fn refused(node: &Node, arguments: &[&str], word: &str) {
    let before = node.everything();
    let ended = node.start(arguments).wait();
    assert_eq!(ended.code, Some(1), "{arguments:?}: {}", ended.stderr);
    assert!(
        ended.stderr.contains(word),
        "{arguments:?}: {}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("first-token"), "{}", ended.stderr);
    assert_eq!(node.everything(), before, "{arguments:?}");
    assert!(!node.is_there("multus-net.d"));
}

#[test]
fn flags_that_are_none() {
    let node = Node::new();
    for (argument, word) in [
        ("--nonsense", "there is no flag --nonsense"),
        ("nonsense", "nonsense"),
        ("-x", "-x"),
        ("--skip-tls-verify", "always verifies"),
        ("--skip-tls-verify=true", "always verifies"),
        ("--multus-log-level=loud", "debug, verbose, error, panic"),
        ("--cni-version=1", "0.1.0"),
        ("--cni-version", "needs a value"),
        ("--cni-bin-dir=", "needs a value"),
        ("--namespace-isolation=maybe", "true or false"),
        ("--force-cni-version", "needs a --cni-version"),
        ("--multus-master-cni-file-name=../x.conf", "not a path"),
        ("--cni-bin-dir=/nonexistent", "/nonexistent"),
        ("--cni-conf-dir=/nonexistent", "/nonexistent"),
        ("--multus-autoconfig-dir=/nonexistent", "/nonexistent"),
        ("--plugin-dir=/nonexistent", "/nonexistent"),
        ("--service-account-dir=/nonexistent", "/nonexistent"),
        ("--multus-bin-file=/nonexistent", "/nonexistent"),
        ("--multus-conf-file=/nonexistent", "/"),
        ("--cni-version=0.4.0", "its cniVersion is \"0.3.1\""),
    ] {
        refused(&node, &[argument], word);
    }
}

#[test]
fn switches_take_go_s_spellings() {
    let node = Node::new();
    let running = node.install(&[
        "--skip-tls-verify=false",
        "--namespace-isolation=T",
        "--rename-conf-file=0",
    ]);
    assert_eq!(node.conf()["namespaceIsolation"], true);
    drop(running);
}

#[test]
fn primary_configurations_that_are_none() {
    for (content, word) in [
        ("", "10-calico.conflist: "),
        ("{", "10-calico.conflist: "),
        ("[]", "10-calico.conflist: "),
        ("{}", "neither 'type' nor 'plugins'"),
        (
            r#"{"cniVersion":"0.3.1","name":"x","plugins":[]}"#,
            "no plugins",
        ),
        (
            r#"{"cniVersion":"0.3.1","name":"x","plugins":[null]}"#,
            "10-calico.conflist: ",
        ),
        (
            r#"{"cniVersion":"0.3.1","plugins":[{"type":"x"}]}"#,
            "no name",
        ),
        (r#"{"cniVersion":"0.3.1","type":"x"}"#, "no name"),
        (r#"{"name":"x","type":"x"}"#, "no cniVersion"),
        (r#"{"cniVersion":"9.9.9","name":"x","type":"x"}"#, "9.9.9"),
        (
            r#"{"cniVersion":"0.3.1","name":"x","type":"x","capabilities":{"a":1}}"#,
            "capabilit",
        ),
        (
            r#"{"cniVersion":"0.3.1","name":"x","type":"x","capabilities":[]}"#,
            "capabilit",
        ),
    ] {
        let node = Node::new();
        node.write("net.d/10-calico.conflist", content);
        refused(&node, &[], word);
    }
    let node = Node::new();
    node.write(
        "net.d/10-m.conf",
        r#"{"cniVersion":"0.3.1","name":"x","type":"multus"}"#,
    );
    refused(
        &node,
        &["--multus-master-cni-file-name=10-m.conf"],
        "would call itself",
    );
}

#[test]
fn service_accounts_that_are_none() {
    for (file, content, word) in [
        ("account/token", "", "no token"),
        ("account/token", "a\"\nb", "no token"),
        ("account/ca.crt", "x", "no certificate"),
    ] {
        let node = Node::new();
        node.write(file, content);
        refused(&node, &[], word);
    }
}

#[test]
fn outside_of_a_pod() {
    let node = Node::new();
    let output = installer()
        .args(["--skip-multus-binary-copy", "--cni-conf-dir"])
        .arg(node.path("net.d"))
        .arg("--multus-autoconfig-dir")
        .arg(node.path("net.d"))
        .arg("--service-account-dir")
        .arg(node.path("account"))
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is this a pod?"));
}

#[test]
fn help_and_version_are_on_stdout() {
    for (flag, word) in [
        ("--help", "--multus-conf-file"),
        ("-h", "--plugin-dir"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let output = installer().arg(flag).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(word),
            "{flag}"
        );
    }
}
