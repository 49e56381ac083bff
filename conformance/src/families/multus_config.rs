//! Family M, configuration: static delegates, wrong configurations, the readiness file, logging.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::Verb;
use crate::spec::code::{INCOMPATIBLE_VERSION, INVALID_CONFIG, OWN, TRY_AGAIN, UNDECODABLE};
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M1",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Without a kubeconfig, the static delegates are attached in order as eth0 and net1, deleted in reverse, and the first one's result is printed.",
        section: "multus: delegates",
        cases: &[case("two delegates", static_delegates)],
    },
    Requirement {
        id: "M2",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A configuration that can't work is refused with a CNI error that says what is wrong, before any delegate runs: no panic, no silence.",
        section: "multus: configuration",
        cases: &[
            case("delegates", bad_delegates),
            case("no delegates", no_delegates),
            case("wrong types", wrong_types),
            case("prevResult", bad_prev_result),
            case(
                "clusterNetwork without a cluster",
                cluster_network_without_cluster,
            ),
            case("kubeconfig missing", kubeconfig_missing),
        ],
    },
    Requirement {
        id: "M3",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "ADD waits for the readiness file; DEL does not.",
        section: "multus: readinessindicatorfile",
        cases: &[
            case("present", readiness_present),
            case("appears", readiness_appears),
            case("DEL", readiness_of_del),
        ],
    },
    Requirement {
        id: "M4",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A readiness file that never appears fails the ADD after its limit, with a sentence that names the file.",
        section: "multus: readinessindicatorfile",
        cases: &[case("never", readiness_never)],
    },
    Requirement {
        id: "M5",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Logging goes to logFile at logLevel, never to stdout; a level that doesn't exist, or a file that can't be written, does no harm.",
        section: "multus: logging",
        cases: &[
            case("levels", log_levels),
            case("unknown level", log_level_unknown),
            case("unwritable file", log_file_unwritable),
            case("rotation options", log_options),
        ],
    },
    Requirement {
        id: "M6",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A delegate that calls multus again is refused: it would call itself for ever.",
        section: "multus: delegates",
        cases: &[
            case("itself", |t| calls_itself(t, "multus")),
            case("its shim", |t| calls_itself(t, "multus-shim")),
        ],
    },
];

/// A node without Kubernetes.
fn alone<'t>(t: &'t Trial) -> Result<Node<'t>, Stop> {
    let mut node = Node::new(t)?;
    remove(&mut node.runtime.config, "kubeconfig");
    Ok(node)
}

fn remove(object: &mut Value, key: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(key);
    }
}

fn static_delegates(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    node.spy("spy-b")?;
    let second = json!({"cniVersion": t.version.as_str(), "name": "net-b", "type": "spy-b"});
    let first = node.runtime.config["delegates"][0].clone();
    node.runtime.config["delegates"] = json!([first, second]);
    let result = node.add()?;
    ensure!(
        result["ips"][0]["address"] == "10.1.0.2/24",
        "the result is not that of the first delegate: {result}"
    );
    node.del()?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])?;
    node.nothing_remembered()?;
    ensure!(
        node.cluster.requests().is_empty(),
        "an API server was asked that the configuration does not name"
    );
    Ok(())
}

/// ADD and DEL are answered in order, and no delegate runs on ADD. DEL of such a configuration may succeed, having nothing to do.
fn is_refused(t: &Trial, node: &Node, codes: &[i64], words: &[&str]) -> Verdict {
    let refusal = t.refused(&node.runtime.call(Verb::Add), codes)?;
    for word in words {
        refusal.names(word)?;
    }
    node.expect_calls(&[])?;
    node.ask(Verb::Del)?;
    node.forget_calls()
}

fn bad_delegates(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    let version = t.version.as_str();
    for (delegate, word) in [
        (json!({"name": "x", "cniVersion": version}), "type"),
        (
            json!({"name": "x", "cniVersion": version, "plugins": []}),
            "plugins",
        ),
        (
            json!({"name": "x", "cniVersion": version, "plugins": [{"Kind": "spy-a"}]}),
            "type",
        ),
        (
            json!({"name": "x", "cniVersion": version, "plugins": [null]}),
            "",
        ),
        (
            json!({"name": "x", "cniVersion": version, "plugins": {}}),
            "plugins",
        ),
        (
            json!({"name": "x", "cniVersion": version, "type": 7}),
            "type",
        ),
        (
            json!({"cniVersion": version, "plugins": [{"type": "spy-a"}]}),
            "name",
        ),
        (json!(null), ""),
        (json!([]), ""),
        (json!("spy-a"), ""),
    ] {
        node.runtime.config["delegates"] = json!([delegate]);
        is_refused(t, &node, &[INVALID_CONFIG, UNDECODABLE, OWN], &[word])
            .map_err(|stop| stop.within(&delegate))?;
    }
    Ok(())
}

fn no_delegates(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    node.runtime.config["delegates"] = json!([]);
    is_refused(t, &node, &[INVALID_CONFIG, OWN], &["delegate"])?;
    remove(&mut node.runtime.config, "delegates");
    is_refused(t, &node, &[INVALID_CONFIG, OWN], &["delegate"])
}

fn wrong_types(t: &Trial) -> Verdict {
    let node = alone(t)?;
    for (key, value) in [
        ("delegates", json!("spy-a")),
        ("kubeconfig", json!(7)),
        ("cniDir", json!([])),
        ("binDir", json!({})),
        ("systemNamespaces", json!("kube-system")),
        ("namespaceIsolation", json!("yes")),
        ("readinessindicatorfile", json!(1)),
        ("runtimeConfig", json!([])),
    ] {
        let call = node
            .runtime
            .call(Verb::Add)
            .edit(|config| config[key] = value.clone());
        t.refused(&call, &[INVALID_CONFIG, UNDECODABLE, OWN])
            .map_err(|stop| stop.within(json!({key: value})))?;
        node.expect_calls(&[])?;
    }
    Ok(())
}

fn bad_prev_result(t: &Trial) -> Verdict {
    let node = alone(t)?;
    let call = node.runtime.call(Verb::Add);
    let call = call.edit(|config| config["prevResult"] = json!({"cniVersion": "9.9.9", "ips": []}));
    t.refused(
        &call,
        &[INCOMPATIBLE_VERSION, INVALID_CONFIG, UNDECODABLE, OWN],
    )?
    .names("prevResult")?;
    node.expect_calls(&[])
}

fn cluster_network_without_cluster(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    node.runtime.config["clusterNetwork"] = "net-a".into();
    remove(&mut node.runtime.config, "delegates");
    // In-cluster access is named by two variables that this call does not have.
    is_refused(t, &node, &[INVALID_CONFIG], &["net-a"])
}

fn kubeconfig_missing(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    fs::remove_file(&node.kubeconfig)?;
    let refusal = node
        .ask(Verb::Add)?
        .refused(&[INVALID_CONFIG, TRY_AGAIN, OWN])?;
    refusal.names("kubeconfig")?;
    node.expect_calls(&[])?;
    // What is known without a server is deleted without one.
    node.cluster
        .write_kubeconfig(&node.kubeconfig, &node.cluster.token_user())
        .map_err(crate::requirement::fail)?;
    node.add()?;
    fs::remove_file(&node.kubeconfig)?;
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

fn readiness_present(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    let file = node.conf_dir.join("ready");
    node.runtime.config["readinessindicatorfile"] = json!(file);
    fs::write(&file, "")?;
    node.add()?;
    node.del().map(drop)
}

fn readiness_appears(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    let file = node.conf_dir.join("ready");
    node.runtime.config["readinessindicatorfile"] = json!(file);
    let (call, started) = t.start(&node.runtime.call(Verb::Add))?;
    // What is to be shown is that it waits; the length of the wait doesn't matter.
    thread::sleep(Duration::from_millis(1500));
    node.expect_calls(&[])?;
    let appeared = Instant::now();
    fs::write(&file, "")?;
    let outcome = started.wait();
    let took = appeared.elapsed();
    let exchange = t.record(crate::answer::Exchange { call, outcome });
    crate::answer::Answer::judged(&exchange)?.success()?;
    ensure!(
        took < Duration::from_secs(3),
        "the file was there, and ADD went on only {took:?} later"
    );
    node.expect_calls(&["ADD spy-a eth0"])?;
    node.del().map(drop)
}

fn readiness_of_del(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    let file = node.conf_dir.join("ready");
    node.runtime.config["readinessindicatorfile"] = json!(file);
    fs::write(&file, "")?;
    node.add()?;
    fs::remove_file(&file)?;
    let started = Instant::now();
    node.del()?;
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(5),
        "DEL waited {took:?} for the readiness file"
    );
    node.everything_deleted()
}

fn readiness_never(t: &Trial) -> Verdict {
    let mut node = alone(t)?;
    node.runtime.config["readinessindicatorfile"] = "/does/not/exist/ready".into();
    node.runtime.config["timeouts"]["readiness"] = 2.into();
    let call = node.runtime.call(Verb::Add).limit(Duration::from_secs(60));
    t.refused(&call, &[TRY_AGAIN, OWN])?
        .names("/does/not/exist/ready")?;
    node.expect_calls(&[])
}

fn log_levels(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let file = node.conf_dir.join("multus.log");
    node.runtime.config["logFile"] = json!(file);
    node.runtime.config["logToStderr"] = false.into();
    node.add()?;
    let quiet = fs::read_to_string(&file).unwrap_or_default();
    ensure!(
        quiet.is_empty(),
        "without logLevel something was logged: {quiet}"
    );
    node.del()?;
    node.runtime.config["logLevel"] = "verbose".into();
    node.add()?;
    let verbose = fs::read_to_string(&file)?;
    ensure!(
        verbose.contains("[verbose] Add: default:samplepod:"),
        "no line of ADD at level verbose: {verbose}"
    );
    node.del()?;
    let verbose = fs::read_to_string(&file)?;
    ensure!(
        verbose.contains("[verbose] Del: default:samplepod:"),
        "no line of DEL at level verbose: {verbose}"
    );
    let token = node.cluster.token();
    ensure!(!verbose.contains(token), "the token is in the log");
    Ok(())
}

fn log_level_unknown(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["logLevel"] = "shouting".into();
    node.add()?;
    node.del().map(drop)
}

fn log_file_unwritable(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["logFile"] = "/proc/does/not/exist".into();
    node.runtime.config["logLevel"] = "debug".into();
    node.add()?;
    node.del().map(drop)
}

fn log_options(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let file = node.conf_dir.join("multus.log");
    node.runtime.config["logFile"] = json!(file);
    node.runtime.config["logLevel"] = "verbose".into();
    node.runtime.config["logOptions"] =
        json!({"maxAge": 1, "maxSize": 1, "maxBackups": 1, "compress": false});
    // A log at its limit: the next line begins a new file.
    fs::write(&file, vec![b'x'; 1024 * 1024])?;
    node.add()?;
    let size = fs::metadata(&file)?.len();
    ensure!(
        size < 1024 * 1024,
        "the log has {size} bytes and was not rotated at 1 MB"
    );
    node.del().map(drop)
}

fn calls_itself(t: &Trial, name: &str) -> Verdict {
    let mut node = alone(t)?;
    node.runtime.config["delegates"][0]["type"] = name.into();
    node.spy(name)?;
    is_refused(t, &node, &[INVALID_CONFIG, OWN], &[name])
}
