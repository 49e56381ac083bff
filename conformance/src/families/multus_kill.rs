//! Family M, kills: SIGKILL while a delegate works, and at every system call that changes something; then DEL.

use std::time::Duration;

use super::fault_kill::{count_steps, find_strace, run_under_strace};
use crate::ensure;
use crate::multus::{KINDS, NEWEST, Node, result};
use crate::requirement::{Requirement, Verdict, case};
use crate::spec::Verb;
use crate::spy::Lines;
use crate::trial::Trial;

/// The requirements of this file.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "M90",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "After a SIGKILL while any delegate works, DEL deletes everything that was added, remembers nothing, and the next ADD works.",
        section: "Section 3, lifecycle and ordering",
        cases: &[
            case("ADD", |t| killed_in_a_delegate(t, Verb::Add)),
            case("DEL", |t| killed_in_a_delegate(t, Verb::Del)),
        ],
    },
    Requirement {
        id: "M91",
        levels: NEWEST,
        kinds: KINDS,
        sentence: "After a SIGKILL at any step, each write of what is remembered among them, DEL deletes everything and the next ADD works.",
        section: "Section 3, lifecycle and ordering",
        cases: &[
            case("ADD", |t| killed_at_every_step(t, Verb::Add)),
            case("DEL", |t| killed_at_every_step(t, Verb::Del)),
        ],
    },
];

fn killed_in_a_delegate(t: &Trial, verb: Verb) -> Verdict {
    for (number, spy) in ["spy-a", "spy-b", "spy-c"].into_iter().enumerate() {
        let mut node = Node::three_networks(t)?;
        if verb == Verb::Del {
            node.add()?;
        }
        let address = format!("10.{}.0", number + 1);
        let added = result(
            t.version,
            &format!("{address}.2/24"),
            &format!("{address}.1"),
        );
        let lines = if verb == Verb::Add {
            Lines::document(&added)
        } else {
            Lines::default()
        };
        let held = Lines {
            hold: true,
            ..lines.clone()
        };
        node.spied(spy)?.says(verb, held)?;
        let gate = node.spied(spy)?.gate()?;
        let (_, running) = t.start(&node.runtime.call(verb))?;
        let guard = gate.arrival(Duration::from_secs(10))?;
        running.kill();
        running.wait();
        drop(guard);
        node.spied(spy)?.says(verb, lines)?;
        recovers(&mut node).map_err(|stop| stop.within(format!("killed in {spy}")))?;
    }
    Ok(())
}

/// DEL, nothing left, ADD, DEL.
fn recovers(node: &mut Node) -> Verdict {
    node.runtime.result = None;
    node.del()?;
    node.everything_deleted()?;
    node.nothing_remembered()?;
    node.forget_calls()?;
    node.add()?;
    let calls = node.calls()?;
    ensure!(calls.len() == 3, "the next ADD called {calls:?}");
    node.del()?;
    node.nothing_remembered()?;
    node.forget_calls()
}

fn killed_at_every_step(t: &Trial, verb: Verb) -> Verdict {
    let strace = find_strace()?;
    let mut node = Node::three_networks(t)?;
    if verb == Verb::Del {
        node.add()?;
    }
    let steps = count_steps(t, &node.runtime.call(verb), &strace)?;
    node.del()?;
    node.forget_calls()?;
    let mut kills = 0;
    for (call, count) in &steps {
        for nth in 1..=*count {
            if verb == Verb::Del {
                node.add()?;
            }
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            run_under_strace(
                t,
                &node.runtime.call(verb),
                &strace,
                &["-e", &inject, "-o", "/dev/null"],
            )?;
            recovers(&mut node)
                .map_err(|stop| stop.within(format!("killed at {call} number {nth}")))?;
            kills += 1;
        }
    }
    t.note(format!("killed at {kills} steps"));
    Ok(())
}
