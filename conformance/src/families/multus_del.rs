//! Family M, DEL and what it goes by: the scratch file, ours and that of the original, whole, damaged and lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{KINDS, LEVELS, Node, POD_PATH};
use crate::requirement::{Requirement, Verdict, case, fail};
use crate::spec::Verb;
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M60",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "What DEL needs is in the file cniDir/CONTAINERID, mode 0600, in the original's form; it goes with DEL.",
        section: "multus: cniDir",
        cases: &[case("form", form_of_the_file), case("gone", file_goes)],
    },
    Requirement {
        id: "M61",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "DEL is complete when the pod, the attachments, the namespace or the configuration of the time of ADD is gone.",
        section: "multus: DEL",
        cases: &[
            case("pod gone", |t| del_without(t, &[POD_PATH])),
            case("attachments gone", |t| {
                let folder =
                    "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions";
                del_without(t, &[&format!("{folder}/net-b"), &format!("{folder}/net-c")])
            }),
            case("attachment changed", attachment_changed),
            case("annotation changed", annotation_changed),
            case("namespace gone", namespace_gone),
            case("namespace empty", |t| del_with_namespace(t, Some(""))),
            case("namespace not said", |t| del_with_namespace(t, None)),
            case("namespace is a file", |t| {
                del_with_namespace(t, Some("/etc/hosts"))
            }),
            case("delegates changed", delegates_changed),
        ],
    },
    Requirement {
        id: "M62",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A scratch file that is lost or damaged is no reason to leave anything behind while it can be known otherwise.",
        section: "multus: DEL",
        cases: &[
            case("lost", |t| damaged(t, None)),
            case("empty", |t| damaged(t, Some(""))),
            case("null", |t| damaged(t, Some("null"))),
            case("empty list", |t| damaged(t, Some("[]"))),
            case("empty entry", |t| damaged(t, Some("[{}]"))),
            case("null entry", |t| damaged(t, Some("[null]"))),
            case("no list", |t| damaged(t, Some("{\"Bytes\":7}"))),
            case("no JSON", |t| damaged(t, Some("\u{1}\u{2}"))),
            case("truncated", truncated),
        ],
    },
    Requirement {
        id: "M63",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate whose DEL fails does not keep the others from theirs; the error names it, and the next DEL finishes what was left.",
        section: "multus: DEL",
        cases: &[
            case("one fails", one_del_fails),
            case("all fail", all_dels_fail),
            case("retryDeleteOnError", |t| {
                one_del_fails_with(t, |config| config["retryDeleteOnError"] = true.into())
            }),
        ],
    },
    Requirement {
        id: "M64",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "DEL of a container that was never there, and a second DEL, succeed.",
        section: "multus: DEL",
        cases: &[case("unknown", del_of_unknown), case("twice", del_twice)],
    },
    Requirement {
        id: "M65",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Pods that the original attached are deleted by its scratch file, with the exact configurations in it.",
        section: "multus: cniDir",
        cases: &[
            case("3.5", |t| of_the_original(t, file_of_3_5)),
            case("4.0", |t| of_the_original(t, file_of_4)),
            case("4.2 stripped list", of_4_2_stripped),
        ],
    },
];

fn form_of_the_file(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.annotate(r#"[{"name": "net-b", "interface": "lan0"}, {"name": "net-c"}]"#)?;
    node.add()?;
    let file = node.scratch_file();
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{} has the mode {mode:o}", file.display());
    let mode = fs::metadata(&node.cni_dir)?.permissions().mode() & 0o077;
    ensure!(mode == 0, "cniDir is open to others");
    let entries: Vec<Value> = serde_json::from_slice(&fs::read(&file)?)
        .map_err(|error| fail(format!("the scratch file: {error}")))?;
    ensure!(
        entries.len() == 3,
        "the scratch file has {} entries",
        entries.len()
    );
    for (entry, (network, kind)) in
        entries
            .iter()
            .zip([("net-a", "spy-a"), ("net-b", "spy-b"), ("net-c", "spy-c")])
    {
        let bytes = STANDARD
            .decode(entry["Bytes"].as_str().unwrap_or_default())
            .unwrap_or_default();
        let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        ensure!(config["type"] == kind, "Bytes of {network} is {config}");
        ensure!(
            entry["Conf"]["type"] == kind && entry["Conf"]["name"] == network,
            "Conf of {network} is {}",
            entry["Conf"]
        );
        ensure!(
            entry["ConfList"]["plugins"]
                .as_array()
                .is_none_or(Vec::is_empty),
            "{network} would be taken for a list"
        );
    }
    ensure!(
        entries[1]["Name"] == "default/net-b",
        "Name is {}",
        entries[1]["Name"]
    );
    ensure!(
        entries[1]["ifnameRequest"] == "lan0",
        "ifnameRequest is {}",
        entries[1]["ifnameRequest"]
    );
    node.del().map(drop)
}

fn file_goes(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    ensure!(
        node.scratch_file().exists(),
        "there is no scratch file after ADD"
    );
    node.del()?;
    node.nothing_remembered()
}

/// DEL, after which every delegate was called in reverse order.
fn deletes_all(node: &Node) -> Verdict {
    node.forget_calls()?;
    node.del()?;
    node.expect_calls(&["DEL spy-c net2", "DEL spy-b net1", "DEL spy-a eth0"])?;
    node.nothing_remembered()
}

fn del_without(t: &Trial, paths: &[&str]) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    for path in paths {
        ensure!(node.cluster.remove(path), "{path} was not there");
    }
    deletes_all(&node)
}

fn attachment_changed(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.attach("net-b", "spy-c")?;
    deletes_all(&node)
}

fn annotation_changed(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.annotate("net-c,a/b/c")?;
    deletes_all(&node)
}

fn namespace_gone(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.runtime.pod.vanish();
    deletes_all(&node)
}

fn del_with_namespace(t: &Trial, namespace: Option<&str>) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.forget_calls()?;
    let call = node.runtime.call(Verb::Del);
    let call = match namespace {
        Some(path) => call.with("CNI_NETNS", path),
        None => call.without("CNI_NETNS"),
    };
    t.run(&call)?.success()?;
    node.expect_calls(&["DEL spy-c net2", "DEL spy-b net1", "DEL spy-a eth0"])?;
    node.nothing_remembered()
}

/// The operator has changed the default network while the pod ran.
fn delegates_changed(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spy("spy-d")?;
    node.add()?;
    node.runtime.config["delegates"][0]["type"] = "spy-d".into();
    deletes_all(&node)
}

fn damaged(t: &Trial, content: Option<&str>) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    match content {
        Some(content) => fs::write(node.scratch_file(), content)?,
        None => fs::remove_file(node.scratch_file())?,
    }
    recovers(&node)
}

fn truncated(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    let whole = fs::read(node.scratch_file())?;
    fs::write(node.scratch_file(), &whole[..whole.len() / 2])?;
    recovers(&node)
}

/// DEL may say that something was wrong; the runtime asks again then. Afterwards nothing is left.
fn recovers(node: &Node) -> Verdict {
    let first = node.ask(Verb::Del)?;
    if !first.succeeded() {
        node.del()?;
    }
    node.everything_deleted()?;
    node.nothing_remembered()
}

fn one_del_fails(t: &Trial) -> Verdict {
    one_del_fails_with(t, |_| {})
}

fn one_del_fails_with(t: &Trial, change: impl FnOnce(&mut Value)) -> Verdict {
    let mut node = Node::three_networks(t)?;
    change(&mut node.runtime.config);
    node.add()?;
    node.forget_calls()?;
    node.spied("spy-b")?
        .says(Verb::Del, Lines::error(123, "not now"))?;
    node.ask(Verb::Del)?
        .refused(&[])?
        .names("not now")?
        .names("net-b")?;
    node.expect_calls(&["DEL spy-c net2", "DEL spy-b net1", "DEL spy-a eth0"])?;
    // What it needs to know is still there when everything else has gone.
    node.cluster.remove(POD_PATH);
    node.spied("spy-b")?.says(Verb::Del, Lines::default())?;
    node.forget_calls()?;
    node.del()?;
    let calls = node.calls()?;
    ensure!(
        calls.contains(&"DEL spy-b net1".to_owned()),
        "the next DEL called {calls:?}"
    );
    let config = node.only_call(Verb::Del, "spy-b")?.config();
    ensure!(config["name"] == "net-b", "the next DEL gave it {config}");
    node.nothing_remembered()
}

fn all_dels_fail(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.forget_calls()?;
    let names = ["spy-a", "spy-b", "spy-c"];
    for name in names {
        node.spied(name)?
            .says(Verb::Del, Lines::error(123, &format!("{name} says no")))?;
    }
    let refusal = node.ask(Verb::Del)?.refused(&[])?;
    for name in names {
        refusal.names(&format!("{name} says no"))?;
    }
    for name in names {
        node.spied(name)?.says(Verb::Del, Lines::default())?;
    }
    deletes_all(&node)
}

fn del_of_unknown(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    node.del()?;
    node.cluster.remove(POD_PATH);
    node.del()?;
    node.nothing_remembered()
}

fn del_twice(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.del()?;
    node.del()?;
    node.cluster.remove(POD_PATH);
    node.del()?;
    node.nothing_remembered()
}

/// What the original attached here: a list as eth0, and a single plugin that asked for lan0.
fn configurations(version: &str) -> (String, String) {
    let list = json!({
        "cniVersion": version,
        "name": "net-list",
        "plugins": [
            {"type": "spy-a", "datastore_type": "kubernetes"},
            {"type": "spy-b", "capabilities": {"portMappings": true}},
        ],
    });
    let single = json!({"cniVersion": version, "name": "net-c", "type": "spy-c", "ipam": {"type": "host-local", "subnet": "10.9.0.0/16"}});
    (list.to_string(), single.to_string())
}

fn file_of_3_5(version: &str) -> String {
    let (list, single) = configurations(version);
    json!([
        {
            "Conf": {"cniVersion": version, "name": "net-list", "ipam": {}, "dns": {}},
            "ConfList": {"cniVersion": version, "name": "net-list", "plugins": [{"type": "spy-a", "ipam": {}, "dns": {}}, {"type": "spy-b", "capabilities": {"portMappings": true}, "ipam": {}, "dns": {}}]},
            "Name": "net-list",
            "IsFilterGateway": false,
            "Bytes": STANDARD.encode(list),
        },
        {
            "Conf": {"cniVersion": version, "name": "net-c", "type": "spy-c", "ipam": {"type": "host-local"}, "dns": {}},
            "ConfList": {"plugins": null},
            "Name": "net-c",
            "ifnameRequest": "lan0",
            "macRequest": "c2:b0:57:49:47:f1",
            "IsFilterGateway": false,
            "Bytes": STANDARD.encode(single),
        },
    ])
    .to_string()
}

fn file_of_4(version: &str) -> String {
    let mut file: Value = serde_json::from_str(&file_of_3_5(version)).unwrap_or_default();
    for entry in file.as_array_mut().into_iter().flatten() {
        if let Some(members) = entry.as_object_mut() {
            members.remove("IsFilterGateway");
        }
        entry["IsFilterV4Gateway"] = false.into();
        entry["IsFilterV6Gateway"] = false.into();
    }
    file[1]["Name"] = "default/net-c".into();
    file.to_string()
}

fn of_the_original(t: &Trial, file: fn(&str) -> String) -> Verdict {
    let node = with_file(t, &file(t.version.as_str()))?;
    node.del()?;
    node.expect_calls(&["DEL spy-c lan0", "DEL spy-b eth0", "DEL spy-a eth0"])?;
    let config = node.only_call(Verb::Del, "spy-a")?.config();
    ensure!(
        config["datastore_type"] == "kubernetes",
        "the plugin of the list got {config}"
    );
    let config = node.only_call(Verb::Del, "spy-c")?.config();
    ensure!(
        config["ipam"]["subnet"] == "10.9.0.0/16",
        "the single plugin got {config}"
    );
    node.nothing_remembered()
}

/// A node on which a pod runs that somebody else has attached.
fn with_file<'t>(t: &'t Trial, content: &str) -> Result<Node<'t>, crate::requirement::Stop> {
    let node = Node::three_networks(t)?;
    fs::create_dir_all(&node.cni_dir)?;
    fs::write(node.scratch_file(), content)?;
    Ok(node)
}

/// Versions 4.2.1 to 4.3.0: `Bytes` of a list from a file has lost what is not of the specification.
fn of_4_2_stripped(t: &Trial) -> Verdict {
    let version = t.version.as_str();
    let (list, _) = configurations(version);
    let whole: Value = serde_json::from_str(&list).unwrap_or_default();
    let stripped = json!({"cniVersion": version, "name": "net-list", "plugins": [{"type": "spy-a", "ipam": {}, "dns": {}}, {"type": "spy-b", "capabilities": {"portMappings": true}, "ipam": {}, "dns": {}}]});
    let plugins: Vec<_> = whole["plugins"].as_array().into_iter().flatten().collect();
    let plugins: Vec<_> = plugins
        .iter()
        .map(|plugin| json!({"Network": {"type": plugin["type"], "ipam": {}, "dns": {}}, "Bytes": STANDARD.encode(plugin.to_string())}))
        .collect();
    let file = json!([{
        "Conf": {"cniVersion": version, "name": "net-list", "ipam": {}, "dns": {}},
        "ConfList": stripped,
        "CNINetworkConfigList": {
            "Name": "net-list", "CNIVersion": version, "DisableCheck": false, "DisableGC": false,
            "LoadOnlyInlinedPlugins": false, "Plugins": plugins, "Bytes": STANDARD.encode(&list),
        },
        "Name": "net-list",
        "IsFilterV4Gateway": false,
        "IsFilterV6Gateway": false,
        "Bytes": STANDARD.encode(stripped.to_string()),
    }]);
    let node = with_file(t, &file.to_string())?;
    node.del()?;
    node.expect_calls(&["DEL spy-b eth0", "DEL spy-a eth0"])?;
    let config = node.only_call(Verb::Del, "spy-a")?.config();
    ensure!(
        config["datastore_type"] == "kubernetes",
        "the plugin that must find its data store got {config}"
    );
    node.nothing_remembered()
}
