//! Addresses over their life: handed out round robin, refused twice, rolled back, checked, released, collected.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::plugin::{Store, call};

const FULL: &str = "no IP addresses available in range set: 10.9.0.1-10.9.0.6";

#[test]
fn a_small_pool_from_first_to_last() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/29");
    for (id, ip) in [("c1", 2), ("c2", 3), ("c3", 4), ("c4", 5), ("c5", 6)] {
        assert_eq!(call("ADD", id, &conf).ok(), format!("10.9.0.{ip}/29"));
    }
    let exhausted = format!("999 failed to allocate for range 0: {FULL}");
    assert_eq!(call("ADD", "c6", &conf).refused(), exhausted);
    assert_eq!(call("ADD", "c7", &conf).refused(), exhausted);
    assert_eq!(call("STATUS", "", &conf).refused(), format!("50 {FULL}"));
    let held =
        "10.9.0.2=c1^~eth0 10.9.0.3=c2^~eth0 10.9.0.4=c3^~eth0 10.9.0.5=c4^~eth0 10.9.0.6=c5^~eth0";
    assert_eq!(
        store.listing(),
        format!("{held} last_reserved_ip.0=10.9.0.6")
    );
    for _ in 0..2 {
        call("DEL", "c1", &conf).ok();
    }
    call("DEL", "c", &conf).ok();
    let held = held.strip_prefix("10.9.0.2=c1^~eth0 ").unwrap();
    assert_eq!(
        store.listing(),
        format!("{held} last_reserved_ip.0=10.9.0.6")
    );
    call("STATUS", "", &conf).ok();
    assert_eq!(
        call("ADD", "n1", &conf).ok(),
        "10.9.0.2/29",
        "past the gateway"
    );
    assert_eq!(
        store.listing(),
        format!("10.9.0.2=n1^~eth0 {held} last_reserved_ip.0=10.9.0.2")
    );
    assert_eq!(fs::read(store.file("10.9.0.2")).unwrap(), b"n1\r\neth0");
}

#[test]
fn modes_are_those_of_the_original() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new();
    call("ADD", "c1", &store.subnet("10.9.0.0/29")).ok();
    let mode = |name: &str| fs::metadata(store.file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode("10.9.0.2"), mode("last_reserved_ip.0")],
        [0o600, 0o600]
    );
    // 0755 and 0750 under the usual umask.
    assert_eq!(
        [mode("."), mode("lock")].map(|mode| mode & !0o022),
        [0o755, 0o750]
    );
    assert!(!store.file(".index/new").exists());
}

#[test]
fn one_attachment_gets_one_address() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/29");
    call("ADD", "c1", &conf).ok();
    let duplicate = "999 failed to allocate for range 0: 10.9.0.2 has been allocated to c1, \
                     duplicate allocation is not allowed";
    assert_eq!(call("ADD", "c1", &conf).refused(), duplicate);
    assert_eq!(
        store.addresses(),
        ["10.9.0.2"],
        "the first ADD's address stays"
    );
    assert_eq!(call("ADD", "c1", &conf).ifname("net1").ok(), "10.9.0.3/29");
    call("CHECK", "c1", &conf).ok();
    let unknown =
        |id: &str| format!("999 host-local: Failed to find address added by container {id}");
    assert_eq!(
        call("CHECK", "c1", &conf).ifname("eth7").refused(),
        unknown("c1")
    );
    assert_eq!(call("CHECK", "zz", &conf).refused(), unknown("zz"));
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.3"]);
}

#[test]
fn a_requested_address_that_is_taken() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    call("ADD", "c1", &conf).args("IP=10.9.0.77").ok();
    let taken = "999 failed to allocate for range 0: requested IP address 10.9.0.77 is not available in range set \
                 10.9.0.1-10.9.0.254";
    assert_eq!(
        call("ADD", "c2", &conf).args("IP=10.9.0.77").refused(),
        taken
    );
    assert_eq!(
        call("ADD", "c1", &conf).args("IP=10.9.0.77").refused(),
        taken
    );
    assert_eq!(
        call("ADD", "c1", &conf).args("IP=10.9.0.78").ok(),
        "10.9.0.78/24"
    );
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.listing(), "last_reserved_ip.0=10.9.0.78");
}

fn dual(store: &Store) -> serde_json::Value {
    store.conf(json!({"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00::/64"}]]}))
}

#[test]
fn dual_stack_requests() {
    let store = Store::new();
    let mut conf = dual(&store);
    assert_eq!(
        call("ADD", "c1", &conf).args("IP=fd00::50").ok(),
        "10.9.0.2/24 fd00::50/64"
    );
    conf["args"] = json!({"cni": {"ips": ["fd00::51", "10.9.0.9"]}});
    assert_eq!(call("ADD", "c2", &conf).ok(), "10.9.0.9/24 fd00::51/64");
    let files = "10.9.0.2=c1^~eth0 10.9.0.9=c2^~eth0 fd00::50=c1^~eth0 fd00::51=c2^~eth0 \
                 last_reserved_ip.0=10.9.0.9 last_reserved_ip.1=fd00::51";
    assert_eq!(store.listing(), files);
    call("DEL", "c2", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.2", "fd00::50"]);
}

#[test]
fn a_roll_back_takes_only_what_its_own_call_made() {
    let store = Store::new();
    let mut conf = dual(&store);
    call("ADD", "c1", &conf).ok();
    call("ADD", "c2", &conf).args("IP=fd00::50").ok();
    let before = ["10.9.0.2", "10.9.0.3", "fd00::2", "fd00::50"];
    assert_eq!(store.addresses(), before);
    // The second set fails after the first one gave an address.
    conf["args"] = json!({"cni": {"ips": ["10.9.0.99", "fd00::50"]}});
    let taken = "999 failed to allocate for range 1: requested IP address fd00::50 is not available in range set \
                 fd00::1-fd00::ffff:ffff:ffff:ffff";
    assert_eq!(call("ADD", "c1", &conf).refused(), taken);
    assert_eq!(
        store.addresses(),
        before,
        "the original frees c1's running addresses here"
    );
    // An address that fits nowhere is left over at the end.
    conf["args"] = json!({"cni": {"ips": ["10.9.0.50", "fd00::51", "10.8.0.1"]}});
    assert_eq!(
        call("ADD", "c1", &conf).refused(),
        "999 failed to allocate all requested IPs: 10.8.0.1"
    );
    assert_eq!(store.addresses(), before);
    conf.as_object_mut().unwrap().remove("args");
    call("CHECK", "c1", &conf).ok();
    // The second set is full.
    let full = json!({"subnet": "fd00:1::/126", "rangeEnd": "fd00:1::1"});
    let conf = store.conf(json!({"ranges": [[{"subnet": "10.9.0.0/24"}], [full]]}));
    let none = "999 failed to allocate for range 1: no IP addresses available in range set: fd00:1::1-fd00:1::1";
    assert_eq!(call("ADD", "c3", &conf).refused(), none);
    assert_eq!(store.addresses(), before);
}

#[test]
fn a_result_that_nobody_reads_is_rolled_back() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    call("ADD", "c1", &conf).ok();
    let add = call("ADD", "c2", &conf);
    let mut child = add.command().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), add.conf.as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(store.addresses(), ["10.9.0.2"]);
    let version = |version: &str| {
        let mut conf = conf.clone();
        conf["cniVersion"] = version.into();
        conf
    };
    assert_eq!(
        call("ADD", "c2", &version("0.1.0")).result()["ip4"]["ip"],
        "10.9.0.4/24"
    );
}

#[test]
fn del_frees_under_a_configuration_that_add_refuses() {
    let store = Store::new();
    for bad in [
        json!({"subnet": "nonsense"}),
        json!({}),
        json!({"ranges": {"subnet": "10.9.0.0/24"}}),
        json!({"ranges": [[{"subnet": "10.9.0.0/31"}]]}),
        json!({"subnet": "10.9.0.0/24", "resolvConf": "/nope"}),
        json!({"subnet": "10.9.0.0/24", "routes": [{"dst": 5}]}),
    ] {
        call("ADD", "c1", &store.subnet("10.9.0.0/24")).ok();
        let conf = store.conf(bad);
        call("ADD", "c9", &conf).refused();
        call("DEL", "c1", &conf).args("not=a=pair;").ok();
        assert_eq!(store.addresses(), [""; 0]);
    }
    // Where the store is has to be readable.
    let mut conf = store.subnet("10.9.0.0/24");
    conf["ipam"]["dataDir"] = json!(5);
    assert!(
        call("DEL", "c1", &conf)
            .refused()
            .starts_with("6 failed to load netconf: ipam: dataDir: ")
    );
}

#[test]
fn what_was_never_there_is_released() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    call("DEL", "c1", &conf).ok();
    assert!(!store.pool().exists(), "DEL makes nothing");
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    call("GC", "", &gc).ok();
    call("STATUS", "", &conf).ok();
    call("CHECK", "c1", &conf).refused();
    assert!(!store.pool().exists());
}

#[test]
fn data_dir_is_a_file() {
    let store = Store::new();
    fs::write(store.path().join("file"), "").unwrap();
    let mut conf = store.subnet("10.9.0.0/24");
    let path = store.path().join("file");
    conf["ipam"]["dataDir"] = json!(path);
    let not_a_directory = format!("5 mkdir {}: not a directory", path.display());
    assert_eq!(call("ADD", "c1", &conf).refused(), not_a_directory);
    let not_available = not_a_directory.replacen('5', "50", 1);
    assert_eq!(call("STATUS", "", &conf).refused(), not_available);
    call("DEL", "c1", &conf).ok();
}

#[test]
fn gc_keeps_what_is_listed() {
    let store = Store::new();
    let mut conf = store.subnet("10.9.0.0/24");
    for id in ["c1", "c2", "c3"] {
        call("ADD", id, &conf).ok();
    }
    call("ADD", "c1", &conf).ifname("net1").ok();
    store.put("10.9.0.10", "old1");
    store.put("10.9.0.11", "c1");
    store.put("10.9.0.12", "");
    store.put("10.9.0.13", "\0\0\0\0");
    store.put("notes", "mine");
    fs::create_dir(store.file("10.9.0.14")).unwrap();
    call("GC", "", &conf).ok();
    assert_eq!(store.addresses().len(), 9, "no list, no collection");
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth0"}, null]);
    call("GC", "", &conf).ok();
    let left = "10.9.0.11=c1 10.9.0.14= 10.9.0.2=c1^~eth0 10.9.0.4=c3^~eth0 last_reserved_ip.0=10.9.0.5 notes=mine";
    assert_eq!(store.listing(), left);
    call("CHECK", "c3", &conf).ok();
    call("CHECK", "c2", &conf).refused();
    conf["cni.dev/valid-attachments"] = json!([]);
    call("GC", "", &conf).ok();
    assert_eq!(
        store.listing(),
        "10.9.0.14= last_reserved_ip.0=10.9.0.5 notes=mine"
    );
}

#[test]
fn status_judges_the_configuration_too() {
    let store = Store::new();
    let bad = store.subnet("10.9.0.0/31");
    let text = call("STATUS", "", &bad).refused();
    assert_eq!(
        text,
        "7 invalid range set 0: Network 10.9.0.0/31 too small to allocate from"
    );
    // A file of nobody's in a full pool does not make it full: ADD would take it.
    let conf = store.subnet("10.9.0.0/30");
    store.put("10.9.0.2", "");
    call("STATUS", "", &conf).ok();
    assert_eq!(store.listing(), "10.9.0.2=", "STATUS changes nothing");
    call("ADD", "c1", &conf).ok();
    assert!(
        call("STATUS", "", &conf)
            .refused()
            .starts_with("50 no IP addresses available")
    );
}

#[test]
fn other_ranges_under_the_same_name_are_told_of() {
    let store = Store::new();
    let warned = |id: &str, conf: &serde_json::Value| {
        let answer = call("ADD", id, conf).run();
        assert_eq!(answer.status, Some(0), "{answer:?}");
        answer
            .stderr
            .contains("last handed out addresses of other ranges")
    };
    let (one, mut other) = (store.subnet("10.9.0.0/24"), store.subnet("10.8.0.0/24"));
    assert!(!warned("c1", &one));
    assert!(!warned("c2", &one));
    assert!(warned("c3", &other));
    call("DEL", "c3", &one).ok();
    assert!(!warned("c4", &other));
    // Ranges that come with the request differ from pod to pod.
    other["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.7.0.0/24"}]]});
    assert!(!warned("c5", &other));
    assert!(warned("c6", &one));
}

#[test]
fn a_dense_pool_and_a_wide_one() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    for n in (2..200).filter(|n| *n != 150) {
        store.put(&format!("10.9.0.{n}"), &format!("x{n}\r\neth0"));
    }
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.0.150/24");
    assert_eq!(call("ADD", "c2", &conf).ok(), "10.9.0.200/24");
    let wide = store.conf(json!({"subnet": "fd00::/8"}));
    store.put(
        "last_reserved_ip.0",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    );
    assert_eq!(call("ADD", "c3", &wide).ok(), "fd00::2/8");
}
