//! Other hands in the same pool: the original, many of us at once, and an administrator's.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::process::Child;

use serde_json::Value;

use crate::plugin::{Call, ORIGINAL, OURS, Store, call, original_is_here};

/// The original of Debian knows no 1.1.0.
fn old(conf: &Value) -> Value {
    let mut conf = conf.clone();
    conf["cniVersion"] = "1.0.0".into();
    conf["prevResult"]["cniVersion"] = "1.0.0".into();
    conf
}

#[test]
fn the_original_and_we_share_a_pool() {
    if !original_is_here() {
        return;
    }
    let store = Store::new();
    let conf = old(&store.subnet("10.9.0.0/24"));
    let programs = [OURS, ORIGINAL];
    for n in 0..12 {
        let (one, other) = (programs[n % 2], programs[(n + 1) % 2]);
        let id = format!("c{n}");
        let call = |verb: &str, program: &str| call(verb, &id, &conf).program(program);
        assert_eq!(call("ADD", one).ok(), format!("10.9.0.{}/24", n + 2));
        call("CHECK", other).ok();
        let duplicate = format!("10.9.0.{} has been allocated to {id}, duplicate", n + 2);
        assert!(call("ADD", other).refused().contains(&duplicate));
        assert!(call("ADD", one).refused().contains(&duplicate));
    }
    assert_eq!(store.addresses().len(), 12);
    for n in 0..12 {
        let program = programs[(n / 2) % 2];
        call("DEL", &format!("c{n}"), &conf).program(program).ok();
        assert_eq!(store.addresses().len(), 11 - n, "c{n} by {program}");
    }
    assert_eq!(store.listing(), "last_reserved_ip.0=10.9.0.13");
}

#[test]
fn what_our_killed_add_left_does_not_disturb_the_original() {
    if !original_is_here() {
        return;
    }
    let store = Store::new();
    let conf = old(&store.subnet("10.9.0.0/24"));
    call("ADD", "c0", &conf).ok();
    // As after a kill before the link: a prepared file that never got its name.
    fs::write(store.file(".index/new"), "c1\r\neth0").unwrap();
    let original = |verb: &str| call(verb, "c1", &conf).program(ORIGINAL);
    assert_eq!(original("ADD").ok(), "10.9.0.3/24");
    original("DEL").ok();
    assert_eq!(store.addresses(), ["10.9.0.2"]);
    assert_eq!(call("ADD", "c1", &conf).ok(), "10.9.0.4/24");
}

#[test]
fn both_at_once_wait_for_one_another() {
    if !original_is_here() {
        return;
    }
    let store = Store::new();
    let conf = old(&store.subnet("10.9.0.0/24"));
    let all = |verb: &str| {
        let calls = (0..40).map(|n| {
            let program = [OURS, ORIGINAL][n % 2];
            call(verb, &format!("c{n}"), &conf).program(program)
        });
        all_at_once(calls.collect())
    };
    let ips: HashSet<String> = all("ADD").into_iter().collect();
    assert_eq!((ips.len(), store.addresses().len()), (40, 40));
    all("DEL");
    assert_eq!(store.listing().split(' ').count(), 1, "{}", store.listing());
}

/// Starts all, then feeds all, then waits for all; every one has to succeed. Answers what they printed.
fn all_at_once(calls: Vec<Call>) -> Vec<String> {
    let mut children: Vec<Child> = calls.iter().map(|c| c.command().spawn().unwrap()).collect();
    for (call, child) in calls.iter().zip(&mut children) {
        child
            .stdin
            .take()
            .unwrap()
            .write_all(call.conf.as_bytes())
            .unwrap();
    }
    let outputs = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    outputs.collect()
}

/// A pool with this many reservations of others.
fn filled(reservations: u32) -> Store {
    let store = Store::new();
    for n in 0..reservations {
        let ip = std::net::Ipv4Addr::from_bits(0x0a09_0002 + n);
        store.put(&ip.to_string(), &format!("x{n}\r\neth0"));
    }
    if reservations > 0 {
        let last = std::net::Ipv4Addr::from_bits(0x0a09_0001 + reservations);
        store.put("last_reserved_ip.0", &last.to_string());
    }
    store
}

#[test]
fn sixty_four_at_once_on_ten_thousand() {
    let store = filled(10_000);
    let conf = store.subnet("10.9.0.0/16");
    let all = |verb: &str| {
        let calls = (0..64).map(|n| call(verb, &format!("c{n}"), &conf));
        all_at_once(calls.collect())
    };
    let ips: HashSet<String> = all("ADD").into_iter().collect();
    assert_eq!((ips.len(), store.addresses().len()), (64, 10_064));
    all("CHECK");
    all("DEL");
    assert_eq!(store.addresses().len(), 10_000);
}

/// System calls of one call, counted by strace; `None` where there is no strace.
fn system_calls(call: Call, store: &Store) -> Option<usize> {
    let log = store.path().join("strace");
    let log = log.to_str().unwrap();
    let traced = call.under(&["strace", "-f", "-o", log]);
    if !std::path::Path::new("/usr/bin/strace").exists() {
        println!("skipped: strace is not installed");
        return None;
    }
    traced.ok();
    let lines = fs::read_to_string(log).unwrap();
    Some(lines.lines().filter(|line| line.contains('(')).count())
}

#[test]
fn the_work_does_not_grow_with_the_pool() {
    let [few, many] = [2, 5000].map(|reservations| {
        let store = filled(reservations);
        let conf = store.subnet("10.9.0.0/16");
        call("ADD", "first", &conf).ok();
        let count = |verb: &str| system_calls(call(verb, "c1", &conf), &store);
        [count("ADD"), count("CHECK"), count("DEL")]
    });
    for (few, many) in few.iter().zip(&many) {
        let (Some(few), Some(many)) = (few, many) else {
            return;
        };
        // A search in the index may need a second read.
        assert!(
            many.abs_diff(*few) <= 4,
            "{few} system calls on 2 reservations, {many} on 5000"
        );
    }
}

#[test]
fn an_administrator_may_remove_and_add_files() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    for id in ["c1", "c2"] {
        call("ADD", id, &conf).ok();
    }
    fs::remove_file(store.file("10.9.0.2")).unwrap();
    call("CHECK", "c1", &conf).refused();
    call("CHECK", "c2", &conf).ok();
    store.put("10.9.0.9", "c3\r\neth0\n");
    call("CHECK", "c3", &conf).ok();
    assert!(
        call("ADD", "c3", &conf)
            .refused()
            .contains("10.9.0.9 has been allocated to c3")
    );
    call("DEL", "c3", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.3"]);
}

#[test]
fn files_from_before_interfaces_were_written_down() {
    let store = Store::new();
    let conf = store.subnet("10.9.0.0/24");
    store.put("10.9.0.3", "oldid");
    assert!(
        call("ADD", "oldid", &conf)
            .refused()
            .contains("10.9.0.3 has been allocated to oldid, duplicate")
    );
    call("CHECK", "oldid", &conf).ok();
    call("ADD", "c1", &conf).ok();
    call("DEL", "oldid", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.2"]);
    // One with an interface goes first; the one without goes with the next DEL.
    store.put("10.9.0.3", "c1");
    call("DEL", "c1", &conf).ok();
    assert_eq!(store.addresses(), ["10.9.0.3"]);
    call("DEL", "c1", &conf).ifname("eth5").ok();
    assert_eq!(store.addresses(), [""; 0]);
}
