//! The suite is only worth believing if it catches plugins that are wrong: a real plugin (a Go one, from Debian) is wrapped in
//! a shell that breaks one thing, and the requirement for that thing has to fail while others still pass.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The plugins that are broken here. `make test` sees to it that they are there.
const REAL: &str = "/usr/lib/cni";

/// A folder with one broken plugin, and the others as they are.
fn mutant(name: &str, plugin: &str, script: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("mutants")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for other in ["host-local", "macvlan"] {
        let real = Path::new(REAL).join(other);
        assert!(
            real.exists(),
            "{}: install containernetworking-plugins",
            real.display()
        );
        if other != plugin {
            symlink(&real, folder.join(other)).unwrap();
        }
    }
    let file = folder.join(plugin);
    fs::write(
        &file,
        format!("#!/bin/sh\nreal={REAL}/{plugin}\n{script}\n"),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The results of one plugin at one version by requirement: whether every case of it passed.
fn ask(folder: &Path, plugin: &str, version: &str, ids: &[&str]) -> BTreeMap<String, bool> {
    let report = folder.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_cni-conformance"))
        .arg("--bin-dir")
        .arg(folder)
        .arg("--json")
        .arg(&report)
        .args(["--cni-version", version])
        .args(ids.iter().flat_map(|id| ["--id", id]))
        .arg(plugin)
        .output()
        .unwrap();
    assert_ne!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut kept = BTreeMap::new();
    for line in fs::read_to_string(report).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = line["id"].as_str().unwrap().to_owned();
        *kept.entry(id).or_insert(true) &= line["result"] == "pass";
    }
    kept
}

/// The mutant fails every requirement of the first list and passes every one of the second.
fn caught(folder: &Path, plugin: &str, version: &str, fails: &[&str], passes: &[&str]) {
    let kept = ask(folder, plugin, version, &[fails, passes].concat());
    for (ids, expected) in [(fails, false), (passes, true)] {
        for &id in ids {
            assert_eq!(
                kept.get(id),
                Some(&expected),
                "{id} of {}",
                folder.display()
            );
        }
    }
}

#[test]
fn the_real_plugin_passes_what_the_mutants_fail() {
    let folder = mutant("none", "host-local", "exec $real");
    caught(
        &folder,
        "host-local",
        "0.4.0",
        &[],
        &[
            "V1", "V7", "E1", "E13", "N1", "R2", "R3", "R5", "R8", "A1", "D1",
        ],
    );
    caught(&folder, "host-local", "0.3.1", &[], &["V7", "A1"]);
}

#[test]
fn silence() {
    let folder = mutant("silence", "host-local", "exit 0");
    caught(
        &folder,
        "host-local",
        "0.4.0",
        &["V1", "V7", "E1", "N1", "I2", "R3", "R5"],
        &[],
    );
}

#[test]
fn a_log_line_on_stdout() {
    let folder = mutant(
        "log",
        "host-local",
        "echo 'level=info msg=\"hello\"'\nexec $real",
    );
    caught(&folder, "host-local", "0.4.0", &["V1", "V7", "R3"], &[]);
}

#[test]
fn a_log_line_on_stderr_is_fine() {
    let folder = mutant("stderr", "host-local", "echo hello >&2\nexec $real");
    caught(
        &folder,
        "host-local",
        "0.4.0",
        &[],
        &["V1", "V7", "R3", "R5"],
    );
}

#[test]
fn success_whatever_happens() {
    let folder = mutant("success", "host-local", "$real\nexit 0");
    caught(
        &folder,
        "host-local",
        "0.4.0",
        &["E1", "E3", "N1", "I2", "I10", "R5"],
        &["V1", "V7"],
    );
}

#[test]
fn errors_on_stderr() {
    let folder = mutant(
        "errors",
        "host-local",
        "answer=$($real) && echo \"$answer\" && exit 0\necho \"$answer\" >&2\nexit 1",
    );
    caught(
        &folder,
        "host-local",
        "0.4.0",
        &["E1", "N1", "I2", "R2", "R5"],
        &["V1"],
    );
}

#[test]
fn another_version_than_asked() {
    let script = "/bin/sed 's/\"cniVersion\":\"0.3.1\"/\"cniVersion\":\"1.0.0\"/' | $real";
    let folder = mutant("version", "host-local", script);
    caught(
        &folder,
        "host-local",
        "0.3.1",
        &["V7", "A1"],
        &["V1", "E1", "E4"],
    );
    caught(&folder, "host-local", "0.4.0", &[], &["V7", "A1"]);
}

#[test]
fn a_version_too_many() {
    let script = "[ $CNI_COMMAND = VERSION ] || exec $real\n\
                  echo '{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.0.0\",\"1.1.0\"]}'";
    let folder = mutant("claim", "host-local", script);
    caught(&folder, "host-local", "1.1.0", &["V7", "S5"], &["V1"]);
    caught(&folder, "host-local", "1.0.0", &["I10"], &["V1", "V7"]);
}

#[test]
fn del_does_nothing() {
    let folder = mutant(
        "del",
        "host-local",
        "[ $CNI_COMMAND = DEL ] && exit 0\nexec $real",
    );
    caught(
        &folder,
        "host-local",
        "1.0.0",
        &["D1", "D11", "I2"],
        &["V1", "V7", "R8"],
    );
}

#[test]
fn del_twice_fails() {
    let script = "[ $CNI_COMMAND = DEL ] || exec $real\n\
                  request=$(/bin/cat)\n\
                  echo \"$request\" | CNI_COMMAND=CHECK $real && echo \"$request\" | exec $real";
    let folder = mutant("del-twice", "host-local", script);
    caught(&folder, "host-local", "1.0.0", &["D3"], &["V1", "V7", "D1"]);
}

#[test]
fn check_finds_nothing() {
    let folder = mutant(
        "check",
        "macvlan",
        "[ $CNI_COMMAND = CHECK ] && exit 0\nexec $real",
    );
    caught(&folder, "macvlan", "0.4.0", &["C3", "C4"], &["V1"]);
}

#[test]
fn the_host_gets_a_link() {
    let script =
        "[ $CNI_COMMAND = ADD ] && ip link add stray$$ type veth peer name yarts$$\nexec $real";
    let folder = mutant("stray", "macvlan", script);
    caught(&folder, "macvlan", "0.4.0", &["E13"], &["V1", "V7"]);
}

#[test]
fn the_interface_is_another() {
    let script = "[ $CNI_COMMAND = ADD ] && export CNI_IFNAME=other0\nexec $real";
    let folder = mutant("ifname", "macvlan", script);
    caught(&folder, "macvlan", "0.3.1", &["A2", "N3"], &["V1", "E1"]);
}

#[test]
fn a_crash_is_no_refusal() {
    let folder = mutant(
        "crash",
        "host-local",
        "[ $CNI_COMMAND = ADD ] && kill -SEGV $$\nexec $real",
    );
    caught(&folder, "host-local", "0.4.0", &["V7", "N1", "I2"], &["V1"]);
}
