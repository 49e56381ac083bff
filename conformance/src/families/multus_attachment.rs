//! Family M, attachments: the configuration in a NetworkAttachmentDefinition or in the file of its name, and what a pod adds to it.

use std::fs;

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::Verb;
use crate::spec::code::INVALID_CONFIG;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M88",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "An attachment's configuration reaches its plugin as it was written, with the attachment's name where it has none.",
        section: "multus: attachments",
        cases: &[
            case("name", name_is_put_in),
            case("own name", own_name_stays),
            case("list", list_without_name),
            case("text", text_is_kept),
        ],
    },
    Requirement {
        id: "M89",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "An attachment without a configuration is the file in confDir with its name, the first of several; DEL doesn't need the file.",
        section: "multus: confDir",
        cases: &[
            case("conf", |t| on_disk(t, "10.conf", &single("net-b"))),
            case("json", |t| on_disk(t, "10.json", &single("net-b"))),
            case("conflist", |t| on_disk(t, "10.conflist", &list("net-b"))),
            case("spec is missing", no_spec),
            case("first of two", first_file_wins),
            case("broken file beside it", broken_file_beside),
            case("missing", no_file),
            case("broken", broken_file),
        ],
    },
    Requirement {
        id: "M92",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A configuration that can't be used fails the ADD before anything is done; the error names the attachment, and shows nothing of any file.",
        section: "multus: attachments",
        cases: &[
            case("no configuration", no_configuration),
            case("plugins", unusable_plugins),
            case("name and version", unusable_name_or_version),
            case("itself", calls_itself),
        ],
    },
    Requirement {
        id: "M93",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "cni-args of the pod are put into args.cni of every plugin of their network, on every verb; the pod's value wins, and all else is kept.",
        section: "multus: annotations, cni-args",
        cases: &[
            case("single", cni_args_of_single),
            case("list", cni_args_of_list),
            case("merge", cni_args_are_merged),
            case("nothing there", cni_args_into_null),
        ],
    },
    Requirement {
        id: "M94",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Where args or args.cni is no object, cni-args fail the ADD.",
        section: "multus: annotations, cni-args",
        cases: &[case("no object", cni_args_into_no_object)],
    },
];

fn single(name: &str) -> Value {
    json!({"cniVersion": "1.1.0", "name": name, "type": "spy-b"})
}

fn list(name: &str) -> Value {
    json!({"cniVersion": "1.1.0", "name": name, "plugins": [{"type": "spy-b"}]})
}

/// spy-b and spy-c, no attachment of which is selected.
fn node<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let node = Node::three_networks(t)?;
    node.annotate("net-b")?;
    Ok(node)
}

/// What spy-b got on this verb after ADD and DEL of a pod with this attachment and this request.
fn configs(t: &Trial, config: &Value, request: &Value) -> Result<[Value; 2], Stop> {
    let mut node = node(t)?;
    node.define("net-b", config)?;
    let mut request = request.clone();
    request["name"] = "net-b".into();
    node.annotate(&json!([request]).to_string())?;
    node.add()?;
    node.del()?;
    let of = |verb| Ok::<_, Stop>(node.only_call(verb, "spy-b")?.config());
    Ok([of(Verb::Add)?, of(Verb::Del)?])
}

fn name_is_put_in(t: &Trial) -> Verdict {
    let version = t.version.as_str();
    for nameless in [
        json!({"cniVersion": version, "type": "spy-b"}),
        json!({"cniVersion": version, "type": "spy-b", "name": ""}),
        json!({"cniVersion": version, "type": "spy-b", "name": null}),
    ] {
        for config in configs(t, &nameless, &json!({}))? {
            ensure!(
                config["name"] == "net-b",
                "{nameless} reached the plugin as {config}"
            );
        }
    }
    Ok(())
}

fn own_name_stays(t: &Trial) -> Verdict {
    let named = json!({"cniVersion": t.version.as_str(), "type": "spy-b", "name": "Other_1.x"});
    for config in configs(t, &named, &json!({}))? {
        ensure!(
            config["name"] == "Other_1.x",
            "the name of the configuration became {}",
            config["name"]
        );
    }
    Ok(())
}

fn list_without_name(t: &Trial) -> Verdict {
    let version = t.version.as_str();
    let nameless = json!({"cniVersion": version, "plugins": [{"type": "spy-b"}]});
    for config in configs(t, &nameless, &json!({}))? {
        ensure!(
            config["name"] == "net-b" && config["cniVersion"] == version,
            "the plugin of a list without name got {config}"
        );
    }
    Ok(())
}

fn text_is_kept(t: &Trial) -> Verdict {
    let mut node = node(t)?;
    // Numbers that a reader of numbers would change, and a name to be put in.
    let members = r#""big":12345678901234567890123,"price":1.50,"tiny":1e-400"#;
    let text = format!(
        r#"{{"cniVersion":"{}","type":"spy-b",{members}}}"#,
        t.version
    );
    node.define_text("default", "net-b", &text)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        let got = node.only_call(verb, "spy-b")?.stdin;
        for member in members.split(',') {
            ensure!(got.contains(member), "{verb}: {member} became {got}");
        }
    }
    Ok(())
}

/// The attachment net-b without a configuration, and these files in confDir.
fn with_files<'t>(t: &'t Trial, files: &[(&str, &str)]) -> Result<Node<'t>, Stop> {
    let node = node(t)?;
    node.define_text("default", "net-b", "")?;
    for (file, text) in files {
        fs::write(node.conf_dir.join(file), text)?;
    }
    Ok(node)
}

fn is_from_disk(node: &mut Node) -> Verdict {
    node.add()?;
    for entry in fs::read_dir(&node.conf_dir)? {
        fs::remove_file(entry?.path())?;
    }
    node.del()?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])
}

fn on_disk(t: &Trial, file: &str, config: &Value) -> Verdict {
    let mut other = single("net-c");
    other["type"] = "spy-c".into();
    let files = [("00.conf", other.to_string()), (file, config.to_string())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    is_from_disk(&mut with_files(t, &files)?)
}

fn no_spec(t: &Trial) -> Verdict {
    let mut node = with_files(t, &[("10.conf", &single("net-b").to_string())])?;
    let object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "net-b", "namespace": "default"},
    });
    node.cluster.put(object).map_err(fail)?;
    is_from_disk(&mut node)
}

fn first_file_wins(t: &Trial) -> Verdict {
    let mut other = single("net-b");
    other["type"] = "spy-c".into();
    let files = [
        ("20.conflist", list("net-b").to_string()),
        ("30.conf", other.to_string()),
        ("10.txt", other.to_string()),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    is_from_disk(&mut with_files(t, &files)?)
}

/// What belongs to nobody doesn't keep a pod from its network.
fn broken_file_beside(t: &Trial) -> Verdict {
    let text = single("net-b").to_string();
    let mut node = with_files(t, &[("00.conf", "{"), ("10.conf", &text)])?;
    is_from_disk(&mut node)
}

fn no_file(t: &Trial) -> Verdict {
    let node = with_files(t, &[])?;
    let folder = node.conf_dir.display().to_string();
    node.refuses(&[INVALID_CONFIG], &["default/net-b", &folder])?;
    fs::write(node.conf_dir.join("10.conf"), single("net-x").to_string())?;
    node.refuses(&[INVALID_CONFIG], &["default/net-b", &folder])?;
    fs::remove_dir_all(&node.conf_dir)?;
    node.refuses(&[INVALID_CONFIG], &["default/net-b", &folder])
}

fn broken_file(t: &Trial) -> Verdict {
    let node = with_files(t, &[("10.conf", r#"{"name":"net-b""#)])?;
    node.refuses(&[INVALID_CONFIG], &["default/net-b", "10.conf"])
}

fn unusable(t: &Trial, configs: &[(&str, &str)]) -> Verdict {
    let node = node(t)?;
    for (config, word) in configs {
        node.define_text("default", "net-b", config)?;
        node.refuses(&[], &["default/net-b", word])
            .map_err(|stop| stop.within(config))?;
        // A DEL finds nothing of it.
        node.del()?;
        node.expect_calls(&["DEL spy-a eth0"])
            .or_else(|_| node.expect_calls(&[]))?;
    }
    Ok(())
}

fn no_configuration(t: &Trial) -> Verdict {
    let node = node(t)?;
    // A text that looks like a path is no path.
    let secret = node.conf_dir.join("secret");
    fs::write(&secret, r#"{"type":"spy-b","password":"xyzzy"}"#)?;
    let path = secret.display().to_string();
    for config in [
        path.as_str(),
        &format!("@{path}"),
        &json!(path).to_string(),
        "no json",
        "[]",
        "null",
        "7",
        r#"{"type":"spy-b""#,
        r#"{"type":"spy-b"} {"type":"spy-b"}"#,
        &"[".repeat(100_000),
    ] {
        node.define_text("default", "net-b", config)?;
        let short: String = config.chars().take(60).collect();
        node.refuses(&[INVALID_CONFIG], &["default/net-b", "Spec.Config"])
            .map_err(|stop| stop.within(&short))?;
        let answer = node.ask(Verb::Add)?;
        let said = [
            &answer.exchange.outcome.stdout,
            &answer.exchange.outcome.stderr,
        ];
        ensure!(
            !said
                .iter()
                .any(|text| String::from_utf8_lossy(text).contains("xyzzy")),
            "a text in an attachment had a file of the node read"
        );
    }
    Ok(())
}

fn unusable_plugins(t: &Trial) -> Verdict {
    unusable(
        t,
        &[
            ("{}", "type"),
            (r#"{"name":"x"}"#, "type"),
            (r#"{"type":""}"#, "type"),
            (r#"{"type":["spy-b"]}"#, "type"),
            (r#"{"plugins":[]}"#, "plugins"),
            (r#"{"plugins":{}}"#, "plugins"),
            (r#"{"plugins":[null]}"#, ""),
            (r#"{"plugins":[{}]}"#, "type"),
            (r#"{"plugins":[{"type":"spy-b"},{"name":"x"}]}"#, "type"),
            (r#"{"type":"nosuch"}"#, "nosuch"),
            (
                r#"{"plugins":[{"type":"spy-b"},{"type":"nosuch"}]}"#,
                "nosuch",
            ),
            (r#"{"type":"spy-b","capabilities":[]}"#, "capabilities"),
        ],
    )
}

fn unusable_name_or_version(t: &Trial) -> Verdict {
    unusable(
        t,
        &[
            (r#"{"type":"spy-b","name":"../x"}"#, "../x"),
            (r#"{"type":"spy-b","name":"a/b"}"#, "a/b"),
            (r#"{"type":"spy-b","name":7}"#, "name"),
            (r#"{"type":"spy-b","cniVersion":"9.9.9"}"#, "9.9.9"),
            (r#"{"type":"spy-b","cniVersion":1}"#, "cniVersion"),
        ],
    )
}

fn calls_itself(t: &Trial) -> Verdict {
    unusable(
        t,
        &[
            (r#"{"type":"multus"}"#, "call itself"),
            (r#"{"type":"multus-shim"}"#, "call itself"),
            (
                r#"{"plugins":[{"type":"spy-b"},{"type":"multus"}]}"#,
                "call itself",
            ),
        ],
    )
}

fn cni_args_of_single(t: &Trial) -> Verdict {
    let config = json!({"cniVersion": t.version.as_str(), "type": "spy-b"});
    let args = json!({"a": "x", "b": {"deep": [1, null, 1.5]}});
    for config in configs(t, &config, &json!({ "cni-args": args }))? {
        ensure!(
            config["args"] == json!({ "cni": args }),
            "args became {}",
            config["args"]
        );
    }
    Ok(())
}

fn cni_args_of_list(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let version = t.version.as_str();
    node.define(
        "net-b",
        &json!({"cniVersion": version, "plugins": [{"type": "spy-b"}, {"type": "spy-c"}]}),
    )?;
    node.annotate(r#"[{"name":"net-b","cni-args":{"a":"x"}}]"#)?;
    node.add()?;
    node.del()?;
    for verb in [Verb::Add, Verb::Del] {
        for spy in ["spy-b", "spy-c"] {
            let args = node.only_call(verb, spy)?.config()["args"].clone();
            ensure!(
                args == json!({"cni": {"a": "x"}}),
                "{verb}: {spy} got the args {args}"
            );
        }
        // The default network is not the one they were written for.
        let args = node.only_call(verb, "spy-a")?.config()["args"].clone();
        ensure!(args.is_null(), "{verb}: the default network got {args}");
    }
    Ok(())
}

fn cni_args_are_merged(t: &Trial) -> Verdict {
    let config = json!({
        "cniVersion": t.version.as_str(),
        "type": "spy-b",
        "args": {"other": {"x": 1}, "cni": {"a": "attachment", "b": "attachment"}},
    });
    let request = json!({"cni-args": {"b": "pod", "c": "pod"}});
    let expected = json!({"other": {"x": 1}, "cni": {"a": "attachment", "b": "pod", "c": "pod"}});
    for config in configs(t, &config, &request)? {
        ensure!(config["args"] == expected, "args became {}", config["args"]);
    }
    Ok(())
}

fn cni_args_into_null(t: &Trial) -> Verdict {
    for args in [json!(null), json!({}), json!({"cni": null})] {
        let config = json!({"cniVersion": t.version.as_str(), "type": "spy-b", "args": args});
        for got in configs(t, &config, &json!({"cni-args": {"a": 1}}))? {
            ensure!(
                got["args"] == json!({"cni": {"a": 1}}),
                "{args} became {}",
                got["args"]
            );
        }
    }
    Ok(())
}

fn cni_args_into_no_object(t: &Trial) -> Verdict {
    let node = node(t)?;
    node.annotate(r#"[{"name":"net-b","cni-args":{"a":"x"}}]"#)?;
    for args in [
        json!([]),
        json!("x"),
        json!(7),
        json!({"cni": []}),
        json!({"cni": "x"}),
    ] {
        node.define("net-b", &json!({"type": "spy-b", "args": args}))?;
        node.refuses(&[INVALID_CONFIG], &["default/net-b", "args"])
            .map_err(|stop| stop.within(&args))?;
        node.define(
            "net-b",
            &json!({"plugins": [{"type": "spy-b"}, {"type": "spy-c", "args": args}]}),
        )?;
        node.refuses(&[INVALID_CONFIG], &["default/net-b", "args"])
            .map_err(|stop| stop.within(format!("{args} in a list")))?;
    }
    Ok(())
}
