//! A delegate that calls multus again: without an end it would fill the node with processes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::World;

/// Calls multus under another file name, with a configuration that has this very plugin as its delegate.
const AGAIN: &str = "#!/bin/sh
echo \"$CNI_COMMAND again $CNI_IFNAME\" >> @/calls
exec @/bin/other <@/conf
";

/// The delegate's own world: its state is elsewhere, so that no lock stands between the two.
fn world() -> World {
    let mut world = World::new();
    world.plugin("again", AGAIN);
    std::fs::copy(env!("CARGO_BIN_EXE_multus"), world.dir.join("bin/other")).unwrap();
    world.conf["delegates"] = json!([{"cniVersion": "1.1.0", "name": "loop", "type": "again"}]);
    world.conf["cniVersion"] = "1.1.0".into();
    let mut conf = world.conf.clone();
    conf["cniDir"] = world.dir.join("other-state").to_str().unwrap().into();
    world.file("conf", &conf.to_string());
    world
}

#[test]
fn ends_with_an_error_at_the_first_turn() {
    let world = world();
    let started = Instant::now();
    let (code, text) = world.error("ADD");
    assert_eq!(code, 7);
    for words in [
        "multus was called by a plugin that multus itself has called",
        "CNI_CALLERS is \"multus\"",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(world.calls(), ["ADD again eth0", "DEL again eth0"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{started:?}");
    assert!(!world.dir.join("other-state").exists());
    assert!(world.links().is_empty());
}

#[test]
fn del_comes_to_its_end() {
    let world = world();
    world.error("ADD");
    world.ok("DEL");
    let state: Vec<_> = std::fs::read_dir(world.dir.join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "results")
        .collect();
    assert!(state.is_empty(), "{state:?}");
}

#[test]
fn status_says_so() {
    let (code, text) = world().error("STATUS");
    assert_eq!(code, 7);
    assert!(text.contains("would call itself for ever"), "{text}");
}
