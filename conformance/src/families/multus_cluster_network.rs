//! Family M, cluster network: the networks that the configuration names for every pod.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cluster::{Effect, Fault};
use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::code::{INVALID_CONFIG, TRY_AGAIN};
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M103",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "clusterNetwork is an attachment of multusNamespace, else the network of its name in confDir; with a / in it, a file or the first file of a folder. delegates are not used then.",
        section: "multus: clusterNetwork",
        cases: &[
            case("attachment", cluster_network_is_an_attachment),
            case(
                "attachment without configuration",
                attachment_without_configuration,
            ),
            case("attachment before file", attachment_before_file),
            case("conf in confDir", |t| {
                in_conf_dir(t, "10.conf", single(t, "main"))
            }),
            case("json in confDir", |t| {
                in_conf_dir(t, "10.json", single(t, "main"))
            }),
            case("conflist in confDir", |t| {
                in_conf_dir(t, "10.conflist", list(t, "main"))
            }),
            case("first of two", first_file_of_the_name),
            case("conf file", |t| {
                by_path(t, "x.conf", single(t, "main"), "x.conf")
            }),
            case("json file", |t| {
                by_path(t, "x.json", single(t, "main"), "x.json")
            }),
            case("conflist file", |t| {
                by_path(t, "x.conflist", list(t, "main"), "x.conflist")
            }),
            case("folder", |t| by_path(t, "x.conflist", list(t, "main"), "")),
        ],
    },
    Requirement {
        id: "M104",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A clusterNetwork that can't be had fails the ADD before anything is done; the error names it and where it was looked for.",
        section: "multus: clusterNetwork",
        cases: &[
            case("missing", cluster_network_missing),
            case("path", bad_paths),
            case("attachment can't be used", cluster_network_unusable),
            case("server away", server_away),
            case("no API server", no_api_server),
        ],
    },
    Requirement {
        id: "M105",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "defaultNetworks come after clusterNetwork and before the pod's own; pods of systemNamespaces have none of them.",
        section: "multus: defaultNetworks, systemNamespaces",
        cases: &[
            case("order", default_networks_in_order),
            case("every form", default_networks_of_every_form),
            case("missing", default_network_missing),
            case("kube-system", |t| system_pod(t, "kube-system", None)),
            case("systemNamespaces", |t| {
                system_pod(t, "default", Some(json!(["x", "default"])))
            }),
            case("no systemNamespaces", no_system_namespaces),
            case("without clusterNetwork", default_networks_alone),
        ],
    },
];

pub(super) fn single(t: &Trial, name: &str) -> Value {
    json!({"cniVersion": t.version.as_str(), "name": name, "type": "spy-b"})
}

pub(super) fn list(t: &Trial, name: &str) -> Value {
    json!({"cniVersion": t.version.as_str(), "name": name, "plugins": [{"type": "spy-b"}]})
}

/// A clusterNetwork beside the static delegate of spy-a, which must not be used; spy-b and spy-c for it.
fn node<'t>(t: &'t Trial, cluster_network: &str) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?;
    node.spy("spy-c")?;
    node.runtime.config["clusterNetwork"] = cluster_network.into();
    Ok(node)
}

pub(super) fn write(node: &Node, file: &str, config: &Value) -> Result<PathBuf, Stop> {
    let path = node.conf_dir.join(file);
    fs::write(&path, config.to_string())?;
    Ok(path)
}

pub(super) fn define(node: &Node, name: &str, config: &Value) -> Verdict {
    node.define_text("kube-system", name, &config.to_string())
}

/// ADD has the network of spy-b only, its result is printed, the status has this name for it, and DEL deletes it.
fn is_default(node: &mut Node, name: &str) -> Verdict {
    let result = node.add()?;
    ensure!(
        result["ips"][0]["address"] == "10.2.0.2/24",
        "the result is not that of the default network: {result}"
    );
    let status = node.status()?;
    ensure!(
        status[0]["name"] == name && status[0]["default"] == true,
        "network-status is {status}, expected {name} as the default network"
    );
    node.del()?;
    node.expect_calls(&["ADD spy-b eth0", "DEL spy-b eth0"])?;
    node.nothing_remembered()
}

fn cluster_network_is_an_attachment(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    // Nobody asked for the one of another namespace.
    node.attach("main", "spy-c")?;
    define(
        &node,
        "main",
        &json!({"cniVersion": t.version.as_str(), "type": "spy-b"}),
    )?;
    is_default(&mut node, "kube-system/main")?;
    let name = node.journal()?[0].config()["name"].clone();
    ensure!(name == "main", "the network's name became {name}");
    node.forget_calls()?;
    node.runtime.config["multusNamespace"] = "infra".into();
    node.define_text("infra", "main", &list(t, "other").to_string())?;
    is_default(&mut node, "infra/main")
}

fn attachment_without_configuration(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    node.define_text("kube-system", "main", "")?;
    write(&node, "10.conf", &single(t, "main"))?;
    is_default(&mut node, "kube-system/main")
}

fn attachment_before_file(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    let mut other = single(t, "main");
    other["type"] = "spy-c".into();
    write(&node, "10.conf", &other)?;
    define(&node, "main", &single(t, "main"))?;
    is_default(&mut node, "kube-system/main")
}

fn in_conf_dir(t: &Trial, file: &str, config: Value) -> Verdict {
    let mut node = node(t, "main")?;
    let mut other = single(t, "another");
    other["type"] = "spy-c".into();
    write(&node, "00.conf", &other)?;
    write(&node, file, &config)?;
    is_default(&mut node, "main")
}

fn first_file_of_the_name(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    let mut other = single(t, "main");
    other["type"] = "spy-c".into();
    fs::write(node.conf_dir.join("00.conf"), "{")?;
    write(&node, "10.txt", &other)?;
    write(&node, "20.conf", &single(t, "main"))?;
    write(&node, "30.conflist", &other)?;
    is_default(&mut node, "main")
}

/// `asked` is what of the folder's path is asked for; the file is the first of those that count.
fn by_path(t: &Trial, file: &str, config: Value, asked: &str) -> Verdict {
    let mut node = node(t, "")?;
    let mut other = single(t, "another");
    other["type"] = "spy-c".into();
    write(&node, "a.txt", &other)?;
    write(&node, file, &config)?;
    write(&node, "z.conf", &other)?;
    node.runtime.config["clusterNetwork"] = json!(node.conf_dir.join(asked));
    // Where a path is given, nothing else is looked at.
    node.runtime.config["confDir"] = "/nowhere".into();
    is_default(&mut node, "main")
}

fn cluster_network_missing(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    let folder = node.conf_dir.display().to_string();
    let place = "failed to get clusterNetwork main in namespace kube-system";
    node.refuses(&[INVALID_CONFIG], &[place, &folder])?;
    // Another namespace's is not it, and neither is a file of that name for another network.
    node.attach("main", "spy-b")?;
    write(&node, "main.conf", &single(t, "another"))?;
    node.refuses(&[INVALID_CONFIG], &[place, &folder])?;
    node.runtime.config["multusNamespace"] = "infra".into();
    define(&node, "main", &single(t, "main"))?;
    node.refuses(&[INVALID_CONFIG], &["main in namespace infra"])
}

fn bad_paths(t: &Trial) -> Verdict {
    let mut node = node(t, "")?;
    let empty = node.conf_dir.join("empty");
    fs::create_dir(&empty)?;
    write(&node, "list.conf", &list(t, "main"))?;
    write(&node, "single.conflist", &single(t, "main"))?;
    write(&node, "untyped.conf", &json!({"name": "main"}))?;
    fs::write(node.conf_dir.join("broken.conf"), "{")?;
    for (path, word) in [
        ("nosuch.conf", "nosuch.conf"),
        ("empty", "empty"),
        ("list.conf", "conflist"),
        ("single.conflist", "plugins"),
        ("untyped.conf", "type"),
        ("broken.conf", "broken.conf"),
    ] {
        let path = node.conf_dir.join(path).display().to_string();
        node.runtime.config["clusterNetwork"] = path.as_str().into();
        node.refuses(&[], &[&path, word])
            .map_err(|stop| stop.within(path))?;
    }
    Ok(())
}

/// One that is there and wrong is not a reason to take another one of its name.
fn cluster_network_unusable(t: &Trial) -> Verdict {
    let node = node(t, "main")?;
    write(&node, "10.conf", &single(t, "main"))?;
    for (config, word) in [
        ("[]", "Spec.Config"),
        (r#"{"plugins":[]}"#, "plugins"),
        (r#"{"type":"multus"}"#, "call itself"),
    ] {
        node.define_text("kube-system", "main", config)?;
        node.refuses(&[INVALID_CONFIG], &["clusterNetwork main", word])
            .map_err(|stop| stop.within(config))?;
    }
    Ok(())
}

/// While it isn't known whether there is such an attachment, the file of its name is not taken for it.
fn server_away(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    write(&node, "10.conf", &single(t, "main"))?;
    node.runtime.config["timeouts"]["apiServer"] = 1.into();
    let object = "/network-attachment-definitions/main";
    node.cluster
        .strike(Fault::on("GET", object, Effect::Answer(503, None)));
    node.refuses(&[TRY_AGAIN], &["clusterNetwork main"])
}

fn no_api_server(t: &Trial) -> Verdict {
    let mut node = node(t, "main")?;
    let file = write(&node, "10.conf", &single(t, "main"))?;
    node.runtime.config["kubeconfig"] = "".into();
    for name in ["main".to_owned(), file.display().to_string()] {
        node.runtime.config["clusterNetwork"] = name.as_str().into();
        let words = "must have either Kubernetes config or delegates";
        node.refuses(&[INVALID_CONFIG], &[words, &name])?;
    }
    Ok(())
}

/// spy-b makes the cluster network, spy-c another one for every pod, and spy-d what the pod of `namespace` selects.
pub(super) fn with_default_networks<'t>(t: &'t Trial, namespace: &str) -> Result<Node<'t>, Stop> {
    let mut node = Node::in_namespace(t, namespace)?;
    for spy in ["spy-b", "spy-c", "spy-d"] {
        node.spy(spy)?;
    }
    let config = |spy: &str| json!({"cniVersion": t.version.as_str(), "type": spy});
    define(&node, "main", &config("spy-b"))?;
    define(&node, "more", &config("spy-c"))?;
    node.define_text(namespace, "own", &config("spy-d").to_string())?;
    node.annotate("own")?;
    node.runtime.config["clusterNetwork"] = "main".into();
    node.runtime.config["defaultNetworks"] = json!(["more"]);
    Ok(node)
}

fn default_networks_in_order(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "default")?;
    node.add()?;
    node.del()?;
    node.expect_calls(&[
        "ADD spy-b eth0",
        "ADD spy-c net1",
        "ADD spy-d net2",
        "DEL spy-d net2",
        "DEL spy-c net1",
        "DEL spy-b eth0",
    ])
}

fn default_networks_of_every_form(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "default")?;
    let mut config = list(t, "in-conf-dir");
    config["plugins"][0]["type"] = "spy-d".into();
    write(&node, "10.conflist", &config)?;
    let file = write(&node, "20.conf", &single(t, "file"))?;
    node.runtime.config["defaultNetworks"] = json!(["in-conf-dir", "more", file, node.conf_dir]);
    node.annotate("")?;
    node.attaches(&[
        "spy-b eth0",
        "spy-d net1",
        "spy-c net2",
        "spy-b net3",
        "spy-d net4",
    ])
}

fn default_network_missing(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "default")?;
    for name in ["nosuch", "/no/such/file"] {
        node.runtime.config["defaultNetworks"] = json!(["more", name]);
        node.refuses(&[], &["defaultNetworks", name])
            .map_err(|stop| stop.within(name))?;
    }
    Ok(())
}

fn system_pod(t: &Trial, namespace: &str, system: Option<Value>) -> Verdict {
    let mut node = with_default_networks(t, namespace)?;
    if let Some(system) = system {
        node.runtime.config["systemNamespaces"] = system;
    }
    node.attaches(&["spy-b eth0", "spy-d net1"])?;
    // They are told their networks like all others.
    node.add()?;
    let status = node.status()?;
    ensure!(
        status[1]["name"] == format!("{namespace}/own"),
        "network-status is {status}"
    );
    node.del().map(drop)
}

fn no_system_namespaces(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "kube-system")?;
    for system in [json!([]), json!(["default"])] {
        node.runtime.config["systemNamespaces"] = system;
        node.attaches(&["spy-b eth0", "spy-c net1", "spy-d net2"])?;
    }
    Ok(())
}

fn default_networks_alone(t: &Trial) -> Verdict {
    let mut node = with_default_networks(t, "default")?;
    node.runtime.config["clusterNetwork"] = "".into();
    node.attaches(&["spy-a eth0", "spy-d net1"])
}
