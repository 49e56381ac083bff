//! Family M, CHECK, STATUS and GC over all networks of a pod.

use serde_json::{Value, json};

use crate::call::Call;
use crate::cluster::{Effect, Fault};
use crate::ensure;
use crate::multus::{KINDS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case};
use crate::spec::code::{NOT_AVAILABLE, NOT_AVAILABLE_LIMITED};
use crate::spec::{Level, Must, V0_4_0, V1_1_0, Verb, Version};
use crate::spy::{Lines, Witness};
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M70",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "CHECK is made of every network of the pod, the selected ones too, and the error of any is the answer.",
        section: "multus: CHECK",
        cases: &[
            case("all networks", check_of_all),
            case("error", check_fails),
        ],
    },
    Requirement {
        id: "M71",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "STATUS is that of the default network, the readiness file and the API server; a delegate too old for STATUS is not asked.",
        section: "multus: STATUS",
        cases: &[
            case("ready", status_of_ready),
            case("delegate", status_of_delegate),
            case("older delegate", status_of_older_delegate),
            case("readiness file", status_without_readiness_file),
            case("API server", status_without_api_server),
        ],
    },
    Requirement {
        id: "M72",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "GC deletes what is remembered of containers that the runtime no longer knows, keeps the others, and is handed on with both names of the list.",
        section: "multus: GC",
        cases: &[
            case("stale", gc_of_stale),
            case("handed on", gc_is_handed_on),
            case("no list", gc_without_list),
            case("nothing there", gc_of_nothing),
        ],
    },
    Requirement {
        id: "M126",
        levels: SINCE_CHECK,
        kinds: KINDS,
        sentence: "CHECK asks each delegate of the pod from version 0.4.0 of its configuration on, by what is on record: neither pod nor API server is needed.",
        section: "multus: CHECK",
        cases: &[
            case("each version", check_of_version),
            case("older delegate", check_of_older_delegate),
            case("by the record", check_by_the_record),
            case("not on record", check_of_unknown_container),
        ],
    },
    Requirement {
        id: "M127",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "STATUS asks the default network that clusterNetwork names, by an object or a file, and all static delegates.",
        section: "multus: STATUS",
        cases: &[
            case("object", status_of_object),
            case("file", status_of_file),
            case("neither", status_of_nothing),
            case("static delegates", status_of_all_static),
        ],
    },
    Requirement {
        id: "M128",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "GC tells each network its own attachments, goes on past one that fails, and finds containers by their results where the record is lost.",
        section: "multus: GC",
        cases: &[
            case("own attachments", gc_of_each_network),
            case("one fails", gc_goes_on),
            case("from before multus", gc_of_foreign_container),
            case("known by results", gc_by_results),
            case("damaged record", gc_with_damaged_record),
        ],
    },
];

fn check_of_all(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.forget_calls()?;
    node.ask(Verb::Check)?.success()?;
    node.expect_calls(&["CHECK spy-a eth0", "CHECK spy-b net1", "CHECK spy-c net2"])?;
    node.del().map(drop)
}

fn check_fails(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    for spy in ["spy-a", "spy-b", "spy-c"] {
        node.spied(spy)?
            .says(Verb::Check, Lines::error(123, "it is gone"))?;
        node.ask(Verb::Check)?
            .refused(&[123])?
            .names("it is gone")?;
        node.spied(spy)?.says(Verb::Check, Lines::default())?;
    }
    node.ask(Verb::Check)?.success()?;
    node.del().map(drop)
}

fn status_of_ready(t: &Trial) -> Verdict {
    let node = Node::new(t)?;
    let answer = node.ask(Verb::Status)?;
    answer.success()?;
    ensure!(
        answer.document.is_none(),
        "STATUS printed something on stdout"
    );
    node.expect_calls(&["STATUS spy-a"])
}

fn status_of_delegate(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    for code in [NOT_AVAILABLE, NOT_AVAILABLE_LIMITED] {
        node.spied("spy-a")?
            .says(Verb::Status, Lines::error(code, "no address left"))?;
        node.ask(Verb::Status)?
            .refused(&[code])?
            .names("no address left")?;
    }
    Ok(())
}

fn status_of_older_delegate(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["delegates"][0]["cniVersion"] = "1.0.0".into();
    node.spied("spy-a")?
        .says(Verb::Status, Lines::error(123, "no such verb"))?;
    node.ask(Verb::Status)?.success()?;
    node.expect_calls(&[])
}

const UNAVAILABLE: &[i64] = &[NOT_AVAILABLE, NOT_AVAILABLE_LIMITED];

fn status_without_readiness_file(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["readinessindicatorfile"] = "/does/not/exist/ready".into();
    node.runtime.config["timeouts"]["readiness"] = 1.into();
    node.ask(Verb::Status)?
        .refused(UNAVAILABLE)?
        .names("/does/not/exist/ready")
        .map(drop)
}

fn status_without_api_server(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.runtime.config["timeouts"]["apiServer"] = 1.into();
    node.cluster.strike(Fault::on("", "", Effect::Drop));
    node.ask(Verb::Status)?.refused(UNAVAILABLE).map(drop)
}

/// GC as a runtime calls it that knows these attachments.
fn gc(node: &Node, valid: &[(&str, &str)]) -> Call {
    let valid: Value = valid
        .iter()
        .map(|(container, ifname)| json!({"containerID": container, "ifname": ifname}))
        .collect();
    node.runtime.call(Verb::Gc).edit(|config| {
        config["cni.dev/valid-attachments"] = valid.clone();
        config["cni.dev/attachments"] = valid;
    })
}

fn gc_of_stale(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    let living = (node.runtime.container.clone(), node.scratch_file());
    let container = format!("{}-stale", living.0);
    node.runtime.args = node.runtime.args.replace(&living.0, &container);
    node.runtime.container = container;
    node.add()?;
    let stale = node.scratch_file();
    t.run(&gc(&node, &[(&living.0, "eth0")]))?.success()?;
    ensure!(living.1.exists(), "GC has forgotten a living container");
    ensure!(!stale.exists(), "GC has left {}", stale.display());
    let of = |call: &&Witness| call.is(Verb::Del) && call.var("CNI_CONTAINERID") == living.0;
    let journal = node.journal()?;
    ensure!(
        journal.iter().find(of).is_none(),
        "GC has deleted networks of a living container"
    );
    node.del()?;
    node.runtime.container = living.0;
    node.del()?;
    node.nothing_remembered()
}

fn gc_is_handed_on(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    let living = node.runtime.container.clone();
    t.run(&gc(&node, &[(&living, "eth0")]))?.success()?;
    let config = node.only_call(Verb::Gc, "spy-a")?.config();
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let listed = config[key].as_array().into_iter().flatten();
        let there = listed
            .clone()
            .any(|one| one["containerID"] == living.as_str() && one["ifname"] == "eth0");
        ensure!(there, "{key} of the default network is {}", config[key]);
    }
    node.spied("spy-a")?
        .says(Verb::Gc, Lines::error(123, "not now"))?;
    t.run(&gc(&node, &[(&living, "eth0")]))?
        .refused(&[])?
        .names("not now")?;
    node.del().map(drop)
}

fn gc_without_list(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.ask(Verb::Gc)?;
    ensure!(
        node.scratch_file().exists(),
        "without a list, GC has forgotten a container"
    );
    let calls = node.calls()?;
    ensure!(
        !calls.iter().any(|call| call.starts_with("DEL")),
        "without a list, GC deleted: {calls:?}"
    );
    node.del().map(drop)
}

fn gc_of_nothing(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    t.run(&gc(&node, &[]))?.success().map(drop)
}

/// CHECK came with 0.4.0.
const SINCE_CHECK: &[(std::ops::RangeInclusive<Version>, Level)] = &[(V0_4_0..=V1_1_0, Must)];

fn check_of_version(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.forget_calls()?;
    node.ask(Verb::Check)?.success()?;
    node.expect_calls(&["CHECK spy-a eth0", "CHECK spy-b net1", "CHECK spy-c net2"])?;
    for (spy, address) in [
        ("spy-a", "10.1.0.2/24"),
        ("spy-b", "10.2.0.2/24"),
        ("spy-c", "10.3.0.2/24"),
    ] {
        let config = node.only_call(Verb::Check, spy)?.config();
        ensure!(
            config["prevResult"]["ips"][0]["address"] == address,
            "CHECK of {spy} came without its own result: {config}"
        );
    }
    node.del().map(drop)
}

fn check_of_older_delegate(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.define(
        "net-b",
        &json!({"cniVersion": "0.3.1", "name": "net-b", "type": "spy-b"}),
    )?;
    node.add()?;
    node.forget_calls()?;
    node.ask(Verb::Check)?.success()?;
    node.expect_calls(&["CHECK spy-a eth0", "CHECK spy-c net2"])?;
    node.del().map(drop)
}

fn check_by_the_record(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.annotate("")?;
    node.cluster.strike(Fault::on("", "", Effect::Drop));
    node.forget_calls()?;
    node.ask(Verb::Check)?.success()?;
    node.expect_calls(&["CHECK spy-a eth0", "CHECK spy-b net1", "CHECK spy-c net2"])?;
    node.del().map(drop)
}

fn check_of_unknown_container(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.del()?;
    node.forget_calls()?;
    let container = node.runtime.container.clone();
    node.ask(Verb::Check)?.refused(&[])?.names(&container)?;
    node.expect_calls(&[])
}

/// A node whose default network is `main` by clusterNetwork.
fn with_main<'t>(t: &'t Trial) -> Result<(Node<'t>, Value), Stop> {
    let mut node = Node::new(t)?;
    node.spy("spy-m")?
        .says(Verb::Status, Lines::error(NOT_AVAILABLE, "no address left"))?;
    node.runtime.config["clusterNetwork"] = "main".into();
    let config = json!({"cniVersion": t.version.as_str(), "name": "main", "type": "spy-m"});
    Ok((node, config))
}

/// Only `spy-m` is asked, and its error is the answer.
fn status_of_main(node: &Node) -> Verdict {
    node.ask(Verb::Status)?
        .refused(&[NOT_AVAILABLE])?
        .names("no address left")?;
    node.expect_calls(&["STATUS spy-m"])
}

fn status_of_object(t: &Trial) -> Verdict {
    let (node, config) = with_main(t)?;
    node.define_text("kube-system", "main", &config.to_string())?;
    status_of_main(&node)
}

fn status_of_file(t: &Trial) -> Verdict {
    let (mut node, config) = with_main(t)?;
    let file = node.conf_dir.join("10-main.conf");
    std::fs::write(&file, config.to_string())?;
    status_of_main(&node)?;
    node.forget_calls()?;
    node.runtime.config["clusterNetwork"] = json!(file);
    status_of_main(&node)
}

fn status_of_nothing(t: &Trial) -> Verdict {
    let (node, _) = with_main(t)?;
    node.ask(Verb::Status)?
        .refused(UNAVAILABLE)?
        .names("main")?;
    node.expect_calls(&[])
}

fn status_of_all_static(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    let second = json!({"cniVersion": t.version.as_str(), "name": "net-b", "type": "spy-b"});
    let first = node.runtime.config["delegates"][0].clone();
    node.runtime.config["delegates"] = json!([first, second]);
    node.spy("spy-b")?
        .says(Verb::Status, Lines::error(NOT_AVAILABLE, "no address left"))?;
    node.ask(Verb::Status)?
        .refused(&[NOT_AVAILABLE])?
        .names("no address left")?;
    node.expect_calls(&["STATUS spy-a", "STATUS spy-b"])
}

/// The lists that a delegate was given by its only GC; both names have the same one.
fn told_by_gc(node: &Node, spy: &str) -> Result<Value, Stop> {
    let config = node.only_call(Verb::Gc, spy)?.config();
    let [valid, attachments] =
        ["cni.dev/valid-attachments", "cni.dev/attachments"].map(|key| &config[key]);
    ensure!(valid == attachments, "GC of {spy} got {config}");
    Ok(valid.clone())
}

fn gc_of_each_network(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    let living = node.runtime.container.clone();
    t.run(&gc(&node, &[(&living, "eth0")]))?.success()?;
    for (spy, ifname) in [("spy-a", "eth0"), ("spy-b", "net1"), ("spy-c", "net2")] {
        let told = told_by_gc(&node, spy)?;
        ensure!(
            told == json!([{"containerID": living, "ifname": ifname}]),
            "GC of {spy} was told {told}"
        );
    }
    node.del().map(drop)
}

fn gc_goes_on(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    for spy in ["spy-a", "spy-b", "spy-c"] {
        let words = format!("{spy} has no time");
        node.spied(spy)?.says(Verb::Gc, Lines::error(123, &words))?;
    }
    let living = node.runtime.container.clone();
    let refusal = t.run(&gc(&node, &[(&living, "eth0")]))?.refused(&[123])?;
    for spy in ["spy-a", "spy-b", "spy-c"] {
        refusal.names(&format!("{spy} has no time"))?;
        node.only_call(Verb::Gc, spy)?;
    }
    node.del().map(drop)
}

/// Pods that ran before multus came to the node have no record here, and keep their addresses.
fn gc_of_foreign_container(t: &Trial) -> Verdict {
    let node = Node::new(t)?;
    t.run(&gc(&node, &[("older", "eth0")]))?.success()?;
    let told = told_by_gc(&node, "spy-a")?;
    ensure!(
        told == json!([{"containerID": "older", "ifname": "eth0"}]),
        "GC of the default network was told {told}"
    );
    Ok(())
}

fn gc_by_results(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    std::fs::remove_file(node.scratch_file())?;
    t.run(&gc(&node, &[]))?.success()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

/// Whose attachments the lost part of the record names is not known: no network may take what it does not see listed.
fn gc_with_damaged_record(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    node.forget_calls()?;
    std::fs::write(node.scratch_file(), "[{")?;
    let living = node.runtime.container.clone();
    t.run(&gc(&node, &[(&living, "eth0")]))?;
    node.expect_calls(&[])?;
    node.del()?;
    node.nothing_remembered()
}
