//! Family M, CHECK, STATUS and GC over all networks of a pod.

use serde_json::{Value, json};

use crate::call::Call;
use crate::cluster::{Effect, Fault};
use crate::ensure;
use crate::multus::{KINDS, NEWEST, Node};
use crate::requirement::{Requirement, Verdict, case};
use crate::spec::Verb;
use crate::spec::code::{NOT_AVAILABLE, NOT_AVAILABLE_LIMITED};
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
