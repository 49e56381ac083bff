//! What goes wrong on a real machine: kills, full and read-only file systems, damaged files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::plugin::{ORIGINAL, Store, call, original_is_here};

/// Every system call the plugin makes on files, in glibc's and musl's spelling.
const FILE_CALLS: &str = "open openat flock fstat statx pread64 read getdents64 mkdir write pwrite64 link linkat \
                          unlink rename ftruncate utimensat fcntl close";

/// Kills `verb` of c1 before each of its file operations in turn. Whatever came before the kill: no address
/// file is empty, the others' leases stand, DEL frees, ADD works and the index tells the truth.
fn kill_everywhere(verb: &str, prepare: impl Fn(&Store) -> Value) {
    if !Path::new("/usr/bin/strace").exists() {
        println!("skipped: strace is not installed");
        return;
    }
    let mut kills = 0;
    for system_call in FILE_CALLS.split_whitespace() {
        for when in 1.. {
            let store = Store::new();
            let conf = prepare(&store);
            let others = store.addresses();
            if verb == "DEL" {
                call("ADD", "c1", &conf).ok();
            }
            let inject = format!("inject={system_call}:signal=SIGKILL:when={when}");
            let answer = call(verb, "c1", &conf)
                .under(&["strace", "-f", "-o", "/dev/null", "-e", &inject])
                .run();
            if answer.status == Some(0) {
                break;
            }
            kills += 1;
            let place = format!("{verb} killed at {system_call} {when}");
            for name in store.addresses() {
                assert_ne!(
                    fs::read(store.file(&name)).unwrap(),
                    b"",
                    "{place}: {name} is empty"
                );
            }
            call("DEL", "c1", &conf).ok();
            assert_eq!(store.addresses(), others, "{place}, then DEL");
            assert_ne!(call("ADD", "c1", &conf).ok(), "", "{place}, then ADD");
            call("CHECK", "c1", &conf).ok();
            assert!(
                call("ADD", "c1", &conf).refused().contains("duplicate"),
                "{place}"
            );
            assert!(
                call("ADD", "other", &conf).refused().contains("duplicate"),
                "{place}"
            );
            assert!(
                !store.file(".index/new").exists(),
                "{place}: the next command tidies up"
            );
        }
    }
    assert!(kills > 30, "{kills} kills: is strace at work?");
}

fn dual(store: &Store) -> Value {
    store.conf(json!({"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00::/64"}]]}))
}

#[test]
fn add_is_killed_on_a_pool_with_an_index() {
    kill_everywhere("ADD", |store| {
        let conf = dual(store);
        call("ADD", "other", &conf).ok();
        conf
    });
}

#[test]
fn add_is_killed_on_a_pool_without_an_index() {
    kill_everywhere("ADD", |store| {
        store.put("10.9.0.2", "other\r\neth0");
        dual(store)
    });
}

#[test]
fn del_is_killed() {
    kill_everywhere("DEL", |store| {
        let conf = dual(store);
        call("ADD", "other", &conf).ok();
        conf
    });
}

#[test]
fn what_a_killed_add_left_is_never_written_into() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    call("ADD", "c1", &conf).ok();
    // As after a kill between link and unlink: the same file under both names.
    fs::hard_link(store.file("10.9.0.2"), store.file(".index/new")).unwrap();
    call("ADD", "c2", &conf).ok();
    let both = "10.9.0.2=c1^~eth0 10.9.0.3=c2^~eth0 last_reserved_ip.0=10.9.0.3";
    assert_eq!(store.listing(), both);
}

#[test]
fn damaged_address_files_block_nothing() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/29");
    store.put("10.9.0.2", "");
    store.put("10.9.0.3", "oldid");
    store.put("10.9.0.4", "c1\r\neth0\n");
    store.put("10.9.0.5", "\0\0\0\0\0\0");
    store.put("10.9.0.6", "\r\n");
    assert_eq!(call("ADD", "c9", &conf).ok(), "10.9.0.2/29");
    let files = "10.9.0.2=c9^~eth0 10.9.0.3=oldid 10.9.0.4=c1^~eth0\n last_reserved_ip.0=10.9.0.2";
    assert_eq!(
        store.listing(),
        files,
        "every file was read, so nobody's are gone"
    );
    // Damaged where the directory's time does not tell: found when it is tried.
    store.put("last_reserved_ip.0", "10.9.0.3");
    fs::write(store.file("10.9.0.4"), "").unwrap();
    assert_eq!(call("ADD", "c10", &conf).ok(), "10.9.0.4/29");
    call("ADD", "c11", &conf).ok();
    call("ADD", "c12", &conf).ok();
    fs::write(store.file("10.9.0.3"), "").unwrap();
    assert_eq!(
        call("ADD", "c13", &conf).ok(),
        "10.9.0.3/29",
        "and when the pool is full"
    );
    fs::write(store.file("10.9.0.3"), "").unwrap();
    assert_eq!(
        call("ADD", "c14", &conf).args("IP=10.9.0.3").ok(),
        "10.9.0.3/29",
        "and when it is asked for"
    );
}

#[test]
fn the_originals_empty_file_is_taken_back() {
    if !original_is_here() {
        return;
    }
    let store = Store::new();
    let mut conf = store.subnet("10.9.0.0/30");
    conf["cniVersion"] = "1.0.0".into();
    store.put("10.9.0.2", "");
    assert!(
        call("ADD", "c1", &conf)
            .program(ORIGINAL)
            .refused()
            .contains("no IP addresses available")
    );
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.0.2/30");
}

#[test]
fn things_that_are_no_files_hold_their_place() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    fs::create_dir_all(store.file("10.9.0.2")).unwrap();
    symlink("/no/such/file", store.file("10.9.0.3")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(store.file("10.9.0.4"))
        .status()
        .unwrap();
    assert!(fifo.success());
    // An empty pipe says of nobody, like an empty file.
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.0.4/24");
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.2", "10.9.0.3"]);
}

#[test]
fn hints_that_say_nothing() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    let next = |id: &str, hint: &str| {
        store.put("last_reserved_ip.0", hint);
        let ip = call("ADD", id, &conf).ok();
        call("DEL", id, &conf).ok();
        ip
    };
    assert_eq!(next("c1", "10.9.0.50\n"), "10.9.0.2/24");
    assert_eq!(next("c2", "10.9.0.254"), "10.9.0.2/24");
    assert_eq!(next("c3", "10.8.0.7"), "10.9.0.2/24");
    assert_eq!(next("c4", &"x".repeat(1000)), "10.9.0.2/24");
    assert_eq!(
        fs::read(store.file("last_reserved_ip.0")).unwrap(),
        b"10.9.0.2"
    );
    assert_eq!(next("c5", "10.9.0.100"), "10.9.0.101/24");
    fs::remove_file(store.file("last_reserved_ip.0")).unwrap();
    fs::create_dir(store.file("last_reserved_ip.0")).unwrap();
    let answer = call("ADD", "c6", &conf).run();
    assert_eq!(answer.status, Some(0), "{answer:?}");
    assert!(
        answer.stderr.contains("last_reserved_ip.0: is a directory"),
        "{answer:?}"
    );
}

#[test]
fn a_damaged_index_is_not_believed() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    let owners = store.file(".index/owners");
    call("ADD", "c1", &conf).ok();
    let good = fs::read(&owners).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![
        vec![],
        b"garbage".to_vec(),
        vec![0; good.len()],
        vec![0xff; good.len()],
    ];
    cases.push(good.get(..128).unwrap().to_vec());
    cases.push(good.get(..200).unwrap().to_vec());
    cases.push([good.get(..128).unwrap(), &vec![0xff; good.len() - 128]].concat());
    for place in 0..128 {
        let mut bytes = good.clone();
        *bytes.get_mut(place).unwrap() ^= 0x40;
        cases.push(bytes);
    }
    for bytes in cases {
        fs::write(&owners, &bytes).unwrap();
        call("CHECK", "c1", &conf).ok();
        assert!(
            call("ADD", "c1", &conf)
                .refused()
                .contains("10.9.0.2 has been allocated to c1")
        );
    }
    fs::remove_dir_all(store.file(".index")).unwrap();
    fs::write(store.file(".index"), "in the way").unwrap();
    call("CHECK", "c1", &conf).ok();
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.addresses(), [""; 0]);
}

/// A small file system of the test's own on the store, gone with the value.
struct Tmpfs<'a>(&'a Store);

impl Tmpfs<'_> {
    fn new<'a>(store: &'a Store, options: &str) -> Tmpfs<'a> {
        let mount = ["-t", "tmpfs", "-o", options, "tmpfs"];
        run(Command::new("mount").args(mount).arg(store.path()));
        Tmpfs(store)
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0.path()));
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(
        status.success(),
        "{command:?}: tests that mount need the runner of .cargo/config.toml"
    );
}

#[test]
fn a_full_file_system() {
    let store = Store::new();
    let _tmpfs = Tmpfs::new(&store, "size=128k");
    let conf = store.subnet("10.9.0.0/24");
    call("ADD", "c0", &conf).ok();
    let filler = store.path().join("filler");
    assert!(fs::write(&filler, vec![1; 1 << 20]).is_err());
    let full = format!(
        "5 failed to allocate for range 0: write {}/10.9.0.3: no space left on device",
        store.pool().display()
    );
    for id in ["c1", "c2", "c1"] {
        assert_eq!(call("ADD", id, &conf).refused(), full);
    }
    assert_eq!(
        store.listing(),
        "10.9.0.2=c0^~eth0 last_reserved_ip.0=10.9.0.2"
    );
    call("CHECK", "c0", &conf).ok();
    call("DEL", "c0", &conf).ok();
    assert_eq!(store.addresses(), [""; 0], "DEL needs no room");
    fs::remove_file(filler).unwrap();
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.0.3/24");
}

#[test]
fn a_file_system_full_from_the_start() {
    for pages in 1..8 {
        let store = Store::new();
        let _tmpfs = Tmpfs::new(&store, &format!("size={}k", pages * 4));
        let conf = store.subnet("10.9.0.0/24");
        let answer = call("ADD", "c1", &conf).run();
        let reserved = store.addresses();
        assert_eq!(
            reserved.len(),
            usize::from(answer.status == Some(0)),
            "{pages} pages: {answer:?}"
        );
        call("DEL", "c1", &conf).ok();
        assert_eq!(store.addresses(), [""; 0]);
    }
}

#[test]
fn a_file_system_without_inodes() {
    for inodes in 2..12 {
        let store = Store::new();
        let _tmpfs = Tmpfs::new(&store, &format!("nr_inodes={inodes}"));
        let conf = store.subnet("10.9.0.0/24");
        let answer = call("ADD", "c1", &conf).run();
        let reserved = store.addresses();
        assert_eq!(
            reserved.len(),
            usize::from(answer.status == Some(0)),
            "{inodes} inodes: {answer:?}"
        );
        call("DEL", "c1", &conf).run();
        assert_eq!(store.addresses(), [""; 0], "{inodes} inodes");
    }
}

#[test]
fn a_read_only_file_system() {
    let store = Store::new();
    let tmpfs = Tmpfs::new(&store, "size=1m");
    let conf = store.subnet("10.9.0.0/24");
    call("ADD", "c1", &conf).ok();
    call("STATUS", "", &conf).ok();
    tmpfs.remount("ro");
    let pool = store.pool();
    let read_only =
        |step: &str, name: &str| format!("{step} {}/{name}: read-only file system", pool.display());
    let refused = format!(
        "5 failed to allocate for range 0: {}",
        read_only("open", "10.9.0.2")
    );
    assert_eq!(call("ADD", "c2", &conf).refused(), refused);
    assert_eq!(
        call("DEL", "c1", &conf).refused(),
        format!("5 {}", read_only("remove", "10.9.0.2"))
    );
    call("DEL", "c2", &conf).ok();
    call("CHECK", "c1", &conf).ok();
    assert!(call("STATUS", "", &conf).refused().starts_with("50 open "));
    let mut fresh = conf.clone();
    fresh["name"] = "fresh".into();
    let refused = call("STATUS", "", &fresh).refused();
    assert!(
        refused.starts_with("50 mkdir "),
        "a pool that is not there yet: {refused}"
    );
    tmpfs.remount("rw");
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.addresses(), [""; 0]);
}
