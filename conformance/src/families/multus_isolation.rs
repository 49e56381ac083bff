//! Family M, isolation: whose networks a pod may use, which pod an ADD is for, and what nobody may read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::ensure;
use crate::multus::{DEFAULT_NETWORK, KINDS, NEWEST, Node, POD_PATH};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::Verb;
use crate::spec::code::{INVALID_CONFIG, OWN};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M99",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "With namespaceIsolation a pod may use networks of its own namespace and of globalNamespaces, which are `default` where the key is missing; without it, all.",
        section: "multus: namespaceIsolation, globalNamespaces",
        cases: &[
            case("off", |t| {
                may_use(
                    t,
                    false,
                    None,
                    &["tenant", "default", "other", "kube-system"],
                )
            }),
            case("on", |t| may_use(t, true, None, &["tenant", "default"])),
            case("another list", |t| {
                may_use(t, true, Some("kube-system,foo"), &["tenant", "kube-system"])
            }),
            case("list with default", |t| {
                may_use(
                    t,
                    true,
                    Some(" default ,other "),
                    &["tenant", "default", "other"],
                )
            }),
            case("empty list", |t| may_use(t, true, Some(""), &["tenant"])),
            case("a part of a name", |t| {
                may_use(t, true, Some("defaul,othe"), &["tenant"])
            }),
        ],
    },
    Requirement {
        id: "M100",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Isolation holds for the default network that a pod wants, except for those of multusNamespace; it never keeps DEL from its work.",
        section: "multus: namespaceIsolation",
        cases: &[
            case("default network", isolated_default_network),
            case("DEL", isolated_del),
        ],
    },
    Requirement {
        id: "M101",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Nothing of a configuration and no token is in a log, on stderr, in an event or in an error, whatever fails.",
        section: "multus: logging",
        cases: &[case("all that is said", secrets_are_kept)],
    },
    Requirement {
        id: "M102",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "What is kept is for its owner alone: files are 0600, folders 0700, whatever the umask is.",
        section: "multus: cniDir, logFile",
        cases: &[case("modes", modes)],
    },
    Requirement {
        id: "M109",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A pod with another UID than the runtime's is another pod, also where it says that it comes from the API server.",
        section: "multus: ADD",
        cases: &[case("from the API server", uid_of_a_pod_of_the_server)],
    },
];

const NAMESPACES: [&str; 4] = ["tenant", "default", "other", "kube-system"];

/// A pod in `tenant`, and the network net-b of spy-b in four namespaces.
fn node<'t>(t: &'t Trial, on: bool, global: Option<&str>) -> Result<Node<'t>, Stop> {
    let mut node = Node::in_namespace(t, "tenant")?;
    node.spy("spy-b")?;
    let config = json!({"cniVersion": t.version.as_str(), "type": "spy-b"});
    for namespace in NAMESPACES {
        node.define_text(namespace, "net-b", &config.to_string())?;
    }
    node.runtime.config["namespaceIsolation"] = on.into();
    if let Some(global) = global {
        node.runtime.config["globalNamespaces"] = global.into();
    }
    Ok(node)
}

fn may_use(t: &Trial, on: bool, global: Option<&str>, allowed: &[&str]) -> Verdict {
    let mut node = node(t, on, global)?;
    for namespace in NAMESPACES {
        for text in [
            format!("{namespace}/net-b"),
            json!([{"name": "net-b", "namespace": namespace}]).to_string(),
        ] {
            node.annotate(&text)?;
            if allowed.contains(&namespace) {
                node.attaches(&["spy-a eth0", "spy-b net1"])
                    .map_err(|stop| stop.within(&text))?;
                continue;
            }
            node.cluster.forget_requests();
            let words =
                format!("pod is in namespace tenant but refers to target namespace {namespace}");
            node.refuses(&[INVALID_CONFIG], &[&words])
                .map_err(|stop| stop.within(&text))?;
            let asked = node.cluster.requests();
            ensure!(
                asked.len() == 1,
                "{text} was refused after more than the pod was asked for: {asked:?}"
            );
        }
    }
    // Without a namespace it is the pod's own.
    node.annotate("net-b")?;
    node.attaches(&["spy-a eth0", "spy-b net1"])
}

fn isolated_default_network(t: &Trial) -> Verdict {
    let mut node = node(t, true, None)?;
    for wanted in [
        "net-b",
        "kube-system/net-b",
        "default/net-b",
        "tenant/net-b",
    ] {
        node.set_annotation(DEFAULT_NETWORK, wanted)?;
        node.attaches(&["spy-b eth0"])
            .map_err(|stop| stop.within(wanted))?;
    }
    node.set_annotation(DEFAULT_NETWORK, "other/net-b")?;
    node.refuses(&[INVALID_CONFIG], &["target namespace other"])
}

fn isolated_del(t: &Trial) -> Verdict {
    let mut node = node(t, false, None)?;
    node.annotate("other/net-b")?;
    node.add()?;
    node.runtime.config["namespaceIsolation"] = true.into();
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

/// In the configurations of this case, and nowhere else.
const SECRET: &str = "xyzzy-secret";

/// What a plugin told its caller. A successful ADD of a spy has nothing of a configuration in it either.
fn said(answer: &Answer) -> String {
    let outcome = &answer.exchange.outcome;
    let [stdout, stderr] =
        [&outcome.stdout, &outcome.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{stdout}\n{stderr}")
}

fn secrets_are_kept(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let log = node.conf_dir.join("multus.log");
    let config = &mut node.runtime.config;
    config["logFile"] = json!(log);
    config["logLevel"] = "debug".into();
    config["delegates"][0]["password"] = SECRET.into();
    config["password"] = SECRET.into();
    let secret = |more: Value| {
        let mut config = json!({"type": "spy-b", "password": SECRET});
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    };
    let mut told = String::new();
    let mut all_verbs = |node: &Node| -> Verdict {
        for verb in [Verb::Add, Verb::Check, Verb::Del] {
            told += &said(&node.ask(verb)?);
        }
        Ok(())
    };
    node.define("net-b", &secret(json!({})))?;
    all_verbs(&node)?;
    // A delegate that fails on ADD, and on DEL.
    for verb in [Verb::Add, Verb::Del] {
        node.spied("spy-b")?.says(verb, Lines::error(123, "no"))?;
        all_verbs(&node)?;
        node.spied("spy-b")?.says(verb, Lines::default())?;
    }
    // One that talks nonsense, and configurations that are wrong in many ways.
    all_verbs(&node)?;
    for wrong in [
        json!({"type": "nosuch"}),
        json!({"type": 7}),
        json!({"cniVersion": "9.9.9"}),
        json!({"cniVersion": [SECRET]}),
        json!({"name": "../x"}),
        json!({"capabilities": SECRET}),
        json!({"plugins": SECRET}),
        json!({"args": SECRET}),
    ] {
        node.define("net-b", &secret(wrong))?;
        node.annotate(r#"[{"name":"net-b","cni-args":{"a":1}}]"#)?;
        all_verbs(&node)?;
    }
    node.define_text("default", "net-b", &format!(r#"{{"password":"{SECRET}""#))?;
    all_verbs(&node)?;
    told += &fs::read_to_string(&log)?;
    for event in node.cluster.list("/api/v1/events") {
        told += &event.to_string();
    }
    let secrets = [
        ("a password of a configuration", SECRET),
        ("the token", node.cluster.token()),
    ];
    for (what, secret) in secrets {
        let line = told.lines().find(|line| line.contains(secret));
        ensure!(
            line.is_none(),
            "{what} is told: {}",
            line.unwrap_or_default()
        );
    }
    ensure!(
        told.contains("[verbose] Add: default:samplepod:") && told.contains("\"code\""),
        "nothing was said at all: {told}"
    );
    Ok(())
}

fn modes(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let log = node.conf_dir.join("multus.log");
    node.runtime.config["logFile"] = json!(log);
    node.runtime.config["logLevel"] = "debug".into();
    node.add()?;
    let file = node.scratch_file();
    ensure!(file.is_file(), "there is no {}", file.display());
    private(&node.cni_dir)?;
    private(&log)?;
    node.del().map(drop)
}

/// A folder and all below it, or a file.
fn private(path: &Path) -> Verdict {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    let expected = match path.is_dir() {
        true => 0o700,
        false => 0o600,
    };
    ensure!(
        mode == expected,
        "{} has the mode {mode:o}, expected {expected:o}",
        path.display()
    );
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            private(&entry?.path())?;
        }
    }
    Ok(())
}

/// Only pods of other sources have another UID at the API server than at the runtime. This one came in the place of the runtime's.
fn uid_of_a_pod_of_the_server(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    node.set_annotation("kubernetes.io/config.source", "api")?;
    let mut pod = node.pod()?;
    node.cluster.remove(POD_PATH);
    pod["metadata"]["uid"].take();
    let another = node.cluster.put(pod).map_err(fail)?;
    let uid = another["metadata"]["uid"].as_str().unwrap_or_default();
    node.refuses(&[OWN], &[uid])
}
