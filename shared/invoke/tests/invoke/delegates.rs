//! Delegates of every kind of behaviour, as scripts that run.

use std::fs::{self, File, OpenOptions};
use std::thread;
use std::time::{Duration, Instant};

use cni::{Code, Error};
use invoke::Delegate;

use crate::bin::{Bin, LIMIT};

const OK: &str = r#"echo '{"ips":[{"address":"10.0.0.2/24"}]}'"#;

fn add_error(body: &str) -> Error {
    let name = format!("e{}", body.len());
    let bin = Bin::new(&name).script("ipam", body);
    bin.find("ipam").add_ipam(b"{}", "1.0.0").unwrap_err()
}

#[test]
fn the_first_directory_that_has_it_wins() {
    let (one, two) = (Bin::new("one"), Bin::new("two").script("ipam", OK));
    fs::create_dir(one.0.join("ipam")).unwrap();
    let path = format!("/nowhere:{}:{}", one.path(), two.path());
    let found = Delegate::find("ipam", &path, LIMIT).unwrap();
    assert_eq!(found.add_ipam(b"{}", "1.0.0").unwrap().ips.len(), 1);
}

#[test]
fn what_is_not_found_is_told_with_the_originals_words() {
    let msg = |kind, path| Delegate::find(kind, path, LIMIT).unwrap_err().msg;
    assert_eq!(msg("", "/a"), "no plugin name provided");
    assert_eq!(
        msg("../host-local", "/a"),
        "invalid plugin name: ../host-local"
    );
    assert_eq!(
        msg("nosuch", "/a:/b"),
        r#"failed to find plugin "nosuch" in path [/a /b]"#
    );
    assert!(msg("nosuch", "").starts_with("no paths provided"));
    for directory in [".", ".."] {
        assert!(Delegate::find(directory, "/tmp", LIMIT).is_err());
    }
}

#[test]
fn a_delegate_sees_the_same_bytes_and_another_command() {
    let bin = Bin::new("same").script(
        "ipam",
        &format!("cat > $d/stdin; echo $CNI_COMMAND > $d/command; {OK}"),
    );
    let stdin = b"{ \"name\" : \"n\",\n\"unknown\":[1.50] }";
    bin.find("ipam").add_ipam(stdin, "1.0.0").unwrap();
    assert_eq!(bin.read("stdin").as_bytes(), stdin);
    assert_eq!(bin.read("command"), "ADD\n");
}

#[test]
fn a_failed_add_is_followed_by_del_and_its_error_passes_through() {
    let body = r#"cat >/dev/null; echo $CNI_COMMAND >> $d/calls
        [ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"later","details":"d"}'; exit 1; }"#;
    let bin = Bin::new("failed").script("ipam", body);
    let error = bin.find("ipam").add(b"{}", "1.0.0").unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str(), error.details.as_str()),
        (Code::Other(11), "later", "d")
    );
    assert_eq!(bin.read("calls"), "ADD\nDEL\n");
}

#[test]
fn an_answer_that_can_not_be_used_is_followed_by_del() {
    for (name, answer) in [
        ("garbage", "boom"),
        ("no-ips", "{}"),
        ("empty", ""),
        ("alien", r#"{"cniVersion":"9.9.9"}"#),
    ] {
        let bin = Bin::new(name).script(
            "ipam",
            &format!("echo $CNI_COMMAND >> $d/calls; echo '{answer}'"),
        );
        bin.find("ipam").add_ipam(b"{}", "1.0.0").unwrap_err();
        assert_eq!(bin.read("calls"), "ADD\nDEL\n", "{name}");
    }
}

#[test]
fn every_way_to_fail_has_its_words() {
    assert_eq!(
        add_error("exit 3").msg,
        "netplugin failed with no error message: exit status: 3"
    );
    assert_eq!(
        add_error("echo boom >&2; exit 1").msg,
        r#"netplugin failed: "boom\n""#
    );
    assert!(add_error("kill -9 $$").msg.contains("signal: 9"));
    let garbage = add_error("echo notjson; exit 1").msg;
    assert!(
        garbage.starts_with(
            r#"netplugin failed but error parsing its diagnostic message "notjson\n": "#
        )
    );
    assert_eq!(
        add_error("echo '{}'").msg,
        "IPAM plugin returned missing IP config"
    );
    assert_eq!(
        add_error(r#"echo '{"cniVersion":"1.0.0","ips":[]}'"#).msg,
        "IPAM plugin returned missing IP config"
    );
    let zero = add_error(r#"echo '{"code":0}'; exit 1"#);
    assert_eq!((zero.code, zero.msg.is_empty()), (Code::Plugin, false));
}

#[test]
fn a_result_of_another_version_is_converted() {
    let bin = Bin::new("old").script(
        "ipam",
        r#"echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}'"#,
    );
    assert_eq!(
        bin.find("ipam").add_ipam(b"{}", "1.0.0").unwrap().ips.len(),
        1
    );
}

#[test]
fn big_streams_block_nobody() {
    let body = format!("head -c 300000 /dev/zero | tr '\\0' ' '; {OK}");
    let bin = Bin::new("big").script("ipam", &body);
    bin.find("ipam")
        .add_ipam(&vec![b' '; 1 << 20], "1.0.0")
        .unwrap();
}

#[test]
fn a_daemon_left_behind_keeps_nobody_waiting() {
    let bin = Bin::new("daemon").script("ipam", &format!("sleep 5 & {OK}"));
    let start = Instant::now();
    bin.find("ipam").add_ipam(b"{}", "1.0.0").unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "did not wait for the daemon"
    );
}

#[test]
fn a_plugin_that_is_being_written_is_tried_again() {
    let bin = Bin::new("busy");
    let path = bin.0.join("ipam");
    fs::copy("/bin/true", &path).unwrap();
    let writer: File = OpenOptions::new().append(true).open(&path).unwrap();
    let installer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(60));
        drop(writer);
    });
    bin.find("ipam").del(b"{}").unwrap();
    installer.join().unwrap();
}
