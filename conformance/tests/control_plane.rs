//! etcd and kube-apiserver as processes. No machine has both for our tests, so scripts stand in: what they are called with is what
//! can be looked at. Where etcd is installed, it is the real one.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni_conformance::cluster::ControlPlane;

/// Says that it is ready, as etcd does, and serves nothing.
const ETCD: &str = r#"echo "$$" >"$0.pid"
printf '%s\n' "$@" >"$0.arguments"
perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_DGRAM, 0); send($s, "STATUS=x\nREADY=1\n", 0, sockaddr_un($ENV{NOTIFY_SOCKET}))'
exec sleep 600"#;

/// Notes what it is called with and which of the files are there, and ends.
const SERVER: &str = r#"printf '%s\n' "$@" >"$0.arguments"
for argument in "$@"; do
    case $argument in
        --*-file=*) [ -s "${argument#*=}" ] && stat -c %a "${argument#*=}" >>"$0.modes" ;;
        --cert-dir=*) echo "${argument#*=}" >"$0.folder" ;;
    esac
done
echo "cannot do a thing" >&2
exit 3"#;

/// A folder with these programs; `None` is the one that is installed.
fn assets(name: &str, etcd: &str, server: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (program, script) in [("etcd", etcd), ("kube-apiserver", server)] {
        let text = folder.join(format!("{program}.sh"));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process makes the program: what a test next door forks meanwhile would hold a file open for writing
        // that this one opened (`ETXTBSY`).
        let made = Command::new("install")
            .arg("-m0755")
            .arg(&text)
            .arg(folder.join(program))
            .status()
            .unwrap();
        assert!(made.success());
    }
    folder
}

fn lines(file: PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What follows `--NAME=`.
fn argument<'a>(arguments: &'a [String], name: &str) -> &'a str {
    let start = format!("--{name}=");
    let found = arguments.iter().find_map(|one| one.strip_prefix(&start));
    found.unwrap()
}

#[test]
fn both_are_told_all_they_need_and_both_end() {
    let folder = assets("stand-ins", ETCD, SERVER);
    let why = ControlPlane::start(&folder).unwrap_err();
    assert_eq!(why, "kube-apiserver has ended; it said: cannot do a thing");

    let etcd = lines(folder.join("etcd.arguments"));
    let server = lines(folder.join("kube-apiserver.arguments"));
    let store = argument(&etcd, "listen-client-urls");
    assert!(store.starts_with("http://127.0.0.1:"), "{store}");
    assert_eq!(argument(&etcd, "advertise-client-urls"), store);
    assert_ne!(argument(&etcd, "listen-peer-urls"), store);
    assert_eq!(argument(&server, "etcd-servers"), store);
    assert_eq!(argument(&server, "bind-address"), "127.0.0.1");
    assert_ne!(argument(&server, "secure-port"), "6443");
    assert_eq!(
        argument(&server, "disable-admission-plugins"),
        "ServiceAccount"
    );
    // Certificate, its key, tokens, both keys of accounts: there, and nobody else's.
    assert_eq!(lines(folder.join("kube-apiserver.modes")), ["600"; 5]);

    let pid = fs::read_to_string(folder.join("etcd.pid")).unwrap();
    assert!(
        !Path::new("/proc").join(pid.trim()).exists(),
        "etcd runs on"
    );
    let data = fs::read_to_string(folder.join("kube-apiserver.folder")).unwrap();
    let data = Path::new(data.trim()).parent().unwrap().to_owned();
    assert!(!data.exists(), "{} is left", data.display());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let folder = assets("missing", ETCD, SERVER);
    fs::remove_file(folder.join("etcd")).unwrap();
    let why = ControlPlane::start(&folder).unwrap_err();
    assert!(why.contains("missing/etcd: No such file"), "{why}");
}

/// A real etcd says itself that it is ready: else kube-apiserver would not be started, and this would not come to its words.
#[test]
fn an_etcd_that_is_installed_starts() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    let Some(installed) = installed.into_iter().find(|file| file.is_file()) else {
        println!("skipped: no etcd is installed (Debian: etcd-server)");
        return;
    };
    let folder = assets("etcd", ETCD, SERVER);
    fs::remove_file(folder.join("etcd")).unwrap();
    symlink(installed, folder.join("etcd")).unwrap();
    let why = ControlPlane::start(&folder).unwrap_err();
    assert_eq!(why, "kube-apiserver has ended; it said: cannot do a thing");
}
