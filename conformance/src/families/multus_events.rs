//! Family M, events: what `kubectl describe` shows of a pod's networks.

use serde_json::{Value, json};

use crate::cluster::{Effect, Fault};
use crate::ensure;
use crate::multus::{KINDS, LEVELS, Node, in_version};
use crate::requirement::{Requirement, Verdict, case};
use crate::spec::Verb;
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M116",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Each network of a pod has one event AddedInterface that says interface, addresses and network; a repeated ADD has none.",
        section: "multus: events",
        cases: &[
            case("one for each", one_for_each),
            case("addresses", addresses),
            case("nothing added", nothing_added),
            case("repeated", repeated),
            case("failed", failed_add),
        ],
    },
    Requirement {
        id: "M117",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A network that the API server does not have is one event NoNetworkFound, a warning that says which and where it was looked for.",
        section: "multus: events",
        cases: &[
            case("attachment", no_attachment),
            case("clusterNetwork", no_cluster_network),
        ],
    },
    Requirement {
        id: "M118",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "Events that the API server does not take are no reason to fail.",
        section: "multus: events",
        cases: &[
            case("403", |t| refused(t, Effect::Answer(403, None))),
            case("404", |t| refused(t, Effect::Answer(404, None))),
        ],
    },
];

/// All events with the reason before the message, in the order of the text: they are sent at the same time.
fn told(node: &Node) -> Vec<String> {
    let line = |event: &Value| {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("type"), text("reason"), text("message"))
    };
    let mut told: Vec<_> = node
        .cluster
        .list("/api/v1/events")
        .iter()
        .map(line)
        .collect();
    told.sort();
    told
}

fn expect_told(node: &Node, expected: &[&str]) -> Verdict {
    let told = told(node);
    ensure!(
        told == expected,
        "the events are {told:?}, expected {expected:?}"
    );
    Ok(())
}

const OF_THREE: [&str; 3] = [
    "Normal AddedInterface: Add eth0 [10.1.0.2/24] from net-a",
    "Normal AddedInterface: Add net1 [10.2.0.2/24] from default/net-b",
    "Normal AddedInterface: Add net2 [10.3.0.2/24] from default/net-c",
];

fn one_for_each(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    expect_told(&node, &OF_THREE)?;
    let pod = node.pod()?;
    for event in node.cluster.list("/api/v1/events") {
        let about = &event["involvedObject"];
        let expected = json!(["Pod", "default", "samplepod", pod["metadata"]["uid"]]);
        let found = json!([
            about["kind"],
            about["namespace"],
            about["name"],
            about["uid"]
        ]);
        ensure!(found == expected, "an event is about {about}");
        ensure!(
            event["source"] == json!({"component": "multus", "host": "node-1"}),
            "an event comes from {}",
            event["source"]
        );
    }
    node.del()?;
    expect_told(&node, &OF_THREE)
}

fn addresses(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let result = json!({
        "interfaces": [{"name": "eth0", "sandbox": "{{netns}}"}],
        "ips": [{"interface": 0, "address": "10.1.0.2/24"}, {"interface": 0, "address": "fd00:1::2/64"}],
    });
    node.spied("spy-a")?
        .says(Verb::Add, Lines::document(&in_version(t.version, result)))?;
    node.add()?;
    expect_told(
        &node,
        &["Normal AddedInterface: Add eth0 [10.1.0.2/24 fd00:1::2/64] from net-a"],
    )?;
    node.del().map(drop)
}

/// A delegate that says nothing has added nothing that could be told.
fn nothing_added(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?.says(
        Verb::Add,
        Lines::document(&in_version(t.version, json!({}))),
    )?;
    node.attach("net-b", "spy-b")?;
    node.annotate("net-b")?;
    node.add()?;
    expect_told(&node, &OF_THREE[..1])?;
    node.del().map(drop)
}

fn repeated(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    // The spies make no interfaces; real delegates would have made them.
    node.add()?;
    for ifname in ["eth0", "net1", "net2"] {
        let peer = format!("{ifname}-peer");
        node.runtime
            .pod
            .ip(&["link", "add", ifname, "type", "veth", "peer", "name", &peer])?;
    }
    let status = node.status_text();
    node.add()?;
    expect_told(&node, &OF_THREE)?;
    ensure!(
        node.status_text() == status,
        "network-status of a repeated ADD is {}",
        node.status_text()
    );
    node.del().map(drop)
}

fn failed_add(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spied("spy-c")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.ask(Verb::Add)?.refused(&[123])?;
    expect_told(&node, &[])
}

fn no_attachment(t: &Trial) -> Verdict {
    let node = Node::new(t)?;
    node.annotate("other/nobody")?;
    node.ask(Verb::Add)?.refused(&[])?.names("nobody")?;
    let told = told(&node);
    let words = "Warning NoNetworkFound: cannot find a network-attachment-definition (nobody) in namespace (other): ";
    ensure!(
        told.len() == 1 && told.iter().all(|event| event.starts_with(words)),
        "the events are {told:?}"
    );
    Ok(())
}

/// The file serves, and who looks for the object reads why it was not taken.
fn no_cluster_network(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let file = json!({"cniVersion": t.version.as_str(), "name": "main", "type": "spy-a"});
    std::fs::write(node.conf_dir.join("10-main.conf"), file.to_string())?;
    node.runtime.config["clusterNetwork"] = "main".into();
    node.add()?;
    let told = told(&node);
    let words = "Warning NoNetworkFound: cannot find a network-attachment-definition (main) in namespace (kube-system): ";
    ensure!(
        told.len() == 2
            && told
                .iter()
                .any(|event| event == "Normal AddedInterface: Add eth0 [10.1.0.2/24] from main")
            && told.iter().any(|event| event.starts_with(words)),
        "the events are {told:?}"
    );
    node.del().map(drop)
}

fn refused(t: &Trial, effect: Effect) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.cluster.strike(Fault::on("POST", "/events", effect));
    node.add()?;
    expect_told(&node, &[])?;
    ensure!(!node.status()?.is_null(), "there is no network-status");
    node.del().map(drop)
}
