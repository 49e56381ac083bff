//! What a reboot leaves behind: the boot id is replaced by a mount in a namespace of the call's own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::plugin::{Call, ORIGINAL, Store, call, original_is_here};

const FULL: &str = "no IP addresses available";

/// Another boot of the machine, in which calls can be made.
struct Boot(PathBuf);

impl Boot {
    fn new(store: &Store) -> Boot {
        let path = store.path().join("boot_id");
        fs::write(&path, "11111111-2222-3333-4444-555555555555\n").unwrap();
        Boot(path)
    }

    fn call(&self, verb: &str, id: &str, conf: &Value) -> Call {
        let script = r#"mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@""#;
        let boot = self.0.to_str().unwrap();
        call(verb, id, conf).under(&["unshare", "--mount", "sh", "-c", script, boot])
    }
}

/// A full pool of five, c1 to c5 on 10.9.0.2 to 10.9.0.6, made long before this boot.
fn before() -> (Store, Value) {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/29");
    for n in 1..=5 {
        call("ADD", &format!("c{n}"), &conf).ok();
        age(&store, n + 1);
    }
    (store, conf)
}

fn age(store: &Store, host: u32) {
    let file = File::options()
        .write(true)
        .open(store.file(&format!("10.9.0.{host}")))
        .unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, host))
        .unwrap();
}

#[test]
fn what_is_left_is_taken_when_nothing_else_is_there() {
    let (store, conf) = before();
    let boot = Boot::new(&store);
    call("DEL", "c2", &conf).ok();
    assert_eq!(boot.call("ADD", "n1", &conf).ok(), "10.9.0.3/29");
    assert_eq!(
        store.addresses().len(),
        5,
        "while there is another address nothing is taken"
    );
    boot.call("CHECK", "c1", &conf).ok();
    call("STATUS", "", &conf).ok();
    let answer = boot.call("ADD", "n2", &conf).run();
    assert_eq!(answer.status, Some(0), "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("10.9.0.4: was reserved before this boot"),
        "{answer:?}"
    );
    let left = "10.9.0.3=n1^~eth0 10.9.0.4=n2^~eth0 last_reserved_ip.0=10.9.0.4";
    assert_eq!(store.listing(), left);
    boot.call("CHECK", "n1", &conf).ok();
    boot.call("CHECK", "c1", &conf).refused();
}

#[test]
fn an_address_that_is_asked_for_is_taken() {
    let (store, mut conf) = before();
    let boot = Boot::new(&store);
    call("DEL", "c2", &conf).ok();
    conf["args"] = serde_json::json!({ "cni": { "ips": ["10.9.0.5"] } });
    assert!(
        call("ADD", "n1", &conf).refused().contains("10.9.0.5"),
        "in the boot it was reserved in it stays"
    );
    assert_eq!(boot.call("ADD", "n1", &conf).ok(), "10.9.0.5/29");
    assert_eq!(
        store.addresses().len(),
        4,
        "the others of before the boot stay"
    );
    boot.call("ADD", "n2", &conf).refused();
}

#[test]
fn any_first_command_of_a_boot_writes_down_what_is_there() {
    let (store, conf) = before();
    let boot = Boot::new(&store);
    boot.call("DEL", "unknown", &conf).ok();
    assert_eq!(boot.call("ADD", "n1", &conf).ok(), "10.9.0.2/29");
}

#[test]
fn what_was_reserved_in_this_boot_is_not_taken() {
    let (store, conf) = before();
    let boot = Boot::new(&store);
    let anew = |host: u32| {
        fs::remove_file(store.file(&format!("10.9.0.{host}"))).unwrap();
        store.put(&format!("10.9.0.{host}"), &format!("new{host}\r\neth0"));
    };
    anew(2); // by another implementation, before we are called for the first time in this boot
    boot.call("DEL", "unknown", &conf).ok();
    anew(3); // after it: on the list is the file that was here before
    boot.call("DEL", "c3", &conf).ok();
    assert_eq!(
        boot.call("ADD", "new4", &conf).ok(),
        "10.9.0.4/29",
        "the same by ourselves"
    );
    assert_eq!(
        boot.call("ADD", "n1", &conf).ok(),
        "10.9.0.5/29",
        "only .5 and .6 are from before"
    );
    assert_eq!(boot.call("ADD", "n2", &conf).ok(), "10.9.0.6/29");
    assert!(boot.call("ADD", "n3", &conf).refused().contains(FULL));
    let owners = "10.9.0.2=new2^~eth0 10.9.0.3=new3^~eth0 10.9.0.4=new4^~eth0 10.9.0.5=n1^~eth0 10.9.0.6=n2^~eth0";
    assert_eq!(
        store.listing(),
        format!("{owners} last_reserved_ip.0=10.9.0.6")
    );
}

#[test]
fn status_of_a_new_boot_knows_what_add_will_do() {
    let (store, conf) = before();
    let boot = Boot::new(&store);
    let listing = store.listing();
    assert!(call("STATUS", "", &conf).refused().contains(FULL));
    // A runtime that is told 50 sends no ADD, and then nobody would ever make room.
    boot.call("STATUS", "", &conf).ok();
    assert_eq!(store.listing(), listing, "STATUS changes nothing");
    boot.call("DEL", "unknown", &conf).ok();
    boot.call("STATUS", "", &conf).ok();
    assert_eq!(boot.call("ADD", "n1", &conf).ok(), "10.9.0.2/29");
}

#[test]
fn in_the_same_boot_age_says_nothing() {
    let (store, conf) = before();
    assert!(call("ADD", "n1", &conf).refused().contains(FULL));
    assert_eq!(store.addresses().len(), 5);
}

#[test]
fn a_pool_of_which_no_boot_is_known_stays_as_it_is() {
    if !original_is_here() {
        return;
    }
    let store = Store::new();
    let mut conf = store.subnet("10.9.0.0/29");
    conf["cniVersion"] = "1.0.0".into();
    for n in 1..=5 {
        call("ADD", &format!("c{n}"), &conf).program(ORIGINAL).ok();
        age(&store, n + 1);
    }
    let boot = Boot::new(&store);
    assert!(boot.call("ADD", "n1", &conf).refused().contains(FULL));
    assert_eq!(store.addresses().len(), 5);
}
