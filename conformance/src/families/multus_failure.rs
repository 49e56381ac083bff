//! Family M, failure: a delegate that fails, hangs or talks nonsense, calls that repeat or overlap, and what is undone.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::answer::{Answer, Exchange, Refusal};
use crate::ensure;
use crate::multus::{KINDS, LEVELS, NEWEST, Node};
use crate::requirement::{Requirement, Stop, Verdict, case, fail};
use crate::spec::Verb;
use crate::spec::code::{OWN, TRY_AGAIN, UNKNOWN_CONTAINER};
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M20",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "When a delegate fails, exactly what this call did is undone in reverse, the failed one included; later ones never run, and nothing is remembered.",
        section: "multus: ADD",
        cases: &[
            case("second of three", second_fails),
            case("first", first_fails),
            case("second of a list", second_of_list_fails),
            case("undoing fails too", undoing_fails),
            case("missing plugin", missing_plugin),
        ],
    },
    Requirement {
        id: "M21",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "The error of a delegate comes with its own code and message, and names the network.",
        section: "multus: errors",
        cases: &[
            case("code", |t| error_is_passed(t, 123)),
            case("try again", |t| error_is_passed(t, TRY_AGAIN)),
        ],
    },
    Requirement {
        id: "M22",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "An answer of a delegate that can't be used is an error that names the network, and is undone.",
        section: "multus: ADD",
        cases: &[
            case("no JSON", |t| useless(t, "no json")),
            case("nothing", |t| useless(t, "")),
            case("null", |t| useless(t, "null")),
            case("list", |t| useless(t, "[]")),
            case("unknown version", |t| {
                useless(t, r#"{"cniVersion":"9.9.9","ips":[]}"#)
            }),
            case("two documents", |t| {
                useless(t, r#"{"cniVersion":"0.3.1"} {"cniVersion":"0.3.1"}"#)
            }),
        ],
    },
    Requirement {
        id: "M23",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "A delegate that hangs is ended after its limit; ADD is undone, and DEL goes on with the others and says so.",
        section: "multus: time limits",
        cases: &[case("ADD", hangs_on_add), case("DEL", hangs_on_del)],
    },
    Requirement {
        id: "M24",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A second ADD for a living container deletes nothing of it; DEL then still deletes everything.",
        section: "multus: ADD",
        cases: &[case("repeated", repeated)],
    },
    Requirement {
        id: "M25",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "Overlapping calls for one container are kept apart; those for other containers do not wait.",
        section: "multus: ADD",
        cases: &[
            case("ADD in ADD", add_in_add),
            case("DEL in ADD", del_in_add),
            case("other container", other_container),
        ],
    },
    Requirement {
        id: "M26",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "A plugin is found in the search path and nowhere else: a type with a path in it is refused.",
        section: "CNI: Section 1, type",
        cases: &[
            case("static", path_in_type),
            case("attachment", path_in_attachment),
        ],
    },
    Requirement {
        id: "M27",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "ADD for a namespace that isn't there is refused before any delegate runs.",
        section: "multus: ADD",
        cases: &[
            case("missing", missing_namespace),
            case("no namespace", no_namespace),
        ],
    },
    Requirement {
        id: "M28",
        levels: LEVELS,
        kinds: KINDS,
        sentence: "What delegates write on stderr reaches the caller.",
        section: "CNI: Section 4",
        cases: &[case("stderr", stderr_is_forwarded)],
    },
];

fn second_fails(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spied("spy-b")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.ask(Verb::Add)?.refused(&[])?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])?;
    node.nothing_remembered()?;
    ensure!(
        node.status()?.is_null(),
        "network-status was written for an ADD that failed"
    );
    node.del().map(drop)
}

fn first_fails(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spied("spy-a")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.ask(Verb::Add)?.refused(&[])?;
    node.expect_calls(&["ADD spy-a eth0", "DEL spy-a eth0"])?;
    node.nothing_remembered()?;
    node.del().map(drop)
}

fn second_of_list_fails(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    node.spy("spy-b")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.spy("spy-c")?;
    let plugins = json!([{"type": "spy-a"}, {"type": "spy-b"}, {"type": "spy-c"}]);
    node.runtime.config["delegates"] =
        json!([{"cniVersion": t.version.as_str(), "name": "net-list", "plugins": plugins}]);
    let refusal = node.ask(Verb::Add)?.refused(&[123])?;
    refusal.names("net-list")?;
    node.everything_deleted()?;
    let calls = node.calls()?;
    ensure!(
        calls.iter().filter(|call| call.starts_with("ADD")).count() == 2,
        "the list went on behind a failure: {calls:?}"
    );
    node.nothing_remembered()
}

fn undoing_fails(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spied("spy-c")?
        .says(Verb::Add, Lines::error(123, "no luck today"))?;
    node.spied("spy-b")?
        .says(Verb::Del, Lines::error(124, "nor this way"))?;
    node.ask(Verb::Add)?
        .refused(&[123])?
        .names("no luck today")?;
    let calls = node.calls()?;
    ensure!(
        calls.last().is_some_and(|call| call == "DEL spy-a eth0"),
        "one DEL failed, and those before it were not done: {calls:?}"
    );
    // The runtime's DEL, and the delegate works again: what is left over goes.
    node.spied("spy-b")?.says(Verb::Del, Lines::default())?;
    node.forget_calls()?;
    node.del()?;
    let calls = node.calls()?;
    ensure!(
        calls.contains(&"DEL spy-b net1".to_owned()),
        "what could not be undone by ADD was not deleted by DEL: {calls:?}"
    );
    node.nothing_remembered()
}

fn missing_plugin(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    node.attach("net-b", "nobody")?;
    node.ask(Verb::Add)?.refused(&[])?.names("nobody")?;
    node.everything_deleted()?;
    let calls = node.calls()?;
    ensure!(
        !calls.iter().any(|call| call.starts_with("ADD spy-c")),
        "a later network was attached: {calls:?}"
    );
    node.nothing_remembered()?;
    node.del().map(drop)
}

fn error_is_passed(t: &Trial, code: i64) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.spied("spy-b")?
        .says(Verb::Add, Lines::error(code, "no luck today"))?;
    let refusal = node.ask(Verb::Add)?.refused(&[code])?;
    refusal.names("no luck today")?.names("net-b").map(drop)
}

fn useless(t: &Trial, stdout: &str) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let lines = Lines {
        stdout: stdout.into(),
        ..Lines::default()
    };
    node.spied("spy-b")?.says(Verb::Add, lines)?;
    node.ask(Verb::Add)?.refused(&[])?.names("net-b")?;
    node.expect_calls(&[
        "ADD spy-a eth0",
        "ADD spy-b net1",
        "DEL spy-b net1",
        "DEL spy-a eth0",
    ])?;
    node.nothing_remembered()
}

/// Where a spy stands that never goes on.
fn hanging() -> Lines {
    Lines {
        hold: true,
        ..Lines::default()
    }
}

fn hangs_on_add(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.runtime.config["timeouts"]["delegate"] = 1.into();
    node.spied("spy-b")?.says(Verb::Add, hanging())?;
    let gate = node.spied("spy-b")?.gate()?;
    let started = Instant::now();
    node.ask(Verb::Add)?
        .refused(&[TRY_AGAIN, OWN])?
        .names("net-b")?;
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(8),
        "a limit of one second took {took:?}"
    );
    // The spy reads until one of both ends goes: it has been ended, so there is an end of file here too.
    let spy = gate.arrival(Duration::from_secs(1))?;
    ended(&spy)?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

/// Requires that the program at the other end is no more.
fn ended(mut spy: &std::os::unix::net::UnixStream) -> Verdict {
    use std::io::Read;
    spy.set_read_timeout(Some(Duration::from_secs(5)))?;
    let end = spy.read(&mut [0])?;
    ensure!(end == 0, "the spy said something at the gate");
    Ok(())
}

fn hangs_on_del(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.runtime.config["timeouts"]["delegate"] = 1.into();
    node.add()?;
    node.spied("spy-b")?.says(Verb::Del, hanging())?;
    let gate = node.spied("spy-b")?.gate()?;
    let refusal = node.ask(Verb::Del)?.refused(&[TRY_AGAIN, OWN])?;
    refusal.names("net-b")?;
    ended(&gate.arrival(Duration::from_secs(1))?)?;
    let calls = node.calls()?;
    for call in ["DEL spy-c net2", "DEL spy-a eth0"] {
        ensure!(
            calls.iter().any(|seen| seen == call),
            "one delegate hung, and there was no {call}: {calls:?}"
        );
    }
    node.spied("spy-b")?.says(Verb::Del, Lines::default())?;
    node.forget_calls()?;
    node.del()?;
    ensure!(
        node.calls()?.contains(&"DEL spy-b net1".to_owned()),
        "the next DEL did not delete what had hung: {:?}",
        node.calls()?
    );
    node.nothing_remembered()
}

fn repeated(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    node.add()?;
    // The spies make no interfaces; a real delegate would have made this one.
    node.runtime.pod.ip(&[
        "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ])?;
    node.forget_calls()?;
    node.ask(Verb::Add)?;
    let calls = node.calls()?;
    ensure!(
        !calls.iter().any(|call| call.starts_with("DEL")),
        "a repeated ADD deleted networks of a living container: {calls:?}"
    );
    ensure!(node.runtime.pod.link("eth0")?.is_some(), "eth0 is gone");
    node.forget_calls()?;
    node.del()?;
    node.expect_calls(&["DEL spy-c net2", "DEL spy-b net1", "DEL spy-a eth0"])?;
    node.nothing_remembered()
}

/// Starts an ADD and stops it in spy-b.
macro_rules! held_add {
    ($t:expr, $node:ident, $started:ident, $guard:ident) => {
        let mut $node = Node::three_networks($t)?;
        let mut lines = Lines::document(&crate::multus::result(
            $t.version,
            "10.2.0.2/24",
            "10.2.0.1",
        ));
        lines.hold = true;
        $node.spied("spy-b")?.says(Verb::Add, lines)?;
        let gate = $node.spied("spy-b")?.gate()?;
        let $started = $t.start(&$node.runtime.call(Verb::Add))?;
        let $guard = gate.arrival(Duration::from_secs(10))?;
    };
}

fn finish(
    t: &Trial,
    (call, running): (crate::process::Invocation, crate::process::Running),
) -> Result<Answer, Stop> {
    let outcome = running.wait();
    Answer::judged(&t.record(Exchange { call, outcome }))
}

fn add_in_add(t: &Trial) -> Verdict {
    held_add!(t, node, started, guard);
    node.runtime.config["timeouts"]["lock"] = 1.into();
    let second = node.ask(Verb::Add)?;
    let refusal: Refusal = second.refused(&[TRY_AGAIN, OWN])?;
    refusal.names(&node.runtime.container)?;
    drop(guard);
    finish(t, started)?.success()?;
    node.del()?;
    let calls = node.calls()?;
    ensure!(
        calls
            == [
                "ADD spy-a eth0",
                "ADD spy-b net1",
                "ADD spy-c net2",
                "DEL spy-c net2",
                "DEL spy-b net1",
                "DEL spy-a eth0"
            ],
        "two ADDs at once got mixed up: {calls:?}"
    );
    node.nothing_remembered()
}

fn del_in_add(t: &Trial) -> Verdict {
    held_add!(t, node, started, guard);
    let deletion = t.start(&node.runtime.call(Verb::Del))?;
    // Whichever comes first: DEL is answered at once, or it waits for ADD to end.
    std::thread::sleep(Duration::from_millis(300));
    drop(guard);
    finish(t, started)?;
    finish(t, deletion)?;
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

fn other_container(t: &Trial) -> Verdict {
    held_add!(t, node, started, guard);
    let mut other = node.runtime.sibling()?;
    other.ifname = "eth0".into();
    other.config["delegates"] =
        json!([{"cniVersion": t.version.as_str(), "name": "net-c", "type": "spy-c"}]);
    if let Some(members) = other.config.as_object_mut() {
        members.remove("kubeconfig");
    }
    let began = Instant::now();
    other.add()?;
    let took = began.elapsed();
    drop(guard);
    ensure!(
        took < Duration::from_secs(5),
        "ADD of another container took {took:?}"
    );
    finish(t, started)?.success()?;
    other.del()?;
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()
}

/// A spy in a folder that is not searched, which a type like this would lead to.
const OUTSIDE: [&str; 3] = ["../outside/spy-out", "./spy-a", "/bin/true"];

fn path_in_type(t: &Trial) -> Verdict {
    let mut node = Node::new(t)?;
    for kind in OUTSIDE {
        node.runtime.config["delegates"][0]["type"] = kind.into();
        node.ask(Verb::Add)?.refused(&[])?.names(kind)?;
        node.expect_calls(&[])?;
        node.nothing_remembered()?;
    }
    Ok(())
}

fn path_in_attachment(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    for kind in OUTSIDE {
        node.forget_calls()?;
        node.attach("net-b", kind)?;
        node.ask(Verb::Add)?.refused(&[])?.names(kind)?;
        node.everything_deleted()?;
        node.nothing_remembered()?;
    }
    Ok(())
}

fn missing_namespace(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    let call = node
        .runtime
        .call(Verb::Add)
        .with("CNI_NETNS", "/run/netns/nobody");
    t.refused(&call, &[UNKNOWN_CONTAINER, 4, OWN])?
        .names("/run/netns/nobody")?;
    node.expect_calls(&[])?;
    node.nothing_remembered()
}

fn no_namespace(t: &Trial) -> Verdict {
    let node = Node::three_networks(t)?;
    let file = node.conf_dir.join("file");
    std::fs::write(&file, "")?;
    let call = node.runtime.call(Verb::Add).with("CNI_NETNS", &file);
    t.run(&call)?.refused(&[])?;
    node.expect_calls(&[])
}

fn stderr_is_forwarded(t: &Trial) -> Verdict {
    let mut node = Node::three_networks(t)?;
    let lines = Lines {
        stderr: "words of the delegate\n".into(),
        ..Lines::error(123, "no")
    };
    node.spied("spy-b")?.says(Verb::Add, lines)?;
    let answer = node.ask(Verb::Add)?;
    answer.refused(&[])?;
    let stderr = String::from_utf8_lossy(&answer.exchange.outcome.stderr).into_owned();
    if stderr.contains("words of the delegate") {
        return Ok(());
    }
    Err(fail("the delegate's words did not reach stderr"))
}
