//! What happens while it runs: tokens are renewed, configurations come, change and go, and it is told to end.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::node::{CALICO, Node, until};

const KUBECONFIG: &str = "net.d/multus.d/multus.kubeconfig";

#[test]
fn a_new_token_is_in_the_kubeconfig_at_once_whatever_the_flags() {
    for flags in [
        &[][..],
        &["--cleanup-config-on-exit"],
        &["--skip-config-watch"],
    ] {
        let node = Node::new();
        let _running = node.install(flags);
        node.write("account/token", "second-token");
        until(
            || node.read(KUBECONFIG).contains("second-token"),
            || node.read(KUBECONFIG),
        );
        assert_eq!(node.mode(KUBECONFIG), 0o600);
    }
}

/// The kubelet writes a new folder and lets one link point to it.
#[test]
fn a_token_is_followed_the_way_the_kubelet_renews_it() {
    let node = Node::new();
    let account = node.path("account");
    let authority = node.read("account/ca.crt");
    for name in ["token", "ca.crt"] {
        fs::remove_file(account.join(name)).unwrap();
        symlink(format!("..data/{name}"), account.join(name)).unwrap();
    }
    let renew = |round: &str| {
        let folder = account.join(format!("..{round}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("token"), format!("{round}-token")).unwrap();
        fs::write(folder.join("ca.crt"), &authority).unwrap();
        symlink(format!("..{round}"), account.join("..data_tmp")).unwrap();
        fs::rename(account.join("..data_tmp"), account.join("..data")).unwrap();
    };
    renew("first");
    let _running = node.install(&[]);
    renew("second");
    until(
        || node.read(KUBECONFIG).contains("second-token"),
        || node.read(KUBECONFIG),
    );
}

#[test]
fn a_token_that_is_gone_or_empty_changes_nothing() {
    let node = Node::new();
    let running = node.install(&[]);
    let before = node.read(KUBECONFIG);
    node.write("account/token", "");
    running.says("token: no token in it");
    node.remove("account/token");
    running.says("token: No such file");
    assert_eq!(node.read(KUBECONFIG), before);
    node.write("account/token", "third-token");
    until(
        || node.read(KUBECONFIG).contains("third-token"),
        || node.read(KUBECONFIG),
    );
}

#[test]
fn it_waits_for_the_primary_configuration() {
    let node = Node::empty();
    let running = node.start(&[]);
    running.says("waiting for one");
    assert!(node.is_there("bin/multus") && node.is_there(KUBECONFIG));
    assert!(!node.is_there("net.d/00-multus.conf"));
    // Half of it, then all of it.
    node.write("net.d/10-calico.conflist", &CALICO[..40]);
    running.says("10-calico.conflist: ");
    assert!(!node.is_there("net.d/00-multus.conf"));
    node.write("net.d/10-calico.conflist", CALICO);
    running.says("00-multus.conf: written");
    assert_eq!(node.conf()["delegates"][0]["name"], "k8s-pod-network");
}

#[test]
fn a_change_of_the_primary_configuration_is_followed() {
    let node = Node::new();
    let running = node.install(&[]);
    node.write("net.d/.new", &CALICO.replace("1410", "1400"));
    fs::rename(
        node.path("net.d/.new"),
        node.path("net.d/10-calico.conflist"),
    )
    .unwrap();
    running.says_times("00-multus.conf: written", 2);
    assert_eq!(node.conf()["delegates"][0]["plugins"][0]["mtu"], 1400);
    // Shorter than before: nothing of the longer one stays.
    node.write(
        "net.d/10-calico.conflist",
        r#"{"cniVersion":"0.3.1","name":"x","type":"bridge"}"#,
    );
    running.says_times("00-multus.conf: written", 3);
    assert_eq!(node.conf()["delegates"][0]["type"], "bridge");
    // A version that asks for the other form.
    node.write(
        "net.d/10-calico.conflist",
        &CALICO.replace("0.3.1", "1.0.0"),
    );
    running.says("00-multus.conflist: written");
    until(
        || !node.is_there("net.d/00-multus.conf"),
        || "two configurations".into(),
    );
}

#[test]
fn a_primary_configuration_that_goes_or_breaks_changes_nothing() {
    let node = Node::new();
    node.write(
        "net.d/87-podman.conf",
        r#"{"cniVersion":"0.3.1","name":"podman","type":"bridge"}"#,
    );
    let running = node.install(&[]);
    let before = node.read("net.d/00-multus.conf");
    for broken in [
        "",
        "{",
        "[]",
        r#"{"cniVersion":"9.9.9","name":"x","type":"y"}"#,
        r#"{"name":"x","type":"y"}"#,
    ] {
        node.write("net.d/10-calico.conflist", broken);
        node.write("account/token", &format!("token{}", broken.len()));
        until(
            || {
                node.read(KUBECONFIG)
                    .contains(&format!("token{}\"", broken.len()))
            },
            || running.log(),
        );
        assert_eq!(node.read("net.d/00-multus.conf"), before, "{broken}");
    }
    node.remove("net.d/10-calico.conflist");
    fs::rename(node.path("net.d/87-podman.conf"), node.path("podman")).unwrap();
    node.remove("net.d/00-multus.conf");
    running.says_times("00-multus.conf: written", 2);
    assert_eq!(
        node.read("net.d/00-multus.conf"),
        before,
        "removed by somebody, and written again"
    );
    node.write("net.d/10-calico.conflist", &CALICO.replace("1410", "1300"));
    running.says_times("00-multus.conf: written", 3);
}

#[test]
fn changes_are_not_followed_when_nobody_wants_that() {
    let node = Node::new();
    let running = node.install(&["--skip-config-watch"]);
    let before = node.read("net.d/00-multus.conf");
    node.write("net.d/10-calico.conflist", &CALICO.replace("1410", "1400"));
    node.write("account/token", "later-token");
    until(
        || node.read(KUBECONFIG).contains("later-token"),
        || running.log(),
    );
    assert_eq!(node.read("net.d/00-multus.conf"), before);
}

#[test]
fn the_end_takes_the_configuration_along_when_asked_to() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let node = Node::new();
        let ended = node.install(&["--cleanup-config-on-exit"]).end(signal);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(!node.is_there("net.d/00-multus.conf"));
        assert!(node.is_there("net.d/10-calico.conflist"));
    }
    let node = Node::new();
    assert_eq!(node.install(&[]).end(Signal::SIGTERM).code, Some(0));
    assert!(node.is_there("net.d/00-multus.conf"), "nobody asked");
}

#[test]
fn what_somebody_else_wrote_stays_at_the_end() {
    let node = Node::new();
    let running = node.install(&["--cleanup-config-on-exit"]);
    node.write("net.d/00-multus.conf", "{\"mine\":1}");
    let ended = running.end(Signal::SIGTERM);
    assert!(ended.stderr.contains("left alone"), "{}", ended.stderr);
    assert_eq!(node.read("net.d/00-multus.conf"), "{\"mine\":1}");
}

#[test]
fn a_primary_that_is_renamed_is_found_again_and_gets_its_name_back() {
    let node = Node::new();
    let running = node.install(&["--rename-conf-file"]);
    running.says("10-calico.conflist.old now");
    assert!(!node.is_there("net.d/10-calico.conflist"));
    let before = node.read("net.d/00-multus.conf");
    assert_eq!(running.end(Signal::SIGTERM).code, Some(0));
    let running = node.start(&["--rename-conf-file", "--cleanup-config-on-exit"]);
    node.write("account/token", "later-token");
    until(
        || node.read(KUBECONFIG).contains("later-token"),
        || running.log(),
    );
    assert_eq!(node.read("net.d/00-multus.conf"), before);
    running.end(Signal::SIGTERM);
    assert_eq!(node.read("net.d/10-calico.conflist"), CALICO);
    assert!(!node.is_there("net.d/00-multus.conf"));
}

#[test]
fn a_folder_that_goes_ends_it() {
    let node = Node::new();
    let running = node.install(&[]);
    fs::remove_dir_all(node.path("account")).unwrap();
    let ended = running.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is gone"), "{}", ended.stderr);
}
