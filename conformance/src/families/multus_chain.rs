//! Family M, chains: plugins that administrators put into a folder beside the default network's configuration.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::Verb;
use crate::spec::code::{INVALID_CONFIG, OWN, UNDECODABLE};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M140",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A list in a file is followed by the `.conf` files of the folder with the list's name, in their order, as if they stood in it; DEL has them in reverse, also when the folder is gone.",
        section: "multus: clusterNetwork; CNI: folder of a list",
        cases: &[
            case("path", |t| folder_of_list(t, By::Path)),
            case("folder", |t| folder_of_list(t, By::Folder)),
            case("name", |t| folder_of_list(t, By::Name)),
            case("gone by DEL", folder_gone_by_del),
        ],
    },
    Requirement {
        id: "M141",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A list that says `loadOnlyInlinedPlugins` stays as it is, and so does a single configuration.",
        section: "CNI: loadOnlyInlinedPlugins",
        cases: &[
            case("only inlined", only_inlined),
            case("single", single_has_no_folder),
        ],
    },
    Requirement {
        id: "M142",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A file of the folder that is no plugin's configuration, and a name that would lead elsewhere, are refused before any delegate runs.",
        section: "multus: clusterNetwork",
        cases: &[
            case("no JSON", |t| bad_file(t, "{", "20-bad.conf")),
            case("no type", |t| {
                bad_file(t, r#"{"name": "x"}"#, "20-bad.conf")
            }),
            case("multus", |t| {
                bad_file(t, r#"{"type": "multus"}"#, "would call itself")
            }),
            case("name", bad_name),
        ],
    },
    Requirement {
        id: "M143",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The chain that `auxiliaryCNIChainName` names is the last network of every pod: passthru, then the files of the folder beside the default network's; without files there is none.",
        section: "multus: auxiliaryCNIChainName",
        cases: &[
            case("last", auxiliary_is_last),
            case("what they get", auxiliary_configurations),
            case("no folder", |t| no_auxiliary(t, None)),
            case("no files", |t| no_auxiliary(t, Some("notes.json"))),
            case("fails", auxiliary_fails),
        ],
    },
    Requirement {
        id: "M144",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "An auxiliary chain can't be had without a path in clusterNetwork, or with a name that would lead elsewhere: refused before any delegate runs.",
        section: "multus: auxiliaryCNIChainName",
        cases: &[
            case("clusterNetwork is a name", auxiliary_without_path),
            case("name", auxiliary_of_bad_name),
        ],
    },
];

/// How `clusterNetwork` names a file.
#[derive(Clone, Copy)]
enum By {
    Path,
    Folder,
    Name,
}

/// The default network is the list `main` of `spy-a`, in a file of `confDir`.
fn with_list<'t>(t: &'t Trial, by: By) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?;
    node.spy("spy-c")?;
    write_list(t, &node, json!({}))?;
    let file = node.conf_dir.join("10-main.conflist");
    node.runtime.config["clusterNetwork"] = match by {
        By::Path => json!(file),
        By::Folder => json!(node.conf_dir),
        By::Name => "main".into(),
    };
    Ok(node)
}

/// Writes the list with further members.
fn write_list(t: &Trial, node: &Node, more: Value) -> Verdict {
    let mut list = json!({
        "cniVersion": t.version.as_str(), "name": "main", "plugins": [{"type": "spy-a"}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        list[key] = value.clone();
    }
    Ok(fs::write(
        node.conf_dir.join("10-main.conflist"),
        list.to_string(),
    )?)
}

/// Writes configurations into a folder of `confDir`.
fn write_files(node: &Node, folder: &str, files: &[(&str, Value)]) -> Result<PathBuf, Stop> {
    let folder = node.conf_dir.join(folder);
    fs::create_dir_all(&folder)?;
    for (name, config) in files {
        fs::write(folder.join(name), config.to_string())?;
    }
    Ok(folder)
}

/// Two plugins in the order of their names, and what is none of them.
fn write_chain(node: &Node, folder: &str) -> Result<PathBuf, Stop> {
    write_files(
        node,
        folder,
        &[
            (
                "20-c.conf",
                json!({"type": "spy-c", "own": {"c": [1, null]}}),
            ),
            (
                "10-b.conf",
                json!({"type": "spy-b", "name": "another", "cniVersion": "0.1.0"}),
            ),
            (
                "05-list.conflist",
                json!({"name": "x", "plugins": [{"type": "nobody"}]}),
            ),
            ("05-other.json", json!({"type": "nobody"})),
        ],
    )
}

const CHAIN: [&str; 6] = [
    "ADD spy-a eth0",
    "ADD spy-b eth0",
    "ADD spy-c eth0",
    "DEL spy-c eth0",
    "DEL spy-b eth0",
    "DEL spy-a eth0",
];

fn folder_of_list(t: &Trial, by: By) -> Verdict {
    let mut node = with_list(t, by)?;
    write_chain(&node, "main")?;
    let printed = node.add()?;
    for (spy, earlier) in [("spy-b", "10.1.0.2/24"), ("spy-c", "10.2.0.2/24")] {
        let config = node.only_call(Verb::Add, spy)?.config();
        ensure!(
            config["name"] == "main" && config["cniVersion"] == t.version.as_str(),
            "{spy} was called with {config}"
        );
        ensure!(
            config["prevResult"]["ips"][0]["address"] == earlier,
            "{spy} did not get the result of the plugin before it: {config}"
        );
    }
    let own = &node.only_call(Verb::Add, "spy-c")?.config()["own"];
    ensure!(own == &json!({"c": [1, null]}), "spy-c got {own}");
    ensure!(
        printed["ips"][0]["address"] == "10.3.0.2/24",
        "the result is not that of the last plugin: {printed}"
    );
    node.del()?;
    node.expect_calls(&CHAIN)?;
    node.nothing_remembered()
}

fn folder_gone_by_del(t: &Trial) -> Verdict {
    let mut node = with_list(t, By::Path)?;
    let folder = write_chain(&node, "main")?;
    node.add()?;
    fs::remove_dir_all(folder)?;
    fs::remove_file(node.conf_dir.join("10-main.conflist"))?;
    node.del()?;
    node.expect_calls(&CHAIN)?;
    node.nothing_remembered()
}

fn only_inlined(t: &Trial) -> Verdict {
    let mut node = with_list(t, By::Path)?;
    write_chain(&node, "main")?;
    write_list(t, &node, json!({"loadOnlyInlinedPlugins": true}))?;
    node.add()?;
    node.expect_calls(&CHAIN[..1])?;
    node.del()?;
    write_list(t, &node, json!({"loadOnlyInlinedPlugins": false}))?;
    node.forget_calls()?;
    node.add()?;
    node.del()?;
    node.expect_calls(&CHAIN)
}

fn single_has_no_folder(t: &Trial) -> Verdict {
    let mut node = with_list(t, By::Path)?;
    write_chain(&node, "main")?;
    let single = json!({"cniVersion": t.version.as_str(), "name": "main", "type": "spy-a"});
    let file = node.conf_dir.join("10-main.conf");
    fs::write(&file, single.to_string())?;
    node.runtime.config["clusterNetwork"] = json!(file);
    node.add()?;
    node.expect_calls(&CHAIN[..1])?;
    node.del().map(drop)
}

/// ADD is refused and no delegate runs.
fn is_refused(node: &Node, words: &str) -> Verdict {
    let codes = &[INVALID_CONFIG, UNDECODABLE, OWN];
    node.ask(Verb::Add)?.refused(codes)?.names(words)?;
    node.expect_calls(&[])?;
    node.nothing_remembered()
}

fn bad_file(t: &Trial, text: &str, words: &str) -> Verdict {
    let node = with_list(t, By::Path)?;
    let folder = write_chain(&node, "main")?;
    fs::write(folder.join("20-bad.conf"), text)?;
    is_refused(&node, words)
}

fn bad_name(t: &Trial) -> Verdict {
    let node = with_list(t, By::Path)?;
    write_chain(&node, "main")?;
    for name in ["../main", "main/", "a main"] {
        write_list(t, &node, json!({"name": name}))?;
        is_refused(&node, name)?;
    }
    Ok(())
}

/// The same node with a chain `aux` of spy-b beside the list.
fn with_auxiliary<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = with_list(t, By::Path)?;
    let empty = json!({"cniVersion": t.version.as_str()});
    node.spy("passthru")?
        .says(Verb::Add, Lines::document(&empty))?;
    node.runtime.config["auxiliaryCNIChainName"] = "aux".into();
    Ok(node)
}

fn auxiliary_is_last(t: &Trial) -> Verdict {
    let mut node = with_auxiliary(t)?;
    write_files(&node, "aux", &[("10-b.conf", json!({"type": "spy-b"}))])?;
    node.attach("net-c", "spy-c")?;
    node.annotate("net-c")?;
    let printed = node.add()?;
    ensure!(
        printed["ips"][0]["address"] == "10.1.0.2/24",
        "the result is not that of the default network: {printed}"
    );
    let status = node.status()?;
    ensure!(
        status[2]["name"] == "aux" && status[2]["ips"] == json!(["10.2.0.2"]),
        "network-status is {status}"
    );
    node.del()?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-c net1",
        "ADD passthru net2",
        "ADD spy-b net2",
        "DEL spy-b net2",
        "DEL passthru net2",
        "DEL spy-c net1",
        "DEL spy-a eth0",
    ])?;
    node.nothing_remembered()
}

fn auxiliary_configurations(t: &Trial) -> Verdict {
    let mut node = with_auxiliary(t)?;
    write_chain(&node, "aux")?;
    node.add()?;
    let version = t.version.as_str();
    let first = node.only_call(Verb::Add, "passthru")?.config();
    let expected = json!({"cniVersion": version, "name": "aux", "type": "passthru"});
    ensure!(first == expected, "passthru was called with {first}");
    for spy in ["spy-b", "spy-c"] {
        let config = node.only_call(Verb::Add, spy)?.config();
        ensure!(
            config["name"] == "aux"
                && config["cniVersion"] == version
                && config["prevResult"]["cniVersion"] == version,
            "{spy} was called with {config}"
        );
    }
    node.del().map(drop)
}

fn no_auxiliary(t: &Trial, file: Option<&str>) -> Verdict {
    let mut node = with_auxiliary(t)?;
    if let Some(file) = file {
        write_files(&node, "aux", &[(file, json!({"type": "nobody"}))])?;
    }
    node.add()?;
    node.expect_calls(&CHAIN[..1])?;
    node.del().map(drop)
}

fn auxiliary_fails(t: &Trial) -> Verdict {
    let mut node = with_auxiliary(t)?;
    write_chain(&node, "aux")?;
    node.spied("spy-b")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.ask(Verb::Add)?
        .refused(&[123])?
        .names("aux")?
        .names("no luck today")?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

fn auxiliary_without_path(t: &Trial) -> Verdict {
    let mut node = with_auxiliary(t)?;
    write_chain(&node, "aux")?;
    node.runtime.config["clusterNetwork"] = "main".into();
    is_refused(&node, "ClusterNetwork must be a path")
}

fn auxiliary_of_bad_name(t: &Trial) -> Verdict {
    let mut node = with_auxiliary(t)?;
    let above = node.conf_dir.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(above.join("aux"))?;
    node.runtime.config["auxiliaryCNIChainName"] = "../aux".into();
    is_refused(&node, "../aux")
}
