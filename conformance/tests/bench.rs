//! The program `cni-bench` as a person meets it, over plugins that are scripts.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a host-local that is this script.
fn host_local(name: &str, script: &str) -> PathBuf {
    folder(name, "host-local", script)
}

/// A folder with a plugin that is this script.
fn folder(name: &str, plugin: &str, script: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(plugin);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn bench(ours: &Path, peer: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cni-bench"))
        .args(["--rounds", "1", "--bin-dir"])
        .arg(ours)
        .arg("--peer")
        .arg(peer)
        .output()
        .unwrap()
}

/// Gives every container an address of its own.
const GOOD: &str = r#"cat >/dev/null; echo "{\"ips\":[{\"address\":\"$CNI_CONTAINERID\"}]}""#;

#[test]
fn costs_and_bursts_are_shown_side_by_side() {
    let (ours, peer) = (host_local("good", GOOD), host_local("bad", "exit 7"));
    let output = bench(&ours, &peer);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for line in [
        "host-local, empty pool ADD",
        "host-local, 10,000 reservations DEL",
        "macvlan + host-local                          left out: there is no such plugin",
        "  peer failed: ",
        "multus, 3 networks                            left out: there is no such plugin",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let burst = text.lines().find(|line| line.contains("64 at once"));
    let numbers: Vec<&str> = burst.unwrap().split_whitespace().rev().take(4).collect();
    assert_eq!(
        numbers,
        ["0", "0", "64", "0"],
        "twice and failed, from the right: {text}"
    );
}

#[test]
fn what_is_wrong_with_ours_is_the_exit_status() {
    let good = host_local("good-peer", GOOD);
    let failing = bench(&host_local("failing", "echo no; exit 1"), &good);
    assert_eq!(failing.status.code(), Some(1), "{failing:?}");
    let same = r#"echo "{\"ips\":[{\"address\":\"10.77.0.2\"}]}""#;
    let twice = bench(&host_local("twice", same), &good);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    let nothing = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let nothing = bench(nothing, nothing);
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
}

#[test]
fn a_multus_that_attaches_nothing_is_not_just_quick() {
    let idle = folder("idle", "multus", "cat >/dev/null; echo {}");
    let nothing = host_local("no-peer", GOOD);
    let output = bench(&idle, &nothing);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.contains("ours made 4 calls of delegates instead of 16"),
        "{text}"
    );
    assert!(
        text.contains(
            "multus, 50 pods, 8 at a time                  left out: there is no such plugin"
        ),
        "{text}"
    );
}
