//! Networks in the files of a folder.

use std::fs;
use std::path::Path;

use invoke::folder;

use crate::bin::Bin;

fn with(name: &str, files: &[(&str, &str)]) -> Bin {
    let bin = Bin::new(name);
    for (path, text) in files {
        let path = bin.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    bin
}

fn kinds(network: &cni::Network) -> Vec<&str> {
    network.plugins.iter().map(|p| p.kind.as_str()).collect()
}

#[test]
fn the_first_file_of_a_name_wins_and_broken_ones_take_nothing() {
    let bin = with(
        "names-in-files",
        &[
            ("05-broken.conf", "{"),
            ("10-a.conf", r#"{"name":"a","type":"one"}"#),
            (
                "20-a.conflist",
                r#"{"name":"a","plugins":[{"type":"two"}]}"#,
            ),
            ("30-b.json", r#"{"name":"b","type":"three"}"#),
            ("40-c.yaml", r#"{"name":"c","type":"four"}"#),
        ],
    );
    assert_eq!(folder::files(&bin.0).unwrap().len(), 4);
    assert_eq!(kinds(&folder::find(&bin.0, "a").unwrap()), ["one"]);
    assert_eq!(kinds(&folder::find(&bin.0, "b").unwrap()), ["three"]);
    let error = folder::find(&bin.0, "c").unwrap_err().msg;
    assert!(
        error.starts_with("no network available in the name c"),
        "{error}"
    );
    assert!(error.contains("05-broken.conf"), "{error}");
    assert!(folder::first(&bin.0).is_err(), "the first one is broken");
    let nowhere = folder::find(Path::new("/nowhere"), "a").unwrap_err().msg;
    assert_eq!(nowhere, "no networks found in /nowhere");
}

#[test]
fn a_list_takes_the_plugins_of_its_folder() {
    let list = r#"{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"one"}]}"#;
    let bin = with(
        "chained",
        &[
            ("net.conflist", list),
            ("net/20.conf", r#"{"type":"three"}"#),
            ("net/10.conf", r#"{"type":"two","k":1.0}"#),
            ("net/30.conflist", "{"),
        ],
    );
    let path = bin.0.join("net.conflist");
    let network = folder::load(&path).unwrap();
    assert_eq!(kinds(&network), ["one", "two", "three"]);
    let text = String::from_utf8(network.to_bytes()).unwrap();
    assert!(text.contains(r#"{"type":"two","k":1.0}"#), "{text}");
    let alone = list.replace("{\"name", "{\"loadOnlyInlinedPlugins\":true,\"name");
    fs::write(&path, alone).unwrap();
    assert_eq!(kinds(&folder::load(&path).unwrap()), ["one"]);
    fs::write(&path, list.replace("\"net\"", "\"../net\"")).unwrap();
    assert!(folder::load(&path).is_err());
}

#[test]
fn a_list_in_a_file_for_one_plugin_gets_a_hint() {
    let list = r#"{"name":"net","plugins":[{"type":"one"}]}"#;
    let bin = with("hint", &[("net.conf", list)]);
    let error = folder::load(&bin.0.join("net.conf")).unwrap_err().msg;
    assert!(
        error.contains("perhaps this is supposed to be a .conflist?"),
        "{error}"
    );
    let error = folder::load(&bin.0.join("gone.conf")).unwrap_err().msg;
    assert!(error.starts_with("error reading "), "{error}");
}
