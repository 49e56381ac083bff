//! What the program promises to those who run it: exit statuses, the last line, the list of known deviations.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const REAL: &str = "/usr/lib/cni";

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_cni-conformance"))
        .args(arguments)
        .output()
        .unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("program")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn what_it_cannot_do_is_said_in_a_sentence() {
    let empty = scratch("empty");
    let empty = empty.to_str().unwrap();
    for (arguments, word) in [
        (&["--frob"] as &[_], "--frob"),
        (&[], "--bin-dir"),
        (&["--bin-dir", "/nowhere"], "/nowhere"),
        (&["--bin-dir", empty, "macvlan"], "macvlan"),
        (&["--bin-dir", empty, "frobnicator"], "--profile"),
        (&["--bin-dir", empty, "--known", "/nowhere"], "/nowhere"),
        (&["--explain", "Q9"], "Q9"),
    ] {
        let (status, stdout, stderr) = run(arguments);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            stderr.contains(word) && stderr.lines().count() == 1,
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn nothing_asked_is_no_success() {
    let empty = scratch("nothing");
    let (status, stdout, _) = run(&["--bin-dir", empty.to_str().unwrap()]);
    assert_eq!(
        (status, stdout.lines().last()),
        (Some(1), Some("0 passed, 0 failed, 0 skipped"))
    );
}

#[test]
fn list_and_explain_need_no_plugins() {
    let (status, stdout, _) = run(&["--list"]);
    assert_eq!(status, Some(0));
    assert!(stdout.lines().count() > 60, "{stdout}");
    assert_eq!(
        run(&["--version"]).1,
        concat!("cni-conformance ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let (status, stdout, _) = run(&["--explain", "e3"]);
    assert_eq!(status, Some(0));
    assert!(
        stdout.contains("SHOULD 0.1.0-0.3.1, MUST 0.4.0-1.1.0"),
        "{stdout}"
    );
}

#[test]
fn a_known_deviation_is_shown_and_does_not_fail() {
    let file = scratch("known").join("known.json");
    let list = r#"[{"plugins": ["host-local"], "id": "E2", "case": "ENV-03", "versions": ["1.0.0"], "why": "told you so"},
                   {"plugins": ["host-local"], "id": "V1", "why": "was wrong once"}]"#;
    fs::write(&file, list).unwrap();
    let ask = [
        "--bin-dir",
        REAL,
        "--cni-version",
        "1.0.0",
        "--id",
        "E2",
        "--id",
        "V1",
        "host-local",
    ];
    let (status, without, _) = run(&ask);
    assert_eq!(status, Some(1), "{without}");
    assert_eq!(
        without.lines().last(),
        Some("1 passed, 2 failed, 0 skipped")
    );
    let (status, with, _) = run(&[&ask[..], &["--known", file.to_str().unwrap()]].concat());
    assert_eq!(
        status,
        Some(1),
        "one of the two cases is not listed: {with}"
    );
    assert_eq!(with.lines().last(), Some("1 passed, 1 failed, 0 skipped"));
    assert!(
        with.contains("told you so") && with.contains("1 known deviations"),
        "{with}"
    );
    assert!(
        with.contains("fixed: host-local V1: was wrong once"),
        "{with}"
    );

    fs::write(
        &file,
        r#"[{"plugins": ["host-local"], "id": "E2", "why": "told you so"}]"#,
    )
    .unwrap();
    let (status, with, _) = run(&[&ask[..], &["--known", file.to_str().unwrap()]].concat());
    assert_eq!(
        (status, with.lines().last()),
        (Some(0), Some("1 passed, 0 failed, 0 skipped")),
        "{with}"
    );
}

#[test]
fn the_machine_is_left_alone() {
    let look = || {
        let links = Command::new("ip")
            .args(["-o", "link"])
            .output()
            .unwrap()
            .stdout;
        (links, fs::read_to_string("/proc/self/mounts").unwrap())
    };
    let before = look();
    let (status, stdout, _) = run(&[
        "--bin-dir",
        REAL,
        "--cni-version",
        "0.4.0",
        "--id",
        "V7",
        "macvlan",
    ]);
    assert_eq!(status, Some(0), "{stdout}");
    assert_eq!(look(), before);
}

#[test]
fn an_api_server_says_when_it_is_ready_and_ends_with_its_stdin() {
    let folder = scratch("api-server");
    let (manifest, kubeconfig) = (folder.join("pod.yaml"), folder.join("kubeconfig"));
    fs::write(
        &manifest,
        "{apiVersion: v1, kind: Pod, metadata: {name: samplepod}}",
    )
    .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cni-conformance"))
        .args(["api-server", "--objects"])
        .arg(&manifest)
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("ready: https://127.0.0.1:"), "{line}");
    assert!(
        fs::read_to_string(&kubeconfig)
            .unwrap()
            .contains("current-context")
    );
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
