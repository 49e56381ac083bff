//! Plugins are put in their place whole, also when the one there runs, and whatever was left behind before.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::node::Node;

#[test]
fn all_plugins_of_the_folder_come() {
    let node = Node::new();
    node.write("image/macvlan", "macvlan");
    node.write("bin/multus", "old multus, longer than the new one");
    node.write("bin/calico", "somebody else's");
    let _running = node.install(&[]);
    for (name, content) in [
        ("multus", "new multus"),
        ("macvlan", "macvlan"),
        ("calico", "somebody else's"),
    ] {
        assert_eq!(node.read(&format!("bin/{name}")), content);
    }
    assert_eq!(
        (node.mode("bin/multus"), node.mode("bin/macvlan")),
        (0o755, 0o755)
    );
    assert_eq!(
        fs::read_dir(node.path("bin")).unwrap().count(),
        3,
        "nothing else is left there"
    );
}

#[test]
fn one_that_is_there_already_is_left_alone() {
    let node = Node::new();
    node.write("bin/multus", "new multus");
    node.make_executable("bin/multus");
    let before = fs::metadata(node.path("bin/multus")).unwrap().ino();
    let running = node.install(&[]);
    assert_eq!(fs::metadata(node.path("bin/multus")).unwrap().ino(), before);
    assert!(!running.log().contains("installed"), "{}", running.log());
}

/// A plugin that is a link to another program, as some distributions have them: the link goes, the program stays.
#[test]
fn a_link_is_replaced_and_not_what_it_leads_to() {
    let node = Node::new();
    let program = node.write("bin/all-in-one", "somebody else's");
    std::os::unix::fs::symlink(&program, node.path("bin/multus")).unwrap();
    let _running = node.install(&[]);
    assert_eq!(node.read("bin/multus"), "new multus");
    assert_eq!(node.read("bin/all-in-one"), "somebody else's");
    assert!(
        fs::symlink_metadata(node.path("bin/multus"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn one_of_another_mode_is_replaced() {
    let node = Node::new();
    node.write("bin/multus", "new multus");
    assert_ne!(node.mode("bin/multus"), 0o755);
    let _running = node.install(&[]);
    assert_eq!(node.mode("bin/multus"), 0o755);
}

#[test]
fn only_one_or_none_when_so_asked() {
    let node = Node::new();
    let file = node.write("only", "only");
    let running = node.install(&["--multus-bin-file", file.to_str().unwrap()]);
    assert!(node.is_there("bin/only") && !node.is_there("bin/multus"));
    running.end(Signal::SIGTERM);
    let node = Node::new();
    let _running = node.install(&["--skip-multus-binary-copy"]);
    assert!(!node.is_there("bin/multus"));
}

#[test]
fn one_that_runs_is_replaced() {
    let node = Node::new();
    // Another process copies: what a test next door forks meanwhile would hold a file open for writing that this one opened
    // (`ETXTBSY`).
    #[expect(clippy::disallowed_methods, reason = "see above")]
    let copied = Command::new("cp")
        .arg("/bin/sleep")
        .arg(node.path("bin/multus"))
        .status()
        .unwrap();
    assert!(copied.success());
    #[expect(clippy::disallowed_methods, reason = "a plugin that runs for long")]
    let mut plugin = Command::new(node.path("bin/multus"))
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let running = node.install(&[]);
    assert!(plugin.try_wait().unwrap().is_none(), "it runs on");
    assert_eq!(node.read("bin/multus"), "new multus");
    assert!(running.log().contains("multus: installed"));
    plugin.kill().unwrap();
    plugin.wait().unwrap();
}

/// Killed at many moments: what is there is the old one or the new one, and the next run puts all right.
#[test]
fn killed_in_the_middle() {
    let node = Node::new();
    let new = "n".repeat(4 << 20);
    node.write("image/multus", &new);
    for round in 0..30 {
        node.write("bin/multus", "old multus");
        let running = node.start(&[]);
        std::thread::sleep(std::time::Duration::from_micros(500 * round));
        drop(running);
        let there = node.read("bin/multus");
        assert!(
            there == "old multus" || there == new,
            "round {round}: {} bytes",
            there.len()
        );
        for name in ["net.d/00-multus.conf", "net.d/multus.d/multus.kubeconfig"] {
            if node.is_there(name) {
                assert!(node.read(name).ends_with('\n'), "round {round}: {name}");
            }
        }
    }
    node.write("bin/.multus.new", "what a killed one left");
    node.write("bin/multus", "old multus");
    let running = node.start(&[]);
    running.says("multus: installed");
    assert_eq!(node.read("bin/multus"), new);
    assert!(!node.is_there("bin/.multus.new"));
}

#[test]
fn two_at_a_time_do_each_other_no_harm() {
    let node = Node::new();
    let new = "n".repeat(1 << 20);
    for name in ["a", "b", "c", "d"] {
        node.write(&format!("image/{name}"), &new);
    }
    let both = [node.start(&[]), node.start(&[])];
    for running in &both {
        crate::node::until(|| node.is_there("net.d/00-multus.conf"), || running.log());
    }
    for running in both {
        assert_eq!(running.end(Signal::SIGTERM).code, Some(0));
    }
    for name in ["a", "b", "c", "d"] {
        assert_eq!(node.read(&format!("bin/{name}")), new);
    }
    assert_eq!(fs::read_dir(node.path("bin")).unwrap().count(), 5);
}
